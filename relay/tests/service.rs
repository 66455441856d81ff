//! The relay under a service manager: what it tells it, and how it takes new certificates and settings while it runs.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{PATIENCE, Relay, Socket, http};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tandem_protocol::message::{control, hello::Join};

/// A service manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    fn at(socket: &Path) -> Self {
        let manager = UnixDatagram::bind(socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(manager)
    }

    /// Waits until it is told such a thing.
    fn hears(&self, wanted: &str) -> String {
        self.hears_all(&[wanted])
    }

    /// Waits until it is told these things, in whatever order; answers with the last message.
    fn hears_all(&self, wanted: &[&str]) -> String {
        let (mut missing, began, mut message) = (wanted.to_vec(), Instant::now(), [0; 512]);
        loop {
            let len = self.0.recv(&mut message).unwrap_or_else(|_| panic!("nobody says {missing:?}"));
            // A watchdog's word comes for ever.
            assert!(began.elapsed() < PATIENCE, "nobody says {missing:?}");
            let text = String::from_utf8_lossy(&message[..len]).into_owned();
            missing.retain(|wanted| !text.contains(wanted));
            if missing.is_empty() {
                return text;
            }
        }
    }
}

/// A relay as its unit starts it.
struct Service {
    directory: tempfile::TempDir,
    manager: Manager,
    child: tokio::process::Child,
}

impl Service {
    fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// With more in its configuration, for which there may be more in its directory.
    fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        certificate(directory.path(), 30);
        let more = more(directory.path());
        std::fs::write(at("relay.toml"), config(directory.path(), &more)).unwrap();
        let manager = Manager::at(&at("notify"));
        // As systemd does it: the watchdog is meant for one process id.
        let child = tokio::process::Command::new("sh")
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" serve --log-format json --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_tandem-relay"))
            .arg(at("relay.toml"))
            .env("NOTIFY_SOCKET", at("notify"))
            .env("WATCHDOG_USEC", "2000000")
            .stderr(Stdio::from(File::create(at("log")).unwrap()))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { directory, manager, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the manager is told such a thing.
    fn hears(&self, wanted: &str) -> String {
        self.manager.hears(wanted)
    }

    /// Waits until a reload begins and is over.
    fn reloads(&self) {
        assert!(self.hears("RELOADING=1").contains("MONOTONIC_USEC="), "for Type=notify-reload");
        self.hears("READY=1");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The private port, as the log has it.
    fn operations(&self) -> String {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let fields = lines.map(|line| line["fields"].clone());
        let listening = fields.into_iter().find(|fields| fields["message"] == "listening").unwrap();
        listening["operations"].as_str().unwrap().to_owned()
    }

    /// For how many days, rounded, its certificate is still good.
    async fn certificate_days(&self) -> u64 {
        let text = http(&self.operations(), "GET", "/metrics", "", "").await.1;
        let name = "tandem_relay_certificate_expiry_timestamp_seconds ";
        let at: f64 = text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        ((at - now) / 86_400.0).round() as u64
    }
}

/// Writes a certificate that is good for so many days, and its key.
fn certificate(directory: &Path, days: u64) {
    let mut params = CertificateParams::new(vec!["support.example".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400)).into();
    let pair = KeyPair::generate().unwrap();
    // As a careful tool does it: nobody sees half a file.
    for (name, text) in
        [("key.pem", pair.serialize_pem()), ("chain.pem", params.self_signed(&pair).unwrap().pem())]
    {
        std::fs::write(directory.join("new"), text).unwrap();
        std::fs::rename(directory.join("new"), directory.join(name)).unwrap();
    }
}

fn config(directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "[listen]\naddress = '127.0.0.1:0'\noperations = '127.0.0.1:0'\n\
         [tls]\ncertificate = '{directory}/chain.pem'\nkey = '{directory}/key.pem'\n\
         [state]\ndirectory = '{directory}/state'\n{more}"
    )
}

#[tokio::test]
async fn the_manager_is_told_of_readiness_progress_and_the_end() {
    let mut service = Service::start();
    service.manager.hears_all(&["READY=1", "STATUS=0 sessions, 0 connections"]);
    // Twice: the second time progress must have been made since.
    service.hears("WATCHDOG=1");
    service.hears("WATCHDOG=1");
    service.signal("-TERM");
    service.hears("STOPPING=1");
    assert!(tokio::time::timeout(PATIENCE, service.child.wait()).await.unwrap().unwrap().success());
}

/// A request, not a signal: the manager learns of it, and that it has to be patient for as long as sessions may stay.
#[tokio::test]
async fn the_manager_is_told_of_a_drain_and_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::at(&socket);
    let shell = format!("NOTIFY_SOCKET='{}'; export NOTIFY_SOCKET", socket.display());
    let mut relay = Relay::start_in(&shell, &[]).await;
    manager.hears("READY=1");
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    assert!(matches!(customer.next().await, Ok(control::Message::Welcome(_))));
    let (head, _) = relay.operations("POST", "/drain?deadline_seconds=3600").await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    manager.hears_all(&[
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=",
        "STATUS=leaving service: 1 sessions, 1 connections",
    ]);
    relay.signal("-TERM");
    assert!(relay.wait().await.success());
}

#[tokio::test]
async fn token_keys_are_read_again_on_request() {
    let service = Service::start_with(|directory| {
        std::fs::create_dir(directory.join("keys")).unwrap();
        format!("[tokens]\ndirectory = '{}/keys'\n", directory.display())
    });
    service.hears("READY=1");
    let read = || service.log().matches("token keys read").count();
    assert_eq!(read(), 1);
    service.signal("-HUP");
    service.reloads();
    assert_eq!(read(), 2);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_and_a_broken_one_is_not() {
    let service = Service::start();
    service.hears("READY=1");
    assert_eq!(service.certificate_days().await, 30);
    // Nobody says a word: it is seen. Perhaps between its two files, which are then not taken, and seen again.
    certificate(service.directory.path(), 90);
    while service.certificate_days().await != 90 {
        service.reloads();
    }
    std::fs::write(service.path("chain.pem"), "no certificate").unwrap();
    service.signal("-HUP");
    service.reloads();
    assert!(service.log().contains("keeping the last good certificate"));
    assert_eq!(service.certificate_days().await, 90);
}

#[tokio::test]
async fn changed_settings_are_taken_over_or_named_and_broken_ones_change_nothing() {
    let service = Service::start();
    service.hears("READY=1");
    let write = |text: String| std::fs::write(service.path("relay.toml"), text).unwrap();
    write(config(service.directory.path(), "[session]\ngrace_seconds = 1\n"));
    service.reloads();
    assert!(service.log().contains("keeping the last good configuration"), "{}", service.log());
    assert!(service.log().contains("session.grace_seconds = 1: at least 5"));
    std::fs::create_dir(service.path("elsewhere")).unwrap();
    certificate(&service.path("elsewhere"), 60);
    let moved = config(service.directory.path(), "[session]\ngrace_seconds = 60\n");
    write(moved.replace("/chain.pem", "/elsewhere/chain.pem").replace("/key.pem", "/elsewhere/key.pem"));
    service.signal("-HUP");
    service.reloads();
    assert_eq!(service.certificate_days().await, 60);
    assert!(service.log().contains("session.grace_seconds") && service.log().contains("after a restart"));
    assert!(!service.log().contains("\"tls.certificate\""), "that is in effect");
}
