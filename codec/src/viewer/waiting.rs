//! Bodies that wait for what they build on: a queue for each screen lane, in the order of the lane, and a key whose start has
//! not come.

use std::collections::VecDeque;

use tandem_protocol::{Point, ScreenKind};

use super::{RENDITIONS, same_segment};

/// A start, an update or a key, whole or growing.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) kind: ScreenKind,
    /// Number of its first part.
    first: u64,
    /// The point of its last part.
    pub(super) point: Point,
    /// The sender's clock when its first part was sent.
    pub(super) time_us: u64,
    pub(super) bytes: Vec<u8>,
}

impl Body {
    pub(super) fn new(kind: ScreenKind, point: Point, time_us: u64, bytes: &[u8]) -> Self {
        Self { kind, first: point.seq, point, time_us, bytes: bytes.to_vec() }
    }

    /// Whether a part of this unfinished body has come again, after a resume. Parts of keys have no numbers of their own.
    pub(super) fn repeats(&self, kind: ScreenKind, point: Point) -> bool {
        kind != ScreenKind::Key && same_segment(self.point, point) && point.seq <= self.point.seq
    }

    /// With one more part, if it is the next.
    pub(super) fn joined(mut self, kind: ScreenKind, point: Point, bytes: &[u8]) -> Option<Self> {
        let seq = self.point.seq.wrapping_add(u64::from(kind != ScreenKind::Key));
        if self.kind != kind || point != (Point { seq, ..self.point }) {
            return None;
        }
        self.point = point;
        self.bytes.extend_from_slice(bytes);
        Some(self)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether its number is the next after `last`, on the same lane.
    pub(super) fn follows(&self, last: Point) -> bool {
        self.point.rendition == last.rendition && Some(self.first) == last.seq.checked_add(1)
    }

    fn is_start(&self) -> bool {
        matches!(self.kind, ScreenKind::Start { .. })
    }

    /// Of a key: the number of the start that follows it, if that leaves none out.
    pub(super) fn enables(&self) -> u64 {
        self.point.seq.saturating_add(1)
    }

    pub(super) fn lane(&self) -> usize {
        usize::from(self.point.rendition.0)
    }

    /// A little for bookkeeping, or empty bodies would be free.
    fn weight(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// What waits. Each queue begins with a start.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lanes: [VecDeque<Body>; RENDITIONS],
    key: Option<Body>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a body in: at the end of its lane, or as the key.
    pub(super) fn push(&mut self, body: Body) {
        self.bytes += body.weight();
        if body.kind == ScreenKind::Key {
            let before = self.key.replace(body);
            self.bytes -= before.map_or(0, |key| key.weight());
        } else {
            self.lanes[body.lane()].push_back(body);
        }
    }

    /// Whether something waits on the body's lane that comes before it.
    pub(super) fn is_before(&self, body: &Body) -> bool {
        self.lanes[body.lane()].back().is_some_and(|last| last.point.seq < body.point.seq)
    }

    /// Whether this start or update has come before, and waits.
    pub(super) fn has(&self, body: &Body) -> bool {
        let last = self.lanes[body.lane()].back();
        body.kind != ScreenKind::Key && last.is_some_and(|last| body.point.seq <= last.point.seq)
    }

    pub(super) fn has_start_of(&self, point: Point) -> bool {
        let mut waiting = self.lanes[usize::from(point.rendition.0)].iter();
        waiting.any(|body| body.is_start() && same_segment(body.point, point))
    }

    pub(super) fn has_key_of(&self, point: Point) -> bool {
        self.key.as_ref().is_some_and(|key| same_segment(key.point, point))
    }

    pub(super) fn take_key(&mut self) -> Option<Body> {
        let key = self.key.take()?;
        self.bytes -= key.weight();
        Some(key)
    }

    pub(super) fn front(&self, lane: usize) -> Option<&Body> {
        self.lanes[lane].front()
    }

    pub(super) fn pop(&mut self, lane: usize) -> Option<Body> {
        let body = self.lanes[lane].pop_front()?;
        self.bytes -= body.weight();
        Some(body)
    }

    /// Drops what is pointless once `body` is applied: what comes before a start, or before what a key shows, on its lane.
    pub(super) fn drop_before(&mut self, body: &Body) {
        let lane = &mut self.lanes[body.lane()];
        while let Some(passed) = lane.pop_front_if(|other| other.point.seq <= body.point.seq) {
            self.bytes -= passed.weight();
        }
    }

    /// Drops a key that enables what is older than what is shown.
    pub(super) fn drop_key_before(&mut self, reached: [u64; RENDITIONS]) {
        if let Some(key) = self.key.take_if(|key| key.enables() < reached[key.lane()]) {
            self.bytes -= key.weight();
        }
    }
}
