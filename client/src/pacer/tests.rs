//! The state machine step by step. Over simulated connections: `client/tests/pacer_*.rs`.

use super::*;

fn feedback(relayed_bytes: u64, queued_bytes: u64) -> Feedback {
    Feedback { relayed_bytes, queued_bytes, subscriber: 2, rate: 1_000_000, ..Feedback::default() }
}

/// Our own end takes anything.
fn own() -> Own {
    let path = State { rate: 1e9, pace: 1e9, window: 1 << 30, ..State::default() };
    Own { path, waiting: 0, ahead: Duration::from_millis(35), turn: false }
}

fn room(pacer: &mut Pacer, now: Instant) -> usize {
    match pacer.pace(&own(), now) {
        Pace::Send(bytes) => bytes,
        Pace::Wait(_) => 0,
    }
}

/// Sends all that may be sent now. How much that was.
fn fill(pacer: &mut Pacer, sent: &mut u64, now: Instant) -> u64 {
    let before = *sent;
    while let Pace::Send(bytes) = pacer.pace(&own(), now) {
        *sent += bytes as u64;
        pacer.on_sent(*sent, now);
    }
    *sent - before
}

#[test]
fn an_unknown_path_gets_the_initial_window_and_then_waits_for_news() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    assert_eq!(pacer.pace(&own(), start), Pace::Send(INITIAL));
    pacer.on_sent(INITIAL as u64, start);
    assert_eq!(pacer.pace(&own(), start), Pace::Wait(None));
}

#[test]
fn nobody_watching_means_no_encoding_at_all() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    pacer.on_sent(1000, start);
    pacer.on_feedback(&Feedback::default(), start);
    assert_eq!(pacer.pace(&own(), start + Duration::from_secs(100)), Pace::Wait(None));
    pacer.on_feedback(&feedback(1000, 0), start + Duration::from_secs(101));
    assert!(room(&mut pacer, start + Duration::from_secs(101)) > 0);
}

#[test]
fn the_window_is_what_leaves_until_there_is_news_and_what_may_wait() {
    let (mut pacer, mut now, mut sent) = (Pacer::default(), Instant::now(), 0);
    let mut in_window = 0;
    for _ in 0..50 {
        fill(&mut pacer, &mut sent, now);
        in_window = pacer.in_flight();
        // All of it is at the relay 40 ms later, and 30 KB wait there.
        now += Duration::from_millis(40);
        pacer.on_feedback(&feedback(sent, 30_000), now);
    }
    // 40 ms until there is news, as much between two, and 25 ms of 1 MB/s.
    assert!((95_000..120_000).contains(&in_window), "{in_window}");
}

#[test]
fn nothing_that_waits_makes_the_window_grow_if_it_was_too_small_and_only_then() {
    let (mut pacer, mut now, mut sent) = (Pacer::default(), Instant::now(), 0);
    let turn = |pacer: &mut Pacer, sent: &mut u64, now: &mut Instant, all: bool, queued: u64| {
        if all {
            fill(pacer, sent, *now);
        }
        *now += Duration::from_millis(200);
        pacer.on_feedback(&feedback(*sent, queued), *now);
    };
    for _ in 0..10 {
        turn(&mut pacer, &mut sent, &mut now, true, 40_000);
    }
    turn(&mut pacer, &mut sent, &mut now, false, 0);
    let known = pacer.window();
    for _ in 0..10 {
        turn(&mut pacer, &mut sent, &mut now, false, 0);
    }
    assert!(pacer.window() < 1.1 * known, "it was not used");
    for _ in 0..8 {
        turn(&mut pacer, &mut sent, &mut now, true, 0);
    }
    assert!(pacer.window() > 2.0 * known, "{} of {known}", pacer.window());
    turn(&mut pacer, &mut sent, &mut now, true, 90_000);
    assert!(pacer.window() < 1.5 * known, "something waits again: {} of {known}", pacer.window());
}

#[test]
fn a_path_of_which_the_relay_knows_nothing_is_found_out_by_what_waits() {
    let (mut pacer, mut now, mut sent, mut left) = (Pacer::default(), Instant::now(), 0, 0);
    let mut most_waited = 0;
    for round in 0..400 {
        fill(&mut pacer, &mut sent, now);
        now += Duration::from_millis(20);
        // 10 MB/s leave the relay.
        left = sent.min(left + 200_000);
        pacer.on_feedback(&Feedback { rate: 0, ..feedback(sent, sent - left) }, now);
        most_waited = if round < 100 { 0 } else { most_waited.max(sent - left) };
    }
    let rate = left as f64 / 8.0;
    assert!(rate > 5e6, "{rate}");
    assert!(most_waited < 4_000_000, "{most_waited}");
}

#[test]
fn a_lane_that_gets_less_than_the_path_takes_is_given_less() {
    let (mut pacer, mut now, mut sent, mut left) = (Pacer::default(), Instant::now(), 0, 0);
    for _ in 0..100 {
        fill(&mut pacer, &mut sent, now);
        now += Duration::from_millis(20);
        // Another lane takes three quarters.
        left = sent.min(left + 5000);
        pacer.on_feedback(&feedback(sent, sent - left), now);
    }
    assert!((200_000.0..330_000.0).contains(&pacer.rate()), "{}", pacer.rate());
}

#[test]
fn nothing_is_encoded_for_a_queue_at_our_own_end() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    pacer.on_sent(1000, start);
    pacer.on_feedback(&feedback(1000, 0), start + Duration::from_millis(20));
    let now = start + Duration::from_millis(30);
    let path = State { rate: 1e5, window: 5000, in_flight: 4000, ..State::default() };
    let ahead = Duration::from_millis(40);
    let mut pace = |path: State, waiting, turn| pacer.pace(&Own { path, waiting, ahead, turn }, now);
    assert_eq!(pace(path, 0, false), Pace::Send(4000), "what 40 ms take");
    assert_eq!(pace(path, 1500, false), Pace::Send(2500));
    assert!(matches!(pace(path, 3000, false), Pace::Wait(Some(at)) if at > now && at <= now + LOOK_MAX));
    let full = State { in_flight: 6000, unsent: 2000, ..path };
    assert!(matches!(pace(full, 0, false), Pace::Wait(Some(_))), "it waits in the transport");
    assert_eq!(pace(full, 0, true), Pace::Send(LEAST as usize), "but a turn is a turn");
}

#[test]
fn nonsense_does_no_harm() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    pacer.on_sent(1000, start);
    let later = start + Duration::from_millis(20);
    for nonsense in
        [feedback(u64::MAX, 0), feedback(u64::MAX, u64::MAX), feedback(3, 5), feedback(0, u64::MAX)]
    {
        pacer.on_feedback(&Feedback { rate: u64::MAX, ..nonsense }, later);
        assert!(pacer.in_flight() <= 1000);
    }
    pacer.on_feedback(&feedback(1000, 0), later);
    assert_eq!(pacer.in_flight(), 0);
    assert!(room(&mut pacer, later) > 0);
}
