//! `serve`: the daemon, from its arguments to its end.

mod log;
mod service;
mod signals;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tandem_relay::config::Config;
use tandem_relay::server::Server;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::settings::Settings;
use crate::desk;

#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Try out: loopback only, a certificate made here, plain HTTP for the browser, a first session and its code.
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    log: log::Log,
    /// Print what --dev tells as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.log.start()?;
        let mut overrides = self.settings.overrides(self.dev);
        if self.dev && overrides.operations.is_none() {
            // Several may be tried out beside one another.
            overrides.operations = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        }
        let config = Config::resolve(self.settings.file()?, overrides)?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
        runtime.block_on(serve(config, self.dev, self.json))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn serve(config: Config, dev: bool, json: bool) -> anyhow::Result<()> {
    let plain_http = dev;
    let state = config.state.clone();
    let (parts, desk) = desk::build(&config, plain_http)?;
    let server = Server::bind(config, parts).await?;
    if let Some(desk) = &desk {
        desk.connect(server.relay());
    }
    let address = server.address()?;
    let operations = server.operations_address();
    info!(%address, operations = operations.map(|address| address.to_string()), "listening");
    desk::leave_sign_in_link(desk.as_deref(), &state)?;
    if dev {
        desk::announce(desk.as_deref(), address, operations, server.fingerprint(), json)?;
    }
    let stop = CancellationToken::new();
    let signals = signals::watch(server.certificates().clone(), stop.clone())?;
    let watchdog = tokio::spawn(service::watchdog(server.relay().clone()));
    service::ready();
    server.run(stop).await;
    watchdog.abort();
    signals.abort();
    Ok(())
}
