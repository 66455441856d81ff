//! What waits to be sent, and what was sent but may have to be sent again. Plain state: the connection takes records out
//! when it can send them, so that what waits can still be replaced or dropped here.
//!
//! Rules when too much waits: a slot (`latest`) replaces its unsent predecessor; a screen is bounded by its pacer; anything
//! else is refused ([`SendError::Full`]) beyond [`waiting_max`]. Unacknowledged input is kept up to 1 MiB, screens up to
//! 8 MiB, for a resume.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_path::State;
use tandem_protocol::message::{self, Control, Feedback, LanePosition, control, types};
use tandem_protocol::{
    Flags, Header, LaneKey, LaneKind, Point, Rendition, ScreenHeader, ScreenKind, Sender, limits,
};

use crate::pacer::{Own, Pace, Pacer};
use lane::{Kept, Lane, waiting_max};

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
    /// Not joined yet, or (screens and keys) no connection, or one on which this rendition begins anew, and this is no start: begin
    /// again after `Connected`.
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
    /// Nothing but control leaves on this connection any more: the next one takes the rest.
    paused: bool,
    /// The connection is being exchanged for a better one: what is said meanwhile goes over to it.
    moving: bool,
    control: VecDeque<Said>,
    control_seq: u64,
    /// The session was ended: that is said on every connection until a relay closes one for good.
    ended: Option<control::Message>,
    lanes: BTreeMap<LaneKey, Lane>,
    commands: Vec<Command>,
}

/// A control message that waits. It becomes a record when it goes, so that numbers rise whatever goes first.
#[derive(Debug)]
struct Said {
    message: control::Message,
    /// It is about the connection that it was meant for, and means nothing on another.
    own: bool,
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
            paused: false,
            moving: false,
            control: VecDeque::new(),
            control_seq: 0,
            ended: None,
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
    pub(crate) fn control(&mut self, message: control::Message) -> Result<(), SendError> {
        self.may_say()?;
        if matches!(message, control::Message::End(_)) {
            self.ended = Some(message.clone());
        }
        let own = is_own(&message);
        self.control.push_back(Said { message, own });
        Ok(())
    }

    /// The same, before all that waits.
    pub(crate) fn control_first(&mut self, message: control::Message) -> Result<(), SendError> {
        self.may_say()?;
        let own = is_own(&message);
        self.control.push_front(Said { message, own });
        Ok(())
    }

    fn may_say(&self) -> Result<(), SendError> {
        if !self.online && !self.moving {
            Err(SendError::Offline)
        } else if self.control.len() >= CONTROL_WAITING_MAX {
            Err(SendError::Full)
        } else {
            Ok(())
        }
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
        if key.kind == LaneKind::Screen && !lane.may_follow(key.rendition, out.screen.map(|screen| screen.1))
        {
            return Err(SendError::Offline);
        }
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
        let most = if key.kind == LaneKind::Key { KEY_PIECE } else { limits::BODY_MAX };
        let parts = len.div_ceil(most).max(1);
        let mut seq = 0;
        for part in 0..parts {
            let body = &out.body[part * most..len.min((part + 1) * most)];
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
            let (segment, ends) = (out.screen.map_or(0, |(segment, _)| segment), part + 1 == parts);
            lane.push(Kept {
                seq,
                follows,
                at: now,
                end: 0,
                slot,
                segment,
                ends,
                bytes: header.record(body),
            });
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

    /// How much this screen's path takes now, which begins with what our own connection knows.
    pub(crate) fn pace(&mut self, key: LaneKey, path: &State, now: Instant) -> Pace {
        let Some(sender) = self.sender.filter(|_| self.online && !self.paused) else {
            return Pace::Wait(None);
        };
        let key = LaneKey { sender, ..key };
        let waiting = self.screens_waiting() as u64;
        let lane = self.lanes.entry(key).or_default();
        let (ahead, turn) = match key.rendition {
            Rendition::LIVE => (AHEAD_LIVE, false),
            _ => (AHEAD_REDUCED, lane.waiting.is_empty() && lane.has_turn(REDUCED_LEAST * path.rate, now)),
        };
        lane.pacer.pace(&Own { path: *path, waiting, ahead, turn }, now)
    }

    /// Bytes of screens that wait for the connection.
    fn screens_waiting(&self) -> usize {
        let screens = self.lanes.iter().filter(|(key, _)| key.kind == LaneKind::Screen);
        screens.map(|(_, lane)| lane.waiting_bytes).sum()
    }

    /// Whether a lane can take more without delay: no more waits than half of what may.
    pub(crate) fn has_room(&self, key: LaneKey) -> bool {
        let Some(sender) = self.sender.filter(|_| self.online) else { return false };
        let lane = self.lanes.get(&LaneKey { sender, ..key });
        lane.is_none_or(|lane| lane.waiting_bytes <= waiting_max(key.kind) / 2)
    }

    /// What the connection has to do before it asks for records.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// The next record of a lane, to be sent now.
    pub(crate) fn next(&mut self, key: LaneKey, now: Instant) -> Option<Bytes> {
        if key.kind == LaneKind::Control {
            // What is said to the session after `Move` would be overtaken by the `Hello` on the next connection. But whoever ends it may
            // not wait for that.
            let may_go =
                |said: &Said| said.own || !self.paused || matches!(said.message, control::Message::End(_));
            let at = self.control.iter().position(may_go)?;
            let said = self.control.remove(at)?;
            return Some(self.control_record(said.message, now));
        }
        let lane = self.lanes.get_mut(&key).filter(|_| !self.paused)?;
        let record = lane.pop(now)?;
        let bytes = record.bytes.clone();
        match key.kind {
            LaneKind::Input => lane.keep(record, limits::RESEND_INPUT),
            LaneKind::Screen => lane.keep(Kept { at: now, ..record }, limits::RESEND_SCREEN),
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
            // The relay may be gone in a moment: only what is shown has arrived for good.
            let shown = feedback.applied.as_ref().filter(|point| point.rendition == feedback.rendition);
            let watched = feedback.subscriber != 0 && feedback.rendition == u32::from(Rendition::LIVE.0);
            lane.forget(|record| {
                let shown = shown.is_some_and(|point| record.seq <= point.seq);
                let old = now.saturating_duration_since(record.at) >= UNSHOWN_MAX;
                record.end <= feedback.relayed_bytes && (shown || old || !watched)
            });
        }
    }

    /// What can be sent again of live screens: with it a relay that knows nothing of them goes on where the one before it ended.
    pub(crate) fn keeps(&self) -> Vec<message::Keeps> {
        let live = self
            .lanes
            .iter()
            .filter(|(key, _)| key.kind == LaneKind::Screen && key.rendition == Rendition::LIVE);
        let of = |(key, lane): (&LaneKey, &Lane)| {
            let (segment, seq) = lane.settled?;
            let after = Point { rendition: key.rendition, segment, seq };
            Some(message::Keeps {
                display: key.display.0.into(),
                after: Some(after.into()),
                next_seq: lane.next_seq,
            })
        };
        live.filter_map(of).collect()
    }

    /// Lets nothing but control leave any more. `half` is what had begun to and goes again, whole, on the next connection.
    pub(crate) fn pause(&mut self, half: Vec<(LaneKey, Bytes)>, now: Instant) {
        self.paused = true;
        for (key, bytes) in half {
            // Of these what has gone is kept anyway.
            let is_kept = matches!(key.kind, LaneKind::Input | LaneKind::Screen);
            let Some(lane) = self.lanes.get_mut(&key).filter(|_| !is_kept) else { continue };
            if let Ok(Some((header, _))) = Header::parse(key.kind, &bytes) {
                let slot = header.flags.contains(Flags::LATEST).then_some(header.record_type);
                let (seq, end) = (header.seq, lane.bytes);
                lane.put_back(Kept { seq, follows: seq, at: now, end, slot, segment: 0, ends: true, bytes });
            }
        }
    }

    /// The connection is gone, and what was to be said on it.
    pub(crate) fn disconnected(&mut self) {
        self.offline();
        self.moving = false;
        self.control.clear();
    }

    /// The connection is left for a better one.
    pub(crate) fn moves(&mut self) {
        self.offline();
        self.moving = true;
        self.control.retain(|said| !said.own);
    }

    fn offline(&mut self) {
        self.online = false;
        self.paused = false;
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
        self.moving = false;
        if let Some(end) = self.ended.clone() {
            self.control.retain(|said| said.message != end);
            self.control.push_front(Said { message: end, own: false });
        }
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

/// Whether a control message is about the connection that it goes on. An acknowledgement of input is not.
fn is_own(message: &control::Message) -> bool {
    use control::Message as M;
    match message {
        M::Ack(ack) => ack.lane.as_ref().is_none_or(|lane| lane.kind != LaneKind::Input as u32),
        M::Hello(_) | M::Credit(_) | M::Ping(_) | M::Pong(_) | M::Move(_) => true,
        _ => false,
    }
}

/// Updates that have reached the relay and that nobody shows so long after they left are not kept for a restart of it: who is that far behind
/// is better served by a key.
const UNSHOWN_MAX: Duration = Duration::from_secs(3);
/// Bytes of a record of a key: keys go when nothing else does, one piece after the other.
const KEY_PIECE: usize = 16 << 10;
/// Time of our own end's rate that may wait there before more is encoded: live, a little more than the time between two
/// pictures; reduced, next to nothing, for live comes first.
const AHEAD_LIVE: Duration = Duration::from_millis(35);
const AHEAD_REDUCED: Duration = Duration::from_millis(10);
/// But reduced is never without this part of it.
const REDUCED_LEAST: f64 = 0.1;
/// Control messages that may wait: far more than a healthy connection ever has.
const CONTROL_WAITING_MAX: usize = 4096;
