//! The bytes of bodies: headers of starts and keys, and of patches. docs/codec.md says the same for strangers.

use tandem_protocol::limits;

use crate::VERSIONS;
use crate::error::DecodeError;
use crate::picture::{Copy, PACKED, Rect, Size};

/// Bytes that begin a start and a key.
pub(crate) const HEADER_LEN: usize = 11;
/// Bytes that begin an update: the length of its plain stream's part.
pub(crate) const LENGTH_LEN: usize = 4;

/// Numbers of the patches.
pub(crate) mod kind {
    pub(crate) const COPY: u8 = 0;
    pub(crate) const STRIP: u8 = 1;
    pub(crate) const EDGE: u8 = 2;
    pub(crate) const VIDEO: u8 = 3;
    pub(crate) const COARSE: u8 = 4;
}

/// The codec version that segments are written in.
pub(crate) const VERSION: u8 = VERSIONS[0];
/// The first codec version that has video.
pub(crate) const VIDEO_VERSION: u8 = 2;
/// The first that has coarse strips, and median-edge strips that go on from the row above.
pub(crate) const COARSE_VERSION: u8 = 3;
/// Video regions are numbered below this.
pub(crate) const VIDEO_REGIONS: usize = 8;
/// Most columns and rows by which coded pictures exceed what is shown of them.
const VIDEO_MARGIN: u16 = 32;

/// What begins a start and a key: everything that a decoder needs to know about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Codec version: 3, or 2 and 1 of older senders.
    pub version: u8,
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
        out.push(self.version);
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
        let version = header[0];
        if !VERSIONS.contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let size = Size {
            w: u16::from_le_bytes([header[1], header[2]]),
            h: u16::from_le_bytes([header[3], header[4]]),
        };
        let layout_generation = u32::from_le_bytes([header[5], header[6], header[7], header[8]]);
        let (plain_window_log, edge_window_log) = (header[9], header[10]);
        Ok((Self { version, size, layout_generation, plain_window_log, edge_window_log }, rest))
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
    Edge(Edge),
    /// An H.264 picture stands at the body's end, or a region ends.
    Video(Video),
    /// Fewer colours or pixels follow, to be made exact later.
    Coarse(Coarse),
}

/// A median-edge strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) rect: Rect,
    /// The predictor goes on from the row above, as the shadow has it by then.
    pub(crate) above: bool,
}

/// A strip that shows less than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coarse {
    pub(crate) rect: Rect,
    /// Each sample stands for a square of 2^this pixels to a side; squares at the right and lower edges are cut.
    pub(crate) scale_log: u8,
    /// A sample is one byte rather than three.
    pub(crate) grey: bool,
}

impl Coarse {
    /// Largest squares: 4 × 4 pixels.
    const SCALE_LOG_MAX: u8 = 2;
    /// The flag of grey ones.
    const GREY: u8 = 4;

    /// Samples in a row, and rows of them.
    pub(crate) fn samples(self) -> (usize, usize) {
        let side = |pixels: u16| usize::from(pixels.div_ceil(1 << self.scale_log));
        (side(self.rect.w), side(self.rect.h))
    }

    /// Bytes that follow.
    pub(crate) fn len(self) -> usize {
        let (across, down) = self.samples();
        across * down * if self.grey { 1 } else { PACKED }
    }
}

/// What a video patch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Video {
    pub(crate) region: u8,
    pub(crate) step: VideoStep,
    /// Where it is shown.
    pub(crate) rect: Rect,
    pub(crate) coded: CodedSize,
    /// Bytes of Annex B at the body's end.
    pub(crate) len: u32,
}

/// The size of coded pictures, and the part of them that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodedSize {
    /// Columns and rows, even.
    pub size: Size,
    /// The upper left corner of what is shown of it.
    pub crop: (u16, u16),
}

/// What becomes of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum VideoStep {
    /// Its next picture.
    GoOn = 0,
    /// Its first, an IDR; the shadow is black there from now on.
    Begin = 1,
    /// There are no more; the shadow is black there, and what is shown stays.
    End = 2,
    /// What is shown there is the shadow from now on.
    Show = 3,
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
            Self::Edge(Edge { rect, above }) => {
                out.extend_from_slice(&[kind::EDGE, u8::from(above)]);
                put_rect(rect, out);
            }
            Self::Video(Video { region, step, rect, coded: CodedSize { size, crop }, len }) => {
                out.extend_from_slice(&[kind::VIDEO, region, step as u8]);
                put_rect(rect, out);
                [size.w, size.h, crop.0, crop.1].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
                out.extend_from_slice(&len.to_le_bytes());
            }
            Self::Coarse(Coarse { rect, scale_log, grey }) => {
                out.extend_from_slice(&[kind::COARSE, scale_log | if grey { Coarse::GREY } else { 0 }]);
                put_rect(rect, out);
            }
        }
    }
}

impl Video {
    /// Whether what is shown lies within what is coded, which is little more.
    fn fits(&self) -> bool {
        let CodedSize { size, crop } = self.coded;
        let fits = |shown: u16, coded: u16, crop: u16| {
            coded.is_multiple_of(2)
                && u32::from(crop) + u32::from(shown) <= u32::from(coded)
                && crop.is_multiple_of(2)
                && coded - shown <= VIDEO_MARGIN
        };
        match self.step {
            VideoStep::End | VideoStep::Show => self.len == 0 && self.coded == CodedSize::default(),
            VideoStep::Begin | VideoStep::GoOn => {
                self.len > 0 && fits(self.rect.w, size.w, crop.0) && fits(self.rect.h, size.h, crop.1)
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

    fn video(&mut self, size: Size) -> Result<Video, DecodeError> {
        let region = self.byte()?;
        let step = match self.byte()? {
            0 => VideoStep::GoOn,
            1 => VideoStep::Begin,
            2 => VideoStep::End,
            3 => VideoStep::Show,
            _ => return Err(DecodeError::Patch(kind::VIDEO)),
        };
        let rect = self.rect(size)?;
        let coded =
            CodedSize { size: Size { w: self.side()?, h: self.side()? }, crop: (self.side()?, self.side()?) };
        let len = u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]);
        let video = Video { region, step, rect, coded, len };
        if usize::from(region) < VIDEO_REGIONS && video.fits() { Ok(video) } else { Err(DecodeError::Bounds) }
    }

    fn coarse(&mut self, size: Size) -> Result<Coarse, DecodeError> {
        let flags = self.byte()?;
        let (scale_log, grey) = (flags & !Coarse::GREY, flags & Coarse::GREY != 0);
        if scale_log > Coarse::SCALE_LOG_MAX {
            return Err(DecodeError::Patch(kind::COARSE));
        }
        Ok(Coarse { rect: self.rect(size)?, scale_log, grey })
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
                flags @ (0 | 1) => Patch::Edge(Edge { above: flags == 1, rect: self.rect(size)? }),
                _ => return Err(DecodeError::Patch(kind::EDGE)),
            },
            kind::VIDEO => Patch::Video(self.video(size)?),
            kind::COARSE => Patch::Coarse(self.coarse(size)?),
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
