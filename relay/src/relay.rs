//! The sessions of this relay, and the door to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tandem_protocol::message::{self, Hello, hello};
use tandem_protocol::record::Point;
use tandem_protocol::{AttemptId, Close, DisplayId, LaneKey, LaneKind, SessionId, limits};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admission::{Admitter, Refusal, Ticket, Visitor};
use crate::limits::{Limits, SessionLimits};
use crate::metrics::{Binding, JoinedBy, Metrics, Timed};
use crate::outbox::Wake;
use crate::session::{Join, Seat, Session, SessionStatus, SessionView, Showing, Timing, Totals, Waiting};

/// Ended sessions that are remembered, so that a ticket does not open them again.
const ENDED_MAX: usize = 100_000;
/// How often every session is asked what is due.
const TICK: Duration = Duration::from_millis(500);

/// A session with its lock. Critical sections are short and never wait.
#[derive(Debug)]
pub struct Shared {
    /// The session.
    pub session: Mutex<Session>,
}

/// The relay: sessions by id, who is let in, and what is counted.
#[derive(Debug)]
pub struct Relay {
    sessions: Mutex<HashMap<SessionId, Known>>,
    ended: Mutex<HashSet<SessionId>>,
    admitter: Admitter,
    metrics: Arc<Metrics>,
    timing: Timing,
    limits: Limits,
    ticks: AtomicU64,
}

#[derive(Debug)]
struct Known {
    shared: Arc<Shared>,
    reported: Option<SessionStatus>,
}

/// An admitted connection's place.
#[derive(Debug)]
pub struct Place {
    /// The session.
    pub shared: Arc<Shared>,
    /// The seat in it.
    pub seat: Seat,
    /// The session's id, for logs.
    pub session: SessionId,
    /// The participant's role, for logs.
    pub role: message::Role,
}

impl Relay {
    /// An empty relay.
    pub fn new(admitter: Admitter, metrics: Arc<Metrics>, timing: Timing, limits: Limits) -> Self {
        Self {
            sessions: Mutex::default(),
            ended: Mutex::default(),
            admitter,
            metrics,
            timing,
            limits,
            ticks: AtomicU64::new(0),
        }
    }

    /// What each connection may send.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits.session
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Seats a client, or says why not. On success its `Welcome` is the first thing in its outbox.
    ///
    /// # Errors
    /// A [`Refusal`], which has been counted.
    pub fn admit(
        &self,
        hello: &Hello,
        (binding, visitor): (Binding, &Visitor),
        wake: Arc<dyn Wake>,
        now: Instant,
    ) -> Result<Place, Refusal> {
        let wall = SystemTime::now();
        let admitted = self.admitter.check(hello, visitor, wall).and_then(|(admission, attempt)| {
            let shared = self.session(admission.session)?;
            let mut session = shared.session.lock();
            if let Some(close) = session.ended() {
                return Err(Refusal::new(close, "the session has ended"));
            }
            let returns = admission.sender.is_some();
            let known = admission.sender.or_else(|| session.find(&admission.who.subject));
            let sender = match known {
                Some(sender) => sender,
                None => session
                    .vacant(rand::random)
                    .map_err(|breach| Refusal::new(breach.close, breach.reason))?,
            };
            if session.is_taken(sender, attempt) {
                return Err(Refusal::new(Close::RACE_LOST, "the other connection of this attempt is in use"));
            }
            let who = admission.who;
            let role = who.role;
            let ticket = Ticket { session: admission.session, sender, who: who.clone(), issued: wall };
            let welcome = message::Welcome {
                version: limits::VERSION,
                sender: sender.0.into(),
                session_id: admission.session.0.to_vec(),
                role: role.into(),
                permitted: who.permitted.to_wire(),
                ticket: self.admitter.seal(&ticket),
                grace_ms: self.timing.grace.as_millis().try_into().unwrap_or(u32::MAX),
                ..Default::default()
            };
            let seat =
                session.attach(sender, who, Join { returns, binding, ..join(hello, attempt) }, wake, now);
            session.welcome(seat, welcome, now);
            drop(session);
            Ok(Place { shared, seat, session: admission.session, role })
        });
        match (&admitted, &hello.join) {
            (Err(refusal), _) => self.metrics.refused(refusal.close),
            (Ok(_), Some(hello::Join::Code(_))) => self.metrics.joins.of(JoinedBy::Code).increment(1),
            (Ok(_), Some(hello::Join::Token(_))) => self.metrics.joins.of(JoinedBy::Token).increment(1),
            (Ok(_), Some(hello::Join::Ticket(_))) => self.metrics.joins.of(JoinedBy::Ticket).increment(1),
            (Ok(_), None) => {}
        }
        admitted
    }

    fn session(&self, id: SessionId) -> Result<Arc<Shared>, Refusal> {
        if self.ended.lock().contains(&id) {
            return Err(Refusal::new(Close::ENDED, "the session has ended"));
        }
        let mut sessions = self.sessions.lock();
        let known = sessions.entry(id).or_insert_with(|| {
            self.metrics.sessions.increment(1.0);
            self.metrics.sessions_begun.increment(1);
            let session = Session::new(id, self.timing, self.metrics.clone());
            Known { shared: Arc::new(Shared { session: Mutex::new(session) }), reported: None }
        });
        Ok(known.shared.clone())
    }

    /// Ends a session, if there is one of this id.
    pub fn end(&self, id: SessionId) {
        let shared = self.sessions.lock().get(&id).map(|known| known.shared.clone());
        if let Some(shared) = shared {
            shared.session.lock().finish(Close::ENDED, message::EndReason::ClosedByTechnician);
        }
    }

    /// Keeps time for all sessions until told to stop.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = ticks.tick() => self.tick(Instant::now()),
            }
        }
    }

    /// How often time was kept: it rises as long as the relay makes progress.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn tick(&self, now: Instant) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        let all: Vec<(SessionId, Arc<Shared>)> =
            self.sessions.lock().iter().map(|(id, known)| (*id, known.shared.clone())).collect();
        let mut waiting = Waiting::default();
        for (id, shared) in all {
            let (status, totals) = {
                let mut session = shared.session.lock();
                session.tick(now);
                waiting = waiting.and(session.waiting(now));
                (session.status(), session.totals())
            };
            self.report(id, &status, &totals, now);
        }
        self.metrics.queued_bytes.set(waiting.queued_bytes as f64);
        self.metrics.oldest_unsent(Timed::Input, waiting.input, now);
        self.metrics.oldest_unsent(Timed::Screen, waiting.screen, now);
        self.metrics.upkeep();
    }

    /// Tells the desk what is new, and forgets sessions that have ended.
    fn report(&self, id: SessionId, status: &SessionStatus, totals: &Totals, now: Instant) {
        let mut sessions = self.sessions.lock();
        let Some(known) = sessions.get_mut(&id) else { return };
        if known.reported.as_ref() == Some(status) {
            return;
        }
        known.reported = Some(status.clone());
        if let Some(close) = status.ended {
            sessions.remove(&id);
            self.metrics.sessions.decrement(1.0);
            self.metrics.sessions_ended.of(close).increment(1);
            let mut remembered = self.ended.lock();
            if remembered.len() >= ENDED_MAX {
                remembered.clear();
            }
            remembered.insert(id);
        }
        drop(sessions);
        if let Some(close) = status.ended {
            log_end(id, close, totals, now);
        }
        self.admitter.desk().observe(id, status);
    }

    /// Tells every client that the relay is leaving service, and closes them.
    pub fn go_away(&self) {
        let all: Vec<Arc<Shared>> = self.sessions.lock().values().map(|known| known.shared.clone()).collect();
        for shared in all {
            shared.session.lock().go_away();
        }
    }

    /// All sessions, as an operator sees them.
    pub fn views(&self, now: Instant) -> Vec<SessionView> {
        let all: Vec<Arc<Shared>> = self.sessions.lock().values().map(|known| known.shared.clone()).collect();
        all.iter().map(|shared| shared.session.lock().view(now)).collect()
    }

    /// Sessions that exist now.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }
}

/// What a session came to, in one line.
fn log_end(id: SessionId, close: Close, totals: &Totals, now: Instant) {
    let lasted = totals.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
    info!(
        session = %id,
        why = close.name(),
        seconds = lasted.as_secs(),
        participants = totals.participants,
        resumes = totals.resumes,
        received_records = totals.received.records,
        received_bytes = totals.received.bytes,
        sent_records = totals.sent.records,
        sent_bytes = totals.sent.bytes,
        skipped = totals.skipped,
        keys = totals.keys,
        forks = totals.forks,
        merges = totals.merges,
        "session ended"
    );
}

/// What a `Hello` brings along.
fn join(hello: &Hello, attempt: AttemptId) -> Join {
    let epoch_of = |display: DisplayId, point: Point| {
        hello.received.iter().find_map(|position| {
            let key = LaneKey::try_from(position.lane.as_ref()?).ok()?;
            let same =
                key.kind == LaneKind::Screen && (key.display, key.rendition) == (display, point.rendition);
            same.then_some(position.epoch)
        })
    };
    let showing = hello.showing.iter().filter_map(|shown| {
        let display = DisplayId(shown.display.try_into().ok()?);
        let point = Point::try_from(shown.point.as_ref()?).ok()?;
        Some(Showing { display, epoch: epoch_of(display, point)?, point })
    });
    let showing = showing.take(limits::LANES_MAX).collect();
    Join { epoch: hello.epoch, attempt: Some(attempt), showing, ..Default::default() }
}
