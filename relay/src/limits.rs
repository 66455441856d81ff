//! What an operator allows: the caps and rates of the configuration, with their defaults. docs/security.md says what each is for.

mod tenants;

use std::time::Duration;

use tandem_protocol::limits;

use crate::admission::Rate;

pub use tenants::{Account, Place, Tenant, Tenants};

/// Descriptors that are left to everything but clients' TCP connections: listeners, files, the runtime, the operations listener.
pub const DESCRIPTORS_KEPT: u64 = 64;

/// Limits of the whole relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes of one network that led to nobody's admission.
    pub handshakes: Rate,
    /// Handshakes under way from which on QUIC clients must first prove their address.
    pub retry_above: usize,
    /// Connections that are not admitted yet, in all and of one network.
    pub unadmitted: usize,
    /// Of one network.
    pub unadmitted_per_network: usize,
    /// Wrong codes of one network.
    pub guesses: Rate,
    /// Wrong codes in all.
    pub all_guesses: Rate,
    /// TCP connections: what the process's descriptors leave, if that is less.
    pub tcp_connections: usize,
    /// Sessions, in all and of one tenant.
    pub sessions: usize,
    /// Of one tenant.
    pub sessions_per_tenant: usize,
    /// Bytes that sessions hold, in all. 0: half of the memory that this process may use.
    pub memory: usize,
    /// Of one tenant. 0: half of that.
    pub memory_per_tenant: usize,
    /// Of each session and connection.
    pub session: SessionLimits,
}

/// Limits of each session, and of each connection in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Participants.
    pub participants: usize,
    /// Displays that its publisher may have.
    pub displays: usize,
    /// Records that one connection may send; then it is read more slowly.
    pub records: Rate,
    /// And control messages.
    pub control: Rate,
    /// Lanes that one connection may open; then it is closed.
    pub lanes: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: Rate::new(1000, 50, Duration::from_secs(1)),
            retry_above: 256,
            unadmitted: 4096,
            unadmitted_per_network: 1024,
            guesses: Rate::new(20, 6, Duration::from_secs(60)),
            all_guesses: Rate::new(300, 60, Duration::from_secs(60)),
            tcp_connections: 50_000,
            sessions: 10_000,
            sessions_per_tenant: 10_000,
            memory: 0,
            memory_per_tenant: 0,
            session: SessionLimits::default(),
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            participants: limits::PARTICIPANTS_MAX,
            displays: limits::DISPLAYS_MAX,
            records: Rate::new(10_000, 10_000, Duration::from_secs(1)),
            control: Rate::new(4000, 2000, Duration::from_secs(1)),
            lanes: Rate::new(250, 50, Duration::from_secs(1)),
        }
    }
}

/// What a session holds for those who are behind while its tenant is tight, and lets wait for a slow client.
pub const TIGHT_SEGMENT_MAX: usize = 1 << 20;
/// And of other records, for one receiver.
pub const TIGHT_QUEUE_MAX: usize = 64 << 10;

impl Limits {
    /// With numbers in the place of what depends on this computer.
    pub fn resolved(self) -> Self {
        let memory = if self.memory == 0 { usable_memory() / 2 } else { self.memory };
        let per_tenant = if self.memory_per_tenant == 0 { memory / 2 } else { self.memory_per_tenant };
        Self { memory, memory_per_tenant: per_tenant, ..self }
    }
}

/// The memory of this computer, or of the control group if that is less.
fn usable_memory() -> usize {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let total = read("/proc/meminfo").lines().find_map(|line| {
        let kib: usize = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    let group = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    total.into_iter().chain(group).min().unwrap_or(2 << 30)
}

/// Raises the limit of open files to what the system allows this process. The limit then.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // If that is refused the limit of before goes on.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
