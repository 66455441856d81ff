//! What ends measure: single values with their moments, so that parts of a run can be told apart afterwards, and what has
//! been handed to the network when.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use tandem_protocol::{LaneKind, Rendition};

/// Times that were measured, each with the moment it belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<(Instant, Duration)>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, at: Instant, value: Duration) {
        self.0.push((at, value));
    }

    /// Adds all of another.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Those of a time.
    pub(crate) fn within(&self, time: &Range<Instant>) -> Self {
        Self(self.0.iter().filter(|(at, _)| time.contains(at)).copied().collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value, in ms, that at least this share of all do not exceed; of none: `None`.
    pub(crate) fn ms(&self, share: f64) -> Option<f64> {
        let rank = (self.len() as f64 * share).ceil() as usize;
        let mut values: Vec<Duration> = self.0.iter().map(|&(_, value)| value).collect();
        let at = rank.clamp(1, values.len().max(1)) - 1;
        if values.is_empty() {
            return None;
        }
        let (_, value, _) = values.select_nth_unstable(at);
        Some((value.as_secs_f64() * 1e6).round() / 1e3)
    }
}

/// What was measured, by one end or by all.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Pictures of the window, and how many of them were shown whole.
    pub(crate) offered: u64,
    pub(crate) applied: u64,
    /// Bytes of screens and keys that came in the window, headers included.
    pub(crate) bytes: u64,
    /// Bytes of files that came in the window, headers included.
    pub(crate) file_bytes: u64,
    /// Ages of the screen.
    pub(crate) ages: Samples,
    /// Of each update, the time from the capture of its picture until all of it had come.
    pub(crate) arrivals: Samples,
    /// Times from when input was due to when it came.
    pub(crate) inputs: Samples,
    /// From the beginning until the first whole picture.
    pub(crate) first_picture: Option<Duration>,
    /// From the end of a black-out until a whole picture of after it.
    pub(crate) recovery: Option<Duration>,
    /// Time of the window that this end spent working, not waiting.
    pub(crate) busy: Duration,
    /// Input events: given to the connection, refused by it, told to have been too old to be sent again, come, and come once more to a
    /// program that started again.
    pub(crate) inputs_sent: u64,
    pub(crate) inputs_refused: u64,
    /// Due, but not typed; and sent, but without an answer when their sender went.
    pub(crate) inputs_withheld: u64,
    pub(crate) inputs_unanswered: u64,
    pub(crate) inputs_dropped: u64,
    pub(crate) inputs_came: u64,
    pub(crate) inputs_twice: u64,
    /// How often a screen became so old that people notice.
    pub(crate) stalls: u64,
    /// How often a program came back after leaving or being killed, and a connection after being lost.
    pub(crate) restarts: u64,
    pub(crate) reconnects: u64,
    pub(crate) failures: Vec<String>,
}

impl Figures {
    /// Adds what another end has measured.
    pub(crate) fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.applied += other.applied;
        self.bytes += other.bytes;
        self.file_bytes += other.file_bytes;
        self.ages.add(other.ages);
        self.arrivals.add(other.arrivals);
        self.inputs.add(other.inputs);
        self.first_picture = self.first_picture.or(other.first_picture);
        self.recovery = self.recovery.or(other.recovery);
        self.busy += other.busy;
        self.inputs_sent += other.inputs_sent;
        self.inputs_refused += other.inputs_refused;
        self.inputs_withheld += other.inputs_withheld;
        self.inputs_unanswered += other.inputs_unanswered;
        self.inputs_dropped += other.inputs_dropped;
        self.inputs_came += other.inputs_came;
        self.inputs_twice += other.inputs_twice;
        self.stalls += other.stalls;
        self.restarts += other.restarts;
        self.reconnects += other.reconnects;
        self.failures.extend(other.failures);
    }
}

/// What a customer has sent of its screen.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// When what an update shows was captured, by rendition and number.
    captured: HashMap<(Rendition, u64), Instant>,
    sent: Vec<Upload>,
    /// Only what may still be under way is kept.
    is_brief: bool,
}

/// Updates of a rendition that are under way at most, as far as a brief journal goes.
const UNDER_WAY_MAX: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Upload {
    at: Instant,
    kind: LaneKind,
    rendition: Rendition,
    bytes: usize,
}

/// Bytes of bodies that a customer has sent, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub(crate) live: usize,
    pub(crate) reduced: usize,
    pub(crate) keys: usize,
}

impl Uploaded {
    pub(crate) fn all(self) -> usize {
        self.live + self.reduced + self.keys
    }
}

impl Journal {
    /// One that stays small however long it goes on, and does not tell what went out when.
    pub(crate) fn brief() -> Self {
        Self { is_brief: true, ..Self::default() }
    }

    /// An update of so many bytes went out as number `seq`, of a picture captured then.
    pub(crate) fn update(&mut self, rendition: Rendition, seq: u64, captured: Instant, bytes: usize) {
        self.captured.insert((rendition, seq), captured);
        if let Some(past) = seq.checked_sub(UNDER_WAY_MAX).filter(|_| self.is_brief) {
            self.captured.remove(&(rendition, past));
        }
        self.went_out(Upload { at: Instant::now(), kind: LaneKind::Screen, rendition, bytes });
    }

    /// A key of so many bytes went out.
    pub(crate) fn key(&mut self, rendition: Rendition, bytes: usize) {
        self.went_out(Upload { at: Instant::now(), kind: LaneKind::Key, rendition, bytes });
    }

    fn went_out(&mut self, upload: Upload) {
        if !self.is_brief {
            self.sent.push(upload);
        }
    }

    /// When the picture of an update was captured.
    pub(crate) fn captured(&self, rendition: Rendition, seq: u64) -> Option<Instant> {
        self.captured.get(&(rendition, seq)).copied()
    }

    /// What went out in a time.
    pub(crate) fn uploaded(&self, time: &Range<Instant>) -> Uploaded {
        let mut all = Uploaded::default();
        for upload in self.sent.iter().filter(|upload| time.contains(&upload.at)) {
            match (upload.kind, upload.rendition) {
                (LaneKind::Key, _) => all.keys += upload.bytes,
                (_, Rendition::LIVE) => all.live += upload.bytes,
                _ => all.reduced += upload.bytes,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let now = Instant::now();
        let mut samples = Samples::default();
        assert_eq!(samples.ms(0.5), None);
        for value in (1..=100).rev() {
            samples.push(now + value * MS, value * MS);
        }
        assert_eq!(
            (samples.ms(0.5), samples.ms(0.99), samples.ms(1.0)),
            (Some(50.0), Some(99.0), Some(100.0))
        );
        let some = samples.within(&(now + 10 * MS..now + 20 * MS));
        assert_eq!((some.len(), some.ms(0.0), some.ms(1.0)), (10, Some(10.0), Some(19.0)));
    }

    #[test]
    fn a_journal_tells_renditions_and_times_apart() {
        let mut journal = Journal::default();
        let before = Instant::now();
        journal.update(Rendition::LIVE, 3, before, 100);
        journal.update(Rendition::REDUCED, 3, before + MS, 30);
        journal.key(Rendition::LIVE, 7);
        let after = Instant::now() + MS;
        assert_eq!(journal.captured(Rendition::REDUCED, 3), Some(before + MS));
        assert_eq!(journal.captured(Rendition::LIVE, 4), None);
        let all = journal.uploaded(&(before..after));
        assert_eq!((all, all.all()), (Uploaded { live: 100, reduced: 30, keys: 7 }, 137));
        assert_eq!(journal.uploaded(&(after..after + MS)).all(), 0);
    }

    #[test]
    fn a_brief_journal_stays_small() {
        let mut journal = Journal::brief();
        let now = Instant::now();
        (0..3 * UNDER_WAY_MAX).for_each(|seq| journal.update(Rendition::LIVE, seq, now, 100));
        assert_eq!((journal.captured.len() as u64, journal.sent.len()), (UNDER_WAY_MAX, 0));
        assert_eq!(journal.captured(Rendition::LIVE, 3 * UNDER_WAY_MAX - 1), Some(now));
    }
}
