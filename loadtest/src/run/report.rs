//! What a run prints: a line of JSON for each try and one for their medians, and the same for people.

use serde::Serialize;

use super::Plan;
use super::figures::Figures;

/// One try, or the medians of several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    schema: u32,
    kind: &'static str,
    transport: &'static str,
    pairs: usize,
    /// Number of the try, from 1; not in medians.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    try_number: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    median: bool,
    pictures_offered: u64,
    pictures_applied: u64,
    screen_age_ms: Ages,
    input_ms: Inputs,
    gbit_per_s: f64,
    failures: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ages {
    p50: f64,
    p99: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Inputs {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Line {
    /// What a try has shown.
    pub(super) fn new(plan: &Plan, transport: &'static str, try_number: u32, figures: &Figures) -> Self {
        let ages = |share| figures.ages.ms(share).unwrap_or_default();
        let inputs = |share| figures.inputs.ms(share).unwrap_or_default();
        let bits = figures.bytes as f64 * 8.0 / plan.window.as_secs_f64();
        Self {
            schema: 1,
            kind: "run",
            transport,
            pairs: plan.pairs,
            try_number: Some(try_number),
            median: false,
            pictures_offered: figures.offered,
            pictures_applied: figures.applied,
            screen_age_ms: Ages { p50: ages(0.5), p99: ages(0.99) },
            input_ms: Inputs { p50: inputs(0.5), p99: inputs(0.99), p999: inputs(0.999) },
            gbit_per_s: rounded(bits / 1e9, 1e6),
            failures: figures.failures.len(),
        }
    }

    /// The medians of tries of the same plan; of failures the sum.
    pub(super) fn median(tries: &[Self]) -> Option<Self> {
        let of = |value: fn(&Self) -> f64| median(tries.iter().map(value).collect());
        let first = tries.first()?.clone();
        Some(Self {
            try_number: None,
            median: true,
            pictures_offered: of(|line| line.pictures_offered as f64) as u64,
            pictures_applied: of(|line| line.pictures_applied as f64) as u64,
            screen_age_ms: Ages {
                p50: of(|line| line.screen_age_ms.p50),
                p99: of(|line| line.screen_age_ms.p99),
            },
            input_ms: Inputs {
                p50: of(|line| line.input_ms.p50),
                p99: of(|line| line.input_ms.p99),
                p999: of(|line| line.input_ms.p999),
            },
            gbit_per_s: of(|line| line.gbit_per_s),
            failures: tries.iter().map(|line| line.failures).sum(),
            ..first
        })
    }

    /// How often something went wrong.
    pub(super) fn failures(&self) -> usize {
        self.failures
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.try_number {
            Some(number) => write!(f, "try {number}: ")?,
            None => write!(f, "medians: ")?,
        }
        let Ages { p50, p99 } = self.screen_age_ms;
        write!(
            f,
            "{} × {}, pictures {} of {}, screen {p50} ms old (p99 {p99}), ",
            self.pairs, self.transport, self.pictures_applied, self.pictures_offered
        )?;
        let Inputs { p50, p99, p999 } = self.input_ms;
        write!(f, "input {p50} ms (p99 {p99}, p99.9 {p999}), ")?;
        write!(f, "{} Gbit/s, {} failures", self.gbit_per_s, self.failures)
    }
}

pub(crate) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The middle one, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::super::screen::{Content, Source};
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use tandem_client::Transport;
    use tandem_codec::Size;

    fn line(try_number: u32, bytes: u64, failures: usize) -> Line {
        let plan = Plan {
            pairs: 2,
            transport: Transport::Quic,
            source: Arc::new(Source::new(Size { w: 64, h: 64 }, Content::Cells, 1, 1)),
            interval: Duration::from_millis(100),
            window: Duration::from_secs(4),
            inputs_per_second: 20.0,
            window_log: 20,
            transfer: None,
        };
        let mut figures = Figures { offered: 80, applied: 79, bytes, ..Figures::default() };
        figures.failures = vec!["x".into(); failures];
        for us in 1..=1000 {
            figures.inputs.push(Instant::now(), Duration::from_micros(us * 10));
        }
        Line::new(&plan, "quic", try_number, &figures)
    }

    #[test]
    fn a_line_has_the_keys_that_are_promised() {
        let value = serde_json::to_value(line(1, 500_000_000, 3)).unwrap();
        assert_eq!(value["gbit_per_s"], 1.0);
        assert_eq!((&value["schema"], &value["kind"]), (&1.into(), &"run".into()));
        assert_eq!((&value["failures"], &value["try"]), (&3.into(), &1.into()));
        assert_eq!(value["input_ms"]["p999"].as_f64(), Some(9.99));
        assert!(value.get("median").is_none());
        for key in ["transport", "pairs", "pictures_offered", "pictures_applied"] {
            assert!(value.get(key).is_some(), "{key}");
        }
        for (key, inner) in [("screen_age_ms", "p50"), ("screen_age_ms", "p99"), ("input_ms", "p50")] {
            assert!(value[key][inner].is_f64(), "{key}.{inner}");
        }
    }

    #[test]
    fn medians_leave_outliers_out_and_add_failures_up() {
        let tries = [line(1, 1_000_000, 0), line(2, 90_000_000, 1), line(3, 2_000_000, 1)];
        let median = Line::median(&tries).unwrap();
        assert_eq!((median.gbit_per_s, median.failures), (0.004, 2));
        let value = serde_json::to_value(median).unwrap();
        assert_eq!(value["median"], true);
        assert!(value.get("try").is_none());
        assert_eq!(Line::median(&tries[..2]).unwrap().gbit_per_s, 0.091);
    }
}
