//! A pretend technician: asks for consent, decodes the screen, notes how old it is, and sends input on a fixed schedule.

use std::time::Instant;

use hdrhistogram::Histogram;
use prost::Message as _;
use tandem_client::{Event, Outgoing};
use tandem_codec::{Outcome, PixelOrder, Viewer, ViewerLimits};
use tandem_protocol::message::{Ask, Motion, Position, Right, Rights, Roster, Visible, control, types};
use tandem_protocol::{Close, LaneKey, LaneKind, Record, Sender};
use tokio::sync::{mpsc, oneshot};

use super::age::Age;
use super::screen::Screen;
use super::{Figures, PATIENCE, Part, Window, sleep_until};

/// Runs a technician until it has seen and sent everything. `ready` is dropped when its screen is there, or never will be.
pub(super) async fn run(part: Part, ready: mpsc::Sender<()>, done: oneshot::Sender<u32>) -> Figures {
    let (handle, mut events) = part.join();
    let mut technician = Technician::new(part, handle, ready);
    while !technician.over {
        let now = Instant::now();
        technician.send_input(now);
        tokio::select! {
            event = events.next() => match event {
                Some(event) => technician.event(event, Instant::now()),
                None => break,
            },
            () = technician.part.beat.notified() => {}
            () = sleep_until(technician.deadline(now)) => {}
            _ = technician.part.window.changed(), if technician.part.window_open() => {}
        }
        technician.begin_sampling();
        technician.look_at_the_end(Instant::now());
    }
    // An error means that the customer has gone, and has said so.
    let _ = done.send(technician.sent);
    technician.finish(&mut events).await
}

struct Technician {
    part: Part,
    handle: tandem_client::Handle,
    viewer: Viewer,
    age: Age,
    ages: Histogram<u64>,
    sampling: bool,
    may_control: bool,
    ready: Option<mpsc::Sender<()>>,
    /// Input events sent.
    sent: u32,
    /// Bytes of screen and key records that came while it counted.
    bytes: u64,
    /// The newest picture shown whole, and how many of the window's were.
    whole: u32,
    applied: u64,
    failures: Vec<String>,
    began: Instant,
    over: bool,
    closed: bool,
}

impl Technician {
    fn new(part: Part, handle: tandem_client::Handle, ready: mpsc::Sender<()>) -> Self {
        Self {
            viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra),
            age: Age::new(part.plan.source.clone(), part.schedule),
            part,
            handle,
            ages: super::histogram(),
            sampling: false,
            may_control: false,
            ready: Some(ready),
            sent: 0,
            bytes: 0,
            whole: 0,
            applied: 0,
            failures: Vec::new(),
            began: Instant::now(),
            over: false,
            closed: false,
        }
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.failures.push(format!("technician {}: {why}", self.part.number));
    }

    fn window(&self) -> Option<Window> {
        *self.part.window.borrow()
    }

    /// As soon as the window is known, whatever woke us.
    fn begin_sampling(&mut self) {
        if let Some(window) = self.window().filter(|_| !self.sampling) {
            self.sampling = true;
            self.age.sample(window.start, window.end);
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected(_) => self.connected(),
            Event::Control(control::Message::Roster(roster)) => self.roster(&roster),
            Event::LaneOpened(lane) if lane.kind == LaneKind::Key => {
                self.viewer.key_lane_opened(lane.rendition);
            }
            Event::Record { lane, record } if lane.kind.is_screen() => self.screen(lane, &record, now),
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
        let ask = Ask { participant: 0, rights: Rights::of(&[Right::View, Right::Control]).to_wire() };
        for message in [control::Message::Visible(visible), control::Message::Ask(ask)] {
            if let Err(why) = self.handle.control(message) {
                self.fail(why);
            }
        }
    }

    fn roster(&mut self, roster: &Roster) {
        let own = self.handle.sender().map(|sender| u32::from(sender.0));
        let me = roster.participants.iter().find(|participant| Some(participant.sender) == own);
        self.may_control = me.is_some_and(|me| Rights::from_wire(&me.rights).has(Right::Control));
    }

    /// Decodes a record, says so, and looks at what the screen now shows.
    fn screen(&mut self, lane: LaneKey, record: &Record, now: Instant) {
        self.age.catch_up(now, &mut self.ages);
        if self.window().is_some_and(|window| (window.start..window.end).contains(&now)) {
            self.bytes += record.bytes.len() as u64;
        }
        match self.viewer.record(&record.header, record.body()) {
            Outcome::Applied { rects, point } => {
                if lane.kind == LaneKind::Screen {
                    self.handle.applied(lane, point, point.seq);
                }
                self.age.changed(self.viewer.decoder().picture(), &rects);
                self.look(now);
            }
            Outcome::Lost(why) => self.fail(format_args!("fell out of step: {why}")),
            Outcome::Held | Outcome::Skipped => {}
        }
    }

    /// Counts the picture, if it is a new one and whole.
    fn look(&mut self, now: Instant) {
        let newest = self.part.newest(now);
        let Some(whole) = self.age.whole(newest).filter(|&whole| whole > self.whole) else { return };
        self.whole = whole;
        self.ready = None;
        if let Some(window) = self.window() {
            let offered = self.part.offered(window);
            self.applied += u64::from(offered.contains(&whole));
        }
    }

    /// Sends what is due of the window's input.
    fn send_input(&mut self, now: Instant) {
        let Some(window) = self.window() else { return };
        while !self.over
            && self.sent < self.part.plan.inputs()
            && self.part.input_due(window, self.sent) <= now
        {
            if !self.may_control {
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
            if now >= self.began + PATIENCE && self.ready.is_some() {
                self.fail("no screen came");
                self.over = true;
            }
            return;
        };
        if now < window.end || self.over {
            return;
        }
        self.age.catch_up(now, &mut self.ages);
        self.look(now);
        let last = self.part.newest(window.end);
        if self.whole == last && self.sent == self.part.plan.inputs() {
            self.over = true;
            let mut expected = Screen::new(&self.part.plan.source);
            expected.advance(&self.part.plan.source, last);
            if self.viewer.decoder().picture() != expected.picture().bytes() {
                self.fail("the last picture has wrong pixels");
            }
        } else if now >= window.end + PATIENCE {
            self.over = true;
            let whole = self.whole;
            self.fail(format_args!("the last picture is {whole}, not {last}"));
        }
    }

    /// When something is to be done although nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        match self.window() {
            None if self.ready.is_some() => self.began + PATIENCE,
            // Whoever is not ready in time makes the others wait no longer than that.
            None => now + PATIENCE,
            Some(window) if now < window.end => window.end,
            Some(window) => window.end + PATIENCE,
        }
    }

    async fn finish(mut self, events: &mut tandem_client::Events) -> Figures {
        // The customer ends the session for both.
        let close = if self.closed { Some(Close::ENDED) } else { super::closed(events).await };
        if close != Some(Close::ENDED) {
            self.fail(format_args!("ended with {close:?}"));
        }
        let offered = self.window().map_or(0, |window| self.part.offered(window).count() as u64);
        Figures {
            offered,
            applied: self.applied,
            bytes: self.bytes,
            ages: self.ages,
            failures: self.failures,
            ..Figures::default()
        }
    }
}
