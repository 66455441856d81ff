//! A file transfer that never ends: opaque records on a file lane, as many under way as the path and what waits on it hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tandem_client::{Handle, Outgoing, SendError};
use tandem_protocol::{LaneKey, LaneKind, Record, Sender};

/// Bytes of a record.
const RECORD: usize = 32 << 10;
/// The type of a file's records, which only its two ends look at.
const TYPE: u8 = 1;
/// Between two looks whether there is room again: what is under way lasts far longer than that.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Bytes that wait beside those that travel, so that there is always something to send. A relay keeps more than that for
/// whoever is slower.
const WAITING: u64 = 640 << 10;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// From the technician to the customer, as input goes
    Up,
    /// From the customer to the technician, as the screen goes
    Down,
}

/// A transfer, known to both of its ends.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) direction: Direction,
    /// Most bytes under way.
    window: u64,
    received: AtomicU64,
}

impl Transfer {
    /// Over a path that holds so many bytes.
    pub(crate) fn new(direction: Direction, path: u64) -> Self {
        Self { direction, window: path + WAITING, received: AtomicU64::new(0) }
    }

    /// A record has come.
    pub(crate) fn received(&self, record: &Record) {
        self.received.fetch_add(record.body().len() as u64, Ordering::Relaxed);
    }

    /// Keeps the lane full until then. Ends at once when the connection does.
    pub(crate) async fn fill(&self, handle: Handle, until: Instant) {
        let body: Vec<u8> = (0..RECORD).map(|_| rand::random()).collect();
        let lane = LaneKey::plain(LaneKind::File, Sender::RELAY);
        let mut sent = 0;
        while Instant::now() < until {
            if sent >= self.received.load(Ordering::Relaxed) + self.window {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            match handle.send(lane, Outgoing::message(TYPE, &body)) {
                Ok(_) => sent += RECORD as u64,
                Err(SendError::Full) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(_) => return,
            }
        }
    }
}
