//! `tandem-loadtest run` as a person uses it: pairs at a real relay over both bindings, JSON lines, and nothing left behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// Longest that a process may take to vanish.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The relay's program, which lies beside ours.
fn relay_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tandem-loadtest")).with_file_name("tandem-relay");
    assert!(program.is_file(), "{} is missing: cargo build -p tandem-relay", program.display());
    program
}

fn run(arguments: &[&str]) -> Command {
    relay_program();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
    command.args(["run", "--json", "-"]).args(arguments).stdin(Stdio::null());
    command
}

/// The output's JSON lines, after a run without failures.
fn lines(output: &Output) -> Vec<Value> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    stdout.lines().map(line).collect()
}

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {line}"))
}

fn three_pairs_over(transport: &str) {
    let arguments = ["--pairs", "3", "--seconds", "2", "--transport", transport];
    let lines = lines(&run(&arguments).output().expect("it runs"));
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    assert_eq!((&line["schema"], &line["kind"]), (&Value::from(1), &Value::from("run")));
    assert_eq!((&line["transport"], &line["pairs"]), (&Value::from(transport), &Value::from(3)));
    assert_eq!((number(line, "/failures"), number(line, "/pictures_offered")), (0.0, 60.0));
    // How much is shown in time is for a quiet machine to say.
    assert!((1.0..=60.0).contains(&number(line, "/pictures_applied")), "{line}");
    assert!(number(line, "/gbit_per_s") > 0.0, "{line}");
    for (key, quantiles) in [("screen_age_ms", &["p50", "p99"][..]), ("input_ms", &["p50", "p99", "p999"])] {
        let mut least = 0.0;
        for quantile in quantiles {
            let value = number(line, &format!("/{key}/{quantile}"));
            assert!(value > 0.0 && value >= least, "{key} {quantile} in {line}");
            least = value;
        }
    }
}

#[test]
fn three_pairs_over_quic() {
    three_pairs_over("quic");
}

#[test]
fn three_pairs_over_websocket() {
    three_pairs_over("websocket");
}

#[test]
fn several_tries_end_with_their_medians() {
    let arguments = ["--pairs", "1", "--seconds", "0.5", "--tries", "2", "--source", "noise"];
    let lines = lines(&run(&arguments).output().expect("it runs"));
    let kinds: Vec<_> = lines.iter().map(|line| (line["try"].as_u64(), line["median"].as_bool())).collect();
    assert_eq!(kinds, [(Some(1), None), (Some(2), None), (None, Some(true))]);
}

/// A relay that somebody else has started.
struct Relay {
    process: Child,
    ready: Value,
}

impl Relay {
    fn start() -> Self {
        let mut process = Command::new(relay_program())
            .args(["serve", "--dev", "--json", "--log", "warn", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut line = String::new();
        let stdout = process.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the relay says that it is ready");
        Self { process, ready: serde_json::from_str(&line).expect("JSON") }
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().expect("text")
    }

    fn secret(&self) -> &str {
        self.text("console").split_once("#secret=").expect("a secret").1
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_relay_that_runs_already_is_believed_by_its_fingerprint_only() {
    let relay = Relay::start();
    let (url, secret) = (relay.text("relay"), relay.secret());
    let there = ["--pairs", "1", "--seconds", "0.5", "--relay", url, "--sign-in", secret, "--fingerprint"];
    let other = "00".repeat(32);
    let refused = run(&there).arg(&other).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("another fingerprint"), "{stderr}");
    let lines = lines(&run(&there).arg(relay.text("fingerprint")).output().expect("it runs"));
    assert_eq!(lines[0]["failures"], 0);
}

/// All processes below this one, with what to watch them by.
fn descendants(of: u32) -> Vec<Pid> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let is_below =
        |&pid: &u32| std::iter::successors(Some(pid), |&pid| parent(pid)).skip(1).any(|pid| pid == of);
    let below = pids.into_iter().filter(is_below);
    below.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}

#[test]
fn its_relay_ends_with_it_even_when_it_is_killed() {
    let mut running = run(&["--pairs", "1", "--seconds", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr = BufReader::new(running.stderr.take().expect("piped"));
    let started = stderr.lines().map_while(Result::ok).any(|line| line.contains("1 pairs at"));
    assert!(started, "it ended early");
    let processes = descendants(running.id());
    assert!(processes.len() >= 2, "a keeper and a relay, not {processes:?}");
    let watched: Vec<_> = processes
        .into_iter()
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()).expect("still running"))
        .collect();
    running.kill().expect("still running");
    running.wait().expect("it ends");
    for process in &watched {
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&PATIENCE)).expect("poll"), 1, "a process outlives it");
    }
}
