//! What sessions feel when their relay is killed under load and started again: how soon it listens, whether a session or input is
//! lost, and how late what comes after is.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::kept::Cores;
use super::network::Network;
use super::report::Line;
use super::systems::{Programs, Stage, System};
use super::workload::Workload;
use crate::report::rounded;

/// How long pairing may take, and between two looks whether it is done.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
/// When the relay is killed: this part of what is measured has passed.
const AFTER: f64 = 0.3;

/// One run.
pub(super) fn measure(
    cores: Cores,
    programs: &Programs,
    system: System,
    sessions: u32,
    number: u32,
    time: Duration,
) -> anyhow::Result<Line> {
    let network = Network::Loopback;
    let stage = Stage::new(&network, cores, programs)?;
    let began = Instant::now();
    let mut started = stage.start(system)?;
    let first_ready = began.elapsed();
    started.settings["restarts"] = json!(true);
    let begun = stage.files.path().join("begun");
    let shape = Workload::Restart.shape(sessions);
    let mut job = started.job(shape, time);
    // What it costs is not the question, and it is another process afterwards.
    (job.relay, job.begun) = (None, Some(begun.clone()));
    let load = stage.load(&started.load, &job)?;
    let waits = Instant::now();
    while !begun.exists() {
        anyhow::ensure!(!load.has_ended(), "the load ended before the sessions began");
        anyhow::ensure!(waits.elapsed() < PATIENCE, "the sessions do not begin");
        thread::sleep(LOOK);
    }
    thread::sleep(time.mul_f64(AFTER));
    started.relay.take().context("no relay")?.kill()?;
    let killed = Instant::now();
    let again = stage.start_tandem(Stage::address_of(&started.near)?)?;
    let ready = killed.elapsed();
    let outcome = load.outcome(system)?;
    drop(again);
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3, 1e1);
    Ok(Line::new(system, Workload::Restart, number, &shape, &outcome).with(json!({
        "start_to_ready_ms": ms(first_ready),
        "restart_to_ready_ms": ms(ready),
        "inputs": outcome.inputs,
        "inputs_given_up": outcome.inputs_given_up,
    })))
}
