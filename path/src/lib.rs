//! What a network path takes, and how to keep it from building queues.
//!
//! Whatever waits in a router's buffer delays all that comes after it, a keystroke too, whichever lane filled the
//! buffer. So each end bounds everything that it has under way on a connection, screens and files alike, to about what the path
//! holds when nothing waits in it: its rate times its shortest round trip, and a few milliseconds of its rate.
//!
//! - [`bucket`]: handing over small pieces at a rate;
//! - [`control`]: that bound as plain data: estimates of rate and round trip, and the window that follows from them;
//! - [`quic`]: the same as quinn's congestion controller, and the choice between it and quinn's own;
//! - [`reach`]: a bound on what is under way end to end, for queues that no transport sees;
//! - [`sender`]: lanes' records to QUIC streams, bound late, by priority and share;
//! - [`tcp`]: the bound for a TCP socket, from what the kernel tells of it;
//! - [`state`]: what all this knows, for whoever decides what to send.

pub mod bucket;
pub mod control;
pub mod quic;
pub mod reach;
pub mod sender;
pub mod state;
pub mod tcp;
mod windowed;

pub use quic::Congestion;
pub use reach::Reach;
pub use state::{Gauge, State};
