use std::time::Duration;

use super::*;
use tandem_protocol::{DisplayId, Record};

const ME: Sender = Sender(3);

fn parse(kind: LaneKind, bytes: &Bytes) -> Record {
    Record::split_from(kind, &mut bytes::BytesMut::from(&bytes[..])).unwrap().unwrap()
}

fn input() -> LaneKey {
    LaneKey::plain(LaneKind::Input, ME)
}

fn screen() -> LaneKey {
    LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, ME)
}

fn joined(now: Instant) -> Outbox {
    let mut outbox = Outbox::new(77, now);
    assert_eq!(outbox.connected(ME, &[], now), Resumed::default());
    outbox
}

fn seqs(outbox: &mut Outbox, key: LaneKey, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next(key, now)).map(|bytes| parse(key.kind, &bytes).header.seq).collect()
}

fn has(key: LaneKey, next_seq: u64) -> [LanePosition; 1] {
    [LanePosition { lane: Some(key.into()), epoch: 77, next_seq }]
}

fn type_key(outbox: &mut Outbox, now: Instant) {
    outbox.send(input(), Outgoing::message(types::KEY, &[8, 4]), now).unwrap();
}

fn update(outbox: &mut Outbox, len: usize, now: Instant) -> Sent {
    outbox.send(screen(), Outgoing::screen(0, ScreenKind::Update, &vec![0; len]), now).unwrap()
}

#[test]
fn what_is_said_while_connections_are_exchanged_goes_over_and_what_is_said_of_the_old_one_does_not() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let end = || control::Message::End(message::End::default());
    let ack =
        |key: LaneKey| control::Message::Ack(message::Ack { lane: Some(key.into()), ..Default::default() });
    let mut seq = 0;
    let mut said = |outbox: &mut Outbox| {
        std::iter::from_fn(|| outbox.next(LaneKey::CONTROL, now))
            .map(|bytes| {
                let record = parse(LaneKind::Control, &bytes);
                assert_eq!(
                    std::mem::replace(&mut seq, record.header.seq + 1),
                    record.header.seq,
                    "numbers rise"
                );
                Control::decode_body(record.body()).unwrap().unwrap()
            })
            .collect::<Vec<_>>()
    };
    for message in [control::Message::Ping(message::Ping::default()), ack(screen()), ack(input()), end()] {
        outbox.control(message).unwrap();
    }
    outbox.pause(Vec::new(), now);
    let left = said(&mut outbox);
    assert!(
        matches!(left[..], [control::Message::Ping(_), control::Message::Ack(_), control::Message::End(_)]),
        "who ends it may not wait for the next connection: {left:?}"
    );
    outbox.moves();
    outbox.control(end()).unwrap();
    outbox.connected(ME, &[], now);
    outbox.control_first(ack(screen())).unwrap();
    assert_eq!(said(&mut outbox), [ack(screen()), end(), ack(input())], "the end is said again");
    // A connection that is lost takes all with it but that.
    outbox.control(ack(input())).unwrap();
    outbox.disconnected();
    assert_eq!(outbox.control(end()), Err(SendError::Offline));
    outbox.connected(ME, &[], now);
    assert_eq!(said(&mut outbox), [end()]);
}

#[test]
fn what_a_connection_that_is_left_had_begun_goes_on_the_next_one_in_its_order() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let bulk = LaneKey::plain(LaneKind::File, ME);
    for n in 0..4 {
        outbox.send(bulk, Outgoing::message(1, &[n]), now).unwrap();
    }
    (0..3).for_each(|_| type_key(&mut outbox, now));
    for _ in 0..3 {
        update(&mut outbox, 10, now);
    }
    // One of each has arrived, the second is half sent.
    outbox.next(bulk, now).unwrap();
    let half: Vec<_> = [bulk, input(), screen()]
        .into_iter()
        .map(|lane| {
            let first = if lane == bulk { None } else { outbox.next(lane, now) };
            assert_eq!(first.is_none(), lane == bulk);
            (lane, outbox.next(lane, now).unwrap())
        })
        .collect();
    outbox.pause(half, now);
    for lane in [bulk, input(), screen()] {
        assert_eq!(outbox.next(lane, now), None, "it rests");
    }
    assert_eq!(outbox.pace(screen(), &State::default(), now), Pace::Wait(None));
    // What comes meanwhile waits.
    outbox.send(bulk, Outgoing::message(1, &[4]), now).unwrap();
    outbox.moves();
    let received = [has(input(), 1), has(screen(), 1)].concat();
    assert_eq!(outbox.connected(ME, &received, now), Resumed::default());
    assert_eq!(seqs(&mut outbox, bulk, now), [1, 2, 3, 4]);
    assert_eq!(seqs(&mut outbox, input(), now), [1, 2]);
    assert_eq!(seqs(&mut outbox, screen(), now), [1, 2]);
}

#[test]
fn input_goes_again_after_a_reopen_but_not_when_it_is_old() {
    let now = Instant::now();
    let mut outbox = joined(now);
    (0..4).for_each(|_| type_key(&mut outbox, now));
    assert_eq!(seqs(&mut outbox, input(), now), [0, 1, 2, 3]);
    outbox.input_done(input(), 77, 2);
    outbox.input_done(input(), 78, 4);
    let later = now + Duration::from_millis(900);
    (0..2).for_each(|_| type_key(&mut outbox, later));
    outbox.commands();
    assert_eq!(outbox.reopen(input(), later), 0);
    assert_eq!(outbox.commands(), [Command::Reset(input()), Command::Open(input())]);
    assert_eq!(seqs(&mut outbox, input(), now), [2, 3, 4, 5]);
    assert_eq!(outbox.reopen(input(), now + Duration::from_millis(1001)), 2);
    assert_eq!(seqs(&mut outbox, input(), now), [4, 5], "numbers skip what was dropped");
}

#[test]
fn the_same_relay_is_not_sent_input_that_it_has() {
    let now = Instant::now();
    let mut outbox = joined(now);
    (0..4).for_each(|_| type_key(&mut outbox, now));
    assert_eq!(seqs(&mut outbox, input(), now), [0, 1, 2, 3]);
    outbox.disconnected();
    type_key(&mut outbox, now);
    outbox.connected(ME, &has(input(), 3), now);
    assert_eq!(seqs(&mut outbox, input(), now), [3, 4]);
    // What the relay had may still be lost on its far side.
    outbox.reopen(input(), now);
    assert_eq!(seqs(&mut outbox, input(), now), [0, 1, 2, 3, 4]);
}

#[test]
fn a_screen_goes_on_where_the_relay_lost_it_or_begins_anew() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let lengths: Vec<u64> = (0..4).map(|_| update(&mut outbox, 100, now).lane_bytes).collect();
    assert_eq!(seqs(&mut outbox, screen(), now), [0, 1, 2, 3]);
    let applied = Some(Point { rendition: Rendition::LIVE, segment: 0, seq: 1 }.into());
    let feedback = Feedback { relayed_bytes: lengths[1], applied, subscriber: 1, ..Feedback::default() };
    outbox.feedback(&feedback, now);
    outbox.disconnected();
    assert_eq!(
        outbox.send(screen(), Outgoing::screen(0, ScreenKind::Update, &[]), now),
        Err(SendError::Offline)
    );
    assert_eq!(outbox.connected(ME, &has(screen(), 3), now).restart, []);
    assert_eq!(seqs(&mut outbox, screen(), now), [3]);
    // Number 2 had arrived there, but nobody is known to show it.
    outbox.disconnected();
    assert_eq!(outbox.connected(ME, &has(screen(), 2), now).restart, []);
    assert_eq!(seqs(&mut outbox, screen(), now), [2, 3]);
    for received in [&has(screen(), 1)[..], &[]] {
        outbox.disconnected();
        assert_eq!(outbox.connected(ME, received, now).restart, [screen()]);
        assert_eq!(seqs(&mut outbox, screen(), now), [0; 0]);
        // What was encoded before that was heard would be of no use, and again on the next connection.
        let late = Outgoing::screen(0, ScreenKind::Update, &[]);
        assert_eq!(outbox.send(screen(), late, now), Err(SendError::Offline));
        outbox.disconnected();
        assert_eq!(outbox.connected(ME, &has(screen(), 4), now).restart, [screen()]);
        // Numbers go on, whatever was lost.
        let start = Outgoing::screen(1, ScreenKind::Start { from: None }, &[]);
        let seq = outbox.send(screen(), start, now).unwrap().seq;
        assert_eq!((seqs(&mut outbox, screen(), now), update(&mut outbox, 1, now).seq), (vec![seq], seq + 1));
        assert_eq!(seqs(&mut outbox, screen(), now), [seq + 1]);
    }
}

/// What a relay that knows nothing of our screen is told: the update after which all can be sent again, and the next number.
fn keeps(outbox: &Outbox) -> Option<(u32, u64, u64)> {
    let keeps = outbox.keeps();
    let one = keeps.first()?;
    let after = one.after.as_ref().unwrap();
    Some((after.segment, after.seq, one.next_seq))
}

#[test]
fn what_is_not_shown_is_kept_for_a_relay_that_knows_nothing() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let mut lengths = Vec::new();
    for _ in 0..2 {
        lengths.push(update(&mut outbox, 100, now).lane_bytes);
    }
    // One in three parts: numbers 2 to 4.
    lengths.push(update(&mut outbox, 2 * limits::BODY_MAX + 1, now).lane_bytes);
    assert_eq!(seqs(&mut outbox, screen(), now), [0, 1, 2, 3, 4]);
    assert_eq!(keeps(&outbox), None, "it would have to begin from black");
    let shown = |seq| Some(Point { rendition: Rendition::LIVE, segment: 0, seq }.into());
    let feedback = |at: usize, seq| Feedback {
        relayed_bytes: lengths[at],
        applied: shown(seq),
        subscriber: 2,
        ..Feedback::default()
    };
    outbox.feedback(&feedback(2, 0), now);
    assert_eq!(keeps(&outbox), Some((0, 0, 5)));
    outbox.feedback(&feedback(2, 3), now);
    assert_eq!(keeps(&outbox), Some((0, 1, 5)), "bodies are kept whole");
    outbox.disconnected();
    // The new relay goes on from there.
    assert_eq!(outbox.connected(ME, &has(screen(), 2), now), Resumed::default());
    assert_eq!(seqs(&mut outbox, screen(), now), [2, 3, 4]);
    outbox.disconnected();
    assert_eq!(keeps(&outbox), Some((0, 1, 5)), "and so would the next");
    outbox.connected(ME, &has(screen(), 2), now);
    assert_eq!(seqs(&mut outbox, screen(), now), [2, 3, 4]);
    let lane = lengths[2] - lengths[1];
    let relayed = Feedback { relayed_bytes: lane, applied: shown(1), subscriber: 2, ..Feedback::default() };
    outbox.feedback(&relayed, now + UNSHOWN_MAX / 2);
    assert_eq!(keeps(&outbox), Some((0, 1, 5)));
    outbox.feedback(&relayed, now + UNSHOWN_MAX);
    assert_eq!(keeps(&outbox), Some((0, 4, 5)), "who is so far behind is given a key");
    // Nothing is to be sent again: the screen is at rest.
    outbox.disconnected();
    assert_eq!(outbox.connected(ME, &has(screen(), 5), now), Resumed::default());
    assert_eq!(update(&mut outbox, 10, now).seq, 5);
}

#[test]
fn a_start_may_leave_a_number_out_and_a_resume_knows_it() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let start = |from| Outgoing::screen(1, ScreenKind::Start { from }, &[1]);
    assert_eq!(outbox.send(screen(), start(None).skipping(true), now).unwrap().seq, 0, "the first of all");
    update(&mut outbox, 10, now);
    let from = Point { rendition: Rendition::LIVE, segment: 0, seq: 1 };
    let sent = outbox.send(screen(), start(Some(from)).skipping(true), now).unwrap();
    assert_eq!(sent.seq, 3);
    assert_eq!(update(&mut outbox, 10, now).seq, 4);
    assert_eq!(seqs(&mut outbox, screen(), now), [0, 1, 3, 4]);
    outbox.disconnected();
    // All before the gap has arrived: number 2 never was.
    assert_eq!(outbox.connected(ME, &has(screen(), 2), now).restart, []);
    assert_eq!(seqs(&mut outbox, screen(), now), [3, 4]);
}

#[test]
fn a_slot_replaces_what_waits_and_goes_again_on_the_next_connection() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let cursor = LaneKey::plain(LaneKind::Cursor, ME);
    for n in 0..5 {
        outbox.send(cursor, Outgoing::latest(types::CURSOR_POSITION, &[n]), now).unwrap();
    }
    outbox.send(cursor, Outgoing::latest(types::CURSOR_SHAPE, &[9]), now).unwrap();
    assert_eq!(seqs(&mut outbox, cursor, now), [4, 5]);
    outbox.disconnected();
    outbox.send(cursor, Outgoing::latest(types::CURSOR_POSITION, &[6]), now).unwrap();
    outbox.connected(ME, &[], now);
    assert_eq!(seqs(&mut outbox, cursor, now), [5, 6]);
}

#[test]
fn a_large_body_is_split_and_a_large_backlog_refused() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let sent = update(&mut outbox, 2 * limits::BODY_MAX + 1, now);
    assert_eq!(sent.seq, 2);
    let parts: Vec<Record> = std::iter::from_fn(|| outbox.next(screen(), now))
        .map(|bytes| parse(LaneKind::Screen, &bytes))
        .collect();
    let more: Vec<bool> = parts.iter().map(|part| part.header.flags.contains(Flags::MORE)).collect();
    assert_eq!(more, [true, true, false]);
    assert_eq!(parts[2].body().len(), 1);
    let big = vec![0; 4000];
    let full = (0..1000).find_map(|_| outbox.send(input(), Outgoing::message(types::TEXT, &big), now).err());
    assert_eq!(full, Some(SendError::Full));
    let over = vec![0; 5000];
    let result = outbox.send(input(), Outgoing::message(types::TEXT, &over), now);
    assert_eq!(result, Err(SendError::TooLarge(5000)));
}

fn budget(outbox: &mut Outbox, key: LaneKey, own: &State, now: Instant) -> usize {
    match outbox.pace(key, own, now) {
        Pace::Send(bytes) => bytes,
        Pace::Wait(_) => 0,
    }
}

#[test]
fn nothing_is_encoded_for_a_queue_at_our_own_end_and_live_comes_first() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let reduced = LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::REDUCED, ME);
    let at_rest = State { rate: 1e6, window: 50_000, in_flight: 40_000, ..State::default() };
    assert!(budget(&mut outbox, screen(), &at_rest, now) > 10_000);
    assert!(budget(&mut outbox, reduced, &at_rest, now) > 5_000);
    let some = State { in_flight: 50_000, unsent: 15_000, ..at_rest };
    let live = budget(&mut outbox, screen(), &some, now);
    assert!(live > 10_000, "{live}");
    assert!(budget(&mut outbox, reduced, &some, now) > 0, "nothing had its turn yet");
    let sent = outbox.send(reduced, Outgoing::screen(0, ScreenKind::Update, &[0; 2000]), now).unwrap();
    assert!(outbox.next(reduced, now).is_some());
    assert_eq!(budget(&mut outbox, reduced, &some, now), 0);
    let turn = Duration::from_secs_f64(sent.lane_bytes as f64 / 1e5);
    assert!(budget(&mut outbox, reduced, &some, now + turn) > 0, "a tenth is always there");
    let much = State { unsent: 40_000, ..some };
    assert_eq!(budget(&mut outbox, screen(), &much, now), 0);
    // What live has waiting counts for reduced too.
    outbox.send(screen(), Outgoing::screen(0, ScreenKind::Update, &[0; 30_000]), now).unwrap();
    assert_eq!(budget(&mut outbox, reduced, &at_rest, now), 0);
    assert_eq!(budget(&mut outbox, screen(), &at_rest, now), 0);
}

#[test]
fn a_full_lane_has_room_again_when_half_of_it_is_gone() {
    let now = Instant::now();
    let mut outbox = joined(now);
    let file = LaneKey::plain(LaneKind::File, ME);
    let body = vec![0; 100_000];
    while outbox.send(file, Outgoing::message(1, &body), now).is_ok() {}
    let full = outbox.lanes[&file].waiting_bytes;
    assert!(full > waiting_max(LaneKind::File) - 200_000 && !outbox.has_room(file));
    while !outbox.has_room(file) {
        assert!(outbox.next(file, now).is_some());
    }
    assert!(outbox.lanes[&file].waiting_bytes > full / 3);
    outbox.disconnected();
    assert!(!outbox.has_room(file), "without a connection it waits");
}
