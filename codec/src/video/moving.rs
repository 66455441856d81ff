//! One region of video: whether it still is one, how far it reaches, and its pictures.

use std::time::Duration;

use super::grid;
use super::h264::Coder;
use super::rate::Rate;
use crate::owed::Region;
use crate::picture::{PIXEL, Picture, PictureRef, Rect, Size};
use crate::wire::{Video, VideoStep};

/// A region that has hardly changed for so long rests.
pub(super) const REST: Duration = Duration::from_millis(250);
/// Of a region at least this part changes, or it rests.
pub(super) const MOVES: usize = 16;
/// Every so often it is looked at whether a region's movement still fills it.
const REVIEW: Duration = Duration::from_secs(1);
/// Movement right beside a region, in so many pictures in a row, belongs to it: its edge had rested when it was found.
const SPILLS: u8 = 4;
/// No further from it than this, along at least this part of its side.
const SPILL_MAX: u16 = 64;
const SPILL_PART: u16 = 4;
/// A picture whose pixels differ by so much from the one before, on average, and by so many times the usual, is a cut.
const CUT_MIN: f32 = 12.0;
const CUT: f32 = 3.0;

/// A region that goes as H.264.
pub(super) struct Moving {
    pub(super) number: u8,
    pub(super) rect: Rect,
    /// `None`: to be made with its next picture.
    coder: Option<Coder>,
    rate: Rate,
    /// Its next picture is its first in the segment.
    pub(super) begins: bool,
    /// It has changed since its last picture.
    pub(super) changed: bool,
    /// When enough of it last moved.
    pub(super) moved: Duration,
    /// Since when `fills` is gathered, and where it has changed since then.
    reviewed: Duration,
    pub(super) fills: Option<Rect>,
    /// What moves right beside it, with it, and in how many pictures it did.
    spill: Rect,
    spills: u8,
    /// How much its pixels change from picture to picture, on average.
    jump: f32,
}

impl Moving {
    pub(super) fn new(number: u8, rect: Rect, now: Duration) -> Self {
        let rate = Rate::new(rect.pixels());
        Self {
            number,
            rect,
            coder: None,
            rate,
            begins: true,
            changed: true,
            moved: now,
            reviewed: now,
            fills: None,
            spill: rect,
            spills: 0,
            jump: 0.0,
        }
    }

    /// Notes what has changed beside it.
    pub(super) fn look_beside(&mut self, differs: &[Region]) {
        let Rect { x, y, w, h } = self.rect;
        let beside = |part: Rect| {
            let level = (y..y + h).contains(&part.y) && part.y + part.h <= y + h;
            let below = (x..x + w).contains(&part.x) && part.x + part.w <= x + w;
            (level && part.w <= SPILL_MAX && (part.x + part.w == x || part.x == x + w))
                || (below && part.h <= SPILL_MAX && (part.y + part.h == y || part.y == y + h))
        };
        let parts = || differs.iter().map(|part| part.rect).filter(|&part| beside(part));
        let Some(hull) = parts().reduce(Rect::hull) else { return };
        let along = parts().map(|part| part.w.max(part.h)).fold(0, u16::saturating_add);
        if along >= w.min(h) / SPILL_PART && hull.pixels() > 0 {
            self.spill = self.spill.hull(hull);
            self.spills += 1;
        }
    }

    /// Whether it is no longer a region of video, as it is.
    pub(super) fn is_over(&mut self, now: Duration) -> bool {
        if now >= self.moved + REST {
            return true;
        }
        if now < self.reviewed + REVIEW {
            return false;
        }
        self.reviewed = now;
        let fills = self.fills.take().unwrap_or_default();
        fills.pixels() * 10 < self.rect.pixels() * 6
    }
}

impl Moving {
    /// The region with what has moved beside it often enough, unless there is something drawn or written.
    pub(super) fn grown(&mut self, picture: PictureRef<'_>) -> Option<Rect> {
        if self.spills < SPILLS {
            return None;
        }
        self.spills = 0;
        let grown = std::mem::replace(&mut self.spill, self.rect);
        let is_video = grown.without(self.rect).all(|part| !grid::is_drawn(picture, part));
        (is_video && Coder::can(Size { w: grown.w, h: grown.h })).then_some(grown)
    }
}

impl Moving {
    /// Whether its picture has little to do with the one before: such a one costs as much as a first one.
    pub(super) fn is_cut(&mut self, picture: PictureRef<'_>, before: &Picture) -> bool {
        let (mut sum, mut count) = (0, 0);
        for y in self.rect.rows().step_by(8) {
            let (now, _) = picture.row(y)[self.rect.span(PIXEL)].as_chunks::<PIXEL>();
            let (then, _) = before.row(y)[self.rect.span(PIXEL)].as_chunks::<PIXEL>();
            for (now, then) in now.iter().zip(then).step_by(8) {
                sum += u32::from(now[1].abs_diff(then[1]));
                count += 1;
            }
        }
        let jump = sum as f32 / count.max(1) as f32;
        let usual = self.jump;
        self.jump = 0.8 * usual + 0.2 * jump;
        jump > CUT_MIN && jump > CUT * usual
    }

    /// Codes its picture. `None` if H.264 is not to be had.
    pub(super) fn code(
        &mut self,
        picture: PictureRef<'_>,
        is_cut: bool,
        target: usize,
        bytes: &mut Vec<u8>,
    ) -> Option<Video> {
        if self.coder.is_none() {
            self.coder = Coder::new(Size { w: self.rect.w, h: self.rect.h });
        }
        let coder = self.coder.as_mut()?;
        let is_whole = self.begins || is_cut;
        let qp = self.rate.qp(is_whole, target);
        coder.encode(picture, self.rect, self.begins, qp, bytes).ok()?;
        self.rate.learn(is_whole, qp, target, bytes.len());
        let step = if self.begins { VideoStep::Begin } else { VideoStep::GoOn };
        (self.begins, self.changed) = (false, false);
        let len = u32::try_from(bytes.len()).ok()?;
        Some(Video { region: self.number, step, rect: self.rect, coded: coder.coded(), len })
    }
}
