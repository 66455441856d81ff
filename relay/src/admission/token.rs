//! Tokens: JWTs signed with EdDSA by a desk whose public key the relay has.

use std::time::SystemTime;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use tandem_protocol::Close;
use tandem_protocol::message::{Right, Rights, Role};
use tandem_protocol::token::{Claims, TokenRight, TokenRole};

use super::{Admission, Refusal, TokenKeys, unix_seconds};
use crate::session::Who;

/// Seconds by which clocks of desk and relay may differ.
pub(super) const LEEWAY: i64 = 30;
/// Most bytes of a text in a token: everybody in the session gets some of them, and tickets hold them all.
pub(super) const TEXT_MAX: usize = 256;

impl TokenKeys {
    /// The claims of a token that is good now.
    ///
    /// # Errors
    /// [`Close::TOKEN_INVALID`] or [`Close::TOKEN_EXPIRED`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, Refusal> {
        let no_token = || Refusal::new(Close::TOKEN_INVALID, "this is not a token");
        let header = decode_header(token).map_err(|_| no_token())?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[self.audience()]);
        validation.set_required_spec_claims(&["aud"]);
        // Times are checked below, against the clock that is handed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut refusal = Refusal::new(Close::TOKEN_INVALID, "no known key has signed this token");
        for key in self.of(header.kid.as_deref()) {
            match decode::<Claims>(token, &key, &validation) {
                Ok(data) => return check(data.claims, now),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    ErrorKind::InvalidAudience => {
                        refusal = Refusal::new(Close::TOKEN_INVALID, "this token is for another relay");
                    }
                    _ => refusal = no_token(),
                },
            }
        }
        Err(refusal)
    }
}

fn check(claims: Claims, now: SystemTime) -> Result<Claims, Refusal> {
    let now = unix_seconds(now);
    if claims.exp.saturating_add(LEEWAY) < now {
        return Err(Refusal::new(Close::TOKEN_EXPIRED, "this token's time is over"));
    }
    if claims.nbf.saturating_sub(LEEWAY) > now {
        return Err(Refusal::new(Close::TOKEN_INVALID, "this token's time has not come"));
    }
    let texts = [&claims.tenant, &claims.sub, &claims.name, &claims.organisation, &claims.jti];
    if texts.iter().any(|text| text.len() > TEXT_MAX) {
        return Err(Refusal::new(Close::TOKEN_INVALID, "a text in this token is too long"));
    }
    if claims.jti.is_empty() {
        return Err(Refusal::new(Close::TOKEN_INVALID, "this token has no jti"));
    }
    Ok(claims)
}

/// Whether whoever joins by this token has shown the key that it is bound to, if it is: `proof` is the signature of `signed`.
///
/// # Errors
/// [`Close::TOKEN_INVALID`].
pub(super) fn check_bound(claims: &Claims, signed: &[u8], proof: &[u8]) -> Result<(), Refusal> {
    let Some(confirmation) = &claims.cnf else { return Ok(()) };
    let refusal = |why| Refusal::new(Close::TOKEN_INVALID, why);
    let key = confirmation.jwk.as_ed25519().and_then(|key| URL_SAFE_NO_PAD.decode(key).ok());
    let key = key.ok_or_else(|| refusal("this token is bound to a key that is none of Ed25519"))?;
    if proof.is_empty() {
        return Err(refusal("this token is bound to a key, and nobody has shown it"));
    }
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(signed, proof).map_err(|_| refusal("this token is bound to another key"))
}

/// What a token's claims admit to.
pub(super) fn admission(claims: &Claims) -> Result<Admission, Refusal> {
    let session = claims.sid.parse();
    let session = session.map_err(|_| Refusal::new(Close::TOKEN_INVALID, "this token names no session"))?;
    let role = match claims.role {
        TokenRole::Customer => Role::Customer,
        TokenRole::Lead => Role::Lead,
        TokenRole::Collaborator => Role::Collaborator,
        TokenRole::Monitor => Role::Monitor,
    };
    let right = |right: &TokenRight| match right {
        TokenRight::View => Right::View,
        TokenRight::Control => Right::Control,
        TokenRight::Clipboard => Right::Clipboard,
        TokenRight::SendFiles => Right::SendFiles,
        TokenRight::ReceiveFiles => Right::ReceiveFiles,
        TokenRight::Chat => Right::Chat,
        TokenRight::Audio => Right::Audio,
    };
    let mut permitted = Rights::of(&claims.rights.iter().map(right).collect::<Vec<_>>());
    if role == Role::Monitor {
        permitted = permitted.and(Rights::of(&[Right::View]));
    }
    let who = Who {
        subject: claims.sub.clone(),
        name: claims.name.clone(),
        organisation: claims.organisation.clone(),
        tenant: claims.tenant.clone(),
        role,
        permitted,
        shows_past: role == Role::Lead && claims.past,
        ends: claims.end,
        token: claims.jti.clone(),
    };
    Ok(Admission { session, who, sender: None })
}
