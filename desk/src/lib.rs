//! The support desk, first room: who may sign in, which sessions there are, and the codes that lead to them.
//!
//! In memory; what must survive a restart it hands out as text ([`Desk::save`]) and takes back ([`Desk::restore`]). It knows nothing of transports: a relay asks [`Desk::redeem`] whose a code is and verifies tokens by
//! [`Desk::public_key`]; what became of a session it tells [`Desk::observe`].
#![forbid(unsafe_code)]

mod api;
mod saved;
mod sessions;
mod signin;
mod token;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tandem_protocol::token::{PublicKey, TokenRight};
use tandem_protocol::{AttemptId, Code, SessionId};

pub use saved::Damaged;
pub use sessions::{CodeError, State};

use saved::{Saved, from_hex};
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
    state: Mutex<Inner>,
    /// No session is made any more.
    leaves: AtomicBool,
    on_end: Box<dyn Fn(SessionId) + Send + Sync>,
    on_change: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Inner {
    sessions: Sessions,
    signins: SignIns,
    signer: Signer,
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
        let state = Mutex::new(Inner { sessions, signins: SignIns::default(), signer });
        let on_end = Box::new(on_end);
        Ok(Self { settings, state, leaves: AtomicBool::new(false), on_end, on_change: OnceLock::new() })
    }

    /// From now on `on_change` is called whenever something has changed that should survive a restart. It must not wait.
    pub fn on_change(&self, on_change: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_change.set(Box::new(on_change));
    }

    /// What should survive a restart: sessions, codes, who is signed in, and the key that signs tokens. To be kept private.
    pub fn save(&self) -> Vec<u8> {
        let state = self.state.lock();
        Saved::new(state.sessions.save(), state.signins.save(), state.signer.seed()).to_json()
    }

    /// Remembers what a desk before this one has saved. Participants of its sessions may come back within `grace` from now.
    ///
    /// # Errors
    /// [`Damaged`]; then nothing is remembered.
    pub fn restore(&self, saved: &[u8], grace: Duration, now: SystemTime) -> Result<(), Damaged> {
        let saved = Saved::from_json(saved)?;
        let (mut sessions, mut signins) = (Sessions::new(self.settings.code_life), SignIns::default());
        sessions.restore(saved.sessions, now + grace)?;
        signins.restore(&saved.sign_ins, now)?;
        let of = |key: String| {
            let seed = from_hex(&key, "key").map_err(|_| Damaged::Key)?;
            Signer::from_seed(&seed).map_err(|_| Damaged::Key)
        };
        let signer = saved.signing_key.map(of).transpose()?;
        let mut state = self.state.lock();
        (state.sessions, state.signins) = (sessions, signins);
        if let Some(signer) = signer {
            state.signer = signer;
        }
        Ok(())
    }

    /// From now on no session is made: the relay leaves service, and its successor makes them.
    pub fn make_no_more(&self) {
        self.leaves.store(true, Ordering::Release);
    }

    fn changed(&self) {
        if let Some(on_change) = self.on_change.get() {
            on_change();
        }
    }

    /// The Ed25519 public key that verifies this desk's tokens: to be asked for after [`Desk::restore`].
    pub fn public_key(&self) -> [u8; 32] {
        self.state.lock().signer.public_key()
    }

    /// A secret that signs the technician in once, for the fragment of the console's URL.
    pub fn one_time_secret(&self) -> String {
        self.state.lock().signins.one_time_secret()
    }

    /// Makes a session with a code.
    ///
    /// # Errors
    /// [`CodeError::Exhausted`] if every code is in use, [`CodeError::Leaving`] after [`Desk::make_no_more`].
    pub fn create(&self, now: SystemTime) -> Result<(SessionId, Code), CodeError> {
        if self.leaves.load(Ordering::Acquire) {
            return Err(CodeError::Leaving);
        }
        let created = self.state.lock().sessions.create(now)?;
        self.changed();
        Ok(created)
    }

    /// A customer typed this code, in this attempt to join.
    ///
    /// # Errors
    /// [`CodeError`].
    pub fn redeem(&self, code: Code, attempt: AttemptId, now: SystemTime) -> Result<Redeemed, CodeError> {
        let redeemed = self.state.lock().sessions.redeem(code, attempt, now);
        // A failure is counted, but a code that nobody has changes nothing.
        if redeemed != Err(CodeError::Unknown) {
            self.changed();
        }
        let session = redeemed?;
        Ok(Redeemed { session, organisation: self.settings.organisation.clone() })
    }

    /// A session's state changed; `None`: it has ended.
    pub fn observe(&self, session: SessionId, state: Option<State>, customer_online: bool, now: SystemTime) {
        if self.state.lock().sessions.observe(session, state, customer_online, now) {
            self.changed();
        }
    }

    /// A token that lets the technician into a session as its lead, bound to a key if there is one.
    fn technician_token(&self, session: SessionId, key: Option<PublicKey>, now: SystemTime) -> String {
        self.state.lock().signer.technician(&self.settings, (session, &RIGHTS), key, now)
    }

    /// The HTTP API, under `/api/v1`.
    pub fn routes(self: Arc<Self>) -> axum::Router {
        api::routes(self)
    }
}

/// What the technician's group permits.
const RIGHTS: [TokenRight; 4] =
    [TokenRight::View, TokenRight::Control, TokenRight::Clipboard, TokenRight::Chat];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_restored_whole_or_not_at_all() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let desk = || Desk::new(Settings::default(), |_| {}).unwrap();
        let (before, after) = (desk(), desk());
        let (id, code) = before.create(now).unwrap();
        let saved = before.save();
        after.restore(&saved, Duration::from_secs(300), now).unwrap();
        assert_eq!(after.redeem(code, AttemptId([1; 16]), now).unwrap().session, id);
        assert_eq!(after.public_key(), before.public_key(), "tokens of before are good");
        assert_ne!(after.public_key(), desk().public_key());
        let text = String::from_utf8(saved).unwrap();
        for bad in [
            "".to_owned(),
            text[..text.len() / 2].to_owned(),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace(&id.to_string(), "17"),
            text.replace(&code.to_string(), "1"),
            text.replace("\"signing_key\":\"", "\"signing_key\":\"0"),
        ] {
            assert!(desk().restore(bad.as_bytes(), Duration::ZERO, now).is_err(), "{bad}");
        }
    }
}
