//! What the publisher is asked for: which renditions, starts with keys, forks and merges. Worked out anew from where everybody
//! is whenever that changes; only what is new is said.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tandem_protocol::message::{self, control};
use tandem_protocol::{DisplayId, Rendition};

use super::Session;
use super::display::{Asked, Display, RENDITIONS, is_known};
use super::member::{Member, Online};
use super::reader::{Place, Reader};

/// A key that has not even begun to come is asked for again after this long.
const KEY_AGAIN: Duration = Duration::from_secs(20);
/// One that has begun to come, only after this long.
const KEY_AGAIN_ARRIVING: Duration = Duration::from_secs(60);
/// A fork or merge that does not come is asked for again after this long.
const CROSSING_AGAIN: Duration = Duration::from_secs(5);

/// What the subscribers of a display need of its publisher.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    live: bool,
    reduced: bool,
    key: bool,
    fork: bool,
    merge: bool,
}

impl Needs {
    /// `wants_key`: a reader that waits needs a key.
    fn add(&mut self, reader: &Reader, wants_key: bool, display: &Display) {
        self.live = true;
        match reader.place {
            Place::Waiting { .. } => self.key |= wants_key,
            Place::Reading(of, _) if of == reader.target => self.reduced |= of == Rendition::REDUCED,
            // It is as good as there.
            Place::Reading(of, _) if reader.will_cross(display) => self.reduced |= of == Rendition::LIVE,
            Place::Reading(Rendition::LIVE, _) => (self.reduced, self.fork) = (true, true),
            Place::Reading(..) => (self.reduced, self.merge) = (true, true),
        }
    }
}

impl Session {
    /// Tells the publisher what is needed now.
    pub(super) fn refresh_wants(&mut self, now: Instant) {
        let Some(publisher) = self.publisher() else { return };
        if self.members.get(&publisher).and_then(Member::online).is_none() {
            return;
        }
        for id in self.named_displays() {
            let needs = self.needs(id);
            let Some(display) = self.displays.get_mut(&id) else { continue };
            let mut wants = Vec::new();
            display.ask(needs, now, |want| wants.push(want));
            for want in wants {
                if want.key {
                    self.metrics.keys_wanted.increment(1);
                }
                let want = message::Want { request_id: self.next_want, display: id.0.into(), ..want };
                self.next_want += 1;
                self.tell(publisher, control::Message::Want(want));
            }
        }
    }

    /// Displays that somebody reads, or the publisher was asked for. One that nothing came of yet is noted here, as long as somebody
    /// would like to see it: as many as there may be, beside those that there are.
    fn named_displays(&mut self) -> Vec<DisplayId> {
        let online = self.members.values().filter_map(Member::online);
        let read: BTreeSet<DisplayId> = online.flat_map(|online| online.readers.keys().copied()).collect();
        self.displays.retain(|id, display| display.exists || display.asked.is_on() || read.contains(id));
        for id in read {
            let named = self.displays.values().filter(|display| !display.exists).count();
            if self.displays.contains_key(&id) || named < self.limits.displays {
                self.note_display(id);
            }
        }
        self.displays.keys().copied().collect()
    }

    fn needs(&self, id: DisplayId) -> Needs {
        let mut needs = Needs::default();
        let Some(display) = self.displays.get(&id) else { return needs };
        for online in self.members.values().filter_map(Member::online) {
            if let Some(reader) = online.readers.get(&id) {
                needs.add(reader, online.sees(id) && !online.awaits(id, display), display);
            }
        }
        needs
    }

    /// A publisher's connection knows nothing of what an earlier one was asked.
    pub(super) fn forget_wants(&mut self) {
        for display in self.displays.values_mut() {
            let before = std::mem::take(&mut display.asked);
            for rendition in RENDITIONS {
                display.asked.ever_on[rendition] = before.ever_on[rendition];
                display.asked.may_be_on[rendition] = before.ever_on[rendition];
            }
        }
    }
}

impl Online {
    /// Whether a subscriber sees this display.
    pub(super) fn sees(&self, id: DisplayId) -> bool {
        self.watching.get(&id).is_some_and(|watch| watch.visible)
    }

    /// Whether what this returning subscriber shows is among what the publisher is about to send again.
    pub(super) fn awaits(&self, id: DisplayId, display: &Display) -> bool {
        self.showing.iter().any(|shown| {
            let of = shown.point.rendition;
            shown.display == id && is_known(of) && display.streams[of].will_have(shown.epoch, shown.point)
        })
    }
}

impl Asked {
    /// Whether the publisher publishes any of it, as far as it was asked.
    fn is_on(&self) -> bool {
        RENDITIONS.into_iter().any(|rendition| self.on[rendition] || self.may_be_on[rendition])
    }
}

impl Display {
    fn ask(&mut self, needs: Needs, now: Instant, mut want: impl FnMut(message::Want)) {
        let on = |rendition: Rendition, on| message::Want {
            rendition: rendition.0.into(),
            on,
            ..message::Want::default()
        };
        let live = &self.streams[Rendition::LIVE];
        // A rendition that nothing came of yet begins with a start by itself.
        let may_ask = live.received().is_some();
        let key_again = if live.key_is_arriving() { KEY_AGAIN_ARRIVING } else { KEY_AGAIN };
        let asked = &mut self.asked;
        let mut said = Asked::default().on;
        if needs.key && may_ask && asked.key.make(key_again, now) {
            want(message::Want { start: true, key: true, ..on(Rendition::LIVE, true) });
            said[Rendition::LIVE] = true;
        }
        if needs.fork && asked.fork.make(CROSSING_AGAIN, now) {
            want(message::Want { start: true, ..on(Rendition::REDUCED, true) });
            said[Rendition::REDUCED] = true;
        }
        if needs.merge && asked.merge.make(CROSSING_AGAIN, now) {
            let into = Some(Rendition::LIVE.0.into());
            want(message::Want { merge_into: into, ..on(Rendition::REDUCED, true) });
            said[Rendition::REDUCED] = true;
        }
        for rendition in RENDITIONS {
            let needed = if rendition == Rendition::LIVE { needs.live } else { needs.reduced };
            let may_be_on = std::mem::take(&mut asked.may_be_on[rendition]);
            if (needed != asked.on[rendition] || may_be_on) && !said[rendition] {
                want(on(rendition, needed));
            }
            asked.on[rendition] = needed;
            asked.ever_on[rendition] |= needed;
        }
        if !needs.fork {
            asked.fork.answered();
        }
        if !needs.merge {
            asked.merge.answered();
        }
    }
}
