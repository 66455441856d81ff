//! `tandem-loadtest run`: a plan at a relay, and what came of it.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use tandem_client::{Fingerprint, Target, Transport};
use tokio::signal::unix::{SignalKind, signal};

use super::affinity;
use super::curve;
use super::execute::{Scenes, try_plan};
use super::relay::{self, Relay};
use crate::plan::{Plan, Transports, Written};
use crate::report::html::{Told, page};
use crate::report::line::Line;
use crate::report::table::{Progress, table};

/// Exit code after a signal that asks for the end, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;
/// Exit code when this program was the bottleneck, so that there is nothing to publish.
pub(super) const BOTTLENECK: u8 = 3;
/// Failures that are told in words.
pub(crate) const TOLD_MAX: usize = 20;

/// Runs pretend customers and technicians at a relay and says how old their screens and how late their input is.
///
/// Starts a relay of its own unless --relay names one. What they do is said by a plan (loadtest/plans has some), by flags, or both.
///
/// Exit codes: 1 when something failed or grew, 3 when this program was the bottleneck, 130 when it was interrupted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A plan, a TOML file; flags are stronger than what it says
    plan: Option<PathBuf>,
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
    pub(super) json: Option<PathBuf>,
    /// Writes one page of HTML with plots
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Measures how much a relay takes: sessions, then technicians (16 a session), doubled from --pairs on until it is full, over both
    /// bindings unless --transport names one. The relay has the first core, if none is named
    #[arg(long)]
    curve: bool,
    /// Of a curve: most that 99 % of updates and input events may take, in ms
    #[arg(long, default_value_t = 10.0, requires = "curve", value_name = "MS")]
    curve_limit: f64,
    /// Writes a curve's plots as one SVG
    #[arg(long, requires = "curve", value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// Publishes figures of which this program was the bottleneck, marked as such
    #[arg(long)]
    pub(super) publish_anyway: bool,
    /// Prints the whole plan, every key, and does nothing
    #[arg(long)]
    print_plan: bool,
    #[command(flatten)]
    written: Written,
}

/// How a client connects.
#[derive(Clone, Copy, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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

impl Args {
    /// The plan of the file and the flags.
    fn plan(&self) -> anyhow::Result<Plan> {
        let file = self.plan.as_deref().map(Written::read).transpose()?.unwrap_or_default();
        let written = self.written.clone().over(file)?;
        let named = written.names_transport();
        let plan = written.resolve()?;
        if !self.curve {
            return Ok(plan);
        }
        // A curve is measured over both bindings unless it was said over which.
        let transports = if named { plan.transports } else { Transports::Mixed };
        Ok(curve::with_cores(Plan { transports, ..plan }))
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When the plan cannot be, the relay cannot be had, or the report cannot be written. Failures of sessions are counted instead, and
/// make the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = args.plan()?;
    if args.print_plan {
        print!("{}", plan.written.to_toml()?);
        return Ok(ExitCode::SUCCESS);
    }
    // Before there are threads, which inherit it.
    plan.own_cores.as_ref().map(affinity::keep_to).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    if args.curve {
        let limits = curve::Limits { added_ms: args.curve_limit };
        return runtime.block_on(unless_interrupted(curve::measure(args, &plan, limits)));
    }
    runtime.block_on(unless_interrupted(measure(args, &plan)))
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

pub(super) async fn start_relay(args: &Args, plan: &Plan) -> anyhow::Result<Relay> {
    match (&args.relay, &args.sign_in) {
        (Some(url), Some(secret)) => {
            ensure!(plan.technicians == 1, "technicians: a desk admits one technician of a session as yet");
            ensure!(
                plan.kills.is_empty(),
                "kill_relay_at_seconds: only a relay that is started here can be killed"
            );
            let is_pinned = args.fingerprint.is_some();
            ensure!(
                plan.shares.slow == 0.0 || is_pinned,
                "slow: a line in front of a relay needs --fingerprint"
            );
            let target = Target::new(url, args.fingerprint.into_iter().collect())?;
            Relay::elsewhere(target, secret).await
        }
        _ => Relay::on_loopback(&relay::program(args.relay_bin.as_deref())?, plan.relay_cores.as_ref()),
    }
}

async fn measure(args: &Args, plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut output = Output::create(args.json.as_deref())?;
    let scenes = Scenes::new(plan)?;
    let mut relay = start_relay(args, plan).await?;
    eprintln!(
        "run: {}, {} pairs at {}, for {:?}, seed {}",
        plan.name, plan.sessions, relay.target, plan.window, plan.seed
    );
    let mut progress = Progress::new();
    let (mut tries, mut refused) = (Vec::new(), false);
    for number in 1..=plan.tries {
        let tried = try_plan(plan, &scenes, &mut relay, &mut progress).await;
        progress.clear();
        let tried = tried?;
        tried.figures.failures.iter().take(TOLD_MAX).for_each(|failure| eprintln!("run: {failure}"));
        let line = Line::new(plan, number, &tried);
        if !line.generator.bottlenecks.is_empty() && !args.publish_anyway {
            refused = true;
            let why = line.generator.bottlenecks.join("; ");
            eprintln!("run: try {number} is not published: {why} (--publish-anyway does it, marked)");
            continue;
        }
        eprint!("{}", table(&line));
        output.line(&line)?;
        tries.push(Told { line, tried });
    }
    let lines: Vec<&Line> = tries.iter().map(|told| &told.line).collect();
    if let Some(median) = Line::median(&lines).filter(|_| lines.len() > 1) {
        output.line(&median)?;
    }
    if let Some(path) = args.html.as_deref().filter(|_| !tries.is_empty()) {
        std::fs::write(path, page(plan, &tries)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failed = lines.iter().any(|line| line.failures > 0 || line.grows());
    Ok(match (failed, refused) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(BOTTLENECK),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Where JSON lines go.
pub(super) struct Output(Option<Box<dyn Write>>);

impl Output {
    pub(super) fn create(path: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        if path.as_os_str() == "-" {
            return Ok(Self(Some(Box::new(io::stdout()))));
        }
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(Some(Box::new(file))))
    }

    pub(super) fn line(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let Some(lines) = &mut self.0 else { return Ok(()) };
        let json = serde_json::to_string(line)?;
        writeln!(lines, "{json}").and_then(|()| lines.flush()).context("cannot write the report")
    }
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
            &["--relay", "https://relay.example"][..],
            &["--fingerprint", "00"],
            &["--size", "63x64"],
            &["--fps", "fast"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in [&["--pairs", "0"][..], &["--fps", "0"], &["--source", "trace"]] {
            assert!(parse(wrong).unwrap().plan().is_err(), "{wrong:?}");
        }
        assert!(parse(&["--relay", "https://relay.example", "--sign-in", "x"]).is_ok());
    }
}
