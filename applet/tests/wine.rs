//! The applet's program for Windows, on a desktop of wine's, worked on by a technician through a real relay.
//!
//! `make windows` builds it and runs these; they need wine and Xvfb.
#![cfg(target_os = "linux")]

#[path = "../../client/tests/common/mod.rs"]
mod common;
#[path = "wine/desk.rs"]
mod desk;
#[path = "common/technician.rs"]
mod technician;
#[path = "../../capture/tests/common/xvfb.rs"]
mod xvfb;

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::Relay;
use desk::{Desk, until, variable};
use prost::Message;
use tandem_client::{Event, Transport};
use tandem_codec::Viewer;
use tandem_protocol::message::{self, EndReason, Position, Right, types};
use tandem_protocol::{LaneKey, LaneKind};
use technician::{Technician, same};

/// The colour of the button that allows.
const YES: u32 = 0x1f_7a4d;
/// Its size at least, in pixels: 240 × 48, less its label and corners.
const YES_PIXELS: usize = 6000;
/// The colour of the button that takes rights back, and its size at least.
const STOP: u32 = 0x44_5366;
const STOP_PIXELS: usize = 1000;
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

impl Technician {
    /// Asks for everything, and the customer allows it with the mouse.
    async fn is_allowed(&mut self, desk: &Arc<Desk>) {
        self.asks(&[Right::View, Right::Control, Right::Clipboard]);
        self.looks();
        let _hand = Hand::clicks_on_allow(desk);
        self.roster("grant", |who| who.rights.len() == 3).await;
    }

    /// Waits until the customer's pointer is told to be where it is moved to. (Wine tells no program how another one's pointer looks.)
    async fn sees_the_pointer(&mut self, desk: &Desk, place: (i32, i32)) {
        desk.hover(place);
        let look = |event: &Event, _: &Viewer| {
            let Event::Record { lane: LaneKey { kind: LaneKind::Cursor, .. }, record } = event else {
                return None;
            };
            (record.header.record_type == types::CURSOR_POSITION).then_some(())?;
            let at = message::CursorPosition::decode(record.body()).ok()?;
            (at.visible && (at.x, at.y) == place).then_some(())
        };
        self.until("place of the pointer", look).await;
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

    /// Waits until the customer's program has answered: what was sent before has arrived, if it was let through.
    async fn is_heard(&mut self) {
        self.send_on(LaneKind::Peer, types::PEER_PING, &message::PeerPing { id: 4711, time_us: 0 });
        let look = |event: &Event, _: &Viewer| {
            let Event::Record { record, .. } = event else { return None };
            (record.header.record_type == types::PEER_PONG).then_some(())
        };
        self.until("answer to a ping", look).await;
    }

    fn click(&self, (x, y): (i32, i32), generation: u32) {
        let at = Some(Position { display: 0, generation, x, y });
        for down in [true, false] {
            self.send(types::BUTTON, &message::Button { position: at, button: 1, down });
        }
    }

    /// Watches until the picture is what the display shows, to the last bit.
    async fn sees_exactly(&mut self, what: &str, desk: &Desk) {
        self.sees(what, |pixels| same(pixels, &desk.pixels())).await;
    }
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
    technician.customer_is_there().await;
    technician.is_allowed(&desk).await;
    technician.sees_exactly("exact picture", &desk).await;
    technician.sees_the_pointer(&desk, window).await;

    technician.click(window, 1);
    technician.text("Grüße, 世界 ✓\n");
    technician.chord(&[SHIFT, letter(b't')]);
    "andem".bytes().for_each(|byte| technician.chord(&[letter(byte)]));
    technician.sees_exactly("what was typed", &desk).await;
    technician.chord(&[CONTROL, letter(b's')]);
    saved(&note, "Grüße, 世界 ✓\r\nTandem");

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
    technician.looks();
    technician.text(" again");
    technician.sees_exactly("picture after the crash", &desk).await;
    technician.chord(&[CONTROL, letter(b's')]);
    saved(&note, "Grüße, 世界 ✓\r\nTandem\r\nhelps again");

    // The customer takes back all but seeing.
    desk.click(until("button that stops", || desk.middle_of(STOP, STOP_PIXELS)));
    technician.roster("rights taken back", |who| who.rights == [i32::from(Right::View)]).await;
    technician.text(" for ever");
    technician.copies("never");
    technician.is_heard().await;
    // And gives it again, at once. What could not be done is not done then, though it is young enough.
    technician.is_allowed(&desk).await;
    technician.click(window, 1);
    technician.chord(&[CONTROL, END]);
    technician.text("!");
    technician.chord(&[CONTROL, letter(b's')]);
    saved(&note, "Grüße, 世界 ✓\r\nTandem\r\nhelps again!");
    // What came after it has been done by now.
    assert_eq!(desk.clipboard(), "Grüße, 世界 ✓\r\nTandem\r\nhelps");

    technician.client.handle.end(EndReason::ClosedByTechnician).expect("connected");
    assert_eq!(applet.ended().code(), Some(0));
    until("end of its processes", || desk.processes("tandem-applet").is_empty().then_some(()));
    let left: Vec<_> = desk.files().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Notepad, told to save, does so until the file says this.
fn saved(note: &std::path::Path, text: &str) {
    let wanted = format!("{MARK}{text}");
    let mut content = String::new();
    let began = Instant::now();
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
    technician.customer_is_there().await;
    assert!(file.exists(), "it is there as long as it runs");
    technician.client.handle.end(EndReason::ClosedByTechnician).expect("connected");
    assert_eq!(applet.ended().code(), Some(0));
    // At first it is only moved away. A copy of it and then cmd.exe finish once it has ended, and must not be killed at it.
    until("end of what removes it", || {
        ["support", "cmd.exe"].iter().all(|name| desk.processes(name).is_empty()).then_some(())
    });
    let is_ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("support"));
    until("end of its files", || (!desk.files().iter().any(is_ours)).then_some(()));
}

/// Started from the desktop there is nothing to print on: what there is to say is in a window, but not where nobody would close it.
#[test]
#[ignore = "needs wine and the program for Windows: make windows"]
fn without_a_console_there_is_a_window_unless_nobody_is_there() {
    let desk = Desk::new();
    let program = format!("Z:{}", variable("TANDEM_WINDOWS_PROGRAM").replace('/', r"\"));
    let start = |arguments: &[&str]| {
        let mut command = desk.windows(r"C:\mute.exe");
        command.arg(&program).args(arguments);
        Program::start(command)
    };
    let nothing = ["--resume", "--state-dir", r"C:\nothing"];
    let code = |arguments: &[&str]| start(arguments).ended().code();
    assert_eq!(code(&["--headless", "--version"]), Some(0));
    assert_eq!(code(&["--headless", "--nonsense"]), Some(2));
    // It would not end with a window that nobody closes.
    assert_eq!(code(&[&["--headless"], &nothing[..]].concat()), Some(1));

    let waits = start(&nothing);
    until("window that says why", || desk.window("Tandem"));
    drop(waits);
    std::fs::remove_dir(desk.drive_c("nothing")).expect("the folder that it was given");
}

/// State is found again where it was left, and what was allowed is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wine and the program for Windows: make windows"]
async fn a_killed_program_goes_on_with_its_session() {
    let desk = Desk::new();
    let relay = Relay::start();
    let start = || {
        let more = ["--source", "pattern", "--pattern-size", "640x480"];
        Program::applet(&desk, &variable("TANDEM_WINDOWS_PROGRAM"), &relay, &more)
    };
    let mut technician = Technician::join(&relay, Transport::Auto).await;
    let killed = start();
    technician.customer_is_there().await;
    technician.asks(&[Right::View, Right::Control]);
    technician.looks();
    technician.sees_presses(0).await;
    technician.chord(&[letter(b'a')]);
    technician.sees_presses(1).await;
    let state = || desk.files().into_iter().filter(|path| path.ends_with("AppData/Local/Tandem")).count();
    assert_eq!(state(), 1, "it is written down");
    drop(killed);

    let mut again = start();
    // A new pattern counts from nothing; what was typed before is not typed again.
    technician.sees_presses(0).await;
    technician.chord(&[letter(b'b')]);
    technician.sees_presses(1).await;
    technician.client.handle.end(EndReason::ClosedByTechnician).expect("connected");
    assert_eq!(again.ended().code(), Some(0));
    assert_eq!(state(), 0, "nothing is left to resume");
}

/// What the administrator allows, until this is dropped.
struct Policy<'a>(&'a Desk);

impl<'a> Policy<'a> {
    const KEY: &'static str = r"HKLM\SOFTWARE\Policies\Tandem";

    fn set(desk: &'a Desk, text: &str) -> Self {
        let status = desk.run("wine", &["reg", "add", Self::KEY, "/v", "Applet", "/d", text, "/f"]);
        assert!(status.is_some_and(|status| status.success()), "the policy is set");
        Self(desk)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        self.0.run("wine", &["reg", "delete", Self::KEY, "/f"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wine and the program for Windows: make windows"]
async fn a_policy_in_the_registry_lets_in_without_a_question() {
    let desk = Desk::new();
    let _policy = Policy::set(&desk, "automatic_consent = ['view']");
    let relay = Relay::start();
    let mut technician = Technician::join(&relay, Transport::Auto).await;
    let _applet = Program::applet(&desk, &variable("TANDEM_WINDOWS_PROGRAM"), &relay, &["--headless"]);
    technician.customer_is_there().await;
    technician.asks(&[Right::View]);
    technician.roster("grant by the policy", |who| who.rights == [i32::from(Right::View)]).await;
    technician.looks();
    technician.sees_exactly("exact picture", &desk).await;
}
