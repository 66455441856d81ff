//! What the service manager is told (sd_notify).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tandem_relay::relay::Relay;
use tracing::warn;

/// Every port is bound.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The relay ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        warn!(%error, "cannot tell the service manager");
    }
}

/// Tells the service manager's watchdog that the relay makes progress, as long as it does.
pub(super) async fn watchdog(relay: Arc<Relay>) {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) {
        return;
    }
    let mut seen = relay.ticks();
    let mut every = tokio::time::interval(Duration::from_micros(microseconds / 2));
    loop {
        every.tick().await;
        let ticks = relay.ticks();
        if ticks != seen {
            seen = ticks;
            tell(&[NotifyState::Watchdog]);
        }
    }
}
