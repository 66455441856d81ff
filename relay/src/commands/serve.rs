//! `serve`: the daemon, from its arguments to its end.

mod log;
mod reload;
mod service;
mod signals;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tandem_relay::config::Config;
use tandem_relay::config::file::File;
use tandem_relay::server::Server;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::reload::Reload;
use self::service::Reporter;
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
        let file = self.settings.file()?;
        let config = Config::resolve(file.clone(), overrides)?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
        let plan = Plan { settings: self.settings, file, config, dev: self.dev, json: self.json };
        runtime.block_on(plan.serve())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is to be served, and what it was made from.
struct Plan {
    settings: Settings,
    file: File,
    config: Config,
    dev: bool,
    json: bool,
}

impl Plan {
    async fn serve(self) -> anyhow::Result<()> {
        let Self { settings, file, config, dev, json } = self;
        let plain_http = dev;
        let (state, tls) = (config.state.clone(), config.tls.clone());
        let (parts, desk) = desk::build(&config, plain_http)?;
        let server = Server::bind(config, parts).await?;
        if let Some(desk) = &desk {
            desk.connect(server.relay());
        }
        let address = server.address()?;
        let operations = server.operations_address();
        info!(%address, operations = operations.map(|address| address.to_string()), "listening");
        // Before anybody is told that it listens, and may want it to stop.
        let stop = CancellationToken::new();
        let reload =
            Reload::new(settings, (server.certificates().clone(), server.relay().clone()), file, tls);
        let signals = signals::watch(reload, stop.clone())?;
        desk::leave_sign_in_link(desk.as_deref(), &state)?;
        if dev {
            desk::announce(desk.as_deref(), address, operations, server.fingerprint(), json)?;
        }
        let _reporter = Reporter::start(server.relay().clone())?;
        let relay = server.relay().clone();
        let leaves = tokio::spawn({
            let relay = relay.clone();
            async move {
                relay.drain().begun().await;
                service::stopping();
            }
        });
        service::ready();
        server.run(stop).await;
        if !relay.drain().is_on() {
            // Nothing will begin it any more.
            leaves.abort();
        }
        let _ = leaves.await;
        signals.abort();
        Ok(())
    }
}
