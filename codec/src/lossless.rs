//! Boxes of pixels into the streams of a segment: plain strips, and median-edge strips where they look like photographs.

use std::ops::AddAssign;

use crate::edge;
use crate::error::StreamError;
use crate::picture::{Copy, PACKED, PIXEL, Picture, PictureRef, Rect, pack_row};
use crate::stream::{Compressor, History, Settings};
use crate::wire::{Coarse, Edge, LENGTH_LEN, Patch, SegmentHeader, Video};

/// Level of the median-edge stream: residuals of photographs gain nothing from searching longer.
const EDGE_LEVEL: i32 = 3;
/// So many pixels of photographs begin a compressed block of their own: shared with text, its table of codes suits neither.
const APART_MIN: usize = 2048;
/// Bytes that a buffer may keep from update to update.
const BUFFER_MAX: usize = 1 << 18;

/// How many pixels went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pixels {
    /// Copied within the shadow.
    pub copied: u64,
    /// In plain strips.
    pub plain: u64,
    /// In median-edge strips.
    pub edge: u64,
    /// As video.
    pub video: u64,
}

impl AddAssign for Pixels {
    fn add_assign(&mut self, more: Self) {
        self.copied += more.copied;
        self.plain += more.plain;
        self.edge += more.edge;
        self.video += more.video;
    }
}

/// The compressing ends of a segment's streams.
pub(crate) struct Streams {
    plain: Compressor,
    /// `None`: median-edge strips go through the plain stream.
    edge: Option<Compressor>,
    buffers: Buffers,
}

/// Kept from update to update, so that none is allocated for each.
#[derive(Default)]
struct Buffers {
    /// Compressed bytes of the update at hand.
    plain: Vec<u8>,
    edge: Vec<u8>,
    /// Pictures of video regions, which come last.
    video: Vec<u8>,
    /// Uncompressed bytes of the box at hand.
    scratch: Vec<u8>,
    row: Vec<u8>,
    photos: Vec<Rect>,
}

impl Streams {
    pub(crate) fn new(header: &SegmentHeader, level: i32, history: History) -> Result<Self, StreamError> {
        let history_len = header.size.pixels() * PACKED;
        let plain = Settings { level, window_log: header.plain_window_log, history_len };
        let edge = Settings { level: level.min(EDGE_LEVEL), window_log: header.edge_window_log, history_len };
        Ok(Self {
            plain: Compressor::new(plain, history)?,
            edge: match header.edge_window_log {
                0 => None,
                _ => Some(Compressor::new(edge, History::default())?),
            },
            buffers: Buffers::default(),
        })
    }

    /// Memory of the contexts and what they refer to.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.plain.memory_bytes() + self.edge.as_ref().map_or(0, Compressor::memory_bytes)
    }

    /// Has the plain stream read its history now rather than with its first byte.
    pub(crate) fn read_history(&mut self) -> Result<(), StreamError> {
        self.plain.read_history()
    }
}

/// One update on its way through the streams.
pub(crate) struct Writer<'a> {
    streams: &'a mut Streams,
    /// Strips are a byte a pixel.
    grey: bool,
    pixels: Pixels,
}

impl<'a> Writer<'a> {
    /// With `grey` pictures must have greys only.
    pub(crate) fn new(streams: &'a mut Streams, grey: bool) -> Self {
        streams.buffers.plain.clear();
        streams.buffers.edge.clear();
        streams.buffers.video.clear();
        Self { streams, grey, pixels: Pixels::default() }
    }

    /// Writes a copy. Copies come before everything else.
    pub(crate) fn copy(&mut self, copy: Copy) -> Result<(), StreamError> {
        self.pixels.copied += copy.to.pixels() as u64;
        self.plain(Patch::Copy(copy), |_, _| ())
    }

    /// Writes what becomes of a video region, with its picture.
    pub(crate) fn video(&mut self, video: Video, bytes: &[u8]) -> Result<(), StreamError> {
        if !bytes.is_empty() {
            self.pixels.video += video.rect.pixels() as u64;
        }
        self.streams.buffers.video.extend_from_slice(bytes);
        self.plain(Patch::Video(video), |_, _| ())
    }

    /// Writes the pixels of `boxes`, which are then known to those who decode. Plain strips first: in a shared stream the two kinds
    /// then spoil each other's statistics once, not at each change.
    pub(crate) fn boxes(
        &mut self,
        picture: PictureRef<'_>,
        boxes: &[Rect],
        known: &mut Known<'_>,
    ) -> Result<(), StreamError> {
        let mut photos = std::mem::take(&mut self.streams.buffers.photos);
        let mut has_strips = false;
        for &rect in boxes {
            split_photos(picture, rect, |rect, photo| {
                if photo {
                    photos.push(rect);
                    return Ok(());
                }
                has_strips = true;
                self.strip(picture, rect)?;
                known.paint(picture, rect);
                Ok(())
            })?;
        }
        if has_strips && self.streams.edge.is_none() {
            let pixels: usize = photos.iter().map(|rect| rect.pixels()).sum();
            if pixels >= APART_MIN {
                self.flush()?;
            }
        }
        for rect in photos.drain(..) {
            self.edge(picture, rect, known.above(picture, rect))?;
            known.paint(picture, rect);
        }
        self.streams.buffers.photos = photos;
        Ok(())
    }

    fn strip(&mut self, picture: PictureRef<'_>, rect: Rect) -> Result<(), StreamError> {
        self.pixels.plain += rect.pixels() as u64;
        if self.grey {
            return self.plain(Patch::Coarse(Coarse { rect, scale_log: 0, grey: true }), |out, _| {
                rect.rows().for_each(|y| out.extend(picture.row(y)[rect.span(PIXEL)].iter().step_by(PIXEL)));
            });
        }
        self.plain(Patch::Strip(rect), |out, _| {
            rect.rows().for_each(|y| pack_row(&picture.row(y)[rect.span(PIXEL)], out));
        })
    }

    fn edge(&mut self, picture: PictureRef<'_>, rect: Rect, above: Option<&[u8]>) -> Result<(), StreamError> {
        self.pixels.edge += rect.pixels() as u64;
        let first = &picture.row(rect.y.into())[rect.span(PIXEL)];
        let above = above.filter(|above| edge::goes_on(first, above));
        let patch = Patch::Edge(Edge { rect, above: above.is_some() });
        let filter = |out: &mut Vec<u8>, row: &mut Vec<u8>| edge::filter(picture, rect, above, out, row);
        if self.streams.edge.is_none() {
            return self.plain(patch, filter);
        }
        self.plain(patch, |_, _| ())?;
        let Streams { edge: Some(edge), buffers, .. } = &mut *self.streams else { return Ok(()) };
        buffers.scratch.clear();
        filter(&mut buffers.scratch, &mut buffers.row);
        edge.write(&buffers.scratch, &mut buffers.edge)
    }

    fn plain(
        &mut self,
        patch: Patch,
        content: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<(), StreamError> {
        let Streams { plain, buffers, .. } = &mut *self.streams;
        buffers.scratch.clear();
        patch.put(&mut buffers.scratch);
        content(&mut buffers.scratch, &mut buffers.row);
        plain.write(&buffers.scratch, &mut buffers.plain)
    }

    /// Makes all that was written decodable, and says how many bytes the update has now.
    pub(crate) fn flush(&mut self) -> Result<usize, StreamError> {
        let Streams { plain, edge, buffers } = &mut *self.streams;
        plain.flush(&mut buffers.plain)?;
        if let Some(edge) = edge {
            edge.flush(&mut buffers.edge)?;
        }
        Ok(LENGTH_LEN + buffers.plain.len() + buffers.edge.len() + buffers.video.len())
    }

    /// Appends the update's body. What was written since the last flush is not in it.
    pub(crate) fn finish(self, body: &mut Vec<u8>) -> Pixels {
        put_body(&self.streams.buffers.plain, &self.streams.buffers.edge, body);
        body.extend_from_slice(&self.streams.buffers.video);
        forget_if_large(&mut self.streams.buffers);
        self.pixels
    }
}

/// What those who decode have where boxes are written.
pub(crate) enum Known<'a> {
    /// The picture that is written, above each box: all of it is written, from the top down.
    All,
    /// This, but for where video goes on: there it is black for them.
    Shadow { shadow: &'a mut Picture, video: &'a [Rect] },
}

impl Known<'_> {
    fn paint(&mut self, picture: PictureRef<'_>, rect: Rect) {
        if let Self::Shadow { shadow, .. } = self {
            shadow.paint(picture, rect);
        }
    }

    /// The pixels above a box, if there are any and they are more than black.
    fn above<'a>(&'a self, picture: PictureRef<'a>, rect: Rect) -> Option<&'a [u8]> {
        let above = Rect { y: rect.y.checked_sub(1)?, h: 1, ..rect };
        let row = match self {
            Self::All => picture.row(above.y.into()),
            Self::Shadow { video, .. } if video.iter().any(|region| region.intersects(above)) => return None,
            Self::Shadow { shadow, .. } => shadow.row(above.y.into()),
        };
        Some(&row[above.span(PIXEL)])
    }
}

/// A whole picture now and then should not hold its bytes for good.
fn forget_if_large(buffers: &mut Buffers) {
    let Buffers { plain, edge, video, scratch, .. } = buffers;
    for buffer in [plain, edge, video, scratch] {
        buffer.clear();
        buffer.shrink_to(BUFFER_MAX);
    }
}

/// Appends the body of a key: `boxes`, and the ends of streams that were made for it alone.
pub(crate) fn write_whole(
    mut streams: Streams,
    picture: PictureRef<'_>,
    boxes: &[Rect],
    body: &mut Vec<u8>,
) -> Result<(), StreamError> {
    Writer::new(&mut streams, false).boxes(picture, boxes, &mut Known::All)?;
    let Buffers { mut plain, mut edge, .. } = streams.buffers;
    streams.plain.end(&mut plain)?;
    if let Some(stream) = streams.edge {
        stream.end(&mut edge)?;
    }
    put_body(&plain, &edge, body);
    Ok(())
}

fn put_body(plain: &[u8], edge: &[u8], body: &mut Vec<u8>) {
    body.reserve_exact(LENGTH_LEN + plain.len() + edge.len());
    body.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    body.extend_from_slice(plain);
    body.extend_from_slice(edge);
}

/// Calls `each` with the parts of `rect` that look like photographs and those that don't, from left to right.
fn split_photos<E>(
    picture: PictureRef<'_>,
    rect: Rect,
    mut each: impl FnMut(Rect, bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut part = Rect { w: 0, ..rect };
    let mut part_is_photo = false;
    for unit in edge::units(rect) {
        let photo = edge::is_photo(picture, unit);
        if part.w > 0 && photo != part_is_photo {
            each(part, part_is_photo)?;
            part = Rect { w: 0, ..unit };
        }
        part_is_photo = photo;
        part.w += unit.w;
    }
    each(part, part_is_photo)
}
