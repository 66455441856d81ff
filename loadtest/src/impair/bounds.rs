//! What the figures are held against: bounds on age, lateness, use of the path and recovery, and a table that says for each
//! whether it was met, or by how much not.

use std::fmt::Write as _;

use super::report::Line;

/// A figure and its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) bound: Bound,
    /// `None`: it was not seen at all.
    pub(super) value: Option<f64>,
    /// At most this, or of goodput at least.
    pub(super) limit: f64,
}

/// The bounds, in the table's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Without loss, noise: one-way delays + 300 ms from 5 Mbit/s up, + 1 s below.
    ScreenAge,
    /// Without loss: one-way delays + 15 ms over QUIC, + 30 ms over WebSocket.
    Input,
    /// Without loss, noise, no file beside it: 80 % of the rate.
    Goodput,
    /// With loss: 90 % of a bulk transfer alone.
    GoodputOfBulk,
    /// With loss: one-way delays + 1.5 round trips + 30 ms.
    InputWithLoss,
    /// A whole picture of after the black-out: 1 s + a round trip.
    Recovery,
}

impl Bound {
    const ALL: [Self; 6] = [
        Self::ScreenAge,
        Self::Input,
        Self::Goodput,
        Self::GoodputOfBulk,
        Self::InputWithLoss,
        Self::Recovery,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::ScreenAge => "screen age p99, no loss, ms",
            Self::Input => "input p99, no loss, ms",
            Self::Goodput => "goodput, no loss, Mbit/s",
            Self::GoodputOfBulk => "goodput, loss, Mbit/s",
            Self::InputWithLoss => "input p99, loss, ms",
            Self::Recovery => "recovery, ms",
        }
    }

    const fn is_least(self) -> bool {
        matches!(self, Self::Goodput | Self::GoodputOfBulk)
    }
}

impl Verdict {
    pub(super) fn is_met(&self) -> bool {
        self.value.is_some_and(|value| self.excess(value) <= 0.0)
    }

    /// How far beyond the bound a value is; negative: within.
    fn excess(&self, value: f64) -> f64 {
        if self.bound.is_least() { self.limit - value } else { value - self.limit }
    }

    /// The share of the limit by which it is missed; what was not seen is the worst.
    fn miss(&self) -> f64 {
        self.value.map_or(f64::INFINITY, |value| self.excess(value) / self.limit)
    }
}

/// Every bound that the line's conditions have, with what was measured.
pub(super) fn verdicts(line: &Line) -> Vec<Verdict> {
    let conditions = &line.conditions;
    let one_way = conditions.delay_ms * if conditions.side == "both" { 2.0 } else { 1.0 };
    let round_trip = 2.0 * one_way;
    let noise = conditions.source == "noise" && line.preset.is_none();
    let input = line.input_ms.map(|input| input.p99);
    let mut found = Vec::new();
    let mut hold = |bound, value, limit| found.push(Verdict { bound, value, limit });
    if conditions.loss == 0.0 {
        let beside = if conditions.transport == "quic" { 15.0 } else { 30.0 };
        if noise && line.with_file.is_none() {
            let age = if conditions.rate_mbit >= 5.0 { 300.0 } else { 1000.0 };
            hold(Bound::ScreenAge, line.screen_age_ms.map(|age| age.p99), one_way + age);
            hold(Bound::Goodput, Some(line.goodput_mbit), 0.8 * conditions.rate_mbit);
        }
        hold(Bound::Input, input, one_way + beside);
    } else {
        if let Some(bulk) = line.bulk_mbit.filter(|_| noise && line.with_file.is_none()) {
            hold(Bound::GoodputOfBulk, Some(line.goodput_mbit), 0.9 * bulk);
        }
        hold(Bound::InputWithLoss, input, one_way + 1.5 * round_trip + 30.0);
    }
    if line.preset.is_none() {
        hold(Bound::Recovery, line.recovery_ms, 1000.0 + round_trip);
    }
    found
}

/// For each bound: in how many lines it was met, and those where it was not, the worst first.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for bound in Bound::ALL {
        let of = |line| verdicts(line).into_iter().find(|verdict| verdict.bound == bound);
        let mut all: Vec<_> = lines.iter().filter_map(|line| Some((of(line)?, line))).collect();
        if all.is_empty() {
            continue;
        }
        let count = all.len();
        all.retain(|(verdict, _)| !verdict.is_met());
        all.sort_by(|(a, _), (b, _)| b.miss().total_cmp(&a.miss()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<30} met in {} of {count}", bound.name(), count - all.len());
        for (verdict, line) in all {
            let limit = verdict.limit;
            let than = if bound.is_least() { "at least" } else { "at most" };
            let value = verdict.value.map_or("nothing".to_owned(), |value| format!("{value:.1}"));
            let _ = writeln!(text, "    {value:>9} instead of {than} {limit:.1}: {}", line.conditions);
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

    fn limits(line: &Line) -> Vec<(Bound, f64)> {
        verdicts(line).iter().map(|verdict| (verdict.bound, verdict.limit)).collect()
    }

    #[test]
    fn bounds_follow_the_conditions() {
        let quic = line(Binding::Quic, Behind::Technician, 0.0);
        let all = [
            (Bound::ScreenAge, 350.0),
            (Bound::Goodput, 4.0),
            (Bound::Input, 65.0),
            (Bound::Recovery, 1100.0),
        ];
        assert_eq!(limits(&quic), all);
        assert!(verdicts(&quic).iter().all(Verdict::is_met));
        let both = line(Binding::WebSocket, Behind::Both, 0.0);
        assert_eq!(limits(&both)[0], (Bound::ScreenAge, 400.0));
        assert_eq!(limits(&both)[2..], [(Bound::Input, 130.0), (Bound::Recovery, 1200.0)]);
        let slow = |mut line: Line| {
            line.conditions.rate_mbit = 1.0;
            line
        };
        assert_eq!(limits(&slow(quic))[0], (Bound::ScreenAge, 1050.0));
    }

    #[test]
    fn with_loss_a_bulk_transfer_is_the_reference() {
        let mut lossy = line(Binding::Quic, Behind::Customer, 0.01);
        lossy.bulk_mbit = Some(4.8);
        let input = (Bound::InputWithLoss, 230.0);
        assert_eq!(limits(&lossy)[0].0, Bound::GoodputOfBulk);
        assert_eq!(limits(&lossy)[1..], [input, (Bound::Recovery, 1100.0)]);
        lossy.with_file = Some("up".into());
        assert_eq!(limits(&lossy)[0], input);
    }

    #[test]
    fn the_table_says_by_how_much_a_bound_is_missed() {
        let good = line(Binding::Quic, Behind::Technician, 0.0);
        let mut bad = line(Binding::WebSocket, Behind::Customer, 0.0);
        (bad.goodput_mbit, bad.recovery_ms) = (3.5, None);
        let table = table(&[good, bad]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("met in 2 of 2"), "{table}");
        assert!(lines[2].contains("goodput") && lines[2].ends_with("met in 1 of 2"), "{table}");
        assert!(lines[3].contains("3.5 instead of at least 4.0: websocket, customer"), "{table}");
        assert!(lines[5].contains("nothing instead of at most 1100.0"), "{table}");
    }
}
