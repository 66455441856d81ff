//! The customer's windows on a real X server (Xvfb), used by a hand made with XTEST.
#![cfg(all(unix, not(target_os = "macos")))]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../../capture/tests/common/xvfb.rs"]
mod xvfb;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tandem_applet::consent::Person;
use tandem_applet::prompt::{
    Answer, Area, LANGUAGES, Permission, Prompt, PromptError, PromptRequest, Status, StatusAction,
    StatusWindow,
};
use tandem_applet::windows::{Said, Windows};
use tandem_protocol::message::{Right, Rights};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ButtonPressEvent, ChangeWindowAttributesAux,
    ConnectionExt as _, CreateWindowAux, EventMask, ImageFormat, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    KeyButMask, MOTION_NOTIFY_EVENT, MapState, PropMode, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use xvfb::Xvfb;

const PATIENCE: Duration = Duration::from_secs(10);
const TAB: u8 = 23;
const ENTER: u8 = 36;
const ESCAPE: u8 = 9;
const SHIFT: u8 = 50;
const SPACE: u8 = 65;
const DIGIT_5: u8 = 14;

/// A display with a hand at it, ended when dropped.
struct Desk {
    xvfb: Xvfb,
    conn: RustConnection,
}

impl Desk {
    fn new() -> Self {
        Self::on("1024x768x24")
    }

    /// One with such a screen.
    fn on(screen: &str) -> Self {
        let xvfb = Xvfb::start(screen, &[]);
        let conn = xvfb.connect();
        Self { xvfb, conn }
    }

    fn root(&self) -> Window {
        self.conn.setup().roots[0].root
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) {
        let root = if kind == MOTION_NOTIFY_EVENT { self.root() } else { x11rb::NONE };
        self.conn.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, root, x, y, 0).unwrap();
    }

    fn click(&self, area: Area) {
        let (x, y) = middle(area);
        self.fake(MOTION_NOTIFY_EVENT, 0, x, y);
        self.fake(BUTTON_PRESS_EVENT, 1, 0, 0);
        self.fake(BUTTON_RELEASE_EVENT, 1, 0, 0);
        self.conn.sync().unwrap();
    }

    fn key(&self, code: u8) {
        self.fake(KEY_PRESS_EVENT, code, 0, 0);
        self.fake(KEY_RELEASE_EVENT, code, 0, 0);
        self.conn.sync().unwrap();
    }

    /// How many windows are to be seen.
    fn windows(&self) -> usize {
        let children = self.conn.query_tree(self.root()).unwrap().reply().unwrap().children;
        let seen = |window: &&Window| {
            let attributes = self.conn.get_window_attributes(**window).unwrap().reply();
            attributes.is_ok_and(|attributes| attributes.map_state == MapState::VIEWABLE)
        };
        children.iter().filter(seen).count()
    }

    /// How many different colours there are in a part of the screen.
    fn colours(&self, (x, y, width, height): Area) -> usize {
        let (x, y, width, height) = (x as i16, y as i16, width as u16, height as u16);
        let image = self.conn.get_image(ImageFormat::Z_PIXMAP, self.root(), x, y, width, height, !0).unwrap();
        let mut colours = image.reply().unwrap().data.as_chunks::<4>().0.to_vec();
        colours.sort_unstable();
        colours.dedup();
        colours.len()
    }

    /// Waits for an event that `wanted` takes.
    fn until(&self, mut wanted: impl FnMut(&Event) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.conn.flush().unwrap();
        loop {
            while let Some(event) = self.conn.poll_for_event().unwrap() {
                if wanted(&event) {
                    return;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the event did not come");
            rustix::event::poll(
                &mut [PollFd::new(self.conn.stream(), PollFlags::IN)],
                Some(&left.try_into().unwrap()),
            )
            .unwrap();
        }
    }

    fn request(&self) -> PromptRequest {
        PromptRequest {
            settle: Duration::ZERO,
            language: Some("en".into()),
            display: Some(self.xvfb.name.clone()),
            ..PromptRequest::new("Anna Berger", "Acme", vec![Permission::View, Permission::Control])
        }
    }

    fn ask(&self, request: &PromptRequest) -> (Prompt, Receiver<Answer>) {
        let (answer, answered) = channel();
        let prompt = Prompt::show(request, move |given| answer.send(given).unwrap()).unwrap();
        (prompt, answered)
    }
}

fn middle((x, y, width, height): Area) -> (i16, i16) {
    ((x + width as i32 / 2) as i16, (y + height as i32 / 2) as i16)
}

#[test]
fn a_click_on_allow_allows_and_one_on_refuse_refuses() {
    let desk = Desk::new();
    for language in ["en", "de"] {
        let request = PromptRequest { language: Some(language.into()), ..desk.request() };
        let (prompt, answered) = desk.ask(&request);
        assert!(desk.colours(prompt.allow_button()) > 2, "the button has a label");
        desk.click(prompt.allow_button());
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Allow));
        let (prompt, answered) = desk.ask(&request);
        desk.click(prompt.refuse_button());
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Refuse));
        assert_eq!(desk.windows(), 0);
    }
}

#[test]
fn the_keyboard_refuses_unless_it_is_moved_to_allow() {
    let desk = Desk::new();
    for (keys, answer) in [
        (&[ENTER][..], Answer::Refuse),
        (&[ESCAPE], Answer::Refuse),
        (&[TAB, ENTER], Answer::Allow),
        (&[TAB, TAB, ENTER], Answer::Refuse),
        (&[TAB, ESCAPE], Answer::Refuse),
        (&[SHIFT, TAB, SHIFT, ENTER], Answer::Allow),
        // Somebody goes on typing into what was a form: "5 ".
        (&[TAB, DIGIT_5, SPACE], Answer::Refuse),
    ] {
        let (_prompt, answered) = desk.ask(&desk.request());
        keys.iter().for_each(|key| desk.key(*key));
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(answer), "{keys:?}");
    }
}

#[test]
fn silence_refuses() {
    let desk = Desk::new();
    let began = Instant::now();
    let (_prompt, answered) =
        desk.ask(&PromptRequest { timeout: Duration::from_millis(1300), ..desk.request() });
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::TimedOut));
    assert!(began.elapsed() >= Duration::from_millis(1300));
    assert_eq!(desk.windows(), 0);
}

#[test]
fn a_prompt_can_be_taken_back_from_another_thread() {
    let desk = Desk::new();
    let (prompt, answered) = desk.ask(&desk.request());
    assert_eq!(desk.windows(), 1);
    std::thread::spawn(move || prompt.dismiss()).join().unwrap();
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Dismissed));
    assert_eq!(desk.windows(), 0);
}

#[test]
fn an_answer_that_comes_at_once_is_not_taken() {
    let desk = Desk::new();
    let (prompt, answered) = desk.ask(&PromptRequest {
        settle: Duration::from_secs(3600),
        timeout: Duration::from_millis(900),
        ..desk.request()
    });
    desk.click(prompt.allow_button());
    desk.key(TAB);
    desk.key(ENTER);
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::TimedOut));
}

#[test]
fn a_click_that_another_program_makes_up_is_not_taken() {
    let desk = Desk::new();
    let (prompt, answered) =
        desk.ask(&PromptRequest { timeout: Duration::from_millis(900), ..desk.request() });
    let window = desk.conn.query_tree(desk.root()).unwrap().reply().unwrap().children[0];
    let place = desk.conn.get_geometry(window).unwrap().reply().unwrap();
    let (root_x, root_y) = middle(prompt.allow_button());
    for kind in [BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT] {
        let event = ButtonPressEvent {
            response_type: kind,
            detail: 1,
            sequence: 0,
            time: x11rb::CURRENT_TIME,
            root: desk.root(),
            event: window,
            child: x11rb::NONE,
            root_x,
            root_y,
            event_x: root_x - place.x,
            event_y: root_y - place.y,
            state: KeyButMask::default(),
            same_screen: true,
        };
        desk.conn.send_event(false, window, EventMask::NO_EVENT, event).unwrap().check().unwrap();
    }
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::TimedOut));
}

#[test]
fn a_press_elsewhere_that_ends_on_allow_is_no_answer() {
    let desk = Desk::new();
    let (prompt, answered) =
        desk.ask(&PromptRequest { timeout: Duration::from_millis(900), ..desk.request() });
    let (x, y) = middle(prompt.refuse_button());
    desk.fake(MOTION_NOTIFY_EVENT, 0, x, y);
    desk.fake(BUTTON_PRESS_EVENT, 1, 0, 0);
    let (x, y) = middle(prompt.allow_button());
    desk.fake(MOTION_NOTIFY_EVENT, 0, x, y);
    desk.fake(BUTTON_RELEASE_EVENT, 1, 0, 0);
    desk.conn.sync().unwrap();
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::TimedOut));
}

#[test]
fn a_prompt_rises_above_a_window_that_covers_it() {
    let desk = Desk::new();
    let (prompt, answered) = desk.ask(&desk.request());
    let ours = desk.conn.query_tree(desk.root()).unwrap().reply().unwrap().children[0];
    let cover = desk.conn.generate_id().unwrap();
    let look = CreateWindowAux::new().override_redirect(1).event_mask(EventMask::VISIBILITY_CHANGE);
    let class = WindowClass::INPUT_OUTPUT;
    desk.conn.create_window(0, cover, desk.root(), 0, 0, 1024, 768, 0, class, 0, &look).unwrap();
    desk.conn.map_window(cover).unwrap();
    desk.conn.sync().unwrap();
    // Its visibility changes when the prompt has risen.
    desk.until(|_| {
        desk.conn.query_tree(desk.root()).unwrap().reply().unwrap().children.last() == Some(&ours)
    });
    desk.click(prompt.allow_button());
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Allow));
}

#[test]
fn the_display_ending_is_no_consent() {
    let mut desk = Desk::new();
    let (_prompt, answered) = desk.ask(&desk.request());
    desk.xvfb.kill();
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Dismissed));
}

#[test]
fn a_missing_display_is_named() {
    let (answer, answered) = channel();
    let request = PromptRequest { display: Some(":59000".into()), ..PromptRequest::new("A", "B", vec![]) };
    let error = Prompt::show(&request, move |given| answer.send(given).unwrap()).unwrap_err();
    assert!(matches!(error, PromptError::Display(_)), "{error}");
    assert!(answered.recv().is_err(), "nothing was answered");
}

#[test]
fn names_that_are_too_long_fit_and_long_lists_too() {
    let desk = Desk::new();
    let request = PromptRequest {
        technician: "Wolfeschlegelsteinhausenbergerdorff ".repeat(100),
        organisation: "\u{202e}漢字🙂 العربية".repeat(50),
        permissions: vec![Permission::Other("x".repeat(300)), Permission::Clipboard, Permission::Record],
        ..desk.request()
    };
    let (prompt, answered) = desk.ask(&request);
    let (x, y, width, height) = prompt.allow_button();
    assert!(
        x > 0 && y > 0 && x + (width as i32) < 1024 && y + (height as i32) < 768,
        "the button is on the screen"
    );
    desk.click(prompt.allow_button());
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(Answer::Allow));
}

#[test]
fn the_status_window_stops_and_ends() {
    let desk = Desk::new();
    let status = Status {
        technicians: vec!["Anna Berger".into()],
        organisation: "Acme".into(),
        permissions: vec![Permission::View, Permission::Control],
        language: Some("en".into()),
    };
    let (act, acted) = channel();
    let acted_on = move |action| act.send(action).unwrap();
    let window = StatusWindow::show(Some(&desk.xvfb.name), &status, acted_on, || panic!("lost")).unwrap();
    assert_eq!(desk.windows(), 1);
    let buttons = window.buttons();
    let [(StatusAction::Stop, stop), (StatusAction::EndSession, end)] = buttons[..] else {
        panic!("{buttons:?}");
    };
    desk.click(stop);
    assert_eq!(acted.recv_timeout(PATIENCE), Ok(StatusAction::Stop));
    desk.click(end);
    assert_eq!(acted.recv_timeout(PATIENCE), Ok(StatusAction::EndSession));

    window.update(Status { permissions: vec![Permission::View, Permission::Clipboard], ..status.clone() });
    desk.click(window.buttons()[0].1);
    assert_eq!(acted.recv_timeout(PATIENCE), Ok(StatusAction::Stop));

    window.update(Status { permissions: vec![Permission::View], ..status });
    let buttons = window.buttons();
    let [(StatusAction::EndSession, end)] = buttons[..] else { panic!("{buttons:?}") };

    // Dragged by its text, it follows.
    let id = desk.conn.query_tree(desk.root()).unwrap().reply().unwrap().children[0];
    let watch = ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
    desk.conn.change_window_attributes(id, &watch).unwrap().check().unwrap();
    let top = desk.conn.get_geometry(id).unwrap().reply().unwrap().y;
    let (x, y) = (end.0 as i16 - 30, middle(end).1);
    desk.fake(MOTION_NOTIFY_EVENT, 0, x, y);
    desk.fake(BUTTON_PRESS_EVENT, 1, 0, 0);
    desk.fake(MOTION_NOTIFY_EVENT, 0, x - 50, y + 200);
    desk.fake(BUTTON_RELEASE_EVENT, 1, 0, 0);
    desk.conn.sync().unwrap();
    // Being raised is told in the same way.
    desk.until(|event| matches!(event, Event::ConfigureNotify(told) if told.y == top + 200));
    assert_eq!(window.buttons(), [(StatusAction::EndSession, (end.0 - 50, end.1 + 200, end.2, end.3))]);
    desk.click(window.buttons()[0].1);
    assert_eq!(acted.recv_timeout(PATIENCE), Ok(StatusAction::EndSession));
    drop(window);
    assert_eq!(desk.windows(), 0);
}

/// Everything is said, and what ends it is on the monitor, however long names and labels are and however large the letters.
#[test]
fn the_buttons_of_the_status_window_are_on_the_smallest_monitor() {
    let desk = Desk::on("800x600x24");
    for (dots, language) in
        [96, 144, 192, 384].into_iter().flat_map(|dots| LANGUAGES.iter().map(move |code| (dots, *code)))
    {
        let resources = format!("Xft.dpi:\t{dots}\n");
        let (property, kind) = (AtomEnum::RESOURCE_MANAGER, AtomEnum::STRING);
        let set =
            desk.conn.change_property8(PropMode::REPLACE, desk.root(), property, kind, resources.as_bytes());
        set.unwrap().check().unwrap();
        let status = Status {
            technicians: vec!["Karl-Friedrich Wolfeschlegelsteinhausenbergerdorff-Oberhuber".into(); 4],
            organisation: "Arbeitsgemeinschaft der Verbraucherzentralen Niederbayern e. V.".into(),
            permissions: vec![Permission::View, Permission::Control, Permission::Clipboard],
            language: Some(language.into()),
        };
        let (act, acted) = channel();
        let acted_on = move |action| act.send(action).unwrap();
        let window = StatusWindow::show(Some(&desk.xvfb.name), &status, acted_on, || panic!("lost")).unwrap();
        let buttons = window.buttons();
        assert_eq!(buttons.len(), 2);
        for (action, (x, y, width, height)) in buttons {
            let (right, bottom) = (x + width as i32, y + height as i32);
            assert!(
                x >= 0 && y >= 0 && right <= 800 && bottom <= 600,
                "{dots} {language}: {action:?} {right} {bottom}"
            );
            desk.click((x, y, width, height));
            assert_eq!(acted.recv_timeout(PATIENCE), Ok(action), "{dots} {language}");
        }
        let id = desk.conn.query_tree(desk.root()).unwrap().reply().unwrap().children[0];
        let place = desk.conn.get_geometry(id).unwrap().reply().unwrap();
        assert!(place.x >= 0 && place.x + (place.width as i16) <= 800, "{dots} {language}: {place:?}");
    }
}

/// Any program on the display can take a window away. Then it is there again, until that is clearly meant: then the session ends.
#[test]
fn the_status_window_that_another_program_takes_away_comes_back_or_the_session_ends() {
    let desk = Desk::new();
    let watch = ChangeWindowAttributesAux::new().event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
    desk.conn.change_window_attributes(desk.root(), &watch).unwrap().check().unwrap();
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
    let mut windows = Windows::start(Some(desk.xvfb.name.clone()), say).unwrap();
    let person = Person {
        name: "Anna Berger".into(),
        organisation: "Acme".into(),
        lead: true,
        online: true,
        granted: Rights::of(&[Right::View, Right::Control]),
    };
    windows.status([&person].into_iter());
    for round in 0..=10 {
        let mut shown = None;
        desk.until(|event| {
            if let Event::MapNotify(map) = event {
                shown = Some(map.window);
            }
            shown.is_some()
        });
        match round % 2 {
            0 => desk.conn.destroy_window(shown.unwrap()).unwrap(),
            _ => desk.conn.unmap_window(shown.unwrap()).unwrap(),
        };
        desk.conn.sync().unwrap();
    }
    assert_eq!(said.blocking_recv(), Some(Said::Unseen));
    drop(windows);
    assert_eq!(desk.windows(), 0);
}

#[test]
fn a_status_that_cannot_be_shown_ends_the_session() {
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
    let mut windows = Windows::start(Some(":59000".into()), say).unwrap();
    let person = Person {
        name: "Anna Berger".into(),
        organisation: "Acme".into(),
        lead: true,
        online: true,
        granted: Rights::NONE,
    };
    windows.status([&person].into_iter());
    assert_eq!(said.blocking_recv(), Some(Said::Unseen));
}
