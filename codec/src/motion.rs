//! Scrolls: rows of the shadow that appear again, higher or lower. Found by voting, verified pixel by pixel, sent as
//! copies.
//!
//! Short pieces of rows are hashed in the changed part of both pictures. A piece that the shadow has once votes for the
//! distance between the two; the best distances are then tried block by block, and runs of equal blocks become
//! rectangles, grown to the pixel: a copy whose edge is off would leave strips as wide as before.

use tandem_protocol::limits;

use crate::owed::Region;
use crate::picture::{COLOUR, Copy, PIXEL, Picture, PictureRef, Rect, Size};

/// Pixels that have changed at least, before a search pays.
const AREA_MIN: usize = 8192;
/// Columns between hashed pieces of a row, and their length.
const PIECE_EVERY: usize = 64;
const PIECE: usize = 32;
/// Votes that a distance needs, and how many distances are tried.
const VOTES_MIN: u32 = 8;
const TRIED: usize = 3;
/// Side of the blocks that are compared.
const BLOCK: usize = 16;
/// Changed blocks that a copy must explain.
const BLOCKS_MIN: usize = 6;
/// Pixels by which a rectangle may grow on each side.
const GROWTH: u16 = 40;
/// Most searches left out after fruitless ones.
const PAUSE_MAX: u32 = 8;

/// Looks for motion.
#[derive(Debug, Default)]
pub(crate) struct Motion {
    /// Searches to leave out now, and after the next fruitless one: typing and video are no scrolls for long.
    pause: u32,
    next_pause: u32,
    table: Vec<Slot>,
}

/// A piece's hash and row in the shadow.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Free,
    Row(u16),
    /// The shadow has it more than once: it says nothing.
    Several,
}

impl Motion {
    /// The copies that explain a part of `regions`. All read the shadow as it is; the caller applies them.
    pub(crate) fn find(
        &mut self,
        picture: PictureRef<'_>,
        shadow: &Picture,
        regions: &[Region],
    ) -> Vec<Copy> {
        if regions.iter().map(|region| region.rect.pixels()).sum::<usize>() < AREA_MIN {
            return Vec::new();
        }
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        let mut search = Search::new(picture, shadow, regions);
        let distances = self.vote(picture, shadow, regions);
        distances.into_iter().for_each(|distance| search.try_distance(distance));
        if search.copies.is_empty() {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).clamp(1, PAUSE_MAX);
        } else {
            self.next_pause = 0;
        }
        search.copies
    }

    /// The distances, downwards positive, that most pieces speak for.
    fn vote(&mut self, picture: PictureRef<'_>, shadow: &Picture, regions: &[Region]) -> Vec<i32> {
        let size = picture.size();
        let pieces: usize = regions.iter().map(|region| region.rect.pixels() / PIECE_EVERY + 1).sum();
        self.table.clear();
        self.table.resize((pieces * 2).next_power_of_two(), Slot::default());
        let mask = self.table.len() - 1;
        for_pieces(shadow.borrow(), regions, 1, |hash, y| {
            let slot = &mut self.table[hash as usize & mask];
            match slot.place {
                Place::Free => *slot = Slot { hash, place: Place::Row(y) },
                Place::Row(_) if slot.hash == hash => slot.place = Place::Several,
                // Another piece had the slot first; enough others have their own.
                Place::Row(_) | Place::Several => (),
            }
        });
        let height = i32::from(size.h);
        let mut votes = vec![0u32; 2 * usize::from(size.h)];
        for_pieces(picture, regions, 2, |hash, y| {
            let slot = self.table[hash as usize & mask];
            if let (Place::Row(from), true) = (slot.place, slot.hash == hash) {
                votes[(i32::from(y) - i32::from(from) + height) as usize] += 1;
            }
        });
        let mut best: Vec<(u32, i32)> = (-height..height)
            .zip(votes)
            .filter(|&(distance, votes)| distance != 0 && votes >= VOTES_MIN)
            .map(|(distance, votes)| (votes, distance))
            .collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.truncate(TRIED);
        best.into_iter().map(|(_, distance)| distance).collect()
    }
}

/// Calls `each` with hash and row of every piece in `regions` that isn't flat, on every `step`th row.
fn for_pieces(picture: PictureRef<'_>, regions: &[Region], step: usize, mut each: impl FnMut(u64, u16)) {
    let width = usize::from(picture.size().w);
    for Region { rect, .. } in regions {
        let columns = usize::from(rect.x) / PIECE_EVERY
            ..(usize::from(rect.x) + usize::from(rect.w)).div_ceil(PIECE_EVERY);
        for y in rect.rows().step_by(step) {
            let row = picture.row(y);
            for column in columns.clone() {
                let x = column * PIECE_EVERY + (PIECE_EVERY - PIECE) / 2;
                if x + PIECE > width {
                    continue;
                }
                if let Some(hash) = hash(&row[x * PIXEL..(x + PIECE) * PIXEL]) {
                    each(hash.wrapping_add((column as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)), y as u16);
                }
            }
        }
    }
}

/// A hash of the colours, or `None` if there is only one.
fn hash(piece: &[u8]) -> Option<u64> {
    const COLOURS: u64 = (COLOUR as u64) << 32 | COLOUR as u64;
    let (words, _) = piece.as_chunks::<8>();
    let first = u64::from_le_bytes(words[0]) & COLOURS;
    let (mut sum, mut differs, mut factor) = (0u64, first ^ first.rotate_left(32), 0x9e37_79b9_7f4a_7c15u64);
    for word in words {
        let word = u64::from_le_bytes(*word) & COLOURS;
        differs |= word ^ first;
        // Sums of products with odd factors don't wait for one another, unlike chained hashes.
        sum = sum.wrapping_add((word ^ word >> 29).wrapping_mul(factor));
        factor = factor.wrapping_add(0x3c6e_f372_fe94_f82a);
    }
    (differs != 0).then(|| (sum ^ sum >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(24))
}

/// Blocks of the part of the picture that has changed, and the copies found for them.
struct Search<'a> {
    picture: PictureRef<'a>,
    shadow: &'a Picture,
    /// In blocks.
    columns: usize,
    left: usize,
    top: usize,
    /// For each block from `left`, `top` on: whether it has changed and no copy explains it yet.
    open: Vec<bool>,
    copies: Vec<Copy>,
    copied: usize,
}

impl<'a> Search<'a> {
    fn new(picture: PictureRef<'a>, shadow: &'a Picture, regions: &[Region]) -> Self {
        let blocks = |rect: Rect| {
            let columns =
                usize::from(rect.x) / BLOCK..(usize::from(rect.x) + usize::from(rect.w)).div_ceil(BLOCK);
            let rows =
                usize::from(rect.y) / BLOCK..(usize::from(rect.y) + usize::from(rect.h)).div_ceil(BLOCK);
            (columns, rows)
        };
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        for (columns, rows) in regions.iter().map(|region| blocks(region.rect)) {
            (left, right) = (left.min(columns.start), right.max(columns.end));
            (top, bottom) = (top.min(rows.start), bottom.max(rows.end));
        }
        let columns = right - left;
        let mut open = vec![false; columns * (bottom - top)];
        for (across, rows) in regions.iter().map(|region| blocks(region.rect)) {
            rows.for_each(|y| open[(y - top) * columns..][across.start - left..across.end - left].fill(true));
        }
        Self { picture, shadow, columns, left, top, open, copies: Vec::new(), copied: 0 }
    }

    fn size(&self) -> Size {
        self.picture.size()
    }

    /// The pixels of a block; those at the edges may be smaller.
    fn block(&self, index: usize) -> Rect {
        let x = (self.left + index % self.columns) * BLOCK;
        let y = (self.top + index / self.columns) * BLOCK;
        Rect { x: x as u16, y: y as u16, w: BLOCK as u16, h: BLOCK as u16 }.clipped(self.size())
    }

    /// Whether `rect` shows what the shadow has `distance` rows above it.
    fn moved(&self, rect: Rect, distance: i32) -> bool {
        let source = i32::from(rect.y) - distance;
        if source < 0 || source + i32::from(rect.h) > i32::from(self.size().h) {
            return false;
        }
        rect.rows().zip(source as usize..).all(|(to, from)| {
            same(&self.picture.row(to)[rect.span(PIXEL)], &self.shadow.row(from)[rect.span(PIXEL)])
        })
    }

    fn try_distance(&mut self, distance: i32) {
        if self.open.iter().filter(|&&open| open).count() < BLOCKS_MIN {
            return;
        }
        // Unchanged blocks that match too may belong to a rectangle, so a scrolled page is one copy.
        let mut equal = self.equal_blocks(distance);
        for first in 0..equal.len() {
            if !equal[first] || self.copies.len() == limits::COPIES_MAX {
                continue;
            }
            let row_end = first - first % self.columns + self.columns;
            let across = first..(first..row_end).find(|&i| !equal[i]).unwrap_or(row_end);
            let down = (0..)
                .take_while(|down| across.clone().all(|i| equal.get(i + down * self.columns) == Some(&true)))
                .count();
            let blocks = || (0..down).flat_map(|down| across.clone().map(move |i| (i, down)));
            let indexes: Vec<usize> = blocks().map(|(i, down)| i + down * self.columns).collect();
            indexes.iter().for_each(|&i| equal[i] = false);
            if indexes.iter().filter(|&&i| self.open[i]).count() >= BLOCKS_MIN {
                self.copy(self.block(first), self.block(indexes[indexes.len() - 1]), distance, &indexes);
            }
        }
    }

    /// Which blocks show what the shadow has `distance` rows above them.
    fn equal_blocks(&self, distance: i32) -> Vec<bool> {
        let size = self.size();
        let span =
            self.left * BLOCK * PIXEL..((self.left + self.columns) * BLOCK).min(usize::from(size.w)) * PIXEL;
        let mut equal = vec![true; self.open.len()];
        for (i, blocks) in equal.chunks_exact_mut(self.columns).enumerate() {
            let top = (self.top + i) * BLOCK;
            for y in top..(top + BLOCK).min(usize::from(size.h)) {
                let source = y as i32 - distance;
                if source < 0 || source >= i32::from(size.h) {
                    blocks.fill(false);
                    break;
                }
                let now = &self.picture.row(y)[span.clone()];
                let before = &self.shadow.row(source as usize)[span.clone()];
                same_blocks(now, before, blocks);
            }
        }
        equal
    }

    fn copy(&mut self, first: Rect, last: Rect, distance: i32, blocks: &[usize]) {
        let rect = Rect { w: last.x + last.w - first.x, h: last.y + last.h - first.y, ..first };
        let to = self.grown(rect, distance);
        if self.copied + to.pixels() > self.size().pixels() {
            return;
        }
        self.copied += to.pixels();
        self.copies.push(Copy { from: (to.x, (i32::from(to.y) - distance) as u16), to });
        blocks.iter().for_each(|&i| self.open[i] = false);
    }

    /// `rect` with the rows and columns around it that moved with it.
    fn grown(&self, mut rect: Rect, distance: i32) -> Rect {
        let size = self.size();
        for _ in 0..GROWTH {
            let above = Rect { y: rect.y.saturating_sub(1), h: 1, ..rect };
            let below = Rect { y: rect.y + rect.h, h: 1, ..rect };
            if rect.y > 0 && self.moved(above, distance) {
                rect = Rect { y: above.y, h: rect.h + 1, ..rect };
            }
            if below.y < size.h && self.moved(below, distance) {
                rect.h += 1;
            }
        }
        let (left, right) = (self.reach(rect, distance, false), self.reach(rect, distance, true));
        Rect { x: rect.x - left, w: left + rect.w + right, ..rect }
    }

    /// How many columns beside `rect` moved with it, in every row.
    fn reach(&self, rect: Rect, distance: i32, to_the_right: bool) -> u16 {
        let edge = rect.x + rect.w;
        let most = if to_the_right { self.size().w - edge } else { rect.x }.min(GROWTH);
        rect.rows().fold(most, |most, y| {
            let x = if to_the_right { edge } else { rect.x - most };
            let span = Rect { x, w: most, ..rect }.span(PIXEL);
            let (now, _) = self.picture.row(y)[span.clone()].as_chunks::<PIXEL>();
            let (before, _) = self.shadow.row((y as i32 - distance) as usize)[span].as_chunks::<PIXEL>();
            let pixels = now.iter().zip(before).map(|(now, before)| colours_differ(*now, *before) == 0);
            let equal = if to_the_right {
                pixels.take_while(|&equal| equal).count()
            } else {
                pixels.rev().take_while(|&equal| equal).count()
            };
            equal as u16
        })
    }
}

/// Clears those `blocks` whose pixels in two rows differ.
fn same_blocks(a: &[u8], b: &[u8], blocks: &mut [bool]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owed::Owed;

    const SIZE: Size = Size { w: 300, h: 240 };

    fn text(seed: u64) -> Picture {
        let mut picture = Picture::black(SIZE);
        let mut state = seed;
        let (pixels, _) = picture.bytes_mut().as_chunks_mut::<PIXEL>();
        for pixel in pixels {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *pixel = if state >> 62 == 0 { [0; PIXEL] } else { [250; PIXEL] };
        }
        picture
    }

    fn find(before: &Picture, after: &Picture) -> Vec<Copy> {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(SIZE.rect(), 1);
        let regions = owed.compare(after.borrow(), before);
        Motion::default().find(after.borrow(), before, &regions)
    }

    #[test]
    fn a_scrolled_band_is_one_copy_to_the_pixel() {
        let before = text(1);
        // Rows 40 to 200 move up by 23; columns 50 to 250 only.
        let mut after = before.clone();
        for y in 40..177 {
            let band = Rect { x: 50, y: 0, w: 200, h: 1 };
            after.row_mut(y, band).copy_from_slice(&before.row(y + 23)[band.span(PIXEL)]);
        }
        let copies = find(&before, &after);
        assert_eq!(copies, [Copy { from: (50, 63), to: Rect { x: 50, y: 40, w: 200, h: 137 } }]);
        let mut moved = before.clone();
        moved.copy(&copies, &mut Vec::new());
        assert_eq!(moved, after);
    }

    #[test]
    fn nothing_is_found_where_nothing_moved() {
        assert_eq!(find(&text(1), &text(2)), []);
        assert_eq!(find(&Picture::black(SIZE), &text(2)), []);
    }

    #[test]
    fn fruitless_searches_become_rare() {
        let mut motion = Motion::default();
        let (before, after) = (text(1), text(2));
        let mut owed = Owed::nothing(SIZE);
        owed.mark(SIZE.rect(), 1);
        let regions = owed.compare(after.borrow(), &before);
        let pauses: Vec<u32> = (0..8)
            .map(|_| {
                motion.find(after.borrow(), &before, &regions);
                motion.pause
            })
            .collect();
        assert_eq!(pauses, [0, 1, 0, 2, 1, 0, 4, 3]);
    }
}
