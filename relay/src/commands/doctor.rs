//! `doctor`: whether this machine has what a relay needs.

use std::process::ExitCode;

use clap::Args;
use tandem_relay::doctor::{self, Verdict};

use super::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// Findings as a JSON array.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Exit code 1 if something is so bad that a relay would not serve; warnings are none.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.of_installed();
        let config = settings.resolve()?;
        let findings = doctor::examine(&config);
        if self.json {
            println!("{}", serde_json::to_string(&findings)?);
        } else {
            println!("{}", settings.file_name());
            findings.iter().for_each(|finding| println!("{finding}"));
        }
        Ok(if doctor::worst(&findings) == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
