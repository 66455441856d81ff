//! Pictures and the rectangles in them: what grabs look like on the way in, and what the two ends keep.

/// Bytes of a pixel in memory, on both sides.
pub const PIXEL: usize = 4;
/// Bytes of a pixel on the wire: blue, green, red.
pub(crate) const PACKED: usize = 3;
/// The colour bits of a pixel read as a little-endian word; the fourth byte of a grab means nothing.
pub(crate) const COLOUR: u32 = 0x00ff_ffff;

/// Width and height in pixels. Neither is 0 in a size that the codec accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels in a row.
    pub w: u16,
    /// Rows.
    pub h: u16,
}

impl Size {
    /// Number of pixels.
    pub fn pixels(self) -> usize {
        usize::from(self.w) * usize::from(self.h)
    }

    /// The whole picture.
    pub fn rect(self) -> Rect {
        Rect { x: 0, y: 0, w: self.w, h: self.h }
    }

    /// Whether `rect` is not empty and lies within a picture of this size.
    pub fn holds(self, rect: Rect) -> bool {
        rect.w > 0
            && rect.h > 0
            && u32::from(rect.x) + u32::from(rect.w) <= u32::from(self.w)
            && u32::from(rect.y) + u32::from(rect.h) <= u32::from(self.h)
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Leftmost column.
    pub x: u16,
    /// Topmost row.
    pub y: u16,
    /// Columns.
    pub w: u16,
    /// Rows.
    pub h: u16,
}

impl Rect {
    /// Number of pixels.
    pub fn pixels(self) -> usize {
        usize::from(self.w) * usize::from(self.h)
    }

    /// The part within `size`; empty (no columns or no rows) if there is none.
    #[must_use]
    pub fn clipped(self, size: Size) -> Self {
        let (x, y) = (self.x.min(size.w), self.y.min(size.h));
        Self { x, y, w: self.w.min(size.w - x), h: self.h.min(size.h - y) }
    }

    /// The part that two rectangles have in common; empty if there is none.
    pub(crate) fn common(self, other: Self) -> Self {
        let span = |a: u16, a_len: u16, b: u16, b_len: u16| {
            let from = a.max(b);
            (from, (a + a_len).min(b + b_len).saturating_sub(from))
        };
        let (x, w) = span(self.x, self.w, other.x, other.w);
        let (y, h) = span(self.y, self.h, other.y, other.h);
        if w == 0 || h == 0 { Self::default() } else { Self { x, y, w, h } }
    }

    /// The smallest rectangle around both.
    pub(crate) fn hull(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) =
            ((self.x + self.w).max(other.x + other.w), (self.y + self.h).max(other.y + other.h));
        Self { x, y, w: right - x, h: bottom - y }
    }

    /// What is left of it without `other`: above, below, left and right.
    pub(crate) fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let hole = self.common(other);
        let (right, bottom) = (self.x + self.w, self.y + self.h);
        let parts = if hole == Self::default() {
            [self, hole, hole, hole]
        } else {
            [
                Self { h: hole.y - self.y, ..self },
                Self { x: self.x, w: hole.x - self.x, ..hole },
                Self { x: hole.x + hole.w, w: right - hole.x - hole.w, ..hole },
                Self { y: hole.y + hole.h, h: bottom - hole.y - hole.h, ..self },
            ]
        };
        parts.into_iter().filter(|part| part.w > 0 && part.h > 0)
    }

    pub(crate) fn intersects(self, other: Self) -> bool {
        let meet = |a: u16, a_len: u16, b: u16, b_len: u16| {
            u32::from(a) < u32::from(b) + u32::from(b_len) && u32::from(b) < u32::from(a) + u32::from(a_len)
        };
        meet(self.x, self.w, other.x, other.w) && meet(self.y, self.h, other.y, other.h)
    }

    pub(crate) fn rows(self) -> std::ops::Range<usize> {
        usize::from(self.y)..usize::from(self.y) + usize::from(self.h)
    }

    /// The bytes that this rectangle's columns take of a row of pixels of `pixel` bytes.
    pub(crate) fn span(self, pixel: usize) -> std::ops::Range<usize> {
        let start = usize::from(self.x) * pixel;
        start..start + usize::from(self.w) * pixel
    }
}

/// A picture that somebody else holds: rows of blue, green, red and a byte that is ignored, as X11 and most other
/// platforms grab them.
#[derive(Clone, Copy, Debug)]
pub struct PictureRef<'a> {
    size: Size,
    stride: usize,
    bytes: &'a [u8],
}

impl<'a> PictureRef<'a> {
    /// A picture of `size` whose rows begin every `stride` bytes. `None` if a row is longer than the stride or the
    /// bytes end before the last row does.
    pub fn new(size: Size, stride: usize, bytes: &'a [u8]) -> Option<Self> {
        let row = usize::from(size.w) * PIXEL;
        let needed = match usize::from(size.h) {
            0 => 0,
            rows => stride.checked_mul(rows - 1)?.checked_add(row)?,
        };
        (row <= stride && needed <= bytes.len()).then_some(Self { size, stride, bytes })
    }

    /// Width and height.
    pub fn size(self) -> Size {
        self.size
    }

    /// The bytes from the first pixel of `rect` on, and how far apart its rows begin.
    #[cfg(feature = "video")]
    pub(crate) fn from(self, rect: Rect) -> (&'a [u8], usize) {
        let start = usize::from(rect.y) * self.stride + rect.span(PIXEL).start;
        (&self.bytes[start..], self.stride)
    }

    /// Row `y`, without what the stride adds.
    pub(crate) fn row(self, y: usize) -> &'a [u8] {
        let start = y * self.stride;
        &self.bytes[start..start + usize::from(self.size.w) * PIXEL]
    }
}

/// A picture of one's own, four bytes a pixel, rows without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    size: Size,
    bytes: Vec<u8>,
}

impl Picture {
    /// A picture all of whose bytes are 0.
    pub fn black(size: Size) -> Self {
        Self { size, bytes: vec![0; size.pixels() * PIXEL] }
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// All rows, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All rows, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The same picture, borrowed.
    pub fn borrow(&self) -> PictureRef<'_> {
        PictureRef { size: self.size, stride: self.stride(), bytes: &self.bytes }
    }

    pub(crate) fn stride(&self) -> usize {
        usize::from(self.size.w) * PIXEL
    }

    pub(crate) fn row(&self, y: usize) -> &[u8] {
        self.borrow().row(y)
    }

    /// The bytes of `rect` in row `y`.
    pub(crate) fn row_mut(&mut self, y: usize, rect: Rect) -> &mut [u8] {
        let start = y * self.stride();
        &mut self.bytes[start..][rect.span(PIXEL)]
    }

    /// Moves pixels within the picture. All copies read it as it was before. `scratch` is for those that overlap.
    pub(crate) fn copy(&mut self, copies: &[Copy], scratch: &mut Vec<u8>) {
        // Mostly there is one copy, a scroll, or none writes what a later one reads: then nothing needs lifting first.
        let apart = copies
            .iter()
            .enumerate()
            .all(|(i, copy)| copies[i + 1..].iter().all(|later| !copy.to.intersects(later.source())));
        if apart {
            copies.iter().for_each(|&copy| self.move_rows(copy));
            return;
        }
        scratch.clear();
        for source in copies.iter().map(|copy| copy.source()) {
            source.rows().for_each(|y| scratch.extend_from_slice(&self.row(y)[source.span(PIXEL)]));
        }
        let mut lifted = &scratch[..];
        for to in copies.iter().map(|copy| copy.to) {
            for y in to.rows() {
                let (row, rest) = lifted.split_at(usize::from(to.w) * PIXEL);
                self.row_mut(y, to).copy_from_slice(row);
                lifted = rest;
            }
        }
    }

    /// One copy, rows in the order that reads each before it is written.
    fn move_rows(&mut self, copy: Copy) {
        let (stride, source, to) = (self.stride(), copy.source(), copy.to);
        let mut move_row = |(from, to_y): (usize, usize)| {
            let from = from * stride + source.span(PIXEL).start;
            let at = to_y * stride + to.span(PIXEL).start;
            self.bytes.copy_within(from..from + to.span(PIXEL).len(), at);
        };
        let rows = source.rows().zip(to.rows());
        if to.y > source.y { rows.rev().for_each(&mut move_row) } else { rows.for_each(&mut move_row) }
    }

    /// Makes `rect` black.
    pub(crate) fn blacken(&mut self, rect: Rect) {
        for y in rect.rows() {
            let (pixels, _) = self.row_mut(y, rect).as_chunks_mut::<PIXEL>();
            pixels.fill([0, 0, 0, 255]);
        }
    }

    /// Takes over `rect` from a picture of the same size.
    pub(crate) fn paint(&mut self, from: PictureRef<'_>, rect: Rect) {
        for y in rect.rows() {
            self.row_mut(y, rect).copy_from_slice(&from.row(y)[rect.span(PIXEL)]);
        }
    }
}

/// Pixels of a picture that moved within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The upper left corner they came from.
    pub(crate) from: (u16, u16),
    pub(crate) to: Rect,
}

impl Copy {
    pub(crate) fn source(self) -> Rect {
        Rect { x: self.from.0, y: self.from.1, ..self.to }
    }
}

/// Appends a row of pixels as packed blue, green, red.
pub(crate) fn pack_row(row: &[u8], out: &mut Vec<u8>) {
    let (pixels, _) = row.as_chunks::<PIXEL>();
    let at = out.len();
    // Whole words overlap the next pixel and are cheaper than three bytes each; the last one's surplus is cut off.
    out.resize(at + pixels.len() * PACKED + 1, 0);
    for (i, pixel) in pixels.iter().enumerate() {
        out[at + i * PACKED..][..PIXEL].copy_from_slice(pixel);
    }
    out.pop();
}

/// Bytes that stand in front of a packed picture used as history, so that it can never begin with the magic number of
/// a structured dictionary.
pub(crate) const HISTORY_LEAD: usize = 8;

/// A picture as history for a segment: [`HISTORY_LEAD`] zero bytes, then the rows packed.
pub(crate) fn pack_history(picture: &Picture) -> Vec<u8> {
    let mut out = Vec::with_capacity(HISTORY_LEAD + picture.size.pixels() * PACKED + 1);
    out.resize(HISTORY_LEAD, 0);
    (0..usize::from(picture.size.h)).for_each(|y| pack_row(picture.row(y), &mut out));
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_borrowed_picture_must_hold_every_row() {
        let size = Size { w: 3, h: 2 };
        assert!(PictureRef::new(size, 16, &[0; 28]).is_some(), "the last row needs no padding");
        assert!(PictureRef::new(size, 16, &[0; 27]).is_none());
        assert!(PictureRef::new(size, 11, &[0; 99]).is_none(), "rows longer than the stride");
        assert!(PictureRef::new(size, usize::MAX, &[0; 99]).is_none());
    }

    #[test]
    fn clipping_never_leaves_the_picture() {
        let size = Size { w: 10, h: 10 };
        let clip = |x, y, w, h| Rect { x, y, w, h }.clipped(size);
        assert_eq!(clip(8, 9, 9, 9), Rect { x: 8, y: 9, w: 2, h: 1 });
        assert_eq!(clip(u16::MAX, 0, u16::MAX, 1).w, 0);
        assert!(!size.holds(Rect { x: 0, y: 0, w: 0, h: 1 }), "an empty rectangle is none");
        assert!(!size.holds(Rect { x: u16::MAX, y: 0, w: u16::MAX, h: 1 }), "no wrapping around");
    }

    proptest! {
        #[test]
        fn copies_read_the_picture_as_it_was(
            copies in prop::collection::vec((0u16..9, 0u16..9, 0u16..9, 0u16..9, 1u16..8, 1u16..8), 1..4),
        ) {
            let size = Size { w: 16, h: 16 };
            let copies: Vec<Copy> = copies
                .into_iter()
                .map(|(from_x, from_y, x, y, w, h)| Copy { from: (from_x, from_y), to: Rect { x, y, w, h } })
                .collect();
            let mut picture = Picture::black(size);
            (0..).zip(picture.bytes_mut()).for_each(|(i, byte): (usize, _)| *byte = (i / PIXEL) as u8);
            let before = picture.clone();
            picture.copy(&copies, &mut Vec::new());
            let mut expected = before.clone();
            for copy in &copies {
                for (from, to) in copy.source().rows().zip(copy.to.rows()) {
                    let row = before.row(from)[copy.source().span(PIXEL)].to_vec();
                    expected.row_mut(to, copy.to).copy_from_slice(&row);
                }
            }
            prop_assert_eq!(picture, expected);
        }
    }

    #[test]
    fn history_is_eight_zeros_and_the_colours() {
        let mut picture = Picture::black(Size { w: 2, h: 1 });
        picture.bytes_mut().copy_from_slice(&[1, 2, 3, 99, 4, 5, 6, 99]);
        assert_eq!(pack_history(&picture), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    }
}
