//! Sessions that have ended: their tickets must not open them again, not even after a restart.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use tandem_protocol::{Close, SessionId};

use crate::admission::TICKET_LIFE;

/// Sessions that are remembered at most; beyond it the oldest go.
const MOST: usize = 100_000;

/// Which sessions have ended, and why.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    by_id: HashMap<SessionId, Close>,
    /// In the order of their ends.
    order: VecDeque<(SystemTime, SessionId)>,
}

/// A file that is not ours.
#[derive(Debug, thiserror::Error)]
#[error("line {0} is none of ended sessions")]
pub(crate) struct Damaged(usize);

impl Ended {
    /// Why a session has ended, if it has.
    pub(crate) fn why(&self, id: SessionId) -> Option<Close> {
        self.by_id.get(&id).copied()
    }

    /// A session has ended.
    pub(crate) fn insert(&mut self, id: SessionId, close: Close, now: SystemTime) {
        while let Some(&(at, oldest)) = self.order.front() {
            let age = now.duration_since(at).unwrap_or(Duration::ZERO);
            if age <= TICKET_LIFE && self.order.len() < MOST {
                break;
            }
            self.order.pop_front();
            self.by_id.remove(&oldest);
        }
        if self.by_id.insert(id, close).is_none() {
            self.order.push_back((now, id));
        }
    }

    /// As text: a line each, seconds since 1970, id, close code.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.order.len() * 48);
        for (at, id) in &self.order {
            let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let close = self.by_id.get(id).map_or(Close::ENDED, |&close| close);
            text.push_str(&format!("{seconds} {id} {}\n", close.number()));
        }
        text
    }

    /// From such text.
    pub(crate) fn from_text(text: &[u8], now: SystemTime) -> Result<Self, Damaged> {
        let mut ended = Self::default();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let (when, id, close) = parse(line).ok_or(Damaged(at + 1))?;
            if now.duration_since(when).unwrap_or(Duration::ZERO) <= TICKET_LIFE {
                ended.insert(id, close, when);
            }
        }
        Ok(ended)
    }
}

fn parse(line: &[u8]) -> Option<(SystemTime, SessionId, Close)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let seconds = words.next()?.parse::<u32>().ok()?;
    let id = words.next()?.parse().ok()?;
    let close = Close::from_number(words.next()?.parse::<u16>().ok()?.into());
    words.next().is_none().then_some((
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()),
        id,
        close,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> SessionId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        SessionId(id)
    }

    #[test]
    fn what_has_ended_is_remembered_over_a_restart_as_long_as_tickets_live() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut ended = Ended::default();
        ended.insert(id(1), Close::ENDED, now);
        ended.insert(id(2), Close::TICKET_EXPIRED, now + Duration::from_secs(60));
        let text = ended.to_text();
        let again = Ended::from_text(text.as_bytes(), now + TICKET_LIFE).unwrap();
        assert_eq!(
            (again.why(id(1)), again.why(id(2)), again.why(id(3))),
            (Some(Close::ENDED), Some(Close::TICKET_EXPIRED), None)
        );
        let later = Ended::from_text(text.as_bytes(), now + TICKET_LIFE + Duration::from_secs(1)).unwrap();
        assert_eq!((later.why(id(1)), later.why(id(2))), (None, Some(Close::TICKET_EXPIRED)));
        for bad in [&b"nonsense"[..], b"1 2 3\n", &text.as_bytes()[..text.len() - 8]] {
            assert!(Ended::from_text(bad, now).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let now = SystemTime::UNIX_EPOCH;
        let mut ended = Ended::default();
        for number in 0..MOST as u32 + 10 {
            ended.insert(id(number), Close::ENDED, now);
        }
        assert_eq!((ended.why(id(9)), ended.why(id(10))), (None, Some(Close::ENDED)));
    }
}
