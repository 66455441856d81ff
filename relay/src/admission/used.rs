//! Tokens that were used. Each is good for one attempt, also after a restart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tandem_protocol::{AttemptId, Close};

use super::{Refusal, token};

/// Used tokens kept at most; beyond it the relay refuses new ones until some have expired.
const MOST: usize = 100_000;

/// Which tokens were used, until they are good no more.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// By their `jti`.
    by_name: HashMap<String, Use>,
}

#[derive(Debug)]
struct Use {
    by: AttemptId,
    /// When the token expires, in seconds since 1970.
    expiry: i64,
}

/// One of them in the file.
#[derive(Serialize, Deserialize)]
struct Line {
    jti: String,
    by: [u8; 16],
    expiry: i64,
}

impl Used {
    /// Spends a token that is good until `expiry`. Whether it was not spent before.
    ///
    /// # Errors
    /// [`Close::TOKEN_USED`] if it was by another attempt.
    pub(super) fn spend(
        &mut self,
        jti: String,
        by: AttemptId,
        expiry: i64,
        now: i64,
    ) -> Result<bool, Refusal> {
        if let Some(before) = self.by_name.get(&jti) {
            let same = before.by == by;
            return if same {
                Ok(false)
            } else {
                Err(Refusal::new(Close::TOKEN_USED, "this token was used before"))
            };
        }
        if self.by_name.len() >= MOST {
            self.forget_expired(now);
            if self.by_name.len() >= MOST {
                return Err(Refusal::new(Close::OVERLOADED, "too many tokens at once"));
            }
        }
        self.by_name.insert(jti, Use { by, expiry });
        Ok(true)
    }

    /// Forgets those that are refused anyway.
    fn forget_expired(&mut self, now: i64) {
        self.by_name.retain(|_, used| used.expiry + token::LEEWAY >= now);
    }

    /// What must survive a restart.
    pub(super) fn save(&mut self, now: i64) -> Vec<u8> {
        self.forget_expired(now);
        let line =
            |(jti, used): (&String, &Use)| Line { jti: jti.clone(), by: used.by.0, expiry: used.expiry };
        let lines: Vec<Line> = self.by_name.iter().map(line).collect();
        serde_json::to_vec(&lines).expect("strings and numbers are JSON")
    }

    /// From such text.
    pub(super) fn restore(json: &[u8]) -> serde_json::Result<Self> {
        let lines: Vec<Line> = serde_json::from_slice(json)?;
        let used = |line: Line| (line.jti, Use { by: AttemptId(line.by), expiry: line.expiry });
        Ok(Self { by_name: lines.into_iter().map(used).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_attempt_also_after_a_restart_and_forgotten_when_it_is_over() {
        let (one, other) = (AttemptId([1; 16]), AttemptId([2; 16]));
        let mut used = Used::default();
        assert_eq!(used.spend("a".into(), one, 100, 50), Ok(true));
        assert_eq!(used.spend("b".into(), one, 1000, 50), Ok(true));
        for mut used in [Used::restore(&used.save(60)).unwrap(), used] {
            assert_eq!(used.spend("a".into(), one, 100, 60), Ok(false), "the race's second connection");
            assert_eq!(used.spend("a".into(), other, 100, 60).unwrap_err().close, Close::TOKEN_USED);
            let mut later = Used::restore(&used.save(100 + token::LEEWAY + 1)).unwrap();
            assert_eq!(later.by_name.len(), 1);
            assert_eq!(later.spend("b".into(), other, 1000, 200).unwrap_err().close, Close::TOKEN_USED);
        }
        assert!(Used::restore(b"[{}]").is_err());
    }
}
