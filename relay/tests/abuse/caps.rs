//! A relay that has as many sessions, or holds as much, as it may: who is inside goes on, whoever is new hears why not, and a code
//! that was refused for that is good later.

use tandem_client::Transport;
use tandem_protocol::Close;
use tandem_protocol::message::{End, Visible, control, hello::Join};
use tandem_protocol::token::TokenRole;

use super::common::Socket;
use super::desk::Desk;
use super::{MIB, Scene, has_received, publisher, update};

/// The code of the refusal that this client hears; `None`: it was let in.
async fn refusal(scene: &Scene, join: Join) -> Option<Close> {
    let mut socket = Socket::join(&scene.relay, join).await;
    match socket.next().await.unwrap() {
        control::Message::Refused(refused) => {
            let close = Close::from_number(refused.code.into());
            assert!(!refused.reason.is_empty());
            assert_eq!(socket.closed().await.map(|(close, _)| close), Some(close));
            Some(close)
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_has_all_the_sessions_that_it_may() {
    // One is the neighbour's.
    let mut scene = Scene::new("sessions = 3").await;
    let [first, second] = [Desk::session(), Desk::session()];
    let (mut one, _) = scene.socket(&first, TokenRole::Customer).await;
    let mut two = Socket::join(&scene.relay, scene.join(&second, TokenRole::Customer)).await;
    let Ok(control::Message::Welcome(welcome)) = two.next().await else { panic!("no welcome") };
    let code = || Join::Code(scene.relay.code());
    let new = scene.join(&Desk::session(), TokenRole::Customer);
    for join in [new, code(), code()] {
        assert_eq!(refusal(&scene, join).await, Some(Close::OVERLOADED));
    }
    // Who belongs to a session that is here gets in, and back in.
    let (lead, _) = scene.socket(&first, TokenRole::Lead).await;
    drop(two);
    assert_eq!(refusal(&scene, Join::Ticket(welcome.ticket)).await, None);
    scene.neighbour.lives(5).await;
    // One ends: the code was not spent by being refused.
    one.say(control::Message::End(End::default())).await;
    assert_eq!(one.closed().await.map(|(close, _)| close), Some(Close::ENDED));
    scene.relay.settles("tandem_relay_sessions", 2.0).await;
    assert_eq!(refusal(&scene, code()).await, None);
    assert_eq!(scene.relay.metric("tandem_relay_sessions").await, 3.0);
    assert_eq!(scene.relay.metric("tandem_relay_refused_total{code=\"overloaded\"}").await, 3.0);
    drop(lead);
    scene.ends("as many sessions as may be", 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_holds_all_the_memory_that_it_may() {
    let mut scene = Scene::in_shell("memory_mib = 2\nmemory_per_tenant_mib = 100", "", Transport::Quic).await;
    // Four sessions hold for who does not take it what they may while there is no memory: a MiB each, in records of a quarter.
    let body = vec![0x5a; 256 << 10];
    let mut attack = Vec::new();
    for _ in 0..4 {
        let session = Desk::session();
        let (mut watcher, number) = scene.socket(&session, TokenRole::Lead).await;
        watcher.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true })).await;
        attack.push((watcher, publisher(&scene, &session, &[number]).await));
    }
    for (_, (_, _, lane, sender)) in &mut attack {
        for seq in 0..20 {
            lane.write_all(&update(*sender, seq, &body)).await.unwrap();
        }
    }
    has_received(&scene.relay, 80.0).await;
    let held = scene.relay.metric("tandem_relay_held_bytes").await;
    assert!((2 * MIB) as f64 <= held && held <= (6 * MIB) as f64, "{held} bytes are held");
    let new = || Join::Token(scene.desk.token(&Desk::session(), "somebody else", TokenRole::Customer));
    assert_eq!(refusal(&scene, new()).await, Some(Close::OVERLOADED));
    // The neighbour, of yet another tenant, goes on.
    scene.neighbour.lives(20).await;
    for (watcher, (connection, ..)) in attack {
        connection.close(1u32.into(), b"");
        drop(watcher);
    }
    scene.ends("as much memory as may be", 48 * MIB).await;
}
