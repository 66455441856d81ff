//! Linux and its like.

use std::env;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

/// Where the administrator writes.
pub const POLICY: &str = "/etc/tandem/applet-policy.toml";

/// Makes a directory, and those above it, that only this user can read.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A file that is made with these options can be read by this user alone.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Reads at a place of a file, as much as there is and fits.
///
/// # Errors
/// As the system's.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(bytes, offset)
}

/// Writes all of this at a place of a file.
///
/// # Errors
/// As the system's.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Where state is kept: it ends with the login where there is a run-time directory, else it is kept in the home. `path` is
/// an absolute path that the environment names.
pub fn state_directory(path: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("XDG_RUNTIME_DIR")
        .map(|path| path.join("tandem"))
        .or_else(|| path("HOME").map(|path| path.join(".local/state/tandem")))
}

/// The administrator's policy as TOML, if there is one: a file that nobody else can change.
///
/// # Errors
/// When it cannot be read, and `PermissionDenied` when others could have written it.
pub fn policy() -> io::Result<Option<String>> {
    policy_in(Path::new(POLICY), 0)
}

/// The policy in a file that only `owner` can change.
fn policy_in(path: &Path, owner: u32) -> io::Result<Option<String>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    for place in [Some(path), path.parent()].into_iter().flatten() {
        let metadata = std::fs::symlink_metadata(place)?;
        if metadata.uid() != owner || metadata.mode() & 0o022 != 0 || metadata.is_symlink() {
            let why = "it and its directory must belong to root and be writable by root alone";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    Ok(Some(text))
}

/// The language that the environment asks for.
pub fn language() -> String {
    language_of_environment(|name| env::var(name).ok())
}

/// The language that an environment asks for, by POSIX's order of variables; `en` if it asks for none.
fn language_of_environment(variable: impl Fn(&str) -> Option<String>) -> String {
    let named =
        ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    named
        .filter(|value| value != "C" && value != "POSIX" && !value.starts_with("C."))
        .unwrap_or_else(|| "en".into())
}

/// Ends when the program is asked to.
///
/// # Errors
/// When signals cannot be listened to.
pub fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Prepares what the program prints on.
pub fn attach_console() {}

/// Whether nobody would see what the program prints.
pub fn is_mute() -> bool {
    false
}

/// Tells the customer something that ends the program: where it was started, whether or not it may show a window.
pub fn tell(text: &str, _may_show: bool) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_policy_that_nobody_else_can_change_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let me = std::fs::metadata(folder.path()).expect("metadata").uid();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions");
        };
        let refused = |owner| {
            policy_in(&path, owner).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        assert_eq!(policy_in(&path, me).expect("none"), None);
        std::fs::write(&path, "x").expect("written");
        mode(&path, 0o644);
        assert_eq!(policy_in(&path, me).expect("good").as_deref(), Some("x"));
        assert!(refused(me + 1));
        mode(&path, 0o664);
        assert!(refused(me));
        mode(&path, 0o600);
        mode(folder.path(), 0o777);
        assert!(refused(me));
    }

    #[test]
    fn the_environment_chooses_the_language() {
        let with = |set: &'static [(&str, &str)]| {
            language_of_environment(move |name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        assert_eq!(with(&[]), "en");
        assert_eq!(with(&[("LANG", "de_DE.UTF-8")]), "de_DE.UTF-8");
        assert_eq!(with(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C.UTF-8")]), "en");
        assert_eq!(with(&[("LANG", "en_GB"), ("LC_ALL", ""), ("LC_MESSAGES", "de")]), "de");
    }
}
