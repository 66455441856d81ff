//! `tandem-relay`: arguments, logging, signals and exit code; everything else is in the library.
#![forbid(unsafe_code)]

mod desk;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tandem_relay::config::file::File;
use tandem_relay::config::{Config, ConfigError, Overrides};
use tandem_relay::server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Exit code of a configuration that does not work (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

#[derive(Parser)]
#[command(name = "tandem-relay", version, about = "Remote support on your own servers: the relay")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve.
    Serve(Serve),
    /// Say whether a configuration file works.
    CheckConfig {
        /// The file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// Configuration file (config/relay.toml shows every key).
    #[arg(long, env = "TANDEM_CONFIG")]
    config: Option<PathBuf>,
    /// Public address; port 0 takes a free one.
    #[arg(long, env = "TANDEM_LISTEN")]
    listen: Option<SocketAddr>,
    /// Private address of /metrics, /healthz and /readyz.
    #[arg(long, env = "TANDEM_OPERATIONS")]
    operations: Option<SocketAddr>,
    /// Serve UDP (QUIC and WebTransport) or not.
    #[arg(long, env = "TANDEM_UDP")]
    udp: Option<bool>,
    /// Where the key that seals resume tickets is kept.
    #[arg(long, env = "TANDEM_STATE_DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// Try out: loopback only, a certificate made here, plain HTTP for the browser, a first session and its code.
    #[arg(long)]
    dev: bool,
    /// Format of the log on stderr.
    #[arg(long, env = "TANDEM_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to log: a level, or per module (tracing's filter). The default leaves out what every closed browser tab causes.
    #[arg(long, env = "TANDEM_LOG", default_value = "info,web_transport_quinn=error")]
    log: String,
    /// Print what --dev tells as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve(arguments),
        Command::CheckConfig { config } => check(&config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-relay: {error:#}");
            let config = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if config { EXIT_CONFIG } else { 1 })
        }
    }
}

fn check(path: &std::path::Path) -> anyhow::Result<()> {
    Config::resolve(File::read(path)?, Overrides::default())?;
    println!("{}: works", path.display());
    Ok(())
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    start_log(&arguments)?;
    let file = arguments.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    let mut overrides = Overrides {
        listen: arguments.listen,
        operations: arguments.operations,
        udp: arguments.udp,
        state_directory: arguments.state_directory,
        dev: arguments.dev,
    };
    if arguments.dev && overrides.operations.is_none() {
        // Several may be tried out beside one another.
        overrides.operations = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    }
    let config = Config::resolve(file, overrides)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(run(config, arguments.dev, arguments.json))
}

fn start_log(arguments: &Serve) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).with_context(|| format!("--log {}", arguments.log))?;
    let terminal = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(config: Config, dev: bool, json: bool) -> anyhow::Result<()> {
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
    let signals = watch_signals(server.certificates().clone(), stop.clone())?;
    let watchdog = tokio::spawn(notify_watchdog(server.relay().clone()));
    if let Err(error) = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]) {
        warn!(%error, "cannot tell the service manager");
    }
    server.run(stop).await;
    watchdog.abort();
    signals.abort();
    Ok(())
}

/// Tells the service manager's watchdog that the relay makes progress, as long as it does.
async fn notify_watchdog(relay: std::sync::Arc<tandem_relay::relay::Relay>) {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) {
        return;
    }
    let mut seen = relay.ticks();
    let mut every = tokio::time::interval(std::time::Duration::from_micros(microseconds / 2));
    loop {
        every.tick().await;
        let ticks = relay.ticks();
        if ticks != seen {
            seen = ticks;
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// SIGTERM and SIGINT stop, a second one exits at once; SIGHUP reads the certificates again.
fn watch_signals(
    certificates: std::sync::Arc<tandem_relay::tls::Certificates>,
    stop: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch SIGHUP")?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    match certificates.renew() {
                        Ok(()) => info!("certificates read again"),
                        Err(error) => warn!(error = format!("{error:#}"), "keeping the last good certificate"),
                    }
                    continue;
                }
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
            stop.cancel();
        }
    }))
}
