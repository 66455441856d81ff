//! Settings as the daemon needs them: checked, complete, and from wherever they came.
//!
//! A flag is stronger than the environment, that than the file, that than the default. [`mod@file`] is the file as people
//! write it; [`Overrides`] are flags and environment; [`Config::resolve`] is the one place where they meet.

pub mod file;
mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tandem_path::Congestion;
use url::Url;

use crate::drain;
use crate::limits::Limits;
use crate::session::Timing;
use file::File;

/// Relays that a draining one may name, and the length of their addresses.
const ALTERNATIVES_MAX: usize = 16;
const ALTERNATIVE_MAX: usize = 255;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, or has a key that there is not.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A value that does not work.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key, with its section.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What flags and environment say; `None` leaves it to the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Public address.
    pub listen: Option<SocketAddr>,
    /// Private operations address.
    pub operations: Option<SocketAddr>,
    /// Whether UDP is served.
    pub udp: Option<bool>,
    /// Where state is kept.
    pub state_directory: Option<PathBuf>,
    /// Try-out mode on loopback.
    pub dev: bool,
}

/// The settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Public address: TCP, and UDP on the same port number.
    pub listen: SocketAddr,
    /// Private operations address, if there is one.
    pub operations: Option<SocketAddr>,
    /// Whether QUIC and WebTransport are served.
    pub udp: bool,
    /// How connections find out what their path takes.
    pub congestion: Congestion,
    /// Where certificates come from.
    pub tls: Tls,
    /// Where state is kept.
    pub state: State,
    /// Audience of tokens.
    pub audience: String,
    /// Ed25519 public keys of desks elsewhere.
    pub token_keys: Vec<[u8; 32]>,
    /// Directory of further ones, by name.
    pub token_directory: Option<PathBuf>,
    /// The built-in desk, if it is on.
    pub desk: Option<Desk>,
    /// Times of sessions.
    pub timing: Timing,
    /// What there may be of everything.
    pub limits: Limits,
    /// How it leaves service.
    pub drain: drain::Settings,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files.
    Files {
        /// The chain, the relay's own first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Made here, for trying out on loopback.
    SelfSigned {
        /// Kept in this file, so that a restart changes nothing.
        file: Option<PathBuf>,
    },
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// In this directory.
    Directory(PathBuf),
    /// Nowhere: tickets end with the process.
    Nowhere,
}

/// The built-in desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desk {
    /// The organisation's name.
    pub organisation: String,
    /// The technician's name.
    pub technician: String,
    /// How long a code is good for.
    pub code_life: Duration,
    /// Whether those who join a session later may be shown what was on the screen before.
    pub show_past: bool,
}

impl Config {
    /// Makes settings of what was written and said, or says what is wrong with it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names key, value and reason.
    pub fn resolve(file: File, overrides: Overrides) -> Result<Self, ConfigError> {
        let dev = overrides.dev;
        let default_listen =
            || if dev { SocketAddr::from(([127, 0, 0, 1], 8443)) } else { file.listen.address };
        let listen = overrides.listen.unwrap_or_else(default_listen);
        if dev && !listen.ip().is_loopback() {
            return Err(value(
                "listen.address",
                listen,
                "--dev serves loopback only: without encryption for browsers",
            ));
        }
        let congestion = &file.transport.congestion;
        let congestion: Congestion = congestion
            .parse()
            .map_err(|error| value("transport.congestion", congestion, format!("{error}")))?;
        let state_directory = overrides.state_directory.or(file.state.directory);
        let tls = match (&file.tls.certificate, &file.tls.key) {
            _ if dev => Tls::SelfSigned {
                file: state_directory.as_ref().map(|directory| directory.join("self-signed.pem")),
            },
            (Some(certificate), Some(key)) => {
                Tls::Files { certificate: certificate.clone(), key: key.clone() }
            }
            _ => {
                return Err(value(
                    "tls.certificate",
                    "",
                    "a relay needs tls.certificate and tls.key, PEM files (or --dev to try out)",
                ));
            }
        };
        let state = match state_directory {
            Some(directory) => State::Directory(directory),
            None => State::Nowhere,
        };
        let seconds = |key, seconds: u64, least: u64| {
            if seconds < least {
                Err(value(key, seconds, format!("at least {least}")))
            } else {
                Ok(Duration::from_secs(seconds))
            }
        };
        let timing = Timing {
            grace: seconds("session.grace_seconds", file.session.grace_seconds, 5)?,
            heartbeat_active: seconds(
                "session.heartbeat_active_seconds",
                file.session.heartbeat_active_seconds,
                1,
            )?,
            heartbeat_waiting: seconds(
                "session.heartbeat_waiting_seconds",
                file.session.heartbeat_waiting_seconds,
                1,
            )?,
        };
        let limits = file.limits.resolve()?;
        let code_life = seconds("desk.code_life_seconds", file.desk.code_life_seconds, 1)?;
        let desk = file.desk.enabled.then_some(Desk {
            organisation: file.desk.organisation,
            technician: file.desk.technician,
            code_life,
            show_past: file.desk.show_past,
        });
        let token_keys = file.tokens.keys.iter().map(|key| token_key(key)).collect::<Result<_, _>>()?;
        Ok(Self {
            listen,
            operations: overrides.operations.or(file.listen.operations),
            udp: overrides.udp.unwrap_or(file.listen.udp),
            congestion,
            tls,
            state,
            audience: file.tokens.audience,
            token_keys,
            token_directory: file.tokens.directory,
            desk,
            timing,
            limits,
            drain: leaving(file.drain)?,
        })
    }
}

fn value(key: &'static str, value: impl std::fmt::Display, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), reason: reason.into() }
}

fn leaving(file: file::Drain) -> Result<drain::Settings, ConfigError> {
    for url in &file.alternatives {
        let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "https" && url.has_host());
        if parsed.is_none() || url.len() > ALTERNATIVE_MAX {
            return Err(value("drain.alternatives", url, "a relay's address is like https://relay.example"));
        }
    }
    if file.alternatives.len() > ALTERNATIVES_MAX {
        return Err(value(
            "drain.alternatives",
            file.alternatives.len(),
            format!("at most {ALTERNATIVES_MAX}"),
        ));
    }
    Ok(drain::Settings {
        deadline: Duration::from_secs(file.deadline_seconds),
        spread: Duration::from_secs(file.spread_seconds),
        alternatives: file.alternatives,
    })
}

fn token_key(text: &str) -> Result<[u8; 32], ConfigError> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| value("tokens.keys", text, "an Ed25519 public key is 32 bytes in base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tls() -> File {
        toml::from_str("[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"").unwrap()
    }

    #[test]
    fn a_flag_is_stronger_than_the_file_and_the_file_than_the_default() {
        let file = || -> File {
            toml::from_str(
                "[listen]\naddress = \"0.0.0.0:4443\"\nudp = false\n[tls]\ncertificate = \"a\"\nkey = \"b\"",
            )
            .unwrap()
        };
        let config = Config::resolve(file(), Overrides::default()).unwrap();
        assert_eq!(config.listen.port(), 4443);
        assert!(!config.udp);
        let flags =
            Overrides { udp: Some(true), listen: Some(([0, 0, 0, 0], 9).into()), ..Default::default() };
        let config = Config::resolve(file(), flags).unwrap();
        assert_eq!((config.listen.port(), config.udp), (9, true));
        assert_eq!(Config::resolve(with_tls(), Overrides::default()).unwrap().listen.port(), 443);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |file: &str, overrides: Overrides| {
            Config::resolve(toml::from_str(file).unwrap(), overrides).unwrap_err().to_string()
        };
        assert!(refused("", Overrides::default()).contains("tls.certificate"));
        let dev = Overrides { dev: true, listen: Some(([0, 0, 0, 0], 443).into()), ..Default::default() };
        assert!(refused("", dev).contains("loopback"));
        let bad = "[tls]\ncertificate='a'\nkey='b'\n[session]\ngrace_seconds = 1";
        assert!(refused(bad, Overrides::default()).contains("session.grace_seconds = 1: at least 5"));
        let bad = "[tls]\ncertificate='a'\nkey='b'\n[tokens]\nkeys = ['short']";
        assert!(refused(bad, Overrides::default()).contains("tokens.keys = short"));
        let bad = "[tls]\ncertificate='a'\nkey='b'\n[drain]\nalternatives = ['http://b.example']";
        assert!(refused(bad, Overrides::default()).contains("drain.alternatives = http://b.example"));
        let bad = "[tls]\ncertificate='a'\nkey='b'\n[transport]\ncongestion = 'vegas'";
        assert!(refused(bad, Overrides::default()).contains("transport.congestion = vegas: one of bbr"));
    }
}
