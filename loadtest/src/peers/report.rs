//! What `peers` prints: a line of JSON for each run, and one for the medians of several.

use serde::Serialize;
use serde_json::{Value, json};
use tandem_workload::{Frames, Outcome, RelayCost, Shape};

use super::systems::System;
use super::workload::Workload;
use crate::report::medians::{Object, object, of_tries};
use crate::report::{GIB, rounded};

/// Per cent of the load's core from which it, not the relay, is what is measured.
const FULL: f64 = 95.0;
/// Milliseconds by which the load may be late itself (99 %) before that is what is measured.
const LATE_MS: f64 = 10.0;
/// Per cent of a core that other programs may take before a run counts as disturbed.
const DISTURBED: f64 = 25.0;

/// A run, or the medians of several.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line(Object);

impl Line {
    /// What a run has shown.
    pub(super) fn new(
        system: System,
        workload: Workload,
        number: u32,
        shape: &Shape,
        outcome: &Outcome,
    ) -> Self {
        let mut line = head(system, workload, shape, number);
        line.append(&mut figures(workload, shape, outcome));
        Self(line)
    }

    /// Our own screens across the slow link, as `impair` has measured them with the codec.
    pub(super) fn coded(
        system: System,
        workload: Workload,
        number: u32,
        shape: &Shape,
        seen: &Value,
    ) -> Self {
        let mut line = head(system, workload, shape, number);
        // Of several technicians, those beside the relay.
        let ages = seen.get("fast").unwrap_or(seen);
        for key in ["screen_age_ms", "arrival_age_ms"] {
            line.insert(key.to_owned(), ages[key].clone());
        }
        line.insert("input_ms".to_owned(), seen["input_ms"].clone());
        // Of several technicians it is told of one, which is not what they all got.
        let mbit = seen["goodput_mbit"].as_f64().filter(|_| shape.technicians == 1);
        line.extend(mbit.map(|mbit| ("gbit_per_s".to_owned(), json!(rounded(mbit / 1e3, 1e6)))));
        // Of one technician, who is slow, nobody knows what one that keeps up would have got.
        line.extend(seen.get("uploads").map(|uploads| ("uploads".to_owned(), uploads.clone())));
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
    pub(super) fn failed(system: System, workload: Workload, number: u32, shape: &Shape) -> Self {
        let mut line = head(system, workload, shape, number);
        line.insert("failures".to_owned(), json!(1));
        Self(line)
    }

    /// The medians of several runs of the same; of failures the sum, and what was true of one is said.
    pub(super) fn median(runs: &[Self]) -> Option<Self> {
        of_tries(&runs.iter().map(|run| &run.0).collect::<Vec<_>>()).map(Self)
    }

    pub(super) fn failures(&self) -> u64 {
        self.0.get("failures").and_then(Value::as_u64).unwrap_or_default()
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

fn head(system: System, workload: Workload, shape: &Shape, number: u32) -> Object {
    object(json!({
        "schema": 2,
        "kind": "peers",
        "system": system.name(),
        "workload": workload.name(),
        "sessions": shape.sessions,
        "technicians": shape.sessions * shape.technicians,
        "try": number,
    }))
}

fn figures(workload: Workload, shape: &Shape, outcome: &Outcome) -> Object {
    let core = |cpu: f64| core_pct(cpu, outcome.seconds);
    let sessions = f64::from(shape.sessions);
    let generator = core(outcome.generator_cpu_s);
    let mut line = object(json!({
        "generator_core_pct": generator,
        "pairs_per_s": rounded(sessions / outcome.pairing_s, 1e1),
        "failures": outcome.failed,
    }));
    if let Some(cost) = &outcome.relay {
        line.append(&mut relay(cost, outcome, sessions));
    }
    if workload != Workload::Idle {
        let bits = outcome.delivered_bytes as f64 * 8.0 / outcome.seconds;
        line.insert("gbit_per_s".to_owned(), json!(rounded(bits / 1e9, 1e4)));
    }
    if shape.frames != Frames::None {
        line.append(&mut frames(shape, outcome));
    }
    if shape.inputs_per_second > 0.0 {
        line.insert("input_ms".to_owned(), json!(outcome.input_ms));
    }
    line.extend(outcome.generator_late_ms.map(|late| ("generator_late_ms".to_owned(), json!(late))));
    let late = outcome.generator_late_ms.is_some_and(|late| late.p99 > LATE_MS);
    let relay_is_full = outcome.relay.is_some_and(|cost| core(cost.cpu_s) >= FULL);
    if late || (generator >= FULL && !relay_is_full) {
        line.insert("bottleneck".to_owned(), json!("generator"));
    }
    // A relay that was started again is no stranger, but nobody looked at what it took.
    if workload != Workload::Restart {
        line.insert("others_core_pct".to_owned(), json!(core(outcome.others_cpu_s)));
        if core(outcome.others_cpu_s) > DISTURBED {
            line.insert("disturbed".to_owned(), json!(true));
        }
    }
    line
}

/// So much processor time in so many seconds, in per cent of a core.
fn core_pct(cpu: f64, seconds: f64) -> f64 {
    rounded(cpu / seconds * 100.0, 1e2)
}

/// What the relay took.
fn relay(cost: &RelayCost, outcome: &Outcome, sessions: f64) -> Object {
    let rss = cost.rss_after.saturating_sub(cost.rss_before);
    let mut line = object(json!({
        "relay_core_pct": core_pct(cost.cpu_s, outcome.seconds),
        "relay_user_pct": core_pct(cost.user_s, outcome.seconds),
        "pair_cpu_ms": rounded(cost.pairing_cpu_s / sessions * 1e3, 1e3),
        "rss_bytes_per_session": (rss as f64 / sessions).round(),
    }));
    let gib = outcome.delivered_bytes as f64 / GIB;
    if gib > 0.0 {
        line.insert("relay_cpu_s_per_gib".to_owned(), json!(rounded(cost.cpu_s / gib, 1e3)));
    }
    line
}

/// What became of frames.
fn frames(shape: &Shape, outcome: &Outcome) -> Object {
    // Of one behind the link that is the question, of several the others.
    let is_far = shape.slow && shape.technicians == 1;
    let ages = if is_far { outcome.far_age_ms } else { outcome.near_age_ms };
    let skipped = outcome.frames_skipped as f64 / outcome.frames_due.max(1) as f64 * 100.0;
    let mut line = object(json!({
        "arrival_age_ms": ages,
        "frames_skipped_pct": rounded(skipped, 1e1),
        "frames_arrived": outcome.frames,
        "frames_lost": outcome.frames_lost,
    }));
    line.extend(outcome.uploads.map(|uploads| ("uploads".to_owned(), json!(rounded(uploads, 1e3)))));
    line
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
        let (sessions, technicians) = (&self.0["sessions"], &self.0["technicians"]);
        let who =
            if sessions == technicians { sessions.to_string() } else { format!("{sessions}:{technicians}") };
        write!(f, "{:<16} {:<15} {who:>7} ", self.text("system"), self.text("workload"))?;
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
            ("skipped", "%", &["frames_skipped_pct"]),
            ("lost", "", &["frames_lost"]),
            ("uploads", "", &["uploads"]),
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

    fn outcome(number: u32, cpu: f64, failed: u64) -> Outcome {
        let quantiles = tandem_workload::job::Quantiles { p50: cpu, p99: cpu * 2.0, p999: cpu * 3.0 };
        let relay =
            RelayCost { cpu_s: cpu, user_s: 0.0, pairing_cpu_s: 0.1, rss_before: 1000, rss_after: 101_000 };
        Outcome {
            seconds: 10.0,
            delivered_bytes: 1 << 30,
            frames_due: 1000,
            frames_skipped: 100,
            frames: 890,
            frames_lost: 10,
            uploads: Some(1.0),
            relay: Some(relay),
            pairing_s: 2.0,
            generator_cpu_s: if failed > 0 { 9.9 } else { 1.0 },
            others_cpu_s: 3.0,
            input_ms: Some(quantiles),
            near_age_ms: (number > 1).then_some(quantiles),
            failed,
            ..Outcome::default()
        }
    }

    fn told(workload: Workload, number: u32, outcome: &Outcome) -> Line {
        Line::new(System::TandemQuic, workload, number, &workload.shape(100), outcome)
    }

    fn line(number: u32, cpu: f64, failed: u64) -> Line {
        told(Workload::Sessions, number, &outcome(number, cpu, failed))
    }

    fn value(line: &Line) -> Value {
        serde_json::to_value(line).unwrap()
    }

    #[test]
    fn a_line_has_the_keys_that_are_promised() {
        let value = value(&line(1, 0.5, 0));
        assert_eq!((&value["system"], &value["workload"]), (&json!("tandem-quic"), &json!("sessions")));
        assert_eq!((&value["sessions"], &value["technicians"]), (&json!(100), &json!(100)));
        assert_eq!((&value["relay_cpu_s_per_gib"], &value["relay_core_pct"]), (&json!(0.5), &json!(5.0)));
        assert_eq!((&value["rss_bytes_per_session"], &value["pair_cpu_ms"]), (&json!(1000.0), &json!(1.0)));
        assert_eq!((&value["gbit_per_s"], &value["frames_skipped_pct"]), (&json!(0.859), &json!(10.0)));
        assert_eq!((&value["frames_arrived"], &value["frames_lost"]), (&json!(890), &json!(10)));
        assert_eq!(value["uploads"], json!(1.0));
        assert_eq!(value["input_ms"]["p999"], json!(1.5));
        assert_eq!((&value["disturbed"], &value["others_core_pct"]), (&json!(true), &json!(30.0)));
        assert_eq!((value.get("bottleneck"), value.get("median")), (None, None));
    }

    #[test]
    fn technicians_of_a_fan_out_are_no_sessions_and_their_frames_are_told() {
        let value = value(&told(Workload::Subscribers, 1, &outcome(1, 0.5, 0)));
        assert_eq!((&value["sessions"], &value["technicians"]), (&json!(13), &json!(104)));
        assert_eq!(value["rss_bytes_per_session"], json!((100_000.0 / 13.0_f64).round()));
        assert_eq!((&value["frames_skipped_pct"], value.get("input_ms")), (&json!(10.0), None));
    }

    #[test]
    fn what_one_of_several_technicians_got_is_not_told_as_what_all_did() {
        let ages = json!({"screen_age_ms": {"p50": 1.0}, "arrival_age_ms": {"p50": 2.0}, "input_ms": null});
        let told = |workload: Workload, seen: Value| {
            value(&Line::coded(System::TandemQuic, workload, 1, &workload.shape(1), &seen))
        };
        let mut seen = ages.clone();
        seen["goodput_mbit"] = json!(1.5);
        let alone = told(Workload::SlowSubscriber, seen.clone());
        assert_eq!((&alone["gbit_per_s"], &alone["screen_age_ms"]["p50"]), (&json!(0.0015), &json!(1.0)));
        seen["fast"] = ages;
        let many = told(Workload::FanOut, seen);
        assert_eq!((many.get("gbit_per_s"), &many["arrival_age_ms"]["p50"]), (None, &json!(2.0)));
    }

    #[test]
    fn what_nobody_looked_at_is_not_told_as_zero() {
        let unwatched = Outcome { relay: None, ..outcome(1, 0.5, 0) };
        let value = value(&told(Workload::Restart, 1, &unwatched));
        let keys =
            ["relay_core_pct", "rss_bytes_per_session", "pair_cpu_ms", "relay_cpu_s_per_gib", "disturbed"];
        for key in keys.iter().chain(&["others_core_pct"]) {
            assert_eq!(value.get(key), None, "{key}");
        }
        assert_eq!(value["pairs_per_s"], json!(50.0));
    }

    #[test]
    fn medians_leave_outliers_out_and_add_failures_up() {
        let runs = [line(1, 0.5, 0), line(2, 9.0, 2), line(3, 0.7, 0)];
        let value = value(&Line::median(&runs).unwrap());
        assert_eq!((&value["relay_cpu_s_per_gib"], &value["failures"]), (&json!(0.7), &json!(2)));
        assert_eq!((&value["median"], value.get("try")), (&json!(true), None));
        // One had none; one was too slow itself, which is said.
        assert_eq!(value["arrival_age_ms"]["p50"], json!(4.85));
        assert_eq!(value["bottleneck"], json!("generator"));
        assert!(Line::median(&[]).is_none());
    }
}
