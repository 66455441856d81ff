//! Updates into pictures. Every length and rectangle is checked before it is believed.

use std::fmt;
use std::sync::Arc;

use tandem_protocol::limits;

use self::patches::{Allowed, Content, Found, Painter, check_patches};
use self::regions::Regions;
use crate::error::DecodeError;
use crate::picture::{HISTORY_LEAD, PACKED, PIXEL, Picture, Rect, Size, pack_history};
use crate::stream::{Decompressor, History, WINDOW_LOG_MIN};
use crate::wire::{
    COARSE_VERSION, LENGTH_LEN, Reader, SegmentHeader, VIDEO_VERSION, plain_max, size_allowed,
};
use crate::{Base, WINDOW_LOG_MAX};

mod patches;
mod regions;

pub use self::regions::VideoPicture;

/// Order of a decoded pixel's bytes. The fourth is always 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PixelOrder {
    /// As grabs have it.
    #[default]
    Bgra,
    /// As a browser's canvas has it.
    Rgba,
}

/// What a decoder may be asked for. Whatever exceeds it is an error, found before memory is taken.
#[derive(Clone, Copy, Debug)]
pub struct DecoderLimits {
    /// Longest side of a picture; [`limits::PICTURE_SIDE_MAX`] holds besides.
    pub side_max: u16,
    /// Most pixels of a picture; each takes up to 16 bytes.
    pub pixels_max: usize,
    /// Largest window of a stream, as a power of two.
    pub window_log_max: u8,
}

impl Default for DecoderLimits {
    /// 8K pictures and windows of 32 MB.
    fn default() -> Self {
        Self { side_max: limits::PICTURE_SIDE_MAX, pixels_max: 7680 * 4320, window_log_max: WINDOW_LOG_MAX }
    }
}

/// Keeps a picture and applies updates to it.
///
/// A body is applied whole, or there is an error: then the picture is no longer a shadow, and only a key or a start
/// from black goes on. [`crate::Viewer`] decides which body may be applied when.
///
/// Video is handed out undecoded ([`Decoder::take_videos`]) and comes back as pixels ([`Decoder::show_video`]).
pub struct Decoder {
    limits: DecoderLimits,
    order: PixelOrder,
    /// The shadow, once there is one: video regions are black in it.
    picture: Picture,
    /// What is shown, if there has been video since all began from black or by a key. Until then it is the shadow.
    shown: Option<Picture>,
    regions: Regions,
    layout_generation: u32,
    state: State,
    plain: Vec<u8>,
    edge: Vec<u8>,
    scratch: Vec<u8>,
}

enum State {
    /// The picture means nothing.
    Nothing,
    /// The picture is a shadow, and a segment may start from it.
    Shadow,
    Running(Streams),
}

struct Streams {
    version: u8,
    plain: Decompressor,
    edge: Option<Decompressor>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", &self.limits)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder with a picture of no size.
    pub fn new(limits: DecoderLimits, order: PixelOrder) -> Self {
        Self {
            limits,
            order,
            picture: Picture::black(Size::default()),
            shown: None,
            regions: Regions::default(),
            layout_generation: 0,
            state: State::Nothing,
            plain: Vec::new(),
            edge: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The picture's size; 0 × 0 before the first start or key.
    pub fn size(&self) -> Size {
        self.picture.size()
    }

    /// Generation of the display layout that the picture belongs to.
    pub fn layout_generation(&self) -> u32 {
        self.layout_generation
    }

    /// The picture that is shown, four bytes a pixel, rows without gaps. Where there is video it is what was shown there last.
    pub fn picture(&self) -> &[u8] {
        self.shown.as_ref().unwrap_or(&self.picture).bytes()
    }

    /// The video pictures of the body applied last, to be decoded in this order. The next body drops them.
    pub fn take_videos(&mut self) -> Vec<VideoPicture> {
        std::mem::take(&mut self.regions.found)
    }

    /// Whether a video region goes on; of one that does not the H.264 decoder may go.
    pub fn has_region(&self, region: u8) -> bool {
        self.regions.running.has(region)
    }

    /// Where a video picture is to be shown. `None`: nowhere any more, since something newer has come.
    pub fn awaits(&self, serial: u64) -> Option<Rect> {
        self.regions.waits(serial)
    }

    /// Notes that its caller shows a video picture itself, over this decoder's picture. Answers where, or `None` if it comes too
    /// late.
    pub fn take_awaited(&mut self, serial: u64) -> Option<Rect> {
        self.regions.take(serial)
    }

    /// Shows a decoded video picture: the pixels of its rectangle, four bytes each in this decoder's order, rows without gaps.
    /// Answers where, or `None` if it comes too late or is not as large.
    pub fn show_video(&mut self, serial: u64, pixels: &[u8]) -> Option<Rect> {
        let rect = self.regions.take(serial)?;
        let shown = self.shown.as_mut().filter(|_| pixels.len() == rect.pixels() * PIXEL)?;
        let rows = pixels.chunks_exact(usize::from(rect.w) * PIXEL);
        rect.rows().zip(rows).for_each(|(y, row)| shown.row_mut(y, rect).copy_from_slice(row));
        Some(rect)
    }

    /// Memory that it holds: its picture, and the contexts of its streams with their history.
    pub fn memory_bytes(&self) -> usize {
        let streams = match &self.state {
            State::Running(Streams { plain, edge, .. }) => {
                plain.memory_bytes() + edge.as_ref().map_or(0, Decompressor::memory_bytes)
            }
            State::Nothing | State::Shadow => 0,
        };
        let buffers = [&self.plain, &self.edge, &self.scratch].map(Vec::capacity);
        self.picture.bytes().len() + buffers.iter().sum::<usize>() + streams
    }

    /// Applies a segment's start and returns what changed.
    ///
    /// # Errors
    /// [`DecodeError`]; the picture then means nothing.
    pub fn start(&mut self, base: Base, body: &[u8]) -> Result<Vec<Rect>, DecodeError> {
        let state = std::mem::replace(&mut self.state, State::Nothing);
        self.regions.restart(base == Base::Black);
        let (header, update) = SegmentHeader::parse(body)?;
        self.check(&header)?;
        let history: History = match (base, state) {
            (Base::Black, _) => {
                self.blacken(header.size);
                History::default()
            }
            (Base::Shadow, State::Nothing) => return Err(DecodeError::NoPicture),
            (Base::Shadow, _) if header.size != self.size() => return Err(DecodeError::OtherSize),
            (Base::Shadow, state) => {
                // The old windows go before the new ones come.
                drop(state);
                Arc::new(self.history())
            }
        };
        let mut streams = Streams::new(&header, history)?;
        let changed = self.apply(&mut streams, false, update)?;
        self.layout_generation = header.layout_generation;
        self.state = State::Running(streams);
        Ok(if base == Base::Black { vec![header.size.rect()] } else { changed })
    }

    /// Applies an update of the running segment and returns what changed.
    ///
    /// # Errors
    /// [`DecodeError`]; the picture then means nothing.
    pub fn update(&mut self, body: &[u8]) -> Result<Vec<Rect>, DecodeError> {
        let State::Running(mut streams) = std::mem::replace(&mut self.state, State::Nothing) else {
            return Err(DecodeError::NoPicture);
        };
        let changed = self.apply(&mut streams, false, body)?;
        self.state = State::Running(streams);
        Ok(changed)
    }

    /// Applies a key, whatever came before: a [`Base::Shadow`] start of its segment may follow. Returns what changed:
    /// everything.
    ///
    /// # Errors
    /// [`DecodeError`]; the picture then means nothing.
    pub fn key(&mut self, body: &[u8]) -> Result<Vec<Rect>, DecodeError> {
        self.state = State::Nothing;
        self.regions.restart(true);
        let (header, update) = SegmentHeader::parse(body)?;
        self.check(&header)?;
        self.blacken(header.size);
        let mut streams = Streams::new(&header, History::default())?;
        self.apply(&mut streams, true, update)?;
        self.layout_generation = header.layout_generation;
        self.state = State::Shadow;
        Ok(vec![header.size.rect()])
    }

    fn check(&self, header: &SegmentHeader) -> Result<(), DecodeError> {
        if !size_allowed(header.size, self.limits.side_max) || header.size.pixels() > self.limits.pixels_max {
            return Err(DecodeError::Size(header.size));
        }
        let windows = WINDOW_LOG_MIN..=self.limits.window_log_max.min(WINDOW_LOG_MAX);
        [Some(header.plain_window_log), (header.edge_window_log != 0).then_some(header.edge_window_log)]
            .into_iter()
            .flatten()
            .find(|log| !windows.contains(log))
            .map_or(Ok(()), |log| Err(DecodeError::Window(log)))
    }

    fn blacken(&mut self, size: Size) {
        if size != self.size() {
            // The old one goes before the new one comes.
            (self.picture, self.shown) = (Picture::black(Size::default()), None);
            self.picture = Picture::black(size);
        }
        self.shown = None;
        let (pixels, _) = self.picture.bytes_mut().as_chunks_mut::<PIXEL>();
        pixels.fill([0, 0, 0, 255]);
    }

    fn history(&self) -> Vec<u8> {
        let mut history = pack_history(&self.picture);
        if self.order == PixelOrder::Rgba {
            let (pixels, _) = history[HISTORY_LEAD..].as_chunks_mut::<PACKED>();
            pixels.iter_mut().for_each(|[first, _, third]| std::mem::swap(first, third));
        }
        history
    }

    fn apply(&mut self, streams: &mut Streams, whole: bool, body: &[u8]) -> Result<Vec<Rect>, DecodeError> {
        let size = self.size();
        self.regions.found.clear();
        let (length, rest) = body.split_first_chunk::<LENGTH_LEN>().ok_or(DecodeError::Length)?;
        let plain_len = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| DecodeError::Length)?;
        let (plain, edge) = rest.split_at_checked(plain_len).ok_or(DecodeError::Length)?;
        streams.plain.read(plain, whole, plain_max(size), &mut self.plain)?;
        let separate = streams.edge.is_some();
        let allowed = Allowed {
            separate,
            video: streams.version >= VIDEO_VERSION && !whole,
            coarse: streams.version >= COARSE_VERSION,
            running: self.regions.running,
        };
        let found = check_patches(Reader(&self.plain), size, allowed)?;
        let edge_len = edge.len().checked_sub(found.video).ok_or(DecodeError::Length)?;
        let (edge, video) = edge.split_at(edge_len);
        self.edge.clear();
        if !edge.is_empty() {
            let stream = streams.edge.as_mut().ok_or(DecodeError::Length)?;
            stream.read(edge, whole, plain_max(size), &mut self.edge)?;
        }
        if self.edge.len() != found.residuals {
            return Err(DecodeError::Length);
        }
        let (plain, edge) = (std::mem::take(&mut self.plain), std::mem::take(&mut self.edge));
        let content = Content { plain: Reader(&plain), edge: separate.then_some(Reader(&edge)) };
        let changed = self.paint(content, &found, video)?;
        (self.plain, self.edge) = (plain, edge);
        [&mut self.plain, &mut self.edge, &mut self.scratch].into_iter().for_each(forget_if_large);
        Ok(changed)
    }

    fn paint(
        &mut self,
        mut content: Content<'_>,
        found: &Found,
        mut video: &[u8],
    ) -> Result<Vec<Rect>, DecodeError> {
        if !found.videos.is_empty() {
            self.shown.get_or_insert_with(|| self.picture.clone());
        }
        let changed = Painter { picture: &mut self.picture, order: self.order, scratch: &mut self.scratch }
            .paint(&mut content)?;
        if let Some(shown) = &mut self.shown {
            changed.iter().for_each(|&rect| shown.paint(self.picture.borrow(), rect));
        }
        changed.iter().for_each(|&rect| self.regions.cover(rect));
        self.regions.running = found.running;
        for patch in &found.videos {
            let (bytes, rest) = video.split_at_checked(patch.len as usize).ok_or(DecodeError::Length)?;
            self.regions.push(patch, bytes);
            video = rest;
        }
        Ok(changed)
    }
}

/// A whole picture now and then should not hold its bytes for good.
fn forget_if_large(buffer: &mut Vec<u8>) {
    if buffer.capacity() > 1 << 20 {
        *buffer = Vec::new();
    }
}

impl Streams {
    fn new(header: &SegmentHeader, history: History) -> Result<Self, DecodeError> {
        Ok(Self {
            version: header.version,
            plain: Decompressor::new(header.plain_window_log, history)?,
            edge: match header.edge_window_log {
                0 => None,
                log => Some(Decompressor::new(log, History::default())?),
            },
        })
    }
}
