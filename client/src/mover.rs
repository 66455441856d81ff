//! The way from a WebSocket to QUIC while the session goes on: what had to do without UDP looks for it now and then.
//!
//! A connection over QUIC is made beside the WebSocket, and says nothing yet. Then our lanes rest, what is half sent is given
//! up, and `Move` says so; the relay does the same and answers. Now nothing is on its way in either direction, and the ticket
//! brings us back in over the new connection, where every lane goes on with its next record.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rand::Rng;
use tandem_path::Congestion;
use tandem_protocol::limits;

use crate::quic::{self, QuicLink};
use crate::target::Target;
use crate::{Binding, Options, Transport};

/// The longest time before a try.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long the relay may take to let us go; then the connection counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(3);

type Looking = Pin<Box<dyn Future<Output = QuicLink> + Send>>;

/// How far a connection is on its way to QUIC.
pub(crate) enum Mover {
    /// It stays where it is.
    Stays,
    /// Looks for a way.
    Looks(Looking),
    /// There is one, and the relay was told; until when its answer may come.
    Leaves(Box<QuicLink>, Instant),
}

impl Mover {
    /// Of a connection over this binding to this relay; `first`: how long it lasts, about, before the first try.
    pub(crate) fn new(options: &Options, binding: Binding, target: &Target, first: Duration) -> Self {
        let direct = options.proxies.towards(target).is_none();
        let may = options.transport == Transport::Auto && target.is_secure() && direct;
        if binding == Binding::Quic || !may {
            return Self::Stays;
        }
        Self::Looks(Box::pin(look(target.clone(), options.congestion, first)))
    }

    /// The way, once there is one.
    pub(crate) async fn found(&mut self) -> QuicLink {
        match self {
            Self::Looks(looking) => looking.await,
            _ => std::future::pending().await,
        }
    }

    /// The relay was told that we go over to this connection.
    pub(crate) fn told(&mut self, link: QuicLink, now: Instant) {
        *self = Self::Leaves(Box::new(link), now + ANSWER_MAX);
    }

    /// The relay lets us go.
    pub(crate) fn take(&mut self) -> Option<Box<QuicLink>> {
        match std::mem::replace(self, Self::Stays) {
            Self::Leaves(link, _) => Some(link),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Until when the relay may answer, if it was told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Leaves(_, until) => Some(*until),
            _ => None,
        }
    }
}

/// After so long a wait: how long the next one is once a connection over this binding has lasted so long. What QUIC is worth shows only
/// when it lasts; else it may be let through for moments only, and each of those costs the session a moment.
pub(crate) fn after(binding: Binding, lasted: Duration, wait: Duration, first: Duration) -> Duration {
    if binding == Binding::Quic && lasted >= WAIT_MAX { first } else { wait }
}

/// How long to wait the next time, after so long.
pub(crate) fn later(wait: Duration) -> Duration {
    (wait * 2).min(WAIT_MAX)
}

/// Tries until the relay answers over UDP, each time after a longer wait.
async fn look(target: Target, congestion: Congestion, first: Duration) -> QuicLink {
    let mut wait = first;
    loop {
        // Those who lost it together do not look together.
        let part = rand::rng().random_range(0.75..1.25);
        tokio::time::sleep(wait.mul_f64(part)).await;
        let answer = tokio::time::timeout(limits::ADMISSION_TIME, quic::connect(&target, congestion)).await;
        match answer {
            Ok(Ok(link)) => return link,
            Ok(Err(lost)) => tracing::debug!(reason = lost.reason, "no way over QUIC yet"),
            Err(_) => tracing::debug!("no way over QUIC yet"),
        }
        wait = later(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_lasted_is_looked_for_as_soon_as_at_first() {
        let [first, wait, moment] = [5, 40, 60].map(Duration::from_secs);
        assert_eq!(after(Binding::Quic, WAIT_MAX, wait, first), first);
        assert_eq!(after(Binding::Quic, moment, wait, first), wait);
        assert_eq!(after(Binding::WebSocket, WAIT_MAX, wait, first), wait);
        assert_eq!(later(wait), 2 * wait);
        assert_eq!(later(WAIT_MAX), WAIT_MAX);
    }
}
