//! `tandem-loadtest peers` and `limit` as a person uses them: our own relay and none at all, workloads of seconds, JSON lines.

mod common;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use self::common::{lines, number, relay_program};

fn peers(seconds: u32, arguments: &[&str]) -> Output {
    relay_program();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
    command
        .args(["peers", "--json", "-", "--tries", "1", "--seconds"])
        .arg(seconds.to_string())
        .args(arguments);
    command.stdin(Stdio::null()).output().expect("it runs")
}

#[test]
fn three_sessions_through_our_relay_and_through_none() {
    let systems = "tandem-websocket,tandem-quic,direct";
    let lines = lines(&peers(1, &["--workload", "sessions", "--sessions", "3", "--systems", systems]));
    let [setup, ours @ .., direct] = &lines[..] else { panic!("too few lines: {lines:?}") };
    assert_eq!(setup["kind"], "peers-setup");
    assert_eq!(ours.len(), 2);
    for line in ours.iter().chain([direct]) {
        assert_eq!((&line["workload"], &line["sessions"]), (&"sessions".into(), &3.into()));
        assert_eq!(number(line, "/failures"), 0.0, "{line}");
        assert!(number(line, "/gbit_per_s") > 0.0, "{line}");
        assert!(number(line, "/input_ms/p999") >= number(line, "/input_ms/p50"), "{line}");
        assert!(number(line, "/arrival_age_ms/p50") > 0.0, "{line}");
        // In the window ten a second are due of each; a machine that is too slow leaves some out, and says so.
        let skipped = number(line, "/frames_skipped_pct");
        let sent = (30.0 * (1.0 - skipped / 100.0)).round();
        assert_eq!(number(line, "/frames_arrived"), sent, "{line}");
        assert_eq!((number(line, "/frames_lost"), number(line, "/uploads")), (0.0, 1.0), "{line}");
    }
    for line in ours {
        assert!(number(line, "/relay_core_pct") > 0.0, "{line}");
        assert!(number(line, "/pair_cpu_ms") > 0.0, "{line}");
        assert!(number(line, "/rss_bytes_per_session") > 0.0, "{line}");
    }
    assert_eq!((&direct["system"], direct.get("relay_core_pct")), (&"direct".into(), None));
}

#[test]
fn a_peer_that_is_missing_is_said_so_and_left_out() {
    let output = peers(
        1,
        &[
            "--workload",
            "idle",
            "--sessions",
            "2",
            "--systems",
            "iroh-relay,moq-relay,tandem-websocket",
            "--peers-dir",
            "/nonexistent",
        ],
    );
    let lines = lines(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    for missing in ["iroh-relay", "moq-relay"] {
        assert_eq!(lines[0]["versions"].get(missing), Some(&Value::Null));
        assert!(stderr.contains(&format!("{missing} is left out: there is no ")), "{stderr}");
    }
    let systems: Vec<_> = lines[1..].iter().map(|line| line["system"].as_str()).collect();
    assert_eq!(systems, [Some("tandem-websocket")]);
}

#[test]
fn a_relay_that_cannot_start_is_not_waited_for() {
    let arguments =
        ["--workload", "idle", "--sessions", "1", "--systems", "tandem-quic", "--relay-bin", "/bin/false"];
    let output = peers(1, &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("ended before it listened"), "{stderr}");
}

#[test]
fn a_relay_that_is_killed_and_comes_back_loses_no_session_and_no_input_silently() {
    let arguments = ["--workload", "restart", "--sessions", "2", "--systems", "tandem-quic"];
    let lines = lines(&peers(3, &arguments));
    let [_, line] = &lines[..] else { panic!("one run, not {lines:?}") };
    assert_eq!(number(line, "/failures"), 0.0, "{line}");
    let restart = number(line, "/restart_to_ready_ms") / 1e3;
    assert!(restart > 0.0 && number(line, "/inputs") > 0.0, "{line}");
    // 40 a second are due. What is given up was due while nobody was there: while the relay started again, and until its clients tried
    // again, whose waits have grown for as long as it was away.
    assert!(number(line, "/inputs_given_up") <= 40.0 * (2.0 * restart + 1.0), "{line}");
}

#[test]
fn the_limit_says_every_part_and_what_bounds_a_relay() {
    let program = env!("CARGO_BIN_EXE_tandem-loadtest");
    let output = Command::new(program).args(["limit", "--mib", "1", "--tries", "1", "--json", "-"]).output();
    let lines = lines(&output.expect("it runs"));
    for line in &lines {
        assert_eq!(line["kind"], "limit");
        assert!(number(line, "/cpu_s_per_gib") > 0.0, "{line}");
    }
    let cost = |what: &str| {
        let line = lines.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("no {what}"));
        number(line, "/cpu_s_per_gib")
    };
    let parts = ["tcp forward, read and write", "aes-256-gcm open, record", "aes-256-gcm seal, record"];
    let sum: f64 = parts.iter().map(|part| cost(part)).sum();
    assert!((cost("relay: tls over tcp") - sum).abs() < 1e-3, "{lines:?}");
}
