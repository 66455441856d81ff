//! Pixels to paint on: boxes with round corners, and text as coverage.

/// A colour, `0xRRGGBB`.
pub(super) type Colour = u32;

/// Whole pixels: left, top, width, height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: i32,
    pub(super) height: i32,
}

impl Rect {
    pub(super) fn contains(self, (x, y): (i32, i32)) -> bool {
        (self.x..self.x + self.width).contains(&x) && (self.y..self.y + self.height).contains(&y)
    }

    /// Of the same size, but moved into another one, whose left and top edge it keeps to if it is larger.
    pub(super) fn inside(self, other: Self) -> Self {
        let x = self.x.clamp(other.x, (other.x + other.width - self.width).max(other.x));
        let y = self.y.clamp(other.y, (other.y + other.height - self.height).max(other.y));
        Self { x, y, ..self }
    }

    /// Larger by `by` on every side.
    pub(super) fn grown(self, by: i32) -> Self {
        Self { x: self.x - by, y: self.y - by, width: self.width + 2 * by, height: self.height + 2 * by }
    }
}

/// Something drawn in one colour, such as a text: for each pixel how much of it is covered.
#[derive(Clone, Debug, Default)]
pub(super) struct Stencil {
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) coverage: Vec<u8>,
}

impl Stencil {
    pub(super) fn empty(width: i32, height: i32) -> Self {
        Self { width, height, coverage: vec![0; (width * height) as usize] }
    }

    /// Covers a pixel at least so much; outside nothing happens.
    #[cfg_attr(windows, expect(dead_code, reason = "Windows draws all of it itself"))]
    pub(super) fn cover(&mut self, x: i32, y: i32, coverage: u8) {
        if (0..self.width).contains(&x) && (0..self.height).contains(&y) {
            let pixel = &mut self.coverage[(y * self.width + x) as usize];
            *pixel = (*pixel).max(coverage);
        }
    }
}

/// The picture of a window, B, G, R, unused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Canvas {
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new((width, height): (i32, i32), background: Colour) -> Self {
        let pixels = background.to_le_bytes().repeat((width * height) as usize);
        Self { width, height, pixels }
    }

    fn blend(&mut self, x: i32, y: i32, colour: Colour, coverage: u32) {
        if !(0..self.width).contains(&x) || !(0..self.height).contains(&y) || coverage == 0 {
            return;
        }
        let at = (y * self.width + x) as usize * 4;
        for (byte, new) in self.pixels[at..at + 3].iter_mut().zip(colour.to_le_bytes()) {
            *byte = ((u32::from(*byte) * (255 - coverage) + u32::from(new) * coverage + 127) / 255) as u8;
        }
    }

    /// Fills a box whose corners are rounded by `radius`.
    pub(super) fn fill(&mut self, rect: Rect, radius: i32, colour: Colour) {
        let radius = radius as f32;
        // Distances from the middle of the box to the middles of its corners' circles.
        let (half_x, half_y) = (rect.width as f32 / 2.0, rect.height as f32 / 2.0);
        for y in rect.y..rect.y + rect.height {
            for x in rect.x..rect.x + rect.width {
                let dx = ((x - rect.x) as f32 + 0.5 - half_x).abs() - (half_x - radius);
                let dy = ((y - rect.y) as f32 + 0.5 - half_y).abs() - (half_y - radius);
                let distance = dx.max(0.0).hypot(dy.max(0.0)) - radius;
                let coverage = ((0.5 - distance).clamp(0.0, 1.0) * 255.0) as u32;
                self.blend(x, y, colour, if radius == 0.0 { 255 } else { coverage });
            }
        }
    }

    /// Draws a box's border, `thickness` wide, inside it, around what `inside` colours.
    pub(super) fn frame(&mut self, rect: Rect, radius: i32, thickness: i32, colour: Colour, inside: Colour) {
        self.fill(rect, radius, colour);
        self.fill(rect.grown(-thickness), (radius - thickness).max(0), inside);
    }

    /// Draws a stencil with its upper left corner here.
    pub(super) fn stamp(&mut self, stencil: &Stencil, x: i32, y: i32, colour: Colour) {
        for (index, coverage) in stencil.coverage.iter().enumerate().filter(|(_, coverage)| **coverage > 0) {
            let (dx, dy) = (index as i32 % stencil.width, index as i32 / stencil.width);
            self.blend(x + dx, y + dy, colour, u32::from(*coverage));
        }
    }

    /// Draws a stencil in the middle of a box.
    pub(super) fn stamp_in(&mut self, stencil: &Stencil, rect: Rect, colour: Colour) {
        let (x, y) = (rect.x + (rect.width - stencil.width) / 2, rect.y + (rect.height - stencil.height) / 2);
        self.stamp(stencil, x, y, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_painted_outside() {
        let mut canvas = Canvas::new((4, 4), 0xff_ffff);
        canvas.fill(Rect { x: -10, y: -10, width: 100, height: 100 }, 3, 0x12_3456);
        canvas.stamp(&Stencil { width: 2, height: 1, coverage: vec![255, 128] }, 3, 3, 0);
        assert_eq!(canvas.pixels.len(), 64);
        assert_eq!(&canvas.pixels[60..63], [0, 0, 0]);
        assert_eq!(&canvas.pixels[..3], [0x56, 0x34, 0x12]);
    }

    #[test]
    fn corners_are_round_and_edges_are_straight() {
        let mut canvas = Canvas::new((20, 20), 0);
        canvas.fill(Rect { x: 0, y: 0, width: 20, height: 20 }, 8, 0xff_ffff);
        let green = |x: usize, y: usize| canvas.pixels[(y * 20 + x) * 4 + 1];
        assert_eq!((green(0, 0), green(19, 19)), (0, 0));
        assert_eq!((green(10, 0), green(0, 10), green(10, 10)), (255, 255, 255));
    }
}
