//! Reads a recording, picture by picture.
//!
//! A file is one zstd frame of: magic, width, height, pictures a second × 1000, filter, number of pictures, metadata; then for
//! each picture its time and the rectangles that changed: as blue, green and red, or as a picture of one H.264 stream, whose
//! decoded pixels are what was on the screen.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use openh264::decoder::{DecodedYUV, Decoder};
use openh264::formats::YUVSource as _;
use tandem_codec::{PIXEL, Picture, Rect, Size};

/// The largest zstd window that recordings use, as a power of two.
const WINDOW_LOG_MAX: u32 = 27;
pub(super) const MAGIC: [u8; 8] = *b"SCTRACE1";
/// Bounds of what is believed of a file.
const SIDE_MAX: u32 = 8192;
const METADATA_MAX: u32 = 1 << 20;
const PICTURES_MAX: u32 = 100_000;
const ACCESS_UNIT_MAX: u32 = 16 << 20;
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
    /// Of the video, once there is any.
    video: Option<Decoder>,
    /// Where the picture has it.
    shown: Vec<Rect>,
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
            video: None,
            shown: Vec::new(),
        })
    }

    /// Paints the next picture over the one before it; answers where.
    pub(crate) fn next(&mut self, picture: &mut Picture) -> anyhow::Result<Vec<Rect>> {
        let _time: [u8; 8] = number(&mut self.input)?;
        let count = u32::from_le_bytes(number(&mut self.input)?);
        let mut rects = Vec::new();
        self.shown.clear();
        for _ in 0..count {
            let mut next = || number(&mut self.input).map(u16::from_le_bytes);
            let rect = Rect { x: next()?, y: next()?, w: next()?, h: next()? };
            ensure!(self.size.holds(rect), "a rectangle outside of the picture");
            match u32::from_le_bytes(number(&mut self.input)?) {
                0 => self.paint(picture, rect)?,
                1 => self.video(picture, rect)?,
                kind => bail!("unknown rectangle kind {kind}"),
            }
            rects.push(rect);
        }
        Ok(rects)
    }

    /// Whether some of a row is video in this picture.
    pub(crate) fn shows_video(&self, row: Rect) -> bool {
        let across = |video: &Rect| row.x < video.x + video.w && video.x < row.x + row.w;
        self.shown.iter().any(|video| (video.y..video.y + video.h).contains(&row.y) && across(video))
    }

    /// Decodes a picture of the video and paints what is shown of it.
    fn video(&mut self, picture: &mut Picture, rect: Rect) -> anyhow::Result<()> {
        let crop =
            (u16::from_le_bytes(number(&mut self.input)?), u16::from_le_bytes(number(&mut self.input)?));
        let len = u32::from_le_bytes(number(&mut self.input)?);
        ensure!(len <= ACCESS_UNIT_MAX, "{len} bytes of video");
        self.pixels.resize(len as usize, 0);
        self.input.read_exact(&mut self.pixels)?;
        self.shown.push(rect);
        let decoder = match &mut self.video {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new()?),
        };
        let decoded = decoder.decode(&self.pixels)?.context("its video has no picture")?;
        paint_video(picture, rect, &decoded, crop)
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

/// The format's own arithmetic: BT.709 in limited range, chroma repeated, in fixed point.
fn paint_video(
    picture: &mut Picture,
    rect: Rect,
    decoded: &DecodedYUV<'_>,
    crop: (u16, u16),
) -> anyhow::Result<()> {
    let (w, h) = decoded.dimensions();
    let fits = |at: u16, len: u16, of: usize| usize::from(at) + usize::from(len) <= of;
    ensure!(fits(crop.0, rect.w, w) && fits(crop.1, rect.h, h), "its video is smaller than it says");
    let (y_stride, u_stride, v_stride) = decoded.strides();
    let stride = usize::from(picture.size().w) * PIXEL;
    for row in 0..usize::from(rect.h) {
        let from = usize::from(crop.1) + row;
        let at = (usize::from(rect.y) + row) * stride + usize::from(rect.x) * PIXEL;
        let to = &mut picture.bytes_mut()[at..at + usize::from(rect.w) * PIXEL];
        for (column, pixel) in to.chunks_exact_mut(PIXEL).enumerate() {
            let x = usize::from(crop.0) + column;
            let luma = i32::from(decoded.y()[from * y_stride + x]) - 16;
            let u = i32::from(decoded.u()[from / 2 * u_stride + x / 2]) - 128;
            let v = i32::from(decoded.v()[from / 2 * v_stride + x / 2]) - 128;
            let c = 76_309 * luma + 32_768;
            let colour = |sum: i32| (sum >> 16).clamp(0, 255) as u8;
            let blue = colour(c + 138_438 * u);
            let green = colour(c - 13_975 * u - 34_925 * v);
            pixel.copy_from_slice(&[blue, green, colour(c + 117_489 * v), u8::MAX]);
        }
    }
    Ok(())
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
