//! Who may join: codes at the desk, tokens by signature, tickets by the relay's own seal.

mod door;
mod keys;
mod network;
mod revoked;
mod throttle;
mod ticket;
mod token;
mod used;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tandem_protocol::message::{Hello, hello};
use tandem_protocol::token::to_be_signed;
use tandem_protocol::{AttemptId, Close, Code, Sender, SessionId, limits};

use crate::session::{SessionStatus, Who};
use crate::state_file::{self, Keeper};

pub use door::{Door, Verdict, Visitor};
pub use keys::{TokenKeys, public_key, public_key_info};
pub use network::Network;
pub use revoked::{KEPT, Revocations, RevokeError, Withdrawn};
pub use throttle::{Pace, Rate, Throttle, Total};
pub use ticket::{LIFE as TICKET_LIFE, Ticket, TicketKey};

use used::Used;

/// What the relay asks of a support desk: to say whose a code is. All that crosses this border is in here.
pub trait Desk: Send + Sync + std::fmt::Debug {
    /// A customer typed this code. Codes are spent by one attempt; the same attempt may ask again.
    ///
    /// # Errors
    /// [`Refusal`] with [`Close::CODE_UNKNOWN`], [`Close::CODE_EXPIRED`] or [`Close::CODE_USED`].
    fn redeem(&self, code: Code, attempt: AttemptId, now: SystemTime) -> Result<Admission, Refusal>;

    /// A session's state changed, or it ended.
    fn observe(&self, session: SessionId, status: &SessionStatus);

    /// The relay leaves service: whoever is new is refused, so no session should be made for it any more.
    fn relay_leaves(&self);
}

/// A relay without a desk of its own: no code is known, technicians and customers bring tokens.
#[derive(Debug)]
pub struct NoDesk;

impl Desk for NoDesk {
    fn redeem(&self, _: Code, _: AttemptId, _: SystemTime) -> Result<Admission, Refusal> {
        Err(Refusal::new(Close::CODE_UNKNOWN, "this relay has no codes"))
    }

    fn observe(&self, _: SessionId, _: &SessionStatus) {}

    fn relay_leaves(&self) {}
}

/// A place in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Which session.
    pub session: SessionId,
    /// As whom.
    pub who: Who,
    /// For a returning participant: the number that it had.
    pub sender: Option<Sender>,
}

/// A client is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{close}: {reason}")]
pub struct Refusal {
    /// Why, for programs.
    pub close: Close,
    /// Why, for people; never holds a secret.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(close: Close, reason: impl Into<String>) -> Self {
        Self { close, reason: reason.into() }
    }
}

/// Checks a `Hello`.
#[derive(Debug)]
pub struct Admitter {
    desk: Arc<dyn Desk>,
    /// Whose tokens are taken.
    pub tokens: TokenKeys,
    ticket_key: TicketKey,
    /// What is withdrawn.
    pub revocations: Revocations,
    used: Arc<Mutex<Used>>,
    /// Keeps them over a restart.
    kept: Option<Keeper>,
}

impl Admitter {
    /// With a desk for codes, keys for tokens and the key that seals tickets.
    pub fn new(
        desk: Arc<dyn Desk>,
        tokens: TokenKeys,
        ticket_key: TicketKey,
        revocations: Revocations,
    ) -> Self {
        Self { desk, tokens, ticket_key, revocations, used: Arc::default(), kept: None }
    }

    /// Remembers in this file which tokens were used, and takes over what one before it has remembered there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn keep(&mut self, path: PathBuf) -> anyhow::Result<()> {
        if let Some(used) = state_file::read(&path, Used::restore)? {
            *self.used.lock() = used;
        }
        let used = self.used.clone();
        let snapshot = move || used.lock().save(unix_seconds(SystemTime::now()));
        self.kept = Some(Keeper::start(path, snapshot)?);
        Ok(())
    }

    /// The desk.
    pub fn desk(&self) -> &dyn Desk {
        &*self.desk
    }

    /// Checks versions, attempt and the reason to join.
    ///
    /// # Errors
    /// A [`Refusal`] for the client.
    pub fn check(
        &self,
        hello: &Hello,
        visitor: &Visitor,
        now: SystemTime,
    ) -> Result<(Admission, AttemptId), Refusal> {
        if !hello.versions.contains(&limits::VERSION) {
            return Err(Refusal::new(Close::VERSION, "this relay speaks version 1"));
        }
        let attempt = AttemptId::try_from(&hello.attempt_id[..])
            .map_err(|_| Refusal::new(Close::PROTOCOL, "an attempt id is 16 bytes"))?;
        let admission = match &hello.join {
            None => return Err(Refusal::new(Close::PROTOCOL, "a Hello without code, token or ticket")),
            Some(hello::Join::Code(code)) => self.redeem(code, attempt, visitor, now)?,
            Some(hello::Join::Token(token)) => {
                let signed = to_be_signed(attempt, hello.epoch, token);
                self.spend(token, attempt, (&signed, &hello.proof), now)?
            }
            Some(hello::Join::Ticket(sealed)) => {
                let ticket = self.ticket_key.open(sealed, now)?;
                Admission { session: ticket.session, who: ticket.who, sender: Some(ticket.sender) }
            }
        };
        let seconds = unix_seconds(now);
        self.revocations.check(&admission, seconds)?;
        if admission.who.ends.is_some_and(|end| end <= seconds) {
            return Err(Refusal::new(Close::TIME_OVER, "your time in the session is over"));
        }
        Ok((admission, attempt))
    }

    /// Spends a code, unless too many were wrong before it.
    fn redeem(
        &self,
        code: &str,
        attempt: AttemptId,
        visitor: &Visitor,
        now: SystemTime,
    ) -> Result<Admission, Refusal> {
        let instant = Instant::now();
        visitor.may_guess(instant)?;
        let code = code.parse().map_err(|_| Refusal::new(Close::CODE_UNKNOWN, "a code is six digits"));
        let redeemed = code.and_then(|code| self.desk.redeem(code, attempt, now));
        redeemed.inspect_err(|_| visitor.guessed_wrong(instant))
    }

    /// Verifies a token, and that its holder has the key that it is bound to, and marks it as used by this attempt.
    fn spend(
        &self,
        token: &str,
        attempt: AttemptId,
        (signed, proof): (&[u8], &[u8]),
        now: SystemTime,
    ) -> Result<Admission, Refusal> {
        let claims = self.tokens.verify(token, now)?;
        token::check_bound(&claims, signed, proof)?;
        let admission = token::admission(&claims)?;
        let news = self.used.lock().spend(claims.jti, attempt, claims.exp, unix_seconds(now))?;
        if let Some(kept) = self.kept.as_ref().filter(|_| news) {
            kept.changed().note();
        }
        Ok(admission)
    }

    /// A ticket for a participant's next connection.
    pub fn seal(&self, ticket: &Ticket) -> Vec<u8> {
        self.ticket_key.seal(ticket)
    }
}

/// Seconds since 1970, as tokens count.
pub(crate) fn unix_seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
