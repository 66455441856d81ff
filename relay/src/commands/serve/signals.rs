//! SIGTERM and SIGINT stop, a second one exits at once; SIGHUP reads the certificates again.

use std::sync::Arc;

use anyhow::Context;
use tandem_relay::tls::Certificates;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::service;

/// Exit code of who was told twice.
const EXIT_INTERRUPTED: i32 = 130;

/// Watches signals until aborted.
pub(super) fn watch(
    certificates: Arc<Certificates>,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch SIGHUP")?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    match certificates.renew() {
                        Ok(()) => info!("certificates read again"),
                        Err(error) => warn!(error = format!("{error:#}"), "keeping the last good certificate"),
                    }
                    continue;
                }
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(EXIT_INTERRUPTED);
            }
            service::stopping();
            stop.cancel();
        }
    }))
}
