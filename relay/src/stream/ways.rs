//! The ways into a rendition: by the held segment, by a key, from the other rendition, and back to where one was.

use std::time::Instant;

use tandem_protocol::{Flags, Point, Record, limits};

use super::{BOOKKEEPING, Entry, Key, Position, PushedKey, RETURN, Start, Stream, StreamError, TakenUp};

impl Stream {
    /// Takes a part of a key. The key of a segment whose start is still to come is kept for it.
    ///
    /// # Errors
    /// [`StreamError::KeySize`].
    pub fn push_key(&mut self, record: &Record) -> Result<PushedKey, StreamError> {
        let Some(screen) = record.header.screen else { return Ok(PushedKey::Useless) };
        let (epoch, segment) = (record.header.epoch, screen.segment);
        let begun = self.arriving.take_if(|key| (key.epoch, key.segment) == (epoch, segment));
        let mut key = begun.unwrap_or_else(|| Key { epoch, segment, parts: Vec::new(), bytes: 0 });
        key.bytes += record.bytes.len();
        if key.bytes + key.parts.len() * BOOKKEEPING > limits::ASSEMBLED_MAX {
            return Err(StreamError::KeySize);
        }
        key.parts.push(record.bytes.clone());
        if record.header.flags.contains(Flags::MORE) {
            self.arriving = Some(key);
            return Ok(PushedKey::Part);
        }
        // It shows the record before its start.
        let early = self.epoch != Some(epoch) || record.header.seq.saturating_add(1) >= self.next_seq;
        match self.key_came(key) {
            None => Ok(PushedKey::Whole),
            Some(key) if early => {
                self.early = Some(key);
                Ok(PushedKey::Part)
            }
            Some(_) => Ok(PushedKey::Useless),
        }
    }

    /// Gives a whole key to its start; back if that is not held.
    pub(super) fn key_came(&mut self, key: Key) -> Option<Key> {
        let of = |start: &Start| start.segment == key.segment;
        let at = self.starts.iter().rposition(of).filter(|_| self.epoch == Some(key.epoch));
        let Some(at) = at else { return Some(key) };
        if self.starts.iter().skip(at + 1).any(|newer| newer.key.is_some()) {
            // Nobody enters by this one any more.
            return None;
        }
        self.key_bytes = Some(key.bytes);
        // Who enters does so by the newest.
        for older in self.starts.iter_mut().take(at) {
            older.key = None;
        }
        self.starts[at].key = Some(key);
        None
    }

    /// Whether the newest segment can be entered by its key.
    pub fn has_key(&self) -> bool {
        self.starts.back().is_some_and(|start| start.key.is_some())
    }

    /// The cheapest way in for who has nothing, not before this ordinal. `None`: the publisher must be asked for a start with a
    /// key.
    pub fn entry(&self, not_before: u64) -> Option<Entry> {
        let start = self.way_in(not_before)?;
        let position = Position::entering(start.at);
        let key = start.key.as_ref().filter(|_| start.from.is_some()).map(|key| key.parts.clone());
        Some(Entry {
            position,
            key: key.unwrap_or_default(),
            bytes: start.key_bytes() + self.queued(position),
        })
    }

    pub(super) fn way_in(&self, not_before: u64) -> Option<&Start> {
        let least = not_before.max(self.first());
        let mut best: Option<(u64, &Start)> = None;
        for start in self.starts.iter().rev() {
            if start.at >= least && (start.from.is_none() || start.key.is_some()) {
                let bytes = start.key_bytes() + self.queued(Position::entering(start.at));
                if best.is_none_or(|(least, _)| bytes < least) {
                    best = Some((bytes, start));
                }
            }
            // From before a jump nobody comes past it, and before a start from black nothing is of use.
            if start.jumps || start.from.is_none() {
                break;
            }
        }
        best.map(|(_, start)| start)
    }

    /// Whether a key has begun to come, or its start is still to.
    pub fn key_is_arriving(&self) -> bool {
        self.arriving.is_some() || self.early.is_some()
    }

    /// Bytes that have come of a key that is not whole.
    pub fn key_bytes_arriving(&self) -> usize {
        self.arriving.as_ref().map_or(0, |key| key.bytes)
    }

    /// About how large a key is: as the last one, else as the first picture was.
    pub fn key_estimate(&self) -> Option<u64> {
        self.key_bytes.or_else(|| self.first_picture.map(|(_, bytes)| bytes)).map(|bytes| bytes as u64)
    }

    /// The start by which who shows `from` enters here, if it is held.
    pub fn bridge(&self, from: Point) -> Option<Position> {
        self.find_bridge(|point| point == from)
    }

    /// The first start by which who shows `from`, or will show what follows it, can enter here.
    pub fn bridge_ahead(&self, from: Point) -> Option<Position> {
        self.find_bridge(|point| point.rendition == from.rendition && point.seq >= from.seq)
    }

    fn find_bridge(&self, leads: impl Fn(Point) -> bool) -> Option<Position> {
        let first = self.first();
        let start = self.starts.iter().find(|start| start.at >= first && start.from.is_some_and(&leads))?;
        Some(Position::entering(start.at))
    }

    /// Goes on after this update, if nothing is known yet: the publisher can send again all that follows, of which it had made what
    /// is before `next_seq` for the relay before this one.
    pub fn take_up(&mut self, epoch: u64, after: Point, next_seq: u64, now: Instant) {
        if self.epoch.is_none() {
            (self.epoch, self.segment) = (Some(epoch), Some(after.segment));
            self.next_seq = after.seq.saturating_add(1);
            self.taken_up = Some(TakenUp { next_seq, until: Some(now + RETURN) });
        }
    }

    /// Whether the newest record was meant for the relay before this one.
    pub fn came_again(&self) -> bool {
        self.taken_up.is_some_and(|taken| self.next_seq <= taken.next_seq)
    }

    /// Whether an update will come that was meant for the relay before this one.
    pub fn will_have(&self, epoch: u64, point: Point) -> bool {
        let to_come = |taken: TakenUp| (self.next_seq..taken.next_seq).contains(&point.seq);
        self.epoch == Some(epoch) && self.taken_up.is_some_and(to_come)
    }

    /// Whether subscribers may be on their way back who need what has come since the relay before this one.
    pub fn waits_for_returning(&self, now: Instant) -> bool {
        self.taken_up.is_some_and(|taken| taken.until.is_some_and(|until| now < until))
    }

    /// Ends that when its time is over. Whether it was just now: then there may be records that nobody needs.
    pub fn ends_waiting(&mut self, now: Instant) -> bool {
        let over = |taken: &mut TakenUp| taken.until.take_if(|until| *until <= now).is_some();
        self.taken_up.as_mut().is_some_and(over)
    }

    /// The position of a subscriber that shows `point` of this epoch, if what follows is held.
    pub fn after(&self, epoch: u64, point: Point) -> Option<Position> {
        if self.epoch != Some(epoch) {
            return None;
        }
        let next = self.records.partition_point(|held| held.point.seq <= point.seq);
        let (follows, inside) = match next.checked_sub(1).map(|at| &self.records[at]) {
            Some(held) => (held.point == point, held.more),
            None => {
                let first = self.records.front().map_or(self.next_seq, |held| held.point.seq);
                (point.seq.checked_add(1) == Some(first), false)
            }
        };
        let at = self.first() + next as u64;
        follows.then_some(Position { at, entering: false, inside, shows: Some(point) })
    }
}
