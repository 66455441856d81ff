//! One connection, from its welcome to its loss: what is heard on it, what time brings, and leaving it for a better one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tandem_path::State;
use tandem_protocol::message::{self, Control, Rights, Role, control};
use tandem_protocol::mux::LaneId;
use tandem_protocol::{AttemptId, Close, LaneKey, Record, Sender, SessionId};

use super::Driver;
use crate::Binding;
use crate::backoff::Backoff;
use crate::event::{Connected, Event};
use crate::handle::Shared;
use crate::link::{Heard, Link, Lost, Source};
use crate::mover::Mover;
use crate::outbox::Command;
use crate::quic::QuicLink;
use crate::race::Joined;

/// Events that wait for a program that does not read them, while control messages still come in. Then the connection is
/// given up: such a program is gone.
const BACKLOG_MAX: usize = 4096;
/// Heartbeats without a word that mean a lost connection.
const HEARTBEATS_MISSED: u32 = 3;
/// However long a relay that leaves service would have us wait, we are sooner back than this.
const SPREAD_MAX_MS: u32 = 60_000;

/// How a connection ended.
pub(super) enum Ended {
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

impl Driver {
    /// One connection, from its welcome to its loss.
    pub(super) async fn session(&mut self, joined: Joined) -> Ended {
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
        let _ = outbox.control(control::Message::Move(message::Move {}));
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
        let mut outbox = self.shared.outbox.lock();
        for ack in owed.into_iter().rev() {
            outbox.control_first(control::Message::Ack(ack)).map_err(Lost::path)?;
        }
        drop(outbox);
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
            self.say(control::Message::Ping(message::Ping { id: 0, time_us }))?;
        }
        for ack in self.shared.acks.lock().take(now) {
            self.say(control::Message::Ack(ack))?;
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

    fn say(&self, message: control::Message) -> Result<(), Lost> {
        self.shared.outbox.lock().control(message).map_err(Lost::path)
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
                for lane in self.positions.lanes() {
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
        if self.positions.accept(lane, record.header.epoch, record.header.seq) {
            self.backlog.push_back(Event::Record { lane, record });
        }
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
                return self.say(control::Message::Pong(pong));
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
                // Whoever has come back learns what was done before the program, which is told next, can grant them anything.
                let is_here = |sender: Sender| {
                    let is = |one: &message::Participant| one.sender == u32::from(sender.0) && one.online;
                    roster.participants.iter().any(is)
                };
                self.shared.acks.lock().restate_input(is_here, now);
                if roster.heartbeat_ms > 0 {
                    timers.heartbeat = Duration::from_millis(roster.heartbeat_ms.into());
                }
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
        let _ = self.outbox.lock().control(control::Message::Credit(credit));
    }

    fn ping(&self) {
        let now = Instant::now();
        let mut outbox = self.outbox.lock();
        let time_us = outbox.time_us(now);
        // Refused only when a great deal waits already.
        let _ = outbox.control(control::Message::Ping(message::Ping { id: 0, time_us }));
    }

    fn path(&self, state: State) {
        self.path.set(state);
    }
}
