//! One session: who is in it, what they may do, and which record goes to whom.
//!
//! Plain data behind one lock: no I/O, no clock, no async. A connection hands in what arrived ([`Session::record`],
//! [`Session::control`]) and takes out what may be written ([`Session::pull`]) when it can write it; [`Session::tick`]
//! keeps time, twice a second, and [`Session::due`] what cannot wait for that. Bodies are never read.

mod consent;
mod display;
mod entrance;
mod feedback;
mod lag;
mod lanes;
mod ledger;
mod member;
mod presence;
mod rate;
mod reader;
mod screens;
mod term;
mod totals;
mod upkeep;
mod view;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_protocol::message::{self, Rights, Role, control};
use tandem_protocol::{AttemptId, Close, DisplayId, LaneKind, Point, Record, Sender, SessionId, limits};

use crate::limits::{Account as Memory, SessionLimits, Tenant};
use crate::metrics::{Binding, Metrics};
use crate::outbox::{Outbox, Slot, Wake};
use crate::stream::{RETURN, StreamError};

use display::Display;
pub use ledger::Account;
pub use member::Who;
use member::{Link, Member, Online};
pub use presence::SessionStatus;
use totals::Tally;
pub use totals::{Totals, Traffic};
pub use view::{ParticipantView, SessionView, Waiting, role_name};

/// A session of the relay.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    members: BTreeMap<Sender, Member>,
    /// Those who were members and are not any more.
    left: BTreeSet<Sender>,
    /// Since when participants wait for a publisher whom this relay has not seen: they come from one before it.
    awaited: Option<Instant>,
    /// Until when those may be shown all that is held who were here before a restart of the relay.
    returning_until: Option<Instant>,
    /// In boxes: a map has room for eleven from the first on.
    displays: BTreeMap<DisplayId, Box<Display>>,
    /// The publisher's newest records of every slot, for who joins.
    latest: BTreeMap<(LaneKind, u8), Record>,
    revision: u64,
    next_want: u32,
    next_connection: u64,
    /// When the screens are next to be looked after.
    upkeep_due: Option<Instant>,
    ended: Option<Close>,
    /// Both ends have been here.
    paired: bool,
    timing: Timing,
    limits: SessionLimits,
    tenant: Arc<Tenant>,
    /// What waits for its clients.
    queued: Memory,
    metrics: Tally,
}

/// How often a session's time is kept ([`Session::tick`]).
pub const TICK: Duration = Duration::from_millis(500);

/// The session's times.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Heartbeat of an active session.
    pub heartbeat_active: Duration,
    /// Heartbeat of a waiting one.
    pub heartbeat_waiting: Duration,
    /// How long a lost participant may come back.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_active: limits::HEARTBEAT_ACTIVE,
            heartbeat_waiting: limits::HEARTBEAT_WAITING,
            grace: limits::GRACE,
        }
    }
}

/// A participant's present connection. Whoever holds an older one can do nothing with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The participant.
    pub sender: Sender,
    connection: u64,
}

/// An incoming lane, numbered by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneInstance(pub u64);

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was forwarded, held or dropped, and counted.
    Yes,
    /// Its receiver has no room: hand it in again when [`Wake::room`] of this connection was called.
    NoRoom,
}

/// The connection broke a rule and must close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// With this code.
    pub close: Close,
    /// And this reason.
    pub reason: String,
}

impl Breach {
    /// A breach of the protocol.
    pub fn protocol(reason: impl Into<String>) -> Self {
        Self { close: Close::PROTOCOL, reason: reason.into() }
    }
}

impl From<StreamError> for Breach {
    fn from(error: StreamError) -> Self {
        let close = if error == StreamError::KeySize { Close::LIMIT } else { Close::PROTOCOL };
        Self { close, reason: error.to_string() }
    }
}

impl Session {
    /// An empty session.
    pub fn new(id: SessionId, timing: Timing, metrics: Arc<Metrics>) -> Self {
        let tenant = Tenant::unbounded();
        Self {
            limits: SessionLimits::default(),
            queued: tenant.account(),
            tenant,
            id,
            members: BTreeMap::new(),
            left: BTreeSet::new(),
            awaited: None,
            returning_until: None,
            displays: BTreeMap::new(),
            latest: BTreeMap::new(),
            revision: 0,
            next_want: 1,
            next_connection: 1,
            upkeep_due: None,
            ended: None,
            paired: false,
            timing,
            metrics: Tally::new(metrics),
        }
    }

    /// Of this tenant and within these limits.
    #[must_use]
    pub fn within(self, limits: SessionLimits, tenant: Arc<Tenant>) -> Self {
        Self { limits, queued: tenant.account(), tenant, ..self }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<Close> {
        self.ended
    }

    /// The number of the participant with this subject at the desk, if one has been here.
    pub fn find(&self, subject: &str) -> Option<Sender> {
        self.members.iter().find(|(_, member)| member.who.subject == subject).map(|(&sender, _)| sender)
    }

    /// A number that nobody here has, from a source of random numbers: numbers are random so that they do not meet those in
    /// tickets that a successor of this relay has not seen yet.
    ///
    /// # Errors
    /// [`Close::LIMIT`] if the session is full.
    pub fn vacant(&self, mut random: impl FnMut() -> u16) -> Result<Sender, Breach> {
        if self.members.len() >= self.limits.participants {
            return Err(Breach { close: Close::LIMIT, reason: "the session is full".into() });
        }
        loop {
            let sender = Sender(random());
            if sender != Sender::RELAY && !self.members.contains_key(&sender) {
                return Ok(sender);
            }
        }
    }

    /// Whether this participant's place is gone: it has left, or stayed away for longer than the grace period.
    pub fn has_left(&self, sender: Sender) -> bool {
        self.left.contains(&sender)
    }

    /// Whether this participant already uses another connection of this attempt: its client has gone on with that one.
    pub fn is_taken(&self, sender: Sender, attempt: AttemptId) -> bool {
        let online = self.members.get(&sender).and_then(Member::online);
        online.is_some_and(|online| online.attempt == Some(attempt) && online.confirmed)
    }

    /// Tells everybody who is connected.
    pub fn tell_all(&mut self, message: &control::Message) {
        for online in self.members.values_mut().filter_map(Member::online_mut) {
            online.outbox.control(message.clone());
        }
    }

    /// Closes everybody; they may come back.
    pub fn close_all(&mut self, close: Close, reason: &str) {
        for online in self.members.values().filter_map(Member::online) {
            online.outbox.close(close, reason);
        }
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.members.values().filter(|member| member.online().is_some()).count()
    }

    /// Seats a participant's new connection, whatever became of the one before.
    pub fn attach(
        &mut self,
        sender: Sender,
        who: Who,
        mut join: Join,
        wake: Arc<dyn Wake>,
        now: Instant,
    ) -> Seat {
        let connection = self.next_connection;
        self.next_connection += 1;
        let seat = Seat { sender, connection };
        let (elsewhere, epoch, keeps) = (join.returns, join.epoch, std::mem::take(&mut join.keeps));
        self.left.remove(&sender);
        self.metrics.came(!self.members.contains_key(&sender), join.returns, now);
        let returning = elsewhere && self.is_returning(may_publish(who.role), now);
        let member = self.members.entry(sender).or_insert_with(|| Member::new(who, returning));
        member.remember();
        let mut carried = None;
        if let Link::Online(before) = &mut member.link {
            before.outbox.close(Close::REPLACED, "the same participant connected anew");
            if before.parked && before.epoch == join.epoch {
                carried = Some(before.outbox.carry());
            }
        }
        let outbox = Outbox::new(wake, self.metrics.shared());
        let mut online = Online::new(connection, join, outbox, now);
        online.moved = carried.is_some();
        for (key, source) in carried.into_iter().flatten() {
            online.outbox.open(key, source);
        }
        member.link = Link::Online(Box::new(online));
        if elsewhere && member.is_publisher() {
            self.take_up(epoch, &keeps, now);
        }
        if self.publisher().is_some() {
            self.awaited = None;
        } else if elsewhere {
            self.awaited.get_or_insert(now);
        }
        seat
    }

    /// Whether people from a relay before this one are on their way back still. Their time begins with the first of them, and anew with
    /// the publisher.
    fn is_returning(&mut self, publisher: bool, now: Instant) -> bool {
        if publisher && self.publisher().is_none() {
            self.returning_until = None;
        }
        now <= *self.returning_until.get_or_insert(now + RETURN)
    }

    /// The first message to a seat, and all that it needs to go on: to be sent before anything else.
    pub fn welcome(&mut self, seat: Seat, mut welcome: message::Welcome, now: Instant) {
        let Some(member) = self.members.get(&seat.sender) else { return };
        let moved = member.online().is_some_and(|online| online.moved);
        welcome.received = match (member.is_publisher(), moved) {
            (true, _) => self.received_screens(seat.sender),
            (false, true) => member.received_input(seat.sender).into_iter().collect(),
            (false, false) => Vec::new(),
        };
        welcome.heartbeat_ms = self.heartbeat_ms();
        let publisher = member.is_publisher();
        if let Some(online) = self.online(seat) {
            online.outbox.control(control::Message::Welcome(welcome));
        }
        if publisher {
            // Who only moved still grants what it granted; but what it was asked for may be among what was given up.
            if !moved {
                self.publisher_went();
            }
            self.ask_publisher(seat.sender, now);
        }
        self.sync(seat.sender, now);
        if !publisher && !moved {
            self.send_latest(seat.sender);
        }
        self.note_paired(now);
        self.announce();
    }

    /// Takes note of when both ends are here for the first time.
    fn note_paired(&mut self, now: Instant) {
        if !self.paired && self.state() == message::SessionState::Active {
            self.paired = true;
            let began = self.metrics.totals().began.unwrap_or(now);
            self.metrics.pairing_seconds.record(now.saturating_duration_since(began));
        }
    }

    /// A client goes over to another connection, and has said all on this one. What its writer had begun goes again.
    pub fn park(&mut self, seat: Seat, half: Vec<(Slot, Bytes)>) {
        if let Some(online) = self.online(seat) {
            online.parked = true;
            for (slot, bytes) in half {
                online.outbox.put_back(slot, bytes);
            }
        }
    }

    /// A connection is gone. Its participant may come back.
    pub fn detach(&mut self, seat: Seat, now: Instant) {
        if self.online(seat).is_none() {
            return;
        }
        let Some(member) = self.members.get_mut(&seat.sender) else { return };
        member.remember();
        member.link = Link::Offline { since: now };
        if member.is_publisher() {
            self.publisher_went();
        }
        self.refresh_wants(now);
        self.upkeep(now);
        self.announce();
    }

    /// Something was heard from a connection.
    pub fn heard(&mut self, seat: Seat, now: Instant) {
        if let Some(online) = self.online(seat) {
            online.heard = now;
            online.confirmed = true;
        }
    }

    /// A control message arrived.
    ///
    /// # Errors
    /// A [`Breach`] of the protocol.
    pub fn control(&mut self, seat: Seat, message: control::Message, now: Instant) -> Result<(), Breach> {
        use control::Message as M;
        if self.online(seat).is_none() {
            return Ok(());
        }
        match message {
            M::Ping(ping) => {
                let pong = message::Pong { id: ping.id, time_us: ping.time_us };
                self.tell(seat.sender, M::Pong(pong));
            }
            M::Pong(pong) => {
                if let Some(online) = self.online(seat) {
                    online.ponged(pong.id, now);
                }
            }
            M::Ack(ack) => self.ack(seat, &ack, now)?,
            M::Visible(visible) => self.visible(seat, &visible, now)?,
            M::Want(want) => self.wanted(seat, &want, now)?,
            M::Ask(ask) => self.ask(seat.sender, Rights::from_wire(&ask.rights)),
            M::Grants(grants) => self.grants(seat.sender, &grants, now)?,
            M::End(end) => self.end(seat.sender, end.reason()),
            M::Hello(_) => return Err(Breach::protocol("a second Hello")),
            // What only the relay says, and Credit and Move, which the binding has taken: of no meaning here.
            _ => {}
        }
        Ok(())
    }

    /// Counts a control message.
    pub fn control_received(&self, binding: Binding, bytes: usize) {
        self.metrics.received(LaneKind::Control, binding, bytes);
    }

    fn end(&mut self, from: Sender, reason: message::EndReason) {
        let Some(member) = self.members.get(&from) else { return };
        if matches!(member.who.role, Role::Customer | Role::Lead) {
            self.finish(Close::ENDED, reason);
        } else {
            if let Link::Online(online) = &member.link {
                online.outbox.close(Close::LEFT, "left");
            }
            self.members.remove(&from);
            self.left.insert(from);
            self.announce();
        }
    }

    /// Ends the session for all.
    pub fn finish(&mut self, close: Close, reason: message::EndReason) {
        self.ended = Some(close);
        for member in self.members.values_mut() {
            if let Link::Online(online) = &mut member.link {
                online.outbox.control(control::Message::End(message::End { reason: reason.into() }));
                online.outbox.close(close, "the session has ended");
            }
        }
    }

    /// The outbox of a seat, while it is the participant's present one.
    pub fn outbox(&mut self, seat: Seat) -> Option<&mut Outbox> {
        self.online(seat).map(|online| &mut online.outbox)
    }

    /// Whether nobody has ever joined, or nobody is left.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn tell(&mut self, to: Sender, message: control::Message) {
        if let Some(online) = self.members.get_mut(&to).and_then(Member::online_mut) {
            online.outbox.control(message);
        }
    }

    fn publisher(&self) -> Option<Sender> {
        self.members.iter().find(|(_, member)| member.is_publisher()).map(|(&sender, _)| sender)
    }

    fn is_publisher(&self, sender: Sender) -> bool {
        self.members.get(&sender).is_some_and(Member::is_publisher)
    }

    fn online(&mut self, seat: Seat) -> Option<&mut Online> {
        let online = self.members.get_mut(&seat.sender)?.online_mut()?;
        (online.connection == seat.connection).then_some(online)
    }
}

/// What a connection brings along when it joins.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// The epoch of its records.
    pub epoch: u64,
    /// The attempt that it is one connection of.
    pub attempt: Option<AttemptId>,
    /// How it is connected.
    pub binding: Binding,
    /// It comes with a ticket: it has been in the session before, perhaps on another relay.
    pub returns: bool,
    /// For a resume: what it shows.
    pub showing: Vec<Showing>,
    /// And what it can send again.
    pub keeps: Vec<Keeping>,
}

/// Live updates that a returning publisher can send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Of this display.
    pub display: DisplayId,
    /// All after this update.
    pub after: Point,
    /// The number that comes next.
    pub next_seq: u64,
}

/// An update that a returning subscriber shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Showing {
    /// Of this display.
    pub display: DisplayId,
    /// In the publisher's epoch.
    pub epoch: u64,
    /// The update.
    pub point: Point,
}

/// What a participant may do at all, for the checks at the door.
pub fn may_publish(role: Role) -> bool {
    role == Role::Customer
}

#[cfg(test)]
mod tests;
