//! What a transport's tasks share about one connection: their way into the session, and how the session wakes them.

mod pace;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tandem_protocol::message::{Control, Hello, control};
use tandem_protocol::record::RecordError;
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Priority, Record, limits};
use tracing::field::{self, Empty};
use tracing::{Span, debug, info, info_span};

use crate::admission::{Refusal, Visitor};
use crate::metrics::{Binding, Connected, Dropped, Metrics};
use crate::outbox::{Changes, Outbox, Pull, Slot};
use crate::relay::{Place, Relay};
use crate::session::{Breach, LaneInstance, Taken, role_name};

pub use pace::{Paces, Pause};
pub use signals::Signals;

/// The span that everything is logged in that concerns one client. Once it is admitted it says who that is.
pub fn span(address: SocketAddr) -> Span {
    info_span!("client", %address, transport = Empty, session = Empty, participant = Empty)
}

/// An admitted connection.
#[derive(Debug)]
pub struct Connection {
    place: Place,
    relay: Arc<Relay>,
    /// How the session reaches it.
    pub signals: Arc<Signals>,
    /// How much it may send.
    pub paces: Paces,
    next_instance: AtomicU64,
    counted: Connected,
    /// That it ends is decided, counted and logged: what still comes while the client is told so is of no use.
    over: AtomicBool,
}

/// What ends a connection from inside: a rule was broken, or the transport failed.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client broke a rule.
    #[error("{}: {}", .0.close, .0.reason)]
    Breach(Breach),
    /// The transport is gone.
    #[error("{0}")]
    Transport(String),
}

impl From<Breach> for End {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

impl From<RecordError> for End {
    fn from(error: RecordError) -> Self {
        let close =
            if matches!(error, RecordError::BodyLength { .. }) { Close::LIMIT } else { Close::PROTOCOL };
        Self::Breach(Breach { close, reason: error.to_string() })
    }
}

impl Connection {
    /// Admits a client by its first message. Its `Welcome` is then in its outbox.
    ///
    /// # Errors
    /// A [`Refusal`] for the client.
    pub fn admit(
        relay: &Arc<Relay>,
        hello: &Hello,
        binding: Binding,
        visitor: &Visitor,
    ) -> Result<Self, Refusal> {
        let signals = Arc::new(Signals::default());
        let now = Instant::now();
        visitor.arrives();
        let place = relay.admit(hello, (binding, visitor), signals.clone(), now)?;
        visitor.admitted();
        relay.metrics().admission_seconds.record(now.saturating_duration_since(visitor.began));
        Span::current()
            .record("transport", binding.name())
            .record("session", field::display(place.session))
            .record("participant", field::display(place.seat.sender));
        info!(
            role = role_name(place.role),
            agent = hello.agent.chars().filter(|c| !c.is_control()).take(64).collect::<String>(),
            "joined"
        );
        let counted = relay.metrics().connected(binding);
        let paces = Paces::new(relay.limits(), now, relay.metrics().clone());
        Ok(Self {
            place,
            relay: relay.clone(),
            signals,
            paces,
            next_instance: AtomicU64::new(1),
            counted,
            over: AtomicBool::new(false),
        })
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        self.relay.metrics()
    }

    /// How the client is connected.
    pub fn binding(&self) -> Binding {
        self.counted.binding()
    }

    /// A number for a new incoming lane.
    pub fn instance(&self) -> LaneInstance {
        LaneInstance(self.next_instance.fetch_add(1, Ordering::Relaxed))
    }

    /// The client opened a lane.
    ///
    /// # Errors
    /// A [`Breach`].
    pub fn lane_opened(&self, lane: LaneInstance, key: LaneKey) -> Result<(), Breach> {
        self.place.shared.session.lock().lane_opened(self.place.seat, lane, key)
    }

    /// A lane of the client ended.
    pub fn lane_ended(&self, lane: LaneInstance) {
        self.place.shared.session.lock().lane_ended(self.place.seat, lane);
    }

    /// Hands in a record, waiting for room where its receiver has none.
    ///
    /// # Errors
    /// A [`Breach`].
    pub async fn record(&self, lane: LaneInstance, record: &Record) -> Result<(), Breach> {
        loop {
            let room = self.signals.until_room();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.offer(lane, record)? {
                Taken::Yes => return Ok(()),
                Taken::NoRoom => room.await,
            }
        }
    }

    /// Hands in a record if its receiver has room. To be tried again after [`Signals::until_room`].
    ///
    /// # Errors
    /// A [`Breach`].
    pub fn offer(&self, lane: LaneInstance, record: &Record) -> Result<Taken, Breach> {
        if self.over.load(Ordering::Relaxed) {
            self.metrics().dropped(Dropped::Stale, record.bytes.len());
            return Ok(Taken::Yes);
        }
        let mut session = self.place.shared.session.lock();
        let now = Instant::now();
        session.heard(self.place.seat, now);
        session.record(self.place.seat, lane, record, now)
    }

    /// Hands in records although their receivers have no room as yet: the connection is being left, and nobody can hold them.
    ///
    /// # Errors
    /// A [`Breach`].
    pub fn leave_behind(&self, records: &[(LaneInstance, Record)]) -> Result<(), Breach> {
        let mut session = self.place.shared.session.lock();
        session.records_left_behind(self.place.seat, records, Instant::now())
    }

    /// The client goes on on another connection: nothing is taken for this one any more. `half` is what was being written, and
    /// goes again whole.
    pub fn park(&self, half: Vec<(Slot, Bytes)>) {
        self.place.shared.session.lock().park(self.place.seat, half);
    }

    /// Hands in a control record. What is for the binding itself comes back.
    ///
    /// # Errors
    /// A [`Breach`].
    pub fn control(&self, record: &Record) -> Result<Option<control::Message>, Breach> {
        let message =
            Control::decode_body(record.body()).map_err(|error| Breach::protocol(error.to_string()))?;
        // Whoever ends the session is heard to the last.
        if self.over.load(Ordering::Relaxed) && !matches!(message, Some(control::Message::End(_))) {
            return Ok(None);
        }
        let now = Instant::now();
        let mut session = self.place.shared.session.lock();
        session.heard(self.place.seat, now);
        session.control_received(self.binding(), record.bytes.len());
        match message {
            None => Ok(None),
            Some(message @ (control::Message::Credit(_) | control::Message::Move(_))) => Ok(Some(message)),
            Some(message) => {
                if is_costly(&message) {
                    self.paces.costly();
                }
                session.control(self.place.seat, message, now).map(|()| None)
            }
        }
    }

    /// Takes a lane's next record.
    pub fn pull(&self, slot: Slot) -> Pull {
        self.place.shared.session.lock().pull(self.place.seat, slot, Instant::now())
    }

    /// Lanes that were opened towards the client, or given up, since the last call.
    pub fn take_changes(&self) -> Changes {
        if !self.signals.take_lanes() {
            return Changes::default();
        }
        let mut session = self.place.shared.session.lock();
        session.outbox(self.place.seat).map(Outbox::take_changes).unwrap_or_default()
    }

    /// Queues a control message for the client.
    pub fn tell(&self, message: control::Message) {
        let mut session = self.place.shared.session.lock();
        if let Some(outbox) = session.outbox(self.place.seat) {
            outbox.control(message);
        }
    }

    /// Whether a lane that is less urgent than this has something for its writer.
    pub fn has_beyond(&self, last: Priority) -> bool {
        self.place.shared.session.lock().has_beyond(self.place.seat, last)
    }

    /// How urgent a lane towards the client is now; `None` when it was given up. Its writer is woken, and
    /// [`Signals::take_focus`] says so, when that may have changed.
    pub fn priority(&self, slot: Slot) -> Option<Priority> {
        self.place.shared.session.lock().priority(self.place.seat, slot)
    }

    /// Whether the client looks at this display.
    pub fn is_focused(&self, display: DisplayId) -> bool {
        self.place.shared.session.lock().is_focused(self.place.seat.sender, display)
    }

    /// Does what is due, for ever.
    pub async fn keep_time(&self) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let deadline = self.place.shared.session.lock().deadline(self.place.seat);
            if let Some(deadline) = deadline {
                timer.as_mut().reset(deadline.into());
            }
            tokio::select! {
                () = &mut timer, if deadline.is_some() => {
                    self.place.shared.session.lock().due(Instant::now());
                }
                () = self.signals.deadline.notified() => {}
            }
        }
    }

    /// Counts and logs the end. The reason that the session gave comes before what the transport noticed.
    pub fn ended(&self, end: Option<End>) -> (Close, String) {
        self.over.store(true, Ordering::Relaxed);
        match end {
            Some(End::Breach(breach)) => self.signals.end(breach.close, &breach.reason),
            Some(End::Transport(text)) => self.signals.end(Close::LEFT, &text),
            None => {}
        }
        let (close, reason) = self.signals.reason();
        self.counted.ends(close);
        info!(why = close.name(), reason, "left");
        (close, reason)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.place.shared.session.lock().detach(self.place.seat, Instant::now());
    }
}

/// Whether a message concerns more than its sender.
fn is_costly(message: &control::Message) -> bool {
    use control::Message as M;
    matches!(message, M::Ask(_) | M::Grants(_) | M::Visible(_) | M::Want(_))
}

/// The first message of a connection, from the bytes that have arrived. `Ok(None)` asks for more.
///
/// # Errors
/// A [`Refusal`] if it is not a `Hello`, or too long.
pub fn hello(buffer: &mut BytesMut) -> Result<Option<Hello>, Refusal> {
    let malformed = |reason: String| Refusal::new(Close::PROTOCOL, reason);
    let record =
        Record::split_from(LaneKind::Control, buffer).map_err(|error| malformed(error.to_string()))?;
    let Some(record) = record else {
        return if buffer.len() >= limits::UNADMITTED_MAX {
            Err(Refusal::new(Close::ADMISSION, "too many bytes before a Hello"))
        } else {
            Ok(None)
        };
    };
    if record.bytes.len() > limits::UNADMITTED_MAX {
        return Err(Refusal::new(Close::ADMISSION, "too many bytes before a Hello"));
    }
    match Control::decode_body(record.body()) {
        Ok(Some(control::Message::Hello(hello))) => Ok(Some(hello)),
        Ok(_) => Err(malformed("the first message must be a Hello".into())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

/// Counts and logs a client that was not admitted.
pub fn refused(relay: &Relay, refusal: &Refusal, counted: bool) {
    if !counted {
        relay.metrics().refused(refusal.close);
    }
    debug!(why = refusal.close.name(), reason = refusal.reason, "refused");
}
