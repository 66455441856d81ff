//! What a token says: the claims of the JWT (RFC 7519) by which a relay admits whom a desk has authenticated.

use serde::{Deserialize, Serialize};

use crate::ids::AttemptId;

/// The claims of a token, signed with EdDSA. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The relay that it is for.
    pub aud: String,
    /// Whose account pays: the organisation's id at the desk.
    pub tenant: String,
    /// The session, as 32 hexadecimal digits.
    pub sid: String,
    /// The participant's id at the desk.
    pub sub: String,
    /// Shown to the customer.
    pub name: String,
    /// Shown to the customer.
    pub organisation: String,
    /// `customer`, `lead`, `collaborator` or `monitor`.
    pub role: TokenRole,
    /// What the participant's group permits.
    pub rights: Vec<TokenRight>,
    /// Of a lead: those who join its session later may be shown what was on the screen before they could see it. Absent: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub past: bool,
    /// Not good before.
    pub nbf: i64,
    /// Not good to connect after.
    pub exp: i64,
    /// Until when the participant may be in the session; of the customer or the lead: when the session ends. Absent: no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Of this token alone: it is good for one attempt.
    pub jti: String,
    /// The key without which nobody can join by it. Absent: whoever has it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// What a token is bound to (RFC 7800).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// A public key.
    pub jwk: PublicKey,
}

/// An Ed25519 public key as JSON (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// Its 32 bytes, in base64url without padding.
    pub x: String,
}

impl PublicKey {
    /// One with these bytes, which are in base64url already.
    pub fn ed25519(x: impl Into<String>) -> Self {
        Self { kty: "OKP".into(), crv: "Ed25519".into(), x: x.into() }
    }

    /// The bytes, still in base64url; `None` if it is a key of another kind.
    pub fn as_ed25519(&self) -> Option<&str> {
        (self.kty == "OKP" && self.crv == "Ed25519").then_some(&*self.x)
    }
}

/// What a client that joins by a bound token signs with its key: `Hello.proof` is the signature. It belongs to this attempt and token
/// alone.
pub fn to_be_signed(attempt: AttemptId, epoch: u64, token: &str) -> Vec<u8> {
    [b"tandem hello 1", &attempt.0[..], &epoch.to_le_bytes(), token.as_bytes()].concat()
}

/// A role, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/protocol.md says who does what")]
pub enum TokenRole {
    Customer,
    Lead,
    Collaborator,
    Monitor,
}

/// A right, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/protocol.md says what each allows")]
pub enum TokenRight {
    View,
    Control,
    Clipboard,
    SendFiles,
    ReceiveFiles,
    Chat,
    Audio,
}

/// What `/.well-known/tandem` answers: how else the relay can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WellKnown {
    /// Protocol versions, best first.
    pub versions: Vec<u32>,
    /// UDP port of QUIC and WebTransport; absent: TCP only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quic_port: Option<u16>,
    /// Path of WebSocket and WebTransport.
    pub path: String,
    /// SHA-256 of the certificates in use now and next, base64, for those that no authority signed.
    #[serde(default)]
    pub certificate_hashes: Vec<String>,
}
