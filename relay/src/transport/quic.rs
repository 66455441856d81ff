//! QUIC and WebTransport: a stream per lane. `web_transport_quinn::Session` speaks both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tandem_protocol::{Close, LaneKey, LaneKind, Record, close, limits};
use tokio::task::JoinSet;
use tracing::Instrument;
use web_transport_quinn::{RecvStream, SendStream, Session};

use super::refusal_record;
use crate::admission::Refusal;
use crate::connection::{self, Connection, End};
use crate::metrics::Binding;
use crate::outbox::{Pull, Slot};
use crate::relay::Relay;
use crate::session::Breach;

/// Largest piece read from a stream at once.
const CHUNK: usize = 64 << 10;
/// Unsent bytes that the send window leaves for control, input and cursor.
const RESERVE: u64 = 64 << 10;
/// How often the send window follows the path.
const WINDOW_EVERY: Duration = Duration::from_millis(50);
/// How long a closing connection may take to hand over its last control messages.
const LINGER: Duration = Duration::from_millis(500);

/// Serves one client from its first stream to its end.
pub async fn serve(session: Session, binding: Binding, relay: Arc<Relay>) {
    let began = Instant::now();
    let admitted =
        tokio::time::timeout(limits::ADMISSION_TIME, admit(&session, binding, &relay, began)).await;
    let late = || Err(Refusal::new(Close::ADMISSION, "no Hello in time"));
    match admitted.map_err(|_| ()).unwrap_or_else(|()| late().map_err(Some)) {
        Ok((connection, control, buffer)) => run(session, Arc::new(connection), control, buffer).await,
        Err(None) => {}
        Err(Some(refusal)) => {
            connection::refused(&relay, &refusal, false);
            session.close(refusal.close.number().into(), close::reason(&refusal.reason).as_bytes());
        }
    }
}

/// Both directions of the control lane.
type Control = (SendStream, RecvStream);

/// Reads the `Hello`. An error of `None` has been told to the client, or there is no client any more.
async fn admit(
    session: &Session,
    binding: Binding,
    relay: &Arc<Relay>,
    began: Instant,
) -> Result<(Connection, Control, BytesMut), Option<Refusal>> {
    let (mut send, mut recv) = session.accept_bi().await.map_err(|_| None)?;
    let mut buffer = BytesMut::new();
    let hello = loop {
        match connection::hello(&mut buffer).map_err(Some)? {
            Some(hello) => break hello,
            None => {
                let chunk = recv.read_chunk(limits::UNADMITTED_MAX, true).await.map_err(|_| None)?;
                buffer.extend_from_slice(&chunk.ok_or(None)?.bytes);
            }
        }
    };
    match Connection::admit(relay, &hello, binding, began) {
        Ok(connection) => Ok((connection, (send, recv), buffer)),
        Err(refusal) => {
            connection::refused(relay, &refusal, true);
            let told = async {
                send.write_all(&refusal_record(&refusal)).await.ok()?;
                send.finish().ok()?;
                send.stopped().await.ok()
            };
            // The client reads it and closes, or does not.
            let _ = tokio::time::timeout(LINGER, told).await;
            session.close(refusal.close.number().into(), close::reason(&refusal.reason).as_bytes());
            Err(None)
        }
    }
}

/// Runs an admitted connection: every task in it ends with it.
async fn run(session: Session, connection: Arc<Connection>, (send, recv): Control, buffer: BytesMut) {
    let span = tracing::Span::current();
    let mut tasks: JoinSet<Result<(), End>> = JoinSet::new();
    // Apart, since it outlives the others by its last messages.
    let mut control = JoinSet::new();
    control.spawn(write_lane(connection.clone(), Slot::CONTROL, send).instrument(span.clone()));
    tasks.spawn(read_control(connection.clone(), recv, buffer).instrument(span.clone()));
    let mut window = tokio::time::interval(WINDOW_EVERY);
    window.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let signals = connection.signals.clone();
    let end = loop {
        tokio::select! {
            // The session's word comes first: its reason is the one to give.
            biased;
            () = signals.stop.cancelled() => break None,
            error = session.closed() => break Some(End::Transport(error.to_string())),
            Some(done) = tasks.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err(end)) => break Some(end),
                Err(panic) => break Some(End::Breach(Breach { close: Close::INTERNAL, reason: panic.to_string() })),
            },
            () = signals.changed.notified() => {
                for (slot, key) in connection.take_changes().opened {
                    let lane = open_lane(session.clone(), connection.clone(), slot, key);
                    tasks.spawn(lane.instrument(span.clone()));
                }
            }
            () = connection.deadline() => {}
            stream = session.accept_uni() => match stream {
                Ok(stream) => {
                    tasks.spawn(read_lane(connection.clone(), stream).instrument(span.clone()));
                }
                Err(error) => break Some(End::Transport(error.to_string())),
            },
            _ = window.tick() => fit_window(&session),
        }
    };
    let gone = matches!(end, Some(End::Transport(_)));
    let (close, reason) = connection.ended(end);
    tasks.shutdown().await;
    if !gone {
        // Woken by the end, it sends what is left and waits until that has arrived. Arrived is not read: a browser throws
        // away what it has not read when the connection closes, so who is told of the end closes it.
        let farewell = async {
            control.join_next().await;
            if close == Close::ENDED {
                session.closed().await;
            }
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
    session.close(close.number().into(), close::reason(&reason).as_bytes());
}

/// Keeps what is unsent small: what the path holds, 25 ms of it on top, and a reserve for what is urgent. quinn's window
/// counts what is unacknowledged, sent or not.
fn fit_window(session: &Session) {
    let path = session.stats_path();
    let rate = path.cwnd as f64 / path.rtt.as_secs_f64().max(0.001);
    let ahead = (rate * 0.025).clamp(4096.0, 8e6) as u64;
    session.set_send_window(path.cwnd + ahead + RESERVE);
}

/// The part of quinn's statistics that is needed here.
trait PathStats {
    fn stats_path(&self) -> quinn::PathStats;
}

impl PathStats for Session {
    fn stats_path(&self) -> quinn::PathStats {
        let connection: &quinn::Connection = self;
        connection.stats().path
    }
}

async fn open_lane(
    session: Session,
    connection: Arc<Connection>,
    slot: Slot,
    key: LaneKey,
) -> Result<(), End> {
    let mut stream = session.open_uni().await.map_err(transport)?;
    let priority = key.priority(connection.is_focused(key.display));
    // quinn sends the highest first.
    let _ = stream.set_priority(-i32::from(priority.0));
    stream.write_all(&key.opening()).await.map_err(transport)?;
    write_lane(connection, slot, stream).await
}

/// Writes a lane as the session hands it out, until it is given up; control goes on to its last message.
async fn write_lane(connection: Arc<Connection>, slot: Slot, mut stream: SendStream) -> Result<(), End> {
    let waker = connection.signals.waker(slot);
    let stop = &connection.signals.stop;
    loop {
        match connection.pull(slot) {
            Pull::Record(bytes) => {
                let write = stream.write_chunk(bytes);
                tokio::pin!(write);
                let mut woken = false;
                while !(woken && connection.is_given_up(slot)) {
                    tokio::select! {
                        biased;
                        written = &mut write => {
                            written.map_err(transport)?;
                            break;
                        }
                        // While it waits: perhaps because the lane was given up.
                        () = waker.notified() => woken = true,
                    }
                }
            }
            Pull::Nothing if slot == Slot::CONTROL => tokio::select! {
                // What was said before the end comes before the end.
                biased;
                () = waker.notified() => {}
                () = stop.cancelled() => {
                    let _ = stream.finish();
                    let _ = stream.stopped().await;
                    return Ok(());
                }
            },
            Pull::Nothing => waker.notified().await,
            Pull::Reset => break,
        }
    }
    connection.signals.forget(slot);
    let _ = stream.reset(Close::ENDED.number().into());
    Ok(())
}

async fn read_control(
    connection: Arc<Connection>,
    mut stream: RecvStream,
    mut buffer: BytesMut,
) -> Result<(), End> {
    loop {
        while let Some(record) = Record::split_from(LaneKind::Control, &mut buffer)? {
            connection.control(&record)?;
        }
        match stream.read_chunk(CHUNK, true).await.map_err(transport)? {
            Some(chunk) => buffer.extend_from_slice(&chunk.bytes),
            None => return Err(End::Transport("the control stream ended".into())),
        }
    }
}

/// Reads a lane: its opening, then records until it ends.
async fn read_lane(connection: Arc<Connection>, mut stream: RecvStream) -> Result<(), End> {
    let mut opening = [0; LaneKey::OPENING_LEN];
    if stream.read_exact(&mut opening).await.is_err() {
        // Given up before it began.
        return Ok(());
    }
    let key = LaneKey::parse(opening).map_err(|error| Breach::protocol(error.to_string()))?;
    let lane = connection.instance();
    connection.lane_opened(lane, key)?;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(record) = Record::split_from(key.kind, &mut buffer)? {
            connection.record(lane, &record).await?;
        }
        match stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) if buffer.is_empty() => break,
            Ok(None) => return Err(Breach::protocol("a lane ended inside a record").into()),
            // Reset by the client, or the connection is gone, which others notice.
            Err(_) => break,
        }
    }
    connection.lane_ended(lane);
    Ok(())
}

fn transport(error: impl std::fmt::Display) -> End {
    End::Transport(error.to_string())
}
