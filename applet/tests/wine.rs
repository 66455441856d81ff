//! The applet's program for Windows, on a desktop of wine's, worked on by a technician through a real relay.
//!
//! `make windows` builds it and runs these; they need wine and Xvfb.
#![cfg(target_os = "linux")]

#[path = "../../client/tests/common/mod.rs"]
mod common;
#[path = "wine/desk.rs"]
mod desk;

use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Client, Relay};
use desk::{Desk, until, variable};
use prost::Message;
use tandem_client::{Event, Outgoing, Transport};
use tandem_codec::{Outcome, PixelOrder, Viewer, ViewerLimits};
use tandem_protocol::message::{self, Ask, EndReason, Position, Right, Visible, control, types};
use tandem_protocol::{LaneKey, LaneKind, Sender};

/// The colour of the button that allows.
const YES: u32 = 0x1f_7a4d;
/// Its size at least, in pixels: 240 × 48, less its label and corners.
const YES_PIXELS: usize = 6000;
/// Keys, by their USB HID usages.
const CONTROL: u32 = 0xe0;
const SHIFT: u32 = 0xe1;
const END: u32 = 0x4d;
const fn letter(letter: u8) -> u32 {
    (letter - b'a') as u32 + 4
}
/// What the file begins with: Notepad then knows its encoding.
const MARK: &str = "\u{feff}";

/// A running program; dropping it kills it.
struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("wine starts: apt-get install wine"))
    }

    fn applet(desk: &Desk, program: &str, relay: &Relay, more: &[&str]) -> Self {
        let mut command = desk.windows(program);
        command.args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", &relay.code]);
        Self::start({
            command.args(more);
            command
        })
    }

    fn ended(&mut self) -> ExitStatus {
        until("end of the program", || self.0.try_wait().expect("it is a child"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The customer's hand at the mouse; dropping it takes it away.
struct Hand {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    /// Clicks until it is taken away: the prompt takes no click of its first half second.
    fn clicks_on_allow(desk: &Arc<Desk>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (desk, enough) = (Arc::clone(desk), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let is_enough = || enough.load(Ordering::Acquire);
            let button = until("button that allows", || {
                desk.middle_of(YES, YES_PIXELS).map(Some).or_else(|| is_enough().then_some(None))
            });
            let Some(button) = button else { return };
            until("consent", || {
                desk.click(button);
                is_enough().then_some(())
            });
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        // A test that fails already says why.
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the hand slipped");
    }
}

/// A technician who sees and works.
struct Technician {
    client: Client,
    viewer: Viewer,
}

impl Technician {
    async fn join(relay: &Relay, transport: Transport) -> Self {
        let mut client = relay.join(transport, relay.token());
        client.connected().await;
        Self { client, viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra) }
    }

    /// Waits for something, and shows meanwhile whatever arrives.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event, &Viewer) -> Option<T>) -> T {
        let (viewer, handle) = (&mut self.viewer, self.client.handle.clone());
        let look = |event: Event| {
            if let Event::Record { lane, record } = &event
                && is_picture(*lane)
                && let Outcome::Applied { point, .. } = viewer.record(&record.header, record.body())
            {
                handle.applied(LaneKey { kind: LaneKind::Screen, ..*lane }, point, point.seq);
            }
            wanted(&event, viewer)
        };
        self.client.until(what, look).await
    }

    /// Waits until the roster shows a participant of this kind.
    async fn roster(&mut self, what: &str, wanted: fn(&message::Participant) -> bool) {
        let look = |event: &Event, _: &Viewer| match event {
            Event::Control(control::Message::Roster(roster)) => {
                roster.participants.iter().any(wanted).then_some(())
            }
            _ => None,
        };
        self.until(what, look).await;
    }

    fn say(&self, message: control::Message) {
        self.client.handle.control(message).expect("connected");
    }

    fn look(&self) {
        self.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true }));
    }

    /// Asks for everything, and the customer allows it with the mouse.
    async fn is_allowed(&mut self, desk: &Arc<Desk>) {
        let rights = vec![Right::View.into(), Right::Control.into(), Right::Clipboard.into()];
        self.say(control::Message::Ask(Ask { participant: 0, rights }));
        self.look();
        let _hand = Hand::clicks_on_allow(desk);
        self.roster("grant", |who| who.rights.len() == 3).await;
    }

    fn send(&self, record_type: u8, message: &impl Message) {
        self.send_on(LaneKind::Input, record_type, message);
    }

    fn send_on(&self, kind: LaneKind, record_type: u8, message: &impl Message) {
        let lane = LaneKey::plain(kind, Sender::RELAY);
        let body = message.encode_to_vec();
        self.client.handle.send(lane, Outgoing::message(record_type, &body)).expect("joined");
    }

    fn key(&self, usage: u32, down: bool) {
        self.send(types::KEY, &message::Key { usage, down, ..message::Key::default() });
    }

    /// Presses keys, the first ones held for the last one.
    fn chord(&self, usages: &[u32]) {
        usages.iter().for_each(|usage| self.key(*usage, true));
        usages.iter().rev().for_each(|usage| self.key(*usage, false));
    }

    fn text(&self, text: &str) {
        self.send(types::TEXT, &message::Text { text: text.to_owned() });
    }

    /// Copies a text for the customer.
    fn copies(&self, text: &str) {
        let copied = message::ClipboardText { text: text.to_owned() };
        self.send_on(LaneKind::Clipboard, types::CLIPBOARD_TEXT, &copied);
    }

    /// Waits until the customer has copied this.
    async fn is_told(&mut self, text: &str) {
        let look = |event: &Event, _: &Viewer| {
            let Event::Record { lane, record } = event else { return None };
            let copied =
                (lane.kind == LaneKind::Clipboard).then(|| message::ClipboardText::decode(record.body()))?;
            (copied.ok()?.text == text).then_some(())
        };
        self.until("what the customer copied", look).await;
    }

    fn click(&self, (x, y): (i32, i32), generation: u32) {
        let at = Some(Position { display: 0, generation, x, y });
        for down in [true, false] {
            self.send(types::BUTTON, &message::Button { position: at, button: 1, down });
        }
    }

    /// Watches until the picture is what the display shows, to the last bit.
    async fn sees_exactly(&mut self, what: &str, desk: &Desk) {
        let look = |event: &Event, viewer: &Viewer| {
            let changed = matches!(event, Event::Record { lane, .. } if is_picture(*lane));
            (changed && same(viewer.decoder().picture(), &desk.pixels())).then_some(())
        };
        self.until(what, look).await;
    }
}

fn is_picture(lane: LaneKey) -> bool {
    matches!(lane.kind, LaneKind::Screen | LaneKind::Key)
}

/// Whether two pictures are alike but for the unused byte.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.as_chunks::<4>().0.iter().zip(other.as_chunks::<4>().0);
    one.len() == other.len() && pairs.into_iter().all(|(one, other)| one[..3] == other[..3])
}

/// The main job, from the code to the end.
async fn the_main_job(transport: Transport, binding: &str) {
    let desk = Arc::new(Desk::new());
    let note = desk.drive_c("note.txt");
    std::fs::write(&note, MARK).expect("a file for Notepad");
    let notepad = desk.windows("notepad.exe").arg(r"C:\note.txt").spawn().expect("wine starts");
    let _notepad = Program(notepad);
    let window = until("Notepad", || desk.window("Notepad"));
    let before = desk.files();

    let mut relay = Relay::start();
    let mut technician = Technician::join(&relay, transport).await;
    let mut applet =
        Program::applet(&desk, &variable("TANDEM_WINDOWS_PROGRAM"), &relay, &["--transport", binding]);
    technician.roster("customer", |who| who.publisher && who.online).await;
    technician.is_allowed(&desk).await;
    technician.sees_exactly("exact picture", &desk).await;

    technician.click(window, 1);
    technician.text("Grüße, 世界 ✓\n");
    technician.chord(&[SHIFT, letter(b't')]);
    "andem".bytes().for_each(|byte| technician.chord(&[letter(byte)]));
    technician.sees_exactly("what was typed", &desk).await;
    saved(&technician, &note, "Grüße, 世界 ✓\r\nTandem");

    technician.copies("\nhelps");
    assert_eq!(desk.clipboard(), "\r\nhelps");
    technician.chord(&[CONTROL, letter(b'v')]);
    technician.chord(&[CONTROL, letter(b'a')]);
    technician.chord(&[CONTROL, letter(b'c')]);
    technician.is_told("Grüße, 世界 ✓\nTandem\nhelps").await;
    technician.chord(&[CONTROL, END]);

    relay.crash();
    let connected = |event: &Event, _: &Viewer| matches!(event, Event::Connected(_)).then_some(());
    technician.until("connection after the crash", connected).await;
    technician.roster("grant after the crash", |who| !who.rights.is_empty()).await;
    technician.look();
    technician.text(" again");
    technician.sees_exactly("picture after the crash", &desk).await;
    saved(&technician, &note, "Grüße, 世界 ✓\r\nTandem\r\nhelps again");

    technician.client.handle.end(EndReason::ClosedByTechnician).expect("connected");
    assert_eq!(applet.ended().code(), Some(0));
    until("end of its processes", || desk.processes("tandem-applet").is_empty().then_some(()));
    let left: Vec<_> = desk.files().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Has Notepad save until the file says this.
fn saved(technician: &Technician, note: &std::path::Path, text: &str) {
    let wanted = format!("{MARK}{text}");
    let mut content = String::new();
    technician.chord(&[CONTROL, letter(b's')]);
    let began = std::time::Instant::now();
    while content != wanted {
        assert!(began.elapsed() < Duration::from_secs(20), "Notepad has saved {content:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(50));
        content = std::fs::read_to_string(note).unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wine and the program for Windows: make windows"]
async fn the_main_job_over_quic() {
    the_main_job(Transport::Quic, "quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wine and the program for Windows: make windows"]
async fn the_main_job_over_websocket() {
    the_main_job(Transport::WebSocket, "websocket").await;
}

/// Told to, the program is gone when the session is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wine and the program for Windows: make windows"]
async fn a_program_that_was_told_to_removes_itself() {
    let desk = Desk::new();
    let file = desk.drive_c("users/Public/support.exe");
    std::fs::copy(variable("TANDEM_WINDOWS_PROGRAM"), &file).expect("a copy");
    let relay = Relay::start();
    let mut technician = Technician::join(&relay, Transport::Auto).await;
    let more = ["--source", "pattern", "--remove-program"];
    let mut applet = Program::applet(&desk, r"C:\users\Public\support.exe", &relay, &more);
    technician.roster("customer", |who| who.publisher && who.online).await;
    assert!(file.exists(), "it is there as long as it runs");
    technician.client.handle.end(EndReason::ClosedByTechnician).expect("connected");
    assert_eq!(applet.ended().code(), Some(0));
    until("end of the file", || (!file.exists()).then_some(()));
}
