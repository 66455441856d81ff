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
    fn has(&self, at: Duration) -> bool {
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
    skipped: u64,
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
            skipped: 0,
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

    /// A frame has come: it counts if it comes in time.
    pub(crate) fn frame(&self, head: &Head, at: Place) {
        let now = self.clock.now();
        if !self.counts_at(now) {
            return;
        }
        let mut counts = self.counts.lock();
        counts.bytes += u64::from(head.len);
        counts.frames += 1;
        let ages = match at {
            Place::Near => &mut counts.near,
            Place::Far => &mut counts.far,
        };
        record(ages, now.saturating_sub(head.due));
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

    /// Frames that were due were not sent, as newer ones were due too.
    pub(crate) fn skipped(&self, frames: u32) {
        if frames > 0 && self.counts_at(self.clock.now()) {
            self.counts.lock().skipped += u64::from(frames);
        }
    }

    /// We have got to something so long after it was due.
    pub(crate) fn late(&self, by: Duration) {
        record(&mut self.counts.lock().late, by);
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

    /// Adds what was counted.
    pub(crate) fn tell(&self, outcome: &mut Outcome) {
        let counts = self.counts.lock();
        outcome.delivered_bytes = counts.bytes;
        outcome.frames = counts.frames;
        outcome.frames_skipped = counts.skipped;
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

    #[test]
    fn only_the_window_counts_and_late_input_counts_too() {
        let clock = Clock::start();
        let tally = Tally::new(clock);
        let now = clock.now();
        let head = |kind, due| Head { len: 100, kind, number: 0, due };
        tally.frame(&head(Kind::Frame, now), Place::Near);
        tally.begin(Window { start: now, end: now + Duration::from_secs(60) });
        tally.frame(&head(Kind::Frame, now), Place::Near);
        tally.frame(&head(Kind::Frame, now), Place::Far);
        tally.input(&head(Kind::Input, now + 1000 * MS));
        tally.input(&head(Kind::Input, now + Duration::from_secs(61)));
        tally.skipped(3);
        (0..12).for_each(|number| tally.fail(number));
        let mut outcome = Outcome::default();
        tally.tell(&mut outcome);
        assert_eq!((outcome.frames, outcome.inputs_arrived, outcome.frames_skipped), (2, 1, 3));
        assert_eq!(outcome.delivered_bytes, 400);
        assert!(outcome.near_age_ms.is_some() && outcome.far_age_ms.is_some());
        assert_eq!((outcome.failed, outcome.failures.len()), (12, TOLD));
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
