//! The largest of what was seen lately: a scrape every 15 seconds would miss most of what lasts for less.

use std::time::{Duration, Instant};

/// What is seen counts for at least this long, and at most for twice as long.
const WINDOW: Duration = Duration::from_secs(15);

/// A maximum over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Peak {
    began: Option<Instant>,
    now: f64,
    before: f64,
}

impl Peak {
    /// Sees a value; the largest of late.
    pub(super) fn see(&mut self, value: f64, now: Instant) -> f64 {
        let age = self.began.map(|began| now.saturating_duration_since(began));
        match age {
            Some(age) if age < WINDOW => {}
            age => {
                self.before = if age.is_some_and(|age| age < 2 * WINDOW) { self.now } else { 0.0 };
                (self.began, self.now) = (Some(now), 0.0);
            }
        }
        self.now = self.now.max(value);
        self.now.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_by_who_looks_every_15_seconds_and_then_forgotten() {
        let (mut peak, start) = (Peak::default(), Instant::now());
        let mut at = |seconds, value| peak.see(value, start + Duration::from_secs(seconds));
        assert_eq!(at(0, 0.0), 0.0);
        assert_eq!(at(14, 7.0), 7.0);
        assert_eq!(at(16, 1.0), 7.0, "it was two seconds ago");
        assert_eq!(at(29, 1.0), 7.0);
        assert_eq!(at(31, 1.0), 1.0);
        assert_eq!(at(200, 0.0), 0.0, "nobody has looked for long");
    }
}
