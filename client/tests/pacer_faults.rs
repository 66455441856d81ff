//! The pacer when things change under it: a link's rate and length, who paces, and how soon it hears.

mod sim;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sim::{Run, SECOND, Shape, beside, ms, shape};

const DELAYS: [u64; 3] = [10, 50, 100];

/// The same change for whoever is behind a link.
fn both_sides(link: Shape) -> [(&'static str, Run); 2] {
    [("technician", Run::new(beside(), link, 1)), ("customer", Run::new(link, beside(), 1))]
}

fn link<'a>(run: &'a mut Run, side: &str) -> &'a mut Shape {
    if side == "customer" { &mut run.up.shape } else { &mut run.down[0].shape }
}

#[test]
fn a_path_that_becomes_ten_times_slower_is_noticed() {
    for mbit in [5.0, 20.0, 100.0] {
        for one_way in DELAYS {
            for (side, mut run) in both_sides(shape(mbit, one_way, 500)) {
                run.run(6 * SECOND);
                link(&mut run, side).mbit /= 10.0;
                link(&mut run, side).buffer *= 10;
                // What is under way must leave at the new rate; that takes as long as it takes.
                run.run(8 * SECOND);
                let used = run.run(5 * SECOND);
                let (waits, age) = (run.waited(0.95), run.age_p99());
                println!("{side} {mbit} / 10, {one_way} ms: used {used:.3}, waited {waits:?}, age {age:?}");
                assert!(used >= 0.8, "{used:.3} used");
                let picture = Duration::from_secs_f64(sim::PICTURE as f64 / run.rate());
                assert!(age <= run.one_way() + picture + ms(700), "{age:?}");
            }
        }
    }
}

#[test]
fn a_path_that_becomes_ten_times_faster_is_used_within_seconds() {
    for mbit in [0.5, 2.0, 10.0] {
        for one_way in DELAYS {
            for (side, mut run) in both_sides(shape(mbit, one_way, 500)) {
                run.run(6 * SECOND);
                link(&mut run, side).mbit *= 10.0;
                let at_first = run.run(6 * SECOND);
                let used = run.run(4 * SECOND);
                println!("{side} {mbit} × 10, {one_way} ms: used {at_first:.3}, then {used:.3}");
                assert!(used >= 0.8, "{used:.3} used");
            }
        }
    }
}

#[test]
fn a_path_that_becomes_longer_is_still_used() {
    for mbit in [2.0, 20.0] {
        for (side, mut run) in both_sides(shape(mbit, 10, 200)) {
            run.run(5 * SECOND);
            link(&mut run, side).one_way = ms(80);
            run.run(8 * SECOND);
            let used = run.run(4 * SECOND);
            println!("{side} {mbit} Mbit/s, 10 to 80 ms: used {used:.3}");
            assert!(used >= 0.75, "{used:.3} used");
        }
    }
}

#[test]
fn little_that_is_typed_now_and_then_goes_at_once() {
    for (side, mut run) in both_sides(shape(20.0, 20, 200)) {
        run.run(3 * SECOND);
        run.offers = false;
        run.run(SECOND);
        for _ in 0..300 {
            run.send(1500);
            run.run(ms(33));
            assert!(run.waited(1.0) < ms(5), "{side}: {:?}", run.waited(1.0));
        }
    }
}

#[test]
fn another_pacing_subscriber_is_followed_at_once() {
    for (fast, slow, one_way) in [(20.0, 5.0, [20, 60]), (50.0, 2.0, [50, 20]), (8.0, 6.0, [10, 10])] {
        let down = vec![shape(fast, one_way[0], 500), shape(slow, one_way[1], 500)];
        let mut run = Run::with(beside(), down, 1);
        run.run(5 * SECOND);
        // The slow one is far behind; nothing more is sent until it has nearly what there is.
        run.pacing = 1;
        let sent = run.sent;
        run.run(SECOND);
        let more = (run.sent - sent) as f64 / run.down[1].rate();
        assert!(more < 1.5, "{more:.2} s of the slow path's rate");
        let behind = run.down[1].waiting() as f64 / run.down[1].rate();
        run.run(Duration::from_secs_f64(behind) + SECOND);
        let after = run.run(3 * SECOND);
        assert!((0.8..1.1).contains(&after), "{after:.2} of the slow path's rate");
        // And back: what is known of the fast one's path is known at its sending end.
        run.pacing = 0;
        run.run(ms(200));
        let back = run.run(ms(500));
        println!("{fast} and {slow} Mbit/s: {after:.2} of the slow one, {back:.2} of the fast one again");
        assert!(back >= 0.8, "{back:.2} of the fast path's rate");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default() })]

    /// Whatever the two links, and however they change: the narrower is used, and next to nothing waits in the relay.
    #[test]
    fn any_two_links_are_used_and_not_flooded(
        up in 0.8f64..60.0,
        down in 0.8f64..60.0,
        one_way in 1u64..100,
        beyond in 1u64..100,
        buffer in 100u64..800,
        then in 0.3f64..4.0,
        late in 0u64..30,
        seed: u64,
    ) {
        let mut run = Run::new(shape(up, one_way, buffer), shape(down, beyond, buffer), seed >> 1);
        run.feedback_late = ms(late);
        run.run(4 * SECOND);
        run.up.shape.mbit *= then;
        run.down[0].shape.mbit /= then;
        let slowest = run.rate().min(100_000.0 * 1.25);
        run.run(8 * SECOND);
        let used = run.run(5 * SECOND);
        let waits = run.waited(0.95);
        // An update, a window of the least size.
        let least = Duration::from_secs_f64(3.0 * 4096.0 / slowest);
        prop_assert!(used >= 0.72, "{used:.3} used");
        prop_assert!(waits <= ms(120 + 2 * late) + Duration::from_millis(one_way) + least, "{waits:?} waited");
    }

    /// Random loss on either link: nearly all of what a bulk transfer gets.
    #[test]
    fn loss_costs_little(
        mbit in 0.8f64..30.0,
        one_way in 5u64..80,
        loss in 0.0f64..0.011,
        customer: bool,
        seed: u64,
    ) {
        let lossy = Shape { loss, ..shape(mbit, one_way, 500) };
        let (up, down) = if customer { (lossy, beside()) } else { (beside(), lossy) };
        let mut run = Run::new(up, down, seed >> 1);
        run.run(5 * SECOND);
        let used = run.run(10 * SECOND);
        let mut bulk = Run::new(up, down, seed >> 1);
        bulk.offers = false;
        bulk.send((bulk.rate() * 20.0) as u64);
        bulk.run(5 * SECOND);
        let reference = bulk.run(10 * SECOND);
        prop_assert!(used >= 0.8 * reference, "{used:.3} of {reference:.3}");
    }
}
