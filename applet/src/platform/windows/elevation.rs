//! Starting this program again with an administrator's rights. Windows itself asks the customer for that.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_CANCELLED, GetLastError};
use windows_sys::Win32::Security::{GetTokenInformation, TOKEN_ELEVATION, TOKEN_QUERY, TokenElevation};
use windows_sys::Win32::System::Environment::GetCommandLineW;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::Win32::UI::Shell::ShellExecuteW;
use windows_sys::Win32::UI::WindowsAndMessaging::SW_SHOWNORMAL;

use super::wide;

/// Whether this program has an administrator's rights.
pub fn is_elevated() -> bool {
    let mut token = null_mut();
    // SAFETY: the handle of this process needs no closing; the place can be written to.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return false;
    }
    // SAFETY: it has just been opened, and nobody else owns it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let (mut elevation, mut length) = (TOKEN_ELEVATION::default(), 0);
    let room = size_of::<TOKEN_ELEVATION>() as u32;
    // SAFETY: the length given is the structure's, which is the answer to this question.
    let told = unsafe {
        let place = (&raw mut elevation).cast();
        GetTokenInformation(token.as_raw_handle(), TokenElevation, place, room, &raw mut length)
    };
    told != 0 && elevation.TokenIsElevated != 0
}

/// Starts this program again with the same arguments and an administrator's rights, if the customer lets Windows do that. The
/// environment is the system's own there.
///
/// # Errors
/// `PermissionDenied` when the customer refuses; else the system's.
pub fn start_elevated() -> io::Result<()> {
    let program = wide(&path_of(&std::env::current_exe()?)?);
    // SAFETY: the text is this process's own, ends with 0 and stays as it is.
    let arguments = unsafe { after_program(GetCommandLineW()) };
    let verb = wide("runas");
    // SAFETY: all texts end with 0 and outlive the call.
    let started = unsafe {
        ShellExecuteW(null_mut(), verb.as_ptr(), program.as_ptr(), arguments, null(), SW_SHOWNORMAL)
    };
    // By its definition, more than 32 is success.
    if started as usize > 32 {
        return Ok(());
    }
    // SAFETY: without conditions.
    match unsafe { GetLastError() } {
        ERROR_CANCELLED => Err(io::ErrorKind::PermissionDenied.into()),
        error => Err(io::Error::from_raw_os_error(error as i32)),
    }
}

fn path_of(program: &Path) -> io::Result<String> {
    // Such a name no path has that people made.
    program.to_str().map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidFilename.into())
}

/// Where the arguments begin in a command line, behind the program's name, which may be quoted.
///
/// # Safety
/// The text ends with 0.
unsafe fn after_program(mut line: *const u16) -> *const u16 {
    let mut is_quoted = false;
    // SAFETY: not beyond the 0.
    while let unit @ 1.. = unsafe { *line } {
        match u8::try_from(unit) {
            Ok(b'"') => is_quoted = !is_quoted,
            Ok(b' ' | b'\t') if !is_quoted => break,
            _ => {}
        }
        // SAFETY: this unit was not the 0.
        line = unsafe { line.add(1) };
    }
    line
}
