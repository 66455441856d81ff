//! Which regions go first, and how much of them a budget of bytes allows.

use crate::owed::Region;
use crate::picture::{PACKED, Rect};

/// Compressed bytes per plain byte that is assumed before anything was compressed.
pub(crate) const RATIO_AT_FIRST: f32 = 0.3;
/// Regions this near the pointer, in pixels, go before older ones.
const NEAR: u32 = 160;
/// Fewest rows and columns that a region is cut to.
const ROWS_MIN: u16 = 8;
const COLUMNS_MIN: u16 = 64;
/// Part of the room left that a chunk is to fill, by the ratio so far.
const FILL: f32 = 0.75;
/// Plain bytes of a chunk per byte of room: what was dull may be followed by what is not.
const PLAIN_PER_BYTE: usize = 8;

/// Sorts regions by value if they will not all fit: near the pointer, then oldest, then from the top down. If they do
/// fit they stay in reading order, which compresses best.
pub(crate) fn arrange(regions: &mut [Region], pointer: Option<(u16, u16)>, budget: usize, ratio: f32) {
    let plain: usize = regions.iter().map(|region| region.rect.pixels() * PACKED).sum();
    if plain as f32 * ratio <= budget as f32 {
        return;
    }
    regions.sort_by_key(|region| {
        let near = pointer.map_or(NEAR, |pointer| distance(region.rect, pointer).min(NEAR));
        (near, region.since)
    });
}

/// How far a point is from a rectangle: the larger of the two axes.
fn distance(rect: Rect, (x, y): (u16, u16)) -> u32 {
    let axis = |at: u16, from: u16, len: u16| {
        let (at, from, to) = (u32::from(at), u32::from(from), u32::from(from) + u32::from(len));
        from.saturating_sub(at).max((at + 1).saturating_sub(to))
    };
    axis(x, rect.x, rect.w).max(axis(y, rect.y, rect.h))
}

/// Moves the next chunk from the end of `regions` into `boxes` and returns its plain bytes, or `None` if there are
/// none. A chunk is never empty, so an update always makes progress.
pub(crate) fn fill(
    regions: &mut Vec<Region>,
    room: usize,
    ratio: f32,
    boxes: &mut Vec<Rect>,
) -> Option<usize> {
    if regions.is_empty() {
        return None;
    }
    let plain_max = ((room as f32 * FILL / ratio) as usize).min(room.saturating_mul(PLAIN_PER_BYTE));
    let mut plain = 0;
    while let Some(region) = regions.pop() {
        match cut(region.rect, plain_max - plain.min(plain_max)) {
            Some(rect) => boxes.push(rect),
            None if plain == 0 => boxes.push(smallest(region.rect)),
            None => {
                regions.push(region);
                break;
            }
        }
        let taken = boxes[boxes.len() - 1];
        plain += taken.pixels() * PACKED;
        regions.extend(
            remainder(region.rect, taken).into_iter().flatten().map(|rect| Region { rect, ..region }),
        );
    }
    Some(plain)
}

/// The ratio with one more chunk in it.
pub(crate) fn learn(ratio: f32, plain: usize, compressed: usize) -> f32 {
    if plain == 0 {
        return ratio;
    }
    let found = compressed as f32 / plain as f32;
    // Worse is believed sooner than better: too much sent delays all that follows, too little is sent at once after it.
    let weight = if found > ratio { 0.8 } else { 0.3 };
    // Never 0: then no chunk would ever be worth a cut.
    (ratio + (found - ratio) * weight).max(0.001)
}

/// As much of a region, from its upper left corner, as `plain_max` bytes hold: whole, some rows, or some columns of the
/// fewest rows. `None` if that is less than the smallest cut.
fn cut(rect: Rect, plain_max: usize) -> Option<Rect> {
    let pixels = plain_max / PACKED;
    if rect.pixels() <= pixels {
        return Some(rect);
    }
    let rows = pixels / usize::from(rect.w);
    if rows >= usize::from(ROWS_MIN) {
        return Some(Rect { h: rows as u16, ..rect });
    }
    let h = rect.h.min(ROWS_MIN);
    let columns = (pixels / usize::from(h)).min(usize::from(rect.w)) as u16 / COLUMNS_MIN * COLUMNS_MIN;
    (columns > 0).then_some(Rect { w: columns, h, ..rect })
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

    const BAND: Rect = Rect { x: 0, y: 32, w: 1920, h: 32 };

    #[test]
    fn rows_are_cut_before_columns() {
        assert_eq!(cut(BAND, usize::MAX), Some(BAND));
        assert_eq!(cut(BAND, 1920 * 20 * 3), Some(Rect { h: 20, ..BAND }));
        assert_eq!(cut(BAND, 1920 * 7 * 3), Some(Rect { w: 1664, h: 8, ..BAND }));
        assert_eq!(cut(BAND, 100), None);
    }

    #[test]
    fn near_the_pointer_goes_before_older_when_not_all_fits() {
        let region = |y, since| Region { rect: Rect { y, ..BAND }, since };
        let unsorted = [region(0, 2), region(512, 1), region(700, 3)];
        let mut regions = unsorted;
        arrange(&mut regions, Some((5, 710)), usize::MAX, 0.1);
        assert_eq!(regions, unsorted, "all fits");
        arrange(&mut regions, Some((5, 710)), 1000, 0.1);
        assert_eq!(regions.map(|region| region.rect.y), [700, 512, 0]);
    }

    proptest! {
        #[test]
        fn chunks_cover_every_pixel_once(
            w in 1u16..3000, h in 1u16..=32, room in 0usize..50_000, ratio in 0.001f32..1.0,
        ) {
            let rect = Rect { x: 7, y: 32, w, h };
            let mut regions = vec![Region { rect, since: 1 }];
            let mut boxes = Vec::new();
            while let Some(plain) = fill(&mut regions, room, ratio, &mut boxes) {
                prop_assert!(plain > 0, "each chunk makes progress");
            }
            let mut seen = vec![0u8; rect.pixels()];
            for part in &boxes {
                for y in part.y..part.y + part.h {
                    for x in part.x..part.x + part.w {
                        seen[usize::from(y - 32) * usize::from(w) + usize::from(x - 7)] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
