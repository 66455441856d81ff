//! What the public port says over HTTP: how to connect, the WebSocket, the desk's API, and the console's files.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_embed::{EmbeddedFile, RustEmbed};
use tandem_path::Congestion;
use tandem_protocol::limits;
use tandem_protocol::token::WellKnown;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::admission::Visitor;
use crate::relay::Relay;
use crate::tls::Certificates;
use crate::transport::tcp::Tcp;
use crate::transport::websocket;

/// The console, built by `make console`.
#[derive(RustEmbed)]
#[folder = "../console/dist"]
#[allow_missing = true]
struct Console;

/// Bytes that a WebSocket reads at once: what a connection that says nothing keeps.
const READ_BUFFER: usize = 4 << 10;

/// What the public port's handlers share.
#[derive(Clone, Debug)]
pub struct Public {
    /// The relay.
    pub relay: Arc<Relay>,
    /// The certificate in use.
    pub certificates: Arc<Certificates>,
    /// UDP port, if UDP is served.
    pub quic_port: Option<u16>,
    /// How connections find out what their path takes.
    pub congestion: Congestion,
    /// Runs the connections that were upgraded.
    pub connections: TaskTracker,
}

/// The public port's routes, with those of a desk.
pub fn router(public: Public, desk: Router) -> Router {
    Router::new()
        .route(limits::WELL_KNOWN_PATH, get(well_known))
        .route(limits::CONNECT_PATH, get(connect))
        .with_state(public)
        .merge(desk)
        .fallback(console)
        .layer(middleware::from_fn(security_headers))
}

async fn well_known(State(public): State<Public>) -> impl IntoResponse {
    let known = Json(WellKnown {
        versions: vec![limits::VERSION],
        quic_port: public.quic_port,
        path: limits::CONNECT_PATH.into(),
        certificate_hashes: public.certificates.hash().iter().map(|hash| STANDARD.encode(hash)).collect(),
    });
    // For consoles that another relay has served, which left service and named this one.
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], known)
}

async fn connect(
    State(public): State<Public>,
    Extension(tcp): Extension<Tcp>,
    Extension(visitor): Extension<Arc<Visitor>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade
        .protocols([limits::WEBSOCKET_PROTOCOL])
        .max_message_size(limits::MESSAGE_MAX)
        .max_frame_size(limits::MESSAGE_MAX)
        // Nothing stays in the library: what is written goes to the socket or waits in the session.
        .write_buffer_size(0)
        // It is filled with zeros before each read.
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(4 * limits::MESSAGE_MAX);
    if upgrade.selected_protocol().is_none() {
        let text = format!("this is a WebSocket of the subprotocol {}", limits::WEBSOCKET_PROTOCOL);
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let span = tracing::Span::current();
    let connections = public.connections.clone();
    upgrade.on_upgrade(move |socket| async move {
        // Tracked, so that the daemon's end waits for it.
        let served = connections
            .spawn(websocket::serve(socket, tcp, public.congestion, public.relay, visitor).instrument(span));
        let _ = served.await;
    })
}

/// A file of the console, compressed if the browser takes that.
async fn console(request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    if Console::get("index.html").is_none() {
        let text = "This relay was built without its console: run `make console`, then build it again.\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    let Some(plain) = Console::get(path) else { return StatusCode::NOT_FOUND.into_response() };
    let (file, encoding) =
        encoded(path, request.headers()).map_or((plain, None), |(file, name)| (file, Some(name)));
    let mut response = Response::new(Body::from(file.data));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(path));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // Names under assets/ carry a hash of their contents.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

fn encoded(path: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, &'static str)> {
    let accepts = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
    let accepts = |name| accepts.split(',').any(|one| one.split(';').next().map(str::trim) == Some(name));
    [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(name, _)| accepts(name))
        .find_map(|(name, ending)| Some((Console::get(&format!("{path}.{ending}"))?, name)))
}

fn content_type(path: &str) -> HeaderValue {
    HeaderValue::from_static(match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map" | "webmanifest") => "application/json",
        _ => "application/octet-stream",
    })
}

/// Headers of every answer: the console runs its own files only, nowhere else, and tells nobody where it came from.
async fn security_headers(request: Request, next: Next) -> Response {
    // What a technician's program asks of the desk is no knocking in vain.
    let visitor = request.extensions().get::<Arc<Visitor>>().cloned();
    let visitor = visitor.filter(|_| request.uri().path().starts_with("/api/"));
    // A handler waits for nothing but its request's body.
    let answered = tokio::time::timeout(limits::ADMISSION_TIME, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| {
        // What is left of the body would be taken for the next request.
        (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response()
    });
    if let Some(visitor) = visitor.filter(|_| response.status().is_success()) {
        visitor.forgive();
    }
    let headers = response.headers_mut();
    let csp = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' https: wss: ws:; worker-src 'self'; \
               img-src 'self' data: blob:; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(csp));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
