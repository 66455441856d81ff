//! What is asked of relays.

use tandem_workload::{Frames, Shape};

use crate::impair::{PICTURE_BYTES, PICTURES};

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Workload {
    /// One session, messages of 64 KiB as fast as they go
    Throughput,
    /// Sessions, each with 10 frames/s of 6 KiB and 20 input events/s of 32 bytes
    Sessions,
    /// Paired sessions in which nothing happens
    Idle,
    /// A technician behind 2 Mbit/s, 40 ms, 256 KiB of buffer; 15 frames/s of 40 KiB
    SlowSubscriber,
    /// Four technicians, one of them as in slow-subscriber
    FanOut,
    /// Ours: technicians of 2 Mbit/s each, eight to a customer
    Subscribers,
    /// Ours: what sessions feel when their relay is killed and started again
    Restart,
}

/// Technicians of a customer in `subscribers`.
const AUDIENCE: u32 = 8;

impl Workload {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Sessions => "sessions",
            Self::Idle => "idle",
            Self::SlowSubscriber => "slow-subscriber",
            Self::FanOut => "fan-out",
            Self::Subscribers => "subscribers",
            Self::Restart => "restart",
        }
    }

    /// Sessions unless somebody says otherwise; each number is a run.
    pub(super) const fn usual_sessions(self) -> &'static [u32] {
        match self {
            Self::Sessions => &[100, 500],
            Self::Idle => &[2000],
            Self::Subscribers => &[100, 200, 400, 800],
            Self::Restart => &[50],
            Self::Throughput | Self::SlowSubscriber | Self::FanOut => &[1],
        }
    }

    /// Whether somebody is behind a slow link.
    pub(super) const fn is_slow(self) -> bool {
        matches!(self, Self::SlowSubscriber | Self::FanOut)
    }

    /// Whether it asks what only ours does.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Subscribers | Self::Restart)
    }

    /// What is asked. `sessions` are technicians in `subscribers`.
    pub(super) const fn shape(self, sessions: u32) -> Shape {
        let shape = Shape {
            sessions,
            technicians: 1,
            slow: false,
            frame_bytes: 6 << 10,
            frames: Frames::None,
            inputs_per_second: 0.0,
            input_bytes: 32,
        };
        match self {
            Self::Idle => shape,
            Self::Throughput => Shape { frame_bytes: 64 << 10, frames: Frames::Saturate, ..shape },
            Self::Subscribers => Shape {
                sessions: sessions.div_ceil(AUDIENCE),
                technicians: if sessions < AUDIENCE { sessions } else { AUDIENCE },
                frame_bytes: 10 << 10,
                frames: Frames::PerSecond(25.0),
                ..shape
            },
            Self::Sessions | Self::Restart => {
                Shape { frames: Frames::PerSecond(10.0), inputs_per_second: 20.0, ..shape }
            }
            Self::SlowSubscriber | Self::FanOut => Shape {
                technicians: if matches!(self, Self::FanOut) { 4 } else { 1 },
                slow: true,
                frame_bytes: PICTURE_BYTES as u32,
                frames: Frames::PerSecond(PICTURES),
                inputs_per_second: 20.0,
                ..shape
            },
        }
    }
}
