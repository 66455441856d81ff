//! Who may not join, and who sends what is no protocol: a clear word, and a relay that is none the worse for it.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use bytes::{BufMut, BytesMut};
use common::{
    PATIENCE, Relay, Socket, config, control_record, hello, quic, quic_closed, read_control, record,
};
use tandem_protocol::message::{control, hello::Join, types};
use tandem_protocol::{Close, LaneKey, LaneKind, Sender, limits, mux};
use tokio_tungstenite::tungstenite::Message;

/// A client that joins by this is refused with this code, in a message and in the close, on both bindings.
async fn is_refused(relay: &Relay, join: Join, close: Close) {
    let mut socket = Socket::join(relay, join.clone()).await;
    match socket.next().await {
        Ok(control::Message::Refused(refused)) => {
            assert_eq!(refused.code, u32::from(close.number()), "{}", refused.reason);
            assert!(!refused.reason.is_empty());
        }
        other => panic!("{other:?} instead of a refusal with {close}"),
    }
    assert_eq!(socket.closed().await.map(|(close, _)| close), Some(close));
    let connection = quic(relay).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&control_record(0, control::Message::Hello(hello(join)))).await.unwrap();
    match read_control(&mut recv, &mut BytesMut::new()).await {
        Some(control::Message::Refused(refused)) => assert_eq!(refused.code, u32::from(close.number())),
        other => panic!("{other:?} instead of a refusal with {close}"),
    }
    assert_eq!(quic_closed(&connection).await, Some(close));
}

/// The relay still lets somebody in, and holds nobody who is gone.
async fn is_unharmed(relay: &mut Relay) {
    assert!(relay.is_alive());
    for transport in ["quic", "websocket"] {
        relay.settles(&format!("tandem_relay_connections{{transport=\"{transport}\"}}"), 0.0).await;
    }
    let mut socket = Socket::join(relay, Join::Code(relay.new_code().await)).await;
    assert!(matches!(socket.next().await, Ok(control::Message::Welcome(_))));
}

#[tokio::test]
async fn a_wrong_a_malformed_and_a_used_code() {
    let mut relay = Relay::start(&[]).await;
    let code = relay.code();
    let wrong = format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000);
    is_refused(&relay, Join::Code(wrong), Close::CODE_UNKNOWN).await;
    is_refused(&relay, Join::Code("let me in".into()), Close::CODE_UNKNOWN).await;
    let mut first = Socket::join(&relay, Join::Code(code.clone())).await;
    assert!(matches!(first.next().await, Ok(control::Message::Welcome(_))));
    is_refused(&relay, Join::Code(code), Close::CODE_USED).await;
    drop(first);
    is_unharmed(&mut relay).await;
    assert!(relay.metric("tandem_relay_refused_total{code=\"code_unknown\"}").await >= 4.0);
}

#[tokio::test]
async fn an_expired_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path(), "[desk]\ncode_life_seconds = 1\n");
    let relay = Relay::start(&["--config", &file]).await;
    let cookie = relay.sign_in().await;
    // The desk stops showing a session whose code is over.
    let gone = async {
        while !relay.desk("GET", "/api/v1/sessions", &cookie).await["sessions"].as_array().unwrap().is_empty()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    is_refused(&relay, Join::Code(relay.code()), Close::CODE_EXPIRED).await;
}

#[tokio::test]
async fn a_forged_a_spent_and_a_foreign_token() {
    let mut relay = Relay::start(&[]).await;
    let token = relay.token().await;
    let mut parts: Vec<&str> = token.split('.').collect();
    is_refused(&relay, Join::Token("not a token".into()), Close::TOKEN_INVALID).await;
    let forged = parts[1].replace('e', "f");
    parts[1] = &forged;
    is_refused(&relay, Join::Token(parts.join(".")), Close::TOKEN_INVALID).await;
    let other = Relay::start(&[]).await;
    is_refused(&relay, Join::Token(other.token().await), Close::TOKEN_INVALID).await;
    let mut technician = Socket::join(&relay, Join::Token(token.clone())).await;
    assert!(matches!(technician.next().await, Ok(control::Message::Welcome(_))));
    is_refused(&relay, Join::Token(token), Close::TOKEN_USED).await;
    is_refused(&relay, Join::Ticket(vec![7; 200]), Close::TICKET_INVALID).await;
    assert!(relay.is_alive());
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 1.0).await;
}

#[tokio::test]
async fn garbage_oversized_and_cut_off_messages_on_a_websocket() {
    let mut relay = Relay::start(&[]).await;
    let fragment = |lane: u16, flags: u8, payload: &[u8]| {
        let mut bytes = BytesMut::new();
        bytes.put_u16_le(lane);
        bytes.put_u8(flags);
        bytes.put_u16_le(payload.len() as u16);
        bytes.put_slice(payload);
        Message::Binary(bytes.freeze())
    };
    let ping = control_record(0, control::Message::Ping(Default::default()));
    let early = [
        (Message::Text("hello".into()), Close::PROTOCOL),
        (fragment(0, 0, &[0xff; 60]), Close::PROTOCOL),
        (fragment(2, mux::FIRST, &[1, 0, 0, 0, 1, 0]), Close::PROTOCOL),
        (fragment(0, 0, &ping), Close::PROTOCOL),
        (fragment(0, 0, &[38; 5000]), Close::ADMISSION),
    ];
    for (message, close) in early {
        let mut socket = Socket::connect(&relay).await;
        socket.raw(message.clone()).await;
        assert_eq!(socket.closed().await.map(|(close, _)| close), Some(close), "{message:?}");
    }
    // And once inside.
    let oversized = {
        let mut header = record(types::CONTROL, Sender::RELAY, 0, b"").to_vec();
        header[34..38].copy_from_slice(&(limits::CONTROL_BODY_MAX as u32 + 1).to_le_bytes());
        header
    };
    let cases = [
        (fragment(0, 0, &oversized), Close::LIMIT),
        (fragment(0, 0, &[9; 300]), Close::PROTOCOL),
        (fragment(4, 0, b"lane that nobody opened"), Close::PROTOCOL),
        (fragment(4, mux::FIRST, &[200, 0, 0, 0, 1, 0]), Close::PROTOCOL),
        (Message::Binary(vec![0, 0, 0, 9].into()), Close::PROTOCOL),
        (Message::Text("text".into()), Close::PROTOCOL),
    ];
    for (message, close) in cases {
        let mut socket = Socket::join(&relay, Join::Code(relay.new_code().await)).await;
        assert!(matches!(socket.next().await, Ok(control::Message::Welcome(_))));
        socket.raw(message.clone()).await;
        assert_eq!(socket.closed().await.map(|(close, _)| close), Some(close), "{message:?}");
    }
    // A client that vanishes inside a record takes nothing with it.
    let mut socket = Socket::join(&relay, Join::Code(relay.new_code().await)).await;
    assert!(matches!(socket.next().await, Ok(control::Message::Welcome(_))));
    socket.raw(fragment(0, 0, &ping[..20])).await;
    drop(socket);
    is_unharmed(&mut relay).await;
}

#[tokio::test]
async fn garbage_oversized_and_cut_off_streams_on_quic() {
    let mut relay = Relay::start(&[]).await;
    // Before any Hello.
    let flood = vec![38u8; limits::UNADMITTED_MAX + 1000];
    for (bytes, close) in [(&[0xff; 60][..], Close::PROTOCOL), (&flood, Close::PROTOCOL)] {
        let connection = quic(&relay).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let _ = send.write_all(bytes).await;
        assert_eq!(quic_closed(&connection).await, Some(close));
    }
    // And once inside.
    let opening = |kind, sender| LaneKey::plain(kind, sender).opening().to_vec();
    type Bytes = Box<dyn Fn(Sender) -> Vec<u8>>;
    let cases: [(Bytes, Close); 5] = [
        (Box::new(|_| vec![200, 0, 0, 0, 0, 0]), Close::PROTOCOL),
        (Box::new(move |sender| opening(LaneKind::Input, sender)), Close::FORBIDDEN),
        (Box::new(move |_| opening(LaneKind::Chat, Sender(0))), Close::PROTOCOL),
        (
            Box::new(move |sender| {
                let mut bytes = opening(LaneKind::Chat, sender);
                bytes.extend_from_slice(&[0xff; 64]);
                bytes
            }),
            Close::PROTOCOL,
        ),
        (
            Box::new(move |sender| {
                let mut bytes = opening(LaneKind::Chat, sender);
                let mut header = record(types::CHAT, sender, 0, b"").to_vec();
                header[34..38].copy_from_slice(&u32::MAX.to_le_bytes());
                bytes.extend_from_slice(&header);
                bytes
            }),
            Close::LIMIT,
        ),
    ];
    for (bytes, close) in cases {
        let connection = quic(&relay).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let join = Join::Code(relay.new_code().await);
        send.write_all(&control_record(0, control::Message::Hello(hello(join)))).await.unwrap();
        let welcome = read_control(&mut recv, &mut BytesMut::new()).await;
        let Some(control::Message::Welcome(welcome)) = welcome else { panic!("{welcome:?}") };
        let mut lane = connection.open_uni().await.unwrap();
        lane.write_all(&bytes(Sender(welcome.sender as u16))).await.unwrap();
        assert_eq!(quic_closed(&connection).await, Some(close));
    }
    is_unharmed(&mut relay).await;
}

#[tokio::test]
async fn silence_before_a_hello_is_not_waited_for() {
    let mut relay = Relay::start(&[]).await;
    let mut socket = Socket::connect(&relay).await;
    assert_eq!(socket.closed().await.map(|(close, _)| close), Some(Close::ADMISSION));
    let connection = quic(&relay).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[38]).await.unwrap();
    assert_eq!(quic_closed(&connection).await, Some(Close::ADMISSION));
    is_unharmed(&mut relay).await;
}
