//! Pretend customers and technicians at a real relay, in open loop: sessions arrive, pictures and input events come on a
//! fixed schedule, and what is late counts from when it was due.
//!
//! - [`command`]: `tandem-loadtest run`; `execute`: a try of a plan, from the first client to the last; `curve`: how much a relay
//!   takes;
//! - `relay`: a relay of our own; `desk`: where sessions come from, `usher`: when; `sampler`, `process`: what the relay takes of the machine, and what
//!   this program does;
//! - `customer`, `technician`: both ends, on the client crate and with the real codec;
//! - `screen`: what there is to see, `trace`: a recording of it, `padding`: updates of given sizes; `age`: how old what is seen is. All pure;
//! - `slow_line`: in front of some of them; `transfer`: a file transfer beside it; `inbox`: when something came; `figures`: what the ends measure.
//!
//! One try: sessions arrive, and each waits until its technicians show a whole picture. When all do, a *window* is fixed:
//! it begins a second later and lasts as long as was asked for. Only what is due in it counts, but for joining, which always does. After
//! it pictures stop, and both ends wait until the last picture is there, pixel by pixel, and all input has come.

mod age;
pub mod command;
mod curve;
pub(crate) mod customer;
pub(crate) mod desk;
mod execute;
pub(crate) mod figures;
mod inbox;
pub(crate) mod padding;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod sampler;
pub(crate) mod screen;
mod slow_line;
pub(crate) mod technician;
pub(crate) mod trace;
pub(crate) mod transfer;
mod usher;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tandem_client::{Handle, Join, Options, Target, Transport};
use tandem_protocol::Record;
use tandem_protocol::message::Capabilities;
use tokio::sync::{Notify, mpsc, watch};

pub(crate) use self::execute::Tried;
use self::figures::{Figures, Journal};
use self::inbox::Inbox;
use self::padding::Padding;
use self::screen::{Schedule, Source};
use self::transfer::{Direction, Transfer};
use crate::report::series::{Kind, Recorder};

/// How long a pair may take to show its first picture, and after the window to show its last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// From the moment when all show a picture to the window.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// What goes on in one session.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) source: Arc<Source>,
    /// Between pictures.
    pub(crate) interval: Duration,
    pub(crate) window: Duration,
    /// Of the technician that controls.
    pub(crate) inputs: Inputs,
    /// Of the codec: a window that holds a few pictures, so that many pairs fit into one computer.
    pub(crate) window_log: u8,
    /// Files that are sent during the window, as fast as they go.
    pub(crate) transfer: Option<Arc<Transfer>>,
    /// Updates are made as long as this says.
    pub(crate) padding: Option<Padding>,
    /// The customer answers input with the pointer's position.
    pub(crate) answers: bool,
    /// Connections and programs are lost on purpose.
    pub(crate) breaks: bool,
}

/// When input is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) per_second: f64,
    /// Of the first one, from the window's beginning.
    pub(crate) phase: Duration,
}

impl Inputs {
    /// So many a second, the first at once.
    pub(crate) const fn every(per_second: f64) -> Self {
        Self { per_second, phase: Duration::ZERO }
    }

    /// How many there are in a window of this length.
    pub(crate) fn count(self, window: Duration) -> u32 {
        (window.as_secs_f64() * self.per_second) as u32
    }

    /// When one is due.
    pub(crate) fn due(self, window: Window, number: u32) -> Instant {
        window.start + self.phase + Duration::from_secs_f64(f64::from(number) / self.per_second.max(1e-9))
    }

    /// The first one that is not due before this.
    fn first_from(self, window: Window, at: Instant) -> u32 {
        let since = at.saturating_duration_since(window.start + self.phase);
        (since.as_secs_f64() * self.per_second).ceil() as u32
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

impl Window {
    fn has(&self, at: Instant) -> bool {
        (self.start..self.end).contains(&at)
    }
}

/// One end of a session, before it joins.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) course: Arc<Course>,
    pub(crate) number: usize,
    pub(crate) transport: Transport,
    pub(crate) target: Target,
    pub(crate) join: Join,
    /// When it is to come, whether or not anybody has got to that by then.
    pub(crate) arrives: Instant,
    pub(crate) schedule: Schedule,
    pub(crate) window: watch::Receiver<Option<Window>>,
    /// Input may be due.
    pub(crate) beat: Arc<Notify>,
    /// Of the session's customer.
    pub(crate) journal: Arc<Mutex<Journal>>,
    /// What all measure together; without it each end keeps its own values.
    pub(crate) recorder: Option<Arc<Recorder>>,
}

impl Part {
    fn join(&self) -> (Handle, Inbox) {
        let agent = concat!("tandem-loadtest ", env!("CARGO_PKG_VERSION"));
        let options = Options::new(self.target.clone(), self.join.clone(), agent);
        let codecs = tandem_codec::VERSIONS.map(u32::from).to_vec();
        let capabilities = Capabilities { codecs, ..Capabilities::default() };
        let options = Options { transport: self.transport, capabilities, ..options };
        let (handle, events) = tandem_client::start(options);
        (handle, Inbox::new(events))
    }

    fn window(&self) -> Option<Window> {
        *self.window.borrow()
    }

    /// The newest picture; there are none after the window's last.
    fn newest(&self, now: Instant) -> u32 {
        let last = self.window().map_or(now, |window| window.last);
        self.schedule.newest(now.min(last))
    }

    /// The pictures of the window.
    fn offered(&self, window: Window) -> Range<u32> {
        self.schedule.newest(window.start) + 1..self.schedule.newest(window.end) + 1
    }

    /// Whether anything new is on the screen in a window at all.
    fn moves(&self) -> bool {
        self.course.interval < self.course.window * 2
    }

    /// Begins to send files if they go in this direction.
    fn send_files(&self, direction: Direction, handle: &Handle, until: Instant) {
        if let Some(transfer) =
            self.course.transfer.clone().filter(|transfer| transfer.direction == direction)
        {
            let handle = handle.clone();
            tokio::spawn(async move { transfer.fill(handle, until).await });
        }
    }

    /// A record of a file has come: its bytes.
    fn receive_file(&self, record: &Record) -> u64 {
        self.course.transfer.iter().for_each(|transfer| transfer.received(record));
        record.bytes.len() as u64
    }

    /// Input events in the window.
    fn inputs(&self) -> u32 {
        self.course.inputs.count(self.course.window)
    }

    /// For those who measure together.
    fn record(&self, kind: Kind, at: Instant, value: Duration) {
        if let Some(recorder) = &self.recorder {
            recorder.record(kind, at, value);
        }
    }

    /// It comes now.
    fn joins(&self) {
        self.record(Kind::JoinLateness, self.arrives, self.arrives.elapsed());
    }

    /// This program did something then that was due at another time.
    fn was_due(&self, due: Instant, now: Instant) {
        if self.window().is_some_and(|window| window.has(due)) {
            self.record(Kind::Lateness, due, now.saturating_duration_since(due));
        }
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

/// Somebody to be woken whenever input is due.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) inputs: Inputs,
    pub(crate) wakes: Arc<Notify>,
}

/// Begins to wake technicians, each when its next input is due.
pub(crate) fn start_beating(beats: Vec<Beat>, window: Window) -> anyhow::Result<()> {
    // A thread, because the runtime's timers are as coarse as what is measured.
    let metronome = thread::Builder::new().name("beat".to_owned());
    metronome.spawn(move || beat(&beats, window)).context("cannot start a thread")?;
    Ok(())
}

/// Wakes the technicians in turn, each when its next input is due.
fn beat(beats: &[Beat], window: Window) {
    let length = window.end - window.start;
    let due = |who: usize, number: u32| {
        let inputs = beats[who].inputs;
        (number < inputs.count(length)).then(|| Reverse((inputs.due(window, number), who, number)))
    };
    let mut next: BinaryHeap<_> = (0..beats.len()).filter_map(|who| due(who, 0)).collect();
    while let Some(Reverse((at, who, number))) = next.pop() {
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        beats[who].wakes.notify_one();
        next.extend(due(who, number + 1));
    }
}

/// Adds a value where it belongs: to what all measure together, or to an end's own.
fn note(part: &Part, kind: Kind, own: &mut figures::Samples, at: Instant, value: Duration) {
    match &part.recorder {
        Some(recorder) => recorder.record(kind, at, value),
        None => own.push(at, value),
    }
}

/// What an end has measured, and its failure put into words.
fn failed(figures: &mut Figures, who: &str, number: usize, why: impl std::fmt::Display) {
    figures.failures.push(format!("{who} {number}: {why}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let start = Instant::now();
        let end = start + Duration::from_secs(2);
        Window { start, end, last: end, light: None }
    }

    #[test]
    fn who_comes_back_goes_on_with_what_is_not_due_yet() {
        let window = window();
        let inputs = Inputs { per_second: 20.0, phase: Duration::from_millis(10) };
        assert_eq!(inputs.count(Duration::from_secs(2)), 40);
        for number in [0, 1, 7, 39] {
            let due = inputs.due(window, number);
            assert_eq!(inputs.first_from(window, due - Duration::from_millis(1)), number);
            assert_eq!(inputs.first_from(window, due + Duration::from_millis(1)), number + 1);
        }
        assert_eq!(inputs.first_from(window, window.start - Duration::from_secs(1)), 0);
    }

    #[test]
    fn everybody_is_woken_when_input_is_due_at_any_rate() {
        let window = Window { end: Instant::now(), ..window() };
        let start = window.end - Duration::from_millis(500);
        let window = Window { start, ..window };
        let beats: Vec<_> =
            [100.0, 0.0, 10.0].map(|rate| Beat { inputs: Inputs::every(rate), wakes: Arc::default() }).into();
        let wakes: Vec<_> = beats.iter().map(|beat| beat.wakes.clone()).collect();
        // All of it is due already.
        beat(&beats, window);
        let woken = |notify: &Notify| tokio_test_ready(notify);
        assert_eq!(wakes.iter().map(|wake| woken(wake)).collect::<Vec<_>>(), [true, false, true]);
    }

    /// Whether somebody would be woken at once.
    fn tokio_test_ready(notify: &Notify) -> bool {
        let mut notified = std::pin::pin!(notify.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    }
}
