//! What the service manager is told (sd_notify): readiness, reloads, a line of status, and that the workers make progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tandem_relay::relay::Relay;
use tandem_relay::watchdog::Workers;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

/// How often the line of status is looked at, if nothing asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// While sessions may stay, the manager is told again and again that it has so much more patience to have: the unit's own
/// (TimeoutStopSec) may be less than a drain's deadline.
const PATIENCE: Duration = Duration::from_secs(15);

/// The configuration is read again.
pub(super) fn reloading() {
    // With Type=notify-reload (systemd 253) this is how the manager knows when the reload was over; others take no notice.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock"),
    }
}

/// Every port is bound; or a reload is over.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The relay leaves service, and ends when it has.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    static DEAF: Deaf = Deaf(AtomicBool::new(false));
    let told = sd_notify::notify(false, states);
    if DEAF.is_news(told.is_err()) {
        match told {
            Err(error) => warn!(%error, "cannot tell the service manager; this is said once"),
            Ok(()) => info!("the service manager listens again"),
        }
    }
}

/// Whether nobody listens. Every line of status would say so again.
struct Deaf(AtomicBool);

impl Deaf {
    fn is_news(&self, deaf: bool) -> bool {
        self.0.swap(deaf, Ordering::Relaxed) != deaf
    }
}

/// Keeps the service manager informed, from a thread of its own: the workers are what it watches. Ends when dropped.
#[derive(Debug)]
pub(super) struct Reporter {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    /// For the runtime that this is called in. Does nothing where there is no service manager.
    pub(super) fn start(relay: Arc<Relay>) -> anyhow::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self { stop: None, thread: None });
        }
        let runtime = Handle::current();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("service".into())
            .spawn(move || report(&relay, runtime, &stopped))
            .context("cannot start a thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say by panicking that was not logged.
            let _ = thread.join();
        }
    }
}

fn report(relay: &Relay, runtime: Handle, stopped: &mpsc::Receiver<()>) {
    let mut microseconds = 0;
    let deadline =
        sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds));
    let every = deadline.map_or(STATUS_EVERY, |deadline| STATUS_EVERY.min(deadline / 4));
    let mut progress = Progress::new(relay, runtime, Instant::now());
    let mut status = String::new();
    loop {
        let now = Instant::now();
        if let Some(deadline) = deadline
            && progress.is_made(relay, deadline / 2, now)
        {
            tell(&[NotifyState::Watchdog]);
        }
        if relay.drain().is_within_deadline(now) {
            tell(&[NotifyState::ExtendTimeoutUsec(PATIENCE.as_micros() as u32)]);
        }
        let line = status_line(relay);
        if line != status {
            tell(&[NotifyState::Status(&line)]);
            status = line;
        }
        if !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

fn status_line(relay: &Relay) -> String {
    let leaving = if relay.drain().is_on() { "leaving service: " } else { "" };
    format!("{leaving}{} sessions, {} connections", relay.session_count(), relay.metrics().connections_now())
}

/// Whether the relay gets on: its workers, and its sessions, each of which is visited twice a second under its lock.
struct Progress {
    workers: Workers,
    ticks: u64,
    ticked: Instant,
    /// It was said that it does not.
    said: bool,
}

impl Progress {
    fn new(relay: &Relay, runtime: Handle, now: Instant) -> Self {
        Self { workers: Workers::new(runtime, now), ticks: relay.ticks(), ticked: now, said: false }
    }

    fn is_made(&mut self, relay: &Relay, patience: Duration, now: Instant) -> bool {
        let ticks = relay.ticks();
        if ticks != self.ticks {
            (self.ticks, self.ticked) = (ticks, now);
        }
        let worker = self.workers.longest_stuck(now);
        let sessions = now.saturating_duration_since(self.ticked);
        let made = worker < patience && sessions < patience;
        if !made && !self.said {
            error!(
                worker_ms = worker.as_millis(),
                sessions_ms = sessions.as_millis(),
                "no progress: a worker does not come back from what it does, or a session cannot be visited; the watchdog will end \
                 this relay"
            );
        }
        self.said = !made;
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_listens_is_said_once_and_again_after_somebody_did() {
        let deaf = Deaf(AtomicBool::new(false));
        let news = [false, true, true, true, false, false, true].map(|is| deaf.is_news(is));
        assert_eq!(news, [false, true, false, false, true, false, true]);
    }
}
