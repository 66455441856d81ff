//! What every platform's window and writer offer, and what they tell. A window belongs to the thread that opened it.
//!
//! A platform's `Window` opens, shows a [`Canvas`](super::canvas::Canvas), says what [`Happened`] and waits; its `Writer` makes
//! stencils of text.

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

/// How large, in logical pixels, and how strong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) size: f32,
    pub(super) bold: bool,
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

/// The keys that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Activate,
    Cancel,
    Next,
}
