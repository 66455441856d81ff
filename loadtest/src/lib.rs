//! What `tandem-loadtest` is made of: one module per subcommand. A library so that tests can use the parts directly.

// Allowed again in one file, `link/system.rs`.
#![deny(unsafe_code)]

mod accept;
pub mod codec;
mod cores;
pub mod impair;
pub mod limit;
mod lines;
pub mod link;
pub mod peers;
pub(crate) mod plan;
mod quota;
pub(crate) mod report;
pub mod run;
mod shell;
