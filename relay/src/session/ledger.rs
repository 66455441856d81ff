//! The account of one subscriber and one rendition: of every record that came in since it entered, what became of it.

use crate::metrics::Skip;
use crate::stream::Position;

/// Open account of a rendition.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The ordinal at which the subscriber first entered.
    entered: u64,
    /// The ordinal up to which everything is either sent or skipped.
    settled: u64,
    sent: u64,
    skipped: [u64; Skip::ALL.len()],
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It has never been here.
    #[default]
    Never,
    Reading,
    /// It reads the other rendition; what comes here meanwhile is skipped.
    Away(Skip),
    /// It will enter anew further on.
    Lost(Skip),
}

/// What became of the records of one rendition for one subscriber. At any moment
/// `came_in == sent + skipped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Records that came in since the subscriber entered.
    pub came_in: u64,
    /// Records handed to its connection.
    pub sent: u64,
    /// Records that it will not get, by reason, as in [`Skip::ALL`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Records that wait for it, or for the key that will make them needless.
    pub waiting: u64,
}

impl Ledger {
    /// Whether nothing from this ordinal on has been accounted for.
    pub(super) fn may_enter(&self, at: u64) -> bool {
        self.state == State::Never || at >= self.settled
    }

    /// Whether the subscriber has ever been here.
    pub(super) fn is_new(&self) -> bool {
        self.state == State::Never
    }

    /// The least ordinal at which it may enter.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// The subscriber goes on here. What it missed in between, by why.
    pub(super) fn enter(&mut self, at: u64) -> Option<(Skip, u64)> {
        let missed = at.saturating_sub(self.settled);
        let skip = match std::mem::replace(&mut self.state, State::Reading) {
            State::Never => {
                (self.entered, self.settled) = (at, at);
                return None;
            }
            State::Reading => Skip::Restarted,
            State::Away(skip) | State::Lost(skip) => skip,
        };
        self.settled += missed;
        self.skipped[skip as usize] += missed;
        (missed > 0).then_some((skip, missed))
    }

    /// A record was handed over.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
        self.settled += 1;
    }

    /// It reads the other rendition from now on.
    pub(super) fn leave(&mut self, skip: Skip) {
        self.state = State::Away(skip);
    }

    /// It waits for a place to enter anew.
    pub(super) fn lose(&mut self, skip: Skip) {
        self.state = State::Lost(skip);
    }

    /// How it stands, where so many records have come; `position` is the subscriber's if it reads here.
    pub(super) fn account(&self, head: u64, position: Option<Position>) -> Account {
        let mut account = Account { sent: self.sent, skipped: self.skipped, ..Account::default() };
        if self.state == State::Never {
            return account;
        }
        account.came_in = head - self.entered;
        match (self.state, position) {
            (State::Reading, Some(position)) => account.waiting = head - position.ordinal(),
            (State::Away(skip), _) => account.skipped[skip as usize] += head - self.settled,
            _ => account.waiting = head - self.settled,
        }
        account
    }

    /// The subscriber loses the right to more: what waited for it, and what came while it was away, by why.
    pub(super) fn close(&self, head: u64) -> Option<(Skip, u64)> {
        let skip = match self.state {
            State::Never => return None,
            State::Away(skip) => skip,
            State::Reading | State::Lost(_) => Skip::Right,
        };
        let rest = head - self.settled;
        (rest > 0).then_some((skip, rest))
    }
}
