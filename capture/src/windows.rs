//! Windows: desktop duplication to see where it is offered and GDI where it is not, `SendInput` to act.
//!
//! GDI says nothing about what was drawn, so a display at which somebody looks is copied and compared some times a second
//! (see `screen`); the pointer, the lock keys, the arrangement of the monitors and who owns the desktop are asked for in
//! the same rhythm. Nothing here has a window or a hook, and nothing is read while nobody watches.

mod bitmap;
mod clipboard;
mod cursor;
mod desktop;
mod duplication;
mod gdi;
mod injector;
mod layout;
mod screen;
mod surface;
mod wake;

use std::io;
use std::sync::{Arc, Mutex};

use windows_sys::Win32::UI::HiDpi::{
    DPI_AWARENESS_CONTEXT_PER_MONITOR_AWARE_V2, SetProcessDpiAwarenessContext,
};

pub use self::bitmap::{Bitmap, described};
pub use self::clipboard::WindowsClipboard;
pub use self::injector::WindowsInjector;
pub use self::screen::WindowsScreen;
pub use self::wake::Wakeup;
use crate::{CaptureError, Layout};

/// The layout as both halves know it, so that one id means one display to them.
type SharedLayout = Arc<Mutex<Layout>>;

/// Opens both halves of the desktop that this program runs on. Without `duplicate` its pixels are read through GDI alone.
///
/// # Errors
/// [`CaptureError`] says what the system refuses.
pub fn open(duplicate: bool) -> Result<(WindowsScreen, WindowsInjector), CaptureError> {
    see_physical_pixels();
    let layout = SharedLayout::default();
    let screen = WindowsScreen::open(Arc::clone(&layout), duplicate)?;
    Ok((screen, WindowsInjector::new(layout)))
}

/// Declares that this program deals with each monitor's scale itself: else the system would show it a scaled desktop. To be
/// called before the first window.
pub fn see_physical_pixels() {
    // SAFETY: without conditions. It fails when it was declared before, which is as good.
    unsafe { SetProcessDpiAwarenessContext(DPI_AWARENESS_CONTEXT_PER_MONITOR_AWARE_V2) };
}

/// The error of the call that has just failed.
fn last(what: &'static str) -> CaptureError {
    CaptureError::System { what, source: io::Error::last_os_error() }
}
