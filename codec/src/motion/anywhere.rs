//! Motion in any direction: pieces of 32 pixels of a row, chosen by their content, vote for how far they moved.
//!
//! Every position of a changed row has a hash of the 32 pixels from there on. Those whose hash ends in zeros are taken: the same
//! pieces are found wherever they went, and only one in so many has to be looked up.

use super::blocks::{BLOCK, Blocks};
use super::{Pair, Shift};
use crate::picture::{COLOUR, PIXEL, PictureRef};
use crate::wide::wide;

/// Pixels of a piece, a power of two.
const PIECE: usize = 32;
/// One in so many pieces is taken: a hash that ends in these bits.
const CHOSEN: u32 = 63;
/// Of the picture every so many rows are looked at; of the shadow all, or a piece would not be there.
const ROWS_EVERY: usize = 2;
/// Most that are known of the shadow, as a power of two, at a load that leaves most of them in.
const TABLE_LOG: u32 = 14;
/// Votes that a shift needs, and how many are tried.
const VOTES_MIN: usize = 4;
const TRIED: usize = 6;

/// Votes for shifts. Keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Anywhere {
    table: Vec<Slot>,
    rows: Rows,
    votes: Vec<Shift>,
    best: Vec<(usize, Shift)>,
}

/// A piece of the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    hash: u32,
    at: (u16, u16),
}

const FREE: Slot = Slot { hash: 0, at: (0, 0) };
/// The shadow has the piece more than once: it says nothing. No piece begins there.
const SEVERAL: (u16, u16) = (u16::MAX, u16::MAX);

impl Anywhere {
    /// The shifts that most pieces of what is not explained speak for, the best first. Looks at every `every`th row of blocks only.
    pub(super) fn vote<'a>(
        &'a mut self,
        pair: Pair<'_>,
        blocks: &Blocks,
        every: usize,
    ) -> impl Iterator<Item = Shift> + use<'a> {
        let Self { table, rows, votes, best } = self;
        table.clear();
        table.resize(1 << TABLE_LOG, FREE);
        let slot_of = |hash: u32| (hash.wrapping_mul(0x9e37_79b1) >> (u32::BITS - TABLE_LOG)) as usize;
        blocks.for_open_spans(every, |top, left, right| {
            for y in top..(top + BLOCK).min(usize::from(pair.picture.size().h)) {
                rows.for_chosen(pair.shadow.borrow(), y, left, right, |hash, x| {
                    let slot = &mut table[slot_of(hash)];
                    if *slot == FREE {
                        *slot = Slot { hash, at: (x as u16, y as u16) };
                    } else if slot.hash == hash {
                        slot.at = SEVERAL;
                    }
                });
            }
        });
        votes.clear();
        blocks.for_open_spans(every, |top, left, right| {
            for y in (top..(top + BLOCK).min(usize::from(pair.picture.size().h))).step_by(ROWS_EVERY) {
                rows.for_chosen(pair.picture, y, left, right, |hash, x| {
                    let slot = table[slot_of(hash)];
                    if slot.hash == hash && slot.at != SEVERAL && slot != FREE {
                        let (from_x, from_y) = (i32::from(slot.at.0), i32::from(slot.at.1));
                        votes.push(Shift { dx: x as i32 - from_x, dy: y as i32 - from_y });
                    }
                });
            }
        });
        votes.sort_unstable();
        best.clear();
        let counted = votes.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0]));
        best.extend(counted.filter(|&(votes, shift)| votes >= VOTES_MIN && shift != Shift { dx: 0, dy: 0 }));
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.iter().take(TRIED).map(|&(_, shift)| shift)
    }
}

/// Hashes rows.
#[derive(Debug, Default)]
struct Rows {
    hashes: Vec<u32>,
    doubled: Vec<u32>,
}

impl Rows {
    /// Calls `each` with hash and column of the chosen pieces that lie in these columns of a row.
    fn for_chosen(
        &mut self,
        picture: PictureRef<'_>,
        y: usize,
        left: usize,
        right: usize,
        mut each: impl FnMut(u32, usize),
    ) {
        if right - left < PIECE {
            return;
        }
        let (pixels, _) = picture.row(y)[left * PIXEL..right * PIXEL].as_chunks::<PIXEL>();
        hash_pieces(pixels, &mut self.hashes, &mut self.doubled);
        const LANES: usize = 16;
        for (i, hashes) in self.hashes.chunks(LANES).enumerate() {
            let chosen = |hash: u32| (hash ^ hash >> 16) & CHOSEN == 0;
            if !hashes.iter().fold(false, |any, &hash| any | chosen(hash)) {
                continue;
            }
            for (j, &hash) in hashes.iter().enumerate().filter(|&(_, &hash)| chosen(hash)) {
                let at = i * LANES + j;
                // Without an edge in its middle it may be any part of something flat.
                if colour(&pixels[at + PIECE / 2 - 1]) != colour(&pixels[at + PIECE / 2]) {
                    each(hash, left + at);
                }
            }
        }
    }
}

fn colour(pixel: &[u8; PIXEL]) -> u32 {
    u32::from_le_bytes(*pixel) & COLOUR
}

wide! {
    /// The hashes of the pieces that begin at each pixel of a row, which is no shorter than one.
    fn hash_pieces(pixels: &[[u8; PIXEL]], hashes: &mut Vec<u32>, spare: &mut Vec<u32>) = hash_doubling;
}

#[inline(always)]
fn hash_doubling(pixels: &[[u8; PIXEL]], hashes: &mut Vec<u32>, spare: &mut Vec<u32>) {
    hashes.clear();
    hashes.extend(pixels.iter().map(|pixel| u32::from_le_bytes(*pixel) & COLOUR));
    // From pieces of one pixel to pieces of two, of four, ...: each step is one pass that vectorizes.
    let mut len = 1;
    while len < PIECE {
        spare.clear();
        let pairs = hashes.iter().zip(&hashes[len..]);
        spare.extend(pairs.map(|(first, second)| {
            let mixed = first.rotate_left(11) ^ second;
            mixed.wrapping_add(mixed << 5)
        }));
        std::mem::swap(hashes, spare);
        len *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Picture, Size};

    #[test]
    fn pieces_are_chosen_by_content_alone() {
        let size = Size { w: 2000, h: 2 };
        let mut picture = Picture::black(size);
        let mut state = 7u32;
        for byte in &mut picture.bytes_mut()[..1900 * PIXEL] {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        // The same 77 pixels further right, one row below, with other fourth bytes.
        let row = picture.bytes()[..1900 * PIXEL].to_vec();
        let at = (2000 + 77) * PIXEL;
        picture.bytes_mut()[at..at + row.len()].copy_from_slice(&row);
        picture.bytes_mut()[at..].iter_mut().skip(3).step_by(PIXEL).for_each(|byte| *byte = 1);
        let chosen = |y, left, right| {
            let mut chosen = Vec::new();
            Rows::default().for_chosen(picture.borrow(), y, left, right, |hash, x| chosen.push((hash, x)));
            chosen
        };
        let first = chosen(0, 0, 1900);
        let second: Vec<_> = chosen(1, 77, 1977).into_iter().map(|(hash, x)| (hash, x - 77)).collect();
        assert_eq!(first, second);
        let expected = 1900 / (CHOSEN as usize + 1);
        assert!((expected / 2..expected * 2).contains(&first.len()), "{} of {expected}", first.len());
        assert_eq!(chosen(0, 1900, 2000), [], "flat");
        assert_eq!(chosen(0, 0, 31), [], "too short");
    }
}
