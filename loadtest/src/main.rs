//! Measures Tandem: pretend customers and technicians, an impaired link, reports. One subcommand per job.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tandem_loadtest::link;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    Link(link::command::Args),
    /// Runs one shell command for a link and ends it with the link; started by `link` itself.
    #[command(hide = true)]
    Keep {
        /// The process without which the command must not live
        #[arg(long)]
        parent: u32,
        /// What the shell runs
        script: String,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().job {
        Job::Link(args) => link::command::run(&args),
        Job::Keep { parent, script } => link::keep::keep(parent, &script)
            .map(|status| ExitCode::from(link::command::exit_code(status)))
            .map_err(anyhow::Error::from),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tandem-loadtest: {error:#}");
        ExitCode::FAILURE
    })
}
