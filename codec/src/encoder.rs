//! Pictures into updates. Pure: the caller says when to encode, which pixels and how many bytes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Base;
use crate::error::EncodeError;
use crate::key::KeyJob;
use crate::lossless::{Known, Pixels, Streams, Writer};
use crate::motion::Motion;
use crate::owed::{Owed, Region};
use crate::picture::{Picture, PictureRef, Rect, pack_history};
use crate::prepare::{Prepared, StreamsJob};
use crate::slice::{self, Order, Trust};
use crate::stream::History;
use crate::video::Plane;

mod colours;
mod options;

pub use self::colours::Colours;
use self::colours::Reduced;
pub use self::options::EncoderOptions;

/// What the caller knows about a picture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// Where this picture may differ from the one before it; `None`: anywhere. Every claim is verified by comparing
    /// with the shadow. What an earlier budget left unsent is remembered and need not be named again.
    pub damage: Option<&'a [Rect]>,
    /// Where the pointer is: what is near it goes first when not everything can go.
    pub pointer: Option<(u16, u16)>,
    /// When it was taken, by any clock that never goes back. Only video asks for it.
    pub now: Duration,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The body of a start or update record, as it goes on the wire. May be longer than one record may carry.
    pub body: Vec<u8>,
    /// Whether subscribers that apply it show exactly the picture given, in the colours that are sent (as far as damage was named
    /// rightly). Never with video.
    pub complete: bool,
    /// Set if this is the start of a segment: what it builds on. [`Base::Black`] goes without `from`.
    pub start: Option<Base>,
    /// How many pixels went which way.
    pub pixels: Pixels,
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
    video: Plane,
    trust: Trust,
    reduced: Option<Reduced>,
    /// Whether anything was marked since motion was looked for: what an update left of a picture has been searched.
    is_new: bool,
    /// Counts calls of [`Encoder::encode`].
    now: u64,
}

enum Segment {
    /// The next update starts it.
    Due {
        base: Base,
        history: History,
        streams: Ready,
    },
    Running(Streams),
}

/// The streams of a segment that is due.
enum Ready {
    /// They are made when they are needed.
    No,
    /// A job makes them.
    Soon,
    Yes(Streams),
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
            segment: Segment::Due { base: Base::Black, history: History::default(), streams: Ready::No },
            motion: Motion::default(),
            video: Plane::new(options.video, options.size),
            trust: Trust::NONE,
            reduced: Reduced::new(options.colours, options.size),
            is_new: false,
            now: 0,
            options,
        })
    }

    /// Another encoder that stands where this one does: its first update starts a segment from the same shadow, and it owes
    /// what this one owes. It makes do with little memory.
    #[must_use]
    pub fn fork(&self) -> Self {
        let history = self.history();
        Self {
            options: self.options.low_memory().checked().expect("its size was allowed before"),
            shadow: self.shadow.clone(),
            owed: self.owed.clone(),
            segment: Segment::Due { base: Base::Shadow, history, streams: Ready::No },
            motion: Motion::default(),
            video: self.video.fork(),
            trust: Trust::NONE,
            reduced: self.reduced.clone(),
            is_new: self.is_new,
            now: self.now,
        }
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

    /// Memory that it holds: its shadow, and the contexts of its streams with their history.
    pub fn memory_bytes(&self) -> usize {
        let streams = match &self.segment {
            Segment::Running(streams) | Segment::Due { streams: Ready::Yes(streams), .. } => {
                streams.memory_bytes()
            }
            Segment::Due { history, .. } => history.len(),
        };
        self.shadow.bytes().len() + streams
    }

    /// Whether damage was reported or cut off that no update has carried yet. Without it there is nothing to do until
    /// there is new damage.
    pub fn is_behind(&self) -> bool {
        !self.owed.is_empty() || matches!(self.segment, Segment::Due { .. })
    }

    /// Notes where the newest picture may differ from the one before it, without coding it yet; `None`: anywhere.
    pub fn mark(&mut self, damage: Option<&[Rect]>) {
        self.is_new |= damage.is_none_or(|rects| !rects.is_empty());
        match damage {
            None => self.owed.mark(self.options.size.rect(), self.now + 1),
            Some(rects) => rects.iter().for_each(|&rect| self.owed.mark(rect, self.now + 1)),
        }
    }

    /// Makes the next update start a segment, for subscribers that are not in step: together with the key that the job
    /// makes. The next [`Encoder::encode`] yields that start even if nothing has changed.
    ///
    /// `None` if the next update starts a segment from black anyway: anybody may begin there, without a key.
    pub fn start_segment(&mut self) -> Option<KeyJob> {
        let history: History = match &self.segment {
            Segment::Due { base: Base::Black, .. } => return None,
            Segment::Due { history, .. } => Arc::clone(history),
            Segment::Running(_) => self.history(),
        };
        if let Segment::Running(_) = self.segment {
            let history = Arc::clone(&history);
            self.segment = Segment::Due { base: Base::Shadow, history, streams: Ready::No };
        }
        Some(KeyJob::new(self.options.header(), self.options.level, history))
    }

    /// Takes the making of the streams of a segment that is due off the hands of the [`Encoder::encode`] that starts it: with
    /// the shadow as history that is most of its time. Give what the job makes to [`Encoder::prepared`]; an `encode` before
    /// that makes its own. `None` if there is nothing to prepare.
    pub fn prepare(&mut self) -> Option<StreamsJob> {
        let Segment::Due { base: Base::Shadow, history, streams: streams @ Ready::No } = &mut self.segment
        else {
            return None;
        };
        *streams = Ready::Soon;
        Some(StreamsJob::new(self.options.header(), self.options.level, Arc::clone(history)))
    }

    /// Takes what [`Encoder::prepare`]'s job has made. It is dropped if it came too late.
    pub fn prepared(&mut self, prepared: Prepared) {
        let is_awaited = self.awaits(&prepared);
        if let Segment::Due { streams, .. } = &mut self.segment
            && is_awaited
        {
            // Whatever went wrong there goes wrong here again, and is told.
            *streams = prepared.streams.map_or(Ready::No, Ready::Yes);
        }
    }

    /// Whether these are the streams of the segment that is due.
    pub(crate) fn awaits(&self, prepared: &Prepared) -> bool {
        matches!(&self.segment, Segment::Due { history, .. } if Arc::ptr_eq(history, &prepared.history))
    }

    /// Whether a job of [`Encoder::prepare`] is out whose streams the next update needs.
    pub fn is_preparing(&self) -> bool {
        matches!(self.segment, Segment::Due { streams: Ready::Soon, .. })
    }

    /// The shadow as subscribers have it, packed.
    fn history(&self) -> History {
        let mut history = pack_history(&self.shadow);
        self.video.blacken_packed(&mut history);
        Arc::new(history)
    }

    /// Allows video or not, if the options do: with the next picture it ends or may begin. Subscribers must all be able to
    /// decode H.264.
    pub fn set_video(&mut self, on: bool) {
        self.video.set(on && self.options.video);
    }

    /// Where video goes on, or has ended and is not exact yet: there subscribers show nearly what was coded last.
    pub fn video_regions(&self) -> impl Iterator<Item = Rect> {
        self.video.regions()
    }

    /// When there is something to encode although nothing changes and the encoder is not behind: a video region then rests,
    /// and goes on as exact pixels. On the clock of [`Hints::now`].
    pub fn rests_at(&self) -> Option<Duration> {
        self.video.rests_at()
    }

    /// Brings the shadow to that of another encoder of pictures of the same size, whatever it takes, and owes what that one
    /// owes. `None` if the shadows are the same and no segment is due.
    ///
    /// # Errors
    /// [`EncodeError`]
    pub fn catch_up(&mut self, other: &Self) -> Result<Option<Update>, EncodeError> {
        self.video.adopt(&other.video, &mut self.shadow, &mut self.owed, self.now + 1);
        // Pixels that are no screen: nothing in them is video.
        let mut theirs = Cow::Borrowed(&other.shadow);
        if other.video.has_regions() {
            other.video.blacken(theirs.to_mut());
        }
        let is_on = self.video.set(false);
        let update = self.encode((*theirs).borrow(), &Hints::default(), usize::MAX);
        self.video.set(is_on);
        self.video.follow(&other.video, &mut self.shadow, other.shadow.borrow());
        self.owed = other.owed.clone();
        update
    }

    /// Codes what differs from the shadow, in about `budget` bytes, or `None` if nothing does.
    ///
    /// The budget is soft by one small piece: something is always sent. What was cut off simply still differs at the next call,
    /// which should bring the newest picture. Half of the budget is for what is near the pointer, the rest for what has waited
    /// longest, so that nothing waits for ever.
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
        self.mark(hints.damage);
        self.now += 1;
        let mut body = Vec::new();
        let start = self.begin(&mut body)?;
        let picture = match &mut self.reduced {
            None => picture,
            Some(reduced) => reduced.take(picture, self.owed.spans()),
        };
        let Segment::Running(streams) = &mut self.segment else { unreachable!("begin leaves it running") };
        if start.is_some() {
            self.video.restart();
        }
        let mut regions = self.owed.compare(picture, &self.shadow);
        self.video.split(&mut regions, hints.now);
        let is_new = std::mem::take(&mut self.is_new);
        let copies = if is_new { self.motion.find(picture, &self.shadow, &regions) } else { &[] };
        let copies = self.video.clip(copies);
        if !copies.is_empty() {
            for copy in copies.iter() {
                // What it brings was found to be the picture's.
                self.shadow.paint(picture, copy.to);
                self.owed.settle(copy.to);
            }
            regions = self.owed.compare(picture, &self.shadow);
            self.video.without(&mut regions);
        }
        let at = (self.now, hints.now);
        self.video.watch(picture, &mut self.shadow, &mut self.owed, &mut regions, at);
        if regions.is_empty() && copies.is_empty() && start.is_none() && !self.video.is_due() {
            return Ok(None);
        }
        self.trust = self.trust.carry();
        let mut writer = Writer::new(streams, self.options.colours == Colours::Grey);
        copies.iter().try_for_each(|&copy| writer.copy(copy))?;
        let video = self.video.write(&mut writer, picture, &mut self.shadow, budget)?;
        let spent = writer.flush()?;
        let going_on: Vec<Rect> = self.video.going_on().collect();
        let known = Known::Shadow { shadow: &mut self.shadow, video: &going_on };
        let mut sending = Sending { writer, picture, known, trust: &mut self.trust, spent };
        let Order { first, then } = slice::arrange(&self.owed, picture, regions, hints.pointer, budget);
        let left = sending.send(first, budget / 2)?;
        let left = sending.send(Order::merge(left, then), budget)?;
        if self.video.settle(&mut sending.writer, &left)? {
            sending.spent = sending.writer.flush()?;
        }
        self.video.spent(sending.spent - video);
        let pixels = sending.writer.finish(&mut body);
        self.owed.keep(&left);
        let complete = left.is_empty() && !self.video.has_regions();
        Ok(Some(Update { body, complete, start, pixels }))
    }

    /// If a segment is due: its header and streams.
    fn begin(&mut self, body: &mut Vec<u8>) -> Result<Option<Base>, EncodeError> {
        let Segment::Due { base, history, streams } = &mut self.segment else { return Ok(None) };
        let (base, header) = (*base, self.options.header());
        header.put(body);
        let streams = match std::mem::replace(streams, Ready::No) {
            Ready::Yes(streams) => streams,
            Ready::No | Ready::Soon => Streams::new(&header, self.options.level, Arc::clone(history))?,
        };
        self.segment = Segment::Running(streams);
        Ok(Some(base))
    }
}

/// An update while it is written.
struct Sending<'a> {
    writer: Writer<'a>,
    picture: PictureRef<'a>,
    known: Known<'a>,
    trust: &'a mut Trust,
    /// Bytes so far.
    spent: usize,
}

impl Sending<'_> {
    /// Writes regions, in order, until the budget is used up, all that was spent before counted; the last one is cut. Returns
    /// what did not go.
    fn send(&mut self, mut regions: Vec<Region>, budget: usize) -> Result<Vec<Region>, EncodeError> {
        regions.reverse();
        let mut boxes = Vec::new();
        loop {
            let room = budget.saturating_sub(self.spent);
            let filled = slice::fill(self.picture, &mut regions, room, *self.trust, &mut boxes);
            let Some(at_worst) = filled else { break };
            self.writer.boxes(self.picture, &boxes, &mut self.known)?;
            boxes.clear();
            let before = std::mem::replace(&mut self.spent, self.writer.flush()?);
            *self.trust = self.trust.learn(at_worst, self.spent - before);
            if self.spent >= budget / 5 * 4 {
                break;
            }
        }
        regions.reverse();
        Ok(regions)
    }
}
