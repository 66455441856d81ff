//! The commands beside `serve`, as an operator types them.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::process::Command;

use common::{Relay, Socket, config};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tandem_protocol::Close;
use tandem_protocol::message::{control, hello::Join};

/// Exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-relay"));
    let output = command.args(arguments).env("TANDEM_UDP", "true").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// [`run`] beside a relay of the same test.
async fn run_beside(arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn operations(relay: &Relay) -> String {
    relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn sessions_are_listed_for_people_and_for_programs() {
    let relay = Relay::start(&[]).await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    assert!(matches!(customer.next().await, Ok(control::Message::Welcome(_))));
    let operations = operations(&relay);
    let (code, json, _) = run_beside(&["sessions", "--json", "--operations", &operations]).await;
    assert_eq!(code, 0);
    let sessions: Value = serde_json::from_str(&json).unwrap();
    let [session] = &sessions.as_array().unwrap()[..] else { panic!("{sessions}") };
    assert_eq!(session["state"], "waiting");
    let participant = &session["participants"][0];
    assert_eq!(participant["role"], "customer");
    assert_eq!((&participant["online"], &participant["transport"]), (&true.into(), &"websocket".into()));
    assert!(!json.contains(&relay.code()), "a code is for the customer alone");
    let (code, table, _) = run_beside(&["sessions", "--operations", &operations]).await;
    assert_eq!(code, 0);
    assert!(table.starts_with("SESSION ") && table.ends_with("1 sessions\n"), "{table}");
    assert!(table.contains(session["session"].as_str().unwrap()) && table.contains("websocket"));
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_said_so() {
    let relay = Relay::start(&[]).await;
    let operations = operations(&relay);
    relay.kill().await;
    for command in ["sessions", "drain"] {
        let (code, _, text) = run(&[command, "--operations", &operations]);
        assert_eq!(code, 1);
        assert!(text.contains(&operations) && text.contains("no relay answers"), "{text}");
    }
}

#[tokio::test]
async fn a_relay_is_taken_out_of_service_and_its_end_awaited() {
    let mut relay = Relay::start(&[]).await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    assert!(matches!(customer.next().await, Ok(control::Message::Welcome(_))));
    let operations = operations(&relay);
    // The customer has nowhere to go and stays: a minute is enough to see that.
    let (code, said, _) = run_beside(&["drain", "--deadline", "60", "--operations", &operations]).await;
    assert_eq!(
        (code, said.as_str()),
        (0, "leaving service: 1 sessions, 1 connections, for at most 60 s more\n")
    );
    assert_eq!(relay.metric("tandem_relay_draining").await, 1.0);
    // Now it has a second.
    let (code, said, _) =
        run_beside(&["drain", "--deadline", "1", "--wait", "20", "--operations", &operations]).await;
    assert!(code == 0 && said.ends_with("the relay has ended\n"), "{code}: {said}");
    assert_eq!(customer.closed().await.map(|(close, _)| close), Some(Close::GOING_AWAY));
    assert!(relay.wait().await.success());
}

#[test]
fn the_doctor_says_what_is_well_and_what_to_do_about_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let pair = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["support.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
    std::fs::write(at("chain.pem"), certificate.pem()).unwrap();
    std::fs::write(at("key.pem"), pair.serialize_pem()).unwrap();
    let text = format!(
        "[listen]\naddress = '127.0.0.1:0'\n[tls]\ncertificate = '{}'\nkey = '{}'\n[state]\ndirectory = '{}'\n",
        at("chain.pem"),
        at("key.pem"),
        at("state")
    );
    let file = config(directory.path(), &text);
    let verdict = |findings: &Value, what: &str| {
        let mut of = findings.as_array().unwrap().iter().filter(|finding| finding["what"] == what);
        of.next().unwrap_or_else(|| panic!("nothing about {what}: {findings}"))["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (code, json, _) = run(&["doctor", "--json", "--config", &file]);
    assert_eq!(code, 0, "{json}");
    let findings: Value = serde_json::from_str(&json).unwrap();
    for what in [
        "certificate",
        "expiry",
        "names",
        "port (TCP)",
        "port (UDP)",
        "state directory",
        "operations",
        "clock",
    ] {
        assert_eq!(verdict(&findings, what), "ok", "{what}");
    }
    assert_eq!(verdict(&findings, "private key"), "warn", "others can read it");
    let (code, text, _) = run(&["doctor", "--config", &file]);
    assert_eq!(code, 0);
    assert!(text.contains("ok    names             support.example"), "{text}");

    // A key of another certificate.
    std::fs::write(at("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (code, text, _) = run(&["doctor", "--config", &file]);
    assert_eq!(code, 1);
    assert!(text.contains("FAIL  certificate") && text.contains("do not work together"), "{text}");
    let (code, _, text) = run(&["check-config", "--config", &file]);
    assert_eq!(code, 64);
    assert!(text.contains("tls.certificate = ") && text.contains("do not work together"), "{text}");
}

#[test]
fn settings_in_effect_are_shown_with_their_source() {
    let directory = tempfile::tempdir().unwrap();
    let file =
        config(directory.path(), "[tls]\ncertificate = 'a'\nkey = 'b'\n[session]\ngrace_seconds = 60\n");
    let (code, text, _) = run(&["print-config", "--config", &file, "--listen", "127.0.0.1:9"]);
    assert_eq!(code, 0);
    for line in [
        "address = \"127.0.0.1:9\"  # --listen".to_owned(),
        "udp = true  # TANDEM_UDP".to_owned(),
        format!("grace_seconds = 60  # {file}"),
        "heartbeat_active_seconds = 2  # default".to_owned(),
    ] {
        assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
    }
    // What is shown is itself a configuration.
    let again = config(directory.path(), &text);
    assert_eq!(run(&["print-config", "--config", &again]).0, 0);
}

#[test]
fn shells_and_man_know_every_command() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", directory.path().to_str().unwrap()]).0, 0);
    let help = run(&["help"]).1;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 8, "{help}");
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(directory.path().join(format!("tandem-relay-{command}.1")).exists(), "{command}");
        for shell in ["bash", "zsh", "fish"] {
            assert!(run(&["completions", shell]).1.contains(command), "{shell}: {command}");
        }
    }
}
