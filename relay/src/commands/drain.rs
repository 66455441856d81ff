//! `drain`: takes a running relay out of service.

use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

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
}

impl Drain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let relay = Relay::of(&self.settings.of_installed())?;
        ask::block_on(async {
            let answer = relay.ask(Method::POST, "/drain").await?;
            println!("{}", String::from_utf8_lossy(&answer).trim());
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
