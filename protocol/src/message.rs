//! The messages of `proto/`, generated, and their checked encoding into record bodies.

use prost::Message;

use crate::ids::{DisplayId, Rendition, Sender};
use crate::lane::{LaneKey, LaneKind};
use crate::record;

#[allow(missing_docs, clippy::all, reason = "generated from proto/, where the documentation is")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/tandem.v1.rs"));
}

pub use generated::*;

/// Type numbers of records, by lane kind; docs/protocol.md has the table.
pub mod types {
    /// Control lane: a `Control`.
    pub const CONTROL: u8 = 0;
    /// Screen and key lanes: a codec body.
    pub const SCREEN: u8 = 0;
    /// Input lane: a `Key`.
    pub const KEY: u8 = 1;
    /// Input lane: a `Text`.
    pub const TEXT: u8 = 2;
    /// Input lane: a `Button`.
    pub const BUTTON: u8 = 3;
    /// Input lane: a `Wheel`.
    pub const WHEEL: u8 = 4;
    /// Input lane: a `Motion`.
    pub const MOTION: u8 = 5;
    /// Input lane: a `Held`.
    pub const HELD: u8 = 6;
    /// Peer lane: a `DisplayLayout`.
    pub const DISPLAY_LAYOUT: u8 = 1;
    /// Peer lane: a `LockKeys`.
    pub const LOCK_KEYS: u8 = 2;
    /// Peer lane: a `PeerPing`.
    pub const PEER_PING: u8 = 3;
    /// Peer lane: a `PeerPong`.
    pub const PEER_PONG: u8 = 4;
    /// Peer lane: an `InputReport`.
    pub const INPUT_REPORT: u8 = 5;
    /// Peer lane: a `Capabilities`.
    pub const CAPABILITIES: u8 = 6;
    /// Cursor lane: a `CursorShape`.
    pub const CURSOR_SHAPE: u8 = 1;
    /// Cursor lane: a `CursorPosition`.
    pub const CURSOR_POSITION: u8 = 2;
    /// Chat lane: a `ChatMessage`.
    pub const CHAT: u8 = 1;
    /// Clipboard lane: a `ClipboardText`.
    pub const CLIPBOARD_TEXT: u8 = 1;
}

/// A body that is not the message it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not protobuf, or not of this message.
    #[error("not a {0} message: {1}")]
    Malformed(&'static str, prost::DecodeError),
    /// A field that must be there is not, or holds what it must not.
    #[error("{0} is missing or out of range")]
    Field(&'static str),
}

impl Control {
    /// A control message as the body of a record.
    pub fn encode_body(message: control::Message) -> Vec<u8> {
        Self { message: Some(message) }.encode_to_vec()
    }

    /// Reads a control record's body. `Ok(None)`: a message of a later version, to be ignored.
    ///
    /// # Errors
    /// [`MessageError`] if it is not protobuf.
    pub fn decode_body(body: &[u8]) -> Result<Option<control::Message>, MessageError> {
        let control = Self::decode(body).map_err(|error| MessageError::Malformed("control", error))?;
        Ok(control.message)
    }
}

impl From<LaneKey> for Lane {
    fn from(key: LaneKey) -> Self {
        Self {
            kind: key.kind as u32,
            display: key.display.0.into(),
            rendition: key.rendition.0.into(),
            sender: key.sender.0.into(),
        }
    }
}

impl TryFrom<&Lane> for LaneKey {
    type Error = MessageError;

    fn try_from(lane: &Lane) -> Result<Self, Self::Error> {
        let kind = u8::try_from(lane.kind).ok().and_then(LaneKind::from_wire);
        Ok(Self {
            kind: kind.ok_or(MessageError::Field("lane kind"))?,
            display: DisplayId(lane.display.try_into().map_err(|_| MessageError::Field("display"))?),
            rendition: Rendition(lane.rendition.try_into().map_err(|_| MessageError::Field("rendition"))?),
            sender: Sender(lane.sender.try_into().map_err(|_| MessageError::Field("sender"))?),
        })
    }
}

impl From<record::Point> for Point {
    fn from(point: record::Point) -> Self {
        Self { rendition: point.rendition.0.into(), segment: point.segment, seq: point.seq }
    }
}

impl TryFrom<&Point> for record::Point {
    type Error = MessageError;

    fn try_from(point: &Point) -> Result<Self, Self::Error> {
        let rendition = u8::try_from(point.rendition).map_err(|_| MessageError::Field("rendition"))?;
        Ok(Self { rendition: Rendition(rendition), segment: point.segment, seq: point.seq })
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights(u32);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// The set of these.
    pub fn of(rights: &[Right]) -> Self {
        rights.iter().fold(Self::NONE, |set, &right| set.with(right))
    }

    /// From a message's numbers; unknown ones are rights that this version cannot grant and are left out.
    pub fn from_wire(numbers: &[i32]) -> Self {
        numbers.iter().filter_map(|&n| Right::try_from(n).ok()).fold(Self::NONE, Self::with)
    }

    /// As a message's numbers, ascending.
    pub fn to_wire(self) -> Vec<i32> {
        (1..32).filter(|bit| self.0 & (1 << bit) != 0).collect()
    }

    /// With this one too.
    #[must_use]
    pub fn with(self, right: Right) -> Self {
        if right == Right::Unspecified { self } else { Self(self.0 | 1 << right as u32) }
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether this right is in it.
    pub fn has(self, right: Right) -> bool {
        self.and(Self::NONE.with(right)) != Self::NONE
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The rights in it.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        self.to_wire().into_iter().filter_map(|n| Right::try_from(n).ok())
    }
}

impl LaneKind {
    /// The right that a subscriber needs to receive (`to_subscriber`) or to send on such a lane; `None`: being in the
    /// session is enough.
    pub fn right(self, to_subscriber: bool) -> Option<Right> {
        match self {
            Self::Control | Self::Peer => None,
            Self::Input => Some(Right::Control),
            Self::Audio => Some(Right::Audio),
            Self::Chat => Some(Right::Chat),
            Self::Cursor | Self::Screen | Self::Key => Some(Right::View),
            Self::Clipboard => Some(Right::Clipboard),
            Self::File if to_subscriber => Some(Right::ReceiveFiles),
            Self::File => Some(Right::SendFiles),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_a_set_and_survive_the_wire() {
        let rights = Rights::of(&[Right::Control, Right::View]);
        assert_eq!(rights.to_wire(), vec![1, 2]);
        assert_eq!(Rights::from_wire(&[2, 1, 99, 0, -4]), rights);
        assert!(rights.has(Right::View) && !rights.has(Right::Chat));
        assert!(rights.without(rights).is_empty());
    }

    #[test]
    fn a_lane_in_a_message_is_checked() {
        let key = LaneKey::screen(LaneKind::Key, DisplayId(3), Rendition::REDUCED, Sender(9));
        assert_eq!(LaneKey::try_from(&Lane::from(key)), Ok(key));
        let bad = Lane { kind: 300, ..Lane::from(key) };
        assert_eq!(LaneKey::try_from(&bad), Err(MessageError::Field("lane kind")));
        let bad = Lane { sender: 70_000, ..Lane::from(key) };
        assert_eq!(LaneKey::try_from(&bad), Err(MessageError::Field("sender")));
    }
}
