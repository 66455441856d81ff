//! A window above all others, on the display's primary monitor. It bypasses the window manager (override-redirect), so it
//! works without one and none can hide it; should another such window cover it, it rises again.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tandem_capture::Waker;
use tandem_capture::x11::Wakeup;
use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::Event;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::{
    AtomEnum, ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, Gcontext,
    ImageFormat, InputFocus, PropMode, Screen, StackMode, Visibility, Window as Id, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::text::Writer;
use crate::prompt::canvas::{Canvas, Rect, Stencil};
use crate::prompt::window::{Happened, Key, MARGIN, Place, Style, area, px, since};
use crate::prompt::{Area, PromptError};

/// Least time between two risings above a window that covers this one: two that both rise must not occupy the display.
const RISE_EVERY: Duration = Duration::from_millis(250);

/// One window with its connection.
#[derive(Debug)]
pub(in crate::prompt) struct Window {
    conn: RustConnection,
    screen: Screen,
    wakeup: Wakeup,
    /// How many pixels a logical pixel has.
    pub(in crate::prompt) scale: f32,
    id: Id,
    gc: Gcontext,
    place: Rect,
    shown: Option<Canvas>,
    /// When it was about to be shown, by the server's clock.
    shown_at: Option<u32>,
    keys: Vec<(u8, Key)>,
    focus_before: Option<Id>,
    covered: bool,
    rose: Instant,
}

/// Turns any failure of the display into one of the prompt.
pub(super) fn x<T, E: Display>(result: Result<T, E>) -> Result<T, PromptError> {
    result.map_err(|error| PromptError::Failed(error.to_string()))
}

impl Window {
    /// Connects; nothing is to be seen before [`show`](Self::show).
    pub(in crate::prompt) fn open(display: Option<&str>) -> Result<Self, PromptError> {
        let (conn, screen) = tandem_capture::x11::connect(display)?;
        let (id, gc) = (x(conn.generate_id())?, x(conn.generate_id())?);
        let resources = x(x11rb::resource_manager::new_from_default(&conn))?;
        let dots: f32 = resources.get_value("Xft.dpi", "").ok().flatten().unwrap_or(96.0);
        let keys = read_keys(&conn)?;
        Ok(Self {
            wakeup: Wakeup::new()?,
            scale: (dots / 96.0).clamp(1.0, 4.0),
            id,
            gc,
            place: Rect::default(),
            shown: None,
            shown_at: None,
            keys,
            focus_before: None,
            covered: false,
            rose: Instant::now(),
            conn,
            screen,
        })
    }

    /// Logical pixels in real ones.
    pub(in crate::prompt) fn px(&self, logical: f32) -> i32 {
        px(logical, self.scale)
    }

    /// Loads fonts to write with.
    pub(in crate::prompt) fn writer(&self) -> Result<Writer, PromptError> {
        Writer::new(&self.conn, self.scale)
    }

    /// See [`Writer::write`].
    pub(in crate::prompt) fn write(
        &self,
        writer: &mut Writer,
        text: &str,
        style: Style,
        width: i32,
    ) -> Result<Stencil, PromptError> {
        writer.write(&self.conn, self.screen.root, text, style, width)
    }

    /// The primary monitor, else the screen.
    pub(in crate::prompt) fn monitor(&self) -> Result<Rect, PromptError> {
        let root = x(x(self.conn.get_geometry(self.screen.root))?.reply())?;
        let whole = Rect { x: 0, y: 0, width: root.width.into(), height: root.height.into() };
        // A server without RandR has one monitor.
        let Ok(Ok(monitors)) =
            self.conn.randr_get_monitors(self.screen.root, true).map(|cookie| cookie.reply())
        else {
            return Ok(whole);
        };
        let monitor =
            monitors.monitors.iter().find(|monitor| monitor.primary).or_else(|| monitors.monitors.first());
        Ok(monitor.map_or(whole, |monitor| Rect {
            x: monitor.x.into(),
            y: monitor.y.into(),
            width: monitor.width.into(),
            height: monitor.height.into(),
        }))
    }

    /// Maps the window, with the keyboard if `focus`.
    pub(in crate::prompt) fn show(
        &mut self,
        size: (i32, i32),
        place: Place,
        title: &str,
        focus: bool,
    ) -> Result<(), PromptError> {
        self.place = place.on(self.monitor()?, size, self.px(MARGIN));
        let conn = &self.conn;
        let events = EventMask::EXPOSURE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::POINTER_MOTION
            | EventMask::LEAVE_WINDOW
            | EventMask::KEY_PRESS
            | EventMask::PROPERTY_CHANGE
            | EventMask::STRUCTURE_NOTIFY
            | EventMask::VISIBILITY_CHANGE;
        // No background: the server would show it before the picture.
        let look = CreateWindowAux::new().override_redirect(1).event_mask(events);
        let (left, top, width, height) =
            (self.place.x as i16, self.place.y as i16, size.0 as u16, size.1 as u16);
        let (depth, class, visual) =
            (self.screen.root_depth, WindowClass::INPUT_OUTPUT, self.screen.root_visual);
        x(conn.create_window(
            depth,
            self.id,
            self.screen.root,
            left,
            top,
            width,
            height,
            0,
            class,
            visual,
            &look,
        ))?;
        x(conn.create_gc(self.gc, self.id, &CreateGCAux::new()))?;
        self.name(title, place)?;
        x(self.conn.map_window(self.id))?;
        self.rise()?;
        if focus {
            self.focus_before = Some(x(x(self.conn.get_input_focus())?.reply())?.focus);
            x(self.conn.set_input_focus(InputFocus::POINTER_ROOT, self.id, x11rb::CURRENT_TIME))?;
        }
        // Everything is done once this is answered.
        x(self.conn.sync())
    }

    fn name(&self, title: &str, place: Place) -> Result<(), PromptError> {
        let atom =
            |name: &str| x(x(self.conn.intern_atom(false, name.as_bytes()))?.reply()).map(|reply| reply.atom);
        let (name, utf8) = (atom("_NET_WM_NAME")?, atom("UTF8_STRING")?);
        let (kind, notice) = (atom("_NET_WM_WINDOW_TYPE")?, atom("_NET_WM_WINDOW_TYPE_NOTIFICATION")?);
        let class: &[u8] = match place {
            Place::Centre => b"prompt\0Tandem\0",
            Place::Top => b"status\0Tandem\0",
        };
        x(self.conn.change_property8(PropMode::REPLACE, self.id, name, utf8, title.as_bytes()))?;
        x(self.conn.change_property8(
            PropMode::REPLACE,
            self.id,
            AtomEnum::WM_CLASS,
            AtomEnum::STRING,
            class,
        ))?;
        x(self.conn.change_property32(PropMode::REPLACE, self.id, kind, AtomEnum::ATOM, &[notice]))?;
        Ok(())
    }

    /// A part of the window in the desktop's pixels.
    pub(in crate::prompt) fn area(&self, part: Rect) -> Area {
        area(self.place, part)
    }

    /// Moves the window, but not out of the monitor, and gives it another size if it has none of it yet.
    pub(in crate::prompt) fn reshape(
        &mut self,
        left: i32,
        top: i32,
        size: (i32, i32),
    ) -> Result<(), PromptError> {
        let place = Rect { x: left, y: top, width: size.0, height: size.1 }.inside(self.monitor()?);
        if place == self.place {
            return Ok(());
        }
        if (place.width, place.height) != (self.place.width, self.place.height) {
            self.shown = None;
        }
        self.place = place;
        let change =
            ConfigureWindowAux::new().x(place.x).y(place.y).width(size.0 as u32).height(size.1 as u32);
        x(self.conn.configure_window(self.id, &change))?;
        Ok(())
    }

    pub(in crate::prompt) fn place(&self) -> Rect {
        self.place
    }

    /// Waits until the display has done all that it was told.
    pub(in crate::prompt) fn sync(&self) -> Result<(), PromptError> {
        x(self.conn.sync())
    }

    /// Shows a picture: the rows of it that are others than those shown.
    pub(in crate::prompt) fn paint(&mut self, canvas: Canvas) -> Result<(), PromptError> {
        let stride = canvas.width as usize * 4;
        let same =
            self.shown.as_ref().filter(|shown| (shown.width, shown.height) == (canvas.width, canvas.height));
        let rows = match same {
            None => 0..canvas.height as usize,
            Some(shown) => {
                let differs = |row: &usize| {
                    let bytes = row * stride..(row + 1) * stride;
                    shown.pixels[bytes.clone()] != canvas.pixels[bytes]
                };
                let mut rows = 0..canvas.height as usize;
                match (rows.find(differs), (0..canvas.height as usize).rev().find(differs)) {
                    (Some(first), Some(last)) => first..last + 1,
                    _ => return Ok(()),
                }
            }
        };
        self.put(&canvas, rows)?;
        self.shown = Some(canvas);
        x(self.conn.flush())
    }

    fn put(&self, canvas: &Canvas, mut rows: std::ops::Range<usize>) -> Result<(), PromptError> {
        let stride = canvas.width as usize * 4;
        let most = (self.conn.maximum_request_bytes().saturating_sub(1024) / stride).max(1);
        while !rows.is_empty() {
            let part = rows.start..(rows.start + most).min(rows.end);
            let (format, depth) = (ImageFormat::Z_PIXMAP, self.screen.root_depth);
            let (width, height, top) = (canvas.width as u16, part.len() as u16, part.start as i16);
            let pixels = &canvas.pixels[part.start * stride..part.end * stride];
            x(self.conn.put_image(format, self.id, self.gc, width, height, 0, top, 0, depth, pixels))?;
            rows.start = part.end;
        }
        Ok(())
    }

    /// What has happened since the last time, and how long after the window was shown.
    pub(in crate::prompt) fn happened(&mut self) -> Result<Vec<(Happened, Duration)>, PromptError> {
        let mut happened = Vec::new();
        let mut tell = |what, since| happened.push((what, since));
        let never = Duration::MAX;
        while let Some(event) = x(self.conn.poll_for_event())? {
            // Made up by another program, not by a hand.
            if event.sent_event() {
                continue;
            }
            let at = |time| self.shown_at.map_or(never, |shown| since(shown, time));
            match event {
                Event::ButtonPress(press) if press.detail == 1 => {
                    tell(Happened::Press((press.event_x.into(), press.event_y.into())), at(press.time));
                }
                Event::ButtonRelease(release) if release.detail == 1 => {
                    let place = (release.event_x.into(), release.event_y.into());
                    tell(Happened::Release(place), at(release.time));
                }
                Event::MotionNotify(motion) => {
                    let place = (motion.event_x.into(), motion.event_y.into());
                    let on_desktop = (motion.root_x.into(), motion.root_y.into());
                    tell(Happened::Motion(place, on_desktop), at(motion.time));
                }
                Event::LeaveNotify(leave) => tell(Happened::Leave, at(leave.time)),
                Event::KeyPress(press) => {
                    if let Some((_, key)) = self.keys.iter().find(|(code, _)| *code == press.detail) {
                        tell(Happened::Key(*key), at(press.time));
                    }
                }
                // The first ones are of the title and its like, which it has before it is shown.
                Event::PropertyNotify(property) => self.shown_at = self.shown_at.or(Some(property.time)),
                Event::MappingNotify(_) => self.keys = read_keys(&self.conn)?,
                Event::Expose(expose) if expose.count == 0 => {
                    if let Some(canvas) = &self.shown {
                        self.put(canvas, 0..canvas.height as usize)?;
                    }
                }
                Event::VisibilityNotify(visibility) => {
                    self.covered = visibility.state != Visibility::UNOBSCURED
                }
                Event::DestroyNotify(_) | Event::UnmapNotify(_) => tell(Happened::Closed, never),
                _ => {}
            }
        }
        if self.covered && self.rose.elapsed() >= RISE_EVERY {
            self.rise()?;
        }
        x(self.conn.flush())?;
        Ok(happened)
    }

    fn rise(&mut self) -> Result<(), PromptError> {
        (self.rose, self.covered) = (Instant::now(), false);
        x(self.conn.configure_window(self.id, &ConfigureWindowAux::new().stack_mode(StackMode::ABOVE)))?;
        Ok(())
    }

    /// Waits until something happens, the waker is used or the time is over.
    pub(in crate::prompt) fn wait(&self, timeout: Option<Duration>) -> Result<(), PromptError> {
        x(self.conn.flush())?;
        let rise = self.covered.then(|| RISE_EVERY.saturating_sub(self.rose.elapsed()));
        self.wakeup.wait(self.conn.stream(), [timeout, rise].into_iter().flatten().min())?;
        Ok(())
    }

    pub(in crate::prompt) fn waker(&self) -> Waker {
        self.wakeup.waker()
    }

    fn close(&self) -> Result<(), PromptError> {
        if let Some(before) = self.focus_before
            && x(x(self.conn.get_input_focus())?.reply())?.focus == self.id
        {
            // The window may be gone by now; then the focus stays where the server puts it.
            x(self.conn.set_input_focus(InputFocus::POINTER_ROOT, before, x11rb::CURRENT_TIME))?
                .ignore_error();
        }
        x(self.conn.destroy_window(self.id))?.ignore_error();
        x(self.conn.sync())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::debug!(%error, "the display was gone before its window");
        }
    }
}

/// Which key codes are the keys that matter.
fn read_keys(conn: &RustConnection) -> Result<Vec<(u8, Key)>, PromptError> {
    let (min, max) = (conn.setup().min_keycode, conn.setup().max_keycode);
    let map = x(x(conn.get_keyboard_mapping(min, max - min + 1))?.reply())?;
    let firsts =
        map.keysyms.chunks(usize::from(map.keysyms_per_keycode).max(1)).map(|row| row.first().copied());
    let key = |symbol: Option<u32>| match symbol.unwrap_or_default() {
        // Return, keypad Enter, Space.
        0xff0d | 0xff8d | 0x20 => Some(Key::Activate),
        // Escape.
        0xff1b => Some(Key::Cancel),
        // Tab, Left, Right.
        0xff09 | 0xff51 | 0xff53 => Some(Key::Next),
        // Shift, Control, Alt and their like, the shifts and locks of ISO 9995, Num Lock, Scroll Lock.
        0xffe1..=0xffee | 0xfe01..=0xfe13 | 0xff7e | 0xff7f | 0xff14 => None,
        _ => Some(Key::Other),
    };
    Ok((min..=max).zip(firsts).filter_map(|(code, symbol)| Some((code, key(symbol)?))).collect())
}
