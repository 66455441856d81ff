//! Sessions and their codes.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rand::Rng;
use serde::Serialize;
use tandem_protocol::{AttemptId, Code, SessionId};

use crate::saved::{self, Damaged, from_hex, hex};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has joined yet.
    Connecting,
    /// The customer is there.
    Waiting,
    /// Customer and technician are there.
    Active,
    /// The customer's connection is lost.
    Reconnecting,
    /// And has been for long.
    Offline,
}

/// Why a code leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// No session has it.
    #[error("no session has this code")]
    Unknown,
    /// Its time is over.
    #[error("this code's time is over: ask for a new one")]
    Expired,
    /// A customer has joined with it.
    #[error("somebody has joined with this code already: ask for a new one")]
    Used,
    /// Every code is in use.
    #[error("every code is in use")]
    Exhausted,
    /// The relay leaves service: a customer with a new code would be refused.
    #[error("the server is being serviced: try again in a minute")]
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) code: Option<Code>,
    pub(crate) state: State,
    pub(crate) created: SystemTime,
    pub(crate) code_expires: SystemTime,
    pub(crate) customer_online: bool,
    used_by: Option<AttemptId>,
    /// How often somebody else tried the code after it was used or over.
    pub(crate) failures: u32,
    /// Of before a restart: forgotten then, unless somebody comes back.
    awaited_until: Option<SystemTime>,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    code_life: Duration,
    by_id: HashMap<SessionId, Session>,
    by_code: HashMap<Code, SessionId>,
}

/// How long an expired code is remembered, so that its customer is told so.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// After so many failures a code burns.
const FAILURES_MAX: u32 = 5;
/// Sessions at most.
const SESSIONS_MAX: usize = 100_000;

impl Sessions {
    pub(crate) fn new(code_life: Duration) -> Self {
        Self { code_life, by_id: HashMap::new(), by_code: HashMap::new() }
    }

    pub(crate) fn create(&mut self, now: SystemTime) -> Result<(SessionId, Code), CodeError> {
        self.forget_stale(now);
        if self.by_code.len() >= SESSIONS_MAX {
            return Err(CodeError::Exhausted);
        }
        let mut random = rand::rng();
        let code = loop {
            let code = Code::from_number(random.random_range(0..Code::COUNT)).ok_or(CodeError::Exhausted)?;
            if !self.by_code.contains_key(&code) {
                break code;
            }
        };
        let id = SessionId(random.random());
        let session = Session {
            code: Some(code),
            state: State::Connecting,
            created: now,
            code_expires: now + self.code_life,
            customer_online: false,
            used_by: None,
            failures: 0,
            awaited_until: None,
        };
        self.by_id.insert(id, session);
        self.by_code.insert(code, id);
        Ok((id, code))
    }

    pub(crate) fn redeem(
        &mut self,
        code: Code,
        attempt: AttemptId,
        now: SystemTime,
    ) -> Result<SessionId, CodeError> {
        let id = *self.by_code.get(&code).ok_or(CodeError::Unknown)?;
        let session = self.by_id.get_mut(&id).ok_or(CodeError::Unknown)?;
        let error = match session.used_by {
            Some(by) if by == attempt => return Ok(id),
            Some(_) => CodeError::Used,
            None if now >= session.code_expires => CodeError::Expired,
            None => {
                session.used_by = Some(attempt);
                return Ok(id);
            }
        };
        session.failures += 1;
        if session.failures >= FAILURES_MAX {
            // From now on nobody can tell that there ever was such a code.
            session.code = None;
            self.by_code.remove(&code);
        }
        Err(error)
    }

    /// A session that this desk did not make, because it is older than the desk's memory, is taken in without a code. Whether
    /// that changes anything that survives a restart.
    pub(crate) fn observe(
        &mut self,
        id: SessionId,
        state: Option<State>,
        customer_online: bool,
        now: SystemTime,
    ) -> bool {
        let Some(state) = state else {
            let known = self.by_id.remove(&id);
            if let Some(code) = known.as_ref().and_then(|session| session.code) {
                self.by_code.remove(&code);
            }
            return known.is_some();
        };
        let joined = |session: &Session| session.state != State::Connecting;
        let before = self.by_id.get(&id).map(joined);
        let session = self.by_id.entry(id).or_insert(Session {
            code: None,
            state,
            created: now,
            code_expires: now,
            customer_online,
            used_by: None,
            failures: 0,
            awaited_until: None,
        });
        session.awaited_until = None;
        session.state = state;
        session.customer_online = customer_online;
        before != Some(joined(session))
    }

    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Sessions that a technician can do something with, newest first.
    pub(crate) fn list(&self, now: SystemTime) -> Vec<(SessionId, &Session)> {
        let open = |session: &Session| {
            session.awaited_until.map_or(session.state != State::Connecting, |until| now < until)
                || (session.state == State::Connecting && now < session.code_expires)
        };
        let mut list: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, session)| open(session))
            .map(|(&id, session)| (id, session))
            .collect();
        list.sort_by_key(|(id, session)| (std::cmp::Reverse(session.created), *id));
        list
    }

    /// Forgets sessions that were never joined and whose code is over for long, and those of before a restart that nobody came
    /// back to.
    fn forget_stale(&mut self, now: SystemTime) {
        let stale = |session: &Session| match session.awaited_until {
            Some(until) => now >= until,
            None => session.state == State::Connecting && now > session.code_expires + REMEMBERED,
        };
        self.by_id.retain(|_, session| !stale(session));
        self.by_code.retain(|_, id| self.by_id.contains_key(id));
    }

    /// What is to survive a restart.
    pub(crate) fn save(&self) -> Vec<saved::Session> {
        let save = |(id, session): (&SessionId, &Session)| saved::Session {
            id: id.to_string(),
            code: session.code.map(|code| code.to_string()),
            created: saved::seconds(session.created),
            code_expires: saved::seconds(session.code_expires),
            used_by: session.used_by.map(|attempt| hex(&attempt.0)),
            joined: session.state != State::Connecting,
            code_failures: session.failures,
        };
        self.by_id.iter().map(save).collect()
    }

    /// After a restart: participants of sessions that had begun may come back until `awaited_until`.
    pub(crate) fn restore(
        &mut self,
        saved: Vec<saved::Session>,
        awaited_until: SystemTime,
    ) -> Result<(), Damaged> {
        for one in saved {
            let id = one.id.parse().map_err(|_| Damaged::Value(one.id, "session"))?;
            let code = one.code.map(|code| code.parse().map_err(|_| Damaged::Value(code, "code")));
            let code: Option<Code> = code.transpose()?;
            let used_by = one.used_by.map(|attempt| from_hex(&attempt, "attempt").map(AttemptId));
            let used_by = used_by.transpose()?;
            let begun = one.joined || used_by.is_some();
            let session = Session {
                code,
                state: if begun { State::Reconnecting } else { State::Connecting },
                created: saved::time(one.created),
                code_expires: saved::time(one.code_expires),
                customer_online: false,
                used_by,
                failures: one.code_failures,
                awaited_until: begun.then_some(awaited_until),
            };
            if let Some(code) = code {
                self.by_code.insert(code, id);
            }
            self.by_id.insert(id, session);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(1200);

    #[test]
    fn a_code_is_good_for_one_attempt_and_twenty_minutes() {
        let mut sessions = Sessions::new(LIFE);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let (id, code) = sessions.create(now).unwrap();
        let (one, other) = (AttemptId([1; 16]), AttemptId([2; 16]));
        assert_eq!(sessions.redeem(code, one, now), Ok(id));
        assert_eq!(sessions.redeem(code, one, now + LIFE), Ok(id), "the race's second connection");
        assert_eq!(sessions.redeem(code, other, now), Err(CodeError::Used));
        let (_, late) = sessions.create(now).unwrap();
        assert_eq!(sessions.redeem(late, one, now + LIFE), Err(CodeError::Expired));
        let unknown = (0..).find_map(|n| Code::from_number(n).filter(|c| *c != code && *c != late)).unwrap();
        assert_eq!(sessions.redeem(unknown, one, now), Err(CodeError::Unknown));
    }

    #[test]
    fn a_code_that_others_try_is_noticed_and_burns() {
        let mut sessions = Sessions::new(LIFE);
        let now = SystemTime::UNIX_EPOCH;
        let (id, code) = sessions.create(now).unwrap();
        let customer = AttemptId([0; 16]);
        assert_eq!(sessions.redeem(code, customer, now), Ok(id));
        for n in 1..=5u8 {
            assert_eq!(sessions.redeem(code, AttemptId([n; 16]), now), Err(CodeError::Used));
            assert_eq!(sessions.by_id[&id].failures, u32::from(n));
        }
        assert_eq!(sessions.redeem(code, AttemptId([9; 16]), now), Err(CodeError::Unknown));
        assert!(sessions.contains(id), "its session goes on");
    }

    #[test]
    fn an_ended_session_gives_its_code_back_and_an_unknown_one_is_taken_in() {
        let mut sessions = Sessions::new(LIFE);
        let now = SystemTime::UNIX_EPOCH;
        let (id, code) = sessions.create(now).unwrap();
        sessions.observe(id, Some(State::Active), true, now);
        assert_eq!(sessions.list(now)[0].1.state, State::Active);
        sessions.observe(id, None, false, now);
        assert!(!sessions.contains(id));
        assert_eq!(sessions.redeem(code, AttemptId([1; 16]), now), Err(CodeError::Unknown));
        assert!(sessions.observe(SessionId([5; 16]), Some(State::Waiting), true, now));
        assert!(sessions.contains(SessionId([5; 16])));
        assert!(
            !sessions.observe(SessionId([5; 16]), Some(State::Active), true, now),
            "nothing that is kept"
        );
    }

    #[test]
    fn codes_survive_a_restart_and_sessions_that_nobody_comes_back_to_are_forgotten() {
        let mut sessions = Sessions::new(LIFE);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let [(fresh, code), (begun, used), (gone, _)] = [0; 3].map(|_| sessions.create(now).unwrap());
        let attempt = AttemptId([3; 16]);
        sessions.redeem(used, attempt, now).unwrap();
        sessions.redeem(used, AttemptId([8; 16]), now).unwrap_err();
        sessions.observe(gone, Some(State::Active), true, now);
        let until = now + Duration::from_secs(300);
        let mut again = Sessions::new(LIFE);
        again.restore(sessions.save(), until).unwrap();
        assert_eq!(again.by_id[&begun].failures, 1);
        assert_eq!(again.redeem(code, attempt, now), Ok(fresh));
        assert_eq!(again.redeem(used, attempt, now), Ok(begun), "the same attempt may ask again");
        assert_eq!(again.redeem(used, AttemptId([4; 16]), now), Err(CodeError::Used));
        let listed =
            |sessions: &Sessions, at| sessions.list(at).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(listed(&again, now).len(), 3);
        again.observe(begun, Some(State::Active), true, now);
        let later = listed(&again, until);
        assert!(later.contains(&begun) && !later.contains(&gone), "{later:?}");
        again.create(until).unwrap();
        assert!(!again.contains(gone) && again.contains(begun));
    }
}
