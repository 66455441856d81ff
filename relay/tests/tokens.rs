//! Tokens of a desk elsewhere at the real relay: keys that change, ends that are kept, and what an operator withdraws.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use aws_lc_rs::signature::Ed25519KeyPair;
use common::{PATIENCE, Relay, Socket, config, http};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use tandem_protocol::message::{Hello, control, hello::Join};
use tandem_protocol::token::to_be_signed;
use tandem_protocol::{AttemptId, Close};

const OTHER: &str = "aa0102030405060708090a0b0c0d0e0f";
const SESSION: &str = "000102030405060708090a0b0c0d0e0f";

/// `tandem-relay token …`: whether it worked, and what it said.
fn token(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tandem-relay")).arg("token").args(arguments).output().unwrap();
    let text = if output.status.success() { &output.stdout } else { &output.stderr };
    (output.status.success(), String::from_utf8_lossy(text).trim().to_owned())
}

/// A desk: a directory of keys, and a relay that has their public halves.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("keys")).unwrap();
        let desk = Self { directory };
        desk.add_key("one");
        desk
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn add_key(&self, name: &str) {
        let (made, text) = token(&["key", &self.path(""), "--name", name]);
        assert!(made, "{text}");
        let public = format!("{name}.pem");
        std::fs::rename(self.path(&public), self.path(&format!("keys/{public}"))).unwrap();
    }

    async fn relay(&self) -> Relay {
        let text = format!("[tokens]\ndirectory = \"{}\"\n", self.path("keys"));
        let file = config(Path::new(&self.path("")), &text);
        Relay::start(&["--config", &file, "--state-directory", &self.path("state")]).await
    }

    /// A token; without arguments one for a new session.
    fn mint(&self, key: &str, arguments: &[&str]) -> Join {
        let key = self.path(&format!("{key}.key"));
        let name = format!("person {}", rand::random::<u32>());
        let fixed = ["mint", "--key", &key, "--name", &name];
        let session: &[&str] = match arguments {
            [] => &["--role", "lead"],
            _ if arguments.contains(&"--session") => &[],
            _ => &["--session", SESSION],
        };
        let (minted, text) = token(&[&fixed[..], session, arguments].concat());
        assert!(minted, "{text}");
        Join::Token(text)
    }
}

/// Joins: the connection and its ticket, or the code of the refusal.
async fn join(relay: &Relay, join: Join) -> Result<(Socket, Vec<u8>), Close> {
    let mut socket = Socket::join(relay, join).await;
    match socket.next().await.unwrap() {
        control::Message::Welcome(welcome) => Ok((socket, welcome.ticket)),
        control::Message::Refused(refused) => Err(Close::from_number(refused.code.into())),
        other => panic!("{other:?}"),
    }
}

/// Posts to the operations listener: the status.
async fn operate(relay: &Relay, method: &str, path: &str, body: &str) -> u16 {
    let operations = relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let (head, _) = http(&operations, method, path, "", body).await;
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn closes(socket: &mut Socket, close: Close) {
    assert_eq!(socket.closed().await.map(|(close, _)| close), Some(close));
}

#[tokio::test]
async fn keys_come_and_go_while_the_relay_runs() {
    let desk = Desk::new();
    let relay = desk.relay().await;
    assert!(join(&relay, desk.mint("one", &[])).await.is_ok());
    let foreign = ["--role", "lead", "--kid", "two"];
    assert_eq!(join(&relay, desk.mint("one", &foreign)).await.err(), Some(Close::TOKEN_INVALID));
    let elsewhere = ["--role", "lead", "--audience", "another"];
    assert_eq!(join(&relay, desk.mint("one", &elsewhere)).await.err(), Some(Close::TOKEN_INVALID));
    // A file that is no key changes nothing, and says so in `doctor` and the log only.
    std::fs::write(desk.path("keys/three.pem"), "no key").unwrap();
    assert!(join(&relay, desk.mint("one", &[])).await.is_ok());
    std::fs::remove_file(desk.path("keys/three.pem")).unwrap();
    desk.add_key("two");
    let reached = async { while join(&relay, desk.mint("two", &[])).await.is_err() {} };
    tokio::time::timeout(PATIENCE, reached).await.expect("the new key is never taken");
    assert!(join(&relay, desk.mint("one", &[])).await.is_ok(), "both are good");
    std::fs::remove_file(desk.path("keys/one.pem")).unwrap();
    let left = async { while join(&relay, desk.mint("one", &[])).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, left).await.expect("the old key is taken for ever");
    assert!(join(&relay, desk.mint("two", &[])).await.is_ok());
}

/// Who has stolen a bound token, and even the proof that came with it, cannot join by it.
#[tokio::test]
async fn a_bound_token_is_good_for_who_has_its_key() {
    let desk = Desk::new();
    let relay = desk.relay().await;
    let (made, text) = token(&["key", &desk.path(""), "--name", "anna"]);
    assert!(made, "{text}");
    let key = PrivatePkcs8KeyDer::from_pem_file(desk.path("anna.key")).unwrap();
    let anna = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let other = Ed25519KeyPair::generate().unwrap();
    let bound = ["--role", "lead", "--bind", &desk.path("anna.pem")];
    let Join::Token(minted) = desk.mint("one", &bound) else { unreachable!("a desk mints tokens") };
    let greeting = |proof: &dyn Fn(&Hello) -> Vec<u8>| {
        let mut hello = common::hello(Join::Token(minted.clone()));
        hello.proof = proof(&hello);
        hello
    };
    let sign = |key: &Ed25519KeyPair, hello: &Hello, token: &str| {
        let attempt = AttemptId::try_from(&hello.attempt_id[..]).unwrap();
        key.sign(&to_be_signed(attempt, hello.epoch, token)).as_ref().to_vec()
    };
    let good = greeting(&|hello| sign(&anna, hello, &minted));
    let wrong = [
        greeting(&|_| Vec::new()),
        greeting(&|_| vec![7; 64]),
        greeting(&|hello| sign(&other, hello, &minted)),
        greeting(&|hello| sign(&anna, hello, "another token")),
        // Of another attempt.
        greeting(&|_| good.proof.clone()),
    ];
    for hello in wrong {
        let mut socket = Socket::connect(&relay).await;
        socket.say(control::Message::Hello(hello)).await;
        assert_eq!(socket.closed().await.map(|(close, _)| close), Some(Close::TOKEN_INVALID));
    }
    let mut socket = Socket::connect(&relay).await;
    socket.say(control::Message::Hello(good)).await;
    assert!(matches!(socket.next().await, Ok(control::Message::Welcome(_))));
}

#[tokio::test]
async fn the_end_that_a_token_names_is_kept() {
    let desk = Desk::new();
    let relay = desk.relay().await;
    let (mut lead, _) = join(&relay, desk.mint("one", &["--role", "lead"])).await.unwrap();
    let short = ["--role", "collaborator", "--ends-in", "2"];
    let (mut guest, ticket) = join(&relay, desk.mint("one", &short)).await.unwrap();
    closes(&mut guest, Close::TIME_OVER).await;
    assert_eq!(join(&relay, Join::Ticket(ticket)).await.err(), Some(Close::TIME_OVER));
    let over = ["--role", "monitor", "--ends-in", "0"];
    assert_eq!(join(&relay, desk.mint("one", &over)).await.err(), Some(Close::TIME_OVER));
    // The customer's end is everybody's.
    let customer = ["--role", "customer", "--ends-in", "2"];
    let (mut customer, _) = join(&relay, desk.mint("one", &customer)).await.unwrap();
    closes(&mut customer, Close::TIME_OVER).await;
    closes(&mut lead, Close::TIME_OVER).await;
    relay.settles("tandem_relay_sessions", 0.0).await;
}

#[tokio::test]
async fn what_is_withdrawn_is_closed_at_once_and_refused_afterwards_on_the_next_relay_too() {
    let desk = Desk::new();
    let relay = desk.relay().await;
    let lead = desk.mint("one", &["--role", "lead"]);
    let Join::Token(text) = &lead else { unreachable!() };
    let (_, shown) = token(&["inspect", text, "--keys", &desk.path("keys")]);
    assert!(shown.contains("takes it now") && shown.contains(SESSION), "{shown}");
    let jti = shown.lines().find_map(|line| line.trim().strip_prefix("\"jti\": \"")).unwrap();
    let jti = jti.trim_end_matches(['"', ',']).to_owned();
    let (mut lead, lead_ticket) = join(&relay, lead).await.unwrap();
    let (mut customer, customer_ticket) =
        join(&relay, desk.mint("one", &["--role", "customer"])).await.unwrap();
    // By token: the lead alone.
    assert_eq!(operate(&relay, "POST", "/v1/revoke", &format!("{{\"token\":\"{jti}\"}}")).await, 204);
    closes(&mut lead, Close::REVOKED).await;
    assert_eq!(join(&relay, Join::Ticket(lead_ticket.clone())).await.err(), Some(Close::REVOKED));
    customer.say(control::Message::Ping(Default::default())).await;
    while !matches!(customer.next().await.unwrap(), control::Message::Pong(_)) {}
    // By session: everybody.
    let (mut other, _) = join(&relay, desk.mint("one", &["--role", "collaborator"])).await.unwrap();
    assert_eq!(operate(&relay, "POST", "/v1/revoke", &format!("{{\"session\":\"{SESSION}\"}}")).await, 204);
    closes(&mut customer, Close::REVOKED).await;
    closes(&mut other, Close::REVOKED).await;
    relay.settles("tandem_relay_sessions", 0.0).await;
    // By tenant: whatever the session.
    let elsewhere =
        ["--role", "customer", "--tenant", "acme", "--session", "ff0102030405060708090a0b0c0d0e0f"];
    let acme = |desk: &Desk| {
        let key = desk.path("one.key");
        let fixed = ["mint", "--key", &key, "--name", "Anna"];
        Join::Token(token(&[&fixed[..], &elsewhere].concat()).1)
    };
    let (mut anna, anna_ticket) = join(&relay, acme(&desk)).await.unwrap();
    assert_eq!(operate(&relay, "POST", "/v1/revoke", "{\"tenant\":\"acme\"}").await, 204);
    closes(&mut anna, Close::REVOKED).await;
    // It outlives the relay.
    relay.kill().await;
    let relay = desk.relay().await;
    for ticket in [lead_ticket, customer_ticket, anna_ticket] {
        assert_eq!(join(&relay, Join::Ticket(ticket)).await.err(), Some(Close::REVOKED));
    }
    assert_eq!(join(&relay, desk.mint("one", &["--role", "lead"])).await.err(), Some(Close::REVOKED));
    assert_eq!(join(&relay, acme(&desk)).await.err(), Some(Close::REVOKED));
    // Until the operator thinks better of it.
    assert_eq!(operate(&relay, "DELETE", "/v1/revoke", "{\"tenant\":\"acme\"}").await, 204);
    assert_eq!(operate(&relay, "DELETE", "/v1/revoke", "{\"tenant\":\"acme\"}").await, 404);
    assert!(
        join(&relay, desk.mint("one", &["--role", "customer", "--tenant", "acme", "--session", OTHER]))
            .await
            .is_ok()
    );
    for nonsense in
        ["{}", "{\"session\":\"all\"}", "{\"tenant\":\"a\",\"token\":\"b\"}", "{\"tenants\":\"a\"}"]
    {
        assert_eq!(operate(&relay, "POST", "/v1/revoke", nonsense).await, 422, "{nonsense}");
    }
}

#[test]
fn a_token_is_shown_and_doubted() {
    let desk = Desk::new();
    let Join::Token(good) = desk.mint("one", &["--role", "lead", "--rights", "view,chat"]) else {
        unreachable!()
    };
    let (_, shown) = token(&["inspect", &good]);
    assert!(shown.contains("kid          one") && shown.contains("\"chat\""), "{shown}");
    std::fs::remove_file(desk.path("keys/one.pem")).unwrap();
    let (fine, text) = token(&["inspect", &good, "--keys", &desk.path("keys")]);
    assert!(!fine && text.contains("no known key"), "{text}");
    assert!(!token(&["inspect", "nonsense"]).0);
    assert!(!token(&["key", &desk.path(""), "--name", "one"]).0, "a key is never overwritten");
    assert!(
        token(&["mint", "--key", &desk.path("nowhere"), "--role", "lead", "--name", "A"])
            .1
            .contains("nowhere")
    );
}
