//! WebSocket: all lanes in one ordered stream of bytes, shared out fragment by fragment.
//!
//! One task runs both directions side by side: while a write waits for a slow client, its input goes on being read. A piece of a
//! few milliseconds of the path's rate is written at a time, and only while the socket holds no more than the path does ([`Bound`]);
//! control, input and cursors go at once, and nobody asks about the path for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use parking_lot::Mutex;
use tandem_path::tcp::Bound;
use tandem_path::{Congestion, State};
use tandem_protocol::message::{Credit, Move, control};
use tandem_protocol::mux::{self, Event, Incoming, LaneId, MuxError, Outgoing, Side};
use tandem_protocol::{Close, LaneKey, Priority, Record, close, limits};
use tracing::debug;

use super::tcp::Tcp;
use super::{refusal_record, side_by_side};
use crate::admission::{Refusal, Visitor};
use crate::connection::{self, Connection, End, Pause};
use crate::metrics::{Binding, Phase};
use crate::outbox::{Pull, Slot};
use crate::relay::Relay;
use crate::session::{Breach, LaneInstance, Taken};

/// Cursors' priority: what is at least as urgent waits for no room.
const URGENT: Priority = Priority(4);
/// What a socket says of itself is believed for so long, unless something was written.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often the path is counted.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Memory for messages that a connection keeps which has nothing to write.
const MESSAGE_KEPT: usize = 1024;
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
        Box::pin(async { Some(read(&shared, stream, rest).await) }),
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

async fn read(shared: &Shared, mut stream: SplitStream<WebSocket>, rest: BytesMut) -> End {
    let mut inbound = Inbound::new(shared);
    let mut message = rest.freeze();
    loop {
        if let Err(end) = inbound.take(&message) {
            return end;
        }
        std::mem::take(&mut inbound.pause).wait().await;
        message = loop {
            let room = shared.connection.signals.until_room();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Err(end) = inbound.try_again() {
                return end;
            }
            let next = tokio::select! {
                next = stream.next() => next,
                () = room, if !inbound.held.is_empty() => continue,
            };
            break match next {
                Some(Ok(Message::Binary(message))) => message,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Bytes::new(),
                Some(Ok(Message::Text(_))) => return Breach::protocol("messages are binary").into(),
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.and_then(|frame| Close::from_websocket(frame.code));
                    return End::Transport(code.map_or("closed by the client", Close::name).to_owned());
                }
                Some(Err(error)) => return End::Transport(error.to_string()),
                None => return End::Transport("the connection was lost".into()),
            };
        };
    }
}

/// The lanes from the client. A record whose receiver has no room is held, and what follows it on its lane; other lanes go
/// on. Its credit bounds what a lane can send meanwhile.
struct Inbound<'a> {
    shared: &'a Shared,
    incoming: Incoming,
    instances: HashMap<LaneId, LaneInstance>,
    held: BTreeMap<LaneId, VecDeque<Held>>,
    /// How long to wait before more is read.
    pause: Pause,
}

enum Held {
    Record(Record),
    End,
}

impl<'a> Inbound<'a> {
    fn new(shared: &'a Shared) -> Self {
        let incoming = Incoming::new(Side::Client);
        let pause = Pause::default();
        Self { shared, incoming, instances: HashMap::new(), held: BTreeMap::new(), pause }
    }

    /// Hands in what a message completes, in order, and gives credit for it.
    fn take(&mut self, message: &[u8]) -> Result<(), End> {
        let mut events = Vec::new();
        let read = self.incoming.message(message, |event| events.push(event));
        let connection = &self.shared.connection;
        for event in events {
            match event {
                Event::Opened(id, key) => {
                    connection.paces.lane()?;
                    self.held.remove(&id);
                    let lane = connection.instance();
                    self.instances.insert(id, lane);
                    connection.lane_opened(lane, key)?;
                }
                Event::Record(LaneId::CONTROL, _, record) => {
                    if control(self.shared, &record)? {
                        self.leave()?;
                    }
                    self.pause.extend(connection.paces.control());
                }
                Event::Record(id, _, record) => {
                    self.pass(id, Held::Record(record))?;
                    self.pause.extend(connection.paces.record());
                }
                Event::Finished(id, _) => self.pass(id, Held::End)?,
                Event::Reset(id, _) => {
                    self.held.remove(&id);
                    self.pass(id, Held::End)?;
                }
            }
        }
        for (id, bytes) in self.incoming.overdue() {
            connection.tell(control::Message::Credit(Credit { lane: id.0.into(), bytes }));
        }
        read.map_err(|error| {
            let close = match error {
                MuxError::Credit(_) | MuxError::Lanes | MuxError::Length(_) => Close::LIMIT,
                MuxError::Record(error) => return End::from(error),
                _ => Close::PROTOCOL,
            };
            End::Breach(Breach { close, reason: error.to_string() })
        })
    }

    /// Hands in what comes on a lane, or holds it behind what is held.
    fn pass(&mut self, id: LaneId, what: Held) -> Result<(), End> {
        if let Some(held) = self.held.get_mut(&id) {
            held.push_back(what);
        } else if let Some(what) = self.hand_in(id, what)? {
            self.held.insert(id, VecDeque::from([what]));
        }
        Ok(())
    }

    /// Tries again to hand in what is held.
    fn try_again(&mut self) -> Result<(), End> {
        let ids: Vec<LaneId> = self.held.keys().copied().collect();
        for id in ids {
            let Some(mut held) = self.held.remove(&id) else { continue };
            while let Some(what) = held.pop_front() {
                if let Some(what) = self.hand_in(id, what)? {
                    held.push_front(what);
                    self.held.insert(id, held);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The client leaves this connection: what is held is handed in now, whatever room there is.
    fn leave(&mut self) -> Result<(), End> {
        let connection = &self.shared.connection;
        for (id, held) in std::mem::take(&mut self.held) {
            let Some(&lane) = self.instances.get(&id) else { continue };
            for what in held {
                if let Held::Record(record) = what {
                    connection.leave_behind(lane, &record)?;
                }
            }
        }
        self.shared.leaving.store(true, Ordering::Release);
        connection.signals.any.notify_one();
        Ok(())
    }

    /// Hands it in; gives it back if there is no room.
    fn hand_in(&mut self, id: LaneId, what: Held) -> Result<Option<Held>, End> {
        let connection = &self.shared.connection;
        let Some(&lane) = self.instances.get(&id) else { return Ok(None) };
        match what {
            Held::Record(record) => {
                if matches!(connection.offer(lane, &record)?, Taken::NoRoom) {
                    return Ok(Some(Held::Record(record)));
                }
                if let Some(bytes) = self.incoming.consumed(id, record.bytes.len()) {
                    connection.tell(control::Message::Credit(Credit { lane: id.0.into(), bytes }));
                }
            }
            Held::End => {
                self.instances.remove(&id);
                connection.lane_ended(lane);
            }
        }
        Ok(None)
    }
}

/// Takes a control record. Whether the client leaves this connection for another one.
fn control(shared: &Shared, record: &Record) -> Result<bool, End> {
    match shared.connection.control(record)? {
        Some(control::Message::Credit(credit)) => {
            if let Ok(lane) = u16::try_from(credit.lane) {
                shared.outgoing.lock().mux.credit(LaneId(lane), credit.bytes);
                shared.connection.signals.any.notify_one();
            }
            Ok(false)
        }
        Some(control::Message::Move(_)) => Ok(true),
        _ => Ok(false),
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    sink: SplitSink<WebSocket, Message>,
    tcp: Tcp,
    bound: Bound,
    /// When the socket was last asked.
    looked: Option<Instant>,
    /// The next message. Its memory is used again.
    message: BytesMut,
    /// When the path was last counted.
    noted: Option<Instant>,
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, sink: SplitSink<WebSocket, Message>, tcp: Tcp, bound: Bound) -> Self {
        Self { shared, sink, tcp, bound, looked: None, message: BytesMut::new(), noted: None }
    }

    /// Writes what the session hands out, a piece at a time, each when the path has room for it.
    async fn write(&mut self) -> End {
        let signals = self.shared.connection.signals.clone();
        loop {
            if self.shared.leaving.load(Ordering::Acquire) {
                return self.leave().await;
            }
            self.take_changes();
            let mut opens_at = None;
            let mut open = false;
            self.put_together(URGENT);
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
                self.let_go();
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

    /// Keeps no more memory than a connection needs that says little.
    fn let_go(&mut self) {
        if self.message.capacity() > MESSAGE_KEPT {
            self.message = BytesMut::new();
        }
    }

    /// Whether anything waits that the path must have room for.
    fn has_ordinary(&self) -> bool {
        self.shared.outgoing.lock().mux.is_inside_beyond(URGENT) || self.shared.connection.has_beyond(URGENT)
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
        let next = |id: LaneId, _: LaneKey| match slots.get(&id).map(|&slot| connection.pull(slot)) {
            Some(Pull::Record(bytes)) => Some(bytes),
            _ => None,
        };
        let (piece, message) = (self.bound.piece(), &mut self.message);
        while message.len() < piece && mux.fragment_of(last, piece - message.len(), next, message).is_some() {
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
    async fn farewell(&mut self, close: Close, reason: &str) {
        // What was put together and never sent is of no use any more.
        self.message.clear();
        self.take_control();
        let last = self.message.split().freeze();
        if !last.is_empty() && self.sink.send(Message::Binary(last)).await.is_err() {
            return;
        }
        let _ = self.sink.send(close_message(close, reason)).await;
    }
}

fn close_message(close: Close, reason: &str) -> Message {
    let reason = close::reason(reason).to_owned();
    Message::Close(Some(CloseFrame { code: close.websocket(), reason: reason.into() }))
}

/// Until then, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
