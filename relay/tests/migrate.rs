//! A path that changes under a session: the connection stays, and nobody notices.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use common::nat::Nat;
use common::people::{Customer, Desk, Watcher, code, options_at, relay, session, work};
use tandem_client::{Binding, Transport};
use tandem_protocol::token::TokenRole;

/// Customer and technician behind a translator that gives them other ports while one types and the other's screen changes.
#[tokio::test]
async fn other_ports_under_way_are_no_reconnection_and_cost_no_input() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let nat = Nat::start(relay.address().parse().unwrap()).await;
    let url = format!("https://{}", nat.address);
    let token = desk.token(&session(&relay).await, TokenRole::Lead);
    let mut customer = Customer::start(options_at(&url, &[&relay], Transport::Quic, code(&relay)));
    let mut technician = Watcher::start(options_at(&url, &[&relay], Transport::Quic, token));
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 20).await;
    for round in 1..=5 {
        let (typed, ports) = (technician.typed, nat.ports());
        nat.forget().await;
        work(&mut customer, &mut technician, |customer, _| {
            customer.pressed > typed + 20 && nat.ports() >= ports + 2
        })
        .await;
        for past in [&customer.past, &technician.past] {
            assert_eq!(
                (past.connections.len(), past.losses, past.dropped),
                (1, 0, 0),
                "round {round}: {past:?}"
            );
            assert_eq!(past.binding(), Some(Binding::Quic));
        }
        assert_eq!(customer.missing, 0);
    }
    assert_eq!(relay.metric("tandem_relay_connections_total{transport=\"quic\"}").await, 2.0);
    for handle in [customer.handle, technician.handle] {
        handle.leave();
    }
    relay.settles("tandem_relay_connections{transport=\"quic\"}", 0.0).await;
}

/// A customer who only waits says nothing by itself: the relay's words no longer reach it. It speaks up from another port before
/// the relay gives it up.
#[tokio::test]
async fn who_is_silent_behind_a_forgetful_translator_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let nat = Nat::start(relay.address().parse().unwrap()).await;
    let url = format!("https://{}", nat.address);
    let token = desk.token(&session(&relay).await, TokenRole::Lead);
    let mut customer = Customer::start(options_at(&url, &[&relay], Transport::Quic, code(&relay)));
    let mut technician = Watcher::start(options_at(&url, &[&relay], Transport::Quic, token));
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 5).await;
    nat.forget().await;
    let ports = nat.ports();
    let resting = async {
        let found = nat.given(ports + 2);
        tokio::pin!(found);
        loop {
            tokio::select! {
                event = customer.events.next() => customer.on(event.expect("it goes on")),
                event = technician.events.next() => technician.on(event.expect("it goes on")),
                () = &mut found => break,
            }
        }
    };
    tokio::time::timeout(common::PATIENCE, resting).await.expect("nobody speaks up");
    let typed = technician.typed;
    work(&mut customer, &mut technician, |customer, _| customer.pressed > typed + 5).await;
    for past in [&customer.past, &technician.past] {
        assert_eq!((past.connections.len(), past.losses, past.dropped), (1, 0, 0), "{past:?}");
    }
}
