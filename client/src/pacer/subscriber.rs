//! When somebody else paces: what was known of the old path is kept, and the new one begins with what is known of it.

use std::time::{Duration, Instant};

use tandem_protocol::limits;
use tandem_protocol::message::Feedback;

use super::{INITIAL, Pacer, Phase, STANDING};

/// What somebody who was not pacing has received is counted over this time.
const FLOW: Duration = Duration::from_millis(500);
/// What is known of a subscriber's path is believed so long.
const KNOWN_FOR: Duration = Duration::from_secs(120);

/// What is remembered of a subscriber's path.
#[derive(Clone, Debug)]
pub(super) struct Known {
    rate: f64,
    rtt: Duration,
    at: Instant,
}

impl Pacer {
    /// Another path: what was measured on the last one is kept for its return.
    pub(super) fn change_subscriber(&mut self, before: u32, feedback: &Feedback, now: Instant) {
        let (rate, rtt, rtt_beyond) = (self.rates.get(), self.rtts.min(), self.rtt_beyond);
        if let (Some(rtt), true) = (rtt, before != 0 && rate > 0.0) {
            self.known.retain(|_, known| known.at + KNOWN_FOR > now);
            self.known.insert(before, Known { rate, rtt, at: now });
            while self.known.len() > limits::PARTICIPANTS_MAX {
                self.known.pop_first();
            }
        }
        let (share, unsent, subscriber) = (self.share, self.unsent, self.subscriber);
        let ledger = std::mem::take(&mut self.ledger);
        let known = std::mem::take(&mut self.known);
        *self = Self { ledger, known, share, unsent, subscriber, ..Self::default() };
        self.last_news = Some(now);
        self.rtt_beyond = Duration::from_micros(feedback.rtt_us.into());
        if feedback.subscriber == 0 {
            let sent = self.ledger.sent();
            return self.ledger.turn_to(sent);
        }
        self.ledger.turn_to(feedback.delivered_bytes);
        if let Some(known) = self.known.get(&feedback.subscriber).filter(|known| known.at + KNOWN_FOR > now) {
            self.rates.reset(known.rate, now);
            self.rtts.reset(known.rtt, now);
            self.phase = Phase::Cruise { since: now };
            return;
        }
        // It has watched all the while. If little waits for it, it takes at least what came of late.
        let known_both = rtt_beyond > Duration::ZERO && self.rtt_beyond > Duration::ZERO;
        let beyond = |rtt: Duration| rtt.saturating_sub(rtt_beyond) + self.rtt_beyond;
        let Some(rtt) = rtt.map(|rtt| if known_both { beyond(rtt) } else { rtt }) else { return };
        let flow = self.ledger.sent_since(now.checked_sub(FLOW).unwrap_or(now)) as f64 / FLOW.as_secs_f64();
        if flow > 0.0 && self.in_flight() as f64 <= flow * (rtt + 3 * STANDING).as_secs_f64() + INITIAL {
            self.rates.reset(flow, now);
            self.rtts.reset(self.ledger.lag(now).map_or(rtt, |lag| lag.min(rtt)), now);
        }
    }
}
