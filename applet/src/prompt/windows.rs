//! The prompt's windows on Windows.
#![allow(unsafe_code)]

mod text;
mod window;

pub(super) use self::text::Writer;
pub(super) use self::window::Window;

/// The call that has just failed, in the prompt's words.
fn failed(what: &str) -> super::PromptError {
    super::PromptError::Failed(format!("{what}: {}", std::io::Error::last_os_error()))
}
