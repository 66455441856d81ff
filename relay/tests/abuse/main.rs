//! Abuse of the real relay: whatever one client does, a neighbour loses no key and sees every picture as it is, memory stays
//! bounded, and afterwards nothing is left of it. With `--nocapture` each scenario says how long the neighbour's rounds took.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod caps;
#[path = "../common/mod.rs"]
mod common;
mod desk;
mod neighbour;
mod process;

use bytes::{BufMut, BytesMut};
use common::{PATIENCE, Relay, Socket, control_record, hello, http, quic, read_control};
use desk::Desk;
use neighbour::Neighbour;
use process::Rest;
use tandem_client::Transport;
use tandem_protocol::message::{Ask, End, Grants, Right, Rights, Visible, Want, control, hello::Join, types};
use tandem_protocol::token::TokenRole;
use tandem_protocol::{
    Close, DisplayId, Flags, Header, LaneKey, LaneKind, Rendition, ScreenHeader, ScreenKind, Sender, limits,
    mux,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const MIB: u64 = 1 << 20;

/// A relay with a neighbour, before anything happens.
struct Scene {
    relay: Relay,
    desk: Desk,
    neighbour: Neighbour,
    rest: Rest,
}

impl Scene {
    async fn new(limits: &str) -> Self {
        Self::in_shell(limits, "", Transport::Quic).await
    }

    async fn in_shell(limits: &str, shell: &str, transport: Transport) -> Self {
        let desk = Desk::new();
        let relay = desk.relay(limits, shell).await;
        let neighbour = Neighbour::move_in(&relay, &desk, transport).await;
        let rest = Rest::of(&relay).await;
        Self { relay, desk, neighbour, rest }
    }

    fn join(&self, session: &str, role: TokenRole) -> Join {
        Join::Token(self.desk.token(session, "attackers", role))
    }

    /// Somebody on a WebSocket who is in this session, and the number that it has there.
    async fn socket(&self, session: &str, role: TokenRole) -> (Socket, Sender) {
        let mut socket = Socket::join(&self.relay, self.join(session, role)).await;
        match socket.next().await.unwrap() {
            control::Message::Welcome(welcome) => (socket, Sender(welcome.sender as u16)),
            other => panic!("{other:?}"),
        }
    }

    /// The same on QUIC, with its control stream.
    async fn quic(&self, session: &str, role: TokenRole) -> (quinn::Connection, Control, Sender) {
        let connection = quic(&self.relay).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let hello = hello(self.join(session, role));
        send.write_all(&control_record(0, control::Message::Hello(hello))).await.unwrap();
        match read_control(&mut recv, &mut BytesMut::new()).await {
            Some(control::Message::Welcome(welcome)) => {
                (connection, Control { send, _recv: recv }, Sender(welcome.sender as u16))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The neighbour goes on, the relay has not grown by more than so much, and once all is over nothing is left.
    async fn ends(mut self, name: &str, growth: u64) {
        let grown = process::memory(&self.relay).saturating_sub(self.rest.memory);
        assert!(grown <= growth, "{name}: the relay has grown by {} MiB", grown / MIB);
        self.neighbour.lives(5).await;
        self.rest.comes_back(&self.relay).await;
        self.neighbour.moves_out(name).await;
        for transport in ["quic", "websocket", "webtransport"] {
            self.relay.settles(&format!("tandem_relay_connections{{transport=\"{transport}\"}}"), 0.0).await;
        }
        self.relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
        assert!(self.relay.is_alive());
    }
}

/// Both directions of a control stream, of which nothing is read.
struct Control {
    send: quinn::SendStream,
    _recv: quinn::RecvStream,
}

/// Waits until somebody has been closed by the relay.
async fn is_closed(connection: &quinn::Connection) -> Option<Close> {
    common::quic_closed(connection).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_are_slow_before_being_admitted() {
    let mut scene = Scene::new("").await;
    let address = scene.relay.address();
    let upgrade = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: {}\r\n\r\n",
        limits::CONNECT_PATH,
        limits::WEBSOCKET_PROTOCOL
    );
    let fragment = [upgrade.as_bytes(), &[0x02, 0x80 | 40, 0, 0, 0, 0, 9]].concat();
    let beginnings: [&[u8]; 6] = [
        b"",
        &[22, 3, 1, 2, 0, 1, 0, 1, 252],
        b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        upgrade.as_bytes(),
        &fragment,
    ];
    let mut slow = Vec::new();
    for at in 0..600 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(beginnings[at % beginnings.len()]).await;
        slow.push(stream);
    }
    // A byte now and then buys nobody more time.
    let mut drips = tokio::time::interval(std::time::Duration::from_millis(500));
    let mut open = slow;
    while !open.is_empty() {
        drips.tick().await;
        let mut still = Vec::new();
        for mut stream in open {
            let mut answer = [0; 4096];
            let ended = loop {
                match stream.try_read(&mut answer) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
                }
            };
            if !ended && stream.write_all(b"a").await.is_ok() {
                still.push(stream);
            }
        }
        open = still;
        scene.neighbour.lives(1).await;
    }
    scene.ends("slow before being admitted", 48 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_reset_without_end() {
    let mut scene = Scene::new("").await;
    for resets in [true, false, true, false] {
        let (connection, _control, sender) = scene.quic(&Desk::session(), TokenRole::Customer).await;
        let flood = async {
            for n in 0u32.. {
                let Ok(mut stream) = connection.open_uni().await else { return };
                let _ = stream.set_priority(n as i32);
                if resets {
                    let _ = stream.reset(7u32.into());
                } else {
                    // Each a lane that takes the place of the one before.
                    let _ = stream.write_all(&LaneKey::plain(LaneKind::Chat, sender).opening()).await;
                    let _ = stream.finish();
                }
            }
        };
        let (close, ()) = tokio::join!(is_closed(&connection), flood);
        assert_eq!(close, Some(Close::LIMIT), "resets: {resets}");
        scene.neighbour.lives(2).await;
    }
    // Before being admitted there is no more than flow control allows, and then no more time.
    let connection = quic(&scene.relay).await;
    let mut opened = Vec::new();
    let flood = async {
        while let Ok(mut stream) = connection.open_uni().await {
            let _ = stream.write_all(&[0; 64]).await;
            opened.push(stream);
        }
    };
    let (close, ()) = tokio::join!(is_closed(&connection), flood);
    assert_eq!(close, Some(Close::ADMISSION));
    scene.ends("streams opened and reset", 48 * MIB).await;
}

/// The next update of a publisher's screen.
fn update(sender: Sender, seq: u64, body: &[u8]) -> bytes::Bytes {
    let kind = if seq == 0 { ScreenKind::Start { from: None } } else { ScreenKind::Update };
    let screen = ScreenHeader { display: DisplayId(0), rendition: Rendition::LIVE, segment: 1, kind };
    let header = Header {
        record_type: types::SCREEN,
        flags: Flags::default(),
        sender,
        key_id: 0,
        epoch: 7,
        seq,
        time_us: 0,
        screen: Some(screen),
    };
    header.record(body)
}

/// A customer on QUIC, and its screen lane, granting everything to these.
async fn publisher(
    scene: &Scene,
    session: &str,
    watchers: &[Sender],
) -> (quinn::Connection, Control, quinn::SendStream, Sender) {
    let (connection, mut control, sender) = scene.quic(session, TokenRole::Customer).await;
    for (at, watcher) in watchers.iter().enumerate() {
        let rights = Rights::of(&[Right::View, Right::Control]).to_wire();
        let grants =
            Grants { participant: watcher.0.into(), rights, revision: at as u64 + 1, prompt_open: false };
        control
            .send
            .write_all(&control_record(at as u64 + 1, control::Message::Grants(grants)))
            .await
            .unwrap();
    }
    let mut lane = connection.open_uni().await.unwrap();
    let key = LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, sender);
    lane.write_all(&key.opening()).await.unwrap();
    (connection, control, lane, sender)
}

/// Waits until so many records of screens have come, of whomever.
async fn has_received(relay: &Relay, records: f64) {
    let name = "tandem_relay_received_records_total{lane=\"screen\",transport=\"quic\"}";
    let received = async { while relay.metric(name).await < records {} };
    tokio::time::timeout(3 * PATIENCE, received).await.expect("they never come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tiny_updates_that_nobody_takes() {
    // The rate is lifted, since at its default this would take minutes.
    let mut scene = Scene::new("records_per_second = 100000000").await;
    let session = Desk::session();
    let (mut watcher, number) = scene.socket(&session, TokenRole::Lead).await;
    watcher.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true })).await;
    let (connection, _control, mut lane, sender) = publisher(&scene, &session, &[number]).await;
    let mut batch = BytesMut::new();
    for seq in 0..1_000_000 {
        batch.put_slice(&update(sender, seq, b"!"));
        if batch.len() > 32 << 10 {
            lane.write_all(&batch.split()).await.unwrap();
        }
    }
    lane.write_all(&batch).await.unwrap();
    lane.finish().unwrap();
    tokio::time::timeout(PATIENCE, lane.stopped()).await.expect("the relay stops reading").unwrap();
    has_received(&scene.relay, 1_000_000.0).await;
    scene.neighbour.lives(5).await;
    assert!(scene.relay.metric("tandem_relay_held_bytes").await <= limits::HELD_SEGMENT_MAX as f64);
    connection.close(1u32.into(), b"");
    drop(watcher);
    scene.ends("a million tiny updates", 96 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_control_messages_beyond_the_rate() {
    let mut scene = Scene::new("records_per_second = 1000\ncontrol_messages_per_second = 1000").await;
    let session = Desk::session();
    let (connection, _control, mut lane, sender) = publisher(&scene, &session, &[]).await;
    let floods = async {
        for seq in 0u64.. {
            lane.write_all(&update(sender, seq, b"!")).await.unwrap();
        }
    };
    let slowed =
        async { while scene.relay.metric("tandem_relay_slowed_total{reason=\"records\"}").await == 0.0 {} };
    tokio::select! {
        slowed = tokio::time::timeout(PATIENCE, slowed) => slowed.expect("its records are not slowed down"),
        () = floods => {}
    }
    // Everything that a subscriber may say, over and over, without reading a word.
    let (mut talker, _) = scene.socket(&session, TokenRole::Lead).await;
    let flood = async {
        for n in 0u32.. {
            let rights = Rights::of(&[if n % 2 == 0 { Right::View } else { Right::Chat }]).to_wire();
            let messages = [
                control::Message::Visible(Visible { display: n % 16, visible: n % 3 > 0, focused: true }),
                control::Message::Want(Want {
                    display: n % 16,
                    on: true,
                    start: true,
                    key: true,
                    ..Default::default()
                }),
                control::Message::Ask(Ask { rights, ..Default::default() }),
                control::Message::Feedback(Default::default()),
                control::Message::Ping(Default::default()),
            ];
            for message in messages {
                if talker.try_say(message).await.is_err() {
                    return;
                }
            }
        }
    };
    let slowed =
        async { while scene.relay.metric("tandem_relay_slowed_total{reason=\"control\"}").await == 0.0 {} };
    // It is slowed down, or closed, since it reads nothing.
    let slowed = tokio::time::timeout(PATIENCE, slowed);
    tokio::select! {
        slowed = slowed => slowed.expect("it is neither slowed down nor closed"),
        () = flood => {
            scene.relay.settles("tandem_relay_closed_total{code=\"stalled\",transport=\"websocket\"}", 1.0).await;
        }
    }
    scene.neighbour.lives(20).await;
    connection.close(1u32.into(), b"");
    drop(talker);
    scene.ends("control messages beyond the rate", 48 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_never_read_and_never_acknowledge() {
    let mut scene = Scene::new("memory_per_tenant_mib = 24").await;
    let session = Desk::session();
    let mut watchers = Vec::new();
    let mut numbers = Vec::new();
    for at in 0..10 {
        let role = if at == 0 { TokenRole::Lead } else { TokenRole::Collaborator };
        let (mut socket, number) = scene.socket(&session, role).await;
        socket.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true })).await;
        numbers.push(number);
        watchers.push(socket);
    }
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (connection, mut control, number) = scene.quic(&session, TokenRole::Collaborator).await;
        let visible = Visible { display: 0, visible: true, focused: true };
        control.send.write_all(&control_record(1, control::Message::Visible(visible))).await.unwrap();
        numbers.push(number);
        streams.push((connection, control));
    }
    let (connection, _control, mut lane, sender) = publisher(&scene, &session, &numbers).await;
    let body = vec![0x5a; 64 << 10];
    for seq in 0..1600 {
        lane.write_all(&update(sender, seq, &body)).await.unwrap();
    }
    has_received(&scene.relay, 1600.0).await;
    // A hundred megabytes have gone by. The others' memory is their own affair, this tenant's is bounded.
    scene.neighbour.lives(5).await;
    assert!(
        scene.relay.metric("tandem_relay_held_bytes").await <= (limits::HELD_SEGMENT_MAX + (1 << 20)) as f64
    );
    connection.close(1u32.into(), b"");
    drop((watchers, streams));
    scene.ends("subscribers that never read", 96 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_has_used_up_its_memory_and_its_sessions() {
    let scene =
        Scene::new("memory_per_tenant_mib = 2\nsessions_per_tenant = 2\nparticipants = 3\ndisplays = 2")
            .await;
    let session = Desk::session();
    let (_lead, number) = scene.socket(&session, TokenRole::Lead).await;
    let (connection, _control, mut lane, sender) = publisher(&scene, &session, &[number]).await;
    let refused = async |session: &str, role| {
        let mut socket = Socket::join(&scene.relay, scene.join(session, role)).await;
        match socket.next().await.unwrap() {
            control::Message::Refused(refused) => Some(Close::from_number(refused.code.into())),
            _ => None,
        }
    };
    let (third, _) = scene.socket(&session, TokenRole::Monitor).await;
    assert_eq!(refused(&session, TokenRole::Monitor).await, Some(Close::LIMIT), "a fourth participant");
    let (other, _) = scene.socket(&Desk::session(), TokenRole::Lead).await;
    assert_eq!(refused(&Desk::session(), TokenRole::Lead).await, Some(Close::OVERLOADED), "a third session");
    // What is held for who does not take it uses the memory up.
    let mut watcher = third;
    watcher.say(control::Message::Visible(Visible { display: 0, visible: true, focused: true })).await;
    let body = vec![0x5a; 256 << 10];
    for seq in 0..40 {
        lane.write_all(&update(sender, seq, &body)).await.unwrap();
    }
    let foreign = Join::Token(scene.desk.token(&session, "neighbours", TokenRole::Monitor));
    let mut spy = Socket::join(&scene.relay, foreign).await;
    assert_eq!(
        spy.closed().await.map(|(close, _)| close),
        Some(Close::FORBIDDEN),
        "another tenant's session"
    );
    assert!(scene.relay.metric("tandem_relay_held_bytes").await <= (3 * MIB) as f64);
    // Two displays, and no third.
    for display in 1..3 {
        let mut lane = connection.open_uni().await.unwrap();
        let key = LaneKey::screen(LaneKind::Screen, DisplayId(display), Rendition::LIVE, sender);
        lane.write_all(&key.opening()).await.unwrap();
    }
    assert_eq!(is_closed(&connection).await, Some(Close::LIMIT));
    drop((watcher, other, spy));
    scene.ends("a tenant at its end", 48 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_descriptors() {
    let mut scene = Scene::in_shell("", "ulimit -n 100", Transport::Auto).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(scene.relay.address()).await.unwrap());
    }
    scene.neighbour.lives(5).await;
    let turned = scene.relay.metric("tandem_relay_turned_away_total{reason=\"descriptors\"}").await;
    assert!(turned >= 200.0, "{turned}");
    let (connection, _control, _) = scene.quic(&Desk::session(), TokenRole::Customer).await;
    connection.close(1u32.into(), b"");
    drop(idle);
    // Then there is room again.
    scene.relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
    let (socket, _) = scene.socket(&Desk::session(), TokenRole::Customer).await;
    drop(socket);
    scene.ends("out of descriptors", 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_in_the_state_directory() {
    // No file may become larger than 4 KiB; the signal that comes with that is ignored, as a disk sends none.
    let shell = "trap '' XFSZ; ulimit -f 8";
    let mut scene = Scene::in_shell("", shell, Transport::Quic).await;
    let operations =
        scene.relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let revoke = async |token: &str| {
        let body = format!("{{\"token\":\"{token}\"}}");
        http(&operations, "POST", "/v1/revoke", "", &body).await.0.split(' ').nth(1).unwrap().to_owned()
    };
    let mut kept = 0;
    while revoke(&format!("token number {kept}")).await == "204" {
        kept += 1;
        assert!(kept < 200, "the disk is never full");
    }
    assert!(kept > 0);
    // In force it is nevertheless, the file is that of before, and everything goes on.
    let token = scene.desk.token(&Desk::session(), "attackers", TokenRole::Lead);
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: tandem_protocol::token::Claims = serde_json::from_slice(&claims).unwrap();
    assert_eq!(revoke(&claims.jti).await, "507");
    let mut refused = Socket::join(&scene.relay, Join::Token(token)).await;
    assert_eq!(refused.closed().await.map(|(close, _)| close), Some(Close::REVOKED));
    let file = std::fs::read(format!("{}/revoked.json", scene.desk.state())).unwrap();
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&file).unwrap();
    assert_eq!(lines.len(), kept);
    let (socket, _) = scene.socket(&Desk::session(), TokenRole::Customer).await;
    scene.neighbour.lives(5).await;
    drop((socket, refused));
    scene.ends("a full disk", 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_sessions_nothing_is_left() {
    const SESSIONS: usize = 10_000;
    const AT_ONCE: usize = 20;
    let mut scene = Scene::new("").await;
    let end = || control::Message::End(End::default());
    let over_sockets = async |count: usize| {
        for _ in 0..count {
            let (mut socket, _) = scene.socket(&Desk::session(), TokenRole::Customer).await;
            socket.say(end()).await;
            assert_eq!(socket.closed().await.map(|(close, _)| close), Some(Close::ENDED));
        }
    };
    let over_quic = async |count: usize| {
        for _ in 0..count {
            let (connection, mut control, _) = scene.quic(&Desk::session(), TokenRole::Customer).await;
            control.send.write_all(&control_record(1, end())).await.unwrap();
            assert_eq!(is_closed(&connection).await, Some(Close::ENDED));
        }
    };
    let some = SESSIONS / AT_ONCE / 20;
    let everybody = (0..AT_ONCE).map(|_| async {
        over_quic(some).await;
        over_sockets(SESSIONS / AT_ONCE - some).await;
    });
    futures_util::future::join_all(everybody).await;
    scene.neighbour.lives(5).await;
    scene.relay.settles("tandem_relay_sessions", 1.0).await;
    let total = scene.relay.metric("tandem_relay_connections_total{transport=\"websocket\"}").await;
    assert_eq!(total as usize, SESSIONS - AT_ONCE * some);
    scene.ends("ten thousand sessions", 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_http_2_and_an_answer_is_not_held_open() {
    let scene = Scene::new("").await;
    let mut stream = TcpStream::connect(scene.relay.address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 505"),
        "{answer}"
    );
    // Requests without end, of which no answer is read.
    let mut stream = TcpStream::connect(scene.relay.address()).await.unwrap();
    let request = b"GET /.well-known/tandem HTTP/1.1\r\nhost: x\r\n\r\n";
    let flood = async { while stream.write_all(request).await.is_ok() {} };
    tokio::time::timeout(2 * PATIENCE, flood).await.expect("it is never closed");
    scene.ends("answers that nobody reads", 32 * MIB).await;
}

/// A fragment without any sense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_and_lanes_without_end_on_a_websocket() {
    let mut scene = Scene::new("").await;
    let (mut socket, sender) = scene.socket(&Desk::session(), TokenRole::Customer).await;
    let opening = LaneKey::plain(LaneKind::Chat, sender).opening();
    let mut lanes = BytesMut::new();
    for _ in 0..1000 {
        lanes.put_u16_le(2);
        lanes.put_u8(mux::FIRST | mux::FIN);
        lanes.put_u16_le(opening.len() as u16);
        lanes.put_slice(&opening);
    }
    socket.raw(Message::Binary(lanes.freeze())).await;
    assert_eq!(socket.closed().await.map(|(close, _)| close), Some(Close::LIMIT));
    drop(socket);
    scene.neighbour.lives(5).await;
    scene.ends("lanes without end", 32 * MIB).await;
}
