//! What lag is like across an impaired link: one customer and its technicians, each beside the relay or at the far end of an
//! emulated link, and how old their screens and how late their input are.
//!
//! - [`command`]: `tandem-loadtest impair`; `report`: what it prints; `bounds`: what the figures are held against;
//! - `scene`: links, a relay between them, and both ends of a session at them, through all that happens;
//! - `cell`: one pair under one set of conditions; `presets`: several technicians, a slow one or a late one among them.
//!
//! The ends, their screens and the measure of age are those of [`crate::run`]: everything is due at a fixed moment, and what is
//! late counts from then.

mod bounds;
mod cell;
pub mod command;
mod presets;
mod report;
mod scene;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tandem_codec::Size;

use crate::link::way::{Buffer, Rate, Shape};
use crate::run::screen::{CELL, Content, PACKED, Source};
use crate::run::trace::Trace;

/// Bytes of a picture of noise, unless more are needed.
pub(crate) const PICTURE_BYTES: u64 = 40 << 10;
/// Pictures of noise a second, of presets.
pub(crate) const PICTURES: f64 = 15.0;
/// How much more noise is offered than the link takes.
const OFFERED: f64 = 3.0;
/// Most pictures of noise a second.
const PICTURES_MAX: f64 = 60.0;

/// What a slow technician is behind, here and where relays are compared: 2 Mbit/s, of which [`PICTURES`] want 2.4 times as much.
pub(crate) fn slow_link() -> Shape {
    Shape {
        rate: Rate::from_bits_per_second(2_000_000).expect("not zero"),
        delay: Duration::from_millis(40),
        jitter: Duration::ZERO,
        loss: 0.0,
        buffer: Buffer::Bytes(256 << 10),
    }
}

/// Who is at a far end; the relay is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Behind {
    Technician,
    Customer,
    /// Each behind a link of its own
    Both,
}

impl Behind {
    const fn name(self) -> &'static str {
        match self {
            Self::Technician => "technician",
            Self::Customer => "customer",
            Self::Both => "both",
        }
    }

    /// Links between the two ends.
    const fn links(self) -> u32 {
        match self {
            Self::Technician | Self::Customer => 1,
            Self::Both => 2,
        }
    }
}

/// What a screen shows, and how often.
#[derive(Clone, Debug)]
struct Show {
    name: String,
    source: Arc<Source>,
    interval: Duration,
}

impl Show {
    /// Noise that is `OFFERED` times what a link takes, every pixel of it new in each picture.
    fn noise_for(rate: Rate, seed: u64) -> Self {
        let bytes_per_second = OFFERED * rate.bits_per_second() as f64 / 8.0;
        let pictures = (bytes_per_second / PICTURE_BYTES as f64).min(PICTURES_MAX);
        Self::noise((bytes_per_second / pictures) as u64, pictures, seed)
    }

    /// Pictures of noise of about so many bytes, so many a second.
    fn noise(bytes: u64, per_second: f64, seed: u64) -> Self {
        let source = Source::new(area(bytes), Content::Noise, u64::MAX, seed);
        let interval = Duration::from_secs_f64(1.0 / per_second);
        Self { name: "noise".to_owned(), source: Arc::new(source), interval }
    }

    /// A recording, at the speed at which it was made.
    fn trace(path: &Path) -> anyhow::Result<Self> {
        let trace = Trace::open(path)?;
        let (name, interval) = (trace.name().to_owned(), Duration::from_secs_f64(1.0 / trace.fps()));
        Ok(Self { name, source: Arc::new(Source::Recorded(trace)), interval })
    }

    /// A small picture that never changes.
    fn still() -> Self {
        let source = Source::new(Size { w: CELL, h: CELL }, Content::Cells, 0, 1);
        Self { name: "still".to_owned(), source: Arc::new(source), interval: Duration::from_secs(86_400) }
    }
}

/// A screen of about so many packed bytes: whole cells high, and about as wide.
fn area(bytes: u64) -> Size {
    let pixels = bytes / PACKED;
    let rows = (pixels.isqrt() / u64::from(CELL)).clamp(1, 64) as u16 * CELL;
    let columns = (pixels / u64::from(rows)).clamp(u64::from(CELL), 8192) as u16;
    Size { w: columns, h: rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_three_times_what_the_link_takes() {
        for mbit in [1, 2, 5, 20, 100] {
            let show = Show::noise_for(Rate::from_bits_per_second(mbit * 1_000_000).unwrap(), 1);
            let bytes = show.source.size().pixels() as f64 * PACKED as f64;
            let offered = bytes * 8.0 / show.interval.as_secs_f64() / 1e6;
            assert!((offered / (3.0 * mbit as f64) - 1.0).abs() < 0.02, "{offered} for {mbit}");
            assert!(show.interval >= Duration::from_secs_f64(1.0 / 60.1), "{:?}", show.interval);
            let all = show.source.cells();
            assert_eq!([show.source.changed(2).len(), show.source.changed(77).len()], [all; 2]);
        }
        assert_eq!(area(PICTURE_BYTES), Size { w: 213, h: 64 });
    }
}
