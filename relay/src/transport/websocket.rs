//! WebSocket: all lanes in one ordered stream of bytes, shared out fragment by fragment.
//!
//! One task runs both directions side by side: while a write waits for a slow client, its input goes on being read. A piece of a
//! few milliseconds of the path's rate is written at a time, and only while the socket holds no more than the path does ([`Bound`]);
//! control, input and cursors go at once, and nobody asks about the path for them.

mod inbound;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::BytesMut;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tandem_path::Congestion;
use tandem_path::tcp::Bound;
use tandem_protocol::mux::{self, LaneId, Outgoing, Side};
use tandem_protocol::{Close, close, limits};
use tracing::debug;

use self::writer::Writer;
use super::tcp::Tcp;
use super::{refusal_record, side_by_side};
use crate::admission::{Refusal, Visitor};
use crate::connection::{self, Connection, End};
use crate::metrics::{Binding, Phase};
use crate::outbox::Slot;
use crate::relay::Relay;

/// How long a closing connection may take to hand over its last messages.
const LINGER: Duration = Duration::from_millis(500);

/// Serves one client from its first message to its end.
pub async fn serve(
    mut socket: WebSocket,
    tcp: Tcp,
    congestion: Congestion,
    relay: Arc<Relay>,
    visitor: Arc<Visitor>,
) {
    let mut buffer = BytesMut::new();
    visitor.reaches(Phase::Hello);
    let deadline = visitor.deadline();
    let hello = tokio::time::timeout_at(deadline.into(), read_hello(&mut socket, &mut buffer)).await;
    let hello = hello.unwrap_or_else(|_| Err(Some(Refusal::new(Close::ADMISSION, "no Hello in time"))));
    let admitted = hello.and_then(|hello| {
        let admitted = Connection::admit(&relay, &hello, Binding::WebSocket, &visitor);
        admitted.map_err(|refusal| {
            connection::refused(&relay, &refusal, true);
            Some(refusal)
        })
    });
    match admitted {
        Ok(connection) => {
            tcp.allow_all();
            run(socket, (tcp, Bound::new(congestion)), connection, buffer).await;
        }
        Err(None) => {}
        Err(Some(refusal)) => {
            debug!(why = refusal.close.name(), reason = refusal.reason, "refused");
            let mut outgoing = Outgoing::new(Side::Relay);
            let mut record = Some(refusal_record(&refusal));
            let mut bytes = BytesMut::new();
            outgoing.fragment(limits::FRAGMENT_MAX, |_, _| record.take(), &mut bytes);
            let farewell = async {
                socket.send(Message::Binary(bytes.freeze())).await?;
                socket.send(close_message(refusal.close, &refusal.reason)).await
            };
            let _ = tokio::time::timeout(LINGER, farewell).await;
        }
    }
}

/// Reads fragments of the control lane until they hold a `Hello`. What follows it stays in `rest`, as whole messages.
async fn read_hello(
    socket: &mut WebSocket,
    rest: &mut BytesMut,
) -> Result<tandem_protocol::message::Hello, Option<Refusal>> {
    let mut records = BytesMut::new();
    loop {
        let message = match socket.recv().await {
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => {
                return Err(Some(Refusal::new(Close::PROTOCOL, "messages are binary")));
            }
            _ => return Err(None),
        };
        if records.len() + message.len() > limits::UNADMITTED_MAX {
            return Err(Some(Refusal::new(Close::ADMISSION, "too many bytes before a Hello")));
        }
        // Before its Welcome a client has nothing to say but on the control lane.
        let mut hello = None;
        let mut at = BytesMut::from(&message[..]);
        while at.len() >= mux::FRAGMENT_HEADER_LEN && hello.is_none() {
            let len = usize::from(u16::from_le_bytes([at[3], at[4]])) + mux::FRAGMENT_HEADER_LEN;
            if at[..2] != [0, 0] || at.len() < len {
                return Err(Some(Refusal::new(Close::PROTOCOL, "the first message must be a Hello")));
            }
            let fragment = at.split_to(len);
            records.extend_from_slice(&fragment[mux::FRAGMENT_HEADER_LEN..]);
            hello = connection::hello(&mut records).map_err(Some)?;
        }
        if let Some(hello) = hello {
            if !records.is_empty() {
                return Err(Some(Refusal::new(Close::PROTOCOL, "a record is cut off")));
            }
            rest.extend_from_slice(&at);
            return Ok(hello);
        }
    }
}

/// What both directions of a connection share.
struct Shared {
    connection: Connection,
    outgoing: Mutex<Lanes>,
    /// The client goes over to another connection, and has said all on this one.
    leaving: AtomicBool,
}

/// The lanes towards the client.
struct Lanes {
    mux: Outgoing,
    slots: HashMap<LaneId, Slot>,
}

async fn run(socket: WebSocket, (tcp, bound): (Tcp, Bound), connection: Connection, rest: BytesMut) {
    let (sink, stream) = socket.split();
    let lanes =
        Lanes { mux: Outgoing::new(Side::Relay), slots: HashMap::from([(LaneId::CONTROL, Slot::CONTROL)]) };
    let shared = Shared { connection, outgoing: Mutex::new(lanes), leaving: AtomicBool::new(false) };
    let mut writer = Writer::new(&shared, sink, tcp, bound);
    let end = side_by_side::first([
        Box::pin(async {
            shared.connection.signals.stop.cancelled().await;
            None
        }),
        Box::pin(async { Some(inbound::read(&shared, stream, rest).await) }),
        Box::pin(async { Some(writer.write().await) }),
        Box::pin(async {
            shared.connection.keep_time().await;
            None
        }),
    ])
    .await;
    let gone = matches!(end, Some(End::Transport(_)));
    let (close, reason) = shared.connection.ended(end);
    if !gone {
        let _ = tokio::time::timeout(LINGER, writer.farewell(close, &reason)).await;
    }
}

fn close_message(close: Close, reason: &str) -> Message {
    let reason = close::reason(reason).to_owned();
    Message::Close(Some(CloseFrame { code: close.websocket(), reason: reason.into() }))
}
