//! `tandem-loadtest run`: many pairs at a relay, or one across an emulated link.

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
use super::report::{Across, Line};
use super::screen::{Content, Source};
use super::{End, Plan, try_across, try_here};
use crate::link::way::{Buffer, Rate, Shape};
use crate::link::{Link, LinkConfig, LinkError, units};
use crate::shell::own_command;

/// Exit code when the system does not allow a link.
const NOT_PERMITTED: u8 = 2;
/// Exit code after a signal that asks for the end, as shells have it.
const INTERRUPTED: u8 = 130;
/// Failures that are told in words.
const TOLD_MAX: usize = 20;

/// Runs pretend customers and technicians at a relay and says how old their screens and how late their input is.
///
/// Starts a relay of its own unless --relay names one. With --link-rate a single pair runs across an emulated link (needs
/// root), one of its ends on the far side.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pairs of a customer and a technician [default: 50, across a link 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "link_rate")]
    pairs: Option<u16>,
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
    /// Pictures a second; noise across a link comes as three times what the link carries
    #[arg(long, value_parser = per_second)]
    fps: Option<f64>,
    /// What the screens show
    #[arg(long, value_enum, default_value = "cells")]
    source: Content,
    /// Size of a picture of noise
    #[arg(long, value_parser = units::buffer, default_value = "40KiB")]
    picture: Buffer,
    /// Input events a second of each technician
    #[arg(long, value_parser = per_second, default_value = "20")]
    inputs: f64,
    /// Fixes what the screens show, and which packets a link loses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A relay that runs already
    #[arg(long, value_name = "URL", requires = "sign_in", conflicts_with = "link_rate")]
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
    /// Runs one pair across a link of this rate in both directions: 20mbit
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    link_rate: Option<Rate>,
    /// One-way delay of the link
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "0ms", requires = "link_rate")]
    link_delay: Duration,
    /// Room before the link's transmitters, as bytes or as time at the rate
    #[arg(long, value_name = "SIZE", value_parser = units::buffer, default_value = "256KiB", requires = "link_rate")]
    link_buffer: Buffer,
    /// Share of the link's packets that are lost
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", requires = "link_rate")]
    link_loss: f64,
    /// Who is at the far end; the other one is with the relay
    #[arg(long, value_enum, default_value = "technician", requires = "link_rate")]
    link_side: End,
    /// Writes JSON lines to a file, or to stdout (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How the clients connect.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Binding {
    Quic,
    #[value(name = "websocket")]
    WebSocket,
}

impl Binding {
    const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
        }
    }

    const fn transport(self) -> Transport {
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
    fn shape(&self) -> Option<Shape> {
        let (delay, loss, buffer) = (self.link_delay, self.link_loss, self.link_buffer);
        self.link_rate.map(|rate| Shape { rate, delay, jitter: Duration::ZERO, loss, buffer })
    }

    fn plan(&self) -> Plan {
        let (mut fps, mut picture) = (self.fps.unwrap_or(10.0), 0);
        if self.source == Content::Noise {
            picture = self.picture.bytes_at(self.link_rate.unwrap_or(GIGABIT)).max(1);
            if let (Some(rate), None) = (self.link_rate, self.fps) {
                let bytes = 3.0 * rate.bits_per_second() as f64 / 8.0;
                fps = (bytes / picture as f64).clamp(1.0, 60.0);
                picture = picture.max((bytes / fps) as u64);
            }
        }
        // A window that holds a picture or two; more only costs memory, in every pair twice.
        let window_log = (self.size.pixels() * 4).next_power_of_two().ilog2().clamp(17, 23) as u8;
        Plan {
            pairs: if self.link_rate.is_some() { 1 } else { self.pairs.unwrap_or(50).into() },
            transport: self.transport.transport(),
            source: Arc::new(Source::new(self.size, self.source, picture, self.seed)),
            interval: Duration::from_secs_f64(1.0 / fps),
            window: self.seconds,
            inputs_per_second: self.inputs,
            window_log,
        }
    }
}

/// At which a picture's size, were it given as a time, is reckoned without a link.
const GIGABIT: Rate = Rate::from_bits_per_second(1_000_000_000).expect("not zero");

/// Runs the subcommand.
///
/// # Errors
/// When the relay or the link cannot be had, or the report cannot be written. Failures of pairs are counted instead, and
/// make the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.seconds > Duration::ZERO, "--seconds must be more than 0");
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let link = match args.shape().map(start_link(args.seed)).transpose() {
        Ok(link) => link,
        Err(error @ LinkError::NotPermitted) => {
            eprintln!("run: {error}. Run it as root:\n  sudo {}", own_command());
            return Ok(ExitCode::from(NOT_PERMITTED));
        }
        Err(error) => return Err(error.into()),
    };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            code = measure(args, link.as_ref()) => code,
            _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
            _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

fn start_link(seed: u64) -> impl FnOnce(Shape) -> Result<Link, LinkError> {
    move |shape| Link::start(LinkConfig { near_to_far: shape, far_to_near: shape, seed })
}

async fn start_relay(args: &Args, link: Option<&Link>) -> anyhow::Result<Relay> {
    match (link, &args.relay, &args.sign_in) {
        (None, Some(url), Some(secret)) => {
            let target = Target::new(url, args.fingerprint.into_iter().collect())?;
            Relay::elsewhere(target, secret).await
        }
        (None, ..) => Relay::on_loopback(&relay::program(args.relay_bin.as_deref())?).await,
        (Some(link), ..) => Relay::in_link(link, &relay::program(args.relay_bin.as_deref())?),
    }
}

async fn measure(args: &Args, link: Option<&Link>) -> anyhow::Result<ExitCode> {
    let mut lines = lines(args)?;
    let relay = start_relay(args, link).await?;
    let plan = Arc::new(args.plan());
    let side = if args.link_side == End::Technician { "technician" } else { "customer" };
    let across = args.shape().map(|shape| Across::new(side, &shape));
    eprintln!("run: {} pairs at {}, for {:?}", plan.pairs, relay.target, plan.window);
    let mut tries = Vec::new();
    for number in 1..=args.tries {
        let figures = match link {
            None => try_here(&plan, &relay).await?,
            Some(link) => try_across(&plan, &relay, link, args.link_side).await?,
        };
        figures.failures.iter().take(TOLD_MAX).for_each(|failure| eprintln!("run: {failure}"));
        let line = Line::new(&plan, args.transport.name(), across, number, &figures);
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
    fn noise_fills_a_link_three_times_over() {
        for (rate, bits) in [("2mbit", 2e6_f64), ("20mbit", 20e6), ("1gbit", 1e9)] {
            let args = parse(&["--link-rate", rate, "--source", "noise"]).unwrap();
            let plan = args.plan();
            assert_eq!(plan.pairs, 1);
            assert!(plan.interval >= Duration::from_secs_f64(1.0 / 60.1));
            // A screen that is smaller than a picture cannot show more than all of itself.
            let cells: usize = (2..=1001).map(|picture| plan.source.changed(picture).len()).sum();
            let offered = cells as f64 * 12_288.0 * 8.0 / (1000.0 * plan.interval.as_secs_f64());
            let most = plan.source.cells() as f64 * 12_288.0 * 8.0 * 60.0;
            assert!((offered / (3.0 * bits).min(most) - 1.0).abs() < 0.02, "{offered} for {rate}");
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for wrong in [
            &["--link-delay", "1ms"][..],
            &["--pairs", "2", "--link-rate", "1mbit"],
            &["--pairs", "0"],
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
