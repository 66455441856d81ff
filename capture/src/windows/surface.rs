//! One display's pixels, from whichever source offers them.

use std::io;
use std::time::Duration;

use super::duplication::Duplication;
use super::gdi;
use crate::layout::Damage;
use crate::{CaptureError, Display};

/// Where a display's pixels come from.
#[derive(Debug)]
pub(super) enum Surface {
    Duplication(Duplication),
    Gdi(gdi::Surface),
}

impl Surface {
    /// Desktop duplication where it is wanted and offered, else GDI.
    pub(super) fn new(display: &Display, duplicate: bool) -> Result<Self, CaptureError> {
        if duplicate {
            match Duplication::new(display) {
                Ok(duplication) => return Ok(Self::Duplication(duplication)),
                Err(error) => {
                    let monitor = &display.name;
                    tracing::info!(monitor, %error, "no desktop duplication: GDI is used");
                }
            }
        }
        Ok(Self::Gdi(gdi::Surface::new(display.origin, display.size)?))
    }

    /// Looks at the display, and adds what changed since the last look.
    ///
    /// # Errors
    /// When there is nothing to see from this source, for now or any more.
    pub(super) fn look(&mut self, damage: &mut Damage) -> io::Result<()> {
        match self {
            Self::Duplication(duplication) => duplication.look(damage),
            Self::Gdi(surface) => surface.look(damage),
        }
    }

    /// Whether the source has ended with its first error.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Duplication(_))
    }

    /// B, G, R, unused; rows from the top without gaps. `None` as long as no look has succeeded.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Duplication(duplication) => duplication.bytes(),
            Self::Gdi(surface) => surface.bytes(),
        }
    }

    /// How long the last look took, where that is much.
    pub(super) fn cost(&self) -> Duration {
        match self {
            Self::Duplication(_) => Duration::ZERO,
            Self::Gdi(surface) => surface.cost,
        }
    }
}
