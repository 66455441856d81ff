//! The pacer over simulated links: it keeps them busy, and nothing grows old in them.

mod sim;

use std::time::Duration;

use sim::{Faults, Run, SECOND, Transport};

const RATES: [f64; 4] = [1.0, 5.0, 20.0, 100.0];
const DELAYS: [u64; 3] = [10, 50, 100];

#[test]
fn the_path_is_used_and_nothing_grows_old_in_it() {
    let mut misses = Vec::new();
    for mbit in RATES {
        for one_way in DELAYS {
            for buffer in [50, 500] {
                let mut run = Run::new(mbit, one_way, buffer);
                let start = run.run(2 * SECOND + 10 * Duration::from_millis(2 * one_way));
                let early = run.path.overflows;
                let used = run.run(20 * SECOND);
                let (p95, age) = (run.delay(0.95), run.age_p99());
                let bound = run.path.one_way + Duration::from_millis(if mbit < 5.0 { 1000 } else { 300 });
                println!(
                    "{mbit} Mbit/s {one_way} ms, buffer {buffer} ms: used {used:.3} (at first {start:.3}), waited {p95:?} (p95), \
                     age {age:?} (p99), overflows {early} + {}",
                    run.path.overflows - early
                );
                if used < 0.8 || age > bound || p95 > Duration::from_millis(100) {
                    misses.push((mbit, one_way, buffer, used, p95, age));
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn random_loss_costs_little() {
    let mut misses = Vec::new();
    for mbit in RATES {
        for one_way in DELAYS {
            for transport in [Transport::Tcp, Transport::Quic] {
                let bounded = Some(Duration::from_millis(5));
                let faults = Faults { loss: 0.01, transport, bounded, ..Faults::default() };
                let mut run = Run::with(mbit, one_way, 500, faults, 7);
                run.run(4 * SECOND);
                let used = run.run(20 * SECOND);
                let age = run.age_p99();
                // What a transfer that is always waiting gets over the same transport.
                let mut bulk = Run::with(mbit, one_way, 500, faults, 7);
                bulk.offers = false;
                bulk.path.offer(0, (bulk.path.rate * 30.0) as u64);
                bulk.run(4 * SECOND);
                let reference = bulk.run(20 * SECOND);
                println!(
                    "{mbit} Mbit/s {one_way} ms {transport:?}: used {used:.3} of {reference:.3}, age {age:?}"
                );
                // With hundreds of losses a second something always waits for one.
                let most = if mbit < 50.0 { 0.9 } else { 0.78 };
                if used < most * reference {
                    misses.push((mbit, one_way, transport, used, reference));
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}
