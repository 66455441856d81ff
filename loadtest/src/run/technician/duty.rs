//! What a technician does beside watching, how its visits end, and what it waits for.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::plan::{Manner, Range};
use crate::report::series::Kind;

/// What a technician does beside watching, and whom it tells what.
#[derive(Debug)]
pub(crate) struct Duty {
    /// Sends input, and files if the course says so.
    pub(crate) controls: bool,
    /// Dropped when its screen is there, or never will be.
    pub(crate) ready: Option<mpsc::Sender<()>>,
    /// Dropped when it shows a picture of after the black-out, or never will.
    pub(crate) recovered: Option<mpsc::Sender<()>>,
    pub(crate) manner: Manner,
    /// After how many seconds it is killed and started again, over and over.
    pub(crate) drops: Option<Range>,
    /// For what it draws.
    pub(crate) seed: u64,
}

impl Duty {
    /// Of one who comes and stays.
    pub(crate) const fn steady(
        controls: bool,
        ready: Option<mpsc::Sender<()>>,
        recovered: Option<mpsc::Sender<()>>,
    ) -> Self {
        Self { controls, ready, recovered, manner: Manner::Steady, drops: None, seed: 0 }
    }

    /// Whether it is behind a slow line, and has figures of its own.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.manner, Manner::Slow { .. })
    }

    /// Whether it must see every picture in the end, and its figures are those of the plan.
    pub(super) fn counts(&self) -> bool {
        matches!(self.manner, Manner::Steady | Manner::Churning { .. })
    }
}

/// How a visit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// Everything has been seen, or nothing more will be.
    Over,
    /// It goes, and says so.
    Leaves,
    /// It is killed.
    Dies,
}

/// What a picture is waited for after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaits {
    pub(super) kind: Kind,
    pub(super) since: Instant,
    /// It must be newer than this one.
    pub(super) newer: u32,
}
