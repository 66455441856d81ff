//! The TCP side of the public port: HTTPS, and the WebSockets that begin there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tandem_path::Congestion;
use tandem_protocol::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, warn};

use super::tcp::Tcp;
use crate::admission::{Door, Visitor};
use crate::connection;
use crate::metrics::Phase;

/// Bytes that a client may send before it is asked, and again for each request: a TLS handshake, and twice what its head may be, for
/// a body too. The head alone is at most [`limits::UNADMITTED_MAX`].
const REQUEST_MAX: usize = 16 << 10;
/// The least that the HTTP library takes for its buffer.
const BUFFER_MAX: usize = 8 << 10;
/// How long a client may take nothing of an answer.
const STUCK_TIME: Duration = Duration::from_secs(15);

/// What serves the TCP side of the public port.
pub(crate) struct Https {
    pub(crate) tls: TlsAcceptor,
    pub(crate) router: Router,
    /// Whether HTTP without TLS is taken too: on loopback, for trying out.
    pub(crate) plain: bool,
    pub(crate) congestion: Congestion,
    pub(crate) connections: TaskTracker,
    pub(crate) door: Arc<Door>,
}

pub(crate) async fn accept(listener: TcpListener, https: Arc<Https>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                // Who is turned away is closed at once, and tries elsewhere or later.
                let Some(visitor) = https.door.tcp(address.ip(), Instant::now()) else { continue };
                let span = connection::span(address);
                let serve = serve_tcp(stream, visitor, https.clone(), stop.clone());
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

async fn serve_tcp(stream: TcpStream, visitor: Visitor, https: Arc<Https>, stop: CancellationToken) {
    tandem_path::tcp::prepare(&SockRef::from(&stream), https.congestion);
    let deadline = visitor.deadline().into();
    let mut first = [0];
    let peeked = tokio::time::timeout_at(deadline, stream.peek(&mut first)).await;
    let tcp = Tcp::new(stream);
    tcp.allow(REQUEST_MAX);
    let client = (tcp.clone(), Arc::new(visitor));
    // A TLS record of a handshake begins with 22 (RFC 8446, section 5.1); a request does not.
    match peeked {
        Ok(Ok(1)) if first[0] == 22 => {
            client.1.reaches(Phase::Tls);
            match tokio::time::timeout_at(deadline, https.tls.accept(tcp)).await {
                Ok(Ok(stream)) => serve_http(stream, client, &https, stop).await,
                Ok(Err(error)) => debug!(%error, "no TLS handshake"),
                Err(_) => debug!("no TLS handshake in time"),
            }
        }
        Ok(Ok(1)) if https.plain => serve_http(tcp, client, &https, stop).await,
        _ => debug!("no handshake"),
    }
}

async fn serve_http<S>(stream: S, (tcp, visitor): (Tcp, Arc<Visitor>), https: &Https, stop: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    visitor.reaches(Phase::Http);
    let router = TowerToHyperService::new(https.router.clone());
    let client = (tcp.clone(), visitor.clone());
    let service = service_fn(move |mut request: ::http::Request<Body>| {
        let (tcp, visitor) = client.clone();
        visitor.asks(Instant::now());
        tcp.allow(REQUEST_MAX);
        // For who upgrades to a WebSocket.
        request.extensions_mut().insert(tcp);
        request.extensions_mut().insert(visitor);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMISSION_TIME)
        .max_header_size(limits::UNADMITTED_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = asks_nothing(&visitor) => return debug!("no request in time"),
        () = tcp.is_stuck(STUCK_TIME) => return debug!("an answer is not taken"),
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection ended");
    }
}

/// Ends if there is no request in time.
async fn asks_nothing(visitor: &Visitor) {
    tokio::time::sleep_until(visitor.deadline().into()).await;
    if visitor.has_asked() {
        std::future::pending::<()>().await;
    }
}
