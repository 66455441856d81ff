//! Pointers as Windows keeps them: two bit masks, or colours with a mask, made into premultiplied pixels.
//!
//! A pixel may also *invert* what is below it, which no picture can. Text cursors are made of such pixels, so they are drawn
//! black with a white rim and can be seen on any ground.

/// What one pixel of a pointer does to the screen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ink {
    Nothing,
    Invert,
    /// Premultiplied B, G, R, A.
    Paint([u8; 4]),
}

const BLACK: [u8; 4] = [0, 0, 0, 255];
const WHITE: [u8; 4] = [255; 4];

/// A pointer without colours: `masks` holds the AND mask's rows and then the XOR mask's, B, G, R, unused, each white or black.
/// Answers pixels of `width` × half of `masks`' rows.
pub(crate) fn monochrome(masks: &[u8], width: usize) -> Vec<u8> {
    let (and, xor) = masks.split_at(masks.len() / 2);
    let inks = pixels(and).zip(pixels(xor)).map(|(and, xor)| match (is_set(and), is_set(xor)) {
        (false, false) => Ink::Paint(BLACK),
        (false, true) => Ink::Paint(WHITE),
        (true, false) => Ink::Nothing,
        (true, true) => Ink::Invert,
    });
    drawn(&inks.collect::<Vec<_>>(), width)
}

/// A pointer with colours, B, G, R, A. Where no pixel has an alpha, `mask` (as above, the AND mask alone) says what is seen.
pub(crate) fn coloured(colours: &[u8], mask: &[u8], width: usize) -> Vec<u8> {
    if pixels(colours).any(|[_, _, _, alpha]| *alpha != 0) {
        let premultiply = |&[b, g, r, a]: &[u8; 4]| {
            let by = |part: u8| ((u32::from(part) * u32::from(a) + 127) / 255) as u8;
            [by(b), by(g), by(r), a]
        };
        return pixels(colours).flat_map(premultiply).collect();
    }
    let mask = pixels(mask).map(Some).chain(std::iter::repeat(None));
    let inks =
        pixels(colours).zip(mask).map(|(colour, mask)| match (mask.is_some_and(is_set), is_set(colour)) {
            (true, false) => Ink::Nothing,
            (true, true) => Ink::Invert,
            (false, _) => Ink::Paint([colour[0], colour[1], colour[2], 255]),
        });
    drawn(&inks.collect::<Vec<_>>(), width)
}

fn pixels(bytes: &[u8]) -> impl Iterator<Item = &[u8; 4]> {
    bytes.as_chunks::<4>().0.iter()
}

fn is_set(pixel: &[u8; 4]) -> bool {
    pixel[..3] != [0; 3]
}

fn drawn(inks: &[Ink], width: usize) -> Vec<u8> {
    let beside_inverting = |at: usize| {
        let (x, y) = ((at % width) as isize, (at / width) as isize);
        let inverts = |dx: isize, dy: isize| {
            let (x, y) = (x + dx, y + dy);
            let inside = x >= 0 && y >= 0 && (x as usize) < width;
            inside && inks.get(y as usize * width + x as usize) == Some(&Ink::Invert)
        };
        (-1..=1).any(|dy| (-1..=1).any(|dx| inverts(dx, dy)))
    };
    let pixel = |(at, ink): (usize, &Ink)| match ink {
        Ink::Paint(pixel) => *pixel,
        Ink::Invert => BLACK,
        Ink::Nothing if beside_inverting(at) => WHITE,
        Ink::Nothing => [0; 4],
    };
    inks.iter().enumerate().flat_map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAR: [u8; 4] = [0; 4];

    fn bits(rows: &str) -> Vec<u8> {
        let pixel = |bit| if bit == '1' { [255, 255, 255, 0] } else { [0; 4] };
        rows.chars().filter(|bit| !bit.is_whitespace()).flat_map(pixel).collect()
    }

    #[test]
    fn masks_paint_black_and_white_and_leave_the_rest() {
        assert_eq!(monochrome(&bits("001 010"), 3), [BLACK, WHITE, CLEAR].concat());
    }

    #[test]
    fn what_inverts_is_black_with_a_white_rim() {
        let drawn = monochrome(&bits("11111 11111 11111  00000 00100 00000"), 5);
        let row = |of: [[u8; 4]; 5]| of.concat();
        let rim = row([CLEAR, WHITE, WHITE, WHITE, CLEAR]);
        assert_eq!(drawn, [rim.clone(), row([CLEAR, WHITE, BLACK, WHITE, CLEAR]), rim].concat());
    }

    #[test]
    fn colours_are_premultiplied_or_masked() {
        assert_eq!(coloured(&[200, 100, 50, 128, 9, 9, 9, 0], &[], 2), [100, 50, 25, 128, 0, 0, 0, 0]);
        assert_eq!(coloured(&[1, 2, 3, 0, 0, 0, 0, 0], &bits("01"), 2), [1, 2, 3, 255, 0, 0, 0, 0]);
        assert_eq!(coloured(&[1, 2, 3, 0], &[], 1), [1, 2, 3, 255], "without a mask all is seen");
    }
}
