//! How much one client may send for long. Records and control messages beyond that are read more slowly, so that the rest waits at the
//! client and costs the relay nothing; lanes beyond it close the connection, since no program opens lanes at such a rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tandem_protocol::Close;

use crate::admission::Pace;
use crate::limits::SessionLimits;
use crate::metrics::{Metrics, Slowed};
use crate::session::Breach;

/// How many others a message counts for upon which everybody is told something, or the publisher asked for something.
const COSTLY: u32 = 25;

/// What one connection has sent lately.
#[derive(Debug)]
pub struct Paces {
    records: Mutex<Pace>,
    control: Mutex<Pace>,
    lanes: Mutex<Pace>,
    metrics: Arc<Metrics>,
}

/// A time to wait before more is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Pause(Duration);

impl Pause {
    /// Waits.
    pub async fn wait(self) {
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
    }

    /// Waits at least as long as the other.
    pub fn extend(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }
}

impl Paces {
    /// Of a connection that has sent nothing.
    pub fn new(limits: &SessionLimits, now: Instant, metrics: Arc<Metrics>) -> Self {
        let pace = |rate| Mutex::new(Pace::new(rate, now));
        let (records, control, lanes) = (pace(limits.records), pace(limits.control), pace(limits.lanes));
        Self { records, control, lanes, metrics }
    }

    /// A record was read.
    pub fn record(&self) -> Pause {
        self.pause(&self.records, Slowed::Records)
    }

    /// A control message was read.
    pub fn control(&self) -> Pause {
        self.pause(&self.control, Slowed::Control)
    }

    /// The control message that was read concerns more than its sender: it counts as many.
    pub fn costly(&self) {
        self.control.lock().charge(COSTLY, Instant::now());
    }

    fn pause(&self, pace: &Mutex<Pace>, what: Slowed) -> Pause {
        let pause = Pause(pace.lock().take(Instant::now()));
        if pause != Pause::default() {
            self.metrics.slowed(what);
        }
        pause
    }

    /// A lane was opened.
    ///
    /// # Errors
    /// [`Close::LIMIT`] if there were too many lately.
    pub fn lane(&self) -> Result<(), Breach> {
        if self.lanes.lock().take(Instant::now()).is_zero() {
            return Ok(());
        }
        Err(Breach { close: Close::LIMIT, reason: "lanes are opened too fast".into() })
    }
}
