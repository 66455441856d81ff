//! Where an end sends and receives: groups of a track.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moq_net::{Timestamp, broadcast, group, origin, track};
use tandem_workload::message::{Head, Kind};
use tokio::sync::watch;

use crate::{End, TRACK};

/// Frames that are under way at most, where they are sent as fast as they go: 1 MiB of those in `throughput`. With fewer the relay
/// waits, with more it and the load take longer for each group: of 1 to 256 this is where moq-relay takes least for a GiB.
pub(crate) const WINDOW: u32 = 16;
/// Input events in a group; the library allows 8192 frames.
const INPUTS: usize = 4096;

/// A track that is published, and its broadcast.
pub(crate) struct Published {
    track: track::Producer,
    _broadcast: broadcast::Producer,
}

/// Announces a broadcast with one track.
pub(crate) fn publish(origin: &origin::Producer, path: &str) -> anyhow::Result<Published> {
    let broadcast = origin.create_broadcast(path).context("create a broadcast")?;
    let track = broadcast.create_track(TRACK, None).context("create a track")?;
    broadcast.announce(origin::Route::default()).context("announce a broadcast")?;
    Ok(Published { track, _broadcast: broadcast })
}

/// Holds whoever sends as fast as it can to [`WINDOW`].
pub(crate) struct Window {
    sent: u32,
    received: watch::Receiver<u32>,
}

impl Window {
    pub(crate) fn new(received: watch::Receiver<u32>) -> Self {
        Self { sent: 0, received }
    }
}

/// Where an end sends.
pub(crate) struct Outlet {
    _end: Arc<End>,
    sends: Sends,
}

enum Sends {
    Screen(Published, Option<Window>),
    Input(Published, Option<group::Producer>),
    Nothing,
}

impl Outlet {
    pub(crate) fn screen(end: Arc<End>, track: Published, window: Option<Window>) -> Self {
        Self { _end: end, sends: Sends::Screen(track, window) }
    }

    pub(crate) fn input(end: Arc<End>, track: Option<Published>) -> Self {
        Self { _end: end, sends: track.map_or(Sends::Nothing, |track| Sends::Input(track, None)) }
    }
}

impl tandem_workload::Outlet for Outlet {
    async fn ready(&mut self) -> anyhow::Result<()> {
        if let Sends::Screen(_, Some(Window { sent, received })) = &mut self.sends {
            received.wait_for(|&received| sent.saturating_sub(received) < WINDOW).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        match &mut self.sends {
            Sends::Screen(published, window) => {
                let head = Head::parse(message)?.context("no head")?;
                if let Some(window) = window.as_mut().filter(|_| head.kind == Kind::Frame) {
                    window.sent = head.number + 1;
                }
                Ok(published.track.write_frame(Timestamp::now(), message)?)
            }
            Sends::Input(published, open) => {
                if let Some(full) = open.take_if(|group| group.frame_count() >= INPUTS) {
                    full.finish()?;
                }
                let group = match open {
                    Some(group) => group,
                    None => open.insert(published.track.append_group()?),
                };
                Ok(group.write_frame(Timestamp::now(), message)?)
            }
            Sends::Nothing => anyhow::bail!("only the first technician sends"),
        }
    }
}

/// Where an end receives.
pub(crate) struct Inlet {
    end: Arc<End>,
    /// Whose track.
    path: &'static str,
    /// How long a group may lie behind the newest one.
    age: Duration,
    /// Who is told how many frames there are.
    received: Option<watch::Sender<u32>>,
    track: Option<track::Subscriber>,
    group: Option<group::Consumer>,
}

impl Inlet {
    /// One that has not subscribed yet.
    pub(crate) fn waiting(end: Arc<End>, path: &'static str, age: Duration) -> Self {
        Self { end, path, age, received: None, track: None, group: None }
    }

    pub(crate) fn telling(self, received: Option<watch::Sender<u32>>) -> Self {
        Self { received, ..self }
    }

    /// Waits for the broadcast, and subscribes to its track.
    pub(crate) async fn subscribe(&mut self) -> anyhow::Result<()> {
        let broadcast = self.end.theirs.routed_broadcast(self.path).await.context("no broadcast")?;
        let subscription = track::Subscription::default().with_max_age(self.age);
        self.track = Some(broadcast.track(TRACK)?.subscribe(subscription).await.context("no track")?);
        Ok(())
    }

    /// The next frame's head. A group that was given up has no more of them.
    async fn next(&mut self) -> anyhow::Result<Option<Head>> {
        loop {
            let Some(track) = &mut self.track else {
                self.subscribe().await?;
                continue;
            };
            let Some(group) = &mut self.group else {
                self.group = track.recv_group().await?;
                if self.group.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if let Ok(Some(frame)) = group.read_frame().await {
                return Head::parse(&frame.payload)?.context("a frame without a message").map(Some);
            }
            self.group = None;
        }
    }
}

impl tandem_workload::Inlet for Inlet {
    async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        let head = self.next().await?;
        if let (Some(received), Some(head)) = (&self.received, head)
            && head.kind == Kind::Frame
        {
            received.send_replace(head.number + 1);
        }
        Ok(head)
    }
}
