//! Pairs of a pretend customer and a pretend technician at a real relay, in open loop: pictures and input events come on a
//! fixed schedule, and what is late counts from when it was due.
//!
//! - [`command`]: `tandem-loadtest run`; `report`: what it prints;
//! - `relay`: a relay of our own; `desk`: where sessions come from;
//! - `customer`, `technician`: both ends, on the client crate and with the real codec;
//! - `screen`: what there is to see; `age`: how old what is seen is. Both pure.
//!
//! One try: every pair opens a session and waits until the technician shows a whole picture. When all do, a *window* is fixed:
//! it begins a second later and lasts as long as was asked for. Only what is due in it counts. After it pictures stop, and
//! both ends wait until the last picture is there, pixel by pixel, and all input has come.

mod age;
pub mod command;
mod customer;
mod desk;
mod relay;
mod report;
mod screen;
mod technician;

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tandem_client::{Event, Events, Handle, Join, Options, Target, Transport};
use tandem_protocol::Close;
use tandem_protocol::message::Capabilities;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::desk::Seats;
use self::relay::Relay;
use self::screen::{Schedule, Source};
use crate::link::{Link, Side};

/// How long a pair may take to show its first picture, and after the window to show its last.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the moment when all show a picture to the window.
const SETTLE: Duration = Duration::from_secs(1);

/// What is to be measured.
#[derive(Debug)]
struct Plan {
    pairs: usize,
    transport: Transport,
    source: Arc<Source>,
    /// Between pictures.
    interval: Duration,
    window: Duration,
    /// Input events a second, of each technician.
    inputs_per_second: f64,
    /// Of the codec: a window that holds a few pictures, so that many pairs fit into one computer.
    window_log: u8,
}

impl Plan {
    /// Input events in the window, of each technician.
    fn inputs(&self) -> u32 {
        (self.window.as_secs_f64() * self.inputs_per_second) as u32
    }

    /// When an input event is due, counted over all pairs: they take turns.
    fn beat(&self, window: Window, beat: u64) -> Instant {
        let per_second = self.inputs_per_second * self.pairs as f64;
        window.start + Duration::from_secs_f64(beat as f64 / per_second)
    }
}

/// The time that counts.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    end: Instant,
}

/// One end of a pair, before it joins.
#[derive(Debug)]
struct Part {
    plan: Arc<Plan>,
    number: usize,
    target: Target,
    join: Join,
    schedule: Schedule,
    window: watch::Receiver<Option<Window>>,
    /// Input may be due.
    beat: Arc<Notify>,
}

impl Part {
    fn join(&self) -> (Handle, Events) {
        let agent = concat!("tandem-loadtest ", env!("CARGO_PKG_VERSION"));
        let options = Options::new(self.target.clone(), self.join.clone(), agent);
        let codecs = vec![u32::from(tandem_codec::VERSION)];
        let capabilities = Capabilities { codecs, ..Capabilities::default() };
        tandem_client::start(Options { transport: self.plan.transport, capabilities, ..options })
    }

    /// Whether the window is still to be told.
    fn window_open(&self) -> bool {
        self.window.borrow().is_none()
    }

    /// The newest picture; there are none after the window.
    fn newest(&self, now: Instant) -> u32 {
        let end = (*self.window.borrow()).map_or(now, |window| window.end);
        self.schedule.newest(now.min(end))
    }

    /// The pictures of the window.
    fn offered(&self, window: Window) -> Range<u32> {
        self.schedule.newest(window.start) + 1..self.schedule.newest(window.end) + 1
    }

    fn input_due(&self, window: Window, number: u32) -> Instant {
        self.plan.beat(window, u64::from(number) * self.plan.pairs as u64 + self.number as u64)
    }
}

/// What was measured, by one end or by all.
#[derive(Debug)]
struct Figures {
    /// Pictures of the window, and how many of them were shown whole.
    offered: u64,
    applied: u64,
    /// Bytes of screens and keys that came in the window, headers included.
    bytes: u64,
    /// Ages of screens, µs.
    ages: Histogram<u64>,
    /// Times from when input was due to when it came, µs.
    inputs: Histogram<u64>,
    failures: Vec<String>,
}

/// Up to a minute, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are possible")
}

impl Default for Figures {
    fn default() -> Self {
        let (offered, applied, bytes) = (0, 0, 0);
        Self { offered, applied, bytes, ages: histogram(), inputs: histogram(), failures: Vec::new() }
    }
}

impl Figures {
    fn failed(why: String) -> Self {
        Self { failures: vec![why], ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.applied += other.applied;
        self.bytes += other.bytes;
        self.ages += other.ages;
        self.inputs += other.inputs;
        self.failures.extend(other.failures);
    }
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// Waits for the end of a connection.
async fn closed(events: &mut Events) -> Option<Close> {
    let closed = async {
        while let Some(event) = events.next().await {
            if let Event::Closed { close, .. } = event {
                return Some(close);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, closed).await.ok().flatten()
}

/// What a try's pairs have in common.
struct Try {
    plan: Arc<Plan>,
    target: Target,
    window: watch::Sender<Option<Window>>,
    beats: Vec<Arc<Notify>>,
    first: Instant,
}

impl Try {
    fn new(plan: Arc<Plan>, target: Target) -> Self {
        let beats = (0..plan.pairs).map(|_| Arc::default()).collect();
        Self { plan, target, window: watch::Sender::new(None), beats, first: Instant::now() }
    }

    /// Both ends of a pair. Its pictures come at their own moments, so that not all encode at once.
    fn parts(&self, number: usize, seats: Seats) -> (Part, Part) {
        let phase = self.plan.interval.mul_f64(number as f64 / self.plan.pairs as f64);
        let part = |join| Part {
            plan: self.plan.clone(),
            number,
            target: self.target.clone(),
            join,
            schedule: Schedule { first: self.first + phase, interval: self.plan.interval },
            window: self.window.subscribe(),
            beat: self.beats[number].clone(),
        };
        (part(seats.customer), part(seats.technician))
    }

    /// Fixes the window when everybody has dropped their `ready`, and begins to beat.
    async fn start(&self, mut ready: mpsc::Receiver<()>) -> anyhow::Result<()> {
        while ready.recv().await.is_some() {}
        let start = Instant::now() + SETTLE;
        let window = Window { start, end: start + self.plan.window };
        let (plan, beats) = (self.plan.clone(), self.beats.clone());
        // A thread, because the runtime's timers are as coarse as what is measured.
        let metronome = thread::Builder::new().name("beat".to_owned());
        metronome.spawn(move || beat(&plan, window, &beats)).context("cannot start a thread")?;
        self.window.send_replace(Some(window));
        Ok(())
    }
}

/// Wakes the technicians in turn, each when its next input is due.
fn beat(plan: &Plan, window: Window, beats: &[Arc<Notify>]) {
    for number in 0..u64::from(plan.inputs()) * plan.pairs as u64 {
        let wait = plan.beat(window, number).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        beats[(number % plan.pairs as u64) as usize].notify_one();
    }
}

/// One try with all pairs in this runtime.
async fn try_here(plan: &Arc<Plan>, relay: &Relay) -> anyhow::Result<Figures> {
    let this = Try::new(plan.clone(), relay.target.clone());
    let (ready, readies) = mpsc::channel(1);
    let mut ends = JoinSet::new();
    for number in 0..plan.pairs {
        let (customer, technician) = this.parts(number, relay.opener.open().await?);
        let (done, is_done) = oneshot::channel();
        ends.spawn(customer::run(customer, is_done));
        ends.spawn(technician::run(technician, ready.clone(), done));
    }
    drop(ready);
    this.start(readies).await?;
    let mut figures = Figures::default();
    while let Some(end) = ends.join_next().await {
        figures.add(end.context("an end of a pair failed")?);
    }
    Ok(figures)
}

/// One try of a single pair, one end of which is at the far end of a link and the other, with the relay, at the near one.
async fn try_across(plan: &Arc<Plan>, relay: &Relay, link: &Link, far: End) -> anyhow::Result<Figures> {
    let this = Try::new(plan.clone(), relay.target.clone());
    let (ready, readies) = mpsc::channel(1);
    let (customer, technician) = this.parts(0, relay.opener.open().await?);
    let (done, is_done) = oneshot::channel();
    let side = |end| if end == far { Side::Far } else { Side::Near };
    let customer = spawn_at(link, side(End::Customer), move || customer::run(customer, is_done))?;
    let technician = spawn_at(link, side(End::Technician), move || technician::run(technician, ready, done))?;
    this.start(readies).await?;
    let mut figures = Figures::default();
    for end in [customer, technician] {
        figures.add(end.await.context("an end of the pair failed")??);
    }
    Ok(figures)
}

/// Which end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum End {
    Technician,
    Customer,
}

/// Runs one end on a thread of its own at a link's end, so that its sockets are there.
fn spawn_at<F>(
    link: &Link,
    side: Side,
    end: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Figures>>>
where
    F: Future<Output = Figures>,
{
    let (sender, receiver) = oneshot::channel();
    link.inside(side, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let figures = runtime.map(|runtime| runtime.block_on(end())).context("cannot start a runtime");
        // The receiver waits, unless the program is about to end.
        let _ = sender.send(figures);
    })?;
    Ok(receiver)
}
