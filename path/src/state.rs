//! What a connection knows of its own path, published for whoever decides what to send: the newest value counts, nobody waits.

use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A connection's path from its sending end, as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// What the path has shown to carry, bytes a second; 0: unknown.
    pub rate: f64,
    /// The shortest round trip of late; zero: unknown.
    pub rtt_min: Duration,
    /// Bytes that may be under way at once so that next to nothing waits in the path; 0: unknown.
    pub window: u64,
    /// Bytes sent and not acknowledged.
    pub in_flight: u64,
    /// Bytes that the transport has taken and not sent.
    pub unsent: u64,
    /// Bytes a second at which new bytes should be handed to the transport; 0: as fast as it takes them.
    pub pace: f64,
    /// Bytes to be handed over at once; 0: unknown.
    pub piece: usize,
    /// Bytes sent since the connection began, all that goes with them counted.
    pub sent: u64,
    /// Since when nothing has been acknowledged, while something is under way.
    pub silent_since: Option<Instant>,
}

impl State {
    /// How long what the transport has taken takes to leave, beyond what the path holds anyway. Zero: unknown.
    pub fn waiting(&self) -> Duration {
        if self.rate <= 0.0 {
            return Duration::ZERO;
        }
        let held = self.in_flight + self.unsent;
        Duration::from_secs_f64(held.saturating_sub(self.window) as f64 / self.rate)
    }
}

/// Where a connection's newest [`State`] lies. Reading and writing are a few nanoseconds.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<(State, Option<Waker>)>);

impl Gauge {
    /// The newest state.
    pub fn read(&self) -> State {
        self.0.lock().0
    }

    /// The newest state; `waker` is woken once when the transport has sent something or heard of its arrival. There is one
    /// waker at a time, the last.
    pub fn watch(&self, waker: &Waker) -> State {
        let mut inner = self.0.lock();
        if inner.1.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            inner.1 = Some(waker.clone());
        }
        inner.0
    }

    /// Replaces the state.
    pub fn set(&self, state: State) {
        let waker = {
            let mut inner = self.0.lock();
            inner.0 = state;
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_is_beyond_the_window() {
        let state =
            State { rate: 1e6, window: 50_000, in_flight: 50_000, unsent: 10_000, ..State::default() };
        assert_eq!(state.waiting(), Duration::from_millis(10));
        assert_eq!(State { unsent: 0, ..state }.waiting(), Duration::ZERO);
        assert_eq!(State { rate: 0.0, ..state }.waiting(), Duration::ZERO);
    }
}
