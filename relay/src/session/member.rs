//! A participant of a session, connected or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_protocol::message::{LanePosition, Participant, Ping, Right, Rights, Role, control};
use tandem_protocol::{AttemptId, Close, DisplayId, LaneKey, LaneKind, Rendition, Sender};

use super::display::Both;
use super::rate::Rate;
use super::reader::{Place, Reader};
use super::{Join, LaneInstance, Showing, TICK};
use crate::metrics::Binding;
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
    /// A lead: those who join its session later may be shown what was on the screen before they could see it.
    #[serde(default)]
    pub shows_past: bool,
    /// Until when it may be here, in seconds since 1970; of the customer or the lead: when the session ends.
    #[serde(default)]
    pub ends: Option<i64>,
    /// The token that it was admitted by; empty: a code.
    #[serde(default)]
    pub token: String,
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
    /// Since when it may see the screens, by how many records had come by then. `None`: it may not. While the publisher is away
    /// nobody may, but that withdraws nothing.
    pub(super) views_since: Option<BTreeMap<DisplayId, Both<u64>>>,
    /// Of the newest grants in the publisher's epoch.
    pub(super) grant_revision: Option<u64>,
    pub(super) prompt_open: bool,
    /// What it has asked for and has no answer to.
    pub(super) asking: Option<Rights>,
    /// How far its input was passed on to the publisher that is there now: epoch and next number.
    pub(super) input_taken: Option<(u64, u64)>,
    /// Which rendition of a display its last connection read.
    pub(super) read_last: BTreeMap<DisplayId, Rendition>,
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
    pub(super) binding: Binding,
    /// It has said something since its `Welcome`.
    pub(super) confirmed: bool,
    pub(super) outbox: Outbox,
    pub(super) lanes: BTreeMap<LaneInstance, InLane>,
    pub(super) watching: BTreeMap<DisplayId, Watch>,
    /// A returning subscriber: what it shows.
    pub(super) showing: Vec<Showing>,
    /// A subscriber: where it is in the displays that it may see.
    pub(super) readers: BTreeMap<DisplayId, Box<Reader>>,
    /// Bytes of screens and keys that have passed between it and the relay, and how fast they do.
    pub(super) carried: u64,
    pub(super) rate: Rate,
    /// When it last took or acknowledged something of its screens, or had nothing to take.
    pub(super) progress: Instant,
    /// Its client is going over to another connection: nothing but control is taken for this one any more.
    pub(super) parked: bool,
    /// It goes on where one that was parked ended.
    pub(super) moved: bool,
    /// It was told to close.
    pub(super) ending: bool,
    pub(super) heard: Instant,
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

/// A display that a subscriber wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) visible: bool,
    pub(super) focused: bool,
}

impl Member {
    /// `returning`: it comes from a relay before this one, which was gone a moment ago. What is held here came since then, but for the
    /// last seconds that a publisher sends again.
    pub(super) fn new(who: Who, returning: bool) -> Self {
        Self {
            who,
            granted: Rights::NONE,
            views_since: returning.then(BTreeMap::new),
            grant_revision: None,
            prompt_open: false,
            asking: None,
            input_taken: None,
            read_last: BTreeMap::new(),
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

    /// Its connection is gone: remembers what of it helps the next one.
    pub(super) fn remember(&mut self) {
        let Link::Online(online) = &self.link else { return };
        for (&display, reader) in &online.readers {
            if let Place::Reading(rendition, _) = reader.place {
                self.read_last.insert(display, rendition);
            }
        }
    }

    /// How far its input has come: on a connection that it went over to it goes on with the next.
    pub(super) fn received_input(&self, sender: Sender) -> Option<LanePosition> {
        let (epoch, next_seq) = self.input_taken?;
        Some(LanePosition { lane: Some(LaneKey::plain(LaneKind::Input, sender).into()), epoch, next_seq })
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
            binding: join.binding,
            confirmed: false,
            outbox,
            lanes: BTreeMap::new(),
            watching: BTreeMap::new(),
            showing: join.showing,
            readers: BTreeMap::new(),
            carried: 0,
            rate: Rate::default(),
            progress: now,
            parked: false,
            moved: false,
            ending: false,
            heard: now,
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
        // At the tick that is nearest: at the one after, the client would begin to wonder.
        let elapsed = |at| now.saturating_duration_since(at) + TICK / 2;
        if self.pinged.is_some_and(|(_, at)| elapsed(at) < every) {
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
