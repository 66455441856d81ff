//! A technician: asks for its rights, acknowledges every frame as shown, and counts it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tandem_client::{Event, Events, Handle};
use tandem_protocol::message::{Ask, Right, Rights, Visible, control};
use tandem_protocol::{LaneKey, LaneKind, Point, Record};
use tandem_workload::message::{HEAD, Head, Kind};

use super::head;

/// One that has joined.
#[derive(Debug)]
pub(in crate::peers) struct Technician {
    handle: Handle,
    events: Events,
    restarts: bool,
}

impl Technician {
    pub(super) fn new(handle: Handle, events: Events, restarts: bool) -> Self {
        Self { handle, events, restarts }
    }

    /// Asks to see the screen, and to control it if so; ends when that is granted.
    pub(super) async fn ask(&mut self, controls: bool) -> anyhow::Result<()> {
        let wants: &[Right] = if controls { &[Right::View, Right::Control] } else { &[Right::View] };
        self.look()?;
        let ask = Ask { participant: 0, rights: Rights::of(wants).to_wire() };
        self.handle.control(control::Message::Ask(ask))?;
        let own = self.handle.sender().map(|sender| u32::from(sender.0));
        loop {
            match self.events.next().await.context("closed")? {
                Event::Control(control::Message::Roster(roster)) => {
                    let me = roster.participants.iter().find(|who| Some(who.sender) == own);
                    let rights = me.map_or(Rights::NONE, |me| Rights::from_wire(&me.rights));
                    if wants.iter().all(|&right| rights.has(right)) {
                        return Ok(());
                    }
                }
                Event::Disconnected { why, .. } => bail!("technician: {why}"),
                Event::Closed { close, reason } => bail!("technician: {close} {reason}"),
                _ => {}
            }
        }
    }

    fn look(&self) -> anyhow::Result<()> {
        let visible = Visible { display: 0, visible: true, focused: true };
        Ok(self.handle.control(control::Message::Visible(visible))?)
    }

    /// The next frame.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        while let Some(event) = self.events.next().await {
            match event {
                Event::Record { lane, record } if lane.kind == LaneKind::Screen => {
                    self.applied(lane, &record)?;
                    return head(&record).map(Some);
                }
                Event::Connected(connected) => {
                    self.look()?;
                    if connected.dropped_input > 0 {
                        return Ok(Some(given_up(connected.dropped_input)));
                    }
                }
                Event::Reopened { dropped, .. } if dropped > 0 => return Ok(Some(given_up(dropped))),
                Event::Disconnected { .. } if self.restarts => {}
                Event::Disconnected { why, .. } => bail!("technician: {why}"),
                Event::Closed { close, reason } => bail!("technician: {close} {reason}"),
                _ => {}
            }
        }
        Ok(None)
    }

    fn applied(&self, lane: LaneKey, record: &Record) -> anyhow::Result<()> {
        let screen = record.header.screen.context("a screen's record that says nothing of it")?;
        let point = Point { rendition: screen.rendition, segment: screen.segment, seq: record.header.seq };
        self.handle.applied(lane, point, point.seq);
        Ok(())
    }
}

/// So much input was too old to be sent again.
fn given_up(inputs: u64) -> Head {
    let number = u32::try_from(inputs).unwrap_or(u32::MAX);
    Head { len: HEAD as u32, kind: Kind::GivenUp, number, due: Duration::ZERO }
}
