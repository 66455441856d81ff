//! Whether something grows: a straight line through samples, and how certain its slope is.

use serde::Serialize;

use super::rounded;

/// A slope and its standard error, in units an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) slope: f64,
    pub(crate) error: f64,
    pub(crate) mean: f64,
}

impl Fit {
    /// The line of least squares through (seconds, value). `None` of fewer than three points, or of points at one moment.
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        if points.len() < 3 {
            return None;
        }
        let hours = |seconds: f64| seconds / 3600.0;
        let mean_x = points.iter().map(|&(x, _)| hours(x)).sum::<f64>() / count;
        let mean = points.iter().map(|&(_, y)| y).sum::<f64>() / count;
        let (mut xx, mut xy) = (0.0, 0.0);
        for &(x, y) in points {
            xx += (hours(x) - mean_x).powi(2);
            xy += (hours(x) - mean_x) * (y - mean);
        }
        if xx <= f64::EPSILON * f64::EPSILON {
            return None;
        }
        let slope = xy / xx;
        let residual = |&(x, y): &(f64, f64)| y - mean - slope * (hours(x) - mean_x);
        let residuals: Vec<f64> = points.iter().map(residual).collect();
        let variance = residuals.iter().map(|residual| residual.powi(2)).sum::<f64>() / (count - 2.0);
        Some(Self { slope, error: (variance / xx).sqrt() * persistence(&residuals), mean })
    }
}

/// By how much an error is larger since each sample resembles the one before it: so many fewer of them are worth anything (the
/// effective sample size of a first-order autoregression).
fn persistence(residuals: &[f64]) -> f64 {
    let all: f64 = residuals.iter().map(|residual| residual.powi(2)).sum();
    let neighbours: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    if all <= 0.0 {
        return 1.0;
    }
    let resemblance = (neighbours / all).clamp(0.0, 0.99);
    ((1.0 + resemblance) / (1.0 - resemblance)).sqrt()
}

/// What was found out about something that must not grow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Growth {
    pub(crate) what: &'static str,
    pub(crate) mean: f64,
    pub(crate) per_hour: f64,
    /// Standard error of that.
    pub(crate) error: f64,
    /// More an hour than this would be too much.
    pub(crate) allowed: f64,
    /// It grows by more than is allowed.
    pub(crate) grows: bool,
}

/// Of a run the first part warms up: pools fill, arenas are taken.
const WARM_UP: f64 = 0.2;
/// An hour's growth that is none: this share of the mean, or a fixed floor if that is more.
const ALLOWED: f64 = 0.02;

impl Growth {
    /// In words.
    pub(crate) fn verdict(&self) -> &'static str {
        if self.grows {
            "GROWS"
        } else if self.per_hour > 2.0 * self.error {
            "grows by less than is allowed"
        } else {
            "does not grow"
        }
    }

    /// Judges samples of (seconds, value), of which the first fifth does not count. It grows if even the slope less twice its error is
    /// more than is allowed. `None`: too few samples.
    pub(crate) fn judge(what: &'static str, floor: f64, samples: &[(f64, f64)]) -> Option<Self> {
        let warm = samples.get((samples.len() as f64 * WARM_UP) as usize..)?;
        let fit = Fit::of(warm)?;
        let allowed = (fit.mean * ALLOWED).max(floor);
        Some(Self {
            what,
            mean: rounded(fit.mean, 1e2),
            per_hour: rounded(fit.slope, 1e2),
            error: rounded(fit.error, 1e2),
            allowed: rounded(allowed, 1e2),
            grows: fit.slope - 2.0 * fit.error > allowed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A value every second, with a fixed pattern of noise.
    fn samples(start: f64, per_hour: f64, noise: f64) -> Vec<(f64, f64)> {
        (0..1800)
            .map(|at| {
                (f64::from(at), start + per_hour * f64::from(at) / 3600.0 + noise * f64::from(at * 7 % 5 - 2))
            })
            .collect()
    }

    #[test]
    fn a_line_is_found_with_its_error() {
        let fit = Fit::of(&[(0.0, 1.0), (3600.0, 3.0), (7200.0, 5.0)]).unwrap();
        assert!((fit.slope - 2.0).abs() < 1e-9 && fit.error < 1e-9 && fit.mean == 3.0);
        // By hand: slope 1.5, residuals −1/2, 1, −1/2 at −1, 0, 1 hours: error √(1.5 / 1 / 2).
        let fit = Fit::of(&[(0.0, 0.0), (3600.0, 3.0), (7200.0, 3.0)]).unwrap();
        assert!((fit.slope - 1.5).abs() < 1e-9 && (fit.error - (0.75f64).sqrt()).abs() < 1e-9, "{fit:?}");
        assert_eq!(Fit::of(&[(0.0, 1.0), (1.0, 1.0)]), None);
        assert_eq!(Fit::of(&[(5.0, 1.0), (5.0, 2.0), (5.0, 3.0)]), None);
    }

    #[test]
    fn growth_is_told_from_noise_and_from_warming_up() {
        let judged = |samples: &[(f64, f64)]| Growth::judge("rss", 1e6, samples).unwrap();
        assert!(judged(&samples(5e7, 2e7, 1e5)).grows);
        assert!(!judged(&samples(5e7, 0.0, 4e6)).grows);
        let small = judged(&samples(5e7, 4e5, 0.0));
        assert_eq!(
            (small.grows, small.verdict()),
            (false, "grows by less than is allowed"),
            "less than the floor"
        );
        assert_eq!(judged(&samples(5e7, 2e7, 1e5)).verdict(), "GROWS");
        assert_eq!(judged(&samples(5e7, 0.0, 4e6)).verdict(), "does not grow");
        let mut warming = samples(5e7, 0.0, 1e5);
        warming.iter_mut().take(300).for_each(|(at, value)| *value *= *at / 300.0);
        assert!(!judged(&warming).grows);
        assert_eq!(Growth::judge("rss", 1.0, &[(0.0, 1.0), (1.0, 1.0)]), None);
    }

    #[test]
    fn samples_that_resemble_one_another_are_worth_less() {
        // The same 100 values twice over: once each on its own, once each for ten seconds.
        let noise = |at: u32| f64::from(at * 37 % 101 % 10);
        let alone: Vec<_> = (0..100).map(|at| (f64::from(at * 10), noise(at))).collect();
        let held: Vec<_> = (0..1000).map(|at| (f64::from(at), noise(at / 10))).collect();
        let (alone, held) = (Fit::of(&alone).unwrap(), Fit::of(&held).unwrap());
        assert!((0.8..1.5).contains(&(held.error / alone.error)), "{alone:?} {held:?}");
    }

    proptest! {
        #[test]
        fn the_slope_of_any_line_is_its_own(start in -1e6f64..1e6, per_hour in -1e6f64..1e6, count in 3usize..200) {
            let points: Vec<_> = (0..count).map(|at| (at as f64 * 30.0, start + per_hour * at as f64 / 120.0)).collect();
            let fit = Fit::of(&points).unwrap();
            prop_assert!((fit.slope - per_hour).abs() <= 1e-4 * per_hour.abs() + 1e-2, "{fit:?}");
        }
    }
}
