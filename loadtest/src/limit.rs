//! What this computer could do at best: the parts that every relay is made of, each alone, in processor seconds of one core
//! for each GiB. The sums bound what any relay can reach, so that a relay's cost becomes a ratio to them.
//!
//! - [`command`]: `tandem-loadtest limit`; `parts`: what there is, and the sums;
//! - `cipher`, `copy`, `tcp`, `udp`: the parts.

mod cipher;
pub mod command;
mod copy;
mod parts;
mod tcp;
mod udp;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of this thread so far, what the kernel does for it included.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Processor time that something takes.
fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = thread_cpu();
    let done = work();
    *spent += thread_cpu().saturating_sub(before);
    done
}
