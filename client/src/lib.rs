//! Reach a relay: QUIC raced with a WebSocket, admission, reconnection with nothing lost that matters, and the pacer.
//!
//! [`start`] gives two ends: a [`Handle`] to send with and [`Events`] to read. One task in between owns the connection and
//! replaces it when it is lost. Both roles use it: who publishes a screen asks [`Handle::pace`] before encoding; who
//! watches one reports what it [`applied`](Handle::applied). Whoever sends files waits for [`Handle::ready`] where
//! [`Handle::send`] says that a lane is full.
//!
//! - [`target`], `tls`, `route`, [`proxy`]: whom to reach, whom to believe, through what; `race`, `link`, `quic`, `websocket`: how;
//! - `outbox`: what waits, what is kept for a resume, and how lanes share our own end of the path; `acks`: what is acknowledged
//!   and when; `backoff`; `mover`: from a WebSocket to QUIC in mid-session;
//! - [`pacer`]: how much screen the path takes. Pure, like the three before it.
#![forbid(unsafe_code)]

mod acks;
mod backoff;
mod driver;
pub mod event;
mod handle;
mod link;
mod mover;
mod outbox;
pub mod pacer;
mod positions;
pub mod proxy;
mod quic;
mod race;
mod route;
pub mod target;
mod tls;
mod udp;
mod websocket;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_protocol::Code;
use tandem_protocol::message::Capabilities;
use tokio::sync::mpsc;

pub use event::{Connected, Event};
pub use handle::{Events, Handle};
pub use outbox::{Outgoing, SendError, Sent};
pub use proxy::{Proxies, Proxy, ProxyError};
pub use tandem_path::Congestion;
pub use target::{Fingerprint, Target, TargetError};
pub use tls::config as tls_config;

/// Events that wait for the program before lanes are read no further.
const EVENTS_MAX: usize = 64;

/// Time before QUIC is looked for again, unless the program says otherwise.
const LOOK_FOR_QUIC_AFTER: Duration = Duration::from_secs(5);

/// How to join, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which relay.
    pub target: Target,
    /// Which binding.
    pub transport: Transport,
    /// Why we may join.
    pub join: Join,
    /// What we can decode or encode.
    pub capabilities: Capabilities,
    /// Drawn once when the program starts; numbers begin again with it.
    pub epoch: u64,
    /// When the epoch began: records' times count from here.
    pub began: Instant,
    /// Program and version, for the operator's log.
    pub agent: String,
    /// Through which proxy. Where there is one, everything goes through it, over a WebSocket, unless only QUIC is allowed.
    pub proxies: Proxies,
    /// How long a connection over a WebSocket lasts, about, before QUIC is looked for again; twice as long with every try. When it
    /// is found the session goes over to it: [`Event::Connected`] again, without a loss between.
    pub look_for_quic_after: Duration,
    /// How a connection finds out what its path takes. Another one than the default is for comparing.
    pub congestion: Congestion,
}

impl Options {
    /// Options of a program that starts now: any binding, codec version 0 capabilities, a fresh epoch.
    pub fn new(target: Target, join: Join, agent: impl Into<String>) -> Self {
        Self {
            target,
            transport: Transport::Auto,
            join,
            capabilities: Capabilities::default(),
            epoch: rand::random(),
            began: Instant::now(),
            agent: agent.into(),
            proxies: Proxies::none(),
            look_for_quic_after: LOOK_FOR_QUIC_AFTER,
            congestion: Congestion::default(),
        }
    }
}

/// Why a client may join. `Debug` shows none of it.
#[derive(Clone)]
pub enum Join {
    /// As the session's customer.
    Code(Code),
    /// A signed token: as it says.
    Token(String),
    /// A ticket of an earlier connection, perhaps of an earlier run of the program.
    Ticket(Bytes),
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code(_) => "Code(…)",
            Self::Token(_) => "Token(…)",
            Self::Ticket(_) => "Ticket(…)",
        })
    }
}

/// Which binding to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Whichever answers first, QUIC with a head start. Without TLS: the WebSocket.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// The WebSocket only.
    WebSocket,
}

/// Which binding is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// QUIC.
    Quic,
    /// WebSocket.
    WebSocket,
}

/// Starts the connection's task on the current tokio runtime. It dials, and goes on doing so until the relay says that trying is
/// useless, the program leaves, or its [`Events`] are dropped.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(options: Options) -> (Handle, Events) {
    let outbox = outbox::Outbox::new(options.epoch, options.began);
    let shared = Arc::new(handle::Shared::new(outbox));
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let driver = tokio::spawn(driver::Driver::new(options, shared.clone(), sender).run());
    (Handle(shared), Events { receiver, driver })
}
