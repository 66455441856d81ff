//! `tandem-loadtest run`: a plan at a relay, and what came of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use tandem_client::{Fingerprint, Target, Transport};
use tokio::signal::unix::{SignalKind, signal};

use super::curve;
use super::execute::{Scenes, try_plan};
use super::relay::{self, Relay};
use crate::cores;
use crate::lines;
use crate::plan::{Plan, Transports, Written};
use crate::report::html::{Told, page};
use crate::report::line::Line;
use crate::report::table::{Progress, remains, table};

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
/// Exit codes: 1 when something failed or grew, 3 when nothing did but this program was the bottleneck, 130 when it was interrupted.
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
    /// Measures how much a relay takes: sessions, then technicians (16 a session), more and more from --pairs on until it is full, over both
    /// bindings unless --transport names one. Each step has a relay of its own, on the first core unless one is named
    #[arg(long, conflicts_with = "relay")]
    curve: bool,
    /// Of a curve: most that 99 % of updates and input events may take, in ms. With --relay-share up to 4 of them are the
    /// wait of a relay that has used up its part
    #[arg(long, default_value_t = 10.0, requires = "curve", value_name = "MS")]
    curve_limit: f64,
    /// Of a curve: by what each step is larger than the one before
    #[arg(long, default_value_t = 2.0, requires = "curve", value_name = "FACTOR", value_parser = factor)]
    pub(super) curve_factor: f64,
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
    /// The plan of the file and the flags, on a computer of which we may use these cores.
    fn plan(&self, allowed: &[usize]) -> anyhow::Result<Plan> {
        let file = self.plan.as_deref().map(Written::read).transpose()?.unwrap_or_default();
        let written = self.written.clone().over(file)?;
        let named = written.names_transport();
        let plan = written.resolve()?;
        if !self.curve {
            return Ok(with_relay_cores(plan, allowed));
        }
        // A curve is measured over both bindings unless it was said over which.
        let transports = if named { plan.transports } else { Transports::Mixed };
        let plan = curve::with_cores(Plan { transports, ..plan }, allowed);
        Ok(with_relay_cores(plan, allowed))
    }
}

/// By what a curve's steps grow.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1.1..=16.0).contains(&factor) => Ok(factor),
        Ok(_) => Err("not between 1.1 and 16".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// Where only our own cores are said, the relay has all that there were before: what it is started by would leave it ours.
fn with_relay_cores(plan: Plan, allowed: &[usize]) -> Plan {
    let all = plan.own_cores.is_some().then(|| allowed.to_vec().into());
    Plan { relay_cores: plan.relay_cores.or(all), ..plan }
}

/// Runs the subcommand.
///
/// # Errors
/// When the plan cannot be, the relay cannot be had, or the report cannot be written. Failures of sessions are counted instead, and
/// make the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Before our own cores are kept to, if we are told some.
    let plan = args.plan(&cores::allowed().context("cannot ask for our cores")?)?;
    if args.print_plan {
        print!("{}", plan.written.to_toml()?);
        return Ok(ExitCode::SUCCESS);
    }
    // Before there are threads, which inherit it.
    if let Some(own) = &plan.own_cores {
        cores::keep_to(own.numbers())
            .with_context(|| format!("own_cores: cannot run on {}", String::from(own.clone())))?;
    }
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
            ensure!(
                plan.relay_share.is_none(),
                "relay_share: only a relay that is started here can be held to it"
            );
            let is_pinned = args.fingerprint.is_some();
            ensure!(
                plan.shares.slow == 0.0 || is_pinned,
                "slow: a line in front of a relay needs --fingerprint"
            );
            let target = Target::new(url, args.fingerprint.into_iter().collect())?;
            Relay::elsewhere(target, secret).await
        }
        _ => {
            let program = relay::program(args.relay_bin.as_deref())?;
            Relay::on_loopback(&program, plan.relay_cores.as_ref(), plan.relay_share)
        }
    }
}

async fn measure(args: &Args, plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut output = lines::open(args.json.as_deref())?;
    let scenes = Scenes::new(plan)?;
    let mut relay = start_relay(args, plan).await?;
    eprintln!(
        "run: {}, {} pairs at {}, for {:?}, seed {}",
        plan.name, plan.sessions, relay.target, plan.window, plan.seed
    );
    let mut progress = Progress::new();
    let (mut tries, mut verdict) = (Vec::new(), Verdict::default());
    for number in 1..=plan.tries {
        let tried = try_plan(plan, &scenes, &mut relay, &mut progress).await;
        progress.clear();
        let tried = tried?;
        tried.figures.failures.iter().take(TOLD_MAX).for_each(|failure| eprintln!("run: {failure}"));
        let line = Line::new(plan, number, &tried);
        if !verdict.publishes(&line, args.publish_anyway) {
            let why = line.generator.bottlenecks.join("; ");
            eprintln!("run: try {number} is not published: {why} (--publish-anyway does it, marked)");
            eprint!("{}", remains(&line));
            continue;
        }
        eprint!("{}", table(&line));
        lines::write(&mut output, &line)?;
        tries.push(Told { line, tried });
    }
    let published: Vec<&Line> = tries.iter().map(|told| &told.line).collect();
    if let Some(median) = Line::median(&published).filter(|_| published.len() > 1) {
        lines::write(&mut output, &median)?;
    }
    if let Some(path) = args.html.as_deref().filter(|_| !tries.is_empty()) {
        std::fs::write(path, page(plan, &tries)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::from(verdict.code()))
}

/// What the tries of a plan come to.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    /// Something failed or grew, published or not.
    failed: bool,
    /// Something is not published.
    refused: bool,
}

impl Verdict {
    /// Whether a try's figures are published: those are not of which this program was the bottleneck, unless they are to be.
    fn publishes(&mut self, line: &Line, anyway: bool) -> bool {
        let publishes = line.generator.bottlenecks.is_empty() || anyway;
        self.failed |= line.failures > 0 || line.grows();
        self.refused |= !publishes;
        publishes
    }

    /// The exit code. That something failed is worse than that nothing is known.
    const fn code(self) -> u8 {
        match self {
            Self { failed: true, .. } => 1,
            Self { refused: true, .. } => BOTTLENECK,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::line::Generator;
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
            &["--curve", "--relay", "https://relay.example", "--sign-in", "x"],
            &["--curve", "--curve-factor", "1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in [&["--pairs", "0"][..], &["--fps", "0"], &["--relay-share", "0"], &["--source", "trace"]]
        {
            assert!(parse(wrong).unwrap().plan(&[0]).is_err(), "{wrong:?}");
        }
        assert!(parse(&["--relay", "https://relay.example", "--sign-in", "x"]).is_ok());
    }

    #[test]
    fn a_relay_does_not_get_the_load_s_cores_by_accident() {
        let cores = |arguments: &[&str]| {
            let plan = parse(arguments).unwrap().plan(&[2, 3, 5]).unwrap();
            [plan.relay_cores, plan.own_cores].map(|cores| cores.map(|cores| cores.numbers().to_vec()))
        };
        assert_eq!(cores(&[]), [None, None]);
        assert_eq!(cores(&["--own-cores", "3"]), [Some(vec![2, 3, 5]), Some(vec![3])]);
        assert_eq!(cores(&["--own-cores", "3", "--relay-cores", "5"]), [Some(vec![5]), Some(vec![3])]);
        // The first and the others of those that we may use, whatever their numbers.
        assert_eq!(cores(&["--curve"]), [Some(vec![2]), Some(vec![3, 5])]);
    }

    #[test]
    fn a_failure_is_worse_than_a_bottleneck_even_of_the_same_try() {
        let line = |failures: usize, bottlenecks: &[&str]| Line {
            failures,
            generator: Generator {
                bottlenecks: bottlenecks.iter().map(ToString::to_string).collect(),
                ..Generator::default()
            },
            ..Line::default()
        };
        let code = |lines: &[Line], anyway: bool| {
            let mut verdict = Verdict::default();
            let published = lines.iter().filter(|line| verdict.publishes(line, anyway)).count();
            (published, verdict.code())
        };
        assert_eq!(code(&[line(0, &[])], false), (1, 0));
        assert_eq!(code(&[line(0, &["late"]), line(0, &[])], false), (1, BOTTLENECK));
        assert_eq!(code(&[line(1, &["late"])], false), (0, 1));
        assert_eq!(code(&[line(1, &["late"]), line(0, &["late"])], true), (2, 1));
    }
}
