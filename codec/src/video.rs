//! The video plane of an encoder: which regions of the screen go as H.264, and their pictures.
//!
//! A region begins where [`grid`] finds natural content that changes again and again, and ends when that rests, or fills the
//! region no more. While it lives the lossless plane has nothing there: no patch paints it, no copy reads or writes it, and for
//! subscribers the shadow is black in it. In the encoder's own shadow stands what was coded last, so that comparing tells
//! whether the region moves. When it ends it is black there too, and all of it is owed.

use std::borrow::Cow;
use std::time::Duration;

use tandem_protocol::limits;

use self::grid::Grid;
use self::h264::Coder;
use self::moving::{MOVES, Moving, REST};
use crate::error::StreamError;
use crate::lossless::Writer;
use crate::owed::{BAND, Owed, Region};
use crate::picture::{Copy, HISTORY_LEAD, PACKED, Picture, PictureRef, Rect, Size};
use crate::wire::{CodedSize, VIDEO_REGIONS, Video, VideoStep};

mod grid;
#[cfg(feature = "video")]
mod h264;
#[cfg(not(feature = "video"))]
#[path = "video/none.rs"]
mod h264;
mod moving;
#[cfg(feature = "video")]
mod player;
mod rate;

#[cfg(feature = "video")]
pub use self::player::VideoPlayer;

/// Regions at the same time.
const REGIONS_MAX: usize = 4;
/// Pieces of copies that are smaller are not worth a patch.
const COPY_MIN: usize = 1024;

/// An encoder's regions.
pub(crate) struct Plane {
    /// Video may be sent.
    on: bool,
    /// There is no H.264 to be had here.
    failed: bool,
    grid: Option<Grid>,
    size: Size,
    regions: Vec<Moving>,
    /// Patches that are to be written: regions that have ended.
    ended: Vec<Video>,
    /// Where regions have ended and something of them may still be shown.
    settling: Vec<Rect>,
    /// Bytes that the lossless plane took lately of an update.
    lossless: f32,
}

impl Plane {
    pub(crate) fn new(on: bool, size: Size) -> Self {
        Self {
            on,
            failed: false,
            grid: None,
            size,
            regions: Vec::new(),
            ended: Vec::new(),
            settling: Vec::new(),
            lossless: 0.0,
        }
    }

    /// Allows video or not; without it the regions end with the next picture. Answers what was before.
    pub(crate) fn set(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.on, on && !self.failed)
    }

    /// Where video is, or was and is not exact yet.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Rect> {
        self.regions.iter().map(|region| region.rect).chain(self.settling.iter().copied())
    }

    /// Where it goes on.
    pub(crate) fn going_on(&self) -> impl Iterator<Item = Rect> {
        self.regions.iter().map(|region| region.rect)
    }

    pub(crate) fn has_regions(&self) -> bool {
        !self.regions.is_empty()
    }

    /// The same regions for another encoder, which begins them anew.
    pub(crate) fn fork(&self) -> Self {
        let again = |moving: &Moving| Moving::new(moving.number, moving.rect, moving.moved);
        Self { regions: self.regions.iter().map(again).collect(), ..Self::new(self.on, self.size) }
    }

    /// A segment starts: everybody gets every region from its beginning.
    pub(crate) fn restart(&mut self) {
        self.regions.iter_mut().for_each(|region| (region.begins, region.changed) = (true, true));
    }

    /// When there is something to be done although nothing changes: a region then rests. On the clock of the hints.
    pub(crate) fn rests_at(&self) -> Option<Duration> {
        self.regions.iter().map(|region| region.moved + REST).min()
    }

    /// Whether an update is needed for video.
    pub(crate) fn is_due(&self) -> bool {
        !self.ended.is_empty() || self.regions.iter().any(|region| region.changed)
    }

    /// Makes the regions black in a picture, as subscribers' shadows have it.
    pub(crate) fn blacken(&self, shadow: &mut Picture) {
        self.regions.iter().for_each(|region| shadow.blacken(region.rect));
    }

    /// The same in a packed one, as history has it.
    pub(crate) fn blacken_packed(&self, history: &mut [u8]) {
        for rect in self.regions.iter().map(|region| region.rect) {
            for y in rect.rows() {
                let row = HISTORY_LEAD + y * usize::from(self.size.w) * PACKED;
                history[row..][rect.span(PACKED)].fill(0);
            }
        }
    }

    /// Takes out of `differs` what is video, and notes what moves.
    pub(crate) fn split(&mut self, differs: &mut Vec<Region>, now: Duration) {
        for region in &mut self.regions {
            let common = differs.iter().map(|part| part.rect.common(region.rect));
            let moved = common.clone().map(Rect::pixels).sum::<usize>();
            region.changed |= moved > 0;
            if moved * MOVES >= region.rect.pixels() {
                region.moved = now;
            }
            let all = common.filter(|part| part.w > 0).chain(region.fills);
            region.fills = all.reduce(Rect::hull);
        }
        self.without(differs);
        self.regions
            .iter_mut()
            .filter(|region| region.changed)
            .for_each(|region| region.look_beside(differs));
    }

    /// Takes out of `differs` what is video.
    pub(crate) fn without(&self, differs: &mut Vec<Region>) {
        for rect in self.regions.iter().map(|region| region.rect) {
            if differs.iter().any(|part| part.rect.intersects(rect)) {
                let rest = |part: Region| part.rect.without(rect).map(move |rect| Region { rect, ..part });
                *differs = differs.drain(..).flat_map(rest).collect();
                differs.sort_by_key(|part| (part.rect.y, part.rect.x));
            }
        }
    }

    /// The parts of copies that neither read nor write video.
    pub(crate) fn clip<'a>(&self, copies: &'a [Copy]) -> Cow<'a, [Copy]> {
        let mut copies = Cow::Borrowed(copies);
        for video in self.regions.iter().map(|region| region.rect) {
            if copies.iter().any(|copy| copy.to.intersects(video) || copy.source().intersects(video)) {
                let mut parts: Vec<Copy> = copies.iter().flat_map(|&copy| clipped(copy, video)).collect();
                parts.truncate(limits::COPIES_MAX);
                copies = Cow::Owned(parts);
            }
        }
        copies
    }

    /// Ends regions that rest, and begins those that are found. What has ended is owed since `at`, and joins `differs`.
    pub(crate) fn watch(
        &mut self,
        picture: PictureRef<'_>,
        shadow: &mut Picture,
        owed: &mut Owed,
        differs: &mut Vec<Region>,
        (at, now): (u64, Duration),
    ) {
        for i in (0..self.regions.len()).rev() {
            if !self.on || self.regions[i].is_over(now) {
                self.end(i, shadow, owed, differs, at);
            }
        }
        if !self.on {
            self.grid = None;
            return;
        }
        let grid = self.grid.get_or_insert_with(|| Grid::new(self.size));
        let mut found = grid.watch(picture, shadow, differs, now);
        found.retain(|rect| Coder::can(Size { w: rect.w, h: rect.h }));
        found.extend(self.regions.iter_mut().filter_map(|region| region.grown(picture)));
        for rect in found {
            self.begin(rect, shadow, owed, differs, (at, now));
        }
        self.without(differs);
    }

    fn end(&mut self, i: usize, shadow: &mut Picture, owed: &mut Owed, differs: &mut Vec<Region>, at: u64) {
        let Moving { number, rect, begins, .. } = self.regions.remove(i);
        // One that has not begun in this segment yet has ended with the last.
        if !begins {
            self.ended.push(end_of(number, rect));
            self.settling.push(rect);
        }
        shadow.blacken(rect);
        owed.mark(rect, at);
        if let Some(grid) = &mut self.grid {
            grid.cool(rect);
        }
        let band = |y: u16| {
            let y = y * BAND;
            rect.common(Rect { y, h: BAND.min(self.size.h - y), ..rect })
        };
        let bands = (rect.y / BAND..=(rect.y + rect.h - 1) / BAND).map(band);
        differs.extend(bands.map(|rect| Region { rect, since: at }));
        differs.sort_by_key(|part| (part.rect.y, part.rect.x));
    }

    /// Begins a region, which takes over those that it touches.
    fn begin(
        &mut self,
        mut rect: Rect,
        shadow: &mut Picture,
        owed: &mut Owed,
        differs: &mut Vec<Region>,
        (at, now): (u64, Duration),
    ) {
        while let Some(i) = self.regions.iter().position(|region| region.rect.intersects(rect)) {
            let hull = rect.hull(self.regions[i].rect);
            if !Coder::can(Size { w: hull.w, h: hull.h }) {
                return;
            }
            self.end(i, shadow, owed, differs, at);
            rect = hull;
        }
        let is_free = |number: &u8| self.regions.iter().all(|region| region.number != *number);
        let number = (0..VIDEO_REGIONS as u8).find(is_free);
        if let Some(number) = number.filter(|_| self.regions.len() < REGIONS_MAX) {
            self.regions.push(Moving::new(number, rect, now));
        }
    }

    /// Where regions have ended and nothing is `left` to be sent: from now on the shadow is shown there. Its black pixels were
    /// never painted. Answers whether something was written.
    pub(crate) fn settle(&mut self, writer: &mut Writer<'_>, left: &[Region]) -> Result<bool, StreamError> {
        let is_left = |rect: &Rect| left.iter().any(|part| part.rect.intersects(*rect));
        let (settling, settled): (Vec<Rect>, _) = self.settling.drain(..).partition(is_left);
        self.settling = settling;
        let mut parts = settled;
        for rect in self.regions.iter().map(|region| region.rect) {
            parts = parts.into_iter().flat_map(|part| part.without(rect)).collect();
        }
        parts.truncate(VIDEO_REGIONS);
        for &rect in &parts {
            writer.video(Video { step: VideoStep::Show, ..end_of(0, rect) }, &[])?;
        }
        Ok(!parts.is_empty())
    }

    /// Notes how much the lossless plane took of an update.
    pub(crate) fn spent(&mut self, lossless: usize) {
        self.lossless = (lossless as f32).max(0.7 * self.lossless + 0.3 * lossless as f32);
    }

    /// Writes what there is of video: the ends of regions, and pictures of about the part of the budget that the lossless
    /// plane leaves, at least half; answers how long they are. Regions that cannot be coded are left to the lossless plane for good.
    pub(crate) fn write(
        &mut self,
        writer: &mut Writer<'_>,
        picture: PictureRef<'_>,
        shadow: &mut Picture,
        budget: usize,
    ) -> Result<usize, StreamError> {
        self.ended.drain(..).try_for_each(|video| writer.video(video, &[]))?;
        let budget = budget - (budget / 2).min((self.lossless * 1.25) as usize);
        let due = || self.regions.iter().filter(|region| region.changed);
        let pixels = due().map(|region| region.rect.pixels()).sum::<usize>().max(1);
        let (mut bytes, mut all) = (Vec::new(), 0);
        for region in self.regions.iter_mut().filter(|region| region.changed) {
            let share = budget as f64 * region.rect.pixels() as f64 / pixels as f64;
            bytes.clear();
            let is_cut = region.is_cut(picture, shadow);
            let Some(video) = region.code(picture, is_cut, share as usize, &mut bytes) else {
                // It rests from now on, which brings it back to the lossless plane.
                (self.on, self.failed, region.changed) = (false, true, false);
                continue;
            };
            writer.video(video, &bytes)?;
            all += bytes.len();
            shadow.paint(picture, region.rect);
        }
        Ok(all)
    }

    /// Stands where another plane does, for an encoder whose shadow is brought to that one's: the regions are its, each still to
    /// begin. Their rectangles are black in the shadow from now on, and so is what was video here, which is owed since `at`.
    pub(crate) fn adopt(&mut self, other: &Self, shadow: &mut Picture, owed: &mut Owed, at: u64) {
        for i in (0..self.regions.len()).rev() {
            self.end(i, shadow, owed, &mut Vec::new(), at);
        }
        for region in &other.regions {
            self.ended.push(end_of(region.number, region.rect));
            shadow.blacken(region.rect);
        }
    }

    /// After [`Plane::adopt`], once the shadows are the same: its regions, with what was coded of them last.
    pub(crate) fn follow(&mut self, other: &Self, shadow: &mut Picture, coded: PictureRef<'_>) {
        self.regions = other.fork().regions;
        self.regions.iter().for_each(|region| shadow.paint(coded, region.rect));
    }
}

/// The patch by which a region ends, or is black in the shadow.
fn end_of(region: u8, rect: Rect) -> Video {
    Video { region, step: VideoStep::End, rect, coded: CodedSize::default(), len: 0 }
}

/// The parts of a copy that neither read nor write `video`.
fn clipped(copy: Copy, video: Rect) -> impl Iterator<Item = Copy> {
    let (dx, dy) =
        (i32::from(copy.to.x) - i32::from(copy.from.0), i32::from(copy.to.y) - i32::from(copy.from.1));
    let from = move |to: Rect| {
        let at = |to: u16, by: i32| (i32::from(to) - by) as u16;
        Copy { from: (at(to.x, dx), at(to.y, dy)), to }
    };
    let unread = copy.source().without(video).map(move |source| Rect {
        x: (i32::from(source.x) + dx) as u16,
        y: (i32::from(source.y) + dy) as u16,
        ..source
    });
    unread.flat_map(move |to| to.without(video)).filter(|to| to.pixels() >= COPY_MIN).map(from)
}
