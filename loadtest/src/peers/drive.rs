//! `tandem-loadtest drive`, which `peers` starts: the load for systems that this program speaks itself.

use std::process::ExitCode;

use tandem_workload::program;

use super::streams::Streams;
use super::tandem::Tandem;

/// Which protocol.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Protocol {
    /// Messages in a stream of TLS
    Streams,
    /// Tandem's own
    Tandem,
}

/// Runs a job.
///
/// # Errors
/// If there is none, or it cannot be done.
pub fn run(protocol: Protocol) -> anyhow::Result<ExitCode> {
    match protocol {
        Protocol::Streams => program::main(Streams::new)?,
        Protocol::Tandem => program::main(Tandem::new)?,
    }
    // At once, without taking thousands of connections down in order.
    std::process::exit(0)
}
