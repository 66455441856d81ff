//! Which regions go first, and how much of them a budget of bytes allows.
//!
//! How many bytes pixels become is known only after they were compressed. So a chunk is no larger than what the room left
//! takes *at worst*; what the chunk really became then says how far the next may trust that it, too, stays below. Content
//! that compresses well costs a few chunks more that way, and noise never exceeds a budget by more than one small piece.

use self::estimate::{STRIP_HEADER, at_worst};
use crate::owed::{Owed, Region, UNIT_ROWS};
use crate::picture::{PACKED, PictureRef, Rect};

mod estimate;

/// Regions this near the pointer, in pixels, go before older ones.
const NEAR: u32 = 160;
/// Fewest columns that a region is cut to, and the rows of the smallest piece.
const COLUMNS_MIN: u16 = 64;
const ROWS_MIN: u16 = UNIT_ROWS;
/// Part of the room left that a chunk is to fill, if it compresses like the one before it.
const FILL: f32 = 0.8;
/// How much more a chunk may be trusted than the one before it, and the first of an update at most.
const GROWTH: f32 = 3.0;
const CARRIED_MAX: f32 = 2.0;

/// What goes first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// May take up half of the budget.
    pub(crate) first: Vec<Region>,
    /// What comes then, with what is left of the first.
    pub(crate) then: Vec<Region>,
}

/// Puts regions in order of value if they may not all fit: what is near the pointer gets half of the budget, the rest goes to what
/// has waited longest. If they do fit they stay in reading order, which compresses best.
pub(crate) fn arrange(
    owed: &Owed,
    picture: PictureRef<'_>,
    regions: Vec<Region>,
    pointer: Option<(u16, u16)>,
    budget: usize,
) -> Order {
    if fits(picture, &regions, budget) {
        return Order { first: Vec::new(), then: regions };
    }
    let mut parts = Vec::new();
    regions.into_iter().for_each(|region| owed.by_age(region, &mut parts));
    let far = |region: &Region| pointer.map_or(NEAR, |pointer| distance(region.rect, pointer).min(NEAR));
    parts.sort_by_key(|region| (region.since, far(region)));
    let (first, then) = parts.into_iter().partition(|region| far(region) < NEAR);
    Order { first, then }
}

impl Order {
    /// Puts what is left of the first back among the others, by age and distance.
    pub(crate) fn merge(left: Vec<Region>, then: Vec<Region>) -> Vec<Region> {
        if left.is_empty() {
            return then;
        }
        let mut all = [left, then].concat();
        // Equal ages keep their order: what was first still is.
        all.sort_by_key(|region| region.since);
        all
    }
}

/// Whether the regions surely fit into a budget.
fn fits(picture: PictureRef<'_>, regions: &[Region], budget: usize) -> bool {
    plain(regions) <= budget
        || regions
            .iter()
            .try_fold(0, |bytes, region| {
                Some(bytes + at_worst(picture, region.rect, 1.0)).filter(|&b| b <= budget)
            })
            .is_some()
}

/// Uncompressed bytes.
fn plain(regions: &[Region]) -> usize {
    regions.iter().map(|region| region.rect.pixels() * PACKED + STRIP_HEADER).sum()
}

/// How far a point is from a rectangle: the larger of the two axes.
fn distance(rect: Rect, (x, y): (u16, u16)) -> u32 {
    let axis = |at: u16, from: u16, len: u16| {
        let (at, from, to) = (u32::from(at), u32::from(from), u32::from(from) + u32::from(len));
        from.saturating_sub(at).max((at + 1).saturating_sub(to))
    };
    axis(x, rect.x, rect.w).max(axis(y, rect.y, rect.h))
}

/// How far a chunk may exceed the room left, at worst, since it will not: learnt from chunk to chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    /// In the update at hand.
    now: f32,
    /// What the updates before let it begin with. It is not for what may be noise.
    carried: f32,
}

impl Trust {
    /// Nothing is known yet.
    pub(crate) const NONE: Self = Self { now: 1.0, carried: 1.0 };

    /// What the last update leaves for the next: its content may be another.
    #[must_use]
    pub(crate) fn carry(self) -> Self {
        Self { now: 1.0, carried: (self.now * self.carried).clamp(1.0, CARRIED_MAX) }
    }

    /// The room for a chunk's worst case.
    fn stretch(self, room: usize) -> usize {
        (room as f32 * self.now) as usize
    }

    /// With one more chunk: it could have become `at_worst` bytes and became `found`. What follows may be different, so
    /// trust grows slowly and goes at once.
    #[must_use]
    pub(crate) fn learn(self, at_worst: usize, found: usize) -> Self {
        let now = (FILL * at_worst as f32 / found.max(1) as f32).clamp(1.0 / self.carried, GROWTH * self.now);
        Self { now, ..self }
    }
}

/// Moves the next chunk from the end of `regions` into `boxes` and returns the bytes that it becomes at worst, or `None` if
/// there are none. A chunk is never empty, so an update always makes progress.
pub(crate) fn fill(
    picture: PictureRef<'_>,
    regions: &mut Vec<Region>,
    room: usize,
    trust: Trust,
    boxes: &mut Vec<Rect>,
) -> Option<usize> {
    let room = trust.stretch(room);
    if plain(regions) <= room {
        let bytes = plain(regions);
        boxes.extend(regions.drain(..).rev().map(|region| region.rect));
        return (bytes > 0).then_some(bytes);
    }
    let mut bytes = 0;
    while let Some(region) = regions.pop() {
        let taken = match cut(picture, region.rect, room.saturating_sub(bytes), trust) {
            Some(taken) => taken,
            None if bytes == 0 => smallest(region.rect),
            None => {
                regions.push(region);
                break;
            }
        };
        bytes += at_worst(picture, taken, trust.carried);
        boxes.push(taken);
        regions.extend(
            remainder(region.rect, taken).into_iter().flatten().map(|rect| Region { rect, ..region }),
        );
    }
    (bytes > 0).then_some(bytes)
}

/// As much of a region, from its upper left corner, as becomes `room` bytes at worst: whole, some rows, or some columns of
/// one. `None` if that is less than the smallest cut.
fn cut(picture: PictureRef<'_>, rect: Rect, room: usize, trust: Trust) -> Option<Rect> {
    let mut part = rect;
    loop {
        let bytes = at_worst(picture, part, trust.carried);
        if bytes <= room {
            return Some(part);
        }
        // Its upper left part may be worse than the whole: look again.
        part = shrink(part, part.pixels() * room / bytes)?;
    }
}

/// The upper left of a region, at most so many pixels, which are fewer than it has. Rows stay whole if they can: long ones repeat
/// better what was there before, and photographs are predicted from the row above anyway.
fn shrink(rect: Rect, pixels: usize) -> Option<Rect> {
    let rows = pixels / usize::from(rect.w);
    if rows > 0 {
        return Some(Rect { h: rows as u16, ..rect });
    }
    let columns = pixels.min(usize::from(rect.w) - 1) as u16;
    (columns >= COLUMNS_MIN).then(|| Rect { w: aligned(rect.x, columns, COLUMNS_MIN), h: 1, ..rect })
}

/// The length of what begins at `from` and is no longer than `len`, cut at a multiple of `unit` if there is one.
fn aligned(from: u16, len: u16, unit: u16) -> u16 {
    let end = (u32::from(from) + u32::from(len)) / u32::from(unit) * u32::from(unit);
    end.checked_sub(from.into()).filter(|&len| len > 0).map_or(len, |len| len as u16)
}

fn smallest(rect: Rect) -> Rect {
    Rect { w: rect.w.min(COLUMNS_MIN), h: rect.h.min(ROWS_MIN), ..rect }
}

/// What is left of `rect` without its corner `taken`: below it, and right of it, which is to go next.
fn remainder(rect: Rect, taken: Rect) -> [Option<Rect>; 2] {
    let below = Rect { y: rect.y + taken.h, h: rect.h - taken.h, ..rect };
    let right = Rect { x: rect.x + taken.w, w: rect.w - taken.w, h: taken.h, ..rect };
    [below, right].map(|rest| (rest.pixels() > 0).then_some(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{Picture, Size};

    const BAND: Rect = Rect { x: 0, y: 32, w: 1920, h: 32 };
    const SIZE: Size = Size { w: 3100, h: 800 };

    fn noise() -> Picture {
        let mut picture = Picture::black(SIZE);
        let mut state = 1u32;
        for byte in picture.bytes_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        picture
    }

    #[test]
    fn rows_are_cut_before_columns() {
        let picture = noise();
        let cut = |bytes| cut(picture.borrow(), BAND, bytes, Trust::NONE);
        assert_eq!(cut(usize::MAX), Some(BAND));
        assert_eq!(cut(1920 * 23 * 3 + 10), Some(Rect { h: 23, ..BAND }));
        assert_eq!(cut(1920 * 3), Some(Rect { w: 1856, h: 1, ..BAND }));
        assert_eq!(cut(100), None);
        assert_eq!(
            shrink(Rect { x: 60, y: 37, w: 300, h: 20 }, 280),
            Some(Rect { x: 60, y: 37, w: 260, h: 1 })
        );
    }

    #[test]
    fn near_the_pointer_goes_before_older_when_not_all_fits() {
        let picture = noise();
        let region = |y, since| Region { rect: Rect { y, ..BAND }, since };
        let unsorted = vec![region(0, 2), region(512, 1), region(704, 3)];
        let mut owed = Owed::nothing(SIZE);
        unsorted.iter().for_each(|region| owed.mark(region.rect, region.since));
        let arrange = |budget| arrange(&owed, picture.borrow(), unsorted.clone(), Some((5, 710)), budget);
        assert_eq!(arrange(usize::MAX), Order { first: Vec::new(), then: unsorted.clone() }, "all fits");
        let Order { first, then } = arrange(1000);
        assert_eq!(first, [region(704, 3)]);
        assert_eq!(then, [region(512, 1), region(0, 2)]);
        assert_eq!(
            Order::merge(first, then).iter().map(|region| region.since).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }

    #[test]
    fn trust_grows_slowly_and_goes_at_once() {
        let grown = Trust::NONE.learn(10_000, 100);
        assert_eq!(grown.stretch(100), 300);
        assert_eq!(grown.learn(10_000, 100).stretch(100), 900);
        assert_eq!(grown.learn(10_000, 10_000).stretch(100), 100);
        let next = grown.carry();
        assert_eq!((next.stretch(100), next.carried), (100, CARRIED_MAX));
        assert_eq!(next.learn(10_000, 40_000).carry().carried, 1.0, "all that was carried was wrong");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn chunks_cover_every_pixel_once_and_keep_to_the_room(
            w in 1u16..3000, h in 1u16..=32, x in 0u16..100, room in 0usize..50_000,
        ) {
            let picture = noise();
            let rect = Rect { x, y: 32, w, h };
            let mut regions = vec![Region { rect, since: 1 }];
            let mut boxes = Vec::new();
            while let Some(bytes) = fill(picture.borrow(), &mut regions, room, Trust::NONE, &mut boxes) {
                prop_assert!(bytes <= room.max(64 * 8 * PACKED + STRIP_HEADER), "{} of {}", bytes, room);
            }
            let mut seen = vec![0u8; rect.pixels()];
            for part in &boxes {
                for y in part.y..part.y + part.h {
                    for column in part.x..part.x + part.w {
                        seen[usize::from(y - 32) * usize::from(w) + usize::from(column - x)] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
