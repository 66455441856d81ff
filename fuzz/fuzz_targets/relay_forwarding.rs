//! Any bytes as what happens in a session with a screen: people come, read at any speed, lose step and go; the publisher
//! encodes, forks, merges, restarts. The models of the relay's own test say what must hold.
#![no_main]

#[allow(dead_code, reason = "the relay's own scenarios use more of it")]
#[path = "../../relay/tests/forwarding/model.rs"]
mod model;
#[allow(dead_code, reason = "as above")]
#[path = "../../relay/tests/forwarding/publisher.rs"]
mod publisher;
#[path = "../../relay/tests/forwarding/subscriber.rs"]
mod subscriber;

use libfuzzer_sys::fuzz_target;
use model::Model;

/// Enough for everything to happen a few times; the bound keeps one input fast.
const STEPS_MAX: usize = 500;

fuzz_target!(|data: &[u8]| {
    let [how, rest @ ..] = data else { return };
    let (steps, _) = rest.as_chunks::<2>();
    Model::new(how & 1 == 1, how & 2 == 2).run(&steps[..steps.len().min(STEPS_MAX)]);
});
