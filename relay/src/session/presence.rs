//! Who is here: heartbeats, silence and grace, and what everybody and the desk are told of it.

use std::time::{Duration, Instant};

use tandem_protocol::Close;
use tandem_protocol::message::{self, SessionState, control};

use super::display::Display;
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
    /// When [`Session::tick`] is next needed for what cannot wait for the regular one.
    pub fn deadline(&self, seat: Seat) -> Option<Instant> {
        let member = self.members.get(&seat.sender)?;
        member.online().filter(|online| online.connection == seat.connection && member.is_publisher())?;
        // The publisher's connection keeps the time of its screens.
        let feedback = self.displays.values().flat_map(Display::feedback_due);
        feedback.chain(self.upkeep_due).min()
    }

    /// Keeps time: heartbeats, silence, grace, overdue feedback. To be called at the deadline and a few times a second.
    pub fn tick(&mut self, now: Instant) {
        let heartbeat = self.heartbeat();
        let grace = self.timing.grace;
        let count = self.members.len();
        for member in self.members.values_mut() {
            if let Link::Online(online) = &mut member.link {
                online.beat(heartbeat, now);
            }
        }
        let gone = |member: &Member| matches!(member.link, Link::Offline { since } if now.saturating_duration_since(since) > grace);
        self.left.extend(self.members.extract_if(.., |_, member| gone(member)).map(|(sender, _)| sender));
        if self.members.len() < count {
            self.announce();
            if self.members.values().all(|member| member.online().is_none()) {
                self.ended.get_or_insert(Close::TICKET_EXPIRED);
            }
        }
        self.upkeep(now);
        self.send_feedback(now);
    }

    /// Where the session stands (docs/protocol.md, section 7).
    pub fn state(&self) -> SessionState {
        let online = |publisher: bool| {
            self.members.values().any(|m| m.is_publisher() == publisher && m.online().is_some())
        };
        let customer_known = self.publisher().is_some();
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

    /// Tells everybody who is here.
    pub(super) fn announce(&mut self) {
        self.revision += 1;
        let roster = message::Roster {
            revision: self.revision,
            state: self.state().into(),
            participants: self.members.iter().map(|(&sender, member)| member.participant(sender)).collect(),
        };
        for member in self.members.values_mut() {
            if let Link::Online(online) = &mut member.link {
                online.outbox.control(control::Message::Roster(roster.clone()));
                // Whoever waited for room at somebody who has left need not any more.
                online.outbox.wake_changed();
            }
        }
    }
}
