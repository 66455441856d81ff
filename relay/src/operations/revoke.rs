//! `/v1/revoke`: an operator, or a desk, withdraws a session, a token or a tenant.

use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use tracing::{info, warn};

use super::Operations;
use crate::admission::{KEPT, RevokeError, Withdrawn, unix_seconds};

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    session: Option<String>,
    token: Option<String>,
    tenant: Option<String>,
    /// Seconds since 1970; a week from now if it is not said.
    until: Option<i64>,
}

impl Request {
    /// The one thing that it names.
    fn what(&self) -> Option<Withdrawn> {
        match (&self.session, &self.token, &self.tenant) {
            (Some(session), None, None) => Some(Withdrawn::Session(session.to_ascii_lowercase())),
            (None, Some(token), None) => Some(Withdrawn::Token(token.clone())),
            (None, None, Some(tenant)) => Some(Withdrawn::Tenant(tenant.clone())),
            _ => None,
        }
    }
}

fn names_nothing() -> Response {
    failure(StatusCode::UNPROCESSABLE_ENTITY, "name one of session, token and tenant")
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "error": { "message": message } }))).into_response()
}

fn answer(done: Result<(), RevokeError>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            warn!(error = format!("{error:#}"), "revocation");
            let status = match error {
                RevokeError::Name => StatusCode::UNPROCESSABLE_ENTITY,
                RevokeError::Full | RevokeError::Forgetful(_) => StatusCode::INSUFFICIENT_STORAGE,
            };
            failure(status, &error.to_string())
        }
    }
}

pub(super) async fn revoke(State(operations): State<Operations>, Json(request): Json<Request>) -> Response {
    let Some(what) = request.what() else { return names_nothing() };
    let now = unix_seconds(SystemTime::now());
    let relay = &operations.relay;
    let until = request.until.unwrap_or_else(|| now.saturating_add(KEPT));
    let done = relay.admitter().revocations.revoke(what.clone(), until, now);
    if matches!(done, Ok(()) | Err(RevokeError::Forgetful(_))) {
        info!(?what, "withdrawn");
        relay.expel(&what);
    }
    answer(done)
}

pub(super) async fn restore(State(operations): State<Operations>, Json(request): Json<Request>) -> Response {
    let Some(what) = request.what() else { return names_nothing() };
    match operations.relay.admitter().revocations.restore(&what) {
        Ok(false) => failure(StatusCode::NOT_FOUND, "this is not withdrawn"),
        done => answer(done.map(drop)),
    }
}
