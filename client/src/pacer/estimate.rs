//! What the pacer believes of its path, and how it learns it: rates, round trips, bunches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ledger::Progress;

/// The largest of a window of time: values that fall from the oldest to the newest.
#[derive(Clone, Debug, Default)]
pub(super) struct Highest(VecDeque<(Instant, f64)>);

impl Highest {
    /// Takes a value in, and forgets what is older than `window`.
    pub(super) fn add(&mut self, value: f64, now: Instant, window: Duration) {
        while self.0.back().is_some_and(|&(_, older)| older <= value) {
            self.0.pop_back();
        }
        self.0.push_back((now, value));
        self.expire(now, window);
    }

    /// Forgets what is older than `window`, but for the newest.
    pub(super) fn expire(&mut self, now: Instant, window: Duration) {
        while self.0.len() > 1 && self.0.front().is_some_and(|&(at, _)| at + window < now) {
            self.0.pop_front();
        }
    }

    /// Forgets all but this.
    pub(super) fn reset(&mut self, value: f64, now: Instant) {
        self.0.clear();
        self.0.push_back((now, value));
    }

    /// The largest; 0: nothing is known.
    pub(super) fn get(&self) -> f64 {
        self.0.front().map_or(0.0, |&(_, value)| value)
    }
}

/// The middle one of the last few: one that is far off, because news came late or in a bunch, changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Middle(VecDeque<f64>);

impl Middle {
    const OF: usize = 5;

    /// Takes a value in. Answers with the middle one, or as long as there are few with the smallest; one is none.
    pub(super) fn add(&mut self, value: f64) -> Option<f64> {
        self.0.push_back(value);
        if self.0.len() > Self::OF {
            self.0.pop_front();
        }
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        match sorted.len() {
            0 | 1 => None,
            Self::OF => Some(sorted[Self::OF / 2]),
            _ => Some(sorted[0]),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// How long the shortest round trip is believed.
const RTT_WINDOW: Duration = Duration::from_secs(10);

/// The shortest round trip of the last ten seconds: round trips that grow from the oldest to the newest.
#[derive(Clone, Debug, Default)]
pub(super) struct Rtts {
    window: VecDeque<(Instant, Duration)>,
    latest: Duration,
}

impl Rtts {
    pub(super) fn add(&mut self, rtt: Duration, now: Instant) {
        self.latest = rtt;
        while self.window.back().is_some_and(|&(_, older)| older >= rtt) {
            self.window.pop_back();
        }
        self.window.push_back((now, rtt));
        while self.window.len() > 1 && self.window.front().is_some_and(|&(at, _)| at + RTT_WINDOW < now) {
            self.window.pop_front();
        }
    }

    /// Forgets all but this.
    pub(super) fn reset(&mut self, rtt: Duration, now: Instant) {
        self.window.clear();
        self.window.push_back((now, rtt));
    }

    pub(super) fn min(&self) -> Option<Duration> {
        self.window.front().map(|&(_, rtt)| rtt)
    }

    pub(super) fn latest(&self) -> Duration {
        self.latest
    }

    /// Whether the shortest is about to be forgotten: something as short should be seen before.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.window.front().is_some_and(|&(at, _)| at + RTT_WINDOW * 4 / 5 < now)
    }
}

/// Evidence that the path has become slower: while something waited in it all the time, too little arrived.
///
/// A stall is none: behind a lost packet nothing arrives for a while and then all at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Slower {
    since: Option<Instant>,
    samples: u32,
    best: f64,
}

impl Slower {
    /// Time and samples that make it certain.
    const TIME: Duration = Duration::from_millis(90);
    const SAMPLES: u32 = 4;

    /// While something waited, bytes came at `rate` since `from`; `expected` is what should have come. Answers with the
    /// new rate once there is no doubt.
    pub(super) fn weigh(&mut self, rate: f64, expected: f64, from: Instant, now: Instant) -> Option<f64> {
        if rate >= 0.8 * expected {
            *self = Self::default();
            return None;
        }
        let since = *self.since.get_or_insert(from);
        self.samples += 1;
        self.best = self.best.max(rate);
        let certain = self.samples >= Self::SAMPLES && now >= since + Self::TIME;
        certain.then(|| std::mem::take(self).best)
    }

    /// Nothing waited, or nothing can be said.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The same over a longer time, for paths so slow that each packet looks like a stall: something has waited ever since then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queued(Option<Progress>);

impl Queued {
    /// Something waits, or does not. Answers with the rate of deliveries once something has waited for `long`.
    pub(super) fn note(&mut self, waits: bool, progress: Progress, long: Duration) -> Option<f64> {
        if !waits {
            self.0 = None;
            return None;
        }
        let began = *self.0.get_or_insert(progress);
        let time = progress.at.saturating_duration_since(began.at);
        (time >= long).then(|| {
            self.0 = Some(progress);
            (progress.bytes - began.bytes) as f64 / time.as_secs_f64()
        })
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

/// How much more than the rate explains arrives at once: after a stall behind a lost packet, or because news is late. So
/// much has to be under way beside what the path needs, or it falls idle until there is news. After BBR's "extra acked".
#[derive(Clone, Debug, Default)]
pub(super) struct Bunches {
    began: Option<Instant>,
    bytes: f64,
    highest: Highest,
}

impl Bunches {
    pub(super) fn add(&mut self, bytes: u64, rate: f64, at: Instant, window: Duration) {
        let explained = |began: Instant| rate * at.saturating_duration_since(began).as_secs_f64();
        match self.began {
            Some(began) if self.bytes > explained(began) && at < began + window => {}
            _ => (self.began, self.bytes) = (Some(at), 0.0),
        }
        self.bytes += bytes as f64;
        let extra = self.bytes - self.began.map_or(0.0, explained);
        self.highest.add(extra, at, window);
    }

    /// So much more has to be under way, for another reason.
    pub(super) fn need(&mut self, bytes: f64, at: Instant, window: Duration) {
        self.highest.add(bytes, at, window);
    }

    pub(super) fn get(&self) -> f64 {
        self.highest.get()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Spreads what is sent over time: a little at once, and from then on no faster than the rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

impl Bucket {
    /// Time of the rate that may be sent at once.
    pub(super) const DEPTH: Duration = Duration::from_millis(30);

    /// Time has passed at this rate; at most `depth` bytes are saved up.
    pub(super) fn fill(&mut self, rate: f64, depth: f64, now: Instant) {
        self.tokens = match self.filled {
            Some(filled) => {
                (self.tokens + rate * now.saturating_duration_since(filled).as_secs_f64()).min(depth)
            }
            None => depth,
        };
        self.filled = Some(now);
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }

    pub(super) fn tokens(&self) -> f64 {
        self.tokens
    }
}
