//! What a test pattern promises: the same picture for the same time and input, damage that covers every change, silence
//! while it rests.

use proptest::prelude::*;

use super::*;

fn small(frames_per_second: u16, blink: bool) -> Options {
    Options { size: (320, 120), frames_per_second, cells: 3, blink }
}

proptest! {
    /// A copy that only follows the damage is the picture, and only time and input decide what that is.
    #[test]
    fn damage_covers_every_change(steps in prop::collection::vec((0u64..400, prop::option::of(4u32..60)), 1..12)) {
        let mut picture = Picture::new(small(20, true));
        let mut copy = picture.pixels().to_vec();
        picture.take_damage();
        let (mut at, mut pressed, mut direct) = (Duration::ZERO, 0, Picture::new(small(20, true)));
        for (ms, key) in steps {
            at += Duration::from_millis(ms);
            for picture in [&mut picture, &mut direct] {
                picture.advance(at);
                if let Some(usage) = key {
                    picture.input(&Input::Hold { what: Holdable::Key(usage), down: true });
                }
            }
            pressed += u32::from(key.is_some());
            for rect in picture.take_damage() {
                for y in usize::from(rect.y)..usize::from(rect.y + rect.height) {
                    let row = (y * 320 + usize::from(rect.x)) * 4..(y * 320 + usize::from(rect.x + rect.width)) * 4;
                    copy[row.clone()].copy_from_slice(&picture.pixels()[row]);
                }
            }
            prop_assert!(copy == picture.pixels());
            prop_assert!(direct.pixels() == picture.pixels());
            prop_assert_eq!(read_frame(&copy, 320 * 4), Some((at.as_millis() / 50) as u32));
            prop_assert_eq!(read_presses(&copy, 320 * 4), Some(pressed));
        }
    }
}

#[test]
fn the_picture_has_changed_when_it_said_it_would() {
    let mut picture = Picture::new(small(7, true));
    picture.take_damage();
    for _ in 0..100 {
        let at = picture.next_change().unwrap();
        picture.advance(at.saturating_sub(Duration::from_nanos(1)));
        assert!(!picture.is_damaged(), "changed before {at:?}");
        picture.advance(at);
        assert!(!picture.take_damage().is_empty(), "unchanged at {at:?}");
    }
}

#[test]
fn a_resting_pattern_is_silent_until_something_is_done() {
    let (mut screen, mut injector) = open(small(0, false));
    screen.watch(true).unwrap();
    assert!(screen.wait(None).unwrap().contains(&Event::Damage { display: DISPLAY }));
    let frame = screen.grab(DISPLAY).unwrap();
    assert_eq!(frame.damage.first(), Some(&Rect::whole((320, 120))));
    assert_eq!(screen.wait(Some(Duration::from_millis(20))).unwrap(), []);

    injector.key(0x04, true).unwrap();
    assert_eq!(screen.wait(None).unwrap(), [Event::Damage { display: DISPLAY }]);
    let frame = screen.grab(DISPLAY).unwrap();
    assert_eq!(read_presses(frame.pixels, frame.stride), Some(1));
    injector.motion(DISPLAY, 5000, -3).unwrap();
    assert_eq!(screen.wait(None).unwrap(), [Event::CursorMoved { at: Some((DISPLAY, 319, 0)) }]);

    screen.waker().wake();
    assert_eq!(screen.wait(None).unwrap(), []);
}

#[test]
fn a_dropped_injector_has_let_everything_go() {
    let (_screen, mut injector) = open(small(0, false));
    let record = injector.record();
    injector.key(0x04, true).unwrap();
    injector.button(1, true).unwrap();
    assert_eq!(injector.held(), [Holdable::Button(1), Holdable::Key(4)]);
    drop(injector);
    let released: Vec<Input> = record.inputs().split_off(2);
    let up = |what| Input::Hold { what, down: false };
    assert_eq!(released, [up(Holdable::Button(1)), up(Holdable::Key(4))]);
}
