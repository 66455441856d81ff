//! Where ends run: on this thread, or on one whose network is that behind a slow link.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::job::Job;
use crate::system::Place;

/// The runtimes of a run. The far one ends with this.
pub(super) struct Places {
    near: Handle,
    far: Option<Far>,
}

/// A runtime on a thread of its own.
struct Far {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Places {
    /// Those of a job. To be called in the near runtime.
    pub(super) fn new(job: &Job) -> anyhow::Result<Self> {
        let far = job.far.as_ref().filter(|_| job.shape.slow);
        let far = far.map(|far| start(far.namespace.as_deref())).transpose()?;
        Ok(Self { near: Handle::current(), far })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Place> {
        [Some(Place::Near), self.far.as_ref().map(|_| Place::Far)].into_iter().flatten()
    }

    pub(super) fn there(&self, place: Place) -> &Handle {
        match (place, &self.far) {
            (Place::Far, Some(far)) => &far.handle,
            _ => &self.near,
        }
    }
}

/// Starts a runtime on a thread in a network namespace: sockets that are made there belong to it.
fn start(namespace: Option<&Path>) -> anyhow::Result<Far> {
    let namespace = namespace.map(File::open).transpose().context("cannot open the network namespace")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, start) = mpsc::sync_channel(1);
    let run = move || {
        let made = (|| {
            if let Some(namespace) = namespace {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            Builder::new_current_thread().enable_all().build()
        })();
        match made {
            Ok(runtime) => {
                // Whoever started this waits.
                let _ = started.send(Ok(runtime.handle().clone()));
                // An error says that the other end was dropped, as is meant.
                let _ = runtime.block_on(stopped);
            }
            Err(why) => {
                let _ = started.send(Err(why));
            }
        }
    };
    thread::Builder::new().name("far".to_owned()).spawn(run).context("cannot start a thread")?;
    let handle = start.recv().context("the far thread ended")?.context("cannot enter the namespace")?;
    Ok(Far { handle, _stop: stop })
}
