//! Fewer colours than there are, for very slow lines: pictures are reduced before anything else looks at them, so that all that
//! follows is exact.

use crate::picture::{PIXEL, Picture, PictureRef, Rect, Size};

/// Which colours are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colours {
    /// As they are.
    #[default]
    All,
    /// 256: eight reds and greens, four blues.
    Eight,
    /// Sixteen greys.
    Grey,
}

impl Colours {
    /// What becomes of a pixel of blue, green, red. What was reduced before stays as it is.
    pub fn reduced(self, [b, g, r]: [u8; 3]) -> [u8; 3] {
        match self {
            Self::All => [b, g, r],
            Self::Eight => {
                // The bits that are left stand at the lower end too, so that white stays white.
                let three = |value: u8| value & 0xe0 | value >> 5 << 2 | value >> 6;
                [(b >> 6) * 85, three(g), three(r)]
            }
            Self::Grey => {
                // BT.709.
                let luma = (u32::from(b) * 19 + u32::from(g) * 183 + u32::from(r) * 54) >> 8;
                [((luma * 15 + 127) / 255 * 17) as u8; 3]
            }
        }
    }
}

/// The newest picture in the colours that are sent.
#[derive(Clone, Debug)]
pub(super) struct Reduced {
    colours: Colours,
    picture: Picture,
}

impl Reduced {
    /// `None` if all colours are sent.
    pub(super) fn new(colours: Colours, size: Size) -> Option<Self> {
        (colours != Colours::All).then(|| Self { colours, picture: Picture::black(size) })
    }

    /// Takes over these parts of a picture.
    pub(super) fn take(
        &mut self,
        picture: PictureRef<'_>,
        parts: impl Iterator<Item = Rect>,
    ) -> PictureRef<'_> {
        let colours = self.colours;
        for rect in parts {
            for y in rect.rows() {
                let (from, _) = picture.row(y)[rect.span(PIXEL)].as_chunks::<PIXEL>();
                let (to, _) = self.picture.row_mut(y, rect).as_chunks_mut::<PIXEL>();
                for (to, &[b, g, r, _]) in to.iter_mut().zip(from) {
                    let [b, g, r] = colours.reduced([b, g, r]);
                    *to = [b, g, r, 255];
                }
            }
        }
        self.picture.borrow()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn black_and_white_stay_and_others_are_near() {
        for colours in [Colours::All, Colours::Eight, Colours::Grey] {
            assert_eq!(colours.reduced([0; 3]), [0; 3]);
            assert_eq!(colours.reduced([255; 3]), [255; 3]);
        }
        assert_eq!(Colours::Grey.reduced([0, 255, 0]), [187; 3]);
        assert_eq!(Colours::Eight.reduced([200, 100, 50]), [255, 109, 36]);
    }

    proptest! {
        #[test]
        fn what_is_reduced_stays_as_it_is(pixel: [u8; 3]) {
            for colours in [Colours::Eight, Colours::Grey] {
                let reduced = colours.reduced(pixel);
                prop_assert_eq!(colours.reduced(reduced), reduced);
            }
        }
    }
}
