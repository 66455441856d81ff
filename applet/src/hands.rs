//! The thread that acts: it owns the injector and the gate in front of it. Input is acknowledged when it has been done or
//! dropped for good, not before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tandem_capture::{CaptureError, Holdable, Injector};
use tandem_client::{Handle, Outgoing};
use tandem_protocol::message::types;
use tandem_protocol::{LaneKey, LaneKind, Record, Sender as Participant};
use tokio::sync::Semaphore;

use crate::gate::{Act, Gate};
use crate::journal::Journal;

/// Records that wait to be done; then no more are read from the connection.
const WAITING_MAX: usize = 1024;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// Somebody's input, and when it arrived.
    Record(LaneKey, Record, Instant),
    /// Who may control from now on.
    Controllers(BTreeSet<Participant>),
    /// The displays are arranged anew.
    Layout(u32),
    /// The system takes input again: what it refused to release is to be released.
    Settle,
}

/// The thread's owner: dropping it releases everything and ends the thread.
#[derive(Debug)]
pub struct Hands {
    orders: Option<Sender<Order>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Hands {
    /// Starts the thread. What the journal says was done is not done again.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(injector: Box<dyn Injector>, handle: Handle, journal: Journal) -> std::io::Result<Self> {
        let (orders, given) = channel();
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        let gate = Gate::new();
        let mut acting =
            Acting { injector, handle, gate, journal, slowest: Duration::ZERO, room: Arc::clone(&room) };
        let thread = std::thread::Builder::new().name("hands".into()).spawn(move || {
            acting.run(&given);
            acting.release();
        })?;
        Ok(Self { orders: Some(orders), room, thread: Some(thread) })
    }

    /// Hands it a record that has just arrived; waits while too many do.
    pub async fn record(&self, lane: LaneKey, record: Record) {
        let arrived = Instant::now();
        // The semaphore is never closed.
        if let Ok(room) = self.room.acquire().await {
            room.forget();
        }
        self.order(Order::Record(lane, record, arrived));
    }

    /// Tells it something.
    pub fn order(&self, order: Order) {
        // Its thread ends only with its owner.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

struct Acting {
    injector: Box<dyn Injector>,
    handle: Handle,
    gate: Gate,
    journal: Journal,
    /// The longest that a record took from its arrival to the screen's server.
    slowest: Duration,
    room: Arc<Semaphore>,
}

impl Acting {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match self.gate.deadline() {
                Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let acts = match order {
                Ok(Order::Record(lane, record, arrived)) => {
                    self.record(lane, &record, arrived);
                    self.room.add_permits(1);
                    Vec::new()
                }
                Ok(Order::Controllers(controllers)) => self.gate.controllers(controllers),
                Ok(Order::Layout(generation)) => {
                    self.gate.layout(generation);
                    Vec::new()
                }
                Ok(Order::Settle) => {
                    self.injector
                        .settle()
                        .unwrap_or_else(|error| tracing::warn!(%error, "a key or button stays down"));
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => self.gate.expire(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.act(&acts);
            self.report();
        }
    }

    fn record(&mut self, lane: LaneKey, record: &Record, arrived: Instant) {
        if self.journal.begin(lane.sender, record.header.epoch, record.header.seq) {
            let acts = self.gate.record(lane.sender, record, Instant::now());
            self.act(&acts);
        }
        self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
        let took = arrived.elapsed();
        tracing::trace!(took_us = took.as_micros() as u64, "input done");
        if took > self.slowest {
            self.slowest = took;
            tracing::debug!(took_us = took.as_micros() as u64, "slowest input so far");
        }
    }

    fn act(&mut self, acts: &[Act]) {
        for act in acts {
            let done = match act {
                Act::Hold(Holdable::Key(usage), down) => self.injector.key(*usage, *down),
                Act::Hold(Holdable::Button(button), down) => self.injector.button(*button, *down),
                Act::Motion(display, x, y) => self.injector.motion(*display, *x, *y),
                Act::Text(text) => self.injector.text(text),
                Act::Wheel(x, y) => self.injector.wheel(*x, *y),
            };
            match done {
                Ok(()) => {}
                Err(
                    CaptureError::NoSuchKey { .. }
                    | CaptureError::UnknownDisplay(_)
                    | CaptureError::NoSpareKey,
                ) => {
                    tracing::debug!("input that this computer has no key or place for");
                }
                Err(error @ CaptureError::NotNow { .. }) => tracing::debug!(%error),
                // The screen's thread says what happened to the screen.
                Err(error) => tracing::warn!(%error, "input could not be done"),
            }
        }
    }

    fn report(&mut self) {
        for report in self.gate.reports(Instant::now()) {
            let lane = LaneKey::plain(LaneKind::Peer, Participant::RELAY);
            let body = report.encode_to_vec();
            // The next report says the same and more.
            let _ = self.handle.send(lane, Outgoing::message(types::INPUT_REPORT, &body));
        }
    }

    fn release(&mut self) {
        let acts = self.gate.release_all();
        self.act(&acts);
        if let Err(error) = self.injector.release_all() {
            tracing::warn!(%error, "what was held could not be released");
        }
    }
}
