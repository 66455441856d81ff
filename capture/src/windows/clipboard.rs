//! The clipboard's text.

use std::ptr::{null, null_mut};
use std::thread::sleep;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{GlobalFree, HANDLE, HWND};
use windows_sys::Win32::System::DataExchange::{
    AddClipboardFormatListener, CloseClipboard, EmptyClipboard, GetClipboardData, GetClipboardOwner,
    GetClipboardSequenceNumber, IsClipboardFormatAvailable, OpenClipboard, RegisterClipboardFormatW,
    SetClipboardData,
};
use windows_sys::Win32::System::Memory::{GMEM_MOVEABLE, GlobalAlloc, GlobalLock, GlobalSize, GlobalUnlock};
use windows_sys::Win32::System::Ole::CF_UNICODETEXT;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DestroyWindow, DispatchMessageW, HWND_MESSAGE, MSG, PM_REMOVE, PeekMessageW,
};
use windows_sys::w;

use super::last;
use super::wake::Wakeup;
use crate::clipboard::TEXT_MAX;
use crate::{CaptureError, Clipboard, Waker};

/// Only one program can have the clipboard open. So often it is tried again, and so long apart.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The clipboard of the desktop that this program runs on.
#[derive(Debug)]
pub struct WindowsClipboard {
    /// Never shown: it owns what we put, and is told of changes.
    window: HWND,
    wakeup: Wakeup,
    /// The system's count of changes when we looked last.
    seen: u32,
    /// What a program adds to what other programs should not read.
    secret: u32,
}

impl WindowsClipboard {
    /// Opens it for this thread.
    ///
    /// # Errors
    /// When the system refuses a window.
    pub fn open() -> Result<Self, CaptureError> {
        let wakeup = Wakeup::new()?;
        // SAFETY: a kind of window that the system has; without a parent on the desktop nobody sees it.
        let window = unsafe {
            CreateWindowExW(
                0,
                w!("STATIC"),
                null(),
                0,
                0,
                0,
                0,
                0,
                HWND_MESSAGE,
                null_mut(),
                null_mut(),
                null(),
            )
        };
        if window.is_null() {
            return Err(last("make a window for the clipboard"));
        }
        // SAFETY: without conditions.
        let (seen, secret) = unsafe {
            let name = w!("ExcludeClipboardContentFromMonitorProcessing");
            (GetClipboardSequenceNumber(), RegisterClipboardFormatW(name))
        };
        let clipboard = Self { window, wakeup, seen, secret };
        // SAFETY: the window is ours.
        match unsafe { AddClipboardFormatListener(window) } {
            0 => Err(last("listen to the clipboard")),
            _ => Ok(clipboard),
        }
    }

    /// The text that is there now, if it is for us.
    fn read(&mut self) -> Result<Option<String>, CaptureError> {
        let _opened = Opened::new(self.window)?;
        // SAFETY: without conditions.
        if unsafe { IsClipboardFormatAvailable(self.secret) } != 0 {
            return Ok(None);
        }
        // SAFETY: opened above; what it answers stays the system's, and is there until the clipboard is closed.
        let memory = unsafe { GetClipboardData(CF_UNICODETEXT.into()) };
        // A program that makes the text only now that it is asked for has changed the clipboard by that; nobody else can while
        // it is open.
        // SAFETY: without conditions.
        self.seen = unsafe { GetClipboardSequenceNumber() };
        if memory.is_null() {
            return Ok(None);
        }
        // SAFETY: memory of the system's, locked until it is unlocked below.
        let (place, length) = unsafe { (GlobalLock(memory).cast::<u16>(), GlobalSize(memory) / 2) };
        if place.is_null() {
            return Err(last("read the clipboard"));
        }
        // SAFETY: so many units are there.
        let units = unsafe { std::slice::from_raw_parts(place, length) };
        let units = units.split(|unit| *unit == 0).next().unwrap_or_default();
        // No text of so many units is shorter in UTF-8.
        let text = (units.len() <= TEXT_MAX).then(|| String::from_utf16_lossy(units).replace("\r\n", "\n"));
        // SAFETY: locked above, and not read any more.
        unsafe { GlobalUnlock(memory) };
        let text = text.filter(|text| text.len() <= TEXT_MAX);
        if text.is_none() {
            tracing::info!("a text on the clipboard is too long to be told");
        }
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Takes this thread's messages away: one of them says that the clipboard changed, which its count says as well.
    fn drain() {
        let mut message = MSG::default();
        // All of them, not our window's alone: whoever waits is woken by any, and would be again and again.
        // SAFETY: `message` can be written to.
        while unsafe { PeekMessageW(&raw mut message, null_mut(), 0, 0, PM_REMOVE) } != 0 {
            // SAFETY: the message is as the system gave it.
            unsafe { DispatchMessageW(&raw const message) };
        }
    }
}

impl Clipboard for WindowsClipboard {
    fn put(&mut self, text: &str) -> Result<(), CaptureError> {
        let lines = text.replace("\r\n", "\n").replace('\n', "\r\n");
        let units: Vec<u16> = lines.encode_utf16().chain([0]).collect();
        let memory = Memory::of(&units)?;
        let _opened = Opened::new(self.window)?;
        // SAFETY: opened above for our window, which is the owner from here on. The memory is the system's once it was taken.
        let taken = unsafe {
            EmptyClipboard();
            SetClipboardData(CF_UNICODETEXT.into(), memory.0)
        };
        if taken.is_null() {
            return Err(last("fill the clipboard"));
        }
        std::mem::forget(memory);
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<String>, CaptureError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            Self::drain();
            // SAFETY: without conditions.
            let (count, owner) = unsafe { (GetClipboardSequenceNumber(), GetClipboardOwner()) };
            if count != std::mem::replace(&mut self.seen, count) && owner != self.window {
                match self.read() {
                    Ok(Some(text)) => return Ok(Some(text)),
                    Ok(None) => {}
                    // Another program keeps it to itself; what is copied next will be told.
                    Err(error) => tracing::info!(%error, "what was copied is not told"),
                }
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.wakeup.wait_or_message(left)? || left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    fn waker(&self) -> Waker {
        self.wakeup.waker()
    }
}

impl Drop for WindowsClipboard {
    fn drop(&mut self) {
        // SAFETY: the window is ours and of this thread. What it put on the clipboard stays there.
        unsafe { DestroyWindow(self.window) };
    }
}

/// The clipboard, open for us until this is dropped.
struct Opened;

impl Opened {
    fn new(window: HWND) -> Result<Self, CaptureError> {
        for _ in 0..TRIES {
            // SAFETY: the window is ours.
            if unsafe { OpenClipboard(window) } != 0 {
                return Ok(Self);
            }
            // The system doesn't tell when another program closes it.
            sleep(TRY_EVERY);
        }
        Err(last("open the clipboard"))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: opened by this thread.
        unsafe { CloseClipboard() };
    }
}

/// Memory of the kind that the clipboard takes over.
struct Memory(HANDLE);

impl Memory {
    fn of(units: &[u16]) -> Result<Self, CaptureError> {
        // SAFETY: without conditions.
        let memory = Self(unsafe { GlobalAlloc(GMEM_MOVEABLE, size_of_val(units)) });
        // SAFETY: null makes it fail; else so many bytes are ours to write until they are unlocked.
        unsafe {
            let place = GlobalLock(memory.0).cast::<u16>();
            if place.is_null() {
                return Err(last("make room for the clipboard"));
            }
            place.copy_from_nonoverlapping(units.as_ptr(), units.len());
            GlobalUnlock(memory.0);
        }
        Ok(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: allocated above, and not handed over.
            unsafe { GlobalFree(self.0) };
        }
    }
}
