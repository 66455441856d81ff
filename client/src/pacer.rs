//! How much screen the path takes now. A pure state machine: times are passed in, nothing is measured here.
//!
//! The encoder must not produce what cannot be sent yet, so the pacer bounds the bytes between the encoder and the
//! pacing subscriber, whatever lies between: the customer's uplink, the relay, the technician's downlink. It keeps them near
//! `rate × (shortest round trip + 30 ms)`: enough to keep the path busy, little enough that nothing grows old on the way.
//!
//! The rate is the largest that deliveries showed in the last ten round trips, measured as BBR does (bytes delivered while
//! one sending was under way, over the longer of the times that sending and delivering them took). When round trips take
//! longer than the bytes under way explain, and go on doing so, the path has become slower or others use it: then only the
//! newest samples count. One stall is no such sign: what waits behind a lost packet comes late, and then all at once. A
//! sending that left room says nothing about the limit and can only raise the rate.
//!
//! Start-up up to doubles per round trip; afterwards every few round trips it asks for a quarter more, then lets the path drain
//! once, which also shows the shortest round trip again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_protocol::message::Feedback;

/// Time of the path's rate that may wait in it, on purpose: what keeps it busy between two pieces of news.
const STANDING: Duration = Duration::from_millis(30);
/// Bytes that may always be under way.
const FLOOR: f64 = 8.0 * 1024.0;
/// Bytes under way before anything is known of the path: what a transport sends at first (RFC 6928), so that nothing waits
/// in it and looks like a slow path.
const INITIAL: f64 = 14.0 * 1024.0;
/// Start-up puts as much again under way, but no more than this time of the rate: on a long path twice as much would overrun
/// the buffers in it.
const STARTUP_MORE: Duration = Duration::from_millis(100);
/// The look for more puts a quarter more under way, but no more than this time of the rate.
const PROBE_MORE: Duration = Duration::from_millis(40);
/// How long the shortest round trip is believed.
const RTT_WINDOW: Duration = Duration::from_secs(10);
/// At least this long, and so many round trips, lie between two looks for more.
const CYCLE_MIN: Duration = Duration::from_millis(500);
const CYCLE_RTTS: u32 = 6;
/// Round trips for which others must have taken too long before the path counts as slower: a stall is over by then.
const EXCESS_ROUNDS: u32 = 2;
/// At least this long without news before a byte is risked on a path that may be dead.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// What the pacer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Up to so many bytes may go now.
    Send(usize),
    /// None may; ask again after the next feedback, or at this time.
    Wait(Option<Instant>),
}

/// The state machine. One for each lane and opening: its byte counts are those of the lane on this connection.
#[derive(Debug)]
pub struct Pacer {
    sent: u64,
    delivered: u64,
    /// What is under way, oldest first.
    flight: VecDeque<Sending>,
    rates: Rates,
    rtts: Rtts,
    phase: Phase,
    /// Since when round trips take longer than they should.
    excess_since: Option<Instant>,
    /// The rate before it was given up because round trips took too long: once they are short again, it is tried anew.
    given_up: f64,
    /// Who paces; `None` before the first feedback, when somebody is taken to watch.
    subscriber: Option<u32>,
    /// When something was last heard or sent.
    last_news: Option<Instant>,
    first_sent_at: Option<Instant>,
    delivered_at: Option<Instant>,
}

/// One call of [`Pacer::on_sent`], with what BBR's rate sample needs to know of that moment.
#[derive(Clone, Copy, Debug)]
struct Sending {
    start: u64,
    end: u64,
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// There was room for more.
    limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Doubling until the rate no longer grows by a quarter in three rounds although something waits in the path.
    Startup { best: f64, flat_rounds: u8, round_ends: u64 },
    /// Sending nothing until the path holds no more than it needs.
    Drain,
    /// At the known rate.
    Cruise { since: Instant },
    /// Asking for a quarter more, for two rounds: it is sent in the first and seen in the second.
    Probe { before: f64, round_ends: u64 },
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            sent: 0,
            delivered: 0,
            flight: VecDeque::new(),
            rates: Rates::default(),
            rtts: Rtts::default(),
            phase: Phase::STARTUP,
            excess_since: None,
            given_up: 0.0,
            subscriber: None,
            last_news: None,
            first_sent_at: None,
            delivered_at: None,
        }
    }
}

impl Phase {
    const STARTUP: Self = Self::Startup { best: 0.0, flat_rounds: 0, round_ends: 0 };
}

impl Pacer {
    /// The lane has been given `total` bytes since it opened.
    pub fn on_sent(&mut self, total: u64, now: Instant) {
        if total <= self.sent {
            return;
        }
        if self.in_flight() == 0 {
            self.first_sent_at = Some(now);
            self.delivered_at = Some(now);
        }
        let limited = ((total - self.delivered) as f64) < 0.75 * self.target();
        self.flight.push_back(Sending {
            start: self.sent,
            end: total,
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            first_sent_at: self.first_sent_at.unwrap_or(now),
            limited,
        });
        self.sent = total;
        self.last_news = Some(now);
    }

    /// The relay has said how the lane reaches the pacing subscriber.
    pub fn on_feedback(&mut self, feedback: &Feedback, now: Instant) {
        self.last_news = Some(now);
        let before = self.subscriber.replace(feedback.subscriber);
        if before.unwrap_or_else(|| feedback.subscriber.max(1)) != feedback.subscriber {
            self.change_subscriber(feedback);
        }
        let delivered = feedback.delivered_bytes.min(self.sent);
        if feedback.subscriber == 0 || delivered <= self.delivered {
            return;
        }
        let waited = Duration::from_micros(feedback.delay_us.into());
        let at = now.checked_sub(waited).unwrap_or(now).max(self.delivered_at.unwrap_or(now));
        self.delivered = delivered;
        self.delivered_at = Some(at);
        if let Some(sending) = self.newest_delivered() {
            self.first_sent_at = Some(sending.at);
            self.sample(sending, at, now);
            self.advance(now);
        }
    }

    /// Whether and how much may be sent now.
    pub fn pace(&mut self, now: Instant) -> Pace {
        if self.subscriber == Some(0) {
            return Pace::Wait(None);
        }
        self.look_for_more(now);
        let (target, in_flight) = (self.target(), self.in_flight() as f64);
        let room = target - in_flight;
        // Crumbs are not worth an update, unless nothing else is under way.
        if room >= (target / 8.0).clamp(1024.0, 16384.0) || in_flight == 0.0 {
            return Pace::Send(room as usize);
        }
        match self.last_news {
            Some(news) if now >= news + self.silence() => Pace::Send(FLOOR as usize),
            news => Pace::Wait(news.map(|news| news + self.silence())),
        }
    }

    /// Bytes handed to the lane that have not reached the pacing subscriber.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.delivered
    }

    /// The path's rate as far as it is known, bytes a second; 0: unknown.
    pub fn rate(&self) -> f64 {
        self.rates.max()
    }

    /// The shortest round trip of the last ten seconds, from handing bytes to the lane to news of their delivery.
    pub fn rtt_min(&self) -> Option<Duration> {
        self.rtts.min()
    }

    /// How long the path may be silent before it is probed.
    fn silence(&self) -> Duration {
        SILENCE_MIN.max(4 * self.rtts.latest)
    }

    fn target(&self) -> f64 {
        let (Some(rtt), rate) = (self.rtts.min(), self.rates.max()) else { return INITIAL };
        if rate == 0.0 {
            return INITIAL;
        }
        let bytes = rate * (rtt + STANDING).as_secs_f64();
        let target = match self.phase {
            Phase::Startup { .. } => (bytes + bytes.min(rate * STARTUP_MORE.as_secs_f64())).max(INITIAL),
            Phase::Probe { .. } => bytes + (0.25 * bytes).min(rate * PROBE_MORE.as_secs_f64()),
            Phase::Cruise { .. } => bytes,
            Phase::Drain => return self.drained(),
        };
        target.max(FLOOR)
    }

    /// Bytes under way that leave nothing waiting.
    fn drained(&self) -> f64 {
        (0.9 * self.rates.max() * self.rtts.min().unwrap_or_default().as_secs_f64()).max(1024.0)
    }

    /// Another path: what was measured on the last one is void.
    fn change_subscriber(&mut self, feedback: &Feedback) {
        self.rates = Rates::default();
        self.rtts = Rtts::default();
        self.phase = Phase::STARTUP;
        (self.excess_since, self.given_up) = (None, 0.0);
        self.flight.clear();
        self.delivered =
            if feedback.subscriber == 0 { self.sent } else { feedback.delivered_bytes.min(self.sent) };
        self.delivered_at = None;
        self.first_sent_at = None;
    }

    /// The newest sending of which something has arrived.
    fn newest_delivered(&mut self) -> Option<Sending> {
        let mut newest = None;
        while let Some(sending) = self.flight.front().copied().filter(|sending| sending.end <= self.delivered)
        {
            newest = Some(sending);
            self.flight.pop_front();
        }
        self.flight.front().copied().filter(|sending| sending.start < self.delivered).or(newest)
    }

    fn sample(&mut self, sending: Sending, at: Instant, now: Instant) {
        let rtt = at.saturating_duration_since(sending.at);
        self.rtts.add(rtt, now);
        let rtt_min = self.rtts.min().unwrap_or(rtt);
        let to_deliver = at.saturating_duration_since(sending.delivered_at);
        let to_send = sending.at.saturating_duration_since(sending.first_sent_at);
        let elapsed = to_deliver.max(to_send).max(Duration::from_millis(1));
        let rate = (self.delivered - sending.delivered) as f64 / elapsed.as_secs_f64();
        let excess = self.excess(sending, rtt, rtt_min);
        if sending.limited && !excess && rate <= self.rates.max() {
            return;
        }
        let round = rtt_min.max(Duration::from_millis(50));
        self.excess_since = if excess { self.excess_since.or(Some(now)) } else { None };
        let slower = self.excess_since.is_some_and(|since| now >= since + EXCESS_ROUNDS * round);
        if slower {
            self.given_up = self.given_up.max(self.rates.max());
        }
        let window = if slower { round } else { 10 * rtt_min };
        self.rates.add(rate, now, window.clamp(Duration::from_millis(50), RTT_WINDOW));
    }

    /// Whether the round trip took longer than what was under way explains.
    fn excess(&self, sending: Sending, rtt: Duration, rtt_min: Duration) -> bool {
        let rate = self.rates.max();
        if rate == 0.0 {
            return false;
        }
        let under_way = (sending.end - sending.delivered) as f64;
        let explained = (under_way / rate).max((rtt_min + STANDING).as_secs_f64());
        rtt.as_secs_f64() > 1.25 * explained + 0.015
    }

    /// Moves on to the next phase, after a sample.
    fn advance(&mut self, now: Instant) {
        let (rate, rtt_min) = (self.rates.max(), self.rtts.min().unwrap_or_default());
        let queued = self.rtts.latest.saturating_sub(rtt_min);
        match self.phase {
            Phase::Startup { best, flat_rounds, round_ends } if self.delivered >= round_ends => {
                let grew = rate >= 1.25 * best;
                let limited = self.flight.back().is_none_or(|sending| sending.limited);
                let flat_rounds = if grew { 0 } else { flat_rounds.saturating_add(u8::from(!limited)) };
                self.phase = if (flat_rounds >= 3 && queued > STANDING / 2) || queued > 2 * STANDING {
                    self.given_up = 0.0;
                    Phase::Drain
                } else if self.given_up > 0.0 && rate >= 0.75 * self.given_up {
                    // Nearly what it was: from here on carefully.
                    self.given_up = 0.0;
                    Phase::Cruise { since: now }
                } else {
                    Phase::Startup { best: best.max(rate), flat_rounds, round_ends: self.sent }
                };
            }
            Phase::Startup { .. } if queued > 3 * STANDING => {
                self.given_up = 0.0;
                self.phase = Phase::Drain;
            }
            Phase::Probe { before, round_ends } if self.delivered >= round_ends => {
                self.phase = if rate > 1.08 * before && queued < 2 * STANDING {
                    Phase::Startup { best: rate, flat_rounds: 1, round_ends: self.sent }
                } else {
                    Phase::Drain
                };
            }
            // A loss stalls deliveries for some round trips and looks like a slow path. Was it one?
            Phase::Cruise { .. } if queued < STANDING && rate < 0.75 * self.given_up => {
                self.phase = Phase::Startup { best: rate, flat_rounds: 1, round_ends: self.sent };
            }
            Phase::Drain if self.in_flight() as f64 <= self.drained() => {
                self.phase = Phase::Cruise { since: now };
            }
            _ => {}
        }
    }

    /// Begins the next look for more when its time has come.
    fn look_for_more(&mut self, now: Instant) {
        if let Phase::Cruise { since } = self.phase {
            let cycle = CYCLE_MIN.max(CYCLE_RTTS * self.rtts.min().unwrap_or_default());
            if now.saturating_duration_since(since) >= cycle {
                let round_ends = self.sent + self.target() as u64;
                self.phase = Phase::Probe { before: self.rates.max(), round_ends };
            }
        }
    }
}

/// The largest rate of a window of time: rates that fall from the oldest to the newest.
#[derive(Debug, Default)]
struct Rates(VecDeque<(Instant, f64)>);

impl Rates {
    fn add(&mut self, rate: f64, now: Instant, window: Duration) {
        while self.0.back().is_some_and(|&(_, older)| older <= rate) {
            self.0.pop_back();
        }
        self.0.push_back((now, rate));
        while self.0.front().is_some_and(|&(at, _)| at + window < now) {
            self.0.pop_front();
        }
    }

    fn max(&self) -> f64 {
        self.0.front().map_or(0.0, |&(_, rate)| rate)
    }
}

/// The shortest round trip of the last ten seconds: round trips that grow from the oldest to the newest.
#[derive(Debug, Default)]
struct Rtts {
    window: VecDeque<(Instant, Duration)>,
    latest: Duration,
}

impl Rtts {
    fn add(&mut self, rtt: Duration, now: Instant) {
        self.latest = rtt;
        while self.window.back().is_some_and(|&(_, older)| older >= rtt) {
            self.window.pop_back();
        }
        self.window.push_back((now, rtt));
        while self.window.front().is_some_and(|&(at, _)| at + RTT_WINDOW < now) {
            self.window.pop_front();
        }
    }

    fn min(&self) -> Option<Duration> {
        self.window.front().map(|&(_, rtt)| rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(delivered_bytes: u64) -> Feedback {
        Feedback { delivered_bytes, subscriber: 2, ..Feedback::default() }
    }

    fn room(pacer: &mut Pacer, now: Instant) -> usize {
        match pacer.pace(now) {
            Pace::Send(bytes) => bytes,
            Pace::Wait(_) => 0,
        }
    }

    #[test]
    fn an_unknown_path_gets_the_initial_window_and_then_waits_for_news() {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        assert_eq!(pacer.pace(start), Pace::Send(INITIAL as usize));
        pacer.on_sent(INITIAL as u64, start);
        assert_eq!(pacer.pace(start), Pace::Wait(Some(start + SILENCE_MIN)));
    }

    #[test]
    fn nobody_watching_means_no_encoding_at_all() {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        pacer.on_sent(1000, start);
        pacer.on_feedback(&Feedback::default(), start);
        assert_eq!(pacer.pace(start + Duration::from_secs(100)), Pace::Wait(None));
        // Who comes then begins with an empty path.
        pacer.on_feedback(&feedback(1000), start + Duration::from_secs(101));
        assert_eq!(room(&mut pacer, start + Duration::from_secs(101)), INITIAL as usize);
    }

    #[test]
    fn silence_stops_the_flow_but_not_for_ever() {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        let mut sent = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            let bytes = room(&mut pacer, now) as u64;
            if bytes > 0 {
                sent += bytes;
                pacer.on_sent(sent, now);
            }
        }
        assert_eq!(sent, INITIAL as u64 + 9 * FLOOR as u64, "one small probe a second");
    }

    #[test]
    fn feedback_beyond_what_was_sent_and_repeated_feedback_do_no_harm() {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        pacer.on_sent(1000, start);
        let later = start + Duration::from_millis(20);
        pacer.on_feedback(&feedback(u64::MAX), later);
        pacer.on_feedback(&feedback(u64::MAX), later);
        pacer.on_feedback(&feedback(3), later);
        assert_eq!(pacer.in_flight(), 0);
        assert_eq!(pacer.rtt_min(), Some(Duration::from_millis(20)));
    }

    #[test]
    fn what_leaves_room_can_only_raise_the_rate() {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        let (mut now, mut sent) = (start, 0);
        for _ in 0..20 {
            sent += room(&mut pacer, now) as u64;
            pacer.on_sent(sent, now);
            now += Duration::from_millis(50);
            pacer.on_feedback(&feedback(sent), now);
        }
        let busy = pacer.rate();
        for _ in 0..500 {
            sent += 100;
            pacer.on_sent(sent, now);
            now += Duration::from_millis(50);
            pacer.on_feedback(&feedback(sent), now);
        }
        assert!(busy > 100_000.0 && pacer.rate() >= busy, "{busy} then {}", pacer.rate());
    }
}
