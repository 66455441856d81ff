//! A session in simulated time: a publisher that always has more to show than its path takes, its connection to a relay, and the
//! relay's to the pacing subscriber. Both connections are those of `tandem_path`'s own simulation, with its congestion control at
//! their sending ends; here are the relay between them, its feedback, and a pacer. No clock.
#![allow(dead_code, reason = "not every test uses all of it")]

#[path = "../../../path/tests/sim/hop.rs"]
pub(crate) mod hop;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_client::pacer::{Own, Pace, Pacer};
use tandem_protocol::message::Feedback;

use hop::Hop;
pub(crate) use hop::{SECOND, Shape, ms};

/// One step of the simulation.
pub(crate) const TICK: Duration = Duration::from_micros(500);
/// A relay gives feedback at most sixty times a second, by messages that take no more than a fiftieth of the path, and four
/// times at least.
const FEEDBACK_EVERY: Duration = Duration::from_micros(16_667);
const FEEDBACK_BYTES: f64 = 100.0 * 50.0;
const FEEDBACK_AT_LEAST: Duration = Duration::from_millis(250);
/// Pictures are at least so far apart.
const PICTURES: Duration = Duration::from_micros(16_667);
/// How long what waits at the publisher's own end may take to leave.
const AHEAD: Duration = Duration::from_millis(35);
/// Bytes of a picture.
pub(crate) const PICTURE: u64 = 40 << 10;

pub(crate) fn shape(mbit: f64, one_way_ms: u64, buffer_ms: u64) -> Shape {
    Shape { mbit, one_way: ms(one_way_ms), buffer: ms(buffer_ms), loss: 0.0 }
}

/// A line that is none: the relay's own network.
pub(crate) fn beside() -> Shape {
    shape(1000.0, 1, 100)
}

/// A publisher, a relay, and subscribers of whom one paces.
pub(crate) struct Run {
    pub up: Hop,
    pub down: Vec<Hop>,
    /// Whose path the pacer follows.
    pub pacing: usize,
    pub pacer: Pacer,
    pub now: Instant,
    pub sent: u64,
    /// Whether there is something to show.
    pub offers: bool,
    /// Feedback is late by up to this.
    pub feedback_late: Duration,
    dice: StdRng,
    news: VecDeque<(Instant, Feedback)>,
    reported: Instant,
    told: (u64, u64, usize),
    last_picture: Option<Instant>,
    /// Updates by their ends.
    updates: VecDeque<(u64, Instant)>,
    /// How old the newest thing was that the pacing subscriber had, at every step.
    pub arrivals: Vec<Duration>,
    /// How old a screen of 40 KiB was, all of which changes three times faster than the path takes, at every step.
    pub ages: Vec<Duration>,
    /// Bytes that waited in the relay, at every step, as time of the path's rate.
    pub waits: Vec<Duration>,
}

impl Run {
    pub(crate) fn new(up: Shape, down: Shape, seed: u64) -> Self {
        Self::with(up, vec![down], seed)
    }

    pub(crate) fn with(up: Shape, down: Vec<Shape>, seed: u64) -> Self {
        let now = Instant::now();
        let hops = down.into_iter().zip(seed + 1..).map(|(shape, seed)| Hop::new(shape, seed, now));
        Self {
            up: Hop::new(up, seed, now),
            down: hops.collect(),
            pacing: 0,
            pacer: Pacer::default(),
            now,
            sent: 0,
            offers: true,
            feedback_late: Duration::ZERO,
            dice: StdRng::seed_from_u64(seed),
            news: VecDeque::new(),
            reported: now,
            told: (0, 0, 0),
            last_picture: None,
            updates: VecDeque::new(),
            arrivals: Vec::new(),
            ages: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Connections have said hello, which tells them the round trip and next to nothing of the rate.
    pub(crate) fn greet(&mut self) {
        let greeted = self.down.iter_mut().map(|hop| hop.greet(TICK)).fold(self.up.greet(TICK), Instant::max);
        (self.now, self.sent) = (greeted, self.up.received);
    }

    /// One way from the publisher to the pacing subscriber.
    pub(crate) fn one_way(&self) -> Duration {
        self.up.shape.one_way + self.down[self.pacing].shape.one_way
    }

    /// Bytes a second of the narrower link.
    pub(crate) fn rate(&self) -> f64 {
        self.up.rate().min(self.down[self.pacing].rate())
    }

    /// What the pacing subscriber has.
    pub(crate) fn received(&self) -> u64 {
        self.down[self.pacing].received
    }

    /// Time has passed for everybody.
    pub(crate) fn step(&mut self) {
        self.now += TICK;
        self.up.step(self.now);
        for hop in &mut self.down {
            hop.offer(self.up.received);
            hop.step(self.now);
        }
        self.report();
        while let Some((_, feedback)) = self.news.pop_front_if(|news| news.0 <= self.now) {
            self.pacer.on_feedback(&feedback, self.now);
        }
        self.encode();
        self.observe();
    }

    /// The relay tells the publisher what has become of its bytes, in order.
    fn report(&mut self) {
        let down = &self.down[self.pacing];
        let told = (self.up.received, down.taken, self.pacing);
        let unacknowledged = down.received < self.up.received;
        let often = FEEDBACK_EVERY.max(Duration::from_secs_f64(FEEDBACK_BYTES / down.rate()));
        let every = if told != self.told { often.min(FEEDBACK_AT_LEAST) } else { FEEDBACK_AT_LEAST };
        let at_once = told.2 != self.told.2;
        if !at_once && (self.now < self.reported + every || !unacknowledged && told == self.told) {
            return;
        }
        (self.reported, self.told) = (self.now, told);
        let state = down.control.state();
        let feedback = Feedback {
            relayed_bytes: self.up.received,
            queued_bytes: self.up.received - down.taken,
            delivered_bytes: down.received,
            rate: state.pace.max(state.rate) as u64,
            subscriber: self.pacing as u32 + 2,
            ..Feedback::default()
        };
        let late = self.feedback_late.mul_f64(self.dice.random());
        let at = self.now + self.up.shape.one_way + late;
        let at = self.news.back().map_or(at, |last| at.max(last.0));
        if !self.up.dark {
            self.news.push_back((at, feedback));
        }
    }

    fn encode(&mut self) {
        let may = self.last_picture.is_none_or(|last| self.now >= last + PICTURES);
        if !self.offers || !may {
            return;
        }
        let path = self.up.control.state();
        let own = Own { path, waiting: self.up.waiting(), ahead: AHEAD, turn: false };
        if let Pace::Send(bytes) = self.pacer.pace(&own, self.now) {
            self.send(bytes as u64);
        }
    }

    /// Sends an update.
    pub(crate) fn send(&mut self, bytes: u64) {
        self.sent += bytes;
        self.up.offer(self.sent);
        self.pacer.on_sent(self.sent, self.now);
        self.updates.push_back((self.sent, self.now));
        self.last_picture = Some(self.now);
    }

    fn observe(&mut self) {
        let received = self.received();
        let whole = self.updates.iter().rev().find(|update| update.0 <= received).copied();
        let Some((end, at)) = whole else { return };
        self.arrivals.push(self.now - at);
        let down = &self.down[self.pacing];
        self.waits.push(Duration::from_secs_f64((self.up.received - down.taken) as f64 / down.rate()));
        // The oldest part of the screen: what was coded a screen before the newest update that is whole.
        let Some(oldest) = end.checked_sub(PICTURE) else { return };
        while self.updates.front().is_some_and(|update| update.0 <= oldest) {
            self.updates.pop_front();
        }
        let picture = Duration::from_secs_f64(PICTURE as f64 / (3.0 * self.rate())).max(PICTURES);
        if let Some(update) = self.updates.front() {
            self.ages.push(self.now - update.1 + picture);
        }
    }

    /// Runs for some time; answers which part of the narrower link's rate was used.
    pub(crate) fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.received());
        self.arrivals.clear();
        self.ages.clear();
        self.waits.clear();
        while self.now < until {
            self.step();
        }
        (self.received() - before) as f64 / (self.rate() * time.as_secs_f64())
    }

    pub(crate) fn age_p99(&mut self) -> Duration {
        quantile(&mut self.ages, 0.99)
    }

    pub(crate) fn waited(&mut self, part: f64) -> Duration {
        quantile(&mut self.waits, part)
    }
}

fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get(((values.len() as f64 * part) as usize).min(last)).copied().unwrap_or(Duration::MAX)
}
