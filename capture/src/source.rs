//! Seeing a screen: what every platform's capture offers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tandem_protocol::DisplayId;

use crate::{CaptureError, CursorShape, Layout, Rect};

/// A screen that can be looked at. It blocks; give it a thread.
///
/// The loop of its owner: [`wait`](Self::wait) for something to happen, and [`grab`](Self::grab) a damaged display
/// whenever its next picture can be used. A damaged display is announced once and then stays silent until it is grabbed,
/// so a screen that nobody can keep up with costs no more than one that is looked at seldom, and a screen at rest costs
/// nothing.
pub trait ScreenSource: Send {
    /// The displays as last announced.
    fn layout(&self) -> Layout;

    /// Begins or stops looking. While nobody watches, only changes of the layout are followed; it is so at first. Beginning
    /// announces everything anew: the damage of all displays, the cursor, the locks.
    ///
    /// # Errors
    /// When the platform refuses.
    fn watch(&mut self, on: bool) -> Result<(), CaptureError>;

    /// The display's pixels now, with what changed since its last grab. Where nothing changed, nothing is copied.
    ///
    /// # Errors
    /// [`CaptureError::LayoutChanged`] and [`CaptureError::UnknownDisplay`] when it has just gone or changed its size: wait for
    /// the [`Event::Layout`]. Anything else is final.
    fn grab(&mut self, display: DisplayId) -> Result<Frame<'_>, CaptureError>;

    /// Declares a display damaged as a whole, to be read anew at the next grab.
    fn invalidate(&mut self, display: DisplayId);

    /// Waits until something happened, the [`Waker`] was used or the time is over (`None`: no limit), and says what. The
    /// answer is empty after a wake-up without events.
    ///
    /// # Errors
    /// [`CaptureError::Lost`] when the display is gone.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>, CaptureError>;

    /// Ends a [`wait`](Self::wait), now or the next one, from another thread.
    fn waker(&self) -> Waker;
}

/// A display's pixels, borrowed from where the platform put them.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Which display.
    pub display: DisplayId,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Bytes from one row to the next, at least 4 × `width`.
    pub stride: usize,
    /// B, G, R and an unused byte for each pixel; `stride` × `height` bytes.
    pub pixels: &'a [u8],
    /// What may have changed since the last grab of this display, in its own coordinates. Empty: nothing did.
    pub damage: &'a [Rect],
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("display", &self.display)
            .field("size", &(self.width, self.height))
            .field("stride", &self.stride)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

/// What happened on a screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Whether the person's desktop can be seen and used changed. Without a word it can.
    Access(Access),
    /// The pointer is here now, or on no display.
    CursorMoved {
        /// The display on which it is, and the pixel its hot spot points at.
        at: Option<(DisplayId, i32, i32)>,
    },
    /// The pointer looks different now.
    CursorShape(Arc<CursorShape>),
    /// Something changed on a display that was up to date. It may be announced although its grab then finds no damage.
    Damage {
        /// Which.
        display: DisplayId,
    },
    /// Displays came, went, moved or changed. All of them are damaged.
    Layout(Layout),
    /// A lock key was turned on or off.
    Locks(Locks),
}

/// Whether the person's desktop can be seen and used. None of these is an error: it comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody is connected to it: a remote desktop was left, or another person uses the computer now.
    Away,
    /// It can.
    #[default]
    Open,
    /// The system shows a screen of its own that no program may see or use: to sign in, locked, or with a question about
    /// elevation.
    Secure,
}

/// The lock keys of a keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// Caps Lock.
    pub caps: bool,
    /// Num Lock.
    pub num: bool,
    /// Scroll Lock.
    pub scroll: bool,
}

/// Interrupts a waiting [`ScreenSource`] from another thread.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls this.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes. Several calls before the next wait count as one.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
