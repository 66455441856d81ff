//! A program that drives one system: a job in, what came of it out.

use std::io;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::job::Job;
use crate::system::System;

/// Reads a job from the standard input, does it, and prints what came of it as one line.
///
/// # Errors
/// If there is no job, or [`crate::drive`] fails.
pub fn main<S: System>(make: impl FnOnce(&Job) -> anyhow::Result<S>) -> anyhow::Result<()> {
    raise_descriptors();
    let job: Job = serde_json::from_reader(io::stdin()).context("no job on the standard input")?;
    // One thread: what it can do is what one core can.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let system = make(&job)?;
        crate::drive(system, &job).await
    })?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Allows as many descriptors as the system lets us; what that is too little for says so itself.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
