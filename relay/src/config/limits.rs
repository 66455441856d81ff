//! `[limits]`: what there may be of everything.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_protocol::limits;

use super::{ConfigError, value};
use crate::admission::Rate;
use crate::limits::{self as resolved, SessionLimits};

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Handshakes of one network that lead to nobody's admission, at once.
    pub handshakes_per_network: u32,
    /// And a second beyond that.
    pub handshakes_per_network_per_second: u32,
    /// Wrong codes of one network, at once.
    pub guesses_per_network: u32,
    /// And a minute beyond that.
    pub guesses_per_network_per_minute: u32,
    /// Wrong codes in all, at once.
    pub guesses: u32,
    /// And a minute beyond that.
    pub guesses_per_minute: u32,
    /// Connections that are not admitted yet.
    pub unadmitted: usize,
    /// And of one network.
    pub unadmitted_per_network: usize,
    /// How many of them there may be before QUIC clients must prove their address.
    pub retry_above: usize,
    /// TCP connections.
    pub tcp_connections: usize,
    /// Sessions.
    pub sessions: usize,
    /// And of one tenant.
    pub sessions_per_tenant: usize,
    /// MiB that sessions hold in all. 0: half of the memory that the process may use.
    pub memory_mib: usize,
    /// And of one tenant. 0: half of that.
    pub memory_per_tenant_mib: usize,
    /// Participants of a session.
    pub participants: usize,
    /// Displays of a session.
    pub displays: usize,
    /// Records that a connection may send a second, for long.
    pub records_per_second: u32,
    /// Control messages that a connection may send a second, for long.
    pub control_messages_per_second: u32,
    /// Lanes that a connection may open a second, for long.
    pub lanes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes_per_network: 1000,
            handshakes_per_network_per_second: 50,
            guesses_per_network: 20,
            guesses_per_network_per_minute: 6,
            guesses: 300,
            guesses_per_minute: 60,
            unadmitted: 4096,
            unadmitted_per_network: 1024,
            retry_above: 256,
            tcp_connections: 50_000,
            sessions: 10_000,
            sessions_per_tenant: 10_000,
            memory_mib: 0,
            memory_per_tenant_mib: 0,
            participants: limits::PARTICIPANTS_MAX,
            displays: limits::DISPLAYS_MAX,
            records_per_second: 10_000,
            control_messages_per_second: 2000,
            lanes_per_second: 50,
        }
    }
}

impl Limits {
    /// Checks the numbers.
    pub(super) fn resolve(&self) -> Result<resolved::Limits, ConfigError> {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        let rates = [
            ("limits.handshakes_per_network", self.handshakes_per_network),
            ("limits.handshakes_per_network_per_second", self.handshakes_per_network_per_second),
            ("limits.guesses_per_network", self.guesses_per_network),
            ("limits.guesses_per_network_per_minute", self.guesses_per_network_per_minute),
            ("limits.guesses", self.guesses),
            ("limits.guesses_per_minute", self.guesses_per_minute),
            ("limits.records_per_second", self.records_per_second),
            ("limits.control_messages_per_second", self.control_messages_per_second),
            ("limits.lanes_per_second", self.lanes_per_second),
        ];
        for (key, rate) in rates {
            within(key, rate as usize, 1, 1_000_000_000)?;
        }
        let most = usize::MAX;
        within("limits.unadmitted", self.unadmitted, 1, most)?;
        within("limits.unadmitted_per_network", self.unadmitted_per_network, 1, most)?;
        within("limits.tcp_connections", self.tcp_connections, 1, most)?;
        within("limits.sessions", self.sessions, 1, most)?;
        within("limits.sessions_per_tenant", self.sessions_per_tenant, 1, most)?;
        within("limits.memory_mib", self.memory_mib, 0, 1 << 30)?;
        within("limits.memory_per_tenant_mib", self.memory_per_tenant_mib, 0, 1 << 30)?;
        within("limits.participants", self.participants, 2, limits::PARTICIPANTS_MAX)?;
        within("limits.displays", self.displays, 1, limits::DISPLAYS_MAX)?;
        Ok(resolved::Limits {
            handshakes: Rate::new(
                self.handshakes_per_network,
                self.handshakes_per_network_per_second,
                second,
            ),
            retry_above: self.retry_above,
            unadmitted: self.unadmitted,
            unadmitted_per_network: self.unadmitted_per_network,
            guesses: Rate::new(self.guesses_per_network, self.guesses_per_network_per_minute, minute),
            all_guesses: Rate::new(self.guesses, self.guesses_per_minute, minute),
            tcp_connections: self.tcp_connections,
            sessions: self.sessions,
            sessions_per_tenant: self.sessions_per_tenant,
            memory: self.memory_mib << 20,
            memory_per_tenant: self.memory_per_tenant_mib << 20,
            session: SessionLimits {
                participants: self.participants,
                displays: self.displays,
                // Room for what comes at once after a pause.
                records: Rate::new(self.records_per_second, self.records_per_second, second),
                control: Rate::new(
                    self.control_messages_per_second.saturating_mul(2),
                    self.control_messages_per_second,
                    second,
                ),
                lanes: Rate::new(self.lanes_per_second.saturating_mul(5), self.lanes_per_second, second),
            },
        })
    }
}

fn within(key: &'static str, number: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if number < least {
        Err(value(key, number, format!("at least {least}")))
    } else if number > most {
        Err(value(key, number, format!("at most {most}")))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_relay() {
        assert_eq!(Limits::default().resolve().unwrap(), resolved::Limits::default());
    }

    #[test]
    fn what_no_limit_can_be_is_named() {
        let error = Limits { participants: 33, ..Limits::default() }.resolve().unwrap_err();
        assert_eq!(error.to_string(), "limits.participants = 33: at most 32");
        let error = Limits { guesses: 0, ..Limits::default() }.resolve().unwrap_err();
        assert_eq!(error.to_string(), "limits.guesses = 0: at least 1");
    }
}
