//! Sessions over whatever forwards bytes of TLS to where a technician listens, or over nothing at all. The first message of a
//! connection says whose it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use tandem_workload::message::{HEAD, Head, Kind, Message};
use tandem_workload::{Inlet, Job, Outlet, Place, System};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::accept::accept as accept_next;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// What this system needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// PEM of the certificate of relay and technicians, and of its key.
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The system.
pub(super) struct Streams {
    job: Job,
    client: TlsConnector,
    server: TlsAcceptor,
    doors: Arc<Doors>,
}

type Stream = TlsStream<TcpStream>;
type Door = (Option<oneshot::Sender<Stream>>, Option<oneshot::Receiver<Stream>>);

/// Where connections meet those who wait for them: by session and technician.
#[derive(Default)]
struct Doors(Mutex<HashMap<(u32, u32), Door>>);

impl Doors {
    fn door<T>(&self, of: (u32, u32), take: impl FnOnce(&mut Door) -> Option<T>) -> Option<T> {
        let mut doors = self.0.lock();
        take(doors.entry(of).or_insert_with(|| {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        }))
    }
}

impl Streams {
    pub(super) fn new(job: &Job) -> anyhow::Result<Self> {
        let settings: Settings = serde_json::from_value(job.settings.clone())?;
        let certificate = CertificateDer::from_pem_slice(settings.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(settings.key.as_bytes())?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
        let provider = Arc::new(provider);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone())?;
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every connection pays for its own handshake, as those of strangers do.
        client.resumption = rustls::client::Resumption::disabled();
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        server.send_tls13_tickets = 0;
        Ok(Self {
            job: job.clone(),
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
            doors: Arc::default(),
        })
    }
}

/// Takes the technicians' ends of connections.
async fn accept(listener: TcpListener, tls: TlsAcceptor, doors: Arc<Doors>) {
    loop {
        let stream = accept_next(&listener, "peers: a technician").await;
        let (tls, doors) = (tls.clone(), doors.clone());
        // A connection that fails is missed by who waits for it. It ends with the program, as the listener does.
        tokio::spawn(async move { greet(stream, &tls, &doors).await });
    }
}

async fn greet(stream: TcpStream, tls: &TlsAcceptor, doors: &Doors) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut name = [0; HEAD];
    stream.read_exact(&mut name).await?;
    let name = Head::parse(&name)?.context("no head")?;
    let technician = u32::try_from(name.due.as_nanos())?;
    if let Some(waiting) = doors.door((name.number, technician), |door| door.0.take()) {
        // Whoever waited has given up.
        let _ = waiting.send(stream.into());
    }
    Ok(())
}

impl System for Streams {
    type Outlet = StreamOutlet;
    type Inlet = StreamInlet;

    fn uploads(&self, technicians: u32) -> u32 {
        technicians
    }

    async fn open(&self, place: Place) -> anyhow::Result<()> {
        let listen = self.job.way(place).listen.as_ref().context("nowhere to listen")?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen at {listen}"))?;
        tokio::spawn(accept(listener, self.server.clone(), self.doors.clone()));
        Ok(())
    }

    async fn customer(&self, session: u32, upload: u32) -> anyhow::Result<(StreamOutlet, StreamInlet)> {
        let relay = &self.job.way(self.job.place(upload)).relay;
        let stream = TcpStream::connect(relay).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = self.client.connect(name, stream).await?;
        let mut name = Message::new(Kind::Hello, 0);
        stream.write_all(name.numbered(session, Duration::from_nanos(upload.into()))).await?;
        stream.flush().await?;
        Ok(halves(stream.into()))
    }

    async fn technician(&self, session: u32, number: u32) -> anyhow::Result<(StreamOutlet, StreamInlet)> {
        let waiting = self.doors.door((session, number), |door| door.1.take());
        Ok(halves(waiting.context("a second technician")?.await?))
    }
}

fn halves(stream: Stream) -> (StreamOutlet, StreamInlet) {
    let (inlet, outlet) = tokio::io::split(stream);
    let inlet = StreamInlet { stream: inlet, buffer: vec![0; BUFFER].into(), start: 0, end: 0, rest: None };
    (StreamOutlet(outlet), inlet)
}

/// Sends into a stream, one message after the other.
pub(super) struct StreamOutlet(WriteHalf<Stream>);

impl Outlet for StreamOutlet {
    async fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(message).await?;
        Ok(self.0.flush().await?)
    }
}

/// Finds messages in a stream.
pub(super) struct StreamInlet {
    stream: ReadHalf<Stream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// A message of which so many bytes are still to come.
    rest: Option<(Head, usize)>,
}

impl Inlet for StreamInlet {
    async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        loop {
            if self.rest.is_none() {
                let head = Head::parse(&self.buffer[self.start..self.end])?;
                self.rest = head.map(|head| (head, head.len as usize));
            }
            if let Some((head, rest)) = &mut self.rest {
                let here = (*rest).min(self.end - self.start);
                self.start += here;
                *rest -= here;
                if *rest == 0 {
                    let head = *head;
                    self.rest = None;
                    return Ok(Some(head));
                }
            }
            // What is left is less than a head.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let read = self.stream.read(&mut self.buffer[self.end..]).await?;
            if read == 0 {
                return Ok(None);
            }
            self.end += read;
        }
    }
}
