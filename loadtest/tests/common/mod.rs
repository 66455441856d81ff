//! What tests of subcommands have in common: the programs, and the JSON lines that they print.

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

/// The relay's program, which lies beside ours.
pub(crate) fn relay_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tandem-loadtest")).with_file_name("tandem-relay");
    assert!(program.is_file(), "{} is missing: cargo build -p tandem-relay", program.display());
    program
}

/// The output's JSON lines, after a run without failures.
pub(crate) fn lines(output: &Output) -> Vec<Value> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("needs root"), "{stderr}\nrun these tests as root");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    stdout.lines().map(line).collect()
}

/// A number in a line.
pub(crate) fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {line}"))
}
