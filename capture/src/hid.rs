//! USB HID usages and the key codes of Linux's evdev, by which X11 and Wayland number their keys too.
//!
//! Usages are those of the HID Usage Tables 1.5, section 10 (keyboard page) and section 15 (consumer page); key codes are
//! those of `linux/input-event-codes.h`.

/// The evdev code of a key, by its usage: of the keyboard page, or with the page in the upper 16 bits.
pub fn evdev(usage: u32) -> Option<u16> {
    match (usage >> 16, usage & 0xffff) {
        (0 | KEYBOARD_PAGE, id) => KEYBOARD.iter().find_map(|run| run.code(id)),
        (CONSUMER_PAGE, id) => CONSUMER.iter().find(|(usage, _)| *usage == id).map(|(_, code)| *code),
        _ => None,
    }
}

const KEYBOARD_PAGE: u32 = 0x07;
const CONSUMER_PAGE: u32 = 0x0c;

/// Usages in a row and their codes.
struct Run(u32, &'static [u16]);

impl Run {
    fn code(&self, usage: u32) -> Option<u16> {
        let index = usize::try_from(usage.checked_sub(self.0)?).ok()?;
        self.1.get(index).copied().filter(|code| *code != 0)
    }
}

/// The keyboard page. Runs follow the usage tables; 0 marks a usage without a key of its own on Linux.
const KEYBOARD: &[Run] = &[
    // A to Z: evdev numbers them by their rows on the keyboard.
    Run(
        0x04,
        &[
            30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, // A to M
            49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44, // N to Z
        ],
    ),
    // 1 to 9, 0.
    Run(0x1e, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    // Enter, Escape, Backspace, Tab, Space.
    Run(0x28, &[28, 1, 14, 15, 57]),
    // - = [ ] \ and its place on other boards, ; ' ` , . /
    Run(0x2d, &[12, 13, 26, 27, 43, 43, 39, 40, 41, 51, 52, 53]),
    // Caps Lock, F1 to F10, F11, F12.
    Run(0x39, &[58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88]),
    // Print Screen, Scroll Lock, Pause, Insert, Home, Page Up, Delete, End, Page Down.
    Run(0x46, &[99, 70, 119, 110, 102, 104, 111, 107, 109]),
    // Right, Left, Down, Up.
    Run(0x4f, &[106, 105, 108, 103]),
    // Keypad: Num Lock / * - + Enter, 1 to 9, 0, separator.
    Run(0x53, &[69, 98, 55, 74, 78, 96, 79, 80, 81, 75, 76, 77, 71, 72, 73, 82, 83]),
    // The key beside the left Shift of ISO boards, Menu, Power, keypad =.
    Run(0x64, &[86, 127, 116, 117]),
    // F13 to F24.
    Run(0x68, &[183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194]),
    // Execute (Open), Help, Menu (Props), Select (Front), Stop, Again, Undo, Cut, Copy, Paste, Find.
    Run(0x74, &[134, 138, 130, 132, 128, 129, 131, 137, 133, 135, 136]),
    // Mute, Volume Up, Volume Down.
    Run(0x7f, &[113, 115, 114]),
    // Keypad comma of Brazilian boards; keypad = of AS/400; International 1 to 6: Ro, Kana, Yen, Henkan, Muhenkan, comma.
    Run(0x85, &[121, 117, 89, 93, 124, 92, 94, 95]),
    // Language 1 to 5: Hangul, Hanja, Katakana, Hiragana, Zenkaku/Hankaku.
    Run(0x90, &[122, 123, 90, 91, 85]),
    // Alternate Erase, SysReq, Cancel, Clear.
    Run(0x99, &[222, 99, 223, 355]),
    // Keypad ( and ).
    Run(0xb6, &[179, 180]),
    // Keypad +/-.
    Run(0xd7, &[118]),
    // Left Control, Shift, Alt, Meta; right ones.
    Run(0xe0, &[29, 42, 56, 125, 97, 54, 100, 126]),
    // What common keyboards send for media keys: play, stop, previous, next, eject, louder, quieter, mute, web, back,
    // forward, stop, find, page up, page down, edit, sleep, lock, refresh, calculator.
    Run(
        0xe8,
        &[164, 166, 165, 163, 161, 115, 114, 113, 150, 158, 159, 128, 136, 177, 178, 176, 142, 152, 173, 140],
    ),
];

/// The consumer page: media and application keys.
const CONSUMER: &[(u32, u16)] = &[
    (0x30, 116),  // Power
    (0x32, 142),  // Sleep
    (0x6f, 225),  // Brightness up
    (0x70, 224),  // Brightness down
    (0xb3, 208),  // Fast forward
    (0xb4, 168),  // Rewind
    (0xb5, 163),  // Next track
    (0xb6, 165),  // Previous track
    (0xb7, 166),  // Stop
    (0xb8, 161),  // Eject
    (0xcd, 164),  // Play or pause
    (0xe2, 113),  // Mute
    (0xe9, 115),  // Volume up
    (0xea, 114),  // Volume down
    (0x183, 171), // Media player
    (0x18a, 155), // Mail
    (0x192, 140), // Calculator
    (0x194, 144), // My computer
    (0x221, 217), // Search
    (0x223, 172), // Home page
    (0x224, 158), // Back
    (0x225, 159), // Forward
    (0x226, 128), // Stop
    (0x227, 173), // Refresh
    (0x22a, 156), // Favourites
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_are_where_they_are_on_the_keyboard() {
        // (usage, evdev): one from each run, and the ends of the long ones.
        for (usage, code) in [
            (0x04, 30),
            (0x1d, 44),
            (0x1e, 2),
            (0x27, 11),
            (0x28, 28),
            (0x2c, 57),
            (0x38, 53),
            (0x39, 58),
            (0x45, 88),
            (0x4e, 109),
            (0x52, 103),
            (0x63, 83),
            (0x64, 86),
            (0x65, 127),
            (0x68, 183),
            (0x73, 194),
            (0x81, 114),
            (0x87, 89),
            (0x94, 85),
            (0xe0, 29),
            (0xe7, 126),
            (0x0007_0004, 30),
            (0x000c_00cd, 164),
        ] {
            assert_eq!(evdev(usage), Some(code), "usage {usage:#x}");
        }
    }

    #[test]
    fn what_is_no_key_has_none() {
        for usage in [0, 1, 3, 0xdf, 0xfc, 0xffff, 0x0008_0004, 0x000c_0004, u32::MAX] {
            assert_eq!(evdev(usage), None, "usage {usage:#x}");
        }
    }

    /// A code for two usages is a slip, but for keys that really share one.
    #[test]
    fn two_keys_do_not_share_a_code() {
        let shared = [43, 99, 117, 113, 114, 115, 128, 136];
        let mut seen = BTreeMap::new();
        for usage in 0..0x100 {
            let Some(code) = evdev(usage) else { continue };
            if let Some(other) = seen.insert(code, usage) {
                assert!(shared.contains(&code), "{usage:#x} and {other:#x} both are {code}");
            }
        }
        assert!(seen.len() > 130, "only {} keys", seen.len());
    }
}
