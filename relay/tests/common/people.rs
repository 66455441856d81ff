//! People at a real relay: a customer whose screen the test paints, and technicians who watch it and type.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header as TokenHeader, encode};
use prost::Message as _;
use tandem_client::{Binding, Event, Events, Handle, Join, Options, Outgoing, SendError, Target, Transport};
use tandem_codec::{
    Base, Encoder, EncoderOptions, Hints, Outcome, Picture, PixelOrder, Size, Viewer, ViewerLimits,
};
use tandem_protocol::message::{
    Display, DisplayLayout, Grants, Held, Right, Rights, Visible, Want, control, types,
};
use tandem_protocol::token::{Claims, TokenRight, TokenRole};
use tandem_protocol::{
    Close, DisplayId, Flags, LaneKey, LaneKind, Point, Record, Rendition, ScreenKind, Sender,
};

use super::{PATIENCE, Relay, config};

pub const SIZE: Size = Size { w: 320, h: 200 };

/// A desk of the test's own: it signs tokens for any number of technicians.
pub struct Desk {
    pub key: EncodingKey,
    pub public: String,
    pub minted: u32,
    /// The lead lets others see what was before they came.
    pub shows_past: bool,
}

impl Desk {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
        Self { key, public: STANDARD.encode(pair.public_key()), minted: 0, shows_past: false }
    }

    pub fn token(&mut self, session: &str, role: TokenRole) -> Join {
        self.minted += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let name = format!("person {}", self.minted);
        let claims = Claims {
            aud: "tandem".into(),
            tenant: "Tandem".into(),
            sid: session.into(),
            sub: name.clone(),
            name,
            organisation: "Acme".into(),
            role,
            rights: vec![TokenRight::View, TokenRight::Control, TokenRight::Chat, TokenRight::Clipboard],
            past: self.shows_past,
            nbf: now,
            exp: now + 60,
            end: None,
            jti: format!("token {}", self.minted),
            cnf: None,
        };
        Join::Token(encode(&TokenHeader::new(Algorithm::EdDSA), &claims, &self.key).unwrap())
    }
}

/// A relay that takes the desk's tokens.
pub async fn relay(desk: &Desk, directory: &std::path::Path, listen: &str) -> Relay {
    relay_with(desk, directory, listen, "").await
}

/// The same, with more in its configuration.
pub async fn relay_with(desk: &Desk, directory: &std::path::Path, listen: &str, more: &str) -> Relay {
    let file = config(directory, &format!("[tokens]\nkeys = [\"{}\"]\n{more}", desk.public));
    let state = directory.join("state");
    Relay::start(&["--config", &file, "--state-directory", state.to_str().unwrap(), "--listen", listen]).await
}

/// A relay that takes the desk's tokens and tells in a file who joins.
pub async fn relay_logging(desk: &Desk, directory: &std::path::Path, log: &std::path::Path) -> Relay {
    let file = config(directory, &format!("[tokens]\nkeys = [\"{}\"]\n", desk.public));
    let log = std::fs::File::create(log).unwrap();
    Relay::start_logging(&["--log", "info"], log.into(), &["--config", &file]).await
}

/// How a relay is reached: at its own address.
pub fn options(relay: &Relay, transport: Transport, join: Join) -> Options {
    options_at(relay.ready["relay"].as_str().unwrap(), &[relay], transport, join)
}

/// How relays are reached, one of them at another address than its own.
pub fn options_at(url: &str, relays: &[&Relay], transport: Transport, join: Join) -> Options {
    let fingerprints =
        relays.iter().map(|relay| relay.ready["fingerprint"].as_str().unwrap().parse().unwrap());
    let target = Target::new(url, fingerprints.collect()).unwrap();
    Options { transport, ..Options::new(target, join, "scenario") }
}

/// The customer's code of the first session.
pub fn code(relay: &Relay) -> Join {
    Join::Code(relay.code().parse().unwrap())
}

pub async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("nothing happens")
        .expect("the connection is over")
}

/// The type of a word: a record with a number on the peer lane, long enough to be under way for a while.
const WORD: u8 = 200;
const WORD_LEN: usize = 100_000;

/// What a client says to the others, and hears of them: every word once, in order.
#[derive(Default)]
pub struct Words {
    said: AtomicU32,
    pub heard: u32,
}

impl Words {
    /// Says the next one unless `others` have yet to hear two.
    pub fn go_on(&self, handle: &Handle, others: &Self) {
        let said = self.said.load(Ordering::SeqCst);
        if said >= others.heard + 2 {
            return;
        }
        let mut word = said.to_le_bytes().to_vec();
        word.resize(WORD_LEN, said as u8);
        let lane = LaneKey::plain(LaneKind::Peer, Sender::RELAY);
        if handle.send(lane, Outgoing::message(WORD, &word)).is_ok() {
            self.said.store(said + 1, Ordering::SeqCst);
        }
    }

    fn hear(&mut self, word: &[u8]) {
        assert_eq!(word[..4], self.heard.to_le_bytes(), "each word once, in order");
        assert!(word.len() == WORD_LEN && word[4..].iter().all(|&byte| byte == self.heard as u8));
        self.heard += 1;
    }
}

/// What a client went through.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Every connection, by its binding and relay.
    pub connections: Vec<(Binding, String)>,
    pub losses: u32,
    pub closed: Option<Close>,
    /// Input that was too old to be sent again.
    pub dropped: u64,
    is_online: bool,
}

impl Past {
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Connected(connected) => {
                self.connections.push((connected.binding, connected.relay.clone()));
                self.dropped += connected.dropped_input;
                self.is_online = true;
            }
            Event::Disconnected { .. } => {
                self.losses += 1;
                self.is_online = false;
            }
            Event::Reopened { dropped, .. } => self.dropped += dropped,
            Event::Closed { close, .. } => {
                self.closed = Some(*close);
                self.is_online = false;
            }
            _ => {}
        }
    }

    /// The binding in use now.
    pub fn binding(&self) -> Option<Binding> {
        self.connections.last().filter(|_| self.is_online).map(|(binding, _)| *binding)
    }
}

/// A customer whose screen the test paints. It grants everything to everybody.
pub struct Customer {
    pub past: Past,
    pub words: Words,
    /// The number of the next key press, and how many numbers were left out.
    pub pressed: u32,
    pub missing: u32,
    /// The keys that are held, as was said last, and how often that was.
    pub held: (Vec<u32>, u32),
    /// An update was made that could not be sent.
    broken: bool,
    pub handle: Handle,
    pub events: Events,
    pub encoder: Encoder,
    pub screen: Picture,
    pub wanted: bool,
    pub segment: u32,
    pub last: Option<Point>,
    /// What whoever sets the pace has shown.
    pub shown: Option<Point>,
    pub granted: HashMap<u32, u64>,
    pub revision: u64,
    pub keys: u32,
}

impl Customer {
    pub fn join(relay: &Relay, transport: Transport) -> Self {
        Self::start(options(relay, transport, code(relay)))
    }

    pub fn start(options: Options) -> Self {
        let (handle, events) = tandem_client::start(options);
        Self {
            past: Past::default(),
            words: Words::default(),
            pressed: 0,
            missing: 0,
            held: (Vec::new(), 0),
            broken: false,
            handle,
            events,
            encoder: Encoder::new(EncoderOptions::new(SIZE)).unwrap(),
            screen: Picture::black(SIZE),
            wanted: false,
            segment: 0,
            last: None,
            shown: None,
            granted: HashMap::new(),
            revision: 0,
            keys: 0,
        }
    }

    pub fn lane(&self, kind: LaneKind) -> LaneKey {
        LaneKey::screen(kind, DisplayId(0), Rendition::LIVE, Sender::RELAY)
    }

    pub fn paint(&mut self, seed: u8) {
        for (at, byte) in self.screen.bytes_mut().iter_mut().enumerate() {
            *byte = if at % 4 == 3 { 255 } else { (at / 4 / 7) as u8 ^ seed.wrapping_mul(at as u8 / 64) };
        }
    }

    /// Sends what differs, whole.
    pub fn send(&mut self) {
        while self.wanted
            && !self.broken
            && let Some(update) =
                self.encoder.encode(self.screen.borrow(), &Hints::default(), 64 << 10).unwrap()
        {
            let kind = match update.start {
                None => ScreenKind::Update,
                Some(Base::Black) => ScreenKind::Start { from: None },
                Some(Base::Shadow) => ScreenKind::Start { from: self.last },
            };
            self.segment += u32::from(update.start.is_some());
            let skips = matches!(kind, ScreenKind::Start { from: None });
            let out = Outgoing::screen(self.segment, kind, &update.body).skipping(skips);
            let sent = match self.handle.send(self.lane(LaneKind::Screen), out) {
                Ok(sent) => sent,
                Err(SendError::Offline) => {
                    self.broken = true;
                    return;
                }
                Err(error) => panic!("{error}"),
            };
            self.last = Some(Point { rendition: Rendition::LIVE, segment: self.segment, seq: sent.seq });
        }
    }

    pub fn want(&mut self, want: Want) {
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

    pub fn grant_everybody(&mut self, roster: &tandem_protocol::message::Roster, anew: bool) {
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
    pub fn on(&mut self, event: Event) {
        self.past.note(&event);
        match event {
            Event::Record { lane, record } if lane.kind == LaneKind::Input => self.press(lane, &record),
            Event::Record { lane, record }
                if lane.kind == LaneKind::Peer && record.header.record_type == WORD =>
            {
                self.words.hear(record.body());
            }
            Event::Control(control::Message::Want(want)) => self.want(want),
            Event::Control(control::Message::Feedback(feedback)) => {
                self.shown = feedback.applied.and_then(|point| Point::try_from(&point).ok()).or(self.shown);
            }
            Event::Control(control::Message::Roster(roster)) => self.grant_everybody(&roster, false),
            Event::Connected(connected) => {
                self.granted.clear();
                let broken = std::mem::take(&mut self.broken);
                if broken || !connected.restart.is_empty() {
                    self.encoder = Encoder::new(EncoderOptions::new(SIZE)).unwrap();
                }
            }
            _ => {}
        }
    }

    /// Says which displays there are: one, in this generation.
    pub fn lay_out(&self, generation: u32) {
        let display =
            Display { width: SIZE.w.into(), height: SIZE.h.into(), primary: true, ..Default::default() };
        let layout = DisplayLayout { generation, displays: vec![display], ..Default::default() };
        let lane = LaneKey::plain(LaneKind::Peer, Sender::RELAY);
        self.handle.send(lane, Outgoing::latest(types::DISPLAY_LAYOUT, &layout.encode_to_vec())).unwrap();
    }

    fn press(&mut self, lane: LaneKey, record: &Record) {
        self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
        if record.header.record_type == types::HELD {
            self.held = (Held::decode(record.body()).unwrap().usages, self.held.1 + 1);
            return;
        }
        let number = u32::from_le_bytes(record.body().try_into().unwrap());
        assert!(number >= self.pressed, "press {number} after {} was to come", self.pressed);
        self.missing += number - self.pressed;
        self.pressed = number + 1;
    }

    /// Something small changes on the screen.
    pub fn blink(&mut self, seed: u32) {
        if self.screen.bytes_mut()[3] == 0 {
            self.paint(1);
        }
        for (at, byte) in self.screen.bytes_mut()[..64 * 4].iter_mut().enumerate() {
            *byte = if at % 4 == 3 { 255 } else { seed.to_le_bytes()[at % 4] ^ at as u8 };
        }
        self.send();
    }
}

/// Somebody who watches.
pub struct Watcher {
    pub past: Past,
    pub words: Words,
    /// The next number of each epoch's live updates.
    next: HashMap<u64, u64>,
    /// Keys that were pressed.
    pub typed: u32,
    /// Keys that are held down. Where there are any, they are told whenever the way to the customer is a new one.
    pub holds: Vec<u32>,
    /// The rights of everybody who does not publish, as the relay told them last.
    pub rights: Vec<Vec<i32>>,
    /// The generations of the customer's displays, in the order in which they came.
    pub layouts: Vec<u32>,
    pub handle: Handle,
    pub events: Events,
    pub viewer: Viewer,
    pub keys: u32,
    pub updates: u32,
}

impl Watcher {
    pub fn join(relay: &Relay, transport: Transport, join: Join) -> Self {
        Self::start(options(relay, transport, join))
    }

    pub fn start(options: Options) -> Self {
        let (handle, events) = tandem_client::start(options);
        let viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
        Self {
            past: Past::default(),
            words: Words::default(),
            next: HashMap::new(),
            typed: 0,
            holds: Vec::new(),
            rights: Vec::new(),
            layouts: Vec::new(),
            handle,
            events,
            viewer,
            keys: 0,
            updates: 0,
        }
    }

    pub fn on(&mut self, event: Event) {
        self.past.note(&event);
        match event {
            Event::Connected(_) => {
                let visible = Visible { display: 0, visible: true, focused: true };
                self.handle.control(control::Message::Visible(visible)).unwrap();
                self.restate();
            }
            Event::Reopened { .. } => self.restate(),
            Event::Control(control::Message::Roster(roster)) => {
                let others = roster.participants.into_iter().filter(|who| !who.publisher);
                self.rights = others.map(|who| who.rights).collect();
            }
            Event::Record { lane, record }
                if lane.kind == LaneKind::Peer && record.header.record_type == WORD =>
            {
                self.words.hear(record.body());
            }
            Event::Record { lane, record } if lane.kind == LaneKind::Peer => {
                assert_eq!(record.header.record_type, types::DISPLAY_LAYOUT);
                self.layouts.push(DisplayLayout::decode(record.body()).unwrap().generation);
            }
            Event::LaneOpened(lane) if lane.kind == LaneKind::Key => {
                self.viewer.key_lane_opened(lane.rendition);
            }
            Event::Record { lane, record } if lane.kind.is_screen() => {
                self.keys +=
                    u32::from(lane.kind == LaneKind::Key && !record.header.flags.contains(Flags::MORE));
                self.updates += u32::from(lane.kind == LaneKind::Screen);
                if lane.kind == LaneKind::Screen && lane.rendition == Rendition::LIVE {
                    let next = self.next.entry(record.header.epoch).or_default();
                    assert!(record.header.seq >= *next, "update {} where {next} was next", record.header.seq);
                    *next = record.header.seq + 1;
                }
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

    /// Says which keys are held.
    fn restate(&self) {
        if !self.holds.is_empty() {
            let held = Held { usages: self.holds.clone(), ..Default::default() }.encode_to_vec();
            let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
            self.handle.send(lane, Outgoing::message(types::HELD, &held)).unwrap();
        }
    }

    /// Presses a key, which has a number.
    pub fn press(&mut self) {
        let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
        let out = self.typed.to_le_bytes();
        match self.handle.send(lane, Outgoing::message(types::KEY, &out)) {
            Ok(_) => self.typed += 1,
            // Nobody has joined yet.
            Err(SendError::Offline) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub fn shows(&self, screen: &Picture) -> bool {
        self.viewer.point().is_some() && self.viewer.decoder().picture() == screen.bytes()
    }
}

/// Lets everybody do what they do until all watchers show the customer's screen.
pub async fn all_see(customer: &mut Customer, watchers: &mut [&mut Watcher]) {
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

pub async fn session(relay: &Relay) -> String {
    let cookie = relay.sign_in().await;
    let sessions = relay.desk("GET", "/api/v1/sessions", &cookie).await;
    sessions["sessions"][0]["id"].as_str().unwrap().to_owned()
}

/// Lets the technician type and the customer's screen change, without a pause, until `enough`; then until all that was typed
/// has been pressed or is known to be lost, and the technician sees the screen as it rests.
pub async fn work(
    customer: &mut Customer,
    technician: &mut Watcher,
    mut enough: impl FnMut(&Customer, &Watcher) -> bool,
) {
    let worked = tokio::time::timeout(PATIENCE, async {
        let mut moments = tokio::time::interval(Duration::from_millis(10));
        let mut blinks = 0;
        let mut works = true;
        loop {
            works &= !enough(customer, technician);
            let arrived = u64::from(customer.pressed - customer.missing) + technician.past.dropped;
            if !works && arrived >= u64::from(technician.typed) && technician.shows(&customer.screen) {
                break;
            }
            tokio::select! {
                event = customer.events.next() => customer.on(event.expect("the customer's connection is over")),
                event = technician.events.next() => technician.on(event.expect("the technician's connection is over")),
                _ = moments.tick(), if works => {
                    blinks += 1;
                    customer.blink(blinks);
                    technician.press();
                }
            }
        }
    });
    assert!(
        worked.await.is_ok(),
        "{:?} {} pressed, {} missing; {:?} {} typed",
        customer.past,
        customer.pressed,
        customer.missing,
        technician.past,
        technician.typed
    );
}
