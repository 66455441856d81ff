//! The private listener: what Prometheus, a load balancer and an operator ask. Never to be made public.

mod revoke;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};

use crate::relay::Relay;
use crate::tls::Certificates;

/// What the private listener shows.
#[derive(Clone, Debug)]
pub struct Operations {
    /// The relay.
    pub relay: Arc<Relay>,
    /// Its certificates.
    pub certificates: Arc<Certificates>,
}

/// Its routes.
pub fn router(operations: Operations) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/sessions", get(sessions))
        .route("/v1/revoke", post(revoke::revoke).delete(revoke::restore))
        .with_state(operations)
}

async fn metrics(State(operations): State<Operations>) -> Response {
    if let Some(validity) = operations.certificates.validity() {
        operations.relay.metrics().certificate_expires(validity.until);
    }
    operations.relay.metrics().draining.set(f64::from(u8::from(operations.relay.drain().is_on())));
    aside(move || {
        let text = operations.relay.metrics().render();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
    })
    .await
}

/// Who is connected.
async fn sessions(State(operations): State<Operations>) -> Response {
    aside(move || Json(operations.relay.views(Instant::now())).into_response()).await
}

/// Answers from a thread beside the workers: with ten thousand sessions it takes milliseconds, for which no key should wait.
async fn aside(answer: impl FnOnce() -> Response + Send + 'static) -> Response {
    let answered = tokio::task::spawn_blocking(answer).await;
    answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn ready(State(operations): State<Operations>) -> Response {
    if operations.relay.drain().is_on() {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving service\n").into_response()
    } else {
        "ready\n".into_response()
    }
}
