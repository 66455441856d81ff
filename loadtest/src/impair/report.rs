//! A line of figures, as JSON and for people.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Behind;
use super::scene::{Network, Played};
use crate::link::way::Shape;
use crate::report::rounded;
use crate::run::command::{Binding, TOLD_MAX};
use crate::run::figures::{Figures, Samples};
use crate::run::transfer::Direction;

/// Part of the window that an end may spend working before it is a bottleneck itself.
const BUSY_MAX: f64 = 0.7;
/// Part of the computer that this program may keep busy, so that enough is left for the relay.
const COMPUTER_MAX: f64 = 0.6;

/// Where two values of a distribution are, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Quantiles {
    /// Of these; of none: `None`.
    pub(super) fn of(samples: &Samples) -> Option<Self> {
        Some(Self { p50: samples.ms(0.5)?, p99: samples.ms(0.99)? })
    }
}

/// Under which conditions something was measured: of two lines with the same, one is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Conditions {
    pub(super) transport: String,
    pub(super) side: String,
    pub(super) rate_mbit: f64,
    pub(super) delay_ms: f64,
    pub(super) loss: f64,
    pub(super) buffer_ms: f64,
    pub(super) source: String,
}

impl Conditions {
    pub(super) fn new(binding: Binding, side: Behind, shape: &Shape, source: &str) -> Self {
        let buffer = shape.buffer.bytes_at(shape.rate);
        let rate = shape.rate.bits_per_second() as f64;
        Self {
            transport: binding.name().to_owned(),
            side: side.name().to_owned(),
            rate_mbit: rate / 1e6,
            delay_ms: shape.delay.as_secs_f64() * 1e3,
            loss: shape.loss,
            buffer_ms: rounded(buffer as f64 * 8e3 / rate, 1e1),
            source: source.to_owned(),
        }
    }
}

/// One line: a cell or a preset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) conditions: Conditions,
    /// Of the technician that the line is about: behind the link, or the one that controls.
    pub(super) screen_age_ms: Option<Quantiles>,
    pub(super) arrival_age_ms: Option<Quantiles>,
    pub(super) input_ms: Option<Quantiles>,
    pub(super) goodput_mbit: f64,
    pub(super) recovery_ms: Option<f64>,
    /// A bulk transfer alone on the same links, measured where there is loss.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) bulk_mbit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) with_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) file_mbit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) preset: Option<String>,
    pub(super) seconds: f64,
    /// What a preset says beside.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
    /// What makes these figures this program's rather than the relay's.
    pub(super) bottlenecks: Vec<String>,
    pub(super) failures: Vec<String>,
}

impl Line {
    /// What was seen of one technician, and of its input at the customer.
    pub(super) fn new(
        conditions: Conditions,
        window: Duration,
        technician: &Figures,
        customer: &Figures,
        transfer: Option<Direction>,
    ) -> Self {
        let file = match transfer {
            Some(Direction::Up) => Some(customer.file_bytes),
            Some(Direction::Down) => Some(technician.file_bytes),
            None => None,
        };
        let with_file = transfer.map(|direction| match direction {
            Direction::Up => "up".to_owned(),
            Direction::Down => "down".to_owned(),
        });
        Self {
            conditions,
            screen_age_ms: Quantiles::of(&technician.ages),
            arrival_age_ms: Quantiles::of(&technician.arrivals),
            input_ms: Quantiles::of(&customer.inputs),
            goodput_mbit: mbit(technician.bytes, window),
            recovery_ms: technician.recovery.map(|time| rounded(time.as_secs_f64() * 1e3, 1e1)),
            bulk_mbit: None,
            with_file,
            file_mbit: file.map(|bytes| mbit(bytes, window)),
            preset: None,
            seconds: window.as_secs_f64(),
            more: Map::new(),
            bottlenecks: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds what went wrong in a session, and what was too slow for it to count.
    pub(super) fn blame(&mut self, network: &Network, played: &Played) -> anyhow::Result<()> {
        let ends = || std::iter::once(&played.customer).chain(&played.technicians);
        let failures = ends().flat_map(|end| &end.failures).take(TOLD_MAX);
        self.failures.extend(failures.cloned());
        let window = played.window.end - played.window.start;
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        for (number, end) in ends().enumerate() {
            let share = end.busy.as_secs_f64() / window.as_secs_f64();
            if share > BUSY_MAX {
                let who =
                    if number == 0 { "the customer".into() } else { format!("technician {}", number - 1) };
                self.bottlenecks.push(format!("{who} was at work for {:.0} % of the time", share * 100.0));
            }
        }
        if played.cores > COMPUTER_MAX * cores {
            self.bottlenecks.push(format!("the ends kept {:.1} of {cores} cores busy", played.cores));
        }
        self.bottlenecks.extend(network.bottlenecks()?);
        Ok(())
    }
}

/// Bytes of a time as a rate.
pub(super) fn mbit(bytes: u64, time: Duration) -> f64 {
    rounded(bytes as f64 * 8.0 / time.as_secs_f64() / 1e6, 1e3)
}

/// The values of a time.
pub(super) fn quantiles(samples: &Samples, time: &Range<Instant>) -> Option<Quantiles> {
    Quantiles::of(&samples.within(time))
}

/// By how much, in percent, `with` is more than `without`.
pub(super) fn change(without: Option<f64>, with: Option<f64>) -> Option<f64> {
    let (without, with) = (without?, with?);
    (without > 0.0).then(|| rounded((with / without - 1.0) * 100.0, 1e1))
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, side, rate_mbit, delay_ms, loss, buffer_ms, source } = self;
        write!(f, "{transport}, {side} behind {rate_mbit} Mbit/s, {delay_ms} ms, ")?;
        if *loss > 0.0 {
            write!(f, "{} % lost, ", rounded(loss * 100.0, 1e3))?;
        }
        write!(f, "buffer {buffer_ms} ms, {source}")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(preset) = &self.preset {
            write!(f, "{preset}: ")?;
        }
        write!(f, "{}: ", self.conditions)?;
        let ages =
            [("screen", self.screen_age_ms), ("on arrival", self.arrival_age_ms), ("input", self.input_ms)];
        for (name, quantiles) in ages {
            match quantiles {
                Some(Quantiles { p50, p99 }) => write!(f, "{name} {p50:.1} / {p99:.1} ms, ")?,
                None => write!(f, "{name} -, ")?,
            }
        }
        write!(f, "{} Mbit/s", self.goodput_mbit)?;
        let rates = [("bulk alone", self.bulk_mbit), ("file", self.file_mbit)];
        for (name, rate) in rates.into_iter().filter_map(|(name, rate)| Some((name, rate?))) {
            write!(f, ", {name} {rate} Mbit/s")?;
        }
        if let Some(recovery) = self.recovery_ms {
            write!(f, ", recovered after {recovery} ms")?;
        }
        for (name, value) in &self.more {
            write!(f, ", {name} {value}")?;
        }
        for bottleneck in &self.bottlenecks {
            write!(f, "\n  not the relay's figures: {bottleneck}")?;
        }
        for failure in &self.failures {
            write!(f, "\n  failed: {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::link::way::{Buffer, Rate};

    /// 5 Mbit/s, 50 ms, half a second of buffer.
    pub(crate) fn line(binding: Binding, side: Behind, loss: f64) -> Line {
        let shape = Shape {
            rate: Rate::from_bits_per_second(5_000_000).unwrap(),
            delay: Duration::from_millis(50),
            jitter: Duration::ZERO,
            loss,
            buffer: Buffer::Time(Duration::from_millis(500)),
        };
        let mut technician = Figures { bytes: 11_250_000, ..Figures::default() };
        let mut customer = Figures::default();
        let now = Instant::now();
        for ms in 1..=100 {
            technician.ages.push(now, Duration::from_millis(200 + ms));
            technician.arrivals.push(now, Duration::from_millis(100 + ms));
            customer.inputs.push(now, Duration::from_micros(50_000 + ms * 100));
        }
        technician.recovery = Some(Duration::from_micros(750_040));
        let conditions = Conditions::new(binding, side, &shape, "noise");
        Line::new(conditions, Duration::from_secs(20), &technician, &customer, None)
    }

    #[test]
    fn a_line_begins_with_the_keys_that_are_promised_and_comes_back() {
        let line = line(Binding::Quic, Behind::Technician, 0.0);
        let text = serde_json::to_string(&line).unwrap();
        let promised = concat!(
            r#"{"transport":"quic","side":"technician","rate_mbit":5.0,"delay_ms":50.0,"loss":0.0,"buffer_ms":500.0,"#,
            r#""source":"noise","screen_age_ms":{"p50":250.0,"p99":299.0},"arrival_age_ms":{"p50":150.0,"p99":199.0},"#,
            r#""input_ms":{"p50":55.0,"p99":59.9},"goodput_mbit":4.5,"recovery_ms":750.0,"#,
        );
        assert!(text.starts_with(promised), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    #[test]
    fn what_was_not_seen_is_null() {
        let line = Line {
            screen_age_ms: Quantiles::of(&Samples::default()),
            recovery_ms: None,
            ..line(Binding::WebSocket, Behind::Both, 0.01)
        };
        let value = serde_json::to_value(&line).unwrap();
        assert!(value["screen_age_ms"].is_null() && value["recovery_ms"].is_null());
        assert!(line.to_string().contains("screen -, on arrival 150.0"), "{line}");
        assert!(line.to_string().contains("1 % lost"), "{line}");
    }

    #[test]
    fn a_change_is_relative() {
        assert_eq!(change(Some(50.0), Some(52.5)), Some(5.0));
        assert_eq!(change(None, Some(1.0)), None);
    }
}
