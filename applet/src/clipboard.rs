//! The thread that shares the clipboard with technicians who may have it. It lives only while somebody may: what is copied at
//! other times is not even looked at.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use prost::Message;
use tandem_capture::{CaptureError, Waker, clipboard};
use tandem_client::{Handle, Outgoing, SendError};
use tandem_protocol::message::{ClipboardText, types};
use tandem_protocol::{LaneKey, LaneKind, Sender as Participant};

/// After so long a text is offered again for which there was no room on its lane.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The thread's owner: dropping it ends the sharing at once, and the thread as soon as no other program keeps it waiting.
#[derive(Debug)]
pub struct Clipboard {
    /// `None`: it is being dropped.
    texts: Option<Sender<String>>,
    waker: Arc<OnceLock<Waker>>,
}

impl Clipboard {
    /// Starts the thread, for the clipboard of this X display (`None`: the environment's).
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(display: Option<String>, handle: Handle) -> std::io::Result<Self> {
        let (texts, given) = channel();
        let waker = Arc::new(OnceLock::new());
        let wakes = Arc::clone(&waker);
        // Not joined: a program that does not answer when it is asked for what it copied must not keep a session from ending.
        thread::Builder::new().name("clipboard".into()).spawn(move || {
            if let Err(error) = share(display.as_deref(), &handle, &given, &wakes) {
                tracing::warn!(%error, "the clipboard is not shared");
            }
        })?;
        Ok(Self { texts: Some(texts), waker })
    }

    /// Puts a technician's text on it.
    pub fn put(&self, text: String) {
        if let Some(texts) = &self.texts {
            // Its thread says why it has ended.
            let _ = texts.send(text);
        }
        self.wake();
    }

    fn wake(&self) {
        // Before there is a waker nothing waits.
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

impl Drop for Clipboard {
    fn drop(&mut self) {
        self.texts = None;
        self.wake();
    }
}

fn share(
    display: Option<&str>,
    handle: &Handle,
    given: &Receiver<String>,
    waker: &OnceLock<Waker>,
) -> Result<(), CaptureError> {
    let mut clipboard = clipboard::open(display)?;
    waker.get_or_init(|| clipboard.waker());
    // The text that was copied last and not sent yet.
    let mut copied: Option<Vec<u8>> = None;
    loop {
        loop {
            match given.try_recv() {
                Ok(text) if text.len() > clipboard::TEXT_MAX => {
                    tracing::info!("a technician's text is too long for the clipboard");
                }
                Ok(text) => clipboard
                    .put(&text)
                    .unwrap_or_else(|error| tracing::info!(%error, "a text was not put on the clipboard")),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        if let Some(body) = copied.take()
            && handle.send(lane(), Outgoing::message(types::CLIPBOARD_TEXT, &body)) == Err(SendError::Full)
        {
            copied = Some(body);
        }
        if let Some(text) = clipboard.wait(copied.is_some().then_some(AGAIN_AFTER))? {
            copied = Some(ClipboardText { text }.encode_to_vec());
        }
    }
}

/// Ours, which all subscribe to who may have the clipboard.
fn lane() -> LaneKey {
    LaneKey::plain(LaneKind::Clipboard, Participant::RELAY)
}
