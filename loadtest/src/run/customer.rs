//! A pretend customer: consents at once, publishes a synthetic screen through the codec as its path takes it, and does what
//! the technician's input asks for, which here is to note when it came, and to answer.

mod publishing;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tandem_client::{Event, Handle, Join, Outgoing, SendError};
use tandem_codec::{Prepared, Rect, Renditions, Want};
use tandem_protocol::message::{self, CursorPosition, EndReason, Grants, Motion, control, types};
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Record, Sender};
use tokio::sync::{mpsc, oneshot};

use self::publishing::renditions;
use super::figures::Figures;
use super::inbox::Inbox;
use super::screen::Screen;
use super::transfer::Direction;
use super::{PATIENCE, Part, Window, changed, failed, note, sleep_until};
use crate::plan::Range;
use crate::report::series::Kind;

/// The one display.
const DISPLAY: DisplayId = DisplayId(0);

/// Where things are lost on purpose: how long input that may be lost is still waited for.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// For how long a program that was killed is not there.
pub(super) const DEAD: Duration = Duration::from_millis(200);

/// What a customer does beside publishing.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    /// Dropped when it has joined.
    pub(crate) ready: Option<mpsc::Sender<()>>,
    /// After how many seconds its program is killed and started again, over and over.
    pub(crate) drops: Option<Range>,
    /// Some of its technician's input may be lost, since one of the two programs is killed. A slow line is no reason for that.
    pub(crate) loses_input: bool,
    /// For what it draws.
    pub(crate) seed: u64,
}

/// Runs a customer until the technician is `done` and all that it says it has sent has come.
pub(crate) async fn run(part: Part, habits: Habits, done: oneshot::Receiver<u32>) -> Figures {
    let (handle, mut inbox) = part.join();
    let mut customer = Customer::new(part, habits, handle);
    tokio::pin!(done);
    loop {
        let now = Instant::now();
        if let Err(why) = customer.publish(now) {
            customer.fail(why);
            break;
        }
        customer.begin(now);
        if customer.has_all(now) {
            break;
        }
        tokio::select! {
            event = inbox.next() => match event {
                Some((came, event)) => customer.event(event, came),
                None => break,
            },
            () = sleep_until(customer.deadline(now)) => {}
            // A technician that is gone without a word sends no more.
            told = &mut done, if customer.told.is_none() => customer.told = Some((told.unwrap_or(0), Instant::now())),
            () = changed(&mut customer.part.window) => {}
            Some(prepared) = customer.prepared.recv() => customer.renditions.prepared(prepared),
        }
        if customer.dies(Instant::now()) {
            drop(inbox);
            tokio::time::sleep(DEAD).await;
            inbox = customer.come_back();
        }
        if customer.over || customer.is_late(Instant::now()) {
            break;
        }
    }
    customer.finish(inbox).await
}

struct Customer {
    part: Part,
    habits: Habits,
    rng: StdRng,
    handle: Handle,
    /// With which it comes back.
    ticket: Option<Vec<u8>>,
    renditions: Renditions,
    /// Streams that were made elsewhere, and where they are put.
    prepared: mpsc::UnboundedReceiver<Prepared>,
    prepares: mpsc::UnboundedSender<Prepared>,
    /// When reduced was last coded, and how long that took.
    reduced_at: Option<Instant>,
    reduced_cost: Duration,
    screen: Screen,
    /// Damage that the encoders have not been told.
    damage: Vec<Rect>,
    /// Since when somebody wants pictures; before that none was due.
    wanted_since: Option<Instant>,
    /// When the pacer wants to be asked again.
    ask_again: Option<Instant>,
    grants: u64,
    /// What is granted, by participant.
    granted: BTreeMap<u32, Vec<i32>>,
    /// The input event that comes next, if none is missing.
    next_input: u32,
    /// How many have come.
    came: u32,
    /// How many should have come, and when that was told.
    told: Option<(u32, Instant)>,
    sending: bool,
    figures: Figures,
    began: Instant,
    dies_at: Option<Instant>,
    over: bool,
}

impl Customer {
    fn new(part: Part, habits: Habits, handle: Handle) -> Self {
        part.joins();
        let (prepares, prepared) = mpsc::unbounded_channel();
        Self {
            rng: StdRng::seed_from_u64(habits.seed),
            handle,
            ticket: None,
            renditions: renditions(&part),
            prepared,
            prepares,
            reduced_at: None,
            reduced_cost: Duration::ZERO,
            screen: Screen::new(&part.course.source),
            part,
            habits,
            damage: Vec::new(),
            wanted_since: None,
            ask_again: None,
            grants: 0,
            granted: BTreeMap::new(),
            next_input: 0,
            came: 0,
            told: None,
            sending: false,
            figures: Figures::default(),
            began: Instant::now(),
            dies_at: None,
            over: false,
        }
    }

    /// Its program starts again, with nothing but its ticket and what its user has granted.
    fn come_back(&mut self) -> Inbox {
        if let Some(ticket) = &self.ticket {
            self.part.join = Join::Ticket(ticket.clone().into());
        }
        let (handle, inbox) = self.part.join();
        self.handle = handle;
        self.renditions = renditions(&self.part);
        self.figures.restarts += 1;
        inbox
    }

    /// Whether it is to be killed now.
    fn dies(&mut self, now: Instant) -> bool {
        let (Some(drops), Some(window)) = (self.habits.drops, self.window()) else { return false };
        let at = *self
            .dies_at
            .get_or_insert_with(|| window.start + Duration::from_secs_f64(drops.sample(&mut self.rng)));
        let dies = at <= now && now < window.end && self.ticket.is_some();
        if dies {
            self.dies_at = Some(now + Duration::from_secs_f64(drops.sample(&mut self.rng)));
        }
        dies
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        failed(&mut self.figures, "customer", self.part.number, why);
    }

    /// As soon as the window is known: counts the work done, and sends files.
    fn begin(&mut self, began: Instant) {
        let Some(window) = self.window() else { return };
        if window.has(began) {
            self.figures.busy += began.elapsed();
        }
        if !std::mem::replace(&mut self.sending, true) {
            self.part.send_files(Direction::Down, &self.handle, window.end);
        }
    }

    /// Whether nothing more is to come.
    fn has_all(&self, now: Instant) -> bool {
        self.told
            .is_some_and(|(sent, at)| self.came >= sent || self.habits.loses_input && now >= at + STRAGGLERS)
    }

    fn event(&mut self, event: Event, came: Instant) {
        match event {
            Event::Connected(connected) => {
                self.habits.ready = None;
                self.ticket = Some(connected.ticket);
                // What was on the way there is lost and not kept: black, and all of it anew.
                self.renditions.connected(connected.restart.iter().map(|lane| lane.rendition));
                self.restate();
            }
            Event::Control(control::Message::Ask(ask)) => self.consent(ask),
            Event::Control(control::Message::Want(want)) => self.want(&want),
            Event::Record { lane, record } if lane.kind == LaneKind::Input => self.input(lane, &record, came),
            Event::Record { lane, record } if lane.kind == LaneKind::File => {
                let counts = self.window().is_some_and(|window| window.has(came));
                let bytes = self.part.receive_file(&record);
                self.figures.file_bytes += if counts { bytes } else { 0 };
            }
            Event::Disconnected { why, .. } if !self.part.course.breaks => {
                self.fail(format_args!("lost its connection: {why}"));
            }
            Event::Disconnected { .. } => self.figures.reconnects += 1,
            Event::Closed { close, reason } => {
                self.fail(format_args!("closed: {close} {reason}"));
                self.over = true;
            }
            _ => {}
        }
    }

    /// Grants whatever is asked for.
    fn consent(&mut self, ask: message::Ask) {
        self.granted.insert(ask.participant, ask.rights);
        self.grant(ask.participant);
    }

    /// Says again what is granted, since no grant outlives the connection on which it was given.
    fn restate(&mut self) {
        let participants: Vec<u32> = self.granted.keys().copied().collect();
        participants.into_iter().for_each(|participant| self.grant(participant));
    }

    fn grant(&mut self, participant: u32) {
        self.grants += 1;
        let rights = self.granted.get(&participant).cloned().unwrap_or_default();
        let grants = Grants { participant, rights, revision: self.grants, prompt_open: false };
        match self.handle.control(control::Message::Grants(grants)) {
            // It is restated with the next connection.
            Ok(()) | Err(SendError::Offline) => {}
            Err(why) => self.fail(why),
        }
    }

    fn want(&mut self, want: &message::Want) {
        if want.display == u32::from(DISPLAY.0) {
            self.renditions.want(Want::from(want));
            self.work();
        }
    }

    /// An input event came: notes how long after it was due, and that none is missing before it.
    fn input(&mut self, lane: LaneKey, record: &Record, came: Instant) {
        let motion = (record.header.record_type == types::MOTION).then(|| Motion::decode(record.body()).ok());
        let number = motion.flatten().and_then(|motion| u32::try_from(motion.position?.x).ok());
        let rises = number.is_some_and(|number| number >= self.next_input);
        let may_skip = self.part.course.breaks && rises;
        // Who was killed does not know what it has had.
        if number != Some(self.next_input) && !may_skip && !self.habits.loses_input {
            let next = self.next_input;
            self.fail(format_args!("input {number:?} came instead of {next}"));
        }
        self.next_input = number.map_or(self.next_input, |number| self.next_input.max(number + 1));
        self.came += u32::from(rises);
        self.figures.inputs_twice += u64::from(!rises);
        if let (Some(number), Some(window), true) = (number, self.window(), rises) {
            let due = self.part.course.inputs.due(window, number);
            let late = came.saturating_duration_since(due);
            note(&self.part, Kind::Input, &mut self.figures.inputs, due, late);
            if self.part.course.answers {
                self.answer(number);
            }
        }
        self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
    }

    /// The pointer is where the event put it.
    fn answer(&mut self, number: u32) {
        let position = CursorPosition { x: number as i32, visible: true, ..CursorPosition::default() };
        let body = position.encode_to_vec();
        let lane = LaneKey::plain(LaneKind::Cursor, Sender::RELAY);
        // Without a connection nobody could see it.
        match self.handle.send(lane, Outgoing::latest(types::CURSOR_POSITION, &body)) {
            Ok(_) | Err(SendError::Offline) => {}
            Err(why) => self.fail(format_args!("an answer: {why}")),
        }
    }

    fn window(&self) -> Option<Window> {
        self.part.window()
    }

    /// When something is to be done although nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        let soon = now + Duration::from_micros(100);
        let next = self.part.newest(now).saturating_add(1);
        // Nobody watches, or the schedule is over: only the end is left.
        let running = self.window().is_none_or(|window| now < window.last);
        let runs = self.is_wanted() && running;
        let picture = if runs { self.part.schedule.time(next).max(soon) } else { now + PATIENCE };
        let rests = self.rest().map(|at| at.max(soon));
        let stragglers = self.told.filter(|_| self.habits.loses_input).map(|(_, at)| at + STRAGGLERS);
        let others = [self.ask_again, stragglers, self.dies_at.filter(|&at| now < at)];
        let next = others.into_iter().flatten().chain(rests).fold(picture, Instant::min);
        next.min(self.latest_end())
    }

    /// Whoever waits longer than this waits for ever.
    fn latest_end(&self) -> Instant {
        match self.window() {
            Some(window) => window.last + PATIENCE + PATIENCE / 2,
            None if self.ticket.is_none() => self.began + PATIENCE,
            // Others may come later.
            None => Instant::now() + PATIENCE,
        }
    }

    fn is_late(&mut self, now: Instant) -> bool {
        let late = now >= self.latest_end();
        if late && self.window().is_none() {
            self.fail("does not join");
        } else if late {
            let (came, due) = (self.came, self.told.map_or_else(|| self.part.inputs(), |(sent, _)| sent));
            self.fail(format_args!("gives up: {came} of {due} input events have come"));
        }
        late
    }

    /// Ends the session and waits until the relay has closed it.
    async fn finish(mut self, mut inbox: Inbox) -> Figures {
        if !self.over && self.handle.end(EndReason::ClosedByCustomer).is_ok() {
            let close = inbox.closed().await;
            if close != Some(Close::ENDED) {
                self.fail(format_args!("ended with {close:?}"));
            }
        }
        Figures { inputs_came: self.came.into(), ..self.figures }
    }
}
