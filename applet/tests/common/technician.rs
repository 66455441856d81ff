//! A technician at a real relay, who sees and works.

use prost::Message;
use tandem_capture::pattern;
use tandem_client::{Event, Outgoing, Transport};
use tandem_codec::{Outcome, PixelOrder, Viewer, ViewerLimits};
use tandem_protocol::message::{self, Ask, Right, Visible, control, types};
use tandem_protocol::{LaneKey, LaneKind, Sender};

use crate::common::{Client, Relay};

pub(crate) struct Technician {
    pub(crate) client: Client,
    viewer: Viewer,
}

impl Technician {
    pub(crate) async fn join(relay: &Relay, transport: Transport) -> Self {
        let mut client = relay.join(transport, relay.token());
        client.connected().await;
        Self { client, viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra) }
    }

    /// Waits for something, and shows meanwhile whatever arrives.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Event, &Viewer) -> Option<T>,
    ) -> T {
        let (viewer, handle) = (&mut self.viewer, self.client.handle.clone());
        let look = |event: Event| {
            if let Event::Record { lane, record } = &event
                && is_picture(*lane)
                && let Outcome::Applied { point, .. } = viewer.record(&record.header, record.body())
            {
                handle.applied(LaneKey { kind: LaneKind::Screen, ..*lane }, point, point.seq);
            }
            wanted(&event, viewer)
        };
        self.client.until(what, look).await
    }

    /// Watches until the picture shows what is wanted.
    pub(crate) async fn sees(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) {
        let look = |event: &Event, viewer: &Viewer| {
            let changed = matches!(event, Event::Record { lane, .. } if is_picture(*lane));
            (changed && wanted(viewer.decoder().picture())).then_some(())
        };
        self.until(what, look).await;
    }

    /// Watches a test pattern 640 pixels wide until it shows so many presses.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) async fn sees_presses(&mut self, count: u32) {
        let what = format!("picture with {count} presses");
        self.sees(&what, |pixels| pattern::read_presses(pixels, 640 * 4) == Some(count)).await;
    }

    /// Waits until the roster shows a participant of this kind.
    pub(crate) async fn roster(&mut self, what: &str, wanted: fn(&message::Participant) -> bool) {
        let look = |event: &Event, _: &Viewer| match event {
            Event::Control(control::Message::Roster(roster)) => {
                roster.participants.iter().any(wanted).then_some(())
            }
            _ => None,
        };
        self.until(what, look).await;
    }

    pub(crate) async fn customer_is_there(&mut self) {
        self.roster("customer", |who| who.publisher && who.online).await;
    }

    pub(crate) fn say(&self, message: control::Message) {
        self.client.handle.control(message).expect("connected");
    }

    pub(crate) fn asks(&self, rights: &[Right]) {
        let rights = rights.iter().map(|right| (*right).into()).collect();
        self.say(control::Message::Ask(Ask { participant: 0, rights }));
    }

    pub(crate) fn looks(&self) {
        self.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true }));
    }

    pub(crate) fn send(&self, record_type: u8, message: &impl Message) {
        self.send_on(LaneKind::Input, record_type, message);
    }

    pub(crate) fn send_on(&self, kind: LaneKind, record_type: u8, message: &impl Message) {
        let lane = LaneKey::plain(kind, Sender::RELAY);
        let body = message.encode_to_vec();
        self.client.handle.send(lane, Outgoing::message(record_type, &body)).expect("joined");
    }

    pub(crate) fn key(&self, usage: u32, down: bool) {
        self.send(types::KEY, &message::Key { usage, down, ..message::Key::default() });
    }

    /// Presses keys, the first ones held for the last one.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn chord(&self, usages: &[u32]) {
        usages.iter().for_each(|usage| self.key(*usage, true));
        usages.iter().rev().for_each(|usage| self.key(*usage, false));
    }
}

fn is_picture(lane: LaneKey) -> bool {
    matches!(lane.kind, LaneKind::Screen | LaneKind::Key)
}

/// Whether two pictures are alike but for the unused byte.
#[allow(dead_code, reason = "not every test does")]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.as_chunks::<4>().0.iter().zip(other.as_chunks::<4>().0);
    one.len() == other.len() && pairs.into_iter().all(|(one, other)| one[..3] == other[..3])
}
