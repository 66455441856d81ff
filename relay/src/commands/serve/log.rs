//! The log on stderr.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
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
        // With a bound of its own, or what nobody wants to see would be put together and asked about at every call.
        let filter = filter.and(filter_fn(says_no_secret).with_max_level_hint(Level::TRACE));
        let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        let lines = match self.log_format {
            Format::Text if is_journal(std::io::stderr()) => lines.event_format(journal()).boxed(),
            Format::Text => lines.boxed(),
            Format::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Ok(())
    }
}

/// Whether this leads into systemd's journal: `JOURNAL_STREAM` names the stream that does, by device and inode, and is inherited by
/// programs whose output goes elsewhere (systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    let of = file.and_then(|file| file.metadata());
    of.is_ok_and(|of| named == format!("{}:{}", of.dev(), of.ino()))
}

/// Lines for systemd's journal, which knows their time, and takes their urgency from a number before them (sd-daemon(3)): so
/// `journalctl -p warning` finds what matters.
struct Journal(fmt::format::Format<fmt::format::Full, ()>);

fn journal() -> Journal {
    Journal(fmt::format().with_ansi(false).without_time().with_level(false))
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let urgency = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(to, "<{urgency}>")?;
        self.0.format_event(context, to, event)
    }
}

/// At the level of traces, libraries log what they carry: keystrokes, codes and tokens. Whoever turns everything on to look for
/// a fault must not get these by it.
fn says_no_secret(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().starts_with("tandem")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Paper {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_journal_is_told_how_urgent_a_line_is_and_not_when_it_was() {
        let paper = Paper::default();
        let lines = fmt::layer().with_ansi(false).with_writer(paper.clone()).event_format(journal());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(left = 3, "no room");
            tracing::info_span!("client", address = 1).in_scope(|| tracing::info!("joined"));
        });
        let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert!(
            lines[0].starts_with("<4>tandem_relay::") && lines[0].ends_with("no room left=3"),
            "{written}"
        );
        assert!(lines[1].starts_with("<6>client{address=1}: ") && lines[1].ends_with("joined"), "{written}");
    }
}
