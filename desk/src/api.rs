//! The desk's HTTP API. Errors are `{"error": {"code", "message"}}`; a cookie says who is signed in.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Of};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_protocol::SessionId;
use tandem_protocol::token::PublicKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::sessions::{Session, State};
use crate::{CodeError, Desk};

const COOKIE: &str = "tandem_desk";

pub(crate) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/api/v1/sign-in", post(sign_in))
        .route("/api/v1/sign-out", post(sign_out))
        .route("/api/v1/me", get(me))
        .route("/api/v1/sessions", get(list).post(create))
        .route("/api/v1/sessions/{id}", delete(end))
        .route("/api/v1/sessions/{id}/token", post(token))
        .layer(DefaultBodyLimit::max(4096))
        .with_state(desk)
}

/// An answer that is an error.
struct Failure(StatusCode, &'static str, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let body = serde_json::json!({ "error": { "code": code, "message": message } });
        (status, Json(body)).into_response()
    }
}

fn not_signed_in() -> Failure {
    Failure(StatusCode::UNAUTHORIZED, "not_signed_in", "Sign in first.".into())
}

fn no_such_session() -> Failure {
    Failure(StatusCode::NOT_FOUND, "no_such_session", "There is no such session.".into())
}

#[derive(Deserialize)]
struct SignIn {
    secret: String,
}

#[derive(Serialize)]
struct Me {
    name: String,
    organisation: String,
}

impl Desk {
    fn me(&self) -> Json<Me> {
        Json(Me { name: self.settings.technician.clone(), organisation: self.settings.organisation.clone() })
    }

    fn check(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let cookie = cookie(headers).ok_or_else(not_signed_in)?;
        if self.state.lock().signins.is_signed_in(&cookie, SystemTime::now()) {
            Ok(cookie)
        } else {
            Err(not_signed_in())
        }
    }

    fn set_cookie(&self, value: &str, seconds: u32) -> String {
        let secure = if self.settings.secure_cookies { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/api; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

async fn sign_in(Of(desk): Of<Arc<Desk>>, Json(body): Json<SignIn>) -> Result<Response, Failure> {
    let cookie = desk.state.lock().signins.sign_in(&body.secret, SystemTime::now());
    let cookie = cookie.ok_or_else(|| {
        let message = "This link has been used, or is not one of ours. Ask for a new one.";
        Failure(StatusCode::UNAUTHORIZED, "wrong_secret", message.into())
    })?;
    desk.changed();
    let headers = [(header::SET_COOKIE, desk.set_cookie(&cookie, 12 * 3600))];
    Ok((headers, desk.me()).into_response())
}

async fn sign_out(Of(desk): Of<Arc<Desk>>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        desk.state.lock().signins.sign_out(&cookie);
        desk.changed();
    }
    ([(header::SET_COOKIE, desk.set_cookie("", 0))], StatusCode::NO_CONTENT).into_response()
}

async fn me(Of(desk): Of<Arc<Desk>>, headers: HeaderMap) -> Result<Json<Me>, Failure> {
    desk.check(&headers)?;
    Ok(desk.me())
}

#[derive(Serialize)]
struct SessionView {
    id: String,
    code: Option<String>,
    state: State,
    created_at: String,
    code_expires_at: String,
    customer_online: bool,
    /// How often somebody else tried its code: who expects nobody else should wonder.
    code_failures: u32,
}

impl SessionView {
    fn new(id: SessionId, session: &Session) -> Self {
        Self {
            id: id.to_string(),
            code: session.code.map(|code| code.to_string()),
            state: session.state,
            created_at: rfc3339(session.created),
            code_expires_at: rfc3339(session.code_expires),
            customer_online: session.customer_online,
            code_failures: session.failures,
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

async fn list(Of(desk): Of<Arc<Desk>>, headers: HeaderMap) -> Result<Response, Failure> {
    desk.check(&headers)?;
    let state = desk.state.lock();
    let sessions = state.sessions.list(SystemTime::now());
    let sessions: Vec<_> = sessions.into_iter().map(|(id, session)| SessionView::new(id, session)).collect();
    Ok(Json(serde_json::json!({ "sessions": sessions })).into_response())
}

async fn create(Of(desk): Of<Arc<Desk>>, headers: HeaderMap) -> Result<Response, Failure> {
    desk.check(&headers)?;
    let now = SystemTime::now();
    let (id, _) = desk.create(now).map_err(|error: CodeError| {
        let code = if error == CodeError::Leaving { "leaving" } else { "no_code_free" };
        Failure(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
    })?;
    let state = desk.state.lock();
    let made = state.sessions.list(now).into_iter().find(|(known, _)| *known == id);
    let (id, session) = made.ok_or_else(no_such_session)?;
    Ok((StatusCode::CREATED, Json(SessionView::new(id, session))).into_response())
}

fn parse(desk: &Desk, id: &str) -> Result<SessionId, Failure> {
    let id: SessionId = id.parse().map_err(|_| no_such_session())?;
    if desk.state.lock().sessions.contains(id) { Ok(id) } else { Err(no_such_session()) }
}

#[derive(Deserialize)]
struct TokenRequest {
    key: Option<String>,
}

/// The key that a token is to be bound to, if the console has one: 32 bytes in base64url.
fn bound_to(body: &[u8]) -> Result<Option<PublicKey>, Failure> {
    if body.is_empty() {
        return Ok(None);
    }
    let bad = |message: &str| Failure(StatusCode::BAD_REQUEST, "bad_request", message.into());
    let request: TokenRequest =
        serde_json::from_slice(body).map_err(|_| bad("This is no request for a token."))?;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match request.key {
        Some(key) if key.len() != 43 || !key.bytes().all(is_digit) => {
            Err(bad("A key is 32 bytes in base64url."))
        }
        key => Ok(key.map(PublicKey::ed25519)),
    }
}

async fn token(
    Of(desk): Of<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    desk.check(&headers)?;
    let id = parse(&desk, &id)?;
    let token = desk.technician_token(id, bound_to(&body)?, SystemTime::now());
    Ok(Json(serde_json::json!({ "token": token })).into_response())
}

async fn end(
    Of(desk): Of<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    desk.check(&headers)?;
    let id = parse(&desk, &id)?;
    (desk.on_end)(id);
    desk.observe(id, None, false, SystemTime::now());
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use jsonwebtoken::dangerous::insecure_decode;
    use tandem_protocol::token::Claims;
    use tower::ServiceExt;

    async fn call(
        router: &Router,
        method: &str,
        path: &str,
        cookie: &str,
        body: &str,
    ) -> (StatusCode, String, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let cookie =
            response.headers().get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, cookie.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn nothing_without_signing_in_and_everything_after() {
        let desk = Arc::new(Desk::new(Settings::default(), |_| {}).unwrap());
        let router = desk.clone().routes();
        for (method, path) in [
            ("GET", "/api/v1/me"),
            ("GET", "/api/v1/sessions"),
            ("POST", "/api/v1/sessions"),
            ("POST", "/api/v1/sessions/000102030405060708090a0b0c0d0e0f/token"),
            ("DELETE", "/api/v1/sessions/000102030405060708090a0b0c0d0e0f"),
        ] {
            let (status, _, body) = call(&router, method, path, "tandem_desk=guess", "").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert!(body.contains("not_signed_in"));
        }
        let secret = format!("{{\"secret\":\"{}\"}}", desk.one_time_secret());
        let (status, cookie, _) = call(&router, "POST", "/api/v1/sign-in", "", &secret).await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Secure")
        );
        let (status, _, _) = call(&router, "POST", "/api/v1/sign-in", "", &secret).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "a secret works once");
        let cookie = cookie.split(';').next().unwrap();
        let (status, _, body) = call(&router, "POST", "/api/v1/sessions", cookie, "").await;
        assert_eq!(status, StatusCode::CREATED);
        let made: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(made["code"].as_str().unwrap().len(), 6);
        let path = format!("/api/v1/sessions/{}", made["id"].as_str().unwrap());
        let (status, _, body) = call(&router, "POST", &format!("{path}/token"), cookie, "").await;
        assert!(status == StatusCode::OK && body.contains("\"token\""));
        let bound = |key: &str| format!("{{\"key\":\"{key}\"}}");
        let good = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let (status, _, body) = call(&router, "POST", &format!("{path}/token"), cookie, &bound(good)).await;
        let made: serde_json::Value = serde_json::from_str(&body).unwrap();
        let claims = insecure_decode::<Claims>(made["token"].as_str().unwrap()).unwrap().claims;
        assert_eq!(
            (status, claims.cnf.map(|bound| bound.jwk)),
            (StatusCode::OK, Some(PublicKey::ed25519(good)))
        );
        for bad in [&bound("short"), &bound(&good.replace('_', "+")), "{"] {
            let (status, ..) = call(&router, "POST", &format!("{path}/token"), cookie, bad).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        }
        assert_eq!(call(&router, "DELETE", &path, cookie, "").await.0, StatusCode::NO_CONTENT);
        assert_eq!(call(&router, "DELETE", &path, cookie, "").await.0, StatusCode::NOT_FOUND);
    }
}
