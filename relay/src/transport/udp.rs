//! The UDP side of the public port: QUIC and WebTransport, from a client's first packet to its session.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use tandem_path::Congestion;
use tandem_protocol::limits;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};

use super::HANDSHAKE_TIME;
use super::quic;
use crate::admission::TicketKey;
use crate::metrics::Binding;
use crate::relay::Relay;
use crate::tls::{ALPN_UDP, Certificates};

/// Bytes that quinn may hold for a connection: with our congestion control, which bounds what is unsent itself, room for what
/// comes after a lost packet; otherwise so much to begin with.
const SEND_WINDOW: u32 = 8 << 20;
const SEND_WINDOW_FIRST: u32 = 512 << 10;

pub(crate) fn endpoint(
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

pub(crate) async fn accept(
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
