//! Rates, sizes, times and shares as people type them: `20mbit`, `256KiB`, `100ms`, `1%`.

use std::time::Duration;

use super::way::{Buffer, Rate};

/// Longer times are slips of the finger, and would overflow sums.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// `20mbit`, `512kbit`, `1gbit`, `9600bit`: bits per second, in powers of 1000.
///
/// # Errors
/// What was expected instead.
pub fn rate(text: &str) -> Result<Rate, String> {
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    let bits = number_with_unit(text, &units).filter(|bits| (1.0..=1e12).contains(bits));
    bits.and_then(|bits| Rate::from_bits_per_second(whole(bits)))
        .ok_or_else(|| format!("{text:?} is no rate: write 20mbit, 512kbit or 9600bit"))
}

/// `100ms`, `2s`, `250us`.
///
/// # Errors
/// What was expected instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    number_with_unit(text, &units)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| *time <= DURATION_MAX)
        .ok_or_else(|| format!("{text:?} is no time: write 100ms, 2s or 250us"))
}

/// `10` or `0.5`: seconds without a unit, for options that have it in their name.
///
/// # Errors
/// What was expected instead.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| *time <= DURATION_MAX)
        .ok_or_else(|| format!("{text:?} is no number of seconds: write 10 or 0.5"))
}

/// `256KiB`, `64kB`, `1MiB`, `3000B`, or a time such as `500ms` at the link's rate.
///
/// # Errors
/// What was expected instead.
pub fn buffer(text: &str) -> Result<Buffer, String> {
    if let Ok(time) = duration(text) {
        return Ok(Buffer::Time(time));
    }
    let units = [("kib", 1024.0), ("mib", 1_048_576.0), ("kb", 1e3), ("mb", 1e6), ("b", 1.0)];
    number_with_unit(text, &units)
        .filter(|bytes| (0.0..=1e12).contains(bytes))
        .map(|bytes| Buffer::Bytes(whole(bytes)))
        .ok_or_else(|| format!("{text:?} is no buffer: write 256KiB, 3000B or 500ms"))
}

/// `0.01` or `1%`.
///
/// # Errors
/// What was expected instead.
pub fn share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    value
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is no share: write 0.01 or 1%"))
}

/// The number before one of the units, in the unit of factor 1. The longest unit that fits wins, in any case.
fn number_with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.to_ascii_lowercase();
    let (unit, factor) =
        units.iter().filter(|(unit, _)| text.ends_with(unit)).max_by_key(|(unit, _)| unit.len())?;
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// The nearest whole number of a value that was checked to be between 0 and 10¹².
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are checked by every caller"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_s_spellings_are_understood() {
        let bits = |text| rate(text).map(Rate::bits_per_second);
        assert_eq!(bits("20mbit"), Ok(20_000_000));
        assert_eq!(bits("28.8kbit"), Ok(28_800));
        assert_eq!(bits("1Gbit"), Ok(1_000_000_000));
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(buffer("256KiB"), Ok(Buffer::Bytes(262_144)));
        assert_eq!(buffer("3000B"), Ok(Buffer::Bytes(3000)));
        assert_eq!(buffer("500ms"), Ok(Buffer::Time(Duration::from_millis(500))));
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "mbit", "0bit", "-1mbit", "20", "20mbits", "nanmbit", "1e30gbit"] {
            assert!(rate(text).expect_err(text).contains("20mbit"), "{text}");
        }
        for text in ["", "ms", "-1ms", "100", "1e300s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "-1", "1s", "1e9", "nan"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for text in ["", "KiB", "12", "-3B"] {
            assert!(buffer(text).is_err(), "{text}");
        }
        for text in ["", "%", "1.5", "-0.1", "101%", "nan"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
