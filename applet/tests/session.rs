//! The applet's program, with the test pattern, at a real relay: seen, worked on, killed and back.

#[path = "../../client/tests/common/mod.rs"]
mod common;

use std::process::{Child, Command, Stdio};

use common::{Client, Relay};
use prost::Message;
use tandem_capture::pattern;
use tandem_client::{Event, Outgoing, Transport};
use tandem_codec::{Outcome, PixelOrder, Viewer, ViewerLimits};
use tandem_protocol::message::{self, Ask, Right, Visible, control, types};
use tandem_protocol::{LaneKey, LaneKind, Sender};

struct Applet {
    process: Child,
}

impl Applet {
    fn start(relay: &Relay, state: &std::path::Path, more: &[&str]) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_tandem-applet"))
            .args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", &relay.code])
            .args(["--source", "pattern", "--pattern-size", "640x480", "--log", "warn", "--state-dir"])
            .arg(state)
            .args(more)
            .spawn()
            .expect("the applet starts");
        Self { process }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Applet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A technician who sees and types.
struct Technician {
    client: Client,
    viewer: Viewer,
}

impl Technician {
    async fn join(relay: &Relay, transport: Transport) -> Self {
        let mut client = relay.join(transport, relay.token());
        client.connected().await;
        let viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
        Self { client, viewer }
    }

    async fn customer_is_there(&mut self) {
        let customer = |message: &control::Message| match message {
            control::Message::Roster(roster) => {
                roster.participants.iter().any(|who| who.publisher && who.online).then_some(())
            }
            _ => None,
        };
        self.client.control("customer", customer).await;
    }

    fn look(&self) {
        let rights = vec![Right::View.into(), Right::Control.into()];
        for message in [
            control::Message::Ask(Ask { participant: 0, rights }),
            control::Message::Visible(Visible { display: 0, visible: true, focused: true }),
        ] {
            self.client.handle.control(message).expect("connected");
        }
    }

    fn press(&self, usage: u32) {
        for down in [true, false] {
            let key = message::Key { usage, down, ..message::Key::default() }.encode_to_vec();
            let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
            self.client.handle.send(lane, Outgoing::message(types::KEY, &key)).expect("joined");
        }
    }

    /// Watches until the picture shows what is wanted.
    async fn sees(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) {
        let (viewer, handle) = (&mut self.viewer, self.client.handle.clone());
        self.client
            .until(what, |event| {
                let Event::Record { lane, record } = event else { return None };
                let Outcome::Applied { point, .. } = viewer.record(&record.header, record.body()) else {
                    return None;
                };
                handle.applied(LaneKey { kind: LaneKind::Screen, ..lane }, point, point.seq);
                wanted(viewer.decoder().picture()).then_some(())
            })
            .await;
    }

    async fn sees_presses(&mut self, count: u32) {
        let what = format!("picture with {count} presses");
        self.sees(&what, |pixels| pattern::read_presses(pixels, 640 * 4) == Some(count)).await;
    }
}

async fn seen_and_worked_on(transport: Transport, binding: &str) {
    let relay = Relay::start();
    let state = tempfile::tempdir().expect("a folder");
    let mut technician = Technician::join(&relay, transport).await;
    let mut applet = Applet::start(&relay, state.path(), &["--transport", binding]);
    technician.customer_is_there().await;
    technician.look();
    technician.sees_presses(0).await;
    technician.press(4);
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
    technician.look();
    technician.sees_presses(0).await;
    technician.press(4);
    technician.press(5);
    technician.sees_presses(2).await;
    applet.kill();
    let _again = Applet::start(&relay, state.path(), &[]);
    // A new pattern counts from nothing; what was typed before is not typed again.
    technician.sees_presses(0).await;
    technician.press(6);
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
    technician.look();
    technician.sees_presses(0).await;
    technician.press(4);
    technician.sees_presses(1).await;
    relay.crash();
    technician.client.connected().await;
    // Nothing holds before the applet has said again what it granted.
    let granted = |message: &control::Message| match message {
        control::Message::Roster(roster) => {
            roster.participants.iter().any(|who| !who.rights.is_empty()).then_some(())
        }
        _ => None,
    };
    technician.client.control("grant", granted).await;
    let visible = Visible { display: 0, visible: true, focused: true };
    technician.client.handle.control(control::Message::Visible(visible)).expect("connected");
    technician.press(5);
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
    let wrong = if relay.code == "000000" { "000001" } else { "000000" };
    let state = tempfile::tempdir().expect("a folder");
    let out = Command::new(env!("CARGO_BIN_EXE_tandem-applet"))
        .args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", wrong])
        .args(["--source", "pattern", "--state-dir"])
        .arg(state.path())
        .output()
        .expect("the applet runs");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{told}");
    assert!(told.contains("No session has this code") && !told.contains(wrong), "{told}");
}
