//! `drain`: takes a running relay out of service.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use axum::http::Method;
use clap::Args;
use serde::Deserialize;

use super::ask::{self, Relay};
use super::settings::Settings;

/// How often it is looked whether the relay has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub(super) struct Drain {
    #[command(flatten)]
    settings: Settings,
    /// Wait until the relay has ended, for at most so many seconds; exit code 1 if it has not.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "120")]
    wait: Option<u64>,
    /// How long sessions may stay, instead of what the configuration says.
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
}

/// What the relay says to it.
#[derive(Debug, Deserialize)]
struct Answer {
    sessions: usize,
    connections: usize,
    /// The time that is left.
    deadline_ms: u64,
}

impl Drain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let relay = Relay::of(&self.settings.of_installed())?;
        ask::block_on(async {
            let deadline =
                self.deadline.map(|seconds| format!("?deadline_seconds={seconds}")).unwrap_or_default();
            let answer = relay.ask(Method::POST, &format!("/drain{deadline}")).await?;
            let answer: Answer =
                serde_json::from_slice(&answer).context("this is not how a relay of this version answers")?;
            let Answer { sessions, connections, deadline_ms } = answer;
            println!(
                "leaving service: {sessions} sessions, {connections} connections, for at most {} s more",
                deadline_ms.div_ceil(1000)
            );
            let Some(seconds) = self.wait else { return Ok(ExitCode::SUCCESS) };
            let ended = async {
                while !relay.is_gone().await {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            if tokio::time::timeout(Duration::from_secs(seconds), ended).await.is_err() {
                eprintln!("tandem-relay: the relay still runs after {seconds} s");
                return Ok(ExitCode::FAILURE);
            }
            println!("the relay has ended");
            Ok(ExitCode::SUCCESS)
        })
    }
}
