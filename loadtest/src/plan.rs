//! What a run does, as people write it and as the run uses it.
//!
//! - `written`: the TOML file and the flags, which are the same keys; a flag is stronger than the file, that than the default;
//! - [`Plan`]: checked; nothing looks at what was written any more;
//! - `range`: values of which each client draws its own;
//! - `sampled`: what each client has drawn. All of it is a function of the seed.

mod range;
mod sampled;
mod written;

use std::path::PathBuf;
use std::time::Duration;

use tandem_codec::Size;

pub(crate) use self::range::{ByteRange, Range};
pub(crate) use self::sampled::{Manner, Session, Technician};
pub(crate) use self::written::{Cores, Written};
use crate::run::screen::Content;

/// A key whose value cannot be, alone or beside another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub(crate) struct PlanError {
    pub(crate) key: &'static str,
    pub(crate) reason: String,
}

/// What the customers' screens show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scenery {
    /// Made up, through the codec. Noise comes in pictures of so many bytes.
    Made { content: Content, size: Size, picture: u64 },
    /// Recordings, which customers take in turn, through the codec.
    Traces(Vec<PathBuf>),
    /// Updates that are as long as this, whatever is on the screen.
    Opaque(ByteRange),
    /// One picture that never changes.
    Still,
}

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transports {
    Quic,
    #[value(name = "websocket")]
    WebSocket,
    /// Each its own, by quic-share
    Mixed,
}

impl Transports {
    /// As it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
            Self::Mixed => "mixed",
        }
    }
}

/// Which share of the technicians behave how; nobody is two of these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shares {
    pub(crate) absent: f64,
    pub(crate) hidden: f64,
    pub(crate) churn: f64,
    pub(crate) slow: f64,
}

/// What a run does: who is there, how they behave, for how long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) sessions: usize,
    /// Technicians of each session. The first leads it, controls, and is steady where there are several.
    pub(crate) technicians: usize,
    /// Length of what is measured.
    pub(crate) window: Duration,
    pub(crate) tries: u32,
    pub(crate) seed: u64,
    pub(crate) transports: Transports,
    pub(crate) quic_share: f64,
    /// Over which sessions arrive, one after the other, whether or not those before them are there.
    pub(crate) ramp: Duration,
    pub(crate) scenery: Scenery,
    /// Pictures a second, of each customer; of recordings their own.
    pub(crate) fps: Range,
    /// Input events a second, of each technician who controls.
    pub(crate) inputs: Range,
    /// Customers answer each of them.
    pub(crate) answers: bool,
    pub(crate) shares: Shares,
    /// What slow technicians' lines take, in kbit/s.
    pub(crate) slow_kbit: Range,
    pub(crate) stay: Range,
    pub(crate) away: Range,
    /// Which share of all clients is killed and started again, and after how many seconds, over and over.
    pub(crate) drops: f64,
    pub(crate) drop_every: Range,
    /// When the relay is killed and started again, from the window's beginning.
    pub(crate) kills: Vec<Duration>,
    pub(crate) relay_cores: Option<Cores>,
    /// How much of its cores' time the relay may have, if not all.
    pub(crate) relay_share: Option<f64>,
    pub(crate) own_cores: Option<Cores>,
    /// All keys, with what holds where nothing was said.
    pub(crate) written: Written,
}

impl Plan {
    /// Whether something has to be lost on the way: then input that is gone is counted instead of being a failure.
    pub(crate) fn breaks(&self) -> bool {
        self.drops > 0.0 || !self.kills.is_empty()
    }

    /// The same with other numbers of sessions and technicians, for a step of a curve.
    pub(crate) fn sized(&self, sessions: usize, technicians: usize, transports: Transports) -> Self {
        Self { sessions, technicians, transports, ..self.clone() }
    }
}
