//! Tokens for the relay, signed with a key that lives as long as the desk.

use std::time::SystemTime;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tandem_protocol::SessionId;
use tandem_protocol::token::{Claims, TokenRight, TokenRole};

use crate::signin::random_text;
use crate::{KeyError, Settings};

pub(crate) struct Signer {
    key: EncodingKey,
    public: [u8; 32],
}

impl Signer {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError)?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| KeyError)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError)?;
        Ok(Self { key: EncodingKey::from_ed_der(pkcs8.as_ref()), public })
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn technician(
        &self,
        settings: &Settings,
        session: SessionId,
        rights: &[TokenRight],
        now: SystemTime,
    ) -> String {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let claims = Claims {
            aud: settings.audience.clone(),
            tenant: settings.organisation.clone(),
            sid: session.to_string(),
            sub: format!("technician:{}", settings.technician),
            name: settings.technician.clone(),
            organisation: settings.organisation.clone(),
            role: TokenRole::Lead,
            rights: rights.to_vec(),
            past: settings.show_past,
            nbf: seconds,
            exp: seconds + settings.token_life.as_secs() as i64,
            end: None,
            jti: random_text(),
        };
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
            .expect("the key is Ed25519 and the claims are JSON")
    }
}
