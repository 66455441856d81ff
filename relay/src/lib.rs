//! The relay: pairs the two ends of a session, forwards what it cannot read, and never lets lag grow.
//!
//! - [`stream`], [`outbox`], [`session`]: the forwarding core, plain data without I/O or clock;
//! - [`admission`], [`limits`], [`relay`]: who is let in, how much of everything, and the sessions there are;
//! - [`connection`], [`transport`]: clients over QUIC, WebTransport and WebSocket;
//! - [`config`], [`tls`], [`http`], [`operations`], [`metrics`], [`private_file`], [`server`], [`watchdog`]: the daemon
//!   around it; [`doctor`] looks at the machine that it is to run on.
//!
//! It reads record headers and control messages, and never a body.
#![forbid(unsafe_code)]

pub mod admission;
pub mod config;
pub mod connection;
pub mod doctor;
pub mod drain;
mod ended;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod operations;
pub mod outbox;
pub mod private_file;
pub mod relay;
pub mod server;
pub mod session;
pub mod state_file;
pub mod stream;
pub mod tls;
pub mod transport;
pub mod watchdog;
