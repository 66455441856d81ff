//! Who owns the desktop: the person, or the system with a screen that other programs may neither see nor use.

use std::ptr::null_mut;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::RemoteDesktop::{
    WTS_CONNECTSTATE_CLASS, WTS_CURRENT_SESSION, WTSConnectState, WTSDisconnected, WTSFreeMemory,
    WTSQuerySessionInformationW,
};
use windows_sys::Win32::System::StationsAndDesktops::{
    CloseDesktop, DESKTOP_READOBJECTS, GetThreadDesktop, GetUserObjectInformationW, OpenInputDesktop,
    UOI_NAME,
};
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use crate::Access;

/// Whether this program's desktop is the one that is shown.
pub(super) fn access() -> Access {
    // SAFETY: without conditions.
    let ours = unsafe { GetThreadDesktop(GetCurrentThreadId()) };
    // SAFETY: without conditions; the handle is closed below. The system's own desktops are refused to us.
    let shown = unsafe { OpenInputDesktop(0, 0, DESKTOP_READOBJECTS) };
    if shown.is_null() {
        return Access::Secure;
    }
    let same = name(ours) == name(shown);
    // SAFETY: opened above, and not used any more.
    unsafe { CloseDesktop(shown) };
    if same { Access::Open } else { Access::Secure }
}

/// A desktop's name: the first part of it, enough to tell those of one person apart.
fn name(desktop: HANDLE) -> Option<[u16; 64]> {
    let mut name = [0u16; 64];
    let (room, mut needed) = (size_of_val(&name) as u32, 0);
    // SAFETY: the length given is the buffer's.
    let told = unsafe {
        GetUserObjectInformationW(desktop, UOI_NAME, name.as_mut_ptr().cast(), room, &raw mut needed)
    };
    (told != 0).then_some(name)
}

/// Whether somebody sits at this session: not after a remote desktop was left, or while another person uses the computer.
pub(super) fn is_attended() -> bool {
    let (mut answer, mut length) = (null_mut(), 0);
    // SAFETY: both places can be written to; what the system hands out is given back below.
    let told = unsafe {
        WTSQuerySessionInformationW(
            null_mut(),
            WTS_CURRENT_SESSION,
            WTSConnectState,
            &raw mut answer,
            &raw mut length,
        )
    };
    if told == 0 || answer.is_null() {
        return true;
    }
    // SAFETY: for this question the answer is one number, if it is long enough for it.
    let state = (length as usize >= size_of::<WTS_CONNECTSTATE_CLASS>())
        .then(|| unsafe { answer.cast::<WTS_CONNECTSTATE_CLASS>().read_unaligned() });
    // SAFETY: it came from the call above, and is not used any more.
    unsafe { WTSFreeMemory(answer.cast()) };
    state != Some(WTSDisconnected)
}
