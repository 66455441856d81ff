//! Content that moved: scrolls, and windows that were dragged. Found by voting, verified pixel by pixel, sent as copies.
//!
//! Two searches, the cheap one first. [`vertical`] hashes short pieces of rows at fixed columns: a piece that the shadow has
//! once votes for the distance between the two. [`anywhere`] does the same with pieces that are chosen by their content, so
//! that they are the same ones wherever they have moved. [`blocks`] then tries the best shifts.

use crate::owed::Region;
use crate::picture::{Copy, Picture, PictureRef};

mod anywhere;
mod blocks;
mod vertical;

use anywhere::Anywhere;
use blocks::Blocks;
use vertical::Vertical;

/// Pixels that have changed at least, before a search pays.
const AREA_MIN: usize = 8192;
/// Blocks that must be left unexplained, before the second search pays.
const LEFT_MIN: usize = 64;
/// The second search looks at every so many rows of blocks, and at all only if they tell nothing: a window has many.
const SOME: usize = 3;
/// Most searches left out after fruitless ones.
const PAUSE_MAX: u32 = 8;

/// How far something moved: right and down are positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shift {
    dx: i32,
    dy: i32,
}

/// Looks for motion. Keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Motion {
    vertical: Vertical,
    vertical_pause: Pause,
    anywhere: Anywhere,
    anywhere_pause: Pause,
    blocks: Blocks,
}

/// Leaves searches out after fruitless ones: typing and video are no motion for long.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    /// Searches to leave out now, and after the next fruitless one.
    left: u32,
    next: u32,
}

impl Pause {
    /// Whether a search is due.
    fn is_over(&mut self) -> bool {
        let is_over = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_over
    }

    fn learn(&mut self, found: bool) {
        if found {
            self.next = 0;
        } else {
            self.left = self.next;
            self.next = (self.next * 2).clamp(1, PAUSE_MAX);
        }
    }
}

impl Motion {
    /// The copies that explain a part of `regions`. All read the shadow as it is; the caller applies them.
    pub(crate) fn find(&mut self, picture: PictureRef<'_>, shadow: &Picture, regions: &[Region]) -> &[Copy] {
        self.blocks.clear();
        if regions.iter().map(|region| region.rect.pixels()).sum::<usize>() < AREA_MIN {
            return &[];
        }
        let (vertical, anywhere) = (self.vertical_pause.is_over(), self.anywhere_pause.is_over());
        if !vertical && !anywhere {
            return &[];
        }
        self.blocks.begin(picture.size(), regions);
        let pair = Pair { picture, shadow };
        if vertical {
            let shifts = self.vertical.vote(pair, regions);
            self.vertical_pause.learn(self.blocks.explain(pair, shifts));
        }
        if anywhere && self.blocks.left() >= LEFT_MIN {
            let found = [SOME, 1].into_iter().any(|every| {
                let shifts = self.anywhere.vote(pair, &self.blocks, every);
                self.blocks.explain(pair, shifts)
            });
            self.anywhere_pause.learn(found);
        }
        self.blocks.copies()
    }
}

/// A picture and the shadow that it is compared with, of the same size.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    picture: PictureRef<'a>,
    shadow: &'a Picture,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::owed::Owed;
    use crate::picture::{PIXEL, Rect, Size};

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

    fn regions(before: &Picture, after: &Picture) -> Vec<Region> {
        let mut owed = Owed::nothing(SIZE);
        owed.mark(SIZE.rect(), 1);
        owed.compare(after.borrow(), before)
    }

    fn find(before: &Picture, after: &Picture) -> Vec<Copy> {
        Motion::default().find(after.borrow(), before, &regions(before, after)).to_vec()
    }

    /// `before` with the rectangle `from` put at `to` too.
    fn with_copy(before: &Picture, from: (u16, u16), to: Rect) -> Picture {
        let mut after = before.clone();
        after.copy(&[Copy { from, to }], &mut Vec::new());
        after
    }

    #[test]
    fn a_scrolled_band_is_one_copy_to_the_pixel() {
        let before = text(1);
        // Rows 40 to 200 move up by 23; columns 50 to 250 only.
        let to = Rect { x: 50, y: 40, w: 200, h: 137 };
        let after = with_copy(&before, (50, 63), to);
        let copies = find(&before, &after);
        assert_eq!(copies, [Copy { from: (50, 63), to }]);
        assert_eq!(with_copy(&before, copies[0].from, copies[0].to), after);
    }

    #[test]
    fn a_dragged_window_is_one_copy_to_the_pixel() {
        let before = text(1);
        let to = Rect { x: 61, y: 33, w: 171, h: 127 };
        let after = with_copy(&before, (103, 50), to);
        assert_eq!(find(&before, &after), [Copy { from: (103, 50), to }]);
    }

    #[test]
    fn a_page_moved_sideways_is_one_copy_to_the_pixel() {
        let before = text(3);
        let to = Rect { x: 20, y: 16, w: 200, h: 200 };
        let after = with_copy(&before, (57, 16), to);
        assert_eq!(find(&before, &after), [Copy { from: (57, 16), to }]);
    }

    #[test]
    fn what_moved_down_to_the_lower_edge_ends_there() {
        let before = text(9);
        // Down by 7, into the last row: there is one above that might go on below it.
        let to = Rect { x: 30, y: 100, w: 200, h: 140 };
        let after = with_copy(&before, (30, 93), to);
        assert_eq!(find(&before, &after), [Copy { from: (30, 93), to }]);
    }

    #[test]
    fn a_scroll_beside_fixed_lines_is_a_copy_for_each_part() {
        let before = text(5);
        let mut after = before.clone();
        // Two bands with a column between them that stays.
        for band in [Rect { x: 8, y: 24, w: 120, h: 180 }, Rect { x: 150, y: 24, w: 140, h: 180 }] {
            after = with_copy_of(&after, &before, (band.x, band.y + 11), band);
        }
        let copies = find(&before, &after);
        assert_eq!(copies.len(), 2);
        let mut moved = before.clone();
        moved.copy(&copies, &mut Vec::new());
        assert_eq!(moved, after);
    }

    fn with_copy_of(picture: &Picture, of: &Picture, from: (u16, u16), to: Rect) -> Picture {
        let mut after = picture.clone();
        let source = Copy { from, to }.source();
        for (y, from) in to.rows().zip(source.rows()) {
            after.row_mut(y, to).copy_from_slice(&of.row(from)[source.span(PIXEL)]);
        }
        after
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
        let regions = regions(&before, &after);
        let pauses: Vec<(u32, u32)> = (0..8)
            .map(|_| {
                motion.find(after.borrow(), &before, &regions);
                (motion.vertical_pause.left, motion.anywhere_pause.left)
            })
            .collect();
        assert_eq!(pauses, [0, 1, 0, 2, 1, 0, 4, 3].map(|left| (left, left)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn copies_show_the_picture_wherever_things_moved(
            moves in prop::collection::vec((0u16..200, 0u16..140, 0u16..200, 0u16..140, 16u16..100, 16u16..100), 1..4),
            seed in any::<u64>(),
        ) {
            let before = text(seed);
            let mut after = before.clone();
            for (from_x, from_y, x, y, w, h) in moves {
                after = with_copy_of(&after, &before, (from_x, from_y), Rect { x, y, w, h });
            }
            let copies = find(&before, &after);
            let mut moved = before.clone();
            moved.copy(&copies, &mut Vec::new());
            let size = SIZE.pixels() * PIXEL;
            for copy in copies {
                for y in copy.to.rows() {
                    prop_assert_eq!(&moved.row(y)[copy.to.span(PIXEL)], &after.row(y)[copy.to.span(PIXEL)]);
                }
            }
            // And nothing that was right became wrong.
            let wrong = |p: &Picture| (0..size).filter(|&i| p.bytes()[i] != after.bytes()[i]).count();
            prop_assert!(wrong(&moved) <= wrong(&before));
        }
    }
}
