//! `tandem-loadtest codec`: reads the arguments, measures file after file, prints.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;

use super::measure::{Figures, measure};
use super::report::{Line, TABLE_HEAD};
use super::{Mode, Plan};
use crate::lines;
use crate::link::units;
use crate::link::way::{Buffer, Rate};

/// Codes recorded screens and decodes them again: bytes, CPU time, memory, and whether every picture is exact.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings: SCTRACE1, as `impair --source trace` plays them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the encoder is set
    #[arg(long, value_enum, default_value = "lossless")]
    mode: Mode,
    /// A line of this rate: pictures are encoded when it is free
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    budget: Option<Rate>,
    /// Pictures go in updates of about so many bytes
    #[arg(long, value_name = "SIZE", value_parser = update_bytes)]
    update_bytes: Option<usize>,
    /// Encodes only so often
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    every: Option<Duration>,
    /// Somebody joins at this time: a key, and a segment's start
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    segment_at: Option<Duration>,
    /// Does not tell the encoder where pictures differ
    #[arg(long)]
    no_damage: bool,
    /// Writes the records of one recording to a file, for a viewer elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "segment_at")]
    records: Option<PathBuf>,
    /// Writes JSON lines to a file, or to stdout (-) in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// `16k`, `4KiB`, `3000B`.
fn update_bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let text = lower.strip_suffix('k').map_or_else(|| lower.clone(), |number| format!("{number}kib"));
    match units::buffer(&text) {
        Ok(Buffer::Bytes(bytes @ 512..=0x1000_0000)) => Ok(bytes as usize),
        _ => Err("write 16k, 4KiB or 3000B, at least 512B".to_owned()),
    }
}

impl Args {
    fn plan(&self) -> Plan {
        Plan {
            mode: self.mode,
            rate: self.budget,
            update_bytes: self.update_bytes,
            every: self.every,
            segment_at: self.segment_at,
            damage: !self.no_damage,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When a recording cannot be read or coded, or the report cannot be written. A picture that is not exact makes the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = args.plan();
    ensure!(args.records.is_none() || args.files.len() == 1, "--records writes those of one recording");
    let mut output = Output::new(args)?;
    let (mut all, mut exact) = (Vec::new(), true);
    for file in &args.files {
        let figures = measure(file, &plan, args.records.as_deref())?;
        let line = Line::new(&plan, &figures);
        exact &= line.is_exact();
        output.put(&line)?;
        all.push(figures);
    }
    if all.len() > 1 {
        output.put(&Line::new(&plan, &Figures::total(&all)))?;
    }
    Ok(if exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The table, JSON lines, or both.
struct Output {
    json: Option<Box<dyn Write>>,
    table: bool,
}

impl Output {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let to_stdout = args.json.as_deref().is_some_and(lines::is_stdout);
        let json = lines::open(args.json.as_deref())?;
        if !to_stdout {
            println!("{TABLE_HEAD}");
        }
        Ok(Self { json, table: !to_stdout })
    }

    fn put(&mut self, line: &Line) -> anyhow::Result<()> {
        if self.table {
            println!("{line}");
        }
        lines::write(&mut self.json, line)
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

    fn parse(arguments: &[&str]) -> Result<Plan, clap::Error> {
        Program::try_parse_from(["codec"].iter().chain(arguments)).map(|program| program.args.plan())
    }

    #[test]
    fn arguments_become_a_plan() {
        let plan = parse(&["t.sct.zst", "--update-bytes", "16k", "--every", "500ms", "--budget", "2mbit"]);
        let plan = plan.expect("good arguments");
        assert_eq!(plan.update_bytes, Some(16 << 10));
        assert_eq!(plan.every, Some(Duration::from_millis(500)));
        assert_eq!(plan.rate.map(Rate::bits_per_second), Some(2_000_000));
        assert!(plan.damage);
        assert_eq!(parse(&["t", "--mode", "low-power"]).expect("good arguments").mode, Mode::LowPower);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in
            [&[][..], &["t", "--mode", "best"], &["t", "--update-bytes", "10B"], &["t", "--budget", "2"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
