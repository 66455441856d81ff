//! Ports, UDP buffers, segmentation offload, and what TCP has.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};

use quinn_udp::{UdpSockRef, UdpSocketState};

use super::Finding;
use crate::config::Config;
use crate::transport::listen::{self, Buffers};

/// What the kernel offers to programs, modules that are not loaded left out.
const CONGESTION_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![port("port (TCP)", config.listen, TcpListener::bind(config.listen).map(drop))];
    if config.udp {
        findings.push(port("port (UDP)", config.listen, listen::udp(config.listen).map(drop)));
        // On a port of its own: the relay itself may be running.
        match listen::udp(SocketAddr::new(config.listen.ip(), 0)) {
            Err(error) => {
                findings.push(Finding::fail("UDP", error.to_string(), "see what the kernel supports"))
            }
            Ok(socket) => {
                findings.push(match listen::buffers(&socket) {
                    Ok(granted) => buffers(granted),
                    Err(error) => {
                        Finding::warn("UDP buffers", error.to_string(), "see what the kernel supports")
                    }
                });
                findings.push(segmentation(&socket));
            }
        }
    } else {
        let advice = "set listen.udp = true unless a firewall forbids it: on bad lines QUIC is much better";
        findings.push(Finding::warn("UDP", "not served: everybody comes by WebSocket", advice));
    }
    findings.extend(
        std::fs::read_to_string(CONGESTION_CONTROLS).ok().map(|available| congestion_control(&available)),
    );
    findings.push(operations(config.operations));
    findings
}

fn port(what: &'static str, address: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::ok(what, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::warn(
            what,
            format!("{address} is in use"),
            "well if that is this relay; `ss -tulpn` shows who it is",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::warn(
            what,
            format!("{address}: {error}"),
            "ports below 1024 need root or CAP_NET_BIND_SERVICE, which the service has: run this as root",
        ),
        Err(error) => Finding::fail(
            what,
            format!("{address}: {error}"),
            "listen.address must be an address of this machine, or [::] for all",
        ),
    }
}

fn buffers(granted: Buffers) -> Finding {
    const WHAT: &str = "UDP buffers";
    let least = granted.receive.min(granted.send);
    let seen = format!("{} KiB in, {} KiB out", granted.receive >> 10, granted.send >> 10);
    if least >= listen::UDP_BUFFER {
        return Finding::ok(WHAT, seen);
    }
    let advice = format!(
        "bursts will be lost: net.core.rmem_max and wmem_max must be at least {}; `sysctl --system` reads the package's \
         /usr/lib/sysctl.d/90-tandem-udp.conf (in a container: on its host)",
        listen::UDP_BUFFER
    );
    Finding::warn(WHAT, seen, advice)
}

fn segmentation(socket: &socket2::Socket) -> Finding {
    const WHAT: &str = "UDP offload";
    match UdpSocketState::new(UdpSockRef::from(socket)) {
        Err(error) => Finding::warn(WHAT, error.to_string(), "QUIC costs more CPU without it"),
        Ok(state) if state.max_gso_segments() > 1 => {
            Finding::ok(WHAT, format!("{} segments at once", state.max_gso_segments()))
        }
        Ok(_) => Finding::warn(
            WHAT,
            "no segmentation offload (GSO)",
            "QUIC costs more CPU without it: Linux 4.18 or newer has it, some containers forbid it",
        ),
    }
}

fn congestion_control(available: &str) -> Finding {
    const WHAT: &str = "TCP";
    if available.split_whitespace().any(|name| name == "bbr") {
        return Finding::ok(WHAT, "the kernel has BBR");
    }
    let advice = "on lines that lose packets WebSockets are up to ten times slower without it: `modprobe tcp_bbr`, and for the next \
                  start /etc/modules-load.d (the package does both)";
    Finding::warn(WHAT, "the kernel does not offer BBR", advice)
}

fn operations(address: Option<SocketAddr>) -> Finding {
    const WHAT: &str = "operations";
    let Some(address) = address else {
        return Finding::warn(WHAT, "none", "set listen.operations, or nobody can watch this relay");
    };
    if is_private(address.ip()) {
        return Finding::ok(WHAT, format!("{address}"));
    }
    let advice = "whoever reaches this address can stop the relay and see who is connected: set listen.operations to a loopback or \
                  private one, or be sure that a firewall is before it";
    Finding::warn(WHAT, format!("{address} may be public"), advice)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn what_the_system_cuts_and_what_is_public_is_told() {
        let wanted = listen::UDP_BUFFER;
        assert_eq!(buffers(Buffers { receive: wanted, send: wanted }).verdict, Verdict::Ok);
        let cut = buffers(Buffers { receive: 212_992, send: wanted });
        assert_eq!((cut.verdict, cut.seen.as_str()), (Verdict::Warn, "208 KiB in, 4096 KiB out"));
        assert_eq!(congestion_control("reno bbr cubic\n").verdict, Verdict::Ok);
        assert_eq!(congestion_control("reno cubic\n").verdict, Verdict::Warn);
        assert_eq!(operations(Some("127.0.0.1:9464".parse().unwrap())).verdict, Verdict::Ok);
        assert_eq!(operations(Some("10.1.2.3:9464".parse().unwrap())).verdict, Verdict::Ok);
        assert_eq!(operations(Some("[::]:9464".parse().unwrap())).verdict, Verdict::Warn);
    }

    #[test]
    fn a_port_is_free_taken_or_not_of_this_machine() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let look = |address: SocketAddr| port("port", address, TcpListener::bind(address).map(drop));
        assert!(look(address).seen.ends_with("in use"));
        drop(taken);
        assert_eq!(look(address).verdict, Verdict::Ok);
        assert_eq!(look("192.0.2.1:443".parse().unwrap()).verdict, Verdict::Fail);
    }
}
