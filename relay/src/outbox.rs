//! What waits to go out on one connection: a queue per lane, or a position in a rendition.
//!
//! Plain data. The connection's tasks take from it when they can write, never before: what is here can still be replaced.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_path::{Reach, State};
use tandem_protocol::message::{Control, control, types};
use tandem_protocol::{Close, Flags, Header, LaneKey, LaneKind, Priority, Record, Sender};

use crate::metrics::{Dropped, Metrics, Stalled, Timed};

/// How the session tells a connection's tasks that there is something for them to do. Called under the session's lock:
/// implementations only signal.
pub trait Wake: Send + Sync {
    /// There is something to take from this lane.
    fn lane(&self, slot: Slot);
    /// Lanes were opened or given up.
    fn lanes(&self);
    /// The client looks at other displays than before: lanes' priorities have changed.
    fn focus(&self);
    /// Something is due sooner than before.
    fn deadline(&self);
    /// There may be room again for records that found none.
    fn room(&self);
    /// The connection must end.
    fn close(&self, close: Close, reason: &str);
    /// What the connection knows of its path to the client.
    fn path(&self) -> State;
}

/// Most bytes of control messages that wait for a client that does not read.
const CONTROL_MAX: usize = 256 << 10;

/// A lane of an outbox. Slots are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The control lane.
    pub const CONTROL: Self = Self(0);
}

/// The lanes of one connection towards its client.
pub struct Outbox {
    wake: Arc<dyn Wake>,
    metrics: Arc<Metrics>,
    /// In boxes: a map has room for eleven from the first on.
    lanes: BTreeMap<Slot, Box<OutLane>>,
    next_slot: u32,
    changes: Changes,
    control_seq: u64,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct OutLane {
    pub(crate) key: LaneKey,
    pub(crate) source: Source,
    /// Bytes of records taken so far.
    taken: u64,
    /// And of these, that were written whole.
    written: u64,
    /// Bytes of records that the client has acknowledged.
    received: u64,
    /// How many bytes of a rendition may be unacknowledged: what waits beyond our connection, in a proxy or for a client that is
    /// busy, is as old when it is shown as if it waited here, where it could be left out.
    reach: Reach,
    /// The body of the record taken last goes on in the next.
    inside: bool,
    /// Nothing will come on it any more: it ends with what waits.
    ends: bool,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// Records in order, but a `latest` one replaces an unsent one of its type.
    Queue { records: VecDeque<Queued>, bytes: usize },
    /// Read from a rendition, where its reader is.
    Screen,
}

#[derive(Debug)]
pub(crate) struct Queued {
    bytes: Bytes,
    /// Its type, if it is a slot.
    latest: Option<u8>,
    /// Its body goes on in the next.
    more: bool,
    /// When it came, if it came from a participant just before it was queued.
    arrived: Option<Instant>,
}

/// What became of an outbox's lanes.
#[derive(Debug, Default)]
pub struct Changes {
    /// Each needs a writer.
    pub opened: Vec<(Slot, LaneKey)>,
    /// Each needs its writer no more.
    pub given_up: Vec<Slot>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.given_up.is_empty()
    }
}

/// What a lane has for its writer.
#[derive(Debug)]
pub enum Pull {
    /// Write this record.
    Record(Bytes),
    /// Wait to be woken.
    Nothing,
    /// The lane has ended, after all that was taken.
    Finished,
    /// The lane was given up.
    Reset,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Outbox {
    /// With nothing but the control lane.
    pub fn new(wake: Arc<dyn Wake>, metrics: Arc<Metrics>) -> Self {
        let control = OutLane::new(LaneKey::CONTROL, Source::queue());
        Self {
            wake,
            metrics,
            lanes: BTreeMap::from([(Slot::CONTROL, Box::new(control))]),
            next_slot: 1,
            changes: Changes::default(),
            control_seq: 0,
        }
    }

    /// Queues a control message.
    pub fn control(&mut self, message: control::Message) {
        if self.queued_bytes(Slot::CONTROL) > CONTROL_MAX {
            // It asks, or others act, faster than it reads: it may come back with its ticket and start from there.
            self.stalled(Stalled::Control, "control messages are not read");
            return;
        }
        let header = Header {
            record_type: types::CONTROL,
            flags: Flags::default(),
            sender: Sender::RELAY,
            key_id: 0,
            epoch: 0,
            seq: self.control_seq,
            time_us: 0,
            screen: None,
        };
        self.control_seq += 1;
        let record = Record::new(header, &Control::encode_body(message));
        self.push(Slot::CONTROL, &record, None);
    }

    /// Opens a lane.
    pub(crate) fn open(&mut self, key: LaneKey, source: Source) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.lanes.insert(slot, Box::new(OutLane::new(key, source)));
        self.changes.opened.push((slot, key));
        self.wake.lanes();
        slot
    }

    /// The lane of this key, if it is open.
    pub(crate) fn find(&self, key: LaneKey) -> Option<Slot> {
        self.find_by(|open| *open == key)
    }

    /// The first open lane whose key is such.
    pub(crate) fn find_by(&self, matches: impl Fn(&LaneKey) -> bool) -> Option<Slot> {
        self.lanes.iter().find(|(_, lane)| matches(&lane.key)).map(|(&slot, _)| slot)
    }

    /// The key of a lane that is open.
    pub fn key(&self, slot: Slot) -> Option<LaneKey> {
        self.lanes.get(&slot).map(|lane| lane.key)
    }

    /// Slots of the lanes that are open, but for control.
    pub(crate) fn open_lanes(&self) -> Vec<(Slot, LaneKey)> {
        let open = self.lanes.iter().filter(|(slot, _)| **slot != Slot::CONTROL);
        open.map(|(&slot, lane)| (slot, lane.key)).collect()
    }

    /// Lanes opened and given up since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Queues a record on a lane that has a queue. `arrived`: when it came, if it came just now.
    pub(crate) fn push(&mut self, slot: Slot, record: &Record, arrived: Option<Instant>) {
        let Some((records, bytes)) = self.lanes.get_mut(&slot).and_then(|lane| lane.queue()) else { return };
        let header = &record.header;
        let latest = header.flags.contains(Flags::LATEST).then_some(header.record_type);
        if latest.is_some()
            && let Some(at) = records.iter().position(|queued| queued.latest == latest)
            && let Some(old) = records.remove(at)
        {
            *bytes -= old.bytes.len();
            self.metrics.dropped(Dropped::Replaced, old.bytes.len());
        }
        *bytes += record.bytes.len();
        let more = header.flags.contains(Flags::MORE);
        records.push_back(Queued { bytes: record.bytes.clone(), latest, more, arrived });
        self.wake.lane(slot);
    }

    /// Queues a part of a key; `more`: another one follows.
    pub(crate) fn push_part(&mut self, slot: Slot, part: Bytes, more: bool) {
        if let Some((records, bytes)) = self.lanes.get_mut(&slot).and_then(|lane| lane.queue()) {
            *bytes += part.len();
            records.push_back(Queued { bytes: part, latest: None, more, arrived: None });
            self.wake.lane(slot);
        }
    }

    /// Whether something of a lane waits or is not acknowledged.
    pub(crate) fn is_under_way(&self, slot: Option<Slot>) -> bool {
        slot.is_some_and(|slot| self.queued_bytes(slot) > 0 || self.in_flight(slot) > 0)
    }

    /// Throws away the bodies that wait in a lane's queue and of which nothing was taken.
    pub(crate) fn drop_unbegun(&mut self, slot: Slot) {
        let Some(lane) = self.lanes.get_mut(&slot) else { return };
        if let Source::Queue { records, bytes } = &mut lane.source {
            let ends = records.iter().position(|queued| !queued.more).map_or(0, |at| at + 1);
            let kept = if lane.inside { ends } else { 0 };
            for old in records.range(kept.min(records.len())..) {
                self.metrics.dropped(Dropped::Replaced, old.bytes.len());
            }
            records.truncate(kept);
            *bytes = records.iter().map(|queued| queued.bytes.len()).sum();
        }
    }

    /// Bytes that wait in a lane's queue.
    pub(crate) fn queued_bytes(&self, slot: Slot) -> usize {
        match self.lanes.get(&slot).map(|lane| &lane.source) {
            Some(Source::Queue { bytes, .. }) => *bytes,
            _ => 0,
        }
    }

    /// Whether a lane that is less urgent than this has something for its writer. Of one that reads a rendition, `waits` says so.
    pub(crate) fn has_beyond(&self, last: Priority, waits: impl Fn(LaneKey) -> bool) -> bool {
        self.lanes.values().filter(|lane| lane.key.priority(true) > last).any(|lane| match &lane.source {
            Source::Queue { records, .. } => !records.is_empty(),
            // That the last record is written is news too.
            Source::Screen => lane.written < lane.taken || waits(lane.key),
        })
    }

    /// Bytes that wait in all queues.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lanes.keys().map(|&slot| self.queued_bytes(slot)).sum()
    }

    /// How long the oldest record of such lanes has waited in its queue.
    pub(crate) fn oldest(&self, timed: Timed, now: Instant) -> Duration {
        let lanes = self.lanes.values().filter(|lane| Timed::of(lane.key.kind) == Some(timed));
        let first = lanes.filter_map(|lane| match &lane.source {
            Source::Queue { records, .. } => records.front()?.arrived,
            Source::Screen => None,
        });
        first.min().map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived))
    }

    /// Takes the next record of a lane with a queue.
    pub(crate) fn pop(&mut self, slot: Slot, now: Instant) -> Pull {
        let Some(lane) = self.lanes.get_mut(&slot) else { return Pull::Reset };
        if let Source::Queue { records, bytes } = &mut lane.source
            && let Some(queued) = records.pop_front()
        {
            *bytes -= queued.bytes.len();
            lane.taken += queued.bytes.len() as u64;
            lane.inside = queued.more;
            if let Some(arrived) = queued.arrived {
                self.metrics.forwarded(lane.key.kind, arrived, now);
            }
            return Pull::Record(queued.bytes);
        }
        if lane.ends {
            self.lanes.remove(&slot);
            return Pull::Finished;
        }
        Pull::Nothing
    }

    /// Ends the lanes of whoever is gone, each after what waits in it.
    pub(crate) fn end_lanes(&mut self, is_gone: impl Fn(Sender) -> bool) {
        let of = |lane: &OutLane| lane.key != LaneKey::CONTROL && is_gone(lane.key.sender) && !lane.ends;
        for (&slot, lane) in self.lanes.iter_mut().filter(|(_, lane)| of(lane)) {
            lane.ends = true;
            self.wake.lane(slot);
        }
    }

    /// A record that was taken from a queue has not been sent whole: it goes again, before what waits.
    pub(crate) fn put_back(&mut self, slot: Slot, record: Bytes) {
        let Some(lane) = self.lanes.get_mut(&slot) else { return };
        let Source::Queue { records, bytes } = &mut lane.source else { return };
        let Ok(Some((header, _))) = Header::parse(lane.key.kind, &record) else { return };
        let latest = header.flags.contains(Flags::LATEST).then_some(header.record_type);
        if latest.is_some() && records.iter().any(|queued| queued.latest == latest) {
            self.metrics.dropped(Dropped::Replaced, record.len());
            return;
        }
        *bytes += record.len();
        let more = header.flags.contains(Flags::MORE);
        records.push_front(Queued { bytes: record, latest, more, arrived: None });
    }

    /// What waits in queues, for the connection that takes this one's place. (Screens go on from what is shown, and keys with them.)
    pub(crate) fn carry(&mut self) -> Vec<(LaneKey, Source)> {
        let queued = |lane: &OutLane| {
            lane.key.kind != LaneKind::Key && matches!(&lane.source, Source::Queue { bytes: 1.., .. })
        };
        let lanes = self.lanes.extract_if(.., |slot, lane| *slot != Slot::CONTROL && queued(lane));
        lanes.map(|(_, lane)| (lane.key, lane.source)).collect()
    }

    /// Whether this lane reads a rendition.
    pub(crate) fn is_screen(&self, slot: Slot) -> bool {
        self.lanes.get(&slot).is_some_and(|lane| matches!(lane.source, Source::Screen))
    }

    /// Notes what a lane that reads a rendition has taken. Bytes taken in all.
    pub(crate) fn took(&mut self, slot: Slot, bytes: usize, now: Instant) -> u64 {
        let Some(lane) = self.lanes.get_mut(&slot) else { return 0 };
        // Who asks for the next has written what was before it.
        lane.written = lane.taken;
        lane.taken += bytes as u64;
        lane.reach.sent(lane.taken, now);
        lane.taken
    }

    /// Whether so much of a lane is unacknowledged that nothing more may be taken: it is woken when that has changed.
    pub(crate) fn is_full(&self, slot: Slot) -> bool {
        self.lanes.get(&slot).is_some_and(|lane| lane.is_full())
    }

    /// A lane that reads a rendition was asked for and had nothing: all that it took is written. Whether that is news.
    pub(crate) fn ran_dry(&mut self, slot: Slot) -> bool {
        let Some(lane) = self.lanes.get_mut(&slot) else { return false };
        std::mem::replace(&mut lane.written, lane.taken) < lane.taken
    }

    /// Bytes of the record that a lane's writer is writing.
    pub(crate) fn being_written(&self, slot: Slot) -> u64 {
        self.lanes.get(&slot).map_or(0, |lane| lane.taken - lane.written)
    }

    /// What the connection knows of its path to the client.
    pub(crate) fn path(&self) -> State {
        self.wake.path()
    }

    /// The client has had so many bytes of a lane: how many of them it had not acknowledged before. More than was taken is
    /// not believed, and less than before says nothing.
    pub(crate) fn acknowledged(&mut self, slot: Slot, received: u64, now: Instant) -> u64 {
        let Some(lane) = self.lanes.get_mut(&slot) else { return 0 };
        let news = received.min(lane.taken).saturating_sub(lane.received);
        lane.received += news;
        let was_full = lane.is_full();
        lane.reach.arrived(lane.received, now);
        if was_full && !lane.is_full() {
            self.wake.lane(slot);
        }
        news
    }

    /// Bytes of a lane that were taken and are not acknowledged.
    pub(crate) fn in_flight(&self, slot: Slot) -> u64 {
        self.lanes.get(&slot).map_or(0, |lane| lane.taken - lane.received)
    }

    /// Gives a lane up at once.
    pub(crate) fn reset(&mut self, slot: Slot) {
        if let Some(lane) = self.lanes.remove(&slot) {
            lane.count_unsent(&self.metrics);
            self.changes.opened.retain(|(opened, _)| *opened != slot);
            self.changes.given_up.push(slot);
            self.wake.lanes();
        }
    }

    /// Wakes a lane's writer.
    pub(crate) fn wake(&self, slot: Slot) {
        self.wake.lane(slot);
    }

    /// The client looks at another display: its lanes' priorities are asked for again.
    pub(crate) fn priority_changed(&self) {
        self.wake.focus();
    }

    /// Something is due sooner than before.
    pub(crate) fn deadline_moved(&self) {
        self.wake.deadline();
    }

    /// There may be room again for what the client has sent.
    pub(crate) fn has_room(&self) {
        self.wake.room();
    }

    /// Ends the connection of a client that does not take what waits for it.
    pub(crate) fn stalled(&self, what: Stalled, reason: &str) {
        self.metrics.stalled(what);
        self.wake.close(Close::STALLED, reason);
    }

    /// Ends the connection.
    pub(crate) fn close(&self, close: Close, reason: &str) {
        self.wake.close(close, reason);
    }
}

impl OutLane {
    fn new(key: LaneKey, source: Source) -> Self {
        Self {
            key,
            source,
            taken: 0,
            written: 0,
            received: 0,
            reach: Reach::default(),
            inside: false,
            ends: false,
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.lanes.values().for_each(|lane| lane.count_unsent(&self.metrics));
    }
}

impl OutLane {
    /// What waits in its queue will never be sent. Of control messages it does not matter: they are about the connection itself.
    fn count_unsent(&self, metrics: &Metrics) {
        if let Source::Queue { records, .. } = &self.source
            && self.key.kind != LaneKind::Control
        {
            records.iter().for_each(|queued| metrics.dropped(Dropped::Unsent, queued.bytes.len()));
        }
    }

    /// Its records that wait and their bytes, if it has a queue.
    fn queue(&mut self) -> Option<(&mut VecDeque<Queued>, &mut usize)> {
        match &mut self.source {
            Source::Queue { records, bytes } => Some((records, bytes)),
            Source::Screen => None,
        }
    }

    fn is_full(&self) -> bool {
        matches!(self.source, Source::Screen) && self.reach.in_flight() >= self.reach.window()
    }
}

impl Source {
    pub(crate) fn queue() -> Self {
        Self::Queue { records: VecDeque::new(), bytes: 0 }
    }
}

#[cfg(test)]
mod tests;
