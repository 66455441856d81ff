//! An impaired link on one machine: two network namespaces joined by a userspace process that adds a rate, delay, jitter,
//! loss and a bounded buffer in each direction, so that any program can be run across a bad line.
//!
//! ```text
//!   near namespace          this process                far namespace
//!   any program ── TUN ──►  buffer, rate, delay  ──► TUN ── any program
//!   198.18.0.1         ◄──  and the same back    ◄──        198.18.0.2
//! ```
//!
//! The kernel's own emulator, netem, is missing from many kernels (containers, microVMs); TUN devices and namespaces are
//! not. Namespaces have no name: they live as long as the [`Link`] holds their descriptors and processes run inside, so
//! nothing is left behind however the process ends.
//!
//! - [`way`]: one direction as plain data; all the rules are there.
//! - `forward`: the thread that moves packets; `system`: the few system calls that need `unsafe`.
//! - [`keep`]: runs a command inside the link and ends it with the link, even after `kill -9`.
//! - [`command`]: `tandem-loadtest link`; [`units`]: `20mbit`, `100ms`, `256KiB`.

pub mod command;
mod forward;
pub mod keep;
mod system;
pub mod units;
pub mod way;

use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use self::forward::Shared;
use self::way::{Counters, Rate, Shape, Way};

/// Address of the near end, from the range set aside for measuring networks (RFC 2544).
pub const NEAR_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Address of the far end.
pub const FAR_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Largest packet, as on Ethernet.
pub const MTU: u32 = 1500;

/// Packets that a device holds for the forwarding thread: about 15 ms of a gigabit, so that no burst is lost before it
/// reaches the buffer that counts.
const DEVICE_QUEUE_PACKETS: u32 = 4000;

/// One end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where `--near-cmd` runs; by convention the client.
    Near,
    /// Where `--far-cmd` runs; by convention the server.
    Far,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
        }
    }

    /// The address of this end of the first link.
    #[must_use]
    pub const fn ip(self) -> Ipv4Addr {
        self.ip_of(0)
    }

    /// Its address on the link of this number, each in a network of its own.
    const fn ip_of(self, number: u8) -> Ipv4Addr {
        let [a, b, _, d] = match self {
            Self::Near => NEAR_IP.octets(),
            Self::Far => FAR_IP.octets(),
        };
        Ipv4Addr::new(a, b, number, d)
    }

    /// The name of its device on the link of this number.
    fn device(self, number: u8) -> String {
        if number == 0 { self.name().to_owned() } else { format!("{}{number}", self.name()) }
    }
}

/// What the link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// From the near end to the far one.
    pub near_to_far: Shape,
    /// From the far end to the near one.
    pub far_to_near: Shape,
    /// Fixes which packets are lost and how the delay varies.
    pub seed: u64,
}

/// Why a link could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The process may not make network namespaces and devices.
    #[error("an impaired link needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN) to make network namespaces")]
    NotPermitted,
    /// The kernel offers no TUN devices, or not to this container.
    #[error("there is no /dev/net/tun: load the kernel's tun module, or give the container that device")]
    NoTun,
    /// A step failed in another way.
    #[error("cannot {step}: {source}")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// `map_err` for a step of the set-up.
fn failed(step: &'static str) -> impl FnOnce(io::Error) -> LinkError {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::NotPermitted,
        _ => LinkError::Failed { step, source },
    }
}

/// A running link. Dropping it stops the forwarding, closes both devices and gives the namespaces up; processes started
/// with [`Link::shell`] are ended first by dropping their [`Kept`].
#[derive(Debug)]
pub struct Link {
    number: u8,
    namespaces: [File; 2],
    shared: Arc<Shared>,
    forwarder: Option<JoinHandle<()>>,
}

/// What one direction has done.
#[derive(Clone, Debug, PartialEq)]
pub struct WayStatistics {
    /// Packets and bytes by what became of them.
    pub counters: Counters,
    /// Packets that the sending device dropped because the forwarder came too late. Anything but zero spoils a measurement.
    pub missed: u64,
    /// Packets that the receiving device would not take. The same.
    pub refused: u64,
    /// Milliseconds from a packet's arrival at the buffer until its last bit was sent.
    pub queue_delay_ms: Percentiles,
    /// Milliseconds by which packets came out later than they should have: how exact this link was.
    pub lateness_ms: Percentiles,
}

/// Points of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50: f64,
    /// 95 of 100 are.
    pub p95: f64,
    /// 99 of 100 are.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    fn of_microseconds(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1e3;
        Self {
            p50: ms(histogram.value_at_quantile(0.5)),
            p95: ms(histogram.value_at_quantile(0.95)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl Link {
    /// Makes both namespaces, joins them and begins to forward.
    ///
    /// # Errors
    /// [`LinkError::NotPermitted`] without root, [`LinkError::NoTun`] without the device, or what the system said.
    pub fn start(config: LinkConfig) -> Result<Self, LinkError> {
        Self::make(config, 0, None)
    }

    /// Makes another link from the same near end to a far end of its own. `number` tells it from the first one (0) and
    /// from others beside that; it is the third part of its addresses.
    ///
    /// # Errors
    /// As [`Link::start`]; or the number is in use.
    pub fn beside(&self, number: u8, config: LinkConfig) -> Result<Self, LinkError> {
        let near = self.namespaces[Side::Near.index()].try_clone();
        Self::make(config, number, Some(near.map_err(failed("hold the namespace"))?))
    }

    fn make(config: LinkConfig, number: u8, near: Option<File>) -> Result<Self, LinkError> {
        let (near_namespace, near_device) = make_end(Side::Near, number, near)?;
        let (far_namespace, far_device) = make_end(Side::Far, number, None)?;
        let now = Instant::now();
        // Two directions must not share their luck: each has a seed of its own.
        let ways = [
            Way::new(config.near_to_far, config.seed, now),
            Way::new(config.far_to_near, config.seed.wrapping_add(0x9e37_79b9_7f4a_7c15), now),
        ];
        let shared = Arc::new(Shared::new(ways).map_err(failed("make an event descriptor"))?);
        let forwarder = thread::Builder::new()
            .name("link-forward".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    if let Err(error) = forward::run(&shared, [near_device, far_device]) {
                        eprintln!("link: forwarding ended: {error}");
                    }
                }
            })
            .map_err(failed("start the forwarding thread"))?;
        Ok(Self { number, namespaces: [near_namespace, far_namespace], shared, forwarder: Some(forwarder) })
    }

    /// The address of an end.
    #[must_use]
    pub const fn ip(&self, side: Side) -> Ipv4Addr {
        side.ip_of(self.number)
    }

    /// The network namespace of an end, for a process that is to enter it.
    #[must_use]
    pub fn namespace(&self, side: Side) -> BorrowedFd<'_> {
        self.namespaces[side.index()].as_fd()
    }

    /// Runs `work` on a new thread whose network is the near end. Sockets that it makes belong to that end for good, even
    /// when they are used elsewhere; threads and processes that it starts are there too.
    ///
    /// # Errors
    /// When no thread can be started. The thread's own result is an error if it could not enter the namespace.
    pub fn in_near<T, F>(&self, work: F) -> io::Result<JoinHandle<io::Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.inside(Side::Near, work)
    }

    /// [`Link::in_near`] for the far end.
    ///
    /// # Errors
    /// The same.
    pub fn in_far<T, F>(&self, work: F) -> io::Result<JoinHandle<io::Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.inside(Side::Far, work)
    }

    /// [`Link::in_near`] for either end.
    ///
    /// # Errors
    /// The same.
    pub fn inside<T, F>(&self, side: Side, work: F) -> io::Result<JoinHandle<io::Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let namespace = self.namespaces[side.index()].try_clone()?;
        thread::Builder::new().name(format!("link-{}", side.name())).spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })
    }

    /// Starts a shell command at one end, with `TANDEM_NEAR_IP` and `TANDEM_FAR_IP` in its environment, no standard input
    /// and `stdout` as its output. It, and all that it starts, ends with the returned [`Kept`] or with this process.
    /// `on_end` is called once on another thread. The running program must be `tandem-loadtest`, which keeps the command
    /// through its hidden subcommand `keep`.
    ///
    /// # Errors
    /// When the keeper cannot be started.
    pub fn shell<F>(&self, side: Side, script: &str, stdout: Stdio, on_end: F) -> io::Result<Kept>
    where
        F: FnOnce(io::Result<ExitStatus>) + Send + 'static,
    {
        let mut command = keep::command(script);
        command.env("TANDEM_NEAR_IP", NEAR_IP.to_string()).env("TANDEM_FAR_IP", FAR_IP.to_string());
        command.stdout(stdout);
        let (started, start) = mpsc::sync_channel(1);
        // The kernel ends the keeper when the *thread* that started it ends, so that thread waits for it.
        let thread = self.inside(side, move || {
            let child = command.spawn().and_then(|child| Ok((pidfd_of(child.id())?, child)));
            match child {
                Ok((pidfd, mut child)) => {
                    // The receiver is waiting below.
                    let _ = started.send(Ok(pidfd));
                    on_end(child.wait());
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        match start.recv() {
            Ok(pidfd) => Ok(Kept { pidfd: pidfd?, thread: Some(thread) }),
            Err(_) => Err(io::Error::other("cannot enter the link's namespace")),
        }
    }

    /// Changes the rate from one end to the other at once.
    pub fn set_rate(&self, from: Side, rate: Rate) {
        self.shared.ways.lock()[from.index()].set_rate(Instant::now(), rate);
        self.shared.wake();
    }

    /// Cuts both directions, or joins them again. Packets already on the line arrive.
    pub fn blackout(&self, on: bool) {
        for way in &mut *self.shared.ways.lock() {
            way.blackout(Instant::now(), on);
        }
        self.shared.wake();
    }

    /// What has passed from one end to the other so far.
    ///
    /// # Errors
    /// When the device's own counters cannot be read.
    pub fn statistics(&self, from: Side) -> io::Result<WayStatistics> {
        let devices = self.inside(from, || std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let devices = devices.join().map_err(|_| io::Error::other("the reading thread failed"))???;
        let missed = dropped_in_transmission(&devices, &from.device(self.number))
            .ok_or_else(|| io::Error::other("the device is not in /proc/net/dev"))?;
        let ways = self.shared.ways.lock();
        let way = &ways[from.index()];
        Ok(WayStatistics {
            counters: way.counters().clone(),
            missed,
            refused: self.shared.refused[from.index()].load(Ordering::Relaxed),
            queue_delay_ms: Percentiles::of_microseconds(way.queue_delay_us()),
            lateness_ms: Percentiles::of_microseconds(way.lateness_us()),
        })
    }

    /// A path by which other processes can enter an end while this one runs: `nsenter --net=PATH program`.
    #[must_use]
    pub fn namespace_path(&self, side: Side) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespaces[side.index()].as_raw_fd())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(forwarder) = self.forwarder.take() {
            // A panic there has been printed by the thread.
            let _ = forwarder.join();
        }
    }
}

/// A shell command inside the link. Dropping it ends the command with all that it started, politely at first, and waits.
#[derive(Debug)]
pub struct Kept {
    pidfd: OwnedFd,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Kept {
    /// Asks the command to end (`SIGTERM`); three seconds later whatever is left of it is killed.
    pub fn stop(&self) {
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in `on_end` has been printed by its thread.
            let _ = thread.join();
        }
    }
}

fn pidfd_of(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Makes an end's device and address, in a namespace of its own unless there is one; gives what holds the namespace, and the
/// device.
fn make_end(side: Side, number: u8, namespace: Option<File>) -> Result<(File, File), LinkError> {
    // A thread of its own, because it stays in the namespace that it enters.
    let thread = thread::Builder::new().name(format!("link-make-{}", side.name()));
    let made = thread.spawn(move || {
        match namespace {
            None => system::enter_new_network().map_err(failed("make a network namespace"))?,
            Some(namespace) => move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| failed("enter a network namespace")(error.into()))?,
        }
        let device = system::open_tun(&side.device(number)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LinkError::NoTun,
            _ => failed("make a TUN device")(error),
        })?;
        set_addresses(side, number)
            .map_err(failed("set the device's address with ip(8), of Debian's iproute2"))?;
        let namespace = File::open("/proc/thread-self/ns/net").map_err(failed("hold the namespace"))?;
        Ok((namespace, device))
    });
    let made = made.map_err(failed("start a thread"))?;
    made.join().map_err(|_| failed("make an end")(io::Error::other("its thread failed")))?
}

fn set_addresses(side: Side, number: u8) -> io::Result<()> {
    let device = side.device(number);
    let commands = format!(
        "link set dev lo up\n\
         address add {}/30 dev {device}\n\
         link set dev {device} mtu {MTU} txqueuelen {DEVICE_QUEUE_PACKETS} up\n",
        side.ip_of(number)
    );
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    // Taking it closes it after the write, which ends the batch.
    ip.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(commands.as_bytes())?;
    let status = ip.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip ended with {status}"))) }
}

/// The transmission drops of a device in the text of `/proc/net/dev`: its twelfth number.
fn dropped_in_transmission(table: &str, device: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_drops_are_read_from_the_kernel_s_table() {
        let table = "Inter-|   Receive   |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            \x20   lo:       1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16\n\
            \x20 near:   100       2    3    4    5     6          7         8        9      10   11   77   13    14      15         16\n";
        assert_eq!(dropped_in_transmission(table, "near"), Some(77));
        assert_eq!(dropped_in_transmission(table, "far"), None);
    }
}
