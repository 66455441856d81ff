//! The thread between the two TUN devices: reads packets, asks the two [`Way`]s when each is due, writes it out.
//!
//! All waiting happens in one `ppoll`, at real-time priority and with no timer slack. In a virtual machine a sleep still
//! ends 50 to 250 µs late, so the thread learns by how much, asks to be woken that much earlier, and spins for the few
//! microseconds that are left: packets leave within tens of microseconds of their moment at next to no cost.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::system;
use super::way::Way;

/// Packets taken from one device before the other, and the packets that are due, get their turn.
const READS_PER_TURN: usize = 64;

/// Room for one packet; the devices' MTU is smaller.
const PACKET_BYTES_MAX: usize = 2048;

/// A sleep that ends later than this was disturbed by something else; and never spin longer.
const LEAD_MAX: Duration = Duration::from_micros(300);

/// What the forwarding thread shares with the link's handle.
#[derive(Debug)]
pub(super) struct Shared {
    /// Near to far, far to near.
    pub(super) ways: Mutex<[Way; 2]>,
    /// Packets that the receiving device would not take.
    pub(super) refused: [AtomicU64; 2],
    stop: AtomicBool,
    wake: OwnedFd,
}

impl Shared {
    pub(super) fn new(ways: [Way; 2]) -> io::Result<Self> {
        Ok(Self {
            ways: Mutex::new(ways),
            refused: [AtomicU64::new(0), AtomicU64::new(0)],
            stop: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// Makes the thread look at its deadlines again, after a change from outside.
    pub(super) fn wake(&self) {
        // The only possible failure is a full counter, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Ends the thread soon.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// Forwards until stopped. `devices` are the near one and the far one.
pub(super) fn run(shared: &Shared, mut devices: [File; 2]) -> io::Result<()> {
    if let Err(error) = system::become_real_time() {
        eprintln!(
            "link: no real-time priority ({error}): delays will be less exact while the machine is busy"
        );
    }
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut buffer = [0_u8; PACKET_BYTES_MAX];
    let mut lead = Lead::default();
    loop {
        let deadline = {
            let mut ways = shared.ways.lock();
            for side in 0..2 {
                read_into(&mut devices[side], &mut ways[side], &mut buffer)?;
            }
            for side in 0..2 {
                let refused = deliver(&mut ways[side], &mut devices[1 - side]);
                shared.refused[side].fetch_add(refused, Ordering::Relaxed);
            }
            ways.iter().filter_map(Way::deadline).min()
        };
        if shared.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        wait(shared, &devices, deadline, &mut lead)?;
    }
}

/// Moves what waits in a device into its direction, a bounded number of packets. Only IPv4 is carried: the kernel's own
/// IPv6 announcements on a new device would otherwise be counted as traffic.
fn read_into(device: &mut File, way: &mut Way, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..READS_PER_TURN {
        match device.read(buffer) {
            Ok(length) => {
                let packet = &buffer[..length];
                if packet.first().is_some_and(|first| first >> 4 == 4) {
                    way.push(Instant::now(), packet.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands over everything that has arrived and says how many packets the device refused.
fn deliver(way: &mut Way, device: &mut File) -> u64 {
    let mut refused = 0;
    while let Some(packet) = way.pop(Instant::now()) {
        if device.write(&packet).is_err() {
            refused += 1;
        }
    }
    refused
}

/// By how much sleeps end late on this machine at present.
#[derive(Debug, Default)]
struct Lead(Duration);

impl Lead {
    /// Learns from a sleep that should have ended at `wanted`.
    fn learn(&mut self, wanted: Instant, now: Instant) {
        let late = now.saturating_duration_since(wanted).min(LEAD_MAX);
        self.0 = (self.0 * 7 + late) / 8;
    }
}

/// Returns at the deadline, or as soon as a device has a packet or the handle wants something.
fn wait(shared: &Shared, devices: &[File; 2], deadline: Option<Instant>, lead: &mut Lead) -> io::Result<()> {
    let now = Instant::now();
    // An instant so early that it cannot be expressed is long past.
    let alarm = deadline.map(|deadline| deadline.checked_sub(lead.0).unwrap_or(now));
    let timeout = alarm.map(|alarm| {
        let left = alarm.saturating_duration_since(now);
        Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
    });
    let mut polled = [
        PollFd::new(&devices[0], PollFlags::IN),
        PollFd::new(&devices[1], PollFlags::IN),
        PollFd::new(&shared.wake, PollFlags::IN),
    ];
    let ready = match poll(&mut polled, timeout.as_ref()) {
        Ok(ready) => ready,
        Err(rustix::io::Errno::INTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if polled[2].revents().contains(PollFlags::IN) {
        let mut count = [0_u8; 8];
        // Empties the counter; it cannot be empty already, as nothing else reads it.
        rustix::io::read(shared.wake.as_fd(), &mut count)?;
    }
    if let (0, Some(alarm), Some(deadline)) = (ready, alarm, deadline) {
        if alarm > now {
            lead.learn(alarm, Instant::now());
        }
        while Instant::now() < deadline {
            std::hint::spin_loop();
        }
    }
    Ok(())
}
