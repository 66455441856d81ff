//! A subscriber of one display: where it is, how it got there, and how soon it has things.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_protocol::{Rendition, Sender, message};

use super::display::{Both, Display, RENDITIONS, other};
use super::lag::{Lag, Patience};
use super::ledger::{Account, Ledger};
use crate::metrics::Skip;
use crate::outbox::Slot;
use crate::stream::Position;

/// Records under way whose delivery is timed; further ones are not.
const TIMED_MAX: usize = 256;

/// A subscriber of a display.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) publisher: Sender,
    pub(super) place: Place,
    /// The rendition that it should read. It gets there where a start of the one names an update of the other.
    pub(super) target: Rendition,
    /// Nobody paces the rendition that it should read, and the start by which it gets there is still to come: it is sent at
    /// this one's pace.
    awaits_start: bool,
    /// Its screen lanes.
    pub(super) slots: Both<Option<Slot>>,
    pub(super) key_slot: Option<Slot>,
    pub(super) ledgers: Both<Ledger>,
    /// It said that it had lost step while a key was on its way to it: since then.
    pub(super) doubt: Option<Instant>,
    /// It cannot keep up, and what was left of live would have taken longer than a key: that brings it back to live, from where
    /// it goes over to reduced.
    pub(super) overtaken: bool,
    pub(super) lag: Lag,
    pub(super) patience: Patience,
    pub(super) applied: Both<Option<message::Point>>,
    /// Records under way: the lane's bytes at their end, and when they came to the relay.
    timed: VecDeque<(Rendition, u64, Instant)>,
    delay: Option<Duration>,
    /// Since when it has waited for its first picture; `None`: it shows one.
    pub(super) first_awaited: Option<Instant>,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Nowhere: it waits for a way into live, not before this ordinal.
    Waiting {
        /// The least ordinal of the start.
        not_before: u64,
        /// Since then.
        since: Instant,
    },
    /// At a position of a rendition.
    Reading(Rendition, Position),
}

/// Records of a rendition that a reader will not get.
pub(super) type Skipped = (Rendition, Skip, u64);

impl Reader {
    pub(super) fn new(publisher: Sender, now: Instant) -> Self {
        Self {
            publisher,
            place: Place::Waiting { not_before: 0, since: now },
            target: Rendition::LIVE,
            awaits_start: false,
            slots: Both::default(),
            key_slot: None,
            ledgers: Both::default(),
            doubt: None,
            overtaken: false,
            lag: Lag::default(),
            patience: Patience::default(),
            applied: Both::default(),
            timed: VecDeque::new(),
            delay: None,
            first_awaited: Some(now),
        }
    }

    /// Its position in this rendition, if it reads it.
    pub(super) fn position(&self, rendition: Rendition) -> Option<Position> {
        match self.place {
            Place::Reading(of, position) if of == rendition => Some(position),
            _ => None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting { .. })
    }

    /// Whether it is a member of this rendition: who waits is one of live. Who should go over to the other one is a member of
    /// that too where there is none: a publisher need not send what nobody sees, not even the start that leads there.
    pub(super) fn is_member(&self, rendition: Rendition) -> bool {
        match self.place {
            Place::Waiting { .. } => rendition == Rendition::LIVE,
            Place::Reading(of, _) => of == rendition || (self.awaits_start && self.target == rendition),
        }
    }

    /// Looks whether the start by which it gets where it should be is there, and if not, whether somebody else paces that
    /// rendition. `sender` is the subscriber itself.
    pub(super) fn look_ahead(&mut self, display: &Display, sender: Sender) {
        let paced = display.pacing[self.target].is_some_and(|paces| paces != sender);
        self.awaits_start =
            self.position(self.target).is_none() && !self.is_waiting() && !paced && !self.will_cross(display);
    }

    /// Whether its lane of this rendition may have something for its writer.
    pub(super) fn has_news(&self, display: &Display, rendition: Rendition) -> bool {
        let Place::Reading(of, position) = self.place else { return false };
        of != self.target || (of == rendition && position.ordinal() < display.streams[of].head())
    }

    /// Begins to read here. What it has missed of this rendition since it was last here.
    pub(super) fn enter(&mut self, rendition: Rendition, position: Position) -> Option<Skipped> {
        self.place = Place::Reading(rendition, position);
        self.awaits_start = false;
        let missed = self.ledgers[rendition].enter(position.ordinal());
        missed.map(|(skip, count)| (rendition, skip, count))
    }

    /// It has lost its place and waits for another in live.
    pub(super) fn lose(&mut self, skip: Skip, not_before: u64, now: Instant) {
        match self.place {
            Place::Reading(Rendition::LIVE, _) => self.ledgers[Rendition::LIVE].lose(skip),
            Place::Reading(of, _) => self.ledgers[of].leave(skip),
            Place::Waiting { .. } => {}
        }
        let not_before = not_before.max(self.ledgers[Rendition::LIVE].settled());
        self.place = Place::Waiting { not_before, since: now };
        self.doubt = None;
        (self.overtaken, self.awaits_start) = (false, false);
        self.target = Rendition::LIVE;
        self.lag.reset();
    }

    /// It cannot keep up, and a key is sooner than what waits for it in live.
    pub(super) fn overtake(&mut self, now: Instant) {
        self.lose(Skip::Key, 0, now);
        self.overtaken = true;
    }

    /// Crosses to the rendition that it should read, if it stands where that can be done. What it has missed there.
    pub(super) fn cross(&mut self, display: &Display, now: Instant) -> Option<Option<Skipped>> {
        let Place::Reading(of, position) = self.place else { return None };
        if of == self.target {
            return None;
        }
        let there = display.crossing(of, position)?;
        if !self.ledgers[other(of)].may_enter(there.ordinal()) {
            return None;
        }
        self.overtaken = false;
        if of == Rendition::LIVE {
            self.ledgers[of].leave(Skip::Fork);
            self.patience.forked(now);
        } else {
            self.ledgers[of].leave(Skip::Merge);
            self.patience.merged(now);
        }
        self.lag.reset();
        Some(self.enter(other(of), there))
    }

    /// Whether a start by which it will cross is held.
    pub(super) fn will_cross(&self, display: &Display) -> bool {
        match self.place {
            Place::Reading(of, position) if of != self.target => display
                .crossing_ahead(of, position)
                .is_some_and(|there| self.ledgers[other(of)].may_enter(there.ordinal())),
            _ => false,
        }
    }

    /// A start from black came: goes on there, from wherever it is, unless it must first end a body. What it missed by that.
    pub(super) fn restart(&mut self, display: &Display, rendition: Rendition) -> Option<Skipped> {
        let Place::Reading(of, mut position) = self.place else { return None };
        if of == rendition {
            display.streams[of].skip_to_black(&mut position)?;
            return self.enter(of, position);
        }
        None
    }

    /// The least ordinal of this rendition that it still needs.
    pub(super) fn needs(&self, display: &Display, rendition: Rendition) -> Option<u64> {
        let Place::Reading(of, position) = self.place else { return None };
        if of == rendition {
            return Some(position.ordinal());
        }
        let there = display.crossing_ahead(of, position).filter(|_| self.target == rendition);
        there.map(Position::ordinal)
    }

    /// A record that came at `arrived` is under way; the lane has carried `taken` bytes with it.
    pub(super) fn sent(&mut self, rendition: Rendition, taken: u64, arrived: Option<Instant>) {
        self.ledgers[rendition].sent();
        if let Some(arrived) = arrived.filter(|_| self.timed.len() < TIMED_MAX) {
            self.timed.push_back((rendition, taken, arrived));
        }
    }

    /// So many bytes of a lane have been acknowledged.
    pub(super) fn acknowledged(&mut self, rendition: Rendition, received: u64, now: Instant) {
        let mut newest = None;
        self.timed.retain(|&(of, end, arrived)| {
            let there = of == rendition && end <= received;
            if there {
                newest = Some(arrived);
            }
            !there
        });
        if let Some(arrived) = newest {
            let sample = now.saturating_duration_since(arrived);
            self.delay = Some(self.delay.map_or(sample, |delay| (delay * 7 + sample) / 8));
        }
    }

    /// How long its oldest unsent record has waited.
    pub(super) fn unsent_age(&self, display: &Display, now: Instant) -> Duration {
        let Place::Reading(of, position) = self.place else { return Duration::ZERO };
        let since = display.streams[of].waits_since(position);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How late it has things: as lately measured, or as what is under way and waits already shows.
    pub(super) fn lateness(&self, display: &Display, now: Instant) -> Duration {
        let under_way =
            self.timed.iter().map(|&(_, _, arrived)| now.saturating_duration_since(arrived)).max();
        let measured = self.delay.unwrap_or_default();
        measured.max(under_way.unwrap_or_default()).max(self.unsent_age(display, now))
    }

    /// The accounts of both renditions.
    pub(super) fn accounts(&self, display: &Display) -> [(Rendition, Account); 2] {
        RENDITIONS.map(|rendition| {
            let head = display.streams[rendition].head();
            (rendition, self.ledgers[rendition].account(head, self.position(rendition)))
        })
    }
}
