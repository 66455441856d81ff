//! Who is here: heartbeats, silence and grace, and what everybody and the desk are told of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tandem_protocol::message::{self, SessionState, control};
use tandem_protocol::{Close, Sender};

use super::member::{Link, Member};
use super::{Seat, Session};

/// How a session stands, for the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Where it is in its life.
    pub state: SessionState,
    /// Whether its customer is connected.
    pub customer_online: bool,
    /// Why it has ended, if it has.
    pub ended: Option<Close>,
}

impl Session {
    /// When [`Session::due`] is next needed for what cannot wait for the regular [`Session::tick`].
    pub fn deadline(&self, seat: Seat) -> Option<Instant> {
        let member = self.members.get(&seat.sender)?;
        member.online().filter(|online| online.connection == seat.connection && member.is_publisher())?;
        // The publisher's connection keeps the time of its screens.
        let feedback = self.displays.values().flat_map(|display| display.feedback_due());
        feedback.chain(self.upkeep_due).min()
    }

    /// Does what was due at the deadline. While nothing waits for anybody that is next to nothing.
    pub fn due(&mut self, now: Instant) {
        if self.upkeep_due.is_some_and(|due| due <= now) {
            if self.is_anything_waiting() {
                self.upkeep(now);
            } else {
                self.upkeep_due = None;
            }
        }
        self.send_feedback(now);
    }

    /// Keeps time: heartbeats, silence, grace, overdue feedback. To be called every [`TICK`](super::TICK).
    pub fn tick(&mut self, now: Instant) {
        let heartbeat = self.heartbeat();
        for member in self.members.values_mut() {
            if let Link::Online(online) = &mut member.link {
                online.beat(heartbeat, now);
            }
        }
        self.expire(now);
        self.upkeep(now);
        self.send_feedback(now);
    }

    /// Takes leave of those who stayed away for longer than the grace period, and of the session when nobody is left, or when its
    /// customer cannot come back.
    fn expire(&mut self, now: Instant) {
        let grace = self.timing.grace;
        let over = |since: Instant| now.saturating_duration_since(since) > grace;
        let gone = |member: &Member| matches!(member.link, Link::Offline { since } if over(since));
        let expired: Vec<(Sender, Member)> = self.members.extract_if(.., |_, member| gone(member)).collect();
        let customer = expired.iter().any(|(_, member)| member.is_publisher());
        let changed = !expired.is_empty();
        self.left.extend(expired.into_iter().map(|(sender, _)| sender));
        if customer || self.awaited.is_some_and(over) {
            self.time_out();
        } else if changed {
            self.announce();
            if self.connected() == 0 {
                self.ended.get_or_insert(Close::TICKET_EXPIRED);
            }
        }
    }

    /// The session ends since its customer stayed away for too long. Who comes back with a ticket is told so.
    fn time_out(&mut self) {
        if self.ended.is_none() {
            self.finish(Close::ENDED, message::EndReason::TimedOut);
            self.ended = Some(Close::TICKET_EXPIRED);
        }
    }

    /// Where the session stands (docs/protocol.md, section 7).
    pub fn state(&self) -> SessionState {
        let online = |publisher: bool| {
            self.members.values().any(|m| m.is_publisher() == publisher && m.online().is_some())
        };
        let customer_known = self.publisher().is_some() || self.awaited.is_some();
        match (online(true), online(false)) {
            (true, true) => SessionState::Active,
            (true, false) => SessionState::Waiting,
            (false, _) if customer_known => SessionState::Reconnecting,
            (false, _) => SessionState::Connecting,
        }
    }

    /// How it stands, for the desk.
    pub fn status(&self) -> SessionStatus {
        let customer = self.publisher().and_then(|sender| self.members.get(&sender));
        SessionStatus {
            state: self.state(),
            customer_online: customer.is_some_and(|member| member.online().is_some()),
            ended: self.ended,
        }
    }

    pub(super) fn heartbeat(&self) -> Duration {
        match self.state() {
            SessionState::Active | SessionState::Reconnecting => self.timing.heartbeat_active,
            _ => self.timing.heartbeat_waiting,
        }
    }

    /// The same, as it is told.
    pub(super) fn heartbeat_ms(&self) -> u32 {
        u32::try_from(self.heartbeat().as_millis()).unwrap_or(u32::MAX)
    }

    /// Tells everybody who is here.
    pub(super) fn announce(&mut self) {
        self.revision += 1;
        let roster = message::Roster {
            revision: self.revision,
            state: self.state().into(),
            participants: self.members.iter().map(|(&sender, member)| member.participant(sender)).collect(),
            heartbeat_ms: self.heartbeat_ms(),
        };
        let here: BTreeSet<Sender> = self.members.keys().copied().collect();
        for member in self.members.values_mut() {
            if let Link::Online(online) = &mut member.link {
                online.outbox.control(control::Message::Roster(roster.clone()));
                online.outbox.end_lanes(|sender| !here.contains(&sender));
                // Whoever waited for room at somebody who has left need not any more.
                online.outbox.has_room();
            }
        }
    }
}
