//! Less than a core for a program that is measured. Clients cipher, decode and pace: on a computer of few cores they are full before
//! the program is. Held to a part of its core, it is the program that is filled.
//!
//! By the kernel's control groups, of either version (cgroups(7); `cpu.max` or `cpu.cfs_quota_us`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::shell::quoted;

/// Time is dealt out so often, in µs, so that who has used up its part waits for a few milliseconds only.
const PERIOD_US: u32 = 5000;
/// The kernel deals out no less (kernel/sched/core.c, `min_cfs_quota_period`).
const QUOTA_MIN_US: u32 = 1000;
/// The least that can be held to, in cores.
pub(crate) const LEAST: f64 = QUOTA_MIN_US as f64 / PERIOD_US as f64;

/// A control group whose members together use no more than a part of a core. It goes with this value.
#[derive(Debug)]
pub(crate) struct Quota {
    directory: PathBuf,
}

/// Where control groups of processor time are.
#[derive(Debug, PartialEq, Eq)]
enum Groups {
    V1(PathBuf),
    V2(PathBuf),
}

impl Groups {
    /// As the table of mounts says.
    fn find(mounts: &str) -> Option<Self> {
        let mut unified = None;
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (path, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            match kind {
                "cgroup" if options.split(',').any(|option| option == "cpu") => {
                    return Some(Self::V1(path.into()));
                }
                "cgroup2" => unified = Some(Self::V2(path.into())),
                _ => {}
            }
        }
        unified
    }
}

/// What is dealt out for so many cores' time, and how often, in µs.
fn dealt_us(cores: f64) -> anyhow::Result<(u32, u32)> {
    let quota = (cores * f64::from(PERIOD_US)).round();
    ensure!(
        quota >= f64::from(QUOTA_MIN_US),
        "relay_share: {cores} of a core's time is less than {LEAST}, the least that the kernel deals out every {} ms",
        PERIOD_US / 1000
    );
    Ok((quota as u32, PERIOD_US))
}

impl Quota {
    /// Of so many cores' time: 0.25 is a quarter of one. Where groups are of version 2 it turns their processor time on for all below the
    /// root, and leaves it on.
    ///
    /// # Errors
    /// For less than [`LEAST`]; and where there are no control groups of processor time, or none may be made: that takes root.
    pub(crate) fn new(cores: f64) -> anyhow::Result<Self> {
        let (quota, period) = dealt_us(cores)?;
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the table of mounts")?;
        let name = format!("tandem-loadtest-{}", std::process::id());
        match Groups::find(&mounts) {
            Some(Groups::V1(at)) => {
                let group = Self::make(at.join(name))?;
                group.set("cpu.cfs_period_us", &period.to_string())?;
                group.set("cpu.cfs_quota_us", &quota.to_string())?;
                Ok(group)
            }
            Some(Groups::V2(at)) => {
                write(&at.join("cgroup.subtree_control"), "+cpu")?;
                let group = Self::make(at.join(name))?;
                group.set("cpu.max", &format!("{quota} {period}"))?;
                Ok(group)
            }
            None => bail!(NO_GROUPS),
        }
    }

    fn make(directory: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory })
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        write(&self.directory.join(file), value)
    }

    /// With this a shell enters, and what it starts afterwards.
    ///
    /// # Errors
    /// When the directory's name is no text.
    pub(crate) fn enter(&self) -> anyhow::Result<String> {
        let directory = self.directory.to_str().context("the control group's name is no text")?;
        Ok(format!("echo $$ > {}/cgroup.procs", quoted(directory)))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Whoever was in it has been ended before; else it stays, empty one day.
        let _ = fs::remove_dir(&self.directory);
    }
}

const NO_GROUPS: &str = "there are no control groups of processor time here";

fn write(path: &Path, value: &str) -> anyhow::Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn the_group_of_processor_time_is_found_among_the_mounts() {
        let mixed = "proc /proc proc rw 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n";
        assert_eq!(Groups::find(mixed), Some(Groups::V1("/sys/fs/cgroup/cpu,cpuacct".into())));
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(Groups::find(unified), Some(Groups::V2("/sys/fs/cgroup".into())));
        assert_eq!(Groups::find("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn time_is_dealt_out_every_five_milliseconds_and_no_less_than_one() {
        for (cores, quota) in
            [(LEAST, 1000), (0.25, 1250), (1.0 / 3.0, 1667), (0.05 * 4.0, 1000), (1.5, 7500)]
        {
            assert_eq!(dealt_us(cores).unwrap(), (quota, 5000), "{cores}");
        }
        for cores in [0.0, 0.1, 0.199, -1.0, f64::NAN] {
            assert!(dealt_us(cores).unwrap_err().to_string().contains("relay_share"), "{cores}");
        }
    }

    /// Whether this computer lets nobody make a group, or not us: by its user, a file system that is read only, or (version 2) as a root that
    /// is a container's own and has members.
    fn may_not(error: &anyhow::Error) -> bool {
        let kinds = [
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::ResourceBusy,
            ErrorKind::NotFound,
            ErrorKind::InvalidInput,
        ];
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        error.to_string() == NO_GROUPS || kind.is_some_and(|kind| kinds.contains(&kind))
    }

    #[test]
    fn a_shell_enters_is_held_to_its_part_and_nothing_is_left() {
        let group = match Quota::new(0.25) {
            Ok(group) => group,
            Err(error) if may_not(&error) => return eprintln!("not here: {error:#}"),
            Err(error) => panic!("{error:#}"),
        };
        let read = |file: &str| fs::read_to_string(group.directory.join(file));
        match read("cpu.max") {
            Ok(max) => assert_eq!(max.trim(), "1250 5000"),
            Err(_) => {
                assert_eq!(read("cpu.cfs_quota_us").unwrap().trim(), "1250");
                assert_eq!(read("cpu.cfs_period_us").unwrap().trim(), "5000");
            }
        }
        let script = format!("{} && cat /proc/self/cgroup", group.enter().unwrap());
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let (name, directory) = (group.directory.file_name().unwrap(), group.directory.clone());
        assert!(String::from_utf8_lossy(&said.stdout).contains(name.to_str().unwrap()), "{said:?}");
        drop(group);
        assert!(!directory.exists());
    }
}
