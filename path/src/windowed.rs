//! The largest or smallest of what was seen in a window of time, in constant time on average.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The largest rate of a window of time: rates that fall from the oldest kept to the newest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Max(VecDeque<(Instant, f64)>);

impl Max {
    /// Takes a value in; values older than `window` are forgotten, but never the newest.
    pub(crate) fn add(&mut self, value: f64, now: Instant, window: Duration) {
        while self.0.back().is_some_and(|&(_, older)| older <= value) {
            self.0.pop_back();
        }
        self.0.push_back((now, value));
        while self.0.front().is_some_and(|&(at, _)| at + window < now) {
            self.0.pop_front();
        }
    }

    /// The largest; 0 before the first.
    pub(crate) fn get(&self) -> f64 {
        self.0.front().map_or(0.0, |&(_, value)| value)
    }

    /// Forgets all but this.
    pub(crate) fn set(&mut self, value: f64, now: Instant) {
        self.0.clear();
        self.0.push_back((now, value));
    }
}

/// The shortest round trip of a window of time, and when something as short was seen last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Min {
    best: Option<(Instant, Duration)>,
}

/// Round trips this close are the same: clocks and timers are not exact.
const SAME: Duration = Duration::from_millis(1);

impl Min {
    /// Takes a value in.
    pub(crate) fn add(&mut self, value: Duration, now: Instant) {
        match &mut self.best {
            Some((at, best)) if value <= *best + SAME => {
                *at = now;
                *best = value.min(*best);
            }
            Some(_) => {}
            None => self.best = Some((now, value)),
        }
    }

    /// The shortest.
    pub(crate) fn get(&self) -> Option<Duration> {
        self.best.map(|(_, value)| value)
    }

    /// How long ago something as short was seen.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.best.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(at))
    }

    /// So much time has passed in which nothing could be seen.
    pub(crate) fn postpone(&mut self, time: Duration) {
        if let Some((at, _)) = &mut self.best {
            *at += time;
        }
    }

    /// Forgets all but this.
    pub(crate) fn set(&mut self, value: Duration, now: Instant) {
        self.best = Some((now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_leaves_with_its_window() {
        let (mut max, start) = (Max::default(), Instant::now());
        let second = Duration::from_secs(1);
        max.add(9.0, start, second);
        max.add(5.0, start + second / 2, second);
        max.add(3.0, start + second, second);
        assert_eq!(max.get(), 9.0);
        max.add(1.0, start + 3 * second / 2, second);
        assert_eq!(max.get(), 5.0);
        max.add(1.0, start + 9 * second, second);
        assert_eq!(max.get(), 1.0);
    }

    #[test]
    fn what_is_as_short_as_the_shortest_renews_it() {
        let (mut min, start) = (Min::default(), Instant::now());
        let ms = Duration::from_millis;
        min.add(ms(20), start);
        min.add(ms(50), start + ms(100));
        assert_eq!((min.get(), min.age(start + ms(100))), (Some(ms(20)), ms(100)));
        min.add(Duration::from_micros(20_500), start + ms(200));
        assert_eq!((min.get(), min.age(start + ms(200))), (Some(ms(20)), ms(0)));
    }
}
