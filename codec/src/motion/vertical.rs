//! Scrolls: one piece of 32 pixels in each row of every changed 64 columns votes for how far its rows moved. Where much has
//! changed, some of the columns tell as well.

use super::{Pair, Shift};
use crate::owed::Region;
use crate::picture::{COLOUR, PIXEL, PictureRef};

/// Columns between hashed pieces of a row, and their length.
const PIECE_EVERY: usize = 64;
const PIECE: usize = 32;
/// So many pieces of the shadow are enough. With more of them only every so many columns are looked at, at most, so that what is
/// four of them wide still tells.
const PIECES_ENOUGH: usize = 4096;
const COLUMNS_EVERY_MAX: usize = 4;
/// Of the picture every so many rows are looked at; of the shadow all, or a piece would not be there.
const ROWS_EVERY: usize = 2;
/// Votes that a distance needs, and how many distances are tried.
const VOTES_MIN: u32 = 8;
const TRIED: usize = 3;

/// Votes for distances. Keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Vertical {
    table: Vec<Slot>,
    votes: Vec<u32>,
    best: Vec<(u32, i32)>,
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

impl Vertical {
    /// The shifts that most pieces speak for, the best first.
    pub(super) fn vote<'a>(
        &'a mut self,
        pair: Pair<'_>,
        regions: &[Region],
    ) -> impl Iterator<Item = Shift> + use<'a> {
        let height = i32::from(pair.picture.size().h);
        let pieces: usize = regions.iter().map(|region| region.rect.pixels() / PIECE_EVERY + 1).sum();
        let every = (pieces / PIECES_ENOUGH).clamp(1, COLUMNS_EVERY_MAX);
        self.table.clear();
        self.table.resize((pieces / every * 2).next_power_of_two(), Slot::default());
        let mask = self.table.len() - 1;
        for_pieces(pair.shadow.borrow(), regions, (every, 1), |hash, y| {
            let slot = &mut self.table[hash as usize & mask];
            match slot.place {
                Place::Free => *slot = Slot { hash, place: Place::Row(y) },
                Place::Row(_) if slot.hash == hash => slot.place = Place::Several,
                // Another piece had the slot first; enough others have their own.
                Place::Row(_) | Place::Several => (),
            }
        });
        self.votes.clear();
        self.votes.resize(2 * height as usize, 0);
        for_pieces(pair.picture, regions, (every, ROWS_EVERY), |hash, y| {
            let slot = self.table[hash as usize & mask];
            if let (Place::Row(from), true) = (slot.place, slot.hash == hash) {
                self.votes[(i32::from(y) - i32::from(from) + height) as usize] += 1;
            }
        });
        self.best.clear();
        let counted = (-height..height).zip(&self.votes);
        let enough = counted.filter(|&(distance, &votes)| distance != 0 && votes >= VOTES_MIN);
        self.best.extend(enough.map(|(distance, &votes)| (votes, distance)));
        self.best.sort_unstable_by(|a, b| b.cmp(a));
        self.best.iter().take(TRIED).map(|&(_, dy)| Shift { dx: 0, dy })
    }
}

/// Calls `each` with hash and row of the pieces in `regions` that aren't flat, of every so many columns and rows.
fn for_pieces(
    picture: PictureRef<'_>,
    regions: &[Region],
    (columns_every, rows_every): (usize, usize),
    mut each: impl FnMut(u64, u16),
) {
    let width = usize::from(picture.size().w);
    for Region { rect, .. } in regions {
        let columns = usize::from(rect.x) / PIECE_EVERY
            ..(usize::from(rect.x) + usize::from(rect.w)).div_ceil(PIECE_EVERY);
        // The same columns whichever region they are in.
        let columns = columns.start.next_multiple_of(columns_every)..columns.end;
        for y in rect.rows().step_by(rows_every) {
            let row = picture.row(y);
            for column in columns.clone().step_by(columns_every) {
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
