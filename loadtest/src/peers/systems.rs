//! Which relays there are, and how each is started: what a plain installation does, TLS 1.3 with AES-256-GCM on both sides, no
//! session resumption, one thread, since it has one core.

mod others;
mod ours;

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tandem_client::Fingerprint;
use tandem_workload::job::Way;
use tandem_workload::{Job, Outcome, Shape};
use tempfile::TempDir;

use super::kept::{Cores, Kept, Output};
use super::network::Network;
use super::streams;
use crate::run::command::Binding;
use crate::shell::quoted;

/// A relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum System {
    /// No relay: the customer calls the technician
    Direct,
    TandemQuic,
    #[value(name = "tandem-websocket")]
    TandemWebSocket,
    Haproxy,
    Nginx,
    IrohRelay,
    MoqRelay,
}

impl System {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::TandemQuic => "tandem-quic",
            Self::TandemWebSocket => "tandem-websocket",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::IrohRelay => "iroh-relay",
            Self::MoqRelay => "moq-relay",
        }
    }
}

impl System {
    /// Over what ours goes.
    pub(super) const fn binding(self) -> Option<Binding> {
        match self {
            Self::TandemQuic => Some(Binding::Quic),
            Self::TandemWebSocket => Some(Binding::WebSocket),
            _ => None,
        }
    }
}

/// The module that forwards streams, where Debian has it.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Programs that are used.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) relay: PathBuf,
    /// Where iroh-relay, moq-relay and the programs that load them are.
    pub(super) peers: PathBuf,
}

impl Programs {
    /// What a system says of its version. An error says what is missing.
    pub(super) fn version(&self, system: System) -> anyhow::Result<String> {
        let said = |program: &Path, option: &str| -> anyhow::Result<String> {
            let output = Command::new(program)
                .arg(option)
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("there is no {}", program.display()))?;
            let said = [output.stdout, output.stderr].concat();
            Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
        };
        let peer = |relay: &str, load: &str| -> anyhow::Result<String> {
            for program in [relay, load] {
                let program = self.peers.join(program);
                anyhow::ensure!(program.is_file(), "there is no {}: scripts/build-peers", program.display());
            }
            said(&self.peers.join(relay), "--version")
        };
        match system {
            System::Direct => Ok("TLS 1.3 from end to end".to_owned()),
            System::TandemQuic | System::TandemWebSocket => said(&self.relay, "--version"),
            System::Haproxy => said(Path::new("haproxy"), "-v").context("apt-get install haproxy"),
            System::Nginx => {
                // It ends without it, and `nginx -v` does not know.
                anyhow::ensure!(
                    Path::new(NGINX_STREAM).is_file(),
                    "there is no {NGINX_STREAM}: apt-get install libnginx-mod-stream"
                );
                said(Path::new("nginx"), "-v").context("apt-get install nginx")
            }
            System::IrohRelay => peer("iroh-relay", "tandem-peer-iroh"),
            System::MoqRelay => peer("moq-relay", "tandem-peer-moq"),
        }
    }
}

/// Where a run takes place, and with what.
pub(super) struct Stage<'a> {
    pub(super) network: &'a Network,
    pub(super) cores: Cores,
    pub(super) programs: &'a Programs,
    pub(super) files: TempDir,
    certificate: String,
    key: String,
    pub(super) fingerprint: Fingerprint,
}

/// From the last pairing to what is measured, so that what pairing has left to do is done.
const SETTLE: Duration = Duration::from_secs(1);

/// A load that runs.
pub(super) struct Load(Kept);

impl Load {
    /// Whether it has ended already.
    pub(super) fn has_ended(&self) -> bool {
        self.0.ended().load(Ordering::Acquire)
    }

    /// Waits for what comes of it.
    pub(super) fn outcome(self, system: System) -> anyhow::Result<Outcome> {
        let output = self.0.output()?;
        anyhow::ensure!(output.status.success(), "the load ended with {}", output.status);
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).context("the load did not say what came of it")?;
        outcome.failures.iter().for_each(|failure| eprintln!("peers: {}: {failure}", system.name()));
        Ok(outcome)
    }
}

impl Started {
    /// What is asked of it.
    pub(super) fn job(&self, shape: Shape, time: Duration) -> Job {
        Job {
            shape,
            seconds: time.as_secs_f64(),
            settle: SETTLE.as_secs_f64(),
            relay: self.relay.as_ref().map(Kept::pid),
            near: self.near.clone(),
            far: self.far.clone(),
            begun: None,
            settings: self.settings.clone(),
        }
    }
}

/// A relay that runs.
pub(super) struct Started {
    /// Ends with this. None: there is no relay.
    pub(super) relay: Option<Kept>,
    /// What loads it, as a shell's command.
    pub(super) load: String,
    pub(super) near: Way,
    pub(super) far: Option<Way>,
    pub(super) settings: Value,
}

impl<'a> Stage<'a> {
    /// With a certificate of its own, for the relay and whoever listens.
    pub(super) fn new(network: &'a Network, cores: Cores, programs: &'a Programs) -> anyhow::Result<Self> {
        let files = tempfile::tempdir().context("cannot make a temporary directory")?;
        let pair = rcgen::KeyPair::generate().context("cannot make a key")?;
        let names = vec!["localhost".to_owned(), network.near().to_string(), network.far().to_string()];
        let certificate = rcgen::CertificateParams::new(names)?.self_signed(&pair)?;
        let fingerprint = Fingerprint::of(certificate.der());
        let (certificate, key) = (certificate.pem(), pair.serialize_pem());
        let stage = Self { network, cores, programs, files, certificate, key, fingerprint };
        stage.write("certificate.pem", &stage.certificate)?;
        stage.write("key.pem", &stage.key)?;
        stage.write("both.pem", &[stage.certificate.as_str(), &stage.key].concat())?;
        Ok(stage)
    }

    /// Starts a relay, on its core.
    pub(super) fn start(&self, system: System) -> anyhow::Result<Started> {
        match system {
            System::Direct => self.direct(),
            System::TandemQuic => self.tandem(Binding::Quic),
            System::TandemWebSocket => self.tandem(Binding::WebSocket),
            System::Haproxy => self.haproxy(),
            System::Nginx => self.nginx(),
            System::IrohRelay => self.iroh(),
            System::MoqRelay => self.moq(),
        }
    }

    /// Starts the load, on its core.
    pub(super) fn load(&self, program: &str, job: &Job) -> anyhow::Result<Load> {
        let job = serde_json::to_string(job)?;
        Ok(Load(Kept::start(
            self.network,
            Some(self.cores.load),
            &format!("exec {program}"),
            Output::Kept(Some(job)),
        )?))
    }

    /// A file's path, for a configuration or a shell.
    fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// Writes a file that another user may read, as servers change to one.
    fn write(&self, name: &str, content: &str) -> anyhow::Result<String> {
        std::fs::write(self.files.path().join(name), content)?;
        Ok(self.path(name))
    }

    fn run(&self, script: &str) -> anyhow::Result<Kept> {
        Kept::start(self.network, Some(self.cores.relay), script, Output::Dropped)
    }

    /// A free address beside the relay.
    fn address(&self) -> anyhow::Result<SocketAddrV4> {
        Ok(SocketAddrV4::new(self.network.near(), self.network.port()?))
    }

    /// Where technicians listen: beside the relay, and behind the link.
    fn listeners(&self) -> anyhow::Result<[SocketAddrV4; 2]> {
        Ok([self.address()?, SocketAddrV4::new(self.network.far(), self.network.port()?)])
    }

    /// This program itself.
    fn own_load(protocol: &str) -> anyhow::Result<String> {
        let own = std::env::current_exe()?;
        Ok(format!("{} drive {protocol}", quoted(own.to_str().context("its path is not UTF-8")?)))
    }

    /// Something that forwards streams from these addresses to these listeners.
    fn streams(
        &self,
        relay: Option<Kept>,
        fronts: [SocketAddrV4; 2],
        listeners: [SocketAddrV4; 2],
    ) -> anyhow::Result<Started> {
        let way = |at: usize| Way {
            relay: fronts[at].to_string(),
            listen: Some(listeners[at].to_string()),
            namespace: None,
        };
        let far = self.network.far_namespace().map(|namespace| Way { namespace: Some(namespace), ..way(1) });
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        Ok(Started {
            relay,
            load: Self::own_load("streams")?,
            near: way(0),
            far,
            settings: serde_json::to_value(streams::Settings { certificate, key })?,
        })
    }

    fn direct(&self) -> anyhow::Result<Started> {
        let listeners = self.listeners()?;
        self.streams(None, listeners, listeners)
    }
}
