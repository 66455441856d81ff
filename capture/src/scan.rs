//! USB HID usages and the scan codes of PC keyboards (set 1), by which Windows knows the places of keys.
//!
//! evdev numbers the keys of the first PC keyboards by these very codes; all later keys follow the prefix E0.

use crate::hid;

/// What a PC keyboard sends for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    Plain(u8),
    /// After the prefix E0.
    Extended(u8),
    /// Pause, which is the only key with the prefix E1.
    Pause,
}

/// The scan code of a key, by its usage (see [`hid::evdev`]).
pub(crate) fn scan(usage: u32) -> Option<Scan> {
    let code = hid::evdev(usage)?;
    match code {
        // Where evdev and set 1 agree: all but those that came later.
        1..=83 | 86..=88 => Some(Scan::Plain(code as u8)),
        183..=193 => Some(Scan::Plain((code - 183) as u8 + 0x64)),
        119 => Some(Scan::Pause),
        _ => {
            let plain = PLAIN.iter().find(|(known, _)| *known == code).map(|(_, scan)| Scan::Plain(*scan));
            let extended =
                || EXTENDED.iter().find(|(known, _)| *known == code).map(|(_, scan)| Scan::Extended(*scan));
            plain.or_else(extended)
        }
    }
}

const PLAIN: &[(u16, u8)] = &[
    (85, 0x76),  // Zenkaku/Hankaku
    (89, 0x73),  // Ro
    (92, 0x79),  // Henkan
    (93, 0x70),  // Katakana/Hiragana
    (94, 0x7b),  // Muhenkan
    (95, 0x5c),  // Keypad comma of Japanese boards
    (117, 0x59), // Keypad =
    (121, 0x7e), // Keypad comma of Brazilian boards
    (122, 0x72), // Hangul
    (123, 0x71), // Hanja
    (124, 0x7d), // Yen
    (194, 0x76), // F24
];

const EXTENDED: &[(u16, u8)] = &[
    (96, 0x1c),  // Keypad Enter
    (97, 0x1d),  // Right Control
    (98, 0x35),  // Keypad /
    (99, 0x37),  // Print Screen
    (100, 0x38), // Right Alt
    (102, 0x47), // Home
    (103, 0x48), // Up
    (104, 0x49), // Page Up
    (105, 0x4b), // Left
    (106, 0x4d), // Right
    (107, 0x4f), // End
    (108, 0x50), // Down
    (109, 0x51), // Page Down
    (110, 0x52), // Insert
    (111, 0x53), // Delete
    (113, 0x20), // Mute
    (114, 0x2e), // Volume down
    (115, 0x30), // Volume up
    (116, 0x5e), // Power
    (125, 0x5b), // Left Windows
    (126, 0x5c), // Right Windows
    (127, 0x5d), // Menu
    (128, 0x68), // Stop (of browsers)
    (140, 0x21), // Calculator
    (142, 0x5f), // Sleep
    (144, 0x6b), // My computer
    (155, 0x6c), // Mail
    (156, 0x66), // Favourites
    (158, 0x6a), // Back
    (159, 0x69), // Forward
    (163, 0x19), // Next track
    (164, 0x22), // Play or pause
    (165, 0x10), // Previous track
    (166, 0x24), // Stop (of players)
    (171, 0x6d), // Media player
    (172, 0x32), // Home page
    (173, 0x67), // Refresh
    (217, 0x65), // Search
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_have_the_codes_that_keyboards_send() {
        for (usage, code) in [
            (0x04, Scan::Plain(0x1e)),
            (0x28, Scan::Plain(0x1c)),
            (0x45, Scan::Plain(0x58)),
            (0x4f, Scan::Extended(0x4d)),
            (0x53, Scan::Plain(0x45)),
            (0x58, Scan::Extended(0x1c)),
            (0x64, Scan::Plain(0x56)),
            (0x68, Scan::Plain(0x64)),
            (0x72, Scan::Plain(0x6e)),
            (0x48, Scan::Pause),
            (0xe0, Scan::Plain(0x1d)),
            (0xe4, Scan::Extended(0x1d)),
            (0xe7, Scan::Extended(0x5c)),
            (0x000c_00cd, Scan::Extended(0x22)),
        ] {
            assert_eq!(scan(usage), Some(code), "usage {usage:#x}");
        }
        assert_eq!(scan(0), None);
    }

    /// A code for two keys is a slip, but for those that really share one.
    #[test]
    fn two_keys_do_not_share_a_code() {
        let mut seen = BTreeMap::new();
        for usage in 0..0x100 {
            let (Some(code), Some(scan)) = (hid::evdev(usage), scan(usage)) else { continue };
            // F24 sends what Zenkaku/Hankaku sends on Japanese boards.
            let known = seen.insert(format!("{scan:?}"), code).unwrap_or(code);
            assert!(known == code || [known, code].contains(&194), "{known} and {code} are both {scan:?}");
        }
        assert!(seen.len() > 115, "only {} keys", seen.len());
    }
}
