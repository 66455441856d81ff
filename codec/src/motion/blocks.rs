//! Tries shifts: blocks that show what the shadow has elsewhere become rectangles, grown to the pixel. A copy whose edge is off
//! would leave strips as wide as before.

use std::ops::Range;

use tandem_protocol::limits;

use super::{Pair, Shift};
use crate::owed::Region;
use crate::picture::{COLOUR, Copy, PIXEL, Rect, Size};
use crate::wide::wide;

/// Side of the blocks that are compared.
pub(super) const BLOCK: usize = 16;
/// Changed blocks that a copy must explain.
const BLOCKS_MIN: usize = 6;
/// Pixels by which a rectangle may grow on each side.
const GROWTH: u16 = 40;
/// Columns between changed blocks that are looked at with them when pieces are gathered.
const SPAN_GAP: usize = 4;

/// The blocks of a picture: which have changed, and the copies found for them. Keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    size: Size,
    columns: usize,
    rows: usize,
    /// For each block: whether it has changed and no copy explains it yet.
    open: Vec<bool>,
    left: usize,
    /// The columns of blocks in which any has changed.
    across: Range<usize>,
    /// For each block: whether it is known to match the shift that is being tried, and no rectangle has it.
    matches: Vec<bool>,
    /// For each row of blocks: whether it was compared.
    seen: Vec<bool>,
    copies: Vec<Copy>,
    copied: usize,
}

/// A rectangle of blocks.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Blocks {
    /// Forgets the copies.
    pub(super) fn clear(&mut self) {
        self.copies.clear();
        self.copied = 0;
    }

    /// Begins with a picture of this size of which these regions have changed.
    pub(super) fn begin(&mut self, size: Size, regions: &[Region]) {
        self.size = size;
        self.columns = usize::from(size.w).div_ceil(BLOCK);
        self.rows = usize::from(size.h).div_ceil(BLOCK);
        self.open.clear();
        self.open.resize(self.columns * self.rows, false);
        self.across = self.columns..0;
        for Region { rect, .. } in regions {
            let across = usize::from(rect.x) / BLOCK..usize::from(rect.x + rect.w).div_ceil(BLOCK);
            self.across = self.across.start.min(across.start)..self.across.end.max(across.end);
            for y in usize::from(rect.y) / BLOCK..usize::from(rect.y + rect.h).div_ceil(BLOCK) {
                self.open[y * self.columns..][across.clone()].fill(true);
            }
        }
        self.left = self.open.iter().filter(|&&open| open).count();
    }

    /// Blocks that have changed and that no copy explains.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// Calls `each` with the top row of blocks and the columns, in pixels, of every `every`th row's stretches of blocks that are not explained,
    /// small gaps included.
    pub(super) fn for_open_spans(&self, every: usize, mut each: impl FnMut(usize, usize, usize)) {
        for (y, open) in self.open.chunks_exact(self.columns).enumerate().step_by(every) {
            let mut span: Option<(usize, usize)> = None;
            for x in (0..open.len()).filter(|&x| open[x]) {
                span = match span {
                    Some((from, to)) if x <= to + SPAN_GAP => Some((from, x + 1)),
                    before => {
                        before.inspect(|&(from, to)| self.span(y, from, to, &mut each));
                        Some((x, x + 1))
                    }
                };
            }
            span.inspect(|&(from, to)| self.span(y, from, to, &mut each));
        }
    }

    fn span(&self, y: usize, from: usize, to: usize, each: &mut impl FnMut(usize, usize, usize)) {
        // Pieces may begin a little before what has changed, and end after it.
        let (from, to) = (from.saturating_sub(1), (to + 1).min(self.columns));
        each(y * BLOCK, from * BLOCK, (to * BLOCK).min(usize::from(self.size.w)));
    }

    /// Looks for copies by these shifts; answers whether there are any.
    pub(super) fn explain(&mut self, pair: Pair<'_>, shifts: impl Iterator<Item = Shift>) -> bool {
        let before = self.copies.len();
        shifts.for_each(|shift| self.try_shift(pair, shift));
        self.copies.len() > before
    }

    fn try_shift(&mut self, pair: Pair<'_>, shift: Shift) {
        if self.left < BLOCKS_MIN {
            return;
        }
        self.matches.clear();
        self.matches.resize(self.open.len(), false);
        self.seen.clear();
        self.seen.resize(self.rows, false);
        for y in 0..self.rows {
            let row = y * self.columns;
            if !self.open[row..][..self.columns].contains(&true) {
                continue;
            }
            self.look_at(pair, shift, y);
            for x in self.across.clone() {
                if self.open[row + x] && self.matches[row + x] && self.copies.len() < limits::COPIES_MAX {
                    let area = self.area(pair, shift, x, y);
                    self.take(pair, shift, area);
                }
            }
        }
    }

    /// Compares a row of blocks, as far as something has changed left and right of them anywhere, if it was not yet: a whole row at
    /// a time, since that is how memory is read fast.
    fn look_at(&mut self, pair: Pair<'_>, shift: Shift, y: usize) {
        if std::mem::replace(&mut self.seen[y], true) {
            return;
        }
        let size = pair.picture.size();
        let matches = &mut self.matches[y * self.columns..][self.across.clone()];
        let Some((across, from_x)) = columns_within(size, &self.across, shift.dx) else { return };
        let matches = &mut matches[across.start - self.across.start..across.end - self.across.start];
        matches.fill(true);
        let span = across.start * BLOCK * PIXEL..(across.end * BLOCK).min(usize::from(size.w)) * PIXEL;
        for to in y * BLOCK..((y + 1) * BLOCK).min(usize::from(size.h)) {
            let from = to as i32 - shift.dy;
            if !(0..i32::from(size.h)).contains(&from) {
                return matches.fill(false);
            }
            let before = &pair.shadow.row(from as usize)[from_x * PIXEL..][..span.len()];
            same_blocks(&pair.picture.row(to)[span.clone()], before, matches);
        }
    }

    /// The blocks around one that matches which match too: as wide as its row allows, then down. Unchanged blocks may belong to
    /// it, so a scrolled page is one copy.
    fn area(&mut self, pair: Pair<'_>, shift: Shift, x: usize, y: usize) -> Area {
        let row = &self.matches[y * self.columns..][..self.columns];
        let left = row[..x].iter().rposition(|&matches| !matches).map_or(0, |at| at + 1);
        let right = row[x..].iter().position(|&matches| !matches).map_or(self.columns, |at| x + at);
        let mut bottom = y + 1;
        while bottom < self.rows {
            self.look_at(pair, shift, bottom);
            if !self.matches[bottom * self.columns..][left..right].iter().all(|&matches| matches) {
                break;
            }
            bottom += 1;
        }
        Area { left, right, top: y, bottom }
    }

    /// Makes a copy of an area, if it explains enough. None of its blocks is looked at again with this shift.
    fn take(&mut self, pair: Pair<'_>, shift: Shift, area: Area) {
        let rows = || area.top..area.bottom;
        for y in rows() {
            self.matches[y * self.columns..][area.left..area.right].fill(false);
        }
        let open = |y: usize| &self.open[y * self.columns..][area.left..area.right];
        let explained: usize = rows().map(|y| open(y).iter().filter(|&&open| open).count()).sum();
        if explained < BLOCKS_MIN {
            return;
        }
        // Its edges where nothing has changed need no copy.
        let first = rows().filter_map(|y| open(y).iter().position(|&open| open)).min().unwrap_or(0);
        let last = rows().filter_map(|y| open(y).iter().rposition(|&open| open)).max().unwrap_or(0);
        let bottom = rows().rfind(|&y| open(y).contains(&true)).unwrap_or(area.top) + 1;
        let trimmed = Area { left: area.left + first, right: area.left + last + 1, bottom, ..area };
        let to = grown(pair, self.rect(trimmed), shift);
        if self.copied + to.pixels() > self.size.pixels() {
            return;
        }
        self.copied += to.pixels();
        self.left -= explained;
        for y in rows() {
            self.open[y * self.columns..][area.left..area.right].fill(false);
        }
        let from = (i32::from(to.x) - shift.dx, i32::from(to.y) - shift.dy);
        self.copies.push(Copy { from: (from.0 as u16, from.1 as u16), to });
    }

    /// The pixels of an area; blocks at the edges may be smaller.
    fn rect(&self, area: Area) -> Rect {
        let (x, y) = (area.left * BLOCK, area.top * BLOCK);
        let (w, h) = ((area.right - area.left) * BLOCK, (area.bottom - area.top) * BLOCK);
        Rect { x: x as u16, y: y as u16, w: w as u16, h: h as u16 }.clipped(self.size)
    }
}

/// Those of some columns of blocks that came from within the picture as a whole, and the column of pixels that the first came from.
fn columns_within(size: Size, across: &Range<usize>, dx: i32) -> Option<(Range<usize>, usize)> {
    let (width, dx) = (usize::from(size.w), dx as isize);
    let first = dx.max(0).unsigned_abs().div_ceil(BLOCK).max(across.start);
    // Blocks at the right edge may be narrower.
    let whole = (width.saturating_add_signed(dx.min(0))) / BLOCK;
    let end = if dx >= 0 { across.end } else { whole.min(across.end) };
    (first < end).then(|| (first..end, (first * BLOCK).wrapping_add_signed(-dx)))
}

wide! {
    /// Clears those `blocks` whose pixels in two rows differ.
    fn same_blocks(a: &[u8], b: &[u8], blocks: &mut [bool]) = same_blocks_each;
}

#[inline(always)]
fn same_blocks_each(a: &[u8], b: &[u8], blocks: &mut [bool]) {
    const BYTES: usize = BLOCK * PIXEL;
    let (a, a_rest) = a.as_chunks::<BYTES>();
    let (b, b_rest) = b.as_chunks::<BYTES>();
    for ((a, b), equal) in a.iter().zip(b).zip(blocks.iter_mut()) {
        *equal = *equal && same(a, b);
    }
    if let (false, Some(last)) = (a_rest.is_empty(), blocks.last_mut()) {
        *last = *last && same(a_rest, b_rest);
    }
}

/// Where a rectangle came from, if that is within the picture.
fn source(size: Size, rect: Rect, shift: Shift) -> Option<Rect> {
    let x = u16::try_from(i32::from(rect.x) - shift.dx).ok()?;
    let y = u16::try_from(i32::from(rect.y) - shift.dy).ok()?;
    Some(Rect { x, y, ..rect }).filter(|&source| size.holds(source))
}

/// Whether a rectangle shows what the shadow has where it came from.
fn moved(pair: Pair<'_>, rect: Rect, shift: Shift) -> bool {
    let size = pair.picture.size();
    let Some(source) = source(size, rect, shift).filter(|_| size.holds(rect)) else { return false };
    rect.rows().zip(source.rows()).all(|(to, from)| {
        same(&pair.picture.row(to)[rect.span(PIXEL)], &pair.shadow.row(from)[source.span(PIXEL)])
    })
}

/// `rect` with the rows and columns around it that moved with it.
fn grown(pair: Pair<'_>, mut rect: Rect, shift: Shift) -> Rect {
    for _ in 0..GROWTH {
        let above = Rect { y: rect.y.saturating_sub(1), h: 1, ..rect };
        if rect.y == 0 || !moved(pair, above, shift) {
            break;
        }
        rect = Rect { y: above.y, h: rect.h + 1, ..rect };
    }
    for _ in 0..GROWTH {
        if !moved(pair, Rect { y: rect.y + rect.h, h: 1, ..rect }, shift) {
            break;
        }
        rect.h += 1;
    }
    let (left, right) = (reach(pair, rect, shift, false), reach(pair, rect, shift, true));
    Rect { x: rect.x - left, w: left + rect.w + right, ..rect }
}

/// How many columns beside `rect` moved with it, in every row.
fn reach(pair: Pair<'_>, rect: Rect, shift: Shift, to_the_right: bool) -> u16 {
    let width = i32::from(pair.picture.size().w);
    let edge = rect.x + rect.w;
    let here = if to_the_right { width - i32::from(edge) } else { i32::from(rect.x) };
    let there = if to_the_right { here + shift.dx } else { here - shift.dx };
    let most = here.min(there).clamp(0, GROWTH.into()) as u16;
    rect.rows().fold(most, |most, y| {
        let x = if to_the_right { edge } else { rect.x - most };
        let beside = Rect { x, w: most, ..rect }.span(PIXEL);
        let from_x = usize::from(x).wrapping_add_signed(-shift.dx as isize) * PIXEL;
        let from_y = (y as i32 - shift.dy) as usize;
        let before = &pair.shadow.row(from_y)[from_x..from_x + beside.len()];
        let now = &pair.picture.row(y)[beside];
        if same(now, before) {
            return most;
        }
        let ((now, _), (before, _)) = (now.as_chunks::<PIXEL>(), before.as_chunks::<PIXEL>());
        let pixels = now.iter().zip(before).map(|(now, before)| colours_differ(*now, *before) == 0);
        let equal = if to_the_right {
            pixels.take_while(|&equal| equal).count()
        } else {
            pixels.rev().take_while(|&equal| equal).count()
        };
        equal as u16
    })
}

#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, _) = a.as_chunks::<PIXEL>();
    let (b, _) = b.as_chunks::<PIXEL>();
    a.iter().zip(b).fold(0, |all, (a, b)| all | colours_differ(*a, *b)) == 0
}

#[inline(always)]
fn colours_differ(a: [u8; PIXEL], b: [u8; PIXEL]) -> u32 {
    (u32::from_le_bytes(a) ^ u32::from_le_bytes(b)) & COLOUR
}
