//! X11, spoken directly: MIT-SHM and Damage to see, XFixes and XInput for the pointer, RandR for the displays, XKB for the
//! locks and XTEST to act.
//!
//! Without MIT-SHM, RandR, XInput or XKB less is offered or it is slower, and the log says so once; without Damage, XFixes
//! or XTEST there is no service. Nothing polls: an idle screen causes no traffic on the connection.

mod clipboard;
mod injector;
mod keymap;
mod layout;
mod link;
mod pixels;
mod screen;
mod wake;

use std::sync::{Arc, Mutex};

use x11rb::protocol::xproto::Screen;
use x11rb::rust_connection::RustConnection;

pub use self::clipboard::X11Clipboard;
pub use self::injector::X11Injector;
pub use self::screen::X11Screen;
pub use self::wake::Wakeup;
use crate::{CaptureError, Layout};

/// The layout as both halves know it, so that one id means one display to them.
type SharedLayout = Arc<Mutex<Layout>>;

/// Opens both halves of an X display, each with a connection of its own. `None` takes the one that DISPLAY names.
///
/// # Errors
/// [`CaptureError`] says what is missing: the display, the permission, an extension.
pub fn open(display: Option<&str>) -> Result<(X11Screen, X11Injector), CaptureError> {
    let layout = SharedLayout::default();
    let screen = X11Screen::open(display, Arc::clone(&layout))?;
    Ok((screen, X11Injector::open(display, layout)?))
}

/// Connects to an X display, for windows of one's own. `None` takes the one that DISPLAY names.
///
/// # Errors
/// [`CaptureError`] says what is missing.
pub fn connect(display: Option<&str>) -> Result<(RustConnection, Screen), CaptureError> {
    let link = link::Link::open(display)?;
    link.require_bgrx()?;
    Ok((link.conn, link.screen))
}
