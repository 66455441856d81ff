//! `tandem-loadtest link` as a person or another test uses it: commands at both ends, JSON lines, and nothing left behind
//! however it ends. Needs root, as the link does.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// Longest that a process may take to vanish.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn link() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
    command.args(["link", "--rate", "20mbit", "--delay", "5ms"]).stdin(Stdio::null());
    command
}

/// The output's JSON lines, after a run that the machine allowed.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("needs root"), "{stderr}\nrun these tests as root");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// A link whose two commands have said their process ids and wait.
struct Running {
    link: Child,
    commands: Vec<Pid>,
    namespaces: HashSet<String>,
}

/// Starts a link whose commands each start a child of their own and wait for ever.
fn start_waiting() -> Running {
    let script = "sleep 1000 & echo $$ $!; wait";
    let mut link = link()
        .args(["--near-cmd", script, "--far-cmd", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = BufReader::new(link.stdout.take().expect("piped")).lines();
    let mut commands = Vec::new();
    for _ in 0..2 {
        let line = output.next().expect("both commands start (they need root)").expect("UTF-8");
        let pids =
            line.split(' ').map(|pid| Pid::from_raw(pid.parse().expect("a number")).expect("not zero"));
        commands.extend(pids);
    }
    let namespaces: HashSet<_> =
        commands.iter().filter_map(|pid| namespace_of(&pid.as_raw_pid().to_string())).collect();
    assert_eq!(namespaces.len(), 2, "each end has a network of its own");
    Running { link, commands, namespaces }
}

fn namespace_of(pid: &str) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.to_str().map(str::to_owned)
}

impl Running {
    /// Sends the signal to the link and waits until everything that it started is gone.
    fn end_with(mut self, signal: Signal) -> std::process::ExitStatus {
        // A process of ours cannot vanish before the link is told to end, so the ids are still theirs.
        let watched: Vec<_> = self
            .commands
            .iter()
            .map(|pid| pidfd_open(*pid, PidfdFlags::empty()).expect("still running"))
            .collect();
        let link = Pid::from_child(&self.link);
        kill_process(link, signal).expect("still running");
        let status = self.link.wait().expect("it ends");
        for process in &watched {
            let mut polled = [PollFd::new(process, PollFlags::IN)];
            assert_eq!(poll(&mut polled, Some(&PATIENCE)).expect("poll"), 1, "a command outlives its link");
        }
        status
    }

    /// Processes inside the link's namespaces.
    fn inhabitants(namespaces: &HashSet<String>) -> Vec<String> {
        let entries = fs::read_dir("/proc").expect("proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        pids.filter(|pid| namespace_of(pid).is_some_and(|namespace| namespaces.contains(&namespace)))
            .collect()
    }
}

#[test]
fn the_near_command_s_status_is_the_program_s_and_stdout_is_json_only() {
    let output = link()
        .args(["--json", "-", "--far-cmd", "sleep 1000"])
        .args(["--near-cmd", "echo $TANDEM_NEAR_IP to $TANDEM_FAR_IP; exit 7"])
        .output()
        .expect("the program runs");
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(7));
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["link-ready", "link"]);
    assert!(lines.iter().all(|line| line["schema"] == "tandem-loadtest/1"));
    assert_eq!(lines[0]["near_to_far"]["bits_per_s"], 20_000_000);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("198.18.0.1 to 198.18.0.2"), "the command's output is on stderr: {stderr}");
}

#[test]
fn without_commands_it_ends_after_the_given_seconds() {
    let output = link().args(["--json", "-", "--seconds", "0.2"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output).len(), 2);
}

#[test]
fn a_killed_link_leaves_nothing_behind() {
    let running = start_waiting();
    let namespaces = running.namespaces.clone();
    let keepers: Vec<_> = Running::inhabitants(&namespaces)
        .iter()
        .map(|pid| Pid::from_raw(pid.parse().expect("a number")).expect("not zero"))
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    let status = running.end_with(Signal::KILL);
    assert_eq!(status.signal(), Some(9));
    for keeper in &keepers {
        poll(&mut [PollFd::new(keeper, PollFlags::IN)], Some(&PATIENCE)).expect("poll");
    }
    assert_eq!(Running::inhabitants(&namespaces), Vec::<String>::new());
}

#[test]
fn an_interrupted_link_ends_its_commands_and_reports() {
    for signal in [Signal::INT, Signal::TERM] {
        let running = start_waiting();
        let namespaces = running.namespaces.clone();
        let status = running.end_with(signal);
        assert_eq!(status.code(), Some(128 + signal.as_raw()));
        assert_eq!(Running::inhabitants(&namespaces), Vec::<String>::new());
    }
}

#[test]
fn without_privileges_it_prints_the_command_that_has_them() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(env!("CARGO_BIN_EXE_tandem-loadtest"))
        .args(["link", "--rate", "20mbit", "--near-cmd", "ping -c 1 198.18.0.2"])
        .output()
        .expect("setpriv of util-linux");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("sudo ") && stderr.contains("--near-cmd 'ping -c 1 198.18.0.2'"), "{stderr}");
}

#[test]
fn a_command_that_ignores_the_request_to_end_is_killed() {
    let started = std::time::Instant::now();
    let output = link()
        .args(["--near-cmd", "true", "--far-cmd", "trap '' TERM; sleep 1000 & wait; wait"])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(started.elapsed() < Duration::from_secs(8), "took {:?}", started.elapsed());
}
