//! What time brings about in the session's screens: forks and merges, the pace changing hands, and the end of those who take
//! nothing.

use std::time::{Duration, Instant};

use tandem_protocol::message::Right;
use tandem_protocol::{DisplayId, Rendition, limits};

use super::Session;
use super::display::Display;
use super::lag::{Counts, LAG_MAX};
use super::member::{Member, Online};
use super::reader::Place;
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
            self.elect(id, now);
            self.enter_waiting(id, false, now);
        }
        // Whoever is asked for a start must know at whose pace.
        self.send_feedback(now);
        self.refresh_wants(now);
        self.end_stalled(now);
        let busy =
            ids.iter().any(|id| self.displays.get(id).is_some_and(|display| self.is_busy(*id, display)));
        self.upkeep_due = busy.then_some(now + EVERY);
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
        let claims = self.claims_pace(id);
        let Some(display) = self.displays.get_mut(&id) else { return };
        let [live, reduced] = [Rendition::LIVE, Rendition::REDUCED].map(|of| &display.streams[of]);
        let mut has_members = false;
        let counts = Counts {
            live: live.total_bytes(),
            reduced: reduced.total_bytes(),
            arrived: live.arrived().max(reduced.arrived()),
            now,
        };
        let even = display.balance.observe(counts);
        let silent = reduced.arrived().is_none_or(|at| live.arrived().is_some_and(|live| live > at + SILENT));
        let given_up = silent || display.asked.merge.is_ignored();
        let paces = display.pacing[Rendition::LIVE];
        for (&sender, member) in &mut self.members {
            let views = member.may(Right::View);
            let Some(online) = member.online_mut().filter(|_| views) else { continue };
            let forkable = online.sees(id) && paces != Some(sender);
            if given_up && online.sees(id) {
                leave_reduced(online, id, display, now);
            }
            if let Some(of) = retarget_one(online, id, display, (forkable, claims == Some(sender), even), now)
            {
                has_members |= of == Rendition::REDUCED;
            }
            if let Some(reader) = online.readers.get_mut(&id) {
                reader.look_ahead(display, sender);
            }
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
fn leave_reduced(online: &mut Online, id: DisplayId, display: &Display, now: Instant) {
    let Some(reader) = online.readers.get_mut(&id) else { return };
    let position = reader.position(Rendition::REDUCED);
    if position.is_some_and(|at| at.ordinal() == display.streams[Rendition::REDUCED].head()) {
        reader.lose(Skip::Key, 0, now);
    }
}

/// Decides where one subscriber should read. `forkable`: it may be sent to reduced; `claims`: live is to be at its pace; `even`:
/// reduced carries as much as live. The rendition that it reads, if any.
fn retarget_one(
    online: &mut Online,
    id: DisplayId,
    display: &Display,
    (forkable, claims, even): (bool, bool, bool),
    now: Instant,
) -> Option<Rendition> {
    let reader = online.readers.get_mut(&id)?;
    let Place::Reading(of, position) = reader.place else { return None };
    let age = reader.unsent_age(display, now);
    let key_waits = reader.key_slot.is_some_and(|slot| online.outbox.queued_bytes(slot) > 0);
    if of == Rendition::REDUCED {
        let well = age <= LAG_MAX && even && reader.patience.is_over(now);
        if claims || well {
            reader.target = Rendition::LIVE;
        } else if !reader.will_cross(display) {
            reader.target = Rendition::REDUCED;
        }
    } else if !forkable || key_waits {
        reader.lag.reset();
        if !reader.will_cross(display) {
            reader.target = Rendition::LIVE;
        }
    } else if reader.lag.observe(age, now) {
        reader.target = Rendition::REDUCED;
    } else if position.ordinal() == display.streams[of].head() && !reader.will_cross(display) {
        // It has caught up by itself.
        reader.target = Rendition::LIVE;
    }
    Some(of)
}
