//! The test pattern's pixels.
//!
//! On a page of lines like text, cells with the number of the picture wander; typed keys fill a grid of blocks and a
//! caret blinks behind them. The number of the picture and the number of presses also stand in the upper left corner as
//! bars that a program can read back from decoded pixels ([`read_frame`], [`read_presses`]), to measure ages.

use std::time::Duration;

use crate::held::Holdable;
use crate::layout::{Damage, Rect};

/// What a test pattern shows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Width and height in pixels, at least 320 × 120.
    pub size: (u16, u16),
    /// Pictures a second in which the cells move; 0 lets them rest.
    pub frames_per_second: u16,
    /// How many cells move.
    pub cells: u16,
    /// Whether the caret blinks, twice a second.
    pub blink: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: (1280, 720), frames_per_second: 30, cells: 6, blink: true }
    }
}

/// Something that was done to a test pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key or button went down, once more down, or up.
    Hold {
        /// Which.
        what: Holdable,
        /// Down or up.
        down: bool,
    },
    /// The pointer moved here.
    Motion {
        /// From the left.
        x: i32,
        /// From the top.
        y: i32,
    },
    /// Text was typed.
    Text(String),
    /// The wheels turned, in notches.
    Wheel {
        /// To the right.
        x: i32,
        /// Down.
        y: i32,
    },
}

/// The pattern as pixels: B, G, R, unused; rows without gaps.
#[derive(Debug)]
pub struct Picture {
    options: Options,
    pixels: Vec<u8>,
    frame: u32,
    blinks: u32,
    presses: u32,
    damage: Damage,
}

const CELL: (u16, u16) = (96, 28);
const BLOCK: u16 = 16;
const BAR: u16 = 4;
const BAR_BITS: u16 = 32;
const BLINK: Duration = Duration::from_millis(500);
const INK: u32 = 0x20_2428;

impl Picture {
    /// The pattern at time 0.
    ///
    /// # Panics
    /// If it is smaller than 320 × 120.
    pub fn new(options: Options) -> Self {
        let (width, height) = options.size;
        assert!(width >= 320 && height >= 120, "a test pattern is at least 320 × 120");
        let pixels = vec![0; usize::from(width) * usize::from(height) * 4];
        let mut picture =
            Self { options, pixels, frame: 0, blinks: 0, presses: 0, damage: Damage::default() };
        picture.restore(Rect::whole((width, height)));
        for cell in 0..picture.options.cells {
            picture.draw_cell(cell);
        }
        picture.draw_bars(0, 0);
        picture.draw_bars(2 * BAR, 0);
        picture
    }

    /// Width and height.
    pub fn size(&self) -> (u16, u16) {
        self.options.size
    }

    /// The pixels now.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// What changed since the last call.
    pub fn take_damage(&mut self) -> Vec<Rect> {
        self.damage.take()
    }

    /// Whether anything changed since.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }

    /// Declares everything changed.
    pub fn invalidate(&mut self) {
        self.damage.add(Rect::whole(self.options.size));
    }

    /// Paints the picture of the time `at`, counted from the pattern's beginning. Time doesn't run backwards.
    pub fn advance(&mut self, at: Duration) {
        let frame = at.as_nanos() * u128::from(self.options.frames_per_second) / 1_000_000_000;
        let frame = u32::try_from(frame).unwrap_or(u32::MAX);
        if frame > self.frame {
            for cell in 0..self.options.cells {
                self.restore(self.cell_at(cell));
            }
            self.frame = frame;
            for cell in 0..self.options.cells {
                self.draw_cell(cell);
            }
            self.draw_bars(0, frame);
        }
        let blinks = u32::try_from(at.as_nanos() / BLINK.as_nanos()).unwrap_or(u32::MAX);
        if self.options.blink && blinks > self.blinks {
            self.blinks = blinks;
            self.draw_caret();
        }
    }

    /// When the picture changes next by itself, counted from the pattern's beginning.
    pub fn next_change(&self) -> Option<Duration> {
        let rate = u64::from(self.options.frames_per_second);
        // Rounded up, so that the picture has changed once this time has come.
        let frame = (rate > 0)
            .then(|| Duration::from_nanos(((u64::from(self.frame) + 1) * 1_000_000_000).div_ceil(rate)));
        let blink = self.options.blink.then(|| BLINK * (self.blinks + 1));
        [frame, blink].into_iter().flatten().min()
    }

    /// Shows what was done: each press and each character is another block.
    pub fn input(&mut self, input: &Input) {
        match input {
            Input::Hold { what: Holdable::Key(usage), down: true } => self.press(*usage),
            Input::Text(text) => text.chars().for_each(|character| self.press(character as u32)),
            Input::Hold { .. } | Input::Motion { .. } | Input::Wheel { .. } => {}
        }
    }

    fn press(&mut self, key: u32) {
        let block = self.block(self.presses);
        self.presses = self.presses.wrapping_add(1);
        let colour = (key.wrapping_mul(0x9e37_79b9) ^ self.presses.wrapping_mul(0x85eb_ca6b)) & 0xff_ffff;
        self.fill(block, colour);
        self.draw_bars(2 * BAR, self.presses);
        self.draw_caret();
    }

    /// The grid of blocks fills the lower third, over and over.
    fn block(&self, number: u32) -> Rect {
        let (width, height) = self.options.size;
        let (columns, rows) = (u32::from(width / BLOCK), u32::from(height / 3 / BLOCK).max(1));
        let at = number % (columns * rows);
        let (column, row) = ((at % columns) as u16, (at / columns) as u16);
        Rect { x: column * BLOCK, y: height - height / 3 + row * BLOCK, width: BLOCK, height: BLOCK }
    }

    fn draw_caret(&mut self) {
        let block = self.block(self.presses);
        let colour = if self.blinks.is_multiple_of(2) { INK } else { 0xff_ffff };
        self.fill(Rect { width: 2, ..block }, colour);
    }

    fn cell_at(&self, cell: u16) -> Rect {
        let (width, height) = self.options.size;
        let room = (u32::from(width) - u32::from(CELL.0)).max(1);
        // Each has its own pace and a lane of its own, as far as there are lanes.
        let x =
            (u32::from(cell) * 137).wrapping_add(self.frame.wrapping_mul(3 + u32::from(cell % 5) * 2)) % room;
        let lanes = ((height - height / 3 - 24) / (CELL.1 + 8)).max(1);
        Rect { x: x as u16, y: 20 + (cell % lanes) * (CELL.1 + 8), width: CELL.0, height: CELL.1 }
    }

    fn draw_cell(&mut self, cell: u16) {
        let rect = self.cell_at(cell);
        self.fill(rect, 0x30_60a0 + u32::from(cell % 4) * 0x20_1008);
        let mut number = self.frame % 100_000;
        for place in (0..5).rev() {
            self.draw_digit(rect.x + 8 + place * 16, rect.y + 4, (number % 10) as usize);
            number /= 10;
        }
    }

    fn draw_digit(&mut self, x: u16, y: u16, digit: usize) {
        // Three columns and five rows, the upper left in the highest bit.
        const DIGITS: [u16; 10] = [
            0b111_101_101_101_111,
            0b010_110_010_010_111,
            0b111_001_111_100_111,
            0b111_001_111_001_111,
            0b101_101_111_001_001,
            0b111_100_111_001_111,
            0b111_100_111_101_111,
            0b111_001_010_010_010,
            0b111_101_111_101_111,
            0b111_101_111_001_111,
        ];
        for bit in (0..15u16).filter(|bit| DIGITS[digit] >> (14 - bit) & 1 == 1) {
            self.paint(Rect { x: x + bit % 3 * 4, y: y + bit / 3 * 4, width: 4, height: 4 }, |_, _| {
                0xff_ffff
            });
        }
    }

    /// A number as a row of dark and light bars, and below it the same inverted, as a check.
    fn draw_bars(&mut self, y: u16, number: u32) {
        self.paint(Rect { x: 0, y, width: BAR * BAR_BITS, height: 2 * BAR }, |x, row| {
            let bit = number >> (x / BAR) & 1 == 1;
            if bit == (row - y < BAR) { 0xff_ffff } else { 0 }
        });
        self.damage.add(Rect { x: 0, y, width: BAR * BAR_BITS, height: 2 * BAR });
    }

    fn restore(&mut self, rect: Rect) {
        self.paint(rect, background);
        self.damage.add(rect);
    }

    fn fill(&mut self, rect: Rect, colour: u32) {
        self.paint(rect, |_, _| colour);
        self.damage.add(rect);
    }

    fn paint(&mut self, rect: Rect, colour: impl Fn(u16, u16) -> u32) {
        let stride = usize::from(self.options.size.0) * 4;
        for y in rect.y..rect.y + rect.height {
            let start = usize::from(y) * stride + usize::from(rect.x) * 4;
            let row = &mut self.pixels[start..start + usize::from(rect.width) * 4];
            for (x, pixel) in (rect.x..).zip(row.as_chunks_mut::<4>().0) {
                *pixel = (colour(x, y) | 0xff00_0000).to_le_bytes();
            }
        }
    }
}

/// A light page with grey lines of words.
fn background(x: u16, y: u16) -> u32 {
    let word = (u32::from(x / 12) ^ (u32::from(y / 16) << 4)).wrapping_mul(0x9e37_79b9) >> 28;
    if y % 16 >= 6 && y % 16 < 12 && word > 4 && x % 12 < 10 { 0xb8_bcc0 } else { 0xf4_f5f7 }
}

/// The number of the picture, from its pixels (B, G, R, any); `None` if they don't show one.
pub fn read_frame(pixels: &[u8], stride: usize) -> Option<u32> {
    read_bars(pixels, stride, 0)
}

/// How many keys and characters were typed, from the picture's pixels.
pub fn read_presses(pixels: &[u8], stride: usize) -> Option<u32> {
    read_bars(pixels, stride, 2 * BAR)
}

fn read_bars(pixels: &[u8], stride: usize, y: u16) -> Option<u32> {
    let light = |bit: u16, row: u16| {
        let at = usize::from(row) * stride + usize::from(bit * BAR + BAR / 2) * 4;
        pixels.get(at + 1).map(|green| *green >= 128)
    };
    (0..BAR_BITS).try_fold(0, |number, bit| {
        let (value, inverse) = (light(bit, y + BAR / 2)?, light(bit, y + BAR + BAR / 2)?);
        (value != inverse).then_some(number | u32::from(value) << bit)
    })
}
