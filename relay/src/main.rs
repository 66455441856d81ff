//! `tandem-relay`: arguments, logging, signals and exit code; everything else is in the library.
#![forbid(unsafe_code)]

mod commands;
mod desk;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
