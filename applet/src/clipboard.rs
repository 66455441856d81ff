//! The thread that shares the clipboard with technicians who may have it. It lives only while somebody may: what is copied at
//! other times is not even looked at.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    given: Arc<Given>,
    waker: Arc<OnceLock<Waker>>,
}

/// What the thread is given: one text at most, however fast a technician copies.
#[derive(Debug, Default)]
struct Given(Mutex<(Option<String>, Still)>);

/// Whether the sharing goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Still {
    #[default]
    Shared,
    Ended,
}

impl Given {
    /// Puts a text there, in place of one that nobody has taken. One that is too long for a clipboard is left out.
    fn put(&self, text: String) {
        if text.len() > clipboard::TEXT_MAX {
            tracing::info!("a technician's text is too long for the clipboard");
            return;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(text);
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (None, Still::Ended);
    }

    fn take(&self) -> (Option<String>, Still) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (given.0.take(), given.1)
    }
}

impl Clipboard {
    /// Starts the thread, for the clipboard of this X display (`None`: the environment's).
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(display: Option<String>, handle: Handle) -> std::io::Result<Self> {
        let (given, waker) = (Arc::new(Given::default()), Arc::new(OnceLock::new()));
        let (takes, wakes) = (Arc::clone(&given), Arc::clone(&waker));
        // Not joined: a program that does not answer when it is asked for what it copied must not keep a session from ending.
        thread::Builder::new().name("clipboard".into()).spawn(move || {
            if let Err(error) = share(display.as_deref(), &handle, &takes, &wakes) {
                tracing::warn!(%error, "the clipboard is not shared");
            }
        })?;
        Ok(Self { given, waker })
    }

    /// Puts a technician's text on it. Of several that come faster than they can be put, the last one.
    pub fn put(&self, text: String) {
        self.given.put(text);
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
        self.given.end();
        self.wake();
    }
}

fn share(
    display: Option<&str>,
    handle: &Handle,
    given: &Given,
    waker: &OnceLock<Waker>,
) -> Result<(), CaptureError> {
    let mut clipboard = clipboard::open(display)?;
    waker.get_or_init(|| clipboard.waker());
    // The text that was copied last and not sent yet.
    let mut copied: Option<Vec<u8>> = None;
    loop {
        let (text, still) = given.take();
        if still == Still::Ended {
            return Ok(());
        }
        if let Some(Err(error)) = text.map(|text| clipboard.put(&text)) {
            tracing::info!(%error, "a text was not put on the clipboard");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_copies_without_end_fills_one_place() {
        let given = Given::default();
        for number in 0..10_000 {
            given.put(number.to_string());
        }
        given.put("x".repeat(clipboard::TEXT_MAX + 1));
        assert_eq!(given.take(), (Some("9999".to_owned()), Still::Shared));
        assert_eq!(given.take(), (None, Still::Shared));
        given.put("too late".to_owned());
        given.end();
        assert_eq!(given.take(), (None, Still::Ended));
    }
}
