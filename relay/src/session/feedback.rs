//! How screens get through: subscribers' acknowledgements in, the publisher's feedback out, and who sets the pace.

use std::time::{Duration, Instant};

use tandem_protocol::message::{self, Right, Role, control};
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Point, Rendition, Sender, limits};

use super::display::{RENDITIONS, is_known};
use super::member::Member;
use super::reader::Reader;
use super::{Breach, Seat, Session};

/// Least time between two messages of feedback of a rendition.
const EVERY: Duration = Duration::from_micros(1_000_000 / limits::FEEDBACK_MAX as u64);
/// Most time, while anything is unacknowledged.
const AT_LEAST_EVERY: Duration = Duration::from_millis(1000 / limits::FEEDBACK_MIN as u64);
/// Bytes of a message of feedback on the wire, about.
const BYTES: f64 = 100.0;
/// Share of the path that feedback may take.
const SHARE: f64 = 0.02;
/// Another one paces only if it is better by half and by this much, so that the pace does not change hands all the time.
const CLEARLY: Duration = Duration::from_millis(20);

/// When feedback of a rendition goes to its publisher.
#[derive(Debug, Default)]
pub(super) struct FeedbackPace {
    sent: Option<Instant>,
    due: Option<Instant>,
    /// Whom the publisher was last told to go by; 0: nobody watches.
    told: Option<u32>,
}

impl FeedbackPace {
    /// There is news, to be told at `soonest` and no sooner than `every` after the last. Whether that makes it due earlier than
    /// before.
    fn news(&mut self, every: Duration, soonest: Instant) -> bool {
        let due = self.sent.map_or(soonest, |sent| (sent + every).max(soonest));
        let sooner = self.due.is_none_or(|before| due < before);
        if sooner {
            self.due = Some(due);
        }
        sooner
    }

    /// When it goes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Session {
    /// An acknowledgement: of a screen, for the publisher's pacer; of input, for whoever sent it.
    pub(super) fn ack(&mut self, seat: Seat, ack: &message::Ack, now: Instant) -> Result<(), Breach> {
        let Some(lane) = &ack.lane else { return Err(Breach::protocol("an Ack of no lane")) };
        let key = LaneKey::try_from(lane).map_err(|error| Breach::protocol(error.to_string()))?;
        if self.is_publisher(seat.sender) {
            if !key.kind.is_screen() && key.sender != seat.sender {
                self.tell(key.sender, control::Message::Ack(*ack));
            }
            return Ok(());
        }
        if !key.kind.is_screen() || !is_known(key.rendition) {
            return Ok(());
        }
        let is_current = ack.applied.is_none_or(|point| self.is_current(key, ack.epoch, point));
        let Some(online) = self.online(seat) else { return Ok(()) };
        let Some(slot) = online.outbox.find(key) else { return Ok(()) };
        let news = online.outbox.acknowledged(slot, ack.received_bytes, now);
        if news > 0 {
            online.progress = now;
            online.carried += news;
        }
        let Some(reader) = online.readers.get_mut(&key.display) else { return Ok(()) };
        let mut shown_first = None;
        if key.kind == LaneKind::Screen {
            reader.acknowledged(key.rendition, ack.received_bytes, now);
            if reader.applied[key.rendition] != ack.applied && is_current {
                reader.applied[key.rendition] = ack.applied;
                shown_first = reader.first_awaited.take();
                reader.doubt =
                    reader.doubt.map(|_| now).filter(|_| online.outbox.is_under_way(reader.key_slot));
            }
        }
        if let Some(since) = shown_first {
            self.metrics.join_to_picture_seconds.record(now.saturating_duration_since(since));
        }
        self.measure(seat, now);
        let paces = self.displays.get(&key.display).and_then(|display| display.pacing[key.rendition]);
        if paces == Some(seat.sender) && key.kind == LaneKind::Screen {
            self.feed_back(key.display, key.rendition, now);
        }
        Ok(())
    }

    /// Whether an update that is shown is one of the publisher's present epoch: what was under way when that began says nothing of it.
    fn is_current(&self, key: LaneKey, epoch: u64, shown: message::Point) -> bool {
        let Some(display) = self.displays.get(&key.display) else { return false };
        let Ok(point) = Point::try_from(&shown) else { return false };
        let received =
            is_known(point.rendition).then(|| display.streams[point.rendition].received()).flatten();
        received.is_some_and(|(now, next_seq)| now == epoch && point.seq < next_seq)
    }

    /// Takes note of how fast a subscriber's path carries.
    fn measure(&mut self, seat: Seat, now: Instant) {
        let displays = &self.displays;
        let Some(online) = self.members.get_mut(&seat.sender).and_then(Member::online_mut) else { return };
        let waits = |id, reader: &Reader| {
            displays.get(id).is_some_and(|display| reader.unsent_age(display, now) > Duration::ZERO)
        };
        let busy = online.readers.iter().any(|(id, reader)| waits(id, reader));
        online.rate.carried(online.carried, busy, now);
    }

    /// Looks who sets the pace of a display's renditions, and says so at once when that has changed.
    pub(super) fn elect(&mut self, id: DisplayId, now: Instant) {
        for rendition in RENDITIONS {
            let paces = self.best_pacer(id, rendition, now);
            let Some(display) = self.displays.get_mut(&id) else { return };
            // Feedback that goes while a subscriber changes connections tells of nobody.
            let told = display.feedback[rendition].told;
            let is_told = told.is_none_or(|told| told == paces.map_or(0, |sender| sender.0.into()));
            if display.pacing[rendition] != paces || !is_told {
                display.pacing[rendition] = paces;
                if display.feedback[rendition].news(EVERY, now) {
                    self.wake_publisher();
                }
            }
        }
    }

    /// Who should set the pace: of those who can see it, for live the one in control, else the lead, else who has things
    /// soonest; for reduced who has them latest.
    fn best_pacer(&self, id: DisplayId, rendition: Rendition, now: Instant) -> Option<Sender> {
        let display = self.displays.get(&id)?;
        let candidate = |(&sender, member): (&Sender, &Member)| {
            let online = member.online().filter(|online| online.sees(id))?;
            let reader = online.readers.get(&id).filter(|reader| reader.is_member(rendition))?;
            Some((rank(member), reader.lateness(display, now), sender))
        };
        let candidates: Vec<_> = self.members.iter().filter_map(candidate).collect();
        let present = display.pacing[rendition];
        let present = candidates.iter().find(|&&(_, _, sender)| Some(sender) == present).copied();
        let clearly = |less: Duration, more: Duration| more > less.mul_f32(1.5) + CLEARLY;
        if rendition == Rendition::REDUCED {
            let (_, late, sender) = candidates.iter().copied().max_by_key(|&(_, late, _)| late)?;
            return Some(present.filter(|&(_, now, _)| !clearly(now, late)).map_or(sender, |(_, _, at)| at));
        }
        let (best, soon, sender) = candidates.iter().copied().min()?;
        if best != Rank::Watches {
            // Of several in control the first, whatever their paths.
            return candidates.iter().filter(|&&(rank, ..)| rank == best).map(|&(_, _, sender)| sender).min();
        }
        Some(present.filter(|&(_, now, _)| !clearly(soon, now)).map_or(sender, |(_, _, at)| at))
    }

    /// Who sees this display and may claim its pace by rank, whatever rendition it reads.
    pub(super) fn claims_pace(&self, id: DisplayId) -> Option<Sender> {
        let claim = |(&sender, member): (&Sender, &Member)| {
            let online = member.online().filter(|online| online.sees(id))?;
            online.readers.get(&id)?;
            Some((rank(member), sender))
        };
        let (rank, sender) = self.members.iter().filter_map(claim).min()?;
        (rank != Rank::Watches).then_some(sender)
    }

    /// Somebody who paces has acknowledged or taken something. While more waits for it the publisher may wait for this; otherwise
    /// what else happens to an update may be told with it.
    pub(super) fn feed_back(&mut self, id: DisplayId, rendition: Rendition, now: Instant) {
        let every = self.feedback_every(id, rendition);
        let Some(display) = self.displays.get_mut(&id) else { return };
        let paces = display.pacing[rendition].and_then(|sender| self.members.get(&sender)?.online());
        let position = paces.and_then(|online| online.readers.get(&id)?.position(rendition));
        let holds_back = position.is_some_and(|position| display.streams[rendition].queued(position) > 0);
        let sooner = display.feedback[rendition].news(every, if holds_back { now } else { now + EVERY });
        if display.feedback[rendition].due.is_some_and(|due| due <= now) {
            self.write_feedback(id, rendition, now);
        } else if sooner {
            self.wake_publisher();
        }
    }

    /// Records have come: the publisher learns of it with the next news, or a little later.
    pub(super) fn note_relayed(&mut self, id: DisplayId, rendition: Rendition, now: Instant) {
        let Some(display) = self.displays.get_mut(&id) else { return };
        let pace = &mut display.feedback[rendition];
        let sooner = if pace.sent.is_none() { pace.news(EVERY, now) } else { pace.news(AT_LEAST_EVERY, now) };
        let idle = self.upkeep_due.is_none();
        if idle {
            self.upkeep_due = Some(now + super::upkeep::EVERY);
        }
        if sooner || idle {
            self.wake_publisher();
        }
    }

    /// How often feedback may go: it takes no more than its share of the path, as far as that is known.
    fn feedback_every(&self, id: DisplayId, rendition: Rendition) -> Duration {
        let paces = self.displays.get(&id).and_then(|display| display.pacing[rendition]);
        let online = paces.and_then(|sender| self.members.get(&sender)?.online());
        let share = online.and_then(|online| online.rate.limit()).map(|rate| BYTES / (SHARE * rate));
        share.map_or(EVERY, |seconds| Duration::from_secs_f64(seconds.min(1.0)).clamp(EVERY, AT_LEAST_EVERY))
    }

    /// Sends the feedback that is due.
    pub(super) fn send_feedback(&mut self, now: Instant) {
        let ids: Vec<DisplayId> = self.displays.keys().copied().collect();
        for id in ids {
            for rendition in RENDITIONS {
                let due = self.displays.get(&id).and_then(|display| display.feedback[rendition].due);
                if due.is_some_and(|due| due <= now) {
                    self.write_feedback(id, rendition, now);
                }
            }
        }
    }

    fn write_feedback(&mut self, id: DisplayId, rendition: Rendition, now: Instant) {
        let Some(publisher) = self.publisher() else { return };
        let Some(display) = self.displays.get_mut(&id) else { return };
        let stream = &display.streams[rendition];
        let relayed = stream.lane_bytes();
        let pace = &mut display.feedback[rendition];
        let mut feedback = message::Feedback {
            display: id.0.into(),
            rendition: rendition.0.into(),
            relayed_bytes: relayed,
            ..Default::default()
        };
        let mut unacknowledged = false;
        let paces = display.pacing[rendition];
        let online = paces.and_then(|sender| self.members.get(&sender)).and_then(Member::online);
        if let (Some(sender), Some(online)) = (paces, online)
            && let Some(reader) = online.readers.get(&id)
        {
            let position = reader.position(rendition);
            let slot = reader.slots[rendition];
            let being_written = slot.map_or(0, |slot| online.outbox.being_written(slot));
            let queued = position.map_or(0, |position| stream.queued(position)) + being_written;
            let in_flight = slot.map_or(0, |slot| online.outbox.in_flight(slot));
            feedback.subscriber = sender.0.into();
            feedback.queued_bytes = queued;
            // What was skipped is no more under way than what has arrived.
            feedback.delivered_bytes = relayed.saturating_sub(queued - being_written + in_flight);
            feedback.applied = reader.applied[rendition];
            let path = online.outbox.path();
            feedback.rate = path.pace.max(path.rate) as u64;
            feedback.rtt_us =
                micros(if path.rtt_min.is_zero() { online.rtt.unwrap_or_default() } else { path.rtt_min });
            unacknowledged = queued + in_flight > 0;
        }
        (pace.sent, pace.told) = (Some(now), Some(feedback.subscriber));
        pace.due = unacknowledged.then_some(now + AT_LEAST_EVERY);
        self.metrics.feedback.increment(1);
        self.tell(publisher, control::Message::Feedback(feedback));
    }

    pub(super) fn wake_publisher(&self) {
        let publisher = self.publisher().and_then(|sender| self.members.get(&sender));
        if let Some(online) = publisher.and_then(Member::online) {
            online.outbox.deadline_moved();
        }
    }
}

/// What a subscriber's wish for a pace weighs; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Controls,
    Leads,
    Watches,
}

fn rank(member: &Member) -> Rank {
    if member.may(Right::Control) {
        Rank::Controls
    } else if member.who.role == Role::Lead {
        Rank::Leads
    } else {
        Rank::Watches
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
