//! The two questions that only Linux answers.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::SockRef;

use super::Sample;

/// `TCP_RTO_MAX_MS` (linux/tcp.h, since Linux 6.15), which libc does not have yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// The first part of `struct tcp_info` (linux/tcp.h, since Linux 4.6), which libc has without its end.
#[repr(C)]
struct Info {
    _state_to_flags: [u8; 8],
    _rto_ato: [u32; 2],
    _segment_sizes: [u32; 2],
    under_way: u32,
    beyond: u32,
    _lost_to_last_received: [u32; 6],
    heard_ms_ago: u32,
    _path_to_receive_space: [u32; 10],
    retransmitted: u32,
    _pacing: [u64; 2],
    acknowledged: u64,
    _received: u64,
    segments_out: u32,
    _segments_in: u32,
    unsent: u32,
    round_trip_min: u32,
}

pub(super) fn sample(socket: &SockRef<'_>) -> io::Result<Sample> {
    let fd = socket.as_raw_fd();
    let mut info = MaybeUninit::<Info>::zeroed();
    let mut len = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `info`, and says how many in `len`.
    let answer = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < size_of::<Info>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: it is zeroed or written by the kernel, and any bytes are an `Info`.
    let info = unsafe { info.assume_init() };
    let mut held: libc::c_int = 0;
    // SAFETY: this request writes one int.
    if unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut held) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Sample {
        acknowledged: info.acknowledged,
        held: u64::try_from(held).unwrap_or(0),
        unsent: info.unsent.into(),
        under_way: info.under_way,
        beyond: info.beyond,
        retransmitted: info.retransmitted,
        segments: info.segments_out,
        heard: Duration::from_millis(info.heard_ms_ago.into()),
        round_trip_min: match info.round_trip_min {
            u32::MAX => Duration::ZERO,
            us => Duration::from_micros(us.into()),
        },
    })
}

pub(super) fn set_retry_max(socket: &SockRef<'_>, time: Duration) -> io::Result<()> {
    let ms = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option's value is an int, and its size is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const ms).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
