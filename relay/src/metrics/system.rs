//! What the process takes of the machine: read when it is asked for, from the kernel and the async runtime.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::Gauge;
use tokio::runtime::Handle;

use super::family::gauge;

/// These only rise, and have fractions, which counters of our library have not: they are gauges to it.
const RISE: [&str; 2] = ["process_cpu_seconds_total", "tandem_relay_worker_busy_seconds_total"];

/// Pages of the kernel, which reports memory in them. x86-64 and the usual arm64 kernels have the same.
const PAGE_BYTES: f64 = 4096.0;
/// Ticks a second in which the kernel reports CPU time, on every architecture that Linux has.
const CPU_TICKS: f64 = 100.0;

/// Gauges of the process, under the names that Prometheus's own clients use, and of its workers.
pub(super) struct System {
    resident: Gauge,
    open: Gauge,
    open_max: Gauge,
    cpu: Gauge,
    workers: Gauge,
    busy: Gauge,
    tasks: Gauge,
}

impl System {
    pub(super) fn new() -> Self {
        let started = gauge("process_start_time_seconds", "When the process started, since 1970.");
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Self {
            resident: gauge("process_resident_memory_bytes", "Memory of the process."),
            open: gauge("process_open_fds", "Descriptors in use."),
            open_max: gauge("process_max_fds", "Most descriptors that the system allows."),
            cpu: gauge(RISE[0], "CPU time of the process, all its threads together."),
            workers: gauge("tandem_relay_workers", "Threads that forward."),
            busy: gauge(
                RISE[1],
                "Time that the workers were busy, added up: its rate over tandem_relay_workers is their load.",
            ),
            tasks: gauge("tandem_relay_tasks", "Tasks of the async runtime: some for each connection."),
        }
    }

    /// Reads all of it.
    pub(super) fn read(&self) {
        self.read_process();
        // Not within a runtime there are no workers: in tests without I/O.
        let Ok(runtime) = Handle::try_current() else { return };
        let runtime = runtime.metrics();
        self.workers.set(runtime.num_workers() as f64);
        self.tasks.set(runtime.num_alive_tasks() as f64);
        let busy =
            (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64());
        self.busy.set(busy.sum::<f64>());
    }

    /// Calls counters what are.
    pub(super) fn correct(mut text: String) -> String {
        for name in RISE {
            text = text.replacen(&format!("# TYPE {name} gauge"), &format!("# TYPE {name} counter"), 1);
        }
        text
    }

    /// From files that the service's sandbox leaves readable. What cannot be read is left as it was.
    fn read_process(&self) {
        if let Some(pages) = field("/proc/self/statm", 1) {
            self.resident.set(pages * PAGE_BYTES);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            self.open.set(open.count().saturating_sub(1) as f64);
        }
        if let Some(most) = most_descriptors() {
            self.open_max.set(most);
        }
        // Behind the program's name, which may have blanks in it: the 12th and 13th field are its own time and the kernel's.
        if let Ok(text) = fs::read_to_string("/proc/self/stat")
            && let Some((_, fields)) = text.rsplit_once(')')
        {
            let ticks =
                fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
            self.cpu.set(ticks.sum::<f64>() / CPU_TICKS);
        }
    }
}

fn field(path: &str, at: usize) -> Option<f64> {
    fs::read_to_string(path).ok()?.split_whitespace().nth(at)?.parse().ok()
}

/// The soft limit, as the kernel lists it for people.
fn most_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
