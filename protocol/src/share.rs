//! Who goes next among lanes that wait: the most urgent, but keys and bulk get a share of what more urgent ones send.
//!
//! Without it a screen that always has more to say would leave nothing for the key that a joiner waits for, or for a file.
//! Control and input are never made to wait for a share.

use crate::lane::{LaneKind, Priority};

/// Bytes of others that one byte of bulk waits for, at most: a tenth is bulk's.
const BULK_WAITS: u64 = 9;
/// Bytes of others that one byte of a key waits for, at most: a tenth is theirs.
const KEY_WAITS: u64 = 9;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The most urgent lane that waits.
    First,
    /// The key.
    Key,
    /// Bulk.
    Bulk,
}

/// Counts who has waited for whom.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    key: u64,
    bulk: u64,
}

/// What waits: the most urgent lane's priority, and whether keys and bulk are among the others.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Priority of the most urgent lane.
    pub first: Priority,
    /// A key waits.
    pub key: bool,
    /// Bulk waits.
    pub bulk: bool,
}

impl Shares {
    /// Whose turn it is to send a piece of about this many bytes.
    pub fn turn(&self, waiting: Waiting, piece: usize) -> Turn {
        let due = |waited: u64, waits: u64| waited >= waits * piece.max(1) as u64;
        if waiting.first <= LAST_PROMPT {
            Turn::First
        } else if waiting.bulk && due(self.bulk, BULK_WAITS) {
            Turn::Bulk
        } else if waiting.key && due(self.key, KEY_WAITS) {
            Turn::Key
        } else {
            Turn::First
        }
    }

    /// Bytes of a lane of this kind were sent while these waited.
    pub fn sent(&mut self, kind: LaneKind, bytes: usize, waiting: Waiting) {
        let bytes = bytes as u64;
        Self::count(&mut self.bulk, kind.is_bulk(), waiting.bulk, bytes, BULK_WAITS);
        Self::count(&mut self.key, kind == LaneKind::Key, waiting.key, bytes, KEY_WAITS);
    }

    fn count(waited: &mut u64, own: bool, waits: bool, bytes: u64, share: u64) {
        if own {
            *waited = waited.saturating_sub(bytes * share);
        } else if waits {
            *waited = (*waited + bytes).min(WAITED_MAX);
        } else {
            *waited = 0;
        }
    }
}

/// Input's: what is at least as urgent goes before any share.
const LAST_PROMPT: Priority = Priority(1);
/// Waiting is made good up to this: nobody saves up for a burst.
const WAITED_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn send(kinds: [(LaneKind, Priority, bool); 3], rounds: usize) -> [usize; 3] {
        let (mut shares, mut sent) = (Shares::default(), [0; 3]);
        for _ in 0..rounds {
            let first = kinds.iter().position(|&(.., waits)| waits).unwrap();
            let waiting = Waiting { first: kinds[first].1, key: kinds[1].2, bulk: kinds[2].2 };
            let who = match shares.turn(waiting, 1000) {
                Turn::First => first,
                Turn::Key => 1,
                Turn::Bulk => 2,
            };
            sent[who] += 1;
            shares.sent(kinds[who].0, 1000, waiting);
        }
        sent
    }

    #[test]
    fn keys_and_bulk_get_their_share_of_a_screen_that_never_rests() {
        let lanes = |screen, key, bulk| {
            [
                (LaneKind::Screen, Priority(5), screen),
                (LaneKind::Key, Priority(8), key),
                (LaneKind::File, Priority::LAST, bulk),
            ]
        };
        assert_eq!(send(lanes(true, false, false), 1000), [1000, 0, 0]);
        let [_, key, bulk] = send(lanes(true, true, true), 1000);
        assert!((90..=105).contains(&key) && (95..=105).contains(&bulk), "{key} {bulk}");
        let [_, key, bulk] = send(lanes(false, true, true), 1000);
        assert!(key >= 890 && bulk >= 95, "{key} {bulk}");
        assert_eq!(send(lanes(false, false, true), 10), [0, 0, 10]);
    }

    #[test]
    fn input_never_waits_for_a_share() {
        let lanes = [
            (LaneKind::Input, Priority(1), true),
            (LaneKind::Key, Priority(8), true),
            (LaneKind::File, Priority::LAST, true),
        ];
        assert_eq!(send(lanes, 100), [100, 0, 0]);
    }
}
