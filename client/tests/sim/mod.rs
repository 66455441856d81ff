//! A path in simulated time, and a publisher that always has more to show than it takes. No clock.
//!
//! The path is what lies between encoder and viewer: a link with a rate, a delay and a drop-tail buffer, a transport that
//! sends again what was lost, and a relay's feedback on the way back. Delivery is in order: what comes after a lost packet
//! waits for it, as on a TCP connection and on a single stream of QUIC.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_client::pacer::{Pace, Pacer};
use tandem_protocol::message::Feedback;

/// Bytes of a packet.
pub(crate) const PACKET: u64 = 1200;
/// One step of the simulation.
pub(crate) const TICK: Duration = Duration::from_micros(500);
/// A relay gives feedback at most sixty times a second, a subscriber acknowledges every 8 ms.
const FEEDBACK_EVERY: Duration = Duration::from_micros(16_667);
const FEEDBACK_AT_LEAST: Duration = Duration::from_millis(250);
const ACK_EVERY: Duration = Duration::from_millis(8);
/// Pictures are at least so far apart.
const PICTURES: Duration = Duration::from_micros(16_667);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// How a transport sends again what was lost twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// After a time-out of at least 200 ms.
    Tcp,
    /// After another round trip.
    Quic,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Part of the packets that is lost.
    pub loss: f64,
    /// Part of the feedback that is lost, and how late it may be beyond its delay.
    pub feedback_loss: f64,
    pub feedback_late: Duration,
    pub transport: Transport,
    /// Both transports keep in flight what the link holds and this much more; the rest waits at the relay.
    pub bounded: Option<Duration>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            feedback_loss: 0.0,
            feedback_late: Duration::ZERO,
            transport: Transport::Quic,
            bounded: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    at: u64,
    len: u64,
    losses: u32,
}

/// One path, from the publisher to one subscriber.
pub(crate) struct Path {
    pub rate: f64,
    pub one_way: Duration,
    pub buffer: u64,
    pub faults: Faults,
    /// Nothing gets through in either direction.
    pub dark: bool,
    rng: StdRng,
    /// Taken by the relay, not yet given to the link.
    held: VecDeque<Packet>,
    queue: VecDeque<Packet>,
    queued: u64,
    /// Bytes that the link could have carried and has not.
    credit: f64,
    flying: VecDeque<(Instant, Packet)>,
    lost: VecDeque<(Instant, Packet)>,
    /// Bytes given to the link that the sender has not been told of.
    outstanding: u64,
    told: VecDeque<(Instant, u64)>,
    pub received: u64,
    early: BTreeMap<u64, u64>,
    last_arrival: Instant,
    /// When the subscriber last acknowledged, what, and when that had arrived.
    acked: (Instant, u64, Instant),
    news: Vec<(Instant, Feedback)>,
    reported: (Instant, u64),
    /// Packets that the buffer had no room for.
    pub overflows: u64,
    pub subscriber: u32,
}

impl Path {
    pub(crate) fn new(
        mbit: f64,
        one_way_ms: u64,
        buffer_ms: u64,
        faults: Faults,
        seed: u64,
        now: Instant,
    ) -> Self {
        let rate = mbit * 125_000.0;
        Self {
            rate,
            one_way: Duration::from_millis(one_way_ms),
            buffer: (rate * buffer_ms as f64 / 1000.0) as u64 + 4 * PACKET,
            faults,
            dark: false,
            rng: StdRng::seed_from_u64(seed),
            held: VecDeque::new(),
            queue: VecDeque::new(),
            queued: 0,
            credit: 0.0,
            flying: VecDeque::new(),
            lost: VecDeque::new(),
            outstanding: 0,
            told: VecDeque::new(),
            received: 0,
            early: BTreeMap::new(),
            last_arrival: now,
            acked: (now, 0, now),
            news: Vec::new(),
            reported: (now, 0),
            overflows: 0,
            subscriber: 2,
        }
    }

    pub(crate) fn rtt(&self) -> Duration {
        2 * self.one_way
    }

    /// Time that a byte would wait in the link.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.queued as f64 / self.rate)
    }

    pub(crate) fn offer(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let len = PACKET.min(to - at);
            self.held.push_back(Packet { at, len, losses: 0 });
            at += len;
        }
    }

    fn push(&mut self, packet: Packet, now: Instant) {
        if self.queued + packet.len > self.buffer {
            self.overflows += 1;
            self.lose(packet, now + self.delay() + self.one_way);
        } else {
            self.queue.push_back(packet);
            self.queued += packet.len;
        }
    }

    /// It will not arrive, which its sender learns a one-way delay after it should have.
    fn lose(&mut self, packet: Packet, due: Instant) {
        let again = match (packet.losses, self.faults.transport) {
            (0, _) | (_, Transport::Quic) => due + self.one_way + Duration::from_millis(5),
            (n, Transport::Tcp) => due + (2 * self.rtt()).max(Duration::from_millis(200)) * n.min(4),
        };
        let packet = Packet { losses: packet.losses + 1, ..packet };
        let at = self.lost.partition_point(|lost| lost.0 <= again);
        self.lost.insert(at, (again, packet));
    }

    pub(crate) fn step(&mut self, now: Instant) {
        while let Some((_, bytes)) = self.told.pop_front_if(|told| told.0 <= now) {
            self.outstanding -= bytes;
        }
        while let Some((_, packet)) = self.lost.pop_front_if(|lost| lost.0 <= now) {
            self.push(packet, now);
        }
        let window = self
            .faults
            .bounded
            .map_or(u64::MAX, |more| (self.rate * (self.rtt() + more).as_secs_f64()) as u64 + 2 * PACKET);
        while self.outstanding < window
            && let Some(packet) = self.held.pop_front()
        {
            self.outstanding += packet.len;
            self.push(packet, now);
        }
        self.transmit(now);
        self.arrive(now);
        self.report(now);
    }

    fn transmit(&mut self, now: Instant) {
        self.credit += self.rate * TICK.as_secs_f64();
        while let Some(packet) = self.queue.front().copied().filter(|packet| packet.len as f64 <= self.credit)
        {
            self.queue.pop_front();
            self.queued -= packet.len;
            self.credit -= packet.len as f64;
            if self.dark || self.rng.random_bool(self.faults.loss) {
                self.lose(packet, now + self.one_way);
            } else {
                self.flying.push_back((now + self.one_way, packet));
            }
        }
        if self.queue.is_empty() {
            self.credit = self.credit.min(PACKET as f64);
        }
    }

    fn arrive(&mut self, now: Instant) {
        while let Some((arrived, packet)) = self.flying.pop_front_if(|packet| packet.0 <= now) {
            self.early.insert(packet.at, packet.len);
            let before = self.received;
            while let Some(len) = self.early.remove(&self.received) {
                self.received += len;
                self.last_arrival = arrived;
            }
            let told = match self.faults.transport {
                // What came early counts as under way until the gap is filled.
                Transport::Tcp => self.received - before,
                Transport::Quic => packet.len,
            };
            self.told.push_back((now + self.one_way, told));
        }
    }

    fn report(&mut self, now: Instant) {
        if self.received > self.acked.1 && now >= self.acked.0 + ACK_EVERY {
            self.acked = (now, self.received, self.last_arrival);
        }
        let every = if self.acked.1 > self.reported.1 { FEEDBACK_EVERY } else { FEEDBACK_AT_LEAST };
        if now < self.reported.0 + every {
            return;
        }
        self.reported = (now, self.acked.1);
        if self.dark || self.rng.random_bool(self.faults.feedback_loss) {
            return;
        }
        let waited = now.saturating_duration_since(self.acked.2);
        let feedback = Feedback {
            delivered_bytes: self.acked.1,
            subscriber: self.subscriber,
            delay_us: waited.as_micros() as u32,
            queued_bytes: self.held.iter().map(|packet| packet.len).sum(),
            ..Feedback::default()
        };
        let late = self.faults.feedback_late.mul_f64(self.rng.random());
        self.news.push((now + self.one_way + late, feedback));
    }

    /// Feedback that has come back by now, in the order in which it came.
    pub(crate) fn heard(&mut self, now: Instant) -> Vec<Feedback> {
        let mut heard: Vec<(Instant, Feedback)> = self.news.extract_if(.., |news| news.0 <= now).collect();
        heard.sort_by_key(|news| news.0);
        heard.into_iter().map(|news| news.1).collect()
    }
}

/// A publisher over one path.
pub(crate) struct Run {
    pub path: Path,
    pub pacer: Pacer,
    pub now: Instant,
    pub sent: u64,
    /// Whether there is something to show.
    pub offers: bool,
    last_picture: Option<Instant>,
    /// Updates by their ends.
    updates: VecDeque<(u64, Instant)>,
    /// How long a byte would have waited in the link, at every step.
    pub delays: Vec<Duration>,
    /// How old a screen of 40 KiB was, all of which changes three times faster than the path takes, at every step.
    pub ages: Vec<Duration>,
}

/// Bytes of a picture.
pub(crate) const PICTURE: u64 = 40 << 10;

impl Run {
    pub(crate) fn new(mbit: f64, one_way_ms: u64, buffer_ms: u64) -> Self {
        Self::with(mbit, one_way_ms, buffer_ms, Faults::default(), 1)
    }

    pub(crate) fn with(mbit: f64, one_way_ms: u64, buffer_ms: u64, faults: Faults, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            path: Path::new(mbit, one_way_ms, buffer_ms, faults, seed, now),
            pacer: Pacer::default(),
            now,
            sent: 0,
            offers: true,
            last_picture: None,
            updates: VecDeque::new(),
            delays: Vec::new(),
            ages: Vec::new(),
        }
    }

    /// One step.
    pub(crate) fn step(&mut self) {
        self.now += TICK;
        self.path.step(self.now);
        for feedback in self.path.heard(self.now) {
            self.pacer.on_feedback(&feedback, self.now);
        }
        let may = self.last_picture.is_none_or(|last| self.now >= last + PICTURES);
        if self.offers
            && may
            && let Pace::Send(bytes) = self.pacer.pace(self.now)
        {
            self.send(bytes as u64);
        }
        self.delays.push(self.path.delay());
        if let Some(age) = self.age() {
            self.ages.push(age);
        }
    }

    /// Sends an update.
    pub(crate) fn send(&mut self, bytes: u64) {
        self.path.offer(self.sent, self.sent + bytes);
        self.sent += bytes;
        self.pacer.on_sent(self.sent, self.now);
        self.updates.push_back((self.sent, self.now));
        self.last_picture = Some(self.now);
    }

    /// The oldest part of the screen: what was coded a screen before the newest update that is whole.
    fn age(&mut self) -> Option<Duration> {
        let whole = self.updates.iter().rev().find(|update| update.0 <= self.path.received)?.0;
        let oldest = whole.checked_sub(PICTURE)?;
        while self.updates.front().is_some_and(|update| update.0 <= oldest) {
            self.updates.pop_front();
        }
        let picture = Duration::from_secs_f64(PICTURE as f64 / (3.0 * self.path.rate)).max(PICTURES);
        self.updates.front().map(|update| self.now - update.1 + picture)
    }

    /// Runs for some time; answers which part of the link's rate was used.
    pub(crate) fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.path.received);
        self.delays.clear();
        self.ages.clear();
        while self.now < until {
            self.step();
        }
        (self.path.received - before) as f64 / (self.path.rate * time.as_secs_f64())
    }

    pub(crate) fn delay(&mut self, part: f64) -> Duration {
        quantile(&mut self.delays, part)
    }

    pub(crate) fn age_p99(&mut self) -> Duration {
        quantile(&mut self.ages, 0.99)
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.path.rtt()
    }
}

fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    values
        .get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(Duration::MAX)
}
