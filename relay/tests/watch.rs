//! Who watches sees exactly the customer's screen: from the start, late, after the relay was killed, over both bindings.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{PATIENCE, Relay, config};
use jsonwebtoken::{Algorithm, EncodingKey, Header as TokenHeader, encode};
use tandem_client::{Event, Events, Handle, Join, Options, Outgoing, Target, Transport};
use tandem_codec::{
    Base, Encoder, EncoderOptions, Hints, Outcome, Picture, PixelOrder, Size, Viewer, ViewerLimits,
};
use tandem_protocol::message::{Grants, Right, Rights, Visible, Want, control};
use tandem_protocol::token::{Claims, TokenRight, TokenRole};
use tandem_protocol::{DisplayId, Flags, LaneKey, LaneKind, Point, Rendition, ScreenKind, Sender, limits};

const SIZE: Size = Size { w: 320, h: 200 };

/// A desk of the test's own: it signs tokens for any number of technicians.
struct Desk {
    key: EncodingKey,
    public: String,
    minted: u32,
    /// The lead lets others see what was before they came.
    shows_past: bool,
}

impl Desk {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
        Self { key, public: STANDARD.encode(pair.public_key()), minted: 0, shows_past: false }
    }

    fn token(&mut self, session: &str, role: TokenRole) -> Join {
        self.minted += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let name = format!("person {}", self.minted);
        let claims = Claims {
            aud: "tandem".into(),
            tenant: "acme".into(),
            sid: session.into(),
            sub: name.clone(),
            name,
            organisation: "Acme".into(),
            role,
            rights: vec![TokenRight::View, TokenRight::Control],
            past: self.shows_past,
            nbf: now,
            exp: now + 60,
            jti: format!("token {}", self.minted),
        };
        Join::Token(encode(&TokenHeader::new(Algorithm::EdDSA), &claims, &self.key).unwrap())
    }
}

/// A relay that takes the desk's tokens.
async fn relay(desk: &Desk, directory: &std::path::Path, listen: &str) -> Relay {
    let file = config(directory, &format!("[tokens]\nkeys = [\"{}\"]\n", desk.public));
    let state = directory.join("state");
    Relay::start(&["--config", &file, "--state-directory", state.to_str().unwrap(), "--listen", listen]).await
}

fn connect(relay: &Relay, transport: Transport, join: Join) -> (Handle, Events) {
    let fingerprint = relay.ready["fingerprint"].as_str().unwrap().parse().unwrap();
    let target = Target::new(relay.ready["relay"].as_str().unwrap(), vec![fingerprint]).unwrap();
    tandem_client::start(Options { transport, ..Options::new(target, join, "scenario") })
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("nothing happens")
        .expect("the connection is over")
}

/// A customer whose screen the test paints. It grants everything to everybody.
struct Customer {
    handle: Handle,
    events: Events,
    encoder: Encoder,
    screen: Picture,
    wanted: bool,
    segment: u32,
    last: Option<Point>,
    granted: HashMap<u32, u64>,
    revision: u64,
    keys: u32,
}

impl Customer {
    fn join(relay: &Relay, transport: Transport) -> Self {
        let (handle, events) = connect(relay, transport, Join::Code(relay.code().parse().unwrap()));
        Self {
            handle,
            events,
            encoder: Encoder::new(EncoderOptions::new(SIZE)).unwrap(),
            screen: Picture::black(SIZE),
            wanted: false,
            segment: 0,
            last: None,
            granted: HashMap::new(),
            revision: 0,
            keys: 0,
        }
    }

    fn lane(&self, kind: LaneKind) -> LaneKey {
        LaneKey::screen(kind, DisplayId(0), Rendition::LIVE, Sender::RELAY)
    }

    fn paint(&mut self, seed: u8) {
        for (at, byte) in self.screen.bytes_mut().iter_mut().enumerate() {
            *byte = if at % 4 == 3 { 255 } else { (at / 4 / 7) as u8 ^ seed.wrapping_mul(at as u8 / 64) };
        }
    }

    /// Sends what differs, whole.
    fn send(&mut self) {
        while self.wanted
            && let Some(update) =
                self.encoder.encode(self.screen.borrow(), &Hints::default(), 64 << 10).unwrap()
        {
            let kind = match update.start {
                None => ScreenKind::Update,
                Some(Base::Black) => ScreenKind::Start { from: None },
                Some(Base::Shadow) => ScreenKind::Start { from: self.last },
            };
            self.segment += u32::from(update.start.is_some());
            let out = Outgoing::screen(self.segment, kind, &update.body);
            let sent = self.handle.send(self.lane(LaneKind::Screen), out).unwrap();
            self.last = Some(Point { rendition: Rendition::LIVE, segment: self.segment, seq: sent.seq });
        }
    }

    fn want(&mut self, want: Want) {
        self.wanted = want.on;
        if want.start
            && let Some(job) = self.encoder.start_segment()
        {
            let shown = self.last.unwrap();
            let key = job.encode().unwrap();
            self.keys += 1;
            self.send();
            self.handle.send(self.lane(LaneKind::Key), Outgoing::key(self.segment, shown.seq, &key)).unwrap();
        }
        self.send();
    }

    fn grant_everybody(&mut self, roster: &tandem_protocol::message::Roster, anew: bool) {
        for who in roster.participants.iter().filter(|who| !who.publisher) {
            if anew || !self.granted.contains_key(&who.sender) {
                self.revision += 1;
                self.granted.insert(who.sender, self.revision);
                let rights = Rights::of(&[Right::View, Right::Control]).to_wire();
                let revision = self.revision;
                let grants = Grants { participant: who.sender, rights, revision, prompt_open: false };
                self.handle.control(control::Message::Grants(grants)).unwrap();
            }
        }
    }

    /// Does what a customer's program does when something happens.
    fn on(&mut self, event: Event) {
        match event {
            Event::Control(control::Message::Want(want)) => self.want(want),
            Event::Control(control::Message::Roster(roster)) => self.grant_everybody(&roster, false),
            Event::Connected(connected) => {
                self.granted.clear();
                if !connected.restart.is_empty() {
                    self.encoder = Encoder::new(EncoderOptions::new(SIZE)).unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Somebody who watches.
struct Watcher {
    handle: Handle,
    events: Events,
    viewer: Viewer,
    keys: u32,
    updates: u32,
}

impl Watcher {
    fn join(relay: &Relay, transport: Transport, join: Join) -> Self {
        let (handle, events) = connect(relay, transport, join);
        let viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
        Self { handle, events, viewer, keys: 0, updates: 0 }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Connected(_) => {
                let visible = Visible { display: 0, visible: true, focused: true };
                self.handle.control(control::Message::Visible(visible)).unwrap();
            }
            Event::LaneOpened(lane) if lane.kind == LaneKind::Key => {
                self.viewer.key_lane_opened(lane.rendition);
            }
            Event::Record { lane, record } if lane.kind.is_screen() => {
                self.keys +=
                    u32::from(lane.kind == LaneKind::Key && !record.header.flags.contains(Flags::MORE));
                self.updates += u32::from(lane.kind == LaneKind::Screen);
                match self.viewer.record(&record.header, record.body()) {
                    Outcome::Applied { point, .. } if lane.kind == LaneKind::Screen => {
                        self.handle.applied(lane, point, point.seq);
                    }
                    Outcome::Lost(why) => panic!("lost step: {why}"),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn shows(&self, screen: &Picture) -> bool {
        self.viewer.point().is_some() && self.viewer.decoder().picture() == screen.bytes()
    }
}

/// Lets everybody do what they do until all watchers show the customer's screen.
async fn all_see(customer: &mut Customer, watchers: &mut [&mut Watcher]) {
    while !watchers.iter().all(|watcher| watcher.shows(&customer.screen)) {
        let (events, others): (&mut Events, _) = (&mut customer.events, &mut *watchers);
        let mut waiting: Vec<_> = Vec::new();
        for (at, watcher) in others.iter_mut().enumerate() {
            let events = &mut watcher.events;
            waiting.push(Box::pin(async move { (at, events.next().await) }));
        }
        let happened = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                event = events.next() => (None, event),
                ((at, event), _, _) = futures_util::future::select_all(waiting) => (Some(at), event),
            }
        });
        let (at, event) = happened.await.expect("they never see the same");
        let event = event.expect("a connection is over");
        match at {
            None => customer.on(event),
            Some(at) => watchers[at].on(event),
        }
    }
}

async fn session(relay: &Relay) -> String {
    let cookie = relay.sign_in().await;
    let sessions = relay.desk("GET", "/api/v1/sessions", &cookie).await;
    sessions["sessions"][0]["id"].as_str().unwrap().to_owned()
}

async fn a_late_subscriber(transport: Transport) {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk { shows_past: true, ..Desk::new() };
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let session = session(&relay).await;
    let mut customer = Customer::join(&relay, transport);
    let mut first = Watcher::join(&relay, transport, desk.token(&session, TokenRole::Lead));
    for seed in 1..20 {
        customer.paint(seed);
        customer.send();
        all_see(&mut customer, &mut [&mut first]).await;
    }
    // The held segment is enough for who comes now: the customer sends nothing for it.
    let sent = customer.last;
    let mut second = Watcher::join(&relay, transport, desk.token(&session, TokenRole::Collaborator));
    all_see(&mut customer, &mut [&mut first, &mut second]).await;
    assert_eq!((customer.last, customer.keys), (sent, 0));
    assert!(second.updates > 0 && second.keys == 0);
    // And once more than the relay holds has gone by, a start and a key are.
    let mut noise = 1u64;
    let mut bytes = 0;
    while bytes < limits::HELD_SEGMENT_MAX + (2 << 20) {
        for byte in customer.screen.bytes_mut() {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (noise >> 56) as u8;
        }
        customer.screen.bytes_mut().chunks_exact_mut(4).for_each(|pixel| pixel[3] = 255);
        bytes += SIZE.pixels() * 3;
        customer.send();
        all_see(&mut customer, &mut [&mut first, &mut second]).await;
    }
    let (updates, keys) = (first.updates, first.keys);
    let mut third = Watcher::join(&relay, transport, desk.token(&session, TokenRole::Collaborator));
    all_see(&mut customer, &mut [&mut first, &mut second, &mut third]).await;
    assert_eq!((customer.keys, third.keys), (1, 1));
    assert_eq!(first.keys, keys, "who is in step gets no key");
    assert!(first.updates <= updates + 1, "and nothing but the start");
    customer.paint(99);
    customer.send();
    all_see(&mut customer, &mut [&mut first, &mut second, &mut third]).await;
}

/// Unless the lead allows more, who comes late begins with the screen as it is then.
#[tokio::test]
async fn a_late_subscriber_does_not_see_the_past() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let session = session(&relay).await;
    let mut customer = Customer::join(&relay, Transport::Quic);
    let mut first = Watcher::join(&relay, Transport::Quic, desk.token(&session, TokenRole::Lead));
    for seed in 1..20 {
        customer.paint(seed);
        customer.send();
        all_see(&mut customer, &mut [&mut first]).await;
    }
    let mut second = Watcher::join(&relay, Transport::Quic, desk.token(&session, TokenRole::Monitor));
    all_see(&mut customer, &mut [&mut first, &mut second]).await;
    assert_eq!((customer.keys, first.keys, second.keys), (1, 0, 1));
    assert!(second.updates <= 1, "the start, and nothing of before: {}", second.updates);
}

#[tokio::test]
async fn a_late_subscriber_over_quic() {
    a_late_subscriber(Transport::Quic).await;
}

#[tokio::test]
async fn a_late_subscriber_over_websocket() {
    a_late_subscriber(Transport::WebSocket).await;
}

#[tokio::test]
async fn subscribers_over_different_bindings_see_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let session = session(&relay).await;
    let mut customer = Customer::join(&relay, Transport::Quic);
    let mut one = Watcher::join(&relay, Transport::Quic, desk.token(&session, TokenRole::Lead));
    let mut two = Watcher::join(&relay, Transport::WebSocket, desk.token(&session, TokenRole::Monitor));
    for seed in 1..30 {
        customer.paint(seed);
        customer.send();
    }
    all_see(&mut customer, &mut [&mut one, &mut two]).await;
    relay.settles("tandem_relay_connections{transport=\"quic\"}", 2.0).await;
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 1.0).await;
    for client in [one.handle, two.handle, customer.handle.clone()] {
        client.leave();
    }
    relay.settles("tandem_relay_connections{transport=\"quic\"}", 0.0).await;
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 0.0).await;
}

async fn everybody_sees_again_after_a_crash(transport: Transport) {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let first = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let session = session(&first).await;
    let mut customer = Customer::join(&first, transport);
    let mut watcher = Watcher::join(&first, transport, desk.token(&session, TokenRole::Lead));
    customer.paint(1);
    all_see(&mut customer, &mut [&mut watcher]).await;
    let listen = first.address();
    first.kill().await;
    customer.paint(2);
    let again = relay(&desk, directory.path(), &listen).await;
    assert_eq!(again.address(), listen);
    loop {
        // A connection that is lost takes nothing; what is painted meanwhile comes after it is back.
        match next(&mut customer.events).await {
            event @ Event::Connected(_) => {
                customer.on(event);
                break;
            }
            event => customer.on(event),
        }
    }
    all_see(&mut customer, &mut [&mut watcher]).await;
}

#[tokio::test]
async fn everybody_sees_again_after_a_crash_over_quic() {
    everybody_sees_again_after_a_crash(Transport::Quic).await;
}

#[tokio::test]
async fn everybody_sees_again_after_a_crash_over_websocket() {
    everybody_sees_again_after_a_crash(Transport::WebSocket).await;
}

#[tokio::test]
async fn an_idle_session_hears_heartbeats_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let session = session(&relay).await;
    let mut customer = Customer::join(&relay, Transport::WebSocket);
    let mut watcher = Watcher::join(&relay, Transport::WebSocket, desk.token(&session, TokenRole::Lead));
    customer.paint(1);
    all_see(&mut customer, &mut [&mut watcher]).await;
    // What is left of the beginning, then nothing at all for longer than a heartbeat.
    let quiet = Duration::from_millis(2500);
    while let Ok(event) = tokio::time::timeout(quiet, async {
        tokio::select! { event = customer.events.next() => event, event = watcher.events.next() => event }
    })
    .await
    {
        let event = event.expect("a connection is over");
        assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
    }
    let feedback = relay.metric("tandem_relay_feedback_total").await;
    let silent = tokio::time::timeout(quiet, customer.events.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(relay.metric("tandem_relay_feedback_total").await, feedback);
}
