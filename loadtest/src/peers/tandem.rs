//! Sessions at our own relay, through the client that applet and load tester use: admission by token, consent, lanes, the
//! pacer, acknowledgements and feedback. Frames are opaque updates of a screen, as long as if they were sealed.

mod customer;
mod technician;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_client::{Event, Events, Handle, Join, Options, Outgoing, SendError, Target};
use tandem_protocol::message::types;
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Record, Rendition, Sender};
use tandem_workload::message::Head;
use tandem_workload::{Inlet, Job, Outlet, Place, System};

use self::customer::{Customer, Publisher};
use self::technician::Technician;
use crate::run::command::Binding;
use crate::run::desk::{Opener, Signer};

/// Bytes by which a seal makes a body longer: the tag of AES-GCM.
const SEAL: usize = 16;
/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The one display.
const DISPLAY: DisplayId = DisplayId(0);

/// What this system needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) binding: Binding,
    pub(super) fingerprint: String,
    /// A key that the relay believes, made for this run: PKCS#8 in base64.
    pub(super) signer: String,
    /// The relay is to be lost and come back: that is no failure.
    pub(super) restarts: bool,
}

/// The system.
pub(super) struct Tandem {
    job: Job,
    settings: Settings,
    opener: Opener,
    /// How the technicians of sessions join.
    seats: Mutex<HashMap<(u32, u32), Join>>,
}

impl Tandem {
    pub(super) fn new(job: &Job) -> anyhow::Result<Self> {
        let settings: Settings = serde_json::from_value(job.settings.clone())?;
        let signer = Signer::from_pkcs8(&STANDARD.decode(&settings.signer)?)?;
        Ok(Self { job: job.clone(), settings, opener: Opener::Signer(signer), seats: Mutex::default() })
    }

    /// Joins, and waits until the relay has let us in.
    async fn join(&self, place: Place, join: Join) -> anyhow::Result<(Handle, Events)> {
        let fingerprint = self.settings.fingerprint.parse()?;
        let target = Target::new(&self.job.way(place).relay, vec![fingerprint])?;
        let options = Options::new(target, join, concat!("tandem-loadtest ", env!("CARGO_PKG_VERSION")));
        let options = Options { transport: self.settings.binding.transport(), ..options };
        let (handle, mut events) = tandem_client::start(options);
        let joined = async {
            loop {
                match events.next().await.context("not let in")? {
                    Event::Connected(_) => return Ok(()),
                    Event::Disconnected { why, .. } => bail!("not let in: {why}"),
                    Event::Closed { close, reason } => bail!("not let in: {close} {reason}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, joined).await.context("not let in in time")??;
        Ok((handle, events))
    }
}

impl System for Tandem {
    type Outlet = TandemOutlet;
    type Inlet = TandemInlet;

    fn uploads(&self, _: u32) -> u32 {
        1
    }

    async fn open(&self, _: Place) -> anyhow::Result<()> {
        Ok(())
    }

    async fn customer(&self, session: u32, _: u32) -> anyhow::Result<(TandemOutlet, TandemInlet)> {
        let seats = self.opener.open(self.job.shape.technicians as usize).await?;
        let technicians = (0..).map(|number| (session, number)).zip(seats.technicians);
        self.seats.lock().extend(technicians);
        let (handle, events) = self.join(Place::Near, seats.customer).await?;
        let (publisher, customer) = customer::new(handle, events, self.settings.restarts);
        Ok((TandemOutlet::Publisher(publisher), TandemInlet::Customer(customer)))
    }

    async fn technician(&self, session: u32, number: u32) -> anyhow::Result<(TandemOutlet, TandemInlet)> {
        let join = self.seats.lock().remove(&(session, number)).context("no seat")?;
        let (handle, events) = self.join(self.job.place(number), join).await?;
        let mut technician = Technician::new(handle.clone(), events, self.settings.restarts);
        let ready = technician.ask(number == 0);
        tokio::time::timeout(PATIENCE, ready).await.context("no rights were granted")??;
        Ok((TandemOutlet::Input(handle), TandemInlet::Technician(technician)))
    }
}

/// Where an end sends.
pub(super) enum TandemOutlet {
    /// Frames, as the pacer allows.
    Publisher(Publisher),
    /// Input, at once.
    Input(Handle),
}

impl Outlet for TandemOutlet {
    async fn ready(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Publisher(publisher) => publisher.ready().await,
            Self::Input(_) => Ok(()),
        }
    }

    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Publisher(publisher) => publisher.send(message),
            Self::Input(handle) => {
                let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
                let body = [message, &[0; SEAL]].concat();
                while let Err(why) = handle.send(lane, Outgoing::message(types::KEY, &body)) {
                    match why {
                        SendError::Full => handle.ready(lane).await?,
                        why => return Err(why.into()),
                    }
                }
                Ok(())
            }
        }
    }
}

/// Where an end receives.
pub(super) enum TandemInlet {
    Customer(Customer),
    Technician(Technician),
}

impl Inlet for TandemInlet {
    async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        match self {
            Self::Customer(customer) => customer.receive().await,
            Self::Technician(technician) => technician.receive().await,
        }
    }
}

/// A screen's lane, whose sender the client fills in.
fn screen(kind: LaneKind) -> LaneKey {
    LaneKey::screen(kind, DISPLAY, Rendition::LIVE, Sender::RELAY)
}

/// The message that a record carries.
fn head(record: &Record) -> anyhow::Result<Head> {
    Head::parse(record.body())?.context("a record without a message")
}
