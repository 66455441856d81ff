//! `tandem-loadtest peers`: which workloads, which systems, how often.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::kept::{Cores, Kept, Output};
use super::network::Network;
use super::report::Line;
use super::restart;
use super::systems::{Programs, Stage, System};
use super::workload::Workload;
use crate::lines;
use crate::link::units;
use crate::run::command::Binding;
use crate::run::process::machine;
use crate::run::relay;
use crate::shell::quoted;

/// Measures relays side by side: Tandem, and others that are installed.
///
/// Each run has a relay of its own on one core and the load on another. Runs take turns, so that whatever disturbs the computer
/// disturbs all. A system that is missing is said so and left out. Root, for workloads with a slow link.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is asked of them [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Which systems [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,
    /// Sessions, in subscribers technicians; several for several runs [default: by workload]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    sessions: Vec<u32>,
    /// Times to measure each; several also give their medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tries: u32,
    /// Length of what is measured each time
    #[arg(long, value_parser = units::seconds, default_value = "10")]
    seconds: Duration,
    /// Our relay's program [default: tandem-relay beside this one]
    #[arg(long, value_name = "PATH")]
    relay_bin: Option<PathBuf>,
    /// Where iroh-relay, moq-relay and the programs that load them are: scripts/build-peers makes them
    #[arg(long, value_name = "DIRECTORY", default_value = "target/peers/bin")]
    peers_dir: PathBuf,
    /// Writes JSON lines to a file, or to stdout (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When nothing can be measured or the report cannot be written. A run that fails is reported, and makes the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.seconds > Duration::ZERO, "--seconds must be more than 0");
    tandem_workload::program::raise_descriptors();
    let cores = Cores::find()?;
    let programs =
        Programs { relay: relay::program(args.relay_bin.as_deref())?, peers: args.peers_dir.clone() };
    let mut out = lines::open(args.json.as_deref())?;
    let systems = present(&programs, &chosen(&args.systems), &mut out)?;
    eprintln!("peers: relays on core {}, the load on core {}", cores.relay, cores.load);
    let mut failures = 0;
    for workload in chosen(&args.workload) {
        let usual = workload.usual_sessions();
        for &sessions in if args.sessions.is_empty() { usual } else { &args.sessions } {
            let round = Round { args, cores, programs: &programs, workload, sessions };
            failures += round.measure(&systems, &mut out)?;
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All, if none were named.
fn chosen<T: clap::ValueEnum + Clone>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}

/// The systems that are installed; tells what they and this computer are.
fn present(
    programs: &Programs,
    systems: &[System],
    out: &mut Option<Box<dyn Write>>,
) -> anyhow::Result<Vec<System>> {
    let mut versions = serde_json::Map::new();
    let mut present = Vec::new();
    for &system in systems {
        match programs.version(system) {
            Ok(version) => {
                eprintln!("peers: {}: {version}", system.name());
                versions.insert(system.name().to_owned(), json!(version));
                present.push(system);
            }
            Err(why) => {
                eprintln!("peers: {} is left out: {why:#}", system.name());
                versions.insert(system.name().to_owned(), serde_json::Value::Null);
            }
        }
    }
    let setup = json!({
        "schema": 2,
        "kind": "peers-setup",
        "machine": machine(),
        "versions": versions,
        "cipher": "TLS 1.3, AES-256-GCM, no resumption",
    });
    lines::write(out, &setup)?;
    anyhow::ensure!(!present.is_empty(), "none of these systems is there");
    Ok(present)
}

/// A workload with so many sessions.
struct Round<'a> {
    args: &'a Args,
    cores: Cores,
    programs: &'a Programs,
    workload: Workload,
    sessions: u32,
}

impl Round<'_> {
    /// All tries of all systems, in turn. Answers how often something went wrong.
    fn measure(&self, systems: &[System], out: &mut Option<Box<dyn Write>>) -> anyhow::Result<u64> {
        let can = |system: &&System| !self.workload.is_ours() || system.binding().is_some();
        let mut runs: Vec<(System, Vec<Line>)> =
            systems.iter().filter(can).map(|&system| (system, Vec::new())).collect();
        for number in 1..=self.args.tries {
            for (system, lines_of) in &mut runs {
                let line = self.one(*system, number).unwrap_or_else(|why| {
                    eprintln!("peers: {}, {}: {why:#}", system.name(), self.workload.name());
                    Line::failed(*system, self.workload, number, &self.workload.shape(self.sessions))
                });
                eprintln!("peers: {line}");
                lines::write(out, &line)?;
                lines_of.push(line);
            }
        }
        for (_, lines_of) in runs.iter().filter(|(_, lines_of)| lines_of.len() > 1) {
            if let Some(median) = Line::median(lines_of) {
                eprintln!("peers: {median}");
                lines::write(out, &median)?;
            }
        }
        Ok(runs.iter().flat_map(|(_, lines_of)| lines_of).map(Line::failures).sum())
    }

    fn one(&self, system: System, number: u32) -> anyhow::Result<Line> {
        match (self.workload, system.binding()) {
            (Workload::SlowSubscriber | Workload::FanOut, Some(binding)) => {
                self.coded(system, binding, number)
            }
            (Workload::Restart, _) => {
                restart::measure(self.cores, self.programs, system, self.sessions, number, self.args.seconds)
            }
            _ => self.driven(system, number),
        }
    }

    /// Our own screens across a slow link, through the codec, which does not encode what the link does not take. Its ends need
    /// more than one core; the link is what bounds them.
    fn coded(&self, system: System, binding: Binding, number: u32) -> anyhow::Result<Line> {
        let preset = if self.workload == Workload::FanOut { "w5" } else { "w4" };
        let own = std::env::current_exe()?;
        let script = format!(
            "exec {} impair --preset {preset} --transport {} --seconds {} --relay-bin {} --json -",
            quoted(own.to_str().context("its path is not UTF-8")?),
            binding.name(),
            self.args.seconds.as_secs_f64(),
            quoted(self.programs.relay.to_str().context("the relay's path is not UTF-8")?),
        );
        let output = Kept::start(&Network::Loopback, None, &script, Output::Kept(None))?.output()?;
        let seen = String::from_utf8(output.stdout)?;
        let seen = seen.lines().next().context("impair has said nothing")?;
        let (shape, seen) = (self.workload.shape(1), serde_json::from_str(seen)?);
        Ok(Line::coded(system, self.workload, number, &shape, &seen))
    }

    /// What the load sees that is the same for all.
    fn driven(&self, system: System, number: u32) -> anyhow::Result<Line> {
        let network = if self.workload.is_slow() { Network::slow()? } else { Network::Loopback };
        let stage = Stage::new(&network, self.cores, self.programs)?;
        let started = stage.start(system)?;
        let shape = self.workload.shape(self.sessions);
        let job = started.job(shape, self.args.seconds);
        let outcome = stage.load(&started.load, &job)?.outcome(system)?;
        drop(started.relay);
        Ok(Line::new(system, self.workload, number, &shape, &outcome))
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

    #[test]
    fn workloads_and_systems_are_lists_and_all_by_default() {
        let parse = |arguments: &[&str]| {
            Program::try_parse_from(["peers"].iter().chain(arguments)).map(|program| program.args)
        };
        let args =
            parse(&["--workload", "sessions,fan-out", "--systems", "haproxy,tandem-websocket"]).unwrap();
        assert_eq!(chosen(&args.workload), [Workload::Sessions, Workload::FanOut]);
        assert_eq!(chosen(&args.systems), [System::Haproxy, System::TandemWebSocket]);
        assert_eq!(chosen(&parse(&[]).unwrap().systems).len(), 7);
        assert!(parse(&["--workload", "none"]).is_err());
        assert!(parse(&["--tries", "0"]).is_err());
    }
}
