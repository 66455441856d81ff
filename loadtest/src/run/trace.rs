//! Recorded screens: what a real program showed, picture by picture, as "SCTRACE1" files have it.
//!
//! It is played at its nominal rate and begins again when it ends ([`Player`] knows the format).
//!
//! What of a recording is on somebody else's screen is found by content: [`Trace`] knows every *piece*, 64 pixels of one row, in
//! every picture. A piece is as new as the latest picture that shows it so. One that matches none is a mixture of several
//! pictures, and as old as its oldest pixel, each of which is as new as the latest picture that shows it so.

mod player;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tandem_codec::{PIXEL, Picture, Rect, Size};

pub(crate) use self::player::Player;

/// Width of a piece, whose height is one row. As many as a word has bits.
pub(crate) const PIECE: u16 = 64;

/// A recording and its index.
#[derive(Debug)]
pub(crate) struct Trace {
    name: String,
    /// The file as it is.
    bytes: Arc<[u8]>,
    size: Size,
    /// Pictures a second.
    fps: f64,
    pictures: u32,
    /// For each piece: from which picture of the recording on (0 the first) it shows what.
    runs: Vec<Vec<Run>>,
    /// The colours of every piece that there is, by its hash: what scrolls is there once.
    contents: HashMap<u64, Box<[u32]>>,
    /// For each picture of the recording: the pieces that it changes, and what they then are. Of the first: those that differ from
    /// the last one's.
    changed: Vec<Vec<(u32, u64)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u32,
    hash: u64,
}

impl Trace {
    /// Reads a file and hashes all of its pictures.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("trace");
        let name = name.trim_end_matches(".zst").trim_end_matches(".sct").to_owned();
        let read = || Self::index(name, std::fs::read(path)?.into());
        read().with_context(|| format!("cannot use the trace {}", path.display()))
    }

    fn index(name: String, bytes: Arc<[u8]>) -> anyhow::Result<Self> {
        let mut player = Player::new(bytes.clone())?;
        let (size, fps, pictures) = (player.size, player.fps, player.pictures);
        let columns = usize::from(size.w.div_ceil(PIECE));
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); columns * usize::from(size.h)];
        let (mut changed, mut contents) = (Vec::new(), HashMap::new());
        let mut picture = Picture::black(size);
        for number in 0..pictures {
            let rects = if number == 0 {
                player.next(&mut picture)?;
                vec![size.rect()]
            } else {
                player.next(&mut picture)?
            };
            let mut pieces: Vec<usize> = rects.iter().flat_map(|&rect| pieces_in(size, rect)).collect();
            pieces.sort_unstable();
            pieces.dedup();
            let mut changes = Vec::new();
            for piece in pieces {
                let pixels = piece_of(size, picture.bytes(), piece);
                let hash = hash(pixels);
                if runs[piece].last().is_none_or(|run| run.hash != hash) {
                    // Of a film that would be every pixel of every picture, and it is shown nearly, not exactly.
                    if !player.shows_video(piece_rect(size, piece)) {
                        contents.entry(hash).or_insert_with(|| colours(pixels).collect());
                    }
                    runs[piece].push(Run { from: number, hash });
                    changes.push((piece as u32, hash));
                }
            }
            changed.push(changes);
        }
        let again = |(piece, runs): (usize, &Vec<Run>)| {
            let (first, last) = (runs.first()?, runs.last()?);
            (first.hash != last.hash).then_some((piece as u32, first.hash))
        };
        changed[0] = runs.iter().enumerate().filter_map(again).collect();
        Ok(Self { name, bytes, size, fps, pictures, runs, contents, changed })
    }

    /// The file's name without its endings.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The pictures' size.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Pictures a second.
    pub(crate) fn fps(&self) -> f64 {
        self.fps
    }

    /// How many pieces a picture has.
    pub(crate) fn pieces(&self) -> usize {
        self.runs.len()
    }

    /// Which of the recording's pictures (from 0) picture `number` (from 1) shows, and the number of the one with which
    /// this time through began, less one.
    fn place(&self, number: u32) -> (u32, u32) {
        let at = number.saturating_sub(1);
        (at % self.pictures, at - at % self.pictures)
    }

    /// The pieces that a picture changes and the hashes of what they then are: all of them the first.
    pub(crate) fn changed(&self, number: u32) -> Vec<(usize, u64)> {
        if number <= 1 {
            return (0..self.pieces()).map(|piece| (piece, self.hash_at(piece, 1))).collect();
        }
        let (at, _) = self.place(number);
        self.changed[at as usize].iter().map(|&(piece, hash)| (piece as usize, hash)).collect()
    }

    /// The hash of a piece in a picture.
    pub(crate) fn hash_at(&self, piece: usize, number: u32) -> u64 {
        self.runs[piece][self.run_at(piece, self.place(number).0)].hash
    }

    /// The first picture after `number`, up to `newest`, that changes a piece.
    pub(crate) fn changed_after(&self, piece: usize, number: u32, newest: u32) -> Option<u32> {
        let (at, begin) = self.place(number);
        let runs = &self.runs[piece];
        let next = match runs.get(self.run_at(piece, at) + 1) {
            Some(run) => begin + run.from + 1,
            // When it begins again, if its end is not as its beginning.
            None => {
                let again = runs.first().zip(runs.last()).filter(|(first, last)| first.hash != last.hash);
                let first = runs.get(1).map_or(u32::MAX, |run| run.from);
                begin + self.pictures + 1 + again.map_or(first, |_| 0)
            }
        };
        (next <= newest).then_some(next)
    }

    fn run_at(&self, piece: usize, at: u32) -> usize {
        // The first run begins with the first picture.
        self.runs[piece].partition_point(|run| run.from <= at).saturating_sub(1)
    }

    /// The first picture up to `newest` that a piece of these pixels lacks: the one that changed a pixel of it after the latest that
    /// shows that pixel so (`Some(None)`: it lacks nothing). `None`: a pixel is as in no picture of this time through the
    /// recording or the one before. `hash` is theirs.
    pub(crate) fn lacks(&self, pixels: &[u8], piece: usize, hash: u64, newest: u32) -> Option<Option<u32>> {
        let (at, begin) = self.place(newest);
        let shown = piece_of(self.size, pixels, piece);
        let runs = &self.runs[piece];
        let begin_before = begin.saturating_sub(self.pictures);
        let before = if begin > 0 { &runs[..] } else { &[] }.iter().map(|run| (begin_before, run));
        let now = runs[..=self.run_at(piece, at)].iter().map(|run| (begin, run));
        let newest_first = before.chain(now).rev();
        // As a whole, which is quick, or else pixel by pixel.
        let all = all_of(shown.len() / PIXEL);
        let whole = lacking(newest_first.clone(), all, |run| if run.hash == hash { all } else { 0 });
        whole.or_else(|| lacking(newest_first, all, |run| self.same(run.hash, shown)))
    }

    /// Which pixels are those of the content with this hash.
    fn same(&self, hash: u64, pixels: &[u8]) -> u64 {
        let content = self.contents.get(&hash).map_or(&[][..], |content| content);
        let same = content.iter().zip(colours(pixels)).enumerate();
        same.filter(|(_, (is, shown))| *is == shown).fold(0, |bits, (at, _)| bits | 1 << at)
    }

    /// Whether these pixels are a picture exactly, but for hashes that collide.
    pub(crate) fn is_picture(&self, pixels: &[u8], number: u32) -> bool {
        pixels.len() == self.size.pixels() * PIXEL
            && (0..self.pieces()).all(|piece| self.content(pixels, piece) == self.hash_at(piece, number))
    }

    /// What a piece of these pixels shows.
    pub(crate) fn content(&self, pixels: &[u8], piece: usize) -> u64 {
        hash(piece_of(self.size, pixels, piece))
    }

    /// What a piece of a black picture shows.
    pub(crate) fn black(&self, piece: usize) -> u64 {
        hash(&vec![0; usize::from(piece_rect(self.size, piece).w) * PIXEL])
    }

    /// Plays it from the beginning.
    pub(crate) fn play(&self) -> Player {
        Player::new(self.bytes.clone()).expect("it was read to its end before")
    }

    /// Goes on to a picture, from `shown`; answers where something changed.
    pub(crate) fn advance(
        &self,
        player: &mut Player,
        picture: &mut Picture,
        shown: u32,
        number: u32,
    ) -> Vec<Rect> {
        let mut rects = Vec::new();
        let (mut next, (at, begin)) = (shown, self.place(number));
        if shown <= begin {
            // It has begun again since, or begins now: whatever was there is replaced.
            *player = self.play();
            picture.bytes_mut().copy_from_slice(Picture::black(self.size).bytes());
            rects.push(self.size.rect());
            next = begin;
        }
        while next <= begin + at {
            rects.append(&mut player.next(picture).expect("it was read to its end before"));
            next += 1;
        }
        rects
    }
}

/// The picture that came after the latest run which shows a pixel, for the pixel that is longest out of date. `None` if some are
/// in no run.
fn lacking<'a>(
    newest_first: impl Iterator<Item = (u32, &'a Run)>,
    pixels: u64,
    same: impl Fn(&Run) -> u64,
) -> Option<Option<u32>> {
    let (mut left, mut next, mut first) = (pixels, None, None);
    for (begin, run) in newest_first {
        let same = same(run);
        if left & same != 0 {
            // What comes after this run differs in these pixels, or they would not be left.
            first = [first, next].into_iter().flatten().min();
            left &= !same;
            if left == 0 {
                return Some(first);
            }
        }
        next = Some(begin + run.from + 1);
    }
    None
}

/// Where a piece is.
pub(crate) fn piece_rect(size: Size, piece: usize) -> Rect {
    let columns = usize::from(size.w.div_ceil(PIECE));
    let (x, y) = ((piece % columns) as u16 * PIECE, (piece / columns) as u16);
    Rect { x, y, w: PIECE, h: 1 }.clipped(size)
}

/// The pieces that a rectangle touches.
pub(crate) fn pieces_in(size: Size, rect: Rect) -> impl Iterator<Item = usize> {
    let rect = rect.clipped(size);
    let columns = usize::from(size.w.div_ceil(PIECE));
    let across = usize::from(rect.x / PIECE)..usize::from((rect.x + rect.w).div_ceil(PIECE));
    (rect.y..rect.y + rect.h).flat_map(move |y| across.clone().map(move |x| usize::from(y) * columns + x))
}

fn piece_of(size: Size, pixels: &[u8], piece: usize) -> &[u8] {
    let rect = piece_rect(size, piece);
    let at = (usize::from(rect.y) * usize::from(size.w) + usize::from(rect.x)) * PIXEL;
    pixels.get(at..at + usize::from(rect.w) * PIXEL).unwrap_or_default()
}

/// Pixels without the byte that is no colour.
fn colours(pixels: &[u8]) -> impl Iterator<Item = u32> {
    pixels.chunks_exact(PIXEL).map(|pixel| u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]))
}

/// So many bits.
fn all_of(pixels: usize) -> u64 {
    if pixels < usize::from(PIECE) { (1 << pixels) - 1 } else { u64::MAX }
}

/// A quick hash of pixels. Not for enemies.
fn hash(pixels: &[u8]) -> u64 {
    let mut hash = pixels.len() as u64;
    for colour in colours(pixels) {
        hash = (hash.rotate_left(23) ^ u64::from(colour)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash ^ hash >> 32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::player::{MAGIC, PACKED};
    use super::*;

    pub(crate) const SIZE: Size = Size { w: 100, h: 20 };

    /// A rectangle of one colour, or of pixels as they are.
    pub(crate) struct Painted(pub(crate) Rect, pub(crate) Vec<u8>);

    pub(crate) fn plain(rect: Rect, colour: [u8; PACKED]) -> Painted {
        Painted(rect, colour.repeat(rect.pixels()))
    }

    /// A file with these pictures.
    pub(crate) fn file(filter: u32, pictures: &[Vec<Painted>]) -> Vec<u8> {
        let mut plain = MAGIC.to_vec();
        for number in [SIZE.w.into(), SIZE.h.into(), 20_000, filter, pictures.len() as u32, 2] {
            plain.extend_from_slice(&u32::to_le_bytes(number));
        }
        plain.extend_from_slice(b"{}");
        for (at, rects) in pictures.iter().enumerate() {
            plain.extend_from_slice(&(at as u64 * 50_000).to_le_bytes());
            plain.extend_from_slice(&(rects.len() as u32).to_le_bytes());
            for Painted(rect, pixels) in rects {
                for number in [rect.x, rect.y, rect.w, rect.h] {
                    plain.extend_from_slice(&number.to_le_bytes());
                }
                plain.extend_from_slice(&0u32.to_le_bytes());
                plain.extend_from_slice(pixels);
            }
        }
        zstd::encode_all(&plain[..], 1).unwrap()
    }

    /// Four pictures: grey; a white box; that box grey again and a red one; nothing new.
    pub(crate) fn trace() -> Trace {
        let (left, right) = (Rect { x: 3, y: 2, w: 20, h: 3 }, Rect { x: 70, y: 10, w: 10, h: 1 });
        let pictures = [
            vec![plain(SIZE.rect(), [9; 3])],
            vec![plain(left, [255; 3])],
            vec![plain(left, [9; 3]), plain(right, [0, 0, 255])],
            vec![],
        ];
        Trace::index("t".into(), file(0, &pictures).into()).unwrap()
    }

    #[test]
    fn a_recording_plays_as_it_was_made_and_begins_again() {
        let trace = trace();
        assert_eq!((trace.size(), trace.fps(), trace.pieces()), (SIZE, 20.0, 40));
        let mut whole = Vec::new();
        let (mut player, mut picture) = (trace.play(), Picture::black(SIZE));
        for number in 1..=9 {
            trace.advance(&mut player, &mut picture, number - 1, number);
            assert!(trace.is_picture(picture.bytes(), number), "{number}");
            whole.push(picture.clone());
        }
        assert!(whole[4] == whole[0] && whole[2] == whole[3] && whole[0] != whole[1]);
        assert_eq!(whole[2].bytes()[(10 * 100 + 70) * PIXEL..][..PIXEL], [0, 0, 255, 255]);
        // Skipping pictures, and a whole time through, comes to the same.
        let (mut player, mut picture) = (trace.play(), Picture::black(SIZE));
        trace.advance(&mut player, &mut picture, 0, 3);
        assert_eq!(picture, whole[2]);
        trace.advance(&mut player, &mut picture, 3, 8);
        assert_eq!(picture, whole[7]);
        assert!(!trace.is_picture(picture.bytes(), 6));
    }

    /// All of a picture of the recording.
    fn shown(trace: &Trace, number: u32) -> Picture {
        let (mut player, mut picture) = (trace.play(), Picture::black(SIZE));
        trace.advance(&mut player, &mut picture, 0, number);
        picture
    }

    #[test]
    fn a_piece_is_as_new_as_the_latest_picture_that_shows_it_so() {
        let trace = trace();
        let left = 2 * 2;
        let changed = |number| trace.changed(number).iter().map(|&(piece, _)| piece).collect::<Vec<_>>();
        assert_eq!(changed(2), [left, left + 2, left + 4]);
        let right = 10 * 2 + 1;
        assert_eq!(changed(5), [right], "the last picture and the first differ there only");
        let of_pixels = |picture: &Picture, piece, newest| {
            trace.lacks(picture.bytes(), piece, trace.content(picture.bytes(), piece), newest)
        };
        let lacks = |of: u32, piece, newest| of_pixels(&shown(&trace, of), piece, newest);
        // Grey is lacking while picture 2 is the newest, and as good as new after that.
        assert_eq!(lacks(1, left, 1), Some(None));
        assert_eq!(lacks(1, left, 2), Some(Some(2)));
        assert_eq!(lacks(1, left, 4), Some(None));
        // White was replaced by picture 3; in the second time through it is lacking since then still.
        assert_eq!(lacks(2, left, 4), Some(Some(3)));
        assert_eq!(lacks(2, left, 5), Some(Some(3)));
        assert_eq!(lacks(2, left, 6), Some(None));
        // Red lasts until the first picture comes again.
        assert_eq!(lacks(4, right, 4), Some(None));
        assert_eq!(lacks(4, right, 6), Some(Some(5)));
        let black = Picture::black(SIZE);
        assert_eq!(of_pixels(&black, left, 6), None, "nothing is ever black");
    }

    #[test]
    fn a_mixture_is_as_old_as_its_oldest_pixel() {
        let colour = |value| vec![plain(Rect { x: 0, y: 0, w: 64, h: 1 }, [value; 3])];
        let mut pictures = vec![vec![plain(SIZE.rect(), [9; 3])]];
        pictures.extend([10, 20, 30, 40].map(colour));
        let trace = Trace::index("t".into(), file(0, &pictures).into()).unwrap();
        let mut picture = shown(&trace, 5);
        let lacks = |picture: &Picture, newest| {
            trace.lacks(picture.bytes(), 0, trace.content(picture.bytes(), 0), newest)
        };
        assert_eq!(lacks(&picture, 5), Some(None));
        let older = |number, picture: &mut Picture, pixels: std::ops::Range<usize>| {
            let bytes = pixels.start * PIXEL..pixels.end * PIXEL;
            picture.bytes_mut()[bytes.clone()].copy_from_slice(&shown(&trace, number).bytes()[bytes]);
        };
        older(4, &mut picture, 10..20);
        assert_eq!(lacks(&picture, 5), Some(Some(5)));
        older(2, &mut picture, 63..64);
        assert_eq!(lacks(&picture, 5), Some(Some(3)));
        // The other pixels are newer than that: they do not count.
        assert_eq!(lacks(&picture, 3), None);
    }

    #[test]
    fn filtered_pixels_come_back() {
        let pixels: Vec<u8> = (0..SIZE.pixels() * PACKED).map(|at| (at * at / 7) as u8).collect();
        let row = usize::from(SIZE.w) * PACKED;
        // What the filter does, said from the other end: the last byte first, so that its neighbours are still plain.
        let mut filtered = pixels.clone();
        for pixel in filtered.chunks_exact_mut(PACKED) {
            pixel[0] = pixel[0].wrapping_sub(pixel[1]);
            pixel[2] = pixel[2].wrapping_sub(pixel[1]);
        }
        for at in (0..filtered.len()).rev() {
            let (x, y) = (at % row, at / row);
            let a = if x >= PACKED {
                filtered[at - PACKED]
            } else if y > 0 {
                filtered[at - row]
            } else {
                0
            };
            let b = if y > 0 { filtered[at - row] } else { a };
            let c = if y > 0 && x >= PACKED { filtered[at - row - PACKED] } else { b };
            let (a, b, c) = (i32::from(a), i32::from(b), i32::from(c));
            let predicted = if c >= a.max(b) {
                a.min(b)
            } else if c <= a.min(b) {
                a.max(b)
            } else {
                a + b - c
            };
            filtered[at] = filtered[at].wrapping_sub(predicted as u8);
        }
        let bytes = file(1, &[vec![Painted(SIZE.rect(), filtered)]]);
        let trace = Trace::index("t".into(), bytes.into()).unwrap();
        let (mut player, mut picture) = (trace.play(), Picture::black(SIZE));
        trace.advance(&mut player, &mut picture, 0, 1);
        for (pixel, colours) in picture.bytes().chunks_exact(PIXEL).zip(pixels.chunks_exact(PACKED)) {
            assert_eq!(pixel[..PACKED], *colours);
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = file(0, &[vec![plain(SIZE.rect(), [1; 3])]]);
        let refused = |bytes: Vec<u8>| Trace::index("t".into(), bytes.into()).is_err();
        assert!(!refused(good.clone()));
        assert!(refused(Vec::new()));
        assert!(refused(good[..good.len() - 9].to_vec()));
        assert!(refused(file(2, &[vec![]])));
        assert!(refused(file(0, &[])));
        assert!(refused(file(0, &[vec![plain(Rect { x: 99, y: 0, w: 2, h: 1 }, [0; 3])]])));
    }
}
