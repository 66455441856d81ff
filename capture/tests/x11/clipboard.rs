//! Copying and pasting between programs on one display.

use tandem_capture::Clipboard;
use tandem_capture::clipboard::TEXT_MAX;
use tandem_capture::x11::X11Clipboard;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, CreateWindowAux, EventMask, PropMode,
    Property, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use crate::desk::PATIENCE;
use crate::xvfb::Xvfb;

/// Another program, which copied something.
struct Other {
    conn: RustConnection,
}

impl Other {
    fn copies(xvfb: &Xvfb) -> Self {
        let conn = xvfb.connect();
        let (root, window) = (conn.setup().roots[0].root, conn.generate_id().unwrap());
        let class = WindowClass::INPUT_OUTPUT;
        conn.create_window(0, window, root, 0, 0, 1, 1, 0, class, 0, &CreateWindowAux::new()).unwrap();
        let other = Self { conn };
        other.conn.set_selection_owner(window, other.atom("CLIPBOARD"), x11rb::CURRENT_TIME).unwrap();
        other.conn.sync().unwrap();
        other
    }

    fn atom(&self, name: &str) -> Atom {
        self.conn.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
    }

    /// Waits for somebody who asks for what was copied, in this form and no other.
    fn asked(&self, form: &str) -> SelectionRequestEvent {
        let form = self.atom(form);
        loop {
            if let Event::SelectionRequest(request) = self.conn.wait_for_event().unwrap() {
                assert_eq!(request.target, form);
                return request;
            }
        }
    }

    /// Whether anything was asked for that has not been answered.
    fn is_asked(&self) -> bool {
        self.conn.sync().unwrap();
        std::iter::from_fn(|| self.conn.poll_for_event().unwrap())
            .any(|event| matches!(event, Event::SelectionRequest(_)))
    }

    /// Says that the answer lies where it was asked for.
    fn notify(&self, request: &SelectionRequestEvent) {
        let answer = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time: request.time,
            requestor: request.requestor,
            selection: request.selection,
            target: request.target,
            property: request.property,
        };
        self.conn.send_event(false, request.requestor, EventMask::NO_EVENT, answer).unwrap();
        self.conn.sync().unwrap();
    }

    fn offers(&self, forms: &[&str]) {
        let request = self.asked("TARGETS");
        let forms: Vec<Atom> = forms.iter().map(|form| self.atom(form)).collect();
        let (to, place) = (request.requestor, request.property);
        self.conn.change_property32(PropMode::REPLACE, to, place, AtomEnum::ATOM, &forms).unwrap();
        self.notify(&request);
    }

    /// Hands a text out as a whole.
    fn hands_out(&self, text: &[u8]) {
        let request = self.asked("UTF8_STRING");
        let (to, place, kind) = (request.requestor, request.property, request.target);
        self.conn.change_property8(PropMode::REPLACE, to, place, kind, text).unwrap();
        self.notify(&request);
    }

    /// Hands a text out in pieces, each when the one before was taken away.
    fn hands_out_in_pieces(&self, pieces: &[&[u8]]) {
        let request = self.asked("UTF8_STRING");
        let (to, place) = (request.requestor, request.property);
        let look = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        self.conn.change_window_attributes(to, &look).unwrap();
        let incr = self.atom("INCR");
        self.conn.change_property32(PropMode::REPLACE, to, place, incr, &[1]).unwrap();
        self.notify(&request);
        for piece in pieces.iter().copied().chain([&[][..]]) {
            loop {
                if let Event::PropertyNotify(changed) = self.conn.wait_for_event().unwrap()
                    && (changed.atom, changed.state) == (place, Property::DELETE)
                {
                    break;
                }
            }
            let kind = request.target;
            self.conn.change_property8(PropMode::REPLACE, to, place, kind, piece).unwrap();
            self.conn.flush().unwrap();
        }
    }
}

#[test]
fn what_one_program_copies_the_other_pastes() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let open = || X11Clipboard::open(Some(&xvfb.name)).unwrap();
    let mut ours = open();
    let long = "ü".repeat(TEXT_MAX / 2);
    for text in ["Grüße, 世界 ✓\nsecond line", &long, "short again"] {
        let mut other = open();
        other.put(text).unwrap();
        let waker = other.waker();
        let told = std::thread::scope(|scope| {
            let owner = scope.spawn(move || other.wait(Some(PATIENCE)).unwrap());
            let told = ours.wait(Some(PATIENCE)).unwrap();
            waker.wake();
            assert_eq!(owner.join().unwrap(), None, "what it put itself is not told");
            told
        });
        assert!(told.as_deref() == Some(text), "{} bytes", told.map_or(0, |told| told.len()));
    }
}

#[test]
fn a_text_in_pieces_is_told_but_neither_secrets_nor_what_is_too_long() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let mut ours = X11Clipboard::open(Some(&xvfb.name)).unwrap();
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(|| ours.wait(Some(PATIENCE)).unwrap());
        let secret = Other::copies(&xvfb);
        secret.offers(&["TARGETS", "UTF8_STRING", "x-kde-passwordManagerHint"]);
        let other = Other::copies(&xvfb);
        other.offers(&["TARGETS", "UTF8_STRING"]);
        other.hands_out(&vec![b'x'; TEXT_MAX + 1]);
        let other = Other::copies(&xvfb);
        other.offers(&["TARGETS", "UTF8_STRING"]);
        other.hands_out_in_pieces(&[b"in ", b"pieces"]);
        let told = told.join().unwrap();
        assert!(!secret.is_asked(), "a secret was asked for");
        told
    });
    assert_eq!(told.as_deref(), Some("in pieces"));
}

/// The other program was first, but nobody has heard of it yet.
#[test]
fn what_was_copied_before_does_not_take_away_what_was_put_since() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let mut ours = X11Clipboard::open(Some(&xvfb.name)).unwrap();
    let _earlier = Other::copies(&xvfb);
    let mut theirs = X11Clipboard::open(Some(&xvfb.name)).unwrap();
    ours.put("put since").unwrap();
    let waker = ours.waker();
    let told = std::thread::scope(|scope| {
        let owner = scope.spawn(move || ours.wait(Some(PATIENCE)).unwrap());
        let told = theirs.wait(Some(PATIENCE)).unwrap();
        waker.wake();
        assert_eq!(owner.join().unwrap(), None, "what it put itself is not told");
        told
    });
    assert_eq!(told.as_deref(), Some("put since"));
}
