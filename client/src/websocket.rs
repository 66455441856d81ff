//! Lanes over a WebSocket: fragments, chosen one by one when the socket can take them.
//!
//! Sending is bound late: the next message is put together only when the one before it has left, a few milliseconds of the path's
//! rate at a time, and only while what the socket holds is no more than the path does ([`Bound`]). Control, input and cursors go
//! at once. Where the system does not tell what a socket holds, it is at most 16 KiB unsent, and a fragment at most 10 ms of the
//! rate that the socket showed while it was busy.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream};
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tandem_path::Congestion;
use tandem_path::tcp::{self, Bound};
use tandem_protocol::mux::{Event, Incoming, LaneId, Outgoing, Side};
use tandem_protocol::{Close, LaneKey, LaneKind, Priority, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::link::{Heard, LINGER, Lost, Source};
use crate::outbox::Command;
use crate::proxy::{self, Proxy};
use crate::target::Target;
use crate::tls;

/// Bytes that are read at once. They are filled with zeros before each read.
const READ_BUFFER: usize = 16 << 10;

trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// A connection over a WebSocket.
pub(crate) struct WebSocketLink {
    socket: WebSocketStream<Box<dyn Bytestream>>,
    /// A message has been handed over and not left altogether.
    flushing: bool,
    out: Outgoing,
    out_ids: HashMap<LaneKey, LaneId>,
    message: BytesMut,
    meter: Meter,
    /// The connection's TCP socket, to be asked.
    tcp: socket2::Socket,
    bound: Bound,
    /// When there may be room again.
    alarm: Pin<Box<Sleep>>,
    incoming: Incoming,
    in_ids: HashMap<LaneKey, LaneId>,
    control: VecDeque<Heard>,
    /// Bounded by the credit that was granted.
    lanes: VecDeque<(LaneId, Heard)>,
}

impl std::fmt::Debug for WebSocketLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketLink").field("lanes", &self.out_ids.len()).finish_non_exhaustive()
    }
}

/// Connects to one of the target's addresses, or through a proxy, which finds them itself.
pub(crate) async fn connect(
    target: &Target,
    proxy: Option<&Proxy>,
    congestion: Congestion,
) -> Result<WebSocketLink, Lost> {
    let tcp = match proxy {
        Some(proxy) => proxy::connect(proxy, target).await?,
        None => {
            let addresses = target.addresses().await.map_err(Lost::path)?;
            TcpStream::connect(&addresses[..]).await.map_err(Lost::path)?
        }
    };
    tcp::prepare(&SockRef::from(&tcp), congestion);
    let asked = SockRef::from(&tcp).try_clone().map_err(Lost::path)?;
    let stream: Box<dyn Bytestream> = if target.is_secure() {
        let config = tls::config(target, b"http/1.1").map_err(Lost::path)?;
        let name = ServerName::try_from(target.server_name()).map_err(Lost::path)?;
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let mut tls = connector.connect(name, tcp).await.map_err(Lost::path)?;
        tls.get_mut().1.set_buffer_limit(Some(tcp::NOTSENT as usize));
        Box::new(tls)
    } else {
        Box::new(tcp)
    };
    let scheme = if target.is_secure() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{}", target.authority(), limits::CONNECT_PATH);
    let mut request = url.into_client_request().map_err(Lost::path)?;
    let protocol = HeaderValue::from_static(limits::WEBSOCKET_PROTOCOL);
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * limits::MESSAGE_MAX)
        .max_message_size(Some(limits::MESSAGE_MAX))
        .max_frame_size(Some(limits::MESSAGE_MAX));
    let connected = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = connected.map_err(lost)?;
    Ok(WebSocketLink::new(socket, asked, congestion))
}

impl WebSocketLink {
    fn new(
        socket: WebSocketStream<Box<dyn Bytestream>>,
        tcp: socket2::Socket,
        congestion: Congestion,
    ) -> Self {
        Self {
            socket,
            flushing: false,
            out: Outgoing::new(Side::Client),
            out_ids: HashMap::from([(LaneKey::CONTROL, LaneId::CONTROL)]),
            message: BytesMut::new(),
            meter: Meter::default(),
            tcp,
            bound: Bound::new(congestion),
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            incoming: Incoming::new(Side::Relay),
            in_ids: HashMap::new(),
            control: VecDeque::new(),
            lanes: VecDeque::new(),
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source,
        lanes: bool,
    ) -> Poll<Result<Heard, Lost>> {
        loop {
            self.command(source);
            if let Poll::Ready(Err(lost)) = self.pump(cx, source) {
                // What came before the socket failed may say why.
                return self.read(cx, source).map(|read| Err(read.err().unwrap_or(lost)));
            }
            if let Some(heard) = self.heard(source, lanes) {
                return Poll::Ready(Ok(heard));
            }
            if let Err(lost) = ready!(self.read(cx, source)) {
                return Poll::Ready(Err(lost));
            }
        }
    }

    fn heard(&mut self, source: &impl Source, lanes: bool) -> Option<Heard> {
        if let Some(heard) = self.control.pop_front() {
            return Some(heard);
        }
        let (id, heard) = self.lanes.pop_front_if(|_| lanes)?;
        if let Heard::Record(_, record) = &heard
            && let Some(limit) = self.incoming.consumed(id, record.bytes.len())
        {
            source.credit(id, limit);
        }
        Some(heard)
    }

    /// Reads one message.
    fn read(&mut self, cx: &mut Context<'_>, source: &impl Source) -> Poll<Result<(), Lost>> {
        match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(Message::Binary(message))) => Poll::Ready(self.message(&message, source)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Poll::Ready(Ok(())),
            Some(Ok(Message::Close(frame))) => Poll::Ready(Err(farewell(frame))),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                Poll::Ready(Err(Lost::protocol("a text message")))
            }
            Some(Err(error)) => Poll::Ready(Err(lost(error))),
            None => Poll::Ready(Err(Lost::path("the connection ended"))),
        }
    }

    fn message(&mut self, message: &[u8], source: &impl Source) -> Result<(), Lost> {
        let before = self.lanes.len();
        let (control, lanes, in_ids) = (&mut self.control, &mut self.lanes, &mut self.in_ids);
        let result = self.incoming.message(message, |event| match event {
            Event::Opened(id, key) => {
                in_ids.insert(key, id);
                lanes.push_back((id, Heard::Opened(key)));
            }
            Event::Record(LaneId::CONTROL, _, record) => control.push_back(Heard::Control(record)),
            Event::Record(id, key, record) => lanes.push_back((id, Heard::Record(key, record))),
            Event::Finished(id, key) | Event::Reset(id, key) => {
                if in_ids.get(&key) == Some(&id) {
                    in_ids.remove(&key);
                    lanes.push_back((id, Heard::Ended(key)));
                }
            }
        });
        result.map_err(Lost::protocol)?;
        for (id, limit) in self.incoming.overdue() {
            source.credit(id, limit);
        }
        if self.lanes.len() == before {
            self.lanes.push_back((LaneId::CONTROL, Heard::Progress));
        }
        Ok(())
    }

    fn command(&mut self, source: &impl Source) {
        for command in source.commands() {
            match command {
                Command::Open(key) => {
                    let id = self.out.open(key, true);
                    self.out_ids.insert(key, id);
                }
                Command::Finish(key) => {
                    if let Some(id) = self.out_ids.remove(&key) {
                        self.out.finish(id);
                    }
                }
                Command::Reset(key) => {
                    if let Some(id) = self.out_ids.remove(&key) {
                        self.out.reset(id, &mut self.message);
                    }
                }
            }
        }
    }

    /// Sends messages while the path takes them.
    fn pump(&mut self, cx: &mut Context<'_>, source: &impl Source) -> Poll<Result<(), Lost>> {
        loop {
            if self.flushing {
                let flushed = Pin::new(&mut self.socket).poll_flush(cx);
                self.meter.flushed(flushed.is_ready(), Instant::now());
                ready!(flushed).map_err(lost)?;
                self.flushing = false;
            }
            let now = Instant::now();
            source.path(self.bound.look(&SockRef::from(&self.tcp), now));
            let open = self.bound.is_open();
            self.put_together(open, source);
            if self.message.is_empty() {
                if open {
                    return Poll::Ready(Ok(()));
                }
                self.alarm.as_mut().reset(self.bound.opens_at(now).into());
                ready!(self.alarm.as_mut().poll(cx));
                continue;
            }
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(lost)?;
            self.meter.sent(self.message.len(), now);
            if open {
                self.bound.wrote(self.message.len());
            }
            let message = Message::Binary(self.message.split().freeze());
            Pin::new(&mut self.socket).start_send(message).map_err(lost)?;
            self.flushing = true;
        }
    }

    /// Fills the next message: with one piece of all, or of what is urgent.
    fn put_together(&mut self, open: bool, source: &impl Source) {
        let piece = self.meter.fragment().min(self.bound.piece());
        let last = if open { Priority::LAST } else { Priority::URGENT };
        while self.message.len() < piece
            && self.out.fragment_of(last, piece, |_, key| source.next(key), &mut self.message).is_some()
        {
        }
    }

    /// Gives up what is half sent. Answers it whole: it goes again on another connection.
    pub(crate) fn take_back(&mut self) -> Vec<(LaneKey, Bytes)> {
        let half =
            |&(&key, &id): &(&LaneKey, &LaneId)| key.kind != LaneKind::Control && self.out.in_record(id);
        let lanes: Vec<_> = self.out_ids.iter().filter(half).map(|(&key, &id)| (key, id)).collect();
        let reset = |(key, id)| {
            self.out_ids.remove(&key);
            Some((key, self.out.reset(id, &mut self.message)?))
        };
        lanes.into_iter().filter_map(reset).collect()
    }

    /// What has arrived and waits to be read.
    pub(crate) fn rest(&mut self) -> Vec<Heard> {
        self.lanes.drain(..).map(|(_, heard)| heard).collect()
    }

    /// Sends what has been put together, and waits until it has left. A path that takes nothing is not waited for.
    pub(crate) async fn flush(&mut self) {
        let last = self.message.split().freeze();
        let flushed = async {
            if last.is_empty() {
                self.socket.flush().await
            } else {
                self.socket.send(Message::Binary(last)).await
            }
        };
        let _ = tokio::time::timeout(LINGER, flushed).await;
    }

    pub(crate) fn received(&self, lane: LaneKey) -> u64 {
        self.in_ids.get(&lane).map_or(0, |&id| self.incoming.received(id))
    }

    pub(crate) fn credit(&mut self, lane: LaneId, bytes: u64) {
        self.out.credit(lane, bytes);
    }

    pub(crate) async fn close(mut self, close: Close, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(close.websocket()), reason: reason.into() };
        let farewell = async {
            let _ = self.socket.send(Message::Close(Some(frame))).await;
            let _ = self.socket.flush().await;
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// The rate that the socket takes, while it is what we wait for.
#[derive(Debug, Default)]
struct Meter {
    /// Since when it was never idle, and the bytes since then.
    busy: Option<(Instant, u64)>,
    /// Bytes a second; 0: unknown.
    rate: f64,
}

impl Meter {
    fn sent(&mut self, bytes: usize, now: Instant) {
        self.busy.get_or_insert((now, 0)).1 += bytes as u64;
    }

    fn flushed(&mut self, done: bool, now: Instant) {
        let Some((since, bytes)) = self.busy else { return };
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= Duration::from_millis(50) {
            self.rate = bytes as f64 / elapsed.as_secs_f64();
            self.busy = None;
        } else if done {
            // It takes whatever we give it: nothing is known of a limit, and nothing needs to be.
            self.busy = None;
            self.rate *= 1.25;
        }
    }

    /// Bytes of a fragment.
    fn fragment(&self) -> usize {
        if self.rate == 0.0 {
            return limits::FRAGMENT_MAX;
        }
        let bytes = self.rate * limits::FRAGMENT_TIME.as_secs_f64();
        (bytes as usize).clamp(limits::FRAGMENT_MIN, limits::FRAGMENT_MAX)
    }
}

fn farewell(frame: Option<CloseFrame>) -> Lost {
    match frame {
        Some(frame) => {
            let close = Close::from_websocket(frame.code.into());
            Lost { close, reason: frame.reason.as_str().to_owned() }
        }
        None => Lost::path("the connection was closed"),
    }
}

fn lost(error: tungstenite::Error) -> Lost {
    match error {
        tungstenite::Error::Http(response) => {
            Lost::path(format!("the relay answered {} where a connection was asked for", response.status()))
        }
        other => Lost::path(other),
    }
}
