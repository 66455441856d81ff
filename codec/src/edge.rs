//! The median-edge filter (LOCO-I, modulo 256) for boxes that look like photographs, and the test that tells them.
//!
//! A box is stored as three planes: green, blue less green, red less green. Each byte is the difference to what its
//! neighbours predict: those in the box, and the row above it as the shadow has it, or zeros.

use crate::picture::{PACKED, PIXEL, PictureRef, Rect};

/// Photographs and drawings are told apart per so many columns.
const UNIT: u16 = 128;

/// What the three neighbours predict: left `a`, above `b`, above left `c`.
fn predict(a: u8, b: u8, c: u8) -> u8 {
    let (low, high) = (a.min(b), a.max(b));
    // The median of a, b and a + b - c, without leaving eight bits.
    if c >= high {
        low
    } else if c <= low {
        high
    } else {
        a.wrapping_add(b).wrapping_sub(c)
    }
}

/// Appends what the predictor begins with to `out`: a row of each plane, of the pixels above the box, or zeros.
pub(crate) fn put_above(above: Option<&[u8]>, w: usize, blue_first: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + w * PACKED, 0);
    let Some(above) = above else { return };
    let (green, rest) = out[start..].split_at_mut(w);
    let (blue, red) = rest.split_at_mut(w);
    for (i, &[first, g, third, _]) in above.as_chunks::<PIXEL>().0.iter().enumerate() {
        let (b, r) = if blue_first { (first, third) } else { (third, first) };
        (green[i], blue[i], red[i]) = (g, b.wrapping_sub(g), r.wrapping_sub(g));
    }
}

/// Whether a row is better predicted from the one above it than from nothing: the sum of its green residuals is smaller.
pub(crate) fn goes_on(row: &[u8], above: &[u8]) -> bool {
    let (row, _) = row.as_chunks::<PIXEL>();
    let (above, _) = above.as_chunks::<PIXEL>();
    let cost = |value: u8, predicted: u8| u32::from((value.wrapping_sub(predicted) as i8).unsigned_abs());
    let (mut with, mut without) = (0, 0);
    for (now, then) in row.windows(2).zip(above.windows(2)) {
        with += cost(now[1][1], predict(now[0][1], then[1][1], then[0][1]));
        without += cost(now[1][1], now[0][1]);
    }
    with < without
}

/// Appends the residuals of `rect` to `out`, predicted on from the row of pixels `above` it, if there is one. `spare` is for rows.
pub(crate) fn filter(
    picture: PictureRef<'_>,
    rect: Rect,
    above: Option<&[u8]>,
    out: &mut Vec<u8>,
    spare: &mut Vec<u8>,
) {
    let (w, h) = (usize::from(rect.w), usize::from(rect.h));
    let start = out.len();
    out.resize(start + w * h * PACKED, 0);
    let (green, rest) = out[start..].split_at_mut(w * h);
    let (blue, red) = rest.split_at_mut(w * h);
    for (i, y) in rect.rows().enumerate() {
        let (pixels, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
        let row = i * w..(i + 1) * w;
        let planes = green[row.clone()].iter_mut().zip(&mut blue[row.clone()]).zip(&mut red[row]);
        for ((([b, g, r, _], to_g), to_b), to_r) in
            pixels.iter().zip(planes).map(|(p, ((g, b), r))| (((p, g), b), r))
        {
            (*to_g, *to_b, *to_r) = (*g, b.wrapping_sub(*g), r.wrapping_sub(*g));
        }
    }
    spare.clear();
    spare.resize(w, 0);
    put_above(above, w, true, spare);
    let (original, above) = spare.split_at_mut(w);
    for (plane, above) in [green, blue, red].into_iter().zip(above.chunks_exact(w)) {
        filter_plane(plane, above, original);
    }
}

/// In place, from the last row up: a row's residuals need only the rows above it as they were. `first` stands above the first,
/// `original` takes a row.
fn filter_plane(plane: &mut [u8], first: &[u8], original: &mut [u8]) {
    let w = first.len();
    for y in (0..plane.len() / w).rev() {
        let (above, row) = plane.split_at_mut(y * w);
        let row = &mut row[..w];
        original.copy_from_slice(row);
        let above = y.checked_sub(1).map_or(first, |y| &above[y * w..]);
        row[0] = original[0].wrapping_sub(above[0]);
        let neighbours = original.iter().zip(above.windows(2)).zip(&original[1..]);
        for (out, ((&a, pair), &value)) in row[1..].iter_mut().zip(neighbours) {
            *out = value.wrapping_sub(predict(a, pair[1], pair[0]));
        }
    }
}

/// Undoes [`filter`] on the three planes of a box `w` columns wide, in place: they then hold green, blue less green and
/// red less green. `first` is what [`put_above`] makes.
pub(crate) fn unfilter(planes: &mut [u8], w: usize, first: &[u8]) {
    let len = planes.len() / PACKED;
    for (plane, first) in planes.chunks_exact_mut(len).zip(first.chunks_exact(w)) {
        for y in 0..len / w {
            let (above, row) = plane.split_at_mut(y * w);
            let above = y.checked_sub(1).map_or(first, |y| &above[y * w..]);
            let row = &mut row[..w];
            row[0] = row[0].wrapping_add(above[0]);
            let (mut a, mut c) = (row[0], above[0]);
            for (value, &b) in row[1..].iter_mut().zip(&above[1..]) {
                a = value.wrapping_add(predict(a, b, c));
                c = b;
                *value = a;
            }
        }
    }
}

/// How often each residual occurs.
pub(crate) struct Counts([u32; 256]);

impl Counts {
    pub(crate) const NONE: Self = Self([0; 256]);

    /// Counts those of every `every`th row of a box, as if the row above it were the picture's.
    pub(crate) fn add(&mut self, picture: PictureRef<'_>, rect: Rect, every: usize) {
        let planes = |&[b, g, r, _]: &[u8; PIXEL]| [g, b.wrapping_sub(g), r.wrapping_sub(g)];
        for y in rect.rows().step_by(every) {
            let (row, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
            let (above, _) = picture.row(y.saturating_sub(1))[rect.span(PIXEL)].as_chunks::<PIXEL>();
            for (now, then) in row.windows(2).zip(above.windows(2)) {
                let [a, value, c, b] = [&now[0], &now[1], &then[0], &then[1]].map(planes);
                for i in 0..PACKED {
                    self.0[usize::from(value[i].wrapping_sub(predict(a[i], b[i], c[i])))] += 1;
                }
            }
        }
    }

    /// Bits of a residual on average, each at least one: such are the codes of zstd's literals.
    pub(crate) fn entropy(&self) -> f32 {
        let all = self.0.iter().sum::<u32>().max(1) as f32;
        let bits = |&count: &u32| count as f32 * (all / count as f32).log2().max(1.0);
        self.0.iter().filter(|&&count| count > 0).map(bits).sum::<f32>() / all
    }
}

/// The parts of a box that are photographs or not, each for itself, from left to right; the last takes what is too narrow to be one.
pub(crate) fn units(rect: Rect) -> impl Iterator<Item = Rect> {
    let end = rect.x + rect.w;
    let mut x = rect.x;
    std::iter::from_fn(move || {
        let w = if end - x < UNIT + UNIT / 2 { end - x } else { UNIT };
        let unit = Rect { x, w, ..rect };
        x += w;
        (w > 0).then_some(unit)
    })
}

/// Whether `rect` looks like a photograph: neighbours mostly differ, and mostly by little. Anti-aliased text differs
/// by much, drawings hardly differ at all.
pub(crate) fn is_photo(picture: PictureRef<'_>, rect: Rect) -> bool {
    let (mut pairs, mut differ, mut small) = (0u32, 0u32, 0u32);
    for y in rect.rows().step_by(4) {
        let (pixels, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
        for (left, right) in pixels.iter().zip(&pixels[1..]) {
            let (blue, green) = (left[0].abs_diff(right[0]), left[1].abs_diff(right[1]));
            let unlike = blue | green | left[2].abs_diff(right[2]) != 0;
            differ += u32::from(unlike);
            small += u32::from(unlike & (green <= 12) & (blue <= 16));
        }
        pairs += u32::from(rect.w) - 1;
    }
    // Boxes of a few pixels say nothing about themselves.
    pairs >= 64 && differ * 20 > pairs && small * 20 >= differ * 9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{Picture, Size};

    #[test]
    fn the_predictor_is_the_median_edge_detector() {
        assert_eq!(predict(10, 20, 25), 10, "an edge above");
        assert_eq!(predict(10, 20, 5), 20, "an edge to the left");
        assert_eq!(predict(10, 20, 12), 18, "a plane");
    }

    proptest! {
        #[test]
        fn unfiltering_undoes_the_filter(w in 1u16..40, h in 1u16..12, goes_on: bool, seed in any::<u64>()) {
            let mut picture = Picture::black(Size { w, h: h + 1 });
            let mut state = seed | 1;
            for byte in picture.bytes_mut() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                *byte = (state >> 56) as u8;
            }
            let above = picture.row(0).to_vec();
            let above = goes_on.then_some(&above[..]);
            let (mut planes, mut first) = (Vec::new(), Vec::new());
            filter(picture.borrow(), Rect { x: 0, y: 1, w, h }, above, &mut planes, &mut Vec::new());
            put_above(above, w.into(), true, &mut first);
            unfilter(&mut planes, w.into(), &first);
            let area = usize::from(w) * usize::from(h);
            for (i, pixel) in picture.bytes().chunks(PIXEL).skip(w.into()).enumerate() {
                let (green, blue, red) = (planes[i], planes[area + i], planes[2 * area + i]);
                prop_assert_eq!(&pixel[..3], &[blue.wrapping_add(green), green, red.wrapping_add(green)][..]);
            }
        }
    }

    #[test]
    fn a_row_goes_on_from_one_like_it_and_not_from_another() {
        let wave = |x: u16| (x * x % 50) as u8;
        let row = |from: u8| (0..40).flat_map(|x| [0, from + wave(x), 0, 0]).collect::<Vec<u8>>();
        assert!(goes_on(&row(20), &row(22)));
        assert!(!goes_on(&row(20), &[0; 160]), "black tells nothing");
    }
}
