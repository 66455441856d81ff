//! The bytes of bodies: headers of starts and keys, and of patches. docs/codec.md says the same for strangers.

use tandem_protocol::limits;

use crate::VERSION;
use crate::error::DecodeError;
use crate::picture::{Copy, Rect, Size};

/// Bytes that begin a start and a key.
pub(crate) const HEADER_LEN: usize = 11;
/// Bytes that begin an update: the length of its plain stream's part.
pub(crate) const LENGTH_LEN: usize = 4;

/// Numbers of the patches. 3 (video) and 4 (coarse) belong to a later codec version.
pub(crate) mod kind {
    pub(crate) const COPY: u8 = 0;
    pub(crate) const STRIP: u8 = 1;
    pub(crate) const EDGE: u8 = 2;
}

/// What begins a start and a key: everything that a decoder needs to know about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The picture's size, which holds for the whole segment.
    pub size: Size,
    /// Generation of the display layout that the picture belongs to.
    pub layout_generation: u32,
    /// Window of the plain stream, as a power of two.
    pub plain_window_log: u8,
    /// Window of the median-edge stream; 0: those strips are in the plain stream.
    pub edge_window_log: u8,
}

impl SegmentHeader {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.size.w.to_le_bytes());
        out.extend_from_slice(&self.size.h.to_le_bytes());
        out.extend_from_slice(&self.layout_generation.to_le_bytes());
        out.push(self.plain_window_log);
        out.push(self.edge_window_log);
    }

    /// Reads the header and returns what follows it. Sizes and windows are the caller's to judge.
    ///
    /// # Errors
    /// [`DecodeError::Length`], [`DecodeError::Version`].
    pub fn parse(body: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (header, rest) = body.split_first_chunk::<HEADER_LEN>().ok_or(DecodeError::Length)?;
        if header[0] != VERSION {
            return Err(DecodeError::Version(header[0]));
        }
        let size = Size {
            w: u16::from_le_bytes([header[1], header[2]]),
            h: u16::from_le_bytes([header[3], header[4]]),
        };
        let layout_generation = u32::from_le_bytes([header[5], header[6], header[7], header[8]]);
        let header =
            Self { size, layout_generation, plain_window_log: header[9], edge_window_log: header[10] };
        Ok((header, rest))
    }
}

/// A patch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// Pixels that the picture held before the update, moved.
    Copy(Copy),
    /// Packed pixels follow.
    Strip(Rect),
    /// Residuals follow, here or in the stream of their own.
    Edge(Rect),
}

impl Patch {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Copy(Copy { from, to }) => {
                out.push(kind::COPY);
                out.extend_from_slice(&from.0.to_le_bytes());
                out.extend_from_slice(&from.1.to_le_bytes());
                put_rect(to, out);
            }
            Self::Strip(rect) => {
                out.push(kind::STRIP);
                put_rect(rect, out);
            }
            Self::Edge(rect) => {
                out.extend_from_slice(&[kind::EDGE, 0]);
                put_rect(rect, out);
            }
        }
    }
}

fn put_rect(rect: Rect, out: &mut Vec<u8>) {
    for side in [rect.x, rect.y, rect.w, rect.h] {
        out.extend_from_slice(&side.to_le_bytes());
    }
}

/// Reads plain bytes from the front, never beyond their end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take(1).map(|byte| byte[0])
    }

    fn side(&mut self) -> Result<u16, DecodeError> {
        self.take(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn rect(&mut self, size: Size) -> Result<Rect, DecodeError> {
        let rect = Rect { x: self.side()?, y: self.side()?, w: self.side()?, h: self.side()? };
        if size.holds(rect) { Ok(rect) } else { Err(DecodeError::Bounds) }
    }

    /// The next patch's header, checked against the picture; `None` at the end.
    pub(crate) fn patch(&mut self, size: Size) -> Result<Option<Patch>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let patch = match self.byte()? {
            kind::COPY => {
                let copy = Copy { from: (self.side()?, self.side()?), to: self.rect(size)? };
                if !size.holds(copy.source()) {
                    return Err(DecodeError::Bounds);
                }
                Patch::Copy(copy)
            }
            kind::STRIP => Patch::Strip(self.rect(size)?),
            kind::EDGE => match self.byte()? {
                0 => Patch::Edge(self.rect(size)?),
                _ => return Err(DecodeError::Patch(kind::EDGE)),
            },
            other => return Err(DecodeError::Patch(other)),
        };
        Ok(Some(patch))
    }
}

/// Most plain bytes of one update: every pixel three times as bytes, headers of strips at their smallest useful size,
/// and a little for tiny pictures. The same bound holds for the median-edge stream.
pub(crate) fn plain_max(size: Size) -> usize {
    size.pixels() * 4 + (64 << 10)
}

/// Whether a picture of this size may be coded at all.
pub(crate) fn size_allowed(size: Size, side_max: u16) -> bool {
    let sides = 1..=side_max.min(limits::PICTURE_SIDE_MAX);
    sides.contains(&size.w) && sides.contains(&size.h)
}
