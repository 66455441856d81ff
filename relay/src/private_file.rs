//! Files that only the relay may read: keys, sign-in links, what it remembers. And what is said when they cannot be had.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Something in the state directory cannot be made, written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {why}{}", .path.display(), advice(.why))]
pub struct StateError {
    /// To make, write, read or set aside.
    pub what: &'static str,
    /// What cannot be had.
    pub path: PathBuf,
    /// What the system says.
    pub why: io::Error,
}

impl StateError {
    /// For `map_err`.
    pub fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |why| Self { what, path: path.to_owned(), why }
    }
}

/// What an operator can do about it.
fn advice(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        io::ErrorKind::PermissionDenied => "; it must belong to the user whom the relay runs as",
        io::ErrorKind::ReadOnlyFilesystem => "; it is mounted read-only",
        _ => "",
    }
}

/// Makes the state directory, if it is not there.
///
/// # Errors
/// [`StateError`].
pub fn directory(path: &Path) -> Result<(), StateError> {
    std::fs::create_dir_all(path).map_err(StateError::of("make the state directory", path))
}

/// Writes a file of mode 0600, whole or not at all.
///
/// # Errors
/// If the directory does not take it; an earlier file is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let partial = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|why| {
        // What little was written may be what somebody else needs.
        let _ = std::fs::remove_file(&partial);
        StateError::of("write", path)(why)
    })
}
