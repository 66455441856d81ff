//! A pretend customer: consents at once, publishes a synthetic screen through the codec as its path takes it, and does what
//! the technician's input asks for, which here is to note when it came.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use prost::Message as _;
use tandem_client::pacer::Pace;
use tandem_client::{Event, Outgoing, SendError};
use tandem_codec::{Base, EncodeError, Encoder, EncoderOptions, Hints, PIXEL, PictureRef, Rect, Update};
use tandem_protocol::message::{self, EndReason, Grants, Motion, Want, control, types};
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Point, Record, Rendition, ScreenKind, Sender};
use tokio::sync::oneshot;

use super::screen::Screen;
use super::{Figures, PATIENCE, Part, Window, sleep_until};

/// The one display.
const DISPLAY: DisplayId = DisplayId(0);

/// The screen lane, whose sender the client fills in.
fn lane(kind: LaneKind) -> LaneKey {
    LaneKey::screen(kind, DISPLAY, Rendition::LIVE, Sender::RELAY)
}

/// Runs a customer until the technician is `done` and all that it says it has sent has come.
pub(super) async fn run(part: Part, done: oneshot::Receiver<u32>) -> Figures {
    let (handle, mut events) = part.join();
    let mut customer = match Customer::new(part, handle) {
        Ok(customer) => customer,
        Err(why) => return Figures::failed(format!("customer: {why}")),
    };
    tokio::pin!(done);
    let mut sent = None;
    loop {
        let now = Instant::now();
        if let Err(why) = customer.publish(now) {
            customer.fail(why);
            break;
        }
        if sent.is_some_and(|sent| customer.next_input >= sent) {
            break;
        }
        tokio::select! {
            event = events.next() => match event {
                Some(event) => customer.event(event, Instant::now()),
                None => break,
            },
            () = sleep_until(customer.deadline(now)) => {}
            // A technician that is gone without a word sends no more.
            told = &mut done, if sent.is_none() => sent = Some(told.unwrap_or(0)),
            _ = customer.part.window.changed(), if customer.part.window_open() => {}
        }
        if customer.over || customer.is_late(Instant::now()) {
            break;
        }
    }
    customer.finish(events).await
}

struct Customer {
    part: Part,
    handle: tandem_client::Handle,
    encoder: Encoder,
    screen: Screen,
    /// Damage since the last update.
    damage: Vec<Rect>,
    wanted: bool,
    /// The last request that was answered: the same id asks once.
    last_want: Option<u32>,
    segment: u32,
    /// The last update sent.
    last: Option<Point>,
    /// When the pacer wants to be asked again.
    ask_again: Option<Instant>,
    grants: u64,
    /// The input event that comes next.
    next_input: u32,
    inputs: Histogram<u64>,
    failures: Vec<String>,
    began: Instant,
    over: bool,
}

impl Customer {
    fn new(part: Part, handle: tandem_client::Handle) -> Result<Self, EncodeError> {
        let source = &part.plan.source;
        let options =
            EncoderOptions { plain_window_log: part.plan.window_log, ..EncoderOptions::new(source.size()) };
        Ok(Self {
            encoder: Encoder::new(options)?,
            screen: Screen::new(source),
            part,
            handle,
            damage: Vec::new(),
            wanted: false,
            last_want: None,
            segment: 0,
            last: None,
            ask_again: None,
            grants: 0,
            next_input: 0,
            inputs: super::histogram(),
            failures: Vec::new(),
            began: Instant::now(),
            over: false,
        })
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.failures.push(format!("customer {}: {why}", self.part.number));
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected(connected) if !connected.restart.is_empty() => {
                // What was on the way is lost and not kept: black, and all of it anew.
                if let Err(why) = self.encoder.resize(*self.encoder.options()) {
                    self.fail(why);
                }
            }
            Event::Control(control::Message::Ask(ask)) => self.consent(&ask),
            Event::Control(control::Message::Want(want)) => self.want(&want),
            Event::Record { lane, record } if lane.kind == LaneKind::Input => self.input(lane, &record, now),
            Event::Disconnected { why, .. } => self.fail(format_args!("lost its connection: {why}")),
            Event::Closed { close, reason } => {
                self.fail(format_args!("closed: {close} {reason}"));
                self.over = true;
            }
            _ => {}
        }
    }

    /// Grants whatever is asked for.
    fn consent(&mut self, ask: &message::Ask) {
        self.grants += 1;
        let grants = Grants {
            participant: ask.participant,
            rights: ask.rights.clone(),
            revision: self.grants,
            prompt_open: false,
        };
        if let Err(why) = self.handle.control(control::Message::Grants(grants)) {
            self.fail(why);
        }
    }

    fn want(&mut self, want: &Want) {
        let ours = want.display == u32::from(DISPLAY.0) && want.rendition == u32::from(Rendition::LIVE.0);
        if !ours || self.last_want.is_some_and(|last| want.request_id <= last) {
            return;
        }
        self.last_want = Some(want.request_id);
        self.wanted = want.on;
        let Some(last) = self.last.filter(|_| want.start) else { return };
        if let Some(job) = self.encoder.start_segment() {
            self.segment += 1;
            let key = job.encode().map_err(|why| why.to_string());
            let sent = key.and_then(|body| {
                let out = Outgoing::key(self.segment, last.seq, &body);
                self.handle.send(lane(LaneKind::Key), out).map_err(|why| why.to_string())
            });
            if let Err(why) = sent {
                self.fail(why);
            }
        }
    }

    /// Encodes the newest pixels while the path takes them.
    fn publish(&mut self, now: Instant) -> Result<(), EncodeError> {
        self.ask_again = None;
        let newest = self.part.newest(now);
        self.damage.append(&mut self.screen.advance(&self.part.plan.source, newest));
        while self.wanted && (!self.damage.is_empty() || self.encoder.is_behind()) {
            let budget = match self.handle.pace(lane(LaneKind::Screen)) {
                Pace::Send(budget) => budget,
                Pace::Wait(until) => {
                    self.ask_again = until;
                    break;
                }
            };
            let size = self.part.plan.source.size();
            let picture = PictureRef::new(size, usize::from(size.w) * PIXEL, self.screen.picture().bytes())
                .expect("a picture of this size");
            let hints = Hints { damage: Some(&self.damage), pointer: None };
            let Some(update) = self.encoder.encode(picture, &hints, budget)? else {
                self.damage.clear();
                break;
            };
            self.damage.clear();
            if !self.send(&update)? {
                break;
            }
        }
        Ok(())
    }

    /// Sends an update. If it cannot be sent, the shadow has gone on without anybody: then all of it goes anew, from black.
    fn send(&mut self, update: &Update) -> Result<bool, EncodeError> {
        let kind = match update.start {
            None => ScreenKind::Update,
            Some(Base::Black) => {
                self.segment += 1;
                ScreenKind::Start { from: None }
            }
            Some(Base::Shadow) => ScreenKind::Start { from: self.last },
        };
        let out = Outgoing::screen(self.segment, kind, &update.body);
        match self.handle.send(lane(LaneKind::Screen), out) {
            Ok(sent) => {
                let point = Point { rendition: Rendition::LIVE, segment: self.segment, seq: sent.seq };
                self.last = Some(point);
                return Ok(true);
            }
            // Why the connection is gone is told by itself.
            Err(SendError::Offline) => {}
            Err(why) => self.fail(why),
        }
        self.encoder.resize(*self.encoder.options())?;
        Ok(false)
    }

    /// An input event came: notes how long after it was due, and that it is the next one.
    fn input(&mut self, lane: LaneKey, record: &Record, now: Instant) {
        let motion = (record.header.record_type == types::MOTION).then(|| Motion::decode(record.body()).ok());
        let number = motion.flatten().and_then(|motion| u32::try_from(motion.position?.x).ok());
        if number == Some(self.next_input) {
            self.next_input += 1;
        } else {
            let next = self.next_input;
            self.fail(format_args!("input {number:?} came instead of {next}"));
            self.next_input = number.map_or(self.next_input, |number| number.max(self.next_input) + 1);
        }
        if let (Some(number), Some(window)) = (number, self.window()) {
            let due = self.part.input_due(window, number);
            self.inputs.saturating_record(now.saturating_duration_since(due).as_micros() as u64);
        }
        self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
    }

    fn window(&self) -> Option<Window> {
        *self.part.window.borrow()
    }

    /// When something is to be done although nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        let next = self.part.newest(now).saturating_add(1);
        let picture = self.part.schedule.time(next).max(now + Duration::from_micros(100));
        // Nobody watches, or the schedule is over: only the end is left.
        let running = self.window().is_none_or(|window| now < window.end);
        let picture = if self.wanted && running { picture } else { now + PATIENCE };
        self.ask_again.map_or(picture, |again| again.min(picture)).min(self.latest_end())
    }

    /// Whoever waits longer than this waits for ever.
    fn latest_end(&self) -> Instant {
        self.window().map_or(self.began + 3 * PATIENCE, |window| window.end + PATIENCE + PATIENCE / 2)
    }

    fn is_late(&mut self, now: Instant) -> bool {
        let late = now >= self.latest_end();
        if late {
            let (came, due) = (self.next_input, self.part.plan.inputs());
            self.fail(format_args!("gives up: {came} of {due} input events have come"));
        }
        late
    }

    /// Ends the session and waits until the relay has closed it.
    async fn finish(mut self, mut events: tandem_client::Events) -> Figures {
        if !self.over && self.handle.end(EndReason::ClosedByCustomer).is_ok() {
            let close = super::closed(&mut events).await;
            if close != Some(Close::ENDED) {
                self.fail(format_args!("ended with {close:?}"));
            }
        }
        Figures { inputs: self.inputs, failures: self.failures, ..Figures::default() }
    }
}
