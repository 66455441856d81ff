//! The forwarding core against models of a publisher and of subscribers that know only docs/protocol.md: whatever
//! happens, in whatever order, every subscriber shows only pictures that were published, in order, and exactly the last one
//! once the source rests; no record of any is unaccounted for.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "the models are shared with a fuzz target, and fail by panicking"
)]

mod model;
mod publisher;
mod subscriber;

use model::Model;
use proptest::prelude::*;

proptest! {
    #[test]
    fn everybody_shows_what_was_published_in_order_and_the_last_picture_at_rest(
        knows_renditions in prop::bool::weighted(0.9),
        shows_past in any::<bool>(),
        steps in prop::collection::vec(any::<[u8; 2]>(), 0..400),
    ) {
        Model::new(knows_renditions, shows_past).run(&steps);
    }
}

/// Time passes with everybody reading, but for one subscriber that reads a record now and then: it goes over to
/// reduced, and comes back when it reads again.
#[test]
fn a_slow_subscriber_is_forked_and_comes_back_without_a_key() {
    let mut model = Model::new(true, true);
    let [_fast, slow] = [model.join(), model.join()];
    for round in 0..400 {
        model.paint();
        model.publish();
        model.settle_but(slow, round % 10 == 0);
        model.pass(50);
    }
    assert!(model.is_reduced(slow), "it could not keep up");
    assert!(model.metric("tandem_relay_forks_total") >= 1);
    model.rest();
    assert!(!model.is_reduced(slow));
    assert!(model.metric("tandem_relay_merges_total") >= 1);
    assert_eq!(model.metric("tandem_relay_keys_wanted_total"), 0);
}

/// Whoever comes back and falls behind again is forked again, although nobody has seen reduced meanwhile.
#[test]
fn who_falls_behind_again_is_forked_again() {
    let mut model = Model::new(true, true);
    let [_fast, slow] = [model.join(), model.join()];
    for forks in 1..=3 {
        for round in 0..400 {
            model.paint();
            model.publish();
            model.settle_but(slow, round % 10 == 0);
            model.pass(50);
        }
        assert_eq!(model.metric("tandem_relay_forks_total"), forks);
        model.rest();
        assert_eq!(model.metric("tandem_relay_merges_total"), forks);
    }
}

/// Who is so far behind that what waits would take far longer than a picture gets a key, and reduced from there.
#[test]
fn who_is_far_behind_goes_on_with_a_key() {
    let mut model = Model::new(true, true);
    let [_fast, slow] = [model.join(), model.join()];
    model.paint();
    model.publish();
    model.settle();
    model.pass(1500);
    // 200 kB/s for one who takes 20.
    let mut rounds = 0;
    while !model.is_reduced(slow) {
        model.paint();
        model.publish_sized([Some(10_000), Some(500)]);
        model.settle_but(slow, rounds % 10 == 0);
        model.pass(50);
        rounds += 1;
        assert!(rounds < 100, "still with live after 5 s");
    }
    assert_eq!(model.metric("tandem_relay_keys_wanted_total"), 1);
    model.rest();
}

/// Of two that could not keep up, the one whose path takes what live has become goes back; the other one stays.
#[test]
fn who_can_keep_up_again_does_not_wait_for_who_cannot() {
    let mut model = Model::new(true, true);
    let [fast, medium, slow] = [model.join(), model.join(), model.join()];
    for round in 0..1200 {
        // 100 kB/s for one who takes 40 and one who takes 5; then 10 kB/s, of which reduced has what the slowest takes.
        let (size, every) = if round < 600 { (5000, 1) } else { (1000, 2) };
        let reduced = (round % 20 == 0).then_some(1000);
        if round % every == 0 {
            model.paint();
            model.publish_sized([Some(size), reduced]);
        }
        model.settle_one(fast);
        if round % 5 < 2 || model.is_reduced(medium) {
            model.take_one(medium);
        }
        if round % 20 == 0 {
            model.take_one(slow);
        }
        model.pass(50);
        if round == 599 {
            assert!(model.is_reduced(medium) && model.is_reduced(slow));
        }
    }
    assert!(!model.is_reduced(medium), "its path takes four times what live has");
    assert!(model.is_reduced(slow), "its path takes half of what live has");
    model.rest();
}

/// Sixteen subscribers cost the publisher as much as one.
#[test]
fn many_subscribers_are_served_from_one_upload() {
    let mut model = Model::new(true, true);
    for _ in 0..16 {
        model.join();
    }
    for _ in 0..20 {
        model.paint();
        model.publish();
        model.settle();
        model.pass(20);
    }
    let forwarded = model.metric("tandem_relay_sent_bytes_total{lane=\"screen\",transport=\"quic\"}");
    let received = model.metric("tandem_relay_received_bytes_total{lane=\"screen\",transport=\"quic\"}");
    assert_eq!(forwarded, 16 * received);
    model.rest();
}

/// Who sees a display and takes nothing of it for 15 s is closed; the others notice nothing, and it comes back with its
/// ticket.
#[test]
fn who_takes_nothing_is_closed_after_fifteen_seconds_and_may_resume() {
    let mut model = Model::new(true, true);
    let [_fast, stuck] = [model.join(), model.join()];
    for round in 0..200 {
        model.paint();
        model.publish();
        model.settle_but(stuck, false);
        model.pass(100);
        if model.is_closed(stuck) {
            assert!(round >= 149, "closed after {round} rounds of 0.1 s");
            break;
        }
    }
    assert!(model.is_closed(stuck));
    assert_eq!(model.metric("tandem_relay_stalled_total{reason=\"screen\"}"), 1);
    model.rest();
}
