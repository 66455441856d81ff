//! What a run has found out, and how it is told: as a line of JSON, a table for a terminal, and a page of HTML.
//!
//! - [`series`]: what was measured, as histograms of the whole window and of its parts; `fit`: whether something grows;
//! - `line`: all figures of a try; `medians`: of several tries; `table`: the same for people, and progress;
//! - `html`, `svg`: one page that needs nothing else; `curve`: how much a relay takes.

pub(crate) mod curve;
pub(crate) mod fit;
pub(crate) mod html;
pub(crate) mod line;
pub(crate) mod medians;
pub(crate) mod series;
mod svg;
pub(crate) mod table;

/// Bytes of a GiB.
pub(crate) const GIB: f64 = (1_u64 << 30) as f64;

/// A value with as many parts of a whole as it is to be told with.
pub(crate) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The middle one, or the mean of the middle two; of none 0.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values[..] {
        [] => 0.0,
        _ if values.len() % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
