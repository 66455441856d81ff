//! Tokens for the relay, signed with a key that lives as long as the desk's memory.

use std::time::SystemTime;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tandem_protocol::SessionId;
use tandem_protocol::token::{Claims, Confirmation, PublicKey, TokenRight, TokenRole};

use crate::signin::random_text;
use crate::{KeyError, Settings};

/// Bytes of an Ed25519 key, public or secret.
const KEY_LEN: usize = 32;

pub(crate) struct Signer {
    key: EncodingKey,
    public: [u8; KEY_LEN],
    seed: [u8; KEY_LEN],
}

impl Signer {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Self::of(&Ed25519KeyPair::generate().map_err(|_| KeyError)?)
    }

    /// The one whose [`Signer::seed`] this is.
    pub(crate) fn from_seed(seed: &[u8; KEY_LEN]) -> Result<Self, KeyError> {
        Self::of(&Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError)?)
    }

    fn of(pair: &Ed25519KeyPair) -> Result<Self, KeyError> {
        let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| KeyError)?;
        let seed = seed.as_ref().try_into().map_err(|_| KeyError)?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| KeyError)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError)?;
        Ok(Self { key: EncodingKey::from_ed_der(pkcs8.as_ref()), public, seed })
    }

    pub(crate) fn public_key(&self) -> [u8; KEY_LEN] {
        self.public
    }

    /// What it can be made of again. Secret.
    pub(crate) fn seed(&self) -> &[u8; KEY_LEN] {
        &self.seed
    }

    pub(crate) fn technician(
        &self,
        settings: &Settings,
        (session, rights): (SessionId, &[TokenRight]),
        key: Option<PublicKey>,
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
            cnf: key.map(|jwk| Confirmation { jwk }),
        };
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
            .expect("the key is Ed25519 and the claims are JSON")
    }
}
