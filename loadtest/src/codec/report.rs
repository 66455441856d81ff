//! What a recording has shown, as a line of JSON and as a row of a table.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::measure::Figures;
use crate::report::rounded;

/// One recording, or the total of several. Times are in ms of CPU time: means are over all pictures of the recording, also those
/// that were not encoded; `p99` and `max` over those that were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    schema: u32,
    kind: &'static str,
    mode: &'static str,
    trace: String,
    frames: usize,
    /// With headers, and 16 bytes of tag for each record.
    bytes: usize,
    first_update_bytes: usize,
    bytes_per_frame: f64,
    encode_ms: Spread,
    decode_ms: Spread,
    exact: bool,
    /// Luma, of what is shown as video; none of it: `null`.
    video_psnr_db: Option<f64>,
    /// From the screen's last change until it is shown exactly.
    worst_ms_to_exact: f64,
    /// Of the pixels that were sent.
    patch_share: Shares,
    encoder_bytes: usize,
    decoder_bytes: usize,
    reference_ms: f64,
    /// By how much updates exceed their budgets, if they have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    overshoot_bytes: Option<Overshoot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_start: Option<Start>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    p99: f64,
    max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Shares {
    copy: f64,
    strip: f64,
    med: f64,
    video: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Overshoot {
    updates: usize,
    p99: usize,
    max: usize,
}

/// What it costs that somebody joins. Of several recordings: bytes are sums, times the longest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Start {
    /// More bytes for those in step, to the end of the recording.
    bytes: i64,
    key_bytes: usize,
    key_ms: f64,
    streams_ms: f64,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Value below which a share of them is, the nearest one above.
fn quantile<T: Copy + Ord>(values: &[T], share: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied()
}

impl Spread {
    fn of(times: &[Duration], frames: usize) -> Self {
        let at = |share| rounded(ms(quantile(times, share).unwrap_or_default()), 1e3);
        let all = times.iter().sum::<Duration>();
        Self { mean: rounded(ms(all) / frames.max(1) as f64, 1e4), p99: at(0.99), max: at(1.0) }
    }
}

/// Of decibels, to a hundredth; none of none.
fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    (!values.is_empty()).then(|| rounded(sum / values.len() as f64, 1e2))
}

impl Line {
    pub(super) fn new(plan: &Plan, figures: &Figures) -> Self {
        let pixels = figures.pixels;
        let all = (pixels.copied + pixels.plain + pixels.edge + pixels.video).max(1) as f64;
        let share = |pixels: u64| rounded(pixels as f64 / all, 1e4);
        let reference = figures.reference.iter().sum::<Duration>();
        let overshoot = &figures.overshoot;
        let overshoot = quantile(overshoot, 0.99).zip(quantile(overshoot, 1.0)).map(|(p99, max)| Overshoot {
            updates: overshoot.len(),
            p99,
            max,
        });
        Self {
            schema: 1,
            kind: "codec",
            mode: plan.mode.name(),
            trace: figures.trace.clone(),
            frames: figures.frames,
            bytes: figures.bytes,
            first_update_bytes: figures.first_update_bytes,
            bytes_per_frame: rounded(figures.bytes_per_frame(), 1e1),
            encode_ms: Spread::of(&figures.encode, figures.frames),
            decode_ms: Spread::of(&figures.decode, figures.frames),
            exact: figures.exact,
            video_psnr_db: mean(&figures.video_psnr_db),
            worst_ms_to_exact: rounded(ms(figures.to_exact), 1e1),
            patch_share: Shares {
                copy: share(pixels.copied),
                strip: share(pixels.plain),
                med: share(pixels.edge),
                video: share(pixels.video),
            },
            encoder_bytes: figures.encoder_bytes,
            decoder_bytes: figures.decoder_bytes,
            reference_ms: rounded(ms(reference) / figures.frames.max(1) as f64, 1e4),
            overshoot_bytes: overshoot,
            segment_start: figures.started.zip(figures.start_bytes).map(|(started, bytes)| Start {
                bytes,
                key_bytes: started.key_bytes,
                key_ms: rounded(ms(started.key), 1e2),
                streams_ms: rounded(ms(started.streams), 1e2),
            }),
        }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }
}

/// The names of a row's columns.
pub(super) const TABLE_HEAD: &str = "trace               MB  kB/frame   encode ms: mean    p99    max  decode  reference  to exact ms  memory MB  exact";

/// A row of the table.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        write!(
            f,
            "{:<14} {:>7.3} {:>9.2} {:>17.3} {:>6.2} {:>6.2} {:>7.3} {:>10.3} {:>12.0} {:>4.0} + {:<3.0} {:>5}",
            self.trace,
            mb(self.bytes),
            self.bytes_per_frame / 1e3,
            self.encode_ms.mean,
            self.encode_ms.p99,
            self.encode_ms.max,
            self.decode_ms.mean,
            self.reference_ms,
            self.worst_ms_to_exact,
            mb(self.encoder_bytes),
            mb(self.decoder_bytes),
            if self.exact { "yes" } else { "NO" },
        )?;
        if let Some(over) = self.overshoot_bytes {
            write!(f, "  over budget by {} (p99), {} (max) in {} updates", over.p99, over.max, over.updates)?;
        }
        if let Some(start) = self.segment_start {
            let key = mb(start.key_bytes) * 1e3;
            write!(
                f,
                "  start {} bytes, {} ms; key {key:.0} kB, {} ms",
                start.bytes, start.streams_ms, start.key_ms
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Mode;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(quantile(&values, 0.99), Some(198));
        assert_eq!(quantile(&values, 1.0), Some(200));
        assert_eq!(quantile(&[7], 0.5), Some(7));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn the_line_has_every_key_that_is_promised() {
        let plan = Plan {
            mode: Mode::Lossless,
            rate: None,
            update_bytes: None,
            every: None,
            segment_at: None,
            damage: true,
        };
        let figures = Figures {
            frames: 4,
            encode: [1, 3].map(Duration::from_millis).to_vec(),
            pixels: tandem_codec::Pixels { copied: 3, plain: 1, ..Default::default() },
            ..Figures::default()
        };
        let json = serde_json::to_value(Line::new(&plan, &figures)).expect("JSON");
        for key in ["trace", "bytes", "first_update_bytes", "exact", "worst_ms_to_exact", "encoder_bytes"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["encode_ms"], serde_json::json!({"mean": 1.0, "p99": 3.0, "max": 3.0}));
        assert_eq!(json["patch_share"]["copy"], 0.75);
        assert!(json["video_psnr_db"].is_null());
        assert!(json.get("segment_start").is_none());
    }
}
