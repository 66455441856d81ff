//! One pair across an emulated link: what the pacer makes of a path. Needs root, as the link does.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

fn command(arguments: &[&str]) -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tandem-loadtest"));
    let relay = program.with_file_name("tandem-relay");
    assert!(relay.is_file(), "{} is missing: cargo build -p tandem-relay", relay.display());
    let mut command = Command::new(program);
    command.args(["run", "--json", "-", "--seconds", "8"]).args(arguments).stdin(Stdio::null());
    command
}

/// The one line of a run across a link with 100 ms in each direction.
fn across(rate: &str, arguments: &[&str]) -> Value {
    let output = command(&["--link-delay", "100ms", "--link-rate", rate]).args(arguments).output();
    let output = output.expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("needs root"), "{stderr}\nrun these tests as root");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {line}"))
}

/// With always something to send, the pacer uses at least 60 % of 20 Mbit/s.
fn uses_the_path(transport: &str, side: &str) {
    let line = across("20mbit", &["--source", "noise", "--transport", transport, "--link-side", side]);
    assert_eq!(line["side"], side);
    let (goodput, rate) = (number(&line, "/goodput_mbit"), number(&line, "/rate_mbit"));
    assert!(goodput >= 0.6 * rate, "{goodput} of {rate} Mbit/s in {line}");
}

#[test]
fn a_technicians_downlink_is_used_over_quic() {
    uses_the_path("quic", "technician");
}

#[test]
fn a_technicians_downlink_is_used_over_websocket() {
    uses_the_path("websocket", "technician");
}

#[test]
fn a_customers_uplink_is_used_over_quic() {
    uses_the_path("quic", "customer");
}

/// At 2 Mbit/s a screen that changes sixty times a second stays younger than a second, and nothing waits behind it.
fn stays_young(transport: &str) {
    let line = across("2mbit", &["--fps", "60", "--transport", transport]);
    let age = number(&line, "/screen_age_ms/p99");
    assert!((100.0..1000.0).contains(&age), "{age} ms in {line}");
    let input = number(&line, "/input_ms/p50");
    assert!((100.0..1000.0).contains(&input), "{input} ms in {line}");
}

#[test]
fn a_changing_screen_stays_young_over_quic() {
    stays_young("quic");
}

#[test]
fn a_changing_screen_stays_young_over_websocket() {
    stays_young("websocket");
}

#[test]
fn without_privileges_it_prints_the_command_that_has_them() {
    let run = command(&["--link-rate", "20mbit"]);
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(run.get_program())
        .args(run.get_args())
        .output()
        .expect("setpriv of util-linux");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("sudo ") && stderr.contains("--link-rate 20mbit"), "{stderr}");
}
