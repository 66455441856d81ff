//! A relay that is started again: what it still knows, what becomes of a damaged memory, and how many come back at once.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::people::{Customer, Desk, Past, Watcher, all_see, relay_with, session};
use common::{PATIENCE, Relay, Socket, http};
use tandem_client::{Event, Handle, Join as ClientJoin, Options, Target, Transport};
use tandem_protocol::Close;
use tandem_protocol::message::{control, hello::Join};
use tandem_protocol::token::TokenRole;
use tokio::sync::watch;
use tokio::task::JoinSet;

async fn at(directory: &Path, listen: &str) -> Relay {
    let state = directory.to_str().unwrap();
    Relay::start(&["--state-directory", state, "--listen", listen]).await
}

/// Ends one as an operator does, and starts it again at the same place.
async fn restart(mut relay: Relay, directory: &Path) -> Relay {
    let listen = relay.address();
    relay.signal("-TERM");
    assert!(relay.wait().await.success());
    at(directory, &listen).await
}

/// The sessions that the desk shows to who has this cookie, by their codes.
async fn codes(relay: &Relay, cookie: &str) -> Vec<String> {
    let answer = relay.desk("GET", "/api/v1/sessions", cookie).await;
    let sessions = answer["sessions"].as_array().unwrap_or_else(|| panic!("not signed in: {answer}"));
    sessions.iter().map(|session| session["code"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn welcomed(socket: &mut Socket) -> Vec<u8> {
    match socket.next().await {
        Ok(control::Message::Welcome(welcome)) => welcome.ticket,
        other => panic!("no welcome but {other:?}"),
    }
}

async fn refused(relay: &Relay, join: Join) -> Close {
    let mut socket = Socket::join(relay, join).await;
    match socket.next().await {
        Ok(control::Message::Refused(refused)) => Close::from_number(refused.code.into()),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn codes_sign_ins_and_ended_sessions_are_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let relay = at(directory.path(), "127.0.0.1:0").await;
    let cookie = relay.sign_in().await;
    let (unused, ended) = (relay.new_code().await, relay.new_code().await);
    let mut customer = Socket::join(&relay, Join::Code(ended.clone())).await;
    let ticket = welcomed(&mut customer).await;
    customer.say(control::Message::End(tandem_protocol::message::End { reason: 1 })).await;
    assert_eq!(customer.closed().await.map(|(close, _)| close), Some(Close::ENDED));
    relay.settles("tandem_relay_sessions", 0.0).await;

    let relay = restart(relay, directory.path()).await;
    let known = codes(&relay, &cookie).await;
    assert!(known.contains(&unused) && !known.contains(&ended), "{known:?}");
    assert_eq!(
        refused(&relay, Join::Ticket(ticket)).await,
        Close::ENDED,
        "what has ended is not opened again"
    );
    assert_eq!(refused(&relay, Join::Code(ended)).await, Close::CODE_UNKNOWN);
    let mut customer = Socket::join(&relay, Join::Code(unused.clone())).await;
    welcomed(&mut customer).await;
    drop(customer);

    // Killed, not asked: what was said a moment ago is there as well.
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 0.0).await;
    let written = async {
        while !std::fs::read_to_string(directory.path().join("desk.json")).unwrap().contains("used_by") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    let listen = relay.address();
    relay.kill().await;
    let relay = at(directory.path(), &listen).await;
    assert_eq!(refused(&relay, Join::Code(unused.clone())).await, Close::CODE_USED);
    // That somebody else tried the code is shown, also after the next restart.
    let failures = async |relay: &Relay| {
        let answer = relay.desk("GET", "/api/v1/sessions", &cookie).await;
        let sessions = answer["sessions"].as_array().unwrap().clone();
        sessions.iter().find(|session| session["code"] == *unused).unwrap()["code_failures"].clone()
    };
    assert_eq!(failures(&relay).await, 1);
    let relay = restart(relay, directory.path()).await;
    assert_eq!(failures(&relay).await, 1);
    let (head, _) = http(&relay.address(), "POST", "/api/v1/sign-out", &cookie, "").await;
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let relay = restart(relay, directory.path()).await;
    assert_eq!(relay.desk("GET", "/api/v1/me", &cookie).await["error"]["code"], "not_signed_in");
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

/// A token that was fetched just before is good once, whenever the relay was started: its key is kept, and that it was used.
#[tokio::test]
async fn tokens_of_before_are_good_and_used_ones_stay_used() {
    let directory = tempfile::tempdir().unwrap();
    let relay = at(directory.path(), "127.0.0.1:0").await;
    let (one, other) = (relay.token().await, relay.token().await);
    let mut technician = Socket::join(&relay, Join::Token(one.clone())).await;
    welcomed(&mut technician).await;
    drop(technician);
    let relay = restart(relay, directory.path()).await;
    assert_eq!(refused(&relay, Join::Token(one.clone())).await, Close::TOKEN_USED);
    let mut technician = Socket::join(&relay, Join::Token(other.clone())).await;
    welcomed(&mut technician).await;
    // Killed, not asked: soon after the use that is written.
    let written = async {
        let used = || std::fs::read_to_string(directory.path().join("used-tokens.json")).unwrap();
        while used().matches("jti").count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    let listen = relay.address();
    relay.kill().await;
    let relay = at(directory.path(), &listen).await;
    for used in [one, other] {
        assert_eq!(refused(&relay, Join::Token(used)).await, Close::TOKEN_USED);
    }
}

#[tokio::test]
async fn a_damaged_memory_is_set_aside_and_the_relay_starts() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["desk.json", "ended-sessions", "ticket.key", "used-tokens.json"] {
        std::fs::write(directory.path().join(name), "scrambled").unwrap();
    }
    let relay = at(directory.path(), "127.0.0.1:0").await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    let ticket = welcomed(&mut customer).await;
    let aside = || {
        let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
    };
    assert_eq!(aside(), 4);
    drop(customer);
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 0.0).await;
    let relay = restart(relay, directory.path()).await;
    assert_eq!(aside(), 4, "what was written since is sound");
    let mut customer = Socket::join(&relay, Join::Ticket(ticket)).await;
    welcomed(&mut customer).await;
}

/// Lets both do what they do until then.
async fn until(
    customer: &mut Customer,
    technician: &mut Watcher,
    enough: impl Fn(&Customer, &Watcher) -> bool,
) {
    let until = async {
        while !enough(customer, technician) {
            tokio::select! {
                event = customer.events.next() => customer.on(event.unwrap()),
                event = technician.events.next() => technician.on(event.unwrap()),
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, until).await.is_ok(), "that never comes");
}

/// The technician sees the screen as it is, and the customer was told so.
fn is_known_to_be_seen(customer: &Customer, technician: &Watcher) -> bool {
    technician.shows(&customer.screen) && customer.shown == customer.last
}

/// Killed while updates are under way, and at rest: both ends come back to a relay that knows nothing, and the screen goes on.
async fn goes_on_without_keys(transport: Transport) {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let mut relay = relay_with(&desk, directory.path(), "127.0.0.1:0", "").await;
    let listen = relay.address();
    let token = desk.token(&session(&relay).await, TokenRole::Lead);
    let mut customer = Customer::join(&relay, transport);
    let mut technician = Watcher::join(&relay, transport, token);
    customer.blink(0);
    until(&mut customer, &mut technician, is_known_to_be_seen).await;
    let (segment, keys) = (customer.segment, technician.keys);
    for updates in [0, 20, 1] {
        for seed in 0..updates {
            customer.blink(100 * updates + seed);
        }
        relay.kill().await;
        relay = relay_with(&desk, directory.path(), &listen, "").await;
        let connections = [&customer.past, &technician.past].map(|past| past.connections.len());
        until(&mut customer, &mut technician, |customer, technician| {
            customer.past.connections.len() > connections[0]
                && technician.past.connections.len() > connections[1]
        })
        .await;
        all_see(&mut customer, &mut [&mut technician]).await;
        customer.blink(7);
        until(&mut customer, &mut technician, is_known_to_be_seen).await;
    }
    assert_eq!(
        (customer.segment, customer.keys, technician.keys),
        (segment, 0, keys),
        "neither a key nor a start"
    );
    assert_eq!(relay.metric("tandem_relay_keys_wanted_total").await, 0.0);
}

#[tokio::test]
async fn a_killed_relay_costs_no_key_over_quic() {
    goes_on_without_keys(Transport::Quic).await;
}

#[tokio::test]
async fn a_killed_relay_costs_no_key_over_websocket() {
    goes_on_without_keys(Transport::WebSocket).await;
}

/// A client that keeps its place in the session and does nothing else.
struct Guest {
    past: watch::Receiver<Past>,
    handle: Handle,
}

fn guest(tasks: &mut JoinSet<()>, options: Options) -> Guest {
    let (handle, mut events) = tandem_client::start(options);
    let (tell, past) = watch::channel(Past::default());
    tasks.spawn(async move {
        while let Some(event) = events.next().await {
            if !matches!(event, Event::Control(_)) {
                tell.send_modify(|past| past.note(&event));
            }
        }
    });
    Guest { past, handle }
}

/// Waits until everybody has had so many connections and has one.
async fn all_connected(guests: &mut [Guest], connections: usize) {
    for guest in guests {
        let there = |past: &Past| {
            assert_eq!(past.closed, None, "{past:?}");
            past.connections.len() >= connections && past.binding().is_some()
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), guest.past.wait_for(there)).await;
        waited.expect("somebody does not come back").unwrap();
    }
}

/// Sessions behind one address: everybody comes from 127.0.0.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_sessions_survive_a_rolling_restart() {
    const SESSIONS: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let mut desk = Desk::new();
    let quick = "[drain]\ndeadline_seconds = 0\n";
    let mut relay = relay_with(&desk, directory.path(), "127.0.0.1:0", quick).await;
    let listen = relay.address();
    let (mut tasks, mut guests) = (JoinSet::new(), Vec::new());
    let secure = relay.ready["relay"].as_str().unwrap().to_owned();
    let fingerprint: tandem_client::Fingerprint =
        relay.ready["fingerprint"].as_str().unwrap().parse().unwrap();
    for number in 0..SESSIONS {
        let session = format!("{number:032x}");
        // A tenth of them over QUIC, which costs more; the others over WebSocket.
        let (url, transport) = match number % 10 {
            0 => (secure.clone(), Transport::Quic),
            _ => (secure.replace("https", "http"), Transport::WebSocket),
        };
        for role in [TokenRole::Customer, TokenRole::Lead] {
            let ClientJoin::Token(token) = desk.token(&session, role) else {
                unreachable!("a desk mints tokens")
            };
            let target = Target::new(&url, vec![fingerprint]).unwrap();
            let options = Options::new(target, ClientJoin::Token(token), "guest");
            guests.push(guest(&mut tasks, Options { transport, ..options }));
        }
        // A few at a time, as people come.
        if number % 50 == 49 {
            all_connected(&mut guests, 1).await;
        }
    }
    all_connected(&mut guests, 1).await;
    let counted = async |relay: &Relay| {
        relay.settles("tandem_relay_sessions", SESSIONS as f64).await;
        relay.settles("tandem_relay_connections{transport=\"quic\"}", SESSIONS as f64 / 5.0).await;
        relay.settles("tandem_relay_connections{transport=\"websocket\"}", SESSIONS as f64 * 9.0 / 5.0).await;
    };
    counted(&relay).await;

    relay.signal("-TERM");
    assert!(relay.wait().await.success());
    let relay = relay_with(&desk, directory.path(), &listen, quick).await;
    all_connected(&mut guests, 2).await;
    counted(&relay).await;
    // Each came back at the first try that found the relay there, and nobody was turned away.
    assert_eq!(relay.metric("tandem_relay_refused_total{code=\"too_many\"}").await, 0.0);
    for guest in &guests {
        guest.handle.leave();
    }
    relay.settles("tandem_relay_connections{transport=\"quic\"}", 0.0).await;
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 0.0).await;
    while tasks.join_next().await.is_some() {}
}
