//! The two ends that a program holds: a cheap handle to send with, and the events.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tandem_path::Gauge;
use tandem_protocol::message::{End, EndReason, control};
use tandem_protocol::{Close, LaneKey, Point, Sender};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::acks::Acks;
use crate::event::Event;
use crate::outbox::{Outbox, Outgoing, SendError, Sent};
use crate::pacer::Pace;

/// What handles and the driver share. Locks are short and never held across a wait.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outbox: Mutex<Outbox>,
    pub(crate) acks: Mutex<Acks>,
    /// What the connection in use knows of its path.
    pub(crate) path: Gauge,
    /// There is something to send.
    wake: Notify,
    /// A lane has room again, or there is a connection again, or none will be.
    pub(crate) room: Notify,
    /// Nothing will be sent any more.
    over: AtomicBool,
    /// The program wants to leave.
    leave: Mutex<Option<Close>>,
    left: Notify,
}

impl Shared {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self {
            outbox: Mutex::new(outbox),
            acks: Mutex::default(),
            path: Gauge::default(),
            wake: Notify::new(),
            room: Notify::new(),
            over: AtomicBool::new(false),
            leave: Mutex::new(None),
            left: Notify::new(),
        }
    }

    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// The driver has ended.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    /// The code that the connection is to be closed with, if the program wants that.
    pub(crate) fn leaving(&self) -> Option<Close> {
        *self.leave.lock()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.leaving().is_some()
    }

    /// Ends when the program wants to leave.
    pub(crate) async fn closing(&self) {
        loop {
            let left = self.left.notified();
            if self.is_closing() {
                return;
            }
            left.await;
        }
    }
}

/// Sends; cheap to clone, usable from any thread, never waits.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// Gives a body to the lane of this kind, display and rendition; the lane's sender is always ourselves. It opens at
    /// its first record. On every lane but screens and keys this works between two connections too.
    ///
    /// # Errors
    /// [`SendError`]: nothing was taken.
    pub fn send(&self, lane: LaneKey, out: Outgoing<'_>) -> Result<Sent, SendError> {
        let sent = self.0.outbox.lock().send(lane, out, Instant::now());
        self.0.wake.notify_one();
        sent
    }

    /// Ends when a lane takes more: at once, or when no more than half of what may wait on it does. A file goes at full
    /// speed when every [`SendError::Full`] is followed by this. Between two connections it waits for the next.
    ///
    /// # Errors
    /// [`SendError::Offline`] once the session is over for us.
    pub async fn ready(&self, lane: LaneKey) -> Result<(), SendError> {
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            // From here on no notification is missed.
            room.as_mut().enable();
            if self.0.over.load(Ordering::Acquire) {
                return Err(SendError::Offline);
            }
            if self.0.outbox.lock().has_room(lane) {
                return Ok(());
            }
            room.await;
        }
    }

    /// Ends a lane of ours after what waits on it.
    pub fn finish(&self, lane: LaneKey) {
        self.0.outbox.lock().finish(lane);
        self.0.wake.notify_one();
    }

    /// Sends a control message. While the session goes over to a better connection it waits for that one.
    ///
    /// # Errors
    /// [`SendError`] when there is no connection.
    pub fn control(&self, message: control::Message) -> Result<(), SendError> {
        let sent = self.0.outbox.lock().control(message);
        self.0.wake.notify_one();
        sent
    }

    /// How much this screen's path takes now. Ask again after every `Feedback` and `Connected`.
    pub fn pace(&self, lane: LaneKey) -> Pace {
        let own = self.0.path.read();
        self.0.outbox.lock().pace(lane, &own, Instant::now())
    }

    /// A screen of somebody was decoded up to `applied` and drawn up to `drawn_seq`.
    pub fn applied(&self, lane: LaneKey, applied: Point, drawn_seq: u64) {
        self.0.acks.lock().applied(lane, applied, drawn_seq, Instant::now());
        self.0.wake.notify_one();
    }

    /// All input before `next_seq` of this lane and epoch was done or dropped for good.
    pub fn processed(&self, lane: LaneKey, epoch: u64, next_seq: u64) {
        self.0.acks.lock().processed(lane, epoch, next_seq, Instant::now());
        self.0.wake.notify_one();
    }

    /// Our number, once joined.
    pub fn sender(&self) -> Option<Sender> {
        self.0.outbox.lock().sender()
    }

    /// µs of the clock that our records' times count.
    pub fn time_us(&self) -> u64 {
        self.0.outbox.lock().time_us(Instant::now())
    }

    /// Ends the session for all, or our part in it, as our role has it. The relay then closes the connection: until it has, this is
    /// said again on every other one.
    ///
    /// # Errors
    /// [`SendError`] when there is no connection.
    pub fn end(&self, reason: EndReason) -> Result<(), SendError> {
        self.control(control::Message::End(End { reason: reason.into() }))
    }

    /// Closes the connection and tries no more. The session may go on without us, and our ticket brings us back.
    pub fn leave(&self) {
        self.0.leave.lock().get_or_insert(Close::LEFT);
        self.0.left.notify_waiters();
        self.0.wake.notify_one();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("sender", &self.sender()).finish_non_exhaustive()
    }
}

/// What happens, in order. Dropping it ends the connection without a word, as a crash would: the ticket stays good.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
    pub(crate) driver: JoinHandle<()>,
}

impl Events {
    /// The next event; `None` after [`Event::Closed`].
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, for a thread of its own.
    ///
    /// # Panics
    /// Inside an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.receiver.blocking_recv()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
