//! A window on an X server that a person could be using.

use std::time::{Duration, Instant};

use x11rb::COPY_FROM_PARENT;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, Gcontext, InputFocus,
    Rectangle, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use xkeysym::Keysym;

use crate::xvfb::Xvfb;

/// Nothing here takes longer, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A program with one window that has the keyboard.
pub(crate) struct Person {
    pub(crate) conn: RustConnection,
    pub(crate) window: Window,
    gc: Gcontext,
}

impl Person {
    pub(crate) fn sit_down(xvfb: &Xvfb) -> Self {
        let conn = xvfb.connect();
        let root = conn.setup().roots[0].root;
        let (window, gc) = (conn.generate_id().unwrap(), conn.generate_id().unwrap());
        let mask = EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::POINTER_MOTION
            | EventMask::EXPOSURE;
        let look = CreateWindowAux::new().event_mask(mask).override_redirect(1).background_pixel(0xff_ffff);
        conn.create_window(
            COPY_FROM_PARENT as u8,
            window,
            root,
            0,
            0,
            400,
            300,
            0,
            WindowClass::INPUT_OUTPUT,
            0,
            &look,
        )
        .unwrap();
        conn.create_gc(gc, window, &CreateGCAux::new()).unwrap();
        conn.map_window(window).unwrap();
        let person = Self { conn, window, gc };
        person.until(|event| matches!(event, Event::Expose(_)).then_some(()));
        person.conn.set_input_focus(InputFocus::NONE, window, x11rb::CURRENT_TIME).unwrap();
        person.conn.sync().unwrap();
        person
    }

    pub(crate) fn root(&self) -> Window {
        self.conn.setup().roots[0].root
    }

    /// Fills a rectangle of the window and waits until that is done.
    pub(crate) fn fill(&self, x: i16, y: i16, width: u16, height: u16, colour: u32) {
        let look = x11rb::protocol::xproto::ChangeGCAux::new().foreground(colour);
        self.conn.change_gc(self.gc, &look).unwrap();
        self.conn.poly_fill_rectangle(self.window, self.gc, &[Rectangle { x, y, width, height }]).unwrap();
        self.conn.sync().unwrap();
    }

    pub(crate) fn place(&self, x: i32, y: i32) {
        self.conn.configure_window(self.window, &ConfigureWindowAux::new().x(x).y(y)).unwrap();
        self.conn.sync().unwrap();
    }

    /// The first event from now on that `wanted` takes.
    pub(crate) fn until<T>(&self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        self.conn.flush().unwrap();
        loop {
            while let Some(event) = self.conn.poll_for_event().unwrap() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the event did not come");
            let stream = self.conn.stream();
            let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&left.try_into().unwrap())).unwrap();
        }
    }

    /// Waits until the pointer is at a place of the window.
    pub(crate) fn until_pointer_at(&self, x: i16, y: i16) {
        self.until(|event| match event {
            Event::MotionNotify(motion) => ((motion.root_x, motion.root_y) == (x, y)).then_some(()),
            _ => None,
        });
    }

    /// What the next key presses mean, modifiers aside: looked up when they arrive, as toolkits do.
    pub(crate) fn read(&self, count: usize) -> String {
        let mut text = String::new();
        while text.chars().count() < count {
            text.extend(self.until(|event| match event {
                Event::KeyPress(press) => Some(self.meaning(press.detail, u16::from(press.state))),
                _ => None,
            }));
        }
        text
    }

    fn meaning(&self, code: u8, state: u16) -> Option<char> {
        let map = self.conn.get_keyboard_mapping(code, 1).unwrap().reply().unwrap().keysyms;
        let (shift, caps, level3) = (state & 1 != 0, state & 2 != 0, state & 0x80 != 0);
        let column = usize::from(shift) + if level3 { 4 } else { 0 };
        let symbol = Keysym::from(*map.get(column)?);
        if symbol.is_modifier_key() {
            return None;
        }
        let character = symbol.key_char()?;
        // As Xlib does with Caps Lock.
        Some(if caps { character.to_uppercase().next()? } else { character })
    }
}
