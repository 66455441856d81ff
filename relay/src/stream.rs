//! One rendition of one display as the relay holds it: records in order, the segments they form, and positions in them.
//!
//! Plain data. Nothing is copied per subscriber: a subscriber is a [`Position`]. Records are counted by *ordinals* that never go
//! back, whatever the publisher's numbers and epochs do, so that differences of ordinals are counts of records. Who is in step
//! crosses a segment's start without noticing; who is not enters at a start from black, or at one whose key is here; who
//! shows the update that a start names as its `from` may enter there too, from the other rendition. After a restart of the relay a
//! rendition is taken up in the middle of a segment, and who shows any update from there on goes on.

mod ways;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_protocol::{Flags, Header, Point, Record, ScreenKind};

/// What arrives within this time of a start from black is taken for its first picture.
const FIRST_PICTURE: Duration = Duration::from_secs(1);

/// How long subscribers may be on their way back from the relay before this one: so long records that are sent again wait for them, and
/// what is held is no past to them.
pub(crate) const RETURN: Duration = Duration::from_secs(10);

/// What a held record costs beside its bytes, about: without it a million tiny ones would be next to nothing.
const BOOKKEEPING: usize = 192;
/// A rendition's held records.
#[derive(Debug, Default)]
pub struct Stream {
    epoch: Option<u64>,
    next_seq: u64,
    /// Of the newest start; the newest start itself may have been let go.
    segment: Option<u32>,
    /// The newest record's body goes on in the next.
    unfinished: bool,
    /// The ordinal of the record that comes next.
    head: u64,
    records: VecDeque<Held>,
    starts: VecDeque<Start>,
    /// The key of which a part has come.
    arriving: Option<Key>,
    /// A whole key whose start is still to come.
    early: Option<Key>,
    held_bytes: usize,
    /// Bytes of all records that ever came.
    total_bytes: u64,
    /// Bytes of records since the publisher last opened the lane.
    lane_bytes: u64,
    arrived: Option<Instant>,
    key_bytes: Option<usize>,
    first_picture: Option<(Instant, usize)>,
    taken_up: Option<TakenUp>,
}

/// A relay before this one brought it so far.
#[derive(Clone, Copy, Debug)]
struct TakenUp {
    /// What the publisher had made by then is before this number.
    next_seq: u64,
    /// Until when subscribers may come back who show some of that; `None`: that is over.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    point: Point,
    bytes: Bytes,
    /// [`Stream::total_bytes`] before it.
    before: u64,
    arrived: Instant,
    /// Its body goes on in the next record.
    more: bool,
    /// It begins a segment that does not go on from the record before it.
    jumps: bool,
}

/// The start of a segment.
#[derive(Debug)]
struct Start {
    at: u64,
    segment: u32,
    from: Option<Point>,
    jumps: bool,
    key: Option<Key>,
}

/// A key, or what has come of it.
#[derive(Debug)]
struct Key {
    epoch: u64,
    segment: u32,
    parts: Vec<Bytes>,
    bytes: usize,
}

/// Where a subscriber is: the record that it needs next, and what it shows by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    at: u64,
    /// It may begin with the start that it stands at, whatever it shows.
    entering: bool,
    /// It has had a part of a body whose next part it stands at.
    inside: bool,
    /// The last update that it has had whole.
    shows: Option<Point>,
}

/// A way into a rendition for who has nothing.
#[derive(Debug)]
pub struct Entry {
    /// Begin here.
    pub position: Position,
    /// After this key.
    pub key: Vec<Bytes>,
    /// Bytes of the key and of what is held from there on.
    pub bytes: u64,
}

/// What a subscriber gets at its position.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// This record.
    Record(Bytes),
    /// Nothing yet.
    Nothing,
    /// What it needs is gone: it must enter anew.
    Lost,
}

/// What a pushed record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It follows what is held.
    Update,
    /// It begins a segment.
    Start,
    /// It begins a segment from black: all before it is of no more use.
    Black,
    /// It was here before.
    Duplicate,
}

/// What a pushed part of a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedKey {
    /// More must come: of it, or its start.
    Part,
    /// Its segment can now be entered by it.
    Whole,
    /// Its segment's start is no longer held.
    Useless,
}

/// The publisher broke the rules of docs/protocol.md, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Only starts may leave numbers out.
    #[error("record {got} where {expected} was next")]
    Gap {
        /// The record's number.
        got: u64,
        /// The number that should have been.
        expected: u64,
    },
    /// A rendition begins with a start from black, or from the other rendition, unless it was taken up ([`Stream::take_up`]).
    #[error("an update before any start")]
    NoStart,
    /// An update names another segment than the newest.
    #[error("segment {0} is not the newest")]
    Segment(u32),
    /// The key's parts are more than [`tandem_protocol::limits::ASSEMBLED_MAX`].
    #[error("the key is too large")]
    KeySize,
}

impl Position {
    fn entering(at: u64) -> Self {
        Self { at, entering: true, inside: false, shows: None }
    }

    /// The ordinal of the record that it needs next.
    pub fn ordinal(self) -> u64 {
        self.at
    }

    /// The last update that the subscriber has had whole, unless it is in the middle of the next.
    pub fn shows(self) -> Option<Point> {
        self.shows.filter(|_| !self.inside)
    }
}

impl Start {
    /// Bytes of the key that somebody needs to enter here.
    fn key_bytes(&self) -> u64 {
        self.key.as_ref().filter(|_| self.from.is_some()).map_or(0, |key| key.bytes as u64)
    }
}

impl Stream {
    /// The publisher opened its screen lane, for the first time or again.
    pub fn lane_opened(&mut self) {
        self.lane_bytes = 0;
    }

    /// The publisher opened its key lane: a key begun on the lane before it does not go on.
    pub fn key_lane_opened(&mut self) {
        self.arriving = None;
    }

    /// Bytes of records that have arrived on the publisher's present lane.
    pub fn lane_bytes(&self) -> u64 {
        self.lane_bytes
    }

    /// Bytes of all records that ever came.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// When the last record came.
    pub fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    /// How many records have come.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The ordinal of the first record that is still held.
    pub fn first(&self) -> u64 {
        self.head - self.records.len() as u64
    }

    /// The publisher's epoch and the record that is needed next: what a resume starts from.
    pub fn received(&self) -> Option<(u64, u64)> {
        self.epoch.map(|epoch| (epoch, self.next_seq))
    }

    /// Takes the next record of the screen lane.
    ///
    /// # Errors
    /// [`StreamError`]; nothing has changed then.
    pub fn push(&mut self, record: &Record, now: Instant) -> Result<Pushed, StreamError> {
        let header = &record.header;
        let Some(screen) = header.screen else { return Err(StreamError::NoStart) };
        let point = Point { rendition: screen.rendition, segment: screen.segment, seq: header.seq };
        let (pushed, jumps) = match screen.kind {
            ScreenKind::Start { from } => self.push_start(header, point, from, now)?,
            _ if self.epoch != Some(header.epoch) => return Err(StreamError::NoStart),
            _ if header.seq < self.next_seq => (Pushed::Duplicate, false),
            _ => {
                self.check_next(header.seq)?;
                self.check_segment(screen.segment)?;
                (Pushed::Update, false)
            }
        };
        let len = record.bytes.len();
        self.lane_bytes += len as u64;
        if pushed == Pushed::Duplicate {
            return Ok(pushed);
        }
        self.records.push_back(Held {
            point,
            bytes: record.bytes.clone(),
            before: self.total_bytes,
            arrived: now,
            more: header.flags.contains(Flags::MORE),
            jumps,
        });
        self.head += 1;
        self.unfinished = header.flags.contains(Flags::MORE);
        self.next_seq = header.seq.saturating_add(1);
        self.held_bytes += len;
        self.total_bytes += len as u64;
        self.arrived = Some(now);
        if let Some((began, bytes)) = &mut self.first_picture
            && now.saturating_duration_since(*began) <= FIRST_PICTURE
        {
            *bytes += len;
        }
        Ok(pushed)
    }

    fn push_start(
        &mut self,
        header: &Header,
        point: Point,
        from: Option<Point>,
        now: Instant,
    ) -> Result<(Pushed, bool), StreamError> {
        let mut jumps = from.is_some();
        if self.epoch == Some(header.epoch) {
            if header.seq < self.next_seq {
                return Ok((Pushed::Duplicate, false));
            }
            if self.unfinished && self.segment == Some(point.segment) {
                // A start in several parts is one start.
                self.check_next(header.seq)?;
                return Ok((Pushed::Update, false));
            }
            jumps &= header.seq != self.next_seq;
        } else {
            if from.is_some_and(|from| from.rendition == point.rendition) {
                return Err(StreamError::NoStart);
            }
            self.records.clear();
            self.starts.clear();
            self.held_bytes = 0;
            self.epoch = Some(header.epoch);
        }
        self.segment = Some(point.segment);
        if from.is_none() {
            self.first_picture = Some((now, 0));
            self.taken_up = None;
        }
        let same = |key: &mut Key| (key.epoch, key.segment) == (header.epoch, point.segment);
        let key = self.early.take_if(same);
        self.starts.push_back(Start { at: self.head, segment: point.segment, from, jumps, key: None });
        if let Some(key) = key {
            self.key_came(key);
        }
        Ok((if from.is_none() { Pushed::Black } else { Pushed::Start }, jumps))
    }

    fn check_next(&self, got: u64) -> Result<(), StreamError> {
        if got == self.next_seq { Ok(()) } else { Err(StreamError::Gap { got, expected: self.next_seq }) }
    }

    fn check_segment(&self, segment: u32) -> Result<(), StreamError> {
        match self.segment {
            Some(newest) if newest == segment => Ok(()),
            Some(_) => Err(StreamError::Segment(segment)),
            None => Err(StreamError::NoStart),
        }
    }

    /// What is at a position. The position moves behind it.
    pub fn read(&self, position: &mut Position) -> Read {
        if position.at >= self.head {
            return Read::Nothing;
        }
        let Some(held) = self.held(position.at) else { return Read::Lost };
        if held.jumps && !position.entering && !self.leads(position.at, position.shows) {
            return Read::Lost;
        }
        *position = Position {
            at: position.at + 1,
            entering: false,
            inside: held.more,
            shows: if held.more { position.shows } else { Some(held.point) },
        };
        Read::Record(held.bytes.clone())
    }

    /// Whether the start at this ordinal goes on from what is shown.
    fn leads(&self, at: u64, shows: Option<Point>) -> bool {
        let start = self.starts.iter().find(|start| start.at == at);
        start.is_some_and(|start| start.from.is_none() || start.from == shows)
    }

    /// Moves a position that has not passed the newest start from black to it, unless it must first end a body: what it shows is
    /// of no more account, and may be of another epoch. How many records were left out, if it was moved.
    pub fn skip_to_black(&self, position: &mut Position) -> Option<u64> {
        let black = self.starts.iter().rev().find(|start| start.from.is_none()).map(|start| start.at);
        let black = black.filter(|&at| at >= position.at && at >= self.first())?;
        let must_end = position.inside && (self.first()..black).contains(&position.at);
        if must_end || (black == position.at && position.entering) {
            return None;
        }
        let skipped = black - position.at;
        *position = Position::entering(black);
        Some(skipped)
    }

    /// The update that a position shows, or else the record that it needs next: no way out of this rendition from before it can
    /// be taken any more.
    pub fn least_exit(&self, position: Position) -> Option<Point> {
        position.shows().or_else(|| self.held(position.at).map(|held| held.point))
    }

    fn held(&self, ordinal: u64) -> Option<&Held> {
        let at = ordinal.checked_sub(self.first())?;
        self.records.get(usize::try_from(at).ok()?)
    }

    /// Bytes that a position has still to read.
    pub fn queued(&self, position: Position) -> u64 {
        let first = self.held(position.at.max(self.first()));
        first.map_or(0, |held| self.total_bytes - held.before)
    }

    /// When the record that a position needs next came.
    pub fn waits_since(&self, position: Position) -> Option<Instant> {
        self.held(position.at.max(self.first())).map(|held| held.arrived)
    }

    /// Lets go of what nobody needs: what every position has passed (`needed` is the least ordinal that somebody needs) and no
    /// joiner would want, since entering there costs more than `worth` bytes; and whatever is beyond
    /// `most` bytes, oldest first. `key_to_come`: the newest segment may still get one.
    pub fn trim(&mut self, needed: u64, worth: u64, key_to_come: bool, most: usize) {
        loop {
            let wanted = needed.min(self.wanted_by_joiners(worth, key_to_come));
            while self.first() < wanted && !self.records.is_empty() {
                self.let_go_first();
            }
            if self.held_bytes + self.records.len() * BOOKKEEPING <= most {
                return;
            }
            self.let_go_first();
        }
    }

    /// The least ordinal from which somebody who comes would read.
    fn wanted_by_joiners(&self, worth: u64, key_to_come: bool) -> u64 {
        let cheap = |at: &u64| self.queued(Position::entering(*at)) <= worth;
        let entry = self.way_in(0).map(|start| start.at).filter(cheap);
        let newest = self.starts.back().map(|start| start.at).filter(|_| key_to_come);
        entry.into_iter().chain(newest).min().unwrap_or(self.head)
    }

    fn let_go_first(&mut self) {
        let Some(first) = self.records.pop_front() else { return };
        self.held_bytes -= first.bytes.len();
        let first = self.first();
        while self.starts.front().is_some_and(|start| start.at < first) {
            self.starts.pop_front();
        }
    }

    /// Bytes of memory that it takes, what is kept about records and keys included.
    pub fn footprint(&self) -> usize {
        let keys = self.starts.iter().filter_map(|start| start.key.as_ref());
        let parts: usize = keys.chain(&self.arriving).chain(&self.early).map(|key| key.parts.len()).sum();
        self.held_bytes() + (self.records.len() + parts) * BOOKKEEPING
    }

    /// Bytes held now, keys included.
    pub fn held_bytes(&self) -> usize {
        let keys = self.starts.iter().filter_map(|start| start.key.as_ref());
        self.held_bytes + keys.chain(&self.arriving).chain(&self.early).map(|key| key.bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
