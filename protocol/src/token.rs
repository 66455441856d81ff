//! What a token says: the claims of the JWT (RFC 7519) by which a relay admits whom a desk has authenticated.

use serde::{Deserialize, Serialize};

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
