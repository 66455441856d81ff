//! Sessions over an iroh-relay, as `tandem-loadtest peers` asks for them: every end is a client of its own with a key of its
//! own, and sends datagrams to the key of the other one. A customer sends one copy to each technician.

#![forbid(unsafe_code)]

use std::sync::Arc;

use anyhow::Context as _;
use bytes::{BufMut as _, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use iroh_base::{EndpointId, RelayUrl, SecretKey};
use iroh_dns::dns::DnsResolver;
use iroh_relay::client::{ClientBuilder, ClientSink, ClientStream};
use iroh_relay::protos::relay::{ClientToRelayMsg, Datagrams, RelayToClientMsg};
use iroh_relay::tls::CaTlsConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tandem_workload::message::Head;
use tandem_workload::{Inlet, Job, Outlet, Place, System, program};
use tokio::sync::Mutex;

/// Most bytes of a message that go as one datagram; iroh-relay takes 64 KiB with its own header.
const PART: usize = 48 << 10;

fn main() -> anyhow::Result<()> {
    program::main(Iroh::new)
}

/// The system.
struct Iroh {
    job: Job,
    tls: rustls::ClientConfig,
    names: DnsResolver,
}

/// What an end is.
#[derive(Clone, Copy)]
enum Role {
    Customer = 1,
    Technician = 2,
}

/// The key of an end, which everybody can work out.
fn key(role: Role, session: u32, number: u32) -> SecretKey {
    let mut bytes = [role as u8; 32];
    bytes[..4].copy_from_slice(&session.to_le_bytes());
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(&bytes)
}

impl Iroh {
    fn new(job: &Job) -> anyhow::Result<Self> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
        let certificate = job.settings["certificate"].as_str().context("no certificate")?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let mut tls = CaTlsConfig::custom_roots([certificate]).client_config(Arc::new(provider))?;
        // Every connection pays for its own handshake, as those of strangers do.
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { job: job.clone(), tls, names: DnsResolver::default() })
    }

    async fn connect(
        &self,
        place: Place,
        own: SecretKey,
        other: EndpointId,
    ) -> anyhow::Result<(IrohOutlet, IrohInlet)> {
        let url: RelayUrl = self.job.way(place).relay.parse()?;
        let client = ClientBuilder::new(url, own, self.names.clone()).tls_client_config(self.tls.clone());
        let (stream, sink) = client.connect().await.context("iroh-relay")?.split();
        let sink = Arc::new(Mutex::new(sink));
        let outlet = IrohOutlet { sink: sink.clone(), other };
        Ok((outlet, IrohInlet { stream, sink, message: None }))
    }
}

impl System for Iroh {
    type Outlet = IrohOutlet;
    type Inlet = IrohInlet;

    fn uploads(&self, technicians: u32) -> u32 {
        technicians
    }

    async fn open(&self, _: Place) -> anyhow::Result<()> {
        Ok(())
    }

    async fn customer(&self, session: u32, upload: u32) -> anyhow::Result<(IrohOutlet, IrohInlet)> {
        let other = key(Role::Technician, session, upload).public();
        self.connect(Place::Near, key(Role::Customer, session, upload), other).await
    }

    async fn technician(&self, session: u32, number: u32) -> anyhow::Result<(IrohOutlet, IrohInlet)> {
        let other = key(Role::Customer, session, number).public();
        self.connect(self.job.place(number), key(Role::Technician, session, number), other).await
    }
}

/// Sends messages as datagrams; a byte before each says whether it begins one.
struct IrohOutlet {
    sink: Arc<Mutex<ClientSink>>,
    other: EndpointId,
}

impl Outlet for IrohOutlet {
    async fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let mut sink = self.sink.lock().await;
        for (at, part) in message.chunks(PART).enumerate() {
            let mut contents = BytesMut::with_capacity(part.len() + 1);
            contents.put_u8(u8::from(at == 0));
            contents.put_slice(part);
            let datagrams = Datagrams { ecn: None, segment_size: None, contents: contents.freeze() };
            let send = ClientToRelayMsg::Datagrams { dst_endpoint_id: self.other, datagrams };
            sink.feed(send).await.context("iroh-relay")?;
        }
        sink.flush().await.context("iroh-relay")
    }
}

/// Puts messages together again. One of which a part was lost is lost.
struct IrohInlet {
    stream: ClientStream,
    sink: Arc<Mutex<ClientSink>>,
    /// One that has begun, and its bytes so far.
    message: Option<(Head, usize)>,
}

impl Inlet for IrohInlet {
    async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        while let Some(message) = self.stream.next().await {
            match message.context("iroh-relay")? {
                RelayToClientMsg::Datagrams { datagrams, .. } => {
                    let (&first, part) = datagrams.contents.split_first().context("an empty datagram")?;
                    if first != 0 {
                        self.message = Head::parse(part)?.map(|head| (head, 0));
                    }
                    let Some((head, so_far)) = &mut self.message else { continue };
                    *so_far += part.len();
                    if *so_far >= head.len as usize {
                        let head = *head;
                        self.message = None;
                        return Ok(Some(head));
                    }
                }
                RelayToClientMsg::Ping(data) => {
                    let pong = ClientToRelayMsg::Pong(data);
                    self.sink.lock().await.send(pong).await.context("iroh-relay")?;
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
