//! The consent prompt: what stands where, and what a hand on it means.

use std::time::Duration;

use super::canvas::{Canvas, Colour, Rect, Stencil};
use super::names::clean;
use super::strings::{self, Strings, filled};
use super::window::{Happened, Key, Style, Window, Writer};
use super::{Answer, PromptError, PromptRequest};

const PAPER: Colour = 0xff_ffff;
const INK: Colour = 0x1d_2733;
const GREY: Colour = 0x5b_6776;
const LINE: Colour = 0xc9_d1da;
const ACCENT: Colour = 0x2b_63c6;
const CAUTION: Colour = 0xd9_8a00;
const CAUTION_PAPER: Colour = 0xff_f5e0;
const CAUTION_INK: Colour = 0x5c_3c00;
const YES: Colour = 0x1f_7a4d;
const NO: Colour = 0x3d_4a5c;

const TEXT: Style = Style { size: 15.0, bold: false };
const SMALL: Style = Style { size: 13.0, bold: false };
const HEADLINE: Style = Style { size: 21.0, bold: true };
const STRONG: Style = Style { size: 15.0, bold: true };
const BUTTON: Style = Style { size: 16.0, bold: true };

/// Which of the buttons refuses, on which the keyboard is at first, and which allows.
const REFUSE: usize = 0;
const ALLOW: usize = 1;

/// The prompt without its window.
#[derive(Debug)]
pub(super) struct Consent {
    strings: &'static Strings,
    writer: Writer,
    timeout: Duration,
    settle: Duration,
    buttons: [Button; 2],
    focus: Focus,
    hover: Option<usize>,
    pressed: Option<usize>,
    /// All that never changes.
    page: Canvas,
    countdown: Countdown,
    ring: i32,
}

/// Which button the keyboard is on.
#[derive(Debug)]
struct Focus {
    button: usize,
    /// When it was moved there, from the window's appearance on.
    since: Duration,
    settle: Duration,
}

impl Focus {
    fn next(&mut self, elapsed: Duration) {
        if elapsed >= self.settle {
            (self.button, self.since) = (1 - self.button, elapsed);
        }
    }

    /// Whoever types is not choosing between buttons.
    fn back(&mut self, elapsed: Duration) {
        (self.button, self.since) = (REFUSE, elapsed);
    }

    /// The button that a key activates. What somebody typed for another window moves and activates in one breath: only refusing
    /// is as quick as that.
    fn activated(&self, elapsed: Duration) -> Option<usize> {
        let since = if self.button == REFUSE { Duration::ZERO } else { self.since };
        (elapsed >= since + self.settle).then_some(self.button)
    }
}

#[derive(Debug)]
struct Button {
    answer: Answer,
    rect: Rect,
    label: Stencil,
    colour: Colour,
}

#[derive(Debug)]
struct Countdown {
    place: Rect,
    written: Option<(u64, Stencil)>,
}

impl Consent {
    pub(super) fn new(request: &PromptRequest, window: &Window) -> Result<Self, PromptError> {
        let strings = strings::of(request.language.as_deref());
        let mut writer = window.writer()?;
        let px = |logical: f32| window.px(logical);
        let margin = px(28.0);
        let width = px(540.0).min(window.monitor()?.width);
        let inner = width - 2 * margin;
        let mut page = Page { items: Vec::new(), boxes: Vec::new(), y: px(24.0) };
        let mut write = |text: &str, style, width| window.write(&mut writer, text, style, width);

        let (technician, organisation) = (clean(&request.technician), clean(&request.organisation));
        let names = [("technician", &*technician), ("organisation", &*organisation)];
        page.text(write(strings.title, SMALL, inner)?, margin, ACCENT, px(6.0));
        page.text(write(&filled(strings.headline, &names), HEADLINE, inner)?, margin, INK, px(16.0));
        page.text(write(&filled(strings.will_be_able, &names), TEXT, inner)?, margin, GREY, px(8.0));
        for permission in &request.permissions {
            let text = write(strings.permission(permission), STRONG, inner - px(24.0))?;
            let dot = px(7.0);
            let rect =
                Rect { x: margin + px(4.0), y: page.y + (px(20.0) - dot) / 2, width: dot, height: dot };
            page.boxes.push((rect, dot / 2, ACCENT));
            page.text(text, margin + px(24.0), INK, px(5.0));
        }
        page.y += px(8.0);
        page.text(write(strings.any_time, TEXT, inner)?, margin, GREY, px(16.0));

        let warning = write(strings.warning, STRONG, inner - px(32.0))?;
        let around = Rect { x: margin, y: page.y, width: inner, height: warning.height + px(24.0) };
        page.boxes.push((around, px(6.0), CAUTION_PAPER));
        page.boxes.push((Rect { width: px(4.0), ..around }, 0, CAUTION));
        page.y += px(12.0);
        page.text(warning, margin + px(18.0), CAUTION_INK, px(12.0 + 22.0));

        let (gap, height) = (px(14.0), px(48.0));
        let mut button = |answer, text, colour, column: i32| {
            let label = write(text, BUTTON, inner / 2)?;
            let rect = Rect {
                x: margin + column * ((inner + gap) / 2),
                y: page.y,
                width: (inner - gap) / 2,
                height,
            };
            Ok::<_, PromptError>(Button { answer, rect, label, colour })
        };
        let buttons =
            [button(Answer::Refuse, strings.refuse, NO, 0)?, button(Answer::Allow, strings.allow, YES, 1)?];
        page.y += height + px(14.0);
        let place = Rect { x: margin, y: page.y, width: inner, height: px(20.0) };
        page.y += place.height + px(16.0);
        Ok(Self {
            strings,
            timeout: request.timeout,
            settle: request.settle,
            buttons,
            focus: Focus { button: REFUSE, since: Duration::ZERO, settle: request.settle },
            hover: None,
            pressed: None,
            page: page.draw(width, px(4.0)),
            countdown: Countdown { place, written: None },
            ring: px(2.0),
            writer,
        })
    }

    pub(super) fn size(&self) -> (i32, i32) {
        (self.page.width, self.page.height)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Where Allow and Refuse are.
    pub(super) fn buttons(&self) -> (Rect, Rect) {
        (self.buttons[ALLOW].rect, self.buttons[REFUSE].rect)
    }

    /// What an event means, `elapsed` after the window appeared.
    pub(super) fn take(&mut self, happened: &Happened, elapsed: Duration) -> Option<Answer> {
        let at = |place| self.buttons.iter().position(|button| button.rect.contains(place));
        let settled = elapsed >= self.settle;
        match *happened {
            Happened::Motion(place, _) => self.hover = at(place),
            Happened::Leave => self.hover = None,
            // Only a click that begins and ends on the button, after the customer can have read it.
            Happened::Press(place) => self.pressed = at(place).filter(|_| settled),
            Happened::Release(place) => {
                let pressed = self.pressed.take()?;
                return (at(place) == Some(pressed)).then(|| self.buttons[pressed].answer);
            }
            Happened::Key(Key::Next) => self.focus.next(elapsed),
            Happened::Key(Key::Activate) => {
                return self.focus.activated(elapsed).map(|button| self.buttons[button].answer);
            }
            Happened::Key(Key::Cancel) if settled => return Some(Answer::Refuse),
            Happened::Key(Key::Cancel) => {}
            Happened::Key(Key::Other) => self.focus.back(elapsed),
            Happened::Closed => return Some(Answer::Dismissed),
            Happened::Rescaled => {}
        }
        None
    }

    /// The picture with so much time left.
    pub(super) fn paint(&mut self, window: &Window, left: Duration) -> Result<Canvas, PromptError> {
        let mut canvas = self.page.clone();
        for (index, button) in self.buttons.iter().enumerate() {
            let colour = match (self.pressed == Some(index), self.hover == Some(index)) {
                (true, true) => darker(button.colour, 40),
                (false, true) => darker(button.colour, 18),
                _ => button.colour,
            };
            if self.focus.button == index {
                canvas.frame(button.rect.grown(2 * self.ring), 5 * self.ring, self.ring, ACCENT, PAPER);
            }
            canvas.fill(button.rect, 3 * self.ring, colour);
            canvas.stamp_in(&button.label, button.rect, PAPER);
        }
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        if self.countdown.written.as_ref().is_none_or(|(written, _)| *written != seconds) {
            let text = filled(self.strings.countdown, &[("seconds", &seconds.to_string())]);
            let stencil = window.write(&mut self.writer, &text, SMALL, self.countdown.place.width)?;
            self.countdown.written = Some((seconds, stencil));
        }
        if let Some((_, stencil)) = &self.countdown.written {
            canvas.stamp(stencil, self.countdown.place.x, self.countdown.place.y, GREY);
        }
        Ok(canvas)
    }
}

/// A page that grows downwards.
struct Page {
    items: Vec<(Stencil, i32, i32, Colour)>,
    boxes: Vec<(Rect, i32, Colour)>,
    y: i32,
}

impl Page {
    /// Adds a text and then space.
    fn text(&mut self, stencil: Stencil, x: i32, colour: Colour, space: i32) {
        let height = stencil.height;
        self.items.push((stencil, x, self.y, colour));
        self.y += height + space;
    }

    fn draw(self, width: i32, bar: i32) -> Canvas {
        let mut canvas = Canvas::new((width, self.y), LINE);
        let whole = Rect { x: 0, y: 0, width, height: self.y };
        canvas.fill(whole.grown(-1), 0, PAPER);
        canvas.fill(Rect { height: bar, ..whole }, 0, ACCENT);
        for (rect, radius, colour) in self.boxes {
            canvas.fill(rect, radius, colour);
        }
        for (stencil, x, y, colour) in &self.items {
            canvas.stamp(stencil, *x, *y, *colour);
        }
        canvas
    }
}

/// A colour with every part lowered by so many 255ths.
pub(super) fn darker(colour: Colour, by: u8) -> Colour {
    let [blue, green, red, _] = colour.to_le_bytes();
    Colour::from_le_bytes([blue.saturating_sub(by), green.saturating_sub(by), red.saturating_sub(by), 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_meant_for_another_window_do_not_allow() {
        let at = Duration::from_millis;
        let mut focus = Focus { button: REFUSE, since: Duration::ZERO, settle: at(500) };
        focus.next(at(100));
        assert_eq!(focus.button, REFUSE, "before anybody can have read it");
        assert_eq!(focus.activated(at(499)), None);
        assert_eq!(focus.activated(at(500)), Some(REFUSE));
        focus.next(at(600));
        assert_eq!(focus.activated(at(1099)), None, "Tab and Space in one breath");
        assert_eq!(focus.activated(at(1100)), Some(ALLOW));
        focus.next(at(1200));
        assert_eq!(focus.activated(at(1201)), Some(REFUSE), "refusing needs no second look");
        focus.next(at(1300));
        focus.back(at(2000));
        assert_eq!(focus.activated(at(3000)), Some(REFUSE), "a space between words");
    }
}
