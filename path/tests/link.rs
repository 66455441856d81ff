//! The congestion control over a simulated link: rate, delay both ways, a drop-tail buffer, random loss, acknowledgements of
//! every second packet. Simulated time, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_path::bucket::{self, Bucket};
use tandem_path::control::Control;

const TICK: Duration = Duration::from_micros(200);
const SECOND: Duration = Duration::from_secs(1);
/// Bytes of a packet that are no payload.
const OVERHEAD: u64 = 58;
const PACKET: u64 = 1200;
const ACK_DELAY: Duration = Duration::from_millis(25);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a link is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    mbit: f64,
    one_way: Duration,
    buffer: Duration,
    loss: f64,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    number: u64,
    bytes: u64,
    sent: Instant,
}

/// A sender that always has more to send, and its link.
struct Run {
    shape: Shape,
    now: Instant,
    dice: StdRng,
    control: Control,
    bucket: Bucket,
    next: u64,
    outstanding: BTreeMap<u64, Packet>,
    /// Bytes that must go again.
    again: u64,
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
    dark: bool,
    delivered: u64,
    dropped: u64,
    /// How long a byte would have waited in the link, at every step.
    waits: Vec<Duration>,
}

impl Run {
    fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            now: Instant::now(),
            dice: StdRng::seed_from_u64(seed),
            control: Control::new(PACKET as u16, OVERHEAD as u16, 0),
            bucket: Bucket::default(),
            next: 0,
            outstanding: BTreeMap::new(),
            again: 0,
            queue: VecDeque::new(),
            queued: 0,
            credit: 0.0,
            flying: VecDeque::new(),
            to_acknowledge: Vec::new(),
            acknowledge_at: None,
            acks: VecDeque::new(),
            sent_at: Instant::now(),
            tokens: 12_000.0,
            dark: false,
            delivered: 0,
            dropped: 0,
            waits: Vec::new(),
        }
    }

    fn rate(&self) -> f64 {
        self.shape.mbit * 125_000.0
    }

    /// Runs for some time; answers which part of the link's rate carried payload.
    fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.delivered);
        self.waits.clear();
        while self.now < until {
            self.now += TICK;
            self.link();
            self.receiver();
            self.sender();
            self.waits.push(Duration::from_secs_f64(self.queued as f64 / self.rate()));
        }
        (self.delivered - before) as f64 / (self.rate() * time.as_secs_f64())
    }

    fn waited(&mut self, share: f64) -> Duration {
        self.waits.sort_unstable();
        self.waits[((self.waits.len() - 1) as f64 * share) as usize]
    }

    fn sender(&mut self) {
        while let Some((_, numbers)) = self.acks.pop_front_if(|ack| ack.0 <= self.now) {
            self.acknowledged(&numbers);
        }
        let state = self.control.state();
        self.bucket.fill(state.pace, self.now);
        let round_trip = (state.rtt_min + Duration::from_secs_f64(self.queued as f64 / self.rate()))
            .as_secs_f64()
            .max(0.001);
        let burst =
            (state.window as f64 * 0.002 / round_trip).clamp(10.0 * PACKET as f64, 256.0 * PACKET as f64);
        self.tokens = (self.tokens + 1.25 * state.window as f64 * TICK.as_secs_f64() / round_trip).min(burst);
        loop {
            let state = self.control.state();
            let open = self.again > 0 || self.bucket.is_open(state.pace);
            let probe = state
                .silent_since
                .is_some_and(|since| self.now >= since.max(self.sent_at) + 2 * state.rtt_min + ms(100));
            let room = state.in_flight < state.window && self.tokens >= PACKET as f64;
            let may = probe || (open && room);
            if !may {
                break;
            }
            let payload = (bucket::piece(state.pace) as u64).min(PACKET - OVERHEAD);
            self.again = self.again.saturating_sub(payload);
            self.bucket.take(payload as usize);
            let packet = Packet { number: self.next, bytes: payload + OVERHEAD, sent: self.now };
            self.next += 1;
            self.sent_at = self.now;
            self.tokens -= packet.bytes as f64;
            self.control.sent(packet.bytes, self.now);
            self.outstanding.insert(packet.number, packet);
            let room = (self.rate() * self.shape.buffer.as_secs_f64()) as u64;
            let lost = self.dark || self.dice.random_bool(self.shape.loss);
            if lost || self.queued + packet.bytes > room {
                self.dropped += 1;
            } else {
                self.queue.push_back(packet);
                self.queued += packet.bytes;
            }
            if probe {
                break;
            }
        }
    }

    fn acknowledged(&mut self, numbers: &[u64]) {
        let mut largest = None;
        for number in numbers {
            if let Some(packet) = self.outstanding.remove(number) {
                self.control.acknowledge(packet.sent, packet.bytes);
                largest = Some(*number);
            }
        }
        let Some(largest) = largest else { return };
        let in_flight = self.outstanding.values().map(|packet| packet.bytes).sum();
        self.control.acknowledged(in_flight, self.now);
        let late: Vec<u64> =
            self.outstanding.range(..largest.saturating_sub(2)).map(|(&number, _)| number).collect();
        let mut lost = (0, self.now, self.now - 100 * SECOND);
        for number in late {
            let Some(packet) = self.outstanding.remove(&number) else { continue };
            lost = (lost.0 + packet.bytes, lost.1.min(packet.sent), lost.2.max(packet.sent));
            self.again += packet.bytes - OVERHEAD;
        }
        if lost.0 > 0 {
            self.control.lost(lost.0, lost.2.saturating_duration_since(lost.1) > SECOND, self.now);
        }
    }

    fn link(&mut self) {
        self.credit += self.rate() * TICK.as_secs_f64();
        while let Some(packet) = self.queue.pop_front_if(|packet| packet.bytes as f64 <= self.credit) {
            self.credit -= packet.bytes as f64;
            self.queued -= packet.bytes;
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
            self.delivered += packet.bytes - OVERHEAD;
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

#[test]
fn paths_are_used_and_nothing_waits_in_them() {
    let mut misses = Vec::new();
    for mbit in [1.0, 5.0, 20.0, 100.0] {
        for one_way in [10, 50, 100] {
            for buffer in [50, 500] {
                for loss in [0.0, 0.01] {
                    let shape = Shape { mbit, one_way: ms(one_way), buffer: ms(buffer), loss };
                    let mut run = Run::new(shape, 1);
                    let first = run.run(2 * SECOND);
                    let dropped = run.dropped;
                    let most = run.waited(1.0);
                    let used = run.run(20 * SECOND);
                    let (p50, p99) = (run.waited(0.5), run.waited(0.99));
                    println!(
                        "{mbit:>3} Mbit/s {one_way:>3} ms {buffer:>3} ms {loss}: start {first:.2} waits {most:?} drops {dropped}; used {used:.3} waited {p50:?} {p99:?} drops {}",
                        run.dropped - dropped
                    );
                    // On the slowest path a packet or two are all that may wait.
                    let most = if mbit < 2.0 { 50 } else { 25 };
                    if used < 0.78 || p99 > ms(most) {
                        misses.push((mbit, one_way, buffer, loss, used, p99));
                    }
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn a_slower_path_is_noticed_and_a_faster_one_found() {
    for one_way in [10, 50, 100] {
        let shape = Shape { mbit: 20.0, one_way: ms(one_way), buffer: ms(500), loss: 0.0 };
        let mut run = Run::new(shape, 1);
        run.run(5 * SECOND);
        run.shape.mbit = 2.0;
        run.run(3 * SECOND);
        let (slow, waits) = (run.run(5 * SECOND), run.waited(0.99));
        run.shape.mbit = 20.0;
        run.run(8 * SECOND);
        let (fast, again) = (run.run(5 * SECOND), run.waited(0.99));
        println!("{one_way} ms: slow {slow:.3} {waits:?}, fast {fast:.3} {again:?}");
        assert!(slow >= 0.8 && waits <= ms(25), "{one_way} ms: {slow} {waits:?}");
        assert!(fast >= 0.8 && again <= ms(25), "{one_way} ms: {fast} {again:?}");
    }
}

#[test]
fn a_black_out_ends_with_the_path() {
    for one_way in [10, 50, 100] {
        let shape = Shape { mbit: 5.0, one_way: ms(one_way), buffer: ms(500), loss: 0.0 };
        let mut run = Run::new(shape, 1);
        run.run(5 * SECOND);
        run.dark = true;
        run.run(2 * SECOND);
        run.dark = false;
        run.run(SECOND + ms(2 * one_way));
        let used = run.run(2 * SECOND);
        assert!(used > 0.6, "{one_way} ms: {used}");
    }
}

#[test]
fn a_round_trip_that_became_longer_is_believed() {
    let shape = Shape { mbit: 5.0, one_way: ms(30), buffer: ms(500), loss: 0.0 };
    let mut run = Run::new(shape, 1);
    run.run(5 * SECOND);
    run.shape.one_way = ms(90);
    run.run(8 * SECOND);
    let used = run.run(5 * SECOND);
    assert!(used > 0.8, "{used}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any path is used, and what waits in it stays short, whatever is lost and when.
    #[test]
    fn any_path_is_used_without_a_queue(
        kbit in 800u32..100_000,
        one_way in 5u64..100,
        buffer in 100u64..600,
        loss in 0.0f64..0.015,
        seed: u64,
    ) {
        let mbit = f64::from(kbit) / 1000.0;
        let shape = Shape { mbit, one_way: ms(one_way), buffer: ms(buffer), loss };
        let mut run = Run::new(shape, seed);
        run.run(4 * SECOND);
        let used = run.run(6 * SECOND);
        let waited = run.waited(0.95);
        let packets = Duration::from_secs_f64(4.0 * PACKET as f64 / run.rate());
        prop_assert!(used > 0.7, "{used} used");
        prop_assert!(waited < ms(15) + packets, "{waited:?} waited");
    }
}
