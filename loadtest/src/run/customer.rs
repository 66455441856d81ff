//! A pretend customer: consents at once, publishes a synthetic screen through the codec as its path takes it, and does what
//! the technician's input asks for, which here is to note when it came.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost::Message as _;
use tandem_client::pacer::Pace;
use tandem_client::{Event, Outgoing, SendError};
use tandem_codec::{
    EncodeError, EncoderOptions, Job, KeyTask, PIXEL, PictureRef, Rect, Renditions, ScreenRecord, Want,
};
use tandem_protocol::message::{self, EndReason, Grants, Motion, control, types};
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Record, Rendition, Sender};
use tokio::sync::oneshot;

use super::figures::{Figures, Journal};
use super::inbox::Inbox;
use super::screen::Screen;
use super::transfer::Direction;
use super::{PATIENCE, Part, Window, changed, sleep_until};

/// The one display.
const DISPLAY: DisplayId = DisplayId(0);

/// In the order in which they are served.
const RENDITIONS: [Rendition; 2] = [Rendition::LIVE, Rendition::REDUCED];

/// A lane of the screen, whose sender the client fills in.
fn lane(kind: LaneKind, rendition: Rendition) -> LaneKey {
    LaneKey::screen(kind, DISPLAY, rendition, Sender::RELAY)
}

/// Runs a customer until the technician is `done` and all that it says it has sent has come.
pub(crate) async fn run(part: Part, done: oneshot::Receiver<u32>) -> Figures {
    let (handle, mut inbox) = part.join();
    let mut customer = Customer::new(part, handle);
    tokio::pin!(done);
    let mut sent = None;
    loop {
        let now = Instant::now();
        if let Err(why) = customer.publish(now) {
            customer.fail(why);
            break;
        }
        customer.begin(now);
        if sent.is_some_and(|sent| customer.next_input >= sent) {
            break;
        }
        tokio::select! {
            event = inbox.next() => match event {
                Some((came, event)) => customer.event(event, came),
                None => break,
            },
            () = sleep_until(customer.deadline(now)) => {}
            // A technician that is gone without a word sends no more.
            told = &mut done, if sent.is_none() => sent = Some(told.unwrap_or(0)),
            () = changed(&mut customer.part.window) => {}
        }
        if customer.over || customer.is_late(Instant::now()) {
            break;
        }
    }
    customer.finish(inbox).await
}

struct Customer {
    part: Part,
    handle: tandem_client::Handle,
    renditions: Renditions,
    screen: Screen,
    /// Damage that the encoders have not been told.
    damage: Vec<Rect>,
    /// When the pacer wants to be asked again.
    ask_again: Option<Instant>,
    grants: u64,
    /// The input event that comes next.
    next_input: u32,
    sending: bool,
    figures: Figures,
    began: Instant,
    over: bool,
}

impl Customer {
    fn new(part: Part, handle: tandem_client::Handle) -> Self {
        let source = &part.plan.source;
        let options = EncoderOptions {
            plain_window_log: part.plan.window_log,
            video: true,
            ..EncoderOptions::new(source.size())
        };
        Self {
            renditions: Renditions::new(options),
            screen: Screen::new(source),
            part,
            handle,
            damage: Vec::new(),
            ask_again: None,
            grants: 0,
            next_input: 0,
            sending: false,
            figures: Figures::default(),
            began: Instant::now(),
            over: false,
        }
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.figures.failures.push(format!("customer {}: {why}", self.part.number));
    }

    /// As soon as the window is known: counts the work done, and sends files.
    fn begin(&mut self, began: Instant) {
        let Some(window) = self.window() else { return };
        if (window.start..window.end).contains(&began) {
            self.figures.busy += began.elapsed();
        }
        if !std::mem::replace(&mut self.sending, true) {
            self.part.send_files(Direction::Down, &self.handle, window.end);
        }
    }

    fn event(&mut self, event: Event, came: Instant) {
        match event {
            Event::Connected(connected) => {
                // What was on the way there is lost and not kept: black, and all of it anew.
                self.renditions.connected(connected.restart.iter().map(|lane| lane.rendition));
            }
            Event::Control(control::Message::Ask(ask)) => self.consent(&ask),
            Event::Control(control::Message::Want(want)) => self.want(&want),
            Event::Record { lane, record } if lane.kind == LaneKind::Input => self.input(lane, &record, came),
            Event::Record { lane, record } if lane.kind == LaneKind::File => {
                let counts = self.window().is_some_and(|window| (window.start..window.end).contains(&came));
                let bytes = self.part.receive_file(&record);
                self.figures.file_bytes += if counts { bytes } else { 0 };
            }
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

    fn want(&mut self, want: &message::Want) {
        if want.display == u32::from(DISPLAY.0) {
            self.renditions.want(Want::from(want));
            self.work();
        }
    }

    /// Does what is to be done beside pictures. Keys take long, and nobody waits for them.
    fn work(&mut self) {
        while let Some(job) = self.renditions.next_job() {
            match job {
                Job::Streams(job) => self.renditions.prepared(job.run()),
                Job::Key(task) => {
                    let (handle, journal) = (self.handle.clone(), self.part.journal.clone());
                    tokio::task::spawn_blocking(move || send_key(&handle, task, &journal));
                }
            }
        }
    }

    /// Encodes the newest pixels while the paths take them.
    fn publish(&mut self, now: Instant) -> Result<(), EncodeError> {
        self.ask_again = None;
        let newest = self.part.newest(now);
        self.damage.append(&mut self.screen.advance(&self.part.plan.source, newest));
        self.renditions.set_time(now.saturating_duration_since(self.began));
        if self.is_wanted() {
            self.renditions.damage(Some(&self.damage));
            self.damage.clear();
        }
        RENDITIONS.into_iter().try_for_each(|rendition| self.publish_one(rendition, now))
    }

    /// Whether video has come to rest that is to be exact now.
    fn rests(&self, rendition: Rendition, now: Instant) -> bool {
        self.renditions.rests_at(rendition).is_some_and(|at| self.began + at <= now)
    }

    fn publish_one(&mut self, rendition: Rendition, now: Instant) -> Result<(), EncodeError> {
        while self.renditions.is_behind(rendition) || self.rests(rendition, now) {
            let budget = match self.handle.pace(lane(LaneKind::Screen, rendition)) {
                Pace::Send(budget) => budget,
                Pace::Wait(until) => {
                    self.ask_again = [self.ask_again, until].into_iter().flatten().min();
                    break;
                }
            };
            let size = self.part.plan.source.size();
            let picture = PictureRef::new(size, usize::from(size.w) * PIXEL, self.screen.picture().bytes())
                .expect("a picture of this size");
            let record = self.renditions.encode(rendition, picture, None, budget)?;
            let went_on = record.is_none_or(|record| self.send(&record));
            self.work();
            if !went_on {
                break;
            }
        }
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        self.renditions.is_wanted(Rendition::LIVE)
    }

    /// Sends a record, or says that it could not be sent.
    fn send(&mut self, record: &ScreenRecord) -> bool {
        let out = Outgoing::screen(record.segment, record.kind, &record.body).skipping(record.skips);
        let captured = self.part.schedule.time(self.screen.newest());
        // Held while it is sent, so that nobody has the update before its entry is there.
        let mut journal = self.part.journal.lock();
        let sent = self.handle.send(lane(LaneKind::Screen, record.rendition), out);
        if let Ok(sent) = sent {
            journal.update(record.rendition, sent.seq, captured, record.body.len());
        }
        drop(journal);
        match sent {
            Ok(sent) => {
                self.renditions.sent(record.rendition, sent.seq);
                return true;
            }
            // Why the connection is gone is told by itself.
            Err(SendError::Offline) => {}
            Err(why) => self.fail(why),
        }
        self.renditions.unsent(record.rendition);
        false
    }

    /// An input event came: notes how long after it was due, and that it is the next one.
    fn input(&mut self, lane: LaneKey, record: &Record, came: Instant) {
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
            self.figures.inputs.push(due, came.saturating_duration_since(due));
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
        let running = self.window().is_none_or(|window| now < window.last);
        let picture = if self.is_wanted() && running { picture } else { now + PATIENCE };
        let rests = RENDITIONS.into_iter().filter_map(|rendition| self.renditions.rests_at(rendition));
        let rests = rests.map(|at| (self.began + at).max(now + Duration::from_micros(100)));
        let next = [Some(picture), self.ask_again].into_iter().flatten().chain(rests).min();
        next.unwrap_or(picture).min(self.latest_end())
    }

    /// Whoever waits longer than this waits for ever.
    fn latest_end(&self) -> Instant {
        self.window().map_or(self.began + 3 * PATIENCE, |window| window.last + PATIENCE + PATIENCE / 2)
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
    async fn finish(mut self, mut inbox: Inbox) -> Figures {
        if !self.over && self.handle.end(EndReason::ClosedByCustomer).is_ok() {
            let close = inbox.closed().await;
            if close != Some(Close::ENDED) {
                self.fail(format_args!("ended with {close:?}"));
            }
        }
        self.figures
    }
}

/// Makes a key and sends it. Whoever needs it asks again if it does not come.
fn send_key(handle: &tandem_client::Handle, task: KeyTask, journal: &Mutex<Journal>) {
    let KeyTask { rendition, segment, seq, job } = task;
    let Ok(body) = job.encode() else { return };
    if handle.send(lane(LaneKind::Key, rendition), Outgoing::key(segment, seq, &body)).is_ok() {
        journal.lock().key(rendition, body.len());
    }
}
