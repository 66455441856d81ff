//! The pointer's picture.

use std::fmt;

use tandem_protocol::limits::CURSOR_SIDE_MAX;

/// The pointer's picture, at most 256 × 256 pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct CursorShape {
    /// Of this picture: the same id always shows the same pixels while the program runs, so that a shape that comes again (an
    /// animation's, for instance) need not be sent again.
    pub id: u32,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// The pixel that points, from the left.
    pub hot_x: u16,
    /// The pixel that points, from the top.
    pub hot_y: u16,
    /// Premultiplied B, G, R, A; rows from the top without gaps.
    pub pixels: Vec<u8>,
}

impl fmt::Debug for CursorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CursorShape({} {}×{} at {},{})", self.id, self.width, self.height, self.hot_x, self.hot_y)
    }
}

impl CursorShape {
    /// A shape from the platform's premultiplied pixels, halved until it fits the limit.
    ///
    /// `None` when the pixels aren't `width` × `height` × 4 bytes.
    pub(crate) fn new(id: u32, size: (u16, u16), hot: (u16, u16), pixels: Vec<u8>) -> Option<Self> {
        if pixels.len() != usize::from(size.0) * usize::from(size.1) * 4 {
            return None;
        }
        let mut shape = Self { id, width: size.0, height: size.1, hot_x: hot.0, hot_y: hot.1, pixels };
        while u32::from(shape.width.max(shape.height)) > CURSOR_SIDE_MAX {
            shape = shape.halved();
        }
        shape.hot_x = shape.hot_x.min(shape.width.saturating_sub(1));
        shape.hot_y = shape.hot_y.min(shape.height.saturating_sub(1));
        Some(shape)
    }

    /// Half the size: each pixel is the mean of up to four, which premultiplied pixels allow without further ado.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(height) * 4);
        for y in 0..height {
            for x in 0..width {
                let columns = x * 2..(x * 2 + 2).min(self.width);
                let rows = y * 2..(y * 2 + 2).min(self.height);
                let count = (columns.len() * rows.len()) as u32;
                let mut sums = [0u32; 4];
                for row in rows {
                    for column in columns.clone() {
                        let at = (usize::from(row) * usize::from(self.width) + usize::from(column)) * 4;
                        for (sum, byte) in sums.iter_mut().zip(&self.pixels[at..at + 4]) {
                            *sum += u32::from(*byte);
                        }
                    }
                }
                pixels.extend(sums.map(|sum| (sum / count) as u8));
            }
        }
        Self { id: self.id, width, height, hot_x: self.hot_x / 2, hot_y: self.hot_y / 2, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_is_too_large_is_halved_with_its_hot_spot() {
        let (width, height) = (300u16, 5u16);
        let pixels: Vec<u8> =
            (0..width * height).flat_map(|n| if n % 2 == 0 { [200; 4] } else { [100; 4] }).collect();
        let shape = CursorShape::new(7, (width, height), (40, 4), pixels).unwrap();
        assert_eq!((shape.id, shape.width, shape.height, shape.hot_x, shape.hot_y), (7, 150, 3, 20, 2));
        assert_eq!(shape.pixels.len(), 150 * 3 * 4);
        assert!(shape.pixels.iter().all(|byte| *byte == 150));
    }

    #[test]
    fn a_shape_of_the_wrong_length_is_none() {
        assert_eq!(CursorShape::new(1, (2, 2), (0, 0), vec![0; 15]), None);
    }

    #[test]
    fn a_hot_spot_outside_is_moved_to_the_edge() {
        let shape = CursorShape::new(1, (2, 2), (9, 9), vec![0; 16]).unwrap();
        assert_eq!((shape.hot_x, shape.hot_y), (1, 1));
    }
}
