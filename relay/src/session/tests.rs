//! The session driven in memory, with a clock of the tests' own.

mod bounds;
mod crossings;
mod moves;
mod restarts;

use super::*;
use crate::outbox::{Pull, Slot};
use parking_lot::Mutex;
use tandem_protocol::message::{Control, Grants, Right, SessionState, Visible, types};
use tandem_protocol::{Flags, Header, LaneKey, Rendition, ScreenHeader, ScreenKind};

/// What the session told a connection.
#[derive(Default)]
struct Told(Mutex<Option<Close>>);

impl Wake for Told {
    fn lane(&self, _: Slot) {}
    fn lanes(&self) {}
    fn focus(&self) {}
    fn deadline(&self) {}
    fn room(&self) {}
    fn close(&self, close: Close, _: &str) {
        self.0.lock().get_or_insert(close);
    }

    fn path(&self) -> tandem_path::State {
        tandem_path::State::default()
    }
}

/// A session, its clock, and its people.
struct Scene {
    session: Session,
    now: Instant,
    shows_past: bool,
}

/// A connected participant.
struct Person {
    seat: Seat,
    told: Arc<Told>,
    lanes: u64,
}

const CUSTOMER: Sender = Sender(1);
const ANNA: Sender = Sender(2);
const BEN: Sender = Sender(3);

fn rights() -> Rights {
    Rights::of(&[Right::View, Right::Control, Right::Clipboard, Right::Chat])
}

impl Scene {
    fn new() -> Self {
        let session = Session::new(SessionId([1; 16]), Timing::default(), Arc::new(Metrics::new()));
        Self { session, now: Instant::now(), shows_past: false }
    }

    fn join(&mut self, sender: Sender, role: Role) -> Person {
        self.join_with(sender, role, Vec::new())
    }

    fn join_with(&mut self, sender: Sender, role: Role, showing: Vec<Showing>) -> Person {
        self.seat(sender, role, Join { showing, ..Join::default() })
    }

    /// Somebody comes with a ticket.
    fn return_with(&mut self, sender: Sender, role: Role, join: Join) -> Person {
        self.seat(sender, role, Join { returns: true, ..join })
    }

    fn seat(&mut self, sender: Sender, role: Role, join: Join) -> Person {
        let who = Who {
            subject: format!("person {sender}"),
            name: "Name".into(),
            organisation: "Acme".into(),
            tenant: "acme".into(),
            role,
            permitted: rights(),
            shows_past: self.shows_past && role == Role::Lead,
            ends: None,
            token: String::new(),
        };
        let told = Arc::new(Told::default());
        let join = Join { epoch: u64::from(sender.0), ..join };
        let seat = self.session.attach(sender, who, join, told.clone(), self.now);
        self.session.welcome(seat, message::Welcome::default(), self.now);
        Person { seat, told, lanes: 0 }
    }

    fn open(&mut self, person: &mut Person, kind: LaneKind) -> LaneInstance {
        person.lanes += 1;
        let lane = LaneInstance(person.lanes);
        self.session.lane_opened(person.seat, lane, LaneKey::plain(kind, person.seat.sender)).unwrap();
        lane
    }

    fn say(&mut self, person: &Person, message: control::Message) {
        self.session.control(person.seat, message, self.now).unwrap();
    }

    fn grant(&mut self, customer: &Person, to: Sender, rights: Rights, revision: u64, prompt_open: bool) {
        let grants = Grants { participant: to.0.into(), rights: rights.to_wire(), revision, prompt_open };
        self.say(customer, control::Message::Grants(grants));
    }

    fn watch(&mut self, person: &Person) {
        let visible = Visible { display: 0, visible: true, focused: true };
        self.say(person, control::Message::Visible(visible));
    }

    fn give(&mut self, person: &Person, lane: LaneInstance, record: &Record) -> Taken {
        self.session.record(person.seat, lane, record, self.now).unwrap()
    }

    /// Everything that waits for a person, by lane kind.
    fn take(&mut self, person: &Person) -> Vec<(LaneKind, Record)> {
        let mut taken = Vec::new();
        loop {
            let before = taken.len();
            let Some(outbox) = self.session.outbox(person.seat) else { return taken };
            let mut lanes = vec![(Slot::CONTROL, LaneKey::CONTROL)];
            lanes.extend(outbox.open_lanes());
            for (slot, key) in lanes {
                while let Pull::Record(bytes) = self.session.pull(person.seat, slot, self.now) {
                    let (header, layout) = Header::parse(key.kind, &bytes).unwrap().unwrap();
                    taken.push((key.kind, Record { header, bytes, body_at: layout.header_len }));
                }
            }
            if taken.len() == before {
                return taken;
            }
        }
    }

    fn messages(&mut self, person: &Person) -> Vec<control::Message> {
        let control = self.take(person).into_iter().filter(|(kind, _)| *kind == LaneKind::Control);
        control.map(|(_, record)| Control::decode_body(record.body()).unwrap().unwrap()).collect()
    }

    fn records(&mut self, person: &Person, kind: LaneKind) -> Vec<Record> {
        self.take(person).into_iter().filter(|(of, _)| *of == kind).map(|(_, record)| record).collect()
    }

    fn dropped(&self, reason: &str) -> u64 {
        let name = format!("tandem_relay_dropped_records_total{{reason=\"{reason}\"}} ");
        let text = self.session.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse().unwrap()
    }
}

fn plain(sender: Sender, record_type: u8, seq: u64, flags: Flags) -> Record {
    let header = Header {
        record_type,
        flags,
        sender,
        key_id: 0,
        epoch: u64::from(sender.0),
        seq,
        time_us: 0,
        screen: None,
    };
    Record::new(header, b"body")
}

fn screen(seq: u64, segment: u32, kind: ScreenKind) -> Record {
    let screen = ScreenHeader { display: DisplayId(0), rendition: Rendition::LIVE, segment, kind };
    let header =
        Header { screen: Some(screen), ..plain(CUSTOMER, types::SCREEN, seq, Flags::default()).header };
    Record::new(header, &[0; 54])
}

fn from(segment: u32, seq: u64) -> ScreenKind {
    ScreenKind::Start { from: Some(Point { rendition: Rendition::LIVE, segment, seq }) }
}

const BLACK: ScreenKind = ScreenKind::Start { from: None };

/// A customer who shares a screen, and Anna, who sees and controls it.
fn sharing() -> (Scene, Person, Person, LaneInstance) {
    sharing_in(Scene::new())
}

fn sharing_in(mut scene: Scene) -> (Scene, Person, Person, LaneInstance) {
    let mut customer = scene.join(CUSTOMER, Role::Customer);
    let anna = scene.join(ANNA, Role::Lead);
    scene.watch(&anna);
    scene.grant(&customer, ANNA, rights(), 1, false);
    let lane = scene.open(&mut customer, LaneKind::Screen);
    scene.give(&customer, lane, &screen(0, 0, BLACK));
    (scene, customer, anna, lane)
}

#[test]
fn nothing_passes_without_a_grant_and_input_never_beside_an_open_prompt() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let mut anna = scene.join(ANNA, Role::Lead);
    let input = scene.open(&mut anna, LaneKind::Input);
    let key = |seq| plain(ANNA, types::KEY, seq, Flags::default());
    scene.give(&anna, input, &key(0));
    assert_eq!(scene.dropped("no_right"), 1);
    scene.say(&anna, control::Message::Ask(message::Ask { participant: 99, rights: vec![1, 2, 5] }));
    let asked = scene.messages(&customer).into_iter().find_map(|message| match message {
        control::Message::Ask(ask) => Some(ask),
        _ => None,
    });
    let permitted = message::Ask { participant: ANNA.0.into(), rights: vec![1, 2] };
    assert_eq!(asked, Some(permitted), "the relay says who asks, and strikes what is not permitted");
    scene.grant(&customer, ANNA, Rights::NONE, 1, true);
    scene.grant(&customer, ANNA, rights(), 2, false);
    // What was under way when the customer agreed is not what the customer agreed to.
    scene.give(&anna, input, &key(0));
    assert_eq!(scene.dropped("stale"), 1);
    let input = scene.open(&mut anna, LaneKind::Input);
    scene.give(&anna, input, &key(1));
    assert_eq!(scene.records(&customer, LaneKind::Input).len(), 1);
    scene.grant(&customer, ANNA, rights(), 3, true);
    scene.give(&anna, input, &key(2));
    assert_eq!(scene.dropped("prompt"), 1);
    scene.grant(&customer, ANNA, rights(), 2, false);
    scene.give(&anna, input, &key(3));
    assert_eq!(scene.dropped("prompt"), 2, "an older revision changes nothing");
    scene.grant(&customer, ANNA, Rights::of(&[Right::View]), 4, false);
    scene.give(&anna, input, &key(4));
    assert_eq!(scene.dropped("no_right"), 2);
    assert!(scene.records(&customer, LaneKind::Input).is_empty());
}

#[test]
fn only_the_publisher_grants_and_only_its_own_lanes_are_open_to_anybody() {
    let (mut scene, customer, anna, _) = sharing();
    let grants =
        Grants { participant: ANNA.0.into(), rights: vec![1, 2, 3, 4, 5], revision: 9, prompt_open: false };
    let breach = scene.session.control(anna.seat, control::Message::Grants(grants), scene.now).unwrap_err();
    assert_eq!(breach.close, Close::FORBIDDEN);
    let refused = |scene: &mut Scene, person: &Person, kind, sender| {
        let key = LaneKey::plain(kind, sender);
        scene.session.lane_opened(person.seat, LaneInstance(70), key).unwrap_err().close
    };
    assert_eq!(refused(&mut scene, &anna, LaneKind::Screen, ANNA), Close::FORBIDDEN);
    assert_eq!(refused(&mut scene, &customer, LaneKind::Input, CUSTOMER), Close::FORBIDDEN);
    assert_eq!(refused(&mut scene, &anna, LaneKind::Input, BEN), Close::PROTOCOL);
    let mut anna = anna;
    let lane = scene.open(&mut anna, LaneKind::Input);
    let forged = plain(CUSTOMER, types::KEY, 0, Flags::default());
    assert_eq!(scene.session.record(anna.seat, lane, &forged, scene.now).unwrap_err().close, Close::PROTOCOL);
}

#[test]
fn a_publisher_that_returns_gets_input_only_from_reopened_lanes_and_must_restate_its_grants() {
    let (mut scene, customer, mut anna, _) = sharing();
    let before = scene.open(&mut anna, LaneKind::Input);
    scene.session.detach(customer.seat, scene.now);
    let key = |seq| plain(ANNA, types::KEY, seq, Flags::default());
    scene.give(&anna, before, &key(0));
    assert_eq!(scene.dropped("no_right"), 1, "no grant holds without the publisher");
    scene.messages(&anna);
    let customer = scene.join(CUSTOMER, Role::Customer);
    let reopen = control::Message::Reopen(message::Reopen {
        lane: Some(LaneKey::plain(LaneKind::Input, ANNA).into()),
    });
    assert!(!scene.messages(&anna).contains(&reopen), "what it would send now would be dropped");
    scene.grant(&customer, ANNA, rights(), 1, false);
    assert!(scene.messages(&anna).contains(&reopen));
    scene.give(&anna, before, &key(1));
    assert_eq!(scene.dropped("stale"), 1);
    let after = scene.open(&mut anna, LaneKind::Input);
    scene.give(&anna, after, &key(0));
    scene.give(&anna, after, &key(1));
    let seqs: Vec<u64> = scene.records(&customer, LaneKind::Input).iter().map(|r| r.header.seq).collect();
    assert_eq!(seqs, [0, 1]);
}

#[test]
fn a_publisher_that_comes_after_a_technician_has_asked_is_welcomed_before_anything_else() {
    let mut scene = Scene::new();
    let anna = scene.join(ANNA, Role::Lead);
    scene.watch(&anna);
    let ask = message::Ask { participant: 0, rights: rights().to_wire() };
    scene.say(&anna, control::Message::Ask(ask));
    let customer = scene.join(CUSTOMER, Role::Customer);
    let messages = scene.messages(&customer);
    assert!(matches!(messages[0], control::Message::Welcome(_)), "{messages:?}");
    let asked = messages.iter().filter(|message| matches!(message, control::Message::Ask(_)));
    assert_eq!(asked.count(), 1);
}

#[test]
fn a_late_joiner_gets_the_held_segment_and_who_is_in_step_gets_no_key() {
    let (mut scene, customer, anna, lane) = sharing_in(Scene { shows_past: true, ..Scene::new() });
    assert_eq!(scene.records(&anna, LaneKind::Screen).len(), 1);
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    let ben = scene.join(BEN, Role::Collaborator);
    scene.watch(&ben);
    scene.grant(&customer, BEN, rights(), 1, false);
    assert_eq!(scene.records(&ben, LaneKind::Screen).len(), 2, "from the segment's start, without any key");
    // Through the next segment's start too, until its key makes it cheaper to begin there.
    scene.give(&customer, lane, &screen(2, 1, from(0, 1)));
    for seq in 3..9 {
        scene.give(&customer, lane, &screen(seq, 1, ScreenKind::Update));
    }
    assert_eq!(scene.records(&anna, LaneKind::Screen).len(), 8);
    let key_lane = LaneInstance(50);
    let key = LaneKey::plain(LaneKind::Key, CUSTOMER);
    scene.session.lane_opened(customer.seat, key_lane, key).unwrap();
    scene.give(&customer, key_lane, &screen(1, 1, ScreenKind::Key));
    let late = scene.join(Sender(4), Role::Collaborator);
    scene.watch(&late);
    scene.grant(&customer, Sender(4), rights(), 1, false);
    let taken = scene.take(&late);
    let of = |kind| taken.iter().filter(|(of, _)| *of == kind).map(|(_, r)| r.header.seq).collect::<Vec<_>>();
    assert_eq!(of(LaneKind::Key), [1]);
    assert_eq!(of(LaneKind::Screen), [2, 3, 4, 5, 6, 7, 8]);
    assert!(scene.records(&anna, LaneKind::Key).is_empty(), "who is in step gets no key");
}

#[test]
fn nobody_is_shown_what_was_there_before_they_could_see_it_unless_the_lead_allows() {
    let (mut scene, customer, anna, lane) = sharing();
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    scene.take(&anna);
    let key_lane = LaneInstance(50);
    scene.session.lane_opened(customer.seat, key_lane, LaneKey::plain(LaneKind::Key, CUSTOMER)).unwrap();
    let ben = scene.join(BEN, Role::Collaborator);
    scene.watch(&ben);
    scene.grant(&customer, BEN, rights(), 1, false);
    assert!(scene.records(&ben, LaneKind::Screen).is_empty());
    let wants = |message: &control::Message| matches!(message, control::Message::Want(want) if want.key);
    assert!(scene.messages(&customer).iter().any(wants));
    // However long that takes.
    scene.now += Duration::from_secs(30);
    scene.session.tick(scene.now);
    assert!(scene.records(&ben, LaneKind::Screen).is_empty());
    scene.give(&customer, lane, &screen(2, 1, from(0, 1)));
    scene.give(&customer, key_lane, &screen(1, 1, ScreenKind::Key));
    let seqs = |scene: &mut Scene, person: &Person, kind| -> Vec<u64> {
        scene.records(person, kind).iter().map(|record| record.header.seq).collect()
    };
    let taken = scene.take(&ben).into_iter().filter(|(kind, _)| kind.is_screen());
    assert_eq!(
        taken.map(|(_, record)| record.header.seq).collect::<Vec<_>>(),
        [1, 2],
        "the key and the start that it leads to"
    );
    // What came while the customer had withdrawn the right stays unseen, whatever a connection says it has shown.
    scene.grant(&customer, BEN, Rights::NONE, 2, false);
    scene.give(&customer, lane, &screen(3, 1, ScreenKind::Update));
    scene.session.detach(ben.seat, scene.now);
    let point = Point { rendition: Rendition::LIVE, segment: 1, seq: 2 };
    let showing = Showing { display: DisplayId(0), epoch: u64::from(CUSTOMER.0), point };
    let ben = scene.join_with(BEN, Role::Collaborator, vec![showing]);
    scene.watch(&ben);
    scene.grant(&customer, BEN, rights(), 3, false);
    assert_eq!(seqs(&mut scene, &ben, LaneKind::Screen), [0_u64; 0]);
    // Its own connection anew is nobody new.
    scene.session.detach(anna.seat, scene.now);
    let anna = scene.join(ANNA, Role::Lead);
    scene.watch(&anna);
    assert_eq!(seqs(&mut scene, &anna, LaneKind::Screen), [2, 3], "by the key that is here");
}

#[test]
fn who_can_enter_nowhere_makes_the_relay_ask_for_a_start_with_a_key_once() {
    let (mut scene, customer, anna, lane) = sharing();
    let big = ScreenHeader {
        display: DisplayId(0),
        rendition: Rendition::LIVE,
        segment: 0,
        kind: ScreenKind::Update,
    };
    for seq in 1..20 {
        let header = Header { screen: Some(big), ..screen(seq, 0, ScreenKind::Update).header };
        scene.give(&customer, lane, &Record::new(header, &vec![0; limits::BODY_MAX]));
        scene.take(&anna);
    }
    scene.messages(&customer);
    let wants = |scene: &mut Scene, person: &Person| -> Vec<(bool, bool)> {
        let wants = scene.messages(person).into_iter();
        wants
            .filter_map(|m| if let control::Message::Want(w) = m { Some((w.start, w.key)) } else { None })
            .collect()
    };
    for sender in [BEN, Sender(4)] {
        let person = scene.join(sender, Role::Collaborator);
        scene.watch(&person);
        scene.grant(&customer, sender, rights(), 1, false);
    }
    assert_eq!(wants(&mut scene, &customer), [(true, true)], "two joiners, one request");
}

#[test]
fn who_says_that_it_lost_step_gets_a_new_start_with_its_key() {
    let (mut scene, customer, anna, lane) = sharing();
    scene.take(&anna);
    scene.messages(&customer);
    scene.say(&anna, control::Message::Want(message::Want { start: true, key: true, ..Default::default() }));
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    assert!(scene.records(&anna, LaneKind::Screen).is_empty(), "updates are of no use to it");
    let asked = scene.messages(&customer);
    assert!(
        asked.iter().any(|m| matches!(m, control::Message::Want(want) if want.start && want.key)),
        "{asked:?}"
    );
    scene.give(&customer, lane, &screen(2, 1, from(0, 1)));
    let keys = LaneInstance(50);
    scene.session.lane_opened(customer.seat, keys, LaneKey::plain(LaneKind::Key, CUSTOMER)).unwrap();
    scene.give(&customer, keys, &screen(1, 1, ScreenKind::Key));
    let seqs: Vec<u64> = scene.records(&anna, LaneKind::Screen).iter().map(|r| r.header.seq).collect();
    assert_eq!(seqs, [2]);
}

#[test]
fn nobody_is_asked_for_a_screen_that_nobody_watches() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let anna = scene.join(ANNA, Role::Lead);
    let on = |scene: &mut Scene| -> Vec<bool> {
        let messages = scene.messages(&customer).into_iter();
        messages
            .filter_map(|m| if let control::Message::Want(want) = m { Some(want.on) } else { None })
            .collect()
    };
    scene.watch(&anna);
    assert!(on(&mut scene).is_empty(), "not without the right to view");
    scene.grant(&customer, ANNA, rights(), 1, false);
    assert_eq!(on(&mut scene), [true]);
    scene.grant(&customer, ANNA, Rights::NONE, 2, false);
    assert_eq!(on(&mut scene), [false]);
    assert!(scene.records(&anna, LaneKind::Screen).is_empty());
}

#[test]
fn feedback_counts_in_the_publishers_bytes_and_is_at_most_sixty_a_second() {
    let (mut scene, customer, anna, lane) = sharing();
    scene.take(&anna);
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    scene.messages(&customer);
    let lane_key = LaneKey::plain(LaneKind::Screen, CUSTOMER);
    let ack = |received_bytes| {
        control::Message::Ack(message::Ack {
            lane: Some(lane_key.into()),
            received_bytes,
            ..Default::default()
        })
    };
    let feedback = |scene: &mut Scene| -> Vec<message::Feedback> {
        let messages = scene.messages(&customer).into_iter();
        messages.filter_map(|m| if let control::Message::Feedback(f) = m { Some(f) } else { None }).collect()
    };
    scene.now += Duration::from_secs(1);
    scene.say(&anna, ack(113));
    let first = feedback(&mut scene);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].relayed_bytes, first[0].delivered_bytes, first[0].queued_bytes), (213, 113, 100));
    assert_eq!(first[0].subscriber, u32::from(ANNA.0));
    for _ in 0..100 {
        scene.now += Duration::from_millis(1);
        scene.say(&anna, ack(113));
    }
    assert!((5..=7).contains(&feedback(&mut scene).len()));
    scene.take(&anna);
    scene.say(&anna, ack(213));
    while let Some(due) = scene.session.deadline(customer.seat) {
        scene.session.tick(due);
    }
    assert_eq!(feedback(&mut scene).last().unwrap().delivered_bytes, 213, "the last word is not lost");
}

#[test]
fn a_returning_publishers_screen_waits_for_its_grant_and_then_goes_on_where_it_was() {
    let (mut scene, customer, anna, lane) = sharing();
    scene.take(&anna);
    scene.session.detach(customer.seat, scene.now);
    let mut customer = scene.join(CUSTOMER, Role::Customer);
    customer.lanes = lane.0;
    let lane = scene.open(&mut customer, LaneKind::Screen);
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    assert!(scene.records(&anna, LaneKind::Screen).is_empty(), "it has not said yet that she may see it");
    scene.grant(&customer, ANNA, rights(), 1, false);
    let seqs: Vec<u64> = scene.records(&anna, LaneKind::Screen).iter().map(|r| r.header.seq).collect();
    assert_eq!(seqs, [1]);
}

#[test]
fn a_returning_publisher_counts_its_lane_anew() {
    let (mut scene, customer, _, lane) = sharing();
    let lane_bytes =
        |scene: &Scene| scene.session.displays[&DisplayId(0)].streams[Rendition::LIVE].lane_bytes();
    assert_eq!(lane_bytes(&scene), 113);
    scene.session.detach(customer.seat, scene.now);
    let mut customer = scene.join(CUSTOMER, Role::Customer);
    let position = scene.session.received_screens(CUSTOMER);
    assert_eq!((position[0].epoch, position[0].next_seq), (1, 1));
    customer.lanes = lane.0;
    let lane = scene.open(&mut customer, LaneKind::Screen);
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    assert_eq!(lane_bytes(&scene), 100);
}

#[test]
fn heartbeats_come_every_two_seconds_and_three_unanswered_end_the_connection() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let _anna = scene.join(ANNA, Role::Lead);
    let mut pings = 0;
    for _ in 0..10 {
        scene.session.tick(scene.now);
        let messages = scene.messages(&customer);
        pings += messages.iter().filter(|m| matches!(m, control::Message::Ping(_))).count();
        scene.now += Duration::from_millis(500);
    }
    assert_eq!(pings, 3);
    scene.now += Duration::from_secs(2);
    scene.session.tick(scene.now);
    assert_eq!(*customer.told.0.lock(), Some(Close::SILENT));
}

#[test]
fn the_interval_that_holds_is_told_with_the_state_that_it_follows() {
    let mut scene = Scene::new();
    let seconds = Duration::from_secs;
    scene.session.timing =
        Timing { heartbeat_active: seconds(5), heartbeat_waiting: seconds(30), ..Timing::default() };
    let told = |scene: &mut Scene, person: &Person| {
        let roster = |message| match message {
            control::Message::Roster(roster) => Some((roster.state(), roster.heartbeat_ms)),
            _ => None,
        };
        scene.messages(person).into_iter().rev().find_map(roster).unwrap()
    };
    let customer = scene.join(CUSTOMER, Role::Customer);
    assert_eq!(told(&mut scene, &customer), (SessionState::Waiting, 30_000));
    let anna = scene.join(ANNA, Role::Lead);
    assert_eq!(told(&mut scene, &customer), (SessionState::Active, 5000));
    scene.session.detach(anna.seat, scene.now);
    assert_eq!(told(&mut scene, &customer), (SessionState::Waiting, 30_000));
}

#[test]
fn a_lost_participant_keeps_its_place_for_the_grace_and_an_empty_session_ends() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    scene.session.detach(customer.seat, scene.now);
    scene.now += limits::GRACE;
    scene.session.tick(scene.now);
    assert_eq!(scene.session.find("person 1"), Some(CUSTOMER));
    scene.now += Duration::from_secs(1);
    scene.session.tick(scene.now);
    assert_eq!(scene.session.ended(), Some(Close::TICKET_EXPIRED));
}

#[test]
fn the_lead_ends_the_session_for_all_and_a_collaborator_only_leaves() {
    let (mut scene, customer, anna, _) = sharing();
    let ben = scene.join(BEN, Role::Collaborator);
    let end = || control::Message::End(message::End { reason: message::EndReason::Left.into() });
    scene.say(&ben, end());
    assert_eq!((*ben.told.0.lock(), *customer.told.0.lock()), (Some(Close::LEFT), None));
    scene.say(&anna, end());
    assert_eq!((*anna.told.0.lock(), *customer.told.0.lock()), (Some(Close::ENDED), Some(Close::ENDED)));
    assert_eq!(scene.session.ended(), Some(Close::ENDED));
}

#[test]
fn what_a_technician_says_in_chat_reaches_everybody_who_may_chat() {
    let (mut scene, customer, mut anna, _) = sharing();
    let [ben, eve] = [BEN, Sender(4)].map(|sender| scene.join(sender, Role::Collaborator));
    scene.grant(&customer, BEN, rights(), 1, false);
    let chat = scene.open(&mut anna, LaneKind::Chat);
    scene.give(&anna, chat, &plain(ANNA, types::CHAT, 0, Flags::default()));
    let got = [&customer, &ben, &eve, &anna].map(|person| scene.records(person, LaneKind::Chat).len());
    assert_eq!(got, [1, 1, 0, 0]);
}

#[test]
fn an_old_connection_can_do_nothing_after_its_participant_connected_anew() {
    let (mut scene, customer, anna, _) = sharing();
    let again = scene.join(ANNA, Role::Lead);
    assert_eq!(*anna.told.0.lock(), Some(Close::REPLACED));
    assert!(scene.take(&anna).is_empty());
    scene.session.detach(anna.seat, scene.now);
    scene.grant(&customer, ANNA, rights(), 2, false);
    assert!(!scene.take(&again).is_empty(), "the newer one is still there");
}

#[test]
fn input_waits_at_its_sender_when_the_publisher_does_not_read() {
    let (mut scene, customer, mut anna, _) = sharing();
    let lane = scene.open(&mut anna, LaneKind::Input);
    let mut seq = 0;
    while scene.give(&anna, lane, &plain(ANNA, types::KEY, seq, Flags::default())) == Taken::Yes {
        seq += 1;
        assert!(seq < 10_000, "the queue has no bound");
    }
    assert_eq!(scene.records(&customer, LaneKind::Input).len() as u64, seq);
    assert_eq!(scene.give(&anna, lane, &plain(ANNA, types::KEY, seq, Flags::default())), Taken::Yes);
}

#[test]
fn slots_reach_who_joins_later_and_only_their_newest() {
    let mut scene = Scene::new();
    let mut customer = scene.join(CUSTOMER, Role::Customer);
    let cursor = scene.open(&mut customer, LaneKind::Cursor);
    for seq in 0..5 {
        scene.give(&customer, cursor, &plain(CUSTOMER, types::CURSOR_POSITION, seq, Flags::LATEST));
    }
    let anna = scene.join(ANNA, Role::Lead);
    assert!(scene.records(&anna, LaneKind::Cursor).is_empty(), "not without the right to view");
    scene.grant(&customer, ANNA, rights(), 1, false);
    let got = scene.records(&anna, LaneKind::Cursor);
    assert_eq!(got.iter().map(|record| record.header.seq).collect::<Vec<_>>(), [4]);
}
