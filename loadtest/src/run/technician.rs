//! A pretend technician: asks for consent, decodes the screen, notes how old it is, and sends input on a fixed schedule.

use std::time::{Duration, Instant};

use prost::Message as _;
use tandem_client::{Event, Outgoing};
use tandem_codec::{Outcome, PixelOrder, VideoPlayer, Viewer, ViewerLimits};
use tandem_protocol::message::{Ask, Motion, Position, Right, Rights, Roster, Visible, control, types};
use tandem_protocol::{Close, Flags, LaneKey, LaneKind, Record, Sender};
use tokio::sync::{mpsc, oneshot};

use super::age::Age;
use super::figures::{Figures, Samples};
use super::inbox::Inbox;
use super::transfer::Direction;
use super::{PATIENCE, Part, SETTLE, Window, changed, sleep_until};

/// How often it is looked for a picture of after a black-out, which may be there although nothing came.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a technician does beside watching, and whom it tells what.
#[derive(Debug)]
pub(crate) struct Duty {
    /// Sends input, and files if the plan says so.
    pub(crate) controls: bool,
    /// Dropped when its screen is there, or never will be.
    pub(crate) ready: Option<mpsc::Sender<()>>,
    /// Dropped when it shows a picture of after the black-out, or never will.
    pub(crate) recovered: Option<mpsc::Sender<()>>,
}

/// Runs a technician until it has seen and sent everything; `done` is told how many input events it has sent.
pub(crate) async fn run(part: Part, duty: Duty, done: oneshot::Sender<u32>) -> Figures {
    let (handle, mut inbox) = part.join();
    let mut technician = Technician::new(part, handle, duty);
    while !technician.over {
        let now = Instant::now();
        technician.send_input(now);
        tokio::select! {
            event = inbox.next() => match event {
                Some((came, event)) => technician.event(event, came),
                None => break,
            },
            () = technician.part.beat.notified() => {}
            () = sleep_until(technician.deadline(now)) => {}
            () = changed(&mut technician.part.window) => {}
        }
        technician.begin();
        technician.look_at_the_end(Instant::now());
    }
    (technician.duty.ready, technician.duty.recovered) = (None, None);
    // An error means that the customer has gone, and has said so.
    let _ = done.send(technician.sent);
    technician.finish(&mut inbox).await
}

struct Technician {
    part: Part,
    handle: tandem_client::Handle,
    viewer: Viewer,
    player: VideoPlayer,
    /// Some of what is shown may be video, which is never exact.
    has_video: bool,
    age: Age,
    duty: Duty,
    sampling: bool,
    sending: bool,
    rights: Rights,
    /// Input events sent.
    sent: u32,
    /// The newest picture shown whole.
    whole: u32,
    figures: Figures,
    began: Instant,
    over: bool,
    closed: bool,
}

impl Technician {
    fn new(part: Part, handle: tandem_client::Handle, duty: Duty) -> Self {
        Self {
            viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra),
            player: VideoPlayer::new(PixelOrder::Bgra),
            has_video: false,
            age: Age::new(part.plan.source.clone(), part.schedule),
            part,
            handle,
            duty,
            sampling: false,
            sending: false,
            rights: Rights::NONE,
            sent: 0,
            whole: 0,
            figures: Figures::default(),
            began: Instant::now(),
            over: false,
            closed: false,
        }
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.figures.failures.push(format!("technician {}: {why}", self.part.number));
    }

    fn window(&self) -> Option<Window> {
        *self.part.window.borrow()
    }

    /// As soon as the window is known, whatever woke us: samples from a second after the first picture, and sends files.
    fn begin(&mut self) {
        let Some(window) = self.window() else { return };
        if let Some(first) = self.figures.first_picture.filter(|_| !self.sampling) {
            self.sampling = true;
            self.age.sample(window.start.max(self.began + first + SETTLE), window.end);
        }
        if !self.sending && self.rights.has(Right::SendFiles) {
            self.sending = true;
            self.part.send_files(Direction::Up, &self.handle, window.end);
        }
    }

    fn is_in_window(&self, now: Instant) -> bool {
        self.window().is_some_and(|window| (window.start..window.end).contains(&now))
    }

    fn event(&mut self, event: Event, came: Instant) {
        match event {
            Event::Connected(_) => self.connected(),
            Event::Control(control::Message::Roster(roster)) => self.roster(&roster),
            Event::LaneOpened(lane) if lane.kind == LaneKind::Key => {
                self.viewer.key_lane_opened(lane.rendition);
            }
            Event::Record { lane, record } if lane.kind.is_screen() => self.screen(lane, &record, came),
            Event::Record { lane, record } if lane.kind == LaneKind::File => {
                let bytes = self.part.receive_file(&record);
                self.figures.file_bytes += if self.is_in_window(came) { bytes } else { 0 };
            }
            Event::Disconnected { why, .. } => self.fail(format_args!("lost its connection: {why}")),
            Event::Closed { close, reason } => {
                self.fail(format_args!("closed: {close} {reason}"));
                (self.over, self.closed) = (true, true);
            }
            _ => {}
        }
    }

    fn connected(&mut self) {
        let visible = Visible { display: 0, visible: true, focused: true };
        let mut rights = vec![Right::View];
        if self.duty.controls {
            rights.push(Right::Control);
            rights.extend(self.part.plan.transfer.iter().map(|transfer| match transfer.direction {
                Direction::Up => Right::SendFiles,
                Direction::Down => Right::ReceiveFiles,
            }));
        }
        let ask = Ask { participant: 0, rights: Rights::of(&rights).to_wire() };
        for message in [control::Message::Visible(visible), control::Message::Ask(ask)] {
            if let Err(why) = self.handle.control(message) {
                self.fail(why);
            }
        }
    }

    fn roster(&mut self, roster: &Roster) {
        let own = self.handle.sender().map(|sender| u32::from(sender.0));
        let me = roster.participants.iter().find(|participant| Some(participant.sender) == own);
        self.rights = me.map_or(Rights::NONE, |me| Rights::from_wire(&me.rights));
    }

    /// Decodes a record, says so, and looks at what the screen now shows.
    fn screen(&mut self, lane: LaneKey, record: &Record, came: Instant) {
        let began = Instant::now();
        if self.is_in_window(came) {
            self.figures.bytes += record.bytes.len() as u64;
            if lane.kind == LaneKind::Screen && !record.header.flags.contains(Flags::MORE) {
                let captured = self.part.journal.lock().captured(lane.rendition, record.header.seq);
                let age = captured.map(|captured| came.saturating_duration_since(captured));
                age.into_iter().for_each(|age| self.figures.arrivals.push(came, age));
            }
        }
        match self.viewer.record(&record.header, record.body()) {
            Outcome::Applied { rects, point } => {
                if lane.kind == LaneKind::Screen {
                    self.handle.applied(lane, point, point.seq);
                }
                let now = Instant::now();
                self.catch_up(now);
                let newest = self.part.newest(now);
                // Of a key it is not known, but who needed it had nothing newer.
                let captured = self.part.journal.lock().captured(point.rendition, point.seq);
                let coded = captured.map_or(newest, |captured| self.part.newest(captured));
                match self.player.play_viewer(&mut self.viewer) {
                    Ok(played) => {
                        self.age.changed(self.viewer.decoder().picture(), &rects, newest, coded);
                        self.has_video |= !played.is_empty();
                        self.age.played(&played, newest, coded);
                    }
                    Err(why) => self.fail(why),
                }
                self.look(now);
            }
            Outcome::Lost(why) => self.fail(format_args!("fell out of step: {why}")),
            Outcome::Held | Outcome::Skipped => {}
        }
        if self.is_in_window(began) {
            self.figures.busy += began.elapsed();
        }
    }

    fn catch_up(&mut self, now: Instant) {
        let ages: &mut Samples = &mut self.figures.ages;
        self.age.catch_up(now, |due, age| ages.push(due, age));
    }

    /// Counts the picture, if it is a new one and whole.
    fn look(&mut self, now: Instant) {
        let newest = self.part.newest(now);
        let Some(whole) = self.age.whole(newest).filter(|&whole| whole > self.whole) else { return };
        self.whole = whole;
        self.duty.ready = None;
        self.figures.first_picture.get_or_insert_with(|| now.saturating_duration_since(self.began));
        let Some(window) = self.window() else { return };
        self.figures.applied += u64::from(self.part.offered(window).contains(&whole));
        let of_after = |light: &Instant| whole > self.part.schedule.newest(*light);
        if let Some(light) = window.light.filter(of_after) {
            self.figures.recovery.get_or_insert_with(|| now.saturating_duration_since(light));
            self.duty.recovered = None;
        }
    }

    /// Sends what is due of the window's input.
    fn send_input(&mut self, now: Instant) {
        let Some(window) = self.window().filter(|_| self.duty.controls) else { return };
        while !self.over
            && self.sent < self.part.plan.inputs()
            && self.part.input_due(window, self.sent) <= now
        {
            if !self.rights.has(Right::Control) {
                self.fail("no control was granted");
                self.over = true;
                return;
            }
            let position = Position { display: 0, generation: 0, x: self.sent as i32, y: 0 };
            let body = Motion { position: Some(position) }.encode_to_vec();
            let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
            if let Err(why) = self.handle.send(lane, Outgoing::message(types::MOTION, &body)) {
                let number = self.sent;
                self.fail(format_args!("input {number}: {why}"));
            }
            self.sent += 1;
        }
    }

    /// Before the window a screen must come in time; after it the last picture must, and it must be right.
    fn look_at_the_end(&mut self, now: Instant) {
        let Some(window) = self.window() else {
            if now >= self.began + PATIENCE && self.duty.ready.is_some() {
                self.fail("no screen came");
                self.over = true;
            }
            return;
        };
        if now < window.end || self.over {
            return;
        }
        self.catch_up(now);
        self.look(now);
        if now < window.last {
            return;
        }
        let last = self.part.newest(now);
        let has_sent = !self.duty.controls || self.sent == self.part.plan.inputs();
        let is_late = now >= window.last + PATIENCE;
        if self.whole == last && has_sent {
            let is_exact = self.part.plan.source.is_picture(self.viewer.decoder().picture(), last);
            // Video has to rest first.
            self.over = is_exact || !self.has_video || is_late;
            if self.over && !is_exact {
                self.fail("the last picture has wrong pixels");
            }
        } else if is_late {
            self.over = true;
            let whole = self.whole;
            self.fail(format_args!("the last picture is {whole}, not {last}"));
        }
    }

    /// When something is to be done although nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        match self.window() {
            None if self.duty.ready.is_some() => self.began + PATIENCE,
            // Whoever is not ready in time makes the others wait no longer than that.
            None => now + PATIENCE,
            Some(window) if now < window.end => window.end,
            Some(window) if now < window.last && self.duty.recovered.is_some() => now + LOOK_AGAIN,
            Some(window) if now < window.last => window.last,
            Some(window) => window.last + PATIENCE,
        }
    }

    async fn finish(mut self, inbox: &mut Inbox) -> Figures {
        // The customer ends the session for both.
        let close = if self.closed { Some(Close::ENDED) } else { inbox.closed().await };
        if close != Some(Close::ENDED) {
            self.fail(format_args!("ended with {close:?}"));
        }
        let offered = self.window().map_or(0, |window| self.part.offered(window).count() as u64);
        Figures { offered, ..self.figures }
    }
}
