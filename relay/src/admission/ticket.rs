//! Resume tickets: a participant's place, sealed under a key that only this relay and its successors have.
//!
//! The key lies in the state directory, so a relay that was killed lets everybody in again when it comes back.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use serde::{Deserialize, Serialize};
use tandem_protocol::{Close, Sender, SessionId};

use super::{Refusal, unix_seconds};
use crate::private_file;
use crate::session::Who;
use crate::state_file;

/// Longest time that a ticket is good for, whatever else allows it.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;

/// Everything that a relay must know to seat a participant whom it has never seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The session.
    pub session: SessionId,
    /// The participant's number.
    pub sender: Sender,
    /// Who it is.
    pub who: Who,
    /// When the ticket was made.
    pub issued: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    session: String,
    sender: u16,
    issued: i64,
    who: Who,
}

/// The key that seals tickets, and from which others are derived that must survive a restart too.
pub struct TicketKey {
    seal: RandomizedNonceKey,
    derive: hmac::Key,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey(secret)")
    }
}

impl TicketKey {
    /// A key that lives as long as this process.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn ephemeral() -> anyhow::Result<Self> {
        let mut key = [0; KEY_LEN];
        rand::fill(&mut key).context("no random numbers from the system")?;
        Self::new(&key)
    }

    /// The key in this file, which is made if there is none. A file that is no key is set aside: then tickets of before are
    /// worth nothing.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let parse = |bytes: &[u8]| <[u8; KEY_LEN]>::try_from(bytes).map_err(|_| "not 32 bytes");
        if let Some(key) = state_file::read(path, parse)? {
            return Self::new(&key);
        }
        let mut key = [0; KEY_LEN];
        rand::fill(&mut key).context("no random numbers from the system")?;
        private_file::write(path, &key)?;
        Self::new(&key)
    }

    fn new(key: &[u8]) -> anyhow::Result<Self> {
        let seal = RandomizedNonceKey::new(&AES_256_GCM, key);
        let seal = seal.map_err(|_| anyhow::anyhow!("a ticket key is {KEY_LEN} bytes"))?;
        Ok(Self { seal, derive: hmac::Key::new(hmac::HMAC_SHA256, key) })
    }

    /// Another secret of 32 bytes, the same for the same purpose as long as the key lasts.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.derive, purpose.as_bytes());
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Seals a ticket: nonce, then ciphertext.
    pub fn seal(&self, ticket: &Ticket) -> Vec<u8> {
        let plain = Plain {
            session: ticket.session.to_string(),
            sender: ticket.sender.0,
            issued: unix_seconds(ticket.issued),
            who: ticket.who.clone(),
        };
        let mut body = serde_json::to_vec(&plain).expect("a ticket has only strings and numbers");
        let nonce = self
            .seal
            .seal_in_place_append_tag(Aad::empty(), &mut body)
            .expect("a ticket is far below AES-GCM's limit");
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut body);
        sealed
    }

    /// Opens a sealed ticket.
    ///
    /// # Errors
    /// [`Close::TICKET_INVALID`] or [`Close::TICKET_EXPIRED`].
    pub fn open(&self, sealed: &[u8], now: SystemTime) -> Result<Ticket, Refusal> {
        let invalid = || Refusal::new(Close::TICKET_INVALID, "this ticket is not one of ours");
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(invalid)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| invalid())?;
        let mut body = body.to_vec();
        let plain = self.seal.open_in_place(nonce, Aad::empty(), &mut body).map_err(|_| invalid())?;
        let plain: Plain = serde_json::from_slice(plain).map_err(|_| invalid())?;
        if unix_seconds(now) - plain.issued > LIFE.as_secs() as i64 {
            return Err(Refusal::new(Close::TICKET_EXPIRED, "this ticket is too old"));
        }
        Ok(Ticket {
            session: plain.session.parse().map_err(|_| invalid())?,
            sender: Sender(plain.sender),
            who: plain.who,
            issued: SystemTime::UNIX_EPOCH + Duration::from_secs(plain.issued.max(0) as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::message::{Right, Rights, Role};

    fn ticket() -> Ticket {
        let who = Who {
            subject: "anna".into(),
            name: "Anna".into(),
            organisation: "Acme".into(),
            tenant: "acme".into(),
            role: Role::Lead,
            permitted: Rights::of(&[Right::View, Right::Control]),
            shows_past: true,
            ends: Some(2_000_000),
            token: "t".into(),
        };
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Ticket { session: SessionId([7; 16]), sender: Sender(9), who, issued }
    }

    #[test]
    fn a_ticket_survives_a_restart_by_its_key_file_and_nothing_else_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket.key");
        let sealed = TicketKey::load(&path).unwrap().seal(&ticket());
        let now = ticket().issued + Duration::from_secs(60);
        assert_eq!(TicketKey::load(&path).unwrap().open(&sealed, now), Ok(ticket()));
        let other = TicketKey::ephemeral().unwrap().open(&sealed, now).unwrap_err();
        assert_eq!(other.close, Close::TICKET_INVALID);
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(TicketKey::load(&path).unwrap().open(&bent, now).is_err(), "byte {at}");
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_replaced_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket.key");
        std::fs::write(&path, b"short").unwrap();
        let sealed = TicketKey::load(&path).unwrap().seal(&ticket());
        assert_eq!(TicketKey::load(&path).unwrap().open(&sealed, ticket().issued), Ok(ticket()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "and kept aside");
    }

    #[test]
    fn an_old_ticket_and_scraps_are_refused() {
        let key = TicketKey::ephemeral().unwrap();
        let late = ticket().issued + LIFE + Duration::from_secs(2);
        assert_eq!(key.open(&key.seal(&ticket()), late).unwrap_err().close, Close::TICKET_EXPIRED);
        for scrap in [&b""[..], b"short", &[0; 12], &[0; 40]] {
            assert_eq!(key.open(scrap, late).unwrap_err().close, Close::TICKET_INVALID);
        }
    }
}
