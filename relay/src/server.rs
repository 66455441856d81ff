//! The daemon: builds the pieces in order, listens, and ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use axum::Router;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tandem_path::Congestion;
use tandem_protocol::{Close, limits};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::admission::{Admitter, Desk, TicketKey, TokenKeys};
use crate::config::{Config, State, Tls};
use crate::http::{self, Public};
use crate::metrics::{Binding, Metrics};
use crate::operations::{self, Operations};
use crate::relay::Relay;
use crate::tls::{self, ALPN_TCP, ALPN_UDP, Certificates};
use crate::transport::quic;
use crate::transport::tcp::Tcp;

/// Time for a TLS handshake, and for an HTTP request's head.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// UDP buffers that are asked for; the system may grant less.
const UDP_BUFFER: usize = 4 << 20;
/// Bytes that quinn may hold for a connection: with our congestion control, which bounds what is unsent itself, room for what
/// comes after a lost packet; otherwise so much to begin with.
const SEND_WINDOW: u32 = 8 << 20;
const SEND_WINDOW_FIRST: u32 = 512 << 10;
/// How long connections may take to end in order.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A relay that listens.
#[derive(Debug)]
pub struct Server {
    relay: Arc<Relay>,
    certificates: Arc<Certificates>,
    tcp: TcpListener,
    plain_http: bool,
    congestion: Congestion,
    quic: Option<Endpoint>,
    operations: Option<TcpListener>,
    router: Router,
    connections: TaskTracker,
}

/// What the daemon needs of a desk, beside its codes.
#[derive(Debug)]
pub struct DeskParts {
    /// Codes, and what became of sessions.
    pub desk: Arc<dyn Desk>,
    /// Its public key.
    pub keys: Vec<[u8; 32]>,
    /// Its HTTP API.
    pub routes: Router,
}

impl Server {
    /// Binds everything. `desk` is handed the relay's end-a-session function through `relay`, which is made here.
    ///
    /// # Errors
    /// If a port, certificate or state directory cannot be had.
    pub async fn bind(config: Config, desk: DeskParts) -> anyhow::Result<Self> {
        if let State::Directory(directory) = &config.state {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the state directory {}", directory.display()))?;
        }
        let certificates = Certificates::load(config.tls.clone(), config.listen.ip())?;
        let ticket_key = match &config.state {
            State::Nowhere => {
                warn!("no state directory: a restart will end every session");
                TicketKey::ephemeral()?
            }
            State::Directory(directory) => TicketKey::load(&directory.join("ticket.key"))?,
        };
        let (tcp, udp) = listen(config.listen, config.udp).await?;
        let port = tcp.local_addr()?.port();
        let quic = udp.map(|udp| endpoint(udp, &certificates, &ticket_key, config.congestion)).transpose()?;
        let operations = match config.operations {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address} (operations)"))?,
            ),
        };
        let keys: Vec<[u8; 32]> = desk.keys.iter().chain(&config.token_keys).copied().collect();
        let tokens = TokenKeys::new(config.audience, &keys);
        let admitter = Admitter::new(desk.desk, tokens, ticket_key);
        let relay = Arc::new(Relay::new(admitter, Arc::new(Metrics::new()), config.timing));
        let connections = TaskTracker::new();
        let public = Public {
            relay: relay.clone(),
            certificates: certificates.clone(),
            quic_port: quic.as_ref().map(|_| port),
            connections: connections.clone(),
            congestion: config.congestion,
        };
        let router = http::router(public, desk.routes);
        let plain_http = matches!(config.tls, Tls::SelfSigned { .. });
        let congestion = config.congestion;
        Ok(Self { relay, certificates, tcp, plain_http, congestion, quic, operations, router, connections })
    }

    /// The public address, with the port that was given.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }

    /// The private address, with the port that was given.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// SHA-256 of the certificate, if no authority has signed it.
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.certificates.hash()
    }

    /// The relay.
    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// The certificates, to be read again on request.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Serves until `stop`, then tells everybody and waits for a few seconds.
    pub async fn run(self, stop: CancellationToken) {
        let ready = Arc::new(AtomicBool::new(true));
        let listeners = TaskTracker::new();
        let tls = match self.certificates.server_config(&ALPN_TCP) {
            Ok(config) => TlsAcceptor::from(Arc::new(config)),
            Err(error) => return warn!(%error, "no TLS"),
        };
        let https = Https {
            tls,
            router: self.router,
            plain: self.plain_http,
            congestion: self.congestion,
            connections: self.connections.clone(),
        };
        listeners.spawn(accept_tcp(self.tcp, Arc::new(https), stop.clone()));
        if let Some(endpoint) = self.quic.clone() {
            let accept = accept_quic(endpoint, self.relay.clone(), self.connections.clone(), stop.clone());
            listeners.spawn(accept);
        }
        if let Some(listener) = self.operations {
            let router = operations::router(Operations { relay: self.relay.clone(), ready: ready.clone() });
            let stopped = stop.clone().cancelled_owned();
            listeners.spawn(async move {
                let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
                if let Err(error) = served {
                    warn!(%error, "the operations listener ended");
                }
            });
        }
        listeners.spawn({
            let (relay, stop) = (self.relay.clone(), stop.clone());
            async move { relay.keep_time(stop).await }
        });
        listeners.spawn(renew(self.certificates.clone(), self.plain_http, stop.clone()));
        listeners.close();
        stop.cancelled().await;
        ready.store(false, Ordering::Relaxed);
        info!(sessions = self.relay.session_count(), "stopping");
        self.relay.go_away();
        self.connections.close();
        if tokio::time::timeout(STOP_TIME, self.connections.wait()).await.is_err() {
            warn!(left = self.connections.len(), "connections did not end in time");
        }
        if let Some(endpoint) = self.quic {
            endpoint.close(VarInt::from_u32(Close::GOING_AWAY.number().into()), b"");
            endpoint.wait_idle().await;
        }
        let _ = tokio::time::timeout(STOP_TIME, listeners.wait()).await;
        info!("stopped");
    }
}

/// Makes self-signed certificates anew before browsers refuse them.
async fn renew(certificates: Arc<Certificates>, self_signed: bool, stop: CancellationToken) {
    if !self_signed {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(tls::RENEW_AFTER) => {}
        }
        if let Err(error) = certificates.renew() {
            warn!(%error, "cannot renew the self-signed certificate");
        }
    }
}

/// Binds TCP and, on the same port number, UDP. A port of 0 is one that both have.
async fn listen(address: SocketAddr, udp: bool) -> anyhow::Result<(TcpListener, Option<UdpSocket>)> {
    let mut tries = 20;
    loop {
        let tcp =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (TCP)"))?;
        if !udp {
            return Ok((tcp, None));
        }
        let same = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
        match bind_udp(same) {
            Ok(udp) => return Ok((tcp, Some(udp))),
            Err(_) if address.port() == 0 && tries > 0 => tries -= 1,
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {same} (UDP)")),
        }
    }
}

fn bind_udp(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(UDP_BUFFER)?;
    socket.set_send_buffer_size(UDP_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Linux reports twice what it grants.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < UDP_BUFFER {
        info!(
            wanted = UDP_BUFFER,
            granted, "small UDP buffers: raise net.core.rmem_max and wmem_max for bulk throughput"
        );
    }
    UdpSocket::from_std(socket.into())
}

fn endpoint(
    udp: UdpSocket,
    certificates: &Arc<Certificates>,
    key: &TicketKey,
    congestion: Congestion,
) -> anyhow::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(certificates.server_config(&ALPN_UDP)?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(congestion)?));
    let runtime = quinn::default_runtime().context("not in a tokio runtime")?;
    Ok(Endpoint::new(endpoint_config(key), Some(config), udp.into_std()?, runtime)?)
}

/// A relay that was killed and is back tells clients of before so, by a stateless reset (RFC 9000, section 10.3), instead of
/// leaving them to wait: for that its keys must be those of before.
fn endpoint_config(key: &TicketKey) -> EndpointConfig {
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &key.derive("quic stateless reset"));
    let [a, b, c, d, e, f, g, h, ..] = key.derive("quic connection ids");
    let ids = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

fn transport_config(congestion: Congestion) -> anyhow::Result<TransportConfig> {
    let mut config = TransportConfig::default();
    // Lanes, and the streams that HTTP/3 needs for itself.
    config.max_concurrent_uni_streams(VarInt::from_u32(limits::LANES_MAX as u32 + 8));
    config.max_concurrent_bidi_streams(VarInt::from_u32(8));
    config.max_idle_timeout(Some(Duration::from_secs(60).try_into()?));
    config.stream_receive_window(VarInt::from_u32(1 << 20));
    // Above the sum of what lanes may hold up, so that none of them stops the others.
    config.receive_window(VarInt::from_u32((limits::LANES_MAX as u32 + 8) << 20));
    let ours = congestion == Congestion::Delay;
    config.send_window(if ours { SEND_WINDOW } else { SEND_WINDOW_FIRST }.into());
    config.congestion_controller_factory(congestion.factory());
    config.send_fairness(false);
    config.datagram_receive_buffer_size(None);
    Ok(config)
}

async fn accept_quic(
    endpoint: Endpoint,
    relay: Arc<Relay>,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let span = info_span!("client", address = %incoming.remote_address());
        connections.spawn(serve_quic(incoming, relay.clone()).instrument(span));
    }
}

async fn serve_quic(incoming: Incoming, relay: Arc<Relay>) {
    let handshake = async {
        let connection = incoming.await?;
        let data = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        if data.and_then(|data| data.protocol).as_deref() == Some(limits::ALPN_QUIC) {
            return Ok((web_transport_quinn::Session::raw(connection), Binding::Quic));
        }
        let request = web_transport_quinn::Request::accept(connection).await?;
        if request.connect().url.path() != limits::CONNECT_PATH {
            request.reject(::http::StatusCode::NOT_FOUND).await?;
            anyhow::bail!("not the path of the relay");
        }
        anyhow::Ok((request.ok().await?, Binding::WebTransport))
    };
    match tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
        Ok(Ok((session, binding))) => quic::serve(session, binding, relay).await,
        Ok(Err(error)) => debug!(%error, "no handshake"),
        Err(_) => debug!("no handshake in time"),
    }
}

/// What serves the TCP side of the public port.
struct Https {
    tls: TlsAcceptor,
    router: Router,
    /// Whether HTTP without TLS is taken too: on loopback, for trying out.
    plain: bool,
    congestion: Congestion,
    connections: TaskTracker,
}

async fn accept_tcp(listener: TcpListener, https: Arc<Https>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let span = info_span!("client", %address);
                let serve = serve_tcp(stream, https.clone(), stop.clone());
                https.connections.spawn(serve.instrument(span));
            }
            Err(error) => {
                // Out of descriptors, most likely: others end before more can begin.
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_tcp(stream: TcpStream, https: Arc<Https>, stop: CancellationToken) {
    tandem_path::tcp::prepare(&SockRef::from(&stream), https.congestion);
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIME, stream.peek(&mut first)).await;
    let tcp = Tcp::new(stream);
    // A TLS record of a handshake begins with 22 (RFC 8446, section 5.1); a request does not.
    match peeked {
        Ok(Ok(1)) if first[0] == 22 => {
            match tokio::time::timeout(HANDSHAKE_TIME, https.tls.accept(tcp.clone())).await {
                Ok(Ok(stream)) => serve_http(stream, tcp, &https, stop).await,
                Ok(Err(error)) => debug!(%error, "no TLS handshake"),
                Err(_) => debug!("no TLS handshake in time"),
            }
        }
        Ok(Ok(1)) if https.plain => serve_http(tcp.clone(), tcp, &https, stop).await,
        _ => debug!("no handshake"),
    }
}

async fn serve_http<S>(stream: S, tcp: Tcp, https: &Https, stop: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(https.router.clone());
    let service = service_fn(move |mut request: ::http::Request<Body>| {
        // For who upgrades to a WebSocket.
        request.extensions_mut().insert(tcp.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection ended");
    }
}
