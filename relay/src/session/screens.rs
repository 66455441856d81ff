//! The session's screens: what arrives of them, who wants which, and what each subscriber takes.

use std::time::Instant;

use tandem_protocol::message::{self, Right, control};
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Priority, Record, Rendition, Sender, limits};

use super::display::{Display, RENDITIONS, is_known, other};
use super::ledger::Account;
use super::member::{Member, Online, Watch};
use super::reader::{Place, Skipped};
use super::totals::Tally;
use super::{Breach, Keeping, Seat, Session};
use crate::limits::TIGHT_SEGMENT_MAX;
use crate::metrics::{Dropped, Skip};
use crate::outbox::{Pull, Slot, Source};
use crate::stream::{Pushed, PushedKey, Read, Stream};

impl Session {
    /// What the relay has of the publisher's screens, for its resume.
    pub(super) fn received_screens(&self, publisher: Sender) -> Vec<message::LanePosition> {
        let renditions = self
            .displays
            .iter()
            .flat_map(|(&id, display)| RENDITIONS.map(|of| (id, of, &display.streams[of])));
        let position = |(id, rendition, stream): (DisplayId, Rendition, &Stream)| {
            let (epoch, next_seq) = stream.received()?;
            let lane = LaneKey::screen(LaneKind::Screen, id, rendition, publisher);
            Some(message::LanePosition { lane: Some(lane.into()), epoch, next_seq })
        };
        renditions.filter_map(position).collect()
    }

    /// A publisher came back: displays that this relay has nothing of go on where the one before it had brought them.
    pub(super) fn take_up(&mut self, epoch: u64, keeps: &[Keeping], now: Instant) {
        for kept in keeps.iter().filter(|kept| kept.after.rendition == Rendition::LIVE) {
            if let Some(display) = self.display(kept.display) {
                display.streams[Rendition::LIVE].take_up(epoch, kept.after, kept.next_seq, now);
            }
        }
    }

    /// This display of the publisher, which is noted if it is new; `None` if it may have no more.
    fn display(&mut self, id: DisplayId) -> Option<&mut Display> {
        let exists = self.displays.get(&id).is_some_and(|display| display.exists);
        if !exists && self.displays.values().filter(|display| display.exists).count() >= self.limits.displays
        {
            return None;
        }
        let display = self.note_display(id);
        display.exists = true;
        Some(display)
    }

    /// The same, if it exists or not.
    pub(super) fn note_display(&mut self, id: DisplayId) -> &mut Display {
        let new = || Box::new(Display::new(self.metrics.held(), self.tenant.account()));
        self.displays.entry(id).or_insert_with(new)
    }

    /// The publisher opened a screen or key lane.
    pub(super) fn screen_lane_opened(&mut self, key: LaneKey) -> Result<(), Breach> {
        if !is_known(key.rendition) {
            return Ok(());
        }
        let Some(display) = self.display(key.display) else {
            return Err(Breach { close: Close::LIMIT, reason: "too many displays".into() });
        };
        let stream = &mut display.streams[key.rendition];
        match key.kind {
            LaneKind::Key => stream.key_lane_opened(),
            _ => stream.lane_opened(),
        }
        Ok(())
    }

    /// A record on a screen or key lane.
    pub(super) fn screen_record(
        &mut self,
        key: LaneKey,
        record: &Record,
        now: Instant,
    ) -> Result<(), Breach> {
        let Some(screen) = record.header.screen else { return Ok(()) };
        if (screen.display, screen.rendition) != (key.display, key.rendition) {
            return Err(Breach::protocol("a record of another display or rendition"));
        }
        let Some(display) = self.displays.get_mut(&key.display).filter(|_| is_known(key.rendition)) else {
            self.metrics.dropped(Dropped::Unknown, record.bytes.len());
            return Ok(());
        };
        if let Some(online) = self.members.get_mut(&key.sender).and_then(Member::online_mut) {
            online.carried += record.bytes.len() as u64;
            online.rate.carried(online.carried, false, now);
        }
        let stream = &mut display.streams[key.rendition];
        if key.kind == LaneKind::Key {
            if self.tenant.is_tight() && stream.key_bytes_arriving() > TIGHT_SEGMENT_MAX {
                return Err(Breach { close: Close::OVERLOADED, reason: "no memory for a key".into() });
            }
            match stream.push_key(record)? {
                PushedKey::Part => {}
                PushedKey::Whole => self.key_came(key.display, now),
                PushedKey::Useless => {
                    display.asked.key.answered();
                    self.refresh_wants(now);
                }
            }
        } else {
            let (pushed, again) = (stream.push(record, now)?, stream.came_again());
            if again && pushed != Pushed::Duplicate {
                // Who shows this goes on from here, before anything is asked for in its name.
                self.enter_waiting(key.display, false, now);
            }
            match pushed {
                Pushed::Duplicate => {
                    self.metrics.dropped(Dropped::Duplicate, record.bytes.len());
                    return Ok(());
                }
                Pushed::Start => self.started(key.display, key.rendition, now),
                Pushed::Black => self.restarted(key.display, key.rendition, now),
                Pushed::Update => {}
            }
            self.wake_readers(key.display, key.rendition);
            self.note_relayed(key.display, key.rendition, now);
        }
        self.trim(key.display, now);
        Ok(())
    }

    /// A segment began that goes on from somewhere: who waits for that crosses.
    fn started(&mut self, id: DisplayId, rendition: Rendition, now: Instant) {
        self.metrics.segments.increment(1);
        let Some(display) = self.displays.get_mut(&id) else { return };
        display.asked.may_be_on[rendition] |= !display.asked.on[rendition];
        // Whether or not it was for this: if somebody still waits for one, it is asked for again.
        match rendition {
            Rendition::LIVE => display.asked.merge.answered(),
            _ => display.asked.fork.answered(),
        }
        for (&sender, member) in &mut self.members {
            let Some(online) = member.online_mut() else { continue };
            cross(online, id, display, &self.metrics, now);
            if let Some(reader) = online.readers.get_mut(&id) {
                reader.look_ahead(display, sender);
            }
        }
        if display.streams[rendition].has_key() {
            self.key_came(id, now);
        }
        self.elect(id, now);
        self.refresh_wants(now);
    }

    /// A key is whole, and its start is here: who waits enters.
    fn key_came(&mut self, id: DisplayId, now: Instant) {
        self.metrics.key();
        if let Some(display) = self.displays.get_mut(&id) {
            display.asked.key.answered();
        }
        self.enter_waiting(id, true, now);
        self.refresh_wants(now);
    }

    /// A segment began from black: everybody goes on there, of live those too who read reduced or wait.
    fn restarted(&mut self, id: DisplayId, rendition: Rendition, now: Instant) {
        self.metrics.segments.increment(1);
        let Some(display) = self.displays.get_mut(&id) else { return };
        if rendition == Rendition::LIVE {
            display.asked.key.answered();
        }
        for online in self.members.values_mut().filter_map(Member::online_mut) {
            let Some(reader) = online.readers.get_mut(&id) else { continue };
            if rendition == Rendition::LIVE && reader.position(Rendition::REDUCED).is_some() {
                reader.lose(Skip::Restarted, 0, now);
            }
            // Of another epoch perhaps, whose numbers say nothing of this one's.
            reader.applied[rendition] = None;
            let missed = reader.restart(display, rendition);
            if let Some(slot) = reader.key_slot {
                online.outbox.drop_unbegun(slot);
            }
            let screen = (id, reader.publisher);
            tell_skipped(online, screen, missed, &self.metrics);
        }
        self.enter_waiting(id, false, now);
        self.refresh_wants(now);
    }

    /// Lets go of records that nobody needs.
    pub(super) fn trim(&mut self, id: DisplayId, now: Instant) {
        let up = self.paths(None);
        let most = if self.tenant.is_tight() { TIGHT_SEGMENT_MAX } else { limits::HELD_SEGMENT_MAX };
        let Some(display) = self.displays.get_mut(&id) else { return };
        for rendition in RENDITIONS {
            let readers = self.members.values().filter_map(|member| member.online()?.readers.get(&id));
            let needed = readers.filter_map(|reader| reader.needs(display, rendition)).min();
            let key_to_come = rendition == Rendition::LIVE && display.asked.key.made.is_some();
            let stream = &mut display.streams[rendition];
            // Nobody comes to reduced but from live.
            let worth = match rendition {
                Rendition::LIVE => stream.key_estimate().map_or(u64::MAX, |key| up.worth_holding(key)),
                _ => 0,
            };
            let needed = if stream.waits_for_returning(now) { 0 } else { needed.unwrap_or(u64::MAX) };
            stream.trim(needed, worth, key_to_come, most);
        }
        display.held.set(display.held_bytes());
        display.memory.set(display.footprint());
    }

    fn wake_readers(&self, id: DisplayId, rendition: Rendition) {
        for online in self.members.values().filter_map(Member::online) {
            if let Some(reader) = online.readers.get(&id)
                && reader.position(rendition).is_some()
                && let Some(slot) = reader.slots[rendition]
            {
                online.outbox.wake(slot);
            }
        }
    }

    /// Takes the next record of a rendition for a subscriber.
    pub(super) fn pull_screen(&mut self, seat: Seat, slot: Slot, now: Instant) -> Pull {
        let Some(member) = self.members.get_mut(&seat.sender) else { return Pull::Reset };
        // A publisher that came back has its grants to restate first; the lane waits for that.
        let views = member.may(Right::View);
        let Some(online) = member.online_mut() else { return Pull::Reset };
        let Some(key) = online.outbox.key(slot) else { return Pull::Reset };
        let Some(display) = self.displays.get(&key.display).filter(|_| views) else { return Pull::Nothing };
        if cross(online, key.display, display, &self.metrics, now) {
            self.elect(key.display, now);
            self.refresh_wants(now);
            return Pull::Nothing;
        }
        let Some(reader) = online.readers.get_mut(&key.display) else { return Pull::Nothing };
        // Without its key the start is of no use, and must not take the path from it.
        if reader.key_slot.is_some_and(|slot| online.outbox.queued_bytes(slot) > 0) {
            return Pull::Nothing;
        }
        let there = reader.slots[other(key.rendition)];
        if reader.position(key.rendition).is_none() {
            // Asked for more, it has written all that it took before its reader went over: what follows there may go.
            if let Some(there) = there.filter(|_| online.outbox.ran_dry(slot)) {
                online.outbox.wake(there);
            }
            return Pull::Nothing;
        }
        // Nor is live without the last of reduced, which leads there and is less urgent.
        let leads = there.filter(|_| key.rendition == Rendition::LIVE);
        if leads.is_some_and(|leads| online.outbox.being_written(leads) > 0) {
            return Pull::Nothing;
        }
        if online.outbox.is_full(slot) {
            return Pull::Nothing;
        }
        let missed = reader.restart(display, key.rendition);
        let screen = (key.display, reader.publisher);
        let Some(mut position) = reader.position(key.rendition) else { return Pull::Nothing };
        let stream = &display.streams[key.rendition];
        let (arrived, gone) = (stream.waits_since(position), position.ordinal() < stream.first());
        let read = stream.read(&mut position);
        let (lost, mut news) = (read == Read::Lost, false);
        let pulled = match read {
            Read::Nothing => {
                news = online.outbox.ran_dry(slot);
                Pull::Nothing
            }
            Read::Record(bytes) => {
                news = true;
                reader.place = Place::Reading(key.rendition, position);
                let taken = online.outbox.took(slot, bytes.len(), now);
                reader.sent(key.rendition, taken, arrived);
                online.progress = now;
                if let Some(arrived) = arrived {
                    self.metrics.forwarded(LaneKind::Screen, arrived, now);
                }
                Pull::Record(bytes)
            }
            Read::Lost => {
                reader.lose(if gone { Skip::HeldMax } else { Skip::Key }, 0, now);
                self.metrics.lost.increment(1);
                Pull::Nothing
            }
        };
        tell_skipped(online, screen, missed, &self.metrics);
        if news && display.pacing[key.rendition] == Some(seat.sender) {
            self.feed_back(key.display, key.rendition, now);
        }
        if lost {
            self.enter(seat.sender, key.display, false, now);
            self.refresh_wants(now);
        }
        pulled
    }

    /// A key was taken whole by a subscriber's connection: what it leads to may follow.
    pub(super) fn key_taken(&mut self, seat: Seat, slot: Slot, now: Instant) {
        let Some(online) = self.online(seat) else { return };
        online.progress = now;
        let Some(key) = online.outbox.key(slot).filter(|key| key.kind == LaneKind::Key) else { return };
        if online.outbox.queued_bytes(slot) == 0
            && let Some(reader) = online.readers.get(&key.display)
            && let Some(screen) = reader.slots[key.rendition]
        {
            online.outbox.wake(screen);
        }
    }

    /// A subscriber says which displays it wants and sees.
    pub(super) fn visible(
        &mut self,
        seat: Seat,
        visible: &message::Visible,
        now: Instant,
    ) -> Result<(), Breach> {
        let id = u16::try_from(visible.display).map(DisplayId);
        let id = id.map_err(|_| Breach::protocol("no such display"))?;
        let Some(online) = self.online(seat) else { return Ok(()) };
        if online.watching.len() >= limits::DISPLAYS_MAX && !online.watching.contains_key(&id) {
            return Err(Breach { close: Close::LIMIT, reason: "too many displays".into() });
        }
        let watch = Watch { visible: visible.visible, focused: visible.focused };
        let before = online.watching.insert(id, watch);
        if before.is_some_and(|before| before.focused != watch.focused) {
            online.outbox.priority_changed();
        }
        online.progress = now;
        self.sync_screens(seat.sender, now);
        if watch.visible {
            self.enter_waiting(id, false, now);
        }
        self.elect(id, now);
        Ok(())
    }

    /// A subscriber has lost step: it waits for a start with a key that is made after this. If a key is on its way to it, that
    /// may be all that it lacks.
    pub(super) fn wanted(&mut self, seat: Seat, want: &message::Want, now: Instant) -> Result<(), Breach> {
        let no_such = |_| Breach::protocol("no such rendition");
        let id = DisplayId(u16::try_from(want.display).map_err(no_such)?);
        let head = self.displays.get(&id).map_or(0, |display| display.streams[Rendition::LIVE].head());
        let Some(online) = self.online(seat) else { return Ok(()) };
        // What it showed when it came is of no more account.
        online.showing.retain(|shown| shown.display != id);
        let Some(reader) = online.readers.get_mut(&id) else { return Ok(()) };
        if online.outbox.is_under_way(reader.key_slot) {
            reader.doubt.get_or_insert(now);
            return Ok(());
        }
        reader.lose(Skip::Key, head, now);
        self.metrics.lost.increment(1);
        self.refresh_wants(now);
        Ok(())
    }

    /// How urgent a lane towards a client is: it changes when the client looks at another display.
    pub fn priority(&self, seat: Seat, slot: Slot) -> Option<Priority> {
        let online = self.members.get(&seat.sender)?.online()?;
        let key = online.outbox.key(slot).filter(|_| online.connection == seat.connection)?;
        Some(key.priority(self.is_focused(seat.sender, key.display)))
    }

    /// Whether a subscriber looks at this display, for the priority of its lanes.
    pub fn is_focused(&self, sender: Sender, display: DisplayId) -> bool {
        let online = self.members.get(&sender).and_then(Member::online);
        online.and_then(|online| online.watching.get(&display)).is_none_or(|watch| watch.focused)
    }

    /// What became of the records of every rendition for a subscriber since it entered.
    pub fn accounts(&self, seat: Seat) -> Vec<(DisplayId, Rendition, Account)> {
        let online = self.members.get(&seat.sender).and_then(Member::online);
        let readers =
            online.filter(|online| online.connection == seat.connection).map(|online| &online.readers);
        let accounts = readers.into_iter().flatten().filter_map(|(&id, reader)| {
            let accounts = reader.accounts(self.displays.get(&id)?);
            Some(accounts.map(|(rendition, account)| (id, rendition, account)))
        });
        accounts.flatten().collect()
    }
}

/// Takes a subscriber to the rendition that it should read, if it stands where that can be done. Whether it did.
fn cross(online: &mut Online, id: DisplayId, display: &Display, metrics: &Tally, now: Instant) -> bool {
    let Some(reader) = online.readers.get_mut(&id) else { return false };
    let Place::Reading(from, _) = reader.place else { return false };
    let Some(missed) = reader.cross(display, now) else { return false };
    let to = other(from);
    match to {
        Rendition::LIVE => metrics.merge(),
        _ => metrics.fork(),
    }
    let publisher = reader.publisher;
    let slot = *reader.slots[to].get_or_insert_with(|| {
        online.outbox.open(LaneKey::screen(LaneKind::Screen, id, to, publisher), Source::Screen)
    });
    online.outbox.wake(slot);
    tell_skipped(online, (id, publisher), missed, metrics);
    true
}

/// Tells a subscriber of a display and its publisher that records will not come.
pub(super) fn tell_skipped(
    online: &mut Online,
    (id, publisher): (DisplayId, Sender),
    skipped: Option<Skipped>,
    metrics: &Tally,
) {
    let Some((rendition, skip, count)) = skipped else { return };
    metrics.skipped(skip, count);
    let lane = LaneKey::screen(LaneKind::Screen, id, rendition, publisher);
    let skipped = message::Skipped { lane: Some(lane.into()), reason: skip.reason().into(), count };
    online.outbox.control(control::Message::Skipped(skipped));
}

const _: () = assert!(3 * limits::DISPLAYS_MAX < limits::LANES_MAX);
