//! The applet's program, with the test pattern, at a real relay: seen, worked on, killed and back.

#[path = "../../client/tests/common/mod.rs"]
mod common;
#[path = "common/technician.rs"]
mod technician;

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::Relay;
use tandem_capture::pattern;
use tandem_client::Transport;
use tandem_protocol::message::{self, Right};
use technician::Technician;

struct Applet {
    process: Child,
}

impl Applet {
    fn start(relay: &Relay, state: &Path, more: &[&str]) -> Self {
        Self::start_copy(Path::new(env!("CARGO_BIN_EXE_tandem-applet")), relay, state, more)
    }

    fn start_copy(program: &Path, relay: &Relay, state: &Path, more: &[&str]) -> Self {
        let process = Command::new(program)
            .args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", &relay.code])
            .args(["--source", "pattern", "--pattern-size", "640x480", "--log", "warn", "--state-dir"])
            .arg(state)
            .args(more)
            .spawn()
            .expect("the applet starts");
        Self { process }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is a child")
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

/// Which of these programs ends first, and how.
fn first_to_end(applets: &mut [Applet]) -> (usize, ExitStatus) {
    let began = Instant::now();
    loop {
        let ended = applets.iter_mut().enumerate().find_map(|(at, applet)| Some((at, applet.ended()?)));
        if let Some(ended) = ended {
            return ended;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "both go on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the program with a code that is no session's.
fn mistyped(program: &Path, relay: &Relay, state: &Path, more: &[&str]) {
    let wrong = if relay.code == "000000" { "000001" } else { "000000" };
    let out = Command::new(program)
        .args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", wrong])
        .args(["--source", "pattern", "--state-dir"])
        .arg(state)
        .args(more)
        .output()
        .expect("the applet runs");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{told}");
    assert!(told.contains("No session has this code") && !told.contains(wrong), "{told}");
}

impl Drop for Applet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Technician {
    /// Asks to see and work, and looks.
    fn begins(&self) {
        self.asks(&[Right::View, Right::Control]);
        self.looks();
    }
}

async fn seen_and_worked_on(transport: Transport, binding: &str) {
    let relay = Relay::start();
    let state = tempfile::tempdir().expect("a folder");
    let mut technician = Technician::join(&relay, transport).await;
    let mut applet = Applet::start(&relay, state.path(), &["--transport", binding]);
    technician.customer_is_there().await;
    technician.begins();
    technician.sees_presses(0).await;
    technician.chord(&[4]);
    technician.sees_presses(1).await;
    technician.sees("a later picture", |pixels| pattern::read_frame(pixels, 640 * 4) > Some(20)).await;

    let ended = technician.client.handle.end(message::EndReason::ClosedByTechnician);
    ended.expect("connected");
    assert!(applet.process.wait().expect("it ends").success());
    assert_eq!(std::fs::read_dir(state.path()).expect("a folder").count(), 0, "nothing is left to resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seen_and_worked_on_over_quic() {
    seen_and_worked_on(Transport::Quic, "quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seen_and_worked_on_over_websocket() {
    seen_and_worked_on(Transport::WebSocket, "websocket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_applet_comes_back_by_itself_and_needs_no_new_consent() {
    let relay = Relay::start();
    let state = tempfile::tempdir().expect("a folder");
    let mut technician = Technician::join(&relay, Transport::Auto).await;
    let mut applet = Applet::start(&relay, state.path(), &[]);
    technician.customer_is_there().await;
    technician.begins();
    technician.sees_presses(0).await;
    technician.chord(&[4]);
    technician.chord(&[5]);
    technician.sees_presses(2).await;
    applet.kill();
    // Meanwhile somebody mistypes the code of another session.
    mistyped(Path::new(env!("CARGO_BIN_EXE_tandem-applet")), &relay, state.path(), &[]);
    let _again = Applet::start(&relay, state.path(), &[]);
    // A new pattern counts from nothing; what was typed before is not typed again.
    technician.sees_presses(0).await;
    technician.chord(&[6]);
    technician.sees_presses(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_goes_on_after_the_relay_crashed() {
    let mut relay = Relay::start();
    // Without TLS: the next run has another certificate.
    relay.url = relay.url.replace("https", "http");
    let state = tempfile::tempdir().expect("a folder");
    let mut technician = Technician::join(&relay, Transport::WebSocket).await;
    let _applet = Applet::start(&relay, state.path(), &[]);
    technician.customer_is_there().await;
    technician.begins();
    technician.sees_presses(0).await;
    technician.chord(&[4]);
    technician.sees_presses(1).await;
    relay.crash();
    technician.client.connected().await;
    // Nothing holds before the applet has said again what it granted.
    technician.roster("grant", |who| !who.rights.is_empty()).await;
    technician.looks();
    technician.chord(&[5]);
    technician.sees_presses(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_and_wrong_codes_are_told_clearly() {
    let relay = Relay::start();
    let out = Command::new(env!("CARGO_BIN_EXE_tandem-applet"))
        .args(["--relay", "http://192.0.2.1", "--code", &relay.code, "--source", "pattern", "--dev"])
        .stderr(Stdio::piped())
        .output()
        .expect("the applet runs");
    assert_eq!(out.status.code(), Some(1));
    let state = tempfile::tempdir().expect("a folder");
    mistyped(Path::new(env!("CARGO_BIN_EXE_tandem-applet")), &relay, state.path(), &[]);
    assert_eq!(std::fs::read_dir(state.path()).expect("a folder").count(), 0, "nothing is left behind");
}

/// Somebody who mistyped a code needs the program again, and so does another run of it that goes on with the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_was_told_to_removes_itself_only_when_the_session_is_over() {
    let relay = Relay::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (program, state) = (folder.path().join("support"), folder.path().join("state"));
    std::fs::copy(env!("CARGO_BIN_EXE_tandem-applet"), &program).expect("a copy");

    let more = ["--remove-program"];
    mistyped(&program, &relay, &state, &more);
    assert!(program.exists(), "after a wrong code");

    let mut technician = Technician::join(&relay, Transport::Auto).await;
    let first = Applet::start_copy(&program, &relay, &state, &more);
    technician.customer_is_there().await;
    // The others hear of it before it has noted how it comes back; until then another run has only the code, which is used.
    let noted = async {
        while !state.join("session.json").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noted).await.expect("it notes the session");
    let mut both = [first, Applet::start_copy(&program, &relay, &state, &more)];
    // A young connection takes being replaced for a race that it lost, and comes back; so does the other one; but each only once.
    // Which of the two stays follows from who came when.
    let (ended, how) = first_to_end(&mut both);
    assert_eq!(how.code(), Some(4), "the other one took its place");
    assert!(program.exists(), "the other one runs it");
    assert!(state.join("session.json").exists(), "the other one would resume with it");

    technician.client.handle.end(message::EndReason::ClosedByTechnician).expect("connected");
    assert!(both[1 - ended].process.wait().expect("it ends").success());
    assert!(!program.exists(), "the session is over");
}
