//! What is injected arrives in a window as if somebody had done it.

use std::time::Duration;

use tandem_capture::{CaptureError, Event, Holdable, Injector, ScreenSource, x11};
use tandem_protocol::DisplayId;
use x11rb::protocol::Event as Told;
use x11rb::protocol::xproto::ConnectionExt as _;
use x11rb::wrapper::ConnectionExt as _;

use crate::desk::{PATIENCE, Person};
use crate::xvfb::Xvfb;

const A: u32 = 0x04;
const LEFT_SHIFT: u32 = 0xe1;
const CAPS_LOCK: u32 = 0x39;

fn key_events(person: &Person, count: usize) -> Vec<(u8, bool)> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(person.until(|event| match event {
            Told::KeyPress(key) => Some((key.detail, true)),
            Told::KeyRelease(key) => Some((key.detail, false)),
            _ => None,
        }));
    }
    events
}

/// Every key event that has arrived once all that was injected has.
fn rest(person: &Person) -> Vec<(u8, bool)> {
    person.conn.sync().unwrap();
    use x11rb::connection::Connection as _;
    std::iter::from_fn(|| person.conn.poll_for_event().unwrap())
        .filter_map(|event| match event {
            Told::KeyPress(key) => Some((key.detail, true)),
            Told::KeyRelease(key) => Some((key.detail, false)),
            _ => None,
        })
        .collect()
}

#[test]
fn text_arrives_whatever_the_layout() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    for text in ["Hello, World! ~{}|", "äöüß ÄÖÜ €", "漢字かな", "Привет", "🙂ñ", "1+2=3 [x]"]
    {
        injector.text(text).unwrap();
        assert_eq!(person.read(text.chars().count()), text);
    }
    // More different characters than there are codes to lend.
    let many: String = (0x4e00..0x4e00 + 60).filter_map(char::from_u32).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| injector.text(&many).unwrap());
        assert_eq!(person.read(60), many);
    });
}

#[test]
fn borrowed_codes_are_given_back() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let map = || person.conn.get_keyboard_mapping(8, 248).unwrap().reply().unwrap();
    let symbols = |map: &x11rb::protocol::xproto::GetKeyboardMappingReply| -> Vec<Vec<u32>> {
        let rows = map.keysyms.chunks(usize::from(map.keysyms_per_keycode));
        rows.map(|row| row.iter().copied().filter(|symbol| *symbol != 0).collect()).collect()
    };
    let before = symbols(&map());
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    injector.text("漢字").unwrap();
    assert_eq!(person.read(2), "漢字");
    assert_ne!(symbols(&map()), before);
    injector.release_all().unwrap();
    assert_eq!(symbols(&map()), before);
    injector.text("漢字").unwrap();
    drop(injector);
    assert_eq!(symbols(&map()), before);
}

#[test]
fn caps_lock_and_held_modifiers_do_not_change_text() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    injector.key(CAPS_LOCK, true).unwrap();
    injector.key(CAPS_LOCK, false).unwrap();
    injector.key(LEFT_SHIFT, true).unwrap();
    injector.text("aBü").unwrap();
    assert_eq!(person.read(3), "aBü");
    injector.key(A, true).unwrap();
    injector.key(A, false).unwrap();
    // Shift is held again, and Caps Lock is on again.
    let state = person.until(|event| match event {
        Told::KeyPress(key) if key.detail == 38 => Some(u16::from(key.state)),
        _ => None,
    });
    assert_eq!(state & 3, 3);
}

#[test]
fn lock_keys_are_told() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let (mut screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    let locks = |screen: &mut x11::X11Screen| loop {
        let events = screen.wait(Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "nothing was told");
        if let Some(locks) = events.iter().find_map(|event| match event {
            Event::Locks(locks) => Some(*locks),
            _ => None,
        }) {
            break locks;
        }
    };
    assert!(!locks(&mut screen).caps);
    injector.key(CAPS_LOCK, true).unwrap();
    injector.key(CAPS_LOCK, false).unwrap();
    assert!(locks(&mut screen).caps);
}

#[test]
fn keys_are_pressed_repeated_and_released_as_told() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    injector.key(A, true).unwrap();
    injector.key(A, true).unwrap();
    injector.key(A, false).unwrap();
    injector.key(A, false).unwrap();
    let a = 38;
    assert_eq!(key_events(&person, 4), [(a, true), (a, false), (a, true), (a, false)]);
    injector.key(LEFT_SHIFT, true).unwrap();
    injector.key(LEFT_SHIFT, true).unwrap();
    injector.key(LEFT_SHIFT, false).unwrap();
    assert_eq!(key_events(&person, 2), [(50, true), (50, false)]);
    assert_eq!(rest(&person), []);
    assert!(matches!(injector.key(0x03, true), Err(CaptureError::NoSuchKey { usage: 0x03 })));
}

/// The server would begin after 660 ms and repeat 25 times a second.
#[test]
fn the_server_does_not_repeat_a_held_key() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    injector.key(A, true).unwrap();
    assert_eq!(key_events(&person, 1), [(38, true)]);
    assert_eq!(screen.wait(Some(Duration::from_millis(1200))).unwrap(), []);
    assert_eq!(rest(&person), []);
}

#[test]
fn everything_held_is_released() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let pressed = || person.until(|event| matches!(event, Told::ButtonPress(_)).then_some(()));
    let down = || {
        let keys = person.conn.query_keymap().unwrap().reply().unwrap().keys;
        let pointer = person.conn.query_pointer(person.root()).unwrap().reply().unwrap();
        (keys.iter().map(|byte| byte.count_ones()).sum::<u32>(), u16::from(pointer.mask) >> 8)
    };
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    for _ in 0..2 {
        injector.key(A, true).unwrap();
        injector.key(LEFT_SHIFT, true).unwrap();
        injector.button(1, true).unwrap();
        assert_eq!(injector.held(), [Holdable::Button(1), Holdable::Key(A), Holdable::Key(LEFT_SHIFT)]);
        pressed();
        assert_eq!(down(), (2, 1));
        injector.release_all().unwrap();
        assert_eq!(down(), (0, 0));
    }
    injector.key(A, true).unwrap();
    injector.button(3, true).unwrap();
    pressed();
    assert_eq!(down(), (1, 4));
    drop(injector);
    assert_eq!(down(), (0, 0));
}

#[test]
fn what_a_killed_run_left_down_is_let_go_by_the_next() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    injector.key(A, true).unwrap();
    injector.button(1, true).unwrap();
    // A killed program runs no destructor.
    std::mem::forget(injector);
    let (_screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    assert_eq!(key_events(&person, 2), [(38, true), (38, false)]);
    let pointer = person.conn.query_pointer(person.root()).unwrap().reply().unwrap();
    assert_eq!(u16::from(pointer.mask) >> 8, 0);
}

#[test]
fn buttons_and_wheels_arrive_where_the_pointer_is() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (_screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    injector.motion(DisplayId(0), 33, 44).unwrap();
    for button in [1, 2, 3, 4, 5] {
        injector.button(button, true).unwrap();
        injector.button(button, false).unwrap();
    }
    injector.wheel(0, 120).unwrap();
    injector.wheel(0, -240).unwrap();
    injector.wheel(-60, 0).unwrap();
    injector.wheel(-60, 0).unwrap();
    let mut pressed = Vec::new();
    while pressed.len() < 9 {
        pressed.push(person.until(|event| match event {
            Told::ButtonPress(press) => Some((press.detail, press.event_x, press.event_y)),
            _ => None,
        }));
    }
    let expected = [1, 2, 3, 8, 9, 5, 4, 4, 6].map(|button| (button, 33, 44));
    assert_eq!(pressed, expected);
    assert!(matches!(injector.button(25, true), Err(CaptureError::NoSuchKey { .. })));
}
