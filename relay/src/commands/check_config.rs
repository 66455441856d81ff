//! `check-config`: whether a relay would start with this configuration.

use std::process::ExitCode;

use clap::Args;

use super::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
}

impl CheckConfig {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.of_installed();
        settings.resolve()?;
        println!("{}: works", settings.file_name());
        Ok(ExitCode::SUCCESS)
    }
}
