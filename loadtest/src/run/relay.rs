//! A relay of our own, as a process beside us that ends with us.
//!
//! On loopback it is started nearly as anybody would try it out: `tandem-relay serve --dev --json`. Across a link it gets a
//! certificate too, since `--dev` serves loopback only. Either believes tokens that we sign.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tandem_client::{Fingerprint, Target};
use tempfile::TempDir;

use super::desk::{AUDIENCE, Desk, Opener, Signer};
use super::process::Usage;
use crate::cores;
use crate::link::{Kept, Link, NEAR_IP, Side, keep};
use crate::plan::Cores;
use crate::quota::Quota;
use crate::shell::quoted;

/// How long a relay may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// The relay's port in a namespace of its own, where every port is free.
const PORT: u16 = 8443;

/// Said in the place of a relay that has ended, which says nothing more.
const ENDED: &[u8] = b"ENDED";

/// A relay to measure.
#[derive(Debug)]
pub(crate) struct Relay {
    pub target: Target,
    pub opener: Arc<Opener>,
    /// Ends a relay of ours.
    process: Option<Process>,
}

#[derive(Debug)]
enum Process {
    Here(Local),
    InLink(
        #[expect(dead_code, reason = "held for its end")] Kept,
        #[expect(dead_code, reason = "its files")] TempDir,
    ),
}

/// A relay on loopback, which may be killed and started again.
#[derive(Debug)]
struct Local {
    running: Running,
    program: PathBuf,
    cores: Option<Cores>,
    quota: Option<Quota>,
    files: TempDir,
}

/// One life of it.
#[derive(Debug)]
struct Running {
    _keeper: Keeper,
    pid: u32,
    ready: Value,
    /// Bytes of memory before anybody had connected.
    resident: f64,
}

/// A keeper that runs a relay on loopback.
#[derive(Debug)]
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Not waited for yet, so the number is still its own. It ends the relay and then itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

impl Local {
    fn start(
        program: &Path,
        cores: Option<&Cores>,
        share: Option<f64>,
        signer: &Signer,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir().context("cannot make a temporary directory")?;
        std::fs::write(files.path().join("relay.toml"), load_config_text(files.path(), signer.public()))?;
        let count =
            cores.map_or_else(|| cores::allowed().map(|all| all.len()), |cores| Ok(cores.numbers().len()))?;
        let quota = share.map(|share| Quota::new(share * count as f64)).transpose()?;
        let running = run_on_loopback(program, files.path(), 0, cores, quota.as_ref())?;
        Ok(Self { running, program: program.to_owned(), cores: cores.cloned(), quota, files })
    }

    /// Kills it as a power cut would, and starts it again at the same address.
    fn restart(&mut self) -> anyhow::Result<()> {
        let port = self.running.text("relay")?.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.context("the relay told no port")?;
        let pid = i32::try_from(self.running.pid).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::KILL).context("cannot kill the relay")?;
        // With the relay its keeper ends, and is waited for, so that the port is free.
        let _ = self.running._keeper.0.wait();
        let (files, cores, quota) = (self.files.path(), self.cores.as_ref(), self.quota.as_ref());
        self.running = run_on_loopback(&self.program, files, port, cores, quota)?;
        Ok(())
    }
}

impl Running {
    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.ready[name].as_str().with_context(|| format!("the relay said no {name}"))
    }
}

/// Starts a relay. To be called on the main thread: with that its keeper ends it.
fn run_on_loopback(
    program: &Path,
    files: &Path,
    port: u16,
    on: Option<&Cores>,
    quota: Option<&Quota>,
) -> anyhow::Result<Running> {
    let enter =
        quota.map(Quota::enter).transpose()?.map(|enter| format!("{enter} || exit; ")).unwrap_or_default();
    let script = format!(
        "{enter}echo $$; exec {} serve --dev --json --config {} --listen 127.0.0.1:{port} --log warn",
        shell_path(program)?,
        shell_path(&files.join("relay.toml"))?
    );
    let keeper =
        cores::inherited(on.map(Cores::numbers), || keep::command(&script).stdout(Stdio::piped()).spawn())?;
    let mut keeper = Keeper(keeper.context("cannot start the relay")?);
    let mut said = output(&mut keeper.0)?;
    let pid = said()?.parse().context("the relay's shell told no number")?;
    let line = said()?;
    let ready = serde_json::from_str(&line).with_context(|| format!("the relay said {line:?}"))?;
    let resident = Usage::of(pid).context("the relay is gone")?.resident;
    Ok(Running { _keeper: keeper, pid, ready, resident })
}

/// The relay's program: as given, or beside our own.
pub(crate) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let program = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("tandem-relay"),
    };
    ensure!(
        program.is_file(),
        "there is no relay at {}: cargo build -p tandem-relay, or --relay-bin",
        program.display()
    );
    Ok(program.canonicalize()?)
}

impl Relay {
    /// One that runs already, whose desk we sign in to.
    pub(crate) async fn elsewhere(target: Target, secret: &str) -> anyhow::Result<Self> {
        let desk = Desk::sign_in(target.clone(), secret).await?;
        Ok(Self { target, opener: Arc::new(Opener::Desk(desk)), process: None })
    }

    /// Starts one on loopback, on these cores with this share of their time, that believes our tokens. To be called on the main thread: with that its keeper ends it.
    pub(crate) fn on_loopback(
        program: &Path,
        cores: Option<&Cores>,
        share: Option<f64>,
    ) -> anyhow::Result<Self> {
        let signer = Signer::generate()?;
        let local = Local::start(program, cores, share, &signer)?;
        let fingerprint = local.running.text("fingerprint")?.parse()?;
        let target = Target::new(local.running.text("relay")?, vec![fingerprint])?;
        let opener = Arc::new(Opener::Signer(signer));
        Ok(Self { target, opener, process: Some(Process::Here(local)) })
    }

    /// Kills it and starts it again, if it is ours and on loopback. On the main thread, as before.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(Process::Here(local)) => local.restart(),
            _ => bail!("only a relay that was started here can be killed"),
        }
    }

    /// Its process, if that is ours and on loopback.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.local().map(|local| local.running.pid)
    }

    /// Bytes of memory that it took before anybody had connected, if it is ours and on loopback.
    pub(crate) fn resident_at_first(&self) -> Option<f64> {
        self.local().map(|local| local.running.resident)
    }

    /// Its private address, if it is ours and on loopback.
    pub(crate) fn operations(&self) -> Option<SocketAddr> {
        self.local()?.running.text("operations").ok()?.strip_prefix("http://")?.parse().ok()
    }

    fn local(&self) -> Option<&Local> {
        match &self.process {
            Some(Process::Here(local)) => Some(local),
            _ => None,
        }
    }

    /// The same relay as the far end of another link reaches it.
    pub(crate) fn beyond(&self, link: &Link) -> anyhow::Result<Target> {
        let url = format!("https://{}:{PORT}", link.ip(Side::Near));
        Ok(Target::new(&url, self.target.fingerprints().to_vec())?)
    }

    /// Starts one at the near end of a link, and of those beside it.
    pub(crate) fn in_link(link: &Link, program: &Path) -> anyhow::Result<Self> {
        let files = tempfile::tempdir().context("cannot make a temporary directory")?;
        let signer = Signer::generate()?;
        let fingerprint = write_certificate(files.path())?;
        let config = files.path().join("relay.toml");
        std::fs::write(&config, config_text(files.path(), signer.public()))?;
        // The service manager's protocol says when it listens; the way out of the script uses the same socket.
        let socket = files.path().join("notify");
        let notify = UnixDatagram::bind(&socket).context("cannot listen for the relay's readiness")?;
        notify.set_read_timeout(Some(PATIENCE))?;
        let script = format!(
            "NOTIFY_SOCKET={} exec {} serve --config {} --log warn",
            shell_path(&socket)?,
            shell_path(program)?,
            shell_path(&config)?
        );
        let on_end = move |_| {
            // An error means that its files are gone, and whoever listened.
            let _ = UnixDatagram::unbound().and_then(|own| own.send_to(ENDED, &socket));
        };
        let process =
            link.shell(Side::Near, &script, Stdio::null(), on_end).context("cannot start the relay")?;
        let mut said = [0; 256];
        loop {
            let len = notify.recv(&mut said).context("the relay does not become ready")?;
            ensure!(said[..len] != *ENDED, "the relay ended before it was ready");
            // Its status may come first.
            if said[..len].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                break;
            }
        }
        // It goes on telling its status, and would complain if nobody took that.
        notify.set_read_timeout(None)?;
        thread::spawn(move || while notify.recv(&mut said).is_ok_and(|len| said[..len] != *ENDED) {});
        let target = Target::new(&format!("https://{NEAR_IP}:{PORT}"), vec![fingerprint])?;
        let opener = Arc::new(Opener::Signer(signer));
        Ok(Self { target, opener, process: Some(Process::InLink(process, files)) })
    }
}

/// The lines that a relay says, each in its time.
fn output(keeper: &mut Child) -> anyhow::Result<impl FnMut() -> anyhow::Result<String> + use<>> {
    let stdout = keeper.stdout.take().context("its output is not ours")?;
    let (said, lines) = mpsc::sync_channel(2);
    // Reads on to the end, so that the relay can never be stopped by a full pipe.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = said.try_send(line);
        }
    });
    Ok(move || lines.recv_timeout(PATIENCE).context("the relay ended or was silent before it was ready"))
}

fn shell_path(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(quoted).with_context(|| format!("{} is not UTF-8", path.display()))
}

fn config_text(files: &Path, key: &str) -> String {
    let files = files.display();
    format!(
        "[listen]\naddress = \"0.0.0.0:{PORT}\"\n\
         [tls]\ncertificate = \"{files}/certificate.pem\"\nkey = \"{files}/key.pem\"\n\
         [state]\ndirectory = \"{files}/state\"\n\
         [tokens]\naudience = \"{AUDIENCE}\"\nkeys = [\"{key}\"]\n"
    )
}

/// Of a relay on loopback, where all clients have one address: what is meant for a network would be met at once. All else is as it comes.
fn load_config_text(files: &Path, key: &str) -> String {
    format!(
        "[state]\ndirectory = \"{}/state\"\n\
         [tokens]\naudience = \"{AUDIENCE}\"\nkeys = [\"{key}\"]\n\
         [limits]\nhandshakes_per_network = 1000000\nhandshakes_per_network_per_second = 100000\n\
         unadmitted_per_network = 4096\n",
        files.display()
    )
}

/// A certificate for the near end's address; answers with its fingerprint.
fn write_certificate(files: &Path) -> anyhow::Result<Fingerprint> {
    let pair = rcgen::KeyPair::generate().context("cannot make a key")?;
    let certificate = rcgen::CertificateParams::new(vec![NEAR_IP.to_string()])?.self_signed(&pair)?;
    std::fs::write(files.join("certificate.pem"), certificate.pem())?;
    std::fs::write(files.join("key.pem"), pair.serialize_pem())?;
    Ok(Fingerprint::of(certificate.der()))
}
