//! `tandem-loadtest run`: many pairs at a relay, as fast as this computer lets them.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tandem_client::{Fingerprint, Target, Transport};
use tandem_codec::Size;
use tokio::signal::unix::{SignalKind, signal};

use super::relay::{self, Relay};
use super::report::Line;
use super::screen::{Content, Source};
use super::{Plan, try_here};
use crate::link::units;
use crate::link::way::{Buffer, Rate};

/// Exit code after a signal that asks for the end, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;
/// Failures that are told in words.
pub(crate) const TOLD_MAX: usize = 20;

/// Runs pretend customers and technicians at a relay and says how old their screens and how late their input is.
///
/// Starts a relay of its own unless --relay names one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pairs of a customer and a technician
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Length of what is measured
    #[arg(long, value_parser = units::seconds, default_value = "10")]
    seconds: Duration,
    /// How the clients connect
    #[arg(long, value_enum, default_value = "quic")]
    transport: Binding,
    /// Times to measure; several also give their medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tries: u32,
    /// Size of each screen
    #[arg(long, default_value = "640x360", value_parser = size)]
    size: Size,
    /// Pictures a second
    #[arg(long, default_value = "10", value_parser = per_second)]
    fps: f64,
    /// What the screens show
    #[arg(long, value_enum, default_value = "cells")]
    source: Content,
    /// Size of a picture of noise
    #[arg(long, value_parser = units::buffer, default_value = "40KiB")]
    picture: Buffer,
    /// Input events a second of each technician
    #[arg(long, value_parser = per_second, default_value = "20")]
    inputs: f64,
    /// Fixes what the screens show
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A relay that runs already
    #[arg(long, value_name = "URL", requires = "sign_in")]
    relay: Option<String>,
    /// SHA-256 of its certificate, if no authority signed it
    #[arg(long, requires = "relay")]
    fingerprint: Option<Fingerprint>,
    /// Its desk's one-time secret: what follows #secret= in the console's address
    #[arg(long, env = "TANDEM_SIGN_IN", hide_env_values = true, value_name = "SECRET", requires = "relay")]
    sign_in: Option<String>,
    /// The relay's program [default: tandem-relay beside this one]
    #[arg(long, value_name = "PATH", conflicts_with = "relay")]
    relay_bin: Option<PathBuf>,
    /// Writes JSON lines to a file, or to stdout (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How the clients connect.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Binding {
    Quic,
    #[value(name = "websocket")]
    WebSocket,
}

impl Binding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
        }
    }

    pub(crate) const fn transport(self) -> Transport {
        match self {
            Self::Quic => Transport::Quic,
            Self::WebSocket => Transport::WebSocket,
        }
    }
}

fn size(text: &str) -> Result<Size, String> {
    let side = |text: &str| text.parse().ok().filter(|side| (64..=8192).contains(side));
    let sides = text.split_once('x').and_then(|(w, h)| Some(Size { w: side(w)?, h: side(h)? }));
    sides.ok_or_else(|| format!("{text:?} is no size: write 640x360; a side has 64 to 8192 pixels"))
}

fn per_second(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.1..=1000.0).contains(number));
    number.ok_or_else(|| format!("{text:?} is not from 0.1 to 1000"))
}

impl Args {
    fn plan(&self) -> Plan {
        let picture = self.picture.bytes_at(GIGABIT).max(1);
        Plan {
            pairs: self.pairs.into(),
            transport: self.transport.transport(),
            source: Arc::new(Source::new(self.size, self.source, picture, self.seed)),
            interval: Duration::from_secs_f64(1.0 / self.fps),
            window: self.seconds,
            inputs_per_second: self.inputs,
            window_log: window_log(self.size),
            transfer: None,
        }
    }
}

/// Of a codec window that holds a picture or two; more only costs memory, in every pair twice.
fn window_log(size: Size) -> u8 {
    (size.pixels() * 4).next_power_of_two().ilog2().clamp(17, 23) as u8
}

/// At which a picture's size, were it given as a time, is reckoned.
const GIGABIT: Rate = Rate::from_bits_per_second(1_000_000_000).expect("not zero");

/// Runs the subcommand.
///
/// # Errors
/// When the relay cannot be had, or the report cannot be written. Failures of pairs are counted instead, and
/// make the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.seconds > Duration::ZERO, "--seconds must be more than 0");
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(unless_interrupted(measure(args)))
}

/// Does something until it is done, or somebody asks for the end.
pub(crate) async fn unless_interrupted(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        code = work => code,
        _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

async fn start_relay(args: &Args) -> anyhow::Result<Relay> {
    match (&args.relay, &args.sign_in) {
        (Some(url), Some(secret)) => {
            let target = Target::new(url, args.fingerprint.into_iter().collect())?;
            Relay::elsewhere(target, secret).await
        }
        _ => Relay::on_loopback(&relay::program(args.relay_bin.as_deref())?).await,
    }
}

async fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    let mut lines = lines(args)?;
    let relay = start_relay(args).await?;
    let plan = Arc::new(args.plan());
    eprintln!("run: {} pairs at {}, for {:?}", plan.pairs, relay.target, plan.window);
    let mut tries = Vec::new();
    for number in 1..=args.tries {
        let figures = try_here(&plan, &relay).await?;
        figures.failures.iter().take(TOLD_MAX).for_each(|failure| eprintln!("run: {failure}"));
        let line = Line::new(&plan, args.transport.name(), number, &figures);
        report(&mut lines, &line)?;
        tries.push(line);
    }
    if let Some(median) = Line::median(&tries).filter(|_| tries.len() > 1) {
        report(&mut lines, &median)?;
    }
    let failures: usize = tries.iter().map(Line::failures).sum();
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where JSON lines go.
fn lines(args: &Args) -> anyhow::Result<Option<Box<dyn Write>>> {
    let Some(path) = &args.json else { return Ok(None) };
    if path.as_os_str() == "-" {
        return Ok(Some(Box::new(io::stdout())));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(Box::new(file)))
}

fn report(lines: &mut Option<Box<dyn Write>>, line: &Line) -> anyhow::Result<()> {
    eprintln!("run: {line}");
    let Some(lines) = lines else { return Ok(()) };
    let json = serde_json::to_string(line)?;
    writeln!(lines, "{json}").and_then(|()| lines.flush()).context("cannot write the report")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        Program::try_parse_from(["run"].iter().chain(arguments)).map(|program| program.args)
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for wrong in [
            &["--pairs", "0"][..],
            &["--relay", "https://relay.example"],
            &["--fingerprint", "00"],
            &["--size", "63x64"],
            &["--fps", "0"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(&["--relay", "https://relay.example", "--sign-in", "x"]).is_ok());
    }
}
