//! Values of which each client draws its own: `20`, or `20..1000`.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::link::units;
use crate::link::way::Buffer;

/// From `low` to `high`, every value as likely as any other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// One value only.
    pub(crate) const fn only(value: f64) -> Self {
        Self { low: value, high: value }
    }

    pub(crate) const fn low(self) -> f64 {
        self.low
    }

    pub(crate) const fn high(self) -> f64 {
        self.high
    }

    /// Draws one.
    pub(crate) fn sample(self, rng: &mut impl Rng) -> f64 {
        if self.low == self.high { self.low } else { rng.random_range(self.low..=self.high) }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        match (number(low), number(high)) {
            (Some(low), Some(high)) if 0.0 <= low && low <= high => Ok(Self { low, high }),
            _ => Err(format!("{text:?} is neither a number nor a range: write 20 or 20..1000")),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}..{}", self.low, self.high)
        }
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.low == self.high { serializer.serialize_f64(self.low) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Range;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 20 or a range such as \"20..1000\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Range, E> {
                self.visit_f64(value as f64)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Range, E> {
                self.visit_f64(value as f64)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Range, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Range, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Sizes from `low` to `high` bytes; each doubling is as likely as any other, since small updates are more frequent than large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    low: u64,
    high: u64,
}

impl ByteRange {
    /// One size only.
    pub(crate) const fn only(bytes: u64) -> Self {
        Self { low: bytes, high: bytes }
    }

    pub(crate) const fn low(self) -> u64 {
        self.low
    }

    pub(crate) const fn high(self) -> u64 {
        self.high
    }

    /// Draws one.
    pub(crate) fn sample(self, rng: &mut impl Rng) -> u64 {
        if self.low == self.high {
            return self.low;
        }
        let doublings = rng.random_range((self.low.max(1) as f64).log2()..=(self.high as f64).log2());
        (doublings.exp2().round() as u64).clamp(self.low, self.high)
    }
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let bytes = |text: &str| match units::buffer(text.trim()) {
            Ok(Buffer::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        match (bytes(low), bytes(high)) {
            (Some(low), Some(high)) if low <= high => Ok(Self { low, high }),
            _ => Err(format!("{text:?} is neither a size nor a range: write 40KiB or 1KiB..64KiB")),
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: u64| match bytes {
            bytes if bytes > 0 && bytes.is_multiple_of(1024) => format!("{}KiB", bytes / 1024),
            bytes => format!("{bytes}B"),
        };
        f.write_str(&bytes(self.low))?;
        if self.low == self.high { Ok(()) } else { write!(f, "..{}", bytes(self.high)) }
    }
}

impl Serialize for ByteRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    proptest! {
        #[test]
        fn a_range_is_written_as_it_is_read_and_drawn_from_within(low in 0.0f64..1e6, more in 0.0f64..1e6, seed: u64) {
            let range = Range { low, high: low + more };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            let drawn = range.sample(&mut StdRng::seed_from_u64(seed));
            prop_assert!((range.low..=range.high).contains(&drawn));
        }

        #[test]
        fn sizes_are_written_as_they_are_read_and_drawn_from_within(low in 0u64..1 << 30, more in 0u64..1 << 30, seed: u64) {
            let range = ByteRange { low, high: low + more };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            let drawn = range.sample(&mut StdRng::seed_from_u64(seed));
            prop_assert!((range.low..=range.high).contains(&drawn));
        }

        #[test]
        fn nothing_that_is_typed_panics(text in ".{0,20}") {
            let _ = (text.parse::<Range>(), text.parse::<ByteRange>());
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "..", "5..1", "-1", "nan", "1..inf", "1-2"] {
            assert!(text.parse::<Range>().unwrap_err().contains("20..1000"), "{text}");
        }
        for text in ["", "12", "2KiB..1KiB", "1s"] {
            assert!(text.parse::<ByteRange>().unwrap_err().contains("1KiB..64KiB"), "{text}");
        }
    }

    #[test]
    fn small_sizes_are_as_frequent_as_large_ones() {
        let range: ByteRange = "1KiB..1MiB".parse().unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let small = (0..1000).filter(|_| range.sample(&mut rng) < 32 << 10).count();
        assert!((450..550).contains(&small), "half of the doublings: {small}");
    }
}
