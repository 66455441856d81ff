//! What takes some ten milliseconds and must not hold up pictures: keys, and the streams of a segment that starts. Each on a
//! thread of its own; they are rare.

use std::sync::mpsc::{Receiver, Sender, channel};

use tandem_capture::Waker;
use tandem_client::{Handle, Outgoing};
use tandem_codec::{Job, KeyTask, Prepared};
use tandem_protocol::{DisplayId, LaneKind};

use super::display::lane;

/// Runs jobs, and keeps what they made until it is fetched.
pub(super) struct Jobs {
    handle: Handle,
    waker: Waker,
    results: Sender<(DisplayId, Prepared)>,
    done: Receiver<(DisplayId, Prepared)>,
}

impl Jobs {
    pub(super) fn new(handle: Handle, waker: Waker) -> Self {
        let (results, done) = channel();
        Self { handle, waker, results, done }
    }

    /// Begins a job of this display.
    pub(super) fn begin(&self, display: DisplayId, job: Job) {
        match job {
            Job::Key(task) => {
                let handle = self.handle.clone();
                on_a_thread("key", move || send_key(&handle, display, task));
            }
            Job::Streams(job) => {
                let (results, waker) = (self.results.clone(), self.waker.clone());
                on_a_thread("streams", move || {
                    // Without its receiver there is no screen any more.
                    let _ = results.send((display, job.run()));
                    waker.wake();
                });
            }
        }
    }

    /// What was made since the last call.
    pub(super) fn done(&self) -> impl Iterator<Item = (DisplayId, Prepared)> {
        self.done.try_iter()
    }
}

fn on_a_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        tracing::error!(%error, name, "no thread to be had");
    }
}

/// Makes a key and sends it. Whoever needs it asks again if it does not come.
fn send_key(handle: &Handle, display: DisplayId, task: KeyTask) {
    let KeyTask { rendition, segment, seq, job } = task;
    match job.encode() {
        Ok(body) => {
            let key = lane(LaneKind::Key, display, rendition);
            if let Err(error) = handle.send(key, Outgoing::key(segment, seq, &body)) {
                tracing::debug!(%error, "a key could not be sent");
            }
        }
        Err(error) => tracing::error!(%error, "a key cannot be made"),
    }
}
