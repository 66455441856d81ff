//! The applet's program on a real X display (Xvfb), worked on by a technician through a real relay.

#[path = "../../client/tests/common/mod.rs"]
mod common;
#[path = "common/technician.rs"]
mod technician;
#[path = "../../capture/tests/common/xvfb.rs"]
mod xvfb;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::Relay;
use prost::Message;
use tandem_capture::Clipboard;
use tandem_capture::x11::X11Clipboard;
use tandem_client::{Event, Transport};
use tandem_codec::Viewer;
use tandem_protocol::LaneKind;
use tandem_protocol::message::{self, Right, types};
use technician::{Technician, same};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateGCAux, CreateWindowAux, ImageFormat, Rectangle, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use xvfb::Xvfb;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The key A.
const USAGE_A: u32 = 4;

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Desk {
    _relay: Relay,
    x: RustConnection,
    technician: Technician,
    _applet: Program,
    xvfb: Xvfb,
    _state: tempfile::TempDir,
}

impl Desk {
    /// A display, the applet on it, and a technician who may see and work.
    async fn new() -> Self {
        let xvfb = Xvfb::start("640x480x24", &[]);
        let x = xvfb.connect();
        let relay = Relay::start();
        let state = tempfile::tempdir().expect("a folder");
        let mut technician = Technician::join(&relay, Transport::Auto).await;
        let applet = Command::new(env!("CARGO_BIN_EXE_tandem-applet"))
            .args(["--relay", &relay.url, "--fingerprint", &relay.fingerprint, "--code", &relay.code])
            .args(["--display", &xvfb.name, "--dev", "--headless", "--log", "warn", "--state-dir"])
            .arg(state.path())
            .spawn()
            .expect("the applet starts");
        technician.customer_is_there().await;
        technician.looks();
        technician.asks(&[Right::View, Right::Control]);
        technician.roster("grant", |who| who.rights.len() == 2).await;
        Self { _relay: relay, x, technician, _applet: Program(applet), xvfb, _state: state }
    }

    /// Copies something, which whoever asks for it would be asked here.
    fn copies(&self) {
        let (root, window) = (self.x.setup().roots[0].root, self.x.generate_id().expect("an id"));
        let (class, look) = (WindowClass::INPUT_ONLY, CreateWindowAux::new());
        self.x.create_window(0, window, root, 0, 0, 1, 1, 0, class, 0, &look).expect("sent");
        let clipboard =
            self.x.intern_atom(false, b"CLIPBOARD").expect("sent").reply().expect("an answer").atom;
        self.x
            .set_selection_owner(window, clipboard, x11rb::CURRENT_TIME)
            .expect("sent")
            .check()
            .expect("done");
    }

    /// Whether anybody has asked for that.
    fn is_asked(&self) -> bool {
        self.x.sync().expect("an answer");
        std::iter::from_fn(|| self.x.poll_for_event().expect("it is there"))
            .any(|event| matches!(event, x11rb::protocol::Event::SelectionRequest(_)))
    }

    /// Waits until the display's keyboard has so many keys down; answers how long that took.
    async fn keys_down(&self, count: u32) -> Duration {
        let began = Instant::now();
        loop {
            let keys = self.x.query_keymap().expect("sent").reply().expect("an answer").keys;
            if keys.iter().map(|byte| byte.count_ones()).sum::<u32>() == count {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "never {count} keys down");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_reaches_the_display_and_is_released_in_silence() {
    let desk = Desk::new().await;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..100 {
        desk.technician.key(USAGE_A, true);
        times.push(desk.keys_down(1).await);
        desk.technician.key(USAGE_A, false);
        desk.keys_down(0).await;
    }
    times.sort_unstable();
    println!("from the technician's client to the X server: median {:?}, worst {:?}", times[50], times[99]);

    let pressed = Instant::now();
    desk.technician.key(USAGE_A, true);
    desk.keys_down(1).await;
    desk.keys_down(0).await;
    let released = pressed.elapsed();
    println!("released after {released:?} of silence");
    // Earlier would let go of what is held on a line that stalls.
    assert!(released > Duration::from_millis(500), "{released:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_drawn_is_seen_exactly() {
    let mut desk = Desk::new().await;
    let screen = desk.x.setup().roots[0].clone();
    let gc = desk.x.generate_id().expect("an id");
    desk.x.create_gc(gc, screen.root, &CreateGCAux::new().foreground(0x12_3456)).expect("sent");
    let box_ = Rectangle { x: 100, y: 50, width: 333, height: 222 };
    desk.x.poly_fill_rectangle(screen.root, gc, &[box_]).expect("sent");
    let grab = desk.x.get_image(ImageFormat::Z_PIXMAP, screen.root, 0, 0, 640, 480, !0).expect("sent");
    let wanted = grab.reply().expect("an answer").data;
    desk.technician.sees("the same pixels", |pixels| same(pixels, &wanted)).await;
}

/// Nothing of what was copied before it was allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_copied_there_and_back_once_that_is_allowed() {
    let mut desk = Desk::new().await;
    desk.copies();
    let mut theirs = X11Clipboard::open(Some(&desk.xvfb.name)).expect("a clipboard");
    let (waker, began) = (theirs.waker(), Instant::now());
    let served = std::thread::spawn(move || {
        let told = theirs.wait(Some(PATIENCE)).expect("a clipboard");
        assert_eq!(told.as_deref(), Some("von fern: 世界"), "after {:?}", began.elapsed());
        theirs.put("from here\n").expect("copied");
        theirs.wait(Some(PATIENCE)).expect("a clipboard")
    });
    desk.technician.asks(&[Right::Clipboard]);
    desk.technician.roster("grant", |who| who.rights.len() == 3).await;
    let text = message::ClipboardText { text: "von fern: 世界".to_owned() };
    desk.technician.send_on(LaneKind::Clipboard, types::CLIPBOARD_TEXT, &text);
    let copied = |event: &Event, _: &Viewer| match event {
        Event::Record { lane, record } if lane.kind == LaneKind::Clipboard => {
            message::ClipboardText::decode(record.body()).ok()
        }
        _ => None,
    };
    let copied = desk.technician.until("what was copied", copied).await;
    assert_eq!(copied.text, "from here\n");
    assert!(!desk.is_asked(), "what was copied before stays the customer's");
    waker.wake();
    assert_eq!(served.join().expect("served"), None);
}
