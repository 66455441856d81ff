//! How much screen the path takes now. A pure state machine: times are passed in, nothing is measured here.
//!
//! The encoder must not produce what cannot be sent yet, so the pacer bounds the bytes between the encoder and the
//! pacing subscriber, whatever lies between: the customer's uplink, the relay, the technician's downlink. It keeps them near
//! `rate × (shortest round trip + 30 ms)`: enough to keep the path busy, little enough that nothing grows old on the way.
//! What may go is spread over time too, so that a page that changes after a pause goes at once at the full rate, and in no burst.
//!
//! **Rate.** The largest of late that deliveries showed, measured in two ways. As BBR does: bytes delivered while one
//! sending was under way, over the longer of the times that sending and delivering them took; what left room says nothing about the
//! limit and can only raise the rate. And the bottleneck's own: bytes that came while others waited behind them all the
//! time. The second one also tells at once when the path has become slower, and a stall behind a lost packet apart from that.
//!
//! **Start-up** doubles per round trip until the first sign of a queue; what comes after it then has shown the rate.
//! Afterwards every few round trips the pacer looks for more: a little at first, twice as much each time that it succeeds;
//! then it lets the path drain once, which also shows the shortest round trip again.
//!
//! **Another subscriber** is another path. What is known of each is kept, so that control may go to and fro.

mod estimate;
mod learn;
mod ledger;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_protocol::message::Feedback;

use estimate::{Bucket, Bunches, Highest, Middle, Queued, Rtts, Slower};
use ledger::{Ledger, Sample};
use subscriber::Known;

/// Time of the path's rate that may wait in it, on purpose: what keeps it busy between two pieces of news.
const STANDING: Duration = Duration::from_millis(30);
/// Bytes that may always be under way.
const FLOOR: f64 = 4.0 * 1024.0;
/// Bytes under way before anything is known of the path: what a transport sends at first (RFC 6928), so that nothing waits
/// in it and looks like a slow path.
const INITIAL: f64 = 14.0 * 1024.0;
/// So much longer than the shortest, a round trip is the first sign of a queue.
const QUEUE_SIGN: Duration = Duration::from_millis(12);
/// A rate that was given up so long ago was so rightly.
const REGRET: Duration = Duration::from_secs(2);
/// What waits at an end of its own accord: no more than this, or than this time of the rate.
const LITTLE: f64 = 3000.0;
const LITTLE_TIME: Duration = Duration::from_millis(5);
/// What start-up saw of the bottleneck's rate is believed by this part: it was little.
const STARTUP_CAUTION: f64 = 0.9;
/// What may go is spread over time at a little more than the rate, lest an estimate that is a little low stays low.
const SPREAD: f64 = 1.05;
/// The first look for more puts as much more under way: a quarter, but no more than this time of the rate.
const PROBE_MORE: Duration = Duration::from_millis(15);
/// At least so many round trips, and this time, lie between two looks for more; more after several in vain.
const PROBE_EVERY_RTTS: u32 = 2;
const PROBE_EVERY: Duration = Duration::from_millis(250);
const VAIN_MAX: u32 = 5;
/// A look that takes longer found nothing to send.
const PROBE_RTTS: u32 = 4;
/// At least this long without news before a byte is risked on a path that may be dead. A transport sends again what was
/// lost long before that, and after a black-out every byte that is old already makes the first new picture later.
const SILENCE_MIN: Duration = Duration::from_secs(3);

/// What the pacer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Up to so many bytes may go now.
    Send(usize),
    /// None may; ask again after the next feedback, or at this time.
    Wait(Option<Instant>),
}

/// The state machine. One for each lane and opening: its byte counts are those of the lane on this connection.
#[derive(Clone, Debug)]
pub struct Pacer {
    ledger: Ledger,
    rates: Highest,
    rtts: Rtts,
    bunches: Bunches,
    bucket: Bucket,
    slower: Slower,
    queued: Queued,
    phase: Phase,
    /// Looks for more that found nothing, one after the other.
    vain: u32,
    /// The bottleneck's own rate, as last seen.
    busy: Middle,
    /// How long what came last had waited in the path, if not behind a lost packet.
    waits: Duration,
    /// When nothing had come for a while although it should have: packets are lost.
    stalled_at: Option<Instant>,
    /// The end of the last black-out.
    dark: Option<Instant>,
    /// When a lossy path was last emptied.
    emptied_at: Option<Instant>,
    /// Bytes that our own end has not sent.
    unsent: u64,
    /// The rate before it was given up for a slower one: if nothing waits then, it may have been a mistake.
    given_up: Option<(f64, Instant)>,
    /// Since when even what was sent into an empty path takes longer than it should, and the least that it took.
    longer: Option<(Instant, Option<Duration>)>,
    /// When it was last found longer.
    lengthened_at: Option<Instant>,
    /// The part of the path that is this lane's.
    share: f64,
    /// Who paces; `None` before the first feedback, when somebody is taken to watch.
    subscriber: Option<u32>,
    known: BTreeMap<u32, Known>,
    /// The round trip between relay and subscriber, as the relay says; zero: unknown.
    rtt_beyond: Duration,
    /// When something last arrived or was sent.
    last_news: Option<Instant>,
    /// Nothing sent since a pause has arrived yet: the path may have changed.
    resumed_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Doubling until something waits in the path.
    Startup,
    /// Sending nothing until the path is nearly empty, to see the shortest round trip; but no longer than that should take:
    /// what stays longer waits behind a lost packet.
    Drain { until: Instant },
    /// At the known rate.
    Cruise { since: Instant },
    /// Putting this part more under way, for two rounds: it is sent in the first and seen in the second.
    /// `waited` is the longest that anything waited meanwhile.
    Probe { more: f64, before: f64, waited: Duration, round_ends: u64, until: Instant },
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            rates: Highest::default(),
            rtts: Rtts::default(),
            bunches: Bunches::default(),
            bucket: Bucket::default(),
            slower: Slower::default(),
            queued: Queued::default(),
            phase: Phase::Startup,
            vain: 0,
            busy: Middle::default(),
            waits: Duration::ZERO,
            stalled_at: None,
            dark: None,
            emptied_at: None,
            unsent: 0,
            given_up: None,
            longer: None,
            lengthened_at: None,
            share: 1.0,
            subscriber: None,
            known: BTreeMap::new(),
            rtt_beyond: Duration::ZERO,
            last_news: None,
            resumed_at: None,
        }
    }
}

impl Pacer {
    /// The lane has been given `total` bytes since it opened.
    pub fn on_sent(&mut self, total: u64, now: Instant) {
        let before = self.ledger.sent();
        if total <= before {
            return;
        }
        self.fill(now);
        if self.spread_rate() > 0.0 {
            self.bucket.take(total - before);
        }
        if self.in_flight() == 0 {
            self.resumed_at = Some(before);
        }
        let room = (total - before + self.in_flight()) as f64;
        // What goes out before anything has come back says little of the rate.
        let limited = self.resumed_at.is_some()
            || room < 0.75 * self.target() && self.bucket.tokens() > 0.25 * self.depth();
        self.ledger.send(total, limited, self.part(), now);
        self.last_news = Some(now);
    }

    /// The relay has said how the lane reaches the pacing subscriber.
    pub fn on_feedback(&mut self, feedback: &Feedback, now: Instant) {
        let before = self.subscriber.replace(feedback.subscriber);
        if before.unwrap_or_else(|| feedback.subscriber.max(1)) != feedback.subscriber {
            self.change_subscriber(before.unwrap_or(0), feedback, now);
        }
        if feedback.subscriber == 0 {
            return;
        }
        self.rtt_beyond = Duration::from_micros(feedback.rtt_us.into());
        let waited = Duration::from_micros(feedback.delay_us.into());
        let at = now.checked_sub(waited).unwrap_or(now);
        if let Some(sample) =
            self.ledger.deliver(feedback.delivered_bytes, at, self.rtts.min(), self.rates.get())
        {
            self.last_news = Some(now);
            let little = LITTLE.max(self.rates.get() * LITTLE_TIME.as_secs_f64());
            let hungry = ((feedback.queued_bytes + self.unsent) as f64) < little;
            self.sample(&sample, hungry);
            self.advance(&sample);
        }
    }

    /// Whether and how much may be sent now.
    pub fn pace(&mut self, now: Instant) -> Pace {
        if self.subscriber == Some(0) {
            return Pace::Wait(None);
        }
        self.look_for_more(now);
        self.fill(now);
        let (target, in_flight) = (self.target(), self.in_flight() as f64);
        let room = target - in_flight;
        let spread = self.spread_rate();
        // So little that it may always go.
        let least = FLOOR - in_flight;
        let allowed = if spread > 0.0 { self.bucket.tokens().max(least) } else { f64::INFINITY };
        // Crumbs are not worth an update, unless nothing else is under way.
        let crumb = (target / 8.0).min(spread_crumb(spread)).clamp(1024.0, 16384.0);
        let silent = self.last_news.map(|news| news + self.silence());
        if room < crumb && in_flight > 0.0 {
            return match silent {
                Some(at) if now >= at => Pace::Send(FLOOR as usize),
                at => Pace::Wait(at),
            };
        }
        if allowed < crumb {
            return Pace::Wait(Some(now + Duration::from_secs_f64((crumb - allowed) / spread)));
        }
        Pace::Send(room.min(allowed) as usize)
    }

    /// From now on this part of the path is the lane's, and the rest somebody else's: more than 0, at most 1.
    pub fn set_share(&mut self, share: f64, now: Instant) {
        if share != self.share {
            self.fill(now);
            self.share = share;
        }
    }

    /// So many bytes wait at our own end for the connection to take them.
    pub fn set_unsent(&mut self, bytes: u64) {
        self.unsent = bytes;
    }

    /// Bytes handed to the lane that have not reached the pacing subscriber.
    pub fn in_flight(&self) -> u64 {
        self.ledger.in_flight()
    }

    /// The path's rate as far as it is known, bytes a second; 0: unknown.
    pub fn rate(&self) -> f64 {
        self.rates.get()
    }

    /// The shortest round trip of the last ten seconds, from handing bytes to the lane to news of their delivery.
    pub fn rtt_min(&self) -> Option<Duration> {
        self.rtts.min()
    }

    /// How long the path may be silent before it is probed.
    fn silence(&self) -> Duration {
        SILENCE_MIN.max(2 * self.rtts.latest().min(SILENCE_MIN))
    }

    /// The part of the path that is used now. A look for more takes all of it: else what others take would hide a rate that
    /// is too low.
    fn part(&self) -> f64 {
        if matches!(self.phase, Phase::Probe { .. }) { 1.0 } else { self.share }
    }

    /// Bytes that should be under way.
    fn target(&self) -> f64 {
        let (Some(rtt), rate) = (self.rtts.min(), self.rates.get()) else { return INITIAL };
        if rate == 0.0 {
            return INITIAL;
        }
        let needed = rate * rtt.as_secs_f64();
        let target = match self.phase {
            // News comes every 17 ms at most, however short the path.
            Phase::Startup => return (2.0 * needed.max(rate * STANDING.as_secs_f64() / 2.0)).max(INITIAL),
            Phase::Drain { .. } => return self.drained(),
            Phase::Cruise { .. } => needed + self.standing(),
            Phase::Probe { more, .. } => needed + self.standing() + more,
        };
        (self.part() * target).max(FLOOR)
    }

    /// Bytes that may wait on the way.
    fn standing(&self) -> f64 {
        let (rate, rtt) = (self.rates.get(), self.rtts.min().unwrap_or_default());
        let most = rate * (3 * rtt / 2 + 2 * STANDING).as_secs_f64();
        self.bunches.get().clamp(rate * STANDING.as_secs_f64(), most)
    }

    /// Bytes under way that leave the path nearly empty.
    fn drained(&self) -> f64 {
        (0.25 * self.rates.get() * self.rtts.min().unwrap_or_default().as_secs_f64()).max(1024.0)
    }

    /// The rate at which bytes may be handed out; 0: no limit but the target.
    fn spread_rate(&self) -> f64 {
        let part = match self.phase {
            Phase::Startup => return 0.0,
            _ if self.resumed_at.is_some() => 1.0,
            Phase::Probe { more, .. } => {
                let round = self.rates.get() * (self.rtts.min().unwrap_or_default() + STANDING).as_secs_f64();
                SPREAD + more / round.max(FLOOR)
            }
            // The more waits, the less is added.
            Phase::Drain { .. } | Phase::Cruise { .. } => {
                let beyond = self.waits.saturating_sub(STANDING / 2).as_secs_f64() / STANDING.as_secs_f64();
                (SPREAD - 0.2 * beyond).max(0.8)
            }
        };
        self.part() * part * self.rates.get()
    }

    /// Bytes that may be handed out at once.
    fn depth(&self) -> f64 {
        (self.rates.get() * Bucket::DEPTH.as_secs_f64()).max(FLOOR)
    }

    fn fill(&mut self, now: Instant) {
        self.bucket.fill(self.spread_rate(), self.depth(), now);
    }

    /// Moves on to the next phase, after a sample.
    fn advance(&mut self, sample: &Sample) {
        let at = sample.progress.at;
        let queue = sample.rtt.saturating_sub(self.rtts.min().unwrap_or_default());
        if let Phase::Probe { waited, .. } = &mut self.phase {
            *waited = queue.max(*waited);
        }
        match self.phase {
            // Behind a lost packet much waits too, but shows no rate.
            Phase::Startup if queue >= QUEUE_SIGN => {
                if let Some((busy, _)) = sample.busy {
                    let rate = (STARTUP_CAUTION * busy).max(self.rates.get().min(busy));
                    self.rates.reset(rate, at);
                    self.phase = Phase::Cruise { since: at };
                }
            }
            Phase::Probe { more, before, waited, round_ends, .. } if sample.progress.bytes >= round_ends => {
                let rate = self.rates.get();
                let hoped = more / (before * (self.rtts.min().unwrap_or_default() + STANDING).as_secs_f64());
                // Once something waits, what comes out of the bottleneck shows its rate, and more would only wait too.
                let gained = (rate / before - 1.0) / hoped;
                self.vain = if gained > 0.4 { 0 } else { (self.vain + 1).min(VAIN_MAX) };
                self.phase = if gained > 0.9 && waited < QUEUE_SIGN {
                    let rtt = self.rtts.min().unwrap_or_default().max(STANDING);
                    self.probe((2.0 * more * rate / before).min(rate * rtt.as_secs_f64()), at)
                } else {
                    self.rest(at)
                };
            }
            Phase::Probe { .. } if queue > 2 * STANDING && sample.busy.is_some() => {
                self.phase = self.rest(at)
            }
            Phase::Drain { .. } if self.in_flight() as f64 <= self.drained() => {
                self.phase = Phase::Cruise { since: at };
            }
            // It was given up, and yet nothing waits: was that a mistake?
            Phase::Cruise { .. } if queue < QUEUE_SIGN => {
                let (rate, rtt) = (self.rates.get(), self.rtts.min().unwrap_or_default());
                if let Some((before, given_up)) = self.given_up.take()
                    && at < given_up + REGRET
                    && rate < 0.75 * before
                {
                    self.phase = self.probe(rate * rtt.max(STANDING).as_secs_f64(), at);
                }
            }
            _ => {}
        }
    }

    /// Begins the next look for more when its time has come, and ends one that had nothing to send.
    fn look_for_more(&mut self, now: Instant) {
        let (rate, rtt) = (self.rates.get(), self.rtts.min().unwrap_or_default());
        match self.phase {
            Phase::Cruise { since } => {
                let every = PROBE_EVERY.max(PROBE_EVERY_RTTS * rtt) * (1 + self.vain);
                if now.saturating_duration_since(since) >= every {
                    let quarter = 0.25 * rate * (rtt + STANDING).as_secs_f64();
                    self.phase = self.probe(quarter.min(rate * PROBE_MORE.as_secs_f64()), now);
                }
            }
            Phase::Probe { until, .. } | Phase::Drain { until, .. } if now >= until => {
                self.phase = Phase::Cruise { since: now };
            }
            _ => {}
        }
    }

    /// What follows a look for more; from time to time all that waits leaves.
    fn rest(&self, at: Instant) -> Phase {
        if !self.rtts.is_old(at) {
            return Phase::Cruise { since: at };
        }
        Phase::Drain { until: at + self.rtts.min().unwrap_or_default() + 2 * STANDING }
    }

    fn probe(&self, more: f64, now: Instant) -> Phase {
        let (rate, rtt) = (self.rates.get(), self.rtts.min().unwrap_or_default());
        let round = rate * (rtt + STANDING).as_secs_f64() + more;
        let round_ends = self.ledger.sent() + round as u64;
        let until = now + PROBE_RTTS * (rtt + 2 * STANDING);
        Phase::Probe { more, before: rate, waited: Duration::ZERO, round_ends, until }
    }
}

/// Bytes of the smallest update that is worth its while at this rate.
fn spread_crumb(rate: f64) -> f64 {
    if rate > 0.0 { rate * 0.006 } else { f64::INFINITY }
}
