//! The state directory, descriptors and the clock.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::config::State;
use crate::private_file;

/// Descriptors for a busy relay: one for each TCP connection.
const DESCRIPTORS: u64 = 65_536;
/// Bytes that should be free where state is kept, which itself is a few kilobytes.
const FREE: u64 = 16 << 20;
/// No clock is right that shows a time before this program was written: 2026-01-01.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

pub(super) fn examine(state: &State) -> Vec<Finding> {
    let mut findings = match state {
        State::Directory(directory) => state_directory(directory),
        State::Nowhere => vec![Finding::warn(
            "state directory",
            "none: a restart ends every session",
            "set state.directory, or TANDEM_STATE_DIRECTORY",
        )],
    };
    findings.push(descriptors(getrlimit(Resource::Nofile).maximum));
    findings.push(clock(SystemTime::now(), synchronized()));
    findings
}

fn state_directory(directory: &Path) -> Vec<Finding> {
    const WHAT: &str = "state directory";
    let name = directory.display();
    let Ok(metadata) = directory.metadata() else {
        let exists = directory.parent().is_some_and(Path::exists);
        return vec![if exists {
            Finding::ok(WHAT, format!("{name} will be made by the service"))
        } else {
            Finding::fail(
                WHAT,
                format!("{name} can neither be found nor made"),
                "make the directory that it is in",
            )
        }];
    };
    let mut findings = Vec::new();
    let mode = metadata.permissions().mode() & 0o777;
    findings.push(if mode & 0o077 == 0 {
        Finding::ok(WHAT, format!("{name}, mode {mode:04o}"))
    } else {
        let advice = format!("its keys open every session: chmod 0700 {name}");
        Finding::warn(WHAT, format!("{name} is open to others (mode {mode:04o})"), advice)
    });
    let probe = directory.join(".doctor");
    let written = private_file::write(&probe, b"written by tandem-relay doctor\n");
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = written {
        let advice = "it must be writable by who runs the relay, and not full";
        findings.push(Finding::fail(WHAT, format!("{error:#}"), advice));
    } else if let Ok(disk) = statvfs(directory) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < FREE {
            findings.push(Finding::warn(WHAT, format!("only {} KiB are free", free >> 10), "make room"));
        }
    }
    findings
}

fn descriptors(most: Option<u64>) -> Finding {
    const WHAT: &str = "descriptors";
    match most {
        Some(most) if most < DESCRIPTORS => Finding::warn(
            WHAT,
            format!("at most {most} here"),
            "each WebSocket needs one; the service's unit allows 1048576 (LimitNOFILE), in a shell `ulimit -Hn`",
        ),
        Some(most) => Finding::ok(WHAT, format!("at most {most}")),
        None => Finding::ok(WHAT, "no limit"),
    }
}

fn clock(now: SystemTime, synchronized: Option<bool>) -> Finding {
    const WHAT: &str = "clock";
    if now.duration_since(UNIX_EPOCH).unwrap_or_default() < WRITTEN {
        return Finding::fail(
            WHAT,
            "it is in the past",
            "certificates, tokens and codes need the right time: set the clock",
        );
    }
    match synchronized {
        Some(true) => Finding::ok(WHAT, "synchronised"),
        Some(false) => Finding::warn(
            WHAT,
            "not synchronised",
            "tokens and codes expire by it: install systemd-timesyncd or chrony",
        ),
        None => Finding::ok(WHAT, "plausible; whether it is synchronised cannot be told here"),
    }
}

/// What systemd knows about it, if it runs here.
fn synchronized() -> Option<bool> {
    let output =
        Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, worst};

    #[test]
    fn a_state_directory_must_be_private_and_writable() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        assert_eq!(worst(&state_directory(&directory)), Verdict::Ok, "it is made at the start");
        assert_eq!(worst(&state_directory(Path::new("/nowhere/at/all"))), Verdict::Fail);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(worst(&state_directory(&directory)), Verdict::Warn);
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(worst(&state_directory(&directory)), Verdict::Ok);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing is left behind");
        // Root may write anywhere, but a file is not a directory even to root.
        std::fs::write(directory.join("file"), "").unwrap();
        assert_eq!(worst(&state_directory(&directory.join("file"))), Verdict::Fail);
    }

    #[test]
    fn a_clock_of_the_past_and_few_descriptors_are_told() {
        assert_eq!(clock(UNIX_EPOCH, Some(true)).verdict, Verdict::Fail);
        assert_eq!(clock(SystemTime::now(), Some(false)).verdict, Verdict::Warn);
        assert_eq!(clock(SystemTime::now(), None).verdict, Verdict::Ok);
        assert_eq!(descriptors(Some(1024)).verdict, Verdict::Warn);
        assert_eq!(descriptors(None).verdict, Verdict::Ok);
    }
}
