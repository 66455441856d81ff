//! What `peers` prints: a line of JSON for each run, and one for the medians of several.

use serde_json::{Map, Value, json};
use tandem_workload::{Outcome, Shape};

use super::systems::System;
use super::workload::Workload;
use crate::report::{median, rounded};

const GIB: f64 = (1_u64 << 30) as f64;
/// Per cent of the load's core from which it, not the relay, is what is measured.
const FULL: f64 = 95.0;
/// Milliseconds by which the load may be late itself (99 %) before that is what is measured.
const LATE_MS: f64 = 10.0;
/// Per cent of a core that other programs may take before a run counts as disturbed.
const DISTURBED: f64 = 25.0;

/// A run, or the medians of several.
#[derive(Clone, Debug)]
pub(super) struct Line(Map<String, Value>);

impl Line {
    /// What a run has shown.
    pub(super) fn new(
        system: System,
        workload: Workload,
        number: u32,
        shape: &Shape,
        outcome: &Outcome,
    ) -> Self {
        let all = if workload == Workload::Subscribers { shape.technicians } else { 1 };
        let mut line = head(system, workload, shape.sessions * all, number);
        line.append(&mut figures(workload, shape, outcome));
        Self(line)
    }

    /// Our own screens across the slow link, as `impair` has measured them with the codec.
    pub(super) fn coded(system: System, workload: Workload, number: u32, seen: &Value) -> Self {
        let mut line = head(system, workload, 1, number);
        // Of several technicians, those beside the relay.
        let ages = seen.get("fast").unwrap_or(seen);
        for key in ["screen_age_ms", "arrival_age_ms"] {
            line.insert(key.to_owned(), ages[key].clone());
        }
        line.insert("input_ms".to_owned(), seen["input_ms"].clone());
        let mbit = seen["goodput_mbit"].as_f64().unwrap_or_default();
        line.insert("gbit_per_s".to_owned(), json!(rounded(mbit / 1e3, 1e6)));
        line.insert("uploads".to_owned(), seen.get("uploads").cloned().unwrap_or_else(|| json!(1.0)));
        let many = |key: &str| seen[key].as_array().map_or(0, Vec::len);
        if many("bottlenecks") > 0 {
            line.insert("bottleneck".to_owned(), seen["bottlenecks"].clone());
        }
        line.insert("failures".to_owned(), json!(many("failures")));
        Self(line)
    }

    /// The same with more figures.
    pub(super) fn with(mut self, figures: Value) -> Self {
        self.0.append(&mut object(figures));
        self
    }

    /// A run that failed as a whole.
    pub(super) fn failed(system: System, workload: Workload, number: u32, sessions: u32) -> Self {
        let mut line = head(system, workload, sessions, number);
        line.insert("failures".to_owned(), json!(1));
        Self(line)
    }

    /// The medians of all numbers of several runs of the same; of failures the sum, and what was true of one is said.
    pub(super) fn median(runs: &[Self]) -> Option<Self> {
        let mut line = Self(middle(&runs.iter().map(|run| &run.0).collect::<Vec<_>>())?);
        line.0.remove("try");
        line.0.insert("median".to_owned(), json!(true));
        line.0.insert("tries".to_owned(), json!(runs.len()));
        line.0.insert("failures".to_owned(), json!(runs.iter().map(Self::failures).sum::<u64>()));
        Some(line)
    }

    pub(super) fn failures(&self) -> u64 {
        self.0.get("failures").and_then(Value::as_u64).unwrap_or_default()
    }

    pub(super) fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

fn head(system: System, workload: Workload, sessions: u32, number: u32) -> Map<String, Value> {
    object(json!({
        "schema": 1,
        "kind": "peers",
        "system": system.name(),
        "workload": workload.name(),
        "sessions": sessions,
        "try": number,
    }))
}

fn figures(workload: Workload, shape: &Shape, outcome: &Outcome) -> Map<String, Value> {
    let core = |cpu: f64| rounded(cpu / outcome.seconds * 100.0, 1e2);
    let sessions = f64::from(shape.sessions);
    let (relay, generator) = (core(outcome.relay_cpu_s), core(outcome.generator_cpu_s));
    let mut line = object(json!({
        "relay_core_pct": relay,
        "relay_user_pct": core(outcome.relay_user_s),
        "generator_core_pct": generator,
        "others_core_pct": core(outcome.others_cpu_s),
        "pair_cpu_ms": rounded(outcome.pairing_relay_cpu_s / sessions * 1e3, 1e3),
        "pairs_per_s": rounded(sessions / outcome.pairing_s, 1e1),
        "failures": outcome.failed,
    }));
    let rss = outcome.relay_rss_after.saturating_sub(outcome.relay_rss_before);
    line.insert("rss_bytes_per_session".to_owned(), json!((rss as f64 / sessions).round()));
    if workload != Workload::Idle {
        let gib = outcome.delivered_bytes as f64 / GIB;
        let per_gib = rounded(outcome.relay_cpu_s / gib, 1e3);
        line.insert("relay_cpu_s_per_gib".to_owned(), json!((gib > 0.0).then_some(per_gib)));
        let bits = outcome.delivered_bytes as f64 * 8.0 / outcome.seconds;
        line.insert("gbit_per_s".to_owned(), json!(rounded(bits / 1e9, 1e4)));
        // Of one behind the link that is the question, of several the others.
        let ages = if shape.technicians > 1 { outcome.near_age_ms } else { outcome.far_age_ms };
        let ages = if shape.slow { ages } else { outcome.near_age_ms };
        line.insert("arrival_age_ms".to_owned(), json!(ages));
        line.insert("frames_per_s".to_owned(), json!(rounded(outcome.frames as f64 / outcome.seconds, 1e1)));
    }
    if shape.inputs_per_second > 0.0 {
        line.insert("input_ms".to_owned(), json!(outcome.input_ms));
        line.insert("generator_late_ms".to_owned(), json!(outcome.generator_late_ms));
        let due = outcome.frames + outcome.frames_skipped;
        let skipped = outcome.frames_skipped as f64 / due.max(1) as f64 * 100.0;
        line.insert("frames_skipped_pct".to_owned(), json!(rounded(skipped, 1e1)));
        line.insert("uploads".to_owned(), json!(outcome.uploads));
    }
    let late = outcome.generator_late_ms.is_some_and(|late| late.p99 > LATE_MS);
    if late || (generator >= FULL && relay < FULL) {
        line.insert("bottleneck".to_owned(), json!("generator"));
    }
    if core(outcome.others_cpu_s) > DISTURBED {
        line.insert("disturbed".to_owned(), json!(true));
    }
    line
}

/// The medians of numbers that have the same place, in whatever runs have them; of anything else the first.
fn middle(values: &[&Map<String, Value>]) -> Option<Map<String, Value>> {
    let mut all = Map::new();
    for (key, value) in values.iter().flat_map(|map| map.iter()) {
        if all.contains_key(key) {
            continue;
        }
        let same: Vec<&Value> = values.iter().filter_map(|map| map.get(key)).collect();
        let objects: Vec<_> = same.iter().filter_map(|value| value.as_object()).collect();
        let numbers: Vec<f64> = same.iter().filter_map(|value| value.as_f64()).collect();
        let middle = match () {
            () if !objects.is_empty() => Value::Object(middle(&objects)?),
            () if !numbers.is_empty() => {
                let middle = median(numbers);
                if value.is_u64() && middle.fract() == 0.0 { json!(middle as u64) } else { json!(middle) }
            }
            () => value.clone(),
        };
        all.insert(key.clone(), middle);
    }
    (!values.is_empty()).then_some(all)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |pointer: &[&str]| {
            let first = self.0.get(pointer[0])?;
            pointer[1..].iter().try_fold(first, |value, key| value.get(key))?.as_f64()
        };
        let name = match self.0.get("try") {
            Some(number) => format!("try {number}"),
            None => "median".to_owned(),
        };
        write!(f, "{:<16} {:<15} {:>5} ", self.text("system"), self.text("workload"), self.0["sessions"])?;
        write!(f, "{name:<6}")?;
        for (title, unit, pointer) in [
            ("relay", "%", &["relay_core_pct"][..]),
            ("", " s/GiB", &["relay_cpu_s_per_gib"]),
            ("", " Gbit/s", &["gbit_per_s"]),
            ("input p50", "", &["input_ms", "p50"]),
            ("p99", "", &["input_ms", "p99"]),
            ("p99.9", " ms", &["input_ms", "p999"]),
            ("age p50", "", &["arrival_age_ms", "p50"]),
            ("p99", " ms", &["arrival_age_ms", "p99"]),
            ("screen p50", "", &["screen_age_ms", "p50"]),
            ("p99", " ms", &["screen_age_ms", "p99"]),
            ("rss", " B", &["rss_bytes_per_session"]),
            ("pair", " ms", &["pair_cpu_ms"]),
            ("load", "%", &["generator_core_pct"]),
            ("others", "%", &["others_core_pct"]),
            ("failures", "", &["failures"]),
        ] {
            if let Some(number) = number(pointer) {
                write!(f, " {title}{}{number}{unit}", if title.is_empty() { "" } else { " " })?;
            }
        }
        for mark in ["bottleneck", "disturbed"] {
            if self.0.contains_key(mark) {
                write!(f, " ({mark})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, cpu: f64, failed: u64) -> Line {
        let quantiles = tandem_workload::job::Quantiles { p50: cpu, p99: cpu * 2.0, p999: cpu * 3.0 };
        let outcome = Outcome {
            seconds: 10.0,
            delivered_bytes: 1 << 30,
            frames: 900,
            frames_skipped: 100,
            relay_cpu_s: cpu,
            relay_rss_before: 1000,
            relay_rss_after: 101_000,
            pairing_s: 2.0,
            pairing_relay_cpu_s: 0.1,
            generator_cpu_s: if failed > 0 { 9.9 } else { 1.0 },
            input_ms: Some(quantiles),
            near_age_ms: (number > 1).then_some(quantiles),
            failed,
            ..Outcome::default()
        };
        let workload = Workload::Sessions;
        Line::new(System::TandemQuic, workload, number, &workload.shape(100), &outcome)
    }

    #[test]
    fn a_line_has_the_keys_that_are_promised() {
        let value: Value = serde_json::from_str(&line(1, 0.5, 0).json()).unwrap();
        assert_eq!((&value["system"], &value["workload"]), (&json!("tandem-quic"), &json!("sessions")));
        assert_eq!((&value["sessions"], &value["try"]), (&json!(100), &json!(1)));
        assert_eq!((&value["relay_cpu_s_per_gib"], &value["relay_core_pct"]), (&json!(0.5), &json!(5.0)));
        assert_eq!((&value["rss_bytes_per_session"], &value["pair_cpu_ms"]), (&json!(1000.0), &json!(1.0)));
        assert_eq!((&value["gbit_per_s"], &value["frames_skipped_pct"]), (&json!(0.859), &json!(10.0)));
        assert_eq!(value["input_ms"]["p999"], json!(1.5));
        assert_eq!((value.get("bottleneck"), value.get("median")), (None, None));
    }

    #[test]
    fn medians_leave_outliers_out_and_add_failures_up() {
        let runs = [line(1, 0.5, 0), line(2, 9.0, 2), line(3, 0.7, 0)];
        let value: Value = serde_json::from_str(&Line::median(&runs).unwrap().json()).unwrap();
        assert_eq!((&value["relay_cpu_s_per_gib"], &value["failures"]), (&json!(0.7), &json!(2)));
        assert_eq!((&value["median"], value.get("try")), (&json!(true), None));
        // One had none; one was too slow itself, which is said.
        assert_eq!(value["arrival_age_ms"]["p50"], json!(4.85));
        assert_eq!(value["bottleneck"], json!("generator"));
        assert!(Line::median(&[]).is_none());
    }
}
