//! What a relay's protocol has to offer to be measured.

use std::future::Future;

use crate::message::Head;

/// Where somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside the relay.
    Near,
    /// Behind a slow link.
    Far,
}

/// A relay's protocol.
pub trait System: Send + Sync + 'static {
    /// Where an end sends.
    type Outlet: Outlet;
    /// Where it receives.
    type Inlet: Inlet;

    /// Streams of frames that a customer sends so that all technicians have them: one if the relay fans out.
    fn uploads(&self, technicians: u32) -> u32;

    /// Gets ready for connections of somebody there. Called once for each place, in its network.
    fn open(&self, place: Place) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Connects a session's customer; of several streams this one.
    fn customer(
        &self,
        session: u32,
        upload: u32,
    ) -> impl Future<Output = anyhow::Result<(Self::Outlet, Self::Inlet)>> + Send;

    /// Connects a technician, whose customer receives already; answers when it may send.
    fn technician(
        &self,
        session: u32,
        number: u32,
    ) -> impl Future<Output = anyhow::Result<(Self::Outlet, Self::Inlet)>> + Send;
}

/// Sends messages, each of them whole.
pub trait Outlet: Send + 'static {
    /// Ends when the next message can be taken.
    fn ready(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Sends one; ends when it is taken.
    fn send(&mut self, message: &[u8]) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Receives messages.
pub trait Inlet: Send + 'static {
    /// The next message's head, when all of it is there. `None`: there are no more.
    fn receive(&mut self) -> impl Future<Output = anyhow::Result<Option<Head>>> + Send;
}
