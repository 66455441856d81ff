//! Where settings come from: the arguments that all commands share, the environment, and the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use tandem_relay::config::file::File;
use tandem_relay::config::{Config, ConfigError, Overrides};

/// The file that commands beside `serve` look at if they are not told another one.
const INSTALLED: &str = "/etc/tandem/relay.toml";

/// Arguments that are stronger than the file.
#[derive(Args, Clone, Debug)]
pub(super) struct Settings {
    /// Configuration file (config/relay.toml shows every key).
    #[arg(long, env = "TANDEM_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Public address; port 0 takes a free one.
    #[arg(long, env = "TANDEM_LISTEN")]
    pub(super) listen: Option<SocketAddr>,
    /// Private address of /metrics, /healthz, /readyz and the rest that is for operators.
    #[arg(long, env = "TANDEM_OPERATIONS")]
    pub(super) operations: Option<SocketAddr>,
    /// Serve UDP (QUIC and WebTransport) or not.
    #[arg(long, env = "TANDEM_UDP")]
    pub(super) udp: Option<bool>,
    /// Where the key that seals resume tickets is kept.
    #[arg(long, env = "TANDEM_STATE_DIRECTORY")]
    pub(super) state_directory: Option<PathBuf>,
}

impl Settings {
    /// For a command about a relay that is installed: its file, unless another one is named.
    pub(super) fn of_installed(mut self) -> Self {
        if self.config.is_none() && Path::new(INSTALLED).exists() {
            self.config = Some(INSTALLED.into());
        }
        self
    }

    /// The file as it is written, or all defaults.
    pub(super) fn file(&self) -> Result<File, ConfigError> {
        Ok(self.config.as_deref().map(File::read).transpose()?.unwrap_or_default())
    }

    /// What the arguments and the environment say.
    pub(super) fn overrides(&self, dev: bool) -> Overrides {
        Overrides {
            listen: self.listen,
            operations: self.operations,
            udp: self.udp,
            state_directory: self.state_directory.clone(),
            dev,
        }
    }

    /// The checked settings.
    pub(super) fn resolve(&self) -> Result<Config, ConfigError> {
        Config::resolve(self.file()?, self.overrides(false))
    }

    /// How the file is called, for people.
    pub(super) fn file_name(&self) -> String {
        self.config.as_deref().map_or_else(|| "the defaults".into(), |path| path.display().to_string())
    }
}
