//! The thread that acts: it owns the injector and the gate in front of it. Input is acknowledged when it has been done or
//! dropped for good, not before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tandem_capture::{CaptureError, Holdable, Injector};
use tandem_client::{Handle, Outgoing};
use tandem_protocol::message::types;
use tandem_protocol::{Header, LaneKey, LaneKind, Record, Sender as Participant};
use tokio::sync::Semaphore;

use crate::gate::{Act, Gate};
use crate::journal::Journal;

/// Records that wait to be done; then no more are read from the connection.
const WAITING_MAX: usize = 1024;
/// Time between two tries to release what the system keeps down.
const SETTLE_EVERY: Duration = Duration::from_millis(250);

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// Somebody's input, and when it arrived.
    Record(LaneKey, Record, Instant),
    /// Somebody's record on another lane, and when it arrived.
    Heard(Participant, Header, Instant),
    /// Who may control from now on, and may have since when.
    Controllers(BTreeMap<Participant, Option<Instant>>),
    /// The displays are arranged anew.
    Layout(u32),
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
        let (settle_at, slowest, room_there) = (None, Duration::ZERO, Arc::clone(&room));
        let mut acting = Acting { injector, handle, gate, journal, settle_at, slowest, room: room_there };
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

    /// Hands it the header of a record on another lane, which has just arrived: it tells how the sender's clock goes. While too many
    /// records wait it is left out, since others follow.
    pub fn heard(&self, who: Participant, header: Header) {
        if let Ok(room) = self.room.try_acquire() {
            room.forget();
            self.order(Order::Heard(who, header, Instant::now()));
        }
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
    /// When to try again to release what the system keeps down, if it does.
    settle_at: Option<Instant>,
    /// The longest that a record took from its arrival to the screen's server.
    slowest: Duration,
    room: Arc<Semaphore>,
}

impl Acting {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match [self.gate.deadline(), self.settle_at].into_iter().flatten().min() {
                Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let acts = match order {
                Ok(Order::Record(lane, record, arrived)) => {
                    self.record(lane, &record, arrived);
                    self.room.add_permits(1);
                    Vec::new()
                }
                Ok(Order::Heard(who, header, arrived)) => {
                    self.gate.heard(who, &header, arrived);
                    self.room.add_permits(1);
                    Vec::new()
                }
                Ok(Order::Controllers(controllers)) => self.gate.controllers(controllers),
                Ok(Order::Layout(generation)) => {
                    self.gate.layout(generation);
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => self.gate.expire(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.act(&acts);
            self.settle(Instant::now());
            self.report();
        }
    }

    /// Tries again what is due, whoever watches and whatever else comes.
    fn settle(&mut self, now: Instant) {
        if self.settle_at.is_some_and(|at| at <= now) {
            self.settle_at = None;
            if let Err(error) = self.injector.settle() {
                tracing::debug!(%error, "a key or button stays down");
            }
        }
        self.settle_at = self.injector.owes().then(|| self.settle_at.unwrap_or(now + SETTLE_EVERY));
    }

    fn record(&mut self, lane: LaneKey, record: &Record, arrived: Instant) {
        if self.journal.begin(lane.sender, record.header.epoch, record.header.seq) {
            let acts = self.gate.record(lane.sender, record, Instant::now());
            self.act(&acts);
        }
        self.handle.processed(lane, record.header.epoch, record.header.seq.saturating_add(1));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender as Tell;

    use tandem_client::{Join, Options, Target};
    use tandem_protocol::{Code, DisplayId, Flags, message};

    use super::*;

    const ANN: Participant = Participant(2);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A system that refuses some releases; it tells every try, and whether that was refused.
    struct Stubborn {
        refuses: u32,
        owed: Option<u32>,
        tell: Tell<(u32, bool, bool)>,
    }

    impl Injector for Stubborn {
        fn key(&mut self, usage: u32, down: bool) -> Result<(), CaptureError> {
            let refused = !down && self.refuses > 0;
            self.refuses -= u32::from(refused);
            self.owed = refused.then_some(usage);
            let _ = self.tell.send((usage, down, refused));
            if refused { Err(CaptureError::NotNow { reason: "locked".into() }) } else { Ok(()) }
        }

        fn settle(&mut self) -> Result<(), CaptureError> {
            self.owed.map_or(Ok(()), |usage| self.key(usage, false))
        }

        fn owes(&self) -> bool {
            self.owed.is_some()
        }

        fn text(&mut self, _: &str) -> Result<(), CaptureError> {
            Ok(())
        }

        fn button(&mut self, _: u32, _: bool) -> Result<(), CaptureError> {
            Ok(())
        }

        fn wheel(&mut self, _: i32, _: i32) -> Result<(), CaptureError> {
            Ok(())
        }

        fn motion(&mut self, _: DisplayId, _: i32, _: i32) -> Result<(), CaptureError> {
            Ok(())
        }

        fn release_all(&mut self) -> Result<(), CaptureError> {
            self.settle()
        }

        fn held(&self) -> Vec<Holdable> {
            Vec::new()
        }
    }

    fn key(seq: u64, usage: u32, down: bool) -> Record {
        let header = Header {
            record_type: types::KEY,
            flags: Flags::default(),
            sender: ANN,
            key_id: 0,
            epoch: 1,
            seq,
            time_us: 0,
            screen: None,
        };
        Record::new(header, &message::Key { usage, down, ..message::Key::default() }.encode_to_vec())
    }

    /// Hands at such a system, with Ann's right to use them. Nobody is at the other end.
    fn hands(refuses: u32) -> (Hands, Receiver<(u32, bool, bool)>) {
        let (tell, told) = channel();
        let target = Target::new("http://127.0.0.1:1", Vec::new()).expect("an address");
        let code: Code = "042917".parse().expect("a code");
        let (handle, _events) = tandem_client::start(Options::new(target, Join::Code(code), "test"));
        let injector = Box::new(Stubborn { refuses, owed: None, tell });
        let hands = Hands::start(injector, handle, Journal::default()).expect("a thread");
        hands.order(Order::Controllers(BTreeMap::from([(ANN, None)])));
        (hands, told)
    }

    /// Whether anybody watches, and whether anything else comes, makes no difference.
    #[tokio::test]
    async fn what_the_system_refuses_to_release_is_tried_again_until_it_does() {
        let (hands, told) = hands(3);
        let lane = LaneKey::plain(LaneKind::Input, ANN);
        hands.record(lane, key(0, 4, true)).await;
        hands.record(lane, key(1, 4, false)).await;
        let tries: Vec<_> = (0..5).map(|_| told.recv_timeout(PATIENCE).expect("a try")).collect();
        let refused = (4, false, true);
        assert_eq!(tries, [(4, true, false), refused, refused, refused, (4, false, false)]);
    }

    /// Nobody needs a right to send them.
    #[test]
    fn no_more_records_wait_than_may_however_many_come() {
        let (orders, given) = channel();
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        let hands = Hands { orders: Some(orders), room, thread: None };
        (0..2 * WAITING_MAX as u64).for_each(|seq| hands.heard(ANN, key(seq, 4, true).header));
        assert_eq!(given.try_iter().count(), WAITING_MAX);
    }

    /// Numbers come from peers.
    #[tokio::test]
    async fn a_record_with_the_last_number_of_all_does_nothing() {
        let (hands, told) = hands(0);
        let lane = LaneKey::plain(LaneKind::Input, ANN);
        hands.record(lane, key(u64::MAX, 4, true)).await;
        hands.record(lane, key(7, 5, true)).await;
        assert_eq!(told.recv_timeout(PATIENCE), Ok((5, true, false)), "the thread goes on");
    }
}
