//! A relay behind an HTTP proxy: reached through it and no other way, and what is told when that does not work.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Client, Relay};
use tandem_client::{Binding, Event, Options, Proxies, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A small proxy that makes tunnels for who knows the password.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicU32>,
}

impl Proxy {
    async fn start(password: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tunnels = Arc::new(AtomicU32::new(0));
        let made = tunnels.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, password, made.clone()));
            }
        });
        Self { address, tunnels }
    }
}

async fn tunnel(mut client: TcpStream, password: Option<&str>, made: Arc<AtomicU32>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let authority = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let expected =
        password.map(|password| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(password)));
    if expected.is_some_and(|expected| !head.contains(&expected)) {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
        return client.write_all(answer.as_bytes()).await;
    }
    let Ok(mut relay) = TcpStream::connect(authority).await else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    made.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut relay).await.map(|_| ())
}

fn through(relay: &Relay, proxy: &str) -> Client {
    let proxies = Proxies::always(proxy.parse().expect("a proxy"));
    let options = Options::new(relay.target(), relay.code(), "test");
    Client::new(Options { proxies, transport: Transport::Auto, ..options })
}

async fn failure(client: &mut Client) -> String {
    client
        .until("failure", |event| match event {
            Event::Disconnected { why, close: None, .. } => Some(why),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn everything_goes_through_the_proxy_and_comes_back_through_it() {
    let mut relay = Relay::start();
    let proxy = Proxy::start(Some("anna:p@ss")).await;
    let mut client = through(&relay, &format!("http://anna:p%40ss@{}", proxy.address));
    let first = client.connected().await;
    assert_eq!(first.binding, Binding::WebSocket, "QUIC would go past it");
    assert_eq!(proxy.tunnels.load(Ordering::SeqCst), 1);
    relay.crash();
    assert_eq!(client.connected().await.sender, first.sender);
    assert!(proxy.tunnels.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_proxy_is_told() {
    let relay = Relay::start();
    let proxy = Proxy::start(Some("anna:secret")).await;
    let why = failure(&mut through(&relay, &format!("http://{}", proxy.address))).await;
    assert!(why.contains("wants a user name and password (407)"), "{why}");
    let why = failure(&mut through(&relay, &format!("http://anna:wrong@{}", proxy.address))).await;
    assert!(why.contains("does not accept") && !why.contains("wrong"), "{why}");
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let why = failure(&mut through(&relay, &format!("http://{nobody}"))).await;
    assert!(why.contains("cannot be reached"), "{why}");
    // The relay itself, whose port speaks TLS, HTTP and no CONNECT.
    let why = failure(&mut through(&relay, relay.url.trim_start_matches("https://"))).await;
    assert!(
        why.contains("no HTTP proxy") || why.contains("does not connect") || why.contains("ended"),
        "{why}"
    );
    // A proxy that cannot reach the relay.
    let open = Proxy::start(None).await;
    let gone = tandem_client::Target::new(&format!("https://{nobody}"), Vec::new()).expect("an address");
    let proxies = Proxies::always(format!("http://{}", open.address).parse().expect("a proxy"));
    let mut client = Client::new(Options { proxies, ..Options::new(gone, relay.code(), "test") });
    let why = failure(&mut client).await;
    assert!(why.contains("does not connect to") && why.contains("502"), "{why}");
    assert_eq!(proxy.tunnels.load(Ordering::SeqCst), 0);
}
