//! What is measured by many at once: histograms of bounded size for each kind of value, over the whole window and over its parts.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use super::rounded;

/// Parts of a window, at most; none is shorter than [`PART_MIN`].
const PARTS_MAX: u32 = 120;
const PART_MIN: Duration = Duration::from_millis(250);
/// Values count in µs; what takes longer than this counts as this.
const LONGEST_US: u64 = 3_600_000_000;
/// Decimal digits of a value that are kept: of the whole, and of a part.
const DIGITS: u8 = 3;
const DIGITS_OF_PART: u8 = 2;

/// What is measured. The slow have figures of their own, since theirs are their own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How old the screen is that a technician sees, sampled.
    ScreenAge,
    /// Of each update: from the capture of its picture until all of it had come.
    Screen,
    /// Of each input event: from when it was due until the customer had it.
    Input,
    /// Of each input event: from when it was due until the technician had an answer to it or to a later one, on the cursor's lane.
    Answer,
    /// From a technician's first attempt to join until it showed a whole picture.
    Join,
    /// The same of who came back: from leaving, dying or losing the relay, less the time for which it was away on purpose.
    Rejoin,
    SlowScreenAge,
    SlowScreen,
    /// How late this program itself did what was due in the window.
    Lateness,
    /// How late it let clients come, who are due before the window.
    JoinLateness,
}

impl Kind {
    /// How many there are.
    const COUNT: usize = Self::JoinLateness as usize + 1;

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::ScreenAge => "screen age",
            Self::Screen => "screen lane, on arrival",
            Self::Input => "input lane, one way",
            Self::Answer => "cursor lane, input answered",
            Self::Join => "join to picture",
            Self::Rejoin => "return to picture",
            Self::SlowScreenAge => "screen age, slow lines",
            Self::SlowScreen => "screen lane, slow lines",
            Self::Lateness => "this program's own lateness",
            Self::JoinLateness => "its lateness with joins",
        }
    }
}

/// A distribution's figures, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) count: u64,
}

impl Quantiles {
    /// Of none there are none.
    fn of(values: &Histogram<u64>) -> Option<Self> {
        let at = |share| ms(values.value_at_quantile(share));
        (!values.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(values.max()),
            count: values.len(),
        })
    }
}

fn ms(us: u64) -> f64 {
    rounded(us as f64 / 1e3, 1e3)
}

/// A part of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// Its middle, in seconds from the window's beginning.
    pub(crate) at: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One kind's values.
#[derive(Debug)]
struct Series {
    all: Histogram<u64>,
    parts: Vec<Histogram<u64>>,
}

/// What everybody in a try measures.
#[derive(Debug)]
pub(crate) struct Recorder {
    kinds: [Mutex<Series>; Kind::COUNT],
    window: OnceLock<Span>,
}

/// A window and its parts' length.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Instant,
    part: Duration,
    parts: usize,
}

fn histogram(digits: u8) -> Histogram<u64> {
    let mut histogram = Histogram::new(digits).expect("a number of digits that there is");
    histogram.auto(true);
    histogram
}

impl Default for Recorder {
    fn default() -> Self {
        let series = |_| Mutex::new(Series { all: histogram(DIGITS), parts: Vec::new() });
        Self { kinds: std::array::from_fn(series), window: OnceLock::new() }
    }
}

impl Recorder {
    /// Says when the window is. It happens once; values that came before are in no part of it.
    pub(crate) fn open(&self, start: Instant, window: Duration) {
        let part = (window / PARTS_MAX).max(PART_MIN);
        let parts = (window.as_secs_f64() / part.as_secs_f64()).ceil() as usize;
        let _ = self.window.set(Span { start, part, parts });
    }

    /// Adds a value that belongs to this moment.
    pub(crate) fn record(&self, kind: Kind, at: Instant, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(LONGEST_US).min(LONGEST_US);
        let part = self.window.get().and_then(|span| span.part_of(at));
        let mut series = self.kinds[kind as usize].lock();
        // Histograms grow to hold whatever is no longer than the longest.
        let _ = series.all.record(us);
        if let Some(part) = part {
            if series.parts.len() <= part {
                series.parts.resize_with(part + 1, || histogram(DIGITS_OF_PART));
            }
            let _ = series.parts[part].record(us);
        }
    }

    /// A kind's figures.
    pub(crate) fn quantiles(&self, kind: Kind) -> Option<Quantiles> {
        Quantiles::of(&self.kinds[kind as usize].lock().all)
    }

    /// Points of a kind's distribution: which share of all values, and the value in ms that so many do not exceed.
    pub(crate) fn distribution(&self, kind: Kind) -> Vec<(f64, f64)> {
        let series = self.kinds[kind as usize].lock();
        if series.all.is_empty() {
            return Vec::new();
        }
        let tail = [0.995, 0.999, 0.9995, 0.9999, 1.0];
        let shares = (0..100).map(|percent| f64::from(percent) / 100.0).chain(tail);
        shares.map(|share| (share, ms(series.all.value_at_quantile(share)))).collect()
    }

    /// How a kind went through the window. Parts without values are left out.
    pub(crate) fn parts(&self, kind: Kind) -> Vec<Part> {
        let Some(span) = self.window.get() else { return Vec::new() };
        let series = self.kinds[kind as usize].lock();
        let of = |(number, values): (usize, &Histogram<u64>)| {
            let Quantiles { p50, p99, .. } = Quantiles::of(values)?;
            Some(Part { at: (number as f64 + 0.5) * span.part.as_secs_f64(), p50, p99 })
        };
        series.parts.iter().enumerate().filter_map(of).collect()
    }
}

impl Span {
    fn part_of(&self, at: Instant) -> Option<usize> {
        let since = at.checked_duration_since(self.start)?;
        let part = (since.as_secs_f64() / self.part.as_secs_f64()) as usize;
        (part < self.parts).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn figures_are_those_of_the_values() {
        let recorder = Recorder::default();
        assert_eq!(recorder.quantiles(Kind::Input), None);
        let now = Instant::now();
        (1..=1000).for_each(|us| recorder.record(Kind::Input, now, Duration::from_micros(us)));
        let figures = recorder.quantiles(Kind::Input).unwrap();
        assert_eq!((figures.p50, figures.p90, figures.p99, figures.p999), (0.5, 0.9, 0.99, 0.999));
        assert_eq!((figures.max, figures.count), (1.0, 1000));
        assert_eq!(recorder.quantiles(Kind::Answer), None);
    }

    #[test]
    fn a_window_s_parts_are_told_apart_however_late_a_value_is_told() {
        let recorder = Recorder::default();
        let start = Instant::now();
        recorder.record(Kind::Screen, start, MS);
        recorder.open(start, Duration::from_secs(240));
        recorder.record(Kind::Screen, start + Duration::from_secs(239), 7 * MS);
        recorder.record(Kind::Screen, start + Duration::from_secs(1), 3 * MS);
        recorder.record(Kind::Screen, start + Duration::from_secs(240), 9 * MS);
        let parts = recorder.parts(Kind::Screen);
        let places: Vec<_> = parts.iter().map(|part| (part.at, part.p50.round())).collect();
        assert_eq!(places, [(1.0, 3.0), (239.0, 7.0)]);
        assert_eq!(recorder.quantiles(Kind::Screen).unwrap().count, 4);
    }

    #[test]
    fn what_takes_for_ever_is_bounded() {
        let recorder = Recorder::default();
        recorder.record(Kind::Join, Instant::now(), Duration::MAX);
        assert!(recorder.quantiles(Kind::Join).unwrap().max >= 3_590_000.0);
    }

    proptest! {
        #[test]
        fn a_quantile_is_what_so_many_do_not_exceed(mut values in proptest::collection::vec(1u64..100_000_000, 1..200)) {
            let recorder = Recorder::default();
            let now = Instant::now();
            values.iter().for_each(|&us| recorder.record(Kind::Input, now, Duration::from_micros(us)));
            values.sort_unstable();
            for (share, ms) in recorder.distribution(Kind::Input) {
                let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
                let exact = values[rank - 1] as f64 / 1e3;
                prop_assert!((ms / exact - 1.0).abs() < 0.002, "{ms} for {exact} at {share}");
            }
        }
    }
}
