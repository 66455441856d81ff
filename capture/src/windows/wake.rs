//! Waiting for a wake-up, and for messages to this thread's windows. Windows of other crates wait with it too.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::{WAIT_FAILED, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForSingleObject,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    MWMO_INPUTAVAILABLE, MsgWaitForMultipleObjectsEx, QS_ALLINPUT,
};

use super::last;
use crate::{CaptureError, Waker};

/// An event of the system that another thread can raise.
#[derive(Clone, Debug)]
pub struct Wakeup(Arc<OwnedHandle>);

impl Wakeup {
    /// One that isn't raised.
    ///
    /// # Errors
    /// When the system has no more handles.
    pub fn new() -> Result<Self, CaptureError> {
        // SAFETY: without attributes and a name, reset by hand, not raised.
        let handle = unsafe { CreateEventW(null(), 1, 0, null()) };
        if handle.is_null() {
            return Err(last("make an event"));
        }
        // SAFETY: it has just been made, and nobody else owns it.
        Ok(Self(Arc::new(unsafe { OwnedHandle::from_raw_handle(handle) })))
    }

    /// What raises it.
    pub fn waker(&self) -> Waker {
        let event = Arc::clone(&self.0);
        Waker::new(move || {
            // SAFETY: the handle lives as long as `event`.
            unsafe { SetEvent(event.as_raw_handle()) };
        })
    }

    /// Waits until this is raised or the time is over. Answers whether it was raised, and lowers it.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, CaptureError> {
        // SAFETY: the handle lives as long as `self`.
        let woken = unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds(timeout)) };
        self.lower(woken)
    }

    /// Like [`wait`](Self::wait), and also ends when there is a message for this thread's windows.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait_or_message(&self, timeout: Option<Duration>) -> Result<bool, CaptureError> {
        let handles = [self.0.as_raw_handle()];
        // SAFETY: one handle, which lives as long as `self`.
        let woken = unsafe {
            MsgWaitForMultipleObjectsEx(
                1,
                handles.as_ptr(),
                milliseconds(timeout),
                QS_ALLINPUT,
                MWMO_INPUTAVAILABLE,
            )
        };
        self.lower(woken)
    }

    fn lower(&self, woken: u32) -> Result<bool, CaptureError> {
        match woken {
            WAIT_FAILED => Err(last("wait")),
            WAIT_OBJECT_0 => {
                // SAFETY: the handle lives as long as `self`.
                unsafe { ResetEvent(self.0.as_raw_handle()) };
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Whole milliseconds, rounded up: a wait must not end before its time again and again.
fn milliseconds(timeout: Option<Duration>) -> u32 {
    timeout.map_or(INFINITE, |timeout| {
        u32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(INFINITE - 1).min(INFINITE - 1)
    })
}
