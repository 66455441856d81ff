//! `tandem-loadtest codec`: what recorded screens cost in bytes, CPU time and memory, each picture really decoded and compared.
//!
//! A recording is played as fast as this computer can. Times are CPU times of the one thread that does everything, each beside
//! a *reference*: a fixed, simple codec timed in the same run, so that ratios travel between machines. Lines and clocks are
//! reckoned, not waited for.

pub mod command;
mod line;
mod measure;
mod records;
mod reference;
mod report;
mod subject;

use std::time::Duration;

use tandem_codec::{EncoderOptions, Size};

use crate::link::way::Rate;

/// How the encoder is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The defaults.
    Lossless,
    /// With the video plane over it.
    Mixed,
    /// For slow processors.
    LowPower,
    /// For computers with little memory.
    LowMemory,
}

impl Mode {
    fn options(self, size: Size) -> EncoderOptions {
        let options = EncoderOptions::new(size);
        match self {
            Self::Lossless => options,
            Self::Mixed => EncoderOptions { video: true, ..options },
            Self::LowPower => options.low_power(),
            Self::LowMemory => options.low_memory(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Mixed => "mixed",
            Self::LowPower => "low-power",
            Self::LowMemory => "low-memory",
        }
    }
}

/// What is done with a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    /// The line that updates go over; `None`: one without end.
    pub(crate) rate: Option<Rate>,
    /// Pictures are sent whole, in updates of about so many bytes.
    pub(crate) update_bytes: Option<usize>,
    /// Time between the pictures that are encoded; `None`: all of them are.
    pub(crate) every: Option<Duration>,
    /// When somebody joins: a segment starts.
    pub(crate) segment_at: Option<Duration>,
    /// Whether the encoder is told where pictures differ.
    pub(crate) damage: bool,
}
