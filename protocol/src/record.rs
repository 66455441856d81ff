//! Records: the unit of every lane. A header in the clear, then a body that may be sealed.
//!
//! The header is parsed without allocating, and every length is checked before anything is buffered for it. The relay
//! verifies header bytes and forwards them as they came: they are associated data of the seal.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{DisplayId, Rendition, Sender};
use crate::lane::LaneKind;
use crate::limits;

/// Bytes of the header that every record has.
pub const HEADER_LEN: usize = 38;
/// Bytes of the header on screen and key lanes.
pub const SCREEN_HEADER_LEN: usize = 46;
/// Bytes of the header of a segment's start.
pub const START_HEADER_LEN: usize = 59;

/// Bits of a record's `flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// A slot: a newer record of the same lane and type replaces an unsent older one, and joiners get the newest.
    pub const LATEST: Self = Self(1);
    /// The body is sealed.
    pub const SEALED: Self = Self(2);
    /// The body goes on in the next record of the lane; applied whole at the last.
    pub const MORE: Self = Self(4);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set too.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An update of a rendition: the shadow that subscribers hold after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// Whose encoder.
    pub rendition: Rendition,
    /// Which run of common history.
    pub segment: u32,
    /// The update's number on its lane.
    pub seq: u64,
}

/// What a record on a screen or key lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenKind {
    /// Builds on the update before it in its segment.
    Update,
    /// The first update of a segment, for those who hold the shadow of `from`, and for those who have applied the
    /// segment's key. `None`: the segment begins with a black picture and anybody may start here.
    Start {
        /// The update whose shadow this segment starts with.
        from: Option<Point>,
    },
    /// A self-contained picture of the shadow at the segment's start. Its seq is that of the update whose shadow it shows.
    Key,
}

/// The part of the header that screen and key lanes add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenHeader {
    /// The display.
    pub display: DisplayId,
    /// The rendition.
    pub rendition: Rendition,
    /// The segment.
    pub segment: u32,
    /// Update, start or key.
    pub kind: ScreenKind,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Message type within the lane's kind (docs/protocol.md lists them).
    pub record_type: u8,
    /// Latest, sealed, more.
    pub flags: Flags,
    /// Whose record; assigned and checked by the relay.
    pub sender: Sender,
    /// The key that seals the body; 0 when nothing is sealed.
    pub key_id: u32,
    /// Drawn at random at each start of the sender.
    pub epoch: u64,
    /// Number of the record on its lane, from 0 in each epoch.
    pub seq: u64,
    /// The sender's monotonic clock since its epoch began, in µs.
    pub time_us: u64,
    /// The screen part, on screen and key lanes.
    pub screen: Option<ScreenHeader>,
}

/// Where a record's header and body lie in the bytes that begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the header, unknown extension included.
    pub header_len: usize,
    /// Bytes of the body.
    pub body_len: usize,
}

impl Layout {
    /// Bytes of the whole record.
    pub fn record_len(&self) -> usize {
        self.header_len + self.body_len
    }
}

/// Why bytes are not a record. The connection that sent them must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// `header_len` is too small for this lane, or larger than [`limits::HEADER_MAX`].
    #[error("a header of {0} bytes does not fit this lane")]
    HeaderLength(u8),
    /// `body_len` is above what this lane allows.
    #[error("a body of {len} bytes is more than this lane's {max}")]
    BodyLength {
        /// As announced.
        len: u32,
        /// As allowed.
        max: usize,
    },
    /// A screen record's kind is not known.
    #[error("unknown kind {0} of a screen record")]
    ScreenKind(u8),
    /// A key on a screen lane, or anything else on a key lane.
    #[error("this record belongs on another lane")]
    WrongLane,
}

impl Header {
    /// Bytes needed before [`Header::parse`] can say anything.
    pub const PREFIX_LEN: usize = HEADER_LEN;

    /// Reads the header at the start of `bytes`, which may hold less than the whole record. `Ok(None)` asks for more
    /// bytes; no more than [`limits::HEADER_MAX`] are ever needed.
    ///
    /// # Errors
    /// [`RecordError`] when no further bytes could make this a record of such a lane.
    pub fn parse(lane: LaneKind, bytes: &[u8]) -> Result<Option<(Self, Layout)>, RecordError> {
        let Some(&header_len) = bytes.first() else { return Ok(None) };
        let least = if lane.is_screen() { SCREEN_HEADER_LEN } else { HEADER_LEN };
        let header_bytes = usize::from(header_len);
        if header_bytes < least || header_bytes > limits::HEADER_MAX {
            return Err(RecordError::HeaderLength(header_len));
        }
        let Some(fixed) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let body_len = u32_at(fixed, 34);
        let max = lane.body_max();
        if usize::try_from(body_len).map_or(true, |len| len > max) {
            return Err(RecordError::BodyLength { len: body_len, max });
        }
        if bytes.len() < header_bytes {
            return Ok(None);
        }
        let screen = if lane.is_screen() {
            Some(ScreenHeader::parse(lane, header_len, &bytes[..header_bytes])?)
        } else {
            None
        };
        let header = Self {
            record_type: fixed[1],
            flags: Flags(u16_at(fixed, 2)),
            sender: Sender(u16_at(fixed, 4)),
            key_id: u32_at(fixed, 6),
            epoch: u64_at(fixed, 10),
            seq: u64_at(fixed, 18),
            time_us: u64_at(fixed, 26),
            screen,
        };
        Ok(Some((header, Layout { header_len: header_bytes, body_len: body_len as usize })))
    }

    /// Bytes of this header.
    pub fn encoded_len(&self) -> usize {
        match self.screen {
            None => HEADER_LEN,
            Some(ScreenHeader { kind: ScreenKind::Start { .. }, .. }) => START_HEADER_LEN,
            Some(_) => SCREEN_HEADER_LEN,
        }
    }

    /// The whole record.
    ///
    /// # Panics
    /// If the body is longer than [`limits::BODY_MAX`]: splitting is the caller's, see [`Flags::MORE`].
    pub fn record(&self, body: &[u8]) -> Bytes {
        assert!(body.len() <= limits::BODY_MAX, "a body of {} bytes was not split", body.len());
        let mut out = BytesMut::with_capacity(self.encoded_len() + body.len());
        self.put(&mut out, body.len());
        out.put_slice(body);
        out.freeze()
    }

    fn put(&self, out: &mut BytesMut, body_len: usize) {
        out.put_u8(self.encoded_len() as u8);
        out.put_u8(self.record_type);
        out.put_u16_le(self.flags.0);
        out.put_u16_le(self.sender.0);
        out.put_u32_le(self.key_id);
        out.put_u64_le(self.epoch);
        out.put_u64_le(self.seq);
        out.put_u64_le(self.time_us);
        out.put_u32_le(body_len as u32);
        let Some(screen) = &self.screen else { return };
        out.put_u16_le(screen.display.0);
        out.put_u8(screen.rendition.0);
        out.put_u8(match screen.kind {
            ScreenKind::Update => 0,
            ScreenKind::Start { .. } => 1,
            ScreenKind::Key => 2,
        });
        out.put_u32_le(screen.segment);
        if let ScreenKind::Start { from } = screen.kind {
            let from = from.unwrap_or(NOWHERE);
            out.put_u8(from.rendition.0);
            out.put_u32_le(from.segment);
            out.put_u64_le(from.seq);
        }
    }
}

/// How a start without a predecessor says so.
const NOWHERE: Point = Point { rendition: Rendition(u8::MAX), segment: u32::MAX, seq: u64::MAX };

impl ScreenHeader {
    /// `header` holds at least [`SCREEN_HEADER_LEN`] bytes.
    fn parse(lane: LaneKind, header_len: u8, header: &[u8]) -> Result<Self, RecordError> {
        let kind = match header[41] {
            0 => ScreenKind::Update,
            1 if header.len() < START_HEADER_LEN => return Err(RecordError::HeaderLength(header_len)),
            1 => {
                let from = Point {
                    rendition: Rendition(header[46]),
                    segment: u32_at(header, 47),
                    seq: u64_at(header, 51),
                };
                ScreenKind::Start { from: (from.rendition != NOWHERE.rendition).then_some(from) }
            }
            2 => ScreenKind::Key,
            other => return Err(RecordError::ScreenKind(other)),
        };
        if (kind == ScreenKind::Key) != (lane == LaneKind::Key) {
            return Err(RecordError::WrongLane);
        }
        Ok(Self {
            display: DisplayId(u16_at(header, 38)),
            rendition: Rendition(header[40]),
            segment: u32_at(header, 42),
            kind,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A record with its bytes: what the relay forwards and the ends read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The header, read once.
    pub header: Header,
    /// The whole record, header included, exactly as it came.
    pub bytes: Bytes,
    /// Where the body begins in `bytes`.
    pub body_at: usize,
}

impl Record {
    /// A record made here.
    pub fn new(header: Header, body: &[u8]) -> Self {
        let bytes = header.record(body);
        Self { header, body_at: bytes.len() - body.len(), bytes }
    }

    /// The body, sealed or not.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// Takes the first record out of `buffer`, which holds a lane's bytes in order. `Ok(None)` if it is not whole yet.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn split_from(lane: LaneKind, buffer: &mut BytesMut) -> Result<Option<Self>, RecordError> {
        let Some((header, layout)) = Header::parse(lane, buffer)? else { return Ok(None) };
        if buffer.len() < layout.record_len() {
            // Only now is the length known to be allowed, so only now may it be reserved.
            buffer.reserve(layout.record_len() - buffer.len());
            return Ok(None);
        }
        let bytes = buffer.split_to(layout.record_len()).freeze();
        Ok(Some(Self { header, bytes, body_at: layout.header_len }))
    }
}
