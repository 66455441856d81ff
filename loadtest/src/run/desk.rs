//! Where sessions come from: a relay's own desk, over its HTTP API, or tokens that this program signs itself, for a relay
//! that it has told its key.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tandem_client::{Join, Target};
use tandem_protocol::SessionId;
use tandem_protocol::token::{Claims, TokenRight, TokenRole};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How long the desk may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const ANSWER_MAX: usize = 1 << 20;
/// For how long a token of a relay's own desk is good, and one of ours.
const DESK_TOKEN_LIFE: Duration = Duration::from_secs(60);
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// How the ends of a session join.
#[derive(Debug)]
pub(crate) struct Seats {
    pub(crate) customer: Join,
    /// The first one leads.
    pub(crate) technicians: Vec<Join>,
}

/// Whoever opens sessions.
#[derive(Debug)]
pub(crate) enum Opener {
    Desk(Desk),
    Signer(Signer),
}

impl Opener {
    /// A new session: how its customer and so many technicians join. Who joins late is not shown what was there before.
    pub(crate) async fn open(&self, technicians: usize) -> anyhow::Result<Seats> {
        self.open_with(technicians, false).await
    }

    /// The same. `shows_past`: the lead lets who joins late see what was there before.
    pub(crate) async fn open_with(&self, technicians: usize, shows_past: bool) -> anyhow::Result<Seats> {
        match self {
            Self::Desk(_) if technicians != 1 => bail!("a desk admits one technician as yet"),
            Self::Desk(_) if shows_past => bail!("a desk shows nobody the past as yet"),
            Self::Desk(desk) => desk.open().await,
            Self::Signer(signer) => signer.open(technicians, shows_past),
        }
    }

    /// For how long a relay takes what was opened.
    pub(crate) const fn good_for(&self) -> Duration {
        match self {
            Self::Desk(_) => DESK_TOKEN_LIFE,
            Self::Signer(_) => TOKEN_LIFE,
        }
    }
}

/// A technician who is signed in at a relay's own desk.
pub(crate) struct Desk {
    target: Target,
    tls: Option<TlsConnector>,
    cookie: String,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Desk {
    /// Signs in with a one-time secret.
    pub(crate) async fn sign_in(target: Target, secret: &str) -> anyhow::Result<Self> {
        let tls = if target.is_secure() {
            let config = tandem_client::tls_config(&target, b"http/1.1").map_err(anyhow::Error::msg)?;
            Some(TlsConnector::from(Arc::new(config)))
        } else {
            None
        };
        let mut desk = Self { target, tls, cookie: String::new() };
        let (headers, _) = desk.post("/api/v1/sign-in", &json!({ "secret": secret })).await?;
        let cookie = headers.get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok()?.split(';').next());
        desk.cookie = cookie.context("the desk gave no cookie")?.to_owned();
        Ok(desk)
    }

    async fn open(&self) -> anyhow::Result<Seats> {
        let (_, session) = self.post("/api/v1/sessions", &Value::Null).await?;
        let code = text(&session, "code")?.parse()?;
        let path = format!("/api/v1/sessions/{}/token", text(&session, "id")?);
        let (_, token) = self.post(&path, &json!({})).await?;
        let technicians = vec![Join::Token(text(&token, "token")?.to_owned())];
        Ok(Seats { customer: Join::Code(code), technicians })
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(HeaderMap, Value)> {
        let answered = tokio::time::timeout(PATIENCE, self.post_now(path, body)).await;
        let answered = answered.unwrap_or_else(|_| bail!("no answer in {PATIENCE:?}"));
        answered.with_context(|| format!("the desk at {}{path}", self.target))
    }

    async fn post_now(&self, path: &str, body: &Value) -> anyhow::Result<(HeaderMap, Value)> {
        let authority = self.target.authority();
        let request = Request::post(path)
            .header(HOST, &authority)
            .header(COOKIE, &self.cookie)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let stream = TcpStream::connect(&authority).await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let (host, _) = authority.rsplit_once(':').context("no port")?;
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
                exchange(tls.connect(name, stream).await?, request).await
            }
        }
    }
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<(HeaderMap, Value)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    drop(driver);
    let body = body.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !head.status.is_success() {
        let message = body["error"]["message"].as_str().unwrap_or("no reason given");
        bail!("{}: {message}", head.status);
    }
    Ok((head.headers, body))
}

fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in the answer"))
}

/// A key of our own that a relay believes.
pub(crate) struct Signer {
    key: EncodingKey,
    public: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Audience of the tokens.
pub(crate) const AUDIENCE: &str = "tandem-loadtest";

impl Signer {
    /// A new key.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        Self::from_pkcs8(&Self::generate_pkcs8()?)
    }

    /// A new key, for another process to sign with.
    pub(crate) fn generate_pkcs8() -> anyhow::Result<Vec<u8>> {
        let pair = Ed25519KeyPair::generate().context("cannot make a key")?;
        Ok(pair.to_pkcs8().context("cannot make a key")?.as_ref().to_vec())
    }

    /// A key that was made before.
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).context("this is no key")?;
        Ok(Self { key: EncodingKey::from_ed_der(pkcs8), public: STANDARD.encode(pair.public_key()) })
    }

    /// The public key as a relay's `tokens.keys` has it.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    fn open(&self, technicians: usize, shows_past: bool) -> anyhow::Result<Seats> {
        let session = SessionId(rand::random());
        let token = |role, name: &str| {
            let past = shows_past && role == TokenRole::Lead;
            Ok::<_, anyhow::Error>(Join::Token(self.token(session, role, name, past)?))
        };
        let technician = |number| {
            let role = if number == 0 { TokenRole::Lead } else { TokenRole::Collaborator };
            token(role, &format!("Technician {number}"))
        };
        Ok(Seats {
            customer: token(TokenRole::Customer, "Customer")?,
            technicians: (0..technicians).map(technician).collect::<Result<_, _>>()?,
        })
    }

    fn token(&self, session: SessionId, role: TokenRole, name: &str, past: bool) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() as i64;
        let rights = match role {
            TokenRole::Customer => Vec::new(),
            _ => vec![TokenRight::View, TokenRight::Control, TokenRight::SendFiles, TokenRight::ReceiveFiles],
        };
        let claims = Claims {
            aud: AUDIENCE.into(),
            tenant: "loadtest".into(),
            sid: session.to_string(),
            sub: name.to_lowercase(),
            name: name.into(),
            organisation: "Load test".into(),
            role,
            rights,
            past,
            nbf: now,
            exp: now + TOKEN_LIFE.as_secs() as i64,
            end: None,
            jti: SessionId(rand::random()).to_string(),
            cnf: None,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)?)
    }
}
