//! How many bytes may be under way at once, so that the path is used and next to nothing waits in it. Plain data: time comes in
//! as an argument.
//!
//! The path is known by two numbers: the largest rate at which it delivered of late, and the shortest round trip. The window is
//! their product, [`AHEAD`] more, and a little for acknowledgements that come in pairs. What differs from BBR, which shares the
//! idea, is that a queue is never made to find something out: start-up ends at the first sign of one, goes no further than what the
//! first packets showed of the narrowest link, by arriving further apart than they left, and the look for a faster path is [`LOOK`] at
//! most, doubled while it succeeds.
//!
//! - **Random loss** changes nothing; a tenth of a round lost does.
//! - **A queue that stands** (even the quickest acknowledgement of a round came late) means a slower path: the newest rate counts
//!   and the window is drained. A queue that stays after that is not ours: the round trip is longer now.
//! - **What left room** in the window can only raise the rate.

mod allowance;
mod delivery;

use std::time::{Duration, Instant};

use crate::state::State;

use allowance::PACKETS_MIN;
use delivery::{Delivery, ROUND_TRIP_LIFE, Sending};

/// Time of the path's rate beyond its round trip that may be under way.
pub const AHEAD: Duration = Duration::from_millis(4);
/// Time of the path's rate that a look for a faster path adds at first.
pub const LOOK: Duration = Duration::from_millis(5);
/// Shortest time between two looks for a faster path, and the round trips between them.
const LOOK_EVERY: Duration = Duration::from_millis(400);
const LOOK_ROUNDS: u32 = 6;
/// Shortest time that a look takes, and that is then looked at.
const LOOK_TIME: Duration = Duration::from_millis(40);
/// Share of a round's bytes whose loss means congestion.
const LOSS_MAX: f64 = 0.1;
/// Packets under way that make no queue; how much later than what they explain even the quickest acknowledgement must come, a
/// delayed one's delay included; and for how many rounds, so that a longer way is believed.
const LITTLE_PACKETS: f64 = 4.0;
const LATE: Duration = Duration::from_millis(40);
const LONG_ROUNDS: u8 = 4;
/// How often start-up goes on after losses that could be a short buffer's.
const EARLY_LOSSES_MAX: u8 = 3;
/// Silence beyond four round trips that is a black-out.
const BLACK_OUT: Duration = Duration::from_millis(300);

/// What one end knows of the path of one connection.
#[derive(Clone, Debug)]
pub struct Control {
    /// Largest packet.
    packet: f64,
    /// Bytes of a packet that are no payload; those of them that are not in what is called its bytes here.
    overhead: f64,
    in_flight: u64,
    delivery: Delivery,
    round: Round,
    phase: Phase,
    /// Start-up has not ended yet, nor anything been lost by it.
    fresh: bool,
    /// Rounds in a row with a queue that stood.
    standing: u8,
    /// Rounds in a row that took long although next to nothing was under way.
    long: u8,
    /// Drains in a row that a path which became slower still has made necessary.
    drains: u8,
    /// The rate before the first of them.
    rate_before: f64,
    /// Time of the rate that the next look adds.
    look: Duration,
    looked_at: Option<Instant>,
    /// How often start-up has ended by losses, and whether it goes on after the drain that follows.
    early_losses: u8,
    starts_again: bool,
    /// Up to this rate start-up asks for less at once: it asked for three times what it knew, so if that was too much, the path
    /// carries less than this.
    careful_below: f64,
    /// Since when nothing was acknowledged, while something is under way.
    silent_since: Option<Instant>,
    /// When the path was back after a black-out. What was sent before says nothing of it.
    resumed_at: Option<Instant>,
    /// All that was ever sent.
    sent: u64,
}

/// What was seen since the round began.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    began: Option<Instant>,
    /// It ends with what is sent after this much was delivered.
    ends: u64,
    delivered: u64,
    lost: u64,
    /// The quickest round trip of several acknowledgements.
    quickest: Option<Duration>,
    samples: u32,
    /// The window was full at some time.
    full: bool,
    /// Most bytes that were under way.
    most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Doubling every round, until something waits or the rate stays.
    Startup { best: f64, flat: u8 },
    /// Letting what waits leave; then, for a whole round, seeing what the empty path is like.
    Drain { empty: bool },
    /// At the known rate.
    Cruise,
    /// Asking for a little more, for a round; what came of it shows in the next.
    Look { seen: bool, before: f64 },
}

impl Control {
    /// An unknown path, with packets of this many bytes at most, so many of which are no payload. `below` are bytes that the path
    /// carries beside each packet: they are in its rate.
    pub fn new(packet: u16, overhead: u16, below: u16) -> Self {
        Self {
            packet: f64::from(packet),
            overhead: f64::from(overhead + below),
            in_flight: 0,
            delivery: Delivery::new(below.into()),
            round: Round::default(),
            phase: Phase::Startup { best: 0.0, flat: 0 },
            fresh: true,
            standing: 0,
            long: 0,
            drains: 0,
            rate_before: 0.0,
            early_losses: 0,
            starts_again: false,
            careful_below: 0.0,
            look: LOOK,
            looked_at: None,
            silent_since: None,
            resumed_at: None,
            sent: 0,
        }
    }

    /// Over a transport that sends what it was given when it likes: how far apart that arrives says nothing lasting of the path.
    pub fn over_kernel(mut self) -> Self {
        self.delivery.leaves_at_once = false;
        self
    }

    /// The largest packet has this many bytes now.
    pub fn set_packet(&mut self, bytes: u16) {
        self.packet = f64::from(bytes);
    }

    /// Bytes were sent.
    pub fn sent(&mut self, bytes: u64, now: Instant) {
        if self.in_flight == 0 {
            self.delivery.begin(now);
            self.silent_since = Some(now);
        }
        self.in_flight += bytes;
        self.sent += bytes;
        let full = self.in_flight as f64 + 2.0 * self.packet >= self.window() as f64;
        self.round.full |= full;
        self.round.most = self.round.most.max(self.in_flight);
        self.delivery.sent(!full, now);
    }

    /// Bytes that were sent then are acknowledged. To be followed by [`Control::acknowledged`] once for all that are.
    pub fn acknowledge(&mut self, sent: Instant, bytes: u64) {
        self.delivery.acknowledge(sent, bytes);
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// That was all that is acknowledged now; so many bytes are still under way.
    pub fn acknowledged(&mut self, in_flight: u64, now: Instant) {
        self.in_flight = in_flight;
        let silence = self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if self.was_black_out(silence) {
            self.resume(now);
        }
        self.silent_since = (in_flight > 0).then_some(now);
        let acks = self.delivery.take();
        self.round.delivered += acks.bytes;
        if let Some(sending) = acks.newest.filter(|sending| self.resumed_at.is_none_or(|at| sending.at >= at))
        {
            let rtt = self.delivery.learn(sending, acks, self.packet, now);
            self.round.samples += acks.packets;
            self.round.quickest = Some(self.round.quickest.map_or(rtt, |quickest| quickest.min(rtt)));
            self.advance(sending, now);
        }
        self.delivery.heard(now);
    }

    /// Bytes were lost. `all`: everything that was sent over a longer time.
    pub fn lost(&mut self, bytes: u64, all: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.round.lost += bytes;
        if all {
            // The path was gone. What it carries now is anybody's guess, but hardly more than before.
            let rate = self.rate() / 2.0;
            self.delivery.rates.set(rate, now);
            self.delivery.forget_acks();
            self.phase = Phase::Startup { best: rate, flat: 0 };
            (self.fresh, self.careful_below) = (false, 0.0);
            self.round = Round { began: Some(now), ends: self.delivery.delivered(), ..Round::default() };
        }
    }

    /// The path is back after a black-out, as far as anybody knows as it was.
    pub fn resume(&mut self, now: Instant) {
        self.delivery.rates.set(self.rate(), now);
        self.delivery.forget_acks();
        self.standing = 0;
        self.resumed_at = Some(now);
        self.next_round(now);
    }

    /// Whether so long a silence was none of the path's ordinary doings.
    pub fn was_black_out(&self, silence: Duration) -> bool {
        silence > BLACK_OUT + 4 * self.rtt_min().unwrap_or(BLACK_OUT)
    }

    /// Something that stood in the way is gone: the path may carry more than it has shown.
    pub fn start_again(&mut self) {
        self.phase = Phase::Startup { best: self.rate(), flat: 0 };
    }

    /// Whether something that leaves together would tell the rate of the narrowest link, of which nothing is known.
    fn wants_train(&self) -> bool {
        self.fresh && self.delivery.leaves_at_once && self.delivery.narrowest().is_none()
    }

    /// Bytes a second that the path has shown to carry; 0: unknown.
    pub fn rate(&self) -> f64 {
        self.delivery.rate()
    }

    /// The shortest round trip of late.
    pub fn rtt_min(&self) -> Option<Duration> {
        self.delivery.round_trip.get()
    }

    /// Bytes under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What is known now.
    pub fn state(&self) -> State {
        State {
            rate: self.rate(),
            rtt_min: self.rtt_min().unwrap_or_default(),
            window: self.window(),
            in_flight: self.in_flight,
            unsent: 0,
            pace: self.pace().unwrap_or(0.0),
            piece: self.piece(),
            sent: self.sent,
            silent_since: self.silent_since.filter(|_| self.in_flight > 0),
        }
    }

    /// Time that so many packets take.
    fn time_of(&self, packets: f64) -> Duration {
        let rate = self.rate();
        if rate > 0.0 {
            Duration::from_secs_f64((packets * self.packet / rate).min(10.0))
        } else {
            Duration::ZERO
        }
    }

    /// Moves on, after acknowledgements.
    fn advance(&mut self, sending: Sending, now: Instant) {
        let began = *self.round.began.get_or_insert(now);
        let round_trip = self.rtt_min().unwrap_or_default();
        let elapsed = now.saturating_duration_since(began);
        if self.phase == (Phase::Drain { empty: false }) && self.in_flight <= self.window() {
            self.phase = Phase::Drain { empty: true };
            return self.next_round(now);
        }
        // Over a few packets a look shows nothing.
        let short = matches!(self.phase, Phase::Look { .. }) && elapsed < LOOK_TIME;
        let over = sending.delivered >= self.round.ends && !short;
        // Where a queue makes rounds longer, what it says is heard before they end.
        let late = elapsed >= round_trip.mul_f64(1.5) + Duration::from_millis(20) && self.round.samples >= 4;
        let growing = match self.phase {
            Phase::Startup { .. } => true,
            Phase::Look { .. } => self.look > LOOK,
            _ => false,
        };
        let looks = self.phase == Phase::Cruise && self.may_look(now);
        if growing && self.round.samples >= 4 && self.has_queue() {
            self.look = LOOK;
            // A burst that overran a short buffer delivered little, but has shown the narrowest link.
            if let (Phase::Startup { .. }, Some(narrowest)) = (self.phase, self.delivery.shown()) {
                let rate = self.rate();
                self.delivery.rates.set(rate.max((0.9 * narrowest).min(4.0 * rate)), now);
            }
            (self.phase, self.fresh) = (Phase::Drain { empty: false }, false);
            self.next_round(now);
        } else if over || late {
            self.end_of_round(elapsed, now);
            self.next_round(now);
        }
        // At a low rate every acknowledgement ends a round.
        if looks && self.phase == Phase::Cruise {
            self.looked_at = Some(now);
            self.phase = Phase::Look { seen: false, before: self.rate() };
            self.next_round(now);
        }
    }

    fn next_round(&mut self, now: Instant) {
        self.round = Round { began: Some(now), ends: self.delivery.delivered(), ..Round::default() };
    }

    /// Whether something waits on the path now: all of the last few acknowledgements came late, by more than what is sent at once
    /// explains.
    pub fn has_queue(&self) -> bool {
        let round_trip = self.rtt_min().unwrap_or_default();
        let explained = match self.phase {
            Phase::Startup { .. } => AHEAD.max(round_trip / 8).min(Duration::from_millis(15)),
            _ => AHEAD + LOOK + self.time_of(1.0),
        };
        self.delivery.recent_excess() > explained + self.time_of(PACKETS_MIN)
    }

    /// Whether it is time, and the window is what holds us back.
    fn may_look(&self, now: Instant) -> bool {
        let every = LOOK_EVERY.max(LOOK_ROUNDS * self.rtt_min().unwrap_or_default());
        let due = self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= every);
        // Just before acknowledgements came, not after.
        let most = self.round.most.max(self.in_flight) as f64;
        due && most >= 0.7 * self.rate() * self.rtt_min().unwrap_or_default().as_secs_f64()
    }

    fn end_of_round(&mut self, elapsed: Duration, now: Instant) {
        let Round { delivered, lost, quickest, full, samples, most, .. } = self.round;
        let delivery = delivered as f64 / elapsed.as_secs_f64().max(1e-4);
        let all = (delivered + lost) as f64;
        // Little under way makes no queue: what came late then was acknowledged late.
        let round_trip = self.rtt_min().unwrap_or_default().as_secs_f64();
        let enough = samples > 1 && most as f64 >= 0.7 * self.rate() * round_trip;
        let stands =
            enough && quickest.is_some_and(|quickest| self.delivery.excess(quickest) > self.may_stand());
        let draining = matches!(self.phase, Phase::Drain { .. });
        // A round of start-up has few packets, of which chance may take three.
        let most = if matches!(self.phase, Phase::Startup { .. }) { 2.5 * LOSS_MAX } else { LOSS_MAX };
        if lost as f64 > (most * all).max(3.0 * self.packet) && !draining {
            // With a queue, what arrived is what the path carries; without one, most of it may still be ours to have.
            let least = if stands { 0.0 } else { 0.7 * self.rate() };
            // A burst that a short buffer had no room for says little of the rate: start-up is to find that.
            self.starts_again =
                matches!(self.phase, Phase::Startup { .. }) && self.early_losses < EARLY_LOSSES_MAX;
            self.early_losses += u8::from(self.starts_again);
            self.slow_down((0.9 * delivery).max(least), now);
            return;
        }
        if let Some(quickest) = quickest
            && self.is_longer(quickest, self.round.most)
        {
            return self.believe(quickest, now);
        }
        self.standing = if stands { self.standing + 1 } else { 0 };
        match self.phase {
            Phase::Startup { best, flat } => {
                let rate = self.rate();
                let flat = if rate >= 1.2 * best { 0 } else { flat + u8::from(full) };
                self.fresh &= flat < 3;
                self.phase =
                    if flat >= 3 { Phase::Cruise } else { Phase::Startup { best: best.max(rate), flat } };
            }
            Phase::Drain { empty: true } if stands && delivery < 0.65 * self.rate() && self.drains < 2 => {
                self.drains += 1;
                // Over a few packets a rate is a guess.
                self.slow_down(delivery.max(0.5 * self.rate()), now);
            }
            Phase::Drain { empty: true } => self.drained(quickest, now),
            Phase::Drain { empty: false } => {}
            _ if self.standing >= 2 || (stands && self.jammed()) => self.slow_down(delivery, now),
            _ if stands => {}
            Phase::Look { seen: false, before } => self.phase = Phase::Look { seen: true, before },
            Phase::Look { seen: true, before } => self.looked(before, quickest, now),
            Phase::Cruise if self.delivery.round_trip.age(now) > ROUND_TRIP_LIFE => {
                self.phase = Phase::Drain { empty: false };
            }
            Phase::Cruise => {}
        }
    }

    /// Whether the way has become longer: for several rounds even the quickest round trip was late, with so little under way at
    /// most that it can be no queue of ours.
    fn is_longer(&mut self, quickest: Duration, most: u64) -> bool {
        let little = most as f64 <= LITTLE_PACKETS * self.packet;
        let explained = 2 * AHEAD + LOOK + self.time_of(3.0).min(LATE);
        let late = self.delivery.excess(quickest) > explained + LATE;
        self.long = if little && late { self.long + 1 } else { 0 };
        self.long >= LONG_ROUNDS
    }

    /// The way is longer now, and it was not our queue that made rounds long.
    fn believe(&mut self, quickest: Duration, now: Instant) {
        (self.long, self.standing) = (0, 0);
        self.delivery.round_trip.set(quickest, now);
        self.delivery.forget_narrowest();
        let rate = self.rate().max(0.5 * self.rate_before);
        self.delivery.rates.set(rate, now);
        self.phase = Phase::Startup { best: rate, flat: 0 };
    }

    /// The path carries no more than this.
    fn slow_down(&mut self, rate: f64, now: Instant) {
        if self.drains == 0 {
            self.rate_before = self.rate();
        }
        if !matches!(self.phase, Phase::Startup { .. }) {
            self.delivery.forget_narrowest();
        }
        self.standing = 0;
        self.look = LOOK;
        self.delivery.rates.set(rate.min(self.rate()), now);
        (self.phase, self.fresh) = (Phase::Drain { empty: false }, false);
    }

    /// Whether so much waits that one round is enough to believe it.
    fn jammed(&self) -> bool {
        self.delivery.recent_excess() > 4 * self.may_stand()
    }

    /// Longest wait in the path that is our own doing.
    fn may_stand(&self) -> Duration {
        let look = if matches!(self.phase, Phase::Look { .. }) { self.look } else { LOOK };
        2 * AHEAD + look + self.time_of(3.0) + self.rtt_min().unwrap_or_default() / 16
    }

    /// The path had room for a round: what waits there now is not ours.
    fn drained(&mut self, quickest: Option<Duration>, now: Instant) {
        (self.standing, self.drains) = (0, 0);
        self.looked_at = Some(now);
        self.phase = Phase::Cruise;
        if std::mem::take(&mut self.starts_again) {
            self.careful_below = 2.5 * self.rate();
            self.phase = Phase::Startup { best: self.rate(), flat: 0 };
        }
        let Some(quickest) = quickest else { return };
        let packets = Duration::from_secs_f64(3.0 * self.packet / self.rate_before.max(self.packet));
        let ours = 2 * AHEAD + LOOK + packets + self.rtt_min().unwrap_or_default() / 16;
        if self.delivery.excess(quickest) > ours {
            self.believe(quickest, now);
        } else if self.delivery.round_trip.age(now) > ROUND_TRIP_LIFE {
            self.delivery.round_trip.set(quickest, now);
        }
    }

    /// What the look has shown.
    fn looked(&mut self, before: f64, quickest: Option<Duration>, now: Instant) {
        let waits = quickest.map_or(Duration::ZERO, |quickest| self.delivery.excess(quickest));
        let gained = self.rate() / before.max(1.0) - 1.0;
        let hoped = self.look.as_secs_f64() / self.rtt_min().unwrap_or_default().as_secs_f64().max(1e-3);
        let found = gained > 0.5 * hoped.min(0.25) && waits < AHEAD + self.look / 2 + self.time_of(1.0);
        if found {
            self.look *= 2;
            self.phase = Phase::Look { seen: false, before: self.rate() };
        } else {
            self.look = LOOK;
            self.looked_at = Some(now);
            self.phase = Phase::Cruise;
        }
    }
}
