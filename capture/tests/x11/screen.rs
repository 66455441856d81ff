//! What is seen of an X screen is what is on it, and a screen at rest is silent.

use std::time::{Duration, Instant};

use tandem_capture::{CaptureError, Event, Frame, Rect, ScreenSource, x11};
use tandem_protocol::DisplayId;
use x11rb::connection::Connection;
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{ChangeWindowAttributesAux, ConnectionExt as _, CreateGCAux};
use x11rb::wrapper::ConnectionExt as _;

use crate::desk::{PATIENCE, Person};
use crate::xvfb::Xvfb;

const FIRST: DisplayId = DisplayId(0);

fn pixel(frame: &Frame<'_>, x: usize, y: usize) -> u32 {
    let at = y * frame.stride + x * 4;
    u32::from_le_bytes(frame.pixels[at..at + 4].try_into().unwrap()) & 0xff_ffff
}

fn covers(damage: &[Rect], part: Rect) -> bool {
    let inside =
        |x, y| damage.iter().any(|r| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y));
    (part.x..part.x + part.width).all(|x| (part.y..part.y + part.height).all(|y| inside(x, y)))
}

/// Waits for an event that `wanted` takes; fails after [`PATIENCE`].
fn until<T>(screen: &mut impl ScreenSource, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "the event did not come");
        if let Some(found) = screen.wait(Some(left)).unwrap().iter().find_map(&mut wanted) {
            return found;
        }
    }
}

/// Takes in all that there is to say about a screen at rest.
fn settle(screen: &mut impl ScreenSource) {
    while !screen.wait(Some(Duration::from_millis(50))).unwrap().is_empty() {
        let ids: Vec<DisplayId> = screen.layout().displays.iter().map(|display| display.id).collect();
        for id in ids {
            screen.grab(id).unwrap();
        }
    }
}

#[test]
fn a_grab_shows_what_was_drawn_and_tells_where() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    assert_eq!(screen.layout().generation, 1);
    assert_eq!(screen.layout().displays[0].size, (640, 480));
    screen.watch(true).unwrap();
    let first = screen.grab(FIRST).unwrap();
    assert_eq!(first.damage, [Rect { x: 0, y: 0, width: 640, height: 480 }]);
    settle(&mut screen);

    person.fill(10, 20, 30, 40, 0x12_3456);
    until(&mut screen, |event| (*event == Event::Damage { display: FIRST }).then_some(()));
    let frame = screen.grab(FIRST).unwrap();
    let drawn = Rect { x: 10, y: 20, width: 30, height: 40 };
    assert!(covers(frame.damage, drawn), "{:?}", frame.damage);
    assert_eq!(frame.damage.iter().copied().reduce(Rect::union), Some(drawn));
    for (x, y, colour) in [(10, 20, 0x12_3456), (39, 59, 0x12_3456), (9, 20, 0xff_ffff), (40, 59, 0xff_ffff)]
    {
        assert_eq!(pixel(&frame, x, y), colour, "at {x},{y}");
    }
    assert!(screen.grab(FIRST).unwrap().damage.is_empty());

    // Every pixel, as the server itself sends it.
    person.fill(0, 0, 400, 300, 0x00_ff80);
    let frame = screen.grab(FIRST).unwrap();
    let format = x11rb::protocol::xproto::ImageFormat::Z_PIXMAP;
    let image = person.conn.get_image(format, person.root(), 0, 0, 640, 480, !0).unwrap().reply().unwrap();
    let colours =
        |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|p| [p[0], p[1], p[2]]).collect::<Vec<_>>();
    assert!(colours(frame.pixels) == colours(&image.data));
}

#[test]
fn a_resting_screen_causes_no_event() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let _person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    settle(&mut screen);
    assert_eq!(screen.wait(Some(Duration::from_millis(700))).unwrap(), []);
}

#[test]
fn damage_is_announced_once_until_it_is_grabbed_and_never_unwatched() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    person.fill(0, 0, 10, 10, 1);
    assert_eq!(screen.wait(Some(Duration::from_millis(50))).unwrap(), []);
    screen.watch(true).unwrap();
    settle(&mut screen);
    for colour in 0..50 {
        person.fill(0, 0, 10, 10, colour);
    }
    assert_eq!(screen.wait(Some(PATIENCE)).unwrap(), [Event::Damage { display: FIRST }]);
    person.fill(50, 0, 10, 10, 7);
    assert_eq!(screen.wait(Some(Duration::from_millis(50))).unwrap(), []);
    assert!(covers(screen.grab(FIRST).unwrap().damage, Rect { x: 50, y: 0, width: 10, height: 10 }));
    settle(&mut screen);
    screen.watch(false).unwrap();
    person.fill(0, 0, 10, 10, 9);
    assert_eq!(screen.wait(Some(Duration::from_millis(50))).unwrap(), []);
}

#[test]
fn news_that_was_under_way_when_watching_ended_keeps_nobody_busy() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    settle(&mut screen);
    // The server's word of this comes between the last look and the end of watching.
    person.fill(0, 0, 10, 10, 9);
    screen.watch(false).unwrap();
    let waker = screen.waker();
    std::thread::scope(|scope| {
        let (done, finished) = std::sync::mpsc::channel();
        scope.spawn(move || done.send(screen.wait(None).unwrap()));
        waker.wake();
        assert_eq!(finished.recv_timeout(PATIENCE).expect("it does not hear that it is woken"), []);
    });
}

#[test]
fn a_screen_without_shared_memory_is_seen_too() {
    let xvfb = Xvfb::start("640x480x24", &["-extension", "MIT-SHM"]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.grab(FIRST).unwrap();
    person.fill(10, 20, 30, 40, 0x12_3456);
    let frame = screen.grab(FIRST).unwrap();
    assert_eq!(
        [pixel(&frame, 10, 20), pixel(&frame, 39, 59), pixel(&frame, 40, 59)],
        [0x12_3456, 0x12_3456, 0xff_ffff]
    );
}

#[test]
fn the_pointer_is_followed_in_shape_and_place() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    use tandem_capture::Injector as _;
    injector.motion(FIRST, 5, 5).unwrap();
    screen.watch(true).unwrap();
    settle(&mut screen);

    injector.motion(FIRST, 100, 120).unwrap();
    let place = until(&mut screen, |event| match event {
        Event::CursorMoved { at } => Some(*at),
        _ => None,
    });
    assert_eq!(place, Some((FIRST, 100, 120)));

    // A cursor of two bitmaps: a red square of 8 × 6 with its hot spot at 3, 2.
    let (pixmap, gc, cursor) = (
        person.conn.generate_id().unwrap(),
        person.conn.generate_id().unwrap(),
        person.conn.generate_id().unwrap(),
    );
    person.conn.create_pixmap(1, pixmap, person.window, 8, 6).unwrap();
    person.conn.create_gc(gc, pixmap, &CreateGCAux::new().foreground(1)).unwrap();
    let all = x11rb::protocol::xproto::Rectangle { x: 0, y: 0, width: 8, height: 6 };
    person.conn.poly_fill_rectangle(pixmap, gc, &[all]).unwrap();
    person.conn.create_cursor(cursor, pixmap, pixmap, 0xffff, 0, 0, 0, 0, 0, 3, 2).unwrap();
    person
        .conn
        .change_window_attributes(person.window, &ChangeWindowAttributesAux::new().cursor(cursor))
        .unwrap();
    person.conn.sync().unwrap();
    let shape = until(&mut screen, |event| match event {
        Event::CursorShape(shape) => Some(shape.clone()),
        _ => None,
    });
    assert_eq!((shape.width, shape.height, shape.hot_x, shape.hot_y), (8, 6, 3, 2));
    assert!(shape.pixels.as_chunks::<4>().0.iter().all(|pixel| *pixel == [0, 0, 255, 255]));
}

#[test]
fn another_resolution_is_another_generation() {
    let xvfb = Xvfb::start("1280x1024x24", &[]);
    let person = Person::sit_down(&xvfb);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    settle(&mut screen);

    // Debian 12's Xvfb has one mode only, but lets its screen shrink once nothing is shown on it.
    let crtc = person.conn.randr_get_screen_resources(person.root()).unwrap().reply().unwrap().crtcs[0];
    let (now, upright) = (x11rb::CURRENT_TIME, randr::Rotation::ROTATE0);
    person.conn.randr_set_crtc_config(crtc, now, now, 0, 0, 0, upright, &[]).unwrap().reply().unwrap();
    person.conn.randr_set_screen_size(person.root(), 800, 600, 211, 158).unwrap().check().unwrap();

    let layout = until(&mut screen, |event| match event {
        Event::Layout(layout) if layout.displays[0].size == (800, 600) => Some(layout.clone()),
        _ => None,
    });
    assert!(layout.generation > 1);
    let id = layout.displays[0].id;
    let frame = screen.grab(id).unwrap();
    assert_eq!((frame.width, frame.height, frame.stride), (800, 600, 3200));
    assert_eq!(frame.damage, [Rect { x: 0, y: 0, width: 800, height: 600 }]);
    person.fill(5, 5, 1, 1, 0xaa_bbcc);
    assert_eq!(pixel(&screen.grab(id).unwrap(), 5, 5), 0xaa_bbcc);
}

#[test]
fn two_monitors_are_two_displays() {
    let xvfb = Xvfb::start("1000x500x24", &[]);
    let person = Person::sit_down(&xvfb);
    let root = person.root();
    let output = person.conn.randr_get_screen_resources(root).unwrap().reply().unwrap().outputs[0];
    for (name, x, width, outputs) in [("left", 0i16, 600u16, vec![output]), ("right", 600, 400, vec![])] {
        let name = person.conn.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
        let monitor = randr::MonitorInfo {
            name,
            primary: x == 0,
            automatic: false,
            x,
            y: 0,
            width,
            height: 500,
            width_in_millimeters: 100,
            height_in_millimeters: 100,
            outputs,
        };
        person.conn.randr_set_monitor(root, monitor).unwrap().check().unwrap();
    }
    let (mut screen, mut injector) = x11::open(Some(&xvfb.name)).unwrap();
    let layout = screen.layout();
    let shape: Vec<_> =
        layout.displays.iter().map(|d| (d.name.as_str(), d.origin, d.size, d.primary)).collect();
    assert_eq!(shape, [("left", (0, 0), (600, 500), true), ("right", (600, 0), (400, 500), false)]);
    let [left, right] = [layout.displays[0].id, layout.displays[1].id];

    screen.watch(true).unwrap();
    settle(&mut screen);
    // Across the border, so that both see their part of it.
    person.place(590, 100);
    person.fill(0, 0, 20, 20, 0x77_8899);
    let frame = screen.grab(right).unwrap();
    assert!(covers(frame.damage, Rect { x: 0, y: 100, width: 10, height: 20 }));
    assert_eq!([pixel(&frame, 9, 100), pixel(&frame, 9, 119)], [0x77_8899; 2]);
    assert_eq!(pixel(&screen.grab(left).unwrap(), 599, 119), 0x77_8899);

    use tandem_capture::Injector as _;
    injector.motion(right, 10, 120).unwrap();
    person.until_pointer_at(610, 120);
    injector.motion(left, 9999, 120).unwrap();
    person.until_pointer_at(599, 120);
    assert!(matches!(injector.motion(DisplayId(99), 0, 0), Err(CaptureError::UnknownDisplay(_))));
}

#[test]
fn a_waiting_source_can_be_woken() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let (mut screen, _injector) = x11::open(Some(&xvfb.name)).unwrap();
    let waker = screen.waker();
    let waiting = std::thread::spawn(move || screen.wait(None).unwrap());
    waker.wake();
    assert_eq!(waiting.join().unwrap(), []);
}

#[test]
fn what_is_missing_is_named() {
    let error = x11::open(Some("")).unwrap_err();
    assert!(error.to_string().contains("DISPLAY is not set"), "{error}");
    let error = x11::open(Some(":59000")).unwrap_err();
    assert!(matches!(error, CaptureError::Unreachable { .. }), "{error}");
    for name in ["nonsense", ":65535", ":99999999", ":1.7.3"] {
        let error = x11::open(Some(name)).unwrap_err();
        assert!(matches!(error, CaptureError::BadDisplay { .. }), "{name}: {error}");
    }
    let xvfb = Xvfb::start("640x480x24", &["-extension", "XTEST"]);
    let error = x11::open(Some(&xvfb.name)).unwrap_err();
    assert!(matches!(error, CaptureError::MissingExtension { extension: "XTEST", .. }), "{error}");
    let xvfb = Xvfb::start("640x480x8", &[]);
    let error = x11::open(Some(&xvfb.name)).unwrap_err();
    assert!(matches!(error, CaptureError::PixelFormat { depth: 8 }), "{error}");
}

#[test]
fn a_server_that_ends_is_an_error_and_not_a_silence() {
    let xvfb = Xvfb::start("640x480x24", &[]);
    let (mut screen, injector) = x11::open(Some(&xvfb.name)).unwrap();
    screen.watch(true).unwrap();
    settle(&mut screen);
    drop(xvfb);
    assert!(matches!(screen.wait(Some(PATIENCE)), Err(CaptureError::Lost(_))));
    drop(injector);
}
