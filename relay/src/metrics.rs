//! Every counter and gauge of the relay, in one struct that is handed around.
//!
//! Names are in base units; labels come from enums, never from ids or addresses. docs/operations.md lists them for operators.

use std::array;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tandem_protocol::message::SkipReason;
use tandem_protocol::{Close, LaneKind};

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// QUIC.
    Quic,
    /// WebTransport.
    WebTransport,
    /// WebSocket.
    WebSocket,
}

impl Binding {
    const ALL: [Self; 3] = [Self::Quic, Self::WebTransport, Self::WebSocket];

    /// As labels and logs show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
        }
    }
}

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The customer has not granted it.
    NoRight,
    /// A consent prompt is open.
    Prompt,
    /// The publisher is not connected.
    Away,
    /// Its lane was open before the publisher came back.
    Stale,
}

impl Dropped {
    const ALL: [Self; 4] = [Self::NoRight, Self::Prompt, Self::Away, Self::Stale];

    fn name(self) -> &'static str {
        match self {
            Self::NoRight => "no_right",
            Self::Prompt => "prompt",
            Self::Away => "away",
            Self::Stale => "stale",
        }
    }
}

/// Why a subscriber does not get a record of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A key shows what it led to.
    Key,
    /// The subscriber reads the reduced rendition instead.
    Fork,
    /// The subscriber reads the live rendition instead.
    Merge,
    /// The bound on held bytes was reached.
    HeldMax,
    /// The publisher began from black.
    Restarted,
    /// The right to see it was withdrawn.
    Right,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Key, Self::Fork, Self::Merge, Self::HeldMax, Self::Restarted, Self::Right];

    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Fork => "fork",
            Self::Merge => "merge",
            Self::HeldMax => "held_max",
            Self::Restarted => "restarted",
            Self::Right => "right",
        }
    }

    /// As subscribers are told.
    pub fn reason(self) -> SkipReason {
        match self {
            Self::Key => SkipReason::Key,
            Self::Fork => SkipReason::Fork,
            Self::Merge => SkipReason::Merge,
            Self::HeldMax => SkipReason::HeldMax,
            Self::Restarted => SkipReason::Restarted,
            Self::Right => SkipReason::Right,
        }
    }
}

/// What a client that was closed with `stalled` did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// A screen that it sees.
    Screen,
    /// Control messages.
    Control,
    /// Anything else.
    Queue,
}

impl Stalled {
    const ALL: [Self; 3] = [Self::Screen, Self::Control, Self::Queue];

    fn name(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Control => "control",
            Self::Queue => "queue",
        }
    }
}

/// Why a client was turned away before it could say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Told to prove its address first, over QUIC.
    Retry,
    /// Too many handshakes of its network.
    Handshakes,
    /// Too many connections that are not admitted yet.
    Unadmitted,
    /// No descriptors are left for TCP connections.
    Descriptors,
}

impl TurnedAway {
    const ALL: [Self; 4] = [Self::Retry, Self::Handshakes, Self::Unadmitted, Self::Descriptors];

    fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Handshakes => "handshakes",
            Self::Unadmitted => "unadmitted",
            Self::Descriptors => "descriptors",
        }
    }
}

/// What a client sends faster than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowed {
    /// Records.
    Records,
    /// Control messages.
    Control,
}

impl Slowed {
    const ALL: [Self; 2] = [Self::Records, Self::Control];

    fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Control => "control",
        }
    }
}

/// The relay's metrics.
pub struct Metrics {
    /// Sessions that exist now.
    pub sessions: Gauge,
    /// Connections that are not admitted yet.
    pub unadmitted: Gauge,
    /// Keys of segments, whole.
    pub keys: Counter,
    /// Keys that publishers were asked for.
    pub keys_wanted: Counter,
    /// Segments started.
    pub segments: Counter,
    /// Subscribers that went over to the reduced rendition.
    pub forks: Counter,
    /// Subscribers that came back from it.
    pub merges: Counter,
    /// Subscribers that fell behind what is held and entered anew.
    pub lost: Counter,
    /// Feedback messages to publishers.
    pub feedback: Counter,
    /// Seconds from a connection's first byte to its `Welcome`.
    pub admission_seconds: Histogram,
    connections: [Gauge; Binding::ALL.len()],
    connections_total: [Counter; Binding::ALL.len()],
    received_bytes: [Counter; LaneKind::ALL.len()],
    forwarded_records: [Counter; LaneKind::ALL.len()],
    forwarded_bytes: [Counter; LaneKind::ALL.len()],
    dropped_records: [Counter; Dropped::ALL.len()],
    dropped_bytes: [Counter; Dropped::ALL.len()],
    skipped_records: [Counter; Skip::ALL.len()],
    stalled: [Counter; Stalled::ALL.len()],
    slowed: [Counter; Slowed::ALL.len()],
    turned_away: [Counter; TurnedAway::ALL.len()],
    held_bytes: Gauge,
    closed: Vec<(Close, Counter)>,
    refused: Vec<(Close, Counter)>,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn label(key: &'static str, value: &'static str) -> Vec<Label> {
    vec![Label::from_static_parts(key, value)]
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything at zero, so that a scrape shows what could be counted before it is.
    pub fn new() -> Self {
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let recorder = PrometheusBuilder::new()
            .set_buckets(&buckets)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            describe();
            let lane = |at: usize| {
                label(
                    "lane",
                    [
                        "control",
                        "input",
                        "audio",
                        "chat",
                        "peer",
                        "cursor",
                        "screen",
                        "key",
                        "clipboard",
                        "file",
                    ][at],
                )
            };
            let binding = |at: usize| label("transport", Binding::ALL[at].name());
            let reason = |at: usize| label("reason", Dropped::ALL[at].name());
            let codes = |name: &'static str| {
                let one = |&close: &Close| (close, counter!(name, label("code", close.name())));
                Close::ALL.iter().map(one).collect()
            };
            gauge!("tandem_relay_build_info", label("version", env!("CARGO_PKG_VERSION"))).set(1.0);
            Self {
                sessions: gauge!("tandem_relay_sessions"),
                unadmitted: gauge!("tandem_relay_unadmitted_connections"),
                keys: counter!("tandem_relay_keys_total"),
                keys_wanted: counter!("tandem_relay_keys_wanted_total"),
                segments: counter!("tandem_relay_segments_total"),
                forks: counter!("tandem_relay_forks_total"),
                merges: counter!("tandem_relay_merges_total"),
                lost: counter!("tandem_relay_subscribers_lost_total"),
                feedback: counter!("tandem_relay_feedback_total"),
                admission_seconds: histogram!("tandem_relay_admission_seconds"),
                connections: array::from_fn(|at| gauge!("tandem_relay_connections", binding(at))),
                connections_total: array::from_fn(|at| {
                    counter!("tandem_relay_connections_total", binding(at))
                }),
                received_bytes: array::from_fn(|at| counter!("tandem_relay_received_bytes_total", lane(at))),
                forwarded_records: array::from_fn(|at| {
                    counter!("tandem_relay_forwarded_records_total", lane(at))
                }),
                forwarded_bytes: array::from_fn(|at| {
                    counter!("tandem_relay_forwarded_bytes_total", lane(at))
                }),
                dropped_records: array::from_fn(|at| {
                    counter!("tandem_relay_dropped_records_total", reason(at))
                }),
                dropped_bytes: array::from_fn(|at| counter!("tandem_relay_dropped_bytes_total", reason(at))),
                skipped_records: array::from_fn(|at| {
                    counter!("tandem_relay_skipped_records_total", label("reason", Skip::ALL[at].name()))
                }),
                slowed: array::from_fn(|at| {
                    counter!("tandem_relay_slowed_total", label("reason", Slowed::ALL[at].name()))
                }),
                turned_away: array::from_fn(|at| {
                    counter!("tandem_relay_turned_away_total", label("reason", TurnedAway::ALL[at].name()))
                }),
                stalled: array::from_fn(|at| {
                    counter!("tandem_relay_stalled_total", label("reason", Stalled::ALL[at].name()))
                }),
                held_bytes: gauge!("tandem_relay_held_bytes"),
                closed: codes("tandem_relay_closed_total"),
                refused: codes("tandem_relay_refused_total"),
                handle,
            }
        })
    }

    /// In the text format of Prometheus.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// A connection begins: counts it, and says when it ends by being dropped.
    pub fn connected(&self, binding: Binding) -> Connected {
        self.connections_total[binding as usize].increment(1);
        self.connections[binding as usize].increment(1.0);
        Connected(self.connections[binding as usize].clone())
    }

    /// A connection ended, for this reason.
    pub fn closed(&self, close: Close) {
        count(&self.closed, close);
    }

    /// A client was not admitted.
    pub fn refused(&self, close: Close) {
        count(&self.refused, close);
    }

    /// A record of this many bytes arrived on a screen or key lane.
    pub fn received(&self, kind: LaneKind, bytes: usize) {
        self.received_bytes[kind as usize].increment(bytes as u64);
    }

    /// A record was handed to one receiver.
    pub fn forwarded(&self, kind: LaneKind, bytes: usize) {
        self.forwarded_records[kind as usize].increment(1);
        self.forwarded_bytes[kind as usize].increment(bytes as u64);
    }

    /// A record was dropped.
    pub fn dropped(&self, reason: Dropped, bytes: usize) {
        self.dropped_records[reason as usize].increment(1);
        self.dropped_bytes[reason as usize].increment(bytes as u64);
    }

    /// A subscriber does not get so many records of a screen.
    pub fn skipped(&self, reason: Skip, records: u64) {
        self.skipped_records[reason as usize].increment(records);
    }

    /// A client was read more slowly.
    pub fn slowed(&self, what: Slowed) {
        self.slowed[what as usize].increment(1);
    }

    /// A client was turned away before it could say anything.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away[why as usize].increment(1);
    }

    /// A client is closed since it does not take what waits for it.
    pub fn stalled(&self, what: Stalled) {
        self.stalled[what as usize].increment(1);
    }

    /// An account of held bytes, at nothing.
    pub fn held(&self) -> HeldBytes {
        HeldBytes { gauge: self.held_bytes.clone(), counted: 0 }
    }
}

/// Bytes that one display's streams hold, counted in the gauge as long as this lives.
pub struct HeldBytes {
    gauge: Gauge,
    counted: usize,
}

impl std::fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldBytes({})", self.counted)
    }
}

impl HeldBytes {
    /// So many are held now.
    pub fn set(&mut self, bytes: usize) {
        self.gauge.increment(bytes as f64 - self.counted as f64);
        self.counted = bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn count(counters: &[(Close, Counter)], close: Close) {
    if let Some((_, counter)) = counters.iter().find(|(code, _)| *code == close) {
        counter.increment(1);
    }
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    gauge!("tandem_relay_build_info", "1, with the version as a label.");
    gauge!("tandem_relay_sessions", "Sessions that exist now.");
    gauge!("tandem_relay_connections", "Admitted connections now, by transport.");
    counter!("tandem_relay_connections_total", "Admitted connections, by transport.");
    gauge!(
        "tandem_relay_unadmitted_connections",
        "Connections that are not admitted to a session, HTTP requests included."
    );
    counter!(
        "tandem_relay_slowed_total",
        "Times that a client was read more slowly, by what it sends too much of."
    );
    counter!(
        "tandem_relay_turned_away_total",
        "Clients turned away before they could say anything, by reason."
    );
    counter!("tandem_relay_keys_total", "Keys received whole.");
    counter!("tandem_relay_keys_wanted_total", "Keys asked of publishers.");
    counter!("tandem_relay_segments_total", "Segments started.");
    counter!("tandem_relay_forks_total", "Subscribers that went over to the reduced rendition.");
    counter!("tandem_relay_merges_total", "Subscribers that came back to the live rendition.");
    counter!("tandem_relay_skipped_records_total", "Records that a subscriber did not get, by reason.");
    counter!("tandem_relay_stalled_total", "Clients closed as stalled, by what they did not take.");
    gauge!("tandem_relay_held_bytes", "Bytes of screens held for subscribers, keys included.");
    counter!(
        "tandem_relay_subscribers_lost_total",
        "Subscribers that fell behind what is held and entered anew."
    );
    counter!("tandem_relay_feedback_total", "Feedback messages to publishers.");
    histogram!("tandem_relay_admission_seconds", "From a connection's first byte to its Welcome.");
    counter!("tandem_relay_received_bytes_total", "Bytes of screen and key records received, by lane kind.");
    counter!("tandem_relay_forwarded_records_total", "Records handed to a receiver, by lane kind.");
    counter!("tandem_relay_forwarded_bytes_total", "Bytes of records handed to a receiver, by lane kind.");
    counter!("tandem_relay_dropped_records_total", "Records dropped, by reason.");
    counter!("tandem_relay_dropped_bytes_total", "Bytes of records dropped, by reason.");
    counter!("tandem_relay_closed_total", "Admitted connections that ended, by close code.");
    counter!("tandem_relay_refused_total", "Clients that were not admitted, by close code.");
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_at_zero_and_a_connection_is_uncounted_when_it_ends() {
        let metrics = Metrics::new();
        assert!(metrics.render().contains("tandem_relay_dropped_records_total{reason=\"no_right\"} 0"));
        let connected = metrics.connected(Binding::Quic);
        assert!(metrics.render().contains("tandem_relay_connections{transport=\"quic\"} 1"));
        drop(connected);
        metrics.dropped(Dropped::Prompt, 40);
        let text = metrics.render();
        assert!(text.contains("tandem_relay_connections{transport=\"quic\"} 0"));
        assert!(text.contains("tandem_relay_dropped_bytes_total{reason=\"prompt\"} 40"));
    }
}
