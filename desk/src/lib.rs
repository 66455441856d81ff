//! The support desk, first room: who may sign in, which sessions there are, and the codes that lead to them.
//!
//! In memory. It knows nothing of transports: a relay asks [`Desk::redeem`] whose a code is and verifies tokens by
//! [`Desk::public_key`]; what became of a session it tells [`Desk::observe`].
#![forbid(unsafe_code)]

mod api;
mod sessions;
mod signin;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tandem_protocol::token::TokenRight;
use tandem_protocol::{AttemptId, Code, SessionId};

pub use sessions::{CodeError, State};

use sessions::Sessions;
use signin::SignIns;
use token::Signer;

/// What a desk is set up with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay that tokens are for.
    pub audience: String,
    /// The organisation's name, as customers read it.
    pub organisation: String,
    /// The technician who signs in by the one-time secret.
    pub technician: String,
    /// How long a code is good for.
    pub code_life: Duration,
    /// Whether those who join a session later may be shown what was on the screen before.
    pub show_past: bool,
    /// How long a token is good for.
    pub token_life: Duration,
    /// Whether cookies travel over HTTPS only.
    pub secure_cookies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            audience: "tandem".into(),
            organisation: "Tandem".into(),
            technician: "Technician".into(),
            code_life: Duration::from_secs(20 * 60),
            show_past: false,
            token_life: Duration::from_secs(60),
            secure_cookies: true,
        }
    }
}

/// A session that a code or a token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// The session.
    pub session: SessionId,
    /// The organisation that the customer joins.
    pub organisation: String,
}

/// The desk.
pub struct Desk {
    settings: Settings,
    signer: Signer,
    state: Mutex<Inner>,
    on_end: Box<dyn Fn(SessionId) + Send + Sync>,
}

struct Inner {
    sessions: Sessions,
    signins: SignIns,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The system could not make a key.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a signing key: no random numbers from the system")]
pub struct KeyError;

impl Desk {
    /// An empty desk. `on_end` is called when a technician ends a session.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(
        settings: Settings,
        on_end: impl Fn(SessionId) + Send + Sync + 'static,
    ) -> Result<Self, KeyError> {
        let signer = Signer::generate()?;
        let sessions = Sessions::new(settings.code_life);
        let state = Mutex::new(Inner { sessions, signins: SignIns::default() });
        Ok(Self { settings, signer, state, on_end: Box::new(on_end) })
    }

    /// The Ed25519 public key that verifies this desk's tokens.
    pub fn public_key(&self) -> [u8; 32] {
        self.signer.public_key()
    }

    /// A secret that signs the technician in once, for the fragment of the console's URL.
    pub fn one_time_secret(&self) -> String {
        self.state.lock().signins.one_time_secret()
    }

    /// Makes a session with a code.
    ///
    /// # Errors
    /// [`CodeError::Exhausted`] if every code is in use.
    pub fn create(&self, now: SystemTime) -> Result<(SessionId, Code), CodeError> {
        self.state.lock().sessions.create(now)
    }

    /// A customer typed this code, in this attempt to join.
    ///
    /// # Errors
    /// [`CodeError`].
    pub fn redeem(&self, code: Code, attempt: AttemptId, now: SystemTime) -> Result<Redeemed, CodeError> {
        let session = self.state.lock().sessions.redeem(code, attempt, now)?;
        Ok(Redeemed { session, organisation: self.settings.organisation.clone() })
    }

    /// A session's state changed; `None`: it has ended.
    pub fn observe(&self, session: SessionId, state: Option<State>, customer_online: bool, now: SystemTime) {
        self.state.lock().sessions.observe(session, state, customer_online, now);
    }

    /// A token that lets the technician into a session as its lead.
    fn technician_token(&self, session: SessionId, now: SystemTime) -> String {
        self.signer.technician(&self.settings, session, &RIGHTS, now)
    }

    /// The HTTP API, under `/api/v1`.
    pub fn routes(self: Arc<Self>) -> axum::Router {
        api::routes(self)
    }
}

/// What the technician's group permits.
const RIGHTS: [TokenRight; 4] =
    [TokenRight::View, TokenRight::Control, TokenRight::Clipboard, TokenRight::Chat];
