//! Leaving service without losing a session: who is told what, who still gets in, and when it is over.
//!
//! A drain begins by `SIGTERM` or by `POST /drain`. From then on the relay is not ready, refuses who is new with
//! `going_away`, and tells everybody until when it stays and where else to go. Those who have somewhere to go leave one
//! session after the other, both ends of a session at the same moment; the others stay until the deadline, and come back
//! to this address spread over a while. Tickets carry them all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use parking_lot::Mutex;
use tandem_protocol::SessionId;
use tandem_protocol::message::GoAway;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::relay::Relay;

/// Time between two clients that come back or go elsewhere: a handshake takes a fraction of it.
const PER_CLIENT: Duration = Duration::from_millis(5);
/// How often it is looked whether everybody has gone.
const LOOK: Duration = Duration::from_millis(50);
/// The longest deadline that may be asked for.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How a relay leaves service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long sessions may stay.
    pub deadline: Duration,
    /// The longest time over which clients are spread; few need less.
    pub spread: Duration,
    /// Where else sessions may go on, as URLs: relays with the same ticket key.
    pub alternatives: Vec<String>,
}

/// Whether the relay is leaving service, and how.
#[derive(Debug)]
pub struct Drain {
    settings: Settings,
    plan: Mutex<Option<Plan>>,
    changed: Notify,
}

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
struct Plan {
    began: Instant,
    deadline: Instant,
    spread: Duration,
}

impl Drain {
    /// In service.
    pub fn new(settings: Settings) -> Self {
        Self { settings, plan: Mutex::new(None), changed: Notify::new() }
    }

    /// Whether the relay is leaving service.
    pub fn is_on(&self) -> bool {
        self.plan.lock().is_some()
    }

    /// Whether it is leaving service and sessions may still stay.
    pub fn is_within_deadline(&self, now: Instant) -> bool {
        self.plan.lock().is_some_and(|plan| now < plan.deadline)
    }

    /// Ends when it begins to.
    pub async fn begun(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_on() {
                return;
            }
            changed.await;
        }
    }

    /// Begins, with so many clients connected, with another deadline than the usual one if there is one. A drain that has
    /// begun only gets its deadline changed. The time that is left.
    fn begin(&self, deadline: Option<Duration>, clients: usize, now: Instant) -> Duration {
        let mut plan = self.plan.lock();
        let left = deadline.unwrap_or(self.settings.deadline).min(DEADLINE_MAX);
        match &mut *plan {
            Some(plan) => {
                if deadline.is_some() {
                    plan.deadline = now + left;
                }
            }
            None => {
                let clients = u32::try_from(clients).unwrap_or(u32::MAX);
                let spread = PER_CLIENT.saturating_mul(clients).min(self.settings.spread);
                *plan = Some(Plan { began: now, deadline: now + left, spread });
            }
        }
        let left = plan.map_or(left, |plan| plan.deadline.saturating_duration_since(now));
        drop(plan);
        self.changed.notify_waiters();
        left
    }

    /// What the participants of a session are told, while the relay is leaving service.
    pub(crate) fn word(&self, session: SessionId, now: Instant) -> Option<GoAway> {
        let plan = (*self.plan.lock())?;
        let left = plan.deadline.saturating_duration_since(now);
        let spread = plan.spread.min(plan.deadline.saturating_duration_since(plan.began));
        // Ids are random: their first bytes spread sessions evenly, and both ends of one alike.
        let [a, b, c, d, ..] = session.0;
        let part = f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX);
        let leave = (plan.began + spread.mul_f64(part)).saturating_duration_since(now);
        let alternatives = &self.settings.alternatives;
        // Which one is first is decided by the session too, so that its ends meet again.
        let mut others = alternatives.clone();
        if !others.is_empty() {
            let [.., d] = session.0;
            others.rotate_left(usize::from(d) % alternatives.len());
        }
        Some(GoAway {
            deadline_ms: milliseconds(left),
            leave_ms: if others.is_empty() { 0 } else { milliseconds(leave.min(left)) },
            alternatives: others,
            spread_ms: milliseconds(spread),
        })
    }

    /// Waits until nobody is connected any more, or the time is over.
    async fn over(&self, relay: &Relay) {
        loop {
            let changed = self.changed.notified();
            let Some(plan) = *self.plan.lock() else { return };
            if relay.connected() == 0 || Instant::now() >= plan.deadline {
                return;
            }
            let look = (Instant::now() + LOOK).min(plan.deadline);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(look.into()) => {}
            }
        }
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Takes a relay out of service: from the first word to everybody until nobody is connected. `stop` begins it, unless it has
/// begun already: then it brings the deadline forward to now.
pub(crate) async fn run(relay: &Relay, stop: &CancellationToken) {
    let drain = relay.drain();
    let asked = tokio::select! {
        // First: a signal that comes right behind a request ends what that has begun.
        biased;
        () = drain.begun() => true,
        () = stop.cancelled() => false,
    };
    if !asked {
        begin(relay, None);
    }
    tokio::select! {
        () = drain.over(relay) => {}
        () = stop.cancelled(), if asked => {}
    }
    info!(sessions = relay.session_count(), clients = relay.connected(), "out of service");
    relay.close_all();
}

/// Begins a drain, or gives it another deadline, and tells everybody. The time that is left.
fn begin(relay: &Relay, deadline: Option<Duration>) -> Duration {
    let (sessions, clients) = (relay.session_count(), relay.connected());
    let left = relay.drain().begin(deadline, clients, Instant::now());
    info!(sessions, clients, deadline_ms = milliseconds(left), "leaving service");
    relay.admitter().desk().relay_leaves();
    relay.tell_going();
    left
}

/// `POST /drain` of the private listener.
pub fn routes(relay: Arc<Relay>) -> Router {
    Router::new().route("/drain", post(drain)).with_state(relay)
}

async fn drain(State(relay): State<Arc<Relay>>, RawQuery(query): RawQuery) -> Response {
    let deadline = match deadline(query.as_deref().unwrap_or_default()) {
        Ok(deadline) => deadline,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let left = begin(&relay, deadline);
    let answer = serde_json::json!({
        "sessions": relay.session_count(),
        "connections": relay.connected(),
        "deadline_ms": milliseconds(left),
    });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

/// `deadline_seconds` of a request: how long sessions may stay, instead of what the configuration says.
fn deadline(query: &str) -> Result<Option<Duration>, String> {
    let mut deadline = None;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let seconds = value.parse().ok().filter(|_| key == "deadline_seconds");
        let seconds =
            seconds.ok_or_else(|| format!("{key}={value}: only deadline_seconds, a whole number\n"))?;
        deadline = Some(Duration::from_secs(seconds));
    }
    Ok(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(alternatives: &[&str]) -> Drain {
        let alternatives = alternatives.iter().map(|&url| url.to_owned()).collect();
        let (deadline, spread) = (Duration::from_secs(20), Duration::from_secs(5));
        Drain::new(Settings { deadline, spread, alternatives })
    }

    fn session(first: u8, last: u8) -> SessionId {
        let mut id = [first; 16];
        id[15] = last;
        SessionId(id)
    }

    #[test]
    fn both_ends_of_a_session_go_to_the_same_place_at_the_same_time_and_sessions_one_after_the_other() {
        let (drain, now) = (drain(&["https://b.example", "https://c.example"]), Instant::now());
        assert_eq!(drain.word(session(0, 0), now), None);
        assert_eq!(drain.begin(None, 10_000, now), Duration::from_secs(20));
        let [first, last] = [session(0, 0), session(255, 1)].map(|id| drain.word(id, now).unwrap());
        assert_eq!((first.leave_ms, last.leave_ms), (0, 5000));
        assert_eq!(
            (first.alternatives[0].as_str(), last.alternatives[0].as_str()),
            ("https://b.example", "https://c.example")
        );
        assert_eq!(last.alternatives.len(), 2, "the other one is second best");
        // Who comes back meanwhile leaves with the others.
        let later = drain.word(session(255, 1), now + Duration::from_secs(3)).unwrap();
        assert_eq!((later.leave_ms, later.deadline_ms), (2000, 17_000));
    }

    #[test]
    fn few_are_spread_over_little_and_without_alternatives_they_stay() {
        let (drain, now) = (drain(&[]), Instant::now());
        drain.begin(None, 4, now);
        let word = drain.word(session(200, 0), now).unwrap();
        assert_eq!((word.spread_ms, word.leave_ms, word.deadline_ms), (20, 0, 20_000));
        // Asked again: only the deadline changes.
        let left = drain.begin(Some(Duration::from_secs(1)), 10_000, now);
        assert_eq!((left, drain.word(session(200, 0), now).unwrap().spread_ms), (Duration::from_secs(1), 20));
        assert_eq!(drain.begin(None, 0, now), Duration::from_secs(1));
    }

    #[test]
    fn a_request_names_its_deadline_or_none() {
        assert_eq!(deadline(""), Ok(None));
        assert_eq!(deadline("deadline_seconds=0"), Ok(Some(Duration::ZERO)));
        for bad in ["deadline=3", "deadline_seconds=-1", "deadline_seconds"] {
            assert!(deadline(bad).is_err(), "{bad}");
        }
    }
}
