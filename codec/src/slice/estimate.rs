//! How many bytes a box becomes at worst, from a look at some of its rows.
//!
//! Photographs become what their residuals' entropy says, unless they were shown before. Of everything else the pixels that are
//! like their left neighbours cost next to nothing, all others at most what they are.

use crate::edge;
use crate::picture::{COLOUR, PACKED, PIXEL, PictureRef, Rect};

/// Bytes of a strip's header.
pub(super) const STRIP_HEADER: usize = 10;
/// Every so many rows are looked at.
const LOOK_EVERY: usize = 4;
/// Bytes by which zstd misses the entropy of a photograph's residuals: a table of codes, and codes of whole bits.
const TABLE: usize = 60;
const CODES: f32 = 1.03;
/// Where this part of the pixels is unlike the one to the left there may be noise, which is not to be trusted.
const NOISE: f32 = 0.5;

/// Bytes that a box compresses to at worst, if text and drawings become the `trust`th part of their worst case.
pub(super) fn at_worst(picture: PictureRef<'_>, rect: Rect, trust: f32) -> usize {
    let (mut bytes, mut photographed) = (STRIP_HEADER, 0);
    let mut counts = edge::Counts::NONE;
    for unit in edge::units(rect) {
        if edge::is_photo(picture, unit) {
            counts.add(picture, unit, LOOK_EVERY);
            photographed += unit.pixels();
        } else {
            bytes += plain(picture, unit, trust);
        }
    }
    if photographed > 0 {
        let bits = counts.entropy() * (photographed * PACKED) as f32;
        bytes += TABLE + (bits / 8.0 * CODES) as usize;
    }
    bytes
}

fn plain(picture: PictureRef<'_>, rect: Rect, trust: f32) -> usize {
    let plain = rect.pixels() * PACKED;
    let (mut pairs, mut unlike) = (0, 0);
    for y in rect.rows().step_by(LOOK_EVERY) {
        let (pixels, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
        let colour = |pixel: &[u8; PIXEL]| u32::from_le_bytes(*pixel) & COLOUR;
        let differs = |(a, b): (&[u8; PIXEL], &[u8; PIXEL])| u32::from(colour(a) != colour(b));
        unlike += pixels.iter().zip(&pixels[1..]).map(differs).sum::<u32>() as usize;
        pairs += pixels.len() - 1;
    }
    // A little for what is not seen, and all if nothing can be.
    let part = if pairs == 0 { 1.0 } else { (unlike as f32 / pairs as f32 + 1.0 / 32.0).min(1.0) };
    let trust = if part < NOISE { trust } else { 1.0 };
    (plain as f32 * part / trust) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lossless::{Known, Streams, Writer};
    use crate::picture::{Picture, Size};
    use crate::stream::History;
    use crate::wire::SegmentHeader;

    const SIZE: Size = Size { w: 640, h: 32 };

    fn picture(pixel: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let mut picture = Picture::black(SIZE);
        for (i, to) in (0..).zip(picture.bytes_mut().chunks_mut(PIXEL)) {
            to[..PACKED].copy_from_slice(&pixel(i % 640, i / 640));
        }
        picture
    }

    fn noise(x: u32, y: u32) -> u32 {
        let mut state = x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77);
        state ^= state >> 15;
        state = state.wrapping_mul(0x2c1b_3c6d);
        state ^ state >> 12
    }

    fn found(picture: &Picture) -> usize {
        let header = SegmentHeader {
            version: 3,
            size: SIZE,
            layout_generation: 0,
            plain_window_log: 20,
            edge_window_log: 0,
        };
        let mut streams = Streams::new(&header, 7, History::default()).expect("memory");
        let mut writer = Writer::new(&mut streams, false);
        writer.boxes(picture.borrow(), &[SIZE.rect()], &mut Known::All).expect("memory");
        writer.flush().expect("memory")
    }

    #[test]
    fn photographs_are_told_to_a_tenth() {
        for grain in [6, 10, 18] {
            let photo = picture(|x, y| {
                let smooth = (100.0 + 60.0 * (x as f32 / 70.0).sin() + y as f32) as u32;
                [0, 8, 16].map(|shift| (smooth + (noise(x, y) >> shift) % grain) as u8)
            });
            let (is, told) = (found(&photo) as f32, at_worst(photo.borrow(), SIZE.rect(), 1.0) as f32);
            assert!((0.9..1.15).contains(&(told / is)), "grain {grain}: {told} of {is}");
        }
    }

    #[test]
    fn noise_is_taken_for_what_it_is_and_flat_boxes_for_little() {
        let noise = picture(|x, y| [0, 8, 16].map(|shift| (noise(x, y) >> shift) as u8));
        let all = SIZE.pixels() * PACKED;
        assert!(at_worst(noise.borrow(), SIZE.rect(), 9.0) >= all);
        assert!(at_worst(Picture::black(SIZE).borrow(), SIZE.rect(), 1.0) < all / 25);
        let column = Rect { w: 1, h: 8, ..SIZE.rect() };
        assert_eq!(at_worst(noise.borrow(), column, 1.0), 24 + STRIP_HEADER);
    }
}
