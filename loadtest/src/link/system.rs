//! The three system calls that no safe library offers, each behind a safe function: a TUN device, a fresh network
//! namespace, and real-time priority.

#![allow(
    unsafe_code,
    reason = "the kernel offers these by ioctl and syscall only; nothing else in this crate is unsafe"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::ioctl::{Opcode, Setter};
use rustix::thread::UnshareFlags;

/// Longest name that the kernel takes for a device, without the closing zero.
const NAME_LENGTH_MAX: usize = libc::IFNAMSIZ - 1;

/// Creates a TUN device of this name in the calling thread's network namespace and opens it without blocking. Each read
/// gives one IP packet, each write takes one. The device lives exactly as long as the file.
pub(super) fn open_tun(name: &str) -> io::Result<File> {
    if name.len() > NAME_LENGTH_MAX || !name.is_ascii() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for a network device"));
    }
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags =
        libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("both flags are in the low 16 bits");
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    const TUNSETIFF: Opcode = libc::TUNSETIFF as Opcode;
    // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`, of which it reads the zero-terminated name and the flags,
    // both set above; the kernel copies it and keeps no pointer.
    unsafe { rustix::ioctl::ioctl(&file, Setter::<TUNSETIFF, libc::ifreq>::new(request))? };
    Ok(file)
}

/// Moves the calling thread, and what it starts from now on, into a new and empty network namespace.
pub(super) fn enter_new_network() -> io::Result<()> {
    // SAFETY: only CLONE_FILES could break what safe code relies on, by giving the thread its own table of descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    Ok(())
}

/// Gives the calling thread real-time priority, so that a loaded machine does not delay it.
pub(super) fn become_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: the pointer is to a live, initialised `sched_param`, which the call only reads; 0 is the calling thread.
    let answer = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
