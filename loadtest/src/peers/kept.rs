//! Programs that are measured or measure: on one core, in one network, and never longer than this one.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process::{self, Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use tandem_workload::process::Tree;

use super::network::Network;
use crate::cores;
use crate::link::{Side, keep};

/// The two cores of a run: that of the relay, and that of the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) relay: usize,
    pub(super) load: usize,
}

impl Cores {
    /// The first two that this program may use; if there is only one, that.
    pub(super) fn find() -> anyhow::Result<Self> {
        let allowed = cores::allowed()?;
        let relay = *allowed.first().context("no core")?;
        Ok(Self { relay, load: allowed.get(1).copied().unwrap_or(relay) })
    }
}

/// What a program says on its standard output.
#[derive(Debug)]
pub(super) enum Output {
    /// Nothing that anybody reads: of a relay, which may say much in its time.
    Dropped,
    /// What comes of it in the end, in so few bytes that memory holds them. It may be given something to read.
    Kept(Option<String>),
}

/// A running program. Dropping it ends it, and all that it has started.
#[derive(Debug)]
pub(super) struct Kept {
    pid: u32,
    handle: OwnedFd,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<process::Output>>>,
}

impl Kept {
    /// Starts a shell's command, perhaps on one core.
    pub(super) fn start(
        network: &Network,
        core: Option<usize>,
        script: &str,
        output: Output,
    ) -> anyhow::Result<Self> {
        let mut command = keep::command(script);
        let input = match output {
            Output::Dropped => {
                command.stdout(Stdio::null());
                None
            }
            Output::Kept(input) => {
                command.stdout(Stdio::piped());
                input
            }
        };
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let (started, start) = mpsc::sync_channel(1);
        let ended = Arc::<AtomicBool>::default();
        let ends = ended.clone();
        // The thread that starts the keeper waits for it.
        let run = move || {
            let child = core.map_or(Ok(()), |core| cores::keep_to(&[core])).and_then(|()| command.spawn());
            let (handle, child) = match child.and_then(|child| Ok((pidfd_of(&child)?, child))) {
                Ok((handle, child)) => (Ok((child.id(), handle)), Some(child)),
                Err(error) => (Err(error), None),
            };
            // Whoever started this waits.
            let _ = started.send(handle);
            let output = finish(child.ok_or(io::ErrorKind::NotFound)?, input.as_deref());
            ends.store(true, Ordering::Release);
            output
        };
        let thread = match network.link() {
            None => thread::Builder::new().name("kept".to_owned()).spawn(run)?,
            Some(link) => {
                let inside = link.inside(Side::Near, run)?;
                thread::Builder::new()
                    .name("kept".to_owned())
                    .spawn(move || inside.join().map_err(|_| io::Error::other("a thread panicked"))??)?
            }
        };
        let (pid, handle) = start.recv().context("cannot enter the link")?.context("cannot start")?;
        Ok(Self { pid, handle, ended, thread: Some(thread) })
    }

    /// The process from which all of it descends.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Becomes true when it has ended.
    pub(super) fn ended(&self) -> &Arc<AtomicBool> {
        &self.ended
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(super) fn kill(self) -> anyhow::Result<()> {
        for pid in Tree::of(self.pid).below() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
            // An error means that it is gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
        self.output().map(drop)
    }

    /// Waits until it ends by itself.
    pub(super) fn output(mut self) -> anyhow::Result<process::Output> {
        let thread = self.thread.take().context("it was waited for")?;
        Ok(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // An error means that it has ended.
            let _ = pidfd_send_signal(&self.handle, Signal::TERM);
            let _ = thread.join();
        }
    }
}

fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn finish(mut child: Child, input: Option<&str>) -> io::Result<process::Output> {
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}
