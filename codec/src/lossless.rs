//! Boxes of pixels into the streams of a segment: plain strips, and median-edge strips where they look like photographs.

use crate::edge;
use crate::error::StreamError;
use crate::picture::{Copy, PACKED, PIXEL, PictureRef, Rect, pack_row};
use crate::stream::{Compressor, History, Settings};
use crate::wire::{LENGTH_LEN, Patch, SegmentHeader};

/// Level of the median-edge stream: residuals of photographs gain nothing from searching longer.
const EDGE_LEVEL: i32 = 3;

/// The compressing ends of a segment's streams.
pub(crate) struct Streams {
    plain: Compressor,
    /// `None`: median-edge strips go through the plain stream.
    edge: Option<Compressor>,
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
        })
    }
}

impl Streams {
    /// Has the plain stream read its history now rather than with its first byte.
    pub(crate) fn read_history(&mut self) -> Result<(), StreamError> {
        self.plain.read_history()
    }
}

/// One update on its way through the streams.
pub(crate) struct Writer<'a> {
    streams: &'a mut Streams,
    plain: Vec<u8>,
    edge: Vec<u8>,
    /// Uncompressed bytes of the box at hand.
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(streams: &'a mut Streams) -> Self {
        Self { streams, plain: Vec::new(), edge: Vec::new(), scratch: Vec::new() }
    }

    /// Writes a copy. Copies come before everything else.
    pub(crate) fn copy(&mut self, copy: Copy) -> Result<(), StreamError> {
        self.plain(Patch::Copy(copy), |_| ())
    }

    /// Writes the pixels of `boxes`. Plain strips first: in a shared stream the two kinds then spoil each other's
    /// statistics once, not at each change.
    pub(crate) fn boxes(&mut self, picture: PictureRef<'_>, boxes: &[Rect]) -> Result<(), StreamError> {
        let mut photos = Vec::new();
        for &rect in boxes {
            split_photos(picture, rect, |rect, photo| match photo {
                true => {
                    photos.push(rect);
                    Ok(())
                }
                false => self.strip(picture, rect),
            })?;
        }
        photos.into_iter().try_for_each(|rect| self.edge(picture, rect))
    }

    fn strip(&mut self, picture: PictureRef<'_>, rect: Rect) -> Result<(), StreamError> {
        self.plain(Patch::Strip(rect), |out| {
            rect.rows().for_each(|y| pack_row(&picture.row(y)[rect.span(PIXEL)], out));
        })
    }

    fn edge(&mut self, picture: PictureRef<'_>, rect: Rect) -> Result<(), StreamError> {
        if self.streams.edge.is_none() {
            return self.plain(Patch::Edge(rect), |out| edge::filter(picture, rect, out));
        }
        self.plain(Patch::Edge(rect), |_| ())?;
        self.scratch.clear();
        edge::filter(picture, rect, &mut self.scratch);
        match &mut self.streams.edge {
            Some(edge) => edge.write(&self.scratch, &mut self.edge),
            None => Ok(()),
        }
    }

    fn plain(&mut self, patch: Patch, content: impl FnOnce(&mut Vec<u8>)) -> Result<(), StreamError> {
        self.scratch.clear();
        patch.put(&mut self.scratch);
        content(&mut self.scratch);
        self.streams.plain.write(&self.scratch, &mut self.plain)
    }

    /// Makes all that was written decodable, and says how many bytes the update has now.
    pub(crate) fn flush(&mut self) -> Result<usize, StreamError> {
        self.streams.plain.flush(&mut self.plain)?;
        if let Some(edge) = &mut self.streams.edge {
            edge.flush(&mut self.edge)?;
        }
        Ok(LENGTH_LEN + self.plain.len() + self.edge.len())
    }

    /// Appends the update's body. What was written since the last flush is not in it.
    pub(crate) fn finish(self, body: &mut Vec<u8>) {
        put_body(&self.plain, &self.edge, body);
    }
}

/// Appends the body of a key: `boxes`, and the ends of streams that were made for it alone.
pub(crate) fn write_whole(
    mut streams: Streams,
    picture: PictureRef<'_>,
    boxes: &[Rect],
    body: &mut Vec<u8>,
) -> Result<(), StreamError> {
    let mut writer = Writer::new(&mut streams);
    writer.boxes(picture, boxes)?;
    let Writer { mut plain, mut edge, .. } = writer;
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
    let end = rect.x + rect.w;
    let mut part = Rect { w: 0, ..rect };
    let mut part_is_photo = false;
    let mut x = rect.x;
    while x < end {
        // The last unit takes what is too narrow to be one.
        let w = if end - x < edge::UNIT + edge::UNIT / 2 { end - x } else { edge::UNIT };
        let photo = edge::is_photo(picture, Rect { x, w, ..rect });
        if part.w > 0 && photo != part_is_photo {
            each(part, part_is_photo)?;
            part = Rect { x, w: 0, ..rect };
        }
        part_is_photo = photo;
        part.w += w;
        x += w;
    }
    each(part, part_is_photo)
}
