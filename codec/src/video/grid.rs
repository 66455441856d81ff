//! Where video is: neighbouring cells of the screen that change again and again and are nowhere drawn or written, some of them
//! natural and nearly all anew each time.
//!
//! Text that scrolls is no video since it has hard edges, a photograph that a window uncovers since every pixel of it changes
//! once. What a budget left unsent is no change either: a cell's content is compared with what it was at the last call.

use std::time::Duration;

use crate::edge::is_photo;
use crate::owed::Region;
use crate::picture::{COLOUR, PIXEL, Picture, PictureRef, Rect, Size};

/// Columns and rows of a cell.
const CELL: (u16, u16) = (64, 32);
/// A cell that has not changed for so long is cold: video of two pictures a second is as good as photographs.
const COLD: Duration = Duration::from_millis(600);
/// Changes in a row that make a cell video.
const HOT: u8 = 2;
/// Smallest video, in cells.
const LEAST: (usize, usize) = (2, 2);
/// Of the cells in a region, at least so many tenths change themselves.
const TENTHS: usize = 5;
/// And so many of a hundred are natural and new all over, the seeds.
const SEEDS: usize = 15;
/// Cells of which less changes are left out, as parts of their pixels; and seeds of which less than that does.
const PART: usize = 16;
const SEED_PART: usize = 2;
/// A step between neighbours that drawings and letters have at their edges, and how rare it is in video, one of so many.
const EDGE: u8 = 48;
const EDGES: u32 = 24;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    signature: u32,
    /// Changes in a row.
    heat: u8,
    changed: Duration,
    /// It changed at this call.
    now: bool,
    /// And is a seed.
    seed: bool,
}

/// The cells, and what those looked like that may be video.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    size: Size,
    columns: usize,
    cells: Vec<Cell>,
    /// The last call's picture, where cells were warm then.
    before: Option<(Picture, Rect)>,
}

impl Grid {
    pub(super) fn new(size: Size) -> Self {
        let columns = usize::from(size.w.div_ceil(CELL.0));
        let cells = vec![Cell::default(); columns * usize::from(size.h.div_ceil(CELL.1))];
        Self { size, columns, cells, before: None }
    }

    /// Looks at what differs from the shadow outside of video, and answers where there is video now.
    pub(super) fn watch(
        &mut self,
        picture: PictureRef<'_>,
        shadow: &Picture,
        differs: &[Region],
        now: Duration,
    ) -> Vec<Rect> {
        self.cells.iter_mut().for_each(|cell| cell.now = false);
        for region in differs {
            for at in self.touched(region.rect) {
                self.look(at, picture, shadow, region.rect, now);
            }
        }
        let found = self.components().into_iter().filter_map(|cells| self.edges(picture, cells)).collect();
        self.remember(picture, now);
        found
    }

    fn touched(&self, rect: Rect) -> impl Iterator<Item = usize> + use<> {
        let span =
            |from: u16, len: u16, of: u16| usize::from(from / of)..usize::from((from + len - 1) / of) + 1;
        let columns = self.columns;
        let (across, down) = (span(rect.x, rect.w, CELL.0), span(rect.y, rect.h, CELL.1));
        down.flat_map(move |row| across.clone().map(move |column| row * columns + column))
    }

    fn rect(&self, at: usize) -> Rect {
        let (column, row) = ((at % self.columns) as u16, (at / self.columns) as u16);
        Rect { x: column * CELL.0, y: row * CELL.1, w: CELL.0, h: CELL.1 }.clipped(self.size)
    }

    /// Warms a cell of which `part` differs from the shadow, if it has changed and has no hard edges.
    fn look(&mut self, at: usize, picture: PictureRef<'_>, shadow: &Picture, part: Rect, now: Duration) {
        let (rect, cell) = (self.rect(at), self.cells[at]);
        let part = part.common(rect);
        if cell.now || part.pixels() * PART < rect.pixels() || is_drawn(picture, part) {
            return;
        }
        let signature = signature(picture, rect);
        if signature == cell.signature {
            return;
        }
        let known = self.before.as_ref().filter(|(_, area)| area.common(rect) == rect);
        let before = known.map_or(shadow, |(before, _)| before);
        let pixels = rect.rows().map(|y| differing(picture.row(y), before.row(y), rect)).sum::<usize>();
        let is_cold = now > cell.changed + COLD || known.is_none();
        let changes = pixels * PART >= rect.pixels();
        let heat = if changes && !is_cold { cell.heat } else { 0 };
        let heat = (heat + u8::from(changes)).min(HOT);
        let seed = pixels * SEED_PART >= rect.pixels() && is_photo(picture, rect);
        self.cells[at] = Cell { signature, heat, changed: now, now: true, seed };
    }

    /// Groups of neighbouring cells that are video, as rectangles in pixels.
    fn components(&self) -> Vec<Rect> {
        let is_hot = |at: usize| self.cells[at].now && self.cells[at].heat >= HOT;
        let rows = self.cells.len() / self.columns;
        let mut seen = vec![false; self.cells.len()];
        let mut found = Vec::new();
        for first in 0..self.cells.len() {
            if seen[first] || !is_hot(first) {
                continue;
            }
            let (mut stack, mut count, mut seeds) = (vec![first], 0, 0);
            let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
            seen[first] = true;
            while let Some(at) = stack.pop() {
                let (column, row) = (at % self.columns, at / self.columns);
                (left, right) = (left.min(column), right.max(column));
                (top, bottom) = (top.min(row), bottom.max(row));
                count += 1;
                seeds += usize::from(self.cells[at].seed);
                let next = [
                    (column > 0).then(|| at - 1),
                    (column + 1 < self.columns).then_some(at + 1),
                    (row > 0).then(|| at - self.columns),
                    (row + 1 < rows).then_some(at + self.columns),
                ];
                for at in next.into_iter().flatten().filter(|&at| is_hot(at)) {
                    if !std::mem::replace(&mut seen[at], true) {
                        stack.push(at);
                    }
                }
            }
            let (w, h) = (right - left + 1, bottom - top + 1);
            let is_dense = count * 10 >= w * h * TENTHS && seeds * 100 >= count * SEEDS;
            if w >= LEAST.0 && h >= LEAST.1 && is_dense {
                let corner = self.rect(top * self.columns + left);
                let last = self.rect(bottom * self.columns + right);
                found.push(corner.hull(last));
            }
        }
        found
    }

    /// The exact edges: columns and rows in which something changed. `None` if that is not known.
    fn edges(&self, picture: PictureRef<'_>, cells: Rect) -> Option<Rect> {
        let (before, known) = self.before.as_ref()?;
        let row = |rect: Rect, y: u16| {
            differing(picture.row(y.into()), before.row(y.into()), rect) * 4 > rect.w.into()
        };
        let column = |rect: Rect, x: u16| {
            let line = Rect { x, w: 1, ..rect };
            let moved = |y: usize| differing(picture.row(y), before.row(y), line);
            line.rows().map(moved).sum::<usize>() * 4 > rect.h.into()
        };
        let mut rect = cells.common(*known);
        let (right, bottom) = (known.x + known.w, known.y + known.h);
        // No further than into the cells around: those beyond are video themselves, or not.
        let beyond = |from: u16, end: u16, cell: u16, moved: &dyn Fn(u16) -> bool| {
            (from..end).take(cell.into()).take_while(|&at| moved(at)).count() as u16
        };
        let before_it = |start: u16, from: u16, cell: u16, moved: &dyn Fn(u16) -> bool| {
            (start..from).rev().take(cell.into()).take_while(|&at| moved(at)).count() as u16
        };
        rect.w += beyond(rect.x + rect.w, right, CELL.0, &|x| column(rect, x));
        rect.h += beyond(rect.y + rect.h, bottom, CELL.1, &|y| row(rect, y));
        let left = before_it(known.x, rect.x, CELL.0, &|x| column(rect, x));
        (rect.x, rect.w) = (rect.x - left, rect.w + left);
        let top = before_it(known.y, rect.y, CELL.1, &|y| row(rect, y));
        (rect.y, rect.h) = (rect.y - top, rect.h + top);
        shrunk(rect, row, column)
    }

    /// Keeps the picture around warm cells for the next call.
    fn remember(&mut self, picture: PictureRef<'_>, now: Duration) {
        self.cells.iter_mut().filter(|cell| now > cell.changed + COLD).for_each(|cell| cell.heat = 0);
        let warm = (0..self.cells.len()).filter(|&at| self.cells[at].heat > 0);
        let Some(rect) = warm.map(|at| self.rect(at)).reduce(Rect::hull) else {
            self.before = None;
            return;
        };
        let around = Rect {
            x: rect.x.saturating_sub(CELL.0),
            y: rect.y.saturating_sub(CELL.1),
            w: rect.w + CELL.0 + rect.x.min(CELL.0),
            h: rect.h + CELL.1 + rect.y.min(CELL.1),
        }
        .clipped(self.size);
        let (before, known) = self.before.get_or_insert_with(|| (Picture::black(self.size), around));
        before.paint(picture, around);
        *known = around;
    }

    /// What was video there is none any more.
    pub(super) fn cool(&mut self, rect: Rect) {
        self.touched(rect).for_each(|at| self.cells[at].heat = 0);
    }
}

/// Without the edges in which nothing changed.
fn shrunk(
    mut rect: Rect,
    row: impl Fn(Rect, u16) -> bool,
    column: impl Fn(Rect, u16) -> bool,
) -> Option<Rect> {
    while rect.h > CELL.1 && !row(rect, rect.y) {
        (rect.y, rect.h) = (rect.y + 1, rect.h - 1);
    }
    while rect.h > CELL.1 && !row(rect, rect.y + rect.h - 1) {
        rect.h -= 1;
    }
    while rect.w > CELL.0 && !column(rect, rect.x) {
        (rect.x, rect.w) = (rect.x + 1, rect.w - 1);
    }
    while rect.w > CELL.0 && !column(rect, rect.x + rect.w - 1) {
        rect.w -= 1;
    }
    (rect.w > CELL.0 && rect.h > CELL.1).then_some(rect)
}

/// Pixels of `rect`'s columns that differ between two rows.
fn differing(a: &[u8], b: &[u8], rect: Rect) -> usize {
    let (a, _) = a[rect.span(PIXEL)].as_chunks::<PIXEL>();
    let (b, _) = b[rect.span(PIXEL)].as_chunks::<PIXEL>();
    let differs = |(a, b): (&[u8; 4], &[u8; 4])| {
        u32::from((u32::from_le_bytes(*a) ^ u32::from_le_bytes(*b)) & COLOUR != 0)
    };
    a.iter().zip(b).map(differs).sum::<u32>() as usize
}

/// Whether there are hard edges, as in drawings and letters.
pub(super) fn is_drawn(picture: PictureRef<'_>, rect: Rect) -> bool {
    let (mut pairs, mut hard) = (0, 0);
    for y in rect.rows().step_by(4) {
        let (pixels, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
        for (left, right) in pixels.iter().zip(&pixels[1..]) {
            let step =
                left[0].abs_diff(right[0]).max(left[1].abs_diff(right[1])).max(left[2].abs_diff(right[2]));
            hard += u32::from(step > EDGE);
        }
        pairs += u32::from(rect.w) - 1;
    }
    hard * EDGES > pairs
}

/// A number that is another with nearly every change of a cell's content.
fn signature(picture: PictureRef<'_>, rect: Rect) -> u32 {
    let mut sum = 0u32;
    for y in rect.rows().step_by(4) {
        let (pixels, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
        for pixel in pixels {
            sum = sum.wrapping_mul(0x0100_0193) ^ (u32::from_le_bytes(*pixel) & COLOUR);
        }
    }
    sum
}
