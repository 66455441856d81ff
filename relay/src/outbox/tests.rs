//! What waits for a client: in order, replaced, given up, and counted.

use super::*;

struct Quiet;
impl Wake for Quiet {
    fn lane(&self, _: Slot) {}
    fn lanes(&self) {}
    fn focus(&self) {}
    fn deadline(&self) {}
    fn room(&self) {}
    fn close(&self, _: Close, _: &str) {}
    fn path(&self) -> State {
        State::default()
    }
}

fn record(record_type: u8, flags: Flags, body: &[u8]) -> Record {
    let header = Header {
        record_type,
        flags,
        sender: Sender(1),
        key_id: 0,
        epoch: 1,
        seq: 0,
        time_us: 0,
        screen: None,
    };
    Record::new(header, body)
}

#[test]
fn a_latest_record_replaces_the_unsent_one_of_its_type_only() {
    let mut outbox = Outbox::new(Arc::new(Quiet), Arc::default());
    let slot = outbox.open(LaneKey::plain(LaneKind::Cursor, Sender(1)), Source::queue());
    outbox.push(slot, &record(1, Flags::LATEST, b"shape"), None);
    outbox.push(slot, &record(2, Flags::LATEST, b"here"), None);
    outbox.push(slot, &record(2, Flags::LATEST, b"there"), None);
    outbox.push(slot, &record(3, Flags::default(), b"kept"), None);
    let mut bodies = Vec::new();
    while let Pull::Record(bytes) = outbox.pop(slot, Instant::now()) {
        bodies.push(bytes[38..].to_vec());
    }
    assert_eq!(bodies, [b"shape".to_vec(), b"there".to_vec(), b"kept".to_vec()]);
    assert_eq!(outbox.queued_bytes(slot), 0);
}

#[test]
fn bytes_are_in_flight_until_they_are_acknowledged() {
    let now = Instant::now();
    let mut outbox = Outbox::new(Arc::new(Quiet), Arc::default());
    let slot = outbox.open(LaneKey::plain(LaneKind::Screen, Sender(1)), Source::Screen);
    assert_eq!(outbox.took(slot, 100, now), 100);
    assert_eq!(outbox.took(slot, 50, now), 150);
    assert_eq!(outbox.acknowledged(slot, 120, now), 120);
    assert_eq!(outbox.in_flight(slot), 30);
    assert_eq!(outbox.acknowledged(slot, 90, now), 0, "acknowledgements that go back say nothing");
    assert_eq!(outbox.acknowledged(slot, 9999, now), 30, "more than was sent is not believed");
    assert_eq!(outbox.in_flight(slot), 0);
}

#[test]
fn what_is_written_whole_is_known_when_more_is_asked_for() {
    let now = Instant::now();
    let mut outbox = Outbox::new(Arc::new(Quiet), Arc::default());
    let slot = outbox.open(LaneKey::plain(LaneKind::Screen, Sender(1)), Source::Screen);
    outbox.took(slot, 100, now);
    assert_eq!(outbox.being_written(slot), 100);
    outbox.took(slot, 50, now);
    assert_eq!(outbox.being_written(slot), 50);
    assert!(outbox.ran_dry(slot) && !outbox.ran_dry(slot), "it is news once");
    assert_eq!(outbox.being_written(slot), 0);
}

#[test]
fn no_more_of_a_screen_goes_than_its_client_acknowledges_in_time() {
    let start = Instant::now();
    let mut outbox = Outbox::new(Arc::new(Quiet), Arc::default());
    let slot = outbox.open(LaneKey::plain(LaneKind::Screen, Sender(1)), Source::Screen);
    // A proxy takes whatever it is given, and passes 100 KB/s on.
    let (mut taken, mut most) = (0, 0);
    for ms in 0..20_000 {
        let now = start + Duration::from_millis(ms);
        while !outbox.is_full(slot) {
            taken = outbox.took(slot, 1000, now);
        }
        let passed = taken.min(100 * ms);
        most = if ms > 5000 { most.max(taken - passed) } else { 0 };
        if ms % 8 == 0 {
            outbox.acknowledged(slot, passed, now);
        }
    }
    assert!((5_000..40_000).contains(&most), "{most} bytes wait in the proxy");
}

#[test]
fn a_client_that_does_not_read_control_messages_is_closed_and_costs_no_more() {
    #[derive(Default)]
    struct Told(std::sync::Mutex<Option<Close>>);
    impl Wake for Told {
        fn lane(&self, _: Slot) {}
        fn lanes(&self) {}
        fn focus(&self) {}
        fn deadline(&self) {}
        fn room(&self) {}
        fn close(&self, close: Close, _: &str) {
            self.0.lock().unwrap().get_or_insert(close);
        }
        fn path(&self) -> State {
            State::default()
        }
    }
    let told = Arc::new(Told::default());
    let mut outbox = Outbox::new(told.clone(), Arc::default());
    for id in 0..100_000 {
        outbox.control(control::Message::Pong(tandem_protocol::message::Pong { id, time_us: 0 }));
    }
    assert_eq!(*told.0.lock().unwrap(), Some(Close::STALLED));
    assert!(outbox.queued_bytes(Slot::CONTROL) < 2 * CONTROL_MAX);
}

#[test]
fn a_lane_that_was_given_up_sends_nothing_more() {
    let mut outbox = Outbox::new(Arc::new(Quiet), Arc::default());
    let key = LaneKey::plain(LaneKind::Chat, Sender(2));
    let slot = outbox.open(key, Source::queue());
    outbox.push(slot, &record(1, Flags::default(), b"never"), None);
    outbox.reset(slot);
    assert!(outbox.find(key).is_none());
    let changes = outbox.take_changes();
    assert!(changes.opened.is_empty(), "its writer need not begin");
    assert_eq!(changes.given_up, [slot]);
    assert!(matches!(outbox.pop(slot, Instant::now()), Pull::Reset));
}

/// Of a counter by reason.
fn count(metrics: &Metrics, name: &str, reason: &str) -> u64 {
    let series = format!("tandem_relay_{name}{{reason=\"{reason}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap()
}

#[test]
fn what_is_queued_is_taken_or_dropped_for_a_reason_that_is_counted() {
    let metrics = Arc::new(Metrics::new());
    let mut outbox = Outbox::new(Arc::new(Quiet), metrics.clone());
    let now = Instant::now();
    let cursor = outbox.open(LaneKey::plain(LaneKind::Cursor, Sender(1)), Source::queue());
    let [first, second] = [record(1, Flags::LATEST, b"here"), record(1, Flags::LATEST, b"over there")];
    outbox.push(cursor, &first, Some(now));
    outbox.push(cursor, &second, Some(now));
    assert_eq!(count(&metrics, "dropped_records_total", "replaced"), 1);
    assert_eq!(count(&metrics, "dropped_bytes_total", "replaced"), first.bytes.len() as u64);
    assert_eq!(outbox.waiting_bytes(), second.bytes.len());
    assert!(matches!(outbox.pop(cursor, now), Pull::Record(_)));

    let chat = outbox.open(LaneKey::plain(LaneKind::Chat, Sender(1)), Source::queue());
    outbox.push(chat, &first, Some(now));
    outbox.reset(chat);
    outbox.push(cursor, &first, Some(now));
    assert_eq!(count(&metrics, "dropped_records_total", "unsent"), 1, "the lane was given up");
    drop(outbox);
    assert_eq!(count(&metrics, "dropped_records_total", "unsent"), 2, "the client is gone");
}

#[test]
fn how_long_input_has_waited_is_known_and_how_long_it_took() {
    let metrics = Arc::new(Metrics::new());
    let mut outbox = Outbox::new(Arc::new(Quiet), metrics.clone());
    let now = Instant::now();
    let after = |ms| now + Duration::from_millis(ms);
    let input = outbox.open(LaneKey::plain(LaneKind::Input, Sender(1)), Source::queue());
    outbox.push(input, &record(1, Flags::default(), b"a"), Some(now));
    outbox.push(input, &record(1, Flags::default(), b"b"), Some(after(30)));
    assert_eq!(outbox.oldest(Timed::Input, after(50)), Duration::from_millis(50));
    outbox.pop(input, after(50));
    assert_eq!(outbox.oldest(Timed::Input, after(50)), Duration::from_millis(20));
    outbox.pop(input, after(51));
    assert_eq!(outbox.oldest(Timed::Input, after(99)), Duration::ZERO);
    let sum = metrics.render();
    let sum =
        sum.lines().find_map(|line| line.strip_prefix("tandem_relay_forward_seconds_sum{lane=\"input\"} "));
    assert!((sum.unwrap().parse::<f64>().unwrap() - 0.071).abs() < 1e-9);
}
