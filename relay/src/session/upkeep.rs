//! What time brings about in the session's screens: forks and merges, the pace changing hands, and the end of those who take
//! nothing.

use std::time::{Duration, Instant};

use tandem_protocol::message::Right;
use tandem_protocol::{DisplayId, Rendition, limits};

use super::Session;
use super::display::Display;
use super::lag::{Counts, LAG_MAX, Paths};
use super::member::Member;
use super::reader::{Place, Reader};
use crate::metrics::{Skip, Stalled};

/// How often subscribers are looked at while anything waits for anybody.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// Reduced is given up when nothing has come of it for this long while something came of live.
const SILENT: Duration = Duration::from_secs(10);
/// How long a subscriber may need to show what a key leads to, once that has come.
const DOUBT: Duration = Duration::from_secs(2);

impl Session {
    /// Looks after everybody's screens. To be called every [`EVERY`] while something waits, and a few times a second anyway.
    pub(super) fn upkeep(&mut self, now: Instant) {
        let ids: Vec<DisplayId> = self.displays.keys().copied().collect();
        for &id in &ids {
            self.end_doubts(id, now);
            self.elect(id, now);
            self.retarget(id, now);
            self.enter_waiting(id, false, now);
            self.elect(id, now);
            let live = self.displays.get_mut(&id).map(|display| &mut display.streams[Rendition::LIVE]);
            if live.is_some_and(|live| live.ends_waiting(now)) {
                self.trim(id, now);
            }
        }
        // Whoever is asked for a start must know at whose pace.
        self.send_feedback(now);
        self.refresh_wants(now);
        self.end_stalled(now);
        let due = self.is_anything_waiting().then_some(now + EVERY);
        let sooner = due.is_some_and(|due| self.upkeep_due.is_none_or(|before| due < before));
        self.upkeep_due = due;
        if sooner {
            self.wake_publisher();
        }
    }

    /// Whether somebody has something of some display to take, or somewhere to go.
    pub(super) fn is_anything_waiting(&self) -> bool {
        self.displays.iter().any(|(&id, display)| self.is_busy(id, display))
    }

    /// Whether somebody has something of this display to take, or somewhere to go.
    fn is_busy(&self, id: DisplayId, display: &Display) -> bool {
        let readers = self.members.values().filter_map(|member| member.online()?.readers.get(&id));
        readers.into_iter().any(|reader| {
            reader.doubt.is_some()
                || match reader.place {
                    Place::Waiting { .. } => display.streams[Rendition::LIVE].received().is_some(),
                    Place::Reading(of, position) => {
                        of != reader.target
                            || of == Rendition::REDUCED
                            || position.ordinal() < display.streams[of].head()
                    }
                }
        })
    }

    /// Decides who should go over to the other rendition.
    fn retarget(&mut self, id: DisplayId, now: Instant) {
        let (claims, paths) = (self.claims_pace(id), self.paths(None));
        let Some(display) = self.displays.get_mut(&id) else { return };
        let [live, reduced] = [Rendition::LIVE, Rendition::REDUCED].map(|of| &display.streams[of]);
        let arrived = live.arrived().max(reduced.arrived());
        let counts = Counts { live: live.total_bytes(), reduced: reduced.total_bytes(), arrived, now };
        let silent = reduced.arrived().is_none_or(|at| live.arrived().is_some_and(|live| live > at + SILENT));
        let silent = silent || display.asked.merge.is_ignored();
        let loads = display.balance.observe(counts);
        let mut has_members = false;
        for (&sender, member) in &mut self.members {
            let views = member.may(Right::View);
            let Some(online) = member.online_mut().filter(|_| views) else { continue };
            let sees = online.sees(id);
            let paths = Paths { down: online.rate.limit(), ..paths };
            let Some(reader) = online.readers.get_mut(&id) else { continue };
            let key_waits = reader.key_slot.is_some_and(|slot| online.outbox.queued_bytes(slot) > 0);
            if silent && sees {
                leave_reduced(reader, display, now);
            }
            match reader.place {
                Place::Waiting { .. } => {}
                Place::Reading(Rendition::REDUCED, _) => {
                    has_members = true;
                    let well = loads.allow(paths.down) && reader.patience.is_over(now);
                    judge_reduced(reader, display, (claims == Some(sender), well), now);
                }
                Place::Reading(..) => {
                    let forkable = sees && display.pacing[Rendition::LIVE] != Some(sender);
                    judge_live(reader, display, (forkable, key_waits), paths, now);
                }
            }
            reader.look_ahead(display, sender);
        }
        if !has_members {
            display.balance.reset();
        }
    }

    /// Whoever said that it had lost step while a key was on its way, and has not got anywhere since that came, has lost step.
    fn end_doubts(&mut self, id: DisplayId, now: Instant) {
        let Some(display) = self.displays.get(&id) else { return };
        let head = display.streams[Rendition::LIVE].head();
        for online in self.members.values_mut().filter_map(Member::online_mut) {
            let Some(reader) = online.readers.get_mut(&id) else { continue };
            let Some(since) = reader.doubt else { continue };
            if online.outbox.is_under_way(reader.key_slot) {
                reader.doubt = Some(now);
            } else if now.saturating_duration_since(since) >= DOUBT {
                reader.lose(Skip::Key, head, now);
                self.metrics.lost.increment(1);
            }
        }
    }

    /// Ends the connections of those who see a display of which something waits, and take and acknowledge nothing.
    fn end_stalled(&mut self, now: Instant) {
        let displays = &self.displays;
        for member in self.members.values_mut() {
            let views = member.may(Right::View);
            let Some(online) = member.online_mut() else { continue };
            let seen = online.readers.iter().filter(|(id, _)| online.sees(**id));
            let waits = seen.into_iter().any(|(id, reader)| {
                let key = reader.key_slot.is_some_and(|slot| online.outbox.queued_bytes(slot) > 0);
                key || match reader.place {
                    Place::Reading(of, position) => displays
                        .get(id)
                        .is_some_and(|display| position.ordinal() < display.streams[of].head()),
                    Place::Waiting { .. } => false,
                }
            });
            if !waits || !views {
                online.progress = now;
            } else if now.saturating_duration_since(online.progress) >= limits::STALLED_TIME && !online.ending
            {
                online.ending = true;
                online.outbox.stalled(Stalled::Screen, "nothing of the screen was taken");
            }
        }
    }
}

/// Takes a subscriber to live that has had all that came of reduced, since no more will.
fn leave_reduced(reader: &mut Reader, display: &Display, now: Instant) {
    let position = reader.position(Rendition::REDUCED);
    let has_all = position.is_some_and(|at| at.ordinal() == display.streams[Rendition::REDUCED].head());
    // Before it came nobody may have seen reduced.
    if has_all && reader.patience.stayed(now).is_none_or(|stayed| stayed >= SILENT) {
        reader.lose(Skip::Key, 0, now);
    }
}

/// Decides whether a member of reduced should go back. `claims`: live is to be at its pace; `well`: live is not too much for it.
fn judge_reduced(reader: &mut Reader, display: &Display, (claims, well): (bool, bool), now: Instant) {
    let in_step = reader.unsent_age(display, now) <= LAG_MAX;
    if claims || (well && in_step) {
        reader.target = Rendition::LIVE;
    } else if !reader.will_cross(display) {
        reader.target = Rendition::REDUCED;
    }
}

/// Decides whether a member of live cannot keep up. `forkable`: it may be sent to reduced; `key_waits`: its key has not left.
fn judge_live(
    reader: &mut Reader,
    display: &Display,
    (forkable, key_waits): (bool, bool),
    paths: Paths,
    now: Instant,
) {
    let Some(position) = reader.position(Rendition::LIVE) else { return };
    let live = &display.streams[Rendition::LIVE];
    let has_all = position.ordinal() == live.head() && !key_waits;
    if !forkable || (key_waits && !reader.overtaken) {
        reader.lag.reset();
        if !reader.will_cross(display) {
            reader.target = Rendition::LIVE;
        }
    } else if reader.lag.observe(reader.unsent_age(display, now), now) {
        reader.target = Rendition::REDUCED;
    } else if has_all && !reader.will_cross(display) {
        // It has caught up by itself.
        (reader.target, reader.overtaken) = (Rendition::LIVE, false);
    }
    let drains = reader.target == Rendition::REDUCED && !reader.overtaken && !reader.will_cross(display);
    let answers = !display.asked.fork.is_ignored() && !display.asked.key.is_ignored();
    let key = live.key_estimate().filter(|_| drains && answers);
    if key.is_some_and(|key| paths.prefers_key(live.queued(position), key)) {
        reader.overtake(now);
    }
}
