//! Seeing the desktop.
//!
//! The system does not say through GDI that something was drawn, so a thread looks: at the pointer some sixty times a second
//! while a hand is at work and seldom otherwise, at the pixels at most thirty times a second, and never more than a quarter of
//! the time. A display whose damage was announced is not looked at again until it is grabbed.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tandem_protocol::DisplayId;
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{
    GetKeyState, GetLastInputInfo, LASTINPUTINFO, VK_CAPITAL, VK_NUMLOCK, VK_SCROLL,
};

use super::SharedLayout;
use super::cursor::{self, Pointer, Shapes};
use super::desktop;
use super::layout::{self, Desktop, Reader};
use super::surface::Surface;
use super::wake::Wakeup;
use crate::layout::Damage;
use crate::{Access, CaptureError, Display, Event, Frame, Layout, Locks, Rect, ScreenSource, Waker};

/// Time between two looks at the pointer, and at the pixels: while something happens, and while nothing does.
const POINTER_EVERY: (Duration, Duration) = (Duration::from_millis(16), Duration::from_millis(50));
const PIXELS_EVERY: (Duration, Duration) = (Duration::from_millis(33), Duration::from_millis(100));
/// So long after the last change or touch nothing happens.
const CALM_AFTER: Duration = Duration::from_secs(2);
/// At most every so manieth part of the time is spent on looking.
const SHARE: u32 = 4;
/// Time between two questions that cost more: the monitors, and whether somebody sits at the session.
const SELDOM: Duration = Duration::from_secs(1);

/// The monitors of the desktop.
#[derive(Debug)]
pub struct WindowsScreen {
    wakeup: Wakeup,
    reader: Reader,
    layout: SharedLayout,
    signature: (i32, Desktop),
    /// When what costs more was last asked.
    asked: Instant,
    watching: Option<Watching>,
    /// The pointer's pictures that were announced, by ids that nobody else gets as long as there is this screen.
    shapes: Shapes,
    /// Whether desktop duplication may be used.
    duplicate: bool,
}

/// What is kept while somebody watches.
#[derive(Debug)]
struct Watching {
    views: HashMap<DisplayId, View>,
    pointer: Option<Pointer>,
    locks: Option<Locks>,
    /// `None`: not looked at yet, so that the end of what was before is told too.
    access: Option<Access>,
    attended: bool,
    duplicate: bool,
    /// When the pointer and the pixels are looked at next.
    pointer_at: Instant,
    pixels_at: Instant,
    /// When something happened last, and the system's count of touches then.
    busy: Instant,
    touched: u32,
}

/// One display's pixels and what is known about them.
#[derive(Debug, Default)]
struct View {
    surface: Option<Surface>,
    pending: Damage,
    handed: Vec<Rect>,
    announced: bool,
}

impl WindowsScreen {
    pub(super) fn open(layout: SharedLayout, duplicate: bool) -> Result<Self, CaptureError> {
        let mut reader = Reader::default();
        let signature = layout::signature();
        layout.lock().unwrap_or_else(PoisonError::into_inner).replace(reader.read()?);
        let asked = Instant::now();
        let (watching, shapes) = (None, Shapes::default());
        Ok(Self { wakeup: Wakeup::new()?, reader, layout, signature, asked, watching, shapes, duplicate })
    }

    /// Looks at all that is due. Answers what there is to say about it.
    fn look(&mut self, now: Instant) -> Result<Vec<Event>, CaptureError> {
        let mut events = Vec::new();
        let signature = layout::signature();
        let seldom = now.saturating_duration_since(self.asked) >= SELDOM;
        if seldom || signature != self.signature {
            (self.signature, self.asked) = (signature, now);
            self.read_layout(&mut events)?;
        }
        let layout = self.layout();
        let Some(watching) = &mut self.watching else { return Ok(events) };
        if seldom {
            watching.attended = desktop::is_attended();
        }
        if now >= watching.pointer_at {
            watching.look_at_pointer(&layout, &mut self.shapes, now, &mut events);
        }
        if now >= watching.pixels_at {
            watching.look_at_pixels(&layout, now, &mut events)?;
        }
        Ok(events)
    }

    fn read_layout(&mut self, events: &mut Vec<Event>) -> Result<(), CaptureError> {
        let displays = self.reader.read()?;
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        // Without any monitor, as while a remote desktop is being connected, the last arrangement stays.
        if !displays.is_empty() && layout.replace(displays) {
            events.push(Event::Layout(layout.clone()));
            if let Some(watching) = &mut self.watching {
                *watching = Watching::new(watching.attended, self.duplicate);
            }
        }
        Ok(())
    }

    /// When there is something to look at again.
    fn due(&self) -> Instant {
        match &self.watching {
            None => self.asked + SELDOM,
            Some(watching) => watching.pointer_at.min(watching.pixels_at),
        }
    }
}

impl Watching {
    fn new(attended: bool, duplicate: bool) -> Self {
        let now = Instant::now();
        Self {
            views: HashMap::new(),
            pointer: None,
            locks: None,
            access: None,
            attended,
            duplicate,
            pointer_at: now,
            pixels_at: now,
            busy: now,
            touched: 0,
        }
    }

    fn look_at_pointer(
        &mut self,
        layout: &Layout,
        shapes: &mut Shapes,
        now: Instant,
        events: &mut Vec<Event>,
    ) {
        let access = if self.attended { desktop::access() } else { Access::Away };
        if self.access.replace(access) != Some(access) {
            events.push(Event::Access(access));
            // What the screen showed before is not what it shows now.
            self.views.clear();
            (self.busy, self.pixels_at) = (now, now);
        }
        if let Some(pointer) = cursor::pointer() {
            let before = self.pointer;
            if before.map(|before| before.place) != Some(pointer.place) {
                events.push(Event::CursorMoved { at: layout.locate(pointer.place.0, pointer.place.1) });
                self.busy = now;
            }
            if before.map(|before| before.picture) != Some(pointer.picture)
                && let Some(shape) = shapes.shape(pointer.picture)
            {
                events.push(Event::CursorShape(shape));
            }
            self.pointer = Some(pointer);
        }
        let locks = locks();
        if self.locks.replace(locks) != Some(locks) {
            events.push(Event::Locks(locks));
        }
        let touched = touched();
        if self.touched != touched {
            (self.touched, self.busy) = (touched, now);
        }
        self.pointer_at = now + self.every(POINTER_EVERY, now);
        // A hand at work wants to see at once what it does.
        self.pixels_at = self.pixels_at.min(now + self.every(PIXELS_EVERY, now));
    }

    fn look_at_pixels(
        &mut self,
        layout: &Layout,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), CaptureError> {
        let mut cost = Duration::ZERO;
        for display in &layout.displays {
            let view = self.views.entry(display.id).or_default();
            if view.announced {
                continue;
            }
            view.look(display, self.duplicate)?;
            cost += view.cost();
            if view.bytes().is_some() && !view.pending.is_empty() {
                view.announced = true;
                events.push(Event::Damage { display: display.id });
                self.busy = now;
            }
        }
        let every = self.every(PIXELS_EVERY, now).max(cost * SHARE);
        self.pixels_at = now + every;
        Ok(())
    }

    fn every(&self, (busy, calm): (Duration, Duration), now: Instant) -> Duration {
        if now.saturating_duration_since(self.busy) < CALM_AFTER { busy } else { calm }
    }
}

impl View {
    /// Looks at the display, if there is something to see.
    fn look(&mut self, display: &Display, duplicate: bool) -> Result<(), CaptureError> {
        let surface = match &mut self.surface {
            Some(surface) => surface,
            empty => empty.insert(Surface::new(display, duplicate)?),
        };
        if let Err(error) = surface.look(&mut self.pending) {
            let monitor = &display.name;
            tracing::debug!(monitor, %error, "the screen cannot be read now");
            if surface.ends() {
                self.surface = None;
            }
        }
        Ok(())
    }

    /// The display's pixels, if it has been seen.
    fn bytes(&self) -> Option<&[u8]> {
        self.surface.as_ref().and_then(Surface::bytes)
    }

    fn cost(&self) -> Duration {
        self.surface.as_ref().map_or(Duration::ZERO, Surface::cost)
    }
}

/// The lock keys as this thread's keyboard state has them.
fn locks() -> Locks {
    // SAFETY: without conditions.
    let is_on = |key| unsafe { GetKeyState(i32::from(key)) } & 1 == 1;
    Locks { caps: is_on(VK_CAPITAL), num: is_on(VK_NUMLOCK), scroll: is_on(VK_SCROLL) }
}

/// A number that changes whenever mouse or keyboard are used.
fn touched() -> u32 {
    let mut info = LASTINPUTINFO { cbSize: size_of::<LASTINPUTINFO>() as u32, dwTime: 0 };
    // SAFETY: `cbSize` says how large the structure is. If it fails the number stays 0.
    unsafe { GetLastInputInfo(&raw mut info) };
    info.dwTime
}

impl ScreenSource for WindowsScreen {
    fn layout(&self) -> Layout {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watch(&mut self, on: bool) -> Result<(), CaptureError> {
        self.watching = on.then(|| Watching::new(desktop::is_attended(), self.duplicate));
        Ok(())
    }

    fn grab(&mut self, id: DisplayId) -> Result<Frame<'_>, CaptureError> {
        if self.watching.is_none() {
            self.watch(true)?;
        }
        if layout::signature() != self.signature {
            return Err(CaptureError::LayoutChanged);
        }
        let layout = self.layout();
        let display = layout.display(id).ok_or(CaptureError::UnknownDisplay(id))?;
        let watching = self.watching.as_mut().ok_or(CaptureError::UnknownDisplay(id))?;
        let view = watching.views.entry(id).or_default();
        view.announced = false;
        view.look(display, watching.duplicate)?;
        let View { surface, pending, handed, .. } = view;
        // A source that has just ended is replaced at the next look, and one that has seen nothing yet looks again: either
        // announces everything.
        let pixels = surface.as_ref().and_then(Surface::bytes).ok_or(CaptureError::LayoutChanged)?;
        *handed = pending.take();
        let (width, height) = display.size;
        Ok(Frame { display: id, width, height, stride: usize::from(width) * 4, pixels, damage: handed })
    }

    fn invalidate(&mut self, id: DisplayId) {
        let size = self.layout().display(id).map(|display| display.size);
        if let (Some(size), Some(watching)) = (size, &mut self.watching) {
            watching.views.entry(id).or_default().pending.add(Rect::whole(size));
            watching.pixels_at = Instant::now();
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>, CaptureError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut woken = false;
        loop {
            let now = Instant::now();
            let events = if now >= self.due() { self.look(now)? } else { Vec::new() };
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if woken || !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(events);
            }
            let due = self.due().saturating_duration_since(Instant::now());
            woken = self.wakeup.wait(Some(left.map_or(due, |left| left.min(due))))?;
        }
    }

    fn waker(&self) -> Waker {
        self.wakeup.waker()
    }
}
