//! A display that needs none: a moving picture for tests, load and computers without a screen.
//!
//! [`Picture`] is pure: its pixels follow from its options, the time passed in and the input painted into it.
//! [`open`] puts a clock behind it and answers the two halves that a real screen has: a [`TestScreen`] and a
//! [`TestInjector`] that records what it is told and paints it.

mod picture;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tandem_protocol::DisplayId;

pub use self::picture::{Input, Options, Picture, read_frame, read_presses};
use crate::held::{Action, Holdable};
use crate::input::Notches;
use crate::{
    CaptureError, CursorShape, Display, Event, Frame, HeldKeys, Injector, Layout, Locks, Rect, Rotation,
    ScreenSource, Waker,
};

/// The one display of a test pattern.
pub const DISPLAY: DisplayId = DisplayId(0);

/// Opens a test pattern whose time begins now.
pub fn open(options: Options) -> (TestScreen, TestInjector) {
    let size = options.size;
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            picture: Picture::new(options),
            announced: false,
            watched: false,
            woken: false,
            events: VecDeque::new(),
            inputs: VecDeque::new(),
        }),
        changed: Condvar::new(),
        began: Instant::now(),
    });
    let pixels = vec![0; usize::from(size.0) * usize::from(size.1) * 4];
    let screen = TestScreen { shared: Arc::clone(&shared), size, pixels, damage: Vec::new() };
    (screen, TestInjector { shared, held: HeldKeys::default(), wheels: Default::default() })
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
}

#[derive(Debug)]
struct State {
    picture: Picture,
    /// Whether the damage was announced and not yet grabbed.
    announced: bool,
    watched: bool,
    woken: bool,
    events: VecDeque<Event>,
    inputs: VecDeque<Input>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, input: Input) {
        let mut state = self.lock();
        state.picture.input(&input);
        if let Input::Motion { x, y } = input
            && state.watched
        {
            // Only the newest place is of use: the last event is replaced if it is one.
            state.events.pop_back_if(|event| matches!(event, Event::CursorMoved { .. }));
            state.events.push_back(Event::CursorMoved { at: Some((DISPLAY, x, y)) });
        }
        if state.inputs.len() == TestInjector::REMEMBERED {
            state.inputs.pop_front();
        }
        state.inputs.push_back(input);
        drop(state);
        self.changed.notify_all();
    }
}

/// The test pattern as a screen.
#[derive(Debug)]
pub struct TestScreen {
    shared: Arc<Shared>,
    size: (u16, u16),
    pixels: Vec<u8>,
    damage: Vec<Rect>,
}

impl TestScreen {
    fn cursor() -> CursorShape {
        // A white arrowhead with a black edge.
        const SIDE: u16 = 16;
        let pixel = |n: u16| match (n % SIDE, n / SIDE) {
            (x, y) if x > y || x + y >= SIDE => [0; 4],
            (x, y) if x == 0 || x == y || x + y == SIDE - 1 => [0, 0, 0, 255],
            _ => [255; 4],
        };
        let pixels = (0..SIDE * SIDE).flat_map(pixel).collect();
        CursorShape { id: 1, width: SIDE, height: SIDE, hot_x: 0, hot_y: 0, pixels }
    }
}

impl ScreenSource for TestScreen {
    fn layout(&self) -> Layout {
        let display = Display {
            id: DISPLAY,
            name: "test pattern".into(),
            origin: (0, 0),
            size: self.size,
            scale: 1.0,
            rotation: Rotation::None,
            primary: true,
        };
        Layout { generation: 1, displays: vec![display] }
    }

    fn watch(&mut self, on: bool) -> Result<(), CaptureError> {
        let mut state = self.shared.lock();
        state.watched = on;
        state.events.clear();
        if on {
            state.announced = false;
            state.picture.invalidate();
            let cursor = CursorShape::clone(&Self::cursor());
            state.events.extend([
                Event::CursorShape(Arc::new(cursor)),
                Event::CursorMoved { at: Some((DISPLAY, 0, 0)) },
                Event::Locks(Locks::default()),
            ]);
        }
        Ok(())
    }

    fn grab(&mut self, display: DisplayId) -> Result<Frame<'_>, CaptureError> {
        if display != DISPLAY {
            return Err(CaptureError::UnknownDisplay(display));
        }
        let mut state = self.shared.lock();
        state.announced = false;
        state.picture.advance(self.shared.began.elapsed());
        self.damage = state.picture.take_damage();
        let stride = usize::from(self.size.0) * 4;
        if let Some(bounds) = self.damage.iter().copied().reduce(Rect::union) {
            let rows = usize::from(bounds.y) * stride..usize::from(bounds.y + bounds.height) * stride;
            self.pixels[rows.clone()].copy_from_slice(&state.picture.pixels()[rows]);
        }
        let (width, height) = self.size;
        Ok(Frame { display, width, height, stride, pixels: &self.pixels, damage: &self.damage })
    }

    fn invalidate(&mut self, _: DisplayId) {
        self.shared.lock().picture.invalidate();
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>, CaptureError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.shared.lock();
        loop {
            let now = self.shared.began.elapsed();
            let mut events: Vec<Event> = state.events.drain(..).collect();
            if state.watched && !state.announced {
                state.picture.advance(now);
                if state.picture.is_damaged() {
                    state.announced = true;
                    events.push(Event::Damage { display: DISPLAY });
                }
            }
            if std::mem::take(&mut state.woken) || !events.is_empty() {
                return Ok(events);
            }
            let change = state.picture.next_change().filter(|_| state.watched && !state.announced);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(events);
            }
            let sleep = [left, change.map(|at| at.saturating_sub(now))].into_iter().flatten().min();
            state = match sleep {
                Some(sleep) => {
                    let slept = self.shared.changed.wait_timeout(state, sleep);
                    slept.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn waker(&self) -> Waker {
        let shared = Arc::clone(&self.shared);
        Waker::new(move || {
            shared.lock().woken = true;
            shared.changed.notify_all();
        })
    }
}

/// Hands on a test pattern: remembers what they were told and paints the keys.
#[derive(Debug)]
pub struct TestInjector {
    shared: Arc<Shared>,
    held: HeldKeys,
    wheels: (Notches, Notches),
}

impl TestInjector {
    /// This many of the latest inputs are remembered.
    pub const REMEMBERED: usize = 4096;

    /// A handle that answers what was injected, the oldest first, from any thread.
    pub fn record(&self) -> Record {
        Record(Arc::clone(&self.shared))
    }

    fn hold(&mut self, what: Holdable, down: bool) {
        // Time plays no part: silence is the caller's to judge.
        if self.held.change(what, down, self.shared.began) != Action::Ignore {
            self.shared.act(Input::Hold { what, down });
        }
    }
}

/// What a [`TestInjector`] was told.
#[derive(Clone, Debug)]
pub struct Record(Arc<Shared>);

impl Record {
    /// The latest inputs, the oldest first.
    pub fn inputs(&self) -> Vec<Input> {
        self.0.lock().inputs.iter().cloned().collect()
    }
}

impl Injector for TestInjector {
    fn key(&mut self, usage: u32, down: bool) -> Result<(), CaptureError> {
        crate::hid::evdev(usage).ok_or(CaptureError::NoSuchKey { usage })?;
        self.hold(Holdable::Key(usage), down);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), CaptureError> {
        self.shared.act(Input::Text(text.to_owned()));
        Ok(())
    }

    fn button(&mut self, button: u32, down: bool) -> Result<(), CaptureError> {
        if !(1..=24).contains(&button) {
            return Err(CaptureError::NoSuchKey { usage: button });
        }
        self.hold(Holdable::Button(button), down);
        Ok(())
    }

    fn wheel(&mut self, dx: i32, dy: i32) -> Result<(), CaptureError> {
        let (x, y) = (self.wheels.0.turn(dx), self.wheels.1.turn(dy));
        if (x, y) != (0, 0) {
            self.shared.act(Input::Wheel { x, y });
        }
        Ok(())
    }

    fn motion(&mut self, display: DisplayId, x: i32, y: i32) -> Result<(), CaptureError> {
        if display != DISPLAY {
            return Err(CaptureError::UnknownDisplay(display));
        }
        let (width, height) = self.shared.lock().picture.size();
        self.shared
            .act(Input::Motion { x: x.clamp(0, i32::from(width) - 1), y: y.clamp(0, i32::from(height) - 1) });
        Ok(())
    }

    fn release_all(&mut self) -> Result<(), CaptureError> {
        for what in self.held.release_all() {
            self.shared.act(Input::Hold { what, down: false });
        }
        Ok(())
    }

    fn held(&self) -> Vec<Holdable> {
        self.held.held().collect()
    }
}

impl Drop for TestInjector {
    fn drop(&mut self) {
        // It cannot fail here.
        let _ = self.release_all();
    }
}

#[cfg(test)]
mod tests;
