//! The UDP side of the public port: QUIC and WebTransport, from a client's first packet to its session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use tandem_path::Congestion;
use tandem_protocol::{Close, limits};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug};

use super::quic;
use crate::admission::{Door, TicketKey, Verdict, Visitor};
use crate::connection;
use crate::metrics::{Binding, Phase};
use crate::relay::Relay;
use crate::tls::{ALPN_UDP, Certificates};

/// Bytes that quinn may hold for a connection: with our congestion control, which bounds what is unsent itself, room for what
/// comes after a lost packet; otherwise so much to begin with.
const SEND_WINDOW: u32 = 8 << 20;
const SEND_WINDOW_FIRST: u32 = 512 << 10;
/// Bytes that a client may have sent and we not read before it is admitted, and streams that it may have open: HTTP/3's settings
/// and request, and a `Hello`.
const WINDOW_FIRST: u32 = 16 << 10;
const STREAMS_FIRST: u32 = 8;
/// First packets of clients that wait to be looked at, and what they may send meanwhile, each and in all.
const INCOMING_MAX: usize = 4096;
const INCOMING_BYTES: u64 = 16 << 10;
const INCOMING_BYTES_ALL: u64 = 16 << 20;

/// Gives a connection whose client was admitted what lanes need.
pub(super) fn widen(connection: &quinn::Connection) {
    const LANES: u32 = limits::LANES_MAX as u32 + STREAMS_FIRST;
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(LANES));
    // Above the sum of what lanes may hold up, so that none of them stops the others.
    connection.set_receive_window(VarInt::from_u32(LANES << 20));
}

pub(crate) fn endpoint(
    udp: UdpSocket,
    certificates: &Arc<Certificates>,
    key: &TicketKey,
    congestion: Congestion,
) -> anyhow::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(certificates.server_config(&ALPN_UDP)?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(congestion)?));
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_BYTES_ALL);
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
    // What HTTP/3 and a `Hello` need; `admit` gives who is admitted more.
    config.max_concurrent_uni_streams(VarInt::from_u32(STREAMS_FIRST));
    config.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_FIRST));
    config.receive_window(VarInt::from_u32(WINDOW_FIRST));
    config.max_idle_timeout(Some(Duration::from_secs(60).try_into()?));
    config.stream_receive_window(VarInt::from_u32(1 << 20));
    let ours = congestion == Congestion::Delay;
    config.send_window(if ours { SEND_WINDOW } else { SEND_WINDOW_FIRST }.into());
    config.congestion_controller_factory(congestion.factory());
    config.send_fairness(false);
    config.datagram_receive_buffer_size(None);
    Ok(config)
}

/// What clients meet.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) relay: Arc<Relay>,
    pub(crate) door: Arc<Door>,
}

/// Takes clients in until told to stop.
pub(crate) async fn accept(
    endpoint: Endpoint,
    front: Front,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let address = incoming.remote_address();
        let proven = incoming.remote_address_validated();
        match front.door.udp(address.ip(), proven, Instant::now()) {
            Verdict::Enter(visitor) => {
                let span = connection::span(address);
                connections.spawn(serve(incoming, proven, visitor, front.relay.clone()).instrument(span));
            }
            // Neither costs more than the answer: the endpoint forgets the client.
            Verdict::Retry => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            }
            Verdict::Away => incoming.refuse(),
        }
    }
}

async fn serve(incoming: Incoming, proven: bool, visitor: Visitor, relay: Arc<Relay>) {
    let handshake = async {
        let connection = incoming.await?;
        if !proven && !visitor.pay(Instant::now()) {
            connection
                .close(u32::from(Close::TOO_MANY.number()).into(), b"too many connections of your network");
            anyhow::bail!("too many handshakes of its network");
        }
        let data = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        if data.and_then(|data| data.protocol).as_deref() == Some(limits::ALPN_QUIC) {
            return Ok((web_transport_quinn::Session::raw(connection), Binding::Quic));
        }
        visitor.reaches(Phase::WebTransport);
        let request = web_transport_quinn::Request::accept(connection).await?;
        if request.connect().url.path() != limits::CONNECT_PATH {
            request.reject(::http::StatusCode::NOT_FOUND).await?;
            anyhow::bail!("not the path of the relay");
        }
        anyhow::Ok((request.ok().await?, Binding::WebTransport))
    };
    match tokio::time::timeout_at(visitor.deadline().into(), handshake).await {
        Ok(Ok((session, binding))) => quic::serve(session, binding, relay, visitor).await,
        Ok(Err(error)) => debug!(%error, "no handshake"),
        Err(_) => debug!("no handshake in time"),
    }
}
