//! `tandem-loadtest limit`: measures the parts, and prints them and their sums.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::parts::{BOUNDS, PARTS, Part};
use crate::cores;
use crate::lines;
use crate::report::{GIB, median, rounded};

/// Measures what this computer could do at best, in processor seconds for each GiB.
///
/// Ciphers, copies, TCP and UDP over loopback, each alone on one core; and their sums, which bound what a relay can do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// MiB of each part, each time
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65536))]
    mib: u32,
    /// Times to measure each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tries: u32,
    /// Writes JSON lines to a file, or to stdout (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When a part cannot be measured, or the report cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = lines::open(args.json.as_deref())?;
    one_core()?;
    let mut tries = vec![Vec::new(); PARTS.len()];
    for _ in 0..args.tries {
        // In turn, so that whatever disturbs the computer disturbs all.
        for (part, tries) in PARTS.iter().zip(&mut tries) {
            tries.push(cost(part, u64::from(args.mib) << 20)?);
        }
    }
    let medians: Vec<f64> = tries.iter().map(|tries| median(tries.clone())).collect();
    for ((part, tries), &middle) in PARTS.iter().zip(&tries).zip(&medians) {
        let least = tries.iter().copied().fold(f64::INFINITY, f64::min);
        let most = tries.iter().copied().fold(0.0, f64::max);
        eprintln!("limit: {:<30} {:>8} B  {middle:.3} s/GiB ({least:.3} to {most:.3})", part.what, part.unit);
        let line = json!({
            "schema": 1,
            "kind": "limit",
            "what": part.what,
            "unit_bytes": part.unit,
            "cpu_s_per_gib": rounded(middle, 1e4),
            "least": rounded(least, 1e4),
            "most": rounded(most, 1e4),
            "tries": args.tries,
        });
        lines::write(&mut out, &line)?;
    }
    tell_bounds(&medians, &mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn tell_bounds(medians: &[f64], out: &mut Option<Box<dyn Write>>) -> anyhow::Result<()> {
    for (what, parts) in BOUNDS {
        let of = |name: &&str| PARTS.iter().zip(medians).find(|(part, _)| part.what == *name);
        let sum: f64 = parts.iter().filter_map(of).map(|(_, cost)| cost).sum();
        eprintln!("limit: {what:<30} {sum:>23.3} s/GiB = {}", parts.join(" + "));
        let line = json!({
            "schema": 1,
            "kind": "limit",
            "what": what,
            "cpu_s_per_gib": rounded(sum, 1e4),
            "sum_of": parts,
        });
        lines::write(out, &line)?;
    }
    Ok(())
}

/// Processor seconds for each GiB.
fn cost(part: &Part, bytes: u64) -> anyhow::Result<f64> {
    let (bytes, spent) = part.run(bytes).with_context(|| part.what)?;
    Ok(spent.as_secs_f64() * GIB / bytes as f64)
}

/// Keeps this thread on one core. Threads that it starts are there too: they take turns with it, and their time is not its.
fn one_core() -> anyhow::Result<()> {
    let first = *cores::allowed()?.first().context("no core")?;
    Ok(cores::keep_to(&[first])?)
}
