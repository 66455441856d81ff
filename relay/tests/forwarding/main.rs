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
        steps in prop::collection::vec(any::<[u8; 2]>(), 0..400),
    ) {
        Model::new(knows_renditions).run(&steps);
    }
}

/// Time passes with everybody reading, but for one subscriber that reads a record now and then: it goes over to
/// reduced, and comes back when it reads again.
#[test]
fn a_slow_subscriber_is_forked_and_comes_back_without_a_key() {
    let mut model = Model::new(true);
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
    let mut model = Model::new(true);
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

/// Sixteen subscribers cost the publisher as much as one.
#[test]
fn many_subscribers_are_served_from_one_upload() {
    let mut model = Model::new(true);
    for _ in 0..16 {
        model.join();
    }
    for _ in 0..20 {
        model.paint();
        model.publish();
        model.settle();
        model.pass(20);
    }
    let forwarded = model.metric("tandem_relay_forwarded_bytes_total{lane=\"screen\"}");
    let received = model.metric("tandem_relay_received_bytes_total{lane=\"screen\"}");
    assert_eq!(forwarded, 16 * received);
    model.rest();
}

/// Who sees a display and takes nothing of it for 15 s is closed; the others notice nothing, and it comes back with its
/// ticket.
#[test]
fn who_takes_nothing_is_closed_after_fifteen_seconds_and_may_resume() {
    let mut model = Model::new(true);
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
