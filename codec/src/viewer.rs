//! The rule that every subscriber follows: which body to apply, which to hold, which to skip.
//!
//! A subscriber that has applied an update is *in step* with its rendition. Records arrive in order on each lane, but no
//! order holds between lanes: there may be two screen lanes, live and reduced, and each has its key lane.
//!
//! - **In step**: the next update is applied, an earlier one skipped (a resume may repeat some). A start goes on if its number
//!   is the next one, or if its `from` is what is shown, in whichever rendition. Any other start waits, with what follows
//!   it on its lane, until one of these holds: so one rendition is left for the other. A start whose time has passed is skipped,
//!   and so are updates of the rendition that was left. A key is kept until its start comes, and used only if that cannot go on
//!   without.
//! - **Not in step** (new, or after an error): a key is shown as soon as it comes; then the start of the same segment
//!   goes on. Starts before the key are held, with what follows them, up to a bound.
//! - **Always**: a start without `from` begins at black and needs nothing before it. (Only one that is older than what is shown,
//!   by its number or, of the other rendition, by its time, is skipped.)
//! - **Lost**: a gap, a damaged body, or more to hold than the bound. The caller asks for a start and a key (`Want`) and goes
//!   on passing records in.
//!
//! A sender that starts anew draws another epoch: then nothing of before counts any more, and what is still on its way
//! from an epoch that was left is skipped.

use std::collections::VecDeque;

use tandem_protocol::{Flags, Header, Point, Rendition, ScreenKind, limits};

use self::waiting::{Body, Waiting};
use crate::Base;
use crate::decoder::{Decoder, DecoderLimits, PixelOrder, VideoPicture};
use crate::error::DecodeError;
use crate::picture::Rect;

mod waiting;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The picture changed.
    Applied {
        /// Where; may overlap.
        rects: Vec<Rect>,
        /// The shadow shown now. For a key it carries the key's segment and the seq that the key shows.
        point: Point,
    },
    /// Kept until what it needs has come: the rest of its body, a key, its start, a start's `from`.
    Held,
    /// Not needed.
    Skipped,
    /// The picture is stale or damaged, and stays so until a start and a key have come: ask for them.
    Lost(Lost),
}

/// Why a viewer fell out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// A body was damaged.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Updates are missing before this one.
    #[error("updates are missing")]
    Gap,
    /// The update is of a segment whose start never came.
    #[error("an update of a segment that has not started")]
    NoStart,
    /// More had to be held than the bound allows.
    #[error("too much to hold")]
    Overflow,
    /// The parts of a body don't belong together.
    #[error("a body's parts don't belong together")]
    Parts,
}

/// Bounds of a viewer.
#[derive(Clone, Copy, Debug)]
pub struct ViewerLimits {
    /// Bounds of the pictures.
    pub decoder: DecoderLimits,
    /// Most bytes of one body, assembled from its parts.
    pub body_max: usize,
    /// Most bytes of bodies that are held.
    pub held_max: usize,
}

impl Default for ViewerLimits {
    fn default() -> Self {
        Self {
            decoder: DecoderLimits::default(),
            body_max: limits::ASSEMBLED_MAX,
            held_max: limits::HELD_SEGMENT_MAX + limits::ASSEMBLED_MAX,
        }
    }
}

/// A subscriber's end of one display: records in, pictures out.
#[derive(Debug)]
pub struct Viewer {
    decoder: Decoder,
    /// Of the bodies that the last record made applicable.
    videos: Vec<VideoPicture>,
    limits: ViewerLimits,
    shown: Shown,
    /// Of each rendition: what comes before this number is older than what is shown.
    reached: [u64; RENDITIONS],
    waiting: Waiting,
    /// Unfinished bodies: of each rendition's screen lane and key lane.
    parts: [[Option<Body>; 2]; RENDITIONS],
    epoch: Option<u64>,
    /// Epochs that were left, the last few of them.
    left: VecDeque<u64>,
}

/// Live and reduced.
const RENDITIONS: usize = 2;

/// Epochs remembered as left: a sender restarts rarely, and its old records are gone within seconds.
const LEFT_MAX: usize = 8;

/// What the decoder's picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// A key; its segment has not started yet.
    Key(Point),
    /// With the sender's clock when it was sent.
    Update(Point, u64),
}

/// What becomes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Apply,
    /// Apply the key that is kept, then this start.
    ApplyAfterKey,
    Hold,
    Skip,
    Lost(Lost),
}

impl Viewer {
    /// A viewer that has seen nothing yet.
    pub fn new(limits: ViewerLimits, order: PixelOrder) -> Self {
        Self {
            decoder: Decoder::new(limits.decoder, order),
            videos: Vec::new(),
            limits,
            shown: Shown::Nothing,
            reached: [0; RENDITIONS],
            waiting: Waiting::default(),
            parts: Default::default(),
            epoch: None,
            left: VecDeque::new(),
        }
    }

    /// The picture and its size.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// To show video in.
    #[cfg(feature = "video")]
    pub(crate) fn decoder_mut(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// The video pictures that came with the last record, to be decoded in this order before what changed is shown. The next
    /// record drops them.
    pub fn take_videos(&mut self) -> Vec<VideoPicture> {
        std::mem::take(&mut self.videos)
    }

    /// Notes that a video picture is shown beside this viewer's picture, as [`Decoder::take_awaited`] does.
    pub fn take_awaited(&mut self, serial: u64) -> Option<Rect> {
        self.decoder.take_awaited(serial)
    }

    /// Shows a decoded video picture, as [`Decoder::show_video`] does.
    pub fn show_video(&mut self, serial: u64, pixels: &[u8]) -> Option<Rect> {
        self.decoder.show_video(serial, pixels)
    }

    /// The shadow that is shown, if it is one. A key counts with its segment and the seq that it shows.
    pub fn point(&self) -> Option<Point> {
        match self.shown {
            Shown::Nothing => None,
            Shown::Key(point) | Shown::Update(point, _) => Some(point),
        }
    }

    /// Takes in a record of a screen or key lane, its body unsealed. Anything else is skipped.
    pub fn record(&mut self, header: &Header, body: &[u8]) -> Outcome {
        let Some(screen) = header.screen else { return Outcome::Skipped };
        if self.epoch != Some(header.epoch) {
            if self.left.contains(&header.epoch) {
                return Outcome::Skipped;
            }
            self.forget();
            if self.left.len() == LEFT_MAX {
                self.left.pop_front();
            }
            self.left.extend(self.epoch.replace(header.epoch));
        }
        let point = Point { rendition: screen.rendition, segment: screen.segment, seq: header.seq };
        self.apply(screen.kind, point, header.time_us, header.flags.contains(Flags::MORE), body)
    }

    /// Notes that a rendition's key lane was opened again: a key begun on the lane before it does not go on.
    pub fn key_lane_opened(&mut self, rendition: Rendition) {
        if let Some([_, key]) = self.parts.get_mut(usize::from(rendition.0)) {
            *key = None;
        }
    }

    /// As [`Viewer::record`], of one epoch; `time_us` is the sender's clock. `more`: its body goes on in the lane's next record,
    /// whose seq is one higher (on a key lane the same); the point of such a body is its last record's.
    pub fn apply(
        &mut self,
        kind: ScreenKind,
        point: Point,
        time_us: u64,
        more: bool,
        bytes: &[u8],
    ) -> Outcome {
        self.videos.clear();
        let Some(lanes) = self.parts.get_mut(usize::from(point.rendition.0)) else { return Outcome::Skipped };
        let lane = &mut lanes[usize::from(kind == ScreenKind::Key)];
        let body = match lane.take() {
            None => Body::new(kind, point, time_us, bytes),
            Some(begun) if begun.repeats(kind, point) => {
                *lane = Some(begun);
                return Outcome::Skipped;
            }
            Some(begun) => match begun.joined(kind, point, bytes) {
                Some(body) => body,
                // The rest of what was begun is not sent any more: something else leads on.
                None if kind != ScreenKind::Update => Body::new(kind, point, time_us, bytes),
                None => return self.lose(Lost::Parts),
            },
        };
        let assembled = self.parts.iter().flatten().flatten().map(Body::len).sum::<usize>() + body.len();
        if assembled > self.limits.body_max {
            return self.lose(Lost::Overflow);
        }
        if more {
            let [screen, key] = &mut self.parts[usize::from(point.rendition.0)];
            *(if kind == ScreenKind::Key { key } else { screen }) = Some(body);
            return Outcome::Held;
        }
        self.take(body)
    }

    /// Takes in a whole body that has just arrived.
    fn take(&mut self, body: Body) -> Outcome {
        let verdict = match body.kind {
            // What it builds on waits too, or was skipped.
            ScreenKind::Update if self.waiting.is_before(&body) => Verdict::Hold,
            _ if self.waiting.has(&body) => Verdict::Skip,
            _ => self.judge(&body),
        };
        match verdict {
            Verdict::Apply => self.go_on(body),
            Verdict::ApplyAfterKey => {
                let key = self.waiting.take_key();
                self.waiting.push(body);
                key.map_or(Outcome::Held, |key| self.go_on(key))
            }
            Verdict::Hold => {
                self.waiting.push(body);
                if self.waiting.bytes() > self.limits.held_max {
                    return self.lose(Lost::Overflow);
                }
                Outcome::Held
            }
            Verdict::Skip => Outcome::Skipped,
            Verdict::Lost(why) => self.lose(why),
        }
    }

    fn judge(&self, body: &Body) -> Verdict {
        match body.kind {
            ScreenKind::Start { from: None } => match self.shown {
                _ if body.point.seq < self.reached[body.lane()] => Verdict::Skip,
                // What is shown of the other rendition has overtaken it.
                Shown::Update(last, time)
                    if last.rendition != body.point.rendition && body.time_us < time =>
                {
                    Verdict::Skip
                }
                _ => Verdict::Apply,
            },
            ScreenKind::Start { from: Some(from) } => self.judge_start(from, body),
            ScreenKind::Update => self.judge_update(body),
            ScreenKind::Key => self.judge_key(body),
        }
    }

    fn judge_start(&self, from: Point, start: &Body) -> Verdict {
        let point = start.point;
        match self.shown {
            Shown::Key(key) if same_segment(key, point) => Verdict::Apply,
            Shown::Update(last, _) if last == from || start.follows(last) => Verdict::Apply,
            Shown::Update(..) if point.seq < self.reached[start.lane()] => Verdict::Skip,
            _ if self.waiting.has_key_of(point) => Verdict::ApplyAfterKey,
            Shown::Update(last, _) if last.rendition == from.rendition && from.seq <= last.seq => {
                Verdict::Skip
            }
            _ => Verdict::Hold,
        }
    }

    fn judge_update(&self, update: &Body) -> Verdict {
        match self.shown {
            Shown::Update(last, _) if last.rendition == update.point.rendition => {
                if update.point.seq <= last.seq {
                    Verdict::Skip
                } else if !update.follows(last) {
                    Verdict::Lost(Lost::Gap)
                } else if same_segment(last, update.point) {
                    Verdict::Apply
                } else {
                    Verdict::Lost(Lost::NoStart)
                }
            }
            // Left over from a rendition that was left, or from a segment that this viewer never entered.
            _ => Verdict::Skip,
        }
    }

    fn judge_key(&self, key: &Body) -> Verdict {
        let point = key.point;
        match self.shown {
            Shown::Key(last) if last == point => Verdict::Skip,
            Shown::Key(_) | Shown::Update(..) if key.enables() < self.reached[key.lane()] => Verdict::Skip,
            Shown::Update(..) if !self.waiting.has_start_of(point) => Verdict::Hold,
            _ => Verdict::Apply,
        }
    }

    /// Applies a body, then whatever waited for it.
    fn go_on(&mut self, body: Body) -> Outcome {
        let mut rects = Vec::new();
        let mut next = Some(body);
        while let Some(body) = next {
            self.waiting.drop_before(&body);
            match self.decode(&body) {
                Ok(mut changed) => {
                    rects.append(&mut changed);
                    self.videos.append(&mut self.decoder.take_videos());
                }
                Err(error) => return self.lose(Lost::Decode(error)),
            }
            self.shown = match body.kind {
                ScreenKind::Key => Shown::Key(body.point),
                _ => Shown::Update(body.point, body.time_us),
            };
            self.reach(&body);
            next = match self.next_waiting() {
                Ok(next) => next,
                Err(why) => return self.lose(why),
            };
        }
        match self.point() {
            Some(point) => Outcome::Applied { rects, point },
            None => Outcome::Skipped,
        }
    }

    /// Notes what is older than this body, in its own rendition and in that of its `from`.
    fn reach(&mut self, body: &Body) {
        let from = match body.kind {
            ScreenKind::Start { from } => from,
            ScreenKind::Update | ScreenKind::Key => None,
        };
        for point in from.into_iter().chain([body.point]) {
            if let Some(reached) = self.reached.get_mut(usize::from(point.rendition.0)) {
                *reached = point.seq.saturating_add(1).max(*reached);
            }
        }
        self.waiting.drop_key_before(self.reached);
    }

    fn decode(&mut self, body: &Body) -> Result<Vec<Rect>, DecodeError> {
        match body.kind {
            ScreenKind::Update => self.decoder.update(&body.bytes),
            ScreenKind::Start { from: None } => self.decoder.start(Base::Black, &body.bytes),
            ScreenKind::Start { from: Some(_) } => self.decoder.start(Base::Shadow, &body.bytes),
            ScreenKind::Key => self.decoder.key(&body.bytes),
        }
    }

    /// A body that waited and can be applied now. Starts come first: an update that was read too far would let them pass.
    fn next_waiting(&mut self) -> Result<Option<Body>, Lost> {
        let mut update = None;
        for lane in 0..RENDITIONS {
            while let Some(body) = self.waiting.front(lane) {
                let (verdict, is_update) = (self.judge(body), body.kind == ScreenKind::Update);
                match verdict {
                    Verdict::Apply if is_update => update = Some(lane),
                    Verdict::Apply => return Ok(self.waiting.pop(lane)),
                    Verdict::ApplyAfterKey => return Ok(self.waiting.take_key()),
                    Verdict::Skip => {
                        self.waiting.pop(lane);
                        continue;
                    }
                    Verdict::Hold => {}
                    Verdict::Lost(why) => return Err(why),
                }
                break;
            }
        }
        Ok(update.and_then(|lane| self.waiting.pop(lane)))
    }

    fn lose(&mut self, why: Lost) -> Outcome {
        self.forget();
        Outcome::Lost(why)
    }

    /// The picture stays to be looked at, but nothing builds on it.
    fn forget(&mut self) {
        self.shown = Shown::Nothing;
        self.reached = [0; RENDITIONS];
        self.waiting = Waiting::default();
        self.parts = Default::default();
    }
}

fn same_segment(a: Point, b: Point) -> bool {
    (a.rendition, a.segment) == (b.rendition, b.segment)
}
