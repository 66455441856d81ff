//! The session's screens: who watches which display, where each is in it, and what its publisher is told.

use std::collections::BTreeMap;
use std::time::Instant;

use tandem_protocol::message::{self, Right, Role, SkipReason, control};
use tandem_protocol::{DisplayId, Flags, LaneKey, LaneKind, Record, Rendition, Sender, limits};

use super::member::{Link, Member, Watch};
use super::{Breach, Seat, Session};
use crate::outbox::{Outbox, Pull, Slot, Source};
use crate::stream::{Pushed, Read, Stream};

/// Displays that one subscriber may want, and a publisher may have.
const DISPLAYS_MAX: usize = 16;

/// How far a subscriber has got with a rendition, as it last said.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    delivered: Option<crate::stream::LaneOffset>,
    applied: Option<message::Point>,
    delay_us: u32,
}

impl Session {
    /// What the relay has of the publisher's screens, for its resume.
    pub(super) fn received_screens(&self, publisher: Sender) -> Vec<message::LanePosition> {
        let position = |(&(display, rendition), stream): (&(DisplayId, Rendition), &Stream)| {
            let (epoch, next_seq) = stream.received()?;
            let lane = LaneKey::screen(LaneKind::Screen, display, rendition, publisher);
            Some(message::LanePosition { lane: Some(lane.into()), epoch, next_seq })
        };
        self.streams.iter().filter_map(position).collect()
    }

    /// The publisher opened a screen lane.
    pub(super) fn screen_lane_opened(&mut self, key: LaneKey) {
        if self.streams.len() < DISPLAYS_MAX || self.streams.contains_key(&(key.display, key.rendition)) {
            self.streams.entry((key.display, key.rendition)).or_default().lane_opened();
        }
    }

    /// A record on a screen or key lane.
    pub(super) fn screen_record(&mut self, key: LaneKey, record: &Record) -> Result<(), Breach> {
        let Some(screen) = record.header.screen else { return Ok(()) };
        if (screen.display, screen.rendition) != (key.display, key.rendition) {
            return Err(Breach::protocol("a record of another display or rendition"));
        }
        let id = (key.display, key.rendition);
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        self.metrics.received(key.kind, record.bytes.len());
        if key.kind == LaneKind::Key {
            if stream.push_key(record, record.header.flags.contains(Flags::MORE))? {
                self.metrics.keys.increment(1);
                self.enter_waiting(id);
            }
            return Ok(());
        }
        match stream.push(record)? {
            Pushed::Duplicate => return Ok(()),
            Pushed::Start => {
                self.metrics.segments.increment(1);
                self.enter_waiting(id);
            }
            Pushed::Update => {}
        }
        self.wake_readers(id);
        self.trim(id);
        Ok(())
    }

    /// Lets go of records that everybody has passed.
    fn trim(&mut self, id: (DisplayId, Rendition)) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut slowest = None;
        let mut most = 0;
        for member in self.members.values_mut() {
            let Link::Online(online) = &mut member.link else { continue };
            let Some(slot) = screen_slot(&online.outbox, id) else { continue };
            if let Some(&mut Some(position)) = online.outbox.position(slot) {
                let queued = stream.queued(position);
                if slowest.is_none() || queued > most {
                    (slowest, most) = (Some(position), queued);
                }
            }
        }
        stream.trim(slowest);
    }

    fn wake_readers(&self, id: (DisplayId, Rendition)) {
        for online in self.members.values().filter_map(Member::online) {
            if let Some(slot) = screen_slot(&online.outbox, id) {
                online.outbox.wake(slot);
            }
        }
    }

    /// Opens the screen lanes that a subscriber should have, and asks for what nobody publishes yet.
    pub(super) fn sync_screens(&mut self, sender: Sender) {
        let Some(publisher) = self.publisher() else { return };
        let Some(member) = self.members.get_mut(&sender) else { return };
        let views = member.may(Right::View);
        let Link::Online(online) = &mut member.link else { return };
        if views {
            let displays: Vec<DisplayId> = online.watching.keys().copied().collect();
            for display in displays {
                let key = LaneKey::screen(LaneKind::Screen, display, Rendition::LIVE, publisher);
                if online.outbox.find(key).is_none() {
                    online.outbox.open(key, Source::Screen(None));
                    self.enter(sender, (display, Rendition::LIVE));
                    return self.sync_screens(sender);
                }
            }
        }
        self.refresh_wants();
    }

    /// Lets a subscriber into a rendition: where it left off, or at the newest start, with its key.
    fn enter(&mut self, sender: Sender, id: (DisplayId, Rendition)) {
        let Some(stream) = self.streams.get(&id) else { return };
        let Some(publisher) = self.publisher() else { return };
        let Some(online) = self.members.get_mut(&sender).and_then(Member::online_mut) else { return };
        let Some(slot) = screen_slot(&online.outbox, id) else { return };
        let shown = online.showing.iter().position(|shown| (shown.display, shown.point.rendition) == id);
        let shown = shown.map(|at| online.showing.swap_remove(at));
        let resumed = shown.and_then(|shown| stream.after(shown.epoch, shown.point));
        let entry = match resumed {
            Some(position) => crate::stream::Entry { position, key: Vec::new() },
            None => match stream.entry() {
                Some(entry) => entry,
                None => return,
            },
        };
        if let Some(place) = online.outbox.position(slot) {
            *place = Some(entry.position);
        }
        if !entry.key.is_empty() {
            let key = LaneKey::screen(LaneKind::Key, id.0, id.1, publisher);
            let lane = online.outbox.find(key).unwrap_or_else(|| online.outbox.open(key, Source::queue()));
            for part in entry.key {
                if let Ok(Some((header, layout))) = tandem_protocol::Header::parse(LaneKind::Key, &part) {
                    let record = Record { header, bytes: part, body_at: layout.header_len };
                    online.outbox.push(lane, &record);
                    self.metrics.forwarded(LaneKind::Key, record.bytes.len());
                }
            }
        }
        online.outbox.wake(slot);
    }

    /// A way in has opened: lets everybody in who waits for one.
    fn enter_waiting(&mut self, id: (DisplayId, Rendition)) {
        let waiting = |member: &mut Member| {
            let outbox = &mut member.online_mut()?.outbox;
            let slot = screen_slot(outbox, id)?;
            Some(outbox.position(slot)?.is_none())
        };
        let senders: Vec<Sender> = self
            .members
            .iter_mut()
            .filter_map(|(&sender, member)| (waiting(member) == Some(true)).then_some(sender))
            .collect();
        for sender in senders {
            self.enter(sender, id);
        }
    }

    /// Takes the next record of a rendition for a subscriber.
    pub(super) fn pull_screen(&mut self, seat: Seat, slot: Slot) -> Pull {
        let Some(member) = self.members.get_mut(&seat.sender) else { return Pull::Reset };
        // A publisher that came back has its grants to restate first; the lane waits for that.
        let views = member.may(Right::View);
        let Some(online) = member.online_mut() else { return Pull::Reset };
        let Some(key) = online.outbox.key(slot) else { return Pull::Reset };
        if !views {
            return Pull::Nothing;
        }
        let id = (key.display, key.rendition);
        let Some(stream) = self.streams.get(&id) else { return Pull::Nothing };
        let Some(place) = online.outbox.position(slot) else { return Pull::Nothing };
        let Some(position) = place.as_mut() else { return Pull::Nothing };
        match stream.read(position) {
            Read::Nothing => Pull::Nothing,
            Read::Record(bytes, at) => {
                online.outbox.taken(slot, bytes.len(), at);
                self.metrics.forwarded(LaneKind::Screen, bytes.len());
                Pull::Record(bytes)
            }
            Read::Lost => {
                *place = None;
                let skipped =
                    message::Skipped { lane: Some(key.into()), reason: SkipReason::Key.into(), count: 0 };
                online.outbox.control(control::Message::Skipped(skipped));
                self.metrics.lost.increment(1);
                self.enter(seat.sender, id);
                self.refresh_wants();
                Pull::Nothing
            }
        }
    }

    /// A subscriber says which displays it wants and sees.
    pub(super) fn visible(
        &mut self,
        seat: Seat,
        visible: &message::Visible,
        now: Instant,
    ) -> Result<(), Breach> {
        let display = u16::try_from(visible.display).map(DisplayId);
        let display = display.map_err(|_| Breach::protocol("no such display"))?;
        let Some(online) = self.online(seat) else { return Ok(()) };
        if online.watching.len() >= DISPLAYS_MAX && !online.watching.contains_key(&display) {
            return Err(Breach { close: tandem_protocol::Close::LIMIT, reason: "too many displays".into() });
        }
        online.watching.insert(display, Watch { visible: visible.visible, focused: visible.focused });
        self.sync_screens(seat.sender);
        self.feed_back(now);
        Ok(())
    }

    /// A subscriber has lost step: it waits for a start with a key, which the publisher is asked for.
    pub(super) fn wanted(&mut self, seat: Seat, want: &message::Want) -> Result<(), Breach> {
        let no_such = |_| Breach::protocol("no such rendition");
        let display = DisplayId(u16::try_from(want.display).map_err(no_such)?);
        let rendition = Rendition(u8::try_from(want.rendition).map_err(no_such)?);
        let Some(online) = self.online(seat) else { return Ok(()) };
        let Some(slot) = screen_slot(&online.outbox, (display, rendition)) else { return Ok(()) };
        if let Some(place) = online.outbox.position(slot) {
            *place = None;
            self.metrics.lost.increment(1);
            self.refresh_wants();
        }
        Ok(())
    }

    /// Whether a subscriber looks at this display, for the priority of its lanes.
    pub fn is_focused(&self, sender: Sender, display: DisplayId) -> bool {
        let online = self.members.get(&sender).and_then(Member::online);
        online.and_then(|online| online.watching.get(&display)).is_none_or(|watch| watch.focused)
    }

    /// Tells the publisher which renditions are wanted, and asks for a start where somebody waits for one.
    pub(super) fn refresh_wants(&mut self) {
        let Some(publisher) = self.publisher() else { return };
        let mut wanted: BTreeMap<(DisplayId, Rendition), bool> = BTreeMap::new();
        for member in self.members.values_mut() {
            let Link::Online(online) = &mut member.link else { continue };
            for (slot, key) in online.outbox.open_lanes() {
                if let Some(place) = online.outbox.position(slot) {
                    let stranded = place.is_none();
                    *wanted.entry((key.display, key.rendition)).or_default() |= stranded;
                }
            }
        }
        let Some(online) = self.members.get_mut(&publisher).and_then(Member::online_mut) else { return };
        let mut wants = Vec::new();
        for (&id, &stranded) in &wanted {
            let stream = self.streams.get(&id);
            let asked = online.wanted.get(&id).copied();
            // A rendition that nothing came of yet will begin with a start by itself.
            let fresh = stream.is_none_or(|stream| stream.received().is_none());
            let start = stranded && !fresh && stream.is_some_and(|stream| !stream.awaits_key());
            let newest = stream.map_or(0, Stream::starts_seen);
            let again = start && asked.is_none_or(|asked| asked.start_after != Some(newest));
            if asked.is_none() || again {
                online.wanted.insert(id, super::member::Asked { start_after: start.then_some(newest) });
                wants.push((id, true, start));
            }
        }
        let idle: Vec<_> = online.wanted.keys().copied().filter(|id| !wanted.contains_key(id)).collect();
        for id in idle {
            online.wanted.remove(&id);
            wants.push((id, false, false));
        }
        for ((display, rendition), on, start) in wants {
            let want = message::Want {
                request_id: self.next_want,
                display: display.0.into(),
                rendition: rendition.0.into(),
                on,
                start,
                key: start,
                merge_into: None,
            };
            self.next_want += 1;
            self.tell(publisher, control::Message::Want(want));
        }
    }

    /// An acknowledgement: of a screen, for the publisher's pacer; of input, for whoever sent it.
    pub(super) fn ack(&mut self, seat: Seat, ack: &message::Ack, now: Instant) -> Result<(), Breach> {
        let Some(lane) = &ack.lane else { return Err(Breach::protocol("an Ack of no lane")) };
        let key = LaneKey::try_from(lane).map_err(|error| Breach::protocol(error.to_string()))?;
        if self.is_publisher(seat.sender) {
            if key.kind != LaneKind::Screen && key.sender != seat.sender {
                self.tell(key.sender, control::Message::Ack(*ack));
            }
            return Ok(());
        }
        if key.kind != LaneKind::Screen {
            return Ok(());
        }
        let Some(online) = self.online(seat) else { return Ok(()) };
        let Some(slot) = online.outbox.find(key) else { return Ok(()) };
        let delivered = online.outbox.delivered(slot, ack.received_bytes);
        let standing = Standing { delivered, applied: ack.applied, delay_us: ack.ack_delay_us };
        online.standing.insert((key.display, key.rendition), standing);
        if self.pacing((key.display, key.rendition)) == Some(seat.sender) {
            self.feed_back(now);
        }
        Ok(())
    }

    /// Who sets the pace of a rendition: of those who can see it, the one in control, else the lead, else the first.
    fn pacing(&self, (display, rendition): (DisplayId, Rendition)) -> Option<Sender> {
        let rank = |(&sender, member): (&Sender, &Member)| {
            let online = member.online()?;
            screen_slot(&online.outbox, (display, rendition))?;
            online.watching.get(&display).filter(|watch| watch.visible)?;
            Some((!member.may(Right::Control), member.who.role != Role::Lead, sender))
        };
        self.members.iter().filter_map(rank).min().map(|(_, _, sender)| sender)
    }

    /// There is news for the publisher: sends it now or as soon as it may.
    pub(super) fn feed_back(&mut self, now: Instant) {
        let Some(publisher) = self.publisher() else { return };
        let Some(online) = self.members.get_mut(&publisher).and_then(Member::online_mut) else { return };
        if online.feedback.may_send(now) {
            self.write_feedback(publisher);
        } else {
            online.outbox.wake_changed();
        }
    }

    /// Sends feedback that was held back and is due.
    pub(super) fn send_feedback(&mut self, now: Instant) {
        let Some(publisher) = self.publisher() else { return };
        let online = self.members.get_mut(&publisher).and_then(Member::online_mut);
        if online.is_some_and(|online| online.feedback.is_due(now) && online.feedback.may_send(now)) {
            self.write_feedback(publisher);
        }
    }

    fn write_feedback(&mut self, publisher: Sender) {
        let ids: Vec<(DisplayId, Rendition)> = self.streams.keys().copied().collect();
        for id in ids {
            let pacing = self.pacing(id);
            let Some(stream) = self.streams.get(&id) else { continue };
            let lane = stream.lane_offset();
            let mut feedback = message::Feedback {
                display: id.0.0.into(),
                rendition: id.1.0.into(),
                relayed_bytes: lane.bytes,
                ..Default::default()
            };
            let online = pacing.and_then(|sender| self.members.get_mut(&sender)).and_then(Member::online_mut);
            if let (Some(sender), Some(online)) = (pacing, online) {
                let standing = online.standing.get(&id).cloned().unwrap_or_default();
                let delivered = standing.delivered.filter(|place| place.opening == lane.opening);
                let slot = screen_slot(&online.outbox, id);
                if let Some(&mut Some(position)) = slot.and_then(|slot| online.outbox.position(slot)) {
                    feedback.queued_bytes = stream.queued(position);
                }
                feedback.subscriber = sender.0.into();
                // Before its first acknowledgement a subscriber lacks what waits for it here.
                feedback.delivered_bytes = delivered
                    .map_or_else(|| lane.bytes.saturating_sub(feedback.queued_bytes), |place| place.bytes);
                feedback.applied = standing.applied;
                feedback.delay_us = standing.delay_us;
                feedback.rtt_us = online.rtt.map_or(0, |rtt| rtt.as_micros().try_into().unwrap_or(u32::MAX));
                feedback.application_limited = feedback.queued_bytes == 0;
            }
            self.metrics.feedback.increment(1);
            self.tell(publisher, control::Message::Feedback(feedback));
        }
    }
}

/// The lane by which an outbox carries a rendition.
fn screen_slot(outbox: &Outbox, (display, rendition): (DisplayId, Rendition)) -> Option<Slot> {
    outbox.find_by(|key| key.kind == LaneKind::Screen && (key.display, key.rendition) == (display, rendition))
}

const _: () = assert!(DISPLAYS_MAX < limits::LANES_MAX);
