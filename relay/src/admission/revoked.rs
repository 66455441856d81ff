//! What an operator has withdrawn: sessions, tokens, tenants. Kept in the state directory until it needs no keeping any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_protocol::{Close, SessionId};
use tracing::error;

use super::{Admission, Refusal};
use crate::private_file;
use crate::session::Who;

/// How long something is withdrawn unless the operator says until when: longer than any ticket is good.
pub const KEPT: i64 = 7 * 86_400;
/// Withdrawn at most, at a time. The file is written anew with each.
const MOST: usize = 10_000;

/// What is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawn {
    /// A session, by its id: 32 hexadecimal digits.
    Session(String),
    /// A token, by its `jti`, and who was admitted by it.
    Token(String),
    /// A tenant: all its sessions.
    Tenant(String),
}

/// Why something could not be withdrawn, or not for good.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Its name is none.
    #[error("a session is 32 hexadecimal digits, a token or tenant has a name")]
    Name,
    /// There is too much already.
    #[error("{MOST} are withdrawn already")]
    Full,
    /// It is in force, but a restart will forget it.
    #[error("in force, but a restart will forget it: {0:#}")]
    Forgetful(anyhow::Error),
}

/// All that is withdrawn, and until when, in seconds since 1970.
#[derive(Debug)]
pub struct Revocations {
    file: Option<PathBuf>,
    until: Mutex<BTreeMap<Withdrawn, i64>>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    what: Withdrawn,
    until: i64,
}

impl Withdrawn {
    fn is_named(&self) -> bool {
        match self {
            Self::Session(id) => id.parse::<SessionId>().is_ok(),
            Self::Token(name) | Self::Tenant(name) => {
                !name.is_empty() && name.len() <= super::token::TEXT_MAX
            }
        }
    }

    /// Whether this withdraws a place of this participant in this session.
    pub fn concerns(&self, session: SessionId, who: &Who) -> bool {
        match self {
            Self::Session(id) => id.parse() == Ok(session),
            Self::Token(token) => !who.token.is_empty() && *token == who.token,
            Self::Tenant(tenant) => *tenant == who.tenant,
        }
    }
}

impl Revocations {
    /// Those in this file, or none. A file that is none is set aside: a relay that does not start withdraws nothing either.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn load(file: Option<PathBuf>, now: i64) -> anyhow::Result<Self> {
        let lines = file.as_deref().map(read).transpose()?.unwrap_or_default();
        let until = lines.into_iter().filter(|line| line.until > now).map(|line| (line.what, line.until));
        Ok(Self { file, until: Mutex::new(until.collect()) })
    }

    /// Withdraws something.
    ///
    /// # Errors
    /// [`RevokeError`]. After [`RevokeError::Forgetful`] it is in force all the same.
    pub fn revoke(&self, what: Withdrawn, until: i64, now: i64) -> Result<(), RevokeError> {
        if !what.is_named() {
            return Err(RevokeError::Name);
        }
        let mut all = self.until.lock();
        all.retain(|_, until| *until > now);
        if all.len() >= MOST && !all.contains_key(&what) {
            return Err(RevokeError::Full);
        }
        all.insert(what, until);
        self.save(&all)
    }

    /// Withdraws something no more. Whether it was withdrawn.
    ///
    /// # Errors
    /// [`RevokeError::Forgetful`].
    pub fn restore(&self, what: &Withdrawn) -> Result<bool, RevokeError> {
        let mut all = self.until.lock();
        let was = all.remove(what).is_some();
        if was {
            self.save(&all)?;
        }
        Ok(was)
    }

    /// Whether this place is withdrawn.
    ///
    /// # Errors
    /// [`Close::REVOKED`].
    pub fn check(&self, admission: &Admission, now: i64) -> Result<(), Refusal> {
        let all = self.until.lock();
        let who = &admission.who;
        let names = [
            Withdrawn::Session(admission.session.to_string()),
            Withdrawn::Token(who.token.clone()),
            Withdrawn::Tenant(who.tenant.clone()),
        ];
        if names.iter().any(|name| all.get(name).is_some_and(|until| *until > now)) {
            return Err(Refusal::new(Close::REVOKED, "this was withdrawn by the relay's operator"));
        }
        Ok(())
    }

    fn save(&self, all: &BTreeMap<Withdrawn, i64>) -> Result<(), RevokeError> {
        let Some(file) = &self.file else { return Ok(()) };
        let lines: Vec<Line> = all.iter().map(|(what, &until)| Line { what: what.clone(), until }).collect();
        let text = serde_json::to_vec_pretty(&lines).map_err(|error| RevokeError::Forgetful(error.into()))?;
        private_file::write(file, &text).map_err(|error| RevokeError::Forgetful(error.into()))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Line>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => anyhow::bail!("cannot read {}: {error}", file.display()),
    };
    serde_json::from_slice(&text).or_else(|why| {
        let aside = file.with_extension("unreadable");
        std::fs::rename(file, &aside)?;
        error!(file = %aside.display(), %why, "revocations are forgotten: their file was set aside");
        Ok(Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::message::{Rights, Role};

    fn admission(session: u8, token: &str, tenant: &str) -> Admission {
        let who = Who {
            subject: "s".into(),
            name: "n".into(),
            organisation: "o".into(),
            tenant: tenant.into(),
            role: Role::Lead,
            permitted: Rights::NONE,
            shows_past: false,
            ends: None,
            token: token.into(),
        };
        Admission { session: SessionId([session; 16]), who, sender: None }
    }

    #[test]
    fn what_is_withdrawn_stays_so_over_a_restart_until_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked.json");
        let load = || Revocations::load(Some(file.clone()), 100).unwrap();
        let revocations = load();
        let id = SessionId([1; 16]).to_string();
        for what in [Withdrawn::Session(id), Withdrawn::Token("t".into()), Withdrawn::Tenant("acme".into())] {
            revocations.revoke(what, 200, 100).unwrap();
        }
        for revocations in [revocations, load()] {
            for (session, token, tenant, good) in
                [(1, "", "b", false), (2, "t", "b", false), (2, "", "acme", false), (2, "", "b", true)]
            {
                let checked = revocations.check(&admission(session, token, tenant), 150);
                assert_eq!(checked.is_ok(), good, "{session} {token} {tenant}");
            }
            assert!(revocations.check(&admission(1, "t", "acme"), 200).is_ok(), "its time is over");
        }
        let revocations = load();
        assert!(revocations.restore(&Withdrawn::Tenant("acme".into())).unwrap());
        assert!(!revocations.restore(&Withdrawn::Tenant("acme".into())).unwrap());
        assert!(load().check(&admission(2, "", "acme"), 150).is_ok());
    }

    #[test]
    fn an_unreadable_file_is_set_aside_and_a_disk_that_is_full_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked.json");
        std::fs::write(&file, b"[{\"session\":").unwrap();
        let revocations = Revocations::load(Some(file.clone()), 100).unwrap();
        assert!(!file.exists() && file.with_extension("unreadable").exists());
        drop(directory);
        let what = Withdrawn::Tenant("acme".into());
        assert!(matches!(revocations.revoke(what, 200, 100), Err(RevokeError::Forgetful(_))));
        assert!(revocations.check(&admission(1, "", "acme"), 150).is_err(), "it is in force all the same");
        let nothing = Withdrawn::Session("everything".into());
        assert!(matches!(revocations.revoke(nothing, 200, 100), Err(RevokeError::Name)));
    }
}
