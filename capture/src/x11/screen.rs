//! Seeing an X screen.
//!
//! The server tells once that something was drawn (Damage, report level non-empty) and then keeps the region to itself until
//! it is fetched at the next grab: a busy screen costs one event a grab, a resting one nothing. Each display's pixels stay
//! where they were read to, so a grab reads only the rows between the first and the last that changed.
//!
//! The pointer's motion is heard as raw events (XInput), each batch followed by one question for the place, at most 125 a
//! second. Programs that warp the pointer cause no raw event: the place is also asked for with every grab.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tandem_protocol::DisplayId;
use x11rb::connection::Connection;
use x11rb::protocol::damage::{self, ConnectionExt as _, ReportLevel};
use x11rb::protocol::xfixes::{self, ConnectionExt as _, CursorNotifyMask, Region};
use x11rb::protocol::xinput::{self, ConnectionExt as _, XIEventMask};
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{Atom, ConnectionExt as _};
use x11rb::protocol::{Event as Told, shm};

use super::SharedLayout;
use super::layout::Reader;
use super::link::{Asked, Link, OrLost};
use super::pixels::Pixels;
use super::wake::Wakeup;
use crate::layout::Damage;
use crate::{CaptureError, CursorShape, Event, Frame, Layout, Locks, Rect, ScreenSource, Waker};

/// Least time between two questions where the pointer is.
const POINTER_EVERY: Duration = Duration::from_millis(8);

/// The displays of an X server.
#[derive(Debug)]
pub struct X11Screen {
    link: Link,
    wakeup: Wakeup,
    reader: Reader,
    layout: SharedLayout,
    offered: Offered,
    watching: Option<Watching>,
    /// What the server told and was not looked into yet.
    told: Noticed,
}

/// What this server has beyond the necessary.
#[derive(Debug)]
struct Offered {
    shared_memory: bool,
    raw_motion: bool,
    /// The names of the caps, num and scroll indicators.
    locks: Option<[Atom; 3]>,
}

/// What is kept while somebody watches.
#[derive(Debug)]
struct Watching {
    damage: damage::Damage,
    region: Region,
    surfaces: HashMap<DisplayId, Surface>,
    pointer: Option<(i32, i32)>,
    pointer_asked: Option<Instant>,
    cursor: Option<u32>,
    locks: Option<Locks>,
}

/// One display's pixels and what is known about them.
#[derive(Debug, Default)]
struct Surface {
    pixels: Option<Pixels>,
    pending: Damage,
    handed: Vec<Rect>,
    announced: bool,
}

#[derive(Debug, Default)]
struct Noticed {
    damage: bool,
    layout: bool,
    pointer: bool,
    cursor: bool,
    locks: bool,
}

impl X11Screen {
    pub(super) fn open(display: Option<&str>, layout: SharedLayout) -> Result<Self, CaptureError> {
        let link = Link::open(display)?;
        link.require_bgrx()?;
        link.require(damage::X11_EXTENSION_NAME, "to learn what changed on the screen")?;
        link.require(xfixes::X11_EXTENSION_NAME, "to see the pointer's shape")?;
        let conn = &link.conn;
        conn.xfixes_query_version(5, 0).or_lost()?.reply().asked("tell XFixes' version")?;
        conn.damage_query_version(1, 1).or_lost()?.reply().asked("tell Damage's version")?;
        let offered = Offered {
            shared_memory: shared_memory(&link)?,
            raw_motion: raw_motion(&link)?,
            locks: locks(&link)?,
        };
        let mut reader = Reader::new(&link)?;
        let displays = reader.read(&link)?;
        layout.lock().unwrap_or_else(PoisonError::into_inner).replace(displays);
        link.conn.flush().or_lost()?;
        let (wakeup, told) = (Wakeup::new()?, Noticed::default());
        Ok(Self { link, wakeup, reader, layout, offered, watching: None, told })
    }

    /// Takes in what the server has said so far, without waiting.
    fn drain(&mut self) -> Result<(), CaptureError> {
        while let Some(told) = self.link.conn.poll_for_event().or_lost()? {
            match told {
                Told::DamageNotify(_) => self.told.damage = true,
                Told::XfixesCursorNotify(_) => self.told.cursor = true,
                Told::XinputRawMotion(_) => self.told.pointer = true,
                Told::XkbIndicatorStateNotify(_) => self.told.locks = true,
                Told::RandrScreenChangeNotify(_) | Told::RandrNotify(_) | Told::ConfigureNotify(_) => {
                    self.told.layout = true
                }
                Told::Error(error) => tracing::debug!(?error, "the X server refused a request"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks into what was told. Answers what there is to say about it.
    fn look(&mut self) -> Result<Vec<Event>, CaptureError> {
        let mut events = Vec::new();
        if mem::take(&mut self.told.layout)
            && let Some(layout) = self.read_layout()?
        {
            events.push(Event::Layout(layout));
        }
        let Some(watching) = &mut self.watching else {
            // What was under way when watching ended is nobody's news; kept, it would keep `wait` from waiting.
            self.told = Noticed::default();
            return Ok(events);
        };
        if mem::take(&mut self.told.locks)
            && let Some(names) = self.offered.locks
        {
            let locks = read_locks(&self.link, names)?;
            if watching.locks.replace(locks) != Some(locks) {
                events.push(Event::Locks(locks));
            }
        }
        if mem::take(&mut self.told.cursor) {
            let image =
                self.link.conn.xfixes_get_cursor_image().or_lost()?.reply().asked("show the pointer")?;
            let pixels = image.cursor_image.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            let (id, size, hot) =
                (image.cursor_serial, (image.width, image.height), (image.xhot, image.yhot));
            if watching.cursor.replace(id) != Some(id)
                && let Some(shape) = CursorShape::new(id, size, hot, pixels)
            {
                events.push(Event::CursorShape(Arc::new(shape)));
            }
            self.told.pointer = true;
        }
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        if self.told.pointer && watching.pointer_wait().is_none() {
            self.told.pointer = false;
            watching.pointer_asked = Some(Instant::now());
            let pointer = self
                .link
                .conn
                .query_pointer(self.link.root())
                .or_lost()?
                .reply()
                .asked("find the pointer")?;
            let place = (i32::from(pointer.root_x), i32::from(pointer.root_y));
            if watching.pointer.replace(place) != Some(place) {
                events.push(Event::CursorMoved { at: layout.locate(place.0, place.1) });
            }
        }
        if mem::take(&mut self.told.damage) {
            for display in &layout.displays {
                let surface = watching.surfaces.entry(display.id).or_default();
                if !mem::replace(&mut surface.announced, true) {
                    events.push(Event::Damage { display: display.id });
                }
            }
        }
        Ok(events)
    }

    /// Reads the displays; answers the layout if it is another one, all of it damaged.
    fn read_layout(&mut self) -> Result<Option<Layout>, CaptureError> {
        let displays = self.reader.read(&self.link)?;
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        if !layout.replace(displays) {
            return Ok(None);
        }
        let layout = layout.clone();
        if let Some(watching) = &mut self.watching {
            watching.discard_surfaces(&self.link)?;
            watching.pointer = None;
            watching.damage_all(&layout);
            (self.told.pointer, self.told.damage) = (true, true);
        }
        Ok(Some(layout))
    }

    fn begin(&mut self) -> Result<(), CaptureError> {
        let (conn, root) = (&self.link.conn, self.link.root());
        let (damage, region) =
            (conn.generate_id().asked("name a region")?, conn.generate_id().asked("name a region")?);
        conn.xfixes_create_region(region, &[]).or_lost()?;
        conn.damage_create(damage, root, ReportLevel::NON_EMPTY).or_lost()?.check().asked("report damage")?;
        conn.xfixes_select_cursor_input(root, CursorNotifyMask::DISPLAY_CURSOR).or_lost()?;
        self.select_motion(XIEventMask::RAW_MOTION)?;
        let (surfaces, pointer, pointer_asked) = (HashMap::new(), None, None);
        let mut watching =
            Watching { damage, region, surfaces, pointer, pointer_asked, cursor: None, locks: None };
        watching.damage_all(&self.layout());
        self.watching = Some(watching);
        self.told =
            Noticed { damage: true, pointer: true, cursor: true, locks: true, layout: self.told.layout };
        Ok(())
    }

    fn end(&mut self, mut watching: Watching) -> Result<(), CaptureError> {
        watching.discard_surfaces(&self.link)?;
        let conn = &self.link.conn;
        conn.damage_destroy(watching.damage).or_lost()?;
        conn.xfixes_destroy_region(watching.region).or_lost()?;
        conn.xfixes_select_cursor_input(self.link.root(), CursorNotifyMask::default()).or_lost()?;
        self.select_motion(XIEventMask::default())
    }

    fn select_motion(&self, mask: XIEventMask) -> Result<(), CaptureError> {
        if !self.offered.raw_motion {
            return Ok(());
        }
        let masks = [xinput::EventMask { deviceid: xinput::Device::ALL_MASTER.into(), mask: vec![mask] }];
        self.link
            .conn
            .xinput_xi_select_events(self.link.root(), &masks)
            .or_lost()?
            .check()
            .asked("tell of motion")
    }
}

impl Watching {
    fn damage_all(&mut self, layout: &Layout) {
        for display in &layout.displays {
            self.surfaces.entry(display.id).or_default().pending.add(Rect::whole(display.size));
        }
    }

    fn discard_surfaces(&mut self, link: &Link) -> Result<(), CaptureError> {
        self.surfaces
            .drain()
            .filter_map(|(_, surface)| surface.pixels)
            .try_for_each(|pixels| pixels.discard(link))
    }

    /// How long the pointer's place is not to be asked for yet.
    fn pointer_wait(&self) -> Option<Duration> {
        self.pointer_asked.and_then(|asked| POINTER_EVERY.checked_sub(asked.elapsed()))
    }

    /// Fetches what was drawn since the last time and shares it out to the displays.
    fn collect(&mut self, link: &Link, layout: &Layout) -> Result<(), CaptureError> {
        link.conn.damage_subtract(self.damage, x11rb::NONE, self.region).or_lost()?;
        let drawn =
            link.conn.xfixes_fetch_region(self.region).or_lost()?.reply().asked("tell what was drawn")?;
        for display in &layout.displays {
            let pending = &mut self.surfaces.entry(display.id).or_default().pending;
            for rect in &drawn.rectangles {
                let (x, y) = (i32::from(rect.x) - display.origin.0, i32::from(rect.y) - display.origin.1);
                let (right, bottom) = (x + i32::from(rect.width), y + i32::from(rect.height));
                if let Some(rect) = Rect::clipped(x, y, right, bottom, display.size) {
                    pending.add(rect);
                }
            }
        }
        Ok(())
    }
}

impl ScreenSource for X11Screen {
    fn layout(&self) -> Layout {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watch(&mut self, on: bool) -> Result<(), CaptureError> {
        if let Some(watching) = self.watching.take() {
            self.end(watching)?;
        }
        if on {
            self.begin()?;
        }
        self.link.conn.flush().or_lost()
    }

    fn grab(&mut self, id: DisplayId) -> Result<Frame<'_>, CaptureError> {
        if self.watching.is_none() {
            self.watch(true)?;
        }
        self.drain()?;
        if self.told.layout {
            return Err(CaptureError::LayoutChanged);
        }
        let layout = self.layout();
        let display = layout.display(id).ok_or(CaptureError::UnknownDisplay(id))?;
        let watching = self.watching.as_mut().ok_or(CaptureError::UnknownDisplay(id))?;
        watching.collect(&self.link, &layout)?;
        // What was announced until here has been collected; the next drawing will be told anew.
        self.told.damage &= layout.displays.len() > 1;
        self.told.pointer = true;
        let surface = watching.surfaces.entry(id).or_default();
        surface.announced = false;
        let pixels = match &mut surface.pixels {
            Some(pixels) => pixels,
            empty => {
                surface.pending.add(Rect::whole(display.size));
                empty.insert(Pixels::new(&self.link, display.size, self.offered.shared_memory)?)
            }
        };
        if let Some(bounds) = surface.pending.bounds() {
            let read = pixels.read(&self.link, display.origin, bounds);
            self.told.layout |= matches!(read, Err(CaptureError::LayoutChanged));
            read?;
        }
        surface.handed = surface.pending.take();
        let (width, height) = display.size;
        let (stride, pixels, damage) = (pixels.stride(), pixels.bytes(), &*surface.handed);
        Ok(Frame { display: id, width, height, stride, pixels, damage })
    }

    fn invalidate(&mut self, id: DisplayId) {
        let size = self.layout().display(id).map(|display| display.size);
        if let (Some(size), Some(watching)) = (size, &mut self.watching) {
            watching.surfaces.entry(id).or_default().pending.add(Rect::whole(size));
            self.told.damage = true;
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>, CaptureError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut woken = false;
        loop {
            self.drain()?;
            let events = self.look()?;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if woken || !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(events);
            }
            // The answers to the questions may have brought further events along.
            self.drain()?;
            if self.told.layout || self.told.damage || self.told.cursor || self.told.locks {
                continue;
            }
            let pointer = self.watching.as_ref().filter(|_| self.told.pointer);
            let pointer = pointer.map(|watching| watching.pointer_wait().unwrap_or_default());
            self.link.conn.flush().or_lost()?;
            woken = self.wakeup.wait(self.link.conn.stream(), [left, pointer].into_iter().flatten().min())?;
        }
    }

    fn waker(&self) -> Waker {
        self.wakeup.waker()
    }
}

/// Whether memory can be shared as a file descriptor: MIT-SHM 1.2, to which every server since 2013 has come.
fn shared_memory(link: &Link) -> Result<bool, CaptureError> {
    if !link.has(shm::X11_EXTENSION_NAME)? {
        tracing::info!(
            "the X server has no MIT-SHM; the screen is read over the connection, which is slower"
        );
        return Ok(false);
    }
    let version = shm::ConnectionExt::shm_query_version(&link.conn)
        .or_lost()?
        .reply()
        .asked("tell MIT-SHM's version")?;
    Ok((version.major_version, version.minor_version) >= (1, 2))
}

fn raw_motion(link: &Link) -> Result<bool, CaptureError> {
    if !link.has(xinput::X11_EXTENSION_NAME)? {
        tracing::info!("the X server has no XInput; the pointer's place is only told with pictures");
        return Ok(false);
    }
    let version =
        link.conn.xinput_xi_query_version(2, 2).or_lost()?.reply().asked("tell XInput's version")?;
    Ok(version.major_version >= 2)
}

fn locks(link: &Link) -> Result<Option<[Atom; 3]>, CaptureError> {
    let has = link.has(xkb::X11_EXTENSION_NAME)?;
    if !has || !link.conn.xkb_use_extension(1, 0).or_lost()?.reply().asked("tell XKB's version")?.supported {
        tracing::info!("the X server has no XKB; the state of the lock keys is unknown");
        return Ok(None);
    }
    let (keyboard, all) = (xkb::ID::USE_CORE_KBD.into(), xkb::EventType::INDICATOR_STATE_NOTIFY);
    let (none, details) = (xkb::EventType::default(), xkb::SelectEventsAux::new());
    let map = xkb::MapPart::default();
    link.conn
        .xkb_select_events(keyboard, none, all, map, map, &details)
        .or_lost()?
        .check()
        .asked("tell of lock keys")?;
    let mut names = [0; 3];
    for (atom, name) in names.iter_mut().zip(["Caps Lock", "Num Lock", "Scroll Lock"]) {
        *atom =
            link.conn.intern_atom(false, name.as_bytes()).or_lost()?.reply().asked("name a lock key")?.atom;
    }
    Ok(Some(names))
}

fn read_locks(link: &Link, names: [Atom; 3]) -> Result<Locks, CaptureError> {
    let (keyboard, feedback) = (u16::from(xkb::ID::USE_CORE_KBD), u16::from(xkb::ID::DFLT_XI_ID));
    let class = xkb::LedClass::DFLT_XI_CLASS;
    let ask = |name| link.conn.xkb_get_named_indicator(keyboard, class, feedback, name).or_lost();
    let [caps, num, scroll] = [ask(names[0])?, ask(names[1])?, ask(names[2])?];
    let [caps, num, scroll] =
        [caps.reply(), num.reply(), scroll.reply()].map(|lock| lock.asked("tell a lock key's state"));
    Ok(Locks { caps: caps?.on, num: num?.on, scroll: scroll?.on })
}
