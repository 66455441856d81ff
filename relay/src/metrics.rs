//! Every counter, gauge and histogram of the relay, in one struct that is handed around.
//!
//! Names are in base units; labels come from [enums](labels). docs/operations.md lists them for operators, and a test compares that
//! list with what a relay shows. Counting is one call where it happens; what the system knows itself is read when somebody
//! asks.

mod family;
mod guards;
pub mod labels;
mod peak;
mod system;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use metrics::{Counter, Gauge, Histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tandem_protocol::{Close, LaneKind, limits};

pub use family::Family;
use family::{counter, counters, gauge, gauges, histogram, histograms};
pub use guards::{Connected, HeldBytes};
pub use labels::{
    Binding, Direction, Dropped, Failure, JoinedBy, Phase, Share, Skip, Slowed, Stalled, Timed, TurnedAway,
};
use peak::Peak;
use system::System;

/// Bounds of durations, in seconds: of what stays in the relay for microseconds, up to people who wait for minutes.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 60.0, 600.0,
];
/// Bounds of congestion windows, in bytes.
const BYTES: [f64; 10] = [4e3, 16e3, 64e3, 128e3, 256e3, 512e3, 1e6, 2e6, 4e6, 16e6];

/// The relay's metrics.
pub struct Metrics {
    /// Sessions that exist now.
    pub sessions: Gauge,
    /// Sessions that began.
    pub sessions_begun: Counter,
    /// Sessions that ended, by why.
    pub sessions_ended: Family<Close, Counter>,
    /// Seconds from a session's first participant to both ends being there.
    pub pairing_seconds: Histogram,
    /// Seconds from when a subscriber may see a display and wants it to its word that it shows it.
    pub join_to_picture_seconds: Histogram,
    /// 1 while the relay is leaving service.
    pub draining: Gauge,
    /// Connections that are not admitted yet, or never ask to be.
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
    /// Clients let in, by with what.
    pub joins: Family<JoinedBy, Counter>,
    /// Seconds from a connection's first byte to its `Welcome`.
    pub admission_seconds: Histogram,
    /// Seconds from a record's arrival to being handed to its receiver's socket.
    pub forward_seconds: Family<Timed, Histogram>,
    /// Round trips of the paths to clients, in seconds, each connection about once a second.
    pub path_rtt_seconds: Family<Binding, Histogram>,
    /// Bytes that congestion control lets be under way to a client, each connection about once a second.
    pub path_window_bytes: Family<Binding, Histogram>,
    /// QUIC packets sent.
    pub quic_packets: Counter,
    /// QUIC packets lost on the way to clients.
    pub quic_packets_lost: Counter,
    udp_buffer_bytes: Family<(Direction, Share), Gauge>,
    /// Bytes of records that wait for receivers, screens aside.
    pub queued_bytes: Gauge,
    connections: Family<Binding, Gauge>,
    connections_begun: Family<Binding, Counter>,
    closed: Arc<Family<(Close, Binding), Counter>>,
    refused: Family<Close, Counter>,
    handshake_failures: Family<(Phase, Failure), Counter>,
    received_records: Family<(LaneKind, Binding), Counter>,
    received_bytes: Family<(LaneKind, Binding), Counter>,
    sent_records: Family<(LaneKind, Binding), Counter>,
    sent_bytes: Family<(LaneKind, Binding), Counter>,
    dropped_records: Family<Dropped, Counter>,
    dropped_bytes: Family<Dropped, Counter>,
    skipped_records: Family<Skip, Counter>,
    stalled: Family<Stalled, Counter>,
    slowed: Family<Slowed, Counter>,
    turned_away: Family<TurnedAway, Counter>,
    held_bytes: Gauge,
    oldest_unsent: Family<Timed, Gauge>,
    oldest_seen: Mutex<[Peak; Timed::ALL.len()]>,
    certificate_expiry: Gauge,
    system: System,
    open: Arc<AtomicUsize>,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything at zero.
    pub fn new() -> Self {
        let bytes = Matcher::Suffix("_bytes".into());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(bytes, &BYTES))
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || Self::register(handle))
    }

    fn register(handle: PrometheusHandle) -> Self {
        let version = format!("{}", limits::VERSION);
        let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("protocol", version)];
        metrics::describe_gauge!("tandem_relay_build_info", "1, with versions as labels.");
        metrics::gauge!("tandem_relay_build_info", &labels).set(1.0);
        let metrics = Self {
            sessions: gauge("tandem_relay_sessions", "Sessions now."),
            sessions_begun: counter("tandem_relay_sessions_total", "Sessions begun."),
            sessions_ended: counters("tandem_relay_sessions_ended_total", "Sessions ended, by why."),
            pairing_seconds: histogram(
                "tandem_relay_pairing_seconds",
                "From a session's first participant to both ends being there.",
            ),
            join_to_picture_seconds: histogram(
                "tandem_relay_join_to_picture_seconds",
                "From when a watcher may see a display and wants it to its word that it shows it.",
            ),
            draining: gauge("tandem_relay_draining", "1 while the relay is leaving service."),
            unadmitted: gauge(
                "tandem_relay_unadmitted_connections",
                "Connections that are not admitted to a session, HTTP requests included.",
            ),
            keys: counter("tandem_relay_keys_total", "Keys received whole."),
            keys_wanted: counter("tandem_relay_keys_wanted_total", "Keys asked of publishers."),
            segments: counter("tandem_relay_segments_total", "Segments started."),
            forks: counter(
                "tandem_relay_forks_total",
                "Subscribers that went over to the reduced rendition.",
            ),
            merges: counter("tandem_relay_merges_total", "Subscribers that came back to the live rendition."),
            lost: counter(
                "tandem_relay_subscribers_lost_total",
                "Subscribers that fell behind what is held and entered anew.",
            ),
            feedback: counter("tandem_relay_feedback_total", "Feedback messages to publishers."),
            joins: counters("tandem_relay_joins_total", "Clients let in, by with what."),
            admission_seconds: histogram(
                "tandem_relay_admission_seconds",
                "From a connection's first byte to its Welcome.",
            ),
            forward_seconds: histograms(
                "tandem_relay_forward_seconds",
                "From a record's arrival to being handed to its receiver's socket, by lane kind.",
            ),
            path_rtt_seconds: histograms(
                "tandem_relay_path_rtt_seconds",
                "Round trips to clients, each connection about once a second.",
            ),
            path_window_bytes: histograms(
                "tandem_relay_path_window_bytes",
                "What congestion control lets be under way, each connection about once a second.",
            ),
            quic_packets: counter("tandem_relay_quic_packets_total", "QUIC packets sent."),
            quic_packets_lost: counter(
                "tandem_relay_quic_packets_lost_total",
                "QUIC packets lost on their way.",
            ),
            udp_buffer_bytes: gauges(
                "tandem_relay_udp_buffer_bytes",
                "Buffers of the UDP socket, as wanted and as granted by the system.",
            ),
            queued_bytes: gauge("tandem_relay_queued_bytes", "Bytes that wait for receivers, screens aside."),
            connections: gauges("tandem_relay_connections", "Admitted connections now, by transport."),
            connections_begun: counters(
                "tandem_relay_connections_total",
                "Admitted connections, by transport.",
            ),
            closed: Arc::new(counters(
                "tandem_relay_closed_total",
                "Admitted connections that ended, by close code and transport.",
            )),
            refused: counters("tandem_relay_refused_total", "Clients that were not admitted, by close code."),
            handshake_failures: counters(
                "tandem_relay_handshake_failures_total",
                "Clients that never came to say what they want, by how far they came.",
            ),
            received_records: counters(
                "tandem_relay_received_records_total",
                "Records received, by lane kind and transport.",
            ),
            received_bytes: counters(
                "tandem_relay_received_bytes_total",
                "Bytes of records received, by lane kind and transport.",
            ),
            sent_records: counters(
                "tandem_relay_sent_records_total",
                "Records handed to a receiver's socket, by lane kind and transport.",
            ),
            sent_bytes: counters(
                "tandem_relay_sent_bytes_total",
                "Bytes of records handed to a receiver's socket, by lane kind and transport.",
            ),
            dropped_records: counters("tandem_relay_dropped_records_total", "Records dropped, by reason."),
            dropped_bytes: counters(
                "tandem_relay_dropped_bytes_total",
                "Bytes of records dropped, by reason.",
            ),
            skipped_records: counters(
                "tandem_relay_skipped_records_total",
                "Records of screens that a subscriber did not get, by reason.",
            ),
            stalled: counters(
                "tandem_relay_stalled_total",
                "Clients closed as stalled, by what they did not take.",
            ),
            slowed: counters(
                "tandem_relay_slowed_total",
                "Times that a client was read more slowly, by what it sends too much of.",
            ),
            turned_away: counters(
                "tandem_relay_turned_away_total",
                "Clients turned away before they could say anything, by reason.",
            ),
            held_bytes: gauge(
                "tandem_relay_held_bytes",
                "Bytes of screens held for subscribers, keys included.",
            ),
            oldest_unsent: gauges(
                "tandem_relay_oldest_unsent_seconds",
                "The longest that a record has waited for its receiver's path, of the last 15 to 30 seconds.",
            ),
            oldest_seen: Mutex::default(),
            certificate_expiry: gauge(
                "tandem_relay_certificate_expiry_timestamp_seconds",
                "When the certificate in use expires, since 1970.",
            ),
            system: System::new(),
            open: Arc::default(),
            handle,
        };
        // Shown before anything has passed.
        for labels in <(Direction, Share) as labels::Labels>::all() {
            metrics.udp_buffer_bytes.of(labels).set(0.0);
        }
        metrics
    }

    /// In the text format of Prometheus.
    pub fn render(&self) -> String {
        self.system.read();
        self.upkeep();
        System::correct(self.handle.render())
    }

    /// Sorts what was measured into histograms. It waits in memory until then: to be called every few seconds, whether or not
    /// anybody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// A connection begins: counts it, and says when it ends by being dropped.
    pub fn connected(&self, binding: Binding) -> Connected {
        self.connections_begun.of(binding).increment(1);
        self.connections.of(binding).increment(1.0);
        self.open.fetch_add(1, Ordering::Relaxed);
        Connected {
            open: self.open.clone(),
            gauge: self.connections.of(binding).clone(),
            closed: self.closed.clone(),
            binding,
            why: Mutex::new(Close::INTERNAL),
        }
    }

    /// Admitted connections now.
    pub fn connections_now(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A client was not admitted.
    pub fn refused(&self, close: Close) {
        self.refused.of(close).increment(1);
    }

    /// A client came only so far.
    pub fn handshake_failed(&self, phase: Phase, failure: Failure) {
        self.handshake_failures.of((phase, failure)).increment(1);
    }

    /// A record of this many bytes arrived.
    pub fn received(&self, kind: LaneKind, binding: Binding, bytes: usize) {
        self.received_records.of((kind, binding)).increment(1);
        self.received_bytes.of((kind, binding)).increment(bytes as u64);
    }

    /// A record of this many bytes was handed to a socket.
    pub fn sent(&self, kind: LaneKind, binding: Binding, bytes: usize) {
        self.sent_records.of((kind, binding)).increment(1);
        self.sent_bytes.of((kind, binding)).increment(bytes as u64);
    }

    /// A record that came at `arrived` was handed to a socket.
    pub fn forwarded(&self, kind: LaneKind, arrived: Instant, now: Instant) {
        if let Some(timed) = Timed::of(kind) {
            self.forward_seconds.of(timed).record(now.saturating_duration_since(arrived));
        }
    }

    /// A record was dropped.
    pub fn dropped(&self, reason: Dropped, bytes: usize) {
        self.dropped_records.of(reason).increment(1);
        self.dropped_bytes.of(reason).increment(bytes as u64);
    }

    /// A subscriber does not get so many records of a screen.
    pub fn skipped(&self, reason: Skip, records: u64) {
        self.skipped_records.of(reason).increment(records);
    }

    /// A client was read more slowly.
    pub fn slowed(&self, what: Slowed) {
        self.slowed.of(what).increment(1);
    }

    /// A client was turned away before it could say anything.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away.of(why).increment(1);
    }

    /// A client is closed since it does not take what waits for it.
    pub fn stalled(&self, what: Stalled) {
        self.stalled.of(what).increment(1);
    }

    /// Of all sessions: how long the oldest record of such a lane has waited.
    pub fn oldest_unsent(&self, timed: Timed, age: Duration, now: Instant) {
        let peak = self.oldest_seen.lock()[timed as usize].see(age.as_secs_f64(), now);
        self.oldest_unsent.of(timed).set(peak);
    }

    /// So large the buffers of the UDP socket should be, and so large they are.
    pub fn udp_buffers(&self, wanted: usize, granted: [(Direction, usize); 2]) {
        for (direction, granted) in granted {
            self.udp_buffer_bytes.of((direction, Share::Wanted)).set(wanted as f64);
            self.udp_buffer_bytes.of((direction, Share::Granted)).set(granted as f64);
        }
    }

    /// The certificate in use expires then.
    pub fn certificate_expires(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.certificate_expiry.set(since.as_secs() as f64);
    }

    /// An account of held bytes, at nothing.
    pub fn held(&self) -> HeldBytes {
        HeldBytes { gauge: self.held_bytes.clone(), counted: 0 }
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
        connected.ends(Close::LEFT);
        drop(connected);
        metrics.dropped(Dropped::Prompt, 40);
        let text = metrics.render();
        assert!(text.contains("tandem_relay_connections{transport=\"quic\"} 0"));
        assert!(text.contains("tandem_relay_closed_total{code=\"left\",transport=\"quic\"} 1"));
        assert!(text.contains("tandem_relay_dropped_bytes_total{reason=\"prompt\"} 40"));
    }

    #[test]
    fn every_combination_of_labels_has_a_place_of_its_own() {
        use labels::Labels;
        for (at, labels) in <(LaneKind, Binding)>::all().into_iter().enumerate() {
            assert_eq!(labels.index(), at);
        }
        for (at, labels) in <(Close, Binding)>::all().into_iter().enumerate() {
            assert_eq!(labels.index(), at);
        }
        assert_eq!(Close::from_number(999).index(), Close::INTERNAL.index());
    }

    #[test]
    fn how_long_records_stay_is_told_for_the_lanes_where_it_matters() {
        let metrics = Metrics::new();
        let now = Instant::now();
        metrics.forwarded(LaneKind::Input, now, now + Duration::from_micros(300));
        metrics.forwarded(LaneKind::File, now, now + Duration::from_secs(3));
        let text = metrics.render();
        assert!(
            text.contains("tandem_relay_forward_seconds_bucket{lane=\"input\",le=\"0.0005\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("tandem_relay_forward_seconds_bucket{lane=\"input\",le=\"0.00025\"} 0"),
            "{text}"
        );
    }
}
