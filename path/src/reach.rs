//! Bounds what is under way as far as the other end's own acknowledgements reach, whatever lies between.
//!
//! A connection's congestion control sees the path to whoever answers its packets. Behind a proxy that is the proxy, which may
//! take megabytes before it slows anybody down. Ends that count bytes themselves see past it: what was given to a lane and is
//! not known to have arrived stays below the rate at which it arrives × (two round trips + [`SLACK`]). That is about
//! twice what a path without such a queue ever needs, lost packets that are waited for included, so there it changes nothing; and
//! because it always asks for more than what is known, a faster path is found without looking for one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::windowed::Max;

/// Time of the rate that may be under way beyond two round trips.
pub const SLACK: Duration = Duration::from_millis(100);
/// Bytes that may be under way until so many have been, and always.
const INITIAL: u64 = 32 << 10;
const FLOOR: u64 = 4 << 10;
/// How long a rate is believed, while newer ones come.
const RATE_LIFE: Duration = Duration::from_secs(10);
/// A shortest round trip that was not nearly seen again for so long is measured anew.
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(10);
/// What is nearly the shortest: answers are given every few milliseconds.
const NEARLY: Duration = Duration::from_millis(25);
/// Beyond one round trip, how long that measurement takes, and the part of the rate's round trip that is under way meanwhile.
const MEASURE: Duration = Duration::from_millis(100);
const MEASURED_AT: f64 = 0.75;
/// Sendings closer together than this are one.
const SAME: Duration = Duration::from_millis(1);
/// Sendings remembered.
const LOG_MAX: usize = 4096;

/// What one end knows of the way to the end that counts, from the number of bytes sent and arrived.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    sent: u64,
    arrived: u64,
    log: VecDeque<Sending>,
    rates: Max,
    /// As much as was allowed has been asked of the way, so that its rate is known rather than ours.
    tried: bool,
    shortest: Option<Shortest>,
    latest: Option<Duration>,
}

/// Bytes that were sent at about one moment.
#[derive(Clone, Copy, Debug)]
struct Sending {
    start: u64,
    end: u64,
    at: Instant,
    /// What had arrived by then.
    arrived: u64,
    /// The bound allowed no more.
    full: bool,
}

/// The shortest round trip.
#[derive(Clone, Copy, Debug)]
struct Shortest {
    time: Duration,
    /// When something nearly as short was last seen.
    seen: Instant,
    /// It is being measured anew: since when, and the shortest since.
    anew: Option<(Instant, Option<Duration>)>,
}

impl Reach {
    /// `total` bytes have been sent in all.
    pub fn sent(&mut self, total: u64, now: Instant) {
        if total <= self.sent {
            return;
        }
        self.measure_anew(now);
        let start = std::mem::replace(&mut self.sent, total);
        let full = 4 * self.in_flight() >= 3 * self.window();
        match self.log.back_mut().filter(|last| now < last.at + SAME) {
            Some(last) => (last.end, last.full) = (total, last.full | full),
            None => self.log.push_back(Sending { start, end: total, at: now, arrived: self.arrived, full }),
        }
        if self.log.len() > LOG_MAX {
            self.log.pop_front();
        }
    }

    /// `total` bytes are known to have arrived in all. Less than before says nothing, and more than was sent is not believed.
    pub fn arrived(&mut self, total: u64, now: Instant) {
        let total = total.min(self.sent);
        if total <= self.arrived {
            return;
        }
        self.arrived = total;
        let mut newest = None;
        while let Some(sending) = self.log.pop_front_if(|sending| sending.end <= total) {
            newest = Some(sending);
        }
        let begun = self.log.front().filter(|sending| sending.start < total).copied();
        let Some(sending) = begun.or(newest) else { return };
        let took = now.saturating_duration_since(sending.at).max(SAME);
        self.latest = Some(took);
        self.shorter(took, sending.at, now);
        let rate = (total - sending.arrived) as f64 / took.as_secs_f64();
        self.tried |= sending.full;
        if sending.full || rate > self.rates.get() {
            self.rates.add(rate, now, RATE_LIFE);
        }
    }

    /// Takes a round trip in.
    fn shorter(&mut self, took: Duration, sent: Instant, now: Instant) {
        let shortest = self.shortest.get_or_insert(Shortest { time: took, seen: now, anew: None });
        if took <= shortest.time + (shortest.time / 4).max(NEARLY) {
            (shortest.time, shortest.seen, shortest.anew) = (took.min(shortest.time), now, None);
        } else if let Some((since, least)) = &mut shortest.anew
            && sent >= *since
        {
            let least = least.map_or(took, |least| least.min(took));
            if now >= *since + least + MEASURE {
                *shortest = Shortest { time: least, seen: now, anew: None };
            } else if let Some((_, known)) = &mut shortest.anew {
                *known = Some(least);
            }
        }
    }

    fn measure_anew(&mut self, now: Instant) {
        if let Some(shortest) = &mut self.shortest
            && shortest.anew.is_none()
            && now >= shortest.seen + ROUND_TRIP_LIFE
        {
            shortest.anew = Some((now, None));
        }
    }

    /// Bytes that are not known to have arrived.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.arrived
    }

    /// Bytes that may be under way.
    pub fn window(&self) -> u64 {
        let (Some(shortest), rate) = (self.shortest, self.rates.get()) else { return INITIAL };
        let time = match shortest.anew {
            Some(_) => shortest.time.mul_f64(MEASURED_AT),
            None => 2 * shortest.time + SLACK,
        };
        ((rate * time.as_secs_f64()) as u64).max(if self.tried { FLOOR } else { INITIAL })
    }

    /// Bytes a second that have arrived; 0: unknown.
    pub fn rate(&self) -> f64 {
        self.rates.get()
    }

    /// How long what is known to have arrived last took, until that was known.
    pub fn latest(&self) -> Option<Duration> {
        self.latest
    }

    /// The shortest that anything took of late, until it was known to have arrived.
    pub fn shortest(&self) -> Option<Duration> {
        self.shortest.map(|shortest| shortest.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A queue of any length before a link; the sender always has more.
    struct Run {
        reach: Reach,
        rate: f64,
        one_way: Duration,
        sent: u64,
        through: f64,
        news: VecDeque<(Instant, u64)>,
        now: Instant,
    }

    impl Run {
        fn new(rate: f64, one_way: Duration) -> Self {
            let news = VecDeque::new();
            Self { reach: Reach::default(), rate, one_way, sent: 0, through: 0.0, news, now: Instant::now() }
        }

        /// Runs for some time: the part of the link that was used, and the longest that a byte waited in the queue.
        fn run(&mut self, time: Duration) -> (f64, Duration) {
            let (until, before, mut waited) = (self.now + time, self.through, 0.0_f64);
            for step in 0.. {
                self.now += MS;
                if self.now > until {
                    break;
                }
                self.through = (self.through + self.rate / 1000.0).min(self.sent as f64);
                waited = waited.max((self.sent as f64 - self.through) / self.rate);
                // The far end answers every 8 ms.
                if step % 8 == 0 {
                    self.news.push_back((self.now + 2 * self.one_way, self.through as u64));
                }
                while let Some((_, arrived)) = self.news.pop_front_if(|news| news.0 <= self.now) {
                    self.reach.arrived(arrived, self.now);
                }
                while self.reach.in_flight() < self.reach.window() {
                    self.sent += 1200;
                    self.reach.sent(self.sent, self.now);
                }
            }
            ((self.through - before) / (self.rate * time.as_secs_f64()), Duration::from_secs_f64(waited))
        }
    }

    #[test]
    fn a_hidden_queue_stays_short_and_the_link_is_used() {
        for (rate, one_way) in [(1e5, 10), (1e5, 100), (2.5e6, 10), (2.5e6, 100), (1e7, 50)] {
            let one_way = one_way * MS;
            let mut run = Run::new(rate, one_way);
            run.run(Duration::from_secs(3));
            // For a minute, since what is forgotten of the path must not let the queue creep up.
            let (used, waited) = run.run(Duration::from_secs(60));
            let bound = 2 * one_way + SLACK + 60 * MS + Duration::from_secs_f64(INITIAL as f64 / rate);
            assert!(used > 0.9, "{rate} {one_way:?}: {used}");
            assert!(waited < bound, "{rate} {one_way:?}: {waited:?}");
        }
    }

    #[test]
    fn a_faster_link_is_found_and_a_slower_one_noticed() {
        let mut run = Run::new(2.5e5, 50 * MS);
        run.run(Duration::from_secs(5));
        run.rate = 5e6;
        run.run(Duration::from_secs(2));
        assert!(run.run(Duration::from_secs(2)).0 > 0.9);
        run.rate = 2.5e5;
        run.run(Duration::from_secs(20));
        let (used, waited) = run.run(Duration::from_secs(5));
        assert!(used > 0.9 && waited < 400 * MS, "{used} {waited:?}");
    }

    #[test]
    fn a_link_that_became_longer_is_still_used() {
        let mut run = Run::new(1e6, 10 * MS);
        run.run(Duration::from_secs(5));
        run.one_way = 150 * MS;
        run.run(Duration::from_secs(25));
        let (used, _) = run.run(Duration::from_secs(5));
        assert!(used > 0.9, "{used}");
    }

    #[test]
    fn nonsense_is_not_believed() {
        let (mut reach, now) = (Reach::default(), Instant::now());
        reach.sent(1000, now);
        reach.arrived(u64::MAX, now + MS);
        assert_eq!(reach.in_flight(), 0);
        reach.arrived(5, now + 2 * MS);
        reach.sent(500, now + 3 * MS);
        assert_eq!(reach.in_flight(), 0);
    }
}
