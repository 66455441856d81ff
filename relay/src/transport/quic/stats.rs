//! What quinn knows of a connection's path, for the relay's metrics.

use std::time::{Duration, Instant};

use crate::connection::Connection;

/// How often a connection's path is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What was counted of a connection so far.
#[derive(Debug, Default)]
pub(super) struct Stats {
    looked: Option<Instant>,
    sent: u64,
    lost: u64,
}

impl Stats {
    /// Counts what is new, about once a second.
    pub(super) fn look(&mut self, quic: &quinn::Connection, connection: &Connection, now: Instant) {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < EVERY) {
            return;
        }
        self.looked = Some(now);
        let (path, metrics) = (quic.stats().path, connection.metrics());
        metrics.path_rtt_seconds.of(connection.binding()).record(path.rtt);
        metrics.path_window_bytes.of(connection.binding()).record(path.cwnd as f64);
        metrics.quic_packets.increment(path.sent_packets.saturating_sub(self.sent));
        metrics.quic_packets_lost.increment(path.lost_packets.saturating_sub(self.lost));
        (self.sent, self.lost) = (path.sent_packets, path.lost_packets);
    }
}
