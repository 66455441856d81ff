//! A keeper: the small process that runs one shell command for a link and makes sure that it never outlives the link.
//!
//! A link that is killed with `-9` cannot clean up, so somebody else has to. The keeper asks the kernel to be told when
//! its parent dies, adopts every orphan of its command, and ends them all: politely when the link asks, at once when the
//! link is gone. With the last process the namespace vanishes too.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// What starts a keeper of this script that lives no longer than the *thread* that starts it: the kernel tells it of that one's end. The
/// running program must be `tandem-loadtest`, whose hidden subcommand `keep` it is.
pub(crate) fn command(script: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["keep", "--parent", &std::process::id().to_string(), "--", script]).stdin(Stdio::null());
    command
}

/// Runs `sh -c script` until it ends, or the parent does, or a signal asks for the end; leaves no descendant behind.
/// `parent` is the process that must live; it may have died before this was called.
///
/// # Errors
/// When the system refuses to start the shell or to watch the parent.
pub fn keep(parent: u32, script: &str) -> io::Result<ExitStatus> {
    let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM])?;
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() != parent {
        return Err(io::Error::other("the link ended before its command began"));
    }
    // Its own process group, so that a polite request reaches whatever pipeline it runs. Reaped by `wait` below.
    let shell = Command::new("sh").args(["-c", script]).process_group(0).spawn()?;
    let shell = i32::try_from(shell.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let mut status = None;
    for signal in signals.forever() {
        if signal == SIGCHLD {
            let all_gone = reap(shell, &mut status)?;
            match status {
                Some(status) if all_gone => return Ok(status),
                Some(_) => kill_descendants(),
                None => {}
            }
        } else if getppid() != parent {
            kill_descendants();
        } else {
            // An error means that the group is already gone, which is what was wanted.
            let _ = kill_process_group(shell, Signal::TERM);
            thread::spawn(|| {
                thread::sleep(GRACE);
                kill_descendants();
            });
        }
    }
    Err(io::Error::other("no more signals"))
}

/// Collects every child that has ended, notes the shell's status, and says whether none is left.
fn reap(shell: Pid, status: &mut Option<ExitStatus>) -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, ended))) if pid == shell => *status = Some(ExitStatus::from_raw(ended.as_raw())),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(Errno::CHILD) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills every process below this one. One that is being born meanwhile becomes this process's child when its parent
/// ends, which is a `SIGCHLD`, upon which this runs again.
fn kill_descendants() {
    let parents = parents_of_all_processes();
    let me = getpid().as_raw_pid();
    let is_mine = |mut pid: i32| {
        // A chain of parents is never longer than the table: no loop, even if the table changed while it was read.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(&parent) if parent == me => return true,
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    for pid in parents.keys().copied().filter(|&pid| is_mine(pid)).filter_map(Pid::from_raw) {
        // An error means that it has ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Each process's parent, from `/proc`.
fn parents_of_all_processes() -> HashMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent_in_stat(&stat)?))
    })
    .collect()
}

/// The parent's id in a line of `/proc/PID/stat`: the second field after the name, which may itself hold brackets.
fn parent_in_stat(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat("12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("12 (a) b) (c) S 7 12"), Some(7));
        assert_eq!(parent_in_stat("12 (sh"), None);
        assert_eq!(parent_in_stat(""), None);
    }

    #[test]
    fn this_process_is_in_the_table() {
        let parents = parents_of_all_processes();
        let parent = getppid().map_or(0, Pid::as_raw_pid);
        assert_eq!(parents.get(&getpid().as_raw_pid()), Some(&parent));
    }
}
