//! What is asked of every relay that is measured side by side, Tandem or another: the same messages at the same moments,
//! driven by one process with one clock, and figures that are taken in the same way.
//!
//! A program that speaks a relay's protocol implements [`System`] and calls [`program::main`]; it reads a [`Job`] from its
//! standard input and prints an [`Outcome`].
//!
//! - [`job`]: what is to be done, and what came of it; [`system`]: what a relay's protocol has to offer;
//! - [`message`]: what is sent; `schedule`: when it is due; `drive`: sessions from their pairing to their end;
//! - `tally`: what the ends count; [`process`]: what programs cost, from /proc.
//!
//! Everything is due at a fixed moment and what is late counts from then. A frame that is not sent before a newer one is due is
//! left out, and counted; input is never left out.

// Allowed again in two files: `process.rs` and `schedule.rs`.
#![deny(unsafe_code)]

mod drive;
pub mod job;
pub mod message;
pub mod process;
pub mod program;
mod schedule;
pub mod system;
mod tally;

pub use drive::drive;
pub use job::{Frames, Job, Outcome, RelayCost, Shape};
pub use system::{Inlet, Outlet, Place, System};
