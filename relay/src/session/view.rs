//! A session as an operator sees it: who is there and how it goes, nothing of what is in it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_protocol::message::{Right, Role, SessionState};

use super::member::{Member, Online};
use super::{Session, Totals};
use crate::metrics::Timed;

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub session: String,
    /// Where it is in its life: `connecting`, `waiting`, `active` or `reconnecting`.
    pub state: String,
    /// Since when it is here, in seconds.
    pub age_seconds: u64,
    /// Bytes of records from participants, and to them.
    pub received_bytes: u64,
    /// To participants.
    pub sent_bytes: u64,
    /// Bytes of its screens that are held.
    pub held_bytes: u64,
    /// Returns with a ticket.
    pub resumes: u64,
    /// Whose account pays: the customer's, or of who is there.
    pub tenant: String,
    /// Who is in it, connected or expected back.
    pub participants: Vec<ParticipantView>,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParticipantView {
    /// Its number in the session, as logs show it.
    pub participant: String,
    /// `customer`, `lead`, `collaborator` or `monitor`.
    pub role: String,
    /// Whether it is connected.
    pub online: bool,
    /// How it is connected: `quic`, `webtransport` or `websocket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Round trip to it, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// How long the oldest of what waits for it has waited, in milliseconds.
    pub unsent_ms: u64,
    /// Bytes that wait for it, screens aside.
    pub queued_bytes: u64,
}

/// What waits in a session for its participants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes in queues.
    pub queued_bytes: usize,
    /// How long the oldest input has waited.
    pub input: Duration,
    /// How long the oldest record of a screen has waited for who sees it.
    pub screen: Duration,
}

impl Waiting {
    /// Of this and another session.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            queued_bytes: self.queued_bytes + other.queued_bytes,
            input: self.input.max(other.input),
            screen: self.screen.max(other.screen),
        }
    }
}

impl Session {
    /// What it has come to.
    pub fn totals(&self) -> Totals {
        self.metrics.totals()
    }

    /// What waits for its participants.
    pub fn waiting(&self, now: Instant) -> Waiting {
        let online =
            self.members.values().filter_map(|member| Some((member.online()?, member.may(Right::View))));
        online
            .map(|(online, views)| self.waiting_for(online, views, now))
            .fold(Waiting::default(), Waiting::and)
    }

    /// `views`: it may see the screens; while the publisher is away, what is held for it waits for nobody.
    fn waiting_for(&self, online: &Online, views: bool, now: Instant) -> Waiting {
        let seen = online.readers.iter().filter(|(id, _)| views && online.sees(**id));
        let screen = seen.filter_map(|(id, reader)| Some(reader.unsent_age(self.displays.get(id)?, now)));
        Waiting {
            queued_bytes: online.outbox.waiting_bytes(),
            input: online.outbox.oldest(Timed::Input, now),
            screen: screen.max().unwrap_or_default(),
        }
    }

    /// As an operator sees it.
    pub fn view(&self, now: Instant) -> SessionView {
        let totals = self.totals();
        let paying = self.publisher().and_then(|sender| self.members.get(&sender));
        let paying = paying.or_else(|| self.members.values().next());
        let held = self.displays.values().map(|display| display.held_bytes() as u64);
        SessionView {
            session: self.id.to_string(),
            state: state_name(self.state()).into(),
            age_seconds: totals.began.map_or(0, |began| now.saturating_duration_since(began).as_secs()),
            received_bytes: totals.received.bytes,
            sent_bytes: totals.sent.bytes,
            held_bytes: held.sum(),
            resumes: totals.resumes,
            tenant: paying.map(|member| member.who.tenant.clone()).unwrap_or_default(),
            participants: self
                .members
                .iter()
                .map(|(sender, member)| self.participant_view(&sender.to_string(), member, now))
                .collect(),
        }
    }

    fn participant_view(&self, participant: &str, member: &Member, now: Instant) -> ParticipantView {
        let online = member.online();
        let waiting =
            online.map(|online| self.waiting_for(online, member.may(Right::View), now)).unwrap_or_default();
        ParticipantView {
            participant: participant.to_owned(),
            role: role_name(member.who.role).into(),
            online: online.is_some(),
            transport: online.map(|online| online.binding.name().to_owned()),
            rtt_ms: online.and_then(|online| online.rtt).map(milliseconds),
            unsent_ms: milliseconds(waiting.input.max(waiting.screen)),
            queued_bytes: waiting.queued_bytes as u64,
        }
    }
}

/// A role, as operators read it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Customer => "customer",
        Role::Lead => "lead",
        Role::Collaborator => "collaborator",
        Role::Monitor => "monitor",
        Role::Unspecified => "unspecified",
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn state_name(state: SessionState) -> &'static str {
    match state {
        SessionState::Waiting => "waiting",
        SessionState::Active => "active",
        SessionState::Reconnecting => "reconnecting",
        SessionState::Offline => "offline",
        _ => "connecting",
    }
}
