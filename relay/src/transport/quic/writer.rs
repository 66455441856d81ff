//! Writes a connection's lanes as the session hands them out and the path takes them.
//!
//! One task does it for all lanes, so that the most urgent goes first whatever else waits, and so that what the path can't take yet
//! stays in the session, where it can be replaced or left out.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_path::quic::Path;
use tandem_path::sender::{Next, Sender, Stream};
use tandem_protocol::LaneKey;
use tandem_protocol::message::{Ping, control};
use tokio::time::Sleep;
use web_transport_quinn::{SendStream, Session};

use super::stats::Stats;
use crate::connection::Connection;
use crate::outbox::{Pull, Slot};

/// With one of quinn's congestion controllers: unsent bytes that the send window leaves for control, input and cursor, time of
/// the path's rate that may be unsent beside them, and how often the window follows the path.
const RESERVE: u64 = 64 << 10;
const AHEAD: Duration = Duration::from_millis(25);
const WINDOW_EVERY: Duration = Duration::from_millis(50);
/// How often it is seen to whether the client has moved to another path, which is then known anew.
const PATH_EVERY: Duration = Duration::from_secs(1);

/// A stream to the client.
struct Out(SendStream);

impl Stream for Out {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: Bytes) -> Poll<io::Result<usize>> {
        let mut chunks = [bytes];
        let written = pin!(self.0.write_chunks(&mut chunks)).poll(cx);
        written.map(|written| Ok(written.map_err(io::Error::other)?.bytes))
    }

    // These fail only when the stream is closed anyway.

    fn set_priority(&self, priority: i32) {
        let _ = self.0.set_priority(priority);
    }

    fn finish(&mut self) {
        let _ = self.0.finish();
    }

    fn reset(&mut self) {
        let _ = self.0.reset(tandem_protocol::Close::ENDED.number().into());
    }
}

/// All lanes towards a client.
pub(super) struct Writer {
    session: Session,
    connection: Arc<Connection>,
    lanes: Sender<Slot, Out>,
    /// What our congestion controller knows; `None` with one of quinn's.
    path: Option<Path>,
    path_checked: Instant,
    stats: Stats,
    /// When there is something to do although nothing happens.
    alarm: Pin<Box<Sleep>>,
}

impl Writer {
    /// With the control lane.
    pub(super) fn new(session: Session, connection: Arc<Connection>, control: SendStream) -> Self {
        let mut lanes = Sender::default();
        lanes.adopt(Slot::CONTROL, LaneKey::CONTROL, Out(control));
        let path = Path::of(quic(&session).congestion_state());
        Self {
            session,
            connection,
            lanes,
            path,
            path_checked: Instant::now(),
            stats: Stats::default(),
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Writes until the connection fails. Cancellation loses nothing.
    pub(super) async fn write(&mut self) -> io::Error {
        let signals = self.connection.signals.clone();
        loop {
            tokio::select! {
                biased;
                () = signals.any.notified() => {}
                error = poll_fn(|cx| self.pump(cx)) => return error,
            }
        }
    }

    /// Writes what may be written, and sees to it that we come back when there may be more. Ready only with an error.
    fn pump(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let now = Instant::now();
            self.take_changes();
            self.follow_path(now);
            let connection = &self.connection;
            if self.path.as_ref().is_some_and(|path| path.speak(now)) {
                connection.tell(control::Message::Ping(Ping { id: 0, time_us: 0 }));
            }
            let next = |slot| match connection.pull(slot) {
                Pull::Record(bytes) => Next::Record(bytes),
                Pull::Nothing => Next::Nothing,
                Pull::Finished => Next::Finished,
                Pull::Reset => Next::Reset,
            };
            let more = match self.lanes.pump(cx, self.path.as_ref(), now, next) {
                Ok(more) => more,
                Err(error) => return Poll::Ready(error),
            };
            if let Some(path) = &self.path {
                self.connection.signals.path.set(path.state());
            }
            let speaks = self.path.as_ref().and_then(Path::speaks_at);
            let Some(at) = more.into_iter().chain(speaks).min() else { return Poll::Pending };
            self.alarm.as_mut().reset(at.into());
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Opens lanes that the session has opened, gives up those that it has given up, and asks for priorities that have changed.
    fn take_changes(&mut self) {
        let changes = self.connection.take_changes();
        for slot in changes.given_up {
            self.lanes.reset(slot);
        }
        for (slot, key) in changes.opened {
            let session = self.session.clone();
            let opening = async move { session.open_uni().await.map(Out).map_err(io::Error::other) };
            self.lanes.open(slot, key, self.connection.is_focused(key.display), Box::pin(opening));
        }
        let connection = &self.connection;
        if connection.signals.take_focus() {
            self.lanes.focus(|key| !key.kind.is_screen() || connection.is_focused(key.display));
        }
    }

    fn follow_path(&mut self, now: Instant) {
        let every = if self.path.is_some() { PATH_EVERY } else { WINDOW_EVERY };
        if now.saturating_duration_since(self.path_checked) < every {
            return;
        }
        self.path_checked = now;
        let connection = quic(&self.session);
        self.stats.look(connection, &self.connection, now);
        if self.path.is_some() {
            self.path = Path::of(connection.congestion_state());
        } else {
            let path = connection.stats().path;
            let rate = path.cwnd as f64 / path.rtt.as_secs_f64().max(0.001);
            let ahead = (rate * AHEAD.as_secs_f64()).clamp(4096.0, 8e6) as u64;
            connection.set_send_window(path.cwnd + ahead + RESERVE);
        }
    }

    /// Sends the last control messages and waits until they have arrived.
    pub(super) async fn farewell(&mut self) {
        let Some((Out(mut stream), rest)) = self.lanes.take(Slot::CONTROL) else { return };
        if stream.write_all(&rest).await.is_err() {
            return;
        }
        while let Pull::Record(bytes) = self.connection.pull(Slot::CONTROL) {
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = stream.finish();
        let _ = stream.stopped().await;
    }
}

fn quic(session: &Session) -> &quinn::Connection {
    session
}
