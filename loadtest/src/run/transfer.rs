//! A file transfer that never ends: opaque records on a file lane, as fast as they are taken.

use std::time::{Duration, Instant};

use tandem_client::{Handle, Outgoing, SendError};
use tandem_protocol::{LaneKey, LaneKind, Sender};

/// Bytes of a record.
const RECORD: usize = 32 << 10;
/// The type of a file's records, which only its two ends look at.
const TYPE: u8 = 1;
/// Between two looks whether there is room again: what may wait on a lane lasts far longer than that.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// From the technician to the customer, as input goes
    Up,
    /// From the customer to the technician, as the screen goes
    Down,
}

/// Keeps a file lane full until then. Ends at once when the connection does.
pub(crate) async fn fill(handle: Handle, until: Instant) {
    let body: Vec<u8> = (0..RECORD).map(|_| rand::random()).collect();
    let lane = LaneKey::plain(LaneKind::File, Sender::RELAY);
    while Instant::now() < until {
        match handle.send(lane, Outgoing::message(TYPE, &body)) {
            Ok(_) => tokio::task::yield_now().await,
            Err(SendError::Full) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(_) => return,
        }
    }
}
