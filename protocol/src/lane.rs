//! Lanes: ordered streams of records, told apart by kind, display, rendition and sender, each with its priority.

use crate::ids::{DisplayId, Rendition, Sender};
use crate::limits;

/// What a lane carries. The relay checks a right by it, and the order below is the order of priority but for
/// [`LaneKind::Key`], which comes after every screen lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LaneKind {
    /// Between one end and the relay. Opened by the connection itself, never by an opening.
    Control = 0,
    /// Keys, text, buttons, wheel, pointer: subscriber to publisher.
    Input = 1,
    /// Sound.
    Audio = 2,
    /// What people say to one another.
    Chat = 3,
    /// End-to-end messages: displays, quality, latency, system information.
    Peer = 4,
    /// Cursor shape and position: publisher to subscribers.
    Cursor = 5,
    /// Starts and updates of one rendition of one display.
    Screen = 6,
    /// Keys of one rendition of one display.
    Key = 7,
    /// Clipboard contents.
    Clipboard = 8,
    /// Files.
    File = 9,
}

impl LaneKind {
    /// Every kind, in wire order.
    pub const ALL: [Self; 10] = [
        Self::Control,
        Self::Input,
        Self::Audio,
        Self::Chat,
        Self::Peer,
        Self::Cursor,
        Self::Screen,
        Self::Key,
        Self::Clipboard,
        Self::File,
    ];

    /// The kind with this number on the wire.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Whether the records on it carry the screen header.
    pub fn is_screen(self) -> bool {
        matches!(self, Self::Screen | Self::Key)
    }

    /// Whether it is moved by what the path has left, with a guaranteed tenth.
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Clipboard | Self::File)
    }

    /// Most bytes of a record's body on this kind of lane.
    pub fn body_max(self) -> usize {
        match self {
            Self::Control => limits::CONTROL_BODY_MAX,
            Self::Input => limits::INPUT_BODY_MAX,
            _ => limits::BODY_MAX,
        }
    }

    /// Receiver credit when a lane of this kind opens.
    pub fn credit(self) -> u64 {
        match self {
            _ if self.is_screen() => limits::CREDIT_SCREEN,
            _ if self.is_bulk() => limits::CREDIT_BULK,
            _ => limits::CREDIT,
        }
    }
}

/// Which lane: at most one of each key is open in one direction of a connection at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// What it carries.
    pub kind: LaneKind,
    /// The display, for screens and keys; otherwise 0.
    pub display: DisplayId,
    /// The rendition, for screens and keys; otherwise 0.
    pub rendition: Rendition,
    /// Whose records it carries.
    pub sender: Sender,
}

impl LaneKey {
    /// Bytes of an encoded opening.
    pub const OPENING_LEN: usize = 6;

    /// A lane that is not about a display.
    pub fn plain(kind: LaneKind, sender: Sender) -> Self {
        Self { kind, display: DisplayId(0), rendition: Rendition::LIVE, sender }
    }

    /// The control lane of a connection.
    pub const CONTROL: Self = Self {
        kind: LaneKind::Control,
        display: DisplayId(0),
        rendition: Rendition::LIVE,
        sender: Sender::RELAY,
    };

    /// A lane of one rendition of one display.
    pub fn screen(kind: LaneKind, display: DisplayId, rendition: Rendition, sender: Sender) -> Self {
        Self { kind, display, rendition, sender }
    }

    /// The first bytes of a lane: {kind u8, display u16, rendition u8, sender u16}, little-endian.
    pub fn opening(&self) -> [u8; Self::OPENING_LEN] {
        let [d0, d1] = self.display.0.to_le_bytes();
        let [s0, s1] = self.sender.0.to_le_bytes();
        [self.kind as u8, d0, d1, self.rendition.0, s0, s1]
    }

    /// Reads an opening.
    ///
    /// # Errors
    /// The byte of a kind that this version does not know: the connection must close.
    pub fn parse(opening: [u8; Self::OPENING_LEN]) -> Result<Self, UnknownKind> {
        let [kind, d0, d1, rendition, s0, s1] = opening;
        Ok(Self {
            kind: LaneKind::from_wire(kind).ok_or(UnknownKind(kind))?,
            display: DisplayId(u16::from_le_bytes([d0, d1])),
            rendition: Rendition(rendition),
            sender: Sender(u16::from_le_bytes([s0, s1])),
        })
    }

    /// Order of sending: the lowest goes first. `focused` is whether the receiver looks at this display.
    pub fn priority(&self, focused: bool) -> Priority {
        Priority(match self.kind {
            LaneKind::Control => 0,
            LaneKind::Input => 1,
            LaneKind::Audio => 2,
            LaneKind::Chat | LaneKind::Peer => 3,
            LaneKind::Cursor => 4,
            LaneKind::Screen if self.rendition == Rendition::LIVE && focused => 5,
            LaneKind::Screen if self.rendition == Rendition::LIVE => 6,
            LaneKind::Screen => 7,
            LaneKind::Key => 8,
            LaneKind::Clipboard | LaneKind::File => 9,
        })
    }
}

/// Urgency of a lane: 0 is the most urgent, [`Priority::LAST`] the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(pub u8);

impl Priority {
    /// Control, input, sound, words and cursors: what is at least as urgent as these waits for no room on the path.
    pub const URGENT: Self = Self(4);
    /// The control lane.
    pub const CONTROL: Self = Self(0);
    /// Bulk.
    pub const LAST: Self = Self(9);
}

/// A lane kind that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown lane kind {0}")]
pub struct UnknownKind(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_six_bytes_little_endian() {
        let key = LaneKey::screen(LaneKind::Screen, DisplayId(0x0102), Rendition::REDUCED, Sender(0x0304));
        assert_eq!(key.opening(), [6, 2, 1, 1, 4, 3]);
        assert_eq!(LaneKey::parse(key.opening()), Ok(key));
        assert_eq!(LaneKey::parse([10, 0, 0, 0, 0, 0]), Err(UnknownKind(10)));
    }

    #[test]
    fn priorities_keep_input_before_screens_and_bulk_last() {
        let of = |kind| LaneKey::plain(kind, Sender(1)).priority(true);
        assert!(of(LaneKind::Control) < of(LaneKind::Input));
        assert!(of(LaneKind::Input) < of(LaneKind::Cursor));
        assert!(of(LaneKind::Cursor) < of(LaneKind::Screen));
        assert!(of(LaneKind::Screen) < of(LaneKind::Key));
        assert_eq!(of(LaneKind::File), Priority::LAST);
    }
}
