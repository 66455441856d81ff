//! A pretend technician: asks for consent, decodes the screen, notes how old it is, and sends input on a fixed schedule. Some look
//! elsewhere, some are behind slow lines, some leave and come back, some are killed.

mod duty;
mod typing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tandem_client::{Event, Join, SendError};
use tandem_codec::{Outcome, PixelOrder, VideoPlayer, Viewer, ViewerLimits};
use tandem_protocol::message::{Ask, Right, Rights, Roster, Visible, control};
use tandem_protocol::{Close, Flags, LaneKey, LaneKind, Record};
use tokio::sync::oneshot;

pub(crate) use self::duty::Duty;
use self::duty::{Awaits, Parting};
use super::age::Age;
use super::customer::DEAD;
use super::figures::Figures;
use super::inbox::Inbox;
use super::padding::Padding;
use super::transfer::Direction;
use super::{PATIENCE, Part, SETTLE, Window, changed, failed, note, sleep_until};
use crate::plan::Manner;
use crate::report::series::Kind;

/// How often it is looked for a picture of after a black-out, which may be there although nothing came.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// All that somebody has sent is there so long afterwards: who is about to leave sends nothing more in that time.
const LAST_INPUT: Duration = Duration::from_millis(500);
/// A screen that is older than this beyond the time between two pictures stalls.
const STALL: Duration = Duration::from_millis(500);

/// Runs a technician until it has seen and sent everything; `done` is told how many input events should come.
pub(crate) async fn run(part: Part, duty: Duty, done: oneshot::Sender<u32>) -> Figures {
    let (handle, mut inbox) = part.join();
    let mut technician = Technician::new(part, duty, handle);
    loop {
        let parting = technician.visit(&mut inbox).await;
        let away = match parting {
            Parting::Over => break,
            Parting::Leaves => {
                technician.handle.leave();
                // An error means that the connection is lost, which is as good.
                let _ = inbox.closed().await;
                technician.time_away()
            }
            Parting::Dies => DEAD,
        };
        drop(inbox);
        tokio::time::sleep(away).await;
        inbox = technician.come_back();
    }
    (technician.duty.ready, technician.duty.recovered) = (None, None);
    let figures = &technician.figures;
    let expected = figures.inputs_sent.saturating_sub(figures.inputs_dropped);
    // An error means that the customer has gone, and has said so.
    let _ = done.send(u32::try_from(expected).unwrap_or(u32::MAX));
    technician.finish(&mut inbox).await
}

struct Technician {
    part: Part,
    duty: Duty,
    rng: StdRng,
    handle: tandem_client::Handle,
    /// With which it comes back.
    ticket: Option<Vec<u8>>,
    viewer: Viewer,
    player: VideoPlayer,
    /// Some of what is shown may be video, which is never exact.
    has_video: bool,
    age: Age,
    /// When this visit was to begin, and did; and how long after the former it showed its first whole picture.
    came: Instant,
    joined: Instant,
    first: Option<Duration>,
    awaits: Option<Awaits>,
    /// When it leaves or dies, once that is known.
    parts_at: Option<(Instant, Parting)>,
    sampling: bool,
    stalled: bool,
    sending: bool,
    rights: Rights,
    /// The input event that is due next.
    next_input: u32,
    /// Those of this visit that were sent and have no answer yet, with when they were due.
    unanswered: VecDeque<(u32, Instant)>,
    /// The newest picture shown whole.
    whole: u32,
    figures: Figures,
    over: bool,
    closed: bool,
}

impl Technician {
    fn new(part: Part, duty: Duty, handle: tandem_client::Handle) -> Self {
        part.joins();
        // What it waits for counts from when it was to come, not from when it was let to.
        let came = part.arrives;
        Self {
            rng: StdRng::seed_from_u64(duty.seed),
            viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra),
            player: VideoPlayer::new(PixelOrder::Bgra),
            has_video: false,
            age: Age::new(part.course.source.clone(), part.schedule),
            part,
            handle,
            ticket: None,
            came,
            joined: Instant::now(),
            first: None,
            awaits: Some(Awaits { kind: Kind::Join, since: came, newer: 0 }),
            parts_at: None,
            duty,
            sampling: false,
            stalled: false,
            sending: false,
            rights: Rights::NONE,
            next_input: 0,
            unanswered: VecDeque::new(),
            whole: 0,
            figures: Figures::default(),
            over: false,
            closed: false,
        }
    }

    /// It joins again, as a program that starts anew with nothing but its ticket.
    fn come_back(&mut self) -> Inbox {
        if let Some(ticket) = &self.ticket {
            self.part.join = Join::Ticket(ticket.clone().into());
        }
        let (handle, inbox) = self.part.join();
        self.handle = handle;
        self.viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
        self.player = VideoPlayer::new(PixelOrder::Bgra);
        self.age = Age::new(self.part.course.source.clone(), self.part.schedule);
        (self.has_video, self.sampling, self.stalled) = (false, false, false);
        self.rights = Rights::NONE;
        // Who comes back sees where the pointer was, which is no answer.
        self.give_up_answers();
        self.came = Instant::now();
        self.joined = self.came;
        (self.first, self.parts_at) = (None, None);
        self.awaits = Some(Awaits { kind: Kind::Rejoin, since: self.came, newer: 0 });
        self.figures.restarts += 1;
        inbox
    }

    fn time_away(&mut self) -> Duration {
        match self.duty.manner {
            Manner::Churning { away, .. } => Duration::from_secs_f64(away.sample(&mut self.rng)),
            _ => Duration::ZERO,
        }
    }

    /// From joining until it goes.
    async fn visit(&mut self, inbox: &mut Inbox) -> Parting {
        while !self.over {
            let now = Instant::now();
            self.send_input(now);
            tokio::select! {
                event = inbox.next() => match event {
                    Some((came, event)) => self.event(event, came),
                    None => break,
                },
                () = self.part.beat.notified() => {}
                () = sleep_until(self.deadline(now)) => {}
                () = changed(&mut self.part.window) => {}
            }
            self.begin();
            let now = Instant::now();
            if let Some(parting) = self.parting(now) {
                self.catch_up(now);
                return parting;
            }
            self.look_at_the_end(now);
        }
        Parting::Over
    }

    /// Whether it goes now. Nobody does after the window, or before a first picture.
    fn parting(&mut self, now: Instant) -> Option<Parting> {
        let window = self.window()?;
        let Self { duty, rng, came, .. } = self;
        self.first?;
        let at = |seconds: f64| window.start.max(*came) + Duration::from_secs_f64(seconds);
        let leaves = match duty.manner {
            Manner::Churning { stay, .. } => Some((stay, Parting::Leaves)),
            _ => duty.drops.map(|drops| (drops, Parting::Dies)),
        };
        let (when, parting) = leaves?;
        let (at, parting) = *self.parts_at.get_or_insert_with(|| (at(when.sample(rng)), parting));
        (at <= now && now < window.end && self.ticket.is_some()).then_some(parting)
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        failed(&mut self.figures, "technician", self.part.number, why);
    }

    fn window(&self) -> Option<Window> {
        self.part.window()
    }

    /// As soon as the window is known, whatever woke us: samples from a second after the first picture, and sends files.
    fn begin(&mut self) {
        let Some(window) = self.window() else { return };
        if let Some(first) = self.first.filter(|_| !self.sampling && self.watches() && self.part.moves()) {
            self.sampling = true;
            self.age.sample(window.start.max(self.came + first + SETTLE), window.end);
        }
        if !self.sending && self.rights.has(Right::SendFiles) {
            self.sending = true;
            self.part.send_files(Direction::Up, &self.handle, window.end);
        }
    }

    /// It looks at the screen.
    fn watches(&self) -> bool {
        self.duty.manner != Manner::Hidden
    }

    fn is_in_window(&self, now: Instant) -> bool {
        self.window().is_some_and(|window| window.has(now))
    }

    fn event(&mut self, event: Event, came: Instant) {
        match event {
            Event::Connected(connected) => {
                self.ticket = Some(connected.ticket);
                self.figures.inputs_dropped += connected.dropped_input;
                self.connected();
            }
            Event::Reopened { dropped, .. } => self.figures.inputs_dropped += dropped,
            Event::Control(control::Message::Roster(roster)) => self.roster(&roster),
            Event::LaneOpened(lane) if lane.kind == LaneKind::Key => {
                self.viewer.key_lane_opened(lane.rendition);
            }
            Event::Record { lane, record } if lane.kind.is_screen() => self.screen(lane, &record, came),
            Event::Record { lane, record } if lane.kind == LaneKind::Cursor => self.answer(&record, came),
            Event::Record { lane, record } if lane.kind == LaneKind::File => {
                let bytes = self.part.receive_file(&record);
                self.figures.file_bytes += if self.is_in_window(came) { bytes } else { 0 };
            }
            Event::Disconnected { .. } if self.part.course.breaks => {
                self.figures.reconnects += 1;
                let newer = self.part.newest(came);
                self.awaits.get_or_insert(Awaits { kind: Kind::Rejoin, since: came, newer });
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
        let seen = !self.watches() && self.first.is_some();
        self.show(!seen);
        let mut rights = vec![Right::View];
        if self.duty.controls {
            rights.push(Right::Control);
            rights.extend(self.part.course.transfer.iter().map(|transfer| match transfer.direction {
                Direction::Up => Right::SendFiles,
                Direction::Down => Right::ReceiveFiles,
            }));
        }
        let ask = Ask { participant: 0, rights: Rights::of(&rights).to_wire() };
        self.control(control::Message::Ask(ask));
    }

    /// Says whether it looks at the display.
    fn show(&mut self, visible: bool) {
        self.control(control::Message::Visible(Visible { display: 0, visible, focused: visible }));
    }

    fn control(&mut self, message: control::Message) {
        match self.handle.control(message) {
            // It is said again with the next connection.
            Err(SendError::Offline) if self.part.course.breaks => {}
            Err(why) => self.fail(why),
            Ok(()) => {}
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
            self.arrived(lane, record, came);
        }
        let padded = self.part.course.padding.is_some();
        let body = if padded { Padding::unwrap(record.body()) } else { record.body() };
        match self.viewer.record(&record.header, body) {
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

    /// Counts what came, and how long it took.
    fn arrived(&mut self, lane: LaneKey, record: &Record, came: Instant) {
        self.figures.bytes += record.bytes.len() as u64;
        if lane.kind != LaneKind::Screen || record.header.flags.contains(Flags::MORE) {
            return;
        }
        let captured = self.part.journal.lock().captured(lane.rendition, record.header.seq);
        // What was there before it came is history, however quickly it is sent.
        if let Some(captured) = captured.filter(|&captured| captured >= self.came) {
            let kind = if self.duty.is_slow() { Kind::SlowScreen } else { Kind::Screen };
            let age = came.saturating_duration_since(captured);
            note(&self.part, kind, &mut self.figures.arrivals, came, age);
        }
    }

    fn catch_up(&mut self, now: Instant) {
        let Self { part, age, figures, stalled, .. } = self;
        let kind = if self.duty.is_slow() { Kind::SlowScreenAge } else { Kind::ScreenAge };
        let limit = part.course.interval + STALL;
        age.catch_up(now, |due, age| {
            note(part, kind, &mut figures.ages, due, age);
            let stalls = age > limit;
            figures.stalls += u64::from(stalls && !*stalled && kind == Kind::ScreenAge);
            *stalled = stalls;
        });
    }

    /// Counts the picture, if it is a new one and whole.
    fn look(&mut self, now: Instant) {
        let newest = self.part.newest(now);
        let Some(whole) = self.age.whole(newest) else { return };
        if self.first.is_none() {
            self.first = Some(now.saturating_duration_since(self.came));
            self.duty.ready = None;
            if !self.watches() {
                self.show(false);
            }
        }
        if let Some(awaits) = self.awaits.filter(|awaits| whole > awaits.newer) {
            self.awaits = None;
            if !self.duty.is_slow() {
                self.part.record(awaits.kind, now, now.saturating_duration_since(awaits.since));
            }
        }
        if whole <= self.whole {
            return;
        }
        self.whole = whole;
        let Some(window) = self.window() else { return };
        self.figures.applied += u64::from(self.duty.counts() && self.part.offered(window).contains(&whole));
        let of_after = |light: &Instant| whole > self.part.schedule.newest(*light);
        if let Some(light) = window.light.filter(of_after) {
            self.figures.recovery.get_or_insert_with(|| now.saturating_duration_since(light));
            self.duty.recovered = None;
        }
    }

    /// Before the window a screen must come in time; after it the last picture must, and it must be right.
    fn look_at_the_end(&mut self, now: Instant) {
        let Some(window) = self.window() else {
            if now >= self.joined + PATIENCE && self.duty.ready.is_some() {
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
        if !self.duty.counts() {
            // Leaving does not wait for what is under way.
            self.over = !self.duty.controls || now >= window.last + LAST_INPUT;
            return;
        }
        let last = self.part.newest(now);
        let is_answered = self.unanswered.is_empty() || now >= window.last + LAST_INPUT;
        let has_sent = !self.duty.controls || self.next_input >= self.part.inputs() && is_answered;
        let is_late = now >= window.last + PATIENCE;
        if self.whole == last && has_sent {
            let is_exact = self.part.course.source.is_picture(self.viewer.decoder().picture(), last);
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
        let next = match self.window() {
            None if self.duty.ready.is_some() => self.joined + PATIENCE,
            // Whoever is not ready in time makes the others wait no longer than that.
            None => now + PATIENCE,
            Some(window) if now < window.end => window.end,
            Some(window) if now < window.last && self.duty.recovered.is_some() => now + LOOK_AGAIN,
            Some(window) if now < window.last => window.last,
            Some(window) if now < window.last + LAST_INPUT => window.last + LAST_INPUT,
            Some(window) => window.last + PATIENCE,
        };
        self.parts_at.map_or(next, |(at, _)| if now < at { next.min(at) } else { next })
    }

    async fn finish(mut self, inbox: &mut Inbox) -> Figures {
        if self.duty.counts() {
            // The customer ends the session for both.
            let close = if self.closed { Some(Close::ENDED) } else { inbox.closed().await };
            if close != Some(Close::ENDED) {
                self.fail(format_args!("ended with {close:?}"));
            }
        } else {
            // What still waits in front of a slow line need not come.
            self.handle.leave();
        }
        self.give_up_answers();
        let window = self.window().filter(|_| self.duty.counts());
        let offered = window.map_or(0, |window| self.part.offered(window).count() as u64);
        let first_picture = self.figures.first_picture.or(self.first);
        Figures { offered, first_picture, ..self.figures }
    }
}
