//! Hands lanes' records to the streams of a QUIC connection, bound late: what waits here can still be replaced or dropped by its
//! owner, what the connection has taken cannot.
//!
//! Screens, keys and bulk go in small pieces at the path's pace ([`Bucket`]), and only while the path has room: what quinn holds
//! unsent stays within a few milliseconds. Control, input and cursors go at once, past a full window if need be.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tandem_protocol::share::{Shares, Turn, Waiting};
use tandem_protocol::{LaneKey, LaneKind, Priority};

use crate::bucket::{self, Bucket};
use crate::quic::Path;
use crate::state::State;

/// A stream to the other end.
pub trait Stream: Send {
    /// Takes bytes or the first part of them, without a copy, or says when to ask again.
    ///
    /// # Errors
    /// The stream or its connection is gone.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: Bytes) -> Poll<io::Result<usize>>;
    /// The stream with the highest priority is sent first.
    fn set_priority(&self, priority: i32);
    /// Nothing more will be written.
    fn finish(&mut self);
    /// What was written is void.
    fn reset(&mut self);
}

/// A stream that is being opened: the other end may have to allow it first.
pub type Opening<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// What a lane's owner has for it.
#[derive(Debug)]
pub enum Next {
    /// A record, to be sent now.
    Record(Bytes),
    /// Nothing at the moment.
    Nothing,
    /// Nothing any more: the lane ends with what was written.
    Finished,
    /// The lane is given up.
    Reset,
}

/// The sending half of a connection. `Id` is what the owner calls a lane.
pub struct Sender<Id, S> {
    /// In the order of sending; those of one priority take turns.
    lanes: Vec<Lane<Id, S>>,
    /// Lanes' turns among their equals: who was served last comes last.
    served: u64,
    shares: Shares,
    bucket: Bucket,
    /// Bytes that quinn has taken and not sent, as far as can be told.
    unsent: u64,
    /// What had been sent when that was counted.
    sent: u64,
    written_at: Option<Instant>,
}

struct Lane<Id, S> {
    id: Id,
    key: LaneKey,
    priority: Priority,
    served: u64,
    stream: Out<S>,
    rest: Bytes,
    finishing: bool,
    over: Option<Over>,
    /// quinn sends it before screens: it was its turn.
    raised: bool,
}

enum Out<S> {
    Opening(Opening<S>),
    Open(S),
}

/// How a lane ended.
#[derive(Clone, Copy)]
enum Over {
    /// All that its owner had is written.
    Finished,
    GivenUp,
}

/// Time of the path's rate that may be unsent, and the least that may be.
const UNSENT: Duration = Duration::from_millis(3);
const UNSENT_MIN: u64 = 4096;
/// Bytes beside what is written that a packet of its own carries.
const HEADERS: usize = 64;
/// After this long with nothing under way nothing is unsent.
const SETTLED: Duration = Duration::from_millis(20);

impl<Id, S> std::fmt::Debug for Sender<Id, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("lanes", &self.lanes.len())
            .field("unsent", &self.unsent)
            .finish_non_exhaustive()
    }
}

impl<Id, S> Default for Sender<Id, S> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            served: 0,
            shares: Shares::default(),
            bucket: Bucket::default(),
            unsent: 0,
            sent: 0,
            written_at: None,
        }
    }
}

impl<Id: Copy + Eq, S: Stream> Sender<Id, S> {
    /// Adds a lane whose stream is being opened; its opening is written first.
    pub fn open(&mut self, id: Id, key: LaneKey, focused: bool, opening: Opening<S>) {
        let rest = Bytes::copy_from_slice(&key.opening());
        self.add(id, key, focused, Out::Opening(opening), rest);
    }

    /// Adds a lane that needs no opening.
    pub fn adopt(&mut self, id: Id, key: LaneKey, stream: S) {
        self.add(id, key, false, Out::Open(stream), Bytes::new());
    }

    fn add(&mut self, id: Id, key: LaneKey, focused: bool, stream: Out<S>, rest: Bytes) {
        let priority = key.priority(focused);
        let lane = Lane {
            id,
            key,
            priority,
            served: self.served,
            stream,
            rest,
            finishing: false,
            over: None,
            raised: false,
        };
        lane.prioritize();
        self.lanes.push(lane);
        self.lanes.sort_by_key(|lane| lane.priority);
    }

    /// Says of every lane again whether the receiver looks at its display.
    pub fn focus(&mut self, focused: impl Fn(LaneKey) -> bool) {
        for lane in &mut self.lanes {
            let priority = lane.key.priority(focused(lane.key));
            if priority != lane.priority {
                lane.priority = priority;
                lane.prioritize();
            }
        }
        self.lanes.sort_by_key(|lane| lane.priority);
    }

    /// Ends a lane after the record that is being sent and all that its owner still has for it.
    pub fn finish(&mut self, id: Id) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.id == id) {
            lane.finishing = true;
        }
    }

    /// Gives a lane up at once.
    pub fn reset(&mut self, id: Id) {
        if let Some(at) = self.lanes.iter().position(|lane| lane.id == id) {
            if let Out::Open(mut stream) = self.lanes.remove(at).stream {
                stream.reset();
            }
            // What it had unsent is gone too, how much nobody says.
            self.unsent = 0;
        }
    }

    /// Takes a lane away, with its stream and what was not written of the record that it was writing.
    pub fn take(&mut self, id: Id) -> Option<(S, Bytes)> {
        let at = self.lanes.iter().position(|lane| lane.id == id)?;
        let Lane { stream: Out::Open(stream), rest, .. } = self.lanes.remove(at) else { return None };
        Some((stream, rest))
    }

    /// Bytes that quinn has taken and not sent.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Writes what may be written now. Wakes the task when there may be more, or says when to call again. Without `path` the
    /// connection's send window alone is the bound.
    ///
    /// # Errors
    /// A stream failed.
    pub fn pump(
        &mut self,
        cx: &mut Context<'_>,
        path: Option<&Path>,
        now: Instant,
        mut next: impl FnMut(Id) -> Next,
    ) -> io::Result<Option<Instant>> {
        self.ready(cx)?;
        self.urgent(cx, path, &mut next)?;
        let mut full = Vec::new();
        let wake = self.ordinary(cx, path, now, &mut next, &mut full);
        self.end_over();
        wake
    }

    /// Writes what is not urgent, piece by piece. Lanes that can't take more now go to `full`.
    fn ordinary(
        &mut self,
        cx: &mut Context<'_>,
        path: Option<&Path>,
        now: Instant,
        next: &mut impl FnMut(Id) -> Next,
        full: &mut Vec<Id>,
    ) -> io::Result<Option<Instant>> {
        loop {
            let state = path.map(|path| path.watch(cx.waker())).unwrap_or_default();
            self.settle(&state, now);
            self.bucket.fill(state.pace, now);
            if path.is_some() && !self.has_room(&state) {
                // An acknowledgement, or something that was sent, wakes us.
                return Ok((self.unsent > 0).then(|| now + SETTLED));
            }
            if !self.bucket.is_open(state.pace) {
                return Ok(Some(self.bucket.opens_at(state.pace, now)));
            }
            let piece = if state.piece > 0 { state.piece } else { bucket::piece(state.pace) };
            let Some((at, waiting, turn)) = self.choose(piece, full, next) else { return Ok(None) };
            let lane = &mut self.lanes[at];
            lane.raise(turn != Turn::First);
            match lane.write(cx, piece)? {
                Poll::Ready(bytes) => {
                    self.served += 1;
                    lane.served = self.served;
                    self.shares.sent(lane.key.kind, bytes, waiting);
                    self.bucket.take(bytes);
                    self.wrote(bytes, now);
                }
                Poll::Pending => full.push(lane.id),
            }
        }
    }

    /// Opens streams whose turn has come.
    fn ready(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for lane in &mut self.lanes {
            if let Out::Opening(opening) = &mut lane.stream
                && let Poll::Ready(stream) = opening.as_mut().poll(cx)
            {
                lane.stream = Out::Open(stream?);
                lane.prioritize();
            }
        }
        Ok(())
    }

    /// Writes all that is urgent.
    fn urgent(
        &mut self,
        cx: &mut Context<'_>,
        path: Option<&Path>,
        next: &mut impl FnMut(Id) -> Next,
    ) -> io::Result<()> {
        let mut at = 0;
        while at < self.lanes.len() && self.lanes[at].priority <= Priority::URGENT {
            let lane = &mut self.lanes[at];
            while lane.fill(next) {
                if let Some(path) = path {
                    path.urge(lane.rest.len() as u64);
                }
                match lane.write(cx, usize::MAX)? {
                    Poll::Ready(bytes) => {
                        self.unsent += bytes as u64;
                        // It takes its part of the path from what is not urgent.
                        self.bucket.owe(bytes + HEADERS);
                    }
                    Poll::Pending => break,
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// Follows what quinn has sent of what it was given.
    fn settle(&mut self, state: &State, now: Instant) {
        self.unsent = self.unsent.saturating_sub(state.sent.saturating_sub(self.sent));
        self.sent = state.sent;
        if state.in_flight == 0 && self.written_at.is_none_or(|at| now >= at + SETTLED) {
            self.unsent = 0;
        }
    }

    fn wrote(&mut self, bytes: usize, now: Instant) {
        self.unsent += bytes as u64;
        self.written_at = Some(now);
    }

    fn has_room(&self, state: &State) -> bool {
        let ahead = UNSENT_MIN.max((state.rate * UNSENT.as_secs_f64()) as u64);
        // What is unsent is bounded by itself, and with what is under way.
        self.unsent < ahead && state.in_flight + self.unsent < state.window + ahead / 2
    }

    /// The lane whose turn it is, what else waits, and why it is its turn. Lanes in `full` can't take any more now.
    fn choose(
        &mut self,
        piece: usize,
        full: &[Id],
        next: &mut impl FnMut(Id) -> Next,
    ) -> Option<(usize, Waiting, Turn)> {
        let mut best = [None::<usize>; 3];
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|&at| (self.lanes[at].priority, self.lanes[at].served));
        for at in order {
            let lane = &mut self.lanes[at];
            let class = match lane.key.kind {
                LaneKind::Key => 1,
                kind if kind.is_bulk() => 2,
                _ => 0,
            };
            if lane.priority <= Priority::URGENT || best[class].is_some() || full.contains(&lane.id) {
                continue;
            }
            if lane.fill(next) {
                best[class] = Some(at);
            }
        }
        let [screen, key, bulk] = best;
        let first = screen.or(key).or(bulk)?;
        let waiting = Waiting { first: self.lanes[first].priority, key: key.is_some(), bulk: bulk.is_some() };
        let turn = self.shares.turn(waiting, piece);
        let at = match turn {
            Turn::First => first,
            Turn::Key => key?,
            Turn::Bulk => bulk?,
        };
        Some((at, waiting, turn))
    }

    /// Ends the streams of lanes that are over.
    fn end_over(&mut self) {
        for lane in &mut self.lanes {
            if let (Some(over), Out::Open(stream)) = (lane.over, &mut lane.stream) {
                match over {
                    Over::Finished => stream.finish(),
                    Over::GivenUp => stream.reset(),
                }
            }
        }
        self.lanes.retain(|lane| lane.over.is_none());
    }
}

impl<Id: Copy, S: Stream> Lane<Id, S> {
    /// Whether there is something to write, after asking the owner.
    fn fill(&mut self, next: &mut impl FnMut(Id) -> Next) -> bool {
        if self.rest.is_empty() && self.over.is_none() {
            match next(self.id) {
                Next::Record(record) => self.rest = record,
                Next::Nothing => self.over = self.finishing.then_some(Over::Finished),
                Next::Finished => self.over = Some(Over::Finished),
                Next::Reset => self.over = Some(Over::GivenUp),
            }
        }
        !self.rest.is_empty()
    }

    fn write(&mut self, cx: &mut Context<'_>, most: usize) -> io::Result<Poll<usize>> {
        let Out::Open(stream) = &mut self.stream else { return Ok(Poll::Pending) };
        let piece = self.rest.slice(..self.rest.len().min(most));
        Ok(match stream.poll_write(cx, piece) {
            Poll::Ready(written) => {
                let written = written?;
                self.rest.advance(written);
                Poll::Ready(written)
            }
            Poll::Pending => Poll::Pending,
        })
    }

    /// Lets quinn send what it has of this lane before screens, or in its own order again.
    fn raise(&mut self, raised: bool) {
        if self.raised != raised {
            self.raised = raised;
            self.prioritize();
        }
    }

    fn prioritize(&self) {
        if let Out::Open(stream) = &self.stream {
            // quinn's order is the other way round; a raised lane is between cursors and screens.
            let order = if self.raised {
                10 * i32::from(Priority::URGENT.0) + 5
            } else {
                10 * i32::from(self.priority.0)
            };
            stream.set_priority(-order);
        }
    }
}
