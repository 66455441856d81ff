//! QUIC and WebTransport: a stream per lane. `web_transport_quinn::Session` speaks both. One task writes all lanes, in the order
//! of their urgency: see `writer`.

mod stats;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tandem_protocol::{Assembler, Close, LaneKey, LaneKind, Record, close, limits};
use tokio::task::JoinSet;
use tracing::Instrument;
use web_transport_quinn::{RecvStream, SendStream, Session};

use self::writer::Writer;
use super::{refusal_record, side_by_side, udp};
use crate::admission::{Refusal, Visitor};
use crate::connection::{self, Connection, End};
use crate::metrics::{Binding, Phase};
use crate::relay::Relay;
use crate::session::Breach;

/// Largest piece read from the control stream at once.
const CHUNK: usize = 64 << 10;
/// Pieces of a lane that are read at once; each is a packet's.
const CHUNKS: usize = 16;
/// How long a closing connection may take to hand over its last control messages.
const LINGER: Duration = Duration::from_millis(500);

/// Serves one client from its first stream to its end.
pub async fn serve(session: Session, binding: Binding, relay: Arc<Relay>, visitor: Visitor) {
    visitor.reaches(Phase::Hello);
    let deadline = visitor.deadline();
    let admitted = tokio::time::timeout_at(deadline.into(), admit(&session, binding, &relay, visitor)).await;
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
    visitor: Visitor,
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
    match Connection::admit(relay, &hello, binding, &visitor) {
        Ok(connection) => {
            udp::widen(session);
            Ok((connection, (send, recv), buffer))
        }
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
    let mut tasks: JoinSet<Result<(), End>> = JoinSet::new();
    tasks.spawn(read_control(connection.clone(), recv, buffer).in_current_span());
    let mut writer = Writer::new(session.clone(), connection.clone(), send);
    let end = side_by_side::first([
        Box::pin(async {
            connection.signals.stop.cancelled().await;
            None
        }),
        Box::pin(async { Some(End::Transport(session.closed().await.to_string())) }),
        Box::pin(async { Some(take_lanes(&session, &connection, &mut tasks).await) }),
        Box::pin(async { Some(transport(writer.write().await)) }),
        Box::pin(async {
            connection.keep_time().await;
            None
        }),
    ])
    .await;
    let gone = matches!(end, Some(End::Transport(_)));
    let (close, reason) = connection.ended(end);
    if !gone {
        // What is left is sent, and waits until it has arrived. Arrived is not read: a browser throws away what it has not
        // read when the connection closes, so who is told of the end closes it.
        let farewell = async {
            writer.farewell().await;
            if close == Close::ENDED {
                session.closed().await;
            }
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
    session.close(close.number().into(), close::reason(&reason).as_bytes());
    // Not before: lanes that are not read any more are stopped, which would come before the reason and be taken for a broken path.
    tasks.shutdown().await;
}

/// Takes the client's lanes, each read by a task of its own, until one of them breaks a rule or no more can come.
async fn take_lanes(
    session: &Session,
    connection: &Arc<Connection>,
    tasks: &mut JoinSet<Result<(), End>>,
) -> End {
    loop {
        tokio::select! {
            Some(done) = tasks.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return end,
                Err(panic) => return Breach { close: Close::INTERNAL, reason: panic.to_string() }.into(),
            },
            stream = session.accept_uni() => match stream {
                Ok(stream) => {
                    // Before its opening is read, since it may never come.
                    if let Err(breach) = connection.paces.lane() {
                        return breach.into();
                    }
                    tasks.spawn(read_lane(connection.clone(), stream).in_current_span());
                }
                Err(error) => return transport(error),
            },
        }
    }
}

async fn read_control(
    connection: Arc<Connection>,
    mut stream: RecvStream,
    mut buffer: BytesMut,
) -> Result<(), End> {
    loop {
        while let Some(record) = Record::split_from(LaneKind::Control, &mut buffer)? {
            connection.control(&record)?;
            connection.paces.control().wait().await;
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
    let mut records = Assembler::new(key.kind);
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    loop {
        match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => {
                for chunk in &mut chunks[..count] {
                    // Let go of afterwards: it keeps all that came with it.
                    let chunk = std::mem::take(chunk);
                    let mut rest = &chunk[..];
                    while let Some(record) = records.next(&mut rest)? {
                        connection.record(lane, &record).await?;
                        connection.paces.record().wait().await;
                    }
                }
            }
            Ok(None) if records.is_empty() => break,
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
