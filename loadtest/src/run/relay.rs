//! A relay of our own, as a process beside us that ends with us.
//!
//! On loopback it is started as anybody would try it out: `tandem-relay serve --dev --json`. Across a link it gets a
//! configuration and a certificate, since `--dev` serves loopback only, and it believes tokens that we sign.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tandem_client::{Fingerprint, Target};
use tempfile::TempDir;

use super::desk::{AUDIENCE, Desk, Opener, Signer};
use crate::link::{Kept, Link, NEAR_IP, Side};
use crate::shell::quoted;

/// How long a relay may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// The relay's port in a namespace of its own, where every port is free.
const PORT: u16 = 8443;

/// A relay to measure.
#[derive(Debug)]
pub(crate) struct Relay {
    pub target: Target,
    pub opener: Opener,
    /// Ends a relay of ours.
    _process: Option<Process>,
}

#[derive(Debug)]
enum Process {
    Here(#[expect(dead_code, reason = "held for its end")] Keeper),
    InLink(
        #[expect(dead_code, reason = "held for its end")] Kept,
        #[expect(dead_code, reason = "its files")] TempDir,
    ),
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
        Ok(Self { target, opener: Opener::Desk(desk), _process: None })
    }

    /// Starts one on loopback. To be called on the main thread: with that its keeper ends it.
    pub(crate) async fn on_loopback(program: &Path) -> anyhow::Result<Self> {
        let script =
            format!("exec {} serve --dev --json --listen 127.0.0.1:0 --log warn", shell_path(program)?);
        let keeper = Command::new("/proc/self/exe")
            .args(["keep", "--parent", &std::process::id().to_string(), "--", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the relay")?;
        let mut process = Keeper(keeper);
        let ready = read_ready(&mut process.0)?;
        let text = |name: &str| ready[name].as_str().with_context(|| format!("the relay said no {name}"));
        let target = Target::new(text("relay")?, vec![text("fingerprint")?.parse()?])?;
        let (_, secret) = text("console")?.split_once("#secret=").context("the relay gave no secret")?;
        let desk = Desk::sign_in(target.clone(), secret).await?;
        Ok(Self { target, opener: Opener::Desk(desk), _process: Some(Process::Here(process)) })
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
            // Nobody listens any more once it was ready.
            let _ = UnixDatagram::unbound().and_then(|own| own.send_to(b"ENDED", &socket));
        };
        let process =
            link.shell(Side::Near, &script, Stdio::null(), on_end).context("cannot start the relay")?;
        let mut said = [0; 256];
        let len = notify.recv(&mut said).context("the relay does not become ready")?;
        ensure!(said[..len].starts_with(b"READY=1"), "the relay ended before it was ready");
        let target = Target::new(&format!("https://{NEAR_IP}:{PORT}"), vec![fingerprint])?;
        Ok(Self { target, opener: Opener::Signer(signer), _process: Some(Process::InLink(process, files)) })
    }
}

/// The line by which a relay says where it is.
fn read_ready(keeper: &mut Child) -> anyhow::Result<Value> {
    let stdout = keeper.stdout.take().context("its output is not ours")?;
    let (said, ready) = mpsc::sync_channel(1);
    // Reads on to the end, so that the relay can never be stopped by a full pipe.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = said.try_send(line);
        }
    });
    match ready.recv_timeout(PATIENCE) {
        Ok(line) => serde_json::from_str(&line).with_context(|| format!("the relay said {line:?}")),
        Err(_) => bail!("the relay ended or was silent before it was ready"),
    }
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

/// A certificate for the near end's address; answers with its fingerprint.
fn write_certificate(files: &Path) -> anyhow::Result<Fingerprint> {
    let pair = rcgen::KeyPair::generate().context("cannot make a key")?;
    let certificate = rcgen::CertificateParams::new(vec![NEAR_IP.to_string()])?.self_signed(&pair)?;
    std::fs::write(files.join("certificate.pem"), certificate.pem())?;
    std::fs::write(files.join("key.pem"), pair.serialize_pem())?;
    Ok(Fingerprint::of(certificate.der()))
}
