//! Which record goes to whom: lanes in, lanes out, and what holds up a sender whose receiver has no room. What screens need
//! beyond that is in `screens`.

use std::collections::BTreeSet;
use std::time::Instant;

use tandem_protocol::{Close, Flags, LaneKey, LaneKind, Priority, Record, Sender, limits};

use super::member::{self, Link, Member};
use super::{Breach, LaneInstance, Seat, Session, Taken};
use crate::limits::TIGHT_QUEUE_MAX;
use crate::metrics::{Dropped, Stalled};
use crate::outbox::{Pull, Slot, Source};

/// Most bytes of other records than screens that wait for one slow receiver. A subscriber that lets this much of anything
/// but bulk pile up is closed.
const QUEUE_MAX: usize = 1 << 20;
/// And that wait before the sender of input, files or the clipboard is held up.
const BULK_MAX: usize = QUEUE_MAX / 4;
/// And that may wait beyond it when that sender goes over to another connection: what the credit of its lane had let in.
const LEFT_BEHIND_MAX: usize = limits::CREDIT_BULK as usize + limits::BODY_MAX;

impl Session {
    /// A client opened a lane.
    ///
    /// # Errors
    /// A [`Breach`] if it may not open such a lane at all, whatever its rights.
    pub fn lane_opened(&mut self, seat: Seat, lane: LaneInstance, key: LaneKey) -> Result<(), Breach> {
        let Some(member) = self.members.get_mut(&seat.sender) else { return Ok(()) };
        if key.sender != seat.sender {
            return Err(Breach::protocol("a lane of another sender"));
        }
        if !key.kind.is_screen() && key != LaneKey::plain(key.kind, key.sender) {
            return Err(Breach::protocol("a lane of this kind is about no display"));
        }
        let publisher = member.is_publisher();
        let allowed = match key.kind {
            LaneKind::Control => false,
            LaneKind::Input => !publisher,
            LaneKind::Screen | LaneKind::Key | LaneKind::Cursor | LaneKind::Audio => publisher,
            _ => true,
        };
        if !allowed {
            return Err(Breach {
                close: Close::FORBIDDEN,
                reason: format!("{:?} lanes are not this participant's", key.kind),
            });
        }
        if let Some(online) = self.online(seat) {
            online.lanes.retain(|_, known| known.key != key);
            if online.lanes.len() >= limits::LANES_MAX {
                return Err(Breach { close: Close::LIMIT, reason: "too many lanes".into() });
            }
            online.lanes.insert(lane, member::InLane { key, stale: false });
            if key.kind.is_screen() {
                self.screen_lane_opened(key)?;
            }
        }
        Ok(())
    }

    /// A client's lane ended.
    pub fn lane_ended(&mut self, seat: Seat, lane: LaneInstance) {
        if let Some(online) = self.online(seat) {
            online.lanes.remove(&lane);
        }
    }

    /// A record arrived on a lane.
    ///
    /// # Errors
    /// A [`Breach`] of the protocol.
    pub fn record(
        &mut self,
        seat: Seat,
        lane: LaneInstance,
        record: &Record,
        now: Instant,
    ) -> Result<Taken, Breach> {
        self.take(seat, lane, record, false, now)
    }

    /// The same, for what a connection that is left had held since there was no room for it. It is found room once, since its
    /// lane's credit bounds it; who leaves more behind before that was taken is closed, and resumes. What comes on a lane after a
    /// record that is refused is dropped with it: what follows a gap is worth nothing.
    ///
    /// # Errors
    /// A [`Breach`] of the protocol, or of that.
    pub fn records_left_behind(
        &mut self,
        seat: Seat,
        records: &[(LaneInstance, Record)],
        now: Instant,
    ) -> Result<(), Breach> {
        let (mut result, mut refused) = (Ok(()), BTreeSet::new());
        for (lane, record) in records {
            if !refused.contains(lane) {
                match self.take(seat, *lane, record, true, now) {
                    Ok(Taken::Yes) => continue,
                    Ok(Taken::NoRoom) => {
                        let reason = "too much was left behind".into();
                        result = result.and(Err(Breach { close: Close::STALLED, reason }));
                    }
                    Err(breach) => result = Err(breach),
                }
            }
            refused.insert(*lane);
            self.metrics.dropped(Dropped::Full, record.bytes.len());
        }
        result
    }

    fn take(
        &mut self,
        seat: Seat,
        lane: LaneInstance,
        record: &Record,
        left_behind: bool,
        now: Instant,
    ) -> Result<Taken, Breach> {
        let known = self.online(seat).map(|online| (online.binding, online.lanes.get(&lane).copied()));
        let len = record.bytes.len();
        let Some((binding, Some(member::InLane { key, stale }))) = known else {
            self.metrics.dropped(Dropped::Stale, len);
            return Ok(Taken::Yes);
        };
        let room = if left_behind { self.most_waiting(key.kind) } else { self.queue_max(BULK_MAX) };
        let taken = self.take_in(seat, (key, stale), record, room, now)?;
        if matches!(taken, Taken::Yes) {
            self.metrics.received(key.kind, binding, len);
        }
        Ok(taken)
    }

    fn take_in(
        &mut self,
        seat: Seat,
        (key, stale): (LaneKey, bool),
        record: &Record,
        room: usize,
        now: Instant,
    ) -> Result<Taken, Breach> {
        if record.header.sender != seat.sender {
            return Err(Breach::protocol("a record of another sender"));
        }
        let Some(online) = self.online(seat) else { return Ok(Taken::Yes) };
        if record.header.epoch != online.epoch {
            return Err(Breach::protocol("a record of another epoch"));
        }
        if stale {
            self.metrics.dropped(Dropped::Stale, record.bytes.len());
            return Ok(Taken::Yes);
        }
        match key.kind {
            LaneKind::Screen | LaneKind::Key => self.screen_record(key, record, now)?,
            kind if self.is_publisher(seat.sender) => {
                if kind.is_bulk() && !self.has_room(seat.sender, key, record.bytes.len(), room) {
                    return Ok(Taken::NoRoom);
                }
                self.publish(seat.sender, key, record, now);
            }
            _ => return Ok(self.submit(seat.sender, key, record, room, now)),
        }
        Ok(Taken::Yes)
    }

    /// How much may wait: less while the tenant is tight.
    fn queue_max(&self, usual: usize) -> usize {
        if self.tenant.is_tight() { TIGHT_QUEUE_MAX } else { usual }
    }

    /// How much of this kind may wait for one receiver before that is closed. Files, the clipboard and input hold up their sender
    /// long before, unless that goes over to another connection and leaves behind what was held up.
    fn most_waiting(&self, kind: LaneKind) -> usize {
        let holds_up = kind.is_bulk() || kind == LaneKind::Input;
        if holds_up { self.queue_max(BULK_MAX) + LEFT_BEHIND_MAX } else { self.queue_max(QUEUE_MAX) }
    }

    /// The publisher's chat, peer, cursor, audio and bulk records, to all who may have them.
    fn publish(&mut self, publisher: Sender, key: LaneKey, record: &Record, now: Instant) {
        if record.header.flags.contains(Flags::LATEST) && self.latest.len() < 64 {
            self.latest.insert((key.kind, record.header.record_type), record.clone());
        }
        let receivers: Vec<Sender> = self.members.keys().copied().filter(|&to| to != publisher).collect();
        for to in receivers {
            self.forward(to, key, record, Some(now));
        }
    }

    /// Whether so many bytes more of the publisher's bulk can wait for each who may have them. So files go as fast as the
    /// slowest of their receivers, and none is closed for being slow.
    fn has_room(&self, publisher: Sender, key: LaneKey, len: usize, room: usize) -> bool {
        let right = key.kind.right(true);
        self.members.iter().filter(|&(&to, _)| to != publisher).all(|(_, member)| {
            let Some(online) = member.online().filter(|_| right.is_none_or(|right| member.may(right))) else {
                return true;
            };
            let waiting = online.outbox.find(key).map_or(0, |slot| online.outbox.queued_bytes(slot));
            waiting == 0 || waiting + len <= room
        })
    }

    /// Queues a record for a participant, on the lane of this key, if its rights allow. `arrived`: when it came, if it came just
    /// now.
    pub(super) fn forward(&mut self, to: Sender, key: LaneKey, record: &Record, arrived: Option<Instant>) {
        let most = self.most_waiting(key.kind);
        let Some(member) = self.members.get_mut(&to) else { return };
        let allowed = key.kind.right(!member.is_publisher()).is_none_or(|right| member.may(right));
        let Link::Online(online) = &mut member.link else { return };
        if !allowed {
            return;
        }
        let slot = online.outbox.find(key).unwrap_or_else(|| online.outbox.open(key, Source::queue()));
        if online.outbox.queued_bytes(slot) > most {
            self.metrics.dropped(Dropped::Full, record.bytes.len());
            online.outbox.stalled(Stalled::Queue, "too much is waiting");
            return;
        }
        online.outbox.push(slot, record, arrived);
    }

    /// A subscriber's records, to the publisher; what it says in chat, to everybody.
    fn submit(&mut self, from: Sender, key: LaneKey, record: &Record, room: usize, now: Instant) -> Taken {
        let len = record.bytes.len();
        let prompting = self.members.values().any(|member| member.prompt_open);
        let Some(sender) = self.members.get(&from) else { return Taken::Yes };
        let dropped = if key.kind.right(false).is_some_and(|right| !sender.may(right)) {
            Some(Dropped::NoRight)
        } else if key.kind == LaneKind::Input && prompting {
            Some(Dropped::Prompt)
        } else {
            None
        };
        let publisher = self.publisher();
        let online = publisher.and_then(|to| Some((to, self.members.get_mut(&to)?.online_mut()?)));
        let Some((to, online)) = online.filter(|_| dropped.is_none()) else {
            self.metrics.dropped(dropped.unwrap_or(Dropped::Away), len);
            return Taken::Yes;
        };
        let waiting = online.outbox.find(key).map_or(0, |slot| online.outbox.queued_bytes(slot));
        // A single record may be larger.
        if waiting > 0 && waiting + len > room {
            return Taken::NoRoom;
        }
        self.forward(to, key, record, Some(now));
        if key.kind == LaneKind::Input
            && let Some(member) = self.members.get_mut(&from)
        {
            member.input_taken = Some((record.header.epoch, record.header.seq.saturating_add(1)));
        }
        if key.kind == LaneKind::Chat {
            let others: Vec<Sender> =
                self.members.keys().copied().filter(|&other| other != from && other != to).collect();
            for other in others {
                self.forward(other, key, record, Some(now));
            }
        }
        Taken::Yes
    }

    /// Whether a lane that is less urgent than this has something for its writer.
    pub fn has_beyond(&self, seat: Seat, last: Priority) -> bool {
        let Some(online) = self.members.get(&seat.sender).and_then(Member::online) else { return false };
        online.connection == seat.connection
            && online.outbox.has_beyond(last, |key| {
                let (display, reader) = (self.displays.get(&key.display), online.readers.get(&key.display));
                display.zip(reader).is_some_and(|(display, reader)| reader.has_news(display, key.rendition))
            })
    }

    /// Takes the next record of a lane for its writer.
    pub fn pull(&mut self, seat: Seat, slot: Slot, now: Instant) -> Pull {
        let Some(online) = self.online(seat) else { return Pull::Reset };
        let (binding, kind) = (online.binding, online.outbox.key(slot).map(|key| key.kind));
        let pulled = self.take_out(seat, slot, now);
        if let (Pull::Record(bytes), Some(kind)) = (&pulled, kind) {
            self.metrics.sent(kind, binding, bytes.len());
        }
        pulled
    }

    fn take_out(&mut self, seat: Seat, slot: Slot, now: Instant) -> Pull {
        let Some(online) = self.online(seat) else { return Pull::Reset };
        if online.parked && slot != Slot::CONTROL {
            return Pull::Nothing;
        }
        if online.outbox.is_screen(slot) {
            return self.pull_screen(seat, slot, now);
        }
        let kind = online.outbox.key(slot).map(|key| key.kind);
        let pulled = online.outbox.pop(slot, now);
        if matches!(pulled, Pull::Record(_)) {
            if kind.is_some_and(|kind| kind.is_bulk() || kind == LaneKind::Input) {
                self.wake_senders(seat.sender);
            }
            if !self.is_publisher(seat.sender) {
                self.key_taken(seat, slot, now);
            }
        }
        pulled
    }

    /// Something was taken by `receiver`: those whose records found no room there may try again.
    fn wake_senders(&self, receiver: Sender) {
        let to_publisher = self.is_publisher(receiver);
        for member in self.members.values().filter(|member| member.is_publisher() != to_publisher) {
            if let Some(online) = member.online() {
                online.outbox.has_room();
            }
        }
    }
}
