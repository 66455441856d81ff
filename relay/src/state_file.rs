//! A file in the state directory that follows what is in memory: written whole, by a thread of its own, soon after a change and at
//! the end. Whoever changes something never waits for the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

use crate::private_file::{self, StateError};

/// Time between two writings, at least; and the part of all time that may go into writing, as its inverse.
const PAUSE: Duration = Duration::from_millis(50);
const SHARE: u32 = 10;
/// How long to wait after a writing that failed: the disk is full, most likely.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// No such file is larger.
const BYTES_MAX: u64 = 256 << 20;

/// Reads a state file with what makes something of its bytes. One that is none is set aside, with a word in the log: a relay
/// that starts again without its memory is better than one that does not start.
///
/// # Errors
/// If there is a file that cannot be read or set aside.
pub fn read<T, E: fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(StateError::of("read", path))?,
    };
    let parsed = if metadata.len() > BYTES_MAX {
        Err(format!("{} bytes are too many", metadata.len()))
    } else {
        let bytes = std::fs::read(path).map_err(StateError::of("read", path))?;
        parse(&bytes).map_err(|error| error.to_string())
    };
    match parsed {
        Ok(parsed) => Ok(Some(parsed)),
        Err(why) => {
            let aside = set_aside(path)?;
            error!(file = %path.display(), set_aside = %aside.display(), why, "a damaged state file: going on without it");
            Ok(None)
        }
    }
}

/// Renames a file, so that nobody reads it again and somebody may look at it.
fn set_aside(path: &Path) -> Result<PathBuf, StateError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{}", now.as_millis()));
    let aside = path.with_file_name(name);
    std::fs::rename(path, &aside).map_err(StateError::of("set aside", path))?;
    Ok(aside)
}

/// Keeps a file as what is in memory. Dropped, it writes once more what has changed, and ends.
#[derive(Debug)]
pub struct Keeper {
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

/// Says that something has changed.
#[derive(Clone, Debug)]
pub struct Changed(Arc<Wishes>);

#[derive(Debug, Default)]
struct Wishes {
    state: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wish {
    write: bool,
    stop: bool,
}

impl Changed {
    /// Something has changed. Never waits.
    pub fn note(&self) {
        self.0.state.lock().write = true;
        self.0.changed.notify_one();
    }
}

impl Keeper {
    /// Writes to `path` what `snapshot` makes, whenever [`Changed::note`] was called.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(path: PathBuf, snapshot: impl Fn() -> Vec<u8> + Send + 'static) -> anyhow::Result<Self> {
        let wishes = Arc::new(Wishes::default());
        let thread = std::thread::Builder::new().name("state".into()).spawn({
            let wishes = wishes.clone();
            move || keep(&wishes, &path, snapshot)
        });
        Ok(Self { wishes, thread: Some(thread.context("cannot start a thread")?) })
    }

    /// Whoever changes something says so by this.
    pub fn changed(&self) -> Changed {
        Changed(self.wishes.clone())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wishes.state.lock().stop = true;
        self.wishes.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(wishes: &Wishes, path: &Path, snapshot: impl Fn() -> Vec<u8>) {
    let mut failing = false;
    loop {
        let stop = {
            let mut wish = wishes.state.lock();
            while !wish.write && !wish.stop {
                wishes.changed.wait(&mut wish);
            }
            if !std::mem::take(&mut wish.write) {
                return;
            }
            wish.stop
        };
        let began = Instant::now();
        let written = private_file::write(path, &snapshot());
        let pause = match written {
            Ok(()) if failing => {
                info!(file = %path.display(), "the state is written again");
                PAUSE
            }
            Ok(()) => PAUSE,
            Err(error) => {
                if !failing || stop {
                    warn!(error = format!("{error:#}"), "what happens now would not survive a restart");
                }
                wishes.state.lock().write = true;
                AFTER_FAILURE
            }
        };
        failing = pause == AFTER_FAILURE;
        if stop {
            return;
        }
        let mut wish = wishes.state.lock();
        let until = Instant::now() + pause.max(began.elapsed() * SHARE);
        // Changes may come meanwhile; only the end does not wait.
        while !wish.stop && !wishes.changed.wait_until(&mut wish, until).timed_out() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn number(bytes: &[u8]) -> Result<u32, std::num::ParseIntError> {
        String::from_utf8_lossy(bytes).trim().parse()
    }

    #[test]
    fn the_last_change_is_in_the_file_at_the_end_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let value = Arc::new(AtomicU32::new(0));
        let keeper = Keeper::start(path.clone(), {
            let value = value.clone();
            move || value.load(Ordering::SeqCst).to_string().into_bytes()
        })
        .unwrap();
        let changed = keeper.changed();
        for _ in 0..1000 {
            value.fetch_add(1, Ordering::SeqCst);
            changed.note();
        }
        drop(keeper);
        assert_eq!(read(&path, number).unwrap(), Some(1000));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn without_a_change_nothing_is_written_and_a_damaged_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        drop(Keeper::start(path.clone(), || b"7".to_vec()).unwrap());
        assert_eq!(read(&path, number).unwrap(), None);
        std::fs::write(&path, "seven").unwrap();
        assert_eq!(read(&path, number).unwrap(), None);
        assert!(!path.exists());
        let aside = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
        assert!(aside.file_name().to_string_lossy().starts_with("number.damaged-"));
        assert_eq!(std::fs::read_to_string(aside.path()).unwrap(), "seven");
    }

    #[test]
    fn a_directory_that_takes_nothing_holds_nobody_up() {
        let keeper = Keeper::start("/proc/nowhere/number".into(), || b"7".to_vec()).unwrap();
        keeper.changed().note();
        drop(keeper);
    }
}
