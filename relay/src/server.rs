//! The daemon: builds the pieces in order, listens, and ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use quinn::{Endpoint, VarInt};
use tandem_path::Congestion;
use tandem_protocol::Close;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admission::{Admitter, Desk, Door, Revocations, TicketKey, TokenKeys, unix_seconds};
use crate::config::{Config, State, Tls};
use crate::drain::{self, Drain};
use crate::http::{self, Public};
use crate::limits::{self, Limits};
use crate::metrics::{Direction, Metrics};
use crate::operations::{self, Operations};
use crate::private_file;
use crate::relay::Relay;
use crate::tls::{self, ALPN_TCP, Certificates};
use crate::transport::https::{self, Https};
use crate::transport::listen::{UDP_BUFFER, buffers, listen};
use crate::transport::udp::{self, Front};

/// How long connections may take to end in order.
const STOP_TIME: Duration = Duration::from_secs(5);
/// And how long their last packets are repeated to who may not have had them: a path that has become silent is not waited for.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A relay that listens.
#[derive(Debug)]
pub struct Server {
    relay: Arc<Relay>,
    certificates: Arc<Certificates>,
    tls: Arc<ServerConfig>,
    tcp: TcpListener,
    plain_http: bool,
    congestion: Congestion,
    quic: Option<Endpoint>,
    operations: Option<TcpListener>,
    router: Router,
    door: Arc<Door>,
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
            private_file::directory(directory)?;
        }
        let certificates = Certificates::load(config.tls.clone(), config.listen.ip())?;
        let tls = Arc::new(certificates.server_config(&ALPN_TCP)?);
        let ticket_key = match &config.state {
            State::Nowhere => {
                warn!("no state directory: a restart will end every session");
                TicketKey::ephemeral()?
            }
            State::Directory(directory) => TicketKey::load(&directory.join("ticket.key"))?,
        };
        let (tcp, udp) = listen(config.listen, config.udp).await?;
        let port = tcp.local_addr()?.port();
        let buffers = udp.as_ref().map(buffers).transpose()?;
        let quic =
            udp.map(|udp| udp::endpoint(udp, &certificates, &ticket_key, config.congestion)).transpose()?;
        let operations = match config.operations {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address} (operations)"))?,
            ),
        };
        let keys: Vec<[u8; 32]> = desk.keys.iter().chain(&config.token_keys).copied().collect();
        let tokens = TokenKeys::new(config.audience, &keys, config.token_directory)?;
        let revoked = match &config.state {
            State::Nowhere => None,
            State::Directory(directory) => Some(directory.join("revoked.json")),
        };
        let revocations = Revocations::load(revoked, unix_seconds(SystemTime::now()))?;
        let mut admitter = Admitter::new(desk.desk, tokens, ticket_key, revocations);
        if let State::Directory(directory) = &config.state {
            admitter.keep(directory.join("used-tokens.json"))?;
        }
        let metrics = Arc::new(Metrics::new());
        let limits = within_descriptors(config.limits);
        let door = Arc::new(Door::new(limits, metrics.clone()));
        let mut relay = Relay::new(admitter, metrics, config.timing, limits, Drain::new(config.drain));
        if let State::Directory(directory) = &config.state {
            relay.keep(directory.join("ended-sessions"))?;
        }
        let relay = Arc::new(relay);
        if let Some(granted) = buffers {
            let granted = [(Direction::Receive, granted.receive), (Direction::Send, granted.send)];
            relay.metrics().udp_buffers(UDP_BUFFER, granted);
        }
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
        Ok(Self {
            relay,
            certificates,
            tls,
            tcp,
            plain_http,
            congestion,
            quic,
            operations,
            router,
            door,
            connections,
        })
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

    /// Serves until it is out of service: `stop` begins that, or a request on the private listener ([`drain`]).
    pub async fn run(self, stop: CancellationToken) {
        // Everything is open until nobody needs it any more.
        let halt = CancellationToken::new();
        let listeners = TaskTracker::new();
        let https = Https {
            tls: TlsAcceptor::from(self.tls),
            router: self.router,
            plain: self.plain_http,
            congestion: self.congestion,
            connections: self.connections.clone(),
            door: self.door.clone(),
        };
        listeners.spawn(https::accept(self.tcp, Arc::new(https), halt.clone()));
        if let Some(endpoint) = self.quic.clone() {
            let door = Front { relay: self.relay.clone(), door: self.door.clone() };
            let accept = udp::accept(endpoint, door, self.connections.clone(), halt.clone());
            listeners.spawn(accept);
        }
        if let Some(listener) = self.operations {
            let router = operations::router(Operations {
                relay: self.relay.clone(),
                certificates: self.certificates.clone(),
            });
            let router = router.merge(drain::routes(self.relay.clone()));
            let stopped = halt.clone().cancelled_owned();
            listeners.spawn(async move {
                let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
                if let Err(error) = served {
                    warn!(%error, "the operations listener ended");
                }
            });
        }
        listeners.spawn({
            let (relay, halt) = (self.relay.clone(), halt.clone());
            async move { relay.keep_time(halt).await }
        });
        listeners.spawn({
            let (relay, halt) = (self.relay.clone(), halt.clone());
            async move { relay.admitter().tokens.watch(halt).await }
        });
        listeners.spawn(renew(self.certificates.clone(), self.plain_http, halt.clone()));
        listeners.close();
        drain::run(&self.relay, &stop).await;
        halt.cancel();
        self.connections.close();
        let by = tokio::time::Instant::now() + STOP_TIME;
        if tokio::time::timeout_at(by, self.connections.wait()).await.is_err() {
            warn!(left = self.connections.len(), "connections did not end in time");
        }
        if let Some(endpoint) = self.quic {
            endpoint.close(VarInt::from_u32(Close::GOING_AWAY.number().into()), b"");
            let _ = tokio::time::timeout(LAST_WORD, endpoint.wait_idle()).await;
        }
        let _ = tokio::time::timeout_at(by + LAST_WORD, listeners.wait()).await;
        info!("stopped");
    }
}

/// No more TCP connections than this process may have open.
fn within_descriptors(limits: Limits) -> Limits {
    let descriptors = limits::raise_descriptors();
    let room = usize::try_from(descriptors.saturating_sub(limits::DESCRIPTORS_KEPT)).unwrap_or(usize::MAX);
    if room < limits.tcp_connections {
        info!(
            descriptors,
            tcp_connections = room,
            "fewer TCP connections than configured: raise the limit of open files"
        );
    }
    Limits { tcp_connections: limits.tcp_connections.min(room), ..limits.resolved() }
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
