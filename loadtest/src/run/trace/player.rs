//! Reads a recording, picture by picture.
//!
//! A file is one zstd frame of: magic, width, height, pictures a second × 1000, filter, number of pictures, metadata; then for
//! each picture its time and the rectangles that changed, as blue, green and red. Video rectangles are refused.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use anyhow::{bail, ensure};
use tandem_codec::{PIXEL, Picture, Rect, Size};

/// The largest zstd window that recordings use, as a power of two.
const WINDOW_LOG_MAX: u32 = 27;
pub(super) const MAGIC: [u8; 8] = *b"SCTRACE1";
/// Bounds of what is believed of a file.
const SIDE_MAX: u32 = 8192;
const METADATA_MAX: u32 = 1 << 20;
const PICTURES_MAX: u32 = 100_000;
/// Bytes of a pixel in a file.
pub(super) const PACKED: usize = 3;

/// Reads a recording picture by picture.
pub(crate) struct Player {
    input: zstd::Decoder<'static, Cursor<Arc<[u8]>>>,
    pub(crate) size: Size,
    /// Pictures a second.
    pub(crate) fps: f64,
    filtered: bool,
    pub(crate) pictures: u32,
    pixels: Vec<u8>,
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("size", &self.size).finish_non_exhaustive()
    }
}

fn number<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Player {
    /// At the beginning of a file.
    pub(crate) fn new(bytes: Arc<[u8]>) -> anyhow::Result<Self> {
        let mut input = zstd::Decoder::with_buffer(Cursor::new(bytes))?;
        input.window_log_max(WINDOW_LOG_MAX)?;
        ensure!(number(&mut input)? == MAGIC, "it does not begin with SCTRACE1");
        let mut next = || number(&mut input).map(u32::from_le_bytes);
        let (w, h, fps, filter, pictures, metadata) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let sides = 1..=SIDE_MAX;
        ensure!(sides.contains(&w) && sides.contains(&h), "a picture of {w} × {h} pixels");
        ensure!((100..=1_000_000).contains(&fps), "{fps} pictures in 1000 s");
        ensure!(filter <= 1, "unknown filter {filter}");
        ensure!((1..=PICTURES_MAX).contains(&pictures), "{pictures} pictures");
        ensure!(metadata <= METADATA_MAX, "{metadata} bytes of metadata");
        io::copy(&mut input.by_ref().take(metadata.into()), &mut io::sink())?;
        let size = Size { w: w as u16, h: h as u16 };
        Ok(Self {
            input,
            size,
            fps: f64::from(fps) / 1e3,
            filtered: filter == 1,
            pictures,
            pixels: Vec::new(),
        })
    }

    /// Paints the next picture over the one before it; answers where.
    pub(crate) fn next(&mut self, picture: &mut Picture) -> anyhow::Result<Vec<Rect>> {
        let _time: [u8; 8] = number(&mut self.input)?;
        let count = u32::from_le_bytes(number(&mut self.input)?);
        let mut rects = Vec::new();
        for _ in 0..count {
            let mut next = || number(&mut self.input).map(u16::from_le_bytes);
            let rect = Rect { x: next()?, y: next()?, w: next()?, h: next()? };
            ensure!(self.size.holds(rect), "a rectangle outside of the picture");
            match u32::from_le_bytes(number(&mut self.input)?) {
                0 => self.paint(picture, rect)?,
                1 => bail!("it has video, which this reader does not decode"),
                kind => bail!("unknown rectangle kind {kind}"),
            }
            rects.push(rect);
        }
        Ok(rects)
    }

    fn paint(&mut self, picture: &mut Picture, rect: Rect) -> anyhow::Result<()> {
        let row = usize::from(rect.w) * PACKED;
        self.pixels.resize(row * usize::from(rect.h), 0);
        self.input.read_exact(&mut self.pixels)?;
        if self.filtered {
            unfilter(&mut self.pixels, row);
        }
        let stride = usize::from(self.size.w) * PIXEL;
        for (y, colours) in self.pixels.chunks_exact(row.max(1)).enumerate() {
            let at = (usize::from(rect.y) + y) * stride + usize::from(rect.x) * PIXEL;
            let to = &mut picture.bytes_mut()[at..at + usize::from(rect.w) * PIXEL];
            for (pixel, colour) in to.chunks_exact_mut(PIXEL).zip(colours.chunks_exact(PACKED)) {
                pixel.copy_from_slice(&[colour[0], colour[1], colour[2], u8::MAX]);
            }
        }
        Ok(())
    }
}

/// Undoes filter 1: each byte is its difference from the median-edge predictor (LOCO-I) of its channel, and blue and red are
/// differences from green. At the edges the neighbours that there are stand in for those that are not.
fn unfilter(pixels: &mut [u8], row: usize) {
    for at in 0..pixels.len() {
        let left = at % row >= PACKED;
        let above = at >= row;
        let a = match (left, above) {
            (true, _) => pixels[at - PACKED],
            (false, true) => pixels[at - row],
            (false, false) => 0,
        };
        let b = if above { pixels[at - row] } else { a };
        let c = if above && left { pixels[at - row - PACKED] } else { b };
        pixels[at] = pixels[at].wrapping_add(median_edge(a, b, c));
    }
    for pixel in pixels.chunks_exact_mut(PACKED) {
        pixel[0] = pixel[0].wrapping_add(pixel[1]);
        pixel[2] = pixel[2].wrapping_add(pixel[1]);
    }
}

fn median_edge(left: u8, above: u8, corner: u8) -> u8 {
    let (least, most) = (left.min(above), left.max(above));
    if corner >= most {
        least
    } else if corner <= least {
        most
    } else {
        (i16::from(left) + i16::from(above) - i16::from(corner)) as u8
    }
}
