//! The sessions of this relay, and the door to them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tandem_protocol::message::{self, Hello, control, hello};
use tandem_protocol::record::Point;
use tandem_protocol::{AttemptId, Close, DisplayId, LaneKey, LaneKind, SessionId, limits};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admission::{Admission, Admitter, Refusal, Ticket, Visitor, Withdrawn, unix_seconds};
use crate::drain::Drain;
use crate::ended::Ended;
use crate::limits::{Limits, Place as TenantPlace, SessionLimits, Tenants};
use crate::metrics::{Binding, JoinedBy, Metrics, Timed};
use crate::outbox::Wake;
use crate::session::{
    Join, Keeping, Seat, Session, SessionStatus, SessionView, Showing, TICK, Timing, Totals, Waiting, Who,
};
use crate::state_file::{self, Keeper};

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
    ended: Arc<Mutex<Ended>>,
    /// Keeps what has ended over a restart.
    kept: Option<Keeper>,
    admitter: Admitter,
    metrics: Arc<Metrics>,
    timing: Timing,
    limits: Limits,
    drain: Drain,
    tenants: Tenants,
    ticks: AtomicU64,
}

#[derive(Debug)]
struct Known {
    shared: Arc<Shared>,
    place: TenantPlace,
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
    pub fn new(
        admitter: Admitter,
        metrics: Arc<Metrics>,
        timing: Timing,
        limits: Limits,
        drain: Drain,
    ) -> Self {
        Self {
            sessions: Mutex::default(),
            ended: Arc::default(),
            kept: None,
            admitter,
            metrics,
            timing,
            limits,
            drain,
            tenants: Tenants::new(limits.sessions_per_tenant, limits.memory, limits.memory_per_tenant),
            ticks: AtomicU64::new(0),
        }
    }

    /// What each connection may send.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits.session
    }

    /// Remembers in this file which sessions have ended, and takes over what one before it has remembered there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn keep(&mut self, path: PathBuf) -> anyhow::Result<()> {
        let now = SystemTime::now();
        if let Some(ended) = state_file::read(&path, |text| Ended::from_text(text, now))? {
            *self.ended.lock() = ended;
        }
        let ended = self.ended.clone();
        self.kept = Some(Keeper::start(path, move || ended.lock().to_text().into_bytes())?);
        Ok(())
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether it is leaving service.
    pub fn drain(&self) -> &Drain {
        &self.drain
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
        let admitted = self.takes(hello).and_then(|()| self.admitter.check(hello, visitor, wall)).and_then(
            |(admission, attempt)| {
                let join = Join { binding, ..join(hello, attempt) };
                self.seat(admission, attempt, join, wake, (now, wall))
            },
        );
        match (&admitted, &hello.join) {
            (Err(refusal), _) => self.metrics.refused(refusal.close),
            (Ok(_), Some(hello::Join::Code(_))) => self.metrics.joins.of(JoinedBy::Code).increment(1),
            (Ok(_), Some(hello::Join::Token(_))) => self.metrics.joins.of(JoinedBy::Token).increment(1),
            (Ok(_), Some(hello::Join::Ticket(_))) => self.metrics.joins.of(JoinedBy::Ticket).increment(1),
            (Ok(_), None) => {}
        }
        admitted
    }

    /// Whoever leaves service, or has no room, takes nobody new, and must not spend a code or token to find that out.
    fn takes(&self, hello: &Hello) -> Result<(), Refusal> {
        let returns = matches!(hello.join, Some(hello::Join::Ticket(_)));
        if self.drain.is_on() && !returns {
            return Err(leaving());
        }
        // A token may be for a session that is here.
        let by_code = matches!(hello.join, Some(hello::Join::Code(_)));
        if by_code && self.session_count() >= self.limits.sessions { Err(no_room()) } else { Ok(()) }
    }

    fn seat(
        &self,
        admission: Admission,
        attempt: AttemptId,
        join: Join,
        wake: Arc<dyn Wake>,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Place, Refusal> {
        let shared = self.session(&admission)?;
        let Admission { session: id, who, sender: returning } = admission;
        let mut session = shared.session.lock();
        if let Some(close) = session.ended() {
            return Err(has_ended(close));
        }
        if returning.is_some_and(|sender| session.has_left(sender)) {
            return Err(Refusal::new(Close::TICKET_EXPIRED, "the grace period is over"));
        }
        let sender = match returning.or_else(|| session.find(&who.subject)) {
            Some(sender) => sender,
            None => {
                session.vacant(rand::random).map_err(|breach| Refusal::new(breach.close, breach.reason))?
            }
        };
        if session.is_taken(sender, attempt) {
            return Err(Refusal::new(Close::RACE_LOST, "the other connection of this attempt is in use"));
        }
        let role = who.role;
        let ticket = Ticket { session: id, sender, who: who.clone(), issued: wall };
        let welcome = message::Welcome {
            version: limits::VERSION,
            sender: sender.0.into(),
            session_id: id.0.to_vec(),
            role: role.into(),
            permitted: who.permitted.to_wire(),
            ticket: self.admitter.seal(&ticket),
            grace_ms: self.timing.grace.as_millis().try_into().unwrap_or(u32::MAX),
            ..Default::default()
        };
        let returns = returning.is_some();
        let seat = session.attach(sender, who, Join { returns, ..join }, wake, now);
        session.welcome(seat, welcome, now);
        if let (Some(word), Some(outbox)) = (self.drain.word(id, now), session.outbox(seat)) {
            outbox.control(control::Message::GoAway(word));
        }
        drop(session);
        Ok(Place { shared, seat, session: id, role })
    }

    /// The session that somebody is admitted to: known, or new if there is room for it.
    fn session(&self, admission: &Admission) -> Result<Arc<Shared>, Refusal> {
        let id = admission.session;
        if let Some(close) = self.ended.lock().why(id) {
            return Err(has_ended(close));
        }
        let full = |reason: &str| Refusal::new(Close::OVERLOADED, reason);
        // Whoever has a ticket was let in before.
        let returns = admission.sender.is_some();
        let tenant = self.tenants.get(&admission.who.tenant);
        if !returns && tenant.is_tight() {
            return Err(full("no memory is left for your organisation: try again later"));
        }
        let mut sessions = self.sessions.lock();
        if let Some(known) = sessions.get(&id) {
            if known.place.tenant().name() != tenant.name() {
                return Err(Refusal::new(Close::FORBIDDEN, "this session is another organisation's"));
            }
            return Ok(known.shared.clone());
        }
        if self.drain.is_on() {
            return Err(leaving());
        }
        if !returns && sessions.len() >= self.limits.sessions {
            return Err(no_room());
        }
        let place = tenant.open(returns);
        let place = place.ok_or_else(|| full("your organisation has as many sessions as it may"))?;
        self.metrics.sessions.increment(1.0);
        self.metrics.sessions_begun.increment(1);
        let session = Session::new(id, self.timing, self.metrics.clone()).within(self.limits.session, tenant);
        let shared = Arc::new(Shared { session: Mutex::new(session) });
        sessions.insert(id, Known { shared: shared.clone(), place, reported: None });
        Ok(shared)
    }

    /// Ends a session, if there is one of this id.
    pub fn end(&self, id: SessionId) {
        let shared = self.sessions.lock().get(&id).map(|known| known.shared.clone());
        if let Some(shared) = shared {
            shared.session.lock().finish(Close::ENDED, message::EndReason::ClosedByTechnician);
        }
    }

    /// Who is let in.
    pub fn admitter(&self) -> &Admitter {
        &self.admitter
    }

    /// Closes whoever is here by what was withdrawn.
    pub fn expel(&self, withdrawn: &Withdrawn) {
        let now = Instant::now();
        for (id, shared) in self.all() {
            let meant = |who: &Who| withdrawn.concerns(id, who);
            shared.session.lock().expel(meant, Close::REVOKED, "withdrawn by the relay's operator", now);
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
        let mut waiting = Waiting::default();
        let seconds = unix_seconds(SystemTime::now());
        for (id, shared) in self.all() {
            let (status, totals) = {
                let mut session = shared.session.lock();
                session.end_overdue(seconds, now);
                session.tick(now);
                session.account();
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
            self.ended.lock().insert(id, close, SystemTime::now());
            if let Some(kept) = &self.kept {
                kept.changed().note();
            }
        }
        drop(sessions);
        if let Some(close) = status.ended {
            log_end(id, close, totals, now);
        }
        self.admitter.desk().observe(id, status);
    }

    /// Tells everybody how the relay leaves service.
    pub(crate) fn tell_going(&self) {
        let now = Instant::now();
        for (id, shared) in self.all() {
            if let Some(word) = self.drain.word(id, now) {
                shared.session.lock().tell_all(&control::Message::GoAway(word));
            }
        }
    }

    /// All sessions, as an operator sees them.
    pub fn views(&self, now: Instant) -> Vec<SessionView> {
        self.all().iter().map(|(_, shared)| shared.session.lock().view(now)).collect()
    }

    /// Closes everybody who is still here: the relay has left service.
    pub(crate) fn close_all(&self) {
        for (_, shared) in self.all() {
            shared.session.lock().close_all(Close::GOING_AWAY, "the relay is leaving service");
        }
    }

    fn all(&self) -> Vec<(SessionId, Arc<Shared>)> {
        self.sessions.lock().iter().map(|(id, known)| (*id, known.shared.clone())).collect()
    }

    /// Clients that are connected now.
    pub fn connected(&self) -> usize {
        self.all().iter().map(|(_, shared)| shared.session.lock().connected()).sum()
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

fn leaving() -> Refusal {
    Refusal::new(Close::GOING_AWAY, "the relay is leaving service")
}

fn has_ended(close: Close) -> Refusal {
    let reason = if close == Close::TICKET_EXPIRED {
        "the session was interrupted for longer than its grace period"
    } else {
        "the session has ended"
    };
    Refusal::new(close, reason)
}

fn no_room() -> Refusal {
    Refusal::new(Close::OVERLOADED, "the relay has as many sessions as it may: try again later")
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
    let keeps = hello.keeps.iter().filter_map(|keeps| {
        let display = DisplayId(keeps.display.try_into().ok()?);
        let after = Point::try_from(keeps.after.as_ref()?).ok()?;
        Some(Keeping { display, after, next_seq: keeps.next_seq })
    });
    let keeps = keeps.take(limits::DISPLAYS_MAX).collect();
    Join { epoch: hello.epoch, attempt: Some(attempt), showing, keeps, ..Default::default() }
}
