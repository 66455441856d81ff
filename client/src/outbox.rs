//! What waits to be sent, and what was sent but may have to be sent again. Plain state: the connection takes records out
//! when it can send them, so that what waits can still be replaced or dropped here.
//!
//! Rules when too much waits: a slot (`latest`) replaces its unsent predecessor; a screen is bounded by its pacer; anything
//! else is refused ([`SendError::Full`]) beyond [`waiting_max`]. Unacknowledged input is kept up to 1 MiB, screens up to
//! 8 MiB, for a resume.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use tandem_protocol::message::{Control, Feedback, LanePosition, control, types};
use tandem_protocol::{Flags, Header, LaneKey, LaneKind, ScreenHeader, ScreenKind, Sender, limits};

use crate::pacer::{Pace, Pacer};

/// A body to be sent, with what its header says.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Which message, within the lane's kind.
    pub record_type: u8,
    /// A slot: replaces an unsent record of the same lane and type.
    pub latest: bool,
    /// On screen and key lanes: segment and kind.
    pub screen: Option<(u32, ScreenKind)>,
    /// On key lanes: the update whose shadow the key shows. Elsewhere numbers are given here.
    pub key_seq: u64,
    /// A start that does not go on from the record before it on its lane: it leaves a number out, which says so.
    pub skips: bool,
    /// The body, of any length that the lane allows; it is split as need be.
    pub body: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// A message that is no slot.
    pub fn message(record_type: u8, body: &'a [u8]) -> Self {
        Self { record_type, latest: false, screen: None, key_seq: 0, skips: false, body }
    }

    /// A slot's newest value.
    pub fn latest(record_type: u8, body: &'a [u8]) -> Self {
        Self { latest: true, ..Self::message(record_type, body) }
    }

    /// An update or a start.
    pub fn screen(segment: u32, kind: ScreenKind, body: &'a [u8]) -> Self {
        Self { screen: Some((segment, kind)), ..Self::message(types::SCREEN, body) }
    }

    /// The same, leaving a number out if `skips`: for a start that does not go on from the record before it.
    #[must_use]
    pub fn skipping(self, skips: bool) -> Self {
        Self { skips, ..self }
    }

    /// The key of `segment`, which shows the shadow after update `seq`.
    pub fn key(segment: u32, seq: u64, body: &'a [u8]) -> Self {
        Self { key_seq: seq, ..Self::screen(segment, ScreenKind::Key, body) }
    }
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The number of its last record: of an update, the number that others know it by.
    pub seq: u64,
    /// Bytes that the lane has been given on this connection.
    pub lane_bytes: u64,
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Not joined yet, or (screens and keys) no connection: begin again after `Connected`.
    #[error("there is no connection")]
    Offline,
    /// Too much waits on this lane.
    #[error("too much waits on this lane")]
    Full,
    /// More than the lane allows.
    #[error("a body of {0} bytes is more than its lane allows")]
    TooLarge(usize),
}

/// What the connection has to do to a lane before it asks for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Open(LaneKey),
    /// End it after all that waits.
    Finish(LaneKey),
    /// Give it up, unfinished record and all.
    Reset(LaneKey),
}

/// What waits and what is kept, for all lanes.
#[derive(Debug)]
pub(crate) struct Outbox {
    epoch: u64,
    began: Instant,
    sender: Option<Sender>,
    online: bool,
    control: VecDeque<Bytes>,
    control_seq: u64,
    lanes: BTreeMap<LaneKey, Lane>,
    commands: Vec<Command>,
}

#[derive(Debug, Default)]
struct Lane {
    open: bool,
    next_seq: u64,
    waiting: VecDeque<Kept>,
    waiting_bytes: usize,
    /// Sent and not acknowledged: input and screens.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// The newest of each slot, for the next connection.
    slots: BTreeMap<u8, Kept>,
    /// Given to it since it opened on this connection.
    bytes: u64,
    pacer: Pacer,
}

#[derive(Clone, Debug)]
struct Kept {
    seq: u64,
    /// The number that would have gone on from the record before it: `seq`, or less if numbers were left out.
    follows: u64,
    at: Instant,
    /// The lane's bytes at its end.
    end: u64,
    slot: Option<u8>,
    bytes: Bytes,
}

/// What a new connection cannot go on with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resumed {
    /// Screens whose missing updates are no longer kept: they begin a new segment from black.
    pub restart: Vec<LaneKey>,
    /// Input that was too old to be sent again.
    pub dropped_input: u64,
}

impl Outbox {
    pub(crate) fn new(epoch: u64, began: Instant) -> Self {
        Self {
            epoch,
            began,
            sender: None,
            online: false,
            control: VecDeque::new(),
            control_seq: 0,
            lanes: BTreeMap::new(),
            commands: Vec::new(),
        }
    }

    /// Our number, once joined.
    pub(crate) fn sender(&self) -> Option<Sender> {
        self.sender
    }

    /// µs of our clock: what records' times count.
    pub(crate) fn time_us(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// Queues a control message.
    pub(crate) fn control(&mut self, message: control::Message, now: Instant) -> Result<(), SendError> {
        if !self.online {
            return Err(SendError::Offline);
        }
        if self.control.len() >= CONTROL_WAITING_MAX {
            return Err(SendError::Full);
        }
        let record = self.control_record(message, now);
        self.control.push_back(record);
        Ok(())
    }

    /// A control message as a record with the next number.
    pub(crate) fn control_record(&mut self, message: control::Message, now: Instant) -> Bytes {
        let seq = self.control_seq;
        self.control_seq += 1;
        self.header(types::CONTROL, Flags::default(), seq, now).record(&Control::encode_body(message))
    }

    fn header(&self, record_type: u8, flags: Flags, seq: u64, now: Instant) -> Header {
        Header {
            record_type,
            flags,
            sender: self.sender.unwrap_or(Sender::RELAY),
            key_id: 0,
            epoch: self.epoch,
            seq,
            time_us: self.time_us(now),
            screen: None,
        }
    }

    /// Gives a body to a lane; `key.sender` is ours, whatever it says.
    pub(crate) fn send(&mut self, key: LaneKey, out: Outgoing<'_>, now: Instant) -> Result<Sent, SendError> {
        let sender =
            self.sender.filter(|_| self.online || !key.kind.is_screen()).ok_or(SendError::Offline)?;
        let key = LaneKey { sender, ..key };
        let len = out.body.len();
        if len > limits::ASSEMBLED_MAX || (key.kind == LaneKind::Input && len > key.kind.body_max()) {
            return Err(SendError::TooLarge(len));
        }
        let lane = self.lanes.entry(key).or_default();
        if lane.waiting_bytes.max(lane.kept_for_resume(key)) + len > waiting_max(key.kind) {
            return Err(SendError::Full);
        }
        if self.online && !lane.open {
            lane.open = true;
            self.commands.push(Command::Open(key));
        }
        let screen = out.screen.map(|(segment, kind)| ScreenHeader {
            display: key.display,
            rendition: key.rendition,
            segment,
            kind,
        });
        let parts = len.div_ceil(limits::BODY_MAX).max(1);
        let mut seq = 0;
        for part in 0..parts {
            let body = &out.body[part * limits::BODY_MAX..len.min((part + 1) * limits::BODY_MAX)];
            let mut flags = Flags::default();
            if out.latest {
                flags = flags.with(Flags::LATEST);
            }
            if part + 1 < parts {
                flags = flags.with(Flags::MORE);
            }
            let lane = self.lanes.entry(key).or_default();
            let follows = lane.next_seq;
            // Before the first record of all there is nothing that it could go on from.
            let skipped = u64::from(out.skips && part == 0 && follows > 0);
            seq = if key.kind == LaneKind::Key { out.key_seq } else { follows + skipped };
            lane.next_seq = seq + 1;
            let header = Header { screen, ..self.header(out.record_type, flags, seq, now) };
            let slot = out.latest.then_some(out.record_type);
            let lane = self.lanes.entry(key).or_default();
            lane.push(Kept { seq, follows, at: now, end: 0, slot, bytes: header.record(body) });
        }
        let lane = self.lanes.entry(key).or_default();
        if key.kind == LaneKind::Screen {
            lane.pacer.on_sent(lane.bytes, now);
        }
        Ok(Sent { seq, lane_bytes: lane.bytes })
    }

    /// Ends a lane after what waits on it.
    pub(crate) fn finish(&mut self, key: LaneKey) {
        let Some(sender) = self.sender else { return };
        let key = LaneKey { sender, ..key };
        if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.open) {
            lane.open = false;
            self.commands.push(Command::Finish(key));
        }
    }

    /// How much the path of this screen takes now.
    pub(crate) fn pace(&mut self, key: LaneKey, now: Instant) -> Pace {
        let Some(sender) = self.sender.filter(|_| self.online) else { return Pace::Wait(None) };
        self.lanes.entry(LaneKey { sender, ..key }).or_default().pacer.pace(now)
    }

    /// What the connection has to do before it asks for records.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// The next record of a lane, to be sent now.
    pub(crate) fn next(&mut self, key: LaneKey) -> Option<Bytes> {
        if key.kind == LaneKind::Control {
            return self.control.pop_front();
        }
        let lane = self.lanes.get_mut(&key)?;
        let record = lane.waiting.pop_front()?;
        lane.waiting_bytes -= record.bytes.len();
        let bytes = record.bytes.clone();
        match key.kind {
            LaneKind::Input => lane.keep(record, limits::RESEND_INPUT),
            LaneKind::Screen => lane.keep(record, limits::RESEND_SCREEN),
            _ => {}
        }
        Some(bytes)
    }

    /// The publisher has done what our input before `next_seq` asked for.
    pub(crate) fn input_done(&mut self, key: LaneKey, epoch: u64, next_seq: u64) {
        if let Some(lane) = self.lanes.get_mut(&key).filter(|_| epoch == self.epoch) {
            lane.forget(|record| record.seq < next_seq);
        }
    }

    /// The relay reports how a screen of ours gets through.
    pub(crate) fn feedback(&mut self, feedback: &Feedback, now: Instant) {
        let of = |key: &LaneKey| {
            key.kind == LaneKind::Screen
                && u32::from(key.display.0) == feedback.display
                && u32::from(key.rendition.0) == feedback.rendition
        };
        if let Some((_, lane)) = self.lanes.iter_mut().find(|(key, _)| of(key)) {
            lane.pacer.on_feedback(feedback, now);
            lane.forget(|record| record.end <= feedback.relayed_bytes);
        }
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.online = false;
        self.control.clear();
        self.commands.clear();
        for (key, lane) in &mut self.lanes {
            lane.open = false;
            if key.kind == LaneKind::Key {
                lane.clear();
            }
        }
    }

    /// There is a connection; `received` is what the relay has of our lanes.
    pub(crate) fn connected(&mut self, sender: Sender, received: &[LanePosition], now: Instant) -> Resumed {
        self.sender = Some(sender);
        self.online = true;
        let mut resumed = Resumed::default();
        for (&key, lane) in &mut self.lanes {
            let position = received.iter().find(|position| {
                position.epoch == self.epoch
                    && position.lane.as_ref().is_some_and(|lane| LaneKey::try_from(lane) == Ok(key))
            });
            let next_seq = position.map(|position| position.next_seq);
            lane.bytes = 0;
            match key.kind {
                LaneKind::Input => resumed.dropped_input += lane.resend_input(next_seq.unwrap_or(0), now),
                LaneKind::Screen => {
                    lane.pacer = Pacer::default();
                    if !lane.resend_screen(next_seq, now) {
                        resumed.restart.push(key);
                    }
                }
                _ => lane.resend_slots(),
            }
            if !lane.waiting.is_empty() {
                lane.open = true;
                self.commands.push(Command::Open(key));
            }
        }
        resumed
    }

    /// The far end of an input lane came back: what it has not done goes again, but not what is old. Answers how much was
    /// dropped.
    pub(crate) fn reopen(&mut self, key: LaneKey, now: Instant) -> u64 {
        let Some(lane) = self.lanes.get_mut(&key).filter(|_| key.kind == LaneKind::Input) else { return 0 };
        if lane.open {
            self.commands.push(Command::Reset(key));
        }
        lane.bytes = 0;
        lane.open = true;
        self.commands.push(Command::Open(key));
        lane.resend_input(0, now)
    }
}

/// Control messages that may wait: far more than a healthy connection ever has.
const CONTROL_WAITING_MAX: usize = 4096;

/// Bytes that may wait on a lane of this kind (of input: wait or be unacknowledged).
fn waiting_max(kind: LaneKind) -> usize {
    match kind {
        LaneKind::Input => limits::RESEND_INPUT,
        LaneKind::Screen | LaneKind::Key => limits::ASSEMBLED_MAX,
        _ => 4 << 20,
    }
}

impl Lane {
    /// Bytes that count against the bound because they must not be lost.
    fn kept_for_resume(&self, key: LaneKey) -> usize {
        if key.kind == LaneKind::Input { self.kept_bytes + self.waiting_bytes } else { 0 }
    }

    fn push(&mut self, mut record: Kept) {
        if let Some(slot) = record.slot {
            if let Some(at) = self.waiting.iter().position(|waiting| waiting.slot == Some(slot)) {
                let replaced = self.waiting.remove(at).expect("the position was just found");
                self.waiting_bytes -= replaced.bytes.len();
            }
            self.slots.insert(slot, record.clone());
        }
        self.bytes += record.bytes.len() as u64;
        record.end = self.bytes;
        self.waiting_bytes += record.bytes.len();
        self.waiting.push_back(record);
    }

    fn keep(&mut self, record: Kept, most: usize) {
        self.kept_bytes += record.bytes.len();
        self.kept.push_back(record);
        while self.kept_bytes > most {
            let oldest = self.kept.pop_front().expect("there are bytes, so there is a record");
            self.kept_bytes -= oldest.bytes.len();
        }
    }

    fn forget(&mut self, acknowledged: impl Fn(&Kept) -> bool) {
        while let Some(record) = self.kept.front().filter(|record| acknowledged(record)) {
            self.kept_bytes -= record.bytes.len();
            self.kept.pop_front();
        }
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.kept.clear();
        self.kept_bytes = 0;
    }

    /// All that is kept and waits, in order, leaving neither.
    fn take_all(&mut self) -> VecDeque<Kept> {
        let mut all = std::mem::take(&mut self.kept);
        all.append(&mut self.waiting);
        self.kept_bytes = 0;
        self.waiting_bytes = 0;
        all
    }

    /// Input from `next_seq` on goes again unless it is old; what is before waits for its acknowledgement only.
    fn resend_input(&mut self, next_seq: u64, now: Instant) -> u64 {
        let mut dropped = 0;
        for record in self.take_all() {
            if record.seq < next_seq {
                self.keep(record, limits::RESEND_INPUT);
            } else if now.saturating_duration_since(record.at) > limits::INPUT_AGE_MAX {
                dropped += 1;
            } else {
                self.push(record);
            }
        }
        dropped
    }

    /// Updates from `next_seq` on go again. `false` when that cannot be: then nothing is left.
    fn resend_screen(&mut self, next_seq: Option<u64>, now: Instant) -> bool {
        let all = self.take_all();
        if self.next_seq == 0 {
            return true;
        }
        let Some(next_seq) = next_seq else { return false };
        let missing: Vec<Kept> = all.into_iter().filter(|record| record.seq >= next_seq).collect();
        if missing.first().map_or(self.next_seq, |record| record.follows) > next_seq
            || next_seq > self.next_seq
        {
            return false;
        }
        missing.into_iter().for_each(|record| self.push(record));
        self.pacer.on_sent(self.bytes, now);
        true
    }

    /// The newest of each slot goes again; what never went still waits behind.
    fn resend_slots(&mut self) {
        let waiting: Vec<Kept> = self.take_all().into_iter().filter(|record| record.slot.is_none()).collect();
        let slots: Vec<Kept> = self.slots.values().cloned().collect();
        let mut all = [slots, waiting].concat();
        all.sort_by_key(|record| record.seq);
        all.into_iter().for_each(|record| self.push(record));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tandem_protocol::{DisplayId, Point, Record, Rendition};

    const ME: Sender = Sender(3);

    fn parse(kind: LaneKind, bytes: &Bytes) -> Record {
        Record::split_from(kind, &mut bytes::BytesMut::from(&bytes[..])).unwrap().unwrap()
    }

    fn input() -> LaneKey {
        LaneKey::plain(LaneKind::Input, ME)
    }

    fn screen() -> LaneKey {
        LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, ME)
    }

    fn joined(now: Instant) -> Outbox {
        let mut outbox = Outbox::new(77, now);
        assert_eq!(outbox.connected(ME, &[], now), Resumed::default());
        outbox
    }

    fn seqs(outbox: &mut Outbox, key: LaneKey) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next(key)).map(|bytes| parse(key.kind, &bytes).header.seq).collect()
    }

    fn has(key: LaneKey, next_seq: u64) -> [LanePosition; 1] {
        [LanePosition { lane: Some(key.into()), epoch: 77, next_seq }]
    }

    fn type_key(outbox: &mut Outbox, now: Instant) {
        outbox.send(input(), Outgoing::message(types::KEY, &[8, 4]), now).unwrap();
    }

    fn update(outbox: &mut Outbox, len: usize, now: Instant) -> Sent {
        outbox.send(screen(), Outgoing::screen(0, ScreenKind::Update, &vec![0; len]), now).unwrap()
    }

    #[test]
    fn input_goes_again_after_a_reopen_but_not_when_it_is_old() {
        let now = Instant::now();
        let mut outbox = joined(now);
        (0..4).for_each(|_| type_key(&mut outbox, now));
        assert_eq!(seqs(&mut outbox, input()), [0, 1, 2, 3]);
        outbox.input_done(input(), 77, 2);
        outbox.input_done(input(), 78, 4);
        let later = now + Duration::from_millis(900);
        (0..2).for_each(|_| type_key(&mut outbox, later));
        outbox.commands();
        assert_eq!(outbox.reopen(input(), later), 0);
        assert_eq!(outbox.commands(), [Command::Reset(input()), Command::Open(input())]);
        assert_eq!(seqs(&mut outbox, input()), [2, 3, 4, 5]);
        assert_eq!(outbox.reopen(input(), now + Duration::from_millis(1001)), 2);
        assert_eq!(seqs(&mut outbox, input()), [4, 5], "numbers skip what was dropped");
    }

    #[test]
    fn the_same_relay_is_not_sent_input_that_it_has() {
        let now = Instant::now();
        let mut outbox = joined(now);
        (0..4).for_each(|_| type_key(&mut outbox, now));
        assert_eq!(seqs(&mut outbox, input()), [0, 1, 2, 3]);
        outbox.disconnected();
        type_key(&mut outbox, now);
        outbox.connected(ME, &has(input(), 3), now);
        assert_eq!(seqs(&mut outbox, input()), [3, 4]);
        // What the relay had may still be lost on its far side.
        outbox.reopen(input(), now);
        assert_eq!(seqs(&mut outbox, input()), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_screen_goes_on_where_the_relay_lost_it_or_begins_anew() {
        let now = Instant::now();
        let mut outbox = joined(now);
        let lengths: Vec<u64> = (0..4).map(|_| update(&mut outbox, 100, now).lane_bytes).collect();
        assert_eq!(seqs(&mut outbox, screen()), [0, 1, 2, 3]);
        let feedback = Feedback { relayed_bytes: lengths[1], subscriber: 1, ..Feedback::default() };
        outbox.feedback(&feedback, now);
        outbox.disconnected();
        assert_eq!(
            outbox.send(screen(), Outgoing::screen(0, ScreenKind::Update, &[]), now),
            Err(SendError::Offline)
        );
        assert_eq!(outbox.connected(ME, &has(screen(), 2), now).restart, []);
        assert_eq!(seqs(&mut outbox, screen()), [2, 3]);
        for received in [&has(screen(), 1)[..], &[]] {
            outbox.disconnected();
            assert_eq!(outbox.connected(ME, received, now).restart, [screen()]);
            assert_eq!(seqs(&mut outbox, screen()), [0; 0]);
            // Numbers go on, whatever was lost.
            outbox.disconnected();
            outbox.connected(ME, &has(screen(), 4), now);
        }
        assert_eq!(update(&mut outbox, 1, now).seq, 4);
    }

    #[test]
    fn a_start_may_leave_a_number_out_and_a_resume_knows_it() {
        let now = Instant::now();
        let mut outbox = joined(now);
        let start = |from| Outgoing::screen(1, ScreenKind::Start { from }, &[1]);
        assert_eq!(
            outbox.send(screen(), start(None).skipping(true), now).unwrap().seq,
            0,
            "the first of all"
        );
        update(&mut outbox, 10, now);
        let from = Point { rendition: Rendition::LIVE, segment: 0, seq: 1 };
        let sent = outbox.send(screen(), start(Some(from)).skipping(true), now).unwrap();
        assert_eq!(sent.seq, 3);
        assert_eq!(update(&mut outbox, 10, now).seq, 4);
        assert_eq!(seqs(&mut outbox, screen()), [0, 1, 3, 4]);
        outbox.disconnected();
        // All before the gap has arrived: number 2 never was.
        assert_eq!(outbox.connected(ME, &has(screen(), 2), now).restart, []);
        assert_eq!(seqs(&mut outbox, screen()), [3, 4]);
    }

    #[test]
    fn a_slot_replaces_what_waits_and_goes_again_on_the_next_connection() {
        let now = Instant::now();
        let mut outbox = joined(now);
        let cursor = LaneKey::plain(LaneKind::Cursor, ME);
        for n in 0..5 {
            outbox.send(cursor, Outgoing::latest(types::CURSOR_POSITION, &[n]), now).unwrap();
        }
        outbox.send(cursor, Outgoing::latest(types::CURSOR_SHAPE, &[9]), now).unwrap();
        assert_eq!(seqs(&mut outbox, cursor), [4, 5]);
        outbox.disconnected();
        outbox.send(cursor, Outgoing::latest(types::CURSOR_POSITION, &[6]), now).unwrap();
        outbox.connected(ME, &[], now);
        assert_eq!(seqs(&mut outbox, cursor), [5, 6]);
    }

    #[test]
    fn a_large_body_is_split_and_a_large_backlog_refused() {
        let now = Instant::now();
        let mut outbox = joined(now);
        let sent = update(&mut outbox, 2 * limits::BODY_MAX + 1, now);
        assert_eq!(sent.seq, 2);
        let parts: Vec<Record> = std::iter::from_fn(|| outbox.next(screen()))
            .map(|bytes| parse(LaneKind::Screen, &bytes))
            .collect();
        let more: Vec<bool> = parts.iter().map(|part| part.header.flags.contains(Flags::MORE)).collect();
        assert_eq!(more, [true, true, false]);
        assert_eq!(parts[2].body().len(), 1);
        let big = vec![0; 4000];
        let full =
            (0..1000).find_map(|_| outbox.send(input(), Outgoing::message(types::TEXT, &big), now).err());
        assert_eq!(full, Some(SendError::Full));
        let over = vec![0; 5000];
        let result = outbox.send(input(), Outgoing::message(types::TEXT, &over), now);
        assert_eq!(result, Err(SendError::TooLarge(5000)));
    }
}
