//! Waiting for an X connection or a wake-up, whichever comes first. Windows of other crates wait with it too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{CaptureError, Waker};

/// A counter in the kernel that another thread can raise.
#[derive(Clone, Debug)]
pub struct Wakeup(Arc<OwnedFd>);

impl Wakeup {
    /// One that isn't raised.
    ///
    /// # Errors
    /// When the system has no more file descriptors.
    pub fn new() -> Result<Self, CaptureError> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        fd.map(|fd| Self(Arc::new(fd))).map_err(|source| failed("make an event counter", source))
    }

    /// What raises it.
    pub fn waker(&self) -> Waker {
        let fd = Arc::clone(&self.0);
        Waker::new(move || {
            // A full counter is raised already: nothing is lost.
            let _ = rustix::io::write(&fd, &1u64.to_ne_bytes());
        })
    }

    /// Waits until `other` can be read, this is raised or the time is over. Answers whether this was raised, and lowers it.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, other: impl AsFd, timeout: Option<Duration>) -> Result<bool, CaptureError> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(&other, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait for the display", error)),
        }
        let mut count = [0; 8];
        Ok(rustix::io::read(&self.0, &mut count).is_ok())
    }
}

fn failed(what: &'static str, error: rustix::io::Errno) -> CaptureError {
    CaptureError::System { what, source: io::Error::from(error) }
}
