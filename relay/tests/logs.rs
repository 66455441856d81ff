//! What a relay leaves in its log: enough to know how a session went, and nothing of what was in it.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::fs::File;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Relay, Socket, control_record, hello, quic, read_control, record};
use tandem_protocol::message::{self, EndReason, Grants, Right, Rights, control, hello::Join, types};
use tandem_protocol::{LaneKey, LaneKind, Sender};

const TYPED: &str = "correct horse battery";
const SAID: &str = "the patient is called";

/// A session by WebSocket in which something is typed and said, a return with a ticket by QUIC, and its end. The log, and what
/// must not be in it.
async fn session(format: &str) -> (String, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = ["--log", "trace", "--log-format", format];
    let mut relay = Relay::start_logging(&log, Stdio::from(File::create(&path).unwrap()), &[]).await;
    let token = relay.token().await;
    let mut secrets = vec![relay.code(), token.clone(), TYPED.into(), SAID.into(), relay.sign_in().await];

    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    let Ok(control::Message::Welcome(welcome)) = customer.next().await else { panic!("not let in") };
    let ticket = welcome.ticket;
    let mut technician = Socket::join(&relay, Join::Token(token)).await;
    let Ok(control::Message::Welcome(welcome)) = technician.next().await else { panic!("not let in") };
    let sender = Sender(welcome.sender.try_into().unwrap());
    let rights = Rights::of(&[Right::View, Right::Control, Right::Chat]).to_wire();
    let grants = Grants { participant: welcome.sender, rights, revision: 1, prompt_open: false };
    customer.say(control::Message::Grants(grants)).await;
    while !matches!(technician.next().await, Ok(control::Message::Roster(roster))
        if roster.participants.iter().any(|one| !one.publisher && !one.rights.is_empty()))
    {}
    for (kind, record_type, text) in
        [(LaneKind::Input, types::TEXT, TYPED), (LaneKind::Chat, types::CHAT, SAID)]
    {
        let lane = technician.outgoing.open(LaneKey::plain(kind, sender), true);
        technician.send(lane, record(record_type, sender, 0, text.as_bytes())).await;
    }
    relay.settles("tandem_relay_forward_seconds_count{lane=\"input\"}", 1.0).await;

    let connection = quic(&relay).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let returns = control::Message::Hello(hello(Join::Ticket(ticket.clone())));
    send.write_all(&control_record(0, returns)).await.unwrap();
    let welcome = read_control(&mut recv, &mut bytes::BytesMut::new()).await;
    assert!(matches!(welcome, Some(control::Message::Welcome(_))), "{welcome:?}");

    technician
        .say(control::Message::End(message::End { reason: EndReason::ClosedByTechnician.into() }))
        .await;
    technician.closed().await;
    relay.settles("tandem_relay_sessions", 0.0).await;
    assert!(Command::new("kill").arg(relay.pid().to_string()).status().unwrap().success());
    assert!(relay.wait().await.success());

    // Bytes that somebody prints as Rust does, or as numbers are usually written.
    let bytes: Vec<Vec<u8>> = vec![TYPED.into(), SAID.into(), ticket[..16].to_vec()];
    for bytes in bytes {
        secrets.push(format!("{bytes:?}").trim_matches(['[', ']']).to_owned());
        secrets.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        secrets.push(STANDARD.encode(&bytes[..15]));
    }
    (std::fs::read_to_string(&path).unwrap(), secrets)
}

#[tokio::test]
async fn a_log_tells_how_a_session_went_and_nothing_of_what_was_in_it() {
    let (log, secrets) = session("text").await;
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    assert_eq!(log.matches(" joined ").count(), 3, "{log}");
    assert_eq!(log.matches(" session ended ").count(), 1);
    assert!(log.contains("DEBUG"), "everything was on that may be");
}

#[tokio::test]
async fn a_log_for_programs_has_a_line_of_totals_for_each_session() {
    let (log, secrets) = session("json").await;
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about =
        |what: &str| lines.iter().filter(move |line| line["fields"]["message"] == what).collect::<Vec<_>>();
    let [end] = about("session ended")[..] else { panic!("one session ended") };
    let field = |name: &str| end["fields"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {end}"));
    assert_eq!((field("participants"), field("resumes")), (2, 1));
    assert_eq!(end["fields"]["why"], "ended");
    for total in [
        "seconds",
        "received_records",
        "received_bytes",
        "sent_records",
        "sent_bytes",
        "skipped",
        "keys",
        "forks",
        "merges",
    ] {
        field(total);
    }
    assert!(field("received_bytes") >= (TYPED.len() + SAID.len()) as u64);
    // Whoever looks for what a connection did finds all of it by its span.
    for joined in about("joined") {
        assert_eq!(joined["span"]["name"], "client", "{joined}");
        assert!(joined["span"]["address"].is_string() && joined["span"]["transport"].is_string(), "{joined}");
        assert_eq!(joined["span"]["session"], end["fields"]["session"]);
    }
}
