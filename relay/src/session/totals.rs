//! What a session has come to: counted beside the relay's metrics, for the line that its end leaves in the log and for who looks.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use tandem_protocol::LaneKind;

use crate::metrics::{Binding, Metrics, Skip};

/// Records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A session's totals since it began here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// When somebody first came.
    pub began: Option<Instant>,
    /// Different participants.
    pub participants: u64,
    /// Returns with a ticket.
    pub resumes: u64,
    /// From participants.
    pub received: Traffic,
    /// To participants.
    pub sent: Traffic,
    /// Records of screens that watchers did not get.
    pub skipped: u64,
    /// Keys received whole.
    pub keys: u64,
    /// Watchers that went over to the reduced rendition.
    pub forks: u64,
    /// Watchers that came back.
    pub merges: u64,
}

/// Counts for a session and for the relay at once. Within its session's lock.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    totals: Cell<Totals>,
}

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, totals: Cell::default() }
    }

    /// The relay's.
    pub(super) fn shared(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.get()
    }

    fn count(&self, change: impl FnOnce(&mut Totals)) {
        let mut totals = self.totals.get();
        change(&mut totals);
        self.totals.set(totals);
    }

    /// Somebody takes a seat: `new`, or with a ticket.
    pub(super) fn came(&self, new: bool, returns: bool, now: Instant) {
        self.count(|totals| {
            totals.began.get_or_insert(now);
            totals.participants += u64::from(new);
            totals.resumes += u64::from(returns);
        });
    }

    pub(super) fn received(&self, kind: LaneKind, binding: Binding, bytes: usize) {
        self.metrics.received(kind, binding, bytes);
        self.count(|totals| totals.received.add(bytes));
    }

    pub(super) fn sent(&self, kind: LaneKind, binding: Binding, bytes: usize) {
        self.metrics.sent(kind, binding, bytes);
        self.count(|totals| totals.sent.add(bytes));
    }

    pub(super) fn skipped(&self, reason: Skip, records: u64) {
        self.metrics.skipped(reason, records);
        self.count(|totals| totals.skipped += records);
    }

    pub(super) fn key(&self) {
        self.metrics.keys.increment(1);
        self.count(|totals| totals.keys += 1);
    }

    pub(super) fn fork(&self) {
        self.metrics.forks.increment(1);
        self.count(|totals| totals.forks += 1);
    }

    pub(super) fn merge(&self) {
        self.metrics.merges.increment(1);
        self.count(|totals| totals.merges += 1);
    }
}

impl Traffic {
    fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

impl Deref for Tally {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        &self.metrics
    }
}
