//! What the relay's process holds: descriptors, tasks and memory.

use std::time::Duration;

use super::common::{PATIENCE, Relay};

/// What it holds at rest.
#[derive(Debug)]
pub(crate) struct Rest {
    descriptors: usize,
    tasks: f64,
    /// Bytes of resident memory.
    pub(crate) memory: u64,
}

/// Bytes of resident memory now.
pub(crate) fn memory(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

fn descriptors(relay: &Relay) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap().count()
}

impl Rest {
    /// Of a relay now.
    pub(crate) async fn of(relay: &Relay) -> Self {
        // Whoever asks holds one of each.
        let tasks = relay.metric("tandem_relay_tasks").await;
        Self { descriptors: descriptors(relay), tasks: tasks + 1.0, memory: memory(relay) }
    }

    /// Waits until nothing is held beyond this.
    pub(crate) async fn comes_back(&self, relay: &Relay) {
        let back = async {
            loop {
                let tasks = relay.metric("tandem_relay_tasks").await;
                if tasks <= self.tasks && descriptors(relay) <= self.descriptors {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, back).await.is_err() {
            panic!(
                "{} descriptors, {} tasks, of {self:?}",
                descriptors(relay),
                relay.metric("tandem_relay_tasks").await
            );
        }
    }
}
