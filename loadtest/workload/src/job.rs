//! What is to be done, and what came of it: both travel between programs as JSON.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::system::Place;

/// Sessions, and what their ends send.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Sessions, each with a customer.
    pub sessions: u32,
    /// Technicians of each. The first one sends input.
    pub technicians: u32,
    /// The last technician of each is behind a slow link.
    pub slow: bool,
    /// Bytes of a frame.
    pub frame_bytes: u32,
    /// When customers send frames.
    pub frames: Frames,
    /// Input events a second of each session.
    pub inputs_per_second: f64,
    /// Bytes of an input event.
    pub input_bytes: u32,
}

/// When frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frames {
    /// Never.
    None,
    /// So many a second, of each customer.
    PerSecond(f64),
    /// One after the other, as fast as they go.
    Saturate,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What is asked.
    pub shape: Shape,
    /// Length of what is measured, in seconds.
    pub seconds: f64,
    /// From the last pairing to what is measured, in seconds.
    pub settle: f64,
    /// The relay's process, whose descendants count too; none: there is no relay.
    pub relay: Option<u32>,
    /// How the relay is reached by those beside it.
    pub near: Way,
    /// How it is reached by a technician behind a slow link.
    pub far: Option<Way>,
    /// A file that is made when what is measured begins, for who waits for that.
    #[serde(default)]
    pub begun: Option<PathBuf>,
    /// What the system needs to know beside that.
    #[serde(default)]
    pub settings: serde_json::Value,
}

impl Job {
    /// Where this technician is.
    #[must_use]
    pub fn place(&self, technician: u32) -> Place {
        let is_slow = self.shape.slow && technician + 1 == self.shape.technicians;
        if is_slow { Place::Far } else { Place::Near }
    }

    /// How the relay is reached from there.
    #[must_use]
    pub fn way(&self, place: Place) -> &Way {
        match place {
            Place::Near => &self.near,
            Place::Far => self.far.as_ref().unwrap_or(&self.near),
        }
    }
}

/// How a relay is reached.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Way {
    /// The relay's address, or URL.
    pub relay: String,
    /// Where technicians listen, if the relay calls them.
    #[serde(default)]
    pub listen: Option<String>,
    /// The network namespace of those who reach it so; none: ours.
    #[serde(default)]
    pub namespace: Option<PathBuf>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Length of what was measured, in seconds.
    pub seconds: f64,
    /// Bytes of frames and input that arrived in it.
    pub delivered_bytes: u64,
    /// Frames that were due in it, of all streams; in what saturates those that were sent.
    pub frames_due: u64,
    /// Of those the ones that were not sent, since newer ones were due before they could be.
    pub frames_skipped: u64,
    /// Arrivals of the others at technicians, however late.
    pub frames: u64,
    /// Arrivals that were still missing when nothing more had come for some seconds after the end.
    pub frames_lost: u64,
    /// Input events that were due in it, and how many of those arrived.
    pub inputs: u64,
    /// See `inputs`.
    pub inputs_arrived: u64,
    /// Input events that the system gave up, and said so.
    pub inputs_given_up: u64,
    /// Bytes of frames that customers sent, in streams of their first technician's; `None`: there were none.
    pub uploads: Option<f64>,
    /// What the relay took; `None`: there was none, or nobody looked.
    pub relay: Option<RelayCost>,
    /// Pairing all sessions took so long, in seconds.
    pub pairing_s: f64,
    /// This program's processor time in what was measured, in seconds.
    pub generator_cpu_s: f64,
    /// What other programs than this one and the relay took of the processors in it, in seconds.
    pub others_cpu_s: f64,
    /// How much later than that this program noticed that something was due.
    pub generator_late_ms: Option<Quantiles>,
    /// From when input was due until it arrived.
    pub input_ms: Option<Quantiles>,
    /// From when a frame was due until it arrived at a technician beside the relay.
    pub near_age_ms: Option<Quantiles>,
    /// The same behind the slow link.
    pub far_age_ms: Option<Quantiles>,
    /// What went wrong, in words; the first few.
    pub failures: Vec<String>,
    /// How often something went wrong.
    pub failed: u64,
}

/// What a relay took of the computer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelayCost {
    /// Processor time in what was measured, in seconds.
    pub cpu_s: f64,
    /// Of that, outside of the kernel. Coarse: the kernel tells it in hundredths of a second.
    pub user_s: f64,
    /// Processor time of pairing all sessions, in seconds.
    pub pairing_cpu_s: f64,
    /// Memory before the first connection, and at the end of what was measured.
    pub rss_before: u64,
    /// See `rss_before`.
    pub rss_after: u64,
}

/// Points of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are.
    pub p99: f64,
    /// 999 of 1000 are.
    pub p999: f64,
}

impl Quantiles {
    /// In milliseconds, of microseconds; of nothing: `None`.
    pub(crate) fn of(histogram: &hdrhistogram::Histogram<u64>) -> Option<Self> {
        let ms = |share| histogram.value_at_quantile(share) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self { p50: ms(0.5), p99: ms(0.99), p999: ms(0.999) })
    }
}

pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
