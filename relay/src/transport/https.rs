//! The TCP side of the public port: HTTPS, and the WebSockets that begin there.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tandem_path::Congestion;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span, warn};

use super::HANDSHAKE_TIME;
use super::tcp::Tcp;

/// What serves the TCP side of the public port.
pub(crate) struct Https {
    pub(crate) tls: TlsAcceptor,
    pub(crate) router: Router,
    /// Whether HTTP without TLS is taken too: on loopback, for trying out.
    pub(crate) plain: bool,
    pub(crate) congestion: Congestion,
    pub(crate) connections: TaskTracker,
}

pub(crate) async fn accept(listener: TcpListener, https: Arc<Https>, stop: CancellationToken) {
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
