//! The state machine step by step. Over simulated paths: `client/tests/pacer_*.rs`.

use super::*;

fn feedback(delivered_bytes: u64) -> Feedback {
    Feedback { delivered_bytes, subscriber: 2, ..Feedback::default() }
}

fn room(pacer: &mut Pacer, now: Instant) -> usize {
    match pacer.pace(now) {
        Pace::Send(bytes) => bytes,
        Pace::Wait(_) => 0,
    }
}

#[test]
fn an_unknown_path_gets_the_initial_window_and_then_waits_for_news() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    assert_eq!(pacer.pace(start), Pace::Send(INITIAL as usize));
    pacer.on_sent(INITIAL as u64, start);
    assert_eq!(pacer.pace(start), Pace::Wait(Some(start + SILENCE_MIN)));
}

#[test]
fn nobody_watching_means_no_encoding_at_all() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    pacer.on_sent(1000, start);
    pacer.on_feedback(&Feedback::default(), start);
    assert_eq!(pacer.pace(start + Duration::from_secs(100)), Pace::Wait(None));
    // Who comes then begins with an empty path.
    pacer.on_feedback(&feedback(1000), start + Duration::from_secs(101));
    assert_eq!(room(&mut pacer, start + Duration::from_secs(101)), INITIAL as usize);
}

#[test]
fn silence_stops_the_flow_but_not_for_ever() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    let mut sent = 0;
    for ms in 0..10_000 {
        let now = start + Duration::from_millis(ms);
        let bytes = room(&mut pacer, now) as u64;
        if bytes > 0 {
            sent += bytes;
            pacer.on_sent(sent, now);
        }
    }
    assert_eq!(sent, INITIAL as u64 + 3 * FLOOR as u64, "one small probe in three seconds");
}

#[test]
fn feedback_beyond_what_was_sent_and_repeated_feedback_do_no_harm() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    pacer.on_sent(1000, start);
    let later = start + Duration::from_millis(20);
    pacer.on_feedback(&feedback(u64::MAX), later);
    pacer.on_feedback(&feedback(u64::MAX), later);
    pacer.on_feedback(&feedback(3), later);
    assert_eq!(pacer.in_flight(), 0);
    assert_eq!(pacer.rtt_min(), Some(Duration::from_millis(20)));
}

#[test]
fn what_leaves_room_can_only_raise_the_rate() {
    let (mut pacer, start) = (Pacer::default(), Instant::now());
    let (mut now, mut sent) = (start, 0);
    for _ in 0..20 {
        sent += room(&mut pacer, now) as u64;
        pacer.on_sent(sent, now);
        now += Duration::from_millis(50);
        pacer.on_feedback(&feedback(sent), now);
    }
    let busy = pacer.rate();
    for _ in 0..500 {
        sent += 100;
        pacer.on_sent(sent, now);
        now += Duration::from_millis(50);
        pacer.on_feedback(&feedback(sent), now);
    }
    assert!(busy > 100_000.0 && pacer.rate() >= busy, "{busy} then {}", pacer.rate());
}
