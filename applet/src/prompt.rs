//! The windows in which the customer decides: a [`Prompt`] that asks whether a technician may do something, and a
//! [`StatusWindow`] that says all the time who is connected and ends it.
//!
//! People who open these windows were often warned of fraud by telephone. So the prompt is calm: who asks, for which
//! organisation, exactly for what, one warning, and two buttons of which the safe one has the focus. Silence refuses.
//! An answer within the first half second is not taken, so that nobody agrees by a click that was meant for another
//! window. Events that another program sends to the window are ignored; the caller injects no input while a prompt is
//! open.
//!
//! Each window has a thread of its own, and where there is such a thing a connection to the display. Fonts are loaded only while text is drawn.

mod canvas;
mod consent;
mod names;
mod status;
mod strings;
mod window;
#[cfg(windows)]
mod windows;
#[cfg(not(windows))]
mod x11;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tandem_capture::{CaptureError, Waker};
use tandem_protocol::limits::CONSENT_TIME;

use self::consent::Consent;
pub use self::names::clean;
pub use self::status::{Status, StatusAction, StatusWindow};
pub use self::strings::{LANGUAGES, Permission};
use self::window::{Happened, Window};

/// Why a window cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The display cannot be used; says what is missing.
    #[error(transparent)]
    Display(#[from] CaptureError),
    /// There is neither a font file nor a font of the display.
    #[error("no font to write with: install one (Debian: fonts-dejavu-core)")]
    NoFont,
    /// The display refused a request or is gone.
    #[error("the display failed: {0}")]
    Failed(String),
    /// The thread of the window could not be started.
    #[error("no thread for the window: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the customer is asked.
#[derive(Clone, Debug)]
pub struct PromptRequest {
    /// The technician's name, as the desk gives it.
    pub technician: String,
    /// The organisation's name.
    pub organisation: String,
    /// What the technician will be able to do.
    pub permissions: Vec<Permission>,
    /// Silence for so long refuses.
    pub timeout: Duration,
    /// For so long after the window appeared, no answer is taken.
    pub settle: Duration,
    /// The language, such as `de` or `pt_BR`; `None` is the environment's.
    pub language: Option<String>,
    /// The X display, such as `:0`; `None` is the environment's.
    pub display: Option<String>,
}

impl PromptRequest {
    /// Asks for these permissions with the usual times, on the environment's display and in its language.
    pub fn new(
        technician: impl Into<String>,
        organisation: impl Into<String>,
        permissions: Vec<Permission>,
    ) -> Self {
        Self {
            technician: technician.into(),
            organisation: organisation.into(),
            permissions,
            timeout: CONSENT_TIME,
            settle: Duration::from_millis(500),
            language: None,
            display: None,
        }
    }
}

/// What the customer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Allow,
    /// The prompt was taken back before there was an answer, or its display failed: as good as no.
    Dismissed,
    /// No.
    Refuse,
    /// Nothing, in time: no.
    TimedOut,
}

/// A rectangle of the desktop: left, top, width, height.
pub type Area = (i32, i32, u32, u32);

/// An open prompt. Dropping it dismisses it.
#[derive(Debug)]
pub struct Prompt {
    dismissed: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    allow: Area,
    refuse: Area,
}

impl Prompt {
    /// Opens the window; `answered` is called once, on another thread, when the window is closed again.
    ///
    /// # Errors
    /// When no window can be shown; `answered` is not called then.
    pub fn show(
        request: &PromptRequest,
        answered: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<Self, PromptError> {
        let dismissed = Arc::new(AtomicBool::new(false));
        let (request, flag) = (request.clone(), Arc::clone(&dismissed));
        let (thread, (waker, allow, refuse)) = opened("consent-prompt", move |ready| {
            let (mut window, mut consent) = open(&request)?;
            let (allow, refuse) = consent.buttons();
            ready((window.waker(), window.area(allow), window.area(refuse)));
            let answer = ask(&mut window, &mut consent, &request, &flag).unwrap_or_else(|error| {
                tracing::warn!(%error, "the consent prompt failed, which refuses");
                Answer::Dismissed
            });
            drop((window, consent));
            answered(answer);
            Ok(())
        })?;
        Ok(Self { dismissed, waker, thread: Some(thread), allow, refuse })
    }

    /// Takes the question back and waits until the window is gone.
    pub fn dismiss(self) {
        drop(self);
    }

    /// Where the Allow button is, in the desktop's pixels.
    pub fn allow_button(&self) -> Area {
        self.allow
    }

    /// Where the Refuse button is, in the desktop's pixels.
    pub fn refuse_button(&self) -> Area {
        self.refuse
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.dismissed.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// Starts a thread that opens a window, and waits until the window is there (`ready` is called) or cannot be: a window belongs to
/// the thread that opens it.
fn opened<T: Send + 'static>(
    name: &str,
    serve: impl FnOnce(Box<dyn FnOnce(T)>) -> Result<(), PromptError> + Send + 'static,
) -> Result<(JoinHandle<()>, T), PromptError> {
    let (tell, told) = channel();
    let thread = thread::Builder::new().name(name.into()).spawn(move || {
        let failed = tell.clone();
        // Whoever asked for the window waits for one of the two.
        let ready = Box::new(move |there| drop(tell.send(Ok(there))));
        if let Err(error) = serve(ready) {
            let _ = failed.send(Err(error));
        }
    })?;
    let opened = told.recv().unwrap_or_else(|_| Err(PromptError::Failed("its thread panicked".to_owned())));
    match opened {
        Ok(there) => Ok((thread, there)),
        Err(error) => {
            let _ = thread.join();
            Err(error)
        }
    }
}

fn open(request: &PromptRequest) -> Result<(Window, Consent), PromptError> {
    let mut window = Window::open(request.display.as_deref())?;
    let mut consent = Consent::new(request, &window)?;
    let title = strings::of(request.language.as_deref()).title;
    window.show(consent.size(), window::Place::Centre, title, true)?;
    let first = consent.paint(&window, request.timeout)?;
    window.paint(first)?;
    Ok((window, consent))
}

/// Waits for the answer, a second of the countdown after the other.
fn ask(
    window: &mut Window,
    consent: &mut Consent,
    request: &PromptRequest,
    dismissed: &AtomicBool,
) -> Result<Answer, PromptError> {
    let opened = Instant::now();
    loop {
        let elapsed = opened.elapsed();
        let Some(left) = consent.timeout().checked_sub(elapsed).filter(|left| !left.is_zero()) else {
            return Ok(Answer::TimedOut);
        };
        if dismissed.load(Ordering::Acquire) {
            return Ok(Answer::Dismissed);
        }
        for (happened, since) in window.happened()? {
            match happened {
                Happened::Closed => return Ok(Answer::Dismissed),
                Happened::Rescaled => {
                    *consent = Consent::new(request, window)?;
                    let (place, size) = (window.place(), consent.size());
                    window.reshape(place.x, place.y, size)?;
                }
                other => {
                    if let Some(answer) = consent.take(&other, elapsed.min(since)) {
                        return Ok(answer);
                    }
                }
            }
        }
        let picture = consent.paint(window, left)?;
        window.paint(picture)?;
        // Until the seconds shown are others.
        let fraction = Duration::from_nanos(u64::from(left.subsec_nanos()) + 1_000_000);
        window.wait(Some(fraction.min(left)))?;
    }
}
