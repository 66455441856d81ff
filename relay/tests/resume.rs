//! A session whose transport no longer gets through, or whose people come from elsewhere, goes on over the other one, or from there:
//! what people may, see and hold stays theirs.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::net::Ipv4Addr;

use common::nat::Nat;
use common::people::{Customer, Desk, Watcher, code, options_at, relay_logging, session, work};
use tandem_client::{Binding, Transport};
use tandem_protocol::message::{Right, Rights};
use tandem_protocol::token::TokenRole;

/// Lets through what the session is to use, and nothing else.
fn only(binding: Binding, nat: &Nat) {
    nat.let_udp(binding == Binding::Quic);
    nat.let_tcp(binding == Binding::WebSocket);
}

/// Another address of this computer, of another network than the usual one.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 1, 2, 3);

/// One types and holds a key while the other's screen changes; then `before` is cut off, and only `after` gets through, from
/// `elsewhere` perhaps.
async fn goes_on(before: Binding, after: Binding, elsewhere: bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let log = directory.path().join("log");
    let relay = relay_logging(&desk, directory.path(), &log).await;
    let nat = Nat::start(relay.address().parse().unwrap()).await;
    only(before, &nat);
    let url = format!("https://{}", nat.address);
    let token = desk.token(&session(&relay).await, TokenRole::Lead);
    let mut customer = Customer::start(options_at(&url, &[&relay], Transport::Auto, code(&relay)));
    let mut technician = Watcher::start(options_at(&url, &[&relay], Transport::Auto, token));
    technician.holds = vec![4];
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 20 && customer.held.0 == [4]).await;
    customer.lay_out(1);
    work(&mut customer, &mut technician, |_, technician| technician.layouts == [1]).await;
    let expected = vec![Rights::of(&[Right::View, Right::Control]).to_wire()];
    assert_eq!(technician.rights, expected);
    assert_eq!([customer.past.binding(), technician.past.binding()], [Some(before); 2]);
    let grants = customer.revision;

    only(after, &nat);
    if elsewhere {
        nat.come_from(ELSEWHERE.into()).await;
    }
    // While the way is cut this key is let go and another one pressed.
    technician.holds = vec![5];
    let mut goal = None;
    work(&mut customer, &mut technician, |customer, technician| {
        let back = [&customer.past, &technician.past].iter().all(|past| past.binding() == Some(after));
        if back && customer.revision > grants && customer.held.0 == [5] {
            goal.get_or_insert(technician.typed + 20);
        }
        goal.is_some_and(|goal| customer.pressed > goal)
    })
    .await;
    for past in [&customer.past, &technician.past] {
        let bindings: Vec<_> = past.connections.iter().map(|(binding, _)| *binding).collect();
        assert_eq!((bindings, past.losses, past.closed), (vec![before, after], 1, None));
    }
    // What was typed while nothing got through is dropped once it is a second old, and counted.
    assert!(u64::from(customer.missing) <= technician.past.dropped, "{:?}", technician.past);
    assert_eq!(technician.rights, expected);
    customer.lay_out(2);
    work(&mut customer, &mut technician, |_, technician| technician.layouts.last() == Some(&2)).await;
    assert_eq!(technician.layouts, [1, 2], "none is told twice");

    technician.handle.leave();
    customer.handle.leave();
    for transport in ["quic", "websocket"] {
        relay.settles(&format!("tandem_relay_connections{{transport=\"{transport}\"}}"), 0.0).await;
    }
    // Everybody was seen to join once from the usual address, and once from where they are now.
    let log = std::fs::read_to_string(log).unwrap();
    let joined = |from: Ipv4Addr| {
        log.lines()
            .filter(|line| line.contains("joined") && line.contains(&format!("address={from}:")))
            .count()
    };
    let [here, there] = [joined(Ipv4Addr::LOCALHOST), joined(ELSEWHERE)];
    assert_eq!([here, there], if elsewhere { [2, 2] } else { [4, 0] }, "{log}");
}

#[tokio::test]
async fn a_session_over_quic_goes_on_over_a_websocket_when_udp_dies() {
    goes_on(Binding::Quic, Binding::WebSocket, false).await;
}

#[tokio::test]
async fn a_session_over_websockets_goes_on_over_quic_when_tcp_dies() {
    goes_on(Binding::WebSocket, Binding::Quic, false).await;
}

#[tokio::test]
async fn a_session_over_websockets_goes_on_from_another_address() {
    goes_on(Binding::WebSocket, Binding::WebSocket, true).await;
}

#[tokio::test]
async fn a_session_over_quic_goes_on_over_a_websocket_from_another_address() {
    goes_on(Binding::Quic, Binding::WebSocket, true).await;
}
