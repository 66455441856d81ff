//! A desk of the test's own, whose tokens the relay takes.

use std::time::SystemTime;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tandem_protocol::SessionId;
use tandem_protocol::token::{Claims, TokenRight, TokenRole};

use super::common::{Relay, config};

/// Signs tokens.
pub(crate) struct Desk {
    key: EncodingKey,
    public: String,
    directory: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
        let directory = tempfile::tempdir().unwrap();
        Self { key, public: STANDARD.encode(pair.public_key()), directory }
    }

    /// A relay that takes its tokens, with these limits, started after these words in a shell.
    pub(crate) async fn relay(&self, limits: &str, shell: &str) -> Relay {
        let text = format!("[tokens]\nkeys = [\"{}\"]\n[limits]\n{limits}\n", self.public);
        let file = config(self.directory.path(), &text);
        Relay::start_in(shell, &["--config", &file, "--state-directory", &self.state()]).await
    }

    /// Where its state is.
    pub(crate) fn state(&self) -> String {
        self.directory.path().join("state").to_str().unwrap().to_owned()
    }

    /// A new session's id.
    pub(crate) fn session() -> String {
        SessionId(rand::random()).to_string()
    }

    /// A token for a new person.
    pub(crate) fn token(&self, session: &str, tenant: &str, role: TokenRole) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let name = Self::session();
        let claims = Claims {
            aud: "tandem".into(),
            tenant: tenant.into(),
            sid: session.into(),
            sub: name.clone(),
            name: name.clone(),
            organisation: "Acme".into(),
            role,
            rights: vec![TokenRight::View, TokenRight::Control, TokenRight::Chat],
            past: false,
            nbf: now,
            exp: now + 60,
            end: None,
            jti: name,
            cnf: None,
        };
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).unwrap()
    }
}
