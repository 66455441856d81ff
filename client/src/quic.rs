//! Lanes over QUIC: control on the first bidirectional stream, each other lane on a unidirectional stream of its own.
//!
//! Sending is bound late: [`Sender`] hands over what the path takes now, so that what is sent later waits in the outbox, where it
//! can be replaced. With one of quinn's own congestion controllers the bound is quinn's send window, which then follows the path
//! (its congestion window and 25 ms of its rate).

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ConnectionError, Endpoint, IdleTimeout, MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig,
    VarInt,
};
use tandem_path::sender::{Next, Sender, Stream};
use tandem_path::{Congestion, State, quic};
use tandem_protocol::{Assembler, Close, LaneKey, LaneKind, Record, limits};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;

use crate::link::{Heard, LINGER, Lost, Source};
use crate::outbox::Command;
use crate::target::Target;
use crate::{tls, udp};

/// Bytes that quinn may hold, acknowledged out of order or not at all: where a packet was lost, what comes after it is held too.
const WINDOW_MAX: u64 = 8 << 20;
/// The least of them, with a congestion controller of quinn's.
const WINDOW_MIN: u64 = 64 << 10;
/// How often the send window follows the path.
const WINDOW_EVERY: Duration = Duration::from_millis(5);
/// Time of the path's rate that may wait in the connection.
const AHEAD: Duration = Duration::from_millis(25);
/// Records that wait between a stream's reader and the driver; then the stream is not read on, and its window closes.
const HEARD_MAX: usize = 16;

/// Pieces of a lane that are read at once; each is a packet's.
const CHUNKS: usize = 16;

type Closed = Pin<Box<dyn Future<Output = ConnectionError> + Send>>;

/// A connection over QUIC.
pub(crate) struct QuicLink {
    endpoint: Endpoint,
    connection: quinn::Connection,
    closed: Closed,
    out: Sender<LaneKey, Out>,
    /// What our congestion controller knows; `None` with one of quinn's.
    path: Option<quic::Path>,
    control: mpsc::Receiver<Result<Record, Lost>>,
    lanes: mpsc::Receiver<News>,
    received: HashMap<LaneKey, Arc<AtomicU64>>,
    window: u64,
    window_checked: Instant,
    /// When there is something to do although nothing happens.
    alarm: Pin<Box<Sleep>>,
    /// Nothing can be written any more.
    broken: Option<Lost>,
    /// Reading tasks; they end with the link.
    _readers: JoinSet<()>,
}

/// A stream to the relay.
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
        let _ = self.0.reset(VarInt::from_u32(0));
    }
}

/// What a stream's reader says.
enum News {
    Opened(LaneKey, Arc<AtomicU64>),
    Record(LaneKey, Record),
    Progress,
    Ended(LaneKey, Arc<AtomicU64>),
    Broken(Lost),
}

impl std::fmt::Debug for QuicLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicLink").field("remote", &self.connection.remote_address()).finish_non_exhaustive()
    }
}

/// Connects to one of the target's addresses.
pub(crate) async fn connect(target: &Target, congestion: Congestion) -> Result<QuicLink, Lost> {
    let tls = tls::config(target, limits::ALPN_QUIC).map_err(Lost::path)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(Lost::path)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(congestion)));
    let addresses = target.addresses().await.map_err(Lost::path)?;
    let mut failure = Lost::path("the address leads nowhere");
    for address in addresses {
        match connect_to(address, &config, target).await {
            Ok(link) => return Ok(link),
            Err(lost) => failure = lost,
        }
    }
    Err(failure)
}

async fn connect_to(
    address: SocketAddr,
    config: &quinn::ClientConfig,
    target: &Target,
) -> Result<QuicLink, Lost> {
    let local: SocketAddr =
        if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.parse().map_err(Lost::path)?;
    let endpoint = udp::endpoint(local).map_err(Lost::path)?;
    let connecting =
        endpoint.connect_with(config.clone(), address, &target.server_name()).map_err(Lost::path)?;
    let connection = connecting.await.map_err(lost)?;
    let (send, receive) = connection.open_bi().await.map_err(lost)?;
    Ok(QuicLink::new(endpoint, connection, send, receive))
}

fn transport(congestion: Congestion) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(1452);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(Duration::from_secs(60)).ok())
        .keep_alive_interval(None)
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(limits::LANES_TO_CLIENT_MAX as u32))
        .stream_receive_window(VarInt::from_u32(limits::CREDIT_SCREEN as u32))
        .receive_window(VarInt::from_u32(64 << 20))
        .congestion_controller_factory(congestion.factory())
        .send_window(WINDOW_MAX)
        .send_fairness(false)
        .datagram_receive_buffer_size(None);
    transport
}

impl QuicLink {
    fn new(endpoint: Endpoint, connection: quinn::Connection, send: SendStream, receive: RecvStream) -> Self {
        let mut readers = JoinSet::new();
        let (control_in, control) = mpsc::channel(HEARD_MAX);
        readers.spawn(read_control(receive, control_in));
        let (lanes_in, lanes) = mpsc::channel(HEARD_MAX);
        readers.spawn(accept(connection.clone(), lanes_in));
        let waiting = connection.clone();
        let path = quic::Path::of(connection.congestion_state());
        let mut out = Sender::default();
        out.adopt(LaneKey::CONTROL, LaneKey::CONTROL, Out(send));
        Self {
            endpoint,
            connection,
            closed: Box::pin(async move { waiting.closed().await }),
            out,
            path,
            control,
            lanes,
            received: HashMap::new(),
            window: WINDOW_MAX,
            window_checked: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            broken: None,
            _readers: readers,
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source,
        lanes: bool,
    ) -> Poll<Result<Heard, Lost>> {
        self.command(source);
        if self.broken.is_none()
            && let Err(lost) = self.pump(cx, source)
        {
            self.broken = Some(lost);
            self.alarm.as_mut().reset((Instant::now() + LINGER).into());
        }
        if let Poll::Ready(Some(record)) = self.control.poll_recv(cx) {
            return Poll::Ready(record.map(Heard::Control));
        }
        while lanes && let Poll::Ready(Some(news)) = self.lanes.poll_recv(cx) {
            if let Some(heard) = self.news(news) {
                return Poll::Ready(heard);
            }
        }
        if let Poll::Ready(error) = self.closed.as_mut().poll(cx) {
            return Poll::Ready(Err(lost(error)));
        }
        // Why the connection is gone says more than that a write failed, and may be on its way.
        if self.broken.is_some() {
            ready!(self.alarm.as_mut().poll(cx));
        }
        self.broken.take().map_or(Poll::Pending, |lost| Poll::Ready(Err(lost)))
    }

    fn news(&mut self, news: News) -> Option<Result<Heard, Lost>> {
        Some(Ok(match news {
            News::Opened(key, received) => {
                self.received.insert(key, received);
                Heard::Opened(key)
            }
            News::Record(key, record) => Heard::Record(key, record),
            News::Progress => Heard::Progress,
            News::Ended(key, received) => {
                // A later opening of the same lane has replaced it already.
                self.received.get(&key).filter(|now| Arc::ptr_eq(now, &received))?;
                self.received.remove(&key);
                Heard::Ended(key)
            }
            News::Broken(lost) => return Some(Err(lost)),
        }))
    }

    fn command(&mut self, source: &impl Source) {
        for command in source.commands() {
            match command {
                Command::Open(key) => {
                    let connection = self.connection.clone();
                    let opening = async move { Ok(Out(connection.open_uni().await?)) };
                    // Every display counts as focused: which one is, the relay knows.
                    self.out.open(key, key, true, Box::pin(opening));
                }
                Command::Finish(key) => self.out.finish(key),
                Command::Reset(key) => self.out.reset(key),
            }
        }
    }

    /// Writes what the connection takes, and sees to it that we come back when it takes more.
    fn pump(&mut self, cx: &mut Context<'_>, source: &impl Source) -> Result<(), Lost> {
        loop {
            let now = Instant::now();
            let state = self.follow_path(now);
            if self.path.as_ref().is_some_and(|path| path.speak(now)) {
                source.ping();
            }
            let next = |key| source.next(key).map_or(Next::Nothing, Next::Record);
            let more = self.out.pump(cx, self.path.as_ref(), now, next).map_err(Lost::path)?;
            source.path(State { unsent: self.out.unsent(), ..state });
            let speaks = self.path.as_ref().and_then(quic::Path::speaks_at);
            let Some(at) = more.into_iter().chain(speaks).min() else { return Ok(()) };
            self.alarm.as_mut().reset(at.into());
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    /// What is known of the path. With a controller of quinn's the send window follows it.
    fn follow_path(&mut self, now: Instant) -> State {
        if let Some(path) = &self.path {
            return path.state();
        }
        let path = self.connection.stats().path;
        let rtt = path.rtt.max(Duration::from_millis(1));
        let rate = path.cwnd as f64 / rtt.as_secs_f64();
        if now.saturating_duration_since(self.window_checked) >= WINDOW_EVERY {
            self.window_checked = now;
            let window = path.cwnd.saturating_add((rate * AHEAD.as_secs_f64()) as u64);
            let window = window.clamp(WINDOW_MIN, WINDOW_MAX);
            if window.abs_diff(self.window) > self.window / 8 {
                self.window = window;
                self.connection.set_send_window(window);
            }
        }
        State { rate, rtt_min: rtt, window: path.cwnd, ..State::default() }
    }

    /// Goes on from another port, and from the address that this computer has now: what lies between may have forgotten the
    /// old one. The connection stays what it is.
    pub(crate) fn rebind(&self) {
        let Ok(local) = self.endpoint.local_addr() else { return };
        if let Err(error) = udp::rebind(&self.endpoint, SocketAddr::new(local.ip(), 0)) {
            tracing::debug!(%error, "no other port");
        }
    }

    pub(crate) fn received(&self, lane: LaneKey) -> u64 {
        self.received.get(&lane).map_or(0, |received| received.load(Ordering::Relaxed))
    }

    pub(crate) async fn close(self, close: Close, reason: &str) {
        self.connection.close(VarInt::from_u32(close.number().into()), reason.as_bytes());
        let _ = tokio::time::timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

async fn read_control(mut stream: RecvStream, heard: mpsc::Sender<Result<Record, Lost>>) {
    let mut buffer = BytesMut::new();
    loop {
        match Record::split_from(LaneKind::Control, &mut buffer) {
            Ok(Some(record)) => {
                if heard.send(Ok(record)).await.is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read_chunk(limits::CONTROL_BODY_MAX, true).await {
                Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                // The connection says why.
                Ok(None) | Err(_) => return,
            },
            Err(error) => {
                let _ = heard.send(Err(Lost::protocol(error))).await;
                return;
            }
        }
    }
}

/// Accepts the relay's lanes, one reader each.
async fn accept(connection: quinn::Connection, heard: mpsc::Sender<News>) {
    let mut readers = JoinSet::new();
    let mut open: HashMap<LaneKey, AbortHandle> = HashMap::new();
    while let Ok(mut stream) = connection.accept_uni().await {
        while readers.try_join_next().is_some() {}
        let mut opening = [0; LaneKey::OPENING_LEN];
        if stream.read_exact(&mut opening).await.is_err() {
            continue;
        }
        let key = match LaneKey::parse(opening) {
            Ok(key) => key,
            Err(error) => {
                let _ = heard.send(News::Broken(Lost::protocol(error))).await;
                return;
            }
        };
        let received = Arc::new(AtomicU64::new(0));
        if heard.send(News::Opened(key, received.clone())).await.is_err() {
            return;
        }
        let reader = readers.spawn(read_lane(stream, key, received, heard.clone()));
        if let Some(earlier) = open.insert(key, reader) {
            earlier.abort();
        }
    }
}

async fn read_lane(
    mut stream: RecvStream,
    key: LaneKey,
    received: Arc<AtomicU64>,
    heard: mpsc::Sender<News>,
) {
    let mut records = Assembler::new(key.kind);
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
        let bytes = chunks[..count].iter().map(|chunk| chunk.len() as u64).sum();
        received.fetch_add(bytes, Ordering::Relaxed);
        // Whoever is behind with reading will see the count anyway.
        let _ = heard.try_send(News::Progress);
        for chunk in &mut chunks[..count] {
            // Let go of afterwards: it keeps all that came with it.
            let chunk = std::mem::take(chunk);
            let mut rest = &chunk[..];
            loop {
                let news = match records.next(&mut rest) {
                    Ok(Some(record)) => News::Record(key, record),
                    Ok(None) => break,
                    Err(error) => {
                        let _ = heard.send(News::Broken(Lost::protocol(error))).await;
                        return;
                    }
                };
                if heard.send(news).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = heard.send(News::Ended(key, received)).await;
}

fn lost(error: ConnectionError) -> Lost {
    match error {
        ConnectionError::ApplicationClosed(closed) => Lost {
            close: Some(Close::from_number(closed.error_code.into_inner())),
            reason: String::from_utf8_lossy(&closed.reason).into_owned(),
        },
        other => Lost::path(other),
    }
}
