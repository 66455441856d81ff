//! Pairs of a pretend customer and a pretend technician at a real relay, in open loop: pictures and input events come on a
//! fixed schedule, and what is late counts from when it was due.
//!
//! - [`command`]: `tandem-loadtest run`; `report`: what it prints;
//! - `relay`: a relay of our own; `desk`: where sessions come from;
//! - `customer`, `technician`: both ends, on the client crate and with the real codec;
//! - `screen`: what there is to see, `trace`: a recording of it; `age`: how old what is seen is. All pure;
//! - `transfer`: a file transfer beside it; `inbox`: when something came; `figures`: what the ends measure.
//!
//! One try: every pair opens a session and waits until the technician shows a whole picture. When all do, a *window* is fixed:
//! it begins a second later and lasts as long as was asked for. Only what is due in it counts. After it pictures stop, and
//! both ends wait until the last picture is there, pixel by pixel, and all input has come.

mod age;
pub mod command;
pub(crate) mod customer;
pub(crate) mod desk;
pub(crate) mod figures;
mod inbox;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod screen;
pub(crate) mod technician;
pub(crate) mod trace;
pub(crate) mod transfer;

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tandem_client::{Handle, Join, Options, Target, Transport};
use tandem_protocol::Record;
use tandem_protocol::message::Capabilities;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::figures::{Figures, Journal};
use self::inbox::Inbox;
use self::relay::Relay;
use self::screen::{Schedule, Source};
use self::transfer::{Direction, Transfer};

/// How long a pair may take to show its first picture, and after the window to show its last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// From the moment when all show a picture to the window.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) pairs: usize,
    pub(crate) transport: Transport,
    pub(crate) source: Arc<Source>,
    /// Between pictures.
    pub(crate) interval: Duration,
    pub(crate) window: Duration,
    /// Input events a second, of each technician that controls.
    pub(crate) inputs_per_second: f64,
    /// Of the codec: a window that holds a few pictures, so that many pairs fit into one computer.
    pub(crate) window_log: u8,
    /// Files that are sent during the window, as fast as they go.
    pub(crate) transfer: Option<Arc<Transfer>>,
}

impl Plan {
    /// Input events in the window, of each technician.
    pub(crate) fn inputs(&self) -> u32 {
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
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    /// When pictures end. It may be moved while it lies ahead.
    pub(crate) last: Instant,
    /// When a black-out ends that begins with the window's end.
    pub(crate) light: Option<Instant>,
}

/// One end of a pair, before it joins.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) plan: Arc<Plan>,
    pub(crate) number: usize,
    pub(crate) target: Target,
    pub(crate) join: Join,
    pub(crate) schedule: Schedule,
    pub(crate) window: watch::Receiver<Option<Window>>,
    /// Input may be due.
    pub(crate) beat: Arc<Notify>,
    /// Of the pair's customer.
    pub(crate) journal: Arc<Mutex<Journal>>,
}

impl Part {
    fn join(&self) -> (Handle, Inbox) {
        let agent = concat!("tandem-loadtest ", env!("CARGO_PKG_VERSION"));
        let options = Options::new(self.target.clone(), self.join.clone(), agent);
        let codecs = tandem_codec::VERSIONS.map(u32::from).to_vec();
        let capabilities = Capabilities { codecs, ..Capabilities::default() };
        let options = Options { transport: self.plan.transport, capabilities, ..options };
        let (handle, events) = tandem_client::start(options);
        (handle, Inbox::new(events))
    }

    /// The newest picture; there are none after the window's last.
    fn newest(&self, now: Instant) -> u32 {
        let last = (*self.window.borrow()).map_or(now, |window| window.last);
        self.schedule.newest(now.min(last))
    }

    /// The pictures of the window.
    fn offered(&self, window: Window) -> Range<u32> {
        self.schedule.newest(window.start) + 1..self.schedule.newest(window.end) + 1
    }

    /// Begins to send files if they go in this direction.
    fn send_files(&self, direction: Direction, handle: &Handle, until: Instant) {
        if let Some(transfer) = self.plan.transfer.clone().filter(|transfer| transfer.direction == direction)
        {
            let handle = handle.clone();
            tokio::spawn(async move { transfer.fill(handle, until).await });
        }
    }

    /// A record of a file has come: its bytes.
    fn receive_file(&self, record: &Record) -> u64 {
        self.plan.transfer.iter().for_each(|transfer| transfer.received(record));
        record.bytes.len() as u64
    }

    fn input_due(&self, window: Window, number: u32) -> Instant {
        self.plan.beat(window, u64::from(number) * self.plan.pairs as u64 + self.number as u64)
    }
}

/// Ends when the window is told, or its end of pictures has moved.
async fn changed(window: &mut watch::Receiver<Option<Window>>) {
    if window.changed().await.is_err() {
        std::future::pending().await
    }
}

pub(crate) async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// Fixes the window when everybody has dropped their `ready`.
pub(crate) async fn settled(ready: &mut mpsc::Receiver<()>) -> Instant {
    while ready.recv().await.is_some() {}
    Instant::now() + SETTLE
}

/// Begins to wake technicians in turn, each when its next input is due.
pub(crate) fn start_beating(plan: Arc<Plan>, window: Window, beats: Vec<Arc<Notify>>) -> anyhow::Result<()> {
    // A thread, because the runtime's timers are as coarse as what is measured.
    let metronome = thread::Builder::new().name("beat".to_owned());
    metronome.spawn(move || beat(&plan, window, &beats)).context("cannot start a thread")?;
    Ok(())
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

    /// An end of a pair. Its pictures come at their own moments, so that not all encode at once.
    fn part(&self, number: usize, join: Join, journal: &Arc<Mutex<Journal>>) -> Part {
        let phase = self.plan.interval.mul_f64(number as f64 / self.plan.pairs as f64);
        Part {
            plan: self.plan.clone(),
            number,
            target: self.target.clone(),
            join,
            schedule: Schedule { first: self.first + phase, interval: self.plan.interval },
            window: self.window.subscribe(),
            beat: self.beats[number].clone(),
            journal: journal.clone(),
        }
    }

    /// Fixes the window when everybody has dropped their `ready`, and begins to beat.
    async fn start(&self, mut ready: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let start = settled(&mut ready).await;
        let end = start + self.plan.window;
        let window = Window { start, end, last: end, light: None };
        start_beating(self.plan.clone(), window, self.beats.clone())?;
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
        let mut seats = relay.opener.open(1).await?;
        let technician = seats.technicians.pop().context("no seat for a technician")?;
        let journal = Arc::default();
        let (done, is_done) = oneshot::channel();
        ends.spawn(customer::run(this.part(number, seats.customer, &journal), is_done));
        let duty = technician::Duty { controls: true, ready: Some(ready.clone()), recovered: None };
        ends.spawn(technician::run(this.part(number, technician, &journal), duty, done));
    }
    drop(ready);
    this.start(readies).await?;
    let mut figures = Figures::default();
    while let Some(end) = ends.join_next().await {
        figures.add(end.context("an end of a pair failed")?);
    }
    Ok(figures)
}
