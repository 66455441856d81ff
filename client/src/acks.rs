//! When to acknowledge what. Screens: updates as the program applies them, and bytes as they arrive, a little later so that it can
//! say what came of them too; at most every 8 ms. Input: what has been injected, four times a second: what is not acknowledged is only
//! kept for a resume.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_protocol::{LaneKey, LaneKind, Point, Record, Sender, limits, message};

/// Least time between two acknowledgements of a screen.
const SCREEN_EVERY: Duration = Duration::from_millis(8);
/// How long bytes wait for what the program makes of them.
const SETTLES: Duration = Duration::from_millis(4);
/// How long input waits for more.
const INPUT_EVERY: Duration = Duration::from_millis(250);

/// Of so many people it is remembered what was done of their input.
const PEOPLE_MAX: usize = 4 * limits::PARTICIPANTS_MAX;

/// Acknowledgements that are due, by lane.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    lanes: BTreeMap<LaneKey, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    received_bytes: u64,
    epoch: u64,
    next_seq: u64,
    applied: Option<Point>,
    drawn_seq: u64,
    arrived: Option<Instant>,
    /// There is news, to be told then.
    news: Option<Instant>,
    sent: Option<Instant>,
    /// When input was done last.
    processed: Option<Instant>,
}

impl Acks {
    /// A new connection: bytes of screens are counted anew, and `Hello` has told what is shown.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        for (_, lane) in self.lanes.iter_mut().filter(|(key, _)| key.kind != LaneKind::Input) {
            (lane.received_bytes, lane.news) = (0, None);
        }
        self.restate_input(|_| true, now);
    }

    /// What was done of these people's input is due at once. What was said of it before may have gone into a path that was dead, or to a
    /// relay that had not seated them; and when their lanes begin anew they take for lost what they do not know to be done.
    pub(crate) fn restate_input(&mut self, of: impl Fn(Sender) -> bool, now: Instant) {
        let input = self.lanes.iter_mut().filter(|(key, _)| key.kind == LaneKind::Input && of(key.sender));
        for (_, lane) in input.filter(|(_, lane)| lane.next_seq > 0) {
            (lane.news, lane.sent) = (Some(now), None);
        }
    }

    /// So many bytes of a lane have arrived since it opened.
    pub(crate) fn bytes(&mut self, key: LaneKey, received: u64, now: Instant) {
        if !key.kind.is_screen() {
            return;
        }
        let lane = self.lanes.entry(key).or_default();
        if lane.received_bytes != received {
            lane.received_bytes = received;
            lane.arrived = Some(now);
            lane.news.get_or_insert(now + SETTLES);
        }
    }

    /// A whole record has arrived.
    pub(crate) fn record(&mut self, key: LaneKey, record: &Record) {
        if key.kind == LaneKind::Screen {
            let lane = self.lanes.entry(key).or_default();
            if lane.epoch != record.header.epoch {
                // What is shown yet is of the epoch before.
                (lane.epoch, lane.applied) = (record.header.epoch, None);
            }
            lane.next_seq = record.header.seq.saturating_add(1);
        }
    }

    /// The program has decoded a screen up to here, and drawn it up to `drawn_seq`. A display shows one rendition at a time:
    /// that of the point, whichever lane's record led there.
    pub(crate) fn applied(&mut self, key: LaneKey, point: Point, drawn_seq: u64, now: Instant) {
        let key = LaneKey { rendition: point.rendition, ..key };
        let other = |lane: &LaneKey| {
            (lane.kind, lane.display, lane.sender) == (key.kind, key.display, key.sender)
                && lane.rendition != key.rendition
        };
        self.lanes.iter_mut().filter(|(lane, _)| other(lane)).for_each(|(_, lane)| lane.applied = None);
        let lane = self.lanes.entry(key).or_default();
        lane.applied = Some(point);
        lane.drawn_seq = drawn_seq;
        lane.news = Some(now);
    }

    /// The program has done what input before `next_seq` asked for.
    pub(crate) fn processed(&mut self, key: LaneKey, epoch: u64, next_seq: u64, now: Instant) {
        let lane = self.lanes.entry(key).or_default();
        lane.epoch = epoch;
        lane.next_seq = next_seq;
        lane.news.get_or_insert(now + INPUT_EVERY);
        lane.processed = Some(now);
        self.forget_longest_gone();
    }

    /// Who has left may come back at another relay, which knows nothing of them: so those who did something last are remembered.
    fn forget_longest_gone(&mut self) {
        let input = self.lanes.iter().filter(|(key, _)| key.kind == LaneKind::Input);
        if input.clone().count() > PEOPLE_MAX
            && let Some(key) = input.min_by_key(|(_, lane)| lane.processed).map(|(&key, _)| key)
        {
            self.lanes.remove(&key);
        }
    }

    /// What the program shows, a point for every display: `Hello.showing`.
    pub(crate) fn showing(&self) -> Vec<message::Applied> {
        let of = |(key, lane): (&LaneKey, &Lane)| {
            let point = lane.applied.filter(|_| key.kind == LaneKind::Screen)?;
            Some(message::Applied { display: key.display.0.into(), point: Some(point.into()) })
        };
        self.lanes.iter().filter_map(of).collect()
    }

    /// When [`take`](Self::take) will have something.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|(key, lane)| lane.due(*key)).min()
    }

    /// What is to be sent now.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<message::Ack> {
        let due = self.lanes.iter_mut().filter(|(key, lane)| lane.due(**key).is_some_and(|due| due <= now));
        due.map(|(key, lane)| lane.ack(*key, now)).collect()
    }
}

impl Lane {
    fn due(&self, key: LaneKey) -> Option<Instant> {
        let every = if key.kind == LaneKind::Input { INPUT_EVERY } else { SCREEN_EVERY };
        self.news.map(|news| self.sent.map_or(news, |sent| news.max(sent + every)))
    }

    fn ack(&mut self, key: LaneKey, now: Instant) -> message::Ack {
        self.news = None;
        self.sent = Some(now);
        let waited = self.arrived.map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived));
        message::Ack {
            lane: Some(key.into()),
            received_bytes: self.received_bytes,
            epoch: self.epoch,
            received_next_seq: self.next_seq,
            applied: self.applied.map(Into::into),
            drawn_seq: self.drawn_seq,
            ack_delay_us: u32::try_from(waited.as_micros()).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::{DisplayId, Rendition};

    #[test]
    fn a_screen_is_acknowledged_once_for_what_came_and_what_became_of_it() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let key = LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, Sender(1));
        let point = Point { rendition: Rendition::LIVE, segment: 1, seq: 9 };
        acks.bytes(key, 1000, at(0));
        assert_eq!(acks.due(), Some(at(4)));
        acks.applied(key, point, 9, at(1));
        assert_eq!(acks.due(), Some(at(1)));
        let told = acks.take(at(1));
        assert_eq!((told.len(), told[0].received_bytes, told[0].applied), (1, 1000, Some(point.into())));
        assert_eq!(acks.due(), None, "nothing is owed");
        // Bytes alone are told too, but not so soon after.
        acks.bytes(key, 2000, at(2));
        assert_eq!(acks.due(), Some(at(9)));
        assert!(acks.take(at(8)).is_empty());
        assert_eq!(acks.take(at(9)).len(), 1);
    }

    #[test]
    fn input_is_acknowledged_together() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let key = LaneKey::plain(LaneKind::Input, Sender(2));
        for n in 1..=5 {
            acks.processed(key, 7, n, at(n * 15));
        }
        assert_eq!(acks.due(), Some(at(265)));
        let told = acks.take(at(265));
        assert_eq!((told.len(), told[0].received_next_seq), (1, 5));
        assert_eq!(acks.due(), None, "nothing is owed");
    }

    #[test]
    fn what_was_done_just_before_a_loss_is_acknowledged_at_once_after_it() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let key = LaneKey::plain(LaneKind::Input, Sender(2));
        acks.processed(key, 7, 1, at(0));
        assert_eq!(acks.take(at(250)).len(), 1);
        acks.processed(key, 7, 2, at(251));
        acks.reconnected(at(260));
        let told = acks.take(at(260));
        assert_eq!((told.len(), told[0].received_next_seq), (1, 2));
        assert_eq!(acks.due(), None, "nothing is owed");
        // That may have gone into a path that was dead.
        acks.reconnected(at(5000));
        assert_eq!(acks.take(at(5000)), told);
        acks.restate_input(|sender| sender != Sender(2), at(6000));
        assert_eq!(acks.take(at(6000)), [], "nobody is there to hear it");
        acks.restate_input(|sender| sender == Sender(2), at(6000));
        assert_eq!(acks.take(at(6000)), told);
        for sender in 3..1000 {
            acks.processed(
                LaneKey::plain(LaneKind::Input, Sender(sender)),
                7,
                1,
                at(7000 + u64::from(sender)),
            );
        }
        acks.reconnected(at(9000));
        assert_eq!(acks.take(at(9000)).len(), PEOPLE_MAX, "however many have come and gone");
    }

    #[test]
    fn what_is_shown_is_told_after_a_loss() {
        let (mut acks, now) = (Acks::default(), Instant::now());
        let key = LaneKey::screen(LaneKind::Screen, DisplayId(3), Rendition::LIVE, Sender(1));
        let point = Point { rendition: Rendition::LIVE, segment: 4, seq: 9 };
        acks.applied(key, point, 9, now);
        acks.reconnected(now);
        assert_eq!(acks.showing(), [message::Applied { display: 3, point: Some(point.into()) }]);
        assert_eq!(acks.due(), None);
        // Crossed to the other rendition, by a record of the lane that it leaves.
        let reduced = Point { rendition: Rendition::REDUCED, segment: 1, seq: 2 };
        acks.applied(key, reduced, 2, now);
        assert_eq!(acks.showing(), [message::Applied { display: 3, point: Some(reduced.into()) }]);
    }
}
