//! What the bindings have in common: a link carries lanes, whichever way.

use std::fmt::Display;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tandem_path::State;
use tandem_protocol::message::{Control, control};
use tandem_protocol::mux::LaneId;
use tandem_protocol::{Close, LaneKey, Record};

use crate::outbox::Command;
use crate::quic::QuicLink;
use crate::websocket::WebSocketLink;

/// How long what is last said on a connection may take, from either end: to leave, or to come.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// One connection to a relay.
#[derive(Debug)]
pub(crate) enum Link {
    Quic(Box<QuicLink>),
    WebSocket(Box<WebSocketLink>),
}

/// Where a link's records come from, when it can send them.
pub(crate) trait Source {
    /// What to do to lanes first.
    fn commands(&self) -> Vec<Command>;
    /// The next record of a lane.
    fn next(&self, lane: LaneKey) -> Option<Bytes>;
    /// A control record for this credit.
    fn credit(&self, lane: LaneId, bytes: u64);
    /// A control record that asks for an answer: the path has been silent for a while.
    fn ping(&self);
    /// What the link knows of its path.
    fn path(&self, state: State);
}

/// What a link heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Control(Record),
    Opened(LaneKey),
    Record(LaneKey, Record),
    /// Part of a record has arrived on some lane.
    Progress,
    Ended(LaneKey),
}

/// Why a link ended.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// The code, when there was one: ours or the relay's.
    pub close: Option<Close>,
    pub reason: String,
}

impl Lost {
    /// The path failed.
    pub(crate) fn path(reason: impl Display) -> Self {
        Self { close: None, reason: reason.to_string() }
    }

    /// The relay did what it may not.
    pub(crate) fn protocol(reason: impl Display) -> Self {
        Self { close: Some(Close::INTERNAL), reason: format!("the relay sent nonsense: {reason}") }
    }
}

impl Link {
    /// Sends what can be sent and answers with what was heard. Lanes are read only while `lanes` is set; control always.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source,
        lanes: bool,
    ) -> Poll<Result<Heard, Lost>> {
        match self {
            Self::Quic(link) => link.poll(cx, source, lanes),
            Self::WebSocket(link) => link.poll(cx, source, lanes),
        }
    }

    /// Record bytes of a lane that have arrived since it opened.
    pub(crate) fn received(&self, lane: LaneKey) -> u64 {
        match self {
            Self::Quic(link) => link.received(lane),
            Self::WebSocket(link) => link.received(lane),
        }
    }

    /// The relay allows more on a lane of ours (WebSocket only).
    pub(crate) fn credit(&mut self, lane: u32, bytes: u64) {
        if let (Self::WebSocket(link), Ok(id)) = (self, u16::try_from(lane)) {
            link.credit(LaneId(id), bytes);
        }
    }

    /// Nothing has been heard for a while: tries whether that is the way back to us.
    pub(crate) fn rebind(&self) {
        if let Self::Quic(link) = self {
            link.rebind();
        }
    }

    /// Gives up what is half sent, where a connection may be left for another one. Answers it whole.
    pub(crate) fn take_back(&mut self) -> Vec<(LaneKey, Bytes)> {
        match self {
            Self::Quic(_) => Vec::new(),
            Self::WebSocket(link) => link.take_back(),
        }
    }

    /// What has arrived and waits to be read, on a connection that is left.
    pub(crate) fn rest(&mut self) -> Vec<Heard> {
        match self {
            Self::Quic(_) => Vec::new(),
            Self::WebSocket(link) => link.rest(),
        }
    }

    /// Waits until what was handed over has left, on a connection that is left.
    pub(crate) async fn flush(&mut self) {
        match self {
            Self::Quic(_) => {}
            Self::WebSocket(link) => link.flush().await,
        }
    }

    /// Says farewell, and waits for that to leave.
    pub(crate) async fn close(self, close: Close, reason: &str) {
        let reason = tandem_protocol::close::reason(reason);
        match self {
            Self::Quic(link) => link.close(close, reason).await,
            Self::WebSocket(link) => link.close(close, reason).await,
        }
    }

    /// Sends the first record and waits for the relay's first answer.
    pub(crate) async fn exchange(&mut self, hello: Bytes) -> Result<control::Message, Lost> {
        let source = Once(parking_lot::Mutex::new(Some(hello)));
        loop {
            let heard = std::future::poll_fn(|cx| self.poll(cx, &source, false)).await?;
            if let Heard::Control(record) = heard
                && let Some(message) = Control::decode_body(record.body()).map_err(Lost::protocol)?
            {
                return Ok(message);
            }
        }
    }
}

/// A source of one control record.
struct Once(parking_lot::Mutex<Option<Bytes>>);

impl Source for Once {
    fn commands(&self) -> Vec<Command> {
        Vec::new()
    }

    fn next(&self, lane: LaneKey) -> Option<Bytes> {
        self.0.lock().take_if(|_| lane == LaneKey::CONTROL)
    }

    fn credit(&self, _lane: LaneId, _bytes: u64) {}

    fn ping(&self) {}

    fn path(&self, _state: State) {}
}
