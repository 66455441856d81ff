//! The patches of a body: checked all together, then painted.

use tandem_protocol::limits;

use super::PixelOrder;
use super::regions::Running;
use crate::edge;
use crate::error::DecodeError;
use crate::picture::{PACKED, PIXEL, Picture, Rect, Size};
use crate::wire::{Coarse, Edge, Patch, Reader, VIDEO_REGIONS, Video, VideoStep, kind, plain_max};

/// The decoded bytes of an update.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) plain: Reader<'a>,
    /// `None`: residuals are in the plain bytes.
    pub(super) edge: Option<Reader<'a>>,
}

impl<'a> Content<'a> {
    fn residuals(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        self.edge.as_mut().unwrap_or(&mut self.plain).take(len)
    }
}

/// What a body may have.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Residuals are in a stream of their own.
    pub(super) separate: bool,
    pub(super) video: bool,
    /// Coarse strips, and flags of median-edge strips.
    pub(super) coarse: bool,
    pub(super) running: Running,
}

/// What the patches of a body are.
pub(super) struct Found {
    /// Bytes of residuals that the stream of their own must have.
    pub(super) residuals: usize,
    /// Bytes of video at the body's end, and whose they are.
    pub(super) video: usize,
    pub(super) videos: Vec<Video>,
    /// The regions that go on after it.
    pub(super) running: Running,
}

/// Reads all patches before any is painted.
pub(super) fn check_patches(
    mut plain: Reader<'_>,
    size: Size,
    allowed: Allowed,
) -> Result<Found, DecodeError> {
    let mut found = Found { residuals: 0, video: 0, videos: Vec::new(), running: allowed.running };
    let (mut copies, mut copied, mut others) = (0, 0, false);
    while let Some(patch) = plain.patch(size)? {
        others |= !matches!(patch, Patch::Copy(_));
        match patch {
            Patch::Copy(copy) => {
                copies += 1;
                copied += copy.to.pixels();
                if others || copies > limits::COPIES_MAX || copied > size.pixels() {
                    return Err(DecodeError::Bounds);
                }
            }
            Patch::Edge(Edge { above: true, .. }) if !allowed.coarse => {
                return Err(DecodeError::Patch(kind::EDGE));
            }
            Patch::Edge(Edge { rect, .. }) if allowed.separate => {
                found.residuals += rect.pixels() * PACKED;
            }
            Patch::Strip(rect) | Patch::Edge(Edge { rect, .. }) => {
                plain.take(rect.pixels() * PACKED)?;
            }
            Patch::Coarse(_) if !allowed.coarse => return Err(DecodeError::Patch(kind::COARSE)),
            Patch::Coarse(coarse) => drop(plain.take(coarse.len())?),
            Patch::Video(_) if !allowed.video => return Err(DecodeError::Patch(kind::VIDEO)),
            Patch::Video(video) => {
                found.running.step(&video, size)?;
                found.video = found.video.checked_add(video.len as usize).ok_or(DecodeError::Length)?;
                found.videos.push(video);
                // Each region ends, begins and is settled at most once.
                if found.videos.len() > 3 * VIDEO_REGIONS {
                    return Err(DecodeError::Bounds);
                }
            }
        }
        // More than the stream may hold anyway, before the sum can grow too large.
        if found.residuals > plain_max(size) {
            return Err(DecodeError::Length);
        }
    }
    Ok(found)
}

/// Puts patches into the shadow.
pub(super) struct Painter<'a> {
    pub(super) picture: &'a mut Picture,
    pub(super) order: PixelOrder,
    /// For what has to be lifted or undone first.
    pub(super) scratch: &'a mut Vec<u8>,
}

impl Painter<'_> {
    /// Paints what was checked before; answers where.
    pub(super) fn paint(&mut self, content: &mut Content<'_>) -> Result<Vec<Rect>, DecodeError> {
        let size = self.picture.size();
        let mut changed = self.copies(content, size)?;
        while let Some(patch) = content.plain.patch(size)? {
            match patch {
                Patch::Copy(_) => return Err(DecodeError::Bounds),
                Patch::Strip(rect) => {
                    self.strip(rect, content.plain.take(rect.pixels() * PACKED)?);
                    changed.push(rect);
                }
                Patch::Edge(edge) => {
                    self.edge(edge, content.residuals(edge.rect.pixels() * PACKED)?);
                    changed.push(edge.rect);
                }
                Patch::Coarse(coarse) => {
                    self.coarse(coarse, content.plain.take(coarse.len())?);
                    changed.push(coarse.rect);
                }
                // Only the shadow changes: what is shown stays until there is something else to show.
                Patch::Video(Video { rect, step: VideoStep::Begin | VideoStep::End, .. }) => {
                    self.picture.blacken(rect);
                }
                Patch::Video(Video { rect, step: VideoStep::Show, .. }) => changed.push(rect),
                Patch::Video(Video { step: VideoStep::GoOn, .. }) => {}
            }
        }
        Ok(changed)
    }

    /// Copies come first.
    fn copies(&mut self, content: &mut Content<'_>, size: Size) -> Result<Vec<Rect>, DecodeError> {
        let mut copies = Vec::new();
        loop {
            let mut ahead = content.plain;
            let Some(Patch::Copy(copy)) = ahead.patch(size)? else { break };
            content.plain = ahead;
            copies.push(copy);
        }
        self.picture.copy(&copies, self.scratch);
        Ok(copies.into_iter().map(|copy| copy.to).collect())
    }

    fn strip(&mut self, rect: Rect, packed: &[u8]) {
        let order = self.order;
        let rows = packed.chunks_exact(usize::from(rect.w) * PACKED);
        for (y, row) in rect.rows().zip(rows) {
            let (to, _) = self.picture.row_mut(y, rect).as_chunks_mut::<PIXEL>();
            let (from, _) = row.as_chunks::<PACKED>();
            match order {
                PixelOrder::Bgra => to.iter_mut().zip(from).for_each(|(to, &[b, g, r])| *to = [b, g, r, 255]),
                PixelOrder::Rgba => to.iter_mut().zip(from).for_each(|(to, &[b, g, r])| *to = [r, g, b, 255]),
            }
        }
    }

    fn edge(&mut self, Edge { rect, above }: Edge, residuals: &[u8]) {
        let w = usize::from(rect.w);
        let blue_first = self.order == PixelOrder::Bgra;
        self.scratch.clear();
        self.scratch.extend_from_slice(residuals);
        let row_above = match rect.y.checked_sub(1) {
            Some(y) if above => Some(&self.picture.row(y.into())[rect.span(PIXEL)]),
            _ => None,
        };
        edge::put_above(row_above, w, blue_first, self.scratch);
        let (planes, row_above) = self.scratch.split_at_mut(residuals.len());
        edge::unfilter(planes, w, row_above);
        let (green, rest) = planes.split_at(rect.pixels());
        let (blue, red) = rest.split_at(rect.pixels());
        let (first, third) = if blue_first { (blue, red) } else { (red, blue) };
        let rows = first.chunks_exact(w).zip(green.chunks_exact(w)).zip(third.chunks_exact(w));
        for (y, ((first, green), third)) in rect.rows().zip(rows) {
            let (to, _) = self.picture.row_mut(y, rect).as_chunks_mut::<PIXEL>();
            for (to, ((first, &green), third)) in to.iter_mut().zip(first.iter().zip(green).zip(third)) {
                *to = [first.wrapping_add(green), green, third.wrapping_add(green), 255];
            }
        }
    }

    fn coarse(&mut self, coarse: Coarse, samples: &[u8]) {
        let (rect, scale, order) = (coarse.rect, coarse.scale_log, self.order);
        let bytes = if coarse.grey { 1 } else { PACKED };
        let pixel = |sample: &[u8]| match (sample, order) {
            (&[b, g, r], PixelOrder::Bgra) => [b, g, r, 255],
            (&[b, g, r], PixelOrder::Rgba) => [r, g, b, 255],
            _ => [sample[0], sample[0], sample[0], 255],
        };
        let (across, _) = coarse.samples();
        for (i, y) in rect.rows().enumerate() {
            let row = &samples[(i >> scale) * across * bytes..][..across * bytes];
            let (to, _) = self.picture.row_mut(y, rect).as_chunks_mut::<PIXEL>();
            for (square, sample) in to.chunks_mut(1 << scale).zip(row.chunks_exact(bytes)) {
                square.fill(pixel(sample));
            }
        }
    }
}
