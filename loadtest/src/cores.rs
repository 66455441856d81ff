//! Which cores this program may use, and who is kept on which: whatever is pinned is pinned here.

use std::io;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that the calling thread may use, ascending. Containers and `taskset` give others than the first ones.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps the calling thread, and all threads and programs that it starts from now on, on these cores.
///
/// # Errors
/// When there are no such cores.
pub(crate) fn keep_to(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts something that is to run on other cores than ourselves: what the calling thread starts inherits its cores.
///
/// # Errors
/// When there are no such cores, or our own cannot be had back.
pub(crate) fn inherited<T>(cores: Option<&[usize]>, start: impl FnOnce() -> T) -> anyhow::Result<T> {
    let Some(cores) = cores else { return Ok(start()) };
    let own = allowed().context("cannot ask for our cores")?;
    keep_to(cores).with_context(|| format!("cannot start anything on the cores {cores:?}"))?;
    let started = start();
    keep_to(&own).context("cannot go back to our cores")?;
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_elsewhere_leaves_us_where_we_are() {
        // On a thread of its own, since it changes the thread.
        let (own, inside, after) = std::thread::spawn(|| {
            let own = allowed().unwrap();
            let inside = inherited(own.get(..1), allowed).unwrap().unwrap();
            (own, inside, allowed().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((inside.as_slice(), &after), (&own[..1], &own));
        assert!(keep_to(&[CpuSet::MAX_CPU - 1]).is_err() && keep_to(&[]).is_err());
    }
}
