//! What programs cost, as the kernel tells it: processor time, memory, and what the whole machine is busy with.

#![allow(unsafe_code, reason = "no safe library reads another process's clock")]

use std::fs;
use std::io;
use std::time::Duration;

/// What the kernel counts in /proc: hundredths of a second, everywhere but on Alpha.
const TICK: Duration = Duration::from_millis(10);

/// A process and all that descend from it. Those that have come since [`Tree::of`] do not count.
#[derive(Clone, Debug)]
pub struct Tree(Vec<u32>);

impl Tree {
    /// As it is now.
    #[must_use]
    pub fn of(root: u32) -> Self {
        let mut all = vec![root];
        let mut at = 0;
        while let Some(&pid) = all.get(at) {
            // Each thread has its own. A process that is gone has neither.
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for thread in threads {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                all.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        Self(all)
    }

    /// Those that descend from it.
    pub fn below(&self) -> impl Iterator<Item = u32> {
        self.0.iter().skip(1).copied()
    }

    /// Processor time so far, of all threads, also of those that have ended.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn cpu(&self) -> io::Result<Duration> {
        self.0.iter().map(|&pid| cpu(pid)).sum()
    }

    /// The part of it that was not spent in the kernel.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn user(&self) -> io::Result<Duration> {
        self.0.iter().map(|&pid| Ok(times(pid)?.0)).sum()
    }

    /// Bytes of memory that are resident.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn resident(&self) -> io::Result<u64> {
        let of = |pid| Ok(resident_in(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?));
        self.0.iter().map(|&pid| of(pid)).sum()
    }
}

/// Processor time of a process so far.
fn cpu(pid: u32) -> io::Result<Duration> {
    // As <linux/posix-timers.h> has it: the complement of the process's number, and CPUCLOCK_SCHED.
    const CPUCLOCK_SCHED: libc::clockid_t = 2;
    let pid = libc::clockid_t::try_from(pid).map_err(io::Error::other)?;
    let clock = (!pid << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec, which the call only writes.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
}

/// Processor time of a process so far outside of the kernel and in it, in hundredths of a second.
///
/// # Errors
/// If there is no such process.
pub fn times(pid: u32) -> io::Result<(Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    times_in(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Processor time of this program so far.
///
/// # Errors
/// If the kernel does not tell.
pub fn own_cpu() -> io::Result<Duration> {
    cpu(std::process::id())
}

/// What all processors together have been busy with so far: programs of whatever priority, the kernel, and what the computer
/// around a virtual one has taken from it.
///
/// # Errors
/// If the kernel does not tell.
pub fn machine_cpu() -> io::Result<Duration> {
    busy_in(&fs::read_to_string("/proc/stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// In a line of /proc/PID/stat: the twelfth and thirteenth field after the name.
fn times_in(stat: &str) -> Option<(Duration, Duration)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut time = || Some(TICK * fields.next()?.parse().ok()?);
    Some((time()?, time()?))
}

/// In /proc/PID/smaps_rollup.
fn resident_in(rollup: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// In the first line of /proc/stat: user, nice, system, idle, waiting for disks, interrupts, the same deferred, stolen; guests are
/// in the first two already.
fn busy_in(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> = line.split_ascii_whitespace().flat_map(str::parse).collect();
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|at| numbers.get(at));
    (numbers.len() >= 7).then(|| Duration::from_millis(busy.sum::<u64>() * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 100";
        assert_eq!(times_in(stat), Some((Duration::from_millis(1500), Duration::from_millis(250))));
        assert_eq!(times_in("7 (a) S 1"), None);
        let rollup = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:               10240 kB\nPss:  9 kB\n";
        assert_eq!(resident_in(rollup), 10 << 20);
        // Programs of low priority count, and what was stolen; waiting does not, and guests not twice.
        let busy = busy_in("cpu  100 1 20 5000 300 0 4 5 6 7\ncpu0 1 2 3");
        assert_eq!(busy, Some(Duration::from_millis(1300)));
        assert_eq!(busy_in("cpu0 1 2"), None);
    }

    #[test]
    fn a_process_has_its_own_clock_and_memory() {
        let tree = Tree::of(std::process::id());
        let before = tree.cpu().unwrap();
        let mut sum = 0_u64;
        while own_cpu().unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(tree.cpu().unwrap() >= before + Duration::from_millis(5));
        assert!(tree.resident().unwrap() > 100_000);
        assert!(machine_cpu().unwrap() > Duration::ZERO);
    }

    #[test]
    fn children_count() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let tree = Tree::of(std::process::id());
        assert!(tree.0.contains(&child.id()), "{tree:?} without {}", child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.cpu().is_err(), "it is gone");
    }
}
