//! A window above all others, on the primary monitor, drawn in that monitor's own scale.

use std::cell::{Cell, RefCell};
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use tandem_capture::Waker;
use tandem_capture::windows::{Wakeup, described, see_physical_pixels};
use windows_sys::Win32::Foundation::{HINSTANCE, HWND, LPARAM, LRESULT, POINT, RECT, WPARAM};
use windows_sys::Win32::Graphics::Gdi::{
    BeginPaint, ClientToScreen, DIB_RGB_COLORS, EndPaint, GetMonitorInfoW, HDC, InvalidateRect,
    MONITOR_DEFAULTTONEAREST, MONITOR_DEFAULTTOPRIMARY, MONITORINFO, MonitorFromPoint, MonitorFromWindow,
    PAINTSTRUCT, SetDIBitsToDevice, UpdateWindow,
};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::System::SystemInformation::GetTickCount;
use windows_sys::Win32::UI::HiDpi::{GetDpiForMonitor, MDT_EFFECTIVE_DPI};
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{
    ReleaseCapture, SetCapture, TME_LEAVE, TRACKMOUSEEVENT, TrackMouseEvent, VK_CAPITAL, VK_CONTROL,
    VK_ESCAPE, VK_LEFT, VK_LWIN, VK_MENU, VK_NUMLOCK, VK_RETURN, VK_RIGHT, VK_RWIN, VK_SCROLL, VK_SHIFT,
    VK_SPACE, VK_TAB,
};
use windows_sys::Win32::UI::Input::{GetCurrentInputMessageSource, IMO_UNAVAILABLE, INPUT_MESSAGE_SOURCE};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CREATESTRUCTW, CS_DROPSHADOW, CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW,
    GWLP_USERDATA, GetMessageTime, GetWindowLongPtrW, HWND_TOPMOST, IDC_ARROW, IsWindow, LoadCursorW, MSG,
    PM_REMOVE, PeekMessageW, RegisterClassExW, SW_SHOW, SW_SHOWNOACTIVATE, SWP_NOACTIVATE, SWP_NOMOVE,
    SWP_NOSIZE, SWP_SHOWWINDOW, SetForegroundWindow, SetWindowLongPtrW, SetWindowPos, ShowWindow,
    TranslateMessage, WINDOW_EX_STYLE, WM_CLOSE, WM_DPICHANGED, WM_ERASEBKGND, WM_KEYDOWN, WM_LBUTTONDOWN,
    WM_LBUTTONUP, WM_MOUSEMOVE, WM_NCCREATE, WM_PAINT, WNDCLASSEXW, WS_EX_NOACTIVATE, WS_EX_TOOLWINDOW,
    WS_EX_TOPMOST, WS_POPUP,
};

use super::failed;
use super::text::Writer;
use crate::platform::wide;
use crate::prompt::canvas::{Canvas, Rect, Stencil};
use crate::prompt::window::{Happened, Key, MARGIN, Place, Style, area, px, since};
use crate::prompt::{Area, PromptError};

/// Sent to a window that the pointer has left (winuser.h).
const WM_MOUSELEAVE: u32 = 0x02a3;
/// Least time between two risings above other windows that want to be above all.
const RISE_EVERY: Duration = Duration::from_secs(1);

/// One window. It belongs to the thread that opened it.
#[derive(Debug)]
pub(in crate::prompt) struct Window {
    wakeup: Wakeup,
    /// How many pixels a logical pixel has.
    scale: f32,
    handle: HWND,
    place: Rect,
    shared: Rc<Shared>,
    rose: Instant,
}

/// What the system's calls into the window see of it.
#[derive(Debug, Default)]
struct Shared {
    happened: RefCell<Vec<(Happened, Duration)>>,
    /// When it was shown, by the system's clock of messages.
    shown_at: Cell<u32>,
    shown: RefCell<Option<Canvas>>,
    dpi: Cell<Option<u32>>,
    hovered: Cell<bool>,
    is_prompt: Cell<bool>,
}

impl Window {
    /// Nothing is to be seen before [`show`](Self::show).
    pub(in crate::prompt) fn open(_: Option<&str>) -> Result<Self, PromptError> {
        see_physical_pixels();
        let mut window = Self {
            wakeup: Wakeup::new()?,
            scale: 1.0,
            handle: null_mut(),
            place: Rect::default(),
            shared: Rc::default(),
            rose: Instant::now(),
        };
        let (mut dpi, mut dpi_y) = (96, 96);
        // SAFETY: the monitor is the primary one; both places can be written to and stay as they were if it fails.
        unsafe {
            let primary = MonitorFromPoint(POINT { x: 0, y: 0 }, MONITOR_DEFAULTTOPRIMARY);
            GetDpiForMonitor(primary, MDT_EFFECTIVE_DPI, &raw mut dpi, &raw mut dpi_y);
        }
        window.scale = scale(dpi);
        Ok(window)
    }

    /// Logical pixels in real ones.
    pub(in crate::prompt) fn px(&self, logical: f32) -> i32 {
        px(logical, self.scale)
    }

    /// Something to write with.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere fonts have to be loaded")]
    pub(in crate::prompt) fn writer(&self) -> Result<Writer, PromptError> {
        Ok(Writer::new(self.scale))
    }

    /// See [`Writer::write`].
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "elsewhere the display writes")]
    pub(in crate::prompt) fn write(
        &self,
        writer: &mut Writer,
        text: &str,
        style: Style,
        width: i32,
    ) -> Result<Stencil, PromptError> {
        writer.write(text, style, width)
    }

    /// The monitor that the window is on, or will be.
    pub(in crate::prompt) fn monitor(&self) -> Result<Rect, PromptError> {
        let mut info = MONITORINFO { cbSize: size_of::<MONITORINFO>() as u32, ..MONITORINFO::default() };
        // SAFETY: a handle that is no window's gives the nearest or primary monitor; `cbSize` says how large `info` is.
        let told = unsafe {
            let monitor = match self.handle.is_null() {
                true => MonitorFromPoint(POINT { x: 0, y: 0 }, MONITOR_DEFAULTTOPRIMARY),
                false => MonitorFromWindow(self.handle, MONITOR_DEFAULTTONEAREST),
            };
            GetMonitorInfoW(monitor, &raw mut info)
        };
        if told == 0 {
            return Err(failed("find the monitor"));
        }
        let RECT { left, top, right, bottom } = info.rcWork;
        Ok(Rect { x: left, y: top, width: right - left, height: bottom - top })
    }

    /// Shows the window, with the keyboard if `focus` and the system allows it.
    pub(in crate::prompt) fn show(
        &mut self,
        size: (i32, i32),
        place: Place,
        title: &str,
        focus: bool,
    ) -> Result<(), PromptError> {
        self.place = place.on(self.monitor()?, size, self.px(MARGIN));
        self.shared.is_prompt.set(place == Place::Centre);
        let style = WS_EX_TOPMOST | WS_EX_TOOLWINDOW | if focus { 0 } else { WS_EX_NOACTIVATE };
        // SAFETY: without conditions.
        self.shared.shown_at.set(unsafe { GetTickCount() });
        self.create(title, style)?;
        // SAFETY: the window is ours. Whether it gets the keyboard is the system's decision.
        unsafe {
            ShowWindow(self.handle, if focus { SW_SHOW } else { SW_SHOWNOACTIVATE });
            if focus {
                SetForegroundWindow(self.handle);
            }
        }
        self.rise();
        Ok(())
    }

    fn create(&mut self, title: &str, style: WINDOW_EX_STYLE) -> Result<(), PromptError> {
        let (class, title) = (class(), wide(title));
        let Rect { x, y, width, height } = self.place;
        // SAFETY: both texts end with 0. The last argument is what `procedure` finds the window's state by; that lives
        // until `Drop` has destroyed the window.
        self.handle = unsafe {
            CreateWindowExW(
                style,
                class.as_ptr(),
                title.as_ptr(),
                WS_POPUP,
                x,
                y,
                width,
                height,
                null_mut(),
                null_mut(),
                module(),
                Rc::as_ptr(&self.shared).cast(),
            )
        };
        if self.handle.is_null() { Err(failed("open a window")) } else { Ok(()) }
    }

    /// A part of the window in the desktop's pixels.
    pub(in crate::prompt) fn area(&self, part: Rect) -> Area {
        area(self.place, part)
    }

    /// Moves the window, but not out of the monitor, and gives it another size if it has none of it yet.
    pub(in crate::prompt) fn reshape(
        &mut self,
        left: i32,
        top: i32,
        size: (i32, i32),
    ) -> Result<(), PromptError> {
        self.put(left, top, size)?;
        // By now it may be on another monitor, out of which it is not to reach.
        let inside = self.place.inside(self.monitor()?);
        if inside == self.place { Ok(()) } else { self.put(inside.x, inside.y, size) }
    }

    fn put(&mut self, x: i32, y: i32, (width, height): (i32, i32)) -> Result<(), PromptError> {
        // SAFETY: the window is ours.
        let moved = unsafe { SetWindowPos(self.handle, HWND_TOPMOST, x, y, width, height, SWP_NOACTIVATE) };
        self.place = Rect { x, y, width, height };
        if moved == 0 { Err(failed("move the window")) } else { Ok(()) }
    }

    pub(in crate::prompt) fn place(&self) -> Rect {
        self.place
    }

    /// Waits until the system has done all that it was told, which is so at once here.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere the display is asked")]
    pub(in crate::prompt) fn sync(&self) -> Result<(), PromptError> {
        Ok(())
    }

    /// Shows a picture, if it is another one than before.
    pub(in crate::prompt) fn paint(&mut self, canvas: Canvas) -> Result<(), PromptError> {
        if self.shared.shown.borrow().as_ref() == Some(&canvas) {
            return Ok(());
        }
        self.shared.shown.replace(Some(canvas));
        // SAFETY: the window is ours. Its procedure is called from here and borrows what was put back just now.
        let painted =
            unsafe { InvalidateRect(self.handle, null(), 0) != 0 && UpdateWindow(self.handle) != 0 };
        if painted { Ok(()) } else { Err(failed("paint the window")) }
    }

    /// What has happened since the last time, and how long after the window was shown.
    pub(in crate::prompt) fn happened(&mut self) -> Result<Vec<(Happened, Duration)>, PromptError> {
        let mut message = MSG::default();
        // SAFETY: all windows of this thread are ours; `message` can be written to.
        while unsafe { PeekMessageW(&raw mut message, null_mut(), 0, 0, PM_REMOVE) } != 0 {
            // SAFETY: the message is as the system gave it.
            unsafe {
                TranslateMessage(&raw const message);
                DispatchMessageW(&raw const message);
            }
        }
        if self.rose.elapsed() >= RISE_EVERY {
            self.rise();
        }
        let mut happened = self.shared.happened.take();
        if let Some(dpi) = self.shared.dpi.take()
            && scale(dpi) != self.scale
        {
            self.scale = scale(dpi);
            happened.push((Happened::Rescaled, Duration::MAX));
        }
        // Not by what the window is told: anybody can post that.
        // SAFETY: without conditions.
        if unsafe { IsWindow(self.handle) } == 0 {
            happened.push((Happened::Closed, Duration::MAX));
        }
        Ok(happened)
    }

    /// Goes above the other windows that want to be above all, and is shown if another program has hidden it.
    fn rise(&mut self) {
        self.rose = Instant::now();
        // SAFETY: the window is ours.
        unsafe {
            let how = SWP_NOMOVE | SWP_NOSIZE | SWP_NOACTIVATE | SWP_SHOWWINDOW;
            SetWindowPos(self.handle, HWND_TOPMOST, 0, 0, 0, 0, how)
        };
    }

    /// Waits until something happens, the waker is used or the time is over; also when it is time to rise.
    pub(in crate::prompt) fn wait(&self, timeout: Option<Duration>) -> Result<(), PromptError> {
        let rise = RISE_EVERY.saturating_sub(self.rose.elapsed());
        self.wakeup.wait_or_message(Some(timeout.map_or(rise, |timeout| timeout.min(rise))))?;
        Ok(())
    }

    pub(in crate::prompt) fn waker(&self) -> Waker {
        self.wakeup.waker()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the window is ours, and of this thread. Afterwards its procedure is not called any more.
            unsafe { DestroyWindow(self.handle) };
        }
    }
}

fn scale(dpi: u32) -> f32 {
    (dpi as f32 / 96.0).clamp(1.0, 4.0)
}

fn module() -> HINSTANCE {
    // SAFETY: without a name it is this program.
    unsafe { GetModuleHandleW(null()) }
}

/// The name of our kind of window, made known to the system once.
fn class() -> Vec<u16> {
    static KNOWN: Once = Once::new();
    let name = wide("TandemPrompt");
    KNOWN.call_once(|| {
        let class = WNDCLASSEXW {
            cbSize: size_of::<WNDCLASSEXW>() as u32,
            style: CS_DROPSHADOW,
            lpfnWndProc: Some(procedure),
            hInstance: module(),
            // SAFETY: the system's own arrow.
            hCursor: unsafe { LoadCursorW(null_mut(), IDC_ARROW) },
            lpszClassName: name.as_ptr(),
            ..WNDCLASSEXW::default()
        };
        // SAFETY: the description lives during the call. If it fails no window can be made, which is told then.
        unsafe { RegisterClassExW(&raw const class) };
    });
    name
}

unsafe extern "system" fn procedure(handle: HWND, message: u32, w: WPARAM, l: LPARAM) -> LRESULT {
    if message == WM_NCCREATE {
        // SAFETY: with this message comes the description of the window, and in it what `create` gave.
        unsafe {
            let created = &*(l as *const CREATESTRUCTW);
            SetWindowLongPtrW(handle, GWLP_USERDATA, created.lpCreateParams as isize);
        }
    }
    // SAFETY: the window is ours, and is only called by the thread that it belongs to.
    let shared = unsafe { GetWindowLongPtrW(handle, GWLP_USERDATA) } as *const Shared;
    // SAFETY: null before WM_NCCREATE, else the state that lives until the window is destroyed.
    let handled = unsafe { shared.as_ref() }.and_then(|shared| shared.take(handle, message, w, l));
    // SAFETY: the arguments are as the system gave them.
    handled.unwrap_or_else(|| unsafe { DefWindowProcW(handle, message, w, l) })
}

impl Shared {
    /// What the window makes of a message; `None`: what the system makes of it.
    fn take(&self, handle: HWND, message: u32, w: WPARAM, l: LPARAM) -> Option<LRESULT> {
        match message {
            // Posted by another program, not from a hand.
            WM_LBUTTONDOWN | WM_LBUTTONUP | WM_KEYDOWN if !is_input() => {}
            WM_PAINT => self.repaint(handle),
            WM_ERASEBKGND => return Some(1),
            WM_LBUTTONDOWN => {
                // The release is told here too, wherever it happens.
                // SAFETY: the window is ours.
                unsafe { SetCapture(handle) };
                self.tell(Happened::Press(place(l)));
            }
            WM_LBUTTONUP => {
                // SAFETY: without conditions.
                unsafe { ReleaseCapture() };
                self.tell(Happened::Release(place(l)));
            }
            WM_MOUSEMOVE => self.motion(handle, place(l)),
            WM_MOUSELEAVE => {
                self.hovered.set(false);
                self.tell(Happened::Leave);
            }
            WM_KEYDOWN => key(w).into_iter().for_each(|key| self.tell(Happened::Key(key))),
            // Alt+F4 refuses; the status stays.
            WM_CLOSE if self.is_prompt.get() => self.tell(Happened::Key(Key::Cancel)),
            WM_CLOSE => {}
            WM_DPICHANGED => self.dpi.set(Some((w & 0xffff) as u32)),
            _ => return None,
        }
        Some(0)
    }

    fn tell(&self, happened: Happened) {
        // SAFETY: without conditions. It is the time of the message that was taken last, which is being handled.
        let time = unsafe { GetMessageTime() }.cast_unsigned();
        self.happened.borrow_mut().push((happened, since(self.shown_at.get(), time)));
    }

    fn motion(&self, handle: HWND, (x, y): (i32, i32)) {
        if !self.hovered.replace(true) {
            let mut track = TRACKMOUSEEVENT {
                cbSize: size_of::<TRACKMOUSEEVENT>() as u32,
                dwFlags: TME_LEAVE,
                hwndTrack: handle,
                dwHoverTime: 0,
            };
            // SAFETY: `cbSize` says how large the structure is.
            unsafe { TrackMouseEvent(&raw mut track) };
        }
        let mut on_desktop = POINT { x, y };
        // SAFETY: the window is ours and the point can be written to.
        unsafe { ClientToScreen(handle, &raw mut on_desktop) };
        self.tell(Happened::Motion((x, y), (on_desktop.x, on_desktop.y)));
    }

    fn repaint(&self, handle: HWND) {
        let mut about = PAINTSTRUCT::default();
        // SAFETY: the window is ours and painted in answer to WM_PAINT; begun and ended here.
        unsafe {
            let dc = BeginPaint(handle, &raw mut about);
            if let Some(canvas) = &*self.shown.borrow() {
                put(dc, canvas);
            }
            EndPaint(handle, &raw const about);
        }
    }
}

fn put(dc: HDC, canvas: &Canvas) {
    let info = described(canvas.width, canvas.height);
    let (width, height) = (canvas.width as u32, canvas.height as u32);
    // SAFETY: a canvas has the pixels that `info` describes.
    unsafe {
        SetDIBitsToDevice(
            dc,
            0,
            0,
            width,
            height,
            0,
            0,
            0,
            height,
            canvas.pixels.as_ptr().cast(),
            &raw const info,
            DIB_RGB_COLORS,
        )
    };
}

/// Whether the message at hand comes from the system's input, which also helps people who use no keyboard or mouse.
fn is_input() -> bool {
    let mut source = INPUT_MESSAGE_SOURCE::default();
    // SAFETY: the place can be written to.
    let told = unsafe { GetCurrentInputMessageSource(&raw mut source) };
    told != 0 && source.originId != IMO_UNAVAILABLE
}

/// Where a message of the mouse happened: two signed numbers of 16 bits.
fn place(l: LPARAM) -> (i32, i32) {
    let part = |shift: u32| i32::from((l >> shift) as u16 as i16);
    (part(0), part(16))
}

fn key(w: WPARAM) -> Option<Key> {
    match w as u16 {
        VK_RETURN | VK_SPACE => Some(Key::Activate),
        VK_ESCAPE => Some(Key::Cancel),
        VK_TAB | VK_LEFT | VK_RIGHT => Some(Key::Next),
        VK_SHIFT | VK_CONTROL | VK_MENU | VK_LWIN | VK_RWIN | VK_CAPITAL | VK_NUMLOCK | VK_SCROLL => None,
        _ => Some(Key::Other),
    }
}
