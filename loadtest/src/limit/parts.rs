//! What is measured, and what relays are made of.

use std::time::Duration;

use super::{cipher, copy, tcp, udp};

/// A record of TLS, and a packet of QUIC.
const RECORD: usize = 16 << 10;
const PACKET: usize = 1280;
const CACHED: usize = 64 << 10;
const UNCACHED: usize = 64 << 20;

/// A part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) what: &'static str,
    /// Bytes at a time.
    pub(super) unit: usize,
    does: Does,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Cipher(cipher::Does),
    Copy,
    Tcp(tcp::How),
    Udp(udp::Does),
}

impl Part {
    /// Does it for about so many bytes: how many it were, and the processor time.
    pub(super) fn run(&self, bytes: u64) -> anyhow::Result<(u64, Duration)> {
        Ok(match self.does {
            Does::Cipher(does) => cipher::run(does, self.unit, bytes)?,
            Does::Copy => copy::run(self.unit, bytes),
            Does::Tcp(how) => tcp::run(how, bytes)?,
            Does::Udp(does) => udp::run(does, self.unit, bytes)?,
        })
    }
}

const fn part(what: &'static str, unit: usize, does: Does) -> Part {
    Part { what, unit, does }
}

/// All of them.
pub(super) const PARTS: [Part; 12] = [
    part("aes-256-gcm seal, record", RECORD, Does::Cipher(cipher::Does::Seal)),
    part("aes-256-gcm open, record", RECORD, Does::Cipher(cipher::Does::Open)),
    part("aes-256-gcm seal, packet", PACKET, Does::Cipher(cipher::Does::Seal)),
    part("aes-256-gcm open, packet", PACKET, Does::Cipher(cipher::Does::Open)),
    part("memory copy, cached", CACHED, Does::Copy),
    part("memory copy, not cached", UNCACHED, Does::Copy),
    part("tcp forward, read and write", 64 << 10, Does::Tcp(tcp::How::Copy)),
    part("tcp forward, splice", 1 << 20, Does::Tcp(tcp::How::Splice)),
    part("udp send, gso", PACKET, Does::Udp(udp::Does::Send { offload: true })),
    part("udp receive, gro", PACKET, Does::Udp(udp::Does::Receive { offload: true })),
    part("udp send, single", PACKET, Does::Udp(udp::Does::Send { offload: false })),
    part("udp receive, single", PACKET, Does::Udp(udp::Does::Receive { offload: false })),
];

/// What bounds a relay, and the parts whose sum it is.
pub(super) const BOUNDS: [(&str, &[&str]); 4] = [
    (
        "relay: tls over tcp",
        &["tcp forward, read and write", "aes-256-gcm open, record", "aes-256-gcm seal, record"],
    ),
    (
        "relay: quic",
        &["udp receive, gro", "aes-256-gcm open, packet", "aes-256-gcm seal, packet", "udp send, gso"],
    ),
    (
        "relay: quic without offloads",
        &["udp receive, single", "aes-256-gcm open, packet", "aes-256-gcm seal, packet", "udp send, single"],
    ),
    ("relay: tcp that is not opened", &["tcp forward, splice"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_does_what_it_is_asked_for_in_some_time() {
        for part in PARTS {
            let (bytes, spent) = part.run(1 << 20).unwrap_or_else(|why| panic!("{}: {why:#}", part.what));
            assert!(bytes >= 1 << 20, "{}: {bytes} bytes", part.what);
            assert!(spent > Duration::ZERO, "{}", part.what);
        }
    }

    #[test]
    fn bounds_are_made_of_parts_that_there_are() {
        for name in BOUNDS.iter().flat_map(|(_, names)| *names) {
            assert!(PARTS.iter().any(|part| part.what == *name), "{name}");
        }
    }
}
