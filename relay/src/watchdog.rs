//! Whether the workers make progress. A timer that goes off says little: one worker may be in an endless loop, or wait for a lock
//! for ever, while others keep time. So each worker is looked at: it waits for something to do, or it gets on.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// What the workers of a runtime have got done.
#[derive(Debug)]
pub struct Workers {
    runtime: Handle,
    seen: Vec<Seen>,
}

/// A worker when it was last seen to get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// How often it has gone to sleep and woken: odd while it sleeps.
    parked: u64,
    /// How long it has been busy; the runtime adds to this every few dozen tasks that it has run.
    busy: Duration,
    at: Instant,
}

impl Workers {
    /// Of this runtime, as they are.
    pub fn new(runtime: Handle, now: Instant) -> Self {
        let metrics = runtime.metrics();
        let seen = (0..metrics.num_workers())
            .map(|worker| Seen {
                parked: metrics.worker_park_unpark_count(worker),
                busy: metrics.worker_total_busy_duration(worker),
                at: now,
            })
            .collect();
        Self { runtime, seen }
    }

    /// For how long the worker that is worst off has been seen to get nowhere: zero if all sleep or get on.
    pub fn longest_stuck(&mut self, now: Instant) -> Duration {
        let metrics = self.runtime.metrics();
        let stuck = self.seen.iter_mut().enumerate().map(|(worker, seen)| {
            let parked = metrics.worker_park_unpark_count(worker);
            let busy = metrics.worker_total_busy_duration(worker);
            let sleeps = parked % 2 == 1;
            if sleeps || (parked, busy) != (seen.parked, seen.busy) {
                *seen = Seen { parked, busy, at: now };
            }
            now.saturating_duration_since(seen.at)
        });
        stuck.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Looks until what is seen is so, with a clock that goes a second a look.
    fn look_until(workers: &mut Workers, clock: &mut Instant, is: impl Fn(Duration) -> bool) -> bool {
        (0..10_000).any(|_| {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(1));
            *clock += Duration::from_secs(1);
            is(workers.longest_stuck(*clock))
        })
    }

    #[test]
    fn one_worker_that_hangs_is_seen_although_the_others_go_on() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let mut clock = Instant::now();
        let mut workers = Workers::new(runtime.handle().clone(), clock);
        // One of them has much to do all along, and does it.
        let busy = runtime.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        assert!(look_until(&mut workers, &mut clock, |stuck| stuck.is_zero()), "busy is not stuck");
        let (release, hang) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        runtime.spawn(async move {
            began.send(()).unwrap();
            let _ = hang.recv();
        });
        begun.recv().unwrap();
        assert!(look_until(&mut workers, &mut clock, |stuck| stuck > Duration::from_secs(20)), "it hangs");
        drop(release);
        assert!(look_until(&mut workers, &mut clock, |stuck| stuck.is_zero()), "it goes on");
        busy.abort();
        assert!(look_until(&mut workers, &mut clock, |stuck| stuck.is_zero()), "all sleep");
    }
}
