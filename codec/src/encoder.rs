//! Pictures into updates. Pure: the caller says when to encode, which pixels and how many bytes.

use std::fmt;
use std::sync::Arc;

use crate::error::EncodeError;
use crate::key::KeyJob;
use crate::lossless::{Streams, Writer};
use crate::motion::Motion;
use crate::owed::{Owed, Region};
use crate::picture::{Picture, PictureRef, Rect, Size, pack_history};
use crate::slice;
use crate::stream::{History, WINDOW_LOG_MIN};
use crate::wire::{SegmentHeader, size_allowed};
use crate::{Base, WINDOW_LOG_MAX};

/// What an encoder is made for.
#[derive(Clone, Copy, Debug)]
pub struct EncoderOptions {
    /// The pictures' size.
    pub size: Size,
    /// Generation of the display layout; only carried.
    pub layout_generation: u32,
    /// Window of the plain stream, as a power of two, 10 to [`crate::WINDOW_LOG_MAX`]: memory on both sides.
    pub plain_window_log: u8,
    /// Window of the median-edge stream; 0 sends those strips through the plain stream, which halves the memory.
    pub edge_window_log: u8,
    /// zstd's level: 5 is the best trade; 1 to 9 make sense.
    pub level: i32,
}

impl EncoderOptions {
    /// The defaults for pictures of `size`: one stream for everything with a window of 8 MB, level 5.
    pub fn new(size: Size) -> Self {
        Self { size, layout_generation: 0, plain_window_log: 23, edge_window_log: 0, level: 5 }
    }

    fn checked(self) -> Result<Self, EncodeError> {
        if !size_allowed(self.size, u16::MAX) {
            return Err(EncodeError::Size(self.size));
        }
        let window = |log: u8| log.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
        Ok(Self {
            plain_window_log: window(self.plain_window_log),
            edge_window_log: if self.edge_window_log == 0 { 0 } else { window(self.edge_window_log) },
            ..self
        })
    }

    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            size: self.size,
            layout_generation: self.layout_generation,
            plain_window_log: self.plain_window_log,
            edge_window_log: self.edge_window_log,
        }
    }
}

/// What the caller knows about a picture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// Where this picture may differ from the one before it; `None`: anywhere. Every claim is verified by comparing
    /// with the shadow. What an earlier budget left unsent is remembered and need not be named again.
    pub damage: Option<&'a [Rect]>,
    /// Where the pointer is: what is near it goes first when not everything can go.
    pub pointer: Option<(u16, u16)>,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The body of a start or update record, as it goes on the wire. May be longer than one record may carry.
    pub body: Vec<u8>,
    /// Whether subscribers that apply it show exactly the picture given (as far as damage was named rightly).
    pub complete: bool,
    /// Set if this is the start of a segment: what it builds on. [`Base::Black`] goes without `from`.
    pub start: Option<Base>,
}

/// Codes pictures against a shadow of what subscribers show.
///
/// Each rendition has one. After an [`EncodeError::Stream`] it is of no further use but for [`Encoder::resize`].
pub struct Encoder {
    options: EncoderOptions,
    shadow: Picture,
    owed: Owed,
    segment: Segment,
    motion: Motion,
    /// Counts calls of [`Encoder::encode`].
    now: u64,
    /// Compressed bytes per plain byte, lately.
    ratio: f32,
}

enum Segment {
    /// The next update starts it.
    Due {
        base: Base,
        history: History,
    },
    Running(Streams),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder whose first update starts a segment from black. Windows are brought within their limits.
    ///
    /// # Errors
    /// [`EncodeError::Size`].
    pub fn new(options: EncoderOptions) -> Result<Self, EncodeError> {
        let options = options.checked()?;
        Ok(Self {
            shadow: Picture::black(options.size),
            owed: Owed::nothing(options.size),
            segment: Segment::Due { base: Base::Black, history: History::default() },
            motion: Motion::default(),
            now: 0,
            ratio: slice::RATIO_AT_FIRST,
            options,
        })
    }

    /// Goes on with pictures of another size or layout, or after an error: the next update starts a segment from black.
    ///
    /// # Errors
    /// [`EncodeError::Size`]; the encoder then is as it was.
    pub fn resize(&mut self, options: EncoderOptions) -> Result<(), EncodeError> {
        *self = Self::new(options)?;
        Ok(())
    }

    /// As given, windows within their limits.
    pub fn options(&self) -> &EncoderOptions {
        &self.options
    }

    /// What subscribers in step show: blue, green, red and a byte without meaning.
    pub fn shadow(&self) -> &Picture {
        &self.shadow
    }

    /// Whether damage was reported or cut off that no update has carried yet. Without it there is nothing to do until
    /// there is new damage.
    pub fn is_behind(&self) -> bool {
        !self.owed.is_empty() || matches!(self.segment, Segment::Due { .. })
    }

    /// Makes the next update start a segment, for subscribers that are not in step: together with the key that the job
    /// makes. The next [`Encoder::encode`] yields that start even if nothing has changed.
    ///
    /// `None` if the next update starts a segment from black anyway: anybody may begin there, without a key.
    pub fn start_segment(&mut self) -> Option<KeyJob> {
        if matches!(self.segment, Segment::Due { base: Base::Black, .. }) {
            return None;
        }
        let history: History = Arc::from(pack_history(&self.shadow));
        self.segment = Segment::Due { base: Base::Shadow, history: Arc::clone(&history) };
        Some(KeyJob::new(self.options.header(), self.options.level, history))
    }

    /// Codes what differs from the shadow, in about `budget` bytes, or `None` if nothing does.
    ///
    /// The budget is soft: something is always sent, and content that compresses worse than what came before it
    /// exceeds it. What was cut off simply still differs at the next call, which should bring the newest picture.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn encode(
        &mut self,
        picture: PictureRef<'_>,
        hints: &Hints<'_>,
        budget: usize,
    ) -> Result<Option<Update>, EncodeError> {
        if picture.size() != self.options.size {
            return Err(EncodeError::OtherSize { expected: self.options.size, found: picture.size() });
        }
        self.now += 1;
        match hints.damage {
            None => self.owed.mark(self.options.size.rect(), self.now),
            Some(rects) => rects.iter().for_each(|&rect| self.owed.mark(rect, self.now)),
        }
        let mut regions = self.owed.compare(picture, &self.shadow);
        let copies = self.motion.find(picture, &self.shadow, &regions);
        if !copies.is_empty() {
            self.shadow.copy(&copies, &mut Vec::new());
            regions = self.owed.compare(picture, &self.shadow);
        }
        let mut body = Vec::new();
        let start = self.begin(&mut body)?;
        let Segment::Running(streams) = &mut self.segment else { unreachable!("begin leaves it running") };
        if regions.is_empty() && copies.is_empty() && start.is_none() {
            return Ok(None);
        }
        let mut writer = Writer::new(streams);
        copies.iter().try_for_each(|&copy| writer.copy(copy))?;
        slice::arrange(&mut regions, hints.pointer, budget, self.ratio);
        let left = send(&mut writer, picture, &mut self.shadow, regions, budget, &mut self.ratio)?;
        writer.finish(&mut body);
        self.owed.keep(&left);
        Ok(Some(Update { body, complete: left.is_empty(), start }))
    }

    /// If a segment is due: its header and streams.
    fn begin(&mut self, body: &mut Vec<u8>) -> Result<Option<Base>, EncodeError> {
        let Segment::Due { base, history } = &self.segment else { return Ok(None) };
        let (base, header) = (*base, self.options.header());
        header.put(body);
        self.segment = Segment::Running(Streams::new(&header, self.options.level, Arc::clone(history))?);
        Ok(Some(base))
    }
}

/// Writes regions, in order, until the budget is used up; the last one is cut. Returns what did not go.
fn send(
    writer: &mut Writer<'_>,
    picture: PictureRef<'_>,
    shadow: &mut Picture,
    mut regions: Vec<Region>,
    budget: usize,
    ratio: &mut f32,
) -> Result<Vec<Region>, EncodeError> {
    regions.reverse();
    let mut spent = writer.flush()?;
    let mut boxes = Vec::new();
    // Compressed sizes are known only after a flush: chunks of a size that should fit, until little room is left.
    while let Some(plain) = slice::fill(&mut regions, budget.saturating_sub(spent), *ratio, &mut boxes) {
        writer.boxes(picture, &boxes)?;
        boxes.drain(..).for_each(|rect| shadow.paint(picture, rect));
        let before = spent;
        spent = writer.flush()?;
        *ratio = slice::learn(*ratio, plain, spent - before);
        if spent >= budget / 5 * 4 {
            break;
        }
    }
    Ok(regions)
}
