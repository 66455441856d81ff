//! Where a run takes place: on loopback, or at both ends of a slow link.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::kept::Kept;
use crate::impair::slow_link;
use crate::link::{Link, LinkConfig, Side};

/// How long a program may take until it listens, and between two looks whether it does.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(1);
/// The first port where every port is free.
const FIRST_PORT: u16 = 8443;

/// A network.
#[derive(Debug)]
pub(super) enum Network {
    Loopback,
    Slow(Link, AtomicU16),
}

impl Network {
    /// The slow link of the workloads: what a technician is behind.
    pub(super) fn slow() -> anyhow::Result<Self> {
        let shape = slow_link();
        let link = Link::start(LinkConfig { near_to_far: shape, far_to_near: shape, seed: 1 })?;
        Ok(Self::Slow(link, AtomicU16::new(FIRST_PORT)))
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match self {
            Self::Loopback => None,
            Self::Slow(link, _) => Some(link),
        }
    }

    /// Where a relay is, and everybody beside it.
    pub(super) fn near(&self) -> Ipv4Addr {
        self.link().map_or(Ipv4Addr::LOCALHOST, |link| link.ip(Side::Near))
    }

    /// Where a technician is who is behind the link.
    pub(super) fn far(&self) -> Ipv4Addr {
        self.link().map_or(Ipv4Addr::LOCALHOST, |link| link.ip(Side::Far))
    }

    /// Whose network is that behind the link, for another process.
    pub(super) fn far_namespace(&self) -> Option<PathBuf> {
        let namespace = self.link()?.namespace(Side::Far).as_raw_fd();
        Some(PathBuf::from(format!("/proc/{}/fd/{namespace}", std::process::id())))
    }

    /// A port that is free for both TCP and UDP.
    pub(super) fn port(&self) -> anyhow::Result<u16> {
        if let Self::Slow(_, next) = self {
            return Ok(next.fetch_add(1, Ordering::Relaxed));
        }
        for _ in 0..100 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no port is free for both TCP and UDP")
    }

    /// Does something beside the relay.
    pub(super) fn in_near<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let Some(link) = self.link() else { return Ok(work()) };
        let thread = link.in_near(work).context("cannot start a thread")?;
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("cannot enter the link")
    }

    /// Waits until this relay listens there.
    pub(super) fn wait_for(&self, address: SocketAddrV4, relay: &Kept) -> anyhow::Result<()> {
        let ended = relay.ended().clone();
        self.in_near(move || {
            let began = Instant::now();
            while TcpStream::connect(address).is_err() {
                ensure!(!ended.load(Ordering::Acquire), "the relay ended before it listened");
                ensure!(began.elapsed() < PATIENCE, "nobody listens at {address}");
                thread::sleep(LOOK);
            }
            Ok(())
        })?
    }
}
