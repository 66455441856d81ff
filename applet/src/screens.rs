//! The thread that looks: it owns the screen source and the encoders, and encodes a display when somebody watches it, it
//! has changed and the path can take more. What was replaced before it could be sent is never encoded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tandem_capture::{CaptureError, Event, Layout, Rotation, ScreenSource, Waker};
use tandem_client::{Handle, Outgoing, SendError};
use tandem_codec::{Base, EncodeError, Encoder, EncoderOptions, Hints, KeyJob, PictureRef, Rect, Size};
use tandem_protocol::message::{self, Want, types};
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Point, Rendition, ScreenKind};

use crate::pace::{Frames, Next};

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// There is a connection; these screens begin from black.
    Connected(Vec<LaneKey>),
    /// The relay wants something of a rendition.
    Want(Want),
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
    /// Starts the thread; `told` is called on it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        source: Box<dyn ScreenSource>,
        handle: Handle,
        mut told: impl FnMut(Told) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, given) = std::sync::mpsc::channel();
        let waker = source.waker();
        let mut looking = Looking::new(source, handle);
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
    displays: BTreeMap<DisplayId, Display>,
    watching: bool,
    pointer: Option<(DisplayId, i32, i32)>,
}

/// A display, and its live rendition.
#[derive(Default)]
struct Display {
    frames: Frames,
    encoder: Option<Encoder>,
    /// The last update that was sent.
    last: Option<Point>,
    segment: u32,
    /// The last request that was met.
    request: u32,
}

impl Looking {
    fn new(source: Box<dyn ScreenSource>, handle: Handle) -> Self {
        let layout = source.layout();
        Self { source, handle, layout, displays: BTreeMap::new(), watching: false, pointer: None }
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
            let wanted = self.displays.values().any(|display| display.frames.is_wanted());
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
                self.send_layout();
                for key in restart {
                    self.restart(key.display);
                }
            }
            Order::Want(want) => self.want(&want),
        }
    }

    fn want(&mut self, want: &Want) {
        let display = u16::try_from(want.display).ok().map(DisplayId);
        let Some(id) = display.filter(|&id| self.layout.display(id).is_some()) else { return };
        if want.rendition != u32::from(Rendition::LIVE.0) {
            return;
        }
        let display = self.displays.entry(id).or_default();
        display.frames.want(want.on);
        let asked_before = std::mem::replace(&mut display.request, want.request_id) == want.request_id;
        if !want.on || !want.start || asked_before {
            return;
        }
        display.frames.changed();
        // Without an encoder, and without an update of it, the next update starts from black anyway.
        let (Some(encoder), Some(last)) = (&mut display.encoder, display.last) else { return };
        if let Some(job) = encoder.start_segment().filter(|_| want.key) {
            send_key(&self.handle, lane(LaneKind::Key, id), display.segment + 1, last, job);
        }
    }

    fn event(&mut self, event: Event, told: &mut impl FnMut(Told)) {
        match event {
            Event::Damage { display } => self.displays.entry(display).or_default().frames.changed(),
            Event::Layout(layout) => {
                told(Told::Layout(layout.generation));
                self.layout = layout;
                self.send_layout();
                let gone = |id: &DisplayId| self.layout.display(*id).is_none();
                for id in self.displays.keys().copied().filter(gone).collect::<Vec<_>>() {
                    self.displays.remove(&id);
                    self.handle.finish(lane(LaneKind::Screen, id));
                    self.handle.finish(lane(LaneKind::Key, id));
                }
                for id in self.displays.keys().copied().collect::<Vec<_>>() {
                    self.restart(id);
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

    /// The next update of this display starts a segment from black.
    fn restart(&mut self, id: DisplayId) {
        if let Some(display) = self.displays.get_mut(&id) {
            display.encoder = None;
            display.frames.changed();
            self.source.invalidate(id);
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
        let layout =
            message::DisplayLayout { generation: self.layout.generation, displays: displays.collect() };
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
        for (&id, display) in &mut self.displays {
            let now = Instant::now();
            let mut next = display.frames.next(now, || self.handle.pace(lane(LaneKind::Screen, id)));
            if let Next::Encode(budget) = next {
                let pointer = self.pointer.filter(|at| at.0 == id);
                let mut look = Look { handle: &self.handle, layout: &self.layout, id, pointer };
                match look.encode(&mut *self.source, display, budget) {
                    Ok(()) => {
                        next = display
                            .frames
                            .next(Instant::now(), || self.handle.pace(lane(LaneKind::Screen, id)))
                    }
                    // The layout's event comes next.
                    Err(CaptureError::LayoutChanged | CaptureError::UnknownDisplay(_)) => next = Next::Rest,
                    Err(error) => return Err(error),
                }
            }
            let at = match next {
                Next::Rest => continue,
                Next::Wait(at) => at,
                Next::Encode(_) => now,
            };
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        Ok(wake.map(|wake| wake.saturating_duration_since(Instant::now())))
    }
}

/// One look at one display.
struct Look<'a> {
    handle: &'a Handle,
    layout: &'a Layout,
    id: DisplayId,
    pointer: Option<(DisplayId, i32, i32)>,
}

impl Look<'_> {
    fn encode(
        &mut self,
        source: &mut dyn ScreenSource,
        display: &mut Display,
        budget: usize,
    ) -> Result<(), CaptureError> {
        let frame = source.grab(self.id)?;
        let size = Size { w: frame.width, h: frame.height };
        let Some(picture) = PictureRef::new(size, frame.stride, frame.pixels) else {
            return Err(CaptureError::LayoutChanged);
        };
        let fresh = display.encoder.is_none();
        let encoder = match &mut display.encoder {
            Some(encoder) if encoder.options().size == size => encoder,
            slot => {
                let options =
                    EncoderOptions { layout_generation: self.layout.generation, ..EncoderOptions::new(size) };
                match Encoder::new(options) {
                    Ok(encoder) => slot.insert(encoder),
                    Err(error) => {
                        self.failed(display, &error);
                        return Ok(());
                    }
                }
            }
        };
        let damage: Vec<Rect> =
            frame.damage.iter().map(|r| Rect { x: r.x, y: r.y, w: r.width, h: r.height }).collect();
        let pointer = self.pointer.and_then(|(_, x, y)| Some((x.try_into().ok()?, y.try_into().ok()?)));
        let hints = Hints { damage: (!fresh).then_some(&damage[..]), pointer };
        match encoder.encode(picture, &hints, budget) {
            Ok(Some(update)) => {
                display.frames.encoded(update.complete, Instant::now());
                self.send(display, &update.body, update.start);
            }
            Ok(None) => display.frames.encoded(true, Instant::now()),
            Err(error) => self.failed(display, &error),
        }
        Ok(())
    }

    fn send(&self, display: &mut Display, body: &[u8], start: Option<Base>) {
        let kind = match start {
            None => ScreenKind::Update,
            Some(base) => {
                display.segment += 1;
                ScreenKind::Start { from: display.last.filter(|_| base == Base::Shadow) }
            }
        };
        let out = Outgoing::screen(display.segment, kind, body);
        match self.handle.send(lane(LaneKind::Screen, self.id), out) {
            Ok(sent) => {
                display.last =
                    Some(Point { rendition: Rendition::LIVE, segment: display.segment, seq: sent.seq });
            }
            Err(error) => {
                // What it showed is lost: the encoder believes that it was seen.
                let offline = error == SendError::Offline;
                tracing::debug!(%error, offline, "an update could not be sent");
                display.encoder = None;
                display.frames.changed();
            }
        }
    }

    fn failed(&self, display: &mut Display, error: &EncodeError) {
        tracing::error!(%error, display = self.id.0, "a picture cannot be encoded");
        display.encoder = None;
        display.frames.want(false);
    }
}

/// Makes a key on a thread of its own, and sends it.
fn send_key(handle: &Handle, lane: LaneKey, segment: u32, shows: Point, job: KeyJob) {
    let handle = handle.clone();
    let made = move || match job.encode() {
        Ok(body) => {
            if let Err(error) = handle.send(lane, Outgoing::key(segment, shows.seq, &body)) {
                tracing::debug!(%error, "a key could not be sent");
            }
        }
        Err(error) => tracing::error!(%error, "a key cannot be made"),
    };
    if let Err(error) = std::thread::Builder::new().name("key".into()).spawn(made) {
        tracing::error!(%error, "no thread to make a key on");
    }
}

/// A lane of a display's live rendition.
fn lane(kind: LaneKind, display: DisplayId) -> LaneKey {
    LaneKey::screen(kind, display, Rendition::LIVE, tandem_protocol::Sender::RELAY)
}
