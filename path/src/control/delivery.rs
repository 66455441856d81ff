//! What acknowledgements tell of a path: how much was delivered and when, hence its rate, its round trip, and the rate of its
//! narrowest link. Every byte that is sent is remembered with what was delivered by then, so that a rate is taken over the time in
//! which it could be seen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::windowed::{Max, Min};

/// A shortest round trip that was not seen for so long is looked at again, with the path drained.
pub(super) const ROUND_TRIP_LIFE: Duration = Duration::from_secs(10);
/// Packets of a train that tells the rate of the narrowest link; those whose acknowledgement is the first come before them.
const TRAIN_PACKETS: f64 = 4.0;
/// Weight of the newest train among them.
const NEWEST: f64 = 0.25;
/// A rate so much above that of the narrowest link shows that it was not that link's.
const NARROWER: f64 = 1.15;
/// Round trips whose shortest tells whether something waits now.
const RECENT: usize = 5;
/// Sendings remembered.
const LOG_MAX: usize = 16384;

/// The deliveries of one connection, and what follows from them.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// Bytes that the path carries beside each packet.
    below: u64,
    delivered: u64,
    delivered_at: Option<Instant>,
    first_sent_at: Option<Instant>,
    log: VecDeque<Sending>,
    /// What is sent leaves at once: that it arrives apart is the path's doing, then and later.
    pub(super) leaves_at_once: bool,
    pub(super) rates: Max,
    pub(super) round_trip: Min,
    /// The last few round trips.
    recent: [Duration; RECENT],
    acks: Acks,
    train: Train,
}

/// Bytes that were sent at one moment, and what was known then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) at: Instant,
    pub(super) delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// There was room for more.
    limited: bool,
}

/// Acknowledgements that came together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acks {
    pub(super) newest: Option<Sending>,
    pub(super) bytes: u64,
    pub(super) packets: u32,
}

/// How packets that left together arrive apart.
#[derive(Clone, Debug, Default)]
struct Train {
    /// When acknowledgements came, when what they acknowledge was sent, and bytes.
    acks: VecDeque<(Instant, Instant, u64)>,
    /// The rate of the narrowest link as the newest acknowledgements show it; not those of what is paced, which arrives as it left.
    shown: Option<f64>,
    /// The mean of what was shown, the newest most.
    narrowest: Option<f64>,
}

impl Delivery {
    /// Of a path of which nothing is known, and which carries so many bytes beside each packet.
    pub(super) fn new(below: u64) -> Self {
        Self {
            below,
            delivered: 0,
            delivered_at: None,
            first_sent_at: None,
            log: VecDeque::new(),
            leaves_at_once: true,
            rates: Max::default(),
            round_trip: Min::default(),
            recent: [Duration::ZERO; RECENT],
            acks: Acks::default(),
            train: Train::default(),
        }
    }

    /// Nothing was under way until now, so that time before it tells of no rate.
    pub(super) fn begin(&mut self, now: Instant) {
        // Nor does it make the shortest round trip old: none could be seen.
        let idle = self.delivered_at.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        self.round_trip.postpone(idle);
        (self.first_sent_at, self.delivered_at) = (Some(now), Some(now));
        self.train.acks.clear();
    }

    /// Something was sent. `limited`: there was room for more.
    pub(super) fn sent(&mut self, limited: bool, now: Instant) {
        match self.log.back_mut().filter(|last| last.at == now) {
            Some(last) => last.limited &= limited,
            None => self.log.push_back(Sending {
                at: now,
                delivered: self.delivered,
                delivered_at: self.delivered_at.unwrap_or(now),
                first_sent_at: self.first_sent_at.unwrap_or(now),
                limited,
            }),
        }
        if self.log.len() > LOG_MAX {
            self.log.pop_front();
        }
    }

    /// A packet that was sent then is acknowledged, one of those that [`Delivery::take`] gives together.
    pub(super) fn acknowledge(&mut self, sent: Instant, bytes: u64) {
        self.delivered += bytes + self.below;
        self.acks.bytes += bytes + self.below;
        self.acks.packets += 1;
        let at = self.log.partition_point(|sending| sending.at < sent);
        let Some(&sending) = self.log.get(at).filter(|sending| sending.at == sent) else { return };
        if self.acks.newest.is_none_or(|newest| newest.at < sent) {
            self.acks.newest = Some(sending);
        }
    }

    /// The acknowledgements since the last time.
    pub(super) fn take(&mut self) -> Acks {
        std::mem::take(&mut self.acks)
    }

    /// Learns from acknowledgements, the newest of which is of this sending: the round trip that it took. Packets are at most so
    /// many bytes.
    pub(super) fn learn(&mut self, sending: Sending, acks: Acks, packet: f64, now: Instant) -> Duration {
        self.train.add(sending.at, acks, packet, self.leaves_at_once, now);
        let rtt = now.saturating_duration_since(sending.at);
        self.sample(sending, rtt, acks.packets, now);
        self.first_sent_at = Some(sending.at);
        let remembered = 2 * self.round_trip.get().unwrap_or_default() + Duration::from_secs(1);
        while self.log.front().is_some_and(|old| old.at + remembered < sending.at) {
            self.log.pop_front();
        }
        rtt
    }

    /// All acknowledgements that are here have been taken in.
    pub(super) fn heard(&mut self, now: Instant) {
        self.delivered_at = Some(now);
    }

    fn sample(&mut self, sending: Sending, rtt: Duration, packets: u32, now: Instant) {
        self.recent.rotate_right(1);
        self.recent[0] = rtt;
        // A lone packet's acknowledgement may have been delayed: such a round trip can be too long, not too short.
        if packets > 1 || self.round_trip.get().is_none_or(|before| rtt < before) {
            self.round_trip.add(rtt, now);
        }
        let round_trip = self.round_trip.get().unwrap_or(rtt);
        let to_deliver = now.saturating_duration_since(sending.delivered_at);
        let to_send = sending.at.saturating_duration_since(sending.first_sent_at);
        let elapsed = to_deliver.max(to_send).max(round_trip.mul_f64(0.9)).max(Duration::from_micros(100));
        let rate = (self.delivered - sending.delivered) as f64 / elapsed.as_secs_f64();
        if sending.limited && rate <= self.rates.get() {
            return;
        }
        let window = (10 * round_trip).clamp(Duration::from_millis(200), ROUND_TRIP_LIFE);
        self.rates.add(rate, now, window);
        // Packets that something held up on their way arrive apart too.
        self.train.narrowest.take_if(|narrowest| rate > NARROWER * *narrowest);
    }

    /// What is being taken in says nothing of the path as it is now.
    pub(super) fn forget_acks(&mut self) {
        self.acks = Acks::default();
        self.train = Train::default();
    }

    /// The narrowest link is another one now, or has another rate.
    pub(super) fn forget_narrowest(&mut self) {
        self.train = Train::default();
    }

    /// Bytes that have been delivered in all.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes a second that the path has shown to carry; 0: unknown.
    pub(super) fn rate(&self) -> f64 {
        self.rates.get()
    }

    /// The rate of the narrowest link as a train shows it that is arriving.
    pub(super) fn shown(&self) -> Option<f64> {
        self.train.shown
    }

    /// The rate of the narrowest link, if trains have shown it or one does.
    pub(super) fn narrowest(&self) -> Option<f64> {
        self.train.narrowest.or(self.train.shown)
    }

    /// How much longer than the shortest round trip this one is.
    pub(super) fn excess(&self, rtt: Duration) -> Duration {
        rtt.saturating_sub(self.round_trip.get().unwrap_or(rtt))
    }

    /// By how much even the quickest of the last few acknowledgements came late.
    pub(super) fn recent_excess(&self) -> Duration {
        self.excess(self.recent.iter().min().copied().unwrap_or_default())
    }
}

impl Train {
    /// Takes acknowledgements in: the narrowest link's rate, whatever waits before it, to be kept or not.
    fn add(&mut self, sent: Instant, acks: Acks, packet: f64, keeps: bool, now: Instant) {
        let train = &mut self.acks;
        if acks.packets < 2 {
            // It may have been delayed, which says nothing of the link.
            return train.clear();
        }
        train.push_back((now, sent, acks.bytes));
        let mut sum: u64 = train.iter().skip(1).map(|&(_, _, bytes)| bytes).sum();
        while train.len() > 2 && (sum - train[1].2) as f64 >= TRAIN_PACKETS * packet {
            sum -= train[1].2;
            train.pop_front();
        }
        if (sum as f64) < TRAIN_PACKETS * packet {
            return;
        }
        let (first, last) = (train[0], train[train.len() - 1]);
        let (arrived, left) = (last.0 - first.0, last.1.saturating_duration_since(first.1));
        let spread = arrived.as_secs_f64() > 1.5 * left.as_secs_f64() && arrived > Duration::from_micros(200);
        self.shown = spread.then(|| sum as f64 / arrived.as_secs_f64());
        if let Some(shown) = self.shown.filter(|_| keeps) {
            self.narrowest = Some(self.narrowest.map_or(shown, |known| known + NEWEST * (shown - known)));
        }
    }
}
