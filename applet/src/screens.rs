//! The thread that looks: it owns the screen source and the encoders, and encodes a display when somebody watches it, it
//! has changed and the path can take more. What was replaced before it could be sent is never encoded.
//!
//! `display` has one display's renditions; `jobs` is for what takes long beside pictures.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tandem_capture::{Access, CaptureError, Event, Layout, Rotation, ScreenSource, Waker};
use tandem_client::{Handle, Outgoing};
use tandem_codec::EncoderOptions;
use tandem_protocol::message::{self, Want, types};
use tandem_protocol::{DisplayId, LaneKey, LaneKind};

use self::display::{Display, View};
use self::jobs::Jobs;
use crate::pace::Next;

mod display;
mod jobs;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// There is a connection; these screens begin from black.
    Connected(Vec<LaneKey>),
    /// There is none. What is encoded from now on would go on from pictures that the next connection may know nothing of.
    Disconnected,
    /// The relay wants something of a rendition.
    Want(Want),
    /// Whether anybody may see the screen; at first nobody may.
    Shown(bool),
    /// Whether what moves may be sent as video.
    Video(bool),
}

/// What the thread tells.
#[derive(Debug)]
pub enum Told {
    /// The displays are arranged like this now.
    Layout(u32),
    /// The screen is gone.
    Failed(CaptureError),
}

/// The thread's owner: dropping it ends the thread.
#[derive(Debug)]
pub struct Screens {
    orders: Option<Sender<Order>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Screens {
    /// Starts the thread; `told` is called on it. Every display is encoded with these options, `look`, at its own size.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        source: Box<dyn ScreenSource>,
        handle: Handle,
        look: EncoderOptions,
        mut told: impl FnMut(Told) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, given) = std::sync::mpsc::channel();
        let waker = source.waker();
        let mut looking = Looking::new(source, handle, look);
        let thread = std::thread::Builder::new().name("screen".into()).spawn(move || {
            if let Err(error) = looking.run(&given, &mut told) {
                told(Told::Failed(error));
            }
        })?;
        Ok(Self { orders: Some(orders), waker, thread: Some(thread) })
    }

    /// Tells it something.
    pub fn order(&self, order: Order) {
        // Its thread only ends early when the screen is gone, which it has told.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
        self.waker.wake();
    }

    /// The path may take more now.
    pub fn wake(&self) {
        self.waker.wake();
    }
}

impl Drop for Screens {
    fn drop(&mut self) {
        self.orders = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

struct Looking {
    source: Box<dyn ScreenSource>,
    handle: Handle,
    layout: Layout,
    access: Access,
    displays: BTreeMap<DisplayId, Display>,
    jobs: Jobs,
    shown: bool,
    online: bool,
    watching: bool,
    video: bool,
    look: EncoderOptions,
    pointer: Option<(DisplayId, i32, i32)>,
}

impl Looking {
    fn new(source: Box<dyn ScreenSource>, handle: Handle, look: EncoderOptions) -> Self {
        let layout = source.layout();
        let jobs = Jobs::new(handle.clone(), source.waker());
        Self {
            source,
            handle,
            layout,
            access: Access::default(),
            displays: BTreeMap::new(),
            jobs,
            shown: false,
            online: false,
            watching: false,
            video: false,
            look,
            pointer: None,
        }
    }

    fn run(&mut self, orders: &Receiver<Order>, told: &mut impl FnMut(Told)) -> Result<(), CaptureError> {
        told(Told::Layout(self.layout.generation));
        loop {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.order(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for (id, prepared) in self.jobs.done() {
                if let Some(display) = self.displays.get_mut(&id) {
                    display.prepared(prepared, &self.jobs);
                }
            }
            let wanted = self.shown && self.displays.values().any(Display::is_wanted);
            if wanted != self.watching {
                self.source.watch(wanted)?;
                self.watching = wanted;
            }
            let wait = self.encode_all()?;
            for event in self.source.wait(wait)? {
                self.event(event, told);
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Connected(restart) => {
                self.online = true;
                self.send_layout();
                for (&id, display) in &mut self.displays {
                    display.connected(restart.iter().filter(|key| key.display == id), &self.jobs);
                }
            }
            Order::Disconnected => self.online = false,
            Order::Want(want) => self.want(&want),
            Order::Shown(shown) => self.shown = shown,
            Order::Video(on) => {
                self.video = on;
                self.displays.values_mut().for_each(|display| display.set_video(on));
            }
        }
    }

    fn want(&mut self, want: &Want) {
        let display = u16::try_from(want.display).ok().map(DisplayId);
        let Some(id) = display.filter(|&id| self.layout.display(id).is_some()) else { return };
        let generation = self.layout.generation;
        let (video, look) = (self.video, self.look);
        let new = || Display::new(id, generation, video, look);
        let display = self.displays.entry(id).or_insert_with(new);
        display.want(want, &self.jobs);
    }

    fn event(&mut self, event: Event, told: &mut impl FnMut(Told)) {
        match event {
            Event::Access(access) => {
                if self.access != access {
                    tracing::info!(?access, "whether the desktop can be seen and used has changed");
                    self.access = access;
                    self.send_layout();
                }
            }
            Event::Damage { display } => {
                if let Some(display) = self.displays.get_mut(&display) {
                    display.changed();
                }
            }
            Event::Layout(layout) => {
                told(Told::Layout(layout.generation));
                self.layout = layout;
                self.send_layout();
                let gone = |id: &DisplayId| self.layout.display(*id).is_none();
                for id in self.displays.keys().copied().filter(gone).collect::<Vec<_>>() {
                    self.displays.remove(&id);
                    display::lanes(id).for_each(|lane| self.handle.finish(lane));
                }
                for display in self.displays.values_mut() {
                    display.set_layout(self.layout.generation, &self.jobs);
                }
            }
            Event::CursorMoved { at } => {
                self.pointer = at;
                let (display, x, y) = at.unwrap_or_default();
                let position = message::CursorPosition {
                    display: display.0.into(),
                    generation: self.layout.generation,
                    x,
                    y,
                    visible: at.is_some(),
                };
                self.slot(LaneKind::Cursor, types::CURSOR_POSITION, &position);
            }
            Event::CursorShape(shape) => {
                let shape = message::CursorShape {
                    id: shape.id,
                    width: shape.width.into(),
                    height: shape.height.into(),
                    hot_x: shape.hot_x.into(),
                    hot_y: shape.hot_y.into(),
                    pixels: shape.pixels.clone(),
                };
                self.slot(LaneKind::Cursor, types::CURSOR_SHAPE, &shape);
            }
            Event::Locks(locks) => {
                let locks = message::LockKeys { caps: locks.caps, num: locks.num, scroll: locks.scroll };
                self.slot(LaneKind::Peer, types::LOCK_KEYS, &locks);
            }
        }
    }

    fn send_layout(&self) {
        let displays = self.layout.displays.iter().map(|display| message::Display {
            id: display.id.0.into(),
            name: display.name.clone(),
            x: display.origin.0,
            y: display.origin.1,
            width: display.size.0.into(),
            height: display.size.1.into(),
            scale_milli: (display.scale * 1000.0).round() as u32,
            rotation: Rotation::degrees(display.rotation),
            primary: display.primary,
        });
        let access = match self.access {
            Access::Open => message::ScreenAccess::Open,
            Access::Secure => message::ScreenAccess::Secure,
            Access::Away => message::ScreenAccess::Away,
        };
        let layout = message::DisplayLayout {
            generation: self.layout.generation,
            displays: displays.collect(),
            access: access.into(),
        };
        self.slot(LaneKind::Peer, types::DISPLAY_LAYOUT, &layout);
    }

    fn slot(&self, kind: LaneKind, record_type: u8, message: &impl Message) {
        let lane = LaneKey::plain(kind, tandem_protocol::Sender::RELAY);
        // Before the first connection there is nobody to tell; it is told then.
        let _ = self.handle.send(lane, Outgoing::latest(record_type, &message.encode_to_vec()));
    }

    /// Encodes what can be; answers how long nothing can.
    fn encode_all(&mut self) -> Result<Option<Duration>, CaptureError> {
        let mut wake: Option<Instant> = None;
        // Whatever the relay wants.
        if !self.shown || !self.online {
            return Ok(None);
        }
        for (&id, display) in &mut self.displays {
            let pointer = self.pointer.filter(|at| at.0 == id);
            let mut view = View {
                source: &mut *self.source,
                handle: &self.handle,
                jobs: &self.jobs,
                pointer: pointer.and_then(|(_, x, y)| Some((x.try_into().ok()?, y.try_into().ok()?))),
            };
            let at = match display.publish(&mut view)? {
                Next::Rest => continue,
                Next::Wait(at) => at,
                Next::Encode(_) => Instant::now(),
            };
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        Ok(wake.map(|wake| wake.saturating_duration_since(Instant::now())))
    }
}
