//! What goes to a client over a WebSocket: pieces of a few milliseconds of the path's rate, each when the path has room for it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use bytes::BytesMut;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tandem_path::State;
use tandem_path::tcp::Bound;
use tandem_protocol::message::{Move, control};
use tandem_protocol::mux::LaneId;
use tandem_protocol::{Close, LaneKey, Priority, limits};

use super::{Lanes, Shared, close_message};
use crate::connection::End;
use crate::metrics::Binding;
use crate::outbox::{Pull, Slot};
use crate::transport::tcp::Tcp;

/// What a socket says of itself is believed for so long, unless something was written.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often the path is counted.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The writing half of a connection.
pub(super) struct Writer<'a> {
    shared: &'a Shared,
    sink: SplitSink<WebSocket, Message>,
    tcp: Tcp,
    bound: Bound,
    /// When the socket was last asked.
    looked: Option<Instant>,
    /// The next message.
    message: BytesMut,
    /// When the path was last counted.
    noted: Option<Instant>,
}

impl<'a> Writer<'a> {
    /// Of a connection of which nothing was written.
    pub(super) fn new(
        shared: &'a Shared,
        sink: SplitSink<WebSocket, Message>,
        tcp: Tcp,
        bound: Bound,
    ) -> Self {
        Self { shared, sink, tcp, bound, looked: None, message: BytesMut::new(), noted: None }
    }

    /// Writes what the session hands out, a piece at a time, each when the path has room for it.
    pub(super) async fn write(&mut self) -> End {
        let signals = self.shared.connection.signals.clone();
        loop {
            if self.shared.leaving.load(Ordering::Acquire) {
                return self.leave().await;
            }
            self.take_changes();
            let mut opens_at = None;
            let mut open = false;
            self.put_together(Priority::URGENT);
            if self.has_ordinary() {
                let now = Instant::now();
                if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY) {
                    self.look(now);
                }
                open = self.bound.is_open();
                if open {
                    self.put_together(Priority::LAST);
                } else {
                    opens_at = Some(self.bound.opens_at(now));
                }
            }
            if self.message.is_empty() {
                // It would keep the memory of the last message that was split off it.
                self.message = BytesMut::new();
                tokio::select! {
                    () = signals.any.notified() => {}
                    () = until(opens_at), if opens_at.is_some() => {}
                }
                continue;
            }
            let len = self.message.len();
            if open {
                self.bound.wrote(len);
            }
            if let Err(error) = self.sink.send(Message::Binary(self.message.split().freeze())).await {
                return End::Transport(error.to_string());
            }
            if open {
                // When it was given away has to be known.
                self.look(Instant::now());
            } else {
                self.bound.wrote_unseen();
            }
        }
    }

    fn look(&mut self, now: Instant) {
        self.looked = Some(now);
        let path = self.bound.look(&self.tcp.socket(), now);
        self.shared.connection.signals.path.set(path);
        self.note(&path, now);
    }

    /// Whether anything waits that the path must have room for.
    fn has_ordinary(&self) -> bool {
        self.shared.outgoing.lock().mux.is_inside_beyond(Priority::URGENT)
            || self.shared.connection.has_beyond(Priority::URGENT)
    }

    /// Counts how the path is, about once a second.
    fn note(&mut self, path: &State, now: Instant) {
        if self.noted.is_some_and(|noted| now.saturating_duration_since(noted) < NOTE_EVERY) {
            return;
        }
        self.noted = Some(now);
        let metrics = self.shared.connection.metrics();
        if !path.rtt_min.is_zero() {
            metrics.path_rtt_seconds.of(Binding::WebSocket).record(path.rtt_min);
            metrics.path_window_bytes.of(Binding::WebSocket).record(path.window as f64);
        }
    }

    /// Opens lanes that the session has opened, gives up those that it has given up, and asks for priorities that have changed.
    fn take_changes(&mut self) {
        let connection = &self.shared.connection;
        let focus = connection.signals.take_focus();
        let changes = connection.take_changes();
        if !focus && changes.is_empty() {
            return;
        }
        let mut lanes = self.shared.outgoing.lock();
        let Lanes { mux, slots } = &mut *lanes;
        for slot in changes.given_up {
            if let Some(id) = slots.iter().find(|(_, of)| **of == slot).map(|(&id, _)| id) {
                mux.reset(id, &mut self.message);
                slots.remove(&id);
            }
        }
        for (slot, key) in changes.opened {
            let focused = connection.is_focused(key.display);
            slots.insert(mux.open(key, focused), slot);
        }
        if focus {
            for (&id, &slot) in slots.iter() {
                if let Some(priority) = connection.priority(slot) {
                    mux.prioritize(id, priority);
                }
            }
        }
    }

    /// Adds to the message the most urgent fragments that are at least as urgent as this, a piece in all.
    fn put_together(&mut self, last: Priority) {
        let connection = &self.shared.connection;
        let mut lanes = self.shared.outgoing.lock();
        let Lanes { mux, slots } = &mut *lanes;
        let (piece, message) = (self.bound.piece(), &mut self.message);
        loop {
            let mut ended = Vec::new();
            let next = |id: LaneId, _: LaneKey| match connection.pull(*slots.get(&id)?) {
                Pull::Record(bytes) => Some(bytes),
                Pull::Nothing | Pull::Reset => None,
                Pull::Finished => {
                    ended.push(id);
                    None
                }
            };
            let more = message.len() < piece
                && mux.fragment_of(last, piece - message.len(), next, message).is_some();
            if !more && ended.is_empty() {
                return;
            }
            for id in ended {
                slots.remove(&id);
                mux.finish(id);
            }
        }
    }

    /// Gives up what is half sent, says that nothing follows, and waits until the client is seated elsewhere.
    async fn leave(&mut self) -> End {
        {
            let mut lanes = self.shared.outgoing.lock();
            let Lanes { mux, slots } = &mut *lanes;
            let half: Vec<LaneId> =
                slots.keys().copied().filter(|&id| id != LaneId::CONTROL && mux.in_record(id)).collect();
            let whole = half
                .into_iter()
                .filter_map(|id| Some((slots.remove(&id)?, mux.reset(id, &mut self.message)?)));
            self.shared.connection.park(whole.collect());
        }
        self.shared.connection.tell(control::Message::Move(Move {}));
        loop {
            self.take_control();
            if self.message.is_empty() {
                return std::future::pending().await;
            }
            if let Err(error) = self.sink.send(Message::Binary(self.message.split().freeze())).await {
                return End::Transport(error.to_string());
            }
        }
    }

    /// Adds the control messages that wait to the message.
    fn take_control(&mut self) {
        let connection = &self.shared.connection;
        let mut lanes = self.shared.outgoing.lock();
        let next = |id: LaneId, _: LaneKey| {
            let pulled = (id == LaneId::CONTROL).then(|| connection.pull(Slot::CONTROL))?;
            if let Pull::Record(bytes) = pulled { Some(bytes) } else { None }
        };
        let message = &mut self.message;
        while message.len() < limits::MESSAGE_MAX / 2
            && lanes.mux.fragment_of(Priority::CONTROL, limits::FRAGMENT_MAX, next, message).is_some()
        {
        }
    }

    /// The last control messages, then the close code.
    pub(super) async fn farewell(&mut self, close: Close, reason: &str) {
        self.take_control();
        let last = self.message.split().freeze();
        if !last.is_empty() && self.sink.send(Message::Binary(last)).await.is_err() {
            return;
        }
        let _ = self.sink.send(close_message(close, reason)).await;
    }
}

/// Until then, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
