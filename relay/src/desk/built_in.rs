//! The built-in desk behind the relay's trait.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tandem_desk::{CodeError, Desk, Settings, State};
use tandem_protocol::message::{Rights, Role, SessionState};
use tandem_protocol::{AttemptId, Close, Code, SessionId};
use tandem_relay::admission::{self, Admission, Refusal};
use tandem_relay::config;
use tandem_relay::relay::Relay;
use tandem_relay::server::DeskParts;
use tandem_relay::session::{SessionStatus, Who};
use tandem_relay::state_file::{self, Keeper};

/// The desk, and the relay whose sessions it ends.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    desk: Arc<Desk>,
    relay: Arc<OnceLock<Weak<Relay>>>,
    /// Keeps what must survive a restart.
    kept: OnceLock<Keeper>,
}

impl BuiltIn {
    pub(crate) fn new(
        settings: &config::Desk,
        audience: &str,
        plain_http: bool,
    ) -> anyhow::Result<Arc<Self>> {
        let relay: Arc<OnceLock<Weak<Relay>>> = Arc::default();
        let settings = Settings {
            audience: audience.to_owned(),
            organisation: settings.organisation.clone(),
            technician: settings.technician.clone(),
            code_life: settings.code_life,
            show_past: settings.show_past,
            secure_cookies: !plain_http,
            ..Settings::default()
        };
        let end = {
            let relay = relay.clone();
            move |session| {
                if let Some(relay) = relay.get().and_then(Weak::upgrade) {
                    relay.end(session);
                }
            }
        };
        let desk = Arc::new(Desk::new(settings, end)?);
        Ok(Arc::new(Self { desk, relay, kept: OnceLock::new() }))
    }

    /// Remembers its sessions, codes and sign-ins in this file, and takes over what one before it has remembered there.
    /// Participants of those sessions may come back within `grace`.
    pub(crate) fn remember(&self, path: PathBuf, grace: Duration) -> anyhow::Result<()> {
        state_file::read(&path, |saved| self.desk.restore(saved, grace, SystemTime::now()))?;
        let desk = self.desk.clone();
        let keeper = Keeper::start(path, move || desk.save())?;
        let changed = keeper.changed();
        // The key that signs its tokens is there before there is a token.
        changed.note();
        self.desk.on_change(move || changed.note());
        let _ = self.kept.set(keeper);
        Ok(())
    }

    /// What the server needs of it.
    pub(crate) fn parts(self: &Arc<Self>) -> DeskParts {
        DeskParts {
            desk: self.clone(),
            keys: vec![self.desk.public_key()],
            routes: self.desk.clone().routes(),
        }
    }

    /// From now on it can end sessions.
    pub(crate) fn connect(&self, relay: &Arc<Relay>) {
        let _ = self.relay.set(Arc::downgrade(relay));
    }

    /// A secret that signs the technician in, once.
    pub(crate) fn one_time_secret(&self) -> String {
        self.desk.one_time_secret()
    }

    /// A session to try out with: the secret that signs the technician in, and the customer's code.
    pub(crate) fn first_session(&self) -> anyhow::Result<(String, String)> {
        let (_, code) = self.desk.create(SystemTime::now()).context("cannot make a session")?;
        Ok((self.one_time_secret(), code.to_string()))
    }
}

impl admission::Desk for BuiltIn {
    fn redeem(&self, code: Code, attempt: AttemptId, now: SystemTime) -> Result<Admission, Refusal> {
        let redeemed = self.desk.redeem(code, attempt, now).map_err(|error| {
            let close = match error {
                CodeError::Unknown | CodeError::Exhausted | CodeError::Leaving => Close::CODE_UNKNOWN,
                CodeError::Expired => Close::CODE_EXPIRED,
                CodeError::Used => Close::CODE_USED,
            };
            Refusal::new(close, error.to_string())
        })?;
        let who = Who {
            subject: "customer".into(),
            name: "Customer".into(),
            organisation: redeemed.organisation.clone(),
            tenant: redeemed.organisation,
            role: Role::Customer,
            permitted: Rights::NONE,
            shows_past: false,
            ends: None,
            token: String::new(),
        };
        Ok(Admission { session: redeemed.session, who, sender: None })
    }

    fn observe(&self, session: SessionId, status: &SessionStatus) {
        let state = match status.state {
            _ if status.ended.is_some() => None,
            SessionState::Waiting => Some(State::Waiting),
            SessionState::Active => Some(State::Active),
            SessionState::Reconnecting => Some(State::Reconnecting),
            SessionState::Offline => Some(State::Offline),
            _ => Some(State::Connecting),
        };
        self.desk.observe(session, state, status.customer_online, SystemTime::now());
    }

    fn relay_leaves(&self) {
        self.desk.make_no_more();
    }
}
