//! The pacer over a simulated link: rate, delay both ways, a drop-tail buffer and feedback at most sixty times a second,
//! as a relay gives it. Simulated time, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tandem_client::pacer::{Pace, Pacer};
use tandem_protocol::message::Feedback;

/// Bytes of a packet.
const PACKET: u64 = 1200;
/// One step of the simulation.
const TICK: Duration = Duration::from_micros(500);
const FEEDBACK_EVERY: Duration = Duration::from_micros(16_667);

struct Link {
    bytes_per_second: f64,
    one_way: Duration,
    buffer: u64,
    /// Packets that wait, as {first byte, bytes}, and the bytes in them.
    queue: VecDeque<(u64, u64)>,
    queued: u64,
    /// Bytes that the link could have carried and has not.
    credit: f64,
    /// Packets under way, by arrival; packets that were dropped and go again, by time.
    flying: VecDeque<(Instant, u64, u64)>,
    lost: VecDeque<(Instant, u64, u64)>,
    /// What the receiver has: without a gap up to here, and beyond.
    received: u64,
    early: BTreeMap<u64, u64>,
    last_arrival: Option<Instant>,
    news: VecDeque<(Instant, Feedback)>,
    last_news: Option<(Instant, u64)>,
}

impl Link {
    fn new(mbit: f64, one_way_ms: u64, now: Instant) -> Self {
        let bytes_per_second = mbit * 125_000.0;
        Self {
            bytes_per_second,
            one_way: Duration::from_millis(one_way_ms),
            // A quarter of a second, as home routers have at least.
            buffer: (bytes_per_second / 4.0) as u64 + 32 * PACKET,
            queue: VecDeque::new(),
            queued: 0,
            credit: 0.0,
            flying: VecDeque::new(),
            lost: VecDeque::new(),
            received: 0,
            early: BTreeMap::new(),
            last_arrival: None,
            news: VecDeque::new(),
            last_news: Some((now, 0)),
        }
    }

    fn offer(&mut self, from: u64, to: u64, now: Instant) {
        let mut at = from;
        while at < to {
            let len = PACKET.min(to - at);
            self.push(at, len, now);
            at += len;
        }
    }

    fn push(&mut self, at: u64, len: u64, now: Instant) {
        if self.queued + len > self.buffer {
            self.lost.push_back((now + 2 * self.one_way, at, len));
        } else {
            self.queue.push_back((at, len));
            self.queued += len;
        }
    }

    fn step(&mut self, now: Instant) {
        while let Some((_, at, len)) = self.lost.pop_front_if(|lost| lost.0 <= now) {
            self.push(at, len, now);
        }
        self.credit += self.bytes_per_second * TICK.as_secs_f64();
        while let Some(&(at, len)) = self.queue.front().filter(|packet| packet.1 as f64 <= self.credit) {
            self.queue.pop_front();
            self.queued -= len;
            self.credit -= len as f64;
            self.flying.push_back((now + self.one_way, at, len));
        }
        if self.queue.is_empty() {
            self.credit = self.credit.min(PACKET as f64);
        }
        while let Some((arrived, at, len)) = self.flying.pop_front_if(|packet| packet.0 <= now) {
            self.early.insert(at, len);
            while let Some(len) = self.early.remove(&self.received) {
                self.received += len;
                self.last_arrival = Some(arrived);
            }
        }
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        let Some((at, reported)) = self.last_news else { return };
        if self.received > reported && now >= at + FEEDBACK_EVERY {
            let waited = self.last_arrival.map_or(Duration::ZERO, |arrival| now - arrival);
            let feedback = Feedback {
                delivered_bytes: self.received,
                subscriber: 2,
                delay_us: waited.as_micros() as u32,
                ..Feedback::default()
            };
            self.news.push_back((now + self.one_way, feedback));
            self.last_news = Some((now, self.received));
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.queued as f64 / self.bytes_per_second)
    }
}

/// A customer whose screen always has more to show, over such a link.
struct Run {
    link: Link,
    pacer: Pacer,
    now: Instant,
    sent: u64,
    /// How long a byte would have waited in the link, at every step.
    delays: Vec<Duration>,
}

impl Run {
    fn new(mbit: f64, one_way_ms: u64) -> Self {
        let now = Instant::now();
        let link = Link::new(mbit, one_way_ms, now);
        Self { link, pacer: Pacer::default(), now, sent: 0, delays: Vec::new() }
    }

    /// Runs for some time; answers which part of the link's rate was used.
    fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.link.received);
        self.delays.clear();
        while self.now < until {
            self.now += TICK;
            self.link.step(self.now);
            while let Some((_, feedback)) = self.link.news.pop_front_if(|news| news.0 <= self.now) {
                self.pacer.on_feedback(&feedback, self.now);
            }
            if let Pace::Send(bytes) = self.pacer.pace(self.now) {
                self.link.offer(self.sent, self.sent + bytes as u64, self.now);
                self.sent += bytes as u64;
                self.pacer.on_sent(self.sent, self.now);
            }
            self.delays.push(self.link.delay());
        }
        (self.link.received - before) as f64 / (self.link.bytes_per_second * time.as_secs_f64())
    }

    fn delay_p95(&mut self) -> Duration {
        self.delays.sort_unstable();
        self.delays[self.delays.len() * 95 / 100]
    }

    fn rtt(&self) -> Duration {
        2 * self.link.one_way
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_path_is_used_and_nothing_waits_long_in_it() {
    let mut misses = Vec::new();
    for mbit in [1.0, 5.0, 20.0, 100.0] {
        for one_way in [10, 50, 100] {
            let mut run = Run::new(mbit, one_way);
            run.run(2 * SECOND + 10 * Duration::from_millis(2 * one_way));
            let used = run.run(20 * SECOND);
            let p95 = run.delay_p95();
            println!("{mbit} Mbit/s {one_way} ms: used {used:.3}, waited {p95:?} (p95)");
            if used < 0.8 || p95 > Duration::from_millis(100) {
                misses.push((mbit, one_way, used, p95));
            }
        }
    }
    assert!(misses.is_empty(), "{misses:?}");
}

#[test]
fn a_path_that_becomes_ten_times_slower_is_noticed() {
    for one_way in [10, 50, 100] {
        let mut run = Run::new(20.0, one_way);
        run.run(5 * SECOND);
        run.link.bytes_per_second /= 10.0;
        // What is under way must leave at the new rate; that takes as long as it takes.
        let backlog = run.pacer.in_flight() as f64 / run.link.bytes_per_second;
        run.run(SECOND + 4 * run.rtt() + Duration::from_secs_f64(backlog));
        let used = run.run(5 * SECOND);
        let p95 = run.delay_p95();
        println!("20 to 2 Mbit/s, {one_way} ms: used {used:.3}, waited {p95:?} (p95)");
        assert!(used >= 0.8, "{used:.3} used at {one_way} ms");
        assert!(p95 <= Duration::from_millis(150), "{p95:?} waited at {one_way} ms");
    }
}

#[test]
fn a_path_that_becomes_faster_is_used_within_seconds() {
    for one_way in [10, 50, 100] {
        let mut run = Run::new(2.0, one_way);
        run.run(5 * SECOND);
        run.link.bytes_per_second *= 10.0;
        run.link.buffer *= 10;
        run.run(5 * SECOND);
        let used = run.run(5 * SECOND);
        println!("2 to 20 Mbit/s, {one_way} ms: used {used:.3}");
        assert!(used >= 0.8, "{used:.3} used at {one_way} ms");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the link: it is used, it is not flooded, and it never comes to rest.
    #[test]
    fn any_link_is_used_and_not_flooded(mbit in 0.3f64..60.0, one_way in 1u64..120, then in 0.3f64..4.0) {
        let mut run = Run::new(mbit, one_way);
        run.run(4 * SECOND);
        run.link.bytes_per_second *= then;
        run.link.buffer = (run.link.buffer as f64 * then.max(1.0)) as u64;
        let backlog = run.pacer.in_flight() as f64 / run.link.bytes_per_second;
        run.run(10 * SECOND + Duration::from_secs_f64(backlog));
        let used = run.run(6 * SECOND);
        let p95 = run.delay_p95();
        // The least that is sent at all takes this long on a slow line.
        let least = Duration::from_secs_f64(2.0 * 8192.0 / run.link.bytes_per_second);
        prop_assert!(used >= 0.7, "{used:.3} used");
        prop_assert!(p95 <= Duration::from_millis(150) + least, "{p95:?} waited");
    }
}
