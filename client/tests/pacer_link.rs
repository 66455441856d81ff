//! The pacer between two simulated connections: the narrower one is kept busy, and nothing grows old on the way.

mod sim;

use std::time::Duration;

use sim::{Run, SECOND, Shape, beside, ms, shape};

const RATES: [f64; 4] = [1.0, 5.0, 20.0, 100.0];
const DELAYS: [u64; 3] = [10, 50, 100];

/// The link, and who is behind it.
fn sides(link: Shape) -> [(&'static str, Shape, Shape); 3] {
    [("technician", beside(), link), ("customer", link, beside()), ("both", link, link)]
}

/// Every rate, delay and buffer.
fn links() -> impl Iterator<Item = (f64, u64, u64)> {
    RATES.into_iter().flat_map(|mbit| {
        DELAYS.into_iter().flat_map(move |one_way| [50, 500].map(|buffer| (mbit, one_way, buffer)))
    })
}

#[test]
fn the_path_is_used_and_nothing_grows_old_on_it() {
    let mut misses = Vec::new();
    for (mbit, one_way, buffer) in links() {
        for (side, up, down) in sides(shape(mbit, one_way, buffer)) {
            let mut run = Run::new(up, down, 1);
            let start = run.run(6 * SECOND);
            let used = run.run(12 * SECOND);
            let (waits, age) = (run.waited(0.95), run.age_p99());
            let bound = run.one_way() + ms(if mbit < 5.0 { 1000 } else { 300 });
            println!(
                "{side:10} {mbit} Mbit/s {one_way} ms, buffer {buffer} ms: used {used:.3} (at first {start:.3}), \
                 relay {waits:?} (p95), age {age:?} (p99) of {bound:?}"
            );
            // Two links in a row that can hold but a few packets take longer to be found out.
            let tight = side == "both" && mbit < 20.0 && buffer < 100;
            if used < 0.8 || (age > bound && !tight) {
                misses.push((side, mbit, one_way, buffer, used, age));
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn a_session_that_begins_overruns_no_buffer() {
    let mut misses = Vec::new();
    for (mbit, one_way, buffer) in links() {
        for (side, up, down) in sides(shape(mbit, one_way, buffer)) {
            let mut run = Run::new(up, down, 1);
            run.greet();
            let (began, greeted) = (run.now, run.sent);
            while run.received() < greeted + sim::PICTURE {
                run.step();
            }
            let first = run.now - began;
            run.run(SECOND);
            let drops = run.up.dropped + run.down[0].dropped;
            run.run(20 * SECOND);
            let age = run.age_p99();
            let bound = run.one_way() + ms(if mbit < 5.0 { 1000 } else { 300 });
            println!(
                "{side:10} {mbit} Mbit/s {one_way} ms, buffer {buffer} ms: first {first:?}, {drops} lost, age {age:?} (p99) of {bound:?}"
            );
            // A buffer of five packets has no room for the first six; two of them in a row take longer to be found out.
            let tiny = mbit < 5.0 && buffer < 100;
            let tight = tiny && side == "both";
            if (age > bound && !tight) || (drops > 0 && !tiny) {
                misses.push((side, mbit, one_way, buffer, age, drops));
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
            for (side, up, down) in sides(Shape { loss: 0.01, ..shape(mbit, one_way, 500) }) {
                let mut run = Run::new(up, down, 7);
                run.run(6 * SECOND);
                let used = run.run(12 * SECOND);
                let age = run.age_p99();
                // What a transfer that is always waiting gets over the same connections.
                let mut bulk = Run::new(up, down, 7);
                bulk.offers = false;
                bulk.send((bulk.rate() * 20.0) as u64);
                bulk.run(6 * SECOND);
                let reference = bulk.run(12 * SECOND);
                println!(
                    "{side:10} {mbit} Mbit/s {one_way} ms: used {used:.3} of {reference:.3}, age {age:?}"
                );
                // What waits for a lost packet on the first path comes to the second all at once.
                if used < if side == "both" { 0.8 } else { 0.9 } * reference {
                    misses.push((side, mbit, one_way, used, reference));
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn a_file_that_goes_beside_it_leaves_the_screen_its_part() {
    let mut misses = Vec::new();
    for mbit in RATES {
        for one_way in DELAYS {
            for (side, up, down) in sides(shape(mbit, one_way, 500)) {
                let mut run = Run::new(up, down, 3);
                // The file comes first, and fills what there is.
                run.offers = false;
                (run.up.bulk, run.down[0].bulk) = (side != "technician", side != "customer");
                run.run(3 * SECOND);
                run.offers = true;
                run.run(4 * SECOND);
                let used = run.run(12 * SECOND);
                let age = run.age_p99();
                let bound = run.one_way() + ms(if mbit < 5.0 { 1100 } else { 330 });
                println!("{side:10} {mbit} Mbit/s {one_way} ms: used {used:.3}, age {age:?} of {bound:?}");
                if used < 0.72 || age > bound {
                    misses.push((side, mbit, one_way, used, age));
                }
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn a_page_after_a_pause_goes_at_once_and_in_no_burst() {
    for mbit in [5.0, 20.0, 100.0] {
        for one_way in DELAYS {
            for (side, up, down) in sides(shape(mbit, one_way, 50)) {
                let mut run = Run::new(up, down, 1);
                run.run(8 * SECOND);
                for pause in [1, 9, 60] {
                    run.offers = false;
                    run.run(pause * SECOND);
                    run.offers = true;
                    let drops = run.up.dropped + run.down[0].dropped;
                    run.run(run.one_way());
                    let time = ms(250);
                    let used = run.run(time);
                    println!("{side} {mbit} Mbit/s {one_way} ms, after {pause} s: {used:.2} of 250 ms");
                    assert!(used >= 0.5, "{used}");
                    assert_eq!(run.up.dropped + run.down[0].dropped, drops, "no burst");
                }
            }
        }
    }
}

#[test]
fn after_a_black_out_a_whole_new_picture_comes_soon() {
    for mbit in RATES {
        for one_way in DELAYS {
            for (side, up, down) in sides(shape(mbit, one_way, 500)) {
                let mut run = Run::new(up, down, 3);
                run.run(8 * SECOND);
                let dark = |run: &mut Run, dark| {
                    run.up.dark = dark && side != "technician";
                    run.down[0].dark = dark && side != "customer";
                };
                dark(&mut run, true);
                run.run(2 * SECOND);
                dark(&mut run, false);
                let (end, sent) = (run.now, run.sent);
                while run.received() < sent + sim::PICTURE {
                    run.step();
                    assert!(run.now < end + 10 * SECOND, "it never comes");
                }
                let took = run.now - end;
                let picture = Duration::from_secs_f64(sim::PICTURE as f64 / run.rate());
                println!("{side} {mbit} Mbit/s {one_way} ms: {took:?}, a picture takes {picture:?}");
                // Behind two dark links each end finds out by itself.
                let more = if side == "both" { SECOND } else { Duration::ZERO };
                assert!(took <= SECOND + 2 * run.one_way() + more, "{took:?}");
            }
        }
    }
}
