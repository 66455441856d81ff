//! `tandem-loadtest run` as a person uses it: pairs at a real relay over both bindings, JSON lines, and nothing left behind.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use self::common::{lines, number, relay_program};

/// Longest that a process may take to vanish.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn run(arguments: &[&str]) -> Command {
    relay_program();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
    // Whether the machine had time enough is not what is tested.
    command.args(["run", "--json", "-", "--publish-anyway"]).args(arguments).stdin(Stdio::null());
    command
}

fn three_pairs_over(transport: &str) {
    let arguments = ["--pairs", "3", "--seconds", "2", "--transport", transport];
    let lines = lines(&run(&arguments).output().expect("it runs"));
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    assert_eq!((&line["schema"], &line["kind"]), (&Value::from(2), &Value::from("run")));
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

/// A plan's file.
fn plan(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    file
}

#[test]
fn a_plan_of_everything_survives_a_killed_relay_and_is_told_as_a_page() {
    let plan = plan(
        "name = \"a <little> of all\"\npairs = 8\ntechnicians = 2\nseconds = 4\nseed = 3\ntransport = \"mixed\"\nramp_seconds = 0.5\n\
         source = \"opaque\"\npicture = \"300B..8KiB\"\nfps = \"5..15\"\ninputs = \"10..100\"\nanswers = true\n\
         hidden = 0.25\nslow = 0.25\nslow_kbit = 300\nchurn = 0.25\nabsent = 0.1\nstay_seconds = 1\naway_seconds = 0.2\n\
         drops = 0.2\ndrop_every_seconds = \"1..2\"\nkill_relay_at_seconds = [1.5]\n",
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = folder.path().join("report.html");
    let arguments = [plan.path(), "--html".as_ref(), &page].map(|path| path.to_str().expect("UTF-8"));
    let lines = lines(&run(&arguments).output().expect("it runs"));
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    assert_eq!((&line["plan"], &line["failures"]), (&Value::from("a <little> of all"), &Value::from(0)));
    // Everybody who was connected lost the relay, and came back to a picture; some came back of themselves.
    assert!(number(line, "/reconnects") >= 16.0 && number(line, "/restarts") >= 2.0, "{line}");
    for kind in ["join_to_picture_ms", "return_to_picture_ms", "answer_ms", "input_ms", "slow_arrival_age_ms"]
    {
        assert!(number(line, &format!("/{kind}/count")) >= 1.0, "{kind} in {line}");
    }
    assert!(number(line, "/input/came") <= number(line, "/input/sent"), "{line}");
    let answered = number(line, "/answer_ms/count");
    assert_eq!(answered + number(line, "/input/unanswered"), number(line, "/input/sent"), "{line}");
    assert!(number(line, "/relay/core_pct") > 0.0 && number(line, "/relay/rss_bytes") > 1e6, "{line}");
    assert!(number(line, "/relay/context_switches_per_s") > 0.0 && number(line, "/keys") >= 1.0, "{line}");

    let page = fs::read_to_string(page).expect("a page");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).expect("well-formed");
    let count = |name| document.descendants().filter(|node| node.tag_name().name() == name).count();
    assert_eq!((count("svg"), count("script"), count("link")), (4, 0, 0));
    assert!(count("path") >= 10, "lines are drawn");
    let text = |name| {
        document.descendants().find(|node| node.tag_name().name() == name).and_then(|node| node.text())
    };
    assert_eq!(text("h1"), Some("a <little> of all"));
    let from_elsewhere =
        |address: &str| address.contains("://") && !address.starts_with("http://www.w3.org/");
    let addresses =
        document.descendants().flat_map(|node| node.attributes()).map(|attribute| attribute.value());
    assert_eq!(addresses.filter(|value| from_elsewhere(value)).count(), 0, "nothing is fetched");
}

#[test]
fn the_codec_survives_churn_and_killed_programs_too() {
    let plan = plan(
        "pairs = 3\nseconds = 3\nsource = \"cells\"\nsize = \"320x192\"\ntransport = \"mixed\"\nchurn = 0.4\nstay_seconds = 0.8\n\
         away_seconds = 0.1\ndrops = 0.5\ndrop_every_seconds = 1\n",
    );
    let lines = lines(&run(&[plan.path().to_str().expect("UTF-8")]).output().expect("it runs"));
    assert!(number(&lines[0], "/restarts") >= 1.0, "{}", lines[0]);
    assert!(number(&lines[0], "/return_to_picture_ms/count") >= 1.0, "{}", lines[0]);
}

#[test]
fn a_slow_line_loses_no_input_of_whoever_is_behind_it() {
    let plan = plan(
        "pairs = 2\nseconds = 2\ntransport = \"mixed\"\nsource = \"opaque\"\npicture = \"8KiB\"\nfps = 10\ninputs = 50\nanswers = true\n\
         slow = 1\nslow_kbit = 400\n",
    );
    let lines = lines(&run(&[plan.path().to_str().expect("UTF-8")]).output().expect("it runs"));
    let input = |key: &str| number(&lines[0], &format!("/input/{key}"));
    assert_eq!((input("sent"), input("came"), input("withheld")), (200.0, 200.0, 0.0), "{}", lines[0]);
    // What it sees is late by as much as it likes.
    assert_eq!(number(&lines[0], "/answer_ms/count") + input("unanswered"), 200.0, "{}", lines[0]);
}

#[test]
fn a_curve_says_why_it_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plot = folder.path().join("curve.svg");
    let plot_path = plot.to_str().expect("UTF-8");
    // Nothing arrives within a microsecond, so the first step of each curve is its last.
    let flags = "--curve --curve-limit 0.001 --pairs 2 --seconds 0.4 --source opaque --picture 1KiB --plot";
    let arguments: Vec<&str> = flags.split(' ').chain([plot_path]).collect();
    let lines = lines(&run(&arguments).output().expect("it runs"));
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["transport"].as_str(), line["counted"].as_str(), line["count"].as_u64()))
        .collect();
    let expected = [
        (Some("quic"), Some("sessions"), Some(2)),
        (Some("quic"), Some("subscribers"), Some(2)),
        (Some("websocket"), Some("sessions"), Some(2)),
        (Some("websocket"), Some("subscribers"), Some(2)),
    ];
    assert_eq!(told, expected);
    assert!(lines.iter().all(|line| line["ended"].is_string()), "{lines:?}");
    roxmltree::Document::parse(&fs::read_to_string(plot).expect("a plot")).expect("well-formed");
}

#[test]
fn a_plan_can_be_read_before_it_is_run_and_a_slip_is_refused_with_its_line() {
    let printed = |plan: &tempfile::NamedTempFile, flags: &[&str]| {
        let path = plan.path().to_str().expect("UTF-8");
        run(&[path, "--print-plan"]).args(flags).output().expect("it runs")
    };
    let output = printed(&plan("pairs = 7\ninputs = \"20..1000\"\n"), &["--pairs", "9"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        output.status.success() && text.contains("pairs = 9\n") && text.contains("inputs = \"20..1000\"\n"),
        "{text}"
    );
    let refused = printed(&plan("pairs = 7\npears = 8\n"), &[]);
    let stderr = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(
        refused.status.code() == Some(1) && stderr.contains("line 2") && stderr.contains("pears"),
        "{stderr}"
    );
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
