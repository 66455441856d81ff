//! What a program learns from its connection.

use std::time::Duration;

use tandem_protocol::message::{Rights, Role, control};
use tandem_protocol::{Close, LaneKey, Record, Sender, SessionId};

use crate::Binding;

/// Something happened. Events come in order; whoever stops reading them stops the lanes, not the heartbeat.
#[derive(Debug)]
pub enum Event {
    /// In the session, for the first time or again.
    Connected(Connected),
    /// The connection was lost; another try follows.
    Disconnected {
        /// What happened, in words.
        why: String,
        /// The relay's reason, if it gave one.
        close: Option<Close>,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// It is over; nothing follows.
    Closed {
        /// Why.
        close: Close,
        /// In words.
        reason: String,
    },
    /// A control message that is the program's business.
    Control(control::Message),
    /// The far end of an input lane of ours came back, and what it had not done was sent again. `Held` should follow.
    Reopened {
        /// Which.
        lane: LaneKey,
        /// Records that were too old to be sent again.
        dropped: u64,
    },
    /// A lane was opened to us, perhaps again.
    LaneOpened(LaneKey),
    /// A record that was not had before.
    Record {
        /// Its lane.
        lane: LaneKey,
        /// Header and body.
        record: Record,
    },
    /// A lane to us ended.
    LaneEnded(LaneKey),
}

/// What a `Welcome` says, and what a resume could not save.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Over which binding.
    pub binding: Binding,
    /// The relay's address: another one than before, if that left service and named others.
    pub relay: String,
    /// Our number.
    pub sender: Sender,
    /// The session.
    pub session: SessionId,
    /// What we are in it.
    pub role: Role,
    /// What we may be granted.
    pub permitted: Rights,
    /// Resumes our place; a secret.
    pub ticket: Vec<u8>,
    /// How long after a loss the ticket is good.
    pub grace: Duration,
    /// Screens of ours whose missing updates are no longer kept: they begin a new segment from black.
    pub restart: Vec<LaneKey>,
    /// Records of input that were too old to be sent again.
    pub dropped_input: u64,
}
