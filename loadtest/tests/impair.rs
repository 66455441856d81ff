//! `tandem-loadtest impair` as a person uses it: pairs and presets across emulated links, JSON lines, and nothing left behind.
//! Needs root, as links do; without it these tests fail and say so.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use self::common::number;

fn command(arguments: &[&str]) -> Command {
    common::relay_program();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
    command.args(["impair", "--json", "-"]).args(arguments).stdin(Stdio::null());
    command
}

/// The lines of a run without failures.
fn lines(arguments: &[&str]) -> Vec<Value> {
    common::lines(&command(arguments).output().expect("it runs"))
}

/// No figure can be better than the link allows; how good they are is for a quiet machine to say.
fn is_possible(line: &Value, one_way_ms: f64) {
    for key in ["screen_age_ms", "arrival_age_ms", "input_ms"] {
        let [p50, p99] = ["p50", "p99"].map(|quantile| number(line, &format!("/{key}/{quantile}")));
        assert!(one_way_ms <= p50 && p50 <= p99, "{key} in {line}");
    }
    let (goodput, rate) = (number(line, "/goodput_mbit"), number(line, "/rate_mbit"));
    assert!(goodput > 0.0 && goodput < rate, "{line}");
    assert!(number(line, "/recovery_ms") >= one_way_ms, "{line}");
    assert_eq!(line["failures"], Value::Array(Vec::new()));
}

#[test]
fn both_transports_across_a_link_each_with_a_black_out() {
    let arguments = ["--rate", "4mbit", "--delay", "20ms", "--buffer", "200ms", "--seconds", "2"];
    let lines = lines(&arguments);
    let transports: Vec<_> = lines.iter().map(|line| line["transport"].as_str()).collect();
    assert_eq!(transports, [Some("quic"), Some("websocket")]);
    for line in &lines {
        is_possible(line, 20.0);
        assert_eq!((&line["side"], &line["source"]), (&"technician".into(), &"noise".into()));
        assert!(line.get("bulk_mbit").is_none() && line.get("file_mbit").is_none());
    }
}

#[test]
fn both_ends_behind_links_with_loss_and_a_file_beside() {
    let link = ["--rate", "8mbit", "--delay", "10ms", "--loss", "1%", "--seconds", "2"];
    let others = ["--side", "both", "--transport", "quic", "--with-file", "down"];
    let lines = lines(&[&link[..], &others].concat());
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    is_possible(line, 20.0);
    for key in ["/bulk_mbit", "/file_mbit"] {
        assert!((0.0..8.0).contains(&number(line, key)) && number(line, key) > 0.0, "{key} in {line}");
    }
}

/// A recording of two pictures of 128 × 64 pixels, four a second: dark, and bright in the middle.
fn recording(path: &Path) {
    let mut plain = b"SCTRACE1".to_vec();
    for number in [128u32, 64, 4000, 0, 2, 0] {
        plain.extend_from_slice(&number.to_le_bytes());
    }
    for (at, [x, y, w, h], colour) in [(0u64, [0u16, 0, 128, 64], 40u8), (250_000, [32, 16, 64, 32], 200)] {
        plain.extend_from_slice(&at.to_le_bytes());
        plain.extend_from_slice(&1u32.to_le_bytes());
        [x, y, w, h].iter().for_each(|side| plain.extend_from_slice(&side.to_le_bytes()));
        plain.extend_from_slice(&0u32.to_le_bytes());
        plain.extend(std::iter::repeat_n(colour, usize::from(w) * usize::from(h) * 3));
    }
    fs::write(path, zstd::encode_all(&plain[..], 1).expect("zstd")).expect("written");
}

#[test]
fn somebody_joins_while_a_recording_is_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("two.sct.zst");
    recording(&path);
    let arguments = ["--preset", "join", "--transport", "quic", "--seconds", "3", "--source", "trace"];
    let lines = lines(&[&arguments[..], &[path.to_str().expect("UTF-8")]].concat());
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    assert_eq!((&line["preset"], &line["source"]), (&"join".into(), &"two".into()));
    assert!(number(line, "/joiner_first_picture_ms") > 0.0, "{line}");
    // The customer's way is 40 ms long, and a picture is there for 250 ms.
    let [alone, with] = ["alone", "with"].map(|when| number(line, &format!("/screen_age_{when}_ms/p99")));
    assert!(alone > 40.0 && with > 40.0, "{line}");
}

#[test]
fn without_privileges_it_prints_the_command_that_has_them() {
    let run = command(&["--rate", "20mbit"]);
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(run.get_program())
        .args(run.get_args())
        .output()
        .expect("setpriv of util-linux");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("sudo ") && stderr.contains("--rate 20mbit"), "{stderr}");
}
