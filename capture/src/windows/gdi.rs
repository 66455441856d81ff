//! Pixels through GDI: it works on every Windows, in remote desktops and under wine, and costs a copy of the whole display.

use std::io;
use std::time::{Duration, Instant};

use super::bitmap::Bitmap;
use crate::layout::Damage;
use crate::{CaptureError, Rect, compare};

/// A picture that young is not taken again.
const FRESH: Duration = Duration::from_millis(8);

/// One display's pixels, and those before.
#[derive(Debug)]
pub(super) struct Surface {
    origin: (i32, i32),
    size: (u16, u16),
    shown: Bitmap,
    spare: Bitmap,
    taken: Option<Instant>,
    /// How long taking and comparing took the last time.
    pub(super) cost: Duration,
}

impl Surface {
    pub(super) fn new(origin: (i32, i32), size: (u16, u16)) -> Result<Self, CaptureError> {
        let (shown, spare) = (Bitmap::new(size)?, Bitmap::new(size)?);
        Ok(Self { origin, size, shown, spare, taken: None, cost: Duration::ZERO })
    }

    /// Looks at the display unless that has just been done, and adds what changed since the last look.
    ///
    /// # Errors
    /// While the system shows a desktop of its own.
    pub(super) fn look(&mut self, damage: &mut Damage) -> io::Result<()> {
        let began = Instant::now();
        if self.taken.is_some_and(|taken| began - taken < FRESH) {
            return Ok(());
        }
        self.spare.take(self.origin)?;
        if self.taken.is_none() {
            damage.add(Rect::whole(self.size));
        } else {
            compare::differences(self.shown.bytes(), self.spare.bytes(), self.size, damage);
        }
        std::mem::swap(&mut self.shown, &mut self.spare);
        let now = Instant::now();
        (self.taken, self.cost) = (Some(now), now - began);
        Ok(())
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.taken.map(|_| self.shown.bytes())
    }
}
