//! Events with the moments at which they came, however busy who waits for them is.

use std::time::Instant;

use tandem_client::{Event, Events};
use tandem_protocol::Close;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::PATIENCE;

/// Events that wait for a busy end. More wait in the connection.
const WAITING_MAX: usize = 64;

/// A connection's events. Dropping it ends the connection without a word.
#[derive(Debug)]
pub(crate) struct Inbox {
    events: mpsc::Receiver<(Instant, Event)>,
    _reader: AbortOnDropHandle<()>,
}

impl Inbox {
    /// Begins to read.
    pub(crate) fn new(mut events: Events) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let reader = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if sender.send((Instant::now(), event)).await.is_err() {
                    return;
                }
            }
        });
        Self { events: receiver, _reader: AbortOnDropHandle::new(reader) }
    }

    /// The next event and when it came; `None` after [`Event::Closed`].
    pub(crate) async fn next(&mut self) -> Option<(Instant, Event)> {
        self.events.recv().await
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) -> Option<Close> {
        let closed = async {
            while let Some((_, event)) = self.next().await {
                if let Event::Closed { close, .. } = event {
                    return Some(close);
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE, closed).await.ok().flatten()
    }
}
