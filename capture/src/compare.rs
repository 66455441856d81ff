//! What differs between two pictures of one display, for platforms that don't say what was drawn.

use crate::Rect;
use crate::layout::Damage;

/// Pixels along the sides of the tiles that are compared: coarse enough that rows are compared at the speed of memory, fine
/// enough that a blinking text cursor is little.
const TILE: (usize, usize) = (64, 32);

/// Adds rectangles that cover all pixels in which `after` differs from `before`. Both are `size`, 4 bytes a pixel, rows without
/// gaps.
pub(crate) fn differences(before: &[u8], after: &[u8], size: (u16, u16), damage: &mut Damage) {
    let (width, height) = (usize::from(size.0), usize::from(size.1));
    let stride = width * 4;
    for top in (0..height).step_by(TILE.1) {
        let rows = top..(top + TILE.1).min(height);
        let band = rows.start * stride..rows.end * stride;
        let (before, after) = (&before[band.clone()], &after[band]);
        if before == after {
            continue;
        }
        let differs = |left: usize| {
            let columns = left * 4..(left + TILE.0).min(width) * 4;
            let mut rows = before.chunks_exact(stride).zip(after.chunks_exact(stride));
            rows.any(|(before, after)| before[columns.clone()] != after[columns.clone()])
        };
        // Tiles beside one another are one rectangle.
        let mut begun = None;
        for left in (0..width).step_by(TILE.0) {
            match (begun, differs(left)) {
                (None, true) => begun = Some(left),
                (Some(start), false) => {
                    damage.add(rect(start, left, &rows));
                    begun = None;
                }
                _ => {}
            }
        }
        if let Some(start) = begun {
            damage.add(rect(start, width, &rows));
        }
    }
}

fn rect(left: usize, right: usize, rows: &std::ops::Range<usize>) -> Rect {
    // All within a display, whose sides are 16 bits.
    let [x, width, y, height] = [left, right - left, rows.start, rows.len()].map(|value| value as u16);
    Rect { x, y, width, height }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(before: &[u8], after: &[u8], size: (u16, u16)) -> Vec<Rect> {
        let mut damage = Damage::default();
        differences(before, after, size, &mut damage);
        damage.take()
    }

    #[test]
    fn what_is_alike_is_no_damage_and_neighbours_are_one() {
        let size = (200, 70);
        let before = vec![7; 200 * 70 * 4];
        assert_eq!(found(&before, &before, size), []);
        let mut after = before.clone();
        // The last pixel of the first tile and the first of the second, in the second band.
        for x in [63, 64] {
            after[(40 * 200 + x) * 4] = 8;
        }
        assert_eq!(found(&before, &after, size), [Rect { x: 0, y: 32, width: 128, height: 32 }]);
    }

    proptest! {
        #[test]
        fn every_pixel_that_differs_is_covered(
            size in (1u16..300, 1u16..150),
            pixels in prop::collection::vec((any::<u16>(), any::<u16>()), 1..40),
        ) {
            let before = vec![0; usize::from(size.0) * usize::from(size.1) * 4];
            let mut after = before.clone();
            let pixels: Vec<(u16, u16)> = pixels.into_iter().map(|(x, y)| (x % size.0, y % size.1)).collect();
            for (x, y) in &pixels {
                after[(usize::from(*y) * usize::from(size.0) + usize::from(*x)) * 4 + 2] = 255;
            }
            let found = found(&before, &after, size);
            for (x, y) in pixels {
                let covers = |rect: &Rect| {
                    (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
                };
                prop_assert!(found.iter().any(covers), "{x},{y} is in none of {found:?}");
            }
            prop_assert!(found.iter().all(|rect| rect.x + rect.width <= size.0 && rect.y + rect.height <= size.1));
        }
    }
}
