//! On which cores this program and its relay run.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::plan::Cores;

/// Keeps the calling thread, and all threads that it starts from now on, on these cores.
///
/// # Errors
/// When there are no such cores.
pub(crate) fn keep_to(cores: &Cores) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cores.numbers().iter().for_each(|&core| set.set(core));
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot run on the cores {}", String::from(cores.clone())))
}

/// How many cores the calling thread may use.
pub(crate) fn allowed() -> f64 {
    sched_getaffinity(None).map_or(1.0, |set| f64::from(set.count()))
}

/// Starts something that is to run on other cores than ourselves: what the calling thread starts inherits its cores.
///
/// # Errors
/// When there are no such cores, or our own cannot be had back.
pub(crate) fn inherited<T>(cores: Option<&Cores>, start: impl FnOnce() -> T) -> anyhow::Result<T> {
    let Some(cores) = cores else { return Ok(start()) };
    let own = sched_getaffinity(None).context("cannot ask for our cores")?;
    keep_to(cores)?;
    let started = start();
    sched_setaffinity(None, &own).context("cannot go back to our cores")?;
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_elsewhere_leaves_us_where_we_are() {
        // On a thread of its own, since it changes the thread.
        let on_first = std::thread::spawn(|| {
            let before = allowed();
            let own = sched_getaffinity(None).unwrap();
            let first = (0..CpuSet::MAX_CPU).find(|&core| own.is_set(core)).unwrap();
            let inside = inherited(Some(&first.to_string().parse().unwrap()), allowed).unwrap();
            (inside, allowed() == before)
        });
        assert_eq!(on_first.join().unwrap(), (1.0, true));
        assert!(keep_to(&"1023".parse().unwrap()).is_err());
    }
}
