//! The monitors of the desktop.

use std::collections::HashMap;
use std::ptr::{null, null_mut};

use tandem_protocol::DisplayId;
use windows_sys::Win32::Foundation::{LPARAM, RECT};
use windows_sys::Win32::Graphics::Gdi::{
    DEVMODEW, DMDO_90, DMDO_180, DMDO_270, ENUM_CURRENT_SETTINGS, EnumDisplayMonitors,
    EnumDisplaySettingsExW, GetMonitorInfoW, HDC, HMONITOR, MONITORINFO, MONITORINFOEXW,
};
use windows_sys::Win32::UI::HiDpi::{GetDpiForMonitor, MDT_EFFECTIVE_DPI};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    GetSystemMetrics, MONITORINFOF_PRIMARY, SM_CMONITORS, SM_CXVIRTUALSCREEN, SM_CYVIRTUALSCREEN,
    SM_XVIRTUALSCREEN, SM_YVIRTUALSCREEN,
};
use windows_sys::core::BOOL;

use super::last;
use crate::{CaptureError, Display, Rotation};

/// Monitors beyond are not shown.
const MONITORS_MAX: usize = 64;

/// Left, top, width and height of the rectangle around all monitors.
pub(super) type Desktop = [i32; 4];

/// The rectangle around all monitors now.
pub(super) fn desktop() -> Desktop {
    // SAFETY: without conditions.
    [SM_XVIRTUALSCREEN, SM_YVIRTUALSCREEN, SM_CXVIRTUALSCREEN, SM_CYVIRTUALSCREEN]
        .map(|metric| unsafe { GetSystemMetrics(metric) })
}

/// What changes with most changes of the arrangement and costs nothing to ask.
pub(super) fn signature() -> (i32, Desktop) {
    // SAFETY: without conditions.
    (unsafe { GetSystemMetrics(SM_CMONITORS) }, desktop())
}

/// Reads the displays again and again, and numbers them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Ids by device name: a monitor that returns is the one that it was.
    ids: HashMap<String, DisplayId>,
}

impl Reader {
    /// The displays now.
    pub(super) fn read(&mut self) -> Result<Vec<Display>, CaptureError> {
        let mut monitors: Vec<HMONITOR> = Vec::new();
        // SAFETY: `collect` is called during this call only, with the pointer given here.
        let listed =
            unsafe { EnumDisplayMonitors(null_mut(), null(), Some(collect), (&raw mut monitors) as LPARAM) };
        if listed == 0 {
            return Err(last("list the monitors"));
        }
        let mut displays: Vec<Display> =
            monitors.into_iter().filter_map(|monitor| self.display(monitor)).collect();
        displays.sort_by_key(|display| (!display.primary, display.origin, display.id));
        if let Some(first) = displays.first_mut() {
            first.primary = true;
        }
        Ok(displays)
    }

    /// One monitor, unless it has just gone.
    fn display(&mut self, monitor: HMONITOR) -> Option<Display> {
        let mut info = MONITORINFOEXW::default();
        info.monitorInfo.cbSize = size_of::<MONITORINFOEXW>() as u32;
        // SAFETY: `cbSize` says that there is room for the extended structure, which begins with the plain one.
        if unsafe { GetMonitorInfoW(monitor, (&raw mut info).cast::<MONITORINFO>()) } == 0 {
            return None;
        }
        let RECT { left, top, right, bottom } = info.monitorInfo.rcMonitor;
        let (Ok(width @ 1..), Ok(height @ 1..)) = (u16::try_from(right - left), u16::try_from(bottom - top))
        else {
            return None;
        };
        let length = info.szDevice.iter().position(|unit| *unit == 0).unwrap_or(info.szDevice.len());
        let device = String::from_utf16_lossy(&info.szDevice[..length]);
        let name = device.trim_start_matches(r"\\.\").to_owned();
        let next = DisplayId(u16::try_from(self.ids.len()).unwrap_or(u16::MAX));
        let id = *self.ids.entry(name.clone()).or_insert(next);
        Some(Display {
            id,
            name,
            origin: (left, top),
            size: (width, height),
            scale: scale(monitor),
            rotation: rotation(&info.szDevice),
            primary: info.monitorInfo.dwFlags & MONITORINFOF_PRIMARY != 0,
        })
    }
}

unsafe extern "system" fn collect(monitor: HMONITOR, _: HDC, _: *mut RECT, list: LPARAM) -> BOOL {
    // SAFETY: the pointer that `Reader::read` gave, whose list nobody else uses meanwhile.
    let list = unsafe { &mut *(list as *mut Vec<HMONITOR>) };
    if list.len() < MONITORS_MAX {
        list.push(monitor);
    }
    // To go on: whoever stops the listing makes it fail.
    1
}

/// How large the desktop draws on a monitor.
fn scale(monitor: HMONITOR) -> f32 {
    let (mut x, mut y) = (96, 96);
    // SAFETY: both places can be written to. If it fails they are as they were.
    unsafe { GetDpiForMonitor(monitor, MDT_EFFECTIVE_DPI, &raw mut x, &raw mut y) };
    (x as f32 / 96.0).clamp(0.5, 8.0)
}

/// How a monitor is turned, by its device's name, which ends with 0.
fn rotation(device: &[u16; 32]) -> Rotation {
    let mut mode = DEVMODEW { dmSize: size_of::<DEVMODEW>() as u16, ..DEVMODEW::default() };
    // SAFETY: the name ends with 0, and `dmSize` says how large the structure is.
    let known =
        unsafe { EnumDisplaySettingsExW(device.as_ptr(), ENUM_CURRENT_SETTINGS, &raw mut mode, 0) } != 0;
    // SAFETY: the part of the union that a display's mode has; any bits are a number.
    match unsafe { mode.Anonymous1.Anonymous2.dmDisplayOrientation } {
        DMDO_90 if known => Rotation::Quarter,
        DMDO_180 if known => Rotation::Half,
        DMDO_270 if known => Rotation::ThreeQuarters,
        _ => Rotation::None,
    }
}
