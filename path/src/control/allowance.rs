//! What may be sent, by what is known: the bytes that may be under way, and the rate at which new ones are handed over.

use std::time::Duration;

use super::{AHEAD, Control, LOOK, LOOK_TIME, Phase};
use crate::bucket;

/// Part of the rate that is used while nothing is looked for, so that what waits leaves.
const CRUISE: f64 = 0.96;
/// Most of the rate that is given up for what waits.
const GIVE_WAY_MAX: f64 = 0.15;
/// Packets in the first window (RFC 6928), and where round trips are long: so many that what is asked for is a rate that nearly every
/// path has, bytes a second.
const INITIAL_PACKETS: f64 = 10.0;
const INITIAL_PACKETS_MAX: f64 = 32.0;
const INITIAL_RATE: f64 = 1e6 / 8.0;
/// Packets that leave together in start-up: a train, and a pair of which the acknowledgement's coming is the beginning.
const TOGETHER: f64 = 6.0;
/// Packets that the window always has room for.
pub(super) const PACKETS_MIN: f64 = 2.0;

impl Control {
    /// Bytes that may be under way.
    pub fn window(&self) -> u64 {
        let least = PACKETS_MIN * self.packet;
        let rate = self.rate();
        let (Some(round_trip), true) = (self.rtt_min(), rate > 0.0) else {
            return (INITIAL_PACKETS * self.packet) as u64;
        };
        let of = |time: Duration| rate * time.as_secs_f64();
        // Small pieces make small packets, and acknowledgements of pairs of these are sooner.
        let pair = PACKETS_MIN * self.paced_packet(rate);
        let held = of(round_trip + AHEAD) + pair;
        let window = match self.phase {
            Phase::Startup { .. } => {
                let narrowest = self.delivery.narrowest().unwrap_or(f64::INFINITY);
                let most = narrowest * (round_trip + AHEAD + LOOK).as_secs_f64() + least;
                (self.growth() * held).min(most).max(held).max(self.initial(round_trip))
            }
            Phase::Drain { .. } => 0.75 * of(round_trip),
            Phase::Cruise => held,
            Phase::Look { .. } => held + of(self.look).min(held) + self.packet,
        };
        window.max(least) as u64
    }

    /// Payload bytes a second at which new data should be handed over, in pieces as [`bucket::piece`] has them; `None`: as fast
    /// as the window allows.
    pub fn pace(&self) -> Option<f64> {
        let rate = Some(self.rate()).filter(|&rate| rate > 0.0)?;
        let round_trip = self.rtt_min()?;
        let gain = match self.phase {
            Phase::Startup { .. } => self.growth() + 0.4,
            Phase::Drain { empty: false } => 0.5,
            Phase::Drain { empty: true } => 0.75,
            Phase::Cruise => CRUISE - self.give_way(),
            Phase::Look { seen: false, .. } => 1.0 + self.look_share().min(1.0),
            Phase::Look { seen: true, .. } => 1.0,
        };
        // The first window leaves within a part of a round trip.
        let first = self.initial(round_trip) / (0.8 * round_trip.as_secs_f64()).max(1e-3);
        let pace = (gain * rate).max(first);
        let payload = (bucket::piece(pace) as f64).min(self.packet);
        Some(pace * payload / (payload + self.overhead))
    }

    /// Bytes to be handed over at once. In start-up at least as many as show the narrowest link, by arriving further apart, until that
    /// is known.
    pub(super) fn piece(&self) -> usize {
        let piece = bucket::piece(self.pace().unwrap_or(0.0));
        if self.wants_train() {
            return piece.max((TOGETHER * (self.packet - self.overhead)) as usize);
        }
        piece
    }

    /// The first window, while nothing has shown the path's rate: until then what was asked for was little, and not all it has.
    fn initial(&self, round_trip: Duration) -> f64 {
        let packets = INITIAL_RATE * round_trip.as_secs_f64() / self.packet;
        if self.fresh { packets.clamp(INITIAL_PACKETS, INITIAL_PACKETS_MAX) * self.packet } else { 0.0 }
    }

    /// A packet that carries one piece at this rate.
    fn paced_packet(&self, rate: f64) -> f64 {
        (bucket::piece(rate) as f64 + self.overhead).min(self.packet)
    }

    /// The part of the rate that is left to what waits in the path, so that it leaves: the more, the longer it takes. A rate that is
    /// taken for a little more than it is would else keep the window full, and a queue with it.
    fn give_way(&self) -> f64 {
        let round_trip = self.rtt_min().unwrap_or_default();
        let packet = self.paced_packet(self.rate()) / self.rate().max(1.0);
        let excess = self.delivery.recent_excess().as_secs_f64();
        let beyond = excess - AHEAD.as_secs_f64() / 2.0 - packet;
        (0.7 * beyond / round_trip.as_secs_f64().max(0.02)).clamp(0.0, GIVE_WAY_MAX)
    }

    /// By how much a round of start-up asks for more: what is sent now is heard of two rounds later, so doubling takes more than
    /// twice; and more still where a train has shown that there is room. Near where that has overrun a buffer, less.
    fn growth(&self) -> f64 {
        let room = self.delivery.narrowest().is_some_and(|narrowest| narrowest > 5.0 * self.rate());
        match room {
            true => 4.0,
            false if self.rate() < self.careful_below => 1.5,
            false => 2.6,
        }
    }

    /// The part of the rate that a look asks for beyond it.
    fn look_share(&self) -> f64 {
        let time = self.rtt_min().unwrap_or_default().max(LOOK_TIME);
        self.look.as_secs_f64() / time.as_secs_f64()
    }
}
