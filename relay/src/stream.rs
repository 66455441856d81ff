//! One rendition of one display as the relay holds it: records in order, the segments they form, and positions in them.
//!
//! Plain data. Nothing is copied per subscriber: a subscriber is a [`Position`], the number of the record that it needs
//! next. Numbers run through all segments of an epoch, so who is in step crosses a segment's start without noticing; who
//! is not enters at the newest start, with its key if it has a predecessor.

use std::collections::VecDeque;

use bytes::Bytes;
use tandem_protocol::{Header, Point, Record, Rendition, ScreenKind, limits};

/// A rendition's held records.
#[derive(Debug, Default)]
pub struct Stream {
    epoch: Option<u64>,
    next_seq: u64,
    records: VecDeque<Held>,
    starts: VecDeque<Start>,
    starts_seen: u64,
    held_bytes: usize,
    lane: LaneOffset,
}

/// A place in the bytes of the publisher's lane. The publisher's pacer counts in these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneOffset {
    /// How often the publisher has opened the lane.
    pub opening: u64,
    /// Bytes of records since then.
    pub bytes: u64,
}

#[derive(Debug)]
struct Held {
    seq: u64,
    bytes: Bytes,
    /// Where it began in the publisher's lane.
    at: LaneOffset,
    /// It begins a segment that goes on from elsewhere than the record before it.
    jumps: bool,
}

/// The start of a segment.
#[derive(Debug)]
struct Start {
    seq: u64,
    segment: u32,
    from: Option<Point>,
    key: KeyParts,
}

#[derive(Debug, Default)]
struct KeyParts {
    parts: Vec<Bytes>,
    bytes: usize,
    whole: bool,
}

/// Where a subscriber is: the record that it needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    epoch: u64,
    seq: u64,
    /// It has applied the key of the start that it stands at.
    entering: bool,
}

/// A way into a rendition for who has nothing.
#[derive(Debug)]
pub struct Entry {
    /// Begin here.
    pub position: Position,
    /// After this key.
    pub key: Vec<Bytes>,
}

/// What a subscriber gets at its position.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// This record, which begins there in the publisher's lane.
    Record(Bytes, LaneOffset),
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
    /// It was here before.
    Duplicate,
}

/// The publisher broke the rules of docs/protocol.md, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Record numbers must follow one another.
    #[error("record {got} where {expected} was next")]
    Gap {
        /// The record's number.
        got: u64,
        /// The number that should have been.
        expected: u64,
    },
    /// A rendition begins with a start that has no predecessor.
    #[error("an update before any start")]
    NoStart,
    /// An update names another segment than the newest.
    #[error("segment {0} is not the newest")]
    Segment(u32),
    /// The key's parts are more than [`limits::ASSEMBLED_MAX`].
    #[error("the key is too large")]
    KeySize,
}

impl Stream {
    /// The publisher opened its lane, for the first time or again.
    pub fn lane_opened(&mut self) {
        self.lane = LaneOffset { opening: self.lane.opening + 1, bytes: 0 };
    }

    /// How much of the publisher's present lane has arrived.
    pub fn lane_offset(&self) -> LaneOffset {
        self.lane
    }

    /// The publisher's epoch and the record that is needed next: what a resume starts from.
    pub fn received(&self) -> Option<(u64, u64)> {
        self.epoch.map(|epoch| (epoch, self.next_seq))
    }

    /// Takes the next record of the screen lane.
    ///
    /// # Errors
    /// [`StreamError`]; nothing has changed then.
    pub fn push(&mut self, record: &Record) -> Result<Pushed, StreamError> {
        let header = &record.header;
        let Some(screen) = header.screen else { return Err(StreamError::NoStart) };
        let at = self.lane;
        let pushed = match screen.kind {
            ScreenKind::Start { from } => self.push_start(header, screen.segment, from)?,
            _ if self.epoch != Some(header.epoch) => return Err(StreamError::NoStart),
            _ if header.seq < self.next_seq => Pushed::Duplicate,
            _ => {
                self.check_next(header.seq)?;
                match self.starts.back() {
                    Some(start) if start.segment == screen.segment => Pushed::Update,
                    Some(_) => return Err(StreamError::Segment(screen.segment)),
                    None => return Err(StreamError::NoStart),
                }
            }
        };
        self.lane.bytes += record.bytes.len() as u64;
        if pushed != Pushed::Duplicate {
            let jumps = match screen.kind {
                ScreenKind::Start { from: Some(from) } => {
                    pushed == Pushed::Start && !self.is_last(screen.rendition, from)
                }
                _ => false,
            };
            self.held_bytes += record.bytes.len();
            self.records.push_back(Held { seq: header.seq, bytes: record.bytes.clone(), at, jumps });
            self.next_seq = header.seq + 1;
        }
        Ok(pushed)
    }

    fn push_start(
        &mut self,
        header: &Header,
        segment: u32,
        from: Option<Point>,
    ) -> Result<Pushed, StreamError> {
        if self.epoch == Some(header.epoch) {
            if header.seq < self.next_seq {
                return Ok(Pushed::Duplicate);
            }
            self.check_next(header.seq)?;
            // A start in several parts is one start.
            if self.starts.back().is_some_and(|start| start.segment == segment) {
                return Ok(Pushed::Update);
            }
        } else {
            if from.is_some() {
                return Err(StreamError::NoStart);
            }
            self.records.clear();
            self.starts.clear();
            self.held_bytes = 0;
            self.epoch = Some(header.epoch);
        }
        self.starts_seen += 1;
        self.starts.push_back(Start { seq: header.seq, segment, from, key: KeyParts::default() });
        Ok(Pushed::Start)
    }

    fn check_next(&self, got: u64) -> Result<(), StreamError> {
        if got == self.next_seq { Ok(()) } else { Err(StreamError::Gap { got, expected: self.next_seq }) }
    }

    /// Whether `point` is the last record before the newest start.
    fn is_last(&self, rendition: Rendition, point: Point) -> bool {
        point.rendition == rendition && point.seq + 1 == self.next_seq
    }

    /// Takes a part of a key. Says whether its segment can now be entered by it; a key of a segment that is no longer the
    /// newest is of no use and dropped.
    ///
    /// # Errors
    /// [`StreamError::KeySize`].
    pub fn push_key(&mut self, record: &Record, more: bool) -> Result<bool, StreamError> {
        let Some(screen) = record.header.screen else { return Ok(false) };
        if self.epoch != Some(record.header.epoch) {
            return Ok(false);
        }
        let Some(start) = self.starts.back_mut().filter(|start| start.segment == screen.segment) else {
            return Ok(false);
        };
        if start.key.whole {
            return Ok(false);
        }
        start.key.bytes += record.bytes.len();
        if start.key.bytes > limits::ASSEMBLED_MAX {
            return Err(StreamError::KeySize);
        }
        start.key.parts.push(record.bytes.clone());
        start.key.whole = !more;
        Ok(!more)
    }

    /// A way in for who has nothing: the newest segment, if it is held from its start and needs no key or has it.
    /// `None`: the publisher must be asked for a start with a key.
    pub fn entry(&self) -> Option<Entry> {
        let start = self.starts.back()?;
        let held = self.records.front().is_some_and(|first| first.seq <= start.seq);
        if !held || (start.from.is_some() && !start.key.whole) {
            return None;
        }
        let key = if start.from.is_some() { start.key.parts.clone() } else { Vec::new() };
        Some(Entry { position: Position { epoch: self.epoch?, seq: start.seq, entering: true }, key })
    }

    /// How many segments have started here.
    pub fn starts_seen(&self) -> u64 {
        self.starts_seen
    }

    /// Whether the newest segment's key is still to come.
    pub fn awaits_key(&self) -> bool {
        self.starts.back().is_some_and(|start| start.from.is_some() && !start.key.whole)
    }

    /// The position of a subscriber that shows `point` of this epoch, if what follows is held.
    pub fn after(&self, epoch: u64, point: Point) -> Option<Position> {
        let first = self.records.front().map_or(self.next_seq, |held| held.seq);
        let seq = point.seq.checked_add(1)?;
        (self.epoch == Some(epoch) && (first..=self.next_seq).contains(&seq)).then_some(Position {
            epoch,
            seq,
            entering: false,
        })
    }

    /// What is at a position. The position moves behind it.
    pub fn read(&self, position: &mut Position) -> Read {
        if self.epoch != Some(position.epoch) {
            return Read::Lost;
        }
        if position.seq == self.next_seq {
            return Read::Nothing;
        }
        let Some(held) = self.index(position.seq).map(|at| &self.records[at]) else { return Read::Lost };
        if held.jumps && !position.entering {
            return Read::Lost;
        }
        *position = Position { seq: position.seq + 1, entering: false, ..*position };
        Read::Record(held.bytes.clone(), held.at)
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let first = self.records.front()?.seq;
        usize::try_from(seq.checked_sub(first)?).ok().filter(|&at| at < self.records.len())
    }

    /// Bytes that a position has still to read.
    pub fn queued(&self, position: Position) -> u64 {
        if self.epoch != Some(position.epoch) {
            return 0;
        }
        match self.index(position.seq) {
            None => 0,
            Some(at) if self.records[at].at.opening == self.lane.opening => {
                self.lane.bytes - self.records[at].at.bytes
            }
            Some(at) => self.records.iter().skip(at).map(|held| held.bytes.len() as u64).sum(),
        }
    }

    /// Lets go of what nobody needs: records before the newest start that every position has passed, and whatever is
    /// beyond [`limits::HELD_SEGMENT_MAX`], oldest first. Says how many records a position could still have wanted.
    pub fn trim(&mut self, slowest: Option<Position>) -> u64 {
        let newest_start = self.starts.back().map_or(0, |start| start.seq);
        let needed =
            slowest.filter(|position| self.epoch == Some(position.epoch)).map_or(u64::MAX, |p| p.seq);
        let mut taken = 0;
        while let Some(first) = self.records.front() {
            let passed = first.seq < needed;
            let over = self.held_bytes > limits::HELD_SEGMENT_MAX;
            if !(over || passed && first.seq < newest_start) {
                break;
            }
            taken += u64::from(!passed);
            self.held_bytes -= first.bytes.len();
            self.records.pop_front();
        }
        let first = self.records.front().map_or(self.next_seq, |held| held.seq);
        while self.starts.len() > 1 && self.starts[1].seq <= first {
            self.starts.pop_front();
        }
        taken
    }

    /// Bytes held now, keys included.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.starts.iter().map(|start| start.key.bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tandem_protocol::{DisplayId, Flags, ScreenHeader, Sender};

    fn record(epoch: u64, seq: u64, segment: u32, kind: ScreenKind, len: usize) -> Record {
        let screen = ScreenHeader { display: DisplayId(0), rendition: Rendition::LIVE, segment, kind };
        let header = Header {
            record_type: 0,
            flags: Flags::default(),
            sender: Sender(1),
            key_id: 0,
            epoch,
            seq,
            time_us: 0,
            screen: Some(screen),
        };
        Record::new(header, &vec![0; len])
    }

    fn start(seq: u64, segment: u32, from: Option<u64>) -> Record {
        let from =
            from.map(|seq| Point { rendition: Rendition::LIVE, segment: segment.wrapping_sub(1), seq });
        record(1, seq, segment, ScreenKind::Start { from }, 10)
    }

    fn update(seq: u64, segment: u32) -> Record {
        record(1, seq, segment, ScreenKind::Update, 10)
    }

    fn key(seq: u64, segment: u32) -> Record {
        record(1, seq, segment, ScreenKind::Key, 10)
    }

    fn drain(stream: &Stream, position: &mut Position) -> Vec<u64> {
        let mut seqs = Vec::new();
        while let Read::Record(bytes, _) = stream.read(position) {
            let (header, _) = Header::parse(tandem_protocol::LaneKind::Screen, &bytes).unwrap().unwrap();
            seqs.push(header.seq);
        }
        seqs
    }

    #[test]
    fn a_joiner_gets_the_held_segment_and_those_in_step_cross_into_the_next() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(&update(0, 0)), Err(StreamError::NoStart));
        stream.push(&start(0, 0, None)).unwrap();
        stream.push(&update(1, 0)).unwrap();
        let mut first = stream.entry().unwrap().position;
        assert_eq!(drain(&stream, &mut first), [0, 1]);
        // A second segment goes on from what the first subscriber holds; a joiner waits for its key.
        stream.push(&start(2, 1, Some(1))).unwrap();
        assert!(stream.entry().is_none() && stream.awaits_key());
        stream.push(&update(3, 1)).unwrap();
        assert!(stream.push_key(&key(1, 1), false).unwrap());
        let mut second = stream.entry().unwrap();
        assert_eq!(second.key.len(), 1);
        assert_eq!(drain(&stream, &mut second.position), [2, 3]);
        assert_eq!(drain(&stream, &mut first), [2, 3]);
        stream.trim(Some(first));
        assert_eq!(stream.records.len(), 2, "the segment before the newest is let go");
    }

    #[test]
    fn a_gap_or_a_foreign_segment_is_refused_and_a_duplicate_ignored() {
        let mut stream = Stream::default();
        stream.push(&start(5, 0, None)).unwrap();
        assert_eq!(stream.push(&update(7, 0)), Err(StreamError::Gap { got: 7, expected: 6 }));
        assert_eq!(stream.push(&update(6, 9)), Err(StreamError::Segment(9)));
        assert_eq!(stream.push(&update(6, 0)), Ok(Pushed::Update));
        assert_eq!(stream.push(&update(6, 0)), Ok(Pushed::Duplicate));
        assert_eq!(stream.push(&start(5, 0, None)), Ok(Pushed::Duplicate));
        assert_eq!(stream.received(), Some((1, 7)));
    }

    #[test]
    fn a_new_epoch_begins_anew_and_old_positions_are_lost() {
        let mut stream = Stream::default();
        stream.push(&start(0, 0, None)).unwrap();
        let mut old = stream.entry().unwrap().position;
        let again = record(2, 0, 0, ScreenKind::Start { from: None }, 10);
        assert_eq!(stream.push(&again), Ok(Pushed::Start));
        assert_eq!(stream.read(&mut old), Read::Lost);
        assert!(stream.entry().is_some());
    }

    #[test]
    fn beyond_the_bound_the_oldest_go_and_a_straggler_is_lost() {
        let mut stream = Stream::default();
        stream.push(&start(0, 0, None)).unwrap();
        let mut slow = stream.entry().unwrap().position;
        for seq in 1..40 {
            stream.push(&record(1, seq, 0, ScreenKind::Update, 1 << 19)).unwrap();
            stream.trim(Some(slow));
        }
        assert!(stream.held_bytes() <= limits::HELD_SEGMENT_MAX);
        assert_eq!(stream.read(&mut slow), Read::Lost);
        assert!(stream.entry().is_none(), "a cut segment cannot be entered");
    }

    proptest! {
        /// Any run of updates, starts and keys, readers that join and read at any time: a reader gets consecutive numbers
        /// from the start of a segment on, and never waits once it has caught up.
        #[test]
        fn readers_see_consecutive_records(steps in proptest::collection::vec(0u8..10, 1..200)) {
            let mut stream = Stream::default();
            stream.push(&start(0, 0, None)).unwrap();
            let (mut seq, mut segment) = (1, 0);
            let mut readers: Vec<(Position, Vec<u64>)> = Vec::new();
            for step in steps {
                match step {
                    0 => {
                        segment += 1;
                        stream.push(&start(seq, segment, Some(seq - 1))).unwrap();
                        seq += 1;
                    }
                    1 => { stream.push_key(&key(0, segment), false).unwrap(); }
                    2 => if let Some(entry) = stream.entry() { readers.push((entry.position, Vec::new())); },
                    3..6 => for (position, seen) in readers.iter_mut().step_by(usize::from(step) - 2) {
                        if let Read::Record(bytes, _) = stream.read(position) {
                            let (header, _) = Header::parse(tandem_protocol::LaneKind::Screen, &bytes).unwrap().unwrap();
                            seen.push(header.seq);
                        }
                    },
                    6 => {
                        let slowest = readers.iter().map(|(position, _)| *position).min_by_key(|p| p.seq);
                        stream.trim(slowest);
                    }
                    _ => { stream.push(&update(seq, segment)).unwrap(); seq += 1; }
                }
            }
            for (mut position, mut seen) in readers {
                seen.extend(drain(&stream, &mut position));
                prop_assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
                prop_assert_eq!(seen.last().copied(), Some(seq - 1));
            }
        }
    }
}
