//! The configuration file as people write it. Every key has a default; a key that there is not is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tandem_path::Congestion;
use tandem_protocol::limits;

use super::ConfigError;
pub use super::limits::Limits;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where to listen.
    pub listen: Listen,
    /// How bytes are sent.
    pub transport: Transport,
    /// Certificates.
    pub tls: Tls,
    /// What survives a restart.
    pub state: State,
    /// Tokens of desks elsewhere.
    pub tokens: Tokens,
    /// The built-in desk.
    pub desk: Desk,
    /// Times of sessions.
    pub session: Session,
    /// What there may be of everything.
    pub limits: Limits,
    /// Leaving service.
    pub drain: Drain,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Public address: HTTPS and WebSocket on TCP, QUIC and WebTransport on UDP.
    pub address: SocketAddr,
    /// Whether to serve UDP.
    pub udp: bool,
    /// Private address of `/metrics` and `/healthz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0; 8], 443)),
            udp: true,
            operations: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
        }
    }
}

/// `[transport]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// How connections find out what their path takes: a name of [`Congestion`].
    pub congestion: String,
}

impl Default for Transport {
    fn default() -> Self {
        Self { congestion: Congestion::default().name().into() }
    }
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the certificate chain, the relay's own first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// `[state]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Directory of the key that seals resume tickets. Without it a restart ends every session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// Tokens must be for this audience.
    pub audience: String,
    /// Ed25519 public keys, base64, whose tokens are taken beside those of the built-in desk.
    pub keys: Vec<String>,
    /// Directory of further ones: NAME.pem for tokens whose header says `kid: NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { audience: "tandem".into(), keys: Vec::new(), directory: None }
    }
}

/// `[desk]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desk {
    /// Whether the built-in desk is on.
    pub enabled: bool,
    /// The organisation's name, as customers read it.
    pub organisation: String,
    /// The name of the technician who signs in by a one-time link.
    pub technician: String,
    /// How long a code is good for.
    pub code_life_seconds: u64,
    /// Whether those who join a session later may be shown what was on the screen before they could see it.
    pub show_past: bool,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            enabled: true,
            organisation: "Tandem".into(),
            technician: "Technician".into(),
            code_life_seconds: 20 * 60,
            show_past: false,
        }
    }
}

/// `[session]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// How long a participant whose connection is lost may come back.
    pub grace_seconds: u64,
    /// Heartbeat while both sides are there.
    pub heartbeat_active_seconds: u64,
    /// Heartbeat while a customer waits.
    pub heartbeat_waiting_seconds: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            grace_seconds: limits::GRACE.as_secs(),
            heartbeat_active_seconds: limits::HEARTBEAT_ACTIVE.as_secs(),
            heartbeat_waiting_seconds: limits::HEARTBEAT_WAITING.as_secs(),
        }
    }
}

/// `[drain]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long sessions may stay once the relay leaves service.
    pub deadline_seconds: u64,
    /// The longest time over which those who come back, or go elsewhere, are spread.
    pub spread_seconds: u64,
    /// Where else sessions may go on, as URLs.
    pub alternatives: Vec<String>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline_seconds: 10, spread_seconds: 10, alternatives: Vec::new() }
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] or [`ConfigError::Parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_every_key_at_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/relay.toml");
        assert_eq!(File::read(&path).unwrap(), File::default());
        // And none is left out: keys without a default stand there as comments.
        let text = std::fs::read_to_string(&path).unwrap();
        let written = toml::Value::try_from(File::default()).unwrap();
        for (section, keys) in written.as_table().unwrap() {
            assert!(text.contains(&format!("[{section}]")), "{section}");
            for key in keys.as_table().unwrap().keys() {
                assert!(text.lines().any(|line| line.starts_with(&format!("{key} ="))), "{section}.{key}");
            }
        }
        for key in ["certificate", "key", "directory"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("#{key} ="))), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<File>("[listen]\nadress = \"0.0.0.0:1\"").unwrap_err();
        assert!(error.to_string().contains("adress"), "{error}");
    }
}
