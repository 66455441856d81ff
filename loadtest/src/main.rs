//! Measures Tandem: pretend customers and technicians, an impaired link, reports. One subcommand per job.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tandem_loadtest::{codec, impair, limit, link, peers, run};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    Codec(codec::command::Args),
    Impair(Box<impair::command::Args>),
    Limit(limit::command::Args),
    Link(link::command::Args),
    Peers(peers::command::Args),
    Run(Box<run::command::Args>),
    /// The load of one run of `peers`, whose job is on the standard input; started by that itself.
    #[command(hide = true)]
    Drive {
        /// Which protocol it speaks
        #[arg(value_enum)]
        protocol: peers::drive::Protocol,
    },
    /// Runs one shell command and ends it with its parent; started by the others themselves.
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
        Job::Codec(args) => codec::command::run(&args),
        Job::Impair(args) => impair::command::run(&args),
        Job::Limit(args) => limit::command::run(&args),
        Job::Link(args) => link::command::run(&args),
        Job::Peers(args) => peers::command::run(&args),
        Job::Drive { protocol } => peers::drive::run(protocol),
        Job::Run(args) => run::command::run(&args),
        Job::Keep { parent, script } => link::keep::keep(parent, &script)
            .map(|status| ExitCode::from(link::command::exit_code(status)))
            .map_err(anyhow::Error::from),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tandem-loadtest: {error:#}");
        ExitCode::FAILURE
    })
}
