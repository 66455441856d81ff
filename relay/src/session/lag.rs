//! The judgements behind forks, merges and late joins: pure functions of what was observed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A subscriber whose oldest unsent record is older than this, and getting older, cannot keep up.
pub(super) const LAG_MAX: Duration = Duration::from_millis(250);
/// Two looks at a lag lie this far apart.
const LOOK: Duration = Duration::from_millis(200);
/// Reduced must have carried about what live has for this long.
const EVEN: Duration = Duration::from_secs(2);
/// Or both must have been at rest for this long.
const REST: Duration = Duration::from_secs(1);
/// Who was merged back and is forked again within this time waits longer the next time.
const RELAPSE: Duration = Duration::from_secs(30);
/// But no longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Share of live's bytes that counts as about the same; and of what a path takes that live may be.
const ABOUT: f64 = 0.8;
/// Times that are looked at one by one.
const LOOKS: u32 = 4;
/// Who drains what is left of live for longer than this, and twice as long as a key takes, is better off with the key.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Watches how old the oldest unsent record of a subscriber is.
#[derive(Debug, Default)]
pub(super) struct Lag {
    look: Option<Look>,
    /// The least lag of the look before.
    before: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    began: Instant,
    least: Duration,
}

impl Lag {
    /// The oldest unsent record is this old now (zero: there is none). Whether the subscriber cannot keep up: for two looks the
    /// lag was never below the bound, and it did not shrink.
    pub(super) fn observe(&mut self, age: Duration, now: Instant) -> bool {
        let look = self.look.get_or_insert(Look { began: now, least: age });
        look.least = look.least.min(age);
        if now.saturating_duration_since(look.began) < LOOK {
            return false;
        }
        let least = look.least;
        self.look = Some(Look { began: now, least: age });
        let before = self.before.replace(least);
        least > LAG_MAX && before.is_some_and(|before| before > LAG_MAX && least >= before)
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// How long a subscriber stays with reduced before it may try live again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    wait: Duration,
    forked: Option<Instant>,
    merged: Option<Instant>,
}

impl Patience {
    /// It was forked to reduced.
    pub(super) fn forked(&mut self, now: Instant) {
        let relapsed = self.merged.is_some_and(|merged| now.saturating_duration_since(merged) < RELAPSE);
        self.wait = if relapsed { (self.wait * 2).clamp(2 * EVEN, PATIENCE_MAX) } else { EVEN };
        self.forked = Some(now);
    }

    /// It is back with live.
    pub(super) fn merged(&mut self, now: Instant) {
        self.merged = Some(now);
    }

    /// Whether it may try live again.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.stayed(now).is_none_or(|stayed| stayed >= self.wait)
    }

    /// How long ago it was forked.
    pub(super) fn stayed(&self, now: Instant) -> Option<Duration> {
        self.forked.map(|forked| now.saturating_duration_since(forked))
    }
}

/// Watches what both renditions carry.
#[derive(Debug, Default)]
pub(super) struct Balance {
    began: Option<Counts>,
    even_since: Option<Instant>,
    /// Bytes a second of live in the last looks.
    rates: VecDeque<f64>,
}

/// What the renditions' loads allow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Loads {
    /// All members of reduced can do with live: it carries about what live does, or both rest.
    even: bool,
    /// The most that live has carried of late, bytes a second; `None`: too little was seen.
    live: Option<f64>,
}

impl Loads {
    /// Whether a member of reduced whose path takes so many bytes a second, if that is known, can do with live.
    pub(super) fn allow(self, path: Option<f64>) -> bool {
        let alone = path.zip(self.live).is_some_and(|(path, live)| live <= ABOUT * path);
        self.even || alone
    }
}

/// What the renditions have carried so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Bytes of live.
    pub(super) live: u64,
    /// Bytes of reduced.
    pub(super) reduced: u64,
    /// When something last came of either.
    pub(super) arrived: Option<Instant>,
    /// Now.
    pub(super) now: Instant,
}

impl Balance {
    /// Whether reduced carries so much that its members can do with live: about the same for two seconds, looked at every
    /// half second, or nothing at all for one. And how much live carries, since the slowest member's pace is not that of all.
    pub(super) fn observe(&mut self, counts: Counts) -> Loads {
        let now = counts.now;
        let rests = counts.arrived.is_none_or(|arrived| now.saturating_duration_since(arrived) >= REST);
        let Some(began) = self.began else {
            self.began = Some(counts);
            return Loads { even: rests, live: None };
        };
        let time = now.saturating_duration_since(began.now);
        if time >= EVEN / LOOKS {
            let live = counts.live.saturating_sub(began.live);
            let reduced = counts.reduced.saturating_sub(began.reduced);
            self.began = Some(counts);
            if (reduced as f64) < ABOUT * live as f64 {
                self.even_since = None;
            } else {
                self.even_since.get_or_insert(began.now);
            }
            self.rates.push_back(live as f64 / time.as_secs_f64());
            if self.rates.len() > LOOKS as usize {
                self.rates.pop_front();
            }
        }
        let even = rests || self.even_since.is_some_and(|since| now.saturating_duration_since(since) >= EVEN);
        let seen = self.rates.len() == LOOKS as usize;
        Loads { even, live: seen.then(|| self.rates.iter().copied().fold(0.0, f64::max)) }
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What is known of the paths of somebody who joins late, bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths {
    /// From the publisher to the relay.
    pub(super) up: Option<f64>,
    /// From the relay to the subscriber.
    pub(super) down: Option<f64>,
    /// From the relay to the publisher and back.
    pub(super) rtt: Option<Duration>,
}

/// What a customer's line is taken to carry before anything is known of it: 2.5 Mbit/s.
const UP: f64 = 312_500.0;
/// What a technician's line is taken to carry: 20 Mbit/s. Whose carries less and cannot keep up gets a key after all
/// ([`Paths::prefers_key`]).
const DOWN: f64 = 2_500_000.0;
/// What a key makes its publisher send beside it, about: the segment that it leads into has no history but the screen as it is, so that
/// those in step get again what had been shown before (34 kB of a page that is scrolled).
const FORGOTTEN: f64 = 32.0 * 1024.0;
/// The fastest line that a joiner is expected to have: 100 Mbit/s.
pub(super) const DOWN_MAX: f64 = 12_500_000.0;
/// A round trip to a publisher of which nothing is known.
const RTT: Duration = Duration::from_millis(100);

impl Paths {
    /// Seconds until somebody who comes has had this many held bytes.
    pub(super) fn held_cost(&self, held: u64) -> f64 {
        held as f64 / self.down.unwrap_or(DOWN)
    }

    /// Seconds until it has had a key of this size, which is still to be asked for, and those in step what they lose by it.
    pub(super) fn key_cost(&self, key: u64) -> f64 {
        let key = key as f64;
        let up = (key + FORGOTTEN) / self.up.unwrap_or(UP);
        up + key / self.down.unwrap_or(DOWN) + self.rtt.unwrap_or(RTT).as_secs_f64()
    }

    /// Whether somebody who has so many bytes of live to drain before it can go over to reduced has a key sooner.
    pub(super) fn prefers_key(&self, drain: u64, key: u64) -> bool {
        let drain = self.held_cost(drain);
        drain > DRAIN_MAX.as_secs_f64() && drain > 2.0 * self.key_cost(key)
    }

    /// Bytes of held records above which a key costs even a joiner with the fastest line less.
    pub(super) fn worth_holding(&self, key: u64) -> u64 {
        let fastest = Self { down: Some(DOWN_MAX), ..*self };
        (fastest.key_cost(key) * DOWN_MAX) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Duration = Duration::from_millis(50);

    /// When a lag that follows `age(ms)` is first judged hopeless.
    fn hopeless_at(age: impl Fn(u64) -> u64) -> Option<u64> {
        let (mut lag, start) = (Lag::default(), Instant::now());
        (0..200)
            .map(|step| step * 50)
            .find(|&ms| lag.observe(Duration::from_millis(age(ms)), start + Duration::from_millis(ms)))
    }

    #[test]
    fn a_lag_that_grows_past_the_bound_is_noticed_within_a_second_and_one_that_shrinks_is_not() {
        assert!(hopeless_at(|ms| ms).is_some_and(|ms| (450..=1000).contains(&ms)));
        assert_eq!(hopeless_at(|ms| 3000_u64.saturating_sub(ms / 2)), None);
        assert_eq!(hopeless_at(|_| 249), None);
        assert_eq!(hopeless_at(|ms| if ms % 200 == 0 { 0 } else { 900 }), None, "it keeps catching up");
    }

    #[test]
    fn a_relapse_doubles_the_wait_up_to_a_minute_and_a_good_while_forgives() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            patience.forked(now);
            let began = now;
            while !patience.is_over(now) {
                now += STEP;
            }
            waits.push((now - began).as_secs());
            patience.merged(now);
            now += Duration::from_secs(5);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        now += RELAPSE;
        patience.forked(now);
        assert!(patience.is_over(now + EVEN));
    }

    #[test]
    fn renditions_are_even_after_two_seconds_of_the_same_or_one_of_rest() {
        let start = Instant::now();
        let even_at = |live: u64, reduced: u64| {
            let mut balance = Balance::default();
            (0..200).map(|step| step * 50).find(|&ms| {
                let now = start + Duration::from_millis(ms);
                let arrived = (live + reduced > 0).then_some(now);
                let counts = Counts { live: live * ms, reduced: reduced * ms, arrived, now };
                balance.observe(counts).allow(None)
            })
        };
        assert_eq!(even_at(100, 10), None);
        assert_eq!(even_at(100, 90), Some(2000));
        assert_eq!(even_at(0, 0), Some(0));
    }

    #[test]
    fn who_takes_all_that_live_has_carried_for_two_seconds_need_not_wait_for_slower_ones() {
        let (mut balance, start) = (Balance::default(), Instant::now());
        let mut live = 0;
        let mut loads = |ms: u64| {
            // 100 kB/s, after a burst of half a second.
            live += if ms < 500 { 50_000 } else { 5000 };
            let now = start + Duration::from_millis(ms);
            balance.observe(Counts { live, reduced: ms, arrived: Some(now), now })
        };
        let at: Vec<(u64, Loads)> = (0..60).map(|step| (step * 50, loads(step * 50))).collect();
        let first = |path: f64| at.iter().find(|(_, loads)| loads.allow(Some(path))).map(|&(ms, _)| ms);
        assert_eq!(first(130_000.0), Some(2500), "the burst is over");
        assert_eq!(first(110_000.0), None, "too close");
        assert_eq!(first(2e6), Some(2000));
        assert!(at.iter().all(|(_, loads)| !loads.allow(None)), "nothing is known of its path");
    }

    #[test]
    fn what_is_left_of_live_is_drained_unless_a_key_is_much_sooner() {
        let paths = Paths { up: Some(1e6), down: Some(37_500.0), rtt: Some(RTT) };
        assert!(!paths.prefers_key(50_000, 100_000));
        assert!(!paths.prefers_key(70_000, 1000), "no longer than two seconds");
        assert!(!paths.prefers_key(200_000, 110_000));
        assert!(paths.prefers_key(500_000, 40_000));
    }

    #[test]
    fn the_held_segment_is_taken_while_it_is_cheaper_than_a_key() {
        let paths = Paths { up: Some(125_000.0), down: Some(1e6), rtt: Some(RTT) };
        let key = 200_000;
        assert!(paths.held_cost(key) < paths.key_cost(key), "as much as a key costs less than asking");
        let new = Paths { down: None, ..paths };
        assert!(
            new.held_cost(1_500_000) < new.key_cost(85_000),
            "a customer with 1 Mbit/s up sends no key for what it took twelve seconds to send"
        );
        assert!(paths.held_cost(4_000_000) > paths.key_cost(key));
        let unknown = Paths { up: None, down: None, rtt: None };
        assert!(unknown.held_cost(100_000) < unknown.key_cost(100_000));
    }

    proptest! {
        #[test]
        fn what_is_not_worth_holding_no_joiner_takes(
            up in 1e3..1e8f64, down in 1e3..DOWN_MAX, key in 0u64..1 << 26, held in 0u64..1 << 26,
        ) {
            let paths = Paths { up: Some(up), down: Some(down), rtt: Some(RTT) };
            if held > paths.worth_holding(key) + 1 {
                prop_assert!(paths.held_cost(held) > paths.key_cost(key));
            }
        }
    }
}
