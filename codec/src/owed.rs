//! What subscribers have not seen yet, in units: where damage was reported or an update was cut short. The claim is
//! verified here, pixel by pixel, against the shadow.
//!
//! Each unit knows since when it is owed. So what changes all the time and is never sent whole is sent in turns, and no
//! part of it is left for ever.

use std::ops::Range;

use crate::picture::{COLOUR, PIXEL, Picture, PictureRef, Rect, Size};
use crate::wide::wide;

/// Rows of a strip. 32 needed fewer bytes than 64 or 16 on recorded screens.
pub(crate) const BAND: u16 = 32;
/// Columns of a cell, and of a unit.
const CELL: u16 = 64;
/// Rows of a unit: a cell has four of them, one below the other.
pub(crate) const UNIT_ROWS: u16 = 8;
const UNITS: usize = (BAND / UNIT_ROWS) as usize;
/// A bit for each row of a unit.
const UNIT_MASK: u32 = (1 << UNIT_ROWS) - 1;
/// Unchanged columns that split a strip: fewer cost less as pixels than as another header and another start of the
/// prediction.
const GAP: u16 = 128;

/// A part of a band that differs from the shadow, cropped to the pixels that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) rect: Rect,
    /// When the oldest of it was first seen to differ, on the encoder's count of calls.
    pub(crate) since: u64,
}

/// A cell's units from the top, each with the time since when it is owed; 0: it is not.
type Cell = [u64; UNITS];

/// The cells that are to be compared.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    size: Size,
    columns: usize,
    cells: Vec<Cell>,
}

impl Owed {
    pub(crate) fn nothing(size: Size) -> Self {
        let columns = usize::from(size.w.div_ceil(CELL));
        Self { size, columns, cells: vec![[0; UNITS]; columns * usize::from(size.h.div_ceil(BAND))] }
    }

    /// Notes that `rect` may differ. What is already owed keeps its age.
    pub(crate) fn mark(&mut self, rect: Rect, now: u64) {
        for (cell, units) in self.places(rect) {
            self.cells[cell][units].iter_mut().filter(|since| **since == 0).for_each(|since| *since = now);
        }
    }

    /// Notes that `rect` is as it should be: units that lie within it are owed no more.
    pub(crate) fn settle(&mut self, rect: Rect) {
        let whole = |from: u16, len: u16, side: u16, of: u16| {
            let end = if from + len == side { side.next_multiple_of(of) } else { (from + len) / of * of };
            let start = from.next_multiple_of(of);
            (start, end.saturating_sub(start))
        };
        let (x, w) = whole(rect.x, rect.w, self.size.w, CELL);
        let (y, h) = whole(rect.y, rect.h, self.size.h, UNIT_ROWS);
        for (cell, units) in self.places(Rect { x, y, w, h }) {
            self.cells[cell][units].fill(0);
        }
    }

    /// The cells that `rect` touches, and which of their units.
    fn places(&self, rect: Rect) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let rect = rect.clipped(self.size);
        let span = |from: u16, len: u16, of: u16| {
            usize::from(from / of)..if len == 0 { 0 } else { usize::from((from + len - 1) / of) + 1 }
        };
        let (columns, units) = (span(rect.x, rect.w, CELL), span(rect.y, rect.h, UNIT_ROWS));
        let bands = units.start / UNITS..units.end.div_ceil(UNITS);
        let in_row = self.columns;
        bands.flat_map(move |band| {
            let first = band * UNITS;
            let within = units.start.max(first) - first..units.end.min(first + UNITS) - first;
            columns.clone().map(move |column| (band * in_row + column, within.clone()))
        })
    }

    /// All has been sent but what is `left`. A unit of which nothing is left owes nothing: changed again, it queues behind
    /// those that wait, or a part that never rests would hold up all others for ever.
    pub(crate) fn keep(&mut self, left: &[Region]) {
        let mut kept = vec![[0; UNITS]; self.cells.len()];
        for (cell, units) in left.iter().flat_map(|region| self.places(region.rect)) {
            kept[cell][units.clone()].copy_from_slice(&self.cells[cell][units]);
        }
        self.cells = kept;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().flatten().all(|&since| since == 0)
    }

    /// What is owed, and what lies between: a stretch of each band of which anything is.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Rect> {
        let bands = (0..).step_by(usize::from(BAND)).zip(self.cells.chunks(self.columns));
        bands.filter_map(|(y, cells)| {
            let span = marked_span(marked_cells(cells)?, self.size);
            let (x, w) = (span.start / PIXEL, span.len() / PIXEL);
            Some(Rect { x: x as u16, y, w: w as u16, h: BAND.min(self.size.h - y) })
        })
    }

    /// Compares what is owed and drops what turns out equal. The regions come from the top down, from left to right.
    pub(crate) fn compare(&mut self, picture: PictureRef<'_>, shadow: &Picture) -> Vec<Region> {
        let (mut regions, mut seen) = (Vec::new(), Vec::new());
        for (band, cells) in self.cells.chunks_mut(self.columns).enumerate() {
            let Some(marked) = marked_cells(cells) else { continue };
            let (first, cells) = (marked.start, &mut cells[marked.clone()]);
            seen.clear();
            seen.extend(cells.iter().map(Seen::nothing));
            let (span, top) = (marked_span(marked, self.size), band as u16 * BAND);
            for (i, y) in (top..self.size.h).take(BAND.into()).map(usize::from).enumerate() {
                differences(&picture.row(y)[span.clone()], &shadow.row(y)[span.clone()], i, &mut seen);
            }
            let mut open: Option<Open> = None;
            for (i, (units, seen)) in cells.iter_mut().zip(&seen).enumerate() {
                let Some(part) = Open::new((first + i) as u16 * CELL, seen, units) else { continue };
                match &mut open {
                    Some(open) if part.left < open.right + GAP => open.join(part),
                    _ => regions.extend(open.replace(part).map(|open| open.region(top))),
                }
            }
            regions.extend(open.map(|open| open.region(top)));
        }
        regions
    }

    /// The parts of a region, just compared, that are owed since the same time. If all that is owed of it is of one age, it stays
    /// whole; otherwise what is not owed is left out.
    pub(crate) fn by_age(&self, region: Region, parts: &mut Vec<Region>) {
        let first = parts.len();
        let ages = |(cell, units): (usize, Range<usize>)| self.cells[cell][units].iter().copied();
        if self.places(region.rect).flat_map(ages).all(|since| since == 0 || since == region.since) {
            return parts.push(region);
        }
        let (left, right) = (region.rect.x, region.rect.x + region.rect.w);
        let (top, bottom) = (region.rect.y, region.rect.y + region.rect.h);
        for unit in top / UNIT_ROWS..=(bottom - 1) / UNIT_ROWS {
            let (y, end) = (top.max(unit * UNIT_ROWS), bottom.min((unit + 1) * UNIT_ROWS));
            let above = first..parts.len();
            for column in left / CELL..=(right - 1) / CELL {
                let cell = usize::from(y / BAND) * self.columns + usize::from(column);
                let since = self.cells[cell][usize::from(unit) % UNITS];
                if since == 0 {
                    continue;
                }
                let (x, edge) = (left.max(column * CELL), right.min((column + 1) * CELL));
                match parts[above.end..].last_mut() {
                    Some(part) if part.since == since && part.rect.x + part.rect.w == x => {
                        part.rect.w += edge - x;
                    }
                    _ => parts.push(Region { rect: Rect { x, y, w: edge - x, h: end - y }, since }),
                }
            }
            stack(parts, above);
        }
    }
}

/// Joins the parts behind `above` to those in it that lie right on top of them, are as wide and as old.
fn stack(parts: &mut Vec<Region>, above: Range<usize>) {
    for part in parts.split_off(above.end) {
        let grows = |upper: &&mut Region| {
            let (upper_rect, rect) = (upper.rect, part.rect);
            upper.since == part.since
                && (upper_rect.x, upper_rect.w) == (rect.x, rect.w)
                && upper_rect.y + upper_rect.h == rect.y
        };
        match parts[above.clone()].iter_mut().find(grows) {
            Some(upper) => upper.rect.h += part.rect.h,
            None => parts.push(part),
        }
    }
}

/// From the first to the last cell marked.
fn marked_cells(cells: &[Cell]) -> Option<Range<usize>> {
    let is_marked = |units: &Cell| *units != [0; UNITS];
    Some(cells.iter().position(is_marked)?..cells.iter().rposition(is_marked)? + 1)
}

/// The bytes that such cells take of a row.
fn marked_span(cells: Range<usize>, size: Size) -> Range<usize> {
    let cell = usize::from(CELL);
    cells.start * cell * PIXEL..(cells.end * cell).min(usize::from(size.w)) * PIXEL
}

/// What of a cell differs.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// A bit for each row that is owed, and for each of those that differs.
    owed: u32,
    rows: u32,
    /// Not 0 where any of these rows differs.
    columns: [u32; CELL as usize],
}

impl Seen {
    fn nothing(units: &Cell) -> Self {
        let owed = (0..UNITS).filter(|&unit| units[unit] != 0).fold(0, |rows, unit| rows | rows_of(unit));
        Self { owed, rows: 0, columns: [0; CELL as usize] }
    }
}

/// A bit for each row of a unit.
fn rows_of(unit: usize) -> u32 {
    UNIT_MASK << (unit * usize::from(UNIT_ROWS))
}

wide! {
    /// Compares a row of a band, its `i`th, and notes where the cells that it crosses differ. Whole rows at a time: memory is read
    /// fast so, and cell by cell it is not.
    fn differences(now: &[u8], before: &[u8], i: usize, seen: &mut [Seen]) = differences_by_cell;
}

#[inline(always)]
fn differences_by_cell(now: &[u8], before: &[u8], i: usize, seen: &mut [Seen]) {
    const BYTES: usize = CELL as usize * PIXEL;
    let row = 1 << i;
    let (now, now_rest) = now.as_chunks::<BYTES>();
    let (before, before_rest) = before.as_chunks::<BYTES>();
    for ((now, before), seen) in now.iter().zip(before).zip(seen.iter_mut()) {
        // Its size is known here, which makes this much quicker than it is for the rest.
        if seen.owed & row != 0 && differs(now, before) {
            seen.note(row, now, before);
        }
    }
    if let (false, Some(seen)) = (now_rest.is_empty(), seen.last_mut())
        && seen.owed & row != 0
        && differs(now_rest, before_rest)
    {
        seen.note(row, now_rest, before_rest);
    }
}

#[inline(always)]
fn differs(now: &[u8], before: &[u8]) -> bool {
    let (now, _) = now.as_chunks::<PIXEL>();
    let (before, _) = before.as_chunks::<PIXEL>();
    now.iter().zip(before).fold(0, |any, (now, before)| any | difference(*now, *before)) != 0
}

#[inline(always)]
fn difference(now: [u8; PIXEL], before: [u8; PIXEL]) -> u32 {
    (u32::from_le_bytes(now) ^ u32::from_le_bytes(before)) & COLOUR
}

impl Seen {
    #[inline(always)]
    fn note(&mut self, row: u32, now: &[u8], before: &[u8]) {
        self.rows |= row;
        let (now, _) = now.as_chunks::<PIXEL>();
        let (before, _) = before.as_chunks::<PIXEL>();
        for ((column, now), before) in self.columns.iter_mut().zip(now).zip(before) {
            *column |= difference(*now, *before);
        }
    }
}

/// A region that may still grow to the right.
#[derive(Clone, Copy, Debug)]
struct Open {
    left: u16,
    right: u16,
    /// A bit for each row of the band that differs.
    rows: u32,
    since: u64,
}

impl Open {
    /// The part that differs of a cell that begins at column `x`; units without any difference are owed no more.
    fn new(x: u16, seen: &Seen, units: &mut Cell) -> Option<Self> {
        (0..UNITS).filter(|&unit| seen.rows & rows_of(unit) == 0).for_each(|unit| units[unit] = 0);
        let since = units.iter().copied().filter(|&since| since != 0).min()?;
        let first = seen.columns.iter().position(|&column| column != 0)? as u16;
        let last = seen.columns.iter().rposition(|&column| column != 0)? as u16;
        Some(Self { left: x + first, right: x + last + 1, rows: seen.rows, since })
    }

    fn join(&mut self, next: Self) {
        self.right = next.right;
        self.rows |= next.rows;
        self.since = self.since.min(next.since);
    }

    fn region(self, y: u16) -> Region {
        let top = self.rows.trailing_zeros() as u16;
        let bottom = (u32::BITS - self.rows.leading_zeros()) as u16;
        let rect = Rect { x: self.left, y: y + top, w: self.right - self.left, h: bottom - top };
        Region { rect, since: self.since }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::PACKED;

    const SIZE: Size = Size { w: 700, h: 70 };

    fn changed(pixels: &[(u16, u16)]) -> Picture {
        let mut picture = Picture::black(SIZE);
        pixels.iter().for_each(|&(x, y)| picture.row_mut(usize::from(y), Rect { x, y, w: 1, h: 1 })[1] = 1);
        picture
    }

    fn regions(owed: &mut Owed, picture: &Picture) -> Vec<Rect> {
        owed.compare(picture.borrow(), &Picture::black(SIZE)).iter().map(|region| region.rect).collect()
    }

    #[test]
    fn regions_are_cropped_and_split_at_wide_gaps() {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(SIZE.rect(), 1);
        let picture = changed(&[(3, 5), (130, 9), (300, 7), (699, 69)]);
        let found = regions(&mut owed, &picture);
        assert_eq!(found[0], Rect { x: 3, y: 5, w: 128, h: 5 }, "127 clean columns don't split");
        assert_eq!(found[1], Rect { x: 300, y: 7, w: 1, h: 1 });
        assert_eq!(found[2], Rect { x: 699, y: 69, w: 1, h: 1 });
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn only_what_was_marked_is_looked_at_and_what_is_equal_is_forgotten() {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(Rect { x: 60, y: 0, w: 10, h: 1 }, 1);
        assert_eq!(regions(&mut owed, &changed(&[(300, 5)])), []);
        assert!(owed.is_empty());
    }

    #[test]
    fn the_meaningless_byte_is_no_change() {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(SIZE.rect(), 1);
        let mut picture = Picture::black(SIZE);
        picture.bytes_mut().iter_mut().skip(3).step_by(PIXEL).for_each(|byte| *byte = 255);
        assert_eq!(regions(&mut owed, &picture), []);
    }

    #[test]
    fn what_waits_keeps_its_age() {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(Rect { x: 0, y: 0, w: 1, h: 1 }, 1);
        owed.mark(SIZE.rect(), 2);
        let found = owed.compare(changed(&[(0, 0), (600, 0)]).borrow(), &Picture::black(SIZE));
        assert_eq!(found.iter().map(|region| region.since).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_was_sent_is_younger_than_what_was_left() {
        let size = Size { w: 200, h: 32 };
        let all = Region { rect: size.rect(), since: 1 };
        let mut owed = Owed::nothing(size);
        owed.mark(size.rect(), 1);
        let parts = |owed: &Owed| {
            let mut parts = Vec::new();
            owed.by_age(all, &mut parts);
            parts.iter().map(|part| (part.rect, part.since)).collect::<Vec<_>>()
        };
        assert_eq!(parts(&owed), [(size.rect(), 1)]);
        let rect = |x, y, w, h| Rect { x, y, w, h };
        owed.keep(&[
            Region { rect: rect(64, 8, 136, 8), since: 1 },
            Region { rect: rect(0, 16, 200, 16), since: 1 },
        ]);
        owed.mark(size.rect(), 2);
        assert_eq!(
            parts(&owed),
            [
                (rect(0, 0, 200, 8), 2),
                (rect(0, 8, 64, 8), 2),
                (rect(64, 8, 136, 8), 1),
                (rect(0, 16, 200, 16), 1)
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn comparing_finds_what_pixel_by_pixel_comparing_finds(
            w in 1u16..300, h in 1u16..70,
            changes in prop::collection::vec((any::<u16>(), any::<u16>(), 0usize..PIXEL, 1u8..), 0..12),
            stride in 0usize..9,
        ) {
            let size = Size { w, h };
            let shadow = Picture::black(size);
            let mut changed = Picture::black(size);
            for (x, y, byte, value) in changes {
                let at = Rect { x: x % w, y: y % h, w: 1, h: 1 };
                changed.row_mut(usize::from(at.y), at)[byte] = value;
            }
            let stride = usize::from(w) * PIXEL + stride;
            let rows = (0..usize::from(h)).flat_map(|y| {
                let padding = stride - usize::from(w) * PIXEL;
                changed.row(y).iter().copied().chain(std::iter::repeat_n(7, padding)).collect::<Vec<_>>()
            });
            let bytes: Vec<u8> = rows.collect();
            let picture = PictureRef::new(size, stride, &bytes).expect("rows are there");
            let mut owed = Owed::nothing(size);
            owed.mark(size.rect(), 1);
            let regions: Vec<Rect> = owed.compare(picture, &shadow).iter().map(|region| region.rect).collect();
            let differs = |x: u16, y: u16| {
                changed.row(usize::from(y))[usize::from(x) * PIXEL..][..PACKED].iter().any(|&byte| byte != 0)
            };
            let mut left: Vec<(u16, u16)> =
                (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).filter(|&(x, y)| differs(x, y)).collect();
            for rect in &regions {
                // Cropped: each side has a pixel that differs.
                let (right, bottom) = (rect.x + rect.w - 1, rect.y + rect.h - 1);
                for side in [
                    left.iter().any(|&(x, y)| x == rect.x && rect.rows().contains(&y.into())),
                    left.iter().any(|&(x, y)| x == right && rect.rows().contains(&y.into())),
                    left.iter().any(|&(x, y)| y == rect.y && (rect.x..=right).contains(&x)),
                    left.iter().any(|&(x, y)| y == bottom && (rect.x..=right).contains(&x)),
                ] {
                    prop_assert!(side, "{:?}", rect);
                }
                left.retain(|&(x, y)| !rect.rows().contains(&y.into()) || !(rect.x..=right).contains(&x));
            }
            prop_assert_eq!(left, vec![], "every pixel that differs is in a region");
        }

        #[test]
        fn what_is_settled_is_owed_no_more_and_everything_else_is(
            w in 1u16..300, h in 1u16..70, x in 0u16..300, y in 0u16..70, right in 0u16..300, down in 0u16..70,
        ) {
            let size = Size { w, h };
            let rect = Rect { x: x.min(w), y: y.min(h), w: right, h: down }.clipped(size);
            let mut owed = Owed::nothing(size);
            owed.mark(size.rect(), 1);
            owed.settle(rect);
            for unit_y in 0..h.div_ceil(UNIT_ROWS) {
                for column in 0..w.div_ceil(CELL) {
                    let unit = Rect { x: column * CELL, y: unit_y * UNIT_ROWS, w: CELL, h: UNIT_ROWS }.clipped(size);
                    let inside = unit.x >= rect.x && unit.y >= rect.y
                        && unit.x + unit.w <= rect.x + rect.w && unit.y + unit.h <= rect.y + rect.h;
                    let cell = usize::from(unit_y) / UNITS * owed.columns + usize::from(column);
                    let since = owed.cells[cell][usize::from(unit_y) % UNITS];
                    prop_assert_eq!(since, u64::from(!inside), "{:?} and {:?}", unit, rect);
                }
            }
        }
    }
}
