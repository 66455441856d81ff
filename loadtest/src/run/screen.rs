//! What a pretend customer's screen shows: cells, of which every picture of a fixed schedule changes some. They are made up
//! ([`Made`]) or come from a recording ([`Trace`]).
//!
//! Which of the made-up cells, of 64 × 64 pixels, a picture changes and what they then look like are functions of the seed
//! alone, so that whoever watches knows what is to be seen, and when it was. Every row of a cell begins and ends with a pixel
//! that holds the number of the picture that changed it last: what has arrived is read from the decoded pixels, not from what a
//! header claims.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tandem_codec::{PIXEL, Picture, Rect, Size};

use super::trace::{self, Player, Trace};

/// Columns and rows of a cell.
pub(crate) const CELL: u16 = 64;
/// Bytes of a pixel and of a cell as the codec packs them.
pub(crate) const PACKED: u64 = 3;
const CELL_BYTES: u64 = CELL as u64 * CELL as u64 * PACKED;
/// Cells that a picture changes where there is writing.
const WRITTEN: usize = 3;
/// Letters of the writing: columns, rows, and how many different ones there are.
const LETTER: (usize, usize) = (8, 16);
const LETTERS: usize = 48;

/// What the cells look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Content {
    /// Writing: two colours and an alphabet, three cells a picture, anywhere.
    Cells,
    /// Random pixels, which no codec can shorten: as many cells a picture as --picture says, one after the other.
    Noise,
}

/// Which picture is on the screen when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When picture 1 is there.
    pub first: Instant,
    /// Time between pictures.
    pub interval: Duration,
}

impl Schedule {
    /// The newest picture at this time: from 1 on.
    pub(crate) fn newest(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.first);
        u32::try_from(since.as_nanos() / self.interval.as_nanos().max(1) + 1).unwrap_or(u32::MAX)
    }

    /// When a picture was captured.
    pub(crate) fn time(&self, picture: u32) -> Instant {
        self.first + self.interval * picture.saturating_sub(1)
    }
}

/// The pictures, as a function of their number.
#[derive(Debug)]
pub(crate) enum Source {
    Made(Made),
    Recorded(Trace),
}

impl Source {
    /// Made-up pictures of `size`; noise comes in pictures of about `picture_bytes`, at most all of the screen.
    pub(crate) fn new(size: Size, content: Content, picture_bytes: u64, seed: u64) -> Self {
        Self::Made(Made { size, content, picture_bytes, seed })
    }

    /// The pictures' size.
    pub(crate) fn size(&self) -> Size {
        match self {
            Self::Made(made) => made.size,
            Self::Recorded(trace) => trace.size(),
        }
    }

    /// How many cells there are: in a recording they are its pieces.
    pub(crate) fn cells(&self) -> usize {
        match self {
            Self::Made(made) => made.cells(),
            Self::Recorded(trace) => trace.pieces(),
        }
    }

    /// The cells that a picture changes and what they then show: all of them the first, and each at most once.
    pub(crate) fn changed(&self, picture: u32) -> Vec<(usize, u64)> {
        match self {
            Self::Made(made) => {
                made.changed(picture).into_iter().map(|cell| (cell, picture.into())).collect()
            }
            Self::Recorded(trace) => trace.changed(picture),
        }
    }

    /// The cells that a rectangle touches.
    pub(crate) fn touched(&self, rect: Rect) -> Vec<usize> {
        match self {
            Self::Made(made) => made.touched(rect),
            Self::Recorded(trace) => trace::pieces_in(trace.size(), rect).collect(),
        }
    }

    /// What a cell shows before anything has come.
    pub(crate) fn nothing(&self, cell: usize) -> u64 {
        match self {
            Self::Made(_) => 0,
            Self::Recorded(trace) => trace.black(cell),
        }
    }

    /// What a cell of these pixels shows: the picture that changed it, or the hash of its content.
    pub(crate) fn content(&self, pixels: &[u8], cell: usize) -> u64 {
        match self {
            Self::Made(made) => made.shown(pixels, cell).into(),
            Self::Recorded(trace) => trace.content(pixels, cell),
        }
    }

    /// What a cell shows in a picture.
    pub(crate) fn content_at(&self, cell: usize, picture: u32) -> u64 {
        match self {
            Self::Made(_) => picture.into(),
            Self::Recorded(trace) => trace.hash_at(cell, picture),
        }
    }

    /// The first picture after `picture`, up to `newest`, that changes a cell.
    pub(crate) fn changed_after(&self, cell: usize, picture: u32, newest: u32) -> Option<u32> {
        match self {
            Self::Made(made) => (picture + 1..=newest).find(|&picture| made.changes(cell, picture)),
            Self::Recorded(trace) => trace.changed_after(cell, picture, newest),
        }
    }

    /// Whether a cell that shows `shown` is as new as where it shows `content`.
    pub(crate) fn is_as_new(&self, shown: u64, content: u64) -> bool {
        match self {
            Self::Made(_) => shown >= content,
            Self::Recorded(_) => shown == content,
        }
    }

    /// The first picture up to `newest` that a cell of these pixels lacks (`Some(None)`: none). `None` if some of it is that of
    /// no picture. `content` is the cell's.
    pub(crate) fn lacks(&self, pixels: &[u8], cell: usize, content: u64, newest: u32) -> Option<Option<u32>> {
        match self {
            Self::Made(made) => {
                let next = u32::try_from(content).ok()?.saturating_add(1);
                Some((next..=newest).find(|&picture| made.changes(cell, picture)))
            }
            Self::Recorded(trace) => trace.lacks(pixels, cell, content, newest),
        }
    }

    /// Whether these pixels are exactly what is on the screen at a picture.
    pub(crate) fn is_picture(&self, pixels: &[u8], picture: u32) -> bool {
        match self {
            Self::Made(_) => {
                let mut expected = Screen::new(self);
                expected.advance(self, picture);
                expected.picture().bytes() == pixels
            }
            Self::Recorded(trace) => trace.is_picture(pixels, picture),
        }
    }
}

/// Pictures that are made up.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    size: Size,
    content: Content,
    picture_bytes: u64,
    seed: u64,
}

impl Made {
    fn columns(&self) -> usize {
        self.size.w.div_ceil(CELL).into()
    }

    fn cells(&self) -> usize {
        self.columns() * usize::from(self.size.h.div_ceil(CELL))
    }

    /// Where a cell is.
    fn rect(&self, cell: usize) -> Rect {
        let (x, y) = ((cell % self.columns()) as u16 * CELL, (cell / self.columns()) as u16 * CELL);
        Rect { x, y, w: CELL, h: CELL }.clipped(self.size)
    }

    /// The cells that a rectangle touches.
    fn touched(&self, rect: Rect) -> Vec<usize> {
        let rect = rect.clipped(self.size);
        let along = |from: u16, len: u16| usize::from(from / CELL)..usize::from((from + len).div_ceil(CELL));
        let row = |y: usize| along(rect.x, rect.w).map(move |x| y * self.columns() + x);
        along(rect.y, rect.h).flat_map(row).collect()
    }

    /// Whether every picture replaces all of the last one.
    fn changes_all(&self) -> bool {
        self.content == Content::Noise && self.picture_bytes >= self.size.pixels() as u64 * PACKED
    }

    fn changes(&self, cell: usize, picture: u32) -> bool {
        picture <= 1 || self.changes_all() || self.changed(picture).contains(&cell)
    }

    fn changed(&self, picture: u32) -> Vec<usize> {
        let cells = self.cells();
        if picture <= 1 || self.changes_all() {
            return (0..cells).collect();
        }
        match self.content {
            Content::Noise => {
                // Cells in turn, each picture's share begins where the last one's ended.
                let end = |picture: u32| u64::from(picture) * self.picture_bytes / CELL_BYTES;
                let turn = end(picture - 1)..end(picture).max(end(picture - 1) + 1);
                turn.take(cells).map(|at| (at % cells as u64) as usize).collect()
            }
            Content::Cells => {
                let mut rng = self.rng(usize::MAX, picture);
                let mut changed: Vec<usize> = (0..WRITTEN).map(|_| rng.random_range(0..cells)).collect();
                changed.sort_unstable();
                changed.dedup();
                changed
            }
        }
    }

    fn rng(&self, cell: usize, picture: u32) -> StdRng {
        // Odd factors keep the parts apart; the generator's seeding mixes them.
        let mixed = (cell as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(picture).wrapping_mul(0xd1b5_4a32_d192_ed03);
        StdRng::seed_from_u64(self.seed ^ mixed)
    }

    /// Paints a cell as this picture shows it.
    fn paint(&self, screen: &mut Picture, cell: usize, picture: u32) {
        let rect = self.rect(cell);
        let stride = usize::from(self.size.w) * PIXEL;
        let mut rng = self.rng(cell, picture);
        let text = Text::new(self.seed, &mut rng);
        let number = number_pixel(picture);
        for y in 0..usize::from(rect.h) {
            let at = (usize::from(rect.y) + y) * stride + usize::from(rect.x) * PIXEL;
            let row = &mut screen.bytes_mut()[at..at + usize::from(rect.w) * PIXEL];
            match self.content {
                Content::Noise => rng.fill_bytes(row),
                Content::Cells => text.row(y, row),
            }
            let (pixels, _) = row.as_chunks_mut::<PIXEL>();
            pixels.iter_mut().for_each(|pixel| pixel[PIXEL - 1] = u8::MAX);
            if let [first, .., last] = pixels {
                (*first, *last) = (number, number);
            }
        }
    }

    fn advance(&self, screen: &mut Picture, shown: u32, newest: u32) -> Vec<Rect> {
        let mut last = std::collections::BTreeMap::new();
        let first = if self.changes_all() { newest } else { shown + 1 };
        for picture in first..=newest {
            last.extend(self.changed(picture).into_iter().map(|cell| (cell, picture)));
        }
        last.iter().for_each(|(&cell, &picture)| self.paint(screen, cell, picture));
        last.keys().map(|&cell| self.rect(cell)).collect()
    }

    /// The picture of which a cell of `pixels` is: the oldest that any of its rows shows. 0: none yet.
    fn shown(&self, pixels: &[u8], cell: usize) -> u32 {
        let rect = self.rect(cell);
        let stride = usize::from(self.size.w) * PIXEL;
        let number = |x: u16, y: u16| {
            let at = usize::from(y) * stride + usize::from(x) * PIXEL;
            pixels
                .get(at..at + PIXEL)
                .map_or(0, |pixel| u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]))
        };
        let row = |y| number(rect.x, y).min(number(rect.x + rect.w - 1, y));
        (rect.y..rect.y + rect.h).map(row).min().unwrap_or(0)
    }
}

/// A pixel whose colours are a number of 24 bits.
fn number_pixel(number: u32) -> [u8; PIXEL] {
    let [a, b, c, _] = number.to_le_bytes();
    [a, b, c, u8::MAX]
}

/// Writing in a cell.
struct Text {
    paper: [u8; PIXEL],
    ink: [u8; PIXEL],
    letters: [u8; 32],
    seed: u64,
}

impl Text {
    fn new(seed: u64, rng: &mut StdRng) -> Self {
        let paper = rng.random_range(200..=255u8);
        let ink = rng.random_range(0..64u8);
        let letters = std::array::from_fn(|_| rng.random_range(0..LETTERS as u8));
        Self { paper: [paper; PIXEL], ink: [ink; PIXEL], letters, seed }
    }

    fn row(&self, y: usize, row: &mut [u8]) {
        let (pixels, _) = row.as_chunks_mut::<PIXEL>();
        for (x, pixel) in pixels.iter_mut().enumerate() {
            let (line, column) = (y / LETTER.1, x / LETTER.0);
            let letter = self.letters[(line * 8 + column) % self.letters.len()];
            *pixel = if self.is_ink(letter, x % LETTER.0, y % LETTER.1) { self.ink } else { self.paper };
        }
    }

    /// The alphabet, a bit pattern with air around it.
    fn is_ink(&self, letter: u8, x: usize, y: usize) -> bool {
        let air = x == 0 || !(3..=12).contains(&y);
        let stroke = self.seed.wrapping_add(u64::from(letter) * 16 + y as u64 / 2);
        !air && (stroke.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (40 + x)) & 1 == 1
    }
}

/// A customer's screen as it is now.
#[derive(Debug)]
pub(crate) struct Screen {
    picture: Picture,
    newest: u32,
    /// Of a recording.
    player: Option<Player>,
}

impl Screen {
    /// Nothing shown yet.
    pub(crate) fn new(source: &Source) -> Self {
        let player = match source {
            Source::Made(_) => None,
            Source::Recorded(trace) => Some(trace.play()),
        };
        Self { picture: Picture::black(source.size()), newest: 0, player }
    }

    /// The pixels.
    pub(crate) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// The newest picture gone on to.
    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }

    /// Goes on to a picture; answers where something changed. What a skipped picture changed and a later one too is
    /// painted once.
    pub(crate) fn advance(&mut self, source: &Source, newest: u32) -> Vec<Rect> {
        if newest <= self.newest {
            return Vec::new();
        }
        let shown = std::mem::replace(&mut self.newest, newest);
        match (source, &mut self.player) {
            (Source::Recorded(trace), Some(player)) => {
                trace.advance(player, &mut self.picture, shown, newest)
            }
            (Source::Made(made), _) => made.advance(&mut self.picture, shown, newest),
            (Source::Recorded(_), None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { w: 200, h: 100 };

    fn sources() -> [Source; 3] {
        [(Content::Cells, 0), (Content::Noise, 30_000), (Content::Noise, 60_000)]
            .map(|(content, bytes)| Source::new(SIZE, content, bytes, 7))
    }

    fn made(source: &Source) -> &Made {
        let Source::Made(made) = source else { panic!("a recording") };
        made
    }

    #[test]
    fn every_cell_says_which_picture_changed_it_last_whether_pictures_were_skipped_or_not() {
        for source in sources() {
            let (mut each, mut some) = (Screen::new(&source), Screen::new(&source));
            let mut expected = vec![0; source.cells()];
            for picture in 1..=40 {
                source.changed(picture).into_iter().for_each(|(cell, _)| expected[cell] = picture);
                each.advance(&source, picture);
                if picture % 9 == 0 {
                    some.advance(&source, picture);
                    assert_eq!(some.picture(), each.picture());
                }
                let shown = |cell| made(&source).shown(each.picture().bytes(), cell);
                assert_eq!((0..source.cells()).map(shown).collect::<Vec<_>>(), expected);
                assert!(source.is_picture(each.picture().bytes(), picture));
            }
        }
    }

    #[test]
    fn the_first_picture_covers_the_screen_and_cells_never_overlap() {
        for source in sources() {
            assert_eq!(source.changed(1).len(), source.cells());
            let pixels: usize = (0..source.cells()).map(|cell| made(&source).rect(cell).pixels()).sum();
            assert_eq!(pixels, SIZE.pixels());
        }
    }

    #[test]
    fn a_cell_is_as_old_as_its_oldest_row() {
        let [_, source, _] = sources();
        let mut screen = Screen::new(&source);
        screen.advance(&source, 1);
        let mut picture = screen.picture().clone();
        assert_eq!(source.content(picture.bytes(), 0), 1);
        // The last pixel of its last row is of picture 0.
        let at = (63 * usize::from(SIZE.w) + 63) * PIXEL;
        picture.bytes_mut()[at..at + PIXEL].copy_from_slice(&number_pixel(0));
        assert_eq!(source.content(picture.bytes(), 0), 0);
    }

    #[test]
    fn a_rectangle_touches_the_cells_that_it_overlaps() {
        let [source, ..] = sources();
        assert_eq!(source.touched(Rect { x: 63, y: 10, w: 2, h: 54 }), [0, 1]);
        assert_eq!(source.touched(Rect { x: 128, y: 64, w: 72, h: 36 }), [6, 7]);
    }

    #[test]
    fn noise_that_fills_the_screen_replaces_every_cell_each_time() {
        let [.., source] = sources();
        assert_eq!((source.cells(), source.changed(7).len()), (8, 8));
        assert_eq!(source.lacks(&[], 3, 5, 9), Some(Some(6)));
        assert_eq!(source.lacks(&[], 3, 9, 9), Some(None));
    }

    #[test]
    fn noise_has_the_size_that_was_asked_for() {
        let source = Source::new(Size { w: 640, h: 640 }, Content::Noise, 40 << 10, 1);
        let cells: usize = (2..=901).map(|picture| source.changed(picture).len()).sum();
        let bytes = cells as f64 * CELL_BYTES as f64 / 900.0;
        assert!((bytes / 40_960.0 - 1.0).abs() < 0.01, "{bytes} bytes a picture");
    }

    #[test]
    fn the_schedule_counts_from_one() {
        let schedule = Schedule { first: Instant::now(), interval: Duration::from_millis(100) };
        for picture in [1, 2, 77] {
            assert_eq!(schedule.newest(schedule.time(picture)), picture);
            let almost = schedule.time(picture + 1) - Duration::from_nanos(1);
            assert_eq!(schedule.newest(almost), picture);
        }
    }
}
