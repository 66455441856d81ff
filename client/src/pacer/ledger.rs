//! What was sent when and what has arrived since: the samples that estimates are made from.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One call of [`Ledger::sent`], with what BBR's rate sample needs to know of that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    /// Bytes of the lane before and after it.
    pub start: u64,
    pub end: u64,
    pub at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// The path could have taken more.
    pub limited: bool,
    /// The part of the path that the lane had then.
    pub share: f64,
}

/// How far deliveries had come at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Progress {
    pub bytes: u64,
    pub at: Instant,
}

/// What a delivery says of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub progress: Progress,
    /// The sending that arrived last, and how long it took.
    pub sending: Sending,
    pub rtt: Duration,
    /// Bytes delivered while one sending was under way, over the longer of the times that sending and delivering took.
    pub rate: f64,
    /// The rate of deliveries while something waited in the path all the time, and since when: the bottleneck's own.
    pub busy: Option<(f64, Instant)>,
    /// Bytes that arrived with it.
    pub bytes: u64,
    /// How long nothing had arrived although it should have, if long enough to be no accident; else zero.
    pub silent: Duration,
}

/// Deliveries closer together than this say nothing of the rate between them.
const SPAN_MIN: Duration = Duration::from_millis(12);
/// Deliveries further apart need not be compared.
const SPAN_MAX: Duration = Duration::from_millis(200);
/// Nothing for so long, although something is due, is a stall.
const STALL: Duration = Duration::from_millis(80);
/// And so many bytes, which are three packets.
const STALL_PACKETS: f64 = 4500.0;
/// What came late after a stall comes within this time.
const AFTER_STALL: Duration = Duration::from_millis(20);
/// Sendings remembered after they arrived, for another subscriber that is behind.
const KEPT_MAX: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    sent: u64,
    delivered: u64,
    sendings: VecDeque<Sending>,
    progress: VecDeque<Progress>,
    first_sent_at: Option<Instant>,
    delivered_at: Option<Instant>,
    /// What was due before then waited for a lost packet, not for the bottleneck.
    stalled_until: Option<Instant>,
}

impl Ledger {
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.delivered
    }

    /// The lane has been given `total` bytes, more than before.
    pub(super) fn send(&mut self, total: u64, limited: bool, share: f64, now: Instant) {
        if self.in_flight() == 0 {
            self.first_sent_at = Some(now);
            self.delivered_at = Some(now);
            self.progress.clear();
            self.progress.push_back(Progress { bytes: self.delivered, at: now });
        }
        self.sendings.push_back(Sending {
            start: self.sent,
            end: total,
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            first_sent_at: self.first_sent_at.unwrap_or(now),
            limited,
            share,
        });
        self.sent = total;
        while self.sendings.len() > KEPT_MAX && self.sendings[0].end <= self.delivered {
            self.sendings.pop_front();
        }
    }

    /// Whatever is to be delivered counts from here: another subscriber, whose place is this.
    pub(super) fn turn_to(&mut self, delivered: u64) {
        self.delivered = delivered.min(self.sent);
        self.progress.clear();
        self.first_sent_at = None;
        self.delivered_at = None;
        self.stalled_until = None;
        for sending in &mut self.sendings {
            // Rates that were counted for another are none for this one.
            sending.limited = true;
            (sending.delivered, sending.delivered_at) = (sending.start, sending.at);
            sending.first_sent_at = sending.at;
        }
    }

    /// The sending that holds the byte before `bytes`.
    fn holding(&self, bytes: u64) -> Option<Sending> {
        let at = self.sendings.partition_point(|sending| sending.end < bytes);
        self.sendings.get(at).copied().filter(|sending| sending.start < bytes)
    }

    /// Bytes sent since a time.
    pub(super) fn sent_since(&self, since: Instant) -> u64 {
        let from = self.sendings.partition_point(|sending| sending.at < since);
        self.sendings.get(from).map_or(0, |sending| self.sent - sending.start)
    }

    /// How long ago what is due next was sent; `None`: all has arrived.
    pub(super) fn lag(&self, now: Instant) -> Option<Duration> {
        let next = self.holding(self.delivered + 1)?;
        Some(now.saturating_duration_since(next.at))
    }

    /// All before `delivered` had arrived at `at`, over a path of which this much is known. `None`: no news, or nothing is known of the sending.
    pub(super) fn deliver(
        &mut self,
        delivered: u64,
        at: Instant,
        rtt_min: Option<Duration>,
        rate: f64,
    ) -> Option<Sample> {
        let delivered = delivered.min(self.sent);
        if delivered <= self.delivered {
            return None;
        }
        let at = self.delivered_at.map_or(at, |before| at.max(before));
        let next = self.holding(self.delivered + 1);
        let Some(sending) = self.holding(delivered) else {
            self.delivered = delivered;
            self.delivered_at = Some(at);
            return None;
        };
        let rtt = at.saturating_duration_since(sending.at);
        let rtt_min = rtt_min.unwrap_or(rtt).min(rtt);
        let bytes = delivered - self.delivered;
        let silent = self.progress.back().map_or(Duration::ZERO, |last| {
            let due = next.map_or(last.at, |next| (next.at + rtt_min).max(last.at));
            at.saturating_duration_since(due)
        });
        // On a slow path packets are far apart.
        let stall = if rate > 0.0 { STALL.max(Duration::from_secs_f64(STALL_PACKETS / rate)) } else { STALL };
        let silent = if silent > stall { silent } else { Duration::ZERO };
        if silent > Duration::ZERO {
            self.progress.clear();
            self.stalled_until = Some(at + AFTER_STALL);
        }
        self.delivered = delivered;
        self.delivered_at = Some(at);
        let progress = Progress { bytes: delivered, at };
        let rate = if delivered > sending.delivered {
            let to_deliver = at.saturating_duration_since(sending.delivered_at);
            let to_send = sending.at.saturating_duration_since(sending.first_sent_at);
            let elapsed = to_deliver.max(to_send).max(Duration::from_millis(1));
            (delivered - sending.delivered) as f64 / elapsed.as_secs_f64()
        } else {
            0.0
        };
        let busy = self.busy(progress, sending.at + rtt_min);
        self.first_sent_at = Some(sending.at);
        self.progress.push_back(progress);
        while self.progress.front().is_some_and(|oldest| oldest.at + SPAN_MAX < at) {
            self.progress.pop_front();
        }
        Some(Sample { progress, sending, rtt, rate, busy, bytes, silent })
    }

    /// The rate from the earliest news by which all of `progress` had come to wait already: it was `due` by then.
    fn busy(&self, progress: Progress, due: Instant) -> Option<(f64, Instant)> {
        if self.stalled_until.is_some_and(|until| due < until) {
            return None;
        }
        let from = self.progress.iter().find(|earlier| earlier.at >= due)?;
        let span = progress.at.saturating_duration_since(from.at);
        (span >= SPAN_MIN).then(|| ((progress.bytes - from.bytes) as f64 / span.as_secs_f64(), from.at))
    }
}
