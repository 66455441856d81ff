//! What can go wrong between this program and the computer's screen, in words that say what to do about it.

use std::io;

use tandem_protocol::DisplayId;

/// Why the screen cannot be seen or acted on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No display was named and the environment names none.
    #[error(
        "no display: DISPLAY is not set. Start this inside a graphical session, name the display (for instance :0), \
         or use the test pattern, which needs none"
    )]
    NoDisplay,
    /// The name of the display makes no sense.
    #[error("`{display}` is not the name of a display: it should look like :0, or host:0.0")]
    BadDisplay {
        /// The name as given.
        display: String,
    },
    /// Nothing answers there.
    #[error(
        "no X server answers at {display} ({reason}): is the graphical session running, and is the number right?"
    )]
    Unreachable {
        /// The display's name.
        display: String,
        /// What the system said.
        reason: String,
    },
    /// The X server does not let this program in.
    #[error(
        "the X server at {display} refused the connection ({reason}): run as the user of that session, or point \
         XAUTHORITY at its cookie file"
    )]
    Refused {
        /// The display's name.
        display: String,
        /// What the server said.
        reason: String,
    },
    /// The server lacks something that cannot be done without.
    #[error("the X server lacks the extension {extension}, needed {purpose}: {remedy}")]
    MissingExtension {
        /// Its name in the protocol.
        extension: &'static str,
        /// What it is for: completes "needed …".
        purpose: &'static str,
        /// What brings it.
        remedy: &'static str,
    },
    /// An X server inside a Wayland session shows only a part of the screen.
    #[error(
        "this is Xwayland: behind it is a Wayland session whose windows X11 does not show. Sign in to an X11 session \
         (\"on Xorg\" at the sign-in screen)"
    )]
    Wayland,
    /// The screen's pixels are of an unusual shape.
    #[error(
        "the screen has {depth} bits a pixel in a form that is not understood: set the X server to depth 24 \
         (Xvfb: -screen 0 1920x1080x24)"
    )]
    PixelFormat {
        /// Its depth in bits.
        depth: u8,
    },
    /// This operating system is not supported yet.
    #[error("this operating system's screen cannot be captured yet; the test pattern can be shown instead")]
    Platform,
    /// The layout has no such display (any more).
    #[error("there is no display {}", .0.0)]
    UnknownDisplay(DisplayId),
    /// The displays changed while one was read. An [`crate::Event::Layout`] follows.
    #[error("the displays changed meanwhile")]
    LayoutChanged,
    /// The system takes no input from programs just now, since it shows a screen of its own. An [`crate::Event::Access`] says
    /// so.
    #[error("the system takes no input now: {reason}")]
    NotNow {
        /// Its answer.
        reason: String,
    },
    /// The keyboard has no key for this.
    #[error("no key of this computer's keyboard corresponds to usage {usage:#x}")]
    NoSuchKey {
        /// The USB HID usage.
        usage: u32,
    },
    /// No free keycode is left to type a character that the keyboard lacks.
    #[error("the keyboard map has no free key code to type a character with")]
    NoSpareKey,
    /// The connection to the display ended, mostly because the graphical session did.
    #[error("the connection to the display was lost: {0}")]
    Lost(String),
    /// The display refused a request: a defect here, or a limit there.
    #[error("the display refused to {what}: {reason}")]
    Rejected {
        /// What was asked: completes "refused to …".
        what: &'static str,
        /// Its answer.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}
