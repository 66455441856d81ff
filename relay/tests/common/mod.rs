//! A real relay on free ports, and clients that say whatever a test wants.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "a vocabulary of tests: each scenario uses a part of it, and fails by panicking"
)]

pub mod nat;
pub mod people;
pub mod scrape;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use tandem_protocol::message::{Control, Hello, control, hello, types};
use tandem_protocol::mux::{Event, Incoming, LaneId, Outgoing, Side};
use tandem_protocol::{Close, Flags, Header, LaneKey, LaneKind, Record, Sender, limits};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longest time that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A relay of the real binary, ended with this; what it counts must then be even.
pub struct Relay {
    child: Child,
    /// As `serve --dev --json` tells it.
    pub ready: Value,
    /// The technician's, once signed in.
    cookie: tokio::sync::OnceCell<String>,
}

impl Relay {
    /// Starts one on loopback, with further arguments.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_logging(&["--log", "warn"], Stdio::inherit(), arguments).await
    }

    /// Starts one after these words in a shell, which set limits.
    pub async fn start_in(shell: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{shell}\nexec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_tandem-relay")]);
        Self::run(command, &["--log", "warn"], Stdio::inherit(), arguments).await
    }

    /// Starts one whose log goes elsewhere.
    pub async fn start_logging(log: &[&str], stderr: Stdio, arguments: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_tandem-relay"));
        Self::run(command, log, stderr, arguments).await
    }

    async fn run(mut command: Command, log: &[&str], stderr: Stdio, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--dev", "--json"])
            .args(log)
            .stderr(stderr)
            .args(if arguments.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] })
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let ready = serde_json::from_str(&line.expect("the relay ended before it was ready")).unwrap();
        Self { child, ready, cookie: Default::default() }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.ready["relay"].as_str().unwrap().trim_start_matches("https://").to_owned()
    }

    /// The first session's code.
    pub fn code(&self) -> String {
        self.ready["code"].as_str().unwrap().to_owned()
    }

    /// The process, while it runs.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it without a chance to say goodbye.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }

    /// A counter or gauge, by its name with labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let operations = self.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
        let text = http(&operations, "GET", "/metrics", "", "").await.1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in {text}"))
    }

    /// A request to the private listener, answered with head and body.
    pub async fn operations(&self, method: &str, path: &str) -> (String, String) {
        let operations = self.ready["operations"].as_str().unwrap().trim_start_matches("http://");
        http(operations, method, path, "", "").await
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args([name, &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until a metric has a value.
    pub async fn settles(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .unwrap_or_else(|_| panic!("{name} never became {value}"));
    }

    /// The cookie of the technician, who signs in the first time.
    pub async fn sign_in(&self) -> String {
        self.cookie.get_or_init(|| self.spend_secret()).await.clone()
    }

    /// A new session's code.
    pub async fn new_code(&self) -> String {
        let session = self.desk("POST", "/api/v1/sessions", &self.sign_in().await).await;
        session["code"].as_str().unwrap().to_owned()
    }

    async fn spend_secret(&self) -> String {
        let console = self.ready["console"].as_str().unwrap();
        let secret = console.split_once("#secret=").unwrap().1;
        let body = format!("{{\"secret\":\"{secret}\"}}");
        let (head, _) = http(&self.address(), "POST", "/api/v1/sign-in", "", &body).await;
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Calls the desk.
    pub async fn desk(&self, method: &str, path: &str, cookie: &str) -> Value {
        let (_, body) = http(&self.address(), method, path, cookie, "").await;
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// A token for the session of the first code.
    pub async fn token(&self) -> String {
        let cookie = self.sign_in().await;
        let sessions = self.desk("GET", "/api/v1/sessions", &cookie).await;
        let id = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
        let token = self.desk("POST", &format!("/api/v1/sessions/{id}/token"), &cookie).await;
        token["token"].as_str().unwrap().to_owned()
    }
}

/// However a scenario ends, what its relay counts as there is what was opened less what was closed.
impl Drop for Relay {
    fn drop(&mut self) {
        if !std::thread::panicking() && matches!(self.child.try_wait(), Ok(None)) {
            let operations = self.ready["operations"].as_str().unwrap();
            scrape::Scrape::balances(operations.trim_start_matches("http://"));
        }
    }
}

/// One HTTP request, answered with head and body.
pub async fn http(address: &str, method: &str, path: &str, cookie: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncookie: {cookie}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A `Hello` with this reason to join.
pub fn hello(join: hello::Join) -> Hello {
    Hello {
        versions: vec![limits::VERSION],
        attempt_id: rand::random::<[u8; 16]>().to_vec(),
        epoch: 7,
        agent: "scenario".into(),
        join: Some(join),
        ..Default::default()
    }
}

/// A control message as a record.
pub fn control_record(seq: u64, message: control::Message) -> Bytes {
    record(types::CONTROL, Sender::RELAY, seq, &Control::encode_body(message))
}

/// A record of no screen.
pub fn record(record_type: u8, sender: Sender, seq: u64, body: &[u8]) -> Bytes {
    let header = Header {
        record_type,
        flags: Flags::default(),
        sender,
        key_id: 0,
        epoch: 7,
        seq,
        time_us: 0,
        screen: None,
    };
    header.record(body)
}

/// A WebSocket client without any manners of its own.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    incoming: Incoming,
    /// The lanes that it sends on.
    pub outgoing: Outgoing,
    events: std::collections::VecDeque<Event>,
}

impl Socket {
    /// Connects.
    pub async fn connect(relay: &Relay) -> Self {
        let mut request =
            format!("ws://{}{}", relay.address(), limits::CONNECT_PATH).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", limits::WEBSOCKET_PROTOCOL.parse().unwrap());
        let (stream, _) = connect_async(request).await.unwrap();
        Self {
            stream,
            incoming: Incoming::new(Side::Relay),
            outgoing: Outgoing::new(Side::Client),
            events: Default::default(),
        }
    }

    /// Connects and says `Hello`.
    pub async fn join(relay: &Relay, join: hello::Join) -> Self {
        let mut socket = Self::connect(relay).await;
        socket.say(control::Message::Hello(hello(join))).await;
        socket
    }

    /// Sends a control message.
    pub async fn say(&mut self, message: control::Message) {
        let mut record = Some(control_record(0, message));
        let mut bytes = BytesMut::new();
        while self.outgoing.fragment(limits::FRAGMENT_MAX, |_, _| record.take(), &mut bytes).is_some() {}
        self.raw(Message::Binary(bytes.freeze())).await;
    }

    /// Sends a record on a lane that was opened in [`Socket::outgoing`].
    pub async fn send(&mut self, lane: LaneId, record: Bytes) {
        let mut record = Some(record);
        let mut bytes = BytesMut::new();
        let mut next = |id: LaneId, _: LaneKey| if id == lane { record.take() } else { None };
        while self.outgoing.fragment(limits::FRAGMENT_MAX, &mut next, &mut bytes).is_some() {}
        self.raw(Message::Binary(bytes.freeze())).await;
    }

    /// Sends a message as it is; a connection that is closed already takes nothing.
    pub async fn raw(&mut self, message: Message) {
        let _ = self.stream.send(message).await;
    }

    /// Sends a control message, if the connection still takes it.
    pub async fn try_say(&mut self, message: control::Message) -> Result<(), Box<dyn std::error::Error>> {
        let mut record = Some(control_record(0, message));
        let mut bytes = BytesMut::new();
        while self.outgoing.fragment(limits::FRAGMENT_MAX, |_, _| record.take(), &mut bytes).is_some() {}
        Ok(self.stream.send(Message::Binary(bytes.freeze())).await?)
    }

    /// The next control message, or how the connection was closed.
    pub async fn next(&mut self) -> Result<control::Message, Option<(Close, String)>> {
        tokio::time::timeout(PATIENCE, self.next_inner()).await.expect("the relay says nothing")
    }

    async fn next_inner(&mut self) -> Result<control::Message, Option<(Close, String)>> {
        loop {
            if let Event::Record(_, key, record) = self.event().await?
                && key.kind == LaneKind::Control
                && let Some(message) = Control::decode_body(record.body()).unwrap()
            {
                return Ok(message);
            }
        }
    }

    /// What happens next on any lane, or how the connection was closed.
    pub async fn event(&mut self) -> Result<Event, Option<(Close, String)>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.stream.next().await {
                Some(Ok(Message::Binary(message))) => {
                    let events = &mut self.events;
                    self.incoming.message(&message, |event| events.push_back(event)).unwrap();
                }
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    let close = Close::from_websocket(code.into());
                    return Err(close.map(|close| (close, reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Reads on until the connection is closed, and says how.
    pub async fn closed(&mut self) -> Option<(Close, String)> {
        loop {
            if let Err(close) = self.next().await {
                return close;
            }
        }
    }
}

/// Trusts whoever is on loopback.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A QUIC connection without any manners of its own.
pub async fn quic(relay: &Relay) -> quinn::Connection {
    try_quic(relay).await.unwrap()
}

/// The same, if the relay lets it.
pub async fn try_quic(relay: &Relay) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    tls.alpn_protocols = vec![limits::ALPN_QUIC.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.connect_with(config, relay.address().parse().unwrap(), "localhost").unwrap().await
}

/// How a QUIC connection was closed by the relay.
pub async fn quic_closed(connection: &quinn::Connection) -> Option<Close> {
    match tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the relay does not close") {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Some(Close::from_number(close.error_code.into_inner()))
        }
        _ => None,
    }
}

/// Reads records from a QUIC stream.
pub async fn read_control(stream: &mut quinn::RecvStream, buffer: &mut BytesMut) -> Option<control::Message> {
    loop {
        if let Some(record) = Record::split_from(LaneKind::Control, buffer).unwrap() {
            return Control::decode_body(record.body()).unwrap();
        }
        let chunk = tokio::time::timeout(PATIENCE, stream.read_chunk(4096, true)).await.unwrap().ok()??;
        buffer.extend_from_slice(&chunk.bytes);
    }
}

/// A configuration file in a directory of the test's own.
pub fn config(directory: &Path, text: &str) -> String {
    let path = directory.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
