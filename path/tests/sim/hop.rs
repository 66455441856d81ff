//! A connection in simulated time: our congestion control at its sending end, a link with a rate, a delay both ways, a
//! drop-tail buffer and random loss, and a receiver that acknowledges every second packet. Its stream arrives in order: what
//! comes after a lost packet waits for it. No clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_path::bucket::{self, Bucket};
use tandem_path::control::Control;

/// Bytes of a packet that are no payload, and of a packet at most.
const OVERHEAD: u64 = 58;
pub(crate) const PACKET: u64 = 1200;
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Silence, beyond two round trips and since the last packet, that is spoken into.
const SILENCE: Duration = Duration::from_millis(100);
/// Messages before there is anything to show, and bytes of each.
const GREETINGS: u64 = 4;
const GREETING: u64 = 600;
/// Of what is sent while bulk waits, so much is bulk's.
const BULK: u64 = 10;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) mbit: f64,
    pub(crate) one_way: Duration,
    pub(crate) buffer: Duration,
    pub(crate) loss: f64,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    number: u64,
    /// Its place in the stream; `None`: bulk, which goes beside it.
    at: Option<u64>,
    payload: u64,
    sent: Instant,
}

impl Packet {
    fn bytes(&self) -> u64 {
        self.payload + OVERHEAD
    }
}

/// One connection's sending half, and its link.
pub(crate) struct Hop {
    pub(crate) shape: Shape,
    pub(crate) dark: bool,
    /// There is always bulk to send beside the stream.
    pub(crate) bulk: bool,
    dice: StdRng,
    now: Instant,
    pub(crate) control: Control,
    bucket: Bucket,
    /// Bytes that are to leave together and were not sent yet.
    train: u64,
    /// Bytes of the stream that were given to it, and of these that were sent once.
    offered: u64,
    pub(crate) taken: u64,
    /// Bytes since the last of bulk.
    beside: u64,
    again: VecDeque<Packet>,
    next: u64,
    outstanding: BTreeMap<u64, Packet>,
    queue: VecDeque<Packet>,
    queued: u64,
    credit: f64,
    flying: VecDeque<(Instant, Packet)>,
    to_acknowledge: Vec<u64>,
    acknowledge_at: Option<Instant>,
    acks: VecDeque<(Instant, Vec<u64>)>,
    sent_at: Instant,
    /// quinn's own pacing: bytes that may leave at once.
    tokens: f64,
    early: BTreeMap<u64, u64>,
    /// Bytes of the stream that have arrived in order; of bulk, that have arrived.
    pub(crate) received: u64,
    pub(crate) bulk_received: u64,
    pub(crate) dropped: u64,
}

impl Hop {
    pub(crate) fn new(shape: Shape, seed: u64, now: Instant) -> Self {
        Self {
            shape,
            dark: false,
            bulk: false,
            dice: StdRng::seed_from_u64(seed),
            now,
            control: Control::new(PACKET as u16, OVERHEAD as u16, 0),
            bucket: Bucket::default(),
            train: 0,
            offered: 0,
            taken: 0,
            beside: 0,
            again: VecDeque::new(),
            next: 0,
            outstanding: BTreeMap::new(),
            queue: VecDeque::new(),
            queued: 0,
            credit: 0.0,
            flying: VecDeque::new(),
            to_acknowledge: Vec::new(),
            acknowledge_at: None,
            acks: VecDeque::new(),
            sent_at: now,
            tokens: 12_000.0,
            early: BTreeMap::new(),
            received: 0,
            bulk_received: 0,
            dropped: 0,
        }
    }

    /// Says hello, in a few messages that wait for one another, until the time that comes back: so does every connection before it
    /// has anything to show.
    pub(crate) fn greet(&mut self, tick: Duration) -> Instant {
        for message in 1..=GREETINGS {
            self.offer(message * GREETING);
            while self.received < message * GREETING || !self.outstanding.is_empty() {
                self.step(self.now + tick);
            }
        }
        self.now
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.shape.mbit * 125_000.0
    }

    /// Gives it the stream up to there.
    pub(crate) fn offer(&mut self, total: u64) {
        self.offered = self.offered.max(total);
    }

    /// Bytes of the stream that wait to be sent.
    pub(crate) fn waiting(&self) -> u64 {
        self.offered - self.taken
    }

    /// How long a byte would wait in the link.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.queued as f64 / self.rate())
    }

    /// Time has passed.
    pub(crate) fn step(&mut self, now: Instant) {
        let passed = now - self.now;
        self.now = now;
        self.link(passed);
        self.receiver();
        self.sender(passed);
    }

    fn sender(&mut self, passed: Duration) {
        while let Some((_, numbers)) = self.acks.pop_front_if(|ack| ack.0 <= self.now) {
            self.acknowledged(&numbers);
        }
        let state = self.control.state();
        self.bucket.fill(state.pace, self.now);
        let round_trip = (state.rtt_min + self.delay()).as_secs_f64().max(0.001);
        let burst =
            (state.window as f64 * 0.002 / round_trip).clamp(10.0 * PACKET as f64, 256.0 * PACKET as f64);
        let fill = 1.25 * state.window as f64 * passed.as_secs_f64() / round_trip;
        self.tokens = (self.tokens + fill).min(burst);
        loop {
            let state = self.control.state();
            // What is no train leaves packet by packet.
            if state.piece > bucket::piece(state.pace) && self.bucket.is_open(state.pace) && self.train == 0 {
                self.train = state.piece as u64;
            }
            let open = !self.again.is_empty() || self.train > 0 || self.bucket.is_open(state.pace);
            let speaks = |since: Instant| (since + 2 * state.rtt_min).max(self.sent_at) + SILENCE;
            let probe = state.silent_since.is_some_and(|since| self.now >= speaks(since));
            let room = state.in_flight < state.window && self.tokens >= PACKET as f64;
            if !(probe || (open && room)) {
                break;
            }
            let piece = (state.piece as u64).min(PACKET - OVERHEAD);
            let Some(packet) = self.next_packet(piece, probe) else { break };
            self.bucket.take(packet.payload as usize);
            self.train = self.train.saturating_sub(packet.payload);
            self.sent_at = self.now;
            self.tokens -= packet.bytes() as f64;
            self.control.sent(packet.bytes(), self.now);
            self.outstanding.insert(packet.number, packet);
            let room = (self.rate() * self.shape.buffer.as_secs_f64()) as u64;
            let lost = self.dark || self.dice.random_bool(self.shape.loss);
            if lost || self.queued + packet.bytes() > room {
                self.dropped += 1;
            } else {
                self.queue.push_back(packet);
                self.queued += packet.bytes();
            }
            if probe {
                break;
            }
        }
    }

    /// What was lost goes first, then the stream, and bulk when it is its turn. A probe is sent whatever there is.
    fn next_packet(&mut self, piece: u64, probe: bool) -> Option<Packet> {
        let (number, sent) = (self.next, self.now);
        let waiting = self.waiting().min(piece);
        let bulk_turn = self.bulk && self.beside >= (BULK - 1) * piece;
        let packet = if let Some(lost) = self.again.pop_front() {
            Packet { number, sent, ..lost }
        } else if waiting > 0 && !bulk_turn {
            self.beside += waiting;
            self.taken += waiting;
            Packet { number, at: Some(self.taken - waiting), payload: waiting, sent }
        } else if self.bulk || probe {
            self.beside = self.beside.saturating_sub((BULK - 1) * piece);
            Packet { number, at: None, payload: if self.bulk { piece } else { 1 }, sent }
        } else {
            return None;
        };
        self.next += 1;
        Some(packet)
    }

    fn acknowledged(&mut self, numbers: &[u64]) {
        let mut largest = None;
        for number in numbers {
            if let Some(packet) = self.outstanding.remove(number) {
                self.control.acknowledge(packet.sent, packet.bytes());
                largest = Some(*number);
            }
        }
        let Some(largest) = largest else { return };
        let in_flight = self.outstanding.values().map(Packet::bytes).sum();
        self.control.acknowledged(in_flight, self.now);
        let late: Vec<u64> =
            self.outstanding.range(..largest.saturating_sub(2)).map(|(&number, _)| number).collect();
        let mut lost = (0, self.now, self.now - 100 * SECOND);
        for number in late {
            let Some(packet) = self.outstanding.remove(&number) else { continue };
            lost = (lost.0 + packet.bytes(), lost.1.min(packet.sent), lost.2.max(packet.sent));
            self.again.push_back(packet);
        }
        if lost.0 > 0 {
            self.control.lost(lost.0, lost.2.saturating_duration_since(lost.1) > SECOND, self.now);
        }
    }

    fn link(&mut self, passed: Duration) {
        self.credit += self.rate() * passed.as_secs_f64();
        while let Some(packet) = self.queue.pop_front_if(|packet| packet.bytes() as f64 <= self.credit) {
            self.credit -= packet.bytes() as f64;
            self.queued -= packet.bytes();
            if !self.dark {
                self.flying.push_back((self.now + self.shape.one_way, packet));
            }
        }
        if self.queue.is_empty() {
            self.credit = self.credit.min(0.0);
        }
    }

    fn receiver(&mut self) {
        while let Some((_, packet)) = self.flying.pop_front_if(|packet| packet.0 <= self.now) {
            match packet.at {
                Some(at) => drop(self.early.insert(at, packet.payload)),
                None => self.bulk_received += packet.payload,
            }
            while let Some(len) = self.early.remove(&self.received) {
                self.received += len;
            }
            self.to_acknowledge.push(packet.number);
            self.acknowledge_at.get_or_insert(self.now + ACK_DELAY);
        }
        let due = self.acknowledge_at.is_some_and(|at| at <= self.now) || self.to_acknowledge.len() >= 2;
        if due {
            self.acknowledge_at = None;
            let numbers = std::mem::take(&mut self.to_acknowledge);
            if !self.dark && !self.dice.random_bool(self.shape.loss) {
                self.acks.push_back((self.now + self.shape.one_way, numbers));
            }
        }
    }
}
