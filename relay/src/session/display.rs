//! A display of the publisher: its two renditions, what was asked for, and who sets their pace.

use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use tandem_protocol::{Rendition, Sender};

use super::feedback::FeedbackPace;
use super::lag::Balance;
use crate::limits::Account;
use crate::metrics::HeldBytes;
use crate::stream::{Position, Stream};

/// One of each rendition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Both<T>([T; 2]);

/// The renditions that there are.
pub(super) const RENDITIONS: [Rendition; 2] = [Rendition::LIVE, Rendition::REDUCED];

/// Whether this is one of them.
pub(super) fn is_known(rendition: Rendition) -> bool {
    RENDITIONS.contains(&rendition)
}

/// The other one.
pub(super) fn other(rendition: Rendition) -> Rendition {
    if rendition == Rendition::LIVE { Rendition::REDUCED } else { Rendition::LIVE }
}

impl<T> Both<T> {
    /// What `of` makes of each rendition.
    pub(super) fn of(of: impl Fn(Rendition) -> T) -> Self {
        Self(RENDITIONS.map(of))
    }
}

impl<T> Index<Rendition> for Both<T> {
    type Output = T;

    fn index(&self, rendition: Rendition) -> &T {
        &self.0[usize::from(rendition == Rendition::REDUCED)]
    }
}

impl<T> IndexMut<Rendition> for Both<T> {
    fn index_mut(&mut self, rendition: Rendition) -> &mut T {
        &mut self.0[usize::from(rendition == Rendition::REDUCED)]
    }
}

/// A display.
#[derive(Debug)]
pub(super) struct Display {
    /// The publisher has opened a lane of it: until then it is only what somebody would like to see.
    pub(super) exists: bool,
    pub(super) streams: Both<Stream>,
    pub(super) asked: Asked,
    pub(super) pacing: Both<Option<Sender>>,
    pub(super) feedback: Both<FeedbackPace>,
    pub(super) balance: Balance,
    pub(super) held: HeldBytes,
    pub(super) memory: Account,
}

/// What the publisher was asked for on its present connection, and has not answered.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Publish at all.
    pub(super) on: Both<bool>,
    /// It was asked to publish this once, on whatever connection: that it should stop may not have reached it.
    pub(super) ever_on: Both<bool>,
    /// It may publish this although it was not asked on this connection: it is to be told whether it should.
    pub(super) may_be_on: Both<bool>,
    /// A live start with its key.
    pub(super) key: Request,
    /// A reduced start from live.
    pub(super) fork: Request,
    /// A live start from reduced.
    pub(super) merge: Request,
}

/// A request that may remain unanswered.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// When it was made, until it is answered.
    pub(super) made: Option<Instant>,
    unanswered: u32,
}

impl Request {
    /// Whether it is to be made now: there is none, or it has waited too long for its answer. The time doubles up to a minute
    /// with every one that is not answered.
    pub(super) fn make(&mut self, patience: Duration, now: Instant) -> bool {
        if let Some(made) = self.made {
            let wait = patience.saturating_mul(1 << self.unanswered.min(8)).min(Duration::from_secs(60));
            if now.saturating_duration_since(made) < wait.max(patience) {
                return false;
            }
            self.unanswered += 1;
        }
        self.made = Some(now);
        true
    }

    /// Whether its publisher seems not to know what to do about it.
    pub(super) fn is_ignored(&self) -> bool {
        self.unanswered >= 2
    }

    /// It was answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

impl Display {
    /// Bytes of both renditions that are held.
    pub(super) fn held_bytes(&self) -> usize {
        RENDITIONS.map(|rendition| self.streams[rendition].held_bytes()).iter().sum()
    }

    /// And what they take of memory.
    pub(super) fn footprint(&self) -> usize {
        RENDITIONS.map(|rendition| self.streams[rendition].footprint()).iter().sum()
    }

    pub(super) fn new(held: HeldBytes, memory: Account) -> Self {
        Self {
            exists: false,
            streams: Both::default(),
            asked: Asked::default(),
            pacing: Both::default(),
            feedback: Both::default(),
            balance: Balance::default(),
            held,
            memory,
        }
    }

    /// How many records have come of each rendition.
    pub(super) fn heads(&self) -> Both<u64> {
        Both::of(|rendition| self.streams[rendition].head())
    }

    /// Where somebody at `position` in `of` crosses to the other rendition: at once, if it shows just what a start there
    /// names.
    pub(super) fn crossing(&self, of: Rendition, position: Position) -> Option<Position> {
        let there = self.other_stream(of)?;
        there.bridge(position.shows()?)
    }

    /// Where it will, if it goes on reading.
    pub(super) fn crossing_ahead(&self, of: Rendition, position: Position) -> Option<Position> {
        let there = self.other_stream(of)?;
        there.bridge_ahead(self.streams[of].least_exit(position)?)
    }

    /// When feedback is due.
    pub(super) fn feedback_due(&self) -> impl Iterator<Item = Instant> {
        RENDITIONS.into_iter().filter_map(|rendition| self.feedback[rendition].due())
    }

    /// The other rendition, while both are of one epoch.
    fn other_stream(&self, of: Rendition) -> Option<&Stream> {
        let there = &self.streams[other(of)];
        let same = |stream: &Stream| stream.received().map(|(epoch, _)| epoch);
        (same(there).is_some() && same(there) == same(&self.streams[of])).then_some(there)
    }
}
