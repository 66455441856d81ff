//! The task that owns a connection, from the first dial over every reconnection to the end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tandem_path::State;
use tandem_protocol::message::{
    self, Control, Hello, LanePosition, Rights, Role, SessionState, control, hello,
};
use tandem_protocol::mux::LaneId;
use tandem_protocol::{AttemptId, Close, LaneKey, LaneKind, Record, Sender, SessionId, close::Retry, limits};
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::event::{Connected, Event};
use crate::handle::Shared;
use crate::link::{Heard, Link, Lost, Source};
use crate::mover::{self, Mover};
use crate::outbox::Command;
use crate::quic::QuicLink;
use crate::race::{self, Failure, Joined};
use crate::route::Route;
use crate::{Binding, Join, Options};

/// Events that wait for a program that does not read them, while control messages still come in. Then the connection is
/// given up: such a program is gone.
const BACKLOG_MAX: usize = 4096;
/// Heartbeats without a word that mean a lost connection.
const HEARTBEATS_MISSED: u32 = 3;
/// However long a relay that leaves service would have us wait, we are sooner back than this.
const SPREAD_MAX_MS: u32 = 60_000;
/// A connection that was replaced so soon lost its race at the relay after it had won it here.
const RACE_TIME: Duration = Duration::from_secs(3);

pub(crate) struct Driver {
    options: Options,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    /// Events in order, until the program takes them.
    backlog: VecDeque<Event>,
    /// What has been received of others' lanes: epoch and next number.
    positions: HashMap<LaneKey, (u64, u64)>,
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

/// How a connection ended.
enum Ended {
    Lost(Lost),
    /// Nothing is on its way on the second one any more: the session goes on over the first.
    Moves(Box<QuicLink>, Link),
}

/// One connection's timers, and whether it looks for a better one.
struct Timers {
    heard: Instant,
    heartbeat: Duration,
    /// We have asked since something was heard.
    asked: bool,
    /// When we follow a `GoAway`.
    leave: Option<Instant>,
    mover: Mover,
}

impl Timers {
    fn silent(&self) -> Instant {
        self.heard + self.heartbeat * HEARTBEATS_MISSED
    }

    /// When to ask whether the relay is there: a word from us makes a QUIC relay that has lost us say so.
    fn ask(&self) -> Option<Instant> {
        (!self.asked).then_some(self.heard + self.heartbeat * 3 / 2)
    }
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
        let (positions, grace) = (HashMap::new(), limits::GRACE);
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
                    let at = joined.at;
                    let ended = self.session(joined).await;
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
                    if race && at.elapsed() < RACE_TIME {
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
        let of = |(&lane, &(epoch, next_seq)): (&LaneKey, &(u64, u64))| LanePosition {
            lane: Some(lane.into()),
            epoch,
            next_seq,
        };
        let resumes = self.ticket.is_some();
        let message = control::Message::Hello(Hello {
            versions: vec![limits::VERSION],
            capabilities: Some(self.options.capabilities.clone()),
            join: Some(join),
            attempt_id: self.attempt.0.to_vec(),
            epoch: self.options.epoch,
            received: if resumes { self.positions.iter().map(of).collect() } else { Vec::new() },
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

    /// One connection, from its welcome to its loss.
    async fn session(&mut self, joined: Joined) -> Ended {
        let Joined { mut link, welcome, binding, at } = joined;
        let mut timers = Timers {
            heard: at,
            heartbeat: Duration::from_millis(welcome.heartbeat_ms.max(1).into()),
            asked: false,
            leave: None,
            mover: Mover::new(&self.options, binding, self.route.target(), self.look_after),
        };
        match self.welcomed(welcome) {
            Ok(mut connected) => {
                connected.binding = binding;
                tracing::info!(?binding, relay = connected.relay, sender = connected.sender.0, "connected");
                self.backlog.push_back(Event::Connected(connected));
            }
            Err(lost) => return Ended::Lost(lost),
        }
        loop {
            let lanes = self.backlog.is_empty();
            let deadline = tokio::time::Instant::from_std(self.deadline(&timers));
            let shared = self.shared.clone();
            let mut better = None;
            // What was heard goes out first, then what is to be said: neither can starve reading, since both run dry.
            let heard = tokio::select! {
                biased;
                permit = self.events.reserve(), if !lanes => {
                    match (permit, self.backlog.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        _ => return Ended::Lost(Lost::path("nobody listens")),
                    }
                    continue;
                }
                () = self.events.closed() => return Ended::Lost(Lost::path("nobody listens")),
                () = shared.notified() => Ok(None),
                heard = std::future::poll_fn(|cx| link.poll(cx, &*shared, lanes)) => heard.map(Some),
                () = tokio::time::sleep_until(deadline) => Ok(None),
                found = timers.mover.found() => {
                    better = Some(found);
                    Ok(None)
                }
            };
            let now = Instant::now();
            if let Some(better) = better {
                self.rest(better, &mut link, &mut timers, now);
            }
            if timers.mover.deadline().is_some()
                && let Ok(Some(Heard::Control(record))) = &heard
                && let Ok(Some(control::Message::Move(_))) = Control::decode_body(record.body())
                && let Some(better) = timers.mover.take()
            {
                return self.goes_over(link, better, &mut timers, now).await;
            }
            let result = heard.and_then(|heard| {
                if let Some(heard) = heard {
                    (timers.heard, timers.asked) = (now, false);
                    self.heard(heard, &mut link, &mut timers, now)?;
                }
                self.on_time(&link, &mut timers, now)
            });
            if let Err(lost) = result {
                let close = self.shared.leaving().or(lost.close).unwrap_or(Close::SILENT);
                link.close(close, &lost.reason).await;
                return Ended::Lost(lost);
            }
        }
    }

    /// There is a better connection: nothing leaves on this one any more, and the relay is told.
    fn rest(&self, better: QuicLink, link: &mut Link, timers: &mut Timers, now: Instant) {
        tracing::info!("a way over QUIC: the session goes over to it");
        let half = link.take_back();
        let mut outbox = self.shared.outbox.lock();
        outbox.pause(half, now);
        // Refused only when far too much waits: then the relay has no time to answer either.
        let _ = outbox.control(control::Message::Move(message::Move {}), now);
        drop(outbox);
        timers.mover.told(better, now);
    }

    /// The relay has sent all that it will on this connection: reads what is left and goes on with the better one.
    async fn goes_over(
        &mut self,
        mut link: Link,
        better: Box<QuicLink>,
        timers: &mut Timers,
        now: Instant,
    ) -> Ended {
        for heard in link.rest() {
            if let Err(lost) = self.heard(heard, &mut link, timers, now) {
                return Ended::Lost(lost);
            }
        }
        link.flush().await;
        Ended::Moves(better, link)
    }

    fn welcomed(&mut self, welcome: message::Welcome) -> Result<Connected, Lost> {
        let sender = u16::try_from(welcome.sender).ok().filter(|&sender| sender != 0);
        let sender = Sender(sender.ok_or_else(|| Lost::protocol("a welcome without a number"))?);
        let session = SessionId::try_from(&welcome.session_id[..]).map_err(Lost::protocol)?;
        let now = Instant::now();
        let resumed = self.shared.outbox.lock().connected(sender, &welcome.received, now);
        self.shared.room.notify_waiters();
        // Before anybody is granted anything: that opens others' input lanes anew.
        let owed = {
            let mut acks = self.shared.acks.lock();
            acks.reconnected(now);
            acks.take(now)
        };
        for ack in owed {
            self.say(control::Message::Ack(ack), now)?;
        }
        self.attempt = AttemptId(rand::rng().random());
        self.ticket = Some(Bytes::from(welcome.ticket.clone()));
        self.grace = Duration::from_millis(welcome.grace_ms.into());
        self.backoff = Backoff::default();
        self.spread = Duration::ZERO;
        self.route.arrived();
        Ok(Connected {
            binding: Binding::Quic,
            relay: self.route.target().to_string(),
            sender,
            session,
            role: Role::try_from(welcome.role).unwrap_or(Role::Unspecified),
            permitted: Rights::from_wire(&welcome.permitted),
            ticket: welcome.ticket,
            grace: self.grace,
            restart: resumed.restart,
            dropped_input: resumed.dropped_input,
        })
    }

    /// When something is to be done although nothing happens.
    fn deadline(&self, timers: &Timers) -> Instant {
        let acks = self.shared.acks.lock().due();
        let others = [timers.ask(), acks, timers.leave, timers.mover.deadline()];
        others.into_iter().flatten().fold(timers.silent(), Instant::min)
    }

    fn on_time(&mut self, link: &Link, timers: &mut Timers, now: Instant) -> Result<(), Lost> {
        if timers.ask().is_some_and(|ask| now >= ask) {
            timers.asked = true;
            link.rebind();
            let time_us = self.shared.outbox.lock().time_us(now);
            self.say(control::Message::Ping(message::Ping { id: 0, time_us }), now)?;
        }
        for ack in self.shared.acks.lock().take(now) {
            self.say(control::Message::Ack(ack), now)?;
        }
        if let Some(close) = self.shared.leaving() {
            return Err(Lost { close: Some(close), reason: "left".to_owned() });
        }
        if timers.leave.is_some_and(|leave| now >= leave) {
            return Err(Lost {
                close: Some(Close::GOING_AWAY),
                reason: "the relay leaves service".to_owned(),
            });
        }
        if timers.mover.deadline().is_some_and(|until| now >= until) {
            return Err(Lost::path("the relay did not let us go over to QUIC"));
        }
        if now >= timers.silent() {
            let reason = "nothing was heard for three heartbeats".to_owned();
            return Err(Lost { close: Some(Close::SILENT), reason });
        }
        if self.backlog.len() > BACKLOG_MAX {
            return Err(Lost {
                close: Some(Close::STALLED),
                reason: "the program does not listen".to_owned(),
            });
        }
        Ok(())
    }

    fn say(&self, message: control::Message, now: Instant) -> Result<(), Lost> {
        self.shared.outbox.lock().control(message, now).map_err(Lost::path)
    }

    fn heard(
        &mut self,
        heard: Heard,
        link: &mut Link,
        timers: &mut Timers,
        now: Instant,
    ) -> Result<(), Lost> {
        match heard {
            Heard::Control(record) => {
                let message = Control::decode_body(record.body()).map_err(Lost::protocol)?;
                return message.map_or(Ok(()), |message| self.control(message, link, timers, now));
            }
            Heard::Opened(lane) => self.backlog.push_back(Event::LaneOpened(lane)),
            Heard::Ended(lane) => self.backlog.push_back(Event::LaneEnded(lane)),
            Heard::Record(lane, record) => self.record(lane, record, link, now),
            Heard::Progress => {
                let mut acks = self.shared.acks.lock();
                for &lane in self.positions.keys() {
                    acks.bytes(lane, link.received(lane), now);
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, lane: LaneKey, record: Record, link: &Link, now: Instant) {
        let mut acks = self.shared.acks.lock();
        acks.bytes(lane, link.received(lane), now);
        acks.record(lane, &record);
        drop(acks);
        let (epoch, seq) = (record.header.epoch, record.header.seq);
        let position = self.positions.entry(lane).or_insert((epoch, 0));
        // A key has the number of an update, and all its records the same.
        if position.0 == epoch && seq < position.1 && lane.kind != LaneKind::Key {
            return;
        }
        *position = (epoch, seq.saturating_add(1));
        self.backlog.push_back(Event::Record { lane, record });
    }

    fn control(
        &mut self,
        message: control::Message,
        link: &mut Link,
        timers: &mut Timers,
        now: Instant,
    ) -> Result<(), Lost> {
        match &message {
            control::Message::Ping(ping) => {
                let pong = message::Pong { id: ping.id, time_us: ping.time_us };
                return self.say(control::Message::Pong(pong), now);
            }
            control::Message::Credit(credit) => {
                link.credit(credit.lane, credit.bytes);
                return Ok(());
            }
            control::Message::Ack(ack) => {
                if let Some(lane) = ack.lane.as_ref().and_then(|lane| LaneKey::try_from(lane).ok()) {
                    self.shared.outbox.lock().input_done(lane, ack.epoch, ack.received_next_seq);
                }
            }
            control::Message::Feedback(feedback) => {
                self.shared.outbox.lock().feedback(feedback, now);
            }
            control::Message::Reopen(reopen) => {
                if let Some(lane) = reopen.lane.as_ref().and_then(|lane| LaneKey::try_from(lane).ok()) {
                    let dropped = self.shared.outbox.lock().reopen(lane, now);
                    self.backlog.push_back(Event::Reopened { lane, dropped });
                }
                return Ok(());
            }
            control::Message::GoAway(go_away) => {
                tracing::info!(deadline_ms = go_away.deadline_ms, "the relay is leaving service");
                if self.route.leave(&go_away.alternatives) {
                    let most = go_away.deadline_ms.min(SPREAD_MAX_MS);
                    timers.leave = Some(now + Duration::from_millis(go_away.leave_ms.min(most).into()));
                } else {
                    self.spread = Duration::from_millis(go_away.spread_ms.min(SPREAD_MAX_MS).into());
                }
            }
            control::Message::Roster(roster) => {
                // The relay's interval follows the session's state.
                timers.heartbeat = match roster.state() {
                    SessionState::Active | SessionState::Reconnecting => {
                        timers.heartbeat.min(limits::HEARTBEAT_ACTIVE)
                    }
                    _ => timers.heartbeat.max(limits::HEARTBEAT_WAITING),
                };
            }
            control::Message::End(_) => {
                self.backlog.push_back(Event::Control(message));
                return Err(Lost { close: Some(Close::ENDED), reason: "the session has ended".to_owned() });
            }
            control::Message::Welcome(_) | control::Message::Refused(_) | control::Message::Pong(_) => {
                return Ok(());
            }
            _ => {}
        }
        self.backlog.push_back(Event::Control(message));
        Ok(())
    }
}

impl Source for Shared {
    fn commands(&self) -> Vec<Command> {
        self.outbox.lock().commands()
    }

    fn next(&self, lane: LaneKey) -> Option<Bytes> {
        let mut outbox = self.outbox.lock();
        let full = !outbox.has_room(lane);
        let record = outbox.next(lane, Instant::now());
        if full && outbox.has_room(lane) {
            self.room.notify_waiters();
        }
        record
    }

    fn credit(&self, lane: LaneId, bytes: u64) {
        let credit = message::Credit { lane: lane.0.into(), bytes };
        // Refused only when the connection is about to end for the same reason.
        let _ = self.outbox.lock().control(control::Message::Credit(credit), Instant::now());
    }

    fn ping(&self) {
        let now = Instant::now();
        let mut outbox = self.outbox.lock();
        let time_us = outbox.time_us(now);
        // Refused only when a great deal waits already.
        let _ = outbox.control(control::Message::Ping(message::Ping { id: 0, time_us }), now);
    }

    fn path(&self, state: State) {
        self.path.set(state);
    }
}
