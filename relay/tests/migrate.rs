//! A path that changes under a session: another port, or UDP where there was none. Nobody notices.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::Relay;
use common::nat::Nat;
use common::people::{Customer, Desk, Past, Watcher, code, options_at, relay, session, work};
use common::scrape::Scrape;
use tandem_client::{Binding, Options, Transport};
use tandem_protocol::token::TokenRole;
use tempfile::TempDir;

/// A relay, and a customer and a technician in front of whom stands a translator of addresses.
struct Scene {
    relay: Relay,
    nat: Nat,
    customer: Customer,
    technician: Watcher,
    _directory: TempDir,
}

impl Scene {
    /// The customer is connected by the first transport, the technician by the second; `udp`: whether the translator lets that pass.
    async fn over(transports: [Transport; 2], udp: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut desk = Desk::new();
        let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
        let nat = Nat::start(relay.address().parse().unwrap()).await;
        nat.let_udp(udp);
        let url = format!("https://{}", nat.address);
        let at = |transport, join| {
            let options = options_at(&url, &[&relay], transport, join);
            Options { look_for_quic_after: Duration::from_millis(100), ..options }
        };
        let token = desk.token(&session(&relay).await, TokenRole::Lead);
        let customer = Customer::start(at(transports[0], code(&relay)));
        let technician = Watcher::start(at(transports[1], token));
        Self { relay, nat, customer, technician, _directory: directory }
    }
}

/// Customer and technician behind a translator that gives them other ports while one types and the other's screen changes.
#[tokio::test]
async fn other_ports_under_way_are_no_reconnection_and_cost_no_input() {
    let Scene { relay, nat, mut customer, mut technician, _directory } =
        Scene::over([Transport::Quic; 2], true).await;
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

/// Customer and technician come from another network while they work: on QUIC that is no reconnection.
#[tokio::test]
async fn another_address_under_way_is_no_reconnection_and_costs_no_input() {
    let Scene { relay: _relay, nat, mut customer, mut technician, _directory } =
        Scene::over([Transport::Quic; 2], true).await;
    work(&mut customer, &mut technician, |customer, _| customer.pressed > 20).await;
    let (typed, ports) = (technician.typed, nat.ports());
    nat.come_from(Ipv4Addr::new(127, 1, 2, 3).into()).await;
    work(&mut customer, &mut technician, |customer, _| {
        customer.pressed > typed + 20 && nat.ports() >= ports + 2
    })
    .await;
    for past in [&customer.past, &technician.past] {
        assert_eq!((past.connections.len(), past.losses, past.dropped), (1, 0, 0), "{past:?}");
    }
    assert_eq!(customer.missing, 0);
}

/// A customer who only waits says nothing by itself: the relay's words no longer reach it. It speaks up from another port before
/// the relay gives it up.
#[tokio::test]
async fn who_is_silent_behind_a_forgetful_translator_is_found_again() {
    let Scene { relay: _relay, nat, mut customer, mut technician, _directory } =
        Scene::over([Transport::Quic; 2], true).await;
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

/// What a relay has dropped that a move must not cost.
async fn dropped_by_reason(relay: &Relay) -> [f64; 5] {
    let scrape = Scrape::of(relay).await;
    ["unsent", "stale", "no_right", "away", "full"]
        .map(|reason| scrape.sum("tandem_relay_dropped_records_total", &format!("reason=\"{reason}\"")))
}

/// UDP is blocked at first, then opened, while one types, the other's screen changes and both talk at length: who may goes over to
/// QUIC, and nothing is lost, doubled or overtaken in either direction. Nobody needs a key, and nothing is granted anew.
async fn goes_over(transports: [Transport; 2]) {
    let Scene { relay, nat, mut customer, mut technician, _directory } = Scene::over(transports, false).await;
    let talk = |customer: &Customer, technician: &Watcher| {
        // What is said before the other one is there nobody hears.
        if customer.pressed == 0 {
            return;
        }
        customer.words.go_on(&customer.handle, &technician.words);
        technician.words.go_on(&technician.handle, &customer.words);
    };
    work(&mut customer, &mut technician, |customer, technician| {
        talk(customer, technician);
        customer.pressed > 20 && customer.words.heard > 20 && technician.words.heard > 20
    })
    .await;
    for past in [&customer.past, &technician.past] {
        assert_eq!((past.binding(), past.connections.len()), (Some(Binding::WebSocket), 1));
    }
    let before = (customer.keys, technician.keys);
    // Input that was typed before the customer had granted it, for one.
    let dropped = dropped_by_reason(&relay).await;

    nat.let_udp(true);
    let expected = |transport| match transport {
        Transport::WebSocket => vec![Binding::WebSocket],
        _ => vec![Binding::WebSocket, Binding::Quic],
    };
    let bindings = |past: &Past| past.connections.iter().map(|(binding, _)| *binding).collect::<Vec<_>>();
    let mut goal = None;
    work(&mut customer, &mut technician, |customer, technician| {
        talk(customer, technician);
        let over = [&customer.past, &technician.past]
            .iter()
            .zip(transports)
            .all(|(past, transport)| bindings(past) == expected(transport));
        let heard = customer.words.heard.min(technician.words.heard);
        if over {
            goal.get_or_insert((technician.typed + 20, heard + 20));
        }
        goal.is_some_and(|(typed, words)| customer.pressed > typed && heard > words)
    })
    .await;
    for past in [&customer.past, &technician.past] {
        assert_eq!((past.losses, past.dropped, past.closed), (0, 0, None), "{past:?}");
    }
    assert_eq!((customer.missing, customer.keys, technician.keys), (0, before.0, before.1));
    assert_eq!(dropped_by_reason(&relay).await, dropped);
    for (name, binding) in [("quic", Binding::Quic), ("websocket", Binding::WebSocket)] {
        let there =
            transports.iter().filter(|&&transport| expected(transport).last() == Some(&binding)).count();
        relay.settles(&format!("tandem_relay_connections{{transport=\"{name}\"}}"), there as f64).await;
    }
}

#[tokio::test]
async fn both_go_over_to_quic_as_soon_as_there_is_a_way() {
    goes_over([Transport::Auto; 2]).await;
}

#[tokio::test]
async fn the_technician_goes_over_to_quic_alone() {
    goes_over([Transport::WebSocket, Transport::Auto]).await;
}

#[tokio::test]
async fn the_customer_goes_over_to_quic_alone() {
    goes_over([Transport::Auto, Transport::WebSocket]).await;
}
