//! The congestion controller of QUIC connections: ours, or one of quinn's.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{
    BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
};

use crate::control::Control;
use crate::state::{Gauge, State};

/// How a connection finds out what its path takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// BBR: rate and round trip, with a queue of its own now and then.
    Bbr,
    /// CUBIC: until the buffer overflows (RFC 9438).
    Cubic,
    /// Ours: rate and round trip, without a queue.
    #[default]
    Delay,
    /// NewReno: until the buffer overflows (RFC 9002, appendix B).
    NewReno,
}

impl Congestion {
    /// All, in the order of their names.
    pub const ALL: [Self; 4] = [Self::Bbr, Self::Cubic, Self::Delay, Self::NewReno];

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::Delay => "delay",
            Self::NewReno => "newreno",
        }
    }

    /// What makes quinn's controllers.
    pub fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Bbr => Arc::new(BbrConfig::default()),
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::Delay => Arc::new(Delay),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
        }
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of [`Congestion::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one of bbr, cubic, delay, newreno")]
pub struct UnknownCongestion;

impl FromStr for Congestion {
    type Err = UnknownCongestion;

    fn from_str(name: &str) -> Result<Self, UnknownCongestion> {
        Self::ALL.into_iter().find(|one| one.name() == name).ok_or(UnknownCongestion)
    }
}

/// Makes [`DelayController`]s.
#[derive(Clone, Copy, Debug)]
struct Delay;

impl ControllerFactory for Delay {
    fn build(self: Arc<Self>, _now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(DelayController { control: Control::new(mtu, OVERHEAD, BELOW), mtu, path: Arc::default() })
    }
}

/// [`Control`] as quinn calls it.
#[derive(Clone, Debug)]
struct DelayController {
    control: Control,
    mtu: u16,
    path: Arc<Shared>,
}

/// Bytes of a packet that are no stream's: headers of QUIC and of the frame, and the authentication tag.
const OVERHEAD: u16 = 36;

/// Headers of UDP and IP (version 4; with 6 it is 20 more, and matters less than it would if it were left out).
const BELOW: u16 = 28;

/// What a controller shares with the connection's owner.
#[derive(Debug, Default)]
struct Shared {
    gauge: Gauge,
    /// Bytes that may be under way although the window is full. See [`Path::speak`].
    allowed: AtomicU64,
    /// When somebody spoke into the silence.
    spoken: Mutex<Option<Instant>>,
}

/// A QUIC connection's path, as its congestion controller knows it.
#[derive(Clone, Debug)]
pub struct Path(Arc<Shared>);

/// Silence after which a connection speaks up, beyond two round trips; and how often it does at most.
const SILENCE: Duration = Duration::from_millis(100);

impl Path {
    /// Of a connection's `congestion_state()`; `None` if its controller is one of quinn's. A connection whose client has moved to
    /// another address may have a new one.
    pub fn of(controller: Box<dyn Controller>) -> Option<Self> {
        controller.into_any().downcast::<DelayController>().ok().map(|controller| Self(controller.path))
    }

    /// What is known now. Wakes `waker` when that changes.
    pub fn watch(&self, waker: &Waker) -> State {
        self.0.gauge.watch(waker)
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.0.gauge.read()
    }

    /// Whether the owner should say something that asks for an answer, since nothing has been acknowledged for a while. To be
    /// asked at [`Path::speaks_at`]. The window then has room for it.
    ///
    /// After a black-out everything in the window is lost, and nobody knows. quinn tries again, but waits twice as long
    /// each time: 3.75 s after two seconds without a path of 200 ms. A packet beyond the window that is sent a few times a second
    /// is answered as soon as the path is back, and the answer says what was lost.
    pub fn speak(&self, now: Instant) -> bool {
        let speaks = self.speaks_at().is_some_and(|at| now >= at);
        if speaks {
            self.0.allowed.fetch_max(self.state().in_flight + ROOM_TO_SPEAK, Ordering::Relaxed);
            *self.0.spoken.lock() = Some(now);
        }
        speaks
    }

    /// When [`Path::speak`] should be asked, if nothing is acknowledged until then.
    pub fn speaks_at(&self) -> Option<Instant> {
        let state = self.state();
        let silent = state.silent_since? + SILENCE + 2 * state.rtt_min;
        let spoken = *self.0.spoken.lock();
        Some(spoken.map_or(silent, |spoken| silent.max(spoken + SILENCE)))
    }
}

impl Path {
    /// Lets this many urgent bytes leave although the window is full: they don't wait for what others have under way.
    pub fn urge(&self, bytes: u64) {
        let in_flight = self.state().in_flight;
        self.0.allowed.fetch_max(in_flight + bytes.min(URGENT_MAX) + ROOM_TO_SPEAK, Ordering::Relaxed);
    }
}

/// Most bytes that may leave past a full window at once.
const URGENT_MAX: u64 = 8 << 10;
/// Room for a small packet, as quinn counts: a whole one.
const ROOM_TO_SPEAK: u64 = 1500;

/// quinn tells of packets too that only acknowledge others. Nobody acknowledges those: whoever waited for it would take an idle path
/// for a dead one, ask, and be asked in turn because of the answer, for ever. They are rarely longer than this (one with many gaps
/// to tell of costs a question), and what else is as short counts for nothing.
const ACK_MAX: u64 = 64;

impl DelayController {
    fn publish(&self) {
        self.path.gauge.set(self.control.state());
    }
}

impl Controller for DelayController {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        if bytes > ACK_MAX {
            self.control.sent(bytes, now);
            self.publish();
        }
    }

    fn on_ack(&mut self, _now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        if bytes > ACK_MAX {
            self.control.acknowledge(sent, bytes);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.control.acknowledged(in_flight, now);
        self.path.allowed.store(0, Ordering::Relaxed);
        self.publish();
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, persistent: bool, lost_bytes: u64) {
        self.control.lost(lost_bytes, persistent, now);
        self.publish();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.control.set_packet(mtu);
    }

    fn window(&self) -> u64 {
        // quinn sends while a whole packet more is less than the window.
        self.control.window().max(self.path.allowed.load(Ordering::Relaxed)) + u64::from(self.mtu)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = self.control.pace().map(|rate| (rate * 8.0) as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        Control::new(self.mtu, OVERHEAD, BELOW).window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_an_acknowledgement_of_an_acknowledgement() {
        let start = Instant::now();
        let mut controller = Arc::new(Delay).build(start, 1200);
        let path = Path::of(controller.clone_box()).unwrap();
        controller.on_sent(start, 35, 0);
        assert_eq!((path.state().in_flight, path.speaks_at()), (0, None));
        controller.on_sent(start, 80, 1);
        assert!(path.speaks_at().is_some());
        controller.on_end_acks(start, 0, true, Some(1));
        assert_eq!(path.speaks_at(), None);
    }
}
