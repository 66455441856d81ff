//! How much screen the path takes now. A pure state machine: times are passed in, nothing is measured here.
//!
//! The encoder must not produce what cannot be sent yet. Between it and the pacing subscriber lie two connections, and each has
//! a congestion control at its sending end that keeps its own path busy and next to empty. So a screen can only pile up in
//! two places, and both are known exactly: **at our own end**, where no more may wait than leaves in a few milliseconds, and **in the
//! relay**, where some may wait for the pacing subscriber. Nothing else is looked at: a packet that is lost on the way, or
//! a file that goes beside the screen, is the business of whoever sends it.
//!
//! **The window** bounds what we have sent and the relay has not sent on: the rate at which the relay's path takes it, as the
//! relay says, × (the time from here to there and the news back + a few tens of milliseconds). As the first part is under way then,
//! the second is what waits.
//!
//! **More than what is known.** A path shows what it takes only while something waits for it. If nothing does and it is our
//! window that keeps it so, the window grows: a little, then more every round, until something waits again. At the start at once
//! twofold, as every transport does.
//!
//! **Queues that no congestion control sees**, in a proxy on our way to the relay, are bounded by [`Reach`].

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use tandem_path::{Reach, State};
use tandem_protocol::message::Feedback;

/// Time of the path's rate that may wait in the relay: what keeps it busy between two updates.
const STANDING: Duration = Duration::from_millis(25);
/// Time of the path's rate that one update takes at most: the relay tells of whole ones that have left.
const UPDATE: Duration = Duration::from_millis(35);
/// So much is nothing: less than what keeps the path busy until more can come.
const LITTLE: Duration = Duration::from_millis(6);
/// Bytes that are nothing on any path.
const LITTLE_BYTES: f64 = 1500.0;
/// Bytes that may always be under way.
const FLOOR: f64 = 4.0 * 1024.0;
/// Bytes under way before anything is known of the path: what a transport sends at first (RFC 6928).
const INITIAL: usize = 14 << 10;
/// Less than this is not worth encoding for.
const LEAST: f64 = 2048.0;
/// Our own end is looked at again after this time at the latest, and no sooner than the other.
const LOOK_MAX: Duration = Duration::from_millis(50);
const LOOK_MIN: Duration = Duration::from_millis(1);
/// The first growth of the window when it turns out to be too small, and the most; it doubles every round.
const GROWTH: f64 = 0.15;
const GROWTH_MAX: f64 = 1.0;
/// Most that the window grows beyond what is known.
const BOOST_MAX: f64 = 16.0;
/// News is expected this often.
const NEWS_MIN: Duration = Duration::from_millis(10);
const NEWS_MAX: Duration = Duration::from_millis(60);
/// What leaves the relay for this subscriber, while something waits all the time, is measured over this time at least.
const DRAIN: Duration = Duration::from_millis(200);
/// What it may be faster than that.
const DRAIN_MORE: f64 = 1.25;

/// What the pacer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Up to so many bytes may go now.
    Send(usize),
    /// None may; ask again after the next feedback, or at this time.
    Wait(Option<Instant>),
}

/// Our own end: the connection to the relay.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// What it knows of its path.
    pub path: State,
    /// Bytes of screens that wait for it to take them.
    pub waiting: u64,
    /// How long what waits may take to leave.
    pub ahead: Duration,
    /// A little may go even if more waits already.
    pub turn: bool,
}

/// The state machine. One for each lane and opening: its byte counts are those of the lane on this connection.
#[derive(Clone, Debug)]
pub struct Pacer {
    sent: u64,
    /// Bytes that have left the relay towards the pacing subscriber, or that it need not send there.
    left: u64,
    /// To the relay and back.
    reach: Reach,
    /// How long it takes until we know that something has reached the relay, and how much that varies.
    lag: Option<Duration>,
    varies: Duration,
    /// How often there is news.
    every: Duration,
    heard: Option<Instant>,
    /// Bytes a second that leave the relay; 0: unknown.
    rate: f64,
    drain: Drain,
    /// What the window is multiplied with, and how much that grows next.
    boost: f64,
    growth: f64,
    grown: Option<Instant>,
    /// The window has kept something back since the last news.
    limited: bool,
    /// Who paces; `None` before the first feedback, when somebody is taken to watch.
    subscriber: Option<u32>,
}

/// The rate at which bytes leave the relay while some wait.
#[derive(Clone, Copy, Debug, Default)]
struct Drain {
    /// Since when some have waited, and what had left by then.
    since: Option<(Instant, u64)>,
    rate: Option<f64>,
}

/// Bytes that may be somewhere at most, and that are.
struct Room {
    most: f64,
    used: f64,
}

impl Room {
    fn left(&self) -> f64 {
        self.most - self.used
    }

    /// Crumbs are not worth an update, unless nothing else is there.
    fn is_full(&self) -> bool {
        self.used > 0.0 && self.left() < (self.most / 8.0).clamp(1024.0, 16384.0)
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            sent: 0,
            left: 0,
            reach: Reach::default(),
            lag: None,
            varies: Duration::ZERO,
            every: NEWS_MIN,
            heard: None,
            rate: 0.0,
            drain: Drain::default(),
            boost: 1.0,
            growth: GROWTH_MAX,
            grown: None,
            limited: false,
            subscriber: None,
        }
    }
}

impl Pacer {
    /// The lane has been given `total` bytes since it opened.
    pub fn on_sent(&mut self, total: u64, now: Instant) {
        self.sent = self.sent.max(total);
        self.reach.sent(total, now);
    }

    /// The relay has said how the lane gets through.
    pub fn on_feedback(&mut self, feedback: &Feedback, now: Instant) {
        let relayed = feedback.relayed_bytes.min(self.sent);
        self.learn_lag(relayed, now);
        let before = self.subscriber.replace(feedback.subscriber);
        if before != Some(feedback.subscriber) {
            (self.boost, self.growth, self.drain) = (1.0, GROWTH_MAX, Drain::default());
            self.rate = 0.0;
        }
        let waits = feedback.queued_bytes.min(relayed) as f64;
        let left = relayed - feedback.queued_bytes.min(relayed);
        let news = left.saturating_sub(std::mem::replace(&mut self.left, left));
        if self.rate <= 0.0 && waits > LITTLE_BYTES {
            // The first guess at a path that nobody knows.
            self.rate = news as f64 / self.every.as_secs_f64();
        }
        self.learn_rate(feedback.rate as f64, waits, now);
        if waits > self.rate * STANDING.as_secs_f64() + LITTLE_BYTES {
            (self.boost, self.growth, self.grown) = (1.0, GROWTH, None);
        } else if self.limited && waits <= (self.rate * LITTLE.as_secs_f64()).max(LITTLE_BYTES) {
            self.grow(now);
        }
        self.limited = false;
    }

    fn learn_lag(&mut self, relayed: u64, now: Instant) {
        let before = self.reach.in_flight();
        self.reach.arrived(relayed, now);
        if let Some(lag) = self.reach.latest().filter(|_| self.reach.in_flight() < before) {
            // Behind a black-out or a lost packet everything takes long, which says nothing of what comes.
            let most = 2 * self.reach.shortest().unwrap_or(lag) + tandem_path::reach::SLACK;
            let lag = lag.min(most);
            let known = self.lag.unwrap_or(lag);
            self.varies = (self.varies * 7 + known.abs_diff(lag)) / 8;
            self.lag = Some((known * 7 + lag) / 8);
        }
        if let Some(heard) = self.heard.replace(now) {
            let every = now.saturating_duration_since(heard).clamp(NEWS_MIN, NEWS_MAX);
            self.every = (self.every * 7 + every) / 8;
        }
    }

    /// `path`: what the relay's path takes as its own end knows it, all lanes together. Less of it may be left for this one.
    fn learn_rate(&mut self, path: f64, waits: f64, now: Instant) {
        if waits <= LITTLE_BYTES {
            self.drain = Drain::default();
        } else {
            let &mut (since, left) = self.drain.since.get_or_insert((now, self.left));
            let span = now.saturating_duration_since(since);
            if self.left < left {
                self.drain = Drain::default();
            } else if span >= DRAIN {
                let rate = (self.left - left) as f64 / span.as_secs_f64();
                self.drain = Drain { since: Some((now, self.left)), rate: Some(rate) };
            }
        }
        let drain = self.drain.rate.map(|rate| rate * DRAIN_MORE);
        self.rate = match drain {
            Some(drain) if path > 0.0 => path.min(drain),
            Some(drain) => drain,
            None if path > 0.0 => path,
            // Its end does not know: what left it last is the best guess.
            None => self.rate,
        };
    }

    /// Nothing waits for the path, because we keep it back: it may take more.
    fn grow(&mut self, now: Instant) {
        let round = self.lag.unwrap_or_default() + self.every;
        if self.grown.is_none_or(|grown| now >= grown + round) {
            self.grown = Some(now);
            // Of an unknown path nothing says how much is too much, but that something waits.
            let most = if self.rate > 0.0 { BOOST_MAX } else { f64::MAX };
            self.boost = (self.boost * (1.0 + self.growth)).min(most);
            self.growth = (2.0 * self.growth).min(GROWTH_MAX);
        }
    }

    /// Whether and how much may be sent now.
    pub fn pace(&mut self, own: &Own, now: Instant) -> Pace {
        if self.subscriber == Some(0) {
            return Pace::Wait(None);
        }
        let beyond = Room { most: self.window(), used: self.in_flight() as f64 };
        let reach = Room { most: self.reach.window() as f64, used: self.reach.in_flight() as f64 };
        self.limited |= beyond.is_full();
        if beyond.is_full() || reach.is_full() {
            return Pace::Wait(None);
        }
        let most =
            if self.rate > 0.0 { (self.rate * UPDATE.as_secs_f64()).max(FLOOR) } else { f64::INFINITY };
        let room = beyond.left().min(reach.left()).min(most);
        match self.own_room(own) {
            Ok(own) => Pace::Send(room.min(own).max(1.0) as usize),
            Err(wait) => Pace::Wait(Some(now + wait.clamp(LOOK_MIN, LOOK_MAX))),
        }
    }

    /// What our own end takes without more waiting there than may, or how long until then.
    fn own_room(&self, own: &Own) -> Result<f64, Duration> {
        let known = own.path.rate.max(own.path.pace);
        let rate = if known > 0.0 { known } else { self.reach.rate() };
        let waiting = own.waiting as f64;
        if rate <= 0.0 {
            let room = INITIAL as f64 - waiting;
            return if room >= LEAST || own.turn { Ok(room.max(LEAST)) } else { Err(LOOK_MAX) };
        }
        // What waits at our own end waits for nothing: it is better encoded later.
        let waits = own.path.waiting() + Duration::from_secs_f64((waiting / rate).min(60.0));
        if own.turn && waits > own.ahead / 2 {
            Ok(LEAST)
        } else if waits > own.ahead / 2 {
            Err(waits - own.ahead / 2)
        } else {
            Ok((rate * (own.ahead - waits).as_secs_f64()).max(LEAST))
        }
    }

    /// Bytes that may have been sent here and not have left the relay.
    fn window(&self) -> f64 {
        let Some(lag) = self.lag.filter(|_| self.rate > 0.0) else { return self.boost * INITIAL as f64 };
        // What waits for a lost packet on the way there comes late, and then all at once. So many times the variation as in a
        // transport's time-out (RFC 6298).
        let needed = self.rate * (lag + 4 * self.varies + self.every + STANDING).as_secs_f64();
        (self.boost * needed).max(FLOOR)
    }

    /// Bytes handed to the lane that the relay has not sent on to the pacing subscriber.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.left.min(self.sent)
    }

    /// The rate at which they leave the relay, bytes a second; 0: unknown.
    pub fn rate(&self) -> f64 {
        self.rate
    }
}
