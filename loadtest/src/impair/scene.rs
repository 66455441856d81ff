//! A session across links: a relay, links beside it, a customer and technicians at its own end or at far ends, each on a thread
//! of its own, from the first picture through the window and a black-out to the last.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tandem_client::{Join, Target, Transport};
use tandem_workload::process::own_cpu;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::link::way::Shape;
use crate::link::{Link, LinkConfig, LinkError, Side};
use crate::run::customer::Habits;
use crate::run::desk::Seats;
use crate::run::figures::{Figures, Journal};
use crate::run::relay::Relay;
use crate::run::screen::Schedule;
use crate::run::technician::Duty;
use crate::run::{Beat, Course, Part, Window, customer, settled, sleep_until, start_beating, technician};

/// What was sent in the window arrives before links are dark, also what is lost on the way a time or two.
const SETTLE: Duration = Duration::from_secs(1);
/// Length of a black-out.
const DARK: Duration = Duration::from_secs(2);
/// How long after it a new picture is waited for.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// By when everybody has heard that pictures end.
const NOTICE: Duration = Duration::from_millis(300);
/// Longest that a session may take beside its window: every wait in it is bounded by less, so this is for what is not foreseen.
const OVERTIME: Duration = Duration::from_secs(120);

/// A relay and the links to it, in namespaces of their own.
#[derive(Debug)]
pub(super) struct Network {
    // In this order: the relay ends before the namespace that it is in.
    relay: Relay,
    links: Vec<Link>,
}

/// Where somebody is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// With the relay.
    Near,
    /// At the far end of the link of this number.
    Behind(usize),
}

/// Who takes part in a session, and what happens.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) course: Course,
    pub(super) transport: Transport,
    pub(super) customer: Place,
    /// The first one leads and controls.
    pub(super) technicians: Vec<Seat>,
    /// Whether who joins late may see what was there before.
    pub(super) shows_past: bool,
    /// Whether the window is followed by a black-out of all links.
    pub(super) blackout: bool,
    /// The window begins so long after the first picture, if everybody is ready by then: sessions that are compared with one another
    /// show the same in it.
    pub(super) lead: Duration,
}

/// Where a technician is and when it comes: from the beginning, or so long after the window has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) place: Place,
    pub(super) joins: Option<Duration>,
}

impl Seat {
    pub(super) const fn at(place: Place) -> Self {
        Self { place, joins: None }
    }
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) window: Window,
    pub(super) customer: Figures,
    /// In the scene's order.
    pub(super) technicians: Vec<Figures>,
    pub(super) journal: Arc<Mutex<Journal>>,
    /// Cores that this program kept busy in the window.
    pub(super) cores: f64,
}

type End = oneshot::Receiver<anyhow::Result<Figures>>;

impl Network {
    /// One link of each shape, and a relay between them.
    pub(super) fn start(shapes: &[Shape], seed: u64, program: &Path) -> anyhow::Result<Self> {
        let mut links: Vec<Link> = Vec::new();
        for (number, &shape) in shapes.iter().enumerate() {
            let seed = seed.wrapping_add(number as u64);
            let config = LinkConfig { near_to_far: shape, far_to_near: shape, seed };
            let link = match links.first() {
                None => Link::start(config),
                Some(first) => first.beside(u8::try_from(number).context("too many links")?, config),
            };
            links.push(link?);
        }
        let first = links.first().context("a network without a link")?;
        Ok(Self { relay: Relay::in_link(first, program)?, links })
    }

    /// Where `place` finds the relay.
    fn target(&self, place: Place) -> anyhow::Result<Target> {
        match place {
            Place::Near => Ok(self.relay.target.clone()),
            Place::Behind(link) => self.relay.beyond(&self.links[link]),
        }
    }

    /// Plays a scene to its end.
    pub(super) async fn play(&self, scene: &Scene) -> anyhow::Result<Played> {
        let limit = scene.course.window + OVERTIME;
        tokio::time::timeout(limit, self.play_on(scene)).await.context("a session does not end")?
    }

    async fn play_on(&self, scene: &Scene) -> anyhow::Result<Played> {
        let opened = self.relay.opener.open_with(scene.technicians.len(), scene.shows_past);
        let Seats { customer, technicians } = opened.await?;
        let stage = Stage::new(scene);
        let (done, is_done) = oneshot::channel();
        let part = stage.part(self.target(scene.customer)?, customer, Arc::default());
        let customer = self.spawn(scene.customer, move || customer::run(part, Habits::default(), is_done))?;

        let (ready, mut readies) = mpsc::channel(1);
        let (recovered, mut recoveries) = mpsc::channel(1);
        let mut ends: Vec<Option<(oneshot::Receiver<u32>, End)>> = Vec::new();
        let mut late = Vec::new();
        for (number, (seat, join)) in scene.technicians.iter().zip(technicians).enumerate() {
            // Only who controls is woken by the beat, which wakes one.
            let beat = if number == 0 { stage.beat.clone() } else { Arc::default() };
            let part = stage.part(self.target(seat.place)?, join, beat);
            let present = seat.joins.is_none();
            let ready = present.then(|| ready.clone());
            let duty = Duty::steady(number == 0, ready, scene.blackout.then(|| recovered.clone()));
            ends.push(None);
            match seat.joins {
                None => ends[number] = Some(self.spawn_technician(seat.place, part, duty)?),
                Some(joins) => late.push((joins, number, seat.place, part, duty)),
            }
        }
        drop((ready, recovered));

        let start = settled(&mut readies).await.max(stage.schedule.first + scene.lead);
        let window = stage.open(start, scene.blackout)?;
        let worked = tokio::spawn(worked(window));
        for (joins, number, place, mut part, duty) in late {
            part.arrives = start + joins;
            sleep_until(part.arrives).await;
            ends[number] = Some(self.spawn_technician(place, part, duty)?);
        }
        if let Some(light) = window.light {
            self.black_out(light - DARK, light).await;
            let all = async { while recoveries.recv().await.is_some() {} };
            // Whoever does not recover says so by having no figure.
            let _ = tokio::time::timeout_at(window.last.into(), all).await;
            let last = window.last.min(Instant::now() + NOTICE);
            stage.window.send_replace(Some(Window { last, ..window }));
        }
        let mut figures = Vec::new();
        let mut sent = 0;
        let (dones, ends): (Vec<_>, Vec<_>) = ends.into_iter().flatten().unzip();
        for done in dones {
            // Only the one who controls sends any. Whoever fails before it says so has sent none.
            sent = sent.max(done.await.unwrap_or(0));
        }
        // The customer is still there, or its figures say why not.
        let _ = done.send(sent);
        for end in ends {
            figures.push(end.await.context("a technician failed")??);
        }
        let customer = customer.await.context("the customer failed")??;
        let worked = worked.await.context("the work was not counted")??;
        let cores = worked.as_secs_f64() / scene.course.window.as_secs_f64();
        Ok(Played { window, customer, technicians: figures, journal: stage.journal, cores })
    }

    async fn black_out(&self, from: Instant, to: Instant) {
        for (at, dark) in [(from, true), (to, false)] {
            sleep_until(at).await;
            self.links.iter().for_each(|link| link.blackout(dark));
        }
    }

    fn spawn_technician(
        &self,
        place: Place,
        part: Part,
        duty: Duty,
    ) -> anyhow::Result<(oneshot::Receiver<u32>, End)> {
        let (done, is_done) = oneshot::channel();
        Ok((is_done, self.spawn(place, move || technician::run(part, duty, done))?))
    }

    /// Runs one end on a thread of its own where it is, so that its sockets are there.
    fn spawn<F>(&self, place: Place, end: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<End>
    where
        F: Future<Output = Figures>,
    {
        let (link, side) = match place {
            Place::Near => (&self.links[0], Side::Near),
            Place::Behind(link) => (&self.links[link], Side::Far),
        };
        let (sender, receiver) = oneshot::channel();
        link.inside(side, move || {
            // The end runs on this thread and its connection on another, so that pixels never make packets wait.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let figures = runtime.map(|runtime| runtime.block_on(end())).context("cannot start a runtime");
            // The receiver waits, unless the program is about to end.
            let _ = sender.send(figures);
        })?;
        Ok(receiver)
    }

    /// What would make figures wrong: packets that the emulation itself was too late for.
    pub(super) fn bottlenecks(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (number, link) in self.links.iter().enumerate() {
            for side in [Side::Near, Side::Far] {
                let statistics = link.statistics(side).context("cannot read what passed")?;
                let (missed, late) = (statistics.missed + statistics.refused, statistics.lateness_ms.p99);
                if missed > 0 {
                    found.push(format!("link {number}: {missed} packets were not forwarded in time"));
                }
                if late > 1.0 {
                    found.push(format!("link {number}: packets were up to {late:.1} ms late (p99)"));
                }
            }
        }
        Ok(found)
    }
}

/// What the ends of a session have in common.
struct Stage {
    course: Arc<Course>,
    transport: Transport,
    schedule: Schedule,
    window: watch::Sender<Option<Window>>,
    beat: Arc<Notify>,
    journal: Arc<Mutex<Journal>>,
}

impl Stage {
    fn new(scene: &Scene) -> Self {
        Self {
            course: Arc::new(scene.course.clone()),
            transport: scene.transport,
            schedule: Schedule { first: Instant::now(), interval: scene.course.interval },
            window: watch::Sender::new(None),
            beat: Arc::default(),
            journal: Arc::default(),
        }
    }

    fn part(&self, target: Target, join: Join, beat: Arc<Notify>) -> Part {
        Part {
            course: self.course.clone(),
            number: 0,
            transport: self.transport,
            target,
            join,
            arrives: Instant::now(),
            schedule: self.schedule,
            window: self.window.subscribe(),
            beat,
            journal: self.journal.clone(),
            recorder: None,
        }
    }

    /// Tells everybody the window.
    fn open(&self, start: Instant, blackout: bool) -> anyhow::Result<Window> {
        let end = start + self.course.window;
        let light = blackout.then(|| end + SETTLE + DARK);
        let last = light.map_or(end, |light| light + RECOVERY_MAX);
        let window = Window { start, end, last, light };
        start_beating(vec![Beat { inputs: self.course.inputs, wakes: self.beat.clone() }], window)?;
        self.window.send_replace(Some(window));
        Ok(window)
    }
}

/// What this program works during the window, on all cores.
async fn worked(window: Window) -> anyhow::Result<Duration> {
    sleep_until(window.start).await;
    let before = own_cpu()?;
    sleep_until(window.end).await;
    Ok(own_cpu()?.saturating_sub(before))
}

/// Whether an error is that links are not permitted here.
pub(super) fn is_not_permitted(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error| matches!(error, LinkError::NotPermitted))
}
