//! Somebody well-behaved beside an attack: a customer and a technician in step, who lose nothing and see everything as it is.

use std::time::{Duration, Instant};

use tandem_client::{Event, Events, Handle, Join, Options, Outgoing, Target, Transport};
use tandem_protocol::message::{Grants, Right, Rights, Visible, control, types};
use tandem_protocol::token::TokenRole;
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Point, Rendition, ScreenKind, Sender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::common::{PATIENCE, Relay};
use super::desk::Desk;

/// Time between two keystrokes.
const PACE: Duration = Duration::from_millis(10);
/// Bytes of an update.
const UPDATE: usize = 2000;

/// The pair. Each round is a keystroke that comes to the customer once, in its place, and an update that shows it.
pub(crate) struct Neighbour {
    rounds: watch::Receiver<u64>,
    stop: CancellationToken,
    pair: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    /// Joins, and has had its first rounds.
    pub(crate) async fn move_in(relay: &Relay, desk: &Desk, transport: Transport) -> Self {
        let session = Desk::session();
        let join = |role| connect(relay, transport, Join::Token(desk.token(&session, "neighbours", role)));
        let (customer, technician) = (join(TokenRole::Customer), join(TokenRole::Lead));
        let (tell, rounds) = watch::channel(0);
        let stop = CancellationToken::new();
        let pair = tokio::spawn(live(customer, technician, tell, stop.clone()));
        let mut neighbour = Self { rounds, stop, pair };
        neighbour.lives(3).await;
        neighbour
    }

    /// Waits for so many more rounds.
    pub(crate) async fn lives(&mut self, rounds: u64) {
        let until = *self.rounds.borrow() + rounds;
        let reached = self.rounds.wait_for(|now| *now >= until);
        let reached = tokio::time::timeout(PATIENCE, reached).await.expect("the neighbour is stuck");
        reached.expect("the neighbour is gone");
    }

    /// Leaves, and says how long its rounds took.
    pub(crate) async fn moves_out(self, scenario: &str) {
        self.stop.cancel();
        let mut took = self.pair.await.expect("something went wrong for the neighbour");
        took.sort_unstable();
        let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        println!("{scenario}: {} rounds, p50 {:.1} ms, p99 {:.1} ms", took.len(), at(50), at(99));
    }
}

fn connect(relay: &Relay, transport: Transport, join: Join) -> (Handle, Events) {
    let fingerprint = relay.ready["fingerprint"].as_str().unwrap().parse().unwrap();
    let target = Target::new(relay.ready["relay"].as_str().unwrap(), vec![fingerprint]).unwrap();
    tandem_client::start(Options { transport, ..Options::new(target, join, "neighbour") })
}

/// What the update of a round shows.
fn picture(round: u64) -> Vec<u8> {
    (0..UPDATE as u64).map(|at| (at.wrapping_mul(round + 7) >> 3) as u8).collect()
}

/// The customer's side of it.
struct Customer {
    handle: Handle,
    wanted: bool,
    next: u64,
    started: bool,
    revision: u64,
}

impl Customer {
    fn on(&mut self, event: Event) {
        match event {
            Event::Control(control::Message::Roster(roster)) => {
                for who in roster.participants.iter().filter(|who| !who.publisher && who.rights.is_empty()) {
                    self.revision += 1;
                    let rights = Rights::of(&[Right::View, Right::Control]).to_wire();
                    let (participant, revision) = (who.sender, self.revision);
                    let grants = Grants { participant, rights, revision, prompt_open: false };
                    self.handle.control(control::Message::Grants(grants)).unwrap();
                }
            }
            Event::Control(control::Message::Want(want)) => self.wanted = want.on,
            Event::Record { lane, record } if lane.kind == LaneKind::Input => {
                let round = u64::from_le_bytes(record.body().try_into().unwrap());
                assert_eq!(round, self.next, "a keystroke is lost, doubled or out of order");
                self.next += 1;
                self.handle.processed(lane, record.header.epoch, record.header.seq + 1);
                self.show(round);
            }
            Event::Disconnected { why, .. } => panic!("the customer lost its connection: {why}"),
            Event::Closed { reason, .. } => panic!("the customer was closed: {reason}"),
            _ => {}
        }
    }

    fn show(&mut self, round: u64) {
        assert!(self.wanted, "nobody looks");
        let lane = LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, Sender::RELAY);
        let kind = if self.started { ScreenKind::Update } else { ScreenKind::Start { from: None } };
        self.started = true;
        self.handle.send(lane, Outgoing::screen(1, kind, &picture(round))).unwrap();
    }
}

/// Rounds until told to stop: how long each took.
async fn live(
    (handle, mut customer_events): (Handle, Events),
    (technician, mut events): (Handle, Events),
    tell: watch::Sender<u64>,
    stop: CancellationToken,
) -> Vec<Duration> {
    let mut customer = Customer { handle, wanted: false, next: 0, started: false, revision: 0 };
    let mut took = Vec::new();
    let mut ticks = tokio::time::interval(PACE);
    let (mut may_type, mut typed) = (false, None);
    loop {
        tokio::select! {
            () = stop.cancelled(), if typed.is_none() => return took,
            _ = ticks.tick(), if may_type && customer.wanted && typed.is_none() => {
                let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
                let body = (took.len() as u64).to_le_bytes();
                technician.send(lane, Outgoing::message(types::KEY, &body)).unwrap();
                typed = Some(Instant::now());
            }
            event = customer_events.next() => customer.on(event.expect("the customer is gone")),
            event = events.next() => match event.expect("the technician is gone") {
                Event::Connected(_) => {
                    let visible = Visible { display: 0, visible: true, focused: true };
                    technician.control(control::Message::Visible(visible)).unwrap();
                }
                Event::Control(control::Message::Roster(roster)) => {
                    may_type |= roster.participants.iter().any(|who| !who.publisher && !who.rights.is_empty());
                }
                Event::Record { lane, record } if lane.kind == LaneKind::Screen => {
                    let round = took.len() as u64;
                    assert_eq!(record.body(), picture(round), "not the picture of round {round}");
                    let screen = record.header.screen.unwrap();
                    let seq = record.header.seq;
                    technician.applied(lane, Point { rendition: screen.rendition, segment: screen.segment, seq }, seq);
                    let since: Instant = typed.take().expect("a picture that nobody asked for");
                    took.push(since.elapsed());
                    tell.send_replace(took.len() as u64);
                }
                Event::Disconnected { why, .. } => panic!("the technician lost its connection: {why}"),
                Event::Closed { reason, .. } => panic!("the technician was closed: {reason}"),
                _ => {}
            },
        }
    }
}
