//! What has been received of others' lanes: it is told whoever takes a session up again, and what comes twice is known by it.

use std::collections::HashMap;

use tandem_protocol::message::LanePosition;
use tandem_protocol::{LaneKey, LaneKind};

/// At most so many lanes are named in a `Hello`, which is small: screens, since what is shown is of their epoch, and those of which
/// something came last. Most of the others are lanes of people who have left.
const NAMED_MAX: usize = 48;

/// How far each lane has come.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    lanes: HashMap<LaneKey, Position>,
    /// Counts records.
    records: u64,
}

#[derive(Debug)]
struct Position {
    epoch: u64,
    next_seq: u64,
    /// The count when the last one came.
    at: u64,
}

impl Positions {
    /// Notes a record. Whether it is new: of a lane that begins anew much comes twice.
    pub(crate) fn accept(&mut self, lane: LaneKey, epoch: u64, seq: u64) -> bool {
        self.records += 1;
        let position = self.lanes.entry(lane).or_insert(Position { epoch, next_seq: 0, at: 0 });
        // A key has the number of an update, and all its records the same.
        if position.epoch == epoch && seq < position.next_seq && lane.kind != LaneKind::Key {
            return false;
        }
        *position = Position { epoch, next_seq: seq.saturating_add(1), at: self.records };
        true
    }

    /// Lanes of which something came.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneKey> {
        self.lanes.keys().copied()
    }

    /// As they are told.
    pub(crate) fn told(&self) -> Vec<LanePosition> {
        let mut lanes: Vec<_> = self.lanes.iter().collect();
        lanes.retain(|(lane, _)| lane.kind != LaneKind::Key);
        lanes.sort_unstable_by_key(|(lane, position)| {
            (lane.kind != LaneKind::Screen, std::cmp::Reverse(position.at))
        });
        let of = |(&lane, position): (&LaneKey, &Position)| LanePosition {
            lane: Some(lane.into()),
            epoch: position.epoch,
            next_seq: position.next_seq,
        };
        lanes.into_iter().take(NAMED_MAX).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tandem_protocol::message::Hello;
    use tandem_protocol::{DisplayId, Rendition, Sender, limits};

    use super::*;

    fn input(sender: u16) -> LaneKey {
        LaneKey::plain(LaneKind::Input, Sender(sender))
    }

    #[test]
    fn what_comes_twice_is_known_and_a_new_epoch_begins_anew() {
        let mut positions = Positions::default();
        assert!(positions.accept(input(1), 7, 0));
        assert!(positions.accept(input(1), 7, 3));
        assert!(!positions.accept(input(1), 7, 3));
        assert!(positions.accept(input(1), 8, 0));
        assert!(positions.accept(input(2), 7, u64::MAX));
        let key = LaneKey::plain(LaneKind::Key, Sender(1));
        assert!(positions.accept(key, 7, 5) && positions.accept(key, 7, 5));
    }

    #[test]
    fn however_many_have_come_and_gone_a_hello_stays_small_and_names_who_is_here() {
        let mut positions = Positions::default();
        let screen = LaneKey::screen(LaneKind::Screen, DisplayId(3), Rendition::LIVE, Sender(1));
        positions.accept(screen, 7, 0);
        for sender in 2..=5000 {
            positions.accept(input(sender), u64::MAX, u64::MAX);
            positions.accept(input(1), u64::MAX, u64::from(sender));
        }
        let hello = Hello { received: positions.told(), ..Hello::default() };
        assert!(hello.encoded_len() < limits::UNADMITTED_MAX * 3 / 4, "{}", hello.encoded_len());
        let named: Vec<LaneKey> = hello
            .received
            .iter()
            .map(|position| LaneKey::try_from(&position.lane.unwrap()).unwrap())
            .collect();
        assert!(named.contains(&screen), "at rest for long");
        assert!(named.contains(&input(1)) && named.contains(&input(5000)) && !named.contains(&input(2)));
    }
}
