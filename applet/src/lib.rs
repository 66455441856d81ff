//! The parts of the customer's program that are worth having apart from it.

#[cfg(all(unix, not(target_os = "macos")))]
pub mod prompt;
