//! An X server for one test. Tests of other crates take this file in too.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use x11rb::rust_connection::RustConnection;

/// A running Xvfb, ended when dropped.
pub(crate) struct Xvfb {
    child: Child,
    pub(crate) name: String,
}

impl Xvfb {
    /// Starts one with a screen like `800x600x24`, on a display number that it chooses.
    pub(crate) fn start(screen: &str, more: &[&str]) -> Self {
        let mut child = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", screen, "-nolisten", "tcp", "-noreset"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need Xvfb ({error}): apt-get install xvfb"));
        let mut number = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut number).expect("Xvfb tells its display number");
        assert!(!number.trim().is_empty(), "Xvfb did not start");
        Self { child, name: format!(":{}", number.trim()) }
    }

    /// Another program's connection.
    pub(crate) fn connect(&self) -> RustConnection {
        RustConnection::connect(Some(&self.name)).expect("Xvfb answers").0
    }

    /// Ends it under everybody's feet.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
