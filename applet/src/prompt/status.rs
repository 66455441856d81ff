//! The small window that is there as long as somebody is connected: who it is, what they can do, and two buttons that end
//! it. It lies at the top of the primary monitor, above everything, and can be dragged elsewhere.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tandem_capture::Waker;

use super::canvas::{Canvas, Colour, Rect, Stencil};
use super::consent::darker;
use super::names::clean;
use super::strings::{self, Permission, Strings, filled};
use super::window::{Happened, Place, Style, Window};
use super::{Area, PromptError, opened};

const PAPER: Colour = 0x1d_2733;
const INK: Colour = 0xff_ffff;
const SEEN: Colour = 0x3f_a7ff;
const CONTROLLED: Colour = 0xff_8a3d;
const STOP: Colour = 0x44_5366;
const END: Colour = 0xb3_2d2d;
const TEXT: Style = Style { size: 14.0, bold: false };
const LABEL: Style = Style { size: 13.0, bold: true };
/// So many names are shown; others are said to be there.
const NAMES: usize = 3;
/// With less room than this beside the buttons, or when it is higher there, in logical pixels, the text gets rows of its own.
const TEXT_LEAST: f32 = 260.0;
const TEXT_MOST: f32 = 60.0;

/// What the window says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Those who are connected, the lead technician first.
    pub technicians: Vec<String>,
    /// Their organisation.
    pub organisation: String,
    /// What they may do now.
    pub permissions: Vec<Permission>,
    /// The language; `None` is the environment's.
    pub language: Option<String>,
}

impl Status {
    fn may(&self, permission: &Permission) -> bool {
        self.permissions.contains(permission)
    }
}

/// What the customer did in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusAction {
    /// Everything is to end, now.
    EndSession,
    /// Mouse, keyboard and clipboard are to be taken back; seeing may go on.
    Stop,
}

/// An open status window. Dropping it closes it.
#[derive(Debug)]
pub struct StatusWindow {
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Close,
    Say(Status),
    /// Answers where the window's buttons are.
    Where(Sender<Vec<(StatusAction, Area)>>),
}

impl StatusWindow {
    /// Opens the window on `display` (`None`: the environment's); `acted` is called, on another thread, for every click on a
    /// button, and `lost` there if the window goes without being closed by its owner.
    ///
    /// # Errors
    /// When no window can be shown. Then nothing is called.
    pub fn show(
        display: Option<&str>,
        status: &Status,
        acted: impl FnMut(StatusAction) + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Self, PromptError> {
        let (orders, given) = channel();
        let (display, status) = (display.map(str::to_owned), status.clone());
        let (thread, waker) = opened("status-window", move |ready| {
            let (mut window, mut bar) = open(display.as_deref(), &status)?;
            ready(window.waker());
            let mut lost = Lost(Some(lost));
            match serve(&mut window, &mut bar, status, &given, acted) {
                Ok(Ended::Closed) => lost.0 = None,
                Ok(Ended::Gone) => tracing::warn!("another program has taken the status window away"),
                Err(error) => tracing::warn!(%error, "the status window failed"),
            }
            Ok(())
        })?;
        Ok(Self { orders, waker, thread: Some(thread) })
    }

    /// Says something else.
    pub fn update(&self, status: Status) {
        self.order(Order::Say(status));
    }

    /// Where the buttons that are there now are, in the desktop's pixels; nothing when the window has failed.
    pub fn buttons(&self) -> Vec<(StatusAction, Area)> {
        let (answer, answered) = channel();
        self.order(Order::Where(answer));
        answered.recv().unwrap_or_default()
    }

    fn order(&self, order: Order) {
        // Its thread only ends early when the display is gone, which it has said.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

impl Drop for StatusWindow {
    fn drop(&mut self) {
        self.order(Order::Close);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// Calls this when it is dropped, also by a panic.
struct Lost<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Lost<F> {
    fn drop(&mut self) {
        if let Some(lost) = self.0.take() {
            lost();
        }
    }
}

/// Why the window is not served any more.
enum Ended {
    /// Its owner has closed it.
    Closed,
    /// It is gone.
    Gone,
}

fn open(display: Option<&str>, status: &Status) -> Result<(Window, Bar), PromptError> {
    let mut window = Window::open(display)?;
    let bar = Bar::new(status, &window)?;
    window.show(bar.size(), Place::Top, strings::of(status.language.as_deref()).title, false)?;
    window.paint(bar.paint())?;
    Ok((window, bar))
}

fn serve(
    window: &mut Window,
    bar: &mut Bar,
    mut status: Status,
    orders: &Receiver<Order>,
    mut acted: impl FnMut(StatusAction),
) -> Result<Ended, PromptError> {
    loop {
        let (mut news, mut asked) = (None, Vec::new());
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Close => return Ok(Ended::Closed),
                // The last one is true.
                Order::Say(status) => news = Some(status),
                Order::Where(answer) => asked.push(answer),
            }
        }
        if let Some(news) = news {
            status = news;
            say(window, bar, &status)?;
        }
        for answer in asked {
            // Only now it is there: a click that comes before would be another place of the window.
            window.sync()?;
            let buttons = bar.buttons.iter().map(|button| (button.action, window.area(button.rect)));
            // Nobody waits any more if this fails.
            let _ = answer.send(buttons.collect());
        }
        for (happened, _) in window.happened()? {
            match happened {
                Happened::Closed => return Ok(Ended::Gone),
                Happened::Rescaled => say(window, bar, &status)?,
                other => match bar.take(&other, window.place()) {
                    Some(Meant::Act(action)) => acted(action),
                    Some(Meant::Move(x, y)) => window.reshape(x, y, bar.size())?,
                    None => {}
                },
            }
        }
        window.paint(bar.paint())?;
        window.wait(None)?;
    }
}

/// Says this from now on.
fn say(window: &mut Window, bar: &mut Bar, status: &Status) -> Result<(), PromptError> {
    *bar = Bar::new(status, window)?;
    // Its middle stays where it was.
    let (place, (width, height)) = (window.place(), bar.size());
    window.reshape(place.x + (place.width - width) / 2, place.y, (width, height))
}

/// The status without its window.
#[derive(Debug)]
struct Bar {
    page: Canvas,
    buttons: Vec<Button>,
    radius: i32,
    hover: Option<usize>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Button {
    action: StatusAction,
    rect: Rect,
    label: Stencil,
    colour: Colour,
}

/// What the pointer's button went down on.
#[derive(Clone, Copy, Debug)]
enum Hold {
    Button(usize),
    /// The window itself, at this place of it.
    Window((i32, i32)),
}

enum Meant {
    Act(StatusAction),
    Move(i32, i32),
}

impl Bar {
    /// Fonts are loaded for this and given back.
    fn new(status: &Status, window: &Window) -> Result<Self, PromptError> {
        let strings = strings::of(status.language.as_deref());
        let mut writer = window.writer()?;
        let px = |logical: f32| window.px(logical);
        let (gap, space, dot, edge) = (px(12.0), px(8.0), px(10.0), px(2.0));
        let monitor = window.monitor()?.width;
        let stop = stop(status, strings).map(|name| (StatusAction::Stop, name, STOP));
        let end = (StatusAction::EndSession, strings.end_session, END);
        let mut buttons = Vec::new();
        for (action, name, colour) in stop.into_iter().chain([end]) {
            let label = window.write(&mut writer, name, LABEL, monitor - 4 * gap)?;
            let (width, height) = (label.width + 2 * gap, px(28.0).max(label.height + space));
            buttons.push(Button { action, rect: Rect { x: 0, y: 0, width, height }, label, colour });
        }
        // The buttons come first: what ends it all is on the monitor, however much there is to say.
        let left = gap + dot + space;
        let beside: i32 = buttons.iter().map(|button| button.rect.width + space).sum();
        let room = monitor - left - gap - beside - edge;
        let mut write = |room| window.write(&mut writer, &says(status, strings), TEXT, room);
        let fits = (room >= px(TEXT_LEAST)).then(|| write(room.min(monitor * 3 / 5))).transpose()?;
        let fits = fits.filter(|text| text.height <= px(TEXT_MOST));
        let is_beside = fits.is_some();
        let text = fits.map_or_else(|| write(monitor - left - gap), Ok)?;
        let rects = buttons.iter_mut().map(|button| &mut button.rect);
        let (size, line) = if is_beside {
            let height = px(44.0).max(text.height + px(16.0));
            let right = row(rects, (left + text.width + gap, space), height);
            ((right + edge, height), Rect { x: 0, y: 0, width: 0, height })
        } else {
            let (right, bottom) = rows(rects, (gap, space), monitor);
            let height = text.height + px(16.0);
            let line = Rect { x: 0, y: bottom, width: 0, height };
            ((right.max(left + text.width + gap), bottom + height), line)
        };
        let mut page = Canvas::new(size, PAPER);
        let dot_place = Rect { x: gap, y: line.y + (line.height - dot) / 2, width: dot, height: dot };
        page.fill(dot_place, dot / 2, if status.may(&Permission::Control) { CONTROLLED } else { SEEN });
        page.stamp(&text, left, line.y + (line.height - text.height) / 2, INK);
        Ok(Self { page, buttons, radius: px(5.0), hover: None, hold: None })
    }

    fn size(&self) -> (i32, i32) {
        (self.page.width, self.page.height)
    }

    fn take(&mut self, happened: &Happened, place: Rect) -> Option<Meant> {
        let at = |place| self.buttons.iter().position(|button| button.rect.contains(place));
        match *happened {
            Happened::Press(place) => self.hold = Some(at(place).map_or(Hold::Window(place), Hold::Button)),
            Happened::Motion(_, (x, y)) if matches!(self.hold, Some(Hold::Window(_))) => {
                let Some(Hold::Window((dx, dy))) = self.hold else { return None };
                return ((x - dx, y - dy) != (place.x, place.y)).then_some(Meant::Move(x - dx, y - dy));
            }
            Happened::Motion(place, _) => self.hover = at(place),
            Happened::Leave => self.hover = None,
            Happened::Release(place) => {
                if let Some(Hold::Button(index)) = self.hold.take() {
                    return (at(place) == Some(index)).then(|| Meant::Act(self.buttons[index].action));
                }
            }
            Happened::Key(_) | Happened::Closed | Happened::Rescaled => {}
        }
        None
    }

    fn paint(&self) -> Canvas {
        let mut canvas = self.page.clone();
        for (index, button) in self.buttons.iter().enumerate() {
            let colour = if self.hover == Some(index) { darker(button.colour, 24) } else { button.colour };
            canvas.fill(button.rect, self.radius, colour);
            canvas.stamp_in(&button.label, button.rect, INK);
        }
        canvas
    }
}

/// Puts boxes side by side from here on, with space between them, in the middle of a row of this height. Answers where the row ends.
fn row<'a>(rects: impl Iterator<Item = &'a mut Rect>, (mut x, space): (i32, i32), height: i32) -> i32 {
    for rect in rects {
        (rect.x, rect.y) = (x, (height - rect.height) / 2);
        x += rect.width + space;
    }
    x
}

/// Puts boxes side by side, `gap` away from the edges and with space between them, in as many rows as it takes. Answers where they end to
/// the right and below.
fn rows<'a>(rects: impl Iterator<Item = &'a mut Rect>, (gap, space): (i32, i32), width: i32) -> (i32, i32) {
    let (mut x, mut y, mut right, mut bottom) = (gap, space, 0, space);
    for rect in rects {
        if x > gap && x + rect.width + gap > width {
            (x, y) = (gap, bottom + space);
        }
        (rect.x, rect.y) = (x, y);
        (right, bottom) = (right.max(x + rect.width + gap), bottom.max(y + rect.height));
        x += rect.width + space;
    }
    (right, bottom)
}

/// What the window says: who is there, and what they can do now.
fn says(status: &Status, strings: &Strings) -> String {
    let says = if status.may(&Permission::Control) {
        strings.controls
    } else if status.may(&Permission::View) {
        strings.sees
    } else {
        strings.connected
    };
    let clipboard = if status.may(&Permission::Clipboard) { strings.and_clipboard } else { "" };
    filled(says, &[("names", &names(status, strings))]) + clipboard
}

/// What the button says that takes back all but seeing, if there is something to take back.
fn stop(status: &Status, strings: &Strings) -> Option<&'static str> {
    match (status.may(&Permission::Control), status.may(&Permission::Clipboard)) {
        (true, true) => Some(strings.stop_both),
        (true, false) => Some(strings.stop_control),
        (false, true) => Some(strings.stop_clipboard),
        (false, false) => None,
    }
}

/// Who is connected: "Anna Berger, Bela Kun (Acme)".
fn names(status: &Status, strings: &Strings) -> String {
    let mut names: Vec<String> = status.technicians.iter().take(NAMES).map(|name| clean(name)).collect();
    if status.technicians.len() > NAMES {
        names.push(strings.and_more.to_owned());
    }
    format!("{} ({})", names.join(", "), clean(&status.organisation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(permissions: &[Permission]) -> Status {
        Status {
            technicians: vec!["Anna Berger".into()],
            organisation: "Acme".into(),
            permissions: permissions.to_vec(),
            language: None,
        }
    }

    /// All that is granted is said, and what can be taken back has a button.
    #[test]
    fn the_clipboard_is_told_and_can_be_taken_back() {
        let (view, control, clipboard) = (Permission::View, Permission::Control, Permission::Clipboard);
        for language in strings::LANGUAGES {
            let strings = strings::of(Some(language));
            let told = |permissions: &[Permission]| {
                let status = status(permissions);
                (says(&status, strings), stop(&status, strings))
            };
            for without in [vec![], vec![view.clone()], vec![view.clone(), control.clone()]] {
                let with: Vec<Permission> = without.iter().chain([&clipboard]).cloned().collect();
                let ((said, button), (said_with, button_with)) = (told(&without), told(&with));
                assert_eq!(said_with, said + strings.and_clipboard);
                assert!(button_with.is_some() && button_with != button, "{button_with:?}");
            }
            assert_eq!(told(std::slice::from_ref(&view)).1, None);
            assert_eq!(told(&[view.clone(), control.clone()]).1, Some(strings.stop_control));
        }
    }
}
