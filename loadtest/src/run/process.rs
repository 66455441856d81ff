//! What a process takes of the machine, read from `/proc`, and a relay's counters, read from its `/metrics`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tandem_workload::process::times;

/// Longest that a relay may take to answer, and the most that is read of it.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_MAX: u64 = 16 << 20;

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time, in s.
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// Context switches of all threads that live.
    pub(crate) switches: f64,
    /// Resident memory now, in bytes.
    pub(crate) resident: f64,
    /// Descriptors open now.
    pub(crate) descriptors: f64,
}

impl Usage {
    /// Of a process; `None` when there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (user, system) = times(pid).ok()?;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let switches = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            user: user.as_secs_f64(),
            system: system.as_secs_f64(),
            switches: switches.map(|status| switches_in(&status)).sum(),
            resident: field_of(&status, "VmRSS:").unwrap_or_default() * 1024.0,
            // Not ours to look into when it runs as somebody else.
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0.0, |open| open.count() as f64),
        })
    }
}

/// In a thread's `status`: switches that it asked for, and others.
fn switches_in(status: &str) -> f64 {
    let names = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    names.into_iter().filter_map(|name| field_of(status, name)).sum()
}

fn field_of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How many cores the machine has, whichever of them we may use.
pub(crate) fn machine_cores() -> f64 {
    fs::read_to_string("/proc/stat").map_or(1.0, |stat| cores_in(&stat).max(1.0))
}

/// A line for each of them, after the one for all.
fn cores_in(stat: &str) -> f64 {
    let is_core = |line: &&str| {
        let number = line.strip_prefix("cpu").and_then(|rest| rest.split(' ').next());
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    stat.lines().filter(is_core).count() as f64
}

/// What this computer is, for people.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {model}, Linux {}", kernel.trim())
}

/// A relay's metrics: values by name and labels, as they are written.
pub(crate) type Values = BTreeMap<String, f64>;

/// Asks a relay's private address.
///
/// # Errors
/// When it does not answer, or with something else.
pub(crate) fn metrics(operations: SocketAddr) -> anyhow::Result<Values> {
    let mut stream = TcpStream::connect_timeout(&operations, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {operations}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("it answered {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(values_in(body))
}

fn values_in(text: &str) -> Values {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// Counters that go on rising when the relay starts again from nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    last: Values,
    risen: Values,
}

impl Counters {
    /// New values have been read.
    pub(crate) fn read(&mut self, values: Values) {
        for (name, &value) in values.iter().filter(|(name, _)| name.contains("_total")) {
            let before = self.last.get(name).copied().unwrap_or_default();
            // Less than before: it has begun anew.
            let rise = if value >= before { value - before } else { value };
            if rise > 0.0 {
                *self.risen.entry(name.clone()).or_default() += rise;
            }
        }
        self.last = values;
    }

    /// How much each has risen since the beginning.
    pub(crate) fn risen(&self) -> Values {
        self.risen.clone()
    }

    /// A value as it was last.
    pub(crate) fn last(&self, name: &str) -> Option<f64> {
        self.last.get(name).copied()
    }
}

/// By how much the counters of one name differ, by the value of their only label. Those that do not are left out.
pub(crate) fn by_label(before: &Values, after: &Values, name: &str) -> BTreeMap<String, u64> {
    let of_name = after.iter().filter_map(|(key, &value)| {
        let labels = key.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
        let (_, label) = labels.split_once('=')?;
        let rise = value - before.get(key).copied().unwrap_or_default();
        (rise > 0.0).then(|| (label.trim_matches('"').to_owned(), rise.round() as u64))
    });
    of_name.collect()
}

/// By how much a counter without labels differs.
pub(crate) fn rise(before: &Values, after: &Values, name: &str) -> f64 {
    let of = |values: &Values| values.get(name).copied().unwrap_or_default();
    of(after) - of(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read() {
        let status = "VmRSS:\t  2048 kB\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!((switches_in(status), field_of(status, "VmRSS:")), (18.0, Some(2048.0)));
        assert_eq!(cores_in("cpu  1 2\ncpu0 1 2\ncpu11 1 2\nintr 5 7\ncpufreq 3\n"), 2.0);
    }

    #[test]
    fn this_process_takes_something() {
        let usage = Usage::of(std::process::id()).expect("it is there");
        assert!(usage.resident > 1e5 && usage.descriptors >= 3.0 && usage.switches > 0.0, "{usage:?}");
        assert_eq!(Usage::of(u32::MAX), None);
    }

    #[test]
    fn counters_go_on_when_a_relay_begins_anew() {
        let mut counters = Counters::default();
        let skipped = |key: u32, fork: u32| {
            values_in(&format!(
                "# TYPE skipped_total counter\nskipped_total{{reason=\"key\"}} {key}\nskipped_total{{reason=\"fork\"}} {fork}\nforks_total 2\ntasks 9\n"
            ))
        };
        counters.read(skipped(5, 0));
        let before = counters.risen();
        counters.read(skipped(7, 0));
        counters.read(skipped(1, 4));
        let after = counters.risen();
        let expected = [("fork".to_owned(), 4), ("key".to_owned(), 3)].into();
        assert_eq!(by_label(&before, &after, "skipped_total"), expected);
        assert_eq!((rise(&before, &after, "forks_total"), counters.last("tasks")), (0.0, Some(9.0)));
        // It was 2 from the first answer on, which counts from the start.
        assert_eq!(before.get("forks_total"), Some(&2.0));
    }
}
