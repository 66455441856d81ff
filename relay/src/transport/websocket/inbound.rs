//! What a client sends over a WebSocket: its lanes, handed in record by record as their receivers have room.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tandem_protocol::message::{Credit, control};
use tandem_protocol::mux::{Event, Incoming, LaneId, MuxError, Side};
use tandem_protocol::{Close, Record};

use super::Shared;
use crate::connection::{End, Pause};
use crate::session::{Breach, LaneInstance, Taken};

/// Reads what the client sends until its connection ends, or it breaks a rule.
pub(super) async fn read(shared: &Shared, mut stream: SplitStream<WebSocket>, rest: BytesMut) -> End {
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
/// on, and so does the next one that takes the number of a lane which ended with something held. A lane's credit bounds what it can
/// send meanwhile.
struct Inbound<'a> {
    shared: &'a Shared,
    incoming: Incoming,
    /// Who has which number now.
    instances: HashMap<LaneId, LaneInstance>,
    held: BTreeMap<LaneInstance, VecDeque<Held>>,
    /// How long to wait before more is read.
    pause: Pause,
}

enum Held {
    /// It came under this number.
    Record(LaneId, Record),
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
                    if let Some(&lane) = self.instances.get(&id) {
                        self.pass(lane, Held::Record(id, record))?;
                    }
                    self.pause.extend(connection.paces.record());
                }
                // Of a lane that was given up the unfinished record is void; what had come whole before that has come.
                Event::Finished(id, _) | Event::Reset(id, _) => {
                    if let Some(lane) = self.instances.remove(&id) {
                        self.pass(lane, Held::End)?;
                    }
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
    fn pass(&mut self, lane: LaneInstance, what: Held) -> Result<(), End> {
        if let Some(held) = self.held.get_mut(&lane) {
            held.push_back(what);
        } else if let Some(what) = self.hand_in(lane, what)? {
            self.held.insert(lane, VecDeque::from([what]));
        }
        Ok(())
    }

    /// Tries again to hand in what is held.
    fn try_again(&mut self) -> Result<(), End> {
        for (lane, mut held) in std::mem::take(&mut self.held) {
            while let Some(what) = held.pop_front() {
                if let Some(what) = self.hand_in(lane, what)? {
                    held.push_front(what);
                    self.held.insert(lane, held);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The client leaves this connection: what is held is handed in now, whatever room there is.
    fn leave(&mut self) -> Result<(), End> {
        let connection = &self.shared.connection;
        let mut records = Vec::new();
        for (lane, held) in std::mem::take(&mut self.held) {
            let of = |what| if let Held::Record(_, record) = what { Some((lane, record)) } else { None };
            records.extend(held.into_iter().filter_map(of));
        }
        connection.leave_behind(&records)?;
        self.shared.leaving.store(true, Ordering::Release);
        connection.signals.any.notify_one();
        Ok(())
    }

    /// Hands it in; gives it back if there is no room.
    fn hand_in(&mut self, lane: LaneInstance, what: Held) -> Result<Option<Held>, End> {
        let connection = &self.shared.connection;
        match what {
            Held::Record(id, record) => {
                if matches!(connection.offer(lane, &record)?, Taken::NoRoom) {
                    return Ok(Some(Held::Record(id, record)));
                }
                // Who has ended its lane needs no credit for it, and whoever has its number now has its own.
                if self.instances.get(&id) == Some(&lane)
                    && let Some(bytes) = self.incoming.consumed(id, record.bytes.len())
                {
                    connection.tell(control::Message::Credit(Credit { lane: id.0.into(), bytes }));
                }
            }
            Held::End => connection.lane_ended(lane),
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
