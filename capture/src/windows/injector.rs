//! Acting on the desktop, through `SendInput`.

use std::io;
use std::ptr::null_mut;
use std::sync::PoisonError;

use tandem_protocol::DisplayId;
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{
    GetAsyncKeyState, GetKeyboardLayout, INPUT, INPUT_0, INPUT_KEYBOARD, INPUT_MOUSE, KEYBDINPUT,
    KEYEVENTF_EXTENDEDKEY, KEYEVENTF_KEYUP, KEYEVENTF_SCANCODE, KEYEVENTF_UNICODE, MAPVK_VSC_TO_VK_EX,
    MOUSEEVENTF_ABSOLUTE, MOUSEEVENTF_HWHEEL, MOUSEEVENTF_LEFTDOWN, MOUSEEVENTF_LEFTUP,
    MOUSEEVENTF_MIDDLEDOWN, MOUSEEVENTF_MIDDLEUP, MOUSEEVENTF_MOVE, MOUSEEVENTF_RIGHTDOWN,
    MOUSEEVENTF_RIGHTUP, MOUSEEVENTF_VIRTUALDESK, MOUSEEVENTF_WHEEL, MOUSEEVENTF_XDOWN, MOUSEEVENTF_XUP,
    MOUSEINPUT, MapVirtualKeyExW, SendInput, VIRTUAL_KEY, VK_LBUTTON, VK_LCONTROL, VK_LMENU, VK_LSHIFT,
    VK_LWIN, VK_MBUTTON, VK_PAUSE, VK_RBUTTON, VK_RCONTROL, VK_RETURN, VK_RMENU, VK_RSHIFT, VK_RWIN, VK_TAB,
    VK_XBUTTON1, VK_XBUTTON2,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    GetForegroundWindow, GetSystemMetrics, GetWindowThreadProcessId, SM_SWAPBUTTON, XBUTTON1, XBUTTON2,
};

use super::{SharedLayout, layout};
use crate::held::Holdable;
use crate::holding::{Holding, Keyboard};
use crate::input::NOTCHES_MAX;
use crate::scan::{Scan, scan};
use crate::share::share;
use crate::{CaptureError, Injector};

/// So many inputs are handed over at a time when text is typed: what the person types meanwhile comes between.
const BATCH: usize = 64;
/// The left and right Control, Shift, Alt and Windows keys, by usage and virtual key.
const MODIFIERS: [(u32, VIRTUAL_KEY); 8] = [
    (0xe0, VK_LCONTROL),
    (0xe1, VK_LSHIFT),
    (0xe2, VK_LMENU),
    (0xe3, VK_LWIN),
    (0xe4, VK_RCONTROL),
    (0xe5, VK_RSHIFT),
    (0xe6, VK_RMENU),
    (0xe7, VK_RWIN),
];

/// Hands on this computer's keyboard and mouse.
#[derive(Debug)]
pub struct WindowsInjector {
    layout: SharedLayout,
    holding: Holding,
}

impl WindowsInjector {
    pub(super) fn new(layout: SharedLayout) -> Self {
        let mut injector = Self { layout, holding: Holding::owing(leftovers()) };
        if let Err(error) = injector.settle() {
            tracing::debug!(%error, "keys that an earlier run held are released as soon as that can be");
        }
        injector
    }

    /// The modifiers that are held by us.
    fn held_modifiers(&self) -> Vec<u32> {
        let held = self.holding.held().filter_map(|what| match what {
            Holdable::Key(usage) => Some(usage),
            Holdable::Button(_) => None,
        });
        held.filter(|usage| MODIFIERS.iter().any(|(modifier, _)| modifier == usage)).collect()
    }
}

impl Injector for WindowsInjector {
    fn key(&mut self, usage: u32, down: bool) -> Result<(), CaptureError> {
        // A key that there is not is never held.
        key(usage, down)?;
        self.holding.change(Holdable::Key(usage), down, &mut System)
    }

    fn text(&mut self, text: &str) -> Result<(), CaptureError> {
        // While that is refused still, so is what follows.
        let _ = self.holding.catch_up(&mut System);
        let held = self.held_modifiers();
        held.iter().try_for_each(|usage| System.act(Holdable::Key(*usage), false))?;
        let inputs: Vec<INPUT> = text.replace("\r\n", "\n").chars().flat_map(typed).collect();
        let typed = inputs.chunks(BATCH).try_for_each(send);
        held.iter().try_for_each(|usage| System.act(Holdable::Key(*usage), true))?;
        typed
    }

    fn button(&mut self, number: u32, down: bool) -> Result<(), CaptureError> {
        button(number, down)?;
        self.holding.change(Holdable::Button(number), down, &mut System)
    }

    fn wheel(&mut self, dx: i32, dy: i32) -> Result<(), CaptureError> {
        // Windows counts in the same parts of a notch, but its positive is up.
        let most = NOTCHES_MAX * 120;
        let turns =
            [(MOUSEEVENTF_WHEEL, -dy.clamp(-most, most)), (MOUSEEVENTF_HWHEEL, dx.clamp(-most, most))];
        let turn = |(flags, amount): (u32, i32)| mouse(0, 0, amount as u32, flags);
        let inputs: Vec<INPUT> = turns.into_iter().filter(|(_, amount)| *amount != 0).map(turn).collect();
        let _ = self.holding.catch_up(&mut System);
        if inputs.is_empty() { Ok(()) } else { send(&inputs) }
    }

    fn motion(&mut self, display: DisplayId, x: i32, y: i32) -> Result<(), CaptureError> {
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        let place = layout.display(display).ok_or(CaptureError::UnknownDisplay(display))?;
        let within = |origin: i32, at: i32, size: u16| origin + at.clamp(0, i32::from(size) - 1);
        let (x, y) = (within(place.origin.0, x, place.size.0), within(place.origin.1, y, place.size.1));
        drop(layout);
        let _ = self.holding.catch_up(&mut System);
        let [left, top, width, height] = layout::desktop();
        let flags = MOUSEEVENTF_MOVE | MOUSEEVENTF_ABSOLUTE | MOUSEEVENTF_VIRTUALDESK;
        send(&[mouse(share(x - left, width), share(y - top, height), 0, flags)])
    }

    fn release_all(&mut self) -> Result<(), CaptureError> {
        self.holding.release_all(&mut System)
    }

    fn settle(&mut self) -> Result<(), CaptureError> {
        self.holding.settle(&mut System)
    }

    fn owes(&self) -> bool {
        self.holding.owes()
    }

    fn held(&self) -> Vec<Holdable> {
        self.holding.held().collect()
    }
}

impl Drop for WindowsInjector {
    fn drop(&mut self) {
        if let Err(error) = self.release_all() {
            tracing::debug!(%error, "what was held could not be released");
        }
    }
}

/// Windows' keyboard and mouse. It takes input for a window of a program with more rights and gives it to nobody, without an error:
/// only the state of the keys tells.
struct System;

impl Keyboard for System {
    fn act(&mut self, what: Holdable, down: bool) -> Result<(), CaptureError> {
        match what {
            Holdable::Key(usage) => send(&[key(usage, down)?]),
            Holdable::Button(number) => send(&[button(number, down)?]),
        }
    }

    fn is_down(&self, what: Holdable) -> bool {
        let known = match what {
            Holdable::Key(usage) => scan(usage).map(|scan| match scan {
                Scan::Plain(code) => virtual_key(code.into()),
                Scan::Extended(code) => virtual_key(0xe000 | u16::from(code)),
                Scan::Pause => VK_PAUSE,
            }),
            Holdable::Button(number) => match (number, is_swapped()) {
                (1, false) | (3, true) => Some(VK_LBUTTON),
                (3, false) | (1, true) => Some(VK_RBUTTON),
                (2, _) => Some(VK_MBUTTON),
                (4, _) => Some(VK_XBUTTON1),
                (5, _) => Some(VK_XBUTTON2),
                _ => None,
            },
        };
        known.is_some_and(is_down)
    }
}

/// Whether the system has this key or button of the device's down.
fn is_down(virtual_key: VIRTUAL_KEY) -> bool {
    // SAFETY: without conditions.
    unsafe { GetAsyncKeyState(i32::from(virtual_key)) < 0 }
}

/// The modifiers that are down, perhaps because an earlier run was killed. Windows does not say who holds a key: one that the person
/// holds right now has to be pressed again.
fn leftovers() -> impl Iterator<Item = Holdable> {
    let down = MODIFIERS.into_iter().filter(|(_, virtual_key)| is_down(*virtual_key));
    down.map(|(usage, _)| Holdable::Key(usage))
}

fn key(usage: u32, down: bool) -> Result<INPUT, CaptureError> {
    let up = if down { 0 } else { KEYEVENTF_KEYUP };
    Ok(match scan(usage).ok_or(CaptureError::NoSuchKey { usage })? {
        Scan::Plain(code) => keyboard(virtual_key(code.into()), code.into(), KEYEVENTF_SCANCODE | up),
        Scan::Extended(code) => {
            // An input has room for eight bits; the flag stands for the prefix.
            let virtual_key = virtual_key(0xe000 | u16::from(code));
            keyboard(virtual_key, code.into(), KEYEVENTF_SCANCODE | KEYEVENTF_EXTENDEDKEY | up)
        }
        Scan::Pause => keyboard(VK_PAUSE, 0, up),
    })
}

/// What a scan code means in the present layout. Windows itself looks that up and ignores ours; wine did not up to version 8.
fn virtual_key(code: u16) -> VIRTUAL_KEY {
    // SAFETY: without conditions; a window that has just gone gives this thread's layout.
    let known = unsafe {
        let layout = GetKeyboardLayout(GetWindowThreadProcessId(GetForegroundWindow(), null_mut()));
        MapVirtualKeyExW(code.into(), MAPVK_VSC_TO_VK_EX, layout)
    };
    known as VIRTUAL_KEY
}

fn button(number: u32, down: bool) -> Result<INPUT, CaptureError> {
    let swapped = is_swapped();
    let [left, right] =
        [[MOUSEEVENTF_LEFTDOWN, MOUSEEVENTF_LEFTUP], [MOUSEEVENTF_RIGHTDOWN, MOUSEEVENTF_RIGHTUP]];
    let (flags, which) = match number {
        // The system swaps what comes from the device.
        1 => (if swapped { right } else { left }, 0),
        2 => ([MOUSEEVENTF_MIDDLEDOWN, MOUSEEVENTF_MIDDLEUP], 0),
        3 => (if swapped { left } else { right }, 0),
        4 => ([MOUSEEVENTF_XDOWN, MOUSEEVENTF_XUP], XBUTTON1),
        5 => ([MOUSEEVENTF_XDOWN, MOUSEEVENTF_XUP], XBUTTON2),
        _ => return Err(CaptureError::NoSuchKey { usage: number }),
    };
    Ok(mouse(0, 0, which.into(), flags[usize::from(!down)]))
}

/// Whether the mouse is set for the left hand.
fn is_swapped() -> bool {
    // SAFETY: without conditions.
    unsafe { GetSystemMetrics(SM_SWAPBUTTON) != 0 }
}

/// What types a character.
fn typed(character: char) -> Vec<INPUT> {
    let virtual_key = match character {
        '\n' | '\r' => Some(VK_RETURN),
        '\t' => Some(VK_TAB),
        other if other.is_control() => return Vec::new(),
        _ => None,
    };
    if let Some(virtual_key) = virtual_key {
        return vec![keyboard(virtual_key, 0, 0), keyboard(virtual_key, 0, KEYEVENTF_KEYUP)];
    }
    let mut units = [0; 2];
    let units = character.encode_utf16(&mut units).iter();
    let strokes = |unit: &u16| [0, KEYEVENTF_KEYUP].map(|up| keyboard(0, *unit, KEYEVENTF_UNICODE | up));
    units.flat_map(strokes).collect()
}

fn keyboard(virtual_key: VIRTUAL_KEY, code: u16, flags: u32) -> INPUT {
    let ki = KEYBDINPUT { wVk: virtual_key, wScan: code, dwFlags: flags, time: 0, dwExtraInfo: 0 };
    INPUT { r#type: INPUT_KEYBOARD, Anonymous: INPUT_0 { ki } }
}

fn mouse(dx: i32, dy: i32, data: u32, flags: u32) -> INPUT {
    let mi = MOUSEINPUT { dx, dy, mouseData: data, dwFlags: flags, time: 0, dwExtraInfo: 0 };
    INPUT { r#type: INPUT_MOUSE, Anonymous: INPUT_0 { mi } }
}

fn send(inputs: &[INPUT]) -> Result<(), CaptureError> {
    // SAFETY: so many inputs of this size are there, each with the part of the union that its type names.
    let sent = unsafe { SendInput(inputs.len() as u32, inputs.as_ptr(), size_of::<INPUT>() as i32) };
    if sent as usize == inputs.len() {
        return Ok(());
    }
    // Neither the screen that locks the computer nor a question about elevation takes input from programs.
    Err(CaptureError::NotNow { reason: io::Error::last_os_error().to_string() })
}
