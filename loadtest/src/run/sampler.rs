//! Looks, while a try goes on, at what the relay and this program take of the machine.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tandem_workload::process::{machine_cpu, own_cpu};

use super::process::{self, Counters, Usage, Values};

/// Between two looks at the processes, and at the relay's metrics, which cost it something.
const EVERY: Duration = Duration::from_millis(500);
const METRICS_EVERY: Duration = Duration::from_secs(5);
/// Of the relay's metrics.
const TASKS: &str = "tandem_relay_tasks";

/// What was seen at one moment. CPU times and switches count from the beginning, over as many lives as the relay has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// `None`: the relay is not ours to look at.
    pub(crate) relay: Option<Usage>,
    /// When the relay was asked.
    pub(crate) tasks: Option<f64>,
    /// CPU times of this program and of the whole machine, in s.
    pub(crate) own: f64,
    pub(crate) machine: f64,
}

/// A sample, and how far the relay's counters have risen.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) sample: Sample,
    pub(crate) counters: Values,
}

/// Which process is the relay, and where it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) pid: Option<u32>,
    pub(crate) operations: Option<SocketAddr>,
}

/// What is known so far.
#[derive(Debug)]
struct State {
    subject: Subject,
    /// As the process had it when it was looked at last; nothing when that was another process.
    last: Usage,
    total: Usage,
    counters: Counters,
    asked: Option<Instant>,
    samples: Vec<Sample>,
}

impl State {
    fn look(&mut self, asks: bool) -> Sample {
        let now = Instant::now();
        let usage = self.subject.pid.and_then(Usage::of);
        if let Some(usage) = usage {
            self.total.user += (usage.user - self.last.user).max(0.0);
            self.total.system += (usage.system - self.last.system).max(0.0);
            // Less than before when a thread has ended.
            self.total.switches += (usage.switches - self.last.switches).max(0.0);
            (self.total.resident, self.total.descriptors) = (usage.resident, usage.descriptors);
            self.last = usage;
        }
        let due = self.asked.is_none_or(|asked| now >= asked + METRICS_EVERY);
        let mut tasks = None;
        // While it is dead nobody answers.
        if let Some(Ok(values)) = self.subject.operations.filter(|_| asks || due).map(process::metrics) {
            self.counters.read(values);
            self.asked = Some(now);
            tasks = self.counters.last(TASKS);
        }
        let sample = Sample {
            at: now,
            relay: usage.map(|_| self.total),
            tasks,
            own: own_cpu().unwrap_or_default().as_secs_f64(),
            machine: machine_cpu().unwrap_or_default().as_secs_f64(),
        };
        self.samples.push(sample);
        sample
    }
}

/// A thread that looks again and again, until this is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    state: Arc<Mutex<State>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins.
    pub(crate) fn start(subject: Subject) -> Self {
        let state = State {
            subject,
            last: Usage::default(),
            total: Usage::default(),
            counters: Counters::default(),
            asked: None,
            samples: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = mpsc::channel();
        let looks = state.clone();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                looks.lock().look(false);
            }
        });
        Self { state, stop: Some(stop), thread: Some(thread) }
    }

    /// Looks now, and asks the relay.
    pub(crate) fn mark(&self) -> Mark {
        let mut state = self.state.lock();
        Mark { sample: state.look(true), counters: state.counters.risen() }
    }

    /// From now on the relay is another process.
    pub(crate) fn follow(&self, subject: Subject) {
        let mut state = self.state.lock();
        (state.subject, state.last) = (subject, Usage::default());
    }

    /// The two newest looks, the older one first.
    pub(crate) fn newest(&self) -> Option<[Sample; 2]> {
        self.state.lock().samples.last_chunk().copied()
    }

    /// What it has seen until now.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.state.lock().samples.clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop = None;
        // It has nothing to say but what is in the state.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_adds_up_over_a_relay_s_lives() {
        let own = std::process::id();
        let sampler = Sampler::start(Subject { pid: Some(own), operations: None });
        let first = sampler.mark().sample.relay.expect("we are there");
        // The same process again, as if it had begun anew: all that it ever took counts once more.
        sampler.follow(Subject { pid: Some(own), operations: None });
        let second = sampler.mark().sample.relay.expect("we are there");
        assert!(second.switches >= 2.0 * first.switches && first.switches > 0.0, "{first:?} {second:?}");
        sampler.follow(Subject::default());
        assert!(sampler.mark().sample.relay.is_none());
        assert!(sampler.samples().len() >= 3);
    }
}
