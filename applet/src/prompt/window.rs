//! What every platform's window and writer offer, and what they tell. A window belongs to the thread that opened it.
//!
//! A platform's `Window` opens, shows a [`Canvas`](super::canvas::Canvas), says what [`Happened`] and waits; its `Writer` makes
//! stencils of text.

use std::time::Duration;

use super::Area;
use super::canvas::Rect;
#[cfg(windows)]
pub(super) use super::windows::{Window, Writer};
#[cfg(not(windows))]
pub(super) use super::x11::{Window, Writer};

/// Where on the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Centre,
    Top,
}

impl Place {
    /// The place of a window of this size on a monitor, `margin` away from its edge.
    pub(super) fn on(self, monitor: Rect, (width, height): (i32, i32), margin: i32) -> Rect {
        let y = match self {
            Self::Centre => monitor.y + (monitor.height - height).max(0) / 2,
            Self::Top => monitor.y + margin,
        };
        Rect { x: monitor.x + (monitor.width - width).max(0) / 2, y, width, height }
    }
}

/// Distance of a window from the monitor's edge, in logical pixels.
pub(super) const MARGIN: f32 = 8.0;

/// Logical pixels in real ones, of which a logical one has `scale`.
pub(super) fn px(logical: f32, scale: f32) -> i32 {
    (logical * scale).round() as i32
}

/// A part of a window in the desktop's pixels.
pub(super) fn area(window: Rect, part: Rect) -> Area {
    (window.x + part.x, window.y + part.y, part.width.max(0) as u32, part.height.max(0) as u32)
}

/// How large, in logical pixels, and how strong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) size: f32,
    pub(super) bold: bool,
}

/// How long after the window was shown something happened, by the milliseconds of the clock that the system stamps both with. A
/// program that stood still takes what was typed meanwhile for no later than it was. The longest of times if the event was stamped by
/// another clock, as drivers may.
pub(super) fn since(shown: u32, time: u32) -> Duration {
    // The clock starts anew every seven weeks, and may count in steps.
    match time.wrapping_sub(shown).cast_signed() {
        after @ 0.. => Duration::from_millis(after.unsigned_abs().into()),
        -1000..0 => Duration::ZERO,
        _ => Duration::MAX,
    }
}

/// What happened to the window. Places are in its own pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Closed,
    Key(Key),
    Leave,
    /// The pointer is here, and there on the desktop.
    Motion((i32, i32), (i32, i32)),
    Press((i32, i32)),
    Release((i32, i32)),
    /// It is on a monitor with another scale now: what it shows has to be drawn anew.
    #[cfg_attr(not(windows), expect(dead_code, reason = "X11 has one scale for all monitors"))]
    Rescaled,
}

/// What a key means here. Keys that are held for another one, such as Shift, mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Activate,
    Cancel,
    Next,
    /// Something else is being typed.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_event_outlives_a_clock_that_starts_anew() {
        assert_eq!(since(1000, 1400), Duration::from_millis(400));
        assert_eq!(since(u32::MAX - 99, 300), Duration::from_millis(400));
        assert_eq!(since(1000, 990), Duration::ZERO, "a clock that counts in steps");
        assert_eq!(since(5000, 1), Duration::MAX, "another clock");
    }

    #[test]
    fn a_window_is_placed_on_its_monitor_and_stays_within() {
        let monitor = Rect { x: -1920, y: 40, width: 1920, height: 1040 };
        let centre = Place::Centre.on(monitor, (540, 400), 8);
        assert_eq!(centre, Rect { x: -1230, y: 360, width: 540, height: 400 });
        assert_eq!(Place::Top.on(monitor, (300, 44), 8), Rect { x: -1110, y: 48, width: 300, height: 44 });
        assert_eq!(centre.inside(monitor), centre);
        let beyond = Rect { x: -100, y: -500, ..centre };
        assert_eq!(beyond.inside(monitor), Rect { x: -540, y: 40, ..centre });
        // What is larger than the monitor begins where it does.
        let large = Rect { width: 5000, height: 5000, ..beyond };
        assert_eq!(large.inside(monitor), Rect { x: -1920, y: 40, ..large });
    }
}
