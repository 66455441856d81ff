//! One direction of an impaired link as plain data: a bounded drop-tail buffer, a transmitter of a given rate, and a line
//! with delay, jitter and loss.
//!
//! No socket, no clock, no thread: packets and clock readings go in, packets and a deadline come out. The same packets at
//! the same moments with the same seed always have the same fate.
//!
//! A packet waits in the buffer until the transmitter has sent everything before it, takes `8 × length / rate` to be sent,
//! then travels for the delay (± jitter). Loss strikes on the line, so a lost packet has used its share of the rate, as
//! on a real radio link. Packets never overtake one another.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A packet as the network layer hands it over, its header included: these are the bytes that the rate counts.
pub type Packet = Box<[u8]>;

/// Bits per second, never zero: a link that carries nothing is a blackout, not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// The rate of so many bits per second, or `None` for zero.
    #[must_use]
    pub const fn from_bits_per_second(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Bits per second.
    #[must_use]
    pub const fn bits_per_second(self) -> u64 {
        self.0.get()
    }

    /// How long the transmitter is busy with so many bytes.
    #[must_use]
    pub fn time_for(self, bytes: usize) -> Duration {
        Duration::from_nanos(scale(bytes as u64 * 8, 1_000_000_000, self.0))
    }
}

/// How much the buffer before the transmitter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// So many bytes.
    Bytes(u64),
    /// As many bytes as the transmitter sends in this time at its present rate.
    Time(Duration),
}

impl Buffer {
    /// The limit in bytes at a rate.
    #[must_use]
    pub fn bytes_at(self, rate: Rate) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Time(time) => {
                let bits = u128::from(rate.bits_per_second()) * time.as_nanos() / 1_000_000_000;
                u64::try_from(bits / 8).unwrap_or(u64::MAX)
            }
        }
    }
}

/// What one direction is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What the transmitter sends in a second.
    pub rate: Rate,
    /// Travel time of a packet once it is sent.
    pub delay: Duration,
    /// The delay of each packet is drawn evenly from `delay − jitter ..= delay + jitter`, but never overtakes.
    pub jitter: Duration,
    /// Share of packets lost on the line, 0.0 to 1.0, each on its own.
    pub loss: f64,
    /// Room for what waits. A packet is always admitted when nothing else waits, or a tiny buffer would pass nothing.
    pub buffer: Buffer,
}

/// What happened to a packet offered to [`Way::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits to be sent.
    Queued,
    /// The buffer was full.
    Dropped,
}

/// What a direction has done since it began. `packets_in` = delivered + every kind of loss + what is still under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets offered.
    pub packets_in: u64,
    /// Bytes offered.
    pub bytes_in: u64,
    /// Packets that came out.
    pub packets_delivered: u64,
    /// Bytes that came out.
    pub bytes_delivered: u64,
    /// Packets that found the buffer full.
    pub dropped_by_buffer: u64,
    /// Packets that the line lost by chance.
    pub lost_by_chance: u64,
    /// Packets that were sent into a blackout.
    pub lost_in_blackout: u64,
    /// The fullest that the buffer has been, in bytes, the packet in transmission included.
    pub queued_bytes_max: u64,
}

/// One direction of a link. After every call, [`Way::deadline`] says when [`Way::pop`] is worth calling next.
#[derive(Debug)]
pub struct Way {
    shape: Shape,
    random: StdRng,
    blackout: bool,
    /// The packet in transmission and those behind it; the first is done at `first_sent_at`.
    queue: VecDeque<Waiting>,
    first_sent_at: Instant,
    queued_bytes: u64,
    /// Packets on the line in order of arrival.
    line: VecDeque<Travelling>,
    last_arrival: Instant,
    counters: Counters,
    queue_delay_us: Histogram<u64>,
    lateness_us: Histogram<u64>,
}

#[derive(Debug)]
struct Waiting {
    packet: Packet,
    since: Instant,
}

#[derive(Debug)]
struct Travelling {
    packet: Packet,
    arrives_at: Instant,
}

impl Way {
    /// An empty direction; `seed` fixes which packets are lost and how the delay varies.
    #[must_use]
    pub fn new(shape: Shape, seed: u64, now: Instant) -> Self {
        Self {
            shape,
            random: StdRng::seed_from_u64(seed),
            blackout: false,
            queue: VecDeque::new(),
            first_sent_at: now,
            queued_bytes: 0,
            line: VecDeque::new(),
            last_arrival: now,
            counters: Counters::default(),
            queue_delay_us: microseconds(),
            lateness_us: microseconds(),
        }
    }

    /// Offers a packet at the sender's end.
    pub fn push(&mut self, now: Instant, packet: Packet) -> Fate {
        self.advance(now);
        let length = packet.len() as u64;
        self.counters.packets_in += 1;
        self.counters.bytes_in += length;
        let limit = self.shape.buffer.bytes_at(self.shape.rate);
        if !self.queue.is_empty() && self.queued_bytes + length > limit {
            self.counters.dropped_by_buffer += 1;
            return Fate::Dropped;
        }
        if self.queue.is_empty() {
            self.first_sent_at = now + self.shape.rate.time_for(packet.len());
        }
        self.queued_bytes += length;
        self.counters.queued_bytes_max = self.counters.queued_bytes_max.max(self.queued_bytes);
        self.queue.push_back(Waiting { packet, since: now });
        Fate::Queued
    }

    /// Takes the next packet that has arrived by `now`, if any. Call until it answers `None`.
    pub fn pop(&mut self, now: Instant) -> Option<Packet> {
        self.advance(now);
        if self.line.front()?.arrives_at > now {
            return None;
        }
        let arrived = self.line.pop_front()?;
        record(&mut self.lateness_us, now.saturating_duration_since(arrived.arrives_at));
        self.counters.packets_delivered += 1;
        self.counters.bytes_delivered += arrived.packet.len() as u64;
        Some(arrived.packet)
    }

    /// The earliest moment at which a packet can arrive, or `None` while the direction is empty. It may be a little
    /// early (jitter, or a packet that turns out lost), never late.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.line.front() {
            Some(first) => Some(first.arrives_at),
            None if self.queue.is_empty() => None,
            None => Some(self.first_sent_at + self.shape.delay.saturating_sub(self.shape.jitter)),
        }
    }

    /// Changes the transmitter's rate at once, for the packet that it is sending too.
    pub fn set_rate(&mut self, now: Instant, rate: Rate) {
        self.advance(now);
        let left = self.first_sent_at.saturating_duration_since(now);
        let left_ns = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        if !self.queue.is_empty() {
            let old = self.shape.rate.bits_per_second();
            self.first_sent_at = now + Duration::from_nanos(scale(left_ns, old, rate.0));
        }
        self.shape.rate = rate;
    }

    /// While on, everything that the transmitter sends is lost, as out of radio range. What already travels arrives.
    pub fn blackout(&mut self, now: Instant, on: bool) {
        self.advance(now);
        self.blackout = on;
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Microseconds from a packet's arrival at the buffer until its last bit was sent, over all packets sent.
    #[must_use]
    pub const fn queue_delay_us(&self) -> &Histogram<u64> {
        &self.queue_delay_us
    }

    /// Microseconds from the moment at which a packet was due until [`Way::pop`] took it: how inexact the caller was.
    #[must_use]
    pub const fn lateness_us(&self) -> &Histogram<u64> {
        &self.lateness_us
    }

    /// Packets in the buffer, in transmission or on the line.
    #[must_use]
    pub fn packets_under_way(&self) -> usize {
        self.queue.len() + self.line.len()
    }

    /// Moves to the line what the transmitter has finished by `now`.
    fn advance(&mut self, now: Instant) {
        while self.first_sent_at <= now {
            let Some(sent) = self.queue.pop_front() else { return };
            let sent_at = self.first_sent_at;
            self.queued_bytes -= sent.packet.len() as u64;
            if let Some(next) = self.queue.front() {
                self.first_sent_at = sent_at + self.shape.rate.time_for(next.packet.len());
            }
            record(&mut self.queue_delay_us, sent_at.saturating_duration_since(sent.since));
            self.travel(sent.packet, sent_at);
        }
    }

    /// A sent packet goes onto the line, or is lost there. Chance is drawn for every packet, so that a blackout does not
    /// change the fate of those after it.
    fn travel(&mut self, packet: Packet, sent_at: Instant) {
        let unlucky = self.random.random_bool(self.shape.loss.clamp(0.0, 1.0));
        let delay = self.draw_delay();
        if self.blackout {
            self.counters.lost_in_blackout += 1;
        } else if unlucky {
            self.counters.lost_by_chance += 1;
        } else {
            let arrives_at = self.last_arrival.max(sent_at + delay);
            self.last_arrival = arrives_at;
            self.line.push_back(Travelling { packet, arrives_at });
        }
    }

    fn draw_delay(&mut self) -> Duration {
        if self.shape.jitter.is_zero() {
            return self.shape.delay;
        }
        let least = self.shape.delay.saturating_sub(self.shape.jitter);
        self.random.random_range(least..=self.shape.delay + self.shape.jitter)
    }
}

fn microseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds of one microsecond to one hour are valid")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

/// `value × numerator / denominator` without overflow, saturating.
fn scale(value: u64, numerator: u64, denominator: NonZeroU64) -> u64 {
    let scaled = u128::from(value) * u128::from(numerator) / u128::from(denominator.get());
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MBIT: u64 = 1_000_000;

    fn shape(rate_bits: u64, delay_ms: u64, buffer: Buffer) -> Shape {
        Shape {
            rate: Rate::from_bits_per_second(rate_bits).expect("not zero"),
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::ZERO,
            loss: 0.0,
            buffer,
        }
    }

    fn packet(length: usize, mark: u32) -> Packet {
        let mut bytes = vec![0; length.max(4)];
        bytes[..4].copy_from_slice(&mark.to_be_bytes());
        bytes.into()
    }

    fn mark(packet: &[u8]) -> u32 {
        u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]])
    }

    /// Everything that arrives until the direction is empty, with the moment of each arrival.
    fn drain(way: &mut Way) -> Vec<(Instant, Packet)> {
        let mut arrived = Vec::new();
        while let Some(at) = way.deadline() {
            while let Some(packet) = way.pop(at) {
                arrived.push((at, packet));
            }
        }
        arrived
    }

    #[test]
    fn a_packet_takes_its_time_at_the_rate_and_then_the_delay() {
        let start = Instant::now();
        let mut way = Way::new(shape(MBIT, 100, Buffer::Bytes(10_000)), 1, start);
        assert_eq!(way.push(start, packet(1250, 1)), Fate::Queued);
        assert_eq!(way.push(start, packet(1250, 2)), Fate::Queued);
        // 1250 bytes are 10 000 bits: 10 ms at 1 Mbit/s.
        let at: Vec<_> = drain(&mut way).iter().map(|(at, _)| at.duration_since(start)).collect();
        assert_eq!(at, [Duration::from_millis(110), Duration::from_millis(120)]);
    }

    #[test]
    fn the_buffer_drops_the_newest_packet_when_full() {
        let start = Instant::now();
        let mut way = Way::new(shape(MBIT, 0, Buffer::Bytes(3000)), 1, start);
        let fates: Vec<_> = (0..4).map(|n| way.push(start, packet(1000, n))).collect();
        assert_eq!(fates, [Fate::Queued, Fate::Queued, Fate::Queued, Fate::Dropped]);
        let marks: Vec<_> = drain(&mut way).iter().map(|(_, packet)| mark(packet)).collect();
        assert_eq!(marks, [0, 1, 2]);
        assert_eq!(way.counters().dropped_by_buffer, 1);
        assert_eq!(way.counters().queued_bytes_max, 3000);
    }

    #[test]
    fn a_buffer_given_as_time_follows_the_rate() {
        let rate = |bits| Rate::from_bits_per_second(bits).expect("not zero");
        let buffer = Buffer::Time(Duration::from_millis(500));
        assert_eq!(buffer.bytes_at(rate(20 * MBIT)), 1_250_000);
        assert_eq!(buffer.bytes_at(rate(2 * MBIT)), 125_000);
    }

    #[test]
    fn a_packet_larger_than_the_buffer_passes_when_nothing_waits() {
        let start = Instant::now();
        let mut way = Way::new(shape(MBIT, 0, Buffer::Bytes(100)), 1, start);
        assert_eq!(way.push(start, packet(1500, 1)), Fate::Queued);
        assert_eq!(way.push(start, packet(4, 2)), Fate::Dropped);
        assert_eq!(drain(&mut way).len(), 1);
    }

    #[test]
    fn a_new_rate_counts_for_the_packet_in_transmission_too() {
        let start = Instant::now();
        let mut way = Way::new(shape(MBIT, 0, Buffer::Bytes(10_000)), 1, start);
        way.push(start, packet(1250, 1));
        // Half of it is sent in 5 ms; the other half takes 50 ms at a tenth of the rate.
        way.set_rate(
            start + Duration::from_millis(5),
            Rate::from_bits_per_second(MBIT / 10).expect("not zero"),
        );
        assert_eq!(drain(&mut way)[0].0, start + Duration::from_millis(55));
    }

    #[test]
    fn a_blackout_loses_what_is_sent_during_it_and_nothing_else() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut way = Way::new(shape(MBIT, 100, Buffer::Bytes(10_000)), 1, start);
        way.push(start, packet(1250, 1));
        way.blackout(start + ms(15), true);
        way.push(start + ms(20), packet(1250, 2));
        way.blackout(start + ms(40), false);
        way.push(start + ms(50), packet(1250, 3));
        let marks: Vec<_> = drain(&mut way).iter().map(|(_, packet)| mark(packet)).collect();
        assert_eq!(marks, [1, 3]);
        assert_eq!(way.counters().lost_in_blackout, 1);
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let start = Instant::now();
        let survivors = |seed| {
            let lossy = Shape { loss: 0.3, ..shape(MBIT, 1, Buffer::Bytes(1 << 20)) };
            let mut way = Way::new(lossy, seed, start);
            for n in 0..500 {
                way.push(start, packet(100, n));
            }
            drain(&mut way).iter().map(|(_, packet)| mark(packet)).collect::<Vec<_>>()
        };
        assert_eq!(survivors(7), survivors(7));
        assert_ne!(survivors(7), survivors(8));
        assert!((300..400).contains(&survivors(7).len()), "about 70 % of 500 pass");
    }

    /// One step of a property run: wait so long, then do this.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Pop,
        Rate(u64),
        Blackout(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let step = prop_oneof![
            8 => (4_usize..1500).prop_map(Step::Push),
            4 => Just(Step::Pop),
            1 => (10_000_u64..100 * MBIT).prop_map(Step::Rate),
            1 => any::<bool>().prop_map(Step::Blackout),
        ];
        proptest::collection::vec((0_u64..5_000, step), 1..200)
    }

    proptest! {
        /// Whatever is done to a direction: packets come out unchanged and in order, none earlier than the shortest
        /// travel, the buffer keeps its bound, and every packet is accounted for by exactly one counter.
        #[test]
        fn order_bounds_and_accounts_always_hold(
            steps in steps(),
            jitter_ms in 0_u64..30,
            loss in 0.0_f64..0.5,
            buffer in 1500_u64..20_000,
            seed in any::<u64>(),
        ) {
            let start = Instant::now();
            let shape = Shape {
                jitter: Duration::from_millis(jitter_ms),
                loss,
                ..shape(MBIT, 20, Buffer::Bytes(buffer))
            };
            let least = shape.delay.saturating_sub(shape.jitter);
            let mut way = Way::new(shape, seed, start);
            let mut now = start;
            let mut pushed: Vec<(Instant, Packet)> = Vec::new();
            let mut arrived: Vec<(Instant, Packet)> = Vec::new();
            for (wait_us, step) in steps {
                now += Duration::from_micros(wait_us);
                match step {
                    Step::Push(length) => {
                        let packet = packet(length, u32::try_from(pushed.len()).expect("few"));
                        way.push(now, packet.clone());
                        pushed.push((now, packet));
                    }
                    Step::Pop => arrived.extend(way.pop(now).map(|packet| (now, packet))),
                    Step::Rate(bits) => way.set_rate(now, Rate::from_bits_per_second(bits).expect("not zero")),
                    Step::Blackout(on) => way.blackout(now, on),
                }
                let counters = way.counters();
                prop_assert!(counters.queued_bytes_max <= buffer.max(1500));
                let gone = counters.packets_delivered + counters.dropped_by_buffer
                    + counters.lost_by_chance + counters.lost_in_blackout;
                prop_assert_eq!(counters.packets_in, gone + way.packets_under_way() as u64);
            }
            arrived.extend(drain(&mut way));
            prop_assert_eq!(way.packets_under_way(), 0);
            let marks: Vec<_> = arrived.iter().map(|(_, packet)| mark(packet)).collect();
            prop_assert!(marks.windows(2).all(|pair| pair[0] < pair[1]), "overtaken: {:?}", marks);
            for (at, packet) in &arrived {
                let (sent, original) = &pushed[mark(packet) as usize];
                prop_assert_eq!(packet, original);
                prop_assert!(at.duration_since(*sent) >= least);
            }
        }

        /// A direction that is never left without work sends exactly its rate.
        #[test]
        fn a_saturated_direction_sends_its_rate(rate in 10_000_u64..1_000 * MBIT, length in 40_usize..1500) {
            let start = Instant::now();
            let mut way = Way::new(shape(rate, 0, Buffer::Bytes(u64::MAX)), 0, start);
            for n in 0..100 {
                way.push(start, packet(length, n));
            }
            let last = drain(&mut way).last().map(|(at, _)| at.duration_since(start)).expect("all arrive");
            let ideal = 100.0 * length as f64 * 8.0 / rate as f64;
            prop_assert!((last.as_secs_f64() - ideal).abs() < 1e-6, "{last:?} instead of {ideal} s");
        }
    }
}
