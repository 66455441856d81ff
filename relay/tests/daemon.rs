//! The daemon as an operator meets it: signals, readiness, configuration, what the ports say.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::process::Command;

use common::{Relay, Socket, config, http};
use tandem_protocol::Close;
use tandem_protocol::message::{control, hello::Join};

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn it_says_how_to_connect_and_what_it_counts() {
    let relay = Relay::start(&[]).await;
    let (head, body) = http(&relay.address(), "GET", "/.well-known/tandem", "", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let known: serde_json::Value = serde_json::from_str(&body).unwrap();
    let port: u64 = relay.address().rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(known["quic_port"], port);
    assert_eq!(known["certificate_hashes"].as_array().unwrap().len(), 1);
    assert!(head.contains("content-security-policy: default-src 'self'"));
    assert!(head.contains("access-control-allow-origin: *"), "for consoles of other relays: {head}");
    let operations = relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
    assert_eq!(http(&operations, "GET", "/healthz", "", "").await.1, "ok\n");
    assert_eq!(http(&operations, "GET", "/readyz", "", "").await.1, "ready\n");
    assert_eq!(relay.metric("tandem_relay_sessions").await, 0.0);
    let (head, _) = http(&relay.address(), "GET", "/api/v1/me", "", "").await;
    assert!(!head.contains("access-control"), "{head}");
    // What is private is not on the public port.
    let (head, _) = http(&relay.address(), "GET", "/metrics", "", "").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn without_udp_nobody_is_sent_there() {
    let relay = Relay::start(&["--udp", "false"]).await;
    let (_, body) = http(&relay.address(), "GET", "/.well-known/tandem", "", "").await;
    assert!(!body.contains("quic_port"), "{body}");
}

#[tokio::test]
async fn sigterm_tells_clients_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path(), "[drain]\ndeadline_seconds = 1\n");
    let mut relay = Relay::start(&["--config", &file]).await;
    let mut customer = Socket::join(&relay, Join::Code(relay.code())).await;
    assert!(matches!(customer.next().await, Ok(control::Message::Welcome(_))));
    signal(relay.pid(), "-TERM");
    let mut told = false;
    let close = loop {
        match customer.next().await {
            Ok(message) => told |= matches!(message, control::Message::GoAway(_)),
            Err(close) => break close,
        }
    };
    assert!(told, "a GoAway comes before the close");
    assert_eq!(close.map(|(close, _)| close), Some(Close::GOING_AWAY));
    assert!(relay.wait().await.success());
}

#[tokio::test]
async fn a_configuration_that_does_not_work_is_named_and_has_its_own_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tandem-relay")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let file = config(directory.path(), "[listen]\nadress = \"0.0.0.0:443\"\n");
    let (code, text) = run(&["check-config", "--config", &file]);
    assert_eq!(code, Some(64));
    assert!(text.contains("adress") && text.contains("relay.toml"), "{text}");
    let (code, text) = run(&["serve"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("tls.certificate"), "{text}");
    let (code, text) = run(&["serve", "--dev", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(64), "{text}");
    let missing = "[tls]\ncertificate = \"/nowhere/a.pem\"\nkey = \"/nowhere/a.key\"\n[listen]\naddress = \"127.0.0.1:0\"\n";
    let file = config(directory.path(), missing);
    let (code, text) = run(&["serve", "--config", &file]);
    assert_eq!(code, Some(1));
    assert!(text.contains("/nowhere/a.pem"), "{text}");
}

/// At the very first start nothing can be remembered: that is no relay to serve with, and said so.
#[tokio::test]
async fn a_state_directory_that_takes_nothing_is_named_and_has_its_own_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let run = |state: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tandem-relay"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log", "error", "--state-directory", state])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // What it writes lands on a device that is always full.
    let full = directory.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::os::unix::fs::symlink("/dev/full", full.join("ticket.new")).unwrap();
    let (code, text) = run(full.to_str().unwrap());
    assert_eq!(code, Some(73), "{text}");
    let words = ["cannot write", "full/ticket.key", "No space left on device", "free some space"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(!full.join("ticket.new").exists() && !full.join("ticket.key").exists());
    // And one that is a file.
    std::fs::write(directory.path().join("file"), "").unwrap();
    let (code, text) = run(directory.path().join("file/state").to_str().unwrap());
    assert!(code == Some(73) && text.contains("cannot make the state directory"), "{code:?} {text}");
}

#[tokio::test]
async fn the_operator_finds_a_sign_in_link_that_nobody_else_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::start(&["--state-directory", directory.path().to_str().unwrap()]).await;
    let path = directory.path().join("sign-in-link");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let link = std::fs::read_to_string(&path).unwrap();
    let secret = link.trim().strip_prefix("/#secret=").unwrap();
    let body = format!("{{\"secret\":\"{secret}\"}}");
    let (head, _) = http(&relay.address(), "POST", "/api/v1/sign-in", "", &body).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let relay = Relay::start(&[]).await;
    let output = Command::new(env!("CARGO_BIN_EXE_tandem-relay"))
        .args(["serve", "--dev", "--listen", &relay.address()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(&relay.address()) && text.contains("in use"), "{text}");
}
