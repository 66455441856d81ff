//! `check-config`: whether a relay would start with this configuration.

use std::process::ExitCode;

use clap::Args;
use tandem_relay::config::{ConfigError, Tls};
use tandem_relay::tls::Certificates;

use super::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
}

impl CheckConfig {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.of_installed();
        let config = settings.resolve()?;
        if let Tls::Files { certificate, .. } = &config.tls {
            Certificates::load(config.tls.clone(), config.listen.ip()).map_err(|error| {
                ConfigError::Value {
                    key: "tls.certificate",
                    value: certificate.display().to_string(),
                    reason: format!("{error:#}"),
                }
            })?;
        }
        println!("{}: works", settings.file_name());
        Ok(ExitCode::SUCCESS)
    }
}
