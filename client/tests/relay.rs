//! Two clients at a real relay: joining, both directions, and coming back.

mod common;

use common::{Client, Relay};
use tandem_client::{Binding, Event, Join, Options, Outgoing, SendError, Target, Transport};
use tandem_protocol::message::{Feedback, Grants, Right, Role, Visible, Want, control, types};
use tandem_protocol::{Close, DisplayId, LaneKey, LaneKind, Point, Record, Rendition, ScreenKind, Sender};

fn screen() -> LaneKey {
    LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, Sender::RELAY)
}

fn input() -> LaneKey {
    LaneKey::plain(LaneKind::Input, Sender::RELAY)
}

/// Customer and technician in one session, everything granted.
async fn pair(relay: &Relay, transport: Transport) -> (Client, Client, Sender) {
    let mut customer = relay.join(transport, relay.code());
    assert_eq!(customer.connected().await.role, Role::Customer);
    let mut technician = relay.join(transport, relay.token());
    let connected = technician.connected().await;
    assert_eq!(connected.role, Role::Lead);
    grant(&customer, connected.sender, 1);
    let granted = |message: &control::Message| match message {
        control::Message::Roster(roster) => {
            roster.participants.iter().find(|who| who.rights.len() == 2).map(|who| who.sender)
        }
        _ => None,
    };
    assert_eq!(technician.control("grant", granted).await, u32::from(connected.sender.0));
    let visible = Visible { display: 0, visible: true, focused: true };
    technician.handle.control(control::Message::Visible(visible)).expect("connected");
    (customer, technician, connected.sender)
}

fn grant(customer: &Client, to: Sender, revision: u64) {
    let rights = vec![Right::View.into(), Right::Control.into()];
    let grants = Grants { participant: to.0.into(), rights, revision, prompt_open: false };
    customer.handle.control(control::Message::Grants(grants)).expect("connected");
}

async fn next_record(client: &mut Client, kind: LaneKind) -> (LaneKey, Record) {
    client
        .until("record", |event| match event {
            Event::Record { lane, record } if lane.kind == kind => Some((lane, record)),
            _ => None,
        })
        .await
}

async fn both_directions(transport: Transport) {
    let relay = Relay::start();
    let (mut customer, mut technician, _) = pair(&relay, transport).await;

    let want = customer.control("want", |message| match message {
        control::Message::Want(want) => Some(*want),
        _ => None,
    });
    assert!(matches!(want.await, Want { on: true, .. }));
    let body = vec![7; 3 << 20];
    let start = ScreenKind::Start { from: None };
    let sent = customer.handle.send(screen(), Outgoing::screen(1, start, &body)).expect("connected");
    let mut got = Vec::new();
    while got.len() < body.len() {
        let (lane, record) = next_record(&mut technician, LaneKind::Screen).await;
        got.extend_from_slice(record.body());
        let applied = Point { rendition: Rendition::LIVE, segment: 1, seq: record.header.seq };
        technician.handle.applied(lane, applied, record.header.seq);
    }
    assert_eq!(got, body);
    let delivered = |message: &control::Message| match message {
        control::Message::Feedback(Feedback { delivered_bytes, applied: Some(applied), .. }) => {
            (*delivered_bytes == sent.lane_bytes && applied.seq == sent.seq).then_some(())
        }
        _ => None,
    };
    customer.control("feedback of everything", delivered).await;

    for n in 0..100u8 {
        technician.handle.send(input(), Outgoing::message(types::KEY, &[n])).expect("connected");
    }
    for n in 0..100 {
        let (lane, record) = next_record(&mut customer, LaneKind::Input).await;
        assert_eq!((record.header.seq, record.body()), (u64::from(n), &[n][..]));
        customer.handle.processed(lane, record.header.epoch, record.header.seq + 1);
    }
    let acknowledged = |message: &control::Message| match message {
        control::Message::Ack(ack) => (ack.received_next_seq == 100).then_some(()),
        _ => None,
    };
    technician.control("acknowledgement", acknowledged).await;

    customer.handle.end(tandem_protocol::message::EndReason::ClosedByCustomer).expect("connected");
    for client in [&mut customer, &mut technician] {
        let closed = client.until("end", |event| match event {
            Event::Closed { close, .. } => Some(close),
            _ => None,
        });
        assert_eq!(closed.await, Close::ENDED);
    }
}

#[tokio::test]
async fn both_directions_over_quic() {
    both_directions(Transport::Quic).await;
}

#[tokio::test]
async fn both_directions_over_websocket() {
    both_directions(Transport::WebSocket).await;
}

#[tokio::test]
async fn quic_wins_the_race_where_it_works() {
    let relay = Relay::start();
    let mut customer = relay.join(Transport::Auto, relay.code());
    assert_eq!(customer.connected().await.binding, Binding::Quic);
}

#[tokio::test]
async fn both_come_back_after_the_relay_crashed() {
    let mut relay = Relay::start();
    // Without TLS: the next run has another certificate.
    relay.url = relay.url.replace("https", "http");
    let (mut customer, mut technician, number) = pair(&relay, Transport::WebSocket).await;
    technician.handle.send(input(), Outgoing::message(types::KEY, &[1])).expect("connected");
    let (lane, first) = next_record(&mut customer, LaneKind::Input).await;
    customer.handle.processed(lane, first.header.epoch, 1);
    relay.crash();
    let resumed = customer.connected().await;
    assert_eq!(resumed.role, Role::Customer);
    let resumed = technician.connected().await;
    assert_eq!(resumed.sender, number);
    technician.handle.send(input(), Outgoing::message(types::KEY, &[2])).expect("connected");
    grant(&customer, number, 2);
    let (_, record) = next_record(&mut customer, LaneKind::Input).await;
    assert_eq!(record.body(), [2], "the first was done and is not done again");
}

#[tokio::test]
async fn a_ticket_takes_up_a_killed_programs_place() {
    let relay = Relay::start();
    let mut customer = relay.join(Transport::Auto, relay.code());
    let first = customer.connected().await;
    // As a crash would: without a word.
    drop(customer);
    let mut again = relay.join(Transport::Auto, Join::Ticket(first.ticket.into()));
    let second = again.connected().await;
    assert_eq!((second.sender, second.role, second.session), (first.sender, first.role, first.session));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let relay = Relay::start();
    let wrong = if relay.code == "000000" { "000001" } else { "000000" };
    for transport in [Transport::Quic, Transport::WebSocket] {
        for (join, expected) in [
            (Join::Code(wrong.parse().expect("a code")), Close::CODE_UNKNOWN),
            (Join::Token("no.token.atall".into()), Close::TOKEN_INVALID),
            (Join::Ticket(vec![1; 40].into()), Close::TICKET_INVALID),
        ] {
            let mut client = relay.join(transport, join);
            let close = client.until("refusal", |event| match event {
                Event::Closed { close, .. } => Some(close),
                _ => None,
            });
            assert_eq!(close.await, expected, "{transport:?}");
        }
    }
}

#[tokio::test]
async fn another_certificate_is_not_believed() {
    let relay = Relay::start();
    for fingerprints in [vec![tandem_client::Fingerprint([0; 32])], Vec::new()] {
        for transport in [Transport::Quic, Transport::WebSocket] {
            let target = Target::new(&relay.url, fingerprints.clone()).expect("an address");
            let mut client = Client::new(Options { transport, ..Options::new(target, relay.code(), "test") });
            let why = client.until("failure", |event| match event {
                Event::Disconnected { why, close: None, .. } => Some(why),
                _ => None,
            });
            let why = why.await;
            assert!(why.to_lowercase().contains("certificate"), "{why}");
        }
    }
}

/// As much as a file in each direction at once, on the bulk lane that every technician may have.
async fn bulk_each_way(transport: Transport) {
    const RECORDS: u64 = 200;
    const RECORD: usize = 64 << 10;
    let relay = Relay::start();
    let mut customer = relay.join(transport, relay.code());
    customer.connected().await;
    let mut technician = relay.join(transport, relay.token());
    let who = technician.connected().await.sender;
    let rights = vec![Right::View.into(), Right::Control.into(), Right::Clipboard.into()];
    let grants = Grants { participant: who.0.into(), rights, revision: 1, prompt_open: false };
    customer.handle.control(control::Message::Grants(grants)).expect("connected");
    let granted = |message: &control::Message| match message {
        control::Message::Roster(roster) => {
            roster.participants.iter().find(|who| who.rights.len() == 3).map(|who| who.sender)
        }
        _ => None,
    };
    technician.control("grant", granted).await;
    let bulk = LaneKey::plain(LaneKind::Clipboard, Sender::RELAY);
    let send = async |handle: tandem_client::Handle| {
        let mut full = 0;
        for n in 0..RECORDS {
            let mut body = vec![n as u8; RECORD];
            body[..8].copy_from_slice(&n.to_le_bytes());
            while let Err(why) = handle.send(bulk, Outgoing::message(1, &body)) {
                assert_eq!(why, SendError::Full);
                full += 1;
                handle.ready(bulk).await.expect("the session goes on");
            }
        }
        full
    };
    let receive = async |client: &mut Client| {
        for n in 0..RECORDS {
            let (_, record) = next_record(client, LaneKind::Clipboard).await;
            assert_eq!(record.header.seq, n);
            assert_eq!(record.body()[..8], n.to_le_bytes());
            assert_eq!(record.body().len(), RECORD);
        }
    };
    let (from_customer, from_technician) = (customer.handle.clone(), technician.handle.clone());
    let (up, down, (), ()) = tokio::join!(
        send(from_customer),
        send(from_technician),
        receive(&mut customer),
        receive(&mut technician)
    );
    assert!(up > 0 && down > 0, "more was offered than may wait");
    let handle = customer.handle.clone();
    customer.handle.leave();
    let closed = customer.until("end", |event| matches!(event, Event::Closed { .. }).then_some(()));
    closed.await;
    drop(customer);
    assert_eq!(handle.ready(bulk).await, Err(SendError::Offline), "nobody waits for ever");
}

#[tokio::test]
async fn bulk_goes_both_ways_over_quic() {
    bulk_each_way(Transport::Quic).await;
}

#[tokio::test]
async fn bulk_goes_both_ways_over_websocket() {
    bulk_each_way(Transport::WebSocket).await;
}
