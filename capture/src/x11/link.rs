//! One connection to an X server, and its failures in this crate's words.

use std::env;
use std::io::ErrorKind;

use x11rb::connection::{Connection, RequestConnection};
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::xproto::{ImageOrder, Screen, Window};
use x11rb::reexports::x11rb_protocol::parse_display::parse_display;
use x11rb::rust_connection::RustConnection;

use crate::CaptureError;

/// The TCP port of display 0.
const FIRST_PORT: u16 = 6000;

/// A connection and the screen that it is about.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: RustConnection,
    pub(super) screen: Screen,
}

impl Link {
    pub(super) fn open(display: Option<&str>) -> Result<Self, CaptureError> {
        let name =
            display.map(str::to_owned).or_else(|| env::var("DISPLAY").ok()).filter(|name| !name.is_empty());
        let name = name.ok_or(CaptureError::NoDisplay)?;
        // Numbers beyond make no port; the library adds without looking.
        let parsed = parse_display(Some(&name)).ok().filter(|parsed| parsed.display <= u16::MAX - FIRST_PORT);
        if parsed.is_none() {
            return Err(CaptureError::BadDisplay { display: name });
        }
        let (conn, number) =
            RustConnection::connect(Some(&name)).map_err(|error| connecting(error, name.clone()))?;
        let screen =
            conn.setup().roots.get(number).cloned().ok_or(CaptureError::BadDisplay { display: name })?;
        Ok(Self { conn, screen })
    }

    pub(super) fn root(&self) -> Window {
        self.screen.root
    }

    /// Whether the server has an extension.
    pub(super) fn has(&self, extension: &'static str) -> Result<bool, CaptureError> {
        Ok(self.conn.extension_information(extension).or_lost()?.is_some())
    }

    /// Fails unless the server has an extension that cannot be done without.
    pub(super) fn require(&self, extension: &'static str, purpose: &'static str) -> Result<(), CaptureError> {
        let remedy = "every current X server brings it (Debian: xserver-xorg-core, xvfb, tigervnc-standalone-server), so it was \
                      turned off: look for `-extension` on the server's command line and an `Extensions` section in xorg.conf";
        if self.has(extension)? {
            Ok(())
        } else {
            Err(CaptureError::MissingExtension { extension, purpose, remedy })
        }
    }

    /// Fails unless pixels come as B, G, R, unused.
    pub(super) fn require_bgrx(&self) -> Result<(), CaptureError> {
        let setup = self.conn.setup();
        let depth = self.screen.root_depth;
        let bits = setup
            .pixmap_formats
            .iter()
            .find(|format| format.depth == depth)
            .map(|format| format.bits_per_pixel);
        let visuals = self.screen.allowed_depths.iter().flat_map(|depth| &depth.visuals);
        let masks = visuals.filter(|visual| visual.visual_id == self.screen.root_visual);
        let bgr =
            masks.map(|v| (v.red_mask, v.green_mask, v.blue_mask)).next() == Some((0xff_0000, 0xff00, 0xff));
        if bits == Some(32) && bgr && setup.image_byte_order == ImageOrder::LSB_FIRST {
            return Ok(());
        }
        Err(CaptureError::PixelFormat { depth })
    }
}

fn connecting(error: ConnectError, display: String) -> CaptureError {
    let said = |reason: &[u8]| String::from_utf8_lossy(reason).trim_end_matches(['\n', '\0']).to_owned();
    match error {
        ConnectError::DisplayParsingError(_) | ConnectError::InvalidScreen => {
            CaptureError::BadDisplay { display }
        }
        ConnectError::SetupFailed(failed) => CaptureError::Refused { display, reason: said(&failed.reason) },
        ConnectError::SetupAuthenticate(asked) => {
            CaptureError::Refused { display, reason: said(&asked.reason) }
        }
        ConnectError::IoError(error) if error.kind() == ErrorKind::PermissionDenied => {
            CaptureError::Refused { display, reason: error.to_string() }
        }
        other => CaptureError::Unreachable { display, reason: other.to_string() },
    }
}

/// Names what was asked in the error of a request.
pub(super) trait Asked<T> {
    /// Turns the failure into one of this crate; `what` completes "refused to …".
    fn asked(self, what: &'static str) -> Result<T, CaptureError>;
}

impl<T> Asked<T> for Result<T, ReplyError> {
    fn asked(self, what: &'static str) -> Result<T, CaptureError> {
        self.map_err(|error| match error {
            ReplyError::ConnectionError(error) => lost(&error),
            ReplyError::X11Error(error) => {
                CaptureError::Rejected { what, reason: format!("{:?}", error.error_kind) }
            }
        })
    }
}

impl<T> Asked<T> for Result<T, ReplyOrIdError> {
    fn asked(self, what: &'static str) -> Result<T, CaptureError> {
        self.map_err(|error| match error {
            ReplyOrIdError::IdsExhausted => CaptureError::Lost("its resource ids are used up".into()),
            ReplyOrIdError::ConnectionError(error) => lost(&error),
            ReplyOrIdError::X11Error(error) => {
                CaptureError::Rejected { what, reason: format!("{:?}", error.error_kind) }
            }
        })
    }
}

/// Turns a failure to send into [`CaptureError::Lost`].
pub(super) trait OrLost<T> {
    /// See the trait.
    fn or_lost(self) -> Result<T, CaptureError>;
}

impl<T> OrLost<T> for Result<T, ConnectionError> {
    fn or_lost(self) -> Result<T, CaptureError> {
        self.map_err(|error| lost(&error))
    }
}

fn lost(error: &ConnectionError) -> CaptureError {
    CaptureError::Lost(error.to_string())
}
