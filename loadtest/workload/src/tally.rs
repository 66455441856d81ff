//! What the ends of all sessions count.

use std::sync::OnceLock;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::job::{Outcome, Quantiles};
use crate::message::{Clock, Head};
use crate::system::Place;

/// The longest time that is told apart, in µs: ten minutes.
const LONGEST: u64 = 600_000_000;
/// Failures that are told in words.
const TOLD: usize = 10;

/// The time that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

impl Window {
    pub(crate) fn has(&self, at: Duration) -> bool {
        (self.start..self.end).contains(&at)
    }
}

#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) clock: Clock,
    window: OnceLock<Window>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    bytes: u64,
    frames: u64,
    sent: u64,
    skipped: u64,
    /// Bytes of all streams of frames, and of each customer's first one.
    uploaded: u64,
    first_uploaded: u64,
    inputs: u64,
    given_up: u64,
    input: Histogram<u64>,
    near: Histogram<u64>,
    far: Histogram<u64>,
    late: Histogram<u64>,
    failures: Vec<String>,
    failed: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, 3).expect("bounds that a histogram takes")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST));
}

impl Tally {
    pub(crate) fn new(clock: Clock) -> Self {
        let counts = Counts {
            bytes: 0,
            frames: 0,
            sent: 0,
            skipped: 0,
            uploaded: 0,
            first_uploaded: 0,
            inputs: 0,
            given_up: 0,
            input: histogram(),
            near: histogram(),
            far: histogram(),
            late: histogram(),
            failures: Vec::new(),
            failed: 0,
        };
        Self { clock, window: OnceLock::new(), counts: Mutex::new(counts) }
    }

    /// Fixes the time that counts; once.
    pub(crate) fn begin(&self, window: Window) {
        self.window.get_or_init(|| window);
    }

    fn counts_at(&self, at: Duration) -> bool {
        self.window.get().is_some_and(|window| window.has(at))
    }

    /// A frame has come: it counts if it was due in time, however late it is. Its bytes count if they come in time.
    pub(crate) fn frame(&self, head: &Head, at: Place) {
        let now = self.clock.now();
        let mut counts = self.counts.lock();
        if self.counts_at(now) {
            counts.bytes += u64::from(head.len);
        }
        if !self.counts_at(head.due) {
            return;
        }
        counts.frames += 1;
        let ages = match at {
            Place::Near => &mut counts.near,
            Place::Far => &mut counts.far,
        };
        record(ages, now.saturating_sub(head.due));
    }

    /// A customer has handed a frame of so many bytes that was due then to this one of its streams.
    pub(crate) fn sent(&self, upload: usize, due: Duration, bytes: usize) {
        if !self.counts_at(due) {
            return;
        }
        let mut counts = self.counts.lock();
        counts.sent += 1;
        counts.uploaded += bytes as u64;
        counts.first_uploaded += if upload == 0 { bytes as u64 } else { 0 };
    }

    /// An input event has come: it counts if it was due in time, however late it is.
    pub(crate) fn input(&self, head: &Head) {
        let now = self.clock.now();
        let mut counts = self.counts.lock();
        if self.counts_at(now) {
            counts.bytes += u64::from(head.len);
        }
        if self.counts_at(head.due) {
            counts.inputs += 1;
            record(&mut counts.input, now.saturating_sub(head.due));
        }
    }

    /// A system has given up so many input events, and has said so.
    pub(crate) fn given_up(&self, inputs: u32) {
        self.counts.lock().given_up += u64::from(inputs);
    }

    /// A frame that was due then was not sent, as a newer one was due too.
    pub(crate) fn skipped(&self, due: Duration) {
        if self.counts_at(due) {
            self.counts.lock().skipped += 1;
        }
    }

    /// We have noticed so long after it that something was due then.
    pub(crate) fn late(&self, due: Duration, by: Duration) {
        if self.counts_at(due) {
            record(&mut self.counts.lock().late, by);
        }
    }

    pub(crate) fn fail(&self, why: impl std::fmt::Display) {
        let mut counts = self.counts.lock();
        counts.failed += 1;
        if counts.failures.len() < TOLD {
            counts.failures.push(why.to_string());
        }
    }

    /// Input events of which it is known what became of them, of those that count.
    pub(crate) fn inputs(&self) -> u64 {
        let counts = self.counts.lock();
        counts.inputs + counts.given_up
    }

    /// Frames that have come, of those that count.
    pub(crate) fn frames(&self) -> u64 {
        self.counts.lock().frames
    }

    /// Frames that were handed over or left out, of those that count.
    pub(crate) fn frames_known(&self) -> u64 {
        let counts = self.counts.lock();
        counts.sent + counts.skipped
    }

    /// Frames that were left out, of those that count.
    pub(crate) fn frames_skipped(&self) -> u64 {
        self.counts.lock().skipped
    }

    /// Adds what was counted.
    pub(crate) fn tell(&self, outcome: &mut Outcome) {
        let counts = self.counts.lock();
        outcome.delivered_bytes = counts.bytes;
        outcome.frames = counts.frames;
        outcome.frames_skipped = counts.skipped;
        let share = |first| counts.uploaded as f64 / first as f64;
        outcome.uploads = (counts.first_uploaded > 0).then(|| share(counts.first_uploaded));
        outcome.inputs_arrived = counts.inputs;
        outcome.inputs_given_up = counts.given_up;
        outcome.generator_late_ms = Quantiles::of(&counts.late);
        outcome.input_ms = Quantiles::of(&counts.input);
        outcome.near_age_ms = Quantiles::of(&counts.near);
        outcome.far_age_ms = Quantiles::of(&counts.far);
        outcome.failures.clone_from(&counts.failures);
        outcome.failed = counts.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Kind;

    const MS: Duration = Duration::from_millis(1);

    fn head(kind: Kind, due: Duration) -> Head {
        Head { len: 100, kind, number: 0, due }
    }

    /// A tally of a window, and when that begins.
    fn tally() -> (Tally, Duration) {
        let clock = Clock::start();
        let (tally, start) = (Tally::new(clock), clock.now());
        tally.begin(Window { start, end: start + Duration::from_secs(60) });
        (tally, start)
    }

    fn told(tally: &Tally) -> Outcome {
        let mut outcome = Outcome::default();
        tally.tell(&mut outcome);
        outcome
    }

    #[test]
    fn what_is_due_in_the_window_counts_however_late_it_is() {
        let (tally, start) = tally();
        let (within, after) = (start + 1000 * MS, start + Duration::from_secs(61));
        for due in [start, within, after, start.saturating_sub(MS / 1000)] {
            tally.input(&head(Kind::Input, due));
        }
        for (due, place) in [(start, Place::Near), (within, Place::Far), (after, Place::Near)] {
            tally.frame(&head(Kind::Frame, due), place);
        }
        [start, within, after].into_iter().for_each(|due| tally.skipped(due));
        (0..12).for_each(|number| tally.fail(number));
        let outcome = told(&tally);
        assert_eq!((outcome.frames, outcome.inputs_arrived, outcome.frames_skipped), (2, 2, 2));
        // All of it came in time.
        assert_eq!(outcome.delivered_bytes, 700);
        assert!(outcome.near_age_ms.is_some() && outcome.far_age_ms.is_some());
        assert_eq!((outcome.failed, outcome.failures.len()), (12, TOLD));
    }

    #[test]
    fn a_frame_that_comes_after_the_end_is_late_and_not_lost() {
        let clock = Clock::start();
        let (tally, start) = (Tally::new(clock), clock.now());
        tally.begin(Window { start, end: start + MS / 1000 });
        while clock.now() <= start + MS / 1000 {}
        tally.frame(&head(Kind::Frame, start), Place::Near);
        let outcome = told(&tally);
        assert_eq!((outcome.frames, outcome.delivered_bytes), (1, 0));
    }

    #[test]
    fn uploads_are_bytes_in_streams_of_the_first() {
        let (tally, start) = tally();
        assert_eq!(told(&tally).uploads, None);
        tally.sent(0, start, 1000);
        tally.sent(0, start + MS, 1000);
        tally.sent(3, start, 500);
        tally.sent(3, start + Duration::from_secs(60), 500);
        assert_eq!((told(&tally).uploads, tally.frames_known()), (Some(1.25), 3));
    }

    #[test]
    fn lateness_outside_of_the_window_does_not_count() {
        let (tally, start) = tally();
        tally.late(start + Duration::from_secs(60), 900 * MS);
        assert_eq!(told(&tally).generator_late_ms, None);
        tally.late(start, 4 * MS);
        let late = told(&tally).generator_late_ms.unwrap();
        assert!((late.p999 - 4.0).abs() < 0.01, "{late:?}");
    }

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut times = histogram();
        (1..=1000).for_each(|us| record(&mut times, Duration::from_micros(us * 10)));
        let quantiles = Quantiles::of(&times).unwrap();
        assert!((quantiles.p50 - 5.0).abs() < 0.01 && (quantiles.p999 - 9.99).abs() < 0.02, "{quantiles:?}");
        assert_eq!(Quantiles::of(&histogram()), None);
    }
}
