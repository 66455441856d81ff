//! Leaving service: who is told what, who still gets in, where sessions go on, and when it ends.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::path::Path;
use std::time::Instant;

use common::people::{Customer, Desk, Watcher, code, options_at, relay_with, session, work};
use common::{Relay, Socket};
use tandem_client::{Binding, Transport};
use tandem_protocol::Close;
use tandem_protocol::message::{GoAway, control, hello::Join};
use tandem_protocol::token::TokenRole;

/// The connections and sessions that the relay counts.
async fn gauges(relay: &Relay) -> [f64; 3] {
    let mut gauges = [0.0; 3];
    for (gauge, name) in gauges.iter_mut().zip([
        "tandem_relay_sessions",
        "tandem_relay_connections{transport=\"quic\"}",
        "tandem_relay_connections{transport=\"websocket\"}",
    ]) {
        *gauge = relay.metric(name).await;
    }
    gauges
}

/// Reads on until the relay says that it goes.
async fn told(socket: &mut Socket) -> GoAway {
    loop {
        if let control::Message::GoAway(word) = socket.next().await.expect("still connected") {
            return word;
        }
    }
}

async fn welcomed(socket: &mut Socket) -> Vec<u8> {
    match socket.next().await {
        Ok(control::Message::Welcome(welcome)) => welcome.ticket,
        other => panic!("no welcome but {other:?}"),
    }
}

#[tokio::test]
async fn who_is_here_may_stay_and_come_back_until_the_deadline_and_nobody_new_gets_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = common::config(directory.path(), "[drain]\ndeadline_seconds = 2\n");
    let mut relay = Relay::start(&["--config", &file]).await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    let ticket = welcomed(&mut customer).await;
    let unused = relay.new_code().await;
    let token = relay.token().await;
    assert!(relay.operations("GET", "/readyz").await.0.starts_with("HTTP/1.1 200"));

    let began = Instant::now();
    relay.signal("-TERM");
    let word = told(&mut customer).await;
    assert!(word.deadline_ms <= 2000 && word.alternatives.is_empty(), "{word:?}");
    let (head, body) = relay.operations("GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("leaving"), "{head} {body}");
    // Neither code nor token is spent by who is turned away.
    for join in [Join::Code(unused), Join::Token(token)] {
        let mut late = Socket::join(&relay, join).await;
        let Ok(control::Message::Refused(refused)) = late.next().await else { panic!("it is let in") };
        assert_eq!(refused.code, u32::from(Close::GOING_AWAY.number()));
        assert_eq!(late.closed().await.map(|(close, _)| close), Some(Close::GOING_AWAY));
    }
    assert_eq!(relay.metric("tandem_relay_refused_total{code=\"going_away\"}").await, 2.0);
    // Nor is a session made that nobody could join.
    let (head, body) =
        common::http(&relay.address(), "POST", "/api/v1/sessions", &relay.sign_in().await, "").await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("\"leaving\""), "{head} {body}");
    // A connection that is lost meanwhile is no end.
    drop(customer);
    let mut customer = Socket::join(&relay, Join::Ticket(ticket)).await;
    welcomed(&mut customer).await;
    told(&mut customer).await;
    assert_eq!(gauges(&relay).await, [1.0, 0.0, 1.0]);
    assert_eq!(customer.closed().await.map(|(close, _)| close), Some(Close::GOING_AWAY));
    assert!(began.elapsed().as_secs_f64() > 1.9, "not before the deadline");
    assert!(relay.wait().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_without_anybody_so_does_the_first() {
    let mut busy = Relay::start(&[]).await;
    let mut customer = Socket::join(&busy, Join::Code(busy.code())).await;
    welcomed(&mut customer).await;
    busy.signal("-TERM");
    told(&mut customer).await;
    busy.signal("-INT");
    assert_eq!(busy.wait().await.code(), Some(130));
    let mut idle = Relay::start(&[]).await;
    idle.signal("-TERM");
    assert!(idle.wait().await.success());
}

#[tokio::test]
async fn a_request_drains_with_a_deadline_of_its_own_and_a_signal_brings_that_forward() {
    let mut relay = Relay::start(&[]).await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    welcomed(&mut customer).await;
    let (head, _) = relay.operations("GET", "/drain").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    let (head, body) = relay.operations("POST", "/drain?deadline=3").await;
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("deadline_seconds"), "{head} {body}");
    assert!(relay.operations("GET", "/readyz").await.0.starts_with("HTTP/1.1 200"));
    let (head, body) = relay.operations("POST", "/drain?deadline_seconds=3600").await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answer["sessions"], &answer["connections"]), (&1.into(), &1.into()));
    assert!(told(&mut customer).await.deadline_ms > 3_500_000);
    // The public port has no such thing.
    let (head, _) = common::http(&relay.address(), "POST", "/drain", "", "").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    relay.signal("-TERM");
    assert_eq!(customer.closed().await.map(|(close, _)| close), Some(Close::GOING_AWAY));
    assert!(relay.wait().await.success());
}

/// A relay that knows the tickets of the one in `other`.
async fn sibling(desk: &Desk, directory: &Path, other: &Path) -> Relay {
    std::fs::create_dir(directory.join("state")).unwrap();
    std::fs::copy(other.join("state/ticket.key"), directory.join("state/ticket.key")).unwrap();
    relay_with(desk, directory, "127.0.0.1:0", "").await
}

/// Customer and technician at a relay that leaves service, while they work, and names another one.
async fn goes_on_elsewhere(transports: [Transport; 2], bindings: [Binding; 2]) {
    let [here, there] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut desk = Desk::new();
    // The second one takes over the first one's key, so the first one is started twice: to make it, and to name the second.
    relay_with(&desk, here.path(), "127.0.0.1:0", "").await.kill().await;
    let second = sibling(&desk, there.path(), here.path()).await;
    let other = second.ready["relay"].as_str().unwrap().to_owned();
    let drain = format!("[drain]\ndeadline_seconds = 10\nalternatives = [\"{other}\"]\n");
    let mut first = relay_with(&desk, here.path(), "127.0.0.1:0", &drain).await;
    let at = |transport, join| {
        options_at(first.ready["relay"].as_str().unwrap(), &[&first, &second], transport, join)
    };
    let mut customer = Customer::start(at(transports[0], code(&first)));
    let token = desk.token(&session(&first).await, TokenRole::Lead);
    let mut technician = Watcher::start(at(transports[1], token));
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 20).await;

    let (head, _) = first.operations("POST", "/drain").await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    let both = |customer: &Customer, technician: &Watcher| {
        [&customer.past, &technician.past].iter().all(|past| past.connections.len() == 2)
    };
    let mut after = None;
    work(&mut customer, &mut technician, |customer, technician| {
        if both(customer, technician) {
            after.get_or_insert(technician.typed + 20);
        }
        after.is_some_and(|after| customer.pressed > after)
    })
    .await;
    for (past, binding) in [(&customer.past, bindings[0]), (&technician.past, bindings[1])] {
        assert_eq!((past.connections[1].1.as_str(), past.binding()), (other.as_str(), Some(binding)));
    }
    assert_eq!(customer.missing, 0, "no key was too late");
    assert!(first.wait().await.success(), "it ends as soon as nobody is left");
    let expected = |binding| bindings.iter().filter(|&&one| one == binding).count() as f64;
    assert_eq!(gauges(&second).await, [1.0, expected(Binding::Quic), expected(Binding::WebSocket)]);
}

#[tokio::test]
async fn a_session_goes_on_at_another_relay_over_quic() {
    goes_on_elsewhere([Transport::Auto; 2], [Binding::Quic; 2]).await;
}

#[tokio::test]
async fn a_session_goes_on_at_another_relay_over_both_bindings() {
    goes_on_elsewhere([Transport::Quic, Transport::WebSocket], [Binding::Quic, Binding::WebSocket]).await;
}

#[tokio::test]
async fn an_alternative_that_cannot_read_tickets_ends_no_session() {
    let [here, there] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut desk = Desk::new();
    let second = relay_with(&desk, there.path(), "127.0.0.1:0", "").await;
    let other = second.ready["relay"].as_str().unwrap();
    let drain = format!("[drain]\ndeadline_seconds = 1\nspread_seconds = 0\nalternatives = [\"{other}\"]\n");
    let mut first = relay_with(&desk, here.path(), "127.0.0.1:0", &drain).await;
    let listen = first.address();
    let at = |join| {
        options_at(first.ready["relay"].as_str().unwrap(), &[&first, &second], Transport::WebSocket, join)
    };
    let mut customer = Customer::start(at(code(&first)));
    let token = desk.token(&session(&first).await, TokenRole::Lead);
    let mut technician = Watcher::start(at(token));
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 5).await;
    first.signal("-TERM");
    // They are sent to the other one, turned away, and come back to the one that is started again.
    let running = async {
        assert!(first.wait().await.success());
        relay_with(&desk, here.path(), &listen, "").await
    };
    let (pressed, losses) = (customer.pressed, customer.past.losses);
    let mut again = None;
    tokio::pin!(running);
    loop {
        tokio::select! {
            relay = &mut running, if again.is_none() => again = Some(relay),
            event = customer.events.next() => customer.on(event.expect("it goes on")),
            event = technician.events.next() => technician.on(event.expect("it goes on")),
        }
        let back = |past: &common::people::Past| past.binding().is_some() && past.connections.len() > 1;
        if again.is_some() && back(&customer.past) && back(&technician.past) {
            break;
        }
    }
    assert!(customer.past.losses > losses);
    work(&mut customer, &mut technician, |customer, _| customer.pressed > pressed + 5).await;
    assert!(second.metric("tandem_relay_refused_total{code=\"ticket_invalid\"}").await >= 1.0);
}
