//! Sessions over a moq-relay, as `tandem-loadtest peers` asks for them: every end is a client of its own, and everybody of a
//! session has the same path. The customer publishes its screen, the first technician its input; the relay fans out.
//!
//! A frame is a group of its own, so that none waits for one before it; all input is in few long groups, each of which is a stream,
//! so that it arrives whole and in its order. Everything else is as the library has it: who reads a screen gives up what a newer
//! frame has overtaken. moq-relay has nothing that tells a customer to wait; one that sends as fast as it can has
//! [`ends::WINDOW`] frames under way.

#![forbid(unsafe_code)]

mod ends;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moq_net::origin;
use moq_tokio::{Connection, connect};
use rustls::crypto::aws_lc_rs;
use tandem_workload::{Frames, Job, Place, System, program};
use tokio::sync::watch;
use url::Url;

use crate::ends::{Inlet, Outlet, Window};

/// The paths of broadcasts below a session's, and the track that each has.
pub(crate) const CUSTOMER: &str = "customer";
pub(crate) const TECHNICIAN: &str = "technician";
pub(crate) const TRACK: &str = "track";
/// How long what must not be lost may lie behind what is newest: what tracks keep at most.
const ALL: Duration = moq_net::track::DEFAULT_MAX_AGE;

fn main() -> anyhow::Result<()> {
    program::main(Moq::new)
}

/// The system.
struct Moq {
    job: Job,
    /// SHA-256 of the relay's certificate, in hexadecimal.
    fingerprint: String,
    /// By session: how many frames its technician has, if customers are to wait for that.
    received: Option<Vec<watch::Sender<u32>>>,
}

/// Somebody who is connected. Both halves of an end keep it.
pub(crate) struct End {
    _connection: Connection,
    /// What others publish.
    pub(crate) theirs: origin::Consumer,
    /// What it publishes.
    _own: origin::Producer,
}

impl Moq {
    fn new(job: &Job) -> anyhow::Result<Self> {
        let mut provider = aws_lc_rs::default_provider();
        // The first is used; QUIC protects its first packets with the second, whatever is agreed on.
        provider.cipher_suites = vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ];
        anyhow::ensure!(provider.install_default().is_ok(), "there is another cryptography provider already");
        let fingerprint = job.settings["fingerprint"].as_str().context("no fingerprint")?.to_owned();
        let sessions = || (0..job.shape.sessions).map(|_| watch::Sender::new(0)).collect();
        let received = (job.shape.frames == Frames::Saturate).then(sessions);
        Ok(Self { job: job.clone(), fingerprint, received })
    }

    /// Connects with a client of its own: its own socket, and a full handshake. It publishes what is in `own`.
    async fn connect(&self, place: Place, session: u32, own: origin::Producer) -> anyhow::Result<Arc<End>> {
        let mut config = connect::Config::default();
        config.bind = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        config.once = Some(true);
        config.tls.fingerprint = vec![self.fingerprint.clone()];
        let url: Url = format!("{}/{session}", self.job.way(place).relay).parse()?;
        let theirs = moq_tokio::origin::spawn();
        let client = config.init(moq_tokio::quic::Config::default()).context("moq client")?;
        let client = client.with_publisher(&own).with_subscriber(theirs.clone());
        let connection = client.connect(url).established().await.context("moq-relay")?;
        Ok(Arc::new(End { _connection: connection, theirs: theirs.consume(), _own: own }))
    }

    fn window(&self, session: u32) -> Option<&watch::Sender<u32>> {
        self.received.as_ref()?.get(session as usize)
    }
}

impl System for Moq {
    type Outlet = Outlet;
    type Inlet = Inlet;

    fn uploads(&self, _: u32) -> u32 {
        1
    }

    async fn open(&self, _: Place) -> anyhow::Result<()> {
        Ok(())
    }

    async fn customer(&self, session: u32, _: u32) -> anyhow::Result<(Outlet, Inlet)> {
        let own = moq_tokio::origin::spawn();
        let window = self.window(session).map(|received| Window::new(received.subscribe()));
        let screen = ends::publish(&own, CUSTOMER)?;
        let end = self.connect(Place::Near, session, own).await?;
        // The technician is not there yet.
        let inlet = Inlet::waiting(end.clone(), TECHNICIAN, ALL);
        Ok((Outlet::screen(end, screen, window), inlet))
    }

    async fn technician(&self, session: u32, number: u32) -> anyhow::Result<(Outlet, Inlet)> {
        let own = moq_tokio::origin::spawn();
        // The others never send.
        let input = (number == 0).then(|| ends::publish(&own, TECHNICIAN)).transpose()?;
        let end = self.connect(self.job.place(number), session, own).await?;
        let received = self.window(session).filter(|_| number == 0).cloned();
        let age = if self.received.is_some() { ALL } else { Duration::ZERO };
        let mut inlet = Inlet::waiting(end.clone(), CUSTOMER, age).telling(received);
        inlet.subscribe().await?;
        Ok((Outlet::input(end, input), inlet))
    }
}
