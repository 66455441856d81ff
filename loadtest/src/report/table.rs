//! The same for people: how a try goes on while it does, and its figures as a table.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use super::line::Line;
use super::series::{Kind, Quantiles, Recorder};
use crate::run::sampler::Sample;

/// A line that is written again and again, on a terminal only.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    written: bool,
}

impl Progress {
    /// On a terminal it is shown.
    pub(crate) fn new() -> Self {
        Self { shown: stderr().is_terminal(), written: false }
    }

    fn write(&mut self, text: &str) {
        if self.shown {
            // To the beginning of the line, over what was there.
            let _ = write!(stderr(), "\r\x1b[K{text}").and_then(|()| stderr().flush());
            self.written = true;
        }
    }

    /// Sessions arrive.
    pub(crate) fn joining(&mut self, joined: usize, of: usize) {
        if joined.is_multiple_of(10) {
            self.write(&format!("joining: {joined} of {of}"));
        }
    }

    /// The window goes on.
    pub(crate) fn measuring(
        &mut self,
        since: Duration,
        of: Duration,
        recorder: &Recorder,
        newest: Option<[Sample; 2]>,
    ) {
        if !self.shown {
            return;
        }
        let mut text = format!("{:3.0} of {:.0} s", since.as_secs_f64(), of.as_secs_f64());
        for (name, kind) in [("screen", Kind::ScreenAge), ("input", Kind::Input)] {
            if let Some(Quantiles { p50, p99, .. }) = recorder.quantiles(kind) {
                let _ = write!(text, " · {name} {p50:.1} / {p99:.1} ms");
            }
        }
        if let Some([before, last]) = newest
            && let (Some(first), Some(now)) = (before.relay, last.relay)
        {
            let cpu = now.user + now.system - first.user - first.system;
            let seconds = (last.at - before.at).as_secs_f64().max(1e-3);
            let _ = write!(
                text,
                " · relay {:.0} %, {:.0} MiB",
                cpu / seconds * 100.0,
                now.resident / 1_048_576.0
            );
        }
        self.write(&text);
    }

    /// The last picture is waited for.
    pub(crate) fn ending(&mut self) {
        self.write("waiting for the last pictures");
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.written) {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }
}

/// A try's figures, some lines of text.
pub(crate) fn table(line: &Line) -> String {
    let mut text = String::new();
    let name = line.try_number.map_or_else(|| "medians".to_owned(), |number| format!("try {number}"));
    let _ = writeln!(
        text,
        "{name}: {}, {} sessions, {} technicians, {}, {} s, seed {}",
        line.plan, line.pairs, line.technicians, line.transport, line.seconds, line.seed
    );
    let _ = writeln!(
        text,
        "  {:<28}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
        "ms", "p50", "p90", "p99", "p99.9", "max", "values"
    );
    for (kind, quantiles) in line.rows() {
        if let Some(Quantiles { p50, p90, p99, p999, max, count }) = quantiles {
            let _ = writeln!(
                text,
                "  {:<28}{p50:>9.2}{p90:>9.2}{p99:>9.2}{p999:>9.2}{max:>9.1}{count:>10}",
                kind.title()
            );
        }
    }
    traffic(&mut text, line);
    if let Some(relay) = &line.relay {
        let a_session =
            relay.rss_bytes_per_session.map(|bytes| format!(" ({:.0} KiB a session)", bytes / 1024.0));
        let a_session = a_session.unwrap_or_default();
        let _ = write!(
            text,
            "  relay: {} % of a core ({} user, {} system), {} ms a session, {:.1} MiB{a_session}, {} switches/s",
            relay.core_pct,
            relay.user_core_pct,
            relay.system_core_pct,
            relay.cpu_ms_per_session,
            relay.rss_bytes / 1_048_576.0,
            relay.context_switches_per_s
        );
        if let Some(per_gib) = relay.cpu_s_per_gib {
            let _ = write!(text, ", {per_gib} s/GiB");
        }
        text.push('\n');
    }
    growth(&mut text, line);
    for bottleneck in &line.generator.bottlenecks {
        let _ = writeln!(text, "  not the relay's figures: {bottleneck}");
    }
    text
}

/// Of a try whose figures are not published, what holds all the same: that this program was the bottleneck makes nothing fail or grow
/// at the relay.
pub(crate) fn remains(line: &Line) -> String {
    let mut text = String::new();
    growth(&mut text, line);
    if line.failures > 0 {
        let _ = writeln!(text, "  {} failures", line.failures);
    }
    text
}

fn growth(text: &mut String, line: &Line) {
    for growth in &line.growth {
        let verdict = growth.verdict();
        let _ = writeln!(
            text,
            "  {}: {} on average, {:+} ± {} an hour: {verdict} (allowed: {})",
            growth.what, growth.mean, growth.per_hour, growth.error, growth.allowed
        );
    }
    if let Some(why) = line.growth_unjudged() {
        let _ = writeln!(text, "  growth is not judged: {why}");
    }
}

fn traffic(text: &mut String, line: &Line) {
    let _ = writeln!(
        text,
        "  {} of {} pictures shown whole, {} Gbit/s, {} stalls, {} failures",
        line.pictures_applied, line.pictures_offered, line.gbit_per_s, line.stalls, line.failures
    );
    let input = line.input;
    if input.came != input.sent || input.twice + input.withheld > 0 {
        let _ = writeln!(
            text,
            "  input: {} of {} came, {} too old to be sent again, {} refused, {} not typed; with programs that were \
             killed {} lost, {} twice",
            input.came, input.sent, input.dropped, input.refused, input.withheld, input.lost, input.twice
        );
    }
    if let Some(unanswered) = input.unanswered.filter(|&unanswered| unanswered > 0) {
        let _ = writeln!(text, "  input: {unanswered} had no answer when their sender went");
    }
    if line.restarts + line.reconnects > 0 {
        let _ = writeln!(
            text,
            "  {} programs came back, {} connections were lost",
            line.restarts, line.reconnects
        );
    }
    let reasons = |of: &std::collections::BTreeMap<String, u64>| {
        of.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
    };
    for (name, of) in [("skipped", &line.skipped), ("dropped", &line.dropped)] {
        if !of.is_empty() {
            let _ = writeln!(text, "  {name}: {}", reasons(of));
        }
    }
    if line.forks + line.merges + line.keys > 0 {
        let _ = writeln!(text, "  {} forks, {} merges, {} keys", line.forks, line.merges, line.keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fit::Growth;

    #[test]
    fn what_grew_in_half_an_hour_is_told_whoever_was_the_bottleneck() {
        let of = |what, grows| Growth { what, mean: 60.0, per_hour: 9.0, error: 1.0, allowed: 6.0, grows };
        let growth = vec![of("memory, MiB", true), of("tasks", false)];
        let line = Line { growth, failures: 2, seconds: 1800.0, ..Line::default() };
        let text = remains(&line);
        assert!(text.contains("memory, MiB: 60 on average, +9 ± 1 an hour: GROWS (allowed: 6)"), "{text}");
        assert!(text.contains("tasks") && text.contains("2 failures"), "{text}");
        let of_seconds = |seconds| remains(&Line { seconds, ..Line::default() });
        assert_eq!(of_seconds(10.0), "");
        assert_eq!(
            of_seconds(599.0),
            "  growth is not judged: in less than ten minutes most of it is warming up\n"
        );
    }
}
