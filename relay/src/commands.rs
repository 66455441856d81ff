//! What `tandem-relay` can be told to do: a file for each command, its arguments beside its work.

mod ask;
mod check_config;
mod doctor;
mod drain;
mod print_config;
mod serve;
mod sessions;
mod settings;
mod shell;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tandem_relay::config::ConfigError;
use tandem_relay::private_file::StateError;

/// Exit code of a configuration that does not work (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// Exit code of a state directory that does not take or give a file: a full disk, mostly (EX_CANTCREAT).
const EXIT_STATE: u8 = 73;

/// Remote support on your own servers: the relay.
#[derive(Debug, Parser)]
#[command(
    name = "tandem-relay",
    version,
    after_help = "docs/operations.md tells how to install, watch and restart a relay."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Serve(serve::Serve),
    /// Say whether a configuration works. Exit code 64 and key, value and reason if not.
    CheckConfig(check_config::CheckConfig),
    /// Show the configuration in effect, and where each value comes from. Secrets are masked.
    PrintConfig(print_config::PrintConfig),
    /// Say whether this machine has what a relay needs, and what to do if not. Exit code 1 if a relay would not serve.
    Doctor(doctor::Doctor),
    /// Show who is connected to the relay that runs here.
    Sessions(sessions::Sessions),
    /// Take the relay that runs here out of service: its clients are told, and go elsewhere or come back to its successor.
    Drain(drain::Drain),
    /// Make keys, sign and show tokens, for a desk of your own.
    Token(token::Token),
    /// Write the completions of a shell to stdout.
    Completions(shell::Completions),
    /// Write the manual pages to a directory.
    Man(shell::Man),
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::CheckConfig(check) => check.run(),
        Command::PrintConfig(print) => print.run(matches.subcommand().map(|(_, of)| of)),
        Command::Doctor(doctor) => doctor.run(),
        Command::Sessions(sessions) => sessions.run(),
        Command::Drain(drain) => drain.run(),
        Command::Token(token) => token.run(),
        Command::Completions(completions) => completions.run(Arguments::command()),
        Command::Man(man) => man.run(Arguments::command()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem-relay: {error:#}");
            ExitCode::from(match () {
                () if error.downcast_ref::<ConfigError>().is_some() => EXIT_CONFIG,
                () if error.downcast_ref::<StateError>().is_some() => EXIT_STATE,
                () => 1,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
