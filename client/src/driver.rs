//! The task that owns a connection, from the first dial over every reconnection to the end.

mod connected;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tandem_path::State;
use tandem_protocol::message::{Hello, control, hello};
use tandem_protocol::{AttemptId, Close, close::Retry, limits};
use tokio::sync::mpsc;

use self::connected::Ended;
use crate::backoff::Backoff;
use crate::event::Event;
use crate::handle::Shared;
use crate::link::Link;
use crate::mover;
use crate::positions::Positions;
use crate::race::{self, Failure};
use crate::route::Route;
use crate::{Binding, Join, Options};

/// A connection that was replaced so soon lost its race at the relay after it had won it here.
const RACE_TIME: Duration = Duration::from_secs(3);

pub(crate) struct Driver {
    options: Options,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    /// Events in order, until the program takes them.
    backlog: VecDeque<Event>,
    positions: Positions,
    attempt: AttemptId,
    ticket: Option<Bytes>,
    grace: Duration,
    backoff: Backoff,
    route: Route,
    /// The relay said that it leaves service: over how long those who come back are to spread.
    spread: Duration,
    /// How long a WebSocket lasts before QUIC is looked for: longer after every time that it was found, since it did not last.
    look_after: Duration,
}

/// Tells handles when the driver has ended, however it did.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Driver {
    pub(crate) fn new(options: Options, shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        let attempt = AttemptId(rand::rng().random());
        let backlog = VecDeque::new();
        let route = Route::new(options.target.clone());
        let (positions, grace) = (Positions::default(), limits::GRACE);
        let look_after = options.look_for_quic_after;
        Self {
            options,
            shared,
            events,
            backlog,
            positions,
            attempt,
            ticket: None,
            grace,
            backoff: Backoff::default(),
            route,
            spread: Duration::ZERO,
            look_after,
        }
    }

    /// Runs until the session is over for us, or nobody listens.
    pub(crate) async fn run(mut self) {
        let _over = Over(self.shared.clone());
        if let Join::Ticket(ticket) = &self.options.join {
            self.ticket = Some(ticket.clone());
        }
        let mut lost_at = Instant::now();
        let mut moved = None;
        let mut raced = false;
        loop {
            let hello = self.hello();
            let joining = async {
                match moved.take() {
                    // The old one stays until we are seated on the new one: else we would have left for a moment.
                    Some((link, _old)) => race::join_over(Link::Quic(link), Binding::Quic, hello).await,
                    None => race::join(&self.options, self.route.target(), &hello).await,
                }
            };
            let joined = tokio::select! {
                joined = joining => joined,
                () = self.shared.closing() => break self.closed(Close::LEFT, "left").await,
                () = self.events.closed() => break,
            };
            let failure = match joined {
                Ok(joined) => {
                    let (at, binding) = (joined.at, joined.binding);
                    let ended = self.session(joined).await;
                    let first = self.options.look_for_quic_after;
                    self.look_after = mover::after(binding, at.elapsed(), self.look_after, first);
                    self.shared.path.set(State::default());
                    lost_at = Instant::now();
                    let mut lost = match ended {
                        Ended::Lost(lost) => lost,
                        Ended::Moves(better, old) => {
                            self.shared.outbox.lock().moves();
                            self.look_after = mover::later(self.look_after);
                            moved = Some((better, old));
                            continue;
                        }
                    };
                    let race = matches!(lost.close, Some(Close::REPLACED | Close::RACE_LOST));
                    // Once: what is replaced again is replaced by another program with the same ticket, which may think the same of
                    // us.
                    raced = race && at.elapsed() < RACE_TIME && !raced;
                    if raced {
                        lost.close = Some(Close::GOING_AWAY);
                    }
                    Failure::from(lost)
                }
                Err(failure) => self.elsewhere(failure),
            };
            self.shared.outbox.lock().disconnected();
            if self.events.is_closed() || !self.again(failure, lost_at).await {
                break;
            }
        }
    }

    fn hello(&self) -> Bytes {
        let join = match (&self.ticket, &self.options.join) {
            (Some(ticket), _) | (None, Join::Ticket(ticket)) => hello::Join::Ticket(ticket.to_vec()),
            (None, Join::Code(code)) => hello::Join::Code(code.to_string()),
            (None, Join::Token(token)) => hello::Join::Token(token.clone()),
        };
        let resumes = self.ticket.is_some();
        let message = control::Message::Hello(Hello {
            versions: vec![limits::VERSION],
            capabilities: Some(self.options.capabilities.clone()),
            join: Some(join),
            attempt_id: self.attempt.0.to_vec(),
            epoch: self.options.epoch,
            received: if resumes { self.positions.told() } else { Vec::new() },
            showing: if resumes { self.shared.acks.lock().showing() } else { Vec::new() },
            agent: self.options.agent.clone(),
            proof: Vec::new(),
            keeps: if resumes { self.shared.outbox.lock().keeps() } else { Vec::new() },
        });
        self.shared.outbox.lock().control_record(message, Instant::now())
    }

    /// Nobody welcomed us here. If the session may go on at other relays, the next one is asked.
    fn elsewhere(&mut self, mut failure: Failure) -> Failure {
        match failure.lost.close {
            Some(Close::TICKET_INVALID) => {
                if self.route.rule_out() {
                    failure.lost.close = Some(Close::INTERNAL);
                }
            }
            Some(close) if close.retry() == Retry::Never => {}
            _ => self.route.failed(),
        }
        failure
    }

    /// Decides whether to try again, and waits until then.
    async fn again(&mut self, failure: Failure, lost_at: Instant) -> bool {
        let Failure { lost, retry_after } = failure;
        if self.shared.is_closing() {
            self.closed(lost.close.unwrap_or(Close::LEFT), &lost.reason).await;
            return false;
        }
        let retry = lost.close.map_or(Retry::Now, Close::retry);
        let too_late = self.ticket.is_some() && lost_at.elapsed() > self.grace;
        if retry == Retry::Never || too_late {
            let close = lost.close.filter(|_| retry == Retry::Never).unwrap_or(Close::TICKET_EXPIRED);
            self.closed(close, &lost.reason).await;
            return false;
        }
        let mut wait = self.backoff.next(&mut rand::rng()).max(retry_after);
        if retry == Retry::Later {
            wait = wait.max(Duration::from_millis(500));
        }
        if lost.close == Some(Close::GOING_AWAY) {
            wait += std::mem::take(&mut self.spread).mul_f64(rand::rng().random::<f64>());
        }
        self.tell(Event::Disconnected { why: lost.reason, close: lost.close, retry_in: wait }).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.shared.closing() => {
                self.closed(Close::LEFT, "left").await;
                false
            }
            () = self.events.closed() => false,
        }
    }

    async fn closed(&mut self, close: Close, reason: &str) {
        self.tell(Event::Closed { close, reason: reason.to_owned() }).await;
    }

    /// Hands over what waits, and this.
    async fn tell(&mut self, event: Event) {
        self.backlog.push_back(event);
        while let Some(event) = self.backlog.pop_front() {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}
