//! All figures of a try, as one line of JSON, and the medians of several.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::fit::Growth;
use super::medians::{Object, of_tries};
use super::series::{Kind, Quantiles};
use super::{GIB, rounded};
use crate::plan::Plan;
use crate::run::Tried;
use crate::run::process::{by_label, machine as machine_name, machine_cores, rise};
use crate::run::sampler::Sample;

/// A window that is long enough for a line through memory to mean something, and one of which somebody may expect that.
const GROWTH_FROM: Duration = Duration::from_secs(600);
const GROWTH_EXPECTED_FROM: Duration = Duration::from_secs(60);
/// What an hour may add without being growth: MiB of memory; descriptors and tasks.
const MEMORY_FLOOR: f64 = 4.0;
const COUNT_FLOOR: f64 = 8.0;
/// This program was the bottleneck when it kept more than this of its cores busy, when the machine had less than that left, or when
/// it did what was due later than this (99 %).
const OWN_MAX: f64 = 0.9;
const MACHINE_MAX: f64 = 0.97;
const LATE_MAX_MS: f64 = 10.0;

/// What the relay took of the machine, in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) user_core_pct: f64,
    pub(crate) system_core_pct: f64,
    pub(crate) core_pct: f64,
    /// CPU time of a second, in ms, divided by the sessions.
    pub(crate) cpu_ms_per_session: f64,
    /// CPU time, in s, of each GiB that reached technicians; `None` if that is too little to say.
    pub(crate) cpu_s_per_gib: Option<f64>,
    /// Resident memory, at most, and by how much of it each session made that grow from before anybody had ever connected: what a try
    /// leaves behind the next one uses. `None`: the relay was killed, and each of its lives began with other memory.
    pub(crate) rss_bytes: f64,
    pub(crate) rss_bytes_per_session: Option<f64>,
    pub(crate) descriptors: f64,
    pub(crate) tasks: Option<f64>,
    pub(crate) context_switches_per_s: f64,
    pub(crate) context_switches_per_session: f64,
    pub(crate) context_switches_per_gib: Option<f64>,
}

/// What this program did, and why its figures might be its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Generator {
    pub(crate) core_pct: f64,
    pub(crate) cores: f64,
    pub(crate) late_ms_p99: Option<f64>,
    /// By how much clients came later than they were to.
    pub(crate) join_late_ms_p99: Option<f64>,
    pub(crate) bottlenecks: Vec<String>,
}

/// Input events, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Input {
    pub(crate) sent: u64,
    pub(crate) came: u64,
    /// Too old to be sent again after a loss, and the sender was told.
    pub(crate) dropped: u64,
    /// Not taken, since there was no connection.
    pub(crate) refused: u64,
    /// Due, but not typed: whoever came back had no right to control yet, or was about to leave.
    pub(crate) withheld: u64,
    /// Sent, and without an answer when their sender went; `None`: nobody answers.
    pub(crate) unanswered: Option<u64>,
    /// Came once more, to a program that was killed before it could say that it had them.
    pub(crate) twice: u64,
    /// Silently: with a program that was killed.
    pub(crate) lost: u64,
}

/// One try, or the medians of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) schema: u32,
    pub(crate) kind: &'static str,
    pub(crate) plan: String,
    pub(crate) transport: &'static str,
    pub(crate) pairs: usize,
    pub(crate) technicians: usize,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    /// What it was measured on.
    pub(crate) machine: String,
    /// Number of the try, from 1; not in medians.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub(crate) try_number: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) median: bool,
    pub(crate) pictures_offered: u64,
    pub(crate) pictures_applied: u64,
    pub(crate) screen_age_ms: Option<Quantiles>,
    pub(crate) arrival_age_ms: Option<Quantiles>,
    pub(crate) input_ms: Option<Quantiles>,
    pub(crate) answer_ms: Option<Quantiles>,
    pub(crate) join_to_picture_ms: Option<Quantiles>,
    pub(crate) return_to_picture_ms: Option<Quantiles>,
    pub(crate) slow_screen_age_ms: Option<Quantiles>,
    pub(crate) slow_arrival_age_ms: Option<Quantiles>,
    pub(crate) gbit_per_s: f64,
    pub(crate) input: Input,
    pub(crate) stalls: u64,
    pub(crate) restarts: u64,
    pub(crate) reconnects: u64,
    /// What technicians were not sent of screens, and what was dropped of all, by the relay's reasons.
    pub(crate) skipped: BTreeMap<String, u64>,
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) forks: u64,
    pub(crate) merges: u64,
    pub(crate) keys: u64,
    pub(crate) relay: Option<Machine>,
    pub(crate) generator: Generator,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) growth: Vec<Growth>,
    pub(crate) failures: usize,
}

impl Line {
    /// What a try has shown.
    pub(crate) fn new(plan: &Plan, try_number: u32, tried: &Tried) -> Self {
        let Tried { figures, recorder, start, end, .. } = tried;
        let of = |kind| recorder.quantiles(kind);
        let by = |name| by_label(&start.counters, &end.counters, name);
        let risen = |name| rise(&start.counters, &end.counters, name).round() as u64;
        let seconds = plan.window.as_secs_f64();
        let accounted = figures.inputs_came + figures.inputs_dropped;
        Self {
            schema: 2,
            kind: "run",
            plan: plan.name.clone(),
            transport: plan.transports.name(),
            pairs: plan.sessions,
            technicians: tried.technicians,
            seconds,
            seed: plan.seed,
            machine: machine_name(),
            try_number: Some(try_number),
            median: false,
            pictures_offered: figures.offered,
            pictures_applied: figures.applied,
            screen_age_ms: of(Kind::ScreenAge),
            arrival_age_ms: of(Kind::Screen),
            input_ms: of(Kind::Input),
            answer_ms: of(Kind::Answer),
            join_to_picture_ms: of(Kind::Join),
            return_to_picture_ms: of(Kind::Rejoin),
            slow_screen_age_ms: of(Kind::SlowScreenAge),
            slow_arrival_age_ms: of(Kind::SlowScreen),
            gbit_per_s: rounded(figures.bytes as f64 * 8.0 / seconds / 1e9, 1e6),
            input: Input {
                sent: figures.inputs_sent,
                came: figures.inputs_came,
                dropped: figures.inputs_dropped,
                refused: figures.inputs_refused,
                withheld: figures.inputs_withheld,
                unanswered: plan.answers.then_some(figures.inputs_unanswered),
                twice: figures.inputs_twice,
                lost: figures.inputs_sent.saturating_sub(accounted),
            },
            stalls: figures.stalls,
            restarts: figures.restarts,
            reconnects: figures.reconnects,
            skipped: by("tandem_relay_skipped_records_total"),
            dropped: by("tandem_relay_dropped_records_total"),
            forks: risen("tandem_relay_forks_total"),
            merges: risen("tandem_relay_merges_total"),
            keys: risen("tandem_relay_keys_total"),
            relay: machine(plan, tried),
            generator: generator(plan, tried),
            growth: growth(plan, &tried.samples),
            failures: figures.failures.len(),
        }
    }

    /// The medians of tries of the same plan; of failures the sum, and of bottlenecks all.
    pub(crate) fn median(tries: &[&Self]) -> Option<Object> {
        let lines = tries.iter().map(|line| serde_json::to_value(line).ok()?.as_object().cloned());
        let lines = lines.collect::<Option<Vec<_>>>()?;
        let mut median = of_tries(&lines.iter().collect::<Vec<_>>())?;
        median.remove("growth");
        let bottlenecks: Vec<_> = tries.iter().flat_map(|line| &line.generator.bottlenecks).collect();
        median.get_mut("generator")?.as_object_mut()?.insert("bottlenecks".into(), json!(bottlenecks));
        Some(median)
    }

    /// What was measured of each kind, in the order in which it is shown.
    pub(crate) const fn rows(&self) -> [(Kind, Option<Quantiles>); 8] {
        [
            (Kind::ScreenAge, self.screen_age_ms),
            (Kind::Screen, self.arrival_age_ms),
            (Kind::Input, self.input_ms),
            (Kind::Answer, self.answer_ms),
            (Kind::Join, self.join_to_picture_ms),
            (Kind::Rejoin, self.return_to_picture_ms),
            (Kind::SlowScreenAge, self.slow_screen_age_ms),
            (Kind::SlowScreen, self.slow_arrival_age_ms),
        ]
    }

    /// Why it is not known whether something grew, of a window that is long enough to ask.
    pub(crate) fn growth_unjudged(&self) -> Option<&'static str> {
        if !self.growth.is_empty() || self.seconds < GROWTH_EXPECTED_FROM.as_secs_f64() {
            None
        } else if self.seconds < GROWTH_FROM.as_secs_f64() {
            Some("in less than ten minutes most of it is warming up")
        } else {
            Some("the relay was killed, or is not ours to look at")
        }
    }

    /// Whether something grew that must not.
    pub(crate) fn grows(&self) -> bool {
        self.growth.iter().any(|growth| growth.grows)
    }
}

fn machine(plan: &Plan, tried: &Tried) -> Option<Machine> {
    let (before, after) = (tried.start.sample, tried.end.sample);
    let (first, last) = (before.relay?, after.relay?);
    let seconds = after.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let (user, system) = (last.user - first.user, last.system - first.system);
    let (cpu, switches) = (user + system, last.switches - first.switches);
    let sessions = plan.sessions as f64;
    let gib = tried.figures.bytes as f64 / GIB;
    // A hundredth of a second is all that the kernel tells.
    let per_gib = |value: f64, parts| (gib > 1e-3 && cpu > 0.1).then(|| rounded(value / gib, parts));
    let resident = tried.samples.iter().filter_map(|sample| Some(sample.relay?.resident));
    let resident = resident.fold(last.resident, f64::max);
    let at_first = tried.resident_at_first.filter(|_| plan.kills.is_empty());
    Some(Machine {
        user_core_pct: rounded(user / seconds * 100.0, 1e2),
        system_core_pct: rounded(system / seconds * 100.0, 1e2),
        core_pct: rounded(cpu / seconds * 100.0, 1e2),
        cpu_ms_per_session: rounded(cpu / seconds * 1e3 / sessions, 1e3),
        cpu_s_per_gib: per_gib(cpu, 1e3),
        rss_bytes: resident,
        rss_bytes_per_session: at_first.map(|at_first| grown_per_session(resident, at_first, sessions)),
        descriptors: last.descriptors,
        tasks: after.tasks,
        context_switches_per_s: rounded(switches / seconds, 1e1),
        context_switches_per_session: rounded(switches / seconds / sessions, 1e2),
        context_switches_per_gib: per_gib(switches, 1.0),
    })
}

/// What each session has added to the memory that a relay took before.
fn grown_per_session(resident: f64, at_first: f64, sessions: f64) -> f64 {
    ((resident - at_first).max(0.0) / sessions).round()
}

fn generator(plan: &Plan, tried: &Tried) -> Generator {
    let (before, after) = (tried.start.sample, tried.end.sample);
    let seconds = after.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let own = (after.own - before.own) / seconds;
    let machine = (after.machine - before.machine) / seconds;
    let p99 = |kind| tried.recorder.quantiles(kind).map(|late| late.p99);
    let (late, join_late) = (p99(Kind::Lateness), p99(Kind::JoinLateness));
    // All at once is more than anybody can.
    let joins = join_late.filter(|_| !plan.ramp.is_zero());
    let cores = tried.own_cores;
    let bottlenecks = bottlenecks((own, cores), (machine, machine_cores()), [late, joins]);
    let core_pct = rounded(own * 100.0, 1e1);
    Generator { core_pct, cores, late_ms_p99: late, join_late_ms_p99: join_late, bottlenecks }
}

/// Why figures might be this program's: cores kept busy, of how many, by it and by all; how late it was, and its clients came.
fn bottlenecks(
    (own, own_cores): (f64, f64),
    (machine, cores): (f64, f64),
    [late, join_late]: [Option<f64>; 2],
) -> Vec<String> {
    let mut found = Vec::new();
    if own > OWN_MAX * own_cores {
        found.push(format!("this program kept {own:.2} of its {own_cores} cores busy"));
    }
    if machine > MACHINE_MAX * cores {
        found.push(format!("the machine was full: {machine:.2} of {cores} cores busy"));
    }
    if let Some(late) = late.filter(|&late| late > LATE_MAX_MS) {
        found.push(format!("this program did what was due up to {late:.1} ms late (99 %)"));
    }
    if let Some(late) = join_late.filter(|&late| late > LATE_MAX_MS) {
        found.push(format!("clients came up to {late:.1} ms late (99 %)"));
    }
    found
}

/// Whether memory, descriptors and tasks of the relay grow.
fn growth(plan: &Plan, samples: &[Sample]) -> Vec<Growth> {
    // A relay that was killed begins anew.
    if plan.window < GROWTH_FROM || !plan.kills.is_empty() {
        return Vec::new();
    }
    let Some(start) = samples.first().map(|sample| sample.at) else { return Vec::new() };
    let judged = |what, floor, value: fn(&Sample) -> Option<f64>| {
        let points: Vec<_> = samples
            .iter()
            .filter_map(|sample| Some(((sample.at - start).as_secs_f64(), value(sample)?)))
            .collect();
        Growth::judge(what, floor, &points)
    };
    [
        judged("resident memory, MiB", MEMORY_FLOOR, |sample| Some(sample.relay?.resident / 1_048_576.0)),
        judged("descriptors", COUNT_FLOOR, |sample| Some(sample.relay?.descriptors)),
        judged("tasks", COUNT_FLOOR, |sample| sample.tasks),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_may_be_our_own_are_known_as_such() {
        assert!(bottlenecks((0.8, 1.0), (1.7, 2.0), [Some(3.0); 2]).is_empty());
        let told = |own, machine, late| bottlenecks((own, 1.0), (machine, 2.0), late).concat();
        assert!(told(0.95, 1.0, [None; 2]).contains("0.95 of its 1 cores"));
        assert!(told(0.5, 1.99, [None; 2]).contains("the machine was full"));
        assert!(told(0.5, 1.0, [Some(12.0), None]).contains("due up to 12.0 ms late"));
        assert!(told(0.5, 1.0, [None, Some(12.0)]).contains("clients came up to 12.0 ms late"));
    }

    #[test]
    fn a_relay_s_own_memory_is_no_session_s() {
        assert_eq!(grown_per_session(50_000_000.0, 20_000_000.0, 100.0), 300_000.0);
        assert_eq!(grown_per_session(1.0, 2.0, 1.0), 0.0);
    }
}
