//! `tandem-loadtest impair`: a pair across an impaired link, a whole matrix of them, or a preset.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::bounds::table;
use super::cell::{Cell, Settings};
use super::presets::Preset;
use super::report::Line;
use super::scene::is_not_permitted;
use super::{Behind, Show};
use crate::lines;
use crate::link::units;
use crate::link::way::{Buffer, Rate, Shape};
use crate::run::command::{Binding, unless_interrupted};
use crate::run::relay;
use crate::run::transfer::Direction;
use crate::shell::own_command;

/// Exit code when the system does not allow a link.
const NOT_PERMITTED: u8 = 2;
/// Length of a window of the quick form, unless one is given.
const QUICK_SECONDS: Duration = Duration::from_secs(8);

/// Measures how old screens and how late input are across an impaired link (needs root).
///
/// One pair of a customer and a technician, the relay between them and --side of them behind an emulated link. Prints a line
/// for each transport; --quick and --matrix do so for many links and then say which bounds are met. The exit code is 1 if
/// anything failed; a bound that is not met is no failure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rate of the link in both directions: 5mbit
    #[arg(long, value_parser = units::rate, default_value = "5mbit")]
    rate: Rate,
    /// One-way delay in each direction
    #[arg(long, value_parser = units::duration, default_value = "50ms")]
    delay: Duration,
    /// Share of packets lost at random in each direction: 0.01 or 1%
    #[arg(long, value_parser = units::share, default_value = "0")]
    loss: f64,
    /// Room before the transmitter in each direction, as time at the rate or as bytes: 500ms, 256KiB
    #[arg(long, value_parser = units::buffer, default_value = "500ms")]
    buffer: Buffer,
    /// Who is behind the link
    #[arg(long, value_enum, default_value = "technician")]
    side: Behind,
    /// How the clients connect
    #[arg(long, value_enum, default_value = "both")]
    transport: Transports,
    /// What the screen shows: noise, three times what the link takes, or a recording
    #[arg(long, num_args = 1..=2, value_names = ["noise|trace", "FILE"], default_value = "noise")]
    source: Vec<String>,
    /// A file transfer beside it that never ends: the way of input, or of the screen
    #[arg(long, value_enum)]
    with_file: Option<Direction>,
    /// Length of what is measured [default: 20, quick: 8]
    #[arg(long, value_parser = units::seconds)]
    seconds: Option<Duration>,
    /// Several technicians, or the slow pair that others are compared with
    #[arg(long, value_enum, conflicts_with_all = LINK)]
    preset: Option<Preset>,
    /// Six links that tell most
    #[arg(long, conflicts_with_all = LINK)]
    quick: bool,
    /// 1, 5, 20, 100 Mbit/s × 10, 50, 100 ms × 0, 1 % of loss × 50, 500 ms of buffer; goes on with a --json file that has some
    #[arg(long, conflicts_with_all = LINK, conflicts_with_all = ["quick", "preset"])]
    matrix: bool,
    /// Writes JSON lines to a file, or to stdout (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Input events a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    inputs: u16,
    /// Fixes what noise looks like, and which packets are lost
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's program [default: tandem-relay beside this one]
    #[arg(long, value_name = "PATH")]
    relay_bin: Option<PathBuf>,
}

/// What says which link.
const LINK: [&str; 4] = ["rate", "delay", "loss", "buffer"];

/// One binding after the other, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Transports {
    Quic,
    #[value(name = "websocket")]
    WebSocket,
    Both,
}

impl Transports {
    const fn bindings(self) -> &'static [Binding] {
        match self {
            Self::Quic => &[Binding::Quic],
            Self::WebSocket => &[Binding::WebSocket],
            Self::Both => &[Binding::Quic, Binding::WebSocket],
        }
    }
}

/// Mbit/s, ms, share lost, ms of buffer.
type Link = (u64, u64, f64, u64);

const QUICK: [Link; 6] = [
    (1, 50, 0.0, 500),
    (5, 50, 0.0, 500),
    (5, 100, 0.01, 500),
    (20, 10, 0.0, 50),
    (20, 50, 0.01, 50),
    (100, 10, 0.0, 500),
];

fn matrix() -> Vec<Link> {
    let mut links = Vec::new();
    for rate in [1, 5, 20, 100] {
        for delay in [10, 50, 100] {
            for loss in [0.0, 0.01] {
                links.extend([50, 500].map(|buffer| (rate, delay, loss, buffer)));
            }
        }
    }
    links
}

impl Args {
    fn show(&self) -> anyhow::Result<Option<Show>> {
        match &self.source[..] {
            [noise] if noise == "noise" => Ok(None),
            [trace, file] if trace == "trace" => Show::trace(Path::new(file)).map(Some),
            other => anyhow::bail!("--source is noise, or trace FILE; not {}", other.join(" ")),
        }
    }

    fn shapes(&self) -> Vec<Shape> {
        let jitter = Duration::ZERO;
        let of = |&(mbit, delay, loss, buffer): &Link| Shape {
            rate: Rate::from_bits_per_second(mbit * 1_000_000).expect("not zero"),
            delay: Duration::from_millis(delay),
            jitter,
            loss,
            buffer: Buffer::Time(Duration::from_millis(buffer)),
        };
        if self.matrix {
            matrix().iter().map(of).collect()
        } else if self.quick {
            QUICK.iter().map(of).collect()
        } else {
            let Self { rate, delay, loss, buffer, .. } = *self;
            vec![Shape { rate, delay, jitter, loss, buffer }]
        }
    }

    fn cells(&self, show: Option<&Show>) -> Vec<Cell> {
        let cell = |binding, shape| Cell {
            binding,
            side: self.side,
            shape,
            show: show.cloned(),
            transfer: self.with_file,
        };
        let of = |shape| self.transport.bindings().iter().map(move |&binding| cell(binding, shape));
        self.shapes().into_iter().flat_map(of).collect()
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let default = if self.quick { QUICK_SECONDS } else { Duration::from_secs(20) };
        let window = self.seconds.unwrap_or(default);
        anyhow::ensure!(window > Duration::ZERO, "--seconds must be more than 0");
        Ok(Settings {
            window,
            inputs_per_second: self.inputs.into(),
            seed: self.seed,
            program: relay::program(self.relay_bin.as_deref())?.into(),
        })
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When a link or the relay cannot be had, or the report cannot be written. What goes wrong in a session is in its line instead,
/// and makes the exit code 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    match runtime.block_on(unless_interrupted(measure(args))) {
        Err(error) if is_not_permitted(&error) => {
            eprintln!("impair: {error}. Run it as root:\n  sudo {}", own_command());
            Ok(ExitCode::from(NOT_PERMITTED))
        }
        done => done,
    }
}

async fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    let (show, settings) = (args.show()?, args.settings()?);
    let mut report = Report::open(args.json.as_deref(), args.matrix)?;
    if let Some(preset) = args.preset {
        anyhow::ensure!(args.with_file.is_none(), "presets have no file beside them");
        let show = show.unwrap_or_else(|| preset.noise(settings.seed));
        for &binding in args.transport.bindings() {
            report.add(preset.measure(binding, &show, &settings).await?)?;
        }
    } else {
        let cells = args.cells(show.as_ref());
        for (number, cell) in cells.iter().enumerate() {
            if report.has(cell) {
                continue;
            }
            eprintln!("impair: {} of {}: {}", number + 1, cells.len(), cell.conditions());
            match cell.measure(&settings).await {
                Ok(line) => report.add(line)?,
                // One of many is no reason to lose the others, unless none can work.
                Err(error) if cells.len() > 2 && !is_not_permitted(&error) => report.failed(&error),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(report.end())
}

/// Lines as they come, and those that were there before.
struct Report {
    output: Option<Box<dyn Write>>,
    lines: Vec<Line>,
    failures: usize,
}

impl Report {
    /// Opens the file; `go_on` reads it first and appends to it.
    fn open(path: Option<&Path>, go_on: bool) -> anyhow::Result<Self> {
        let mut report = Self { output: None, lines: Vec::new(), failures: 0 };
        let Some(path) = path.filter(|path| go_on && !lines::is_stdout(path)) else {
            report.output = lines::open(path)?;
            return Ok(report);
        };
        let cannot = || format!("cannot use {}", path.display());
        let file = OpenOptions::new().create(true).read(true).append(true).open(path);
        let file = file.with_context(cannot)?;
        let (lines, whole) = read(&file).with_context(cannot)?;
        file.set_len(whole).with_context(cannot)?;
        report.lines = lines;
        report.output = Some(Box::new(file));
        Ok(report)
    }

    /// Whether a cell has been measured without failures.
    fn has(&self, cell: &Cell) -> bool {
        self.lines.iter().any(|line| cell.is_in(line) && line.failures.is_empty())
    }

    fn add(&mut self, line: Line) -> anyhow::Result<()> {
        eprintln!("impair: {line}");
        self.failures += line.failures.len();
        lines::write(&mut self.output, &line)?;
        self.lines.push(line);
        Ok(())
    }

    fn failed(&mut self, error: &anyhow::Error) {
        eprintln!("impair: failed: {error:#}");
        self.failures += 1;
    }

    /// Says which bounds are met.
    fn end(self) -> ExitCode {
        let good: Vec<Line> = self.lines.into_iter().filter(|line| line.failures.is_empty()).collect();
        eprint!("{}", table(&good));
        if self.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The lines of a file, and its length without a last one that was cut short by an end of this program.
fn read(file: &File) -> anyhow::Result<(Vec<Line>, u64)> {
    let (mut file, mut lines, mut whole, mut text) = (BufReader::new(file), Vec::new(), 0, String::new());
    while file.read_line(&mut text)? > 0 && text.ends_with('\n') {
        let line = serde_json::from_str(&text);
        lines.push(line.with_context(|| format!("line {} is none of ours", lines.len() + 1))?);
        whole += text.len() as u64;
        text.clear();
    }
    Ok((lines, whole))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::line;
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        Program::try_parse_from(["impair"].iter().chain(arguments)).map(|program| program.args)
    }

    #[test]
    fn there_are_as_many_cells_as_were_asked_for() {
        let cells = |arguments: &[&str]| parse(arguments).unwrap().cells(None).len();
        assert_eq!(cells(&[]), 2);
        assert_eq!(cells(&["--transport", "quic"]), 1);
        assert_eq!(cells(&["--quick", "--transport", "websocket"]), 6);
        assert_eq!(cells(&["--matrix"]), 96);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for wrong in [
            &["--matrix", "--quick"][..],
            &["--matrix", "--rate", "1mbit"],
            &["--preset", "w4", "--loss", "1%"],
            &["--preset", "w4", "--matrix"],
            &["--source"],
            &["--rate", "fast"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in
            [&["--source", "trace"][..], &["--source", "noise", "x"], &["--source", "trace", "/none"]]
        {
            assert!(parse(wrong).unwrap().show().is_err(), "{wrong:?}");
        }
        assert!(parse(&["--preset", "join", "--source", "trace", "x", "--seconds", "5"]).is_ok());
    }

    #[test]
    fn a_matrix_goes_on_where_it_was_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let args = parse(&["--matrix", "--transport", "quic"]).unwrap();
        let cells = args.cells(None);
        let measured = |report: &Report| cells.iter().filter(|cell| report.has(cell)).count();
        let of = |cell: &Cell, failures: &[&str]| Line {
            conditions: cell.conditions(),
            failures: failures.iter().map(ToString::to_string).collect(),
            ..line(Binding::Quic, Behind::Technician, 0.0)
        };
        let mut report = Report::open(Some(&path), true).unwrap();
        assert_eq!(measured(&report), 0);
        report.add(of(&cells[3], &[])).unwrap();
        report.add(of(&cells[7], &["x"])).unwrap();
        // Ended in the middle of a line.
        report.output.as_mut().unwrap().write_all(br#"{"transport":"qu"#).unwrap();
        drop(report);
        let report = Report::open(Some(&path), true).unwrap();
        assert_eq!(measured(&report), 1, "what failed is measured again");
        assert!(report.has(&cells[3]));
        let other = Cell { transfer: Some(Direction::Up), ..cells[3].clone() };
        assert!(!report.has(&other));
        drop(report);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count(), text.ends_with('\n')), (2, true));
        assert_eq!(measured(&Report::open(Some(&path), false).unwrap()), 0);
    }
}
