//! The clipboard's text: what every platform's clipboard offers.

use std::time::Duration;

use crate::{CaptureError, Waker};

/// Bytes of UTF-8 of a text that is read or put, at most. Longer ones stay where they are.
pub const TEXT_MAX: usize = 1_000_000;

/// This computer's clipboard, texts only. It blocks, and belongs to the thread that opened it.
///
/// Only what is copied from now on is told: what was on the clipboard before stays the person's. So does what a program
/// marked as a secret, as keepers of passwords do.
pub trait Clipboard {
    /// Puts a text there, as if it had been copied. Lines end with a line feed.
    ///
    /// # Errors
    /// When the platform refuses.
    fn put(&mut self, text: &str) -> Result<(), CaptureError>;

    /// Waits until somebody else copied a text and answers it, or nothing when the [`Waker`] was used or the time is over
    /// (`None`: no limit). What [`put`](Self::put) put there is not told. A text that was put lasts, where the platform fetches it
    /// from its owner, only while this is called.
    ///
    /// # Errors
    /// [`CaptureError::Lost`] when the display is gone.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<String>, CaptureError>;

    /// Ends a [`wait`](Self::wait), now or the next one, from another thread.
    fn waker(&self) -> Waker;
}

/// Opens this computer's clipboard, on this thread. `display` names the screen that it belongs to, as for [`crate::open`].
///
/// # Errors
/// [`CaptureError`] says what is missing.
pub fn open(display: Option<&str>) -> Result<Box<dyn Clipboard>, CaptureError> {
    #[cfg(all(unix, not(target_os = "macos")))]
    {
        Ok(Box::new(crate::x11::X11Clipboard::open(display)?))
    }
    #[cfg(windows)]
    {
        let _ = display;
        Ok(Box::new(crate::windows::WindowsClipboard::open()?))
    }
    #[cfg(not(any(windows, all(unix, not(target_os = "macos")))))]
    {
        let _ = display;
        Err(CaptureError::Platform)
    }
}
