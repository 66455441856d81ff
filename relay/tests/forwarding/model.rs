//! A session with its publisher and subscribers, driven step by step in memory. After each step every account must close.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_protocol::message::{
    self, Ack, Control, Grants, Right, Rights, Role, Skipped, Visible, Want, control,
};
use tandem_protocol::{
    Close, Header, LaneKey, LaneKind, Point, Record, Rendition, Sender, SessionId, limits,
};
use tandem_relay::metrics::Metrics;
use tandem_relay::outbox::{Pull, Slot, Wake};
use tandem_relay::session::{Join, Keeping, LaneInstance, Seat, Session, Showing, Timing, Who};

use super::publisher::{DISPLAY, PUBLISHER, Publisher, lane};
use super::subscriber::{Viewer, pipe};

/// Most subscribers that the steps make.
const SUBSCRIBERS_MAX: usize = 6;
/// How long people may be on their way back from a relay that was killed, from the first of them on, and anew from the publisher.
const RETURN: Duration = Duration::from_secs(10);
/// A tenth of a second each: the longest that anybody may take to show the last picture, and to be back with live.
const ROUNDS_AT_REST: usize = 900;

/// What a connection was told.
#[derive(Default)]
struct Told(Mutex<Option<Close>>);

impl Wake for Told {
    fn lane(&self, _: Slot) {}
    fn lanes(&self) {}
    fn focus(&self) {}
    fn deadline(&self) {}
    fn room(&self) {}
    fn close(&self, close: Close, _: &str) {
        self.0.lock().unwrap().get_or_insert(close);
    }

    fn path(&self) -> tandem_path::State {
        tandem_path::State::default()
    }
}

/// A connection's end.
struct Link {
    seat: Seat,
    told: Arc<Told>,
    lanes: BTreeMap<Slot, LaneKey>,
}

struct Subscriber {
    sender: Sender,
    link: Option<Link>,
    /// It has been here before, or at the relay before this one since when it has not been here.
    returns: bool,
    elsewhere: bool,
    viewer: Viewer,
    visible: bool,
    may_view: bool,
    /// Since when the relay lets it see the screen: the last record that had come by then, its epoch first.
    views_since: Option<Option<(u64, u64)>>,
    /// Taken from the relay and on the way: live, reduced, keys.
    pipes: [VecDeque<Record>; 3],
    received: HashMap<LaneKey, u64>,
    /// Records taken of each rendition since the subscriber's account began.
    taken: [u64; 2],
    skipped: [u64; 2],
}

/// The whole scene.
pub struct Model {
    session: Session,
    metrics: Arc<Metrics>,
    now: Instant,
    publisher: Publisher,
    link: Option<Link>,
    lane_numbers: u64,
    instances: [Option<LaneInstance>; 3],
    subscribers: Vec<Subscriber>,
    revision: u64,
    /// Whether the lead lets others see what was before they came.
    shows_past: bool,
    /// The last record of live that came to the relay, or to the one before it.
    uploaded: Option<(u64, u64)>,
    /// This relay has not seen the publisher yet, which the one before it had.
    publisher_unknown: bool,
    /// Until when those are on their way back who were at the relay before this one.
    returning_until: Option<Instant>,
    /// There was a relay before this one. The epoch and the point from which the publisher can go on, if it can.
    before: Option<Option<(u64, Point)>>,
}

impl Model {
    pub fn new(knows_renditions: bool, shows_past: bool) -> Self {
        let metrics = Arc::new(Metrics::new());
        let mut model = Self {
            session: Session::new(SessionId([7; 16]), Timing::default(), metrics.clone()),
            metrics,
            now: Instant::now(),
            publisher: Publisher::new(knows_renditions),
            link: None,
            lane_numbers: 0,
            instances: [None; 3],
            subscribers: Vec::new(),
            revision: 0,
            shows_past,
            uploaded: None,
            publisher_unknown: false,
            returning_until: None,
            before: None,
        };
        model.connect_publisher();
        model
    }

    /// Takes the steps, then lets everything come to rest.
    pub fn run(mut self, steps: &[[u8; 2]]) {
        for &[step, how] in steps {
            self.step(step, how);
            self.check();
        }
        self.rest();
    }

    fn step(&mut self, step: u8, how: u8) {
        let which = usize::from(how) % self.subscribers.len().max(1);
        match step % 32 {
            0 | 1 if self.subscribers.len() < SUBSCRIBERS_MAX => drop(self.join()),
            2..=5 => {
                self.publisher.paint();
                self.publisher.encode(0, how & 1 == 1, 1 + usize::from(how >> 6), 24);
            }
            6 => self.publisher.encode(1, how & 1 == 1, 1 + usize::from(how >> 6), 24),
            7..=11 => self.upload(usize::from(how) % 3, 1 + usize::from(how >> 5)),
            12 => self.answer(),
            13..=17 => drop(self.take(which, usize::from(how >> 4) % 3, 1 + usize::from(how >> 6))),
            18..=21 => self.show(which, usize::from(how >> 4) % 3, 1 + usize::from(how >> 6)),
            22 => self.acknowledge(which),
            23 | 24 => self.pass(u64::from(how) * 2),
            25 => self.see(which, how & 64 == 0),
            26 => self.permit(which, how & 64 == 0, how & 32 == 0),
            27 => self.lose_step(which),
            28 if how & 1 == 0 => self.disconnect(which),
            28 => self.connect(which),
            29 => match how % 8 {
                0 => self.publisher.resize(),
                1 => self.restart_publisher(),
                2 => self.disconnect_publisher(),
                3 => self.connect_publisher(),
                4 => self.upload_much(),
                5 | 6 => self.restart_relay(how),
                7 => self.pass(11_000),
                _ => {}
            },
            _ => self.settle_one(which),
        }
    }

    /// Somebody comes, sees the display, and may.
    pub fn join(&mut self) -> usize {
        let at = self.subscribers.len();
        self.subscribers.push(Subscriber {
            sender: Sender(at as u16 + 2),
            link: None,
            returns: false,
            elsewhere: false,
            viewer: Viewer::default(),
            visible: true,
            may_view: true,
            views_since: None,
            pipes: Default::default(),
            received: HashMap::new(),
            taken: [0; 2],
            skipped: [0; 2],
        });
        self.connect(at);
        at
    }

    fn attach(&mut self, sender: Sender, role: Role, join: Join) -> Link {
        let who = Who {
            subject: format!("person {sender}"),
            name: String::new(),
            organisation: String::new(),
            tenant: String::new(),
            role,
            permitted: Rights::of(&[Right::View, Right::Control]),
            shows_past: role == Role::Lead && self.shows_past,
            ends: None,
            token: String::new(),
        };
        let told = Arc::new(Told::default());
        let seat = self.session.attach(sender, who, join, told.clone(), self.now);
        self.session.welcome(seat, message::Welcome::default(), self.now);
        Link { seat, told, lanes: BTreeMap::from([(Slot::CONTROL, LaneKey::CONTROL)]) }
    }

    fn say(&mut self, seat: Seat, message: control::Message) {
        self.session.control(seat, message, self.now).unwrap();
    }

    fn connect(&mut self, at: usize) {
        let Some(subscriber) = self.subscribers.get_mut(at).filter(|subscriber| subscriber.link.is_none())
        else {
            return;
        };
        let showing =
            subscriber.viewer.shown().map(|(epoch, point)| Showing { display: DISPLAY, epoch, point });
        let returns = std::mem::replace(&mut subscriber.returns, true);
        let join = Join { epoch: 50, showing: showing.into_iter().collect(), returns, ..Join::default() };
        let (sender, role) = (subscriber.sender, if at == 0 { Role::Lead } else { Role::Collaborator });
        subscriber.viewer.disconnected();
        subscriber.pipes = Default::default();
        subscriber.received.clear();
        (subscriber.taken, subscriber.skipped) = ([0; 2], [0; 2]);
        let link = self.attach(sender, role, join);
        self.subscribers[at].link = Some(link);
        let visible = self.subscribers[at].visible;
        self.see(at, visible);
        if std::mem::take(&mut self.subscribers[at].elsewhere) && self.subscribers[at].may_view {
            // All that this relay holds, whatever was withdrawn and granted meanwhile: it does not know. Who comes later sees what came
            // since they may, as it knows.
            let in_time = self.now <= *self.returning_until.get_or_insert(self.now + RETURN);
            let known = if self.link.is_some() { Some(self.uploaded) } else { None };
            self.subscribers[at].views_since = if in_time { Some(None) } else { known };
        }
        self.grant(at);
    }

    fn disconnect(&mut self, at: usize) {
        if let Some(link) = self.subscribers.get_mut(at).and_then(|subscriber| subscriber.link.take()) {
            self.session.detach(link.seat, self.now);
        }
    }

    fn see(&mut self, at: usize, visible: bool) {
        let Some(subscriber) = self.subscribers.get_mut(at) else { return };
        subscriber.visible = visible;
        if let Some(link) = &subscriber.link {
            let seat = link.seat;
            let visible = Visible { display: DISPLAY.0.into(), visible, focused: visible };
            self.say(seat, control::Message::Visible(visible));
        }
    }

    fn permit(&mut self, at: usize, view: bool, control: bool) {
        let Some(subscriber) = self.subscribers.get_mut(at) else { return };
        subscriber.may_view = view;
        self.grant_rights(at, view, control);
    }

    fn grant(&mut self, at: usize) {
        let view = self.subscribers[at].may_view;
        self.grant_rights(at, view, at == 0);
    }

    fn grant_rights(&mut self, at: usize, view: bool, control: bool) {
        let Some(link) = &self.link else { return };
        let seat = link.seat;
        let mut rights = Vec::new();
        if view {
            rights.push(Right::View);
        }
        if view && control {
            rights.push(Right::Control);
        }
        self.revision += 1;
        let grants = Grants {
            participant: self.subscribers[at].sender.0.into(),
            rights: Rights::of(&rights).to_wire(),
            revision: self.revision,
            prompt_open: false,
        };
        self.say(seat, control::Message::Grants(grants));
        let since = &mut self.subscribers[at].views_since;
        *since = if view { since.or(Some(self.uploaded)) } else { None };
        if !view {
            // Its lanes are gone, and its account with them.
            self.listen(at);
            let subscriber = &mut self.subscribers[at];
            (subscriber.taken, subscriber.skipped) = ([0; 2], [0; 2]);
            subscriber.pipes = Default::default();
            subscriber.received.clear();
            subscriber.viewer.disconnected();
        }
    }

    fn connect_publisher(&mut self) {
        if self.link.is_some() {
            return;
        }
        let (epoch, next_seq) = (self.publisher.epoch, self.publisher.next_seq());
        let after = self.before.flatten().filter(|kept| kept.0 == epoch).map(|kept| kept.1);
        let keeps = after.map(|after| Keeping { display: DISPLAY, after, next_seq });
        let returns = self.before.is_some();
        if returns && std::mem::take(&mut self.publisher_unknown) {
            self.returning_until = Some(self.now + RETURN);
        }
        let join = Join { epoch, returns, keeps: keeps.into_iter().collect(), ..Join::default() };
        let mut link = self.attach(PUBLISHER, Role::Customer, join);
        let mut next_seq = [None; 2];
        let mut heard = Vec::new();
        for message in self.messages(&mut link) {
            if let control::Message::Welcome(welcome) = message {
                for position in welcome.received {
                    let key = LaneKey::try_from(position.lane.as_ref().unwrap()).unwrap();
                    if position.epoch == self.publisher.epoch {
                        next_seq[usize::from(key.rendition.0)] = Some(position.next_seq);
                    }
                }
            } else {
                heard.push(message);
            }
        }
        self.publisher.resume(next_seq);
        heard.iter().for_each(|message| self.publisher.hear(message));
        self.instances = [None; 3];
        self.link = Some(link);
        for at in 0..self.subscribers.len() {
            self.grant(at);
        }
    }

    fn disconnect_publisher(&mut self) {
        if let Some(link) = self.link.take() {
            self.session.detach(link.seat, self.now);
        }
    }

    fn restart_publisher(&mut self) {
        self.disconnect_publisher();
        self.publisher.restart();
        self.connect_publisher();
    }

    /// The relay is killed, and another one knows nothing of the session: who was here comes back.
    fn restart_relay(&mut self, how: u8) {
        self.session = Session::new(SessionId([7; 16]), Timing::default(), self.metrics.clone());
        let epoch = self.publisher.epoch;
        let had = self.uploaded.filter(|uploaded| uploaded.0 == epoch);
        let kept = had.and_then(|(_, seq)| Some((epoch, self.publisher.keeps(how, seq)?)));
        if let Some((epoch, after)) = kept {
            // What is sent again may be shown to whoever may see the screen: the relay does not know since when.
            self.uploaded = Some((epoch, after.seq));
            for since in self.subscribers.iter_mut().filter_map(|subscriber| subscriber.views_since.as_mut())
            {
                *since = (*since).min(self.uploaded);
            }
        }
        self.before = Some(kept);
        (self.returning_until, self.publisher_unknown) = (None, true);
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.elsewhere = subscriber.returns);
        let here: Vec<usize> =
            (0..self.subscribers.len()).filter(|&at| self.subscribers[at].link.take().is_some()).collect();
        let publisher = self.link.take().is_some();
        let publisher_at = usize::from(how >> 4) % (here.len() + 1);
        for (turn, &at) in here.iter().enumerate() {
            if publisher && turn == publisher_at {
                self.connect_publisher();
            }
            self.connect(at);
        }
        if publisher {
            self.connect_publisher();
        }
    }

    /// Some of what the publisher has encoded reaches the relay.
    fn upload(&mut self, which: usize, count: usize) {
        let Some(link) = &self.link else { return };
        let seat = link.seat;
        for _ in 0..count {
            let Some(record) = self.publisher.pipes[which].pop_front() else { return };
            if self.instances[which].is_none() {
                self.lane_numbers += 1;
                let instance = LaneInstance(self.lane_numbers);
                self.session.lane_opened(seat, instance, lane(which)).unwrap();
                self.instances[which] = Some(instance);
            }
            self.session.record(seat, self.instances[which].unwrap(), &record, self.now).unwrap();
            if which == 0 {
                self.uploaded = self.uploaded.max(Some((record.header.epoch, record.header.seq)));
            }
        }
    }

    /// More than the relay holds.
    fn upload_much(&mut self) {
        for _ in 0..2 + limits::HELD_SEGMENT_MAX / limits::BODY_MAX {
            self.publisher.encode(0, true, 1, limits::BODY_MAX);
            self.publisher.paint();
        }
        self.upload(0, usize::MAX);
    }

    /// The publisher hears what it is asked for, and does it.
    fn answer(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        for message in self.messages(&mut link) {
            self.publisher.hear(&message);
        }
        self.link = Some(link);
    }

    fn messages(&mut self, link: &mut Link) -> Vec<control::Message> {
        let mut messages = Vec::new();
        while let Pull::Record(bytes) = self.session.pull(link.seat, Slot::CONTROL, self.now) {
            let record = parse(LaneKind::Control, bytes);
            messages.extend(Control::decode_body(record.body()).unwrap());
        }
        messages
    }

    /// A subscriber's connection takes records of a lane.
    fn take(&mut self, at: usize, which: usize, count: usize) -> usize {
        let now = self.now;
        let Some(subscriber) = self.subscribers.get_mut(at) else { return 0 };
        let Some(link) = &mut subscriber.link else { return 0 };
        if let Some(outbox) = self.session.outbox(link.seat) {
            let changes = outbox.take_changes();
            link.lanes.extend(changes.opened);
            for slot in changes.given_up {
                link.lanes.remove(&slot);
            }
        }
        let lanes = link.lanes.iter().filter(|(_, key)| key.kind.is_screen());
        let found = lanes.into_iter().find(|(_, key)| pipe(key.kind, key.rendition) == which);
        let Some((&slot, &key)) = found else { return 0 };
        for taken in 0..count {
            let Pull::Record(bytes) = self.session.pull(link.seat, slot, now) else { return taken };
            if key.kind == LaneKind::Screen {
                subscriber.taken[which] += 1;
            }
            let record = parse(key.kind, bytes);
            if let (Some(since), false, true) =
                (subscriber.views_since.flatten(), self.shows_past, which != 1)
            {
                // A key shows the record before its start, which then was there already.
                let record = (record.header.epoch, record.header.seq + u64::from(key.kind == LaneKind::Key));
                assert!(
                    record > since,
                    "{at} is sent {record:?} of {key:?}, and may see what came after {since:?}"
                );
            }
            subscriber.pipes[which].push_back(record);
        }
        count
    }

    /// Records reach a subscriber's viewer.
    fn show(&mut self, at: usize, which: usize, count: usize) {
        let Some(subscriber) = self.subscribers.get_mut(at) else { return };
        for _ in 0..count {
            let Some(record) = subscriber.pipes[which].pop_front() else { return };
            let key = lane(which);
            *subscriber.received.entry(key).or_default() += record.bytes.len() as u64;
            subscriber.viewer.record(which, &record, &self.publisher.published);
        }
    }

    fn acknowledge(&mut self, at: usize) {
        let Some(subscriber) = self.subscribers.get_mut(at) else { return };
        let Some(seat) = subscriber.link.as_ref().map(|link| link.seat) else { return };
        let shown = subscriber.viewer.shown();
        let (epoch, applied) = (shown.map_or(0, |shown| shown.0), shown.map(|shown| shown.1.into()));
        let lanes: Vec<_> = subscriber.received.iter().map(|(&key, &bytes)| (key, bytes)).collect();
        for (key, received_bytes) in lanes {
            let ack = Ack { lane: Some(key.into()), received_bytes, epoch, applied, ..Ack::default() };
            self.say(seat, control::Message::Ack(ack));
        }
        self.listen(at);
    }

    /// A subscriber reads its control messages.
    fn listen(&mut self, at: usize) {
        let Some(mut link) = self.subscribers[at].link.take() else { return };
        for message in self.messages(&mut link) {
            if let control::Message::Skipped(Skipped { lane: Some(lane), count, .. }) = message {
                let key = LaneKey::try_from(&lane).unwrap();
                self.subscribers[at].skipped[usize::from(key.rendition.0)] += count;
            }
        }
        self.subscribers[at].link = Some(link);
    }

    /// A body was damaged: the subscriber asks for a start with a key.
    fn lose_step(&mut self, at: usize) {
        // A key that is on its way would answer: it is to be damaged too, so all of it must have come.
        let Some(subscriber) = self.subscribers.get_mut(at) else { return };
        if !subscriber.pipes[2].is_empty() {
            return;
        }
        self.acknowledge(at);
        let subscriber = &mut self.subscribers[at];
        let Some(seat) = subscriber.link.as_ref().map(|link| link.seat) else { return };
        subscriber.viewer.lose_step();
        let want = Want { display: DISPLAY.0.into(), start: true, key: true, ..Want::default() };
        self.say(seat, control::Message::Want(want));
    }

    /// Time passes; whoever was closed meanwhile comes back with its ticket.
    pub fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        let seats: Vec<Seat> = self
            .subscribers
            .iter()
            .filter_map(|s| s.link.as_ref())
            .chain(&self.link)
            .map(|link| link.seat)
            .collect();
        for seat in seats {
            self.session.heard(seat, self.now);
        }
        self.session.tick(self.now);
    }

    fn reconnect_closed(&mut self) {
        for at in 0..self.subscribers.len() {
            if self.is_closed(at) {
                self.disconnect(at);
                self.connect(at);
            }
        }
    }

    pub fn is_closed(&self, at: usize) -> bool {
        self.subscribers[at].link.as_ref().is_some_and(|link| link.told.0.lock().unwrap().is_some())
    }

    pub fn is_reduced(&self, at: usize) -> bool {
        let shown = self.subscribers[at].viewer.shown();
        shown.is_some_and(|(_, point)| point.rendition == Rendition::REDUCED)
    }

    pub fn paint(&mut self) {
        self.publisher.paint();
    }

    /// The publisher encodes all it may, and it arrives.
    pub fn publish(&mut self) {
        self.publish_sized([Some(24), Some(24)]);
    }

    /// An update of so many bytes of each rendition of which there shall be one.
    pub fn publish_sized(&mut self, sizes: [Option<usize>; 2]) {
        self.answer();
        for (which, size) in sizes.into_iter().enumerate() {
            if let Some(size) = size {
                self.publisher.encode(which, false, 1, size);
            }
        }
        for which in 0..3 {
            self.upload(which, usize::MAX);
        }
    }

    /// A subscriber has what there is.
    pub fn settle_one(&mut self, at: usize) {
        if at >= self.subscribers.len() {
            return;
        }
        loop {
            let taken: usize = (0..3).map(|which| self.take(at, which, usize::MAX)).sum();
            for which in [1, 0, 2] {
                self.show(at, which, usize::MAX);
            }
            if taken == 0 {
                break;
            }
        }
        self.acknowledge(at);
    }

    /// Everybody has what there is.
    pub fn settle(&mut self) {
        for at in 0..self.subscribers.len() {
            self.settle_one(at);
        }
    }

    /// Everybody but one, who takes one record, or none.
    pub fn settle_but(&mut self, slow: usize, takes_one: bool) {
        for at in (0..self.subscribers.len()).filter(|&at| at != slow) {
            self.settle_one(at);
        }
        if takes_one {
            self.take_one(slow);
        }
    }

    /// A subscriber takes one record, keys last.
    pub fn take_one(&mut self, at: usize) {
        if let Some(which) = (0..3).find(|&which| self.take(at, which, 1) == 1) {
            self.show(at, which, 1);
            self.acknowledge(at);
        }
    }

    /// The source rests, and everybody reads: all show the last picture, of live, and nothing waits for anybody.
    pub fn rest(&mut self) {
        self.connect_publisher();
        for at in 0..self.subscribers.len() {
            self.connect(at);
            self.see(at, true);
            self.permit(at, true, at == 0);
        }
        for _ in 0..ROUNDS_AT_REST {
            self.reconnect_closed();
            self.publish();
            self.settle();
            self.check();
            self.pass(100);
        }
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            assert_eq!(subscriber.viewer.picture(), self.publisher.screen(), "what subscriber {at} shows");
            assert_eq!(subscriber.viewer.held(), 0, "subscriber {at} waits for something");
            assert!(!self.is_reduced(at), "subscriber {at} stays with reduced");
            let seat = subscriber.link.as_ref().unwrap().seat;
            for (_, rendition, account) in self.session.accounts(seat) {
                assert_eq!(account.waiting, 0);
                if rendition == Rendition::LIVE {
                    let told = subscriber.skipped[0];
                    assert_eq!(account.skipped.iter().sum::<u64>(), told, "told to {at}: {account:?}");
                }
            }
        }
        assert!(!self.publisher.has_reduced(), "reduced exists although nobody needs it");
    }

    /// Every account closes, and says what the subscriber has taken.
    fn check(&self) {
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            let Some(link) = &subscriber.link else { continue };
            for (_, rendition, account) in self.session.accounts(link.seat) {
                let skipped: u64 = account.skipped.iter().sum();
                assert_eq!(account.came_in, account.sent + skipped + account.waiting, "{at} {account:?}");
                assert_eq!(account.sent, subscriber.taken[usize::from(rendition.0)], "{at} {rendition:?}");
            }
        }
    }

    /// A counter's value.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }
}

fn parse(kind: LaneKind, bytes: Bytes) -> Record {
    let (header, layout) = Header::parse(kind, &bytes).unwrap().unwrap();
    Record { header, body_at: layout.header_len, bytes }
}
