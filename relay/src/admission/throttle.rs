//! So many at once and so many a second: for all, and for every network in memory that does not grow with their number.
//!
//! One number says how much of a rate is left: the time at which all of it would be there again (the generic cell rate algorithm).
//! For networks it stands in four tables, in places that a secret hash gives; the earliest of the four counts (a count-min
//! sketch with conservative update). Others can only make it later, so who is over its rate is never let pass, and who is not
//! is turned away only if in each of the four it shares its place with somebody who is over his. A map by network, as rate
//! limiting libraries keep it, is filled by whoever has a /32 of IPv6; nothing here is ever evicted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Network;

/// Tables, and places in each: 2 MiB in all.
const TABLES: usize = 4;
const PLACES: usize = 1 << 16;

/// A rate: so many at once, and one more each time that this has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a rest.
    pub at_once: u32,
    /// Until there is one more.
    pub every: Duration,
}

impl Rate {
    /// So many at once, and so many in each such time.
    pub fn new(at_once: u32, times: u32, each: Duration) -> Self {
        Self { at_once: at_once.max(1), every: each / times.max(1) }
    }

    /// If one more may go now: when all of the rate would be there again after that. `full`: when it would be before. In
    /// nanoseconds.
    fn take(self, full: u64, now: u64) -> Option<u64> {
        let every = nanoseconds(self.every);
        let full = full.max(now);
        let most = every.saturating_mul(u64::from(self.at_once) - 1);
        (full - now <= most).then(|| full.saturating_add(every))
    }

    /// When all of the rate would be there again, if one that was taken had not been.
    fn give_back(self, full: u64) -> u64 {
        full.saturating_sub(nanoseconds(self.every))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One rate, used by one.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
    origin: Instant,
    full: u64,
}

impl Pace {
    /// A rate of which nothing was used.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, origin: now, full: 0 }
    }

    /// Takes so many, though they may not be there: what comes next waits for it.
    pub fn charge(&mut self, count: u32, now: Instant) {
        let now = nanoseconds(now.saturating_duration_since(self.origin));
        self.full =
            self.full.max(now).saturating_add(nanoseconds(self.rate.every).saturating_mul(count.into()));
    }

    /// Takes one, though there may be none: how long to wait before the next.
    pub fn take(&mut self, now: Instant) -> Duration {
        let now = nanoseconds(now.saturating_duration_since(self.origin));
        match self.rate.take(self.full, now) {
            Some(full) => {
                self.full = full;
                Duration::ZERO
            }
            None => {
                self.full = self.full.saturating_add(nanoseconds(self.rate.every));
                let most = nanoseconds(self.rate.every).saturating_mul(self.rate.at_once.into());
                Duration::from_nanos(self.full.saturating_sub(now).saturating_sub(most))
            }
        }
    }
}

/// One rate, shared by all.
#[derive(Debug)]
pub struct Total {
    rate: Rate,
    origin: Instant,
    full: AtomicU64,
}

impl Total {
    /// A rate of which nothing was used.
    pub fn new(rate: Rate) -> Self {
        Self { rate, origin: Instant::now(), full: AtomicU64::new(0) }
    }

    /// Whether one may go.
    pub fn has(&self, now: Instant) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.origin));
        self.rate.take(self.full.load(Ordering::Relaxed), now).is_some()
    }

    /// Takes one. Whether there was one.
    pub fn take(&self, now: Instant) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.origin));
        let take = |full| self.rate.take(full, now);
        self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// One rate for every network.
pub struct Throttle {
    rate: Rate,
    origin: Instant,
    secret: RandomState,
    tables: [Box<[AtomicU64]>; TABLES],
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Throttle({:?})", self.rate)
    }
}

impl Throttle {
    /// A rate of which nobody has used anything.
    pub fn new(rate: Rate) -> Self {
        let table = |_| (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let tables = std::array::from_fn(table);
        Self { rate, origin: Instant::now(), secret: RandomState::new(), tables }
    }

    /// Whether a network has one left.
    pub fn has(&self, network: Network, now: Instant) -> bool {
        self.rate.take(self.full(network), self.since(now)).is_some()
    }

    /// Takes one from a network. Whether there was one.
    pub fn take(&self, network: Network, now: Instant) -> bool {
        let Some(full) = self.rate.take(self.full(network), self.since(now)) else { return false };
        for place in self.places(network) {
            place.fetch_max(full, Ordering::Relaxed);
        }
        true
    }

    /// Gives one back to a network from which it was taken.
    pub fn give_back(&self, network: Network) {
        for place in self.places(network) {
            let less = |full| Some(self.rate.give_back(full));
            let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn full(&self, network: Network) -> u64 {
        self.places(network).map(|place| place.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn places(&self, network: Network) -> impl Iterator<Item = &AtomicU64> {
        let hash = self.secret.hash_one(network);
        self.tables.iter().enumerate().map(move |(at, table)| &table[(hash >> (16 * at)) as usize % PLACES])
    }

    fn since(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SECOND: Duration = Duration::from_secs(1);

    fn network(n: u32) -> Network {
        Network::of(IpAddr::from(Ipv4Addr::from_bits(n << 8)))
    }

    #[test]
    fn a_network_has_so_many_at_once_and_so_many_a_second() {
        let throttle = Throttle::new(Rate::new(10, 2, SECOND));
        let start = Instant::now();
        let one = network(1);
        assert_eq!((0..20).filter(|_| throttle.take(one, start)).count(), 10);
        assert!(!throttle.has(one, start) && throttle.has(network(2), start), "others have theirs");
        assert_eq!((0..20).filter(|_| throttle.take(one, start + SECOND)).count(), 2);
        throttle.give_back(one);
        assert!(throttle.take(one, start + SECOND), "what was given back can be taken again");
        assert!(!throttle.take(one, start + SECOND));
        let rested = start + 60 * SECOND;
        assert_eq!((0..20).filter(|_| throttle.take(one, rested)).count(), 10, "a rest saves no more up");
    }

    #[test]
    fn a_million_networks_cost_no_memory_and_no_stranger_its_turn() {
        let throttle = Throttle::new(Rate::new(100, 10, SECOND));
        let start = Instant::now();
        // A second's worth of a flood from everywhere, each within its own rate.
        assert!((0..1_000_000).all(|n| throttle.take(network(n), start + Duration::from_micros(n.into()))));
        let now = start + SECOND;
        assert_eq!((1..1000).filter(|n| throttle.has(network((1 << 23) + n), now)).count(), 999);
        // One that floods is held to its own however many others there are.
        let taken = (0..1000).filter(|_| throttle.take(network(1), now)).count();
        assert!((60..=100).contains(&taken), "{taken}");
    }

    #[test]
    fn all_together_have_one_rate() {
        let total = Total::new(Rate::new(3, 1, SECOND));
        let now = Instant::now();
        assert_eq!((0..5).filter(|_| total.take(now)).count(), 3);
        assert!(!total.has(now) && total.has(now + SECOND));
    }

    #[test]
    fn who_goes_on_beyond_its_pace_waits_as_long_as_that_takes() {
        let start = Instant::now();
        let mut pace = Pace::new(Rate::new(100, 1000, SECOND), start);
        let mut now = start;
        for _ in 0..1100 {
            now += pace.take(now);
        }
        let took = now - start;
        assert!(took >= Duration::from_millis(990) && took <= Duration::from_millis(1010), "{took:?}");
        // After a rest it need not wait again.
        now += SECOND;
        assert!((0..100).all(|_| pace.take(now).is_zero()));
        assert!(!pace.take(now).is_zero());
        now += 10 * SECOND;
        pace.charge(1000, now);
        assert!(pace.take(now) > SECOND / 2, "what counts as many is waited for as long");
    }
}
