//! One lane of ours: what waits on it, and what has gone but may have to go again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_protocol::{LaneKey, LaneKind, Point, Rendition, ScreenKind, limits};

use crate::pacer::Pacer;

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub open: bool,
    pub next_seq: u64,
    pub waiting: VecDeque<Kept>,
    pub waiting_bytes: usize,
    /// Sent and not acknowledged: input and screens.
    pub kept: VecDeque<Kept>,
    pub kept_bytes: usize,
    /// Of a screen: segment and number of the newest update that is not kept any more, unless only a part of it is.
    pub settled: Option<(u32, u64)>,
    /// Of a screen: what the relay lacks is not kept any more, so only a start may come next that does not go on from it.
    pub broken: bool,
    /// The newest of each slot, for the next connection.
    pub slots: BTreeMap<u8, Kept>,
    /// Given to it since it opened on this connection.
    pub bytes: u64,
    pub pacer: Pacer,
    /// When the connection last took a record, or something began to wait.
    pub moved: Option<Instant>,
    /// Bytes of the record that it took last.
    pub taken: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub seq: u64,
    /// The number that would have gone on from the record before it: `seq`, or less if numbers were left out.
    pub follows: u64,
    pub at: Instant,
    /// The lane's bytes at its end.
    pub end: u64,
    pub slot: Option<u8>,
    /// Of a screen.
    pub segment: u32,
    /// Its body does not go on in the next record.
    pub ends: bool,
    pub bytes: Bytes,
}

/// Bytes that may wait on a lane of this kind (of input: wait or be unacknowledged).
pub(super) fn waiting_max(kind: LaneKind) -> usize {
    match kind {
        LaneKind::Input => limits::RESEND_INPUT,
        LaneKind::Screen | LaneKind::Key => limits::ASSEMBLED_MAX,
        _ => 4 << 20,
    }
}

impl Lane {
    /// Bytes that count against the bound because they must not be lost.
    pub(super) fn kept_for_resume(&self, key: LaneKey) -> usize {
        if key.kind == LaneKind::Input { self.kept_bytes + self.waiting_bytes } else { 0 }
    }

    /// Whether what the connection took last has had the time that it takes at this rate, bytes a second.
    pub(super) fn has_turn(&self, rate: f64, now: Instant) -> bool {
        let Some(moved) = self.moved else { return true };
        rate > 0.0 && now >= moved + Duration::from_secs_f64((self.taken as f64 / rate).min(60.0))
    }

    /// Takes out the next record, to be sent now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Kept> {
        let record = self.waiting.pop_front()?;
        self.waiting_bytes -= record.bytes.len();
        (self.moved, self.taken) = (Some(now), record.bytes.len());
        Some(record)
    }

    pub(super) fn push(&mut self, mut record: Kept) {
        if self.waiting.is_empty() {
            (self.moved, self.taken) = (Some(record.at), 0);
        }
        if let Some(slot) = record.slot {
            if let Some(at) = self.waiting.iter().position(|waiting| waiting.slot == Some(slot)) {
                let replaced = self.waiting.remove(at).expect("the position was just found");
                self.waiting_bytes -= replaced.bytes.len();
            }
            self.slots.insert(slot, record.clone());
        }
        self.bytes += record.bytes.len() as u64;
        record.end = self.bytes;
        self.waiting_bytes += record.bytes.len();
        self.waiting.push_back(record);
    }

    /// A record was taken out and has not gone after all.
    pub(super) fn put_back(&mut self, record: Kept) {
        // A slot that has been replaced meanwhile is worth nothing.
        if record.slot.is_none() || self.waiting.iter().all(|waiting| waiting.slot != record.slot) {
            self.waiting_bytes += record.bytes.len();
            self.waiting.push_front(record);
        }
    }

    pub(super) fn keep(&mut self, record: Kept, most: usize) {
        self.kept_bytes += record.bytes.len();
        self.kept.push_back(record);
        while self.kept_bytes > most {
            let oldest = self.kept.pop_front().expect("there are bytes, so there is a record");
            self.kept_bytes -= oldest.bytes.len();
            self.settle(&oldest);
        }
    }

    /// Lets go of the oldest bodies, each if all of it is acknowledged.
    pub(super) fn forget(&mut self, acknowledged: impl Fn(&Kept) -> bool) {
        let known = self.kept.iter().take_while(|record| acknowledged(record)).enumerate();
        let whole = known.filter(|(_, record)| record.ends).last().map_or(0, |(at, _)| at + 1);
        for record in self.kept.drain(..whole).collect::<Vec<_>>() {
            self.kept_bytes -= record.bytes.len();
            self.settle(&record);
        }
    }

    /// What is kept begins after this record.
    fn settle(&mut self, record: &Kept) {
        self.settled = record.ends.then_some((record.segment, record.seq));
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.kept.clear();
        self.kept_bytes = 0;
    }

    /// All that is kept and waits, in order, leaving neither.
    pub(super) fn take_all(&mut self) -> VecDeque<Kept> {
        let mut all = std::mem::take(&mut self.kept);
        all.append(&mut self.waiting);
        self.kept_bytes = 0;
        self.waiting_bytes = 0;
        all
    }

    /// Input from `next_seq` on goes again unless it is old; what is before waits for its acknowledgement only.
    pub(super) fn resend_input(&mut self, next_seq: u64, now: Instant) -> u64 {
        let mut dropped = 0;
        for record in self.take_all() {
            if record.seq < next_seq {
                self.keep(record, limits::RESEND_INPUT);
            } else if now.saturating_duration_since(record.at) > limits::INPUT_AGE_MAX {
                dropped += 1;
            } else {
                self.push(record);
            }
        }
        dropped
    }

    /// Updates from `next_seq` on go again. `false` when that cannot be: then nothing is left.
    pub(super) fn resend_screen(&mut self, next_seq: Option<u64>, now: Instant) -> bool {
        let all = self.take_all();
        if self.next_seq == 0 {
            return true;
        }
        let settled = self.settled.take();
        let Some(next_seq) = next_seq.filter(|_| !self.broken) else {
            self.broken = true;
            return false;
        };
        let (there, missing): (Vec<Kept>, Vec<Kept>) =
            all.into_iter().partition(|record| record.seq < next_seq);
        if missing.first().map_or(self.next_seq, |record| record.follows) > next_seq
            || next_seq > self.next_seq
        {
            self.broken = true;
            return false;
        }
        self.settled = settled;
        // What is there may not be shown yet, and the relay may be gone in a moment.
        there.into_iter().for_each(|record| self.keep(Kept { end: 0, ..record }, limits::RESEND_SCREEN));
        missing.into_iter().for_each(|record| self.push(record));
        self.pacer.on_sent(self.bytes, now);
        true
    }

    /// Whether this may come next of a screen. What was encoded before the program heard that it has to begin anew goes on from what
    /// the relay lacks.
    pub(super) fn may_follow(&mut self, rendition: Rendition, kind: Option<ScreenKind>) -> bool {
        let begins = |from: Option<Point>| from.is_none_or(|from| from.rendition != rendition);
        self.broken &= !matches!(kind, Some(ScreenKind::Start { from }) if begins(from));
        !self.broken
    }

    /// The newest of each slot goes again; what never went still waits behind.
    pub(super) fn resend_slots(&mut self) {
        let waiting: Vec<Kept> = self.take_all().into_iter().filter(|record| record.slot.is_none()).collect();
        let slots: Vec<Kept> = self.slots.values().cloned().collect();
        let mut all = [slots, waiting].concat();
        all.sort_by_key(|record| record.seq);
        all.into_iter().for_each(|record| self.push(record));
    }
}
