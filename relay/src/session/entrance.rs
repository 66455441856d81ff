//! How subscribers come to a screen: where they left off, by the held segment, or by a key, whichever they have sooner; and how
//! they lose it.

use std::time::{Duration, Instant};

use tandem_protocol::message::{Right, Role};
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Rendition, Sender};

use super::Session;
use super::display::{Both, Display, RENDITIONS, is_known};
use super::lag::Paths;
use super::member::{Member, Online};
use super::reader::{Place, Reader};
use super::screens::tell_skipped;
use super::totals::Tally;
use crate::outbox::Source;
use crate::stream::Entry;

/// Who waits for a key that does not come takes the held segment after this long, whatever it costs.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// What is known of the path of a subscriber, and of the publisher's.
    pub(super) fn paths(&self, subscriber: Option<Sender>) -> Paths {
        let online = |sender: Option<Sender>| self.members.get(&sender?)?.online();
        let publisher = online(self.publisher());
        Paths {
            up: publisher.and_then(|online| online.rate.best()),
            down: online(subscriber).and_then(|online| online.rate.best()),
            rtt: publisher.and_then(|online| online.rtt),
        }
    }

    /// Makes a subscriber a reader of the displays that it wants and may see, and asks for what nobody publishes yet.
    pub(super) fn sync_screens(&mut self, sender: Sender, now: Instant) {
        let Some(publisher) = self.publisher() else { return };
        let Some(member) = self.members.get_mut(&sender) else { return };
        if member.is_publisher() {
            return;
        }
        let views = member.may(Right::View);
        let Some(online) = member.online_mut() else { return };
        if views {
            let displays: Vec<DisplayId> = online.watching.keys().copied().collect();
            let new = displays.into_iter().filter(|id| !online.readers.contains_key(id)).collect::<Vec<_>>();
            for &id in &new {
                let mut reader = Reader::new(publisher, now);
                let key = LaneKey::screen(LaneKind::Screen, id, Rendition::LIVE, publisher);
                reader.slots[Rendition::LIVE] = Some(online.outbox.open(key, Source::Screen));
                online.readers.insert(id, Box::new(reader));
            }
            for id in new {
                self.enter(sender, id, false, now);
            }
        }
        self.refresh_wants(now);
    }

    /// A subscriber may not see the screens any more; its lanes are gone. (While the publisher is away nobody may, but
    /// everybody keeps their place.)
    pub(super) fn drop_readers(&mut self, sender: Sender) {
        let Some(online) = self.members.get_mut(&sender).and_then(Member::online_mut) else { return };
        for (id, reader) in std::mem::take(&mut online.readers) {
            let Some(display) = self.displays.get(&id) else { continue };
            for rendition in RENDITIONS {
                let rest = reader.ledgers[rendition].close(display.streams[rendition].head());
                let skipped = rest.map(|(skip, count)| (rendition, skip, count));
                tell_skipped(online, (id, reader.publisher), skipped, &self.metrics);
            }
        }
    }

    /// Lets a subscriber in: where it left off, else by the held segment or a key, whichever it has sooner.
    pub(super) fn enter(&mut self, sender: Sender, id: DisplayId, key_is_new: bool, now: Instant) {
        let paths = self.paths(Some(sender));
        let seen_from = self.seen_from(sender, id);
        let Some(publisher) = self.publisher() else { return };
        let Some(display) = self.displays.get(&id) else { return };
        let Some(member) = self.members.get_mut(&sender) else { return };
        let last_read = member.read_last.get(&id).copied();
        let Some(online) = member.online_mut() else { return };
        if resume(online, id, display, (publisher, last_read), seen_from) {
            return;
        }
        let seen = online.watching.get(&id).is_some_and(|watch| watch.visible);
        let Some(reader) = online.readers.get_mut(&id) else { return };
        let Place::Waiting { not_before, since } = reader.place else { return };
        if !seen && !reader.ledgers[Rendition::LIVE].is_new() {
            return;
        }
        let live = &display.streams[Rendition::LIVE];
        let Some(entry) = live.entry(not_before.max(seen_from[Rendition::LIVE])) else { return };
        let patient = now.saturating_duration_since(since) < KEY_PATIENCE;
        let dear = live.key_estimate().is_some_and(|key| paths.held_cost(entry.bytes) > paths.key_cost(key));
        // What came while the key that it waited for was on its way is not held against it.
        if dear && patient && !key_is_new {
            return;
        }
        enter_at(online, id, entry, publisher, &self.metrics);
        if let Some(reader) = online.readers.get_mut(&id) {
            reader.look_ahead(display, sender);
        }
    }

    /// The first records that a subscriber may be sent: what came before it could see the screen only if the lead allows that.
    fn seen_from(&self, sender: Sender, id: DisplayId) -> Both<u64> {
        let shows_past = |member: &Member| member.who.role == Role::Lead && member.who.shows_past;
        if self.members.values().any(shows_past) {
            return Both::default();
        }
        let since = self.members.get(&sender).and_then(|member| member.views_since.as_ref());
        since.and_then(|since| since.get(&id)).copied().unwrap_or_default()
    }

    /// A way in has opened, perhaps by a key that came just now, or time has passed: lets everybody in who waits for one.
    pub(super) fn enter_waiting(&mut self, id: DisplayId, key_is_new: bool, now: Instant) {
        let waits = |(&sender, member): (&Sender, &Member)| {
            member.online()?.readers.get(&id).filter(|reader| reader.is_waiting()).map(|_| sender)
        };
        for sender in self.members.iter().filter_map(waits).collect::<Vec<_>>() {
            self.enter(sender, id, key_is_new, now);
        }
    }
}

/// Lets a returning subscriber go on from what it shows. Whether it could.
fn resume(
    online: &mut Online,
    id: DisplayId,
    display: &Display,
    (publisher, last_read): (Sender, Option<Rendition>),
    seen_from: Both<u64>,
) -> bool {
    if online.awaits(id, display) {
        return false;
    }
    let shown: Vec<_> = online.showing.extract_if(.., |shown| shown.display == id).collect();
    // One that names both renditions shows what it read last.
    let likely = |rendition| shown.iter().find(|shown| Some(shown.point.rendition) == rendition);
    let Some(shown) = likely(last_read).or_else(|| shown.first()) else { return false };
    let rendition = shown.point.rendition;
    let position = is_known(rendition).then(|| display.streams[rendition].after(shown.epoch, shown.point));
    let (Some(position), Some(reader)) = (position.flatten(), online.readers.get_mut(&id)) else {
        return false;
    };
    // What it says may be what it saw before its right was withdrawn, or what it has never seen.
    if position.ordinal() < seen_from[rendition] {
        return false;
    }
    let stops = rendition == Rendition::REDUCED && !display.asked.on[rendition];
    if stops && display.crossing_ahead(rendition, position).is_none() {
        // Its publisher was told to forget it.
        return false;
    }
    reader.target = rendition;
    reader.enter(rendition, position);
    let slot = *reader.slots[rendition].get_or_insert_with(|| {
        online.outbox.open(LaneKey::screen(LaneKind::Screen, id, rendition, publisher), Source::Screen)
    });
    online.outbox.wake(slot);
    true
}

/// Lets a subscriber into live, by a key if it needs one.
fn enter_at(online: &mut Online, id: DisplayId, entry: Entry, publisher: Sender, metrics: &Tally) {
    let Some(reader) = online.readers.get_mut(&id) else { return };
    online.showing.retain(|shown| shown.display != id);
    reader.target = if reader.overtaken { Rendition::REDUCED } else { Rendition::LIVE };
    let missed = reader.enter(Rendition::LIVE, entry.position);
    if let Some(slot) = reader.key_slot {
        online.outbox.drop_unbegun(slot);
    }
    if !entry.key.is_empty() {
        let key = LaneKey::screen(LaneKind::Key, id, Rendition::LIVE, publisher);
        let slot = *reader.key_slot.get_or_insert_with(|| online.outbox.open(key, Source::queue()));
        let last = entry.key.len() - 1;
        for (at, part) in entry.key.into_iter().enumerate() {
            online.outbox.push_part(slot, part, at < last);
        }
    }
    if let Some(slot) = reader.slots[Rendition::LIVE] {
        online.outbox.wake(slot);
    }
    tell_skipped(online, (id, publisher), missed, metrics);
}
