//! `tandem-loadtest link`: makes a link, runs the given commands across it, says what passed.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::way::{Buffer, Rate, Shape};
use super::{FAR_IP, Kept, Link, LinkConfig, LinkError, NEAR_IP, Side, units};
use crate::lines;
use crate::shell::own_command;

/// Exit code when the system does not allow a link.
const NOT_PERMITTED: u8 = 2;

/// Joins two network namespaces by an impaired link and runs programs across it (needs root).
///
/// Without commands it runs until Ctrl-C and says how other programs can enter its ends. With commands it ends when the
/// near one does (or the far one, if it is alone), and exits with its status.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rate from the near to the far end: 20mbit, 512kbit
    #[arg(long, value_parser = units::rate)]
    rate: Rate,
    /// Rate from the far to the near end, if it differs
    #[arg(long, value_parser = units::rate)]
    rate_back: Option<Rate>,
    /// One-way delay: 100ms
    #[arg(long, value_parser = units::duration, default_value = "0ms")]
    delay: Duration,
    /// One-way delay back, if it differs
    #[arg(long, value_parser = units::duration)]
    delay_back: Option<Duration>,
    /// Spread of the delay to either side; packets are not reordered
    #[arg(long, value_parser = units::duration, default_value = "0ms")]
    jitter: Duration,
    /// Share of packets lost at random in each direction: 0.01 or 1%
    #[arg(long, value_parser = units::share, default_value = "0")]
    loss: f64,
    /// Room before the transmitter in each direction, as bytes or as time at the rate: 256KiB, 500ms
    #[arg(long, value_parser = units::buffer, default_value = "256KiB")]
    buffer: Buffer,
    /// Fixes which packets are lost and how the delay varies
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cuts the link so long after the start
    #[arg(long, value_parser = units::duration, requires = "blackout_for")]
    blackout_at: Option<Duration>,
    /// Length of the cut
    #[arg(long, value_parser = units::duration, requires = "blackout_at")]
    blackout_for: Option<Duration>,
    /// Shell command at the near end (started second); TANDEM_NEAR_IP and TANDEM_FAR_IP are set
    #[arg(long, value_name = "COMMAND")]
    near_cmd: Option<String>,
    /// Shell command at the far end (started first)
    #[arg(long, value_name = "COMMAND")]
    far_cmd: Option<String>,
    /// Ends after so many seconds at the latest
    #[arg(long, value_parser = units::seconds)]
    seconds: Option<Duration>,
    /// Writes JSON lines to a file, or to stdout (-); the commands' output then goes to stderr
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    fn link(&self) -> LinkConfig {
        let near_to_far = Shape {
            rate: self.rate,
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            buffer: self.buffer,
        };
        let far_to_near = Shape {
            rate: self.rate_back.unwrap_or(self.rate),
            delay: self.delay_back.unwrap_or(self.delay),
            ..near_to_far
        };
        LinkConfig { near_to_far, far_to_near, seed: self.seed }
    }
}

/// What the main loop waits for.
#[derive(Debug)]
enum Event {
    Signal(i32),
    Ended(Side, io::Result<ExitStatus>),
}

/// Runs the subcommand.
///
/// # Errors
/// When the link or a command cannot be started, or the report cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let link = match Link::start(args.link()) {
        Ok(link) => link,
        Err(error @ LinkError::NotPermitted) => {
            eprintln!("link: {error}. Run it as root:\n  sudo {}", own_command());
            return Ok(ExitCode::from(NOT_PERMITTED));
        }
        Err(error) => return Err(error.into()),
    };
    let mut report = Report::open(args)?;
    report.ready(&link, args)?;
    let (events, inbox) = mpsc::channel();
    forward_signals(events.clone()).context("cannot listen for signals")?;
    // Declared after the link, so dropped before it on every way out of here.
    let far = start(&link, Side::Far, args.far_cmd.as_deref(), &report, &events)?;
    let near = start(&link, Side::Near, args.near_cmd.as_deref(), &report, &events)?;
    let code = wait_for_end(&link, args, &inbox);
    drop(near);
    drop(far);
    report.summary(&link)?;
    Ok(code)
}

fn start(
    link: &Link,
    side: Side,
    script: Option<&str>,
    report: &Report,
    events: &Sender<Event>,
) -> anyhow::Result<Option<Kept>> {
    let Some(script) = script else { return Ok(None) };
    let events = events.clone();
    // The receiver may be gone when the command is ended with the link; then nobody needs to know.
    let on_end = move |status| drop(events.send(Event::Ended(side, status)));
    let kept = link.shell(side, script, report.stdout_for_commands()?, on_end);
    Ok(Some(kept.with_context(|| format!("cannot start the {} command", side.name()))?))
}

/// Waits for the deciding command, the time limit or a signal, and switches the blackout meanwhile.
fn wait_for_end(link: &Link, args: &Args, inbox: &Receiver<Event>) -> ExitCode {
    let start = Instant::now();
    let mut switches = blackout_switches(args).into_iter().map(|(after, on)| (start + after, on)).peekable();
    let limit = args.seconds.map(|limit| start + limit);
    loop {
        let next = switches.peek().map(|(at, _)| *at).into_iter().chain(limit).min();
        match receive_until(inbox, next) {
            Some(Event::Signal(signal)) => {
                eprintln!("link: signal {signal}, ending");
                return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
            }
            Some(Event::Ended(side, status)) => {
                let status = status.map_or(u8::MAX, exit_code);
                eprintln!("link: the {} command ended with {status}", side.name());
                if side == Side::Near || args.near_cmd.is_none() || status != 0 {
                    return ExitCode::from(status);
                }
            }
            None if limit.is_some_and(|limit| Instant::now() >= limit) => return ExitCode::SUCCESS,
            None => {
                if let Some((_, on)) = switches.next_if(|(at, _)| *at <= Instant::now()) {
                    eprintln!("link: blackout {}", if on { "begins" } else { "ends" });
                    link.blackout(on);
                }
            }
        }
    }
}

/// The next event, or `None` at the deadline.
fn receive_until(inbox: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
    let Some(deadline) = deadline else { return inbox.recv().ok() };
    // The signal thread keeps a sender, so the only error is the time-out.
    inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

fn blackout_switches(args: &Args) -> Vec<(Duration, bool)> {
    match (args.blackout_at, args.blackout_for) {
        (Some(at), Some(length)) => vec![(at, true), (at + length, false)],
        _ => Vec::new(),
    }
}

fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new().name("link-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// A process's status as a shell shows it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Where JSON lines go; progress goes to stderr in any case.
struct Report {
    lines: Option<Box<dyn Write>>,
    to_stdout: bool,
}

impl Report {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let path = args.json.as_deref();
        Ok(Self { lines: lines::open(path)?, to_stdout: path.is_some_and(lines::is_stdout) })
    }

    /// The commands may use stdout unless the report does.
    fn stdout_for_commands(&self) -> io::Result<Stdio> {
        if self.to_stdout {
            Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
        } else {
            Ok(Stdio::inherit())
        }
    }

    fn ready(&mut self, link: &Link, args: &Args) -> anyhow::Result<()> {
        let config = args.link();
        let (near, far) = (link.namespace_path(Side::Near), link.namespace_path(Side::Far));
        eprintln!(
            "link: near {NEAR_IP} (nsenter --net={near} PROGRAM), far {FAR_IP} (nsenter --net={far} PROGRAM)"
        );
        lines::write(
            &mut self.lines,
            &json!({
                "schema": "tandem-loadtest/1",
                "kind": "link-ready",
                "near": { "ip": NEAR_IP, "namespace": near },
                "far": { "ip": FAR_IP, "namespace": far },
                "near_to_far": shape_json(&config.near_to_far),
                "far_to_near": shape_json(&config.far_to_near),
                "seed": config.seed,
            }),
        )
    }

    fn summary(&mut self, link: &Link) -> anyhow::Result<()> {
        let mut line = json!({ "schema": "tandem-loadtest/1", "kind": "link" });
        for (from, name) in [(Side::Near, "near_to_far"), (Side::Far, "far_to_near")] {
            let statistics = link.statistics(from).context("cannot read what passed")?;
            let counters = &statistics.counters;
            eprintln!(
                "link: {name}: {} of {} packets, {} bytes delivered; {} found the buffer full, {} were lost by chance, \
                 {} in a blackout; they waited {:.1} ms (median), {:.1} ms at most, and came {:.3} ms (p99) later than \
                 they should",
                counters.packets_delivered,
                counters.packets_in,
                counters.bytes_delivered,
                counters.dropped_by_buffer,
                counters.lost_by_chance,
                counters.lost_in_blackout,
                statistics.queue_delay_ms.p50,
                statistics.queue_delay_ms.max,
                statistics.lateness_ms.p99,
            );
            if statistics.missed + statistics.refused > 0 {
                eprintln!(
                    "link: {name}: {} packets were missed and {} refused by the devices: this machine was too busy to \
                     be exact",
                    statistics.missed, statistics.refused
                );
            }
            line[name] = json!({
                "packets_in": counters.packets_in,
                "bytes_in": counters.bytes_in,
                "packets_delivered": counters.packets_delivered,
                "bytes_delivered": counters.bytes_delivered,
                "dropped_by_buffer": counters.dropped_by_buffer,
                "lost_by_chance": counters.lost_by_chance,
                "lost_in_blackout": counters.lost_in_blackout,
                "queued_bytes_max": counters.queued_bytes_max,
                "missed": statistics.missed,
                "refused": statistics.refused,
                "queue_delay_ms": statistics.queue_delay_ms,
                "lateness_ms": statistics.lateness_ms,
            });
        }
        lines::write(&mut self.lines, &line)
    }
}

fn shape_json(shape: &Shape) -> Value {
    json!({
        "bits_per_s": shape.rate.bits_per_second(),
        "delay_ms": shape.delay.as_secs_f64() * 1e3,
        "jitter_ms": shape.jitter.as_secs_f64() * 1e3,
        "loss": shape.loss,
        "buffer_bytes": shape.buffer.bytes_at(shape.rate),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_the_code_that_a_shell_would_show() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
