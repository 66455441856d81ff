//! What a desk must not forget when it is started again, as text: sessions with their codes, who is signed in, and the key that
//! signs tokens.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The version of this format.
const VERSION: u32 = 1;

/// Everything.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    version: u32,
    pub(crate) sessions: Vec<Session>,
    pub(crate) sign_ins: Vec<SignIn>,
    /// The seed of the key that signs tokens, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signing_key: Option<String>,
}

/// A session that has not ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Seconds since 1970, as all times here.
    pub(crate) created: u64,
    pub(crate) code_expires: u64,
    /// The attempt that the customer joined in, 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used_by: Option<String>,
    /// Somebody has been in it.
    pub(crate) joined: bool,
    /// How often somebody else tried the code.
    #[serde(default)]
    pub(crate) code_failures: u32,
}

/// Somebody who is signed in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// SHA-256 of the cookie: who reads this file cannot sign in with it.
    pub(crate) cookie: String,
    pub(crate) until: u64,
}

/// Text that is none of a desk's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damaged {
    /// Not JSON of this shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Of another version of this program.
    #[error("version {0} of the desk's memory: this program knows version {VERSION}")]
    Version(u32),
    /// A value that is none.
    #[error("{0} is no {1}")]
    Value(String, &'static str),
    /// A signing key that is none. It is not told: it is secret all the same.
    #[error("the signing key is none")]
    Key,
}

impl Saved {
    pub(crate) fn new(sessions: Vec<Session>, sign_ins: Vec<SignIn>, signing_key: &[u8]) -> Self {
        Self { version: VERSION, sessions, sign_ins, signing_key: Some(hex(signing_key)) }
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Damaged> {
        let saved: Self = serde_json::from_slice(json)?;
        if saved.version == VERSION { Ok(saved) } else { Err(Damaged::Version(saved.version)) }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(crate) fn time(seconds: u64) -> SystemTime {
    // A number that is no time counts as long ago.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], Damaged> {
    let damaged = || Damaged::Value(text.to_owned(), what);
    let pair = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..N).map(pair).collect();
    let bytes = bytes.filter(|_| text.len() == 2 * N).ok_or_else(damaged)?;
    bytes.try_into().map_err(|_| damaged())
}
