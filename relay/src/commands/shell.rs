//! `completions` and `man`: what a shell and `man` know of this program, made from its arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// An existing directory.
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(self, mut command: Command) -> anyhow::Result<ExitCode> {
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut std::io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    pub(super) fn run(self, command: Command) -> anyhow::Result<ExitCode> {
        clap_mangen::generate_to(command, &self.directory)
            .with_context(|| format!("cannot write manual pages to {}", self.directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
