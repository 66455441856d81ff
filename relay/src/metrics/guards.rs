//! What is counted as long as it lives, so that a gauge is what was opened less what was closed, whatever happens between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use tandem_protocol::Close;

use super::family::Family;
use super::labels::Binding;

/// A connection. When it is dropped it is one less, and one more that was closed.
pub struct Connected {
    pub(super) gauge: Gauge,
    pub(super) open: Arc<AtomicUsize>,
    pub(super) closed: Arc<Family<(Close, Binding), Counter>>,
    pub(super) binding: Binding,
    /// Nobody says why if its task fails.
    pub(super) why: Mutex<Close>,
}

impl Connected {
    /// Why it will have ended.
    pub fn ends(&self, close: Close) {
        *self.why.lock() = close;
    }

    /// How it is connected.
    pub fn binding(&self) -> Binding {
        self.binding
    }
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connected({})", self.binding.name())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.closed.of((*self.why.get_mut(), self.binding)).increment(1);
        self.gauge.decrement(1.0);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that one display's streams hold, counted in the gauge as long as this lives.
pub struct HeldBytes {
    pub(super) gauge: Gauge,
    pub(super) counted: usize,
}

impl HeldBytes {
    /// So many are held now.
    pub fn set(&mut self, bytes: usize) {
        self.gauge.increment(bytes as f64 - self.counted as f64);
        self.counted = bytes;
    }
}

impl std::fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldBytes({})", self.counted)
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}
