//! The congestion control over a simulated link, with a sender that always has more to send.

#[path = "sim/hop.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod hop;

use std::time::{Duration, Instant};

use hop::{Hop, PACKET, SECOND, Shape, ms};
use proptest::prelude::*;

const TICK: Duration = Duration::from_micros(200);

/// A sender that always has more to send, and its link.
struct Run {
    hop: Hop,
    now: Instant,
    /// How long a byte would have waited in the link, at every step.
    waits: Vec<Duration>,
}

impl Run {
    fn new(shape: Shape, seed: u64) -> Self {
        let now = Instant::now();
        Self { hop: Hop::new(shape, seed, now), now, waits: Vec::new() }
    }

    /// Runs for some time; answers which part of the link's rate carried payload.
    fn run(&mut self, time: Duration) -> f64 {
        let (until, before) = (self.now + time, self.hop.received);
        self.waits.clear();
        while self.now < until {
            self.now += TICK;
            self.hop.offer(self.hop.taken + 1_000_000);
            self.hop.step(self.now);
            self.waits.push(self.hop.delay());
        }
        (self.hop.received - before) as f64 / (self.hop.rate() * time.as_secs_f64())
    }

    fn waited(&mut self, share: f64) -> Duration {
        self.waits.sort_unstable();
        self.waits[((self.waits.len() - 1) as f64 * share) as usize]
    }
}

#[test]
fn paths_are_used_and_nothing_waits_in_them() {
    let mut misses = Vec::new();
    for mbit in [1.0, 5.0, 20.0, 100.0] {
        for one_way in [10, 50, 100] {
            for buffer in [50, 500] {
                for loss in [0.0, 0.01] {
                    let shape = Shape { mbit, one_way: ms(one_way), buffer: ms(buffer), loss };
                    let mut run = Run::new(shape, 1);
                    let first = run.run(2 * SECOND);
                    let dropped = run.hop.dropped;
                    let most = run.waited(1.0);
                    let used = run.run(20 * SECOND);
                    let (p50, p99) = (run.waited(0.5), run.waited(0.99));
                    println!(
                        "{mbit:>3} Mbit/s {one_way:>3} ms {buffer:>3} ms {loss}: start {first:.2} waits {most:?} drops {dropped}; used {used:.3} waited {p50:?} {p99:?} drops {}",
                        run.hop.dropped - dropped
                    );
                    // On the slowest path a packet or two are all that may wait.
                    let most = if mbit < 2.0 { 50 } else { 25 };
                    if used < 0.78 || p99 > ms(most) {
                        misses.push((mbit, one_way, buffer, loss, used, p99));
                    }
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn a_slower_path_is_noticed_and_a_faster_one_found() {
    for one_way in [10, 50, 100] {
        let shape = Shape { mbit: 20.0, one_way: ms(one_way), buffer: ms(500), loss: 0.0 };
        let mut run = Run::new(shape, 1);
        run.run(5 * SECOND);
        run.hop.shape.mbit = 2.0;
        run.run(3 * SECOND);
        let (slow, waits) = (run.run(5 * SECOND), run.waited(0.99));
        run.hop.shape.mbit = 20.0;
        run.run(8 * SECOND);
        let (fast, again) = (run.run(5 * SECOND), run.waited(0.99));
        println!("{one_way} ms: slow {slow:.3} {waits:?}, fast {fast:.3} {again:?}");
        assert!(slow >= 0.8 && waits <= ms(25), "{one_way} ms: {slow} {waits:?}");
        assert!(fast >= 0.8 && again <= ms(25), "{one_way} ms: {fast} {again:?}");
    }
}

#[test]
fn a_black_out_ends_with_the_path() {
    for one_way in [10, 50, 100] {
        let shape = Shape { mbit: 5.0, one_way: ms(one_way), buffer: ms(500), loss: 0.0 };
        let mut run = Run::new(shape, 1);
        run.run(5 * SECOND);
        run.hop.dark = true;
        run.run(2 * SECOND);
        run.hop.dark = false;
        run.run(SECOND + ms(2 * one_way));
        let used = run.run(2 * SECOND);
        assert!(used > 0.6, "{one_way} ms: {used}");
    }
}

#[test]
fn a_round_trip_that_became_longer_is_believed() {
    let shape = Shape { mbit: 5.0, one_way: ms(30), buffer: ms(500), loss: 0.0 };
    let mut run = Run::new(shape, 1);
    run.run(5 * SECOND);
    run.hop.shape.one_way = ms(90);
    run.run(8 * SECOND);
    let used = run.run(5 * SECOND);
    assert!(used > 0.8, "{used}");
}

#[test]
fn a_first_train_that_was_held_up_does_not_keep_the_path_slow() {
    for one_way in [10, 50, 100] {
        let shape = Shape { mbit: 2.0, one_way: ms(one_way), buffer: ms(500), loss: 0.0 };
        let mut run = Run::new(shape, 1);
        run.run(ms(3 * one_way));
        run.hop.shape.mbit = 50.0;
        let (first, then) = (run.run(3 * SECOND), run.run(2 * SECOND));
        println!("{one_way} ms: {first:.3}, {then:.3}");
        assert!(first > 0.2 && then > 0.75, "{one_way} ms: {first} {then}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any path is used, and what waits in it stays short, whatever is lost and when.
    #[test]
    fn any_path_is_used_without_a_queue(
        kbit in 800u32..100_000,
        one_way in 5u64..100,
        buffer in 100u64..600,
        loss in 0.0f64..0.015,
        seed: u64,
    ) {
        let mbit = f64::from(kbit) / 1000.0;
        let shape = Shape { mbit, one_way: ms(one_way), buffer: ms(buffer), loss };
        let mut run = Run::new(shape, seed);
        run.run(4 * SECOND);
        let used = run.run(6 * SECOND);
        let waited = run.waited(0.95);
        let packets = Duration::from_secs_f64(4.0 * PACKET as f64 / run.hop.rate());
        prop_assert!(used > 0.7, "{used} used");
        prop_assert!(waited < ms(15) + packets, "{waited:?} waited");
    }
}
