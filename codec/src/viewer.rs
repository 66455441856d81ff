//! The rule that every subscriber follows: which body to apply, which to hold, which to skip.
//!
//! A subscriber that has applied an update is *in step* with its segment. Records arrive in order on each lane, but no
//! order holds between lanes, and keys have their own.
//!
//! - **In step**: the next update is applied, an earlier one skipped (a resume may repeat some). A start whose `from`
//!   is the last update applied goes on in its segment. A start whose `from` lies ahead in the running segment waits,
//!   with what follows it, until that is reached: so one rendition is left for another. Keys are skipped.
//! - **Not in step** (new, or after an error): a key is shown as soon as it comes; then the start of the same segment
//!   goes on. What comes before the key is held, up to a bound, and then goes on in order.
//! - **Always**: a start without `from` begins at black and needs nothing before it.
//! - **Lost**: a gap, a start from elsewhere, a damaged body, or more to hold than the bound. The caller asks for a
//!   start and a key (`Want`) and goes on passing records in.
//!
//! A sender that starts anew draws another epoch: then nothing of before counts any more, and what is still on its way
//! from an epoch that was left is skipped.

use std::collections::VecDeque;

use tandem_protocol::{Flags, Header, Point, ScreenKind, limits};

use crate::Base;
use crate::decoder::{Decoder, DecoderLimits, PixelOrder};
use crate::error::DecodeError;
use crate::picture::Rect;

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
    /// Kept until what it needs has come: the rest of its body, a key, a start's `from`.
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
    /// The segment starts from a shadow that this viewer doesn't have.
    #[error("the segment starts from another shadow")]
    OtherBase,
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
    limits: ViewerLimits,
    shown: Shown,
    held: VecDeque<Body>,
    held_bytes: usize,
    /// Unfinished bodies of the screen lane and of the key lane.
    parts: [Option<Body>; 2],
    epoch: Option<u64>,
    /// Epochs that were left, the last few of them.
    left: VecDeque<u64>,
}

/// Indexes of the lanes in [`Viewer::parts`].
const SCREEN: usize = 0;
const KEYS: usize = 1;

/// Epochs remembered as left: a sender restarts rarely, and its old records are gone within seconds.
const LEFT_MAX: usize = 8;

/// What the decoder's picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// A key; its segment has not started yet.
    Key(Point),
    Update(Point),
}

#[derive(Debug)]
struct Body {
    kind: ScreenKind,
    /// Number of its first part.
    first: u64,
    /// The point of its last part.
    point: Point,
    bytes: Vec<u8>,
}

enum Verdict {
    Apply,
    Hold,
    Skip,
    Lost(Lost),
}

impl Viewer {
    /// A viewer that has seen nothing yet.
    pub fn new(limits: ViewerLimits, order: PixelOrder) -> Self {
        Self {
            decoder: Decoder::new(limits.decoder, order),
            limits,
            shown: Shown::Nothing,
            held: VecDeque::new(),
            held_bytes: 0,
            parts: [None, None],
            epoch: None,
            left: VecDeque::new(),
        }
    }

    /// The picture and its size.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The shadow that is shown, if it is one. A key counts with its segment and the seq that it shows.
    pub fn point(&self) -> Option<Point> {
        match self.shown {
            Shown::Nothing => None,
            Shown::Key(point) | Shown::Update(point) => Some(point),
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
        self.apply(screen.kind, point, header.flags.contains(Flags::MORE), body)
    }

    /// Notes that the key lane was opened again: a key begun on the lane before it does not go on.
    pub fn key_lane_opened(&mut self) {
        self.parts[KEYS] = None;
    }

    /// As [`Viewer::record`], of one epoch. `more`: its body goes on in the lane's next record, whose seq is
    /// one higher (on a key lane the same); the point of such a body is its last record's.
    pub fn apply(&mut self, kind: ScreenKind, point: Point, more: bool, body: &[u8]) -> Outcome {
        let lane = if kind == ScreenKind::Key { KEYS } else { SCREEN };
        let body = match self.parts[lane].take() {
            None => Body { kind, first: point.seq, point, bytes: body.to_vec() },
            Some(begun) if repeats(&begun, kind, point) => {
                self.parts[lane] = Some(begun);
                return Outcome::Skipped;
            }
            Some(mut begun) => {
                let next = begun.point.seq.wrapping_add(u64::from(kind != ScreenKind::Key));
                if begun.kind != kind || point != (Point { seq: next, ..begun.point }) {
                    return self.lose(Lost::Parts);
                }
                begun.point = point;
                begun.bytes.extend_from_slice(body);
                begun
            }
        };
        if body.bytes.len() > self.limits.body_max {
            return self.lose(Lost::Overflow);
        }
        if more {
            self.parts[lane] = Some(body);
            return Outcome::Held;
        }
        match self.judge(&body) {
            Verdict::Apply => self.go_on(body),
            Verdict::Hold => self.hold(body),
            Verdict::Skip => Outcome::Skipped,
            Verdict::Lost(why) => {
                let outcome = self.lose(why);
                // Its key may be on the way already.
                if matches!(body.kind, ScreenKind::Start { .. }) {
                    self.hold(body);
                }
                outcome
            }
        }
    }

    fn judge(&self, body: &Body) -> Verdict {
        match body.kind {
            ScreenKind::Start { from: None } => Verdict::Apply,
            ScreenKind::Start { from: Some(from) } => self.judge_start(from, body.point),
            ScreenKind::Update => self.judge_update(body),
            ScreenKind::Key => match self.shown {
                Shown::Update(_) => Verdict::Skip,
                Shown::Key(key) if key == body.point => Verdict::Skip,
                _ => Verdict::Apply,
            },
        }
    }

    fn judge_start(&self, from: Point, point: Point) -> Verdict {
        match self.shown {
            Shown::Key(key) if same_segment(key, point) && key.seq == from.seq => Verdict::Apply,
            Shown::Nothing | Shown::Key(_) => Verdict::Hold,
            Shown::Update(last) if last == from => Verdict::Apply,
            Shown::Update(last) if same_segment(last, point) && point.seq <= last.seq => Verdict::Skip,
            Shown::Update(last) if same_segment(last, from) && from.seq > last.seq => Verdict::Hold,
            Shown::Update(_) if self.held.iter().any(|held| same_segment(held.point, from)) => Verdict::Hold,
            Shown::Update(_) => Verdict::Lost(Lost::OtherBase),
        }
    }

    fn judge_update(&self, body: &Body) -> Verdict {
        match self.shown {
            Shown::Update(last) if same_segment(last, body.point) => {
                // 0 follows nothing: an update's number is above its segment's start.
                match body.first.checked_sub(1) {
                    Some(before) if before == last.seq => Verdict::Apply,
                    Some(before) if before > last.seq => Verdict::Lost(Lost::Gap),
                    _ => Verdict::Skip,
                }
            }
            _ if self.held.iter().any(|held| same_segment(held.point, body.point)) => Verdict::Hold,
            Shown::Update(last) if last.rendition == body.point.rendition => Verdict::Lost(Lost::OtherBase),
            // Left over from a rendition that was left, or from a segment that this viewer never entered.
            _ => Verdict::Skip,
        }
    }

    /// Applies a body, then whatever waited for it.
    fn go_on(&mut self, body: Body) -> Outcome {
        self.drop_passed(&body);
        let mut rects = Vec::new();
        let mut next = Some(body);
        while let Some(body) = next {
            match self.decode(&body) {
                Ok(mut changed) => rects.append(&mut changed),
                Err(error) => return self.lose(Lost::Decode(error)),
            }
            let point = body.point;
            self.shown = if body.kind == ScreenKind::Key { Shown::Key(point) } else { Shown::Update(point) };
            next = match self.next_held() {
                Ok(next) => next,
                Err(why) => return self.lose(why),
            };
        }
        match self.point() {
            Some(point) => Outcome::Applied { rects, point },
            None => Outcome::Skipped,
        }
    }

    fn decode(&mut self, body: &Body) -> Result<Vec<Rect>, DecodeError> {
        match body.kind {
            ScreenKind::Update => self.decoder.update(&body.bytes),
            ScreenKind::Start { from: None } => self.decoder.start(Base::Black, &body.bytes),
            ScreenKind::Start { from: Some(_) } => self.decoder.start(Base::Shadow, &body.bytes),
            ScreenKind::Key => self.decoder.key(&body.bytes),
        }
    }

    /// A key makes all that was held before its segment's start pointless, and so does a start from black.
    fn drop_passed(&mut self, body: &Body) {
        let keep_from = match body.kind {
            ScreenKind::Key => self.held.iter().position(|held| {
                same_segment(held.point, body.point) && matches!(held.kind, ScreenKind::Start { .. })
            }),
            ScreenKind::Start { from: None } => None,
            _ => return,
        };
        let passed = keep_from.unwrap_or(self.held.len());
        self.held_bytes -= self.held.drain(..passed).map(|held| held.bytes.len()).sum::<usize>();
    }

    /// The first held body if it can be applied now.
    fn next_held(&mut self) -> Result<Option<Body>, Lost> {
        while let Some(body) = self.held.pop_front() {
            match self.judge(&body) {
                Verdict::Hold => {
                    self.held.push_front(body);
                    return Ok(None);
                }
                Verdict::Apply => {
                    self.held_bytes -= body.bytes.len();
                    return Ok(Some(body));
                }
                Verdict::Skip => self.held_bytes -= body.bytes.len(),
                Verdict::Lost(why) => {
                    self.held_bytes -= body.bytes.len();
                    return Err(why);
                }
            }
        }
        Ok(None)
    }

    fn hold(&mut self, body: Body) -> Outcome {
        // A little for bookkeeping, or empty bodies would be free.
        self.held_bytes += body.bytes.len();
        if self.held_bytes + (self.held.len() + 1) * size_of::<Body>() > self.limits.held_max {
            return self.lose(Lost::Overflow);
        }
        self.held.push_back(body);
        Outcome::Held
    }

    fn lose(&mut self, why: Lost) -> Outcome {
        self.forget();
        Outcome::Lost(why)
    }

    /// The picture stays to be looked at, but nothing builds on it.
    fn forget(&mut self) {
        self.shown = Shown::Nothing;
        self.held.clear();
        self.held_bytes = 0;
        self.parts = [None, None];
    }
}

/// Whether a part of an unfinished body has come again, after a resume. Parts of keys have no numbers of their own.
fn repeats(begun: &Body, kind: ScreenKind, point: Point) -> bool {
    kind != ScreenKind::Key && same_segment(begun.point, point) && point.seq <= begun.point.seq
}

fn same_segment(a: Point, b: Point) -> bool {
    (a.rendition, a.segment) == (b.rendition, b.segment)
}
