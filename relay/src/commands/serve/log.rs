//! The log on stderr.

use std::io::IsTerminal;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

#[derive(Args, Debug)]
pub(super) struct Log {
    /// Format of the log on stderr.
    #[arg(long, env = "TANDEM_LOG_FORMAT", default_value = "text")]
    log_format: Format,
    /// What to log: a level, or per module (tracing's filter). The default leaves out what every closed browser tab causes.
    #[arg(long, env = "TANDEM_LOG", default_value = "info,web_transport_quinn=error")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl Log {
    /// Starts logging.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log).with_context(|| format!("--log {}", self.log))?;
        let filter = filter.and(filter_fn(says_no_secret));
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let lines = match self.log_format {
            // The journal knows the time of every line.
            Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => lines.without_time().boxed(),
            Format::Text => lines.boxed(),
            Format::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Ok(())
    }
}

/// At the level of traces, libraries log what they carry: keystrokes, codes and tokens. Whoever turns everything on to look for
/// a fault must not get these by it.
fn says_no_secret(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().starts_with("tandem")
}
