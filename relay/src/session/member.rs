//! A participant of a session, connected or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_protocol::message::{Participant, Ping, Right, Rights, Role, control};
use tandem_protocol::{AttemptId, Close, DisplayId, LaneKey, Rendition, Sender};

use super::screens::Standing;
use super::{Join, LaneInstance, Showing};
use crate::outbox::Outbox;

/// Who a participant is, as its code, token or ticket says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Who {
    /// Its id at the desk; the same participant joins under the same.
    pub subject: String,
    /// Shown to the customer.
    pub name: String,
    /// Shown to the customer.
    pub organisation: String,
    /// Whose account pays.
    pub tenant: String,
    /// What it is in the session.
    #[serde(with = "role_number")]
    pub role: Role,
    /// What its group permits.
    #[serde(with = "rights_numbers")]
    pub permitted: Rights,
}

mod role_number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use tandem_protocol::message::Role;

    pub(super) fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        (*role as i32).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        Role::try_from(i32::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod rights_numbers {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tandem_protocol::message::Rights;

    pub(super) fn serialize<S: Serializer>(rights: &Rights, to: S) -> Result<S::Ok, S::Error> {
        rights.to_wire().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rights, D::Error> {
        Vec::<i32>::deserialize(from).map(|numbers| Rights::from_wire(&numbers))
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) who: Who,
    /// What the customer has granted.
    pub(super) granted: Rights,
    /// Of the newest grants in the publisher's epoch.
    pub(super) grant_revision: Option<u64>,
    pub(super) prompt_open: bool,
    /// What it has asked for and has no answer to.
    pub(super) asking: Option<Rights>,
    pub(super) link: Link,
}

#[derive(Debug)]
pub(super) enum Link {
    Online(Box<Online>),
    Offline {
        since: Instant,
    },
    /// Not connected yet.
    New,
}

#[derive(Debug)]
pub(super) struct Online {
    pub(super) connection: u64,
    pub(super) epoch: u64,
    pub(super) attempt: Option<AttemptId>,
    /// It has said something since its `Welcome`.
    pub(super) confirmed: bool,
    pub(super) outbox: Outbox,
    pub(super) lanes: BTreeMap<LaneInstance, InLane>,
    pub(super) watching: BTreeMap<DisplayId, Watch>,
    pub(super) showing: Vec<Showing>,
    /// A subscriber: what it has acknowledged.
    pub(super) standing: BTreeMap<(DisplayId, Rendition), Standing>,
    /// A publisher: what it has been asked for.
    pub(super) wanted: BTreeMap<(DisplayId, Rendition), Asked>,
    pub(super) heard: Instant,
    pub(super) feedback: FeedbackPace,
    pub(super) rtt: Option<Duration>,
    pinged: Option<(u64, Instant)>,
    next_ping: u64,
}

/// An incoming lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct InLane {
    pub(super) key: LaneKey,
    /// Its far end was lost: what still comes on it is of no use.
    pub(super) stale: bool,
}

/// A rendition that a publisher was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// A start with a key was asked for when there had been so many.
    pub(super) start_after: Option<u64>,
}

/// A display that a subscriber wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) visible: bool,
    pub(super) focused: bool,
}

impl Member {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            granted: Rights::NONE,
            grant_revision: None,
            prompt_open: false,
            asking: None,
            link: Link::New,
        }
    }

    pub(super) fn is_publisher(&self) -> bool {
        super::may_publish(self.who.role)
    }

    /// Whether it may use this right now. A publisher needs nobody's consent for its own.
    pub(super) fn may(&self, right: Right) -> bool {
        self.is_publisher() || self.granted.has(right)
    }

    pub(super) fn online(&self) -> Option<&Online> {
        match &self.link {
            Link::Online(online) => Some(online),
            _ => None,
        }
    }

    pub(super) fn online_mut(&mut self) -> Option<&mut Online> {
        match &mut self.link {
            Link::Online(online) => Some(online),
            _ => None,
        }
    }

    /// As the roster shows it.
    pub(super) fn participant(&self, sender: Sender) -> Participant {
        Participant {
            sender: sender.0.into(),
            role: self.who.role.into(),
            name: self.who.name.clone(),
            organisation: self.who.organisation.clone(),
            online: self.online().is_some(),
            rights: self.granted.to_wire(),
            publisher: self.is_publisher(),
            asking: self.asking.is_some(),
        }
    }
}

impl Online {
    pub(super) fn new(connection: u64, join: Join, outbox: Outbox, now: Instant) -> Self {
        Self {
            connection,
            epoch: join.epoch,
            attempt: join.attempt,
            confirmed: false,
            outbox,
            lanes: BTreeMap::new(),
            watching: BTreeMap::new(),
            showing: join.showing,
            standing: BTreeMap::new(),
            wanted: BTreeMap::new(),
            heard: now,
            feedback: FeedbackPace::default(),
            rtt: None,
            pinged: None,
            next_ping: 1,
        }
    }

    /// Sends a heartbeat when one is due, and gives up on who has been silent for three.
    pub(super) fn beat(&mut self, every: Duration, now: Instant) {
        let silent = now.saturating_duration_since(self.heard);
        if silent >= 3 * every {
            self.outbox.close(Close::SILENT, "three heartbeats without an answer");
            return;
        }
        if self.pinged.is_some_and(|(_, at)| now.saturating_duration_since(at) < every) {
            return;
        }
        let id = self.next_ping;
        self.next_ping += 1;
        self.pinged = Some((id, now));
        self.outbox.control(control::Message::Ping(Ping { id, time_us: 0 }));
    }

    /// The answer to the newest heartbeat tells the round trip.
    pub(super) fn ponged(&mut self, id: u64, now: Instant) {
        if let Some((pinged, at)) = self.pinged
            && pinged == id
        {
            self.rtt = Some(now.saturating_duration_since(at));
        }
    }
}

/// How often feedback goes to a publisher: at most 60 a second, and what was held back soon after.
#[derive(Debug, Default)]
pub(super) struct FeedbackPace {
    sent: Option<Instant>,
    due: Option<Instant>,
}

impl FeedbackPace {
    const EVERY: Duration = Duration::from_micros(16_667);

    /// Something is to be reported. Whether it may be now; otherwise it becomes due.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        let next = self.sent.map(|sent| sent + Self::EVERY);
        if next.is_some_and(|next| now < next) {
            self.due = next;
            return false;
        }
        self.sent = Some(now);
        self.due = None;
        true
    }

    /// When what was held back may go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether something that was held back may go now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}
