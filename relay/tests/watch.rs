//! Who watches sees exactly the customer's screen: from the start, late, after the relay was killed, over both bindings.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::people::{Customer, Desk, SIZE, Watcher, all_see, next, relay, relay_with, session};
use tandem_client::{Event, Transport};
use tandem_protocol::limits;
use tandem_protocol::token::TokenRole;

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
async fn an_idle_session_over_quic_hears_heartbeats_only() {
    // As seldom as an operator wants them: nobody asks in between.
    an_idle_session_hears_heartbeats_only(Transport::Quic, "quic", Duration::from_secs(4)).await;
}

#[tokio::test]
async fn an_idle_session_over_websockets_hears_heartbeats_only() {
    an_idle_session_hears_heartbeats_only(Transport::WebSocket, "websocket", limits::HEARTBEAT_ACTIVE).await;
}

async fn an_idle_session_hears_heartbeats_only(transport: Transport, name: &str, every: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let config = format!("[session]\nheartbeat_active_seconds = {}\n", every.as_secs());
    let relay = relay_with(&desk, directory.path(), "127.0.0.1:0", &config).await;
    let session = session(&relay).await;
    let mut customer = Customer::join(&relay, transport);
    let mut watcher = Watcher::join(&relay, transport, desk.token(&session, TokenRole::Lead));
    customer.paint(1);
    all_see(&mut customer, &mut [&mut watcher]).await;
    // What is left of the beginning, then nothing at all for longer than a heartbeat.
    let quiet = every + Duration::from_millis(500);
    while let Ok(event) = tokio::time::timeout(quiet, async {
        tokio::select! { event = customer.events.next() => event, event = watcher.events.next() => event }
    })
    .await
    {
        let event = event.expect("a connection is over");
        assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
    }
    let said = format!("tandem_relay_received_records_total{{lane=\"control\",transport=\"{name}\"}}");
    let since = Instant::now();
    let (feedback, before) = (relay.metric("tandem_relay_feedback_total").await, relay.metric(&said).await);
    let silent = tokio::time::timeout(every + quiet, customer.events.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(relay.metric("tandem_relay_feedback_total").await, feedback);
    // Each of the two answers each heartbeat.
    let heartbeats = since.elapsed().as_secs_f64() / every.as_secs_f64();
    let said = relay.metric(&said).await - before;
    assert!(said <= 2.0 * heartbeats.ceil(), "{said} control messages in {:?}", since.elapsed());
}
