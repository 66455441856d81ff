//! A customer: grants whatever is asked for, and publishes opaque frames as one live rendition, with starts and keys when the
//! relay wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tandem_client::pacer::Pace;
use tandem_client::{Event, Events, Handle, Outgoing, SendError};
use tandem_protocol::message::{Grants, Roster, Want, control};
use tandem_protocol::{LaneKind, Point, Rendition, ScreenKind};
use tandem_workload::message::Head;
use tokio::sync::Notify;

use super::{DISPLAY, SEAL, head, screen};

/// What the receiving and the sending half share.
#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// Perhaps a frame may be sent now.
    changed: Notify,
}

/// What the relay wants of the live rendition.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    on: bool,
    /// A segment, and its key.
    start: bool,
    /// What came before is lost: a segment from black.
    anew: bool,
}

/// Both halves.
pub(super) fn new(handle: Handle, events: Events, restarts: bool) -> (Publisher, Customer) {
    let shared = Arc::<Shared>::default();
    let customer = Customer {
        handle: handle.clone(),
        events,
        shared: shared.clone(),
        granted: BTreeMap::new(),
        stated: BTreeSet::new(),
        revision: 0,
        restarts,
    };
    (Publisher { handle, shared, segment: 0, last: None, body: Vec::new(), restarts }, customer)
}

/// The half that sends.
#[derive(Debug)]
pub(in crate::peers) struct Publisher {
    handle: Handle,
    shared: Arc<Shared>,
    segment: u32,
    last: Option<Point>,
    body: Vec<u8>,
    restarts: bool,
}

impl Publisher {
    /// Ends when somebody watches and the path takes a frame.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        loop {
            let on = self.shared.wanted.lock().on;
            let pace = if on { self.handle.pace(screen(LaneKind::Screen)) } else { Pace::Wait(None) };
            match pace {
                Pace::Send(_) => {
                    // As encoding a picture would, this lets the connection at its work between two frames.
                    tokio::task::yield_now().await;
                    return Ok(());
                }
                Pace::Wait(None) => self.shared.changed.notified().await,
                Pace::Wait(Some(at)) => {
                    // An error says that the time has come.
                    let _ = tokio::time::timeout_at(at.into(), self.shared.changed.notified()).await;
                }
            }
        }
    }

    /// Publishes a frame, as the beginning of a segment if one is wanted.
    pub(super) fn send(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.body.clear();
        self.body.extend_from_slice(frame);
        self.body.resize(frame.len() + SEAL, 0);
        let (start, anew) = {
            let mut wanted = self.shared.wanted.lock();
            (std::mem::take(&mut wanted.start), std::mem::take(&mut wanted.anew))
        };
        if anew {
            self.last = None;
        }
        let kind = match self.last {
            None => ScreenKind::Start { from: None },
            Some(from) if start => ScreenKind::Start { from: Some(from) },
            Some(_) => ScreenKind::Update,
        };
        self.segment += u32::from(kind != ScreenKind::Update);
        let out = Outgoing::screen(self.segment, kind, &self.body).skipping(anew);
        let sent = match self.handle.send(screen(LaneKind::Screen), out) {
            Ok(sent) => sent,
            Err(SendError::Offline) if self.restarts => {
                // Whoever comes back has nothing that the next frame could go on from.
                self.shared.wanted.lock().anew = true;
                return Ok(());
            }
            Err(why) => return Err(why).context("screen"),
        };
        let before =
            self.last.replace(Point { rendition: Rendition::LIVE, segment: self.segment, seq: sent.seq });
        if let Some(before) = before.filter(|_| start) {
            let key = Outgoing::key(self.segment, before.seq, &self.body);
            self.handle.send(screen(LaneKind::Key), key).context("key")?;
        }
        Ok(())
    }
}

/// The half that receives.
#[derive(Debug)]
pub(in crate::peers) struct Customer {
    handle: Handle,
    events: Events,
    shared: Arc<Shared>,
    /// Rights by participant, and to whom the relay knows that they are granted: one that was started again has forgotten.
    granted: BTreeMap<u32, Vec<i32>>,
    stated: BTreeSet<u32>,
    revision: u64,
    restarts: bool,
}

impl Customer {
    /// The next input.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        while let Some(event) = self.events.next().await {
            match event {
                Event::Record { lane, record } if lane.kind == LaneKind::Input => {
                    self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
                    return head(&record).map(Some);
                }
                Event::Control(control::Message::Ask(ask)) => {
                    self.granted.insert(ask.participant, ask.rights.clone());
                    self.grant(ask.participant, ask.rights)?;
                }
                Event::Connected(connected) => self.back(!connected.restart.is_empty()),
                Event::Control(control::Message::Roster(roster)) => self.restate(&roster)?,
                Event::Disconnected { .. } if self.restarts => {}
                Event::Control(control::Message::Want(want)) => self.want(&want),
                Event::Control(control::Message::Feedback(_)) => self.shared.changed.notify_one(),
                Event::Disconnected { why, .. } => bail!("customer: {why}"),
                Event::Closed { close, reason } => bail!("customer: {close} {reason}"),
                _ => {}
            }
        }
        Ok(None)
    }

    fn grant(&mut self, participant: u32, rights: Vec<i32>) -> anyhow::Result<()> {
        self.stated.insert(participant);
        self.revision += 1;
        let grants = Grants { participant, rights, revision: self.revision, prompt_open: false };
        Ok(self.handle.control(control::Message::Grants(grants))?)
    }

    /// There is a connection again.
    fn back(&mut self, anew: bool) {
        self.stated.clear();
        self.shared.wanted.lock().anew |= anew;
        self.shared.changed.notify_one();
    }

    /// Says what was granted to those who are there again.
    fn restate(&mut self, roster: &Roster) -> anyhow::Result<()> {
        for sender in roster.participants.iter().map(|who| who.sender) {
            if let Some(rights) = self.granted.get(&sender).filter(|_| !self.stated.contains(&sender)) {
                self.grant(sender, rights.clone())?;
            }
        }
        Ok(())
    }

    /// There is no reduced rendition of something opaque: whoever publishes only one does not answer for the other.
    fn want(&self, want: &Want) {
        if want.display == u32::from(DISPLAY.0) && want.rendition == u32::from(Rendition::LIVE.0) {
            let mut wanted = self.shared.wanted.lock();
            wanted.on = want.on;
            wanted.start |= want.start && want.key;
            self.shared.changed.notify_one();
        }
    }
}
