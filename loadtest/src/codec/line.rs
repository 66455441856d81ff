//! A line of a fixed rate, reckoned: when it takes the next update, and when the last one has passed.

use std::time::Duration;

use crate::link::way::Rate;

/// Least budget: below it headers and the starts of compressed blocks are most of an update.
const BUDGET_MIN: usize = 2 << 10;

/// Carries one update after the other.
#[derive(Debug)]
pub(super) struct Line {
    rate: Option<Rate>,
    free_at: Duration,
    /// Time between two pictures.
    interval: Duration,
}

impl Line {
    /// Takes everything at once if it has no rate.
    pub(super) fn new(rate: Option<Rate>, interval: Duration) -> Self {
        Self { rate, free_at: Duration::ZERO, interval }
    }

    /// How many bytes an update should have that is given to it now: what passes until the next picture comes. `None`: the
    /// line is still busy.
    pub(super) fn budget(&self, now: Duration) -> Option<usize> {
        let Some(rate) = self.rate else { return Some(usize::MAX) };
        let passes = rate.bits_per_second() as f64 / 8.0 * self.interval.as_secs_f64();
        (self.free_at <= now).then_some((passes as usize).max(BUDGET_MIN))
    }

    /// When all that was given to it has passed.
    pub(super) fn free_at(&self) -> Duration {
        self.free_at
    }

    /// Takes so many bytes; answers when the last of them has passed.
    pub(super) fn send(&mut self, now: Duration, bytes: usize) -> Duration {
        self.free_at = self.free_at.max(now) + self.rate.map_or(Duration::ZERO, |rate| rate.time_for(bytes));
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_the_next_update_when_the_last_has_passed() {
        let ms = Duration::from_millis;
        let mut line = Line::new(Rate::from_bits_per_second(800_000), ms(50));
        assert_eq!(line.budget(ms(0)), Some(5000));
        assert_eq!(line.send(ms(0), 10_000), ms(100));
        assert_eq!(line.budget(ms(50)), None);
        assert_eq!(line.budget(ms(100)), Some(5000));
        assert_eq!(line.send(ms(150), 5000), ms(200));
        let mut endless = Line::new(None, ms(50));
        assert_eq!(endless.send(ms(50), usize::MAX), ms(50));
        assert_eq!(endless.budget(ms(50)), Some(usize::MAX));
    }
}
