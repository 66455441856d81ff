//! The door of the real relay: how often a network may knock and guess, and how long and how loud who is not admitted may be.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use bytes::BytesMut;
use common::{PATIENCE, Relay, Socket, config, control_record, hello, http, quic, quic_closed, read_control};
use tandem_protocol::message::{control, hello::Join};
use tandem_protocol::{Close, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A relay with these limits.
async fn relay(directory: &tempfile::TempDir, limits: &str) -> Relay {
    let file = config(directory.path(), &format!("[limits]\n{limits}\n"));
    Relay::start(&["--config", &file]).await
}

/// Joins over a WebSocket: the ticket, or the code of the refusal.
async fn join(relay: &Relay, join: Join) -> Result<(Socket, Vec<u8>), Close> {
    let mut socket = Socket::join(relay, join).await;
    match socket.next().await.unwrap() {
        control::Message::Welcome(welcome) => Ok((socket, welcome.ticket)),
        control::Message::Refused(refused) => {
            let close = Close::from_number(refused.code.into());
            assert!(close != Close::TOO_MANY || refused.retry_after_ms > 0, "it says when to come again");
            Err(close)
        }
        other => panic!("{other:?}"),
    }
}

fn wrong(code: &str) -> Join {
    Join::Code(format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000))
}

/// Whether the relay takes a request on a new connection.
async fn answers(relay: &Relay) -> bool {
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    let _ =
        stream.write_all(b"GET /.well-known/tandem HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn who_guesses_codes_is_stopped_and_who_has_a_ticket_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(&directory, "guesses_per_network = 3\nguesses_per_network_per_minute = 1").await;
    let (customer, ticket) = join(&relay, Join::Code(relay.code())).await.unwrap();
    let spare = relay.new_code().await;
    for _ in 0..3 {
        assert_eq!(join(&relay, wrong(&spare)).await.err(), Some(Close::CODE_UNKNOWN));
    }
    assert_eq!(
        join(&relay, Join::Code(spare)).await.err(),
        Some(Close::TOO_MANY),
        "a right one does not help"
    );
    drop(customer);
    assert!(join(&relay, Join::Ticket(ticket)).await.is_ok());
    assert_eq!(relay.metric("tandem_relay_refused_total{code=\"too_many\"}").await, 1.0);
}

#[tokio::test]
async fn a_network_that_knocks_in_vain_is_turned_away_and_one_whose_clients_join_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let limits = "handshakes_per_network = 40\nhandshakes_per_network_per_second = 1";
    let relay = relay(&directory, limits).await;
    let code = relay.code();
    // Ten times what may be at once: each gets its own back.
    let mut ticket = join(&relay, Join::Code(code)).await.unwrap().1;
    for _ in 0..200 {
        ticket = join(&relay, Join::Ticket(ticket)).await.unwrap().1;
        let connection = quic(&relay).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let hello = hello(Join::Ticket(ticket.clone()));
        send.write_all(&control_record(0, control::Message::Hello(hello))).await.unwrap();
        let welcome = read_control(&mut recv, &mut BytesMut::new()).await;
        assert!(matches!(welcome, Some(control::Message::Welcome(_))), "{welcome:?}");
    }
    let mut answered = 0;
    while answers(&relay).await {
        answered += 1;
        assert!(answered < 100, "nobody is turned away");
    }
    assert!(answered >= 30, "{answered}");
    assert!(relay.metric("tandem_relay_turned_away_total{reason=\"handshakes\"}").await >= 1.0);
    // Over QUIC it must first prove its address, and then there is none left.
    let refused = common::try_quic(&relay).await.err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|error| error.contains("refused")), "{refused:?}");
    assert!(relay.metric("tandem_relay_turned_away_total{reason=\"retry\"}").await >= 1.0);
}

#[tokio::test]
async fn under_pressure_quic_clients_prove_their_address_and_join() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(&directory, "retry_above = 0").await;
    let connection = quic(&relay).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&control_record(0, control::Message::Hello(hello(Join::Code(relay.code())))))
        .await
        .unwrap();
    let welcome = read_control(&mut recv, &mut BytesMut::new()).await;
    assert!(matches!(welcome, Some(control::Message::Welcome(_))), "{welcome:?}");
    assert_eq!(relay.metric("tandem_relay_turned_away_total{reason=\"retry\"}").await, 1.0);
}

#[tokio::test]
async fn descriptors_end_before_they_are_out() {
    let directory = tempfile::tempdir().unwrap();
    let limits = "tcp_connections = 20\nunadmitted_per_network = 12";
    let relay = relay(&directory, limits).await;
    let (mut customer, _) = join(&relay, Join::Code(relay.code())).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(relay.address()).await.unwrap());
    }
    // Those beyond are closed at once; the others had their five seconds.
    for stream in &mut idle {
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is closed");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    assert!(relay.metric("tandem_relay_turned_away_total{reason=\"unadmitted\"}").await >= 28.0);
    relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
    customer.say(control::Message::Ping(Default::default())).await;
    while !matches!(customer.next().await.unwrap(), control::Message::Pong(_)) {}
}

/// Sends this, then nothing, and waits for the end: what was answered.
async fn ends(relay: &Relay, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the relay waits for ever");
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn who_is_slow_before_being_admitted_is_not_waited_for() {
    let relay = Relay::start(&[]).await;
    let upgrade = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: {}\r\n\r\n",
        limits::CONNECT_PATH,
        limits::WEBSOCKET_PROTOCOL
    );
    // A frame that says 40 bytes and has 10.
    let mut fragment = upgrade.clone().into_bytes();
    fragment.extend_from_slice(&[0x02, 0x80 | 40, 0, 0, 0, 0]);
    fragment.extend_from_slice(&[0; 10]);
    let body = "POST /api/v1/sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n{";
    let (nothing, tls, head, body, socket, fragment) = tokio::join!(
        ends(&relay, b""),
        ends(&relay, &[22, 3, 1, 2, 0, 1, 0, 1, 252]),
        ends(&relay, b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "),
        ends(&relay, body.as_bytes()),
        ends(&relay, upgrade.as_bytes()),
        ends(&relay, &fragment),
    );
    assert_eq!((nothing.as_str(), tls.as_str(), head.as_str()), ("", "", ""));
    assert!(body.contains("408"), "{body}");
    assert!(socket.contains("101") && fragment.contains("101"), "{socket} {fragment}");
    relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
}

#[tokio::test]
async fn who_is_loud_before_being_admitted_is_cut_off() {
    let relay = Relay::start(&[]).await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(limits::UNADMITTED_MAX));
    assert!(ends(&relay, head.as_bytes()).await.contains("431"));
    // A ClientHello of 60 KiB, in records of 16 KiB.
    let mut tls = vec![22, 3, 1, 0x40, 0, 1, 0, 0xf0, 0];
    tls.resize(64 << 10, 0);
    assert_eq!(ends(&relay, &tls).await, "");
    let body = format!(
        "POST /api/v1/sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{}",
        "a".repeat(5000)
    );
    assert!(ends(&relay, body.as_bytes()).await.contains("413"));
    // On QUIC no more can even be sent: its window is closed until then.
    let connection = quic(&relay).await;
    let mut stream = connection.open_uni().await.unwrap();
    let flood = vec![0; 1 << 20];
    let (written, closed) = tokio::join!(stream.write_all(&flood), quic_closed(&connection));
    assert!(written.is_err());
    assert_eq!(closed, Some(Close::ADMISSION));
    assert_eq!(http(&relay.address(), "GET", "/healthz", "", "").await.0.split(' ').nth(1), Some("404"));
    relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
}
