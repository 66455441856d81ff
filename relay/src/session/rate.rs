//! How fast a path carries: the best that was seen lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A sample spans at least this.
const SPAN: Duration = Duration::from_millis(50);
/// How long a sample counts.
const WINDOW: Duration = Duration::from_secs(10);

/// A windowed maximum of delivery rates, from a byte count that only rises.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When the present sample began, and the count then.
    began: Option<(Instant, u64)>,
    /// Rates in bytes a second with their times; each is larger than those after it.
    samples: VecDeque<(Instant, f64)>,
    /// Whether the path has ever had as much to carry as it could.
    was_busy: bool,
}

impl Rate {
    /// So many bytes have been carried in all. `busy`: more could have been all along, so that this shows what the path
    /// takes and not what there was to carry.
    pub(super) fn carried(&mut self, bytes: u64, busy: bool, now: Instant) {
        let Some((began, before)) = self.began else {
            self.began = Some((now, bytes));
            return;
        };
        let span = now.saturating_duration_since(began);
        if span < SPAN {
            return;
        }
        self.began = Some((now, bytes));
        self.was_busy |= busy;
        let rate = bytes.saturating_sub(before) as f64 / span.as_secs_f64();
        // What was carried at leisure can only show that the path takes more than was thought.
        if rate > 0.0 && (busy || self.best().is_none_or(|best| rate > best)) {
            while self.samples.back().is_some_and(|&(_, smaller)| smaller <= rate) {
                self.samples.pop_back();
            }
            self.samples.push_back((now, rate));
        }
        if busy {
            while self.samples.len() > 1
                && self.samples.front().is_some_and(|&(at, _)| now.saturating_duration_since(at) > WINDOW)
            {
                self.samples.pop_front();
            }
        }
    }

    /// Bytes a second that the path takes, once it has shown that.
    pub(super) fn limit(&self) -> Option<f64> {
        self.best().filter(|_| self.was_busy)
    }

    /// Bytes a second, if anything was seen.
    pub(super) fn best(&self) -> Option<f64> {
        self.samples.front().map(|&(_, rate)| rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_ten_seconds_counts_and_leisure_does_not_lower_it() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let mut carried = 0;
        let mut carry = |rate: &mut Rate, bytes: u64, busy: bool, at_ms: u64| {
            carried += bytes;
            rate.carried(carried, busy, start + Duration::from_millis(at_ms));
        };
        carry(&mut rate, 0, true, 0);
        assert_eq!(rate.best(), None);
        assert_eq!(rate.limit(), None);
        carry(&mut rate, 10_000, true, 100);
        assert_eq!(rate.best(), Some(100_000.0));
        carry(&mut rate, 10, false, 20_000);
        assert_eq!(rate.best(), Some(100_000.0), "it was at leisure");
        carry(&mut rate, 1000, true, 20_100);
        assert_eq!(rate.best(), Some(10_000.0), "the path has become slower");
    }
}
