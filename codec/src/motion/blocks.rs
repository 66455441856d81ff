//! Tries shifts: blocks that show what the shadow has elsewhere become rectangles, grown to the pixel. A copy whose edge is off
//! would leave strips as wide as before.

use tandem_protocol::limits;

use super::{Pair, Shift};
use crate::owed::Region;
use crate::picture::{COLOUR, Copy, PIXEL, Rect, Size};

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
    /// For each block: whether it matches the shift that is being tried.
    matches: Vec<Match>,
    copies: Vec<Copy>,
    copied: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Unknown,
    Yes,
    /// It doesn't, or a rectangle has it already.
    No,
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
        for Region { rect, .. } in regions {
            let across = usize::from(rect.x) / BLOCK..usize::from(rect.x + rect.w).div_ceil(BLOCK);
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

    /// Calls `each` with the top row of blocks and the columns, in pixels, of each row's stretches of blocks that are not explained,
    /// small gaps included.
    pub(super) fn for_open_spans(&self, mut each: impl FnMut(usize, usize, usize)) {
        for (y, open) in self.open.chunks_exact(self.columns).enumerate() {
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
        self.matches.resize(self.open.len(), Match::Unknown);
        for y in 0..self.rows {
            for x in 0..self.columns {
                if !self.open[y * self.columns + x] || self.copies.len() == limits::COPIES_MAX {
                    continue;
                }
                if self.matches(pair, shift, x, y) {
                    let area = self.area(pair, shift, x, y);
                    self.take(pair, shift, area);
                }
            }
        }
    }

    /// Whether a block shows what the shadow has where it came from.
    fn matches(&mut self, pair: Pair<'_>, shift: Shift, x: usize, y: usize) -> bool {
        let at = y * self.columns + x;
        if self.matches[at] == Match::Unknown {
            let rect = self.rect(Area { left: x, right: x + 1, top: y, bottom: y + 1 });
            self.matches[at] = if moved(pair, rect, shift) { Match::Yes } else { Match::No };
        }
        self.matches[at] == Match::Yes
    }

    /// The blocks around one that matches which match too: as wide as its row allows, then down. Unchanged blocks may belong to
    /// it, so a scrolled page is one copy.
    fn area(&mut self, pair: Pair<'_>, shift: Shift, x: usize, y: usize) -> Area {
        let mut area = Area { left: x, right: x + 1, top: y, bottom: y + 1 };
        while area.left > 0 && self.matches(pair, shift, area.left - 1, y) {
            area.left -= 1;
        }
        while area.right < self.columns && self.matches(pair, shift, area.right, y) {
            area.right += 1;
        }
        while area.bottom < self.rows
            && (area.left..area.right).all(|x| self.matches(pair, shift, x, area.bottom))
        {
            area.bottom += 1;
        }
        area
    }

    /// Makes a copy of an area, if it explains enough. None of its blocks is looked at again with this shift.
    fn take(&mut self, pair: Pair<'_>, shift: Shift, area: Area) {
        let rows = || area.top..area.bottom;
        rows().for_each(|y| {
            self.matches[y * self.columns..][area.left..area.right].fill(Match::No);
        });
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

/// Where a rectangle came from, if that is within the picture.
fn source(size: Size, rect: Rect, shift: Shift) -> Option<Rect> {
    let x = u16::try_from(i32::from(rect.x) - shift.dx).ok()?;
    let y = u16::try_from(i32::from(rect.y) - shift.dy).ok()?;
    Some(Rect { x, y, ..rect }).filter(|&source| size.holds(source))
}

/// Whether a rectangle shows what the shadow has where it came from.
fn moved(pair: Pair<'_>, rect: Rect, shift: Shift) -> bool {
    let Some(source) = source(pair.picture.size(), rect, shift) else { return false };
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
        let (before, _) = pair.shadow.row(from_y)[from_x..from_x + beside.len()].as_chunks::<PIXEL>();
        let (now, _) = pair.picture.row(y)[beside].as_chunks::<PIXEL>();
        let pixels = now.iter().zip(before).map(|(now, before)| colours_differ(*now, *before) == 0);
        let equal = if to_the_right {
            pixels.take_while(|&equal| equal).count()
        } else {
            pixels.rev().take_while(|&equal| equal).count()
        };
        equal as u16
    })
}

#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, _) = a.as_chunks::<PIXEL>();
    let (b, _) = b.as_chunks::<PIXEL>();
    a.iter().zip(b).fold(0, |all, (a, b)| all | colours_differ(*a, *b)) == 0
}

#[inline]
fn colours_differ(a: [u8; PIXEL], b: [u8; PIXEL]) -> u32 {
    (u32::from_le_bytes(a) ^ u32::from_le_bytes(b)) & COLOUR
}
