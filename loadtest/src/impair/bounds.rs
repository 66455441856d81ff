//! What the figures are held against: bounds on age, lateness, use of the path and recovery, and a table that says for each
//! whether it was met, or by how much not.

use std::fmt::Write as _;

use serde_json::Value;

use super::report::Line;

/// A figure and its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The same in every line that has this bound.
    pub(super) name: &'static str,
    /// `None`: it was not seen at all.
    pub(super) value: Option<f64>,
    pub(super) limit: Limit,
}

/// Where a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    Most(f64),
    Least(f64),
}

use Limit::{Least, Most};

/// The slow line of w5, 2 Mbit/s, in screens of noise, 15 pictures of 40 KiB a second.
const W5_SLOW: f64 = 0.41;

impl Verdict {
    pub(super) fn is_met(&self) -> bool {
        self.miss() <= 0.0
    }

    /// The share of the limit by which it is missed; what was not seen is the worst.
    fn miss(&self) -> f64 {
        self.value.map_or(f64::INFINITY, |value| match self.limit {
            Most(limit) => (value - limit) / limit,
            Least(limit) => (limit - value) / limit,
        })
    }
}

/// Every bound that the line's conditions have, with what was measured.
pub(super) fn verdicts(line: &Line) -> Vec<Verdict> {
    match line.preset.as_deref() {
        None => of_cell(line),
        Some(preset) => of_preset(line, preset),
    }
}

fn of_cell(line: &Line) -> Vec<Verdict> {
    let conditions = &line.conditions;
    let one_way = conditions.delay_ms * if conditions.side == "both" { 2.0 } else { 1.0 };
    let round_trip = 2.0 * one_way;
    // Noise always has something to send, and has the path for itself.
    let fills = conditions.source == "noise" && line.with_file.is_none();
    let input = line.input_ms.map(|input| input.p99);
    let mut found = Vec::new();
    let mut hold = |name, value, limit| found.push(Verdict { name, value, limit });
    if conditions.loss == 0.0 {
        if fills {
            let beside = if conditions.rate_mbit >= 5.0 { 300.0 } else { 1000.0 };
            let age = line.screen_age_ms.map(|age| age.p99);
            hold("screen age p99, no loss, ms", age, Most(one_way + beside));
            hold("goodput, no loss, Mbit/s", Some(line.goodput_mbit), Least(0.8 * conditions.rate_mbit));
        }
        let beside = if conditions.transport == "quic" { 15.0 } else { 30.0 };
        hold("input p99, no loss, ms", input, Most(one_way + beside));
    } else {
        if let Some(bulk) = line.bulk_mbit.filter(|_| fills) {
            hold("goodput, loss, Mbit/s", Some(line.goodput_mbit), Least(0.9 * bulk));
        }
        hold("input p99, loss, ms", input, Most(one_way + 1.5 * round_trip + 30.0));
    }
    hold("recovery, ms", line.recovery_ms, Most(1000.0 + round_trip));
    found
}

fn of_preset(line: &Line, preset: &str) -> Vec<Verdict> {
    let noise = line.conditions.source == "noise";
    let (screen, arrival) = (line.screen_age_ms, line.arrival_age_ms);
    let more = |name: &str, path: &str| line.more.get(name)?.pointer(path).and_then(Value::as_f64);
    let change = || more("screen_p99_change_percent", "");
    let of = |name, value, limit| Verdict { name, value, limit };
    match preset {
        "w4" => {
            let ages = if noise {
                [
                    of("w4, age on arrival p50, ms", arrival.map(|age| age.p50), Most(300.0)),
                    of("w4, age on arrival p99, ms", arrival.map(|age| age.p99), Most(500.0)),
                ]
            } else {
                [
                    of("w4, screen age p50, ms", screen.map(|age| age.p50), Most(200.0)),
                    of("w4, screen age p99, ms", screen.map(|age| age.p99), Most(400.0)),
                ]
            };
            let limit = if line.conditions.transport == "quic" { 45.0 } else { 55.0 };
            let input = of("w4, input p99, ms", line.input_ms.map(|input| input.p99), Most(limit));
            [&ages[..], &[input]].concat()
        }
        "w5" => vec![
            // A tenth of one for starts and what is sent for whoever is slow. Of noise no rendition is smaller than another: what
            // the slow one's line takes comes on top.
            of("w5, uploads", more("uploads", ""), Most(if noise { 1.1 + W5_SLOW } else { 1.1 })),
            of("w5, the fast ones' age on arrival p50, ms", more("fast", "/arrival_age_ms/p50"), Most(0.5)),
            of("w5, the fast ones' age on arrival p99, ms", more("fast", "/arrival_age_ms/p99"), Most(1.5)),
        ],
        "join" => {
            let limit = if noise { 40.0 } else { 20.0 };
            let by_key = more("without_past", "/screen_p99_change_percent");
            vec![
                of("join, change of the controller's age p99, %", change(), Most(limit)),
                of("join without the past, change of the controller's age p99, %", by_key, Most(limit)),
            ]
        }
        "eight" => {
            let mut all = vec![of("eight, change of the fast ones' age p99, %", change(), Most(5.0))];
            if !noise {
                let age = screen.map(|age| age.p99);
                all.push(of("eight, the slow one's screen age p99, ms", age, Most(5000.0)));
            }
            all
        }
        _ => Vec::new(),
    }
}

/// For each bound: in how many lines it was met, and those where it was not, the worst first.
pub(super) fn table(lines: &[Line]) -> String {
    let mut bounds: Vec<(&str, Vec<(Verdict, &Line)>)> = Vec::new();
    for line in lines {
        for verdict in verdicts(line) {
            match bounds.iter_mut().find(|(name, _)| *name == verdict.name) {
                Some((_, all)) => all.push((verdict, line)),
                None => bounds.push((verdict.name, vec![(verdict, line)])),
            }
        }
    }
    let mut text = String::new();
    for (name, mut all) in bounds {
        let count = all.len();
        all.retain(|(verdict, _)| !verdict.is_met());
        all.sort_by(|(a, _), (b, _)| b.miss().total_cmp(&a.miss()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<45} met in {} of {count}", count - all.len());
        for (verdict, line) in all {
            let limit = match verdict.limit {
                Most(limit) => format!("at most {limit:.1}"),
                Least(limit) => format!("at least {limit:.1}"),
            };
            let value = verdict.value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:.1}"));
            let file = line.with_file.as_ref().map_or(String::new(), |way| format!(", file {way}"));
            let _ = writeln!(text, "    {value:>9} instead of {limit}: {}{file}", line.conditions);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Behind;
    use super::super::report::tests::line;
    use super::*;
    use crate::run::command::Binding;
    use serde_json::json;

    fn limits(line: &Line) -> Vec<(&'static str, Limit)> {
        verdicts(line).iter().map(|verdict| (verdict.name, verdict.limit)).collect()
    }

    #[test]
    fn bounds_follow_the_conditions() {
        let quic = line(Binding::Quic, Behind::Technician, 0.0);
        let all = [
            ("screen age p99, no loss, ms", Most(350.0)),
            ("goodput, no loss, Mbit/s", Least(4.0)),
            ("input p99, no loss, ms", Most(65.0)),
            ("recovery, ms", Most(1100.0)),
        ];
        assert_eq!(limits(&quic), all);
        assert!(verdicts(&quic).iter().all(Verdict::is_met));
        let both: Vec<_> =
            limits(&line(Binding::WebSocket, Behind::Both, 0.0)).iter().map(|of| of.1).collect();
        assert_eq!(both, [Most(400.0), Least(4.0), Most(130.0), Most(1200.0)]);
        let mut slow = quic;
        slow.conditions.rate_mbit = 1.0;
        assert_eq!(limits(&slow)[0].1, Most(1050.0));
        slow.with_file = Some("down".into());
        assert_eq!(limits(&slow)[..], all[2..], "a file takes its share of the path");
    }

    #[test]
    fn with_loss_a_bulk_transfer_is_the_reference() {
        let mut lossy = line(Binding::Quic, Behind::Customer, 0.01);
        lossy.bulk_mbit = Some(5.0);
        let input = ("input p99, loss, ms", Most(230.0));
        let all = [("goodput, loss, Mbit/s", Least(4.5)), input, ("recovery, ms", Most(1100.0))];
        assert_eq!(limits(&lossy), all);
        assert!(verdicts(&lossy)[0].is_met());
        lossy.bulk_mbit = Some(5.1);
        assert!(!verdicts(&lossy)[0].is_met());
    }

    #[test]
    fn presets_have_bounds_of_their_own() {
        let mut line = line(Binding::WebSocket, Behind::Technician, 0.0);
        line.preset = Some("w4".into());
        assert_eq!(
            limits(&line)[1..],
            [("w4, age on arrival p99, ms", Most(500.0)), ("w4, input p99, ms", Most(55.0))]
        );
        line.preset = Some("eight".into());
        line.conditions.source = "c-webscroll".into();
        line.more.insert("screen_p99_change_percent".into(), json!(5.1));
        let met: Vec<bool> = verdicts(&line).iter().map(Verdict::is_met).collect();
        assert_eq!(met, [false, true]);
        line.preset = Some("w5".into());
        line.more.insert("uploads".into(), json!(1.002));
        line.more.insert("fast".into(), json!({ "arrival_age_ms": { "p50": 0.5, "p99": 1.6 } }));
        let met: Vec<bool> = verdicts(&line).iter().map(Verdict::is_met).collect();
        assert_eq!(met, [true, true, false]);
        line.more.insert("uploads".into(), json!(1.4));
        assert!(!verdicts(&line)[0].is_met());
        line.conditions.source = "noise".into();
        assert!(verdicts(&line)[0].is_met());
    }

    #[test]
    fn the_table_says_by_how_much_a_bound_is_missed() {
        let good = line(Binding::Quic, Behind::Technician, 0.0);
        let mut bad = line(Binding::WebSocket, Behind::Customer, 0.0);
        (bad.goodput_mbit, bad.recovery_ms) = (3.5, None);
        let table = table(&[good, bad]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("met in 2 of 2"), "{table}");
        assert!(lines[1].contains("goodput") && lines[1].ends_with("met in 1 of 2"), "{table}");
        assert!(lines[2].contains("3.5 instead of at least 4.0: websocket, customer"), "{table}");
        assert!(lines[5].contains("nothing instead of at most 1100.0"), "{table}");
    }
}
