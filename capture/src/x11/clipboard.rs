//! The clipboard's text: the selection CLIPBOARD, which its owner hands out whenever somebody asks (ICCCM, section 2).

use std::time::{Duration, Instant};

use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::Event;
use x11rb::protocol::xfixes::{self, ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Property,
    SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::{COPY_DEPTH_FROM_PARENT, CURRENT_TIME, NONE, atom_manager};

use super::link::{Asked, Link, OrLost};
use super::wake::Wakeup;
use crate::clipboard::TEXT_MAX;
use crate::{CaptureError, Clipboard, Waker};

atom_manager! {
    /// The names that are spoken with other programs.
    Atoms: AtomsCookie {
        CLIPBOARD,
        INCR,
        TARGETS,
        UTF8_STRING,
        // Keepers of passwords offer it beside the text.
        SECRET: b"x-kde-passwordManagerHint",
        // Where what we asked for is put: each time elsewhere, so that a late answer is not taken for that to a later question.
        ANSWER_0: b"TANDEM_CLIPBOARD_0",
        ANSWER_1: b"TANDEM_CLIPBOARD_1",
        ANSWER_2: b"TANDEM_CLIPBOARD_2",
        ANSWER_3: b"TANDEM_CLIPBOARD_3",
    }
}

/// The clipboard of an X display.
#[derive(Debug)]
pub struct X11Clipboard {
    link: Link,
    /// Never shown: it owns what we put, and receives what we ask for.
    window: Window,
    wakeup: Wakeup,
    atoms: Atoms,
    /// What we put, as long as nobody else copied something.
    ours: Option<String>,
    /// How many questions were asked.
    questions: usize,
    /// Where the answer to the last one is awaited.
    awaited: Option<Atom>,
    /// What has arrived of a text that comes there in pieces.
    pieces: Option<Vec<u8>>,
}

impl X11Clipboard {
    /// Opens the clipboard of a display; `None` takes the one that DISPLAY names.
    ///
    /// # Errors
    /// [`CaptureError`] says what is missing.
    pub fn open(display: Option<&str>) -> Result<Self, CaptureError> {
        let link = Link::open(display)?;
        link.require(xfixes::X11_EXTENSION_NAME, "to be told when something is copied")?;
        let conn = &link.conn;
        conn.xfixes_query_version(5, 0).or_lost()?.reply().asked("tell XFixes' version")?;
        let atoms = Atoms::new(conn).or_lost()?.reply().asked("name the clipboard")?;
        let window = conn.generate_id().asked("give an id")?;
        let look = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        let class = WindowClass::INPUT_OUTPUT;
        conn.create_window(COPY_DEPTH_FROM_PARENT, window, link.root(), 0, 0, 1, 1, 0, class, 0, &look)
            .or_lost()?
            .check()
            .asked("make a window for the clipboard")?;
        let changes = SelectionEventMask::SET_SELECTION_OWNER;
        conn.xfixes_select_selection_input(window, atoms.CLIPBOARD, changes)
            .or_lost()?
            .check()
            .asked("tell when something is copied")?;
        let wakeup = Wakeup::new()?;
        Ok(Self { link, window, wakeup, atoms, ours: None, questions: 0, awaited: None, pieces: None })
    }

    /// Deals with an event. Answers a text that is there as a whole.
    fn take(&mut self, event: &Event) -> Result<Option<String>, CaptureError> {
        match event {
            Event::XfixesSelectionNotify(changed) if changed.owner != self.window => {
                // What it tells may be older than what we have put since.
                let conn = &self.link.conn;
                let asked = conn.get_selection_owner(self.atoms.CLIPBOARD).or_lost()?;
                if asked.reply().asked("tell whose the clipboard is")?.owner == self.window {
                    return Ok(None);
                }
                self.ours = None;
                self.forget();
                if changed.owner != NONE {
                    self.ask(self.atoms.TARGETS)?;
                }
            }
            Event::SelectionNotify(answer) if answer.property != NONE => {
                if Some(answer.property) == self.awaited {
                    return self.answered(answer.target, answer.property);
                }
                self.link.conn.delete_property(self.window, answer.property).or_lost()?;
            }
            Event::PropertyNotify(changed)
                if Some(changed.atom) == self.awaited && changed.state == Property::NEW_VALUE =>
            {
                return self.piece(changed.atom);
            }
            Event::SelectionRequest(request) => self.hand_out(request)?,
            _ => {}
        }
        Ok(None)
    }

    /// Asks the owner for what is on the clipboard, in one form.
    fn ask(&mut self, target: Atom) -> Result<(), CaptureError> {
        let Atoms { CLIPBOARD, ANSWER_0, ANSWER_1, ANSWER_2, ANSWER_3, .. } = self.atoms;
        let places = [ANSWER_0, ANSWER_1, ANSWER_2, ANSWER_3];
        let place = places[self.questions % places.len()];
        self.questions += 1;
        self.awaited = Some(place);
        let conn = &self.link.conn;
        conn.convert_selection(self.window, CLIPBOARD, target, place, CURRENT_TIME).or_lost()?;
        Ok(())
    }

    /// Nothing that was asked for is of use any more.
    fn forget(&mut self) {
        (self.awaited, self.pieces) = (None, None);
    }

    /// Takes the owner's answer away; `None` if it is more than we take.
    fn fetch(&mut self, place: Atom) -> Result<Option<(Atom, Vec<u8>)>, CaptureError> {
        let longs = TEXT_MAX.div_ceil(4) as u32;
        let asked = self.link.conn.get_property(true, self.window, place, AtomEnum::ANY, 0, longs);
        let answer = asked.or_lost()?.reply().asked("hand over what was copied")?;
        if answer.bytes_after > 0 {
            self.link.conn.delete_property(self.window, place).or_lost()?;
            return Ok(self.leave());
        }
        Ok(Some((answer.type_, answer.value)))
    }

    /// Leaves a text where it is.
    fn leave<T>(&mut self) -> Option<T> {
        tracing::info!("a text on the clipboard is too long to be told");
        self.forget();
        None
    }

    fn answered(&mut self, target: Atom, place: Atom) -> Result<Option<String>, CaptureError> {
        let Some((kind, value)) = self.fetch(place)? else { return Ok(None) };
        if kind == self.atoms.INCR {
            // Taking the announcement away asked for the first piece.
            self.pieces = Some(Vec::new());
            return Ok(None);
        }
        self.forget();
        if target != self.atoms.TARGETS {
            return Ok(text(value));
        }
        let forms = value.as_chunks::<4>().0.iter().map(|form| Atom::from_ne_bytes(*form));
        let forms: Vec<Atom> = forms.collect();
        if forms.contains(&self.atoms.UTF8_STRING) && !forms.contains(&self.atoms.SECRET) {
            self.ask(self.atoms.UTF8_STRING)?;
        }
        Ok(None)
    }

    /// Takes the next piece of a long text; the last one is empty.
    fn piece(&mut self, place: Atom) -> Result<Option<String>, CaptureError> {
        let Some(mut pieces) = self.pieces.take() else { return Ok(None) };
        let Some((_, piece)) = self.fetch(place)? else { return Ok(None) };
        if piece.is_empty() {
            self.forget();
            return Ok(text(pieces));
        }
        if pieces.len() + piece.len() > TEXT_MAX {
            return Ok(self.leave());
        }
        pieces.extend_from_slice(&piece);
        self.pieces = Some(pieces);
        Ok(None)
    }

    /// Answers somebody who wants what we put.
    fn hand_out(&self, request: &SelectionRequestEvent) -> Result<(), CaptureError> {
        let Atoms { TARGETS, UTF8_STRING, .. } = self.atoms;
        let conn = &self.link.conn;
        // Old programs name no place.
        let place = if request.property == NONE { request.target } else { request.property };
        let property = match &self.ours {
            Some(_) if request.target == TARGETS => {
                let forms = [TARGETS, UTF8_STRING];
                conn.change_property32(PropMode::REPLACE, request.requestor, place, AtomEnum::ATOM, &forms)
                    .or_lost()?;
                place
            }
            Some(text) if request.target == UTF8_STRING && self.fits(text) => {
                let bytes = text.as_bytes();
                conn.change_property8(PropMode::REPLACE, request.requestor, place, UTF8_STRING, bytes)
                    .or_lost()?;
                place
            }
            _ => NONE,
        };
        let answer = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time: request.time,
            requestor: request.requestor,
            selection: request.selection,
            target: request.target,
            property,
        };
        // Whoever asked may have gone meanwhile: an error that comes as an event and means nothing.
        conn.send_event(false, request.requestor, EventMask::NO_EVENT, answer).or_lost()?;
        Ok(())
    }

    /// Whether the server takes this as one request, as all do that speak of big ones.
    fn fits(&self, text: &str) -> bool {
        text.len() + 64 <= self.link.conn.maximum_request_bytes()
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= TEXT_MAX).then_some(text)
}

impl Clipboard for X11Clipboard {
    fn put(&mut self, text: &str) -> Result<(), CaptureError> {
        self.ours = Some(text.to_owned());
        self.forget();
        let conn = &self.link.conn;
        conn.set_selection_owner(self.window, self.atoms.CLIPBOARD, CURRENT_TIME)
            .or_lost()?
            .check()
            .asked("let us own the clipboard")
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<String>, CaptureError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            while let Some(event) = self.link.conn.poll_for_event().or_lost()? {
                if let Some(text) = self.take(&event)? {
                    return Ok(Some(text));
                }
            }
            self.link.conn.flush().or_lost()?;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.wakeup.wait(self.link.conn.stream(), left)? || left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    fn waker(&self) -> Waker {
        self.wakeup.waker()
    }
}
