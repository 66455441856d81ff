//! Acting on an X screen, through XTEST.

use std::sync::PoisonError;
use std::time::Instant;

use tandem_protocol::DisplayId;
use x11rb::connection::Connection;
use x11rb::protocol::Event as Told;
use x11rb::protocol::xinput::{self, ConnectionExt as _};
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    Keycode, MOTION_NOTIFY_EVENT, ModMask,
};
use x11rb::protocol::xtest::{self, ConnectionExt as _};

use super::SharedLayout;
use super::keymap::{Keymap, Stroke, symbol};
use super::link::{Asked, Link, OrLost};
use crate::held::{Action, Holdable};
use crate::input::Notches;
use crate::{CaptureError, HeldKeys, Injector, hid};

/// Hands on an X server's keyboard and mouse.
#[derive(Debug)]
pub struct X11Injector {
    link: Link,
    layout: SharedLayout,
    keymap: Keymap,
    keymap_stale: bool,
    xkb: bool,
    held: HeldKeys,
    wheels: (Notches, Notches),
}

/// What the server's keyboard has locked while text is typed.
#[derive(Clone, Copy, Debug, Default)]
struct Locked {
    group: usize,
    caps: bool,
}

impl X11Injector {
    pub(super) fn open(display: Option<&str>, layout: SharedLayout) -> Result<Self, CaptureError> {
        let link = Link::open(display)?;
        link.require(xtest::X11_EXTENSION_NAME, "to press keys and move the pointer")?;
        link.conn.xtest_get_version(2, 2).or_lost()?.reply().asked("tell XTEST's version")?;
        let xkb = link.has(xkb::X11_EXTENSION_NAME)?
            && link.conn.xkb_use_extension(1, 0).or_lost()?.reply().asked("tell XKB's version")?.supported;
        let mut keymap = Keymap::default();
        keymap.read(&link)?;
        let (held, wheels) = (HeldKeys::default(), Default::default());
        let injector = Self { link, layout, keymap, keymap_stale: false, xkb, held, wheels };
        injector.let_go_of_leftovers()?;
        if xkb {
            injector.stop_repeats()?;
        }
        injector.link.conn.flush().or_lost()?;
        Ok(injector)
    }

    /// Releases what an earlier run left down when it was killed. XTEST's keyboard is one of its own: keys that the
    /// person at the computer holds are not touched.
    fn let_go_of_leftovers(&self) -> Result<(), CaptureError> {
        let conn = &self.link.conn;
        let keys = conn.query_keymap().or_lost()?.reply().asked("tell which keys are down")?.keys;
        let pointer = conn.query_pointer(self.link.root()).or_lost()?.reply().asked("find the pointer")?;
        for code in (8..=255u8).filter(|code| keys[usize::from(code / 8)] >> (code % 8) & 1 == 1) {
            self.fake_key(code, false)?;
        }
        for button in (1..=5u8).filter(|button| u16::from(pointer.mask) >> (7 + button) & 1 == 1) {
            self.fake(BUTTON_RELEASE_EVENT, button, 0, 0)?;
        }
        Ok(())
    }

    /// Keeps the server from repeating keys that XTEST holds down: repeats come from the far end, and a key whose release is
    /// under way must not go on typing meanwhile.
    fn stop_repeats(&self) -> Result<(), CaptureError> {
        if !self.link.has(xinput::X11_EXTENSION_NAME)? {
            return Ok(());
        }
        let conn = &self.link.conn;
        conn.xinput_xi_query_version(2, 2).or_lost()?.reply().asked("tell XInput's version")?;
        let all = u16::from(xinput::Device::ALL);
        let devices = conn.xinput_xi_query_device(all).or_lost()?.reply().asked("list its keyboards")?.infos;
        let ours = devices.iter().filter(|device| {
            device.type_ == xinput::DeviceType::SLAVE_KEYBOARD && device.name.ends_with(b"XTEST keyboard")
        });
        for device in ours {
            let (mods, virtual_mods, repeat) =
                (ModMask::default(), xkb::VMod::default(), xkb::BoolCtrl::REPEAT_KEYS);
            let (options, off) = (xkb::AXOption::default(), xkb::BoolCtrl::default());
            let set = conn.xkb_set_controls(
                device.deviceid,
                mods,
                mods,
                mods,
                mods,
                virtual_mods,
                virtual_mods,
                virtual_mods,
                virtual_mods,
                0,
                0,
                options,
                repeat,
                off,
                xkb::Control::default(),
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                off,
                off,
                options,
                options,
                &[0; 32],
            );
            if let Err(error) = set.or_lost()?.check() {
                tracing::info!(?error, "the X server repeats held keys by itself");
            }
        }
        Ok(())
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) -> Result<(), CaptureError> {
        self.link.conn.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, x11rb::NONE, x, y, 0).or_lost()?;
        Ok(())
    }

    fn fake_key(&self, code: Keycode, down: bool) -> Result<(), CaptureError> {
        self.fake(if down { KEY_PRESS_EVENT } else { KEY_RELEASE_EVENT }, code, 0, 0)
    }

    fn fake_button(&self, button: u32, down: bool) -> Result<(), CaptureError> {
        // X numbers the wheels 4 to 7, between the middle three and the rest.
        let number = if button > 3 { button + 4 } else { button } as u8;
        self.fake(if down { BUTTON_PRESS_EVENT } else { BUTTON_RELEASE_EVENT }, number, 0, 0)
    }

    fn act(&self, what: Holdable, down: bool) -> Result<(), CaptureError> {
        match what {
            Holdable::Key(usage) => self.fake_key(keycode(usage)?, down),
            Holdable::Button(button) => self.fake_button(button, down),
        }
    }

    /// Takes in what the server said, of which only news of the keyboard's map matter.
    fn drain(&mut self) -> Result<(), CaptureError> {
        while let Some(told) = self.link.conn.poll_for_event().or_lost()? {
            match told {
                Told::MappingNotify(_) => self.keymap_stale = true,
                Told::Error(error) => tracing::debug!(?error, "the X server refused a request"),
                _ => {}
            }
        }
        Ok(())
    }

    fn locked(&self) -> Result<Locked, CaptureError> {
        if !self.xkb {
            return Ok(Locked::default());
        }
        let state = self.link.conn.xkb_get_state(xkb::ID::USE_CORE_KBD.into()).or_lost()?;
        let state = state.reply().asked("tell the keyboard's state")?;
        Ok(Locked {
            group: usize::from(u8::from(state.group)),
            caps: state.locked_mods.contains(ModMask::LOCK),
        })
    }

    fn set_caps(&self, on: bool) -> Result<(), CaptureError> {
        let (keyboard, lock) = (xkb::ID::USE_CORE_KBD.into(), ModMask::LOCK);
        let locks = if on { lock } else { ModMask::default() };
        let (group, none) = (xkb::Group::M1, ModMask::default());
        self.link.conn.xkb_latch_lock_state(keyboard, lock, locks, false, group, none, false, 0).or_lost()?;
        Ok(())
    }

    fn type_all(&mut self, text: &str, group: usize) -> Result<(), CaptureError> {
        for symbol in text.chars().filter_map(symbol) {
            if let Some(stroke) = self.keymap.find(symbol, group) {
                self.strike(stroke)?;
            } else {
                let stroke = self.keymap.borrow(&self.link, symbol)?;
                self.strike(stroke)?;
                // The time for which the code stays lent begins when the server knows.
                self.link.conn.flush().or_lost()?;
            }
        }
        Ok(())
    }

    fn strike(&self, stroke: Stroke) -> Result<(), CaptureError> {
        let shift = self.keymap.shift.filter(|_| stroke.shift);
        let level3 = self.keymap.level3.filter(|_| stroke.level3);
        let modifiers = || [shift, level3].into_iter().flatten();
        modifiers().try_for_each(|code| self.fake_key(code, true))?;
        self.fake_key(stroke.code, true)?;
        self.fake_key(stroke.code, false)?;
        modifiers().try_for_each(|code| self.fake_key(code, false))
    }

    /// The modifiers that are held by us.
    fn held_modifiers(&self) -> Vec<Keycode> {
        let codes = self.held.held().filter_map(|what| match what {
            Holdable::Key(usage) => keycode(usage).ok(),
            Holdable::Button(_) => None,
        });
        codes.filter(|code| self.keymap.is_modifier(*code)).collect()
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        self.link.conn.flush().or_lost()?;
        self.drain()
    }
}

impl Injector for X11Injector {
    fn key(&mut self, usage: u32, down: bool) -> Result<(), CaptureError> {
        let code = keycode(usage)?;
        // Time plays no part: silence is the caller's to judge.
        match self.held.change(Holdable::Key(usage), down, Instant::now()) {
            Action::Act => self.fake_key(code, down)?,
            // As X11's own repeats look: up and down at once. A modifier that repeats does nothing.
            Action::Repeat if !self.keymap.is_modifier(code) => {
                self.fake_key(code, false)?;
                self.fake_key(code, true)?;
            }
            Action::Repeat | Action::Ignore => {}
        }
        self.flush()
    }

    fn text(&mut self, text: &str) -> Result<(), CaptureError> {
        let locked = self.locked()?;
        self.drain()?;
        if std::mem::take(&mut self.keymap_stale) {
            self.keymap.read(&self.link)?;
        }
        let held = self.held_modifiers();
        held.iter().try_for_each(|code| self.fake_key(*code, false))?;
        if locked.caps {
            self.set_caps(false)?;
        }
        let typed = self.type_all(text, locked.group);
        if locked.caps {
            self.set_caps(true)?;
        }
        held.iter().try_for_each(|code| self.fake_key(*code, true))?;
        self.flush()?;
        typed
    }

    fn button(&mut self, button: u32, down: bool) -> Result<(), CaptureError> {
        if !(1..=24).contains(&button) {
            return Err(CaptureError::NoSuchKey { usage: button });
        }
        if self.held.change(Holdable::Button(button), down, Instant::now()) == Action::Act {
            self.fake_button(button, down)?;
        }
        self.flush()
    }

    fn wheel(&mut self, dx: i32, dy: i32) -> Result<(), CaptureError> {
        let (x, y) = (self.wheels.0.turn(dx), self.wheels.1.turn(dy));
        for (notches, back, forth) in [(y, 4, 5), (x, 6, 7)] {
            let button = if notches < 0 { back } else { forth };
            for _ in 0..notches.unsigned_abs() {
                self.fake(BUTTON_PRESS_EVENT, button, 0, 0)?;
                self.fake(BUTTON_RELEASE_EVENT, button, 0, 0)?;
            }
        }
        self.flush()
    }

    fn motion(&mut self, display: DisplayId, x: i32, y: i32) -> Result<(), CaptureError> {
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        let place = layout.display(display).ok_or(CaptureError::UnknownDisplay(display))?;
        let within = |origin: i32, at: i32, size: u16| (origin + at.clamp(0, i32::from(size) - 1)) as i16;
        let (x, y) = (within(place.origin.0, x, place.size.0), within(place.origin.1, y, place.size.1));
        drop(layout);
        self.link
            .conn
            .xtest_fake_input(MOTION_NOTIFY_EVENT, 0, x11rb::CURRENT_TIME, self.link.root(), x, y, 0)
            .or_lost()?;
        self.flush()
    }

    fn release_all(&mut self) -> Result<(), CaptureError> {
        for what in self.held.release_all() {
            self.act(what, false)?;
        }
        self.flush()?;
        self.keymap.give_back(&self.link)?;
        // An answer means that the server has done it all: nothing is down any more when this returns.
        self.link.conn.get_input_focus().or_lost()?.reply().asked("release what is held")?;
        self.drain()
    }

    fn held(&self) -> Vec<Holdable> {
        self.held.held().collect()
    }
}

impl Drop for X11Injector {
    fn drop(&mut self) {
        if let Err(error) = self.release_all() {
            tracing::debug!(%error, "nothing to release: the display is gone");
        }
    }
}

/// X's key codes are evdev's plus 8, and end at 255.
fn keycode(usage: u32) -> Result<Keycode, CaptureError> {
    let code = hid::evdev(usage).and_then(|code| Keycode::try_from(code + 8).ok());
    code.ok_or(CaptureError::NoSuchKey { usage })
}
