//! The screen, the cursor, the input and the clipboard of this computer, behind three traits: [`ScreenSource`] sees, [`Injector`]
//! acts, [`Clipboard`] copies and pastes.
//!
//! Each platform is one folder that meets the traits: `x11` and `windows`; docs/platforms.md says what each of the others asks
//! for. [`pattern`] is a display that no platform is needed for. Nothing here knows of records, codecs or consent: the
//! caller decides when to look, what to inject and who may.
//!
//! Both halves block and belong on threads of their own; a [`Waker`] interrupts a waiting [`ScreenSource`].

pub mod clipboard;
#[cfg(any(windows, test))]
mod compare;
pub mod cursor;
mod error;
pub mod held;
pub mod hid;
#[cfg(any(windows, test))]
mod holding;
pub mod input;
pub mod layout;
#[cfg(any(windows, test))]
mod masks;
pub mod pattern;
#[cfg(any(windows, test))]
mod scan;
#[cfg(any(windows, test))]
mod share;
pub mod source;
#[cfg(windows)]
pub mod windows;
#[cfg(all(unix, not(target_os = "macos")))]
pub mod x11;

pub use clipboard::Clipboard;
pub use cursor::CursorShape;
pub use error::CaptureError;
pub use held::{HeldKeys, Holdable};
pub use input::Injector;
pub use layout::{Display, Layout, Rect, Rotation};
pub use source::{Access, Event, Frame, Locks, ScreenSource, Waker};

/// The two halves of a computer's screen: what sees it and what acts on it.
pub type Halves = (Box<dyn ScreenSource>, Box<dyn Injector>);

/// Opens this computer's screen. `display` names it where a platform has several (`:0` on X11); `None` is the usual one.
///
/// # Errors
/// [`CaptureError`] says what is missing and how to get it.
pub fn open(display: Option<&str>) -> Result<Halves, CaptureError> {
    #[cfg(all(unix, not(target_os = "macos")))]
    {
        let (screen, injector) = x11::open(display)?;
        Ok((Box::new(screen), Box::new(injector)))
    }
    #[cfg(windows)]
    {
        let _ = display;
        let (screen, injector) = windows::open(true)?;
        Ok((Box::new(screen), Box::new(injector)))
    }
    #[cfg(not(any(windows, all(unix, not(target_os = "macos")))))]
    {
        let _ = display;
        Err(CaptureError::Platform)
    }
}
