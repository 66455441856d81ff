//! The median-edge filter (LOCO-I, modulo 256) for boxes that look like photographs, and the test that tells them.
//!
//! A box is stored as three planes: green, blue less green, red less green. Each byte is the difference to what its
//! neighbours in the box predict; the predictor begins anew with each box and plane.

use crate::picture::{PACKED, PIXEL, PictureRef, Rect};

/// Photographs and drawings are told apart per so many columns.
pub(crate) const UNIT: u16 = 128;

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

/// Appends the residuals of `rect` to `out`. `spare` is for a row.
pub(crate) fn filter(picture: PictureRef<'_>, rect: Rect, out: &mut Vec<u8>, spare: &mut Vec<u8>) {
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
    [green, blue, red].into_iter().for_each(|plane| filter_plane(plane, w, spare));
}

/// In place, from the last row up: a row's residuals need only the rows above it as they were.
fn filter_plane(plane: &mut [u8], w: usize, original: &mut Vec<u8>) {
    original.resize(w, 0);
    for y in (0..plane.len() / w).rev() {
        let (above, row) = plane.split_at_mut(y * w);
        let row = &mut row[..w];
        original.copy_from_slice(row);
        match y.checked_sub(1) {
            None => (1..w).for_each(|x| row[x] = original[x].wrapping_sub(original[x - 1])),
            Some(y) => {
                let above = &above[y * w..];
                row[0] = original[0].wrapping_sub(above[0]);
                let neighbours = original.iter().zip(above.windows(2)).zip(&original[1..]);
                for (out, ((&a, pair), &value)) in row[1..].iter_mut().zip(neighbours) {
                    *out = value.wrapping_sub(predict(a, pair[1], pair[0]));
                }
            }
        }
    }
}

/// Undoes [`filter`] on the three planes of a box `w` columns wide, in place: they then hold green, blue less green and
/// red less green.
pub(crate) fn unfilter(planes: &mut [u8], w: usize) {
    let len = planes.len() / PACKED;
    for plane in planes.chunks_exact_mut(len) {
        (1..w).for_each(|x| plane[x] = plane[x].wrapping_add(plane[x - 1]));
        for y in 1..len / w {
            let (above, row) = plane.split_at_mut(y * w);
            let (above, row) = (&above[(y - 1) * w..], &mut row[..w]);
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
        fn unfiltering_undoes_the_filter(w in 1u16..40, h in 1u16..12, seed in any::<u64>()) {
            let mut picture = Picture::black(Size { w, h });
            let mut state = seed | 1;
            for byte in picture.bytes_mut() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                *byte = (state >> 56) as u8;
            }
            let mut planes = Vec::new();
            filter(picture.borrow(), picture.size().rect(), &mut planes, &mut Vec::new());
            unfilter(&mut planes, usize::from(w));
            let area = picture.size().pixels();
            for (i, pixel) in picture.bytes().chunks(4).enumerate() {
                let (green, blue, red) = (planes[i], planes[area + i], planes[2 * area + i]);
                prop_assert_eq!(&pixel[..3], &[blue.wrapping_add(green), green, red.wrapping_add(green)][..]);
            }
        }
    }
}
