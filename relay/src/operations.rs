//! The private listener: what Prometheus, a load balancer and an operator ask. Never to be made public.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::relay::Relay;

/// What the private listener shows.
#[derive(Clone, Debug)]
pub struct Operations {
    /// The relay.
    pub relay: Arc<Relay>,
    /// Whether new clients are welcome.
    pub ready: Arc<AtomicBool>,
}

/// Its routes.
pub fn router(operations: Operations) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(operations)
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let text = operations.relay.metrics().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(operations): State<Operations>) -> Response {
    if operations.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving service\n").into_response()
    }
}
