//! Signing in: a secret that works once, and the sign-ins that it leads to.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::saved::{self, Damaged, from_hex, hex};

/// How long a technician stays signed in.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// Secrets that wait to be used, and sign-ins, at most.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct SignIns {
    secrets: Vec<String>,
    /// By the SHA-256 of their cookies.
    signed_in: HashMap<[u8; 32], SystemTime>,
}

fn hash(cookie: &str) -> [u8; 32] {
    digest(&SHA256, cookie.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl SignIns {
    /// A new secret, good for one sign-in. The oldest unused one goes when there are too many.
    pub(crate) fn one_time_secret(&mut self) -> String {
        if self.secrets.len() >= MOST {
            self.secrets.remove(0);
        }
        let secret = random_text();
        self.secrets.push(secret.clone());
        secret
    }

    /// Spends a secret for a cookie's value.
    pub(crate) fn sign_in(&mut self, secret: &str, now: SystemTime) -> Option<String> {
        let same = |known: &String| verify_slices_are_equal(known.as_bytes(), secret.as_bytes()).is_ok();
        let at = self.secrets.iter().position(same)?;
        self.secrets.swap_remove(at);
        self.signed_in.retain(|_, until| *until > now);
        if self.signed_in.len() >= MOST {
            return None;
        }
        let cookie = random_text();
        self.signed_in.insert(hash(&cookie), now + LIFE);
        Some(cookie)
    }

    pub(crate) fn is_signed_in(&self, cookie: &str, now: SystemTime) -> bool {
        self.signed_in.get(&hash(cookie)).is_some_and(|until| *until > now)
    }

    pub(crate) fn sign_out(&mut self, cookie: &str) {
        self.signed_in.remove(&hash(cookie));
    }

    /// What is to survive a restart. Secrets do not: each start leaves a new one.
    pub(crate) fn save(&self) -> Vec<saved::SignIn> {
        let save = |(cookie, &until): (&[u8; 32], &SystemTime)| saved::SignIn {
            cookie: hex(cookie),
            until: saved::seconds(until),
        };
        self.signed_in.iter().map(save).collect()
    }

    pub(crate) fn restore(&mut self, saved: &[saved::SignIn], now: SystemTime) -> Result<(), Damaged> {
        for one in saved {
            let until = saved::time(one.until).min(now + LIFE);
            self.signed_in.insert(from_hex(&one.cookie, "hash of a cookie")?, until);
        }
        Ok(())
    }
}

/// 256 random bits as text.
pub(crate) fn random_text() -> String {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system's random numbers were there when the signing key was made");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_signs_in_once_and_the_cookie_ends() {
        let mut signins = SignIns::default();
        let now = SystemTime::UNIX_EPOCH;
        let secret = signins.one_time_secret();
        assert_eq!(signins.sign_in("wrong", now), None);
        let cookie = signins.sign_in(&secret, now).unwrap();
        assert_eq!(signins.sign_in(&secret, now), None);
        assert!(signins.is_signed_in(&cookie, now));
        assert!(!signins.is_signed_in(&cookie, now + LIFE));
        let mut again = SignIns::default();
        again.restore(&signins.save(), now).unwrap();
        assert!(again.is_signed_in(&cookie, now) && !again.is_signed_in("guess", now));
        assert!(!again.save()[0].cookie.contains(&cookie), "the cookie itself is not kept");
        signins.sign_out(&cookie);
        assert!(!signins.is_signed_in(&cookie, now));
    }
}
