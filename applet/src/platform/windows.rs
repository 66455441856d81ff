//! Windows.
#![allow(unsafe_code)]

mod elevation;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::windows::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_SUCCESS, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Globalization::GetUserDefaultLocaleName;
use windows_sys::Win32::System::Console::{
    ATTACH_PARENT_PROCESS, AttachConsole, GetStdHandle, STD_ERROR_HANDLE,
};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};
use windows_sys::Win32::UI::WindowsAndMessaging::{MB_ICONINFORMATION, MB_SETFOREGROUND, MessageBoxW};

pub use self::elevation::{is_elevated, start_elevated};

/// Where the administrator writes: the value `Applet` holds the policy's TOML. By Windows' own rules only administrators can
/// write there, and group policy can.
pub const POLICY: &str = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Tandem";
/// Bytes of a policy that is read.
const POLICY_MAX: usize = 16 << 10;

/// A text as the system takes it.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Makes a directory, and those above it. In a user's profile only that user and administrators can read it.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(directory)
}

/// A file that is made with these options can be read by whoever can read its directory.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Reads at a place of a file, as much as there is and fits.
///
/// # Errors
/// As the system's.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(bytes, offset)
}

/// Writes all of this at a place of a file.
///
/// # Errors
/// As the system's.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.seek_write(&bytes[written..], offset + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => written += more,
        }
    }
    Ok(())
}

/// Where state is kept: in the part of the user's profile that does not travel. `path` is an absolute path that the
/// environment names.
pub fn state_directory(path: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("LOCALAPPDATA").map(|path| path.join("Tandem"))
}

/// The administrator's policy as TOML, if there is one.
///
/// # Errors
/// When it cannot be read.
pub fn policy() -> io::Result<Option<String>> {
    let key = wide(POLICY.split_once('\\').map_or(POLICY, |(_, key)| key));
    let name = wide("Applet");
    let mut text = vec![0u16; POLICY_MAX / 2];
    let mut bytes = POLICY_MAX as u32;
    // SAFETY: both names end with 0, and `bytes` says how long `text` is; the call ends what it writes with 0.
    let result = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_SZ,
            null_mut(),
            text.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    match result {
        ERROR_SUCCESS => {
            let length = text.iter().position(|unit| *unit == 0).unwrap_or(text.len());
            Ok(Some(String::from_utf16_lossy(&text[..length])))
        }
        ERROR_FILE_NOT_FOUND => Ok(None),
        error => Err(io::Error::from_raw_os_error(error as i32)),
    }
}

/// The language of the user's regional setting, such as `de-AT`.
pub fn language() -> String {
    let mut name = [0u16; 85];
    // SAFETY: the length given is the buffer's.
    let length = unsafe { GetUserDefaultLocaleName(name.as_mut_ptr(), name.len() as i32) };
    let name = name.get(..(length - 1).max(0) as usize).unwrap_or_default();
    if name.is_empty() { "en".into() } else { String::from_utf16_lossy(name) }
}

/// Ends when the program is asked to, which Windows does on a console. When the person signs out or shuts the computer down, Windows
/// ends the program as a kill does: the session can be resumed.
///
/// # Errors
/// When the system does not tell.
pub fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut close) = (ctrl_c()?, ctrl_close()?);
    let mut stop = ctrl_break()?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = close.recv() => {}
            _ = stop.recv() => {}
        }
    })
}

/// Prepares what the program prints on: the console that it was started from, if it was.
pub fn attach_console() {
    if is_mute() {
        // SAFETY: without conditions; without a console of the parent's nothing happens.
        unsafe { AttachConsole(ATTACH_PARENT_PROCESS) };
    }
}

/// Whether nobody would see what the program prints.
pub fn is_mute() -> bool {
    // SAFETY: without conditions.
    let handle = unsafe { GetStdHandle(STD_ERROR_HANDLE) };
    handle.is_null() || handle == INVALID_HANDLE_VALUE
}

/// Tells the customer something that ends the program: on the console, or where there is none in a window, if it may show one.
pub fn tell(text: &str, may_show: bool) {
    if !is_mute() {
        eprintln!("{text}");
    }
    if !is_mute() || !may_show {
        return;
    }
    let (text, title) = (wide(text), wide("Tandem"));
    // SAFETY: both texts end with 0 and outlive the call, which returns when the window is closed.
    unsafe { MessageBoxW(null_mut(), text.as_ptr(), title.as_ptr(), MB_ICONINFORMATION | MB_SETFOREGROUND) };
}
