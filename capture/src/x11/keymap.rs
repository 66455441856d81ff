//! Which key, with which modifiers, makes a character; and borrowing unused key codes for characters that no key makes.
//!
//! A window looks a key's meaning up when it gets round to the key press, in the map as it is *then*. So a borrowed code keeps
//! its character until the code is needed for another one or everything is released, and even then not before
//! [`SETTLE`] has passed since it was typed.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt as _, Keycode};
use xkeysym::{Keysym, key};

use super::link::{Asked, Link, OrLost};
use crate::CaptureError;

/// How long windows are given to look up a key that was typed with a borrowed code, before the code is lent to another
/// character.
const SETTLE: Duration = Duration::from_millis(60);
/// Most codes borrowed at a time: at 60 ms each that allows for 400 different characters a second.
const BORROWED_MOST: usize = 24;

/// How to make a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stroke {
    pub(super) code: Keycode,
    pub(super) shift: bool,
    pub(super) level3: bool,
}

/// The keyboard's map as the server has it.
#[derive(Debug, Default)]
pub(super) struct Keymap {
    /// For each of two groups (layouts), the keys of each character.
    strokes: [HashMap<Keysym, Stroke>; 2],
    modifiers: HashSet<Keycode>,
    pub(super) shift: Option<Keycode>,
    pub(super) level3: Option<Keycode>,
    spare: Vec<Keycode>,
    borrowed: Vec<Borrowed>,
}

#[derive(Debug)]
struct Borrowed {
    code: Keycode,
    symbol: Keysym,
    used: Instant,
}

impl Keymap {
    /// Reads the map; keeps account of the borrowed codes that still are.
    pub(super) fn read(&mut self, link: &Link) -> Result<(), CaptureError> {
        let setup = link.conn.setup();
        let (min, max) = (setup.min_keycode, setup.max_keycode);
        let map = link.conn.get_keyboard_mapping(min, max - min + 1).or_lost()?;
        let modifiers = link.conn.get_modifier_mapping().or_lost()?.reply().asked("tell the modifiers")?;
        let map = map.reply().asked("tell the keyboard's map")?;
        let columns = usize::from(map.keysyms_per_keycode).max(1);
        let rows: Vec<(Keycode, Vec<Keysym>)> = (min..=max)
            .zip(
                map.keysyms
                    .chunks(columns)
                    .map(|row| row.iter().map(|symbol| Keysym::from(*symbol)).collect()),
            )
            .collect();
        let lent = |code, symbol| move |lent: &Borrowed| lent.code == code && lent.symbol == symbol;
        self.borrowed.retain(|borrowed| {
            rows.iter().any(|(code, row)| *code == borrowed.code && row.first() == Some(&borrowed.symbol))
        });
        self.modifiers = modifiers.keycodes.iter().copied().filter(|code| *code != 0).collect();
        self.strokes = Default::default();
        self.spare.clear();
        (self.shift, self.level3) = (None, None);
        for (code, row) in &rows {
            let first = row.first().copied().unwrap_or(Keysym::NoSymbol);
            if row.iter().all(|symbol| *symbol == Keysym::NoSymbol) {
                self.spare.push(*code);
            } else if !self.borrowed.iter().any(lent(*code, first)) {
                self.learn(*code, row);
            }
        }
        Ok(())
    }

    fn learn(&mut self, code: Keycode, row: &[Keysym]) {
        if self.modifiers.contains(&code) {
            let slot = match row.first().map(|symbol| symbol.raw()) {
                Some(key::Shift_L | key::Shift_R) => &mut self.shift,
                Some(key::ISO_Level3_Shift) => &mut self.level3,
                _ => return,
            };
            slot.get_or_insert(code);
            return;
        }
        // The core protocol's view of XKB's levels: two columns for each of two groups, then two more for each.
        const COLUMNS: [[usize; 4]; 2] = [[0, 1, 4, 5], [2, 3, 6, 7]];
        for (group, columns) in self.strokes.iter_mut().zip(COLUMNS) {
            for (level, column) in columns.into_iter().enumerate() {
                let symbol = row.get(column).copied().unwrap_or(Keysym::NoSymbol);
                if symbol != Keysym::NoSymbol && !symbol.is_keypad_key() {
                    let (shift, level3) = (level % 2 == 1, level >= 2);
                    let stroke = Stroke { code, shift, level3 };
                    let known = group.entry(symbol).or_insert(stroke);
                    // The fewest modifiers win, wherever on the keyboard.
                    if (level3, shift) < (known.level3, known.shift) {
                        *known = stroke;
                    }
                }
            }
        }
    }

    pub(super) fn is_modifier(&self, code: Keycode) -> bool {
        self.modifiers.contains(&code)
    }

    /// The key that makes a symbol in the present layout, if its modifiers exist too.
    pub(super) fn find(&self, symbol: Keysym, group: usize) -> Option<Stroke> {
        let stroke = *self.strokes.get(group)?.get(&symbol)?;
        let possible = (!stroke.shift || self.shift.is_some()) && (!stroke.level3 || self.level3.is_some());
        possible.then_some(stroke)
    }

    /// A key for a symbol that no key makes. May wait [`SETTLE`] when many different ones are asked for.
    pub(super) fn borrow(&mut self, link: &Link, symbol: Keysym) -> Result<Stroke, CaptureError> {
        let now = Instant::now();
        let stroke = |code| Stroke { code, shift: false, level3: false };
        if let Some(known) = self.borrowed.iter_mut().find(|borrowed| borrowed.symbol == symbol) {
            known.used = now;
            return Ok(stroke(known.code));
        }
        let fresh = if self.borrowed.len() < BORROWED_MOST { self.spare.pop() } else { None };
        let code = match fresh {
            Some(code) => code,
            None => {
                let oldest = self.borrowed.iter().enumerate().min_by_key(|(_, borrowed)| borrowed.used);
                let (index, oldest) = oldest.ok_or(CaptureError::NoSpareKey)?;
                if let Some(left) = SETTLE.checked_sub(now - oldest.used) {
                    thread::sleep(left);
                }
                self.borrowed.swap_remove(index).code
            }
        };
        // Twice, so that neither Shift nor Caps Lock makes something else of it.
        let row = [symbol.raw(), symbol.raw()];
        link.conn.change_keyboard_mapping(1, code, 2, &row).or_lost()?;
        self.borrowed.push(Borrowed { code, symbol, used: Instant::now() });
        Ok(stroke(code))
    }

    /// Gives all borrowed codes back, after windows have had their time to look them up.
    pub(super) fn give_back(&mut self, link: &Link) -> Result<(), CaptureError> {
        let last = self.borrowed.iter().map(|borrowed| borrowed.used).max();
        if let Some(left) = last.and_then(|used| SETTLE.checked_sub(used.elapsed())) {
            thread::sleep(left);
        }
        for borrowed in self.borrowed.drain(..) {
            link.conn.change_keyboard_mapping(1, borrowed.code, 1, &[key::NoSymbol]).or_lost()?;
            self.spare.push(borrowed.code);
        }
        Ok(())
    }
}

/// The symbol of a character; `None` for control characters that no key stands for.
pub(super) fn symbol(character: char) -> Option<Keysym> {
    match character {
        '\n' | '\r' => Some(Keysym::Return),
        '\t' => Some(Keysym::Tab),
        '\u{8}' => Some(Keysym::BackSpace),
        '\u{1b}' => Some(Keysym::Escape),
        '\u{7f}' => Some(Keysym::Delete),
        other if other.is_control() => None,
        other => Some(Keysym::from_char(other)).filter(|symbol| *symbol != Keysym::NoSymbol),
    }
}
