//! The X11 half against a real X server: Xvfb, one for each test.
#![cfg(all(unix, not(target_os = "macos")))]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "x11/clipboard.rs"]
mod clipboard;
#[path = "x11/desk.rs"]
mod desk;
#[path = "x11/input.rs"]
mod input;
#[path = "x11/screen.rs"]
mod screen;
#[path = "common/xvfb.rs"]
mod xvfb;
