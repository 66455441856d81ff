//! A real relay on a free port, with its desk, for tests: `target/debug/tandem-relay`, which `make test` builds first.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tandem_client::{Event, Events, Handle, Join, Options, Target, Transport};
use tandem_protocol::LaneKind;
use tandem_protocol::message::control;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running relay; dropping it kills it.
pub(crate) struct Relay {
    process: Child,
    state: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) fingerprint: String,
    pub(crate) code: String,
    cookie: String,
    session: String,
}

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("tests have a path");
    let folder = test.ancestors().nth(2).expect("tests lie in target/debug/deps");
    let program = folder.join("tandem-relay");
    assert!(program.exists(), "{} is missing: cargo build -p tandem-relay", program.display());
    program
}

fn launch(state: &std::path::Path, listen: &str) -> (Child, String) {
    let mut process = Command::new(program())
        .args(["serve", "--dev", "--json", "--log", "warn", "--listen", listen, "--state-directory"])
        .arg(state)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the relay starts");
    let mut ready = String::new();
    let out = process.stdout.as_mut().expect("stdout is piped");
    BufReader::new(out).read_line(&mut ready).expect("the relay says that it is ready");
    (process, ready)
}

/// A field of one flat JSON object.
fn field(json: &str, name: &str) -> String {
    let (_, rest) =
        json.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("no {name} in {json}"));
    rest.split('"').next().expect("split has a first").to_owned()
}

impl Relay {
    pub(crate) fn start() -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let (process, ready) = launch(state.path(), "127.0.0.1:0");
        let secret = field(&ready, "console").rsplit('=').next().expect("rsplit has a first").to_owned();
        let mut relay = Self {
            process,
            state,
            url: field(&ready, "relay"),
            fingerprint: field(&ready, "fingerprint"),
            code: field(&ready, "code"),
            cookie: String::new(),
            session: String::new(),
        };
        let answer = relay.http("POST", "/api/v1/sign-in", &format!("{{\"secret\":\"{secret}\"}}"));
        let (_, cookie) = answer.split_once("tandem_desk=").expect("a cookie");
        relay.cookie = cookie.split(';').next().expect("split has a first").to_owned();
        relay.session = field(&relay.http("GET", "/api/v1/sessions", ""), "id");
        relay
    }

    /// Kills it without a warning and starts it again at the same place.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn crash(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        let address = self.url.split("//").nth(1).expect("an address");
        self.process = launch(self.state.path(), address).0;
    }

    fn http(&self, method: &str, path: &str, body: &str) -> String {
        let address = self.url.split("//").nth(1).expect("an address");
        let mut stream = TcpStream::connect(address).expect("the relay accepts");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nCookie: tandem_desk={}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
            self.cookie
        )
        .expect("the request leaves");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// A token of a technician of the first session.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn token(&self) -> Join {
        Join::Token(field(
            &self.http("POST", &format!("/api/v1/sessions/{}/token", self.session), ""),
            "token",
        ))
    }

    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn code(&self) -> Join {
        Join::Code(self.code.parse().expect("a code"))
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(&self.url, vec![self.fingerprint.parse().expect("a fingerprint")]).expect("an address")
    }

    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn join(&self, transport: Transport, join: Join) -> Client {
        let options = Options { transport, ..Options::new(self.target(), join, "test") };
        Client::new(options)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both ends of a client, with words for waiting.
pub(crate) struct Client {
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) handle: Handle,
    pub(crate) events: Events,
}

impl Client {
    pub(crate) fn new(options: Options) -> Self {
        let (handle, events) = tandem_client::start(options);
        Self { handle, events }
    }

    /// The next event that this makes something of.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = async {
            loop {
                let event = self.events.next().await?;
                seen.extend(brief(&event));
                if let Some(found) = wanted(event) {
                    return Some(found);
                }
            }
        };
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("it ended without {what}: {seen:#?}"),
            Err(_) => panic!("no {what} in time: {seen:#?}"),
        }
    }

    pub(crate) async fn connected(&mut self) -> tandem_client::Connected {
        self.until("connection", |event| match event {
            Event::Connected(connected) => Some(connected),
            _ => None,
        })
        .await
    }

    #[allow(dead_code, reason = "not every test does")]
    pub(crate) async fn control<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&control::Message) -> Option<T>,
    ) -> T {
        self.until(what, |event| match event {
            Event::Control(message) => wanted(&message),
            _ => None,
        })
        .await
    }
}

/// An event without the bodies of records, and without what comes sixty times a second.
fn brief(event: &Event) -> Option<String> {
    match event {
        Event::Record { lane, .. } if lane.kind == LaneKind::Screen => None,
        Event::Record { lane, record } => Some(format!("{lane:?} {}", record.header.seq)),
        other => Some(format!("{other:?}")),
    }
}
