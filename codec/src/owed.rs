//! What subscribers have not seen yet, in cells: where damage was reported or an update was cut short. The claim is
//! verified here, pixel by pixel, against the shadow.

use std::ops::Range;

use crate::picture::{COLOUR, PIXEL, Picture, PictureRef, Rect, Size};

/// Rows of a strip. 32 needed fewer bytes than 64 or 16 on recorded screens.
pub(crate) const BAND: u16 = 32;
/// Columns of a cell: as many as a word has bits.
const CELL: u16 = 64;
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

/// Cells to be compared, each with the time since when; 0: nothing is owed.
#[derive(Debug)]
pub(crate) struct Owed {
    size: Size,
    columns: usize,
    since: Vec<u64>,
}

impl Owed {
    pub(crate) fn nothing(size: Size) -> Self {
        let columns = usize::from(size.w.div_ceil(CELL));
        Self { size, columns, since: vec![0; columns * usize::from(size.h.div_ceil(BAND))] }
    }

    /// Notes that `rect` may differ. What is already owed keeps its age.
    pub(crate) fn mark(&mut self, rect: Rect, now: u64) {
        let rect = rect.clipped(self.size);
        if rect.w == 0 || rect.h == 0 {
            return;
        }
        let columns = usize::from(rect.x / CELL)..=usize::from((rect.x + rect.w - 1) / CELL);
        for band in usize::from(rect.y / BAND)..=usize::from((rect.y + rect.h - 1) / BAND) {
            let row = &mut self.since[band * self.columns..][..self.columns];
            row[columns.clone()].iter_mut().filter(|since| **since == 0).for_each(|since| *since = now);
        }
    }

    /// All has been sent but what is `left`. A cell of which nothing is left owes nothing: changed again, it queues behind
    /// those that wait, or a part that never rests would hold up all others for ever.
    pub(crate) fn keep(&mut self, left: &[Region]) {
        let columns = self.columns;
        for (i, since) in self.since.iter_mut().enumerate().filter(|(_, since)| **since != 0) {
            let (x, y) = ((i % columns) as u16 * CELL, (i / columns) as u16 * BAND);
            let cell = Rect { x, y, w: CELL, h: BAND };
            if !left.iter().any(|region| region.rect.intersects(cell)) {
                *since = 0;
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.iter().all(|&since| since == 0)
    }

    /// Compares what is owed and drops what turns out equal. The regions come from the top down, from left to right.
    pub(crate) fn compare(&mut self, picture: PictureRef<'_>, shadow: &Picture) -> Vec<Region> {
        let mut regions = Vec::new();
        for (band, cells) in self.since.chunks_mut(self.columns).enumerate() {
            let y = band * usize::from(BAND);
            let rows = y..usize::from(self.size.h).min(y + usize::from(BAND));
            let Some(marked) = marked_span(cells, self.size) else { continue };
            let suspects = unequal_rows(picture, shadow, rows.clone(), marked);
            if suspects == 0 {
                cells.fill(0);
                continue;
            }
            let mut open: Option<Open> = None;
            for (column, since) in cells.iter_mut().enumerate().filter(|(_, since)| **since != 0) {
                let x = column as u16 * CELL;
                let cell = Rect { x, y: y as u16, w: CELL.min(self.size.w - x), h: rows.len() as u16 };
                let Some(seen) = Open::compare(picture, shadow, cell, suspects, *since) else {
                    *since = 0;
                    continue;
                };
                match &mut open {
                    Some(open) if seen.left < open.right + GAP => open.join(seen),
                    _ => regions.extend(open.replace(seen).map(|open| open.region(y as u16))),
                }
            }
            regions.extend(open.map(|open| open.region(y as u16)));
        }
        regions
    }
}

/// The bytes of a row from the first to the last cell marked.
fn marked_span(cells: &[u64], size: Size) -> Option<Range<usize>> {
    let first = cells.iter().position(|&since| since != 0)?;
    let last = cells.iter().rposition(|&since| since != 0)?;
    let cell = usize::from(CELL);
    Some(first * cell * PIXEL..((last + 1) * cell).min(usize::from(size.w)) * PIXEL)
}

/// A bit for each row whose bytes differ at all, meaningless ones included: a fast answer for what has not changed.
fn unequal_rows(picture: PictureRef<'_>, shadow: &Picture, rows: Range<usize>, span: Range<usize>) -> u32 {
    rows.enumerate().fold(0, |unequal, (i, y)| {
        unequal | u32::from(picture.row(y)[span.clone()] != shadow.row(y)[span.clone()]) << i
    })
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
    /// The part of a cell that differs. Differences are gathered over the rows, which vectorizes: most cells that are
    /// looked at have none. Only rows in `suspects` are.
    fn compare(
        picture: PictureRef<'_>,
        shadow: &Picture,
        cell: Rect,
        suspects: u32,
        since: u64,
    ) -> Option<Self> {
        let mut columns = [0u32; CELL as usize];
        let mut rows = 0u32;
        for (i, y) in cell.rows().enumerate().filter(|(i, _)| suspects >> i & 1 == 1) {
            let (now, _) = picture.row(y)[cell.span(PIXEL)].as_chunks::<PIXEL>();
            let (before, _) = shadow.row(y)[cell.span(PIXEL)].as_chunks::<PIXEL>();
            let mut any = 0;
            for ((column, now), before) in columns.iter_mut().zip(now).zip(before) {
                let difference = (u32::from_le_bytes(*now) ^ u32::from_le_bytes(*before)) & COLOUR;
                *column |= difference;
                any |= difference;
            }
            rows |= u32::from(any != 0) << i;
        }
        let first = columns.iter().position(|&column| column != 0)? as u16;
        let last = columns.iter().rposition(|&column| column != 0)? as u16;
        Some(Self { left: cell.x + first, right: cell.x + last + 1, rows, since })
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
    use super::*;

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
}
