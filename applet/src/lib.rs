//! The customer's program: shows this computer's screen to whom its user allows to see it, and lets them work on it.
//!
//! - [`consent`], [`gate`], [`pace`], [`audience`]: who may do what, which input is acted upon, when to encode, and whether as
//!   video. Plain state, no I/O;
//! - [`screens`], [`hands`], [`clipboard`], [`windows`]: a thread each, for what blocks;
//! - [`session`] joins them with the connection; [`state`] and [`journal`] bring a killed program back; [`policy`] is the
//!   administrator's word; [`prompt`] draws the windows; [`platform`] is what else differs between systems.
#![deny(unsafe_code)]
#![cfg(any(windows, all(unix, not(target_os = "macos"))))]

pub mod audience;
pub mod clipboard;
pub mod consent;
pub mod gate;
pub mod hands;
pub mod journal;
pub mod pace;
pub mod platform;
pub mod policy;
pub mod prompt;
pub mod screens;
pub mod session;
pub mod state;
pub mod windows;
