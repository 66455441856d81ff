//! How lanes share one WebSocket: fragments, chosen by priority one at a time, each within its receiver's credit.
//!
//! A message holds whole fragments, one after the other: {lane u16, flags u8, length u16, payload}. Control is lane 0 in
//! both directions and needs no opening; other lanes are numbered by their sender, a client's even, a relay's odd. The
//! first fragment of a lane begins with its opening ([`LaneKey::opening`]); the rest of its payloads are its records.
//!
//! Both halves are plain data. [`Outgoing`] asks for a lane's next record only when it can be sent now, so that what
//! waits can still be replaced or dropped by its owner.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::assembler::Assembler;
use crate::lane::{LaneKey, LaneKind, Priority, UnknownKind};
use crate::limits;
use crate::record::{Record, RecordError};
use crate::share::{Shares, Turn, Waiting};

/// Bytes before a fragment's payload.
pub const FRAGMENT_HEADER_LEN: usize = 5;
/// The lane's first fragment: its payload begins with the opening.
pub const FIRST: u8 = 1;
/// A record ends with this fragment.
pub const LAST: u8 = 2;
/// The lane is given up; an unfinished record is void. No payload.
pub const RESET: u8 = 4;
/// The lane ends after this fragment.
pub const FIN: u8 = 8;

/// A lane's number in fragments of one direction. 0 is control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u16);

impl LaneId {
    /// The control lane.
    pub const CONTROL: Self = Self(0);
}

/// Which end of the connection numbers its lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Even numbers.
    Client,
    /// Odd numbers.
    Relay,
}

/// The sending half.
#[derive(Debug)]
pub struct Outgoing {
    next: u16,
    lanes: Vec<OutLane>,
    shares: Shares,
}

#[derive(Debug)]
struct OutLane {
    id: LaneId,
    key: LaneKey,
    priority: Priority,
    /// The record that is being sent, and what is left of it.
    whole: Bytes,
    record: Bytes,
    opened: bool,
    finishing: bool,
    sent: u64,
    credit: u64,
}

impl OutLane {
    fn new(id: LaneId, key: LaneKey, focused: bool) -> Self {
        Self {
            id,
            key,
            priority: key.priority(focused),
            whole: Bytes::new(),
            record: Bytes::new(),
            opened: id == LaneId::CONTROL,
            finishing: false,
            sent: 0,
            credit: if id == LaneId::CONTROL { u64::MAX } else { key.kind.credit() },
        }
    }

    /// Payload that the receiver still allows.
    fn allowance(&self) -> usize {
        usize::try_from(self.credit - self.sent).unwrap_or(usize::MAX)
    }

    /// Whether it could send now, asking its owner for a record if it has none.
    fn ready(&mut self, next: &mut impl FnMut(LaneId, LaneKey) -> Option<Bytes>) -> bool {
        if self.allowance() <= LaneKey::OPENING_LEN {
            return false;
        }
        if self.record.is_empty() && !self.finishing {
            self.whole = next(self.id, self.key).unwrap_or_default();
            self.record = self.whole.clone();
        }
        !self.record.is_empty() || (self.finishing && self.opened)
    }
}

impl Outgoing {
    /// With nothing but the control lane.
    pub fn new(side: Side) -> Self {
        let next = if side == Side::Client { 2 } else { 1 };
        Self {
            next,
            lanes: vec![OutLane::new(LaneId::CONTROL, LaneKey::CONTROL, false)],
            shares: Shares::default(),
        }
    }

    /// Opens a lane. Its opening goes out with its first record.
    pub fn open(&mut self, key: LaneKey, focused: bool) -> LaneId {
        loop {
            let id = LaneId(self.next);
            self.next = self.next.checked_add(2).unwrap_or(2 - (self.next & 1));
            if self.lanes.iter().all(|lane| lane.id != id) {
                self.lanes.push(OutLane::new(id, key, focused));
                self.lanes.sort_by_key(|lane| lane.priority);
                return id;
            }
        }
    }

    /// Changes a lane's urgency: the receiver looks at another display.
    pub fn prioritize(&mut self, id: LaneId, priority: Priority) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.id == id) {
            lane.priority = priority;
        }
        self.lanes.sort_by_key(|lane| lane.priority);
    }

    /// The receiver allows so many payload bytes since the lane opened. A lower number than before changes nothing, and a
    /// lane that is gone is none of its business.
    pub fn credit(&mut self, id: LaneId, bytes: u64) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.id == id) {
            lane.credit = lane.credit.max(bytes);
        }
    }

    /// Ends a lane after the record that is being sent.
    pub fn finish(&mut self, id: LaneId) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.id == id) {
            lane.finishing = true;
        }
        self.lanes.retain(|lane| lane.opened || !lane.finishing || !lane.record.is_empty());
    }

    /// Gives a lane up at once, in the middle of a record if need be. Appends the fragment that says so, if the other
    /// side knows of the lane. Answers the record that has not been sent whole.
    pub fn reset(&mut self, id: LaneId, out: &mut BytesMut) -> Option<Bytes> {
        let at = self.lanes.iter().position(|lane| lane.id == id)?;
        let lane = self.lanes.remove(at);
        if lane.opened {
            put_header(out, id, RESET, 0);
        }
        (!lane.record.is_empty()).then_some(lane.whole)
    }

    /// Whether a record of this lane is half sent.
    pub fn in_record(&self, id: LaneId) -> bool {
        self.lanes.iter().any(|lane| lane.id == id && !lane.record.is_empty())
    }

    /// Whether a record of a lane that is less urgent than `last` is half sent.
    pub fn is_inside_beyond(&self, last: Priority) -> bool {
        self.lanes.iter().any(|lane| lane.priority > last && !lane.record.is_empty())
    }

    /// Appends the most urgent fragment that may go now, with at most `payload_max` bytes (at least
    /// [`limits::FRAGMENT_MIN`] are used), and says whose it was. `next` hands out a lane's next record. `None`: nothing
    /// may go.
    ///
    /// Keys and bulk get their share ([`Shares`]); otherwise the order is strict.
    pub fn fragment(
        &mut self,
        payload_max: usize,
        next: impl FnMut(LaneId, LaneKey) -> Option<Bytes>,
        out: &mut BytesMut,
    ) -> Option<LaneId> {
        self.fragment_of(Priority::LAST, payload_max, next, out)
    }

    /// [`Outgoing::fragment`] of lanes that are at least as urgent as `last`.
    pub fn fragment_of(
        &mut self,
        last: Priority,
        payload_max: usize,
        mut next: impl FnMut(LaneId, LaneKey) -> Option<Bytes>,
        out: &mut BytesMut,
    ) -> Option<LaneId> {
        let payload_max = payload_max.clamp(limits::FRAGMENT_MIN, limits::FRAGMENT_MAX);
        let (at, waiting) = self.choose(last, payload_max, &mut next)?;
        let lane = &mut self.lanes[at];
        let opening = if lane.opened { 0 } else { LaneKey::OPENING_LEN };
        let body = lane.record.len().min(payload_max - opening).min(lane.allowance() - opening);
        let mut flags = 0;
        if !lane.opened {
            flags |= FIRST;
        }
        if body > 0 && body == lane.record.len() {
            flags |= LAST;
        }
        let ends = lane.finishing && body == lane.record.len();
        if ends {
            flags |= FIN;
        }
        put_header(out, lane.id, flags, opening + body);
        if !lane.opened {
            out.put_slice(&lane.key.opening());
            lane.opened = true;
        }
        out.put_slice(&lane.record[..body]);
        lane.record.advance(body);
        if lane.record.is_empty() {
            lane.whole = Bytes::new();
        }
        // Who looked at urgent lanes only has not seen whether keys and bulk wait.
        if last == Priority::LAST {
            self.shares.sent(lane.key.kind, opening + body, waiting);
        }
        if lane.id != LaneId::CONTROL {
            lane.sent += (opening + body) as u64;
        }
        let (id, priority) = (lane.id, lane.priority);
        if ends {
            self.lanes.remove(at);
        } else {
            // Behind its equals, so that they take turns.
            let behind = at + self.lanes[at..].iter().take_while(|lane| lane.priority == priority).count();
            self.lanes[at..behind].rotate_left(1);
        }
        Some(id)
    }

    /// The lane whose turn it is, and what waits.
    fn choose(
        &mut self,
        last: Priority,
        payload_max: usize,
        next: &mut impl FnMut(LaneId, LaneKey) -> Option<Bytes>,
    ) -> Option<(usize, Waiting)> {
        let count = self.lanes.iter().take_while(|lane| lane.priority <= last).count();
        let first = (0..count).find(|&at| self.lanes[at].ready(next))?;
        let mut of = |is: fn(LaneKind) -> bool| {
            (first..count).find(|&at| is(self.lanes[at].key.kind) && self.lanes[at].ready(next))
        };
        let (key, bulk) = (of(|kind| kind == LaneKind::Key), of(LaneKind::is_bulk));
        let waiting = Waiting { first: self.lanes[first].priority, key: key.is_some(), bulk: bulk.is_some() };
        let at = match self.shares.turn(waiting, payload_max) {
            Turn::First => first,
            Turn::Key => key?,
            Turn::Bulk => bulk?,
        };
        Some((at, waiting))
    }
}

fn put_header(out: &mut BytesMut, id: LaneId, flags: u8, len: usize) {
    out.put_u16_le(id.0);
    out.put_u8(flags);
    out.put_u16_le(u16::try_from(len).expect("a fragment is at most 16 KiB"));
}

/// What arrived.
#[derive(Debug)]
pub enum Event {
    /// A lane was opened.
    Opened(LaneId, LaneKey),
    /// A whole record.
    Record(LaneId, LaneKey, Record),
    /// A lane ended in order.
    Finished(LaneId, LaneKey),
    /// A lane was given up; an unfinished record is void.
    Reset(LaneId, LaneKey),
}

/// Why a message is none. The connection must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// The message ends inside a fragment.
    #[error("a fragment is cut off")]
    Truncated,
    /// More payload than [`limits::FRAGMENT_MAX`].
    #[error("a fragment of {0} bytes")]
    Length(u16),
    /// A fragment of a lane that was not opened, or an opening of one that is.
    #[error("lane {0} is not open, or opened twice")]
    Lane(u16),
    /// A number that the other end may not give.
    #[error("lane {0} has a number of the other side")]
    Number(u16),
    /// More than [`limits::LANES_MAX`], or from a relay more than [`limits::LANES_TO_CLIENT_MAX`].
    #[error("too many lanes")]
    Lanes,
    /// More bytes than were allowed.
    #[error("lane {0} went beyond its credit")]
    Credit(u16),
    /// A lane of an unknown kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// Not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record ends elsewhere than its fragments say.
    #[error("records and fragments of lane {0} do not end together")]
    Boundary(u16),
}

/// The receiving half.
#[derive(Debug)]
pub struct Incoming {
    /// Lowest bit of the other end's numbers.
    parity: u16,
    lanes: HashMap<u16, InLane>,
}

#[derive(Debug)]
struct InLane {
    key: LaneKey,
    records: Assembler,
    /// Payload bytes since it opened, opening included.
    received: u64,
    consumed: u64,
    granted: u64,
}

impl InLane {
    fn new(key: LaneKey) -> Self {
        let records = Assembler::new(key.kind);
        Self { key, records, received: 0, consumed: 0, granted: key.kind.credit() }
    }
}

impl Incoming {
    /// For the lanes of the other end, which is `sender`.
    pub fn new(sender: Side) -> Self {
        let control = InLane { granted: u64::MAX, ..InLane::new(LaneKey::CONTROL) };
        Self { parity: u16::from(sender == Side::Relay), lanes: HashMap::from([(0, control)]) }
    }

    /// Reads one message and hands over what it completes, in order.
    ///
    /// # Errors
    /// [`MuxError`]; what came before it in the message has been handed over.
    pub fn message(&mut self, mut message: &[u8], mut on: impl FnMut(Event)) -> Result<(), MuxError> {
        while !message.is_empty() {
            if message.len() < FRAGMENT_HEADER_LEN {
                return Err(MuxError::Truncated);
            }
            let (id, flags, len) = (message.get_u16_le(), message.get_u8(), message.get_u16_le());
            if message.len() < usize::from(len) {
                return Err(MuxError::Truncated);
            }
            if usize::from(len) > limits::FRAGMENT_MAX {
                return Err(MuxError::Length(len));
            }
            let (payload, rest) = message.split_at(usize::from(len));
            message = rest;
            self.fragment(id, flags, payload, &mut on)?;
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        id: u16,
        flags: u8,
        mut payload: &[u8],
        on: &mut impl FnMut(Event),
    ) -> Result<(), MuxError> {
        let len = payload.len() as u64;
        if flags & FIRST != 0 {
            payload = self.open(id, payload, on)?;
        }
        let lane = self.lanes.get_mut(&id).ok_or(MuxError::Lane(id))?;
        lane.received += len;
        if lane.received > lane.granted {
            return Err(MuxError::Credit(id));
        }
        if flags & RESET != 0 && id != 0 {
            on(Event::Reset(LaneId(id), lane.key));
            self.lanes.remove(&id);
            return Ok(());
        }
        while let Some(record) = lane.records.next(&mut payload)? {
            on(Event::Record(LaneId(id), lane.key, record));
        }
        let ends = flags & FIN != 0;
        if (flags & LAST != 0 || ends) && !lane.records.is_empty() {
            return Err(MuxError::Boundary(id));
        }
        if ends && id != 0 {
            on(Event::Finished(LaneId(id), lane.key));
            self.lanes.remove(&id);
        }
        Ok(())
    }

    fn open<'a>(
        &mut self,
        id: u16,
        payload: &'a [u8],
        on: &mut impl FnMut(Event),
    ) -> Result<&'a [u8], MuxError> {
        if id & 1 != self.parity {
            return Err(MuxError::Number(id));
        }
        let Some((opening, rest)) = payload.split_first_chunk() else { return Err(MuxError::Truncated) };
        let key = LaneKey::parse(*opening)?;
        if key.kind == LaneKind::Control || self.lanes.contains_key(&id) {
            return Err(MuxError::Lane(id));
        }
        // Control is beside them.
        let most = if self.parity == 0 { limits::LANES_MAX } else { limits::LANES_TO_CLIENT_MAX };
        if self.lanes.len() > most {
            return Err(MuxError::Lanes);
        }
        self.lanes.insert(id, InLane::new(key));
        on(Event::Opened(LaneId(id), key));
        Ok(rest)
    }

    /// Bytes of records received on a lane since it opened, the opening not counted: what an `Ack` reports.
    pub fn received(&self, id: LaneId) -> u64 {
        self.lanes.get(&id.0).map_or(0, |lane| lane.received.saturating_sub(LaneKey::OPENING_LEN as u64))
    }

    /// The receiver has made room for this many record bytes of a lane. When that calls for more credit, the new absolute
    /// limit, to be sent to the other end.
    pub fn consumed(&mut self, id: LaneId, bytes: usize) -> Option<u64> {
        let lane = self.lanes.get_mut(&id.0).filter(|_| id != LaneId::CONTROL)?;
        lane.consumed += bytes as u64;
        let window = lane.key.kind.credit();
        // A record larger than the window would otherwise never be whole.
        let unfinished = lane.received - lane.consumed.min(lane.received);
        let limit = lane.consumed + window.max(unfinished + window / 2) + LaneKey::OPENING_LEN as u64;
        (limit >= lane.granted + window / 4).then(|| {
            lane.granted = limit;
            limit
        })
    }
}

impl Incoming {
    /// New limits for lanes whose unfinished record is larger than what they were granted. To be asked after every
    /// message: such a record would otherwise never be whole.
    pub fn overdue(&mut self) -> Vec<(LaneId, u64)> {
        // A sender does not begin a fragment for less than an opening.
        let short = |lane: &InLane| lane.granted - lane.received <= LaneKey::OPENING_LEN as u64;
        let ids: Vec<u16> = self.lanes.iter().filter(|(_, lane)| short(lane)).map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| Some((LaneId(id), self.consumed(LaneId(id), 0)?))).collect()
    }
}

#[cfg(test)]
mod tests;
