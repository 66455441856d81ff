//! What a relay counts: that operators' documentation, alerts and dashboard are about what there is, and that what is counted up is
//! counted down again.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::scrape::Scrape;
use common::{Relay, Socket, http, quic, record};
use tandem_protocol::message::{self, EndReason, Grants, Right, Rights, control, hello::Join, types};
use tandem_protocol::{LaneKey, LaneKind, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Names of metrics that a text has.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words
        .filter(|word| word.starts_with("tandem_relay_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// A customer who has let a technician in.
async fn pair(relay: &Relay) -> (Socket, Socket) {
    let mut customer = Socket::join(relay, Join::Code(relay.code())).await;
    assert!(matches!(customer.next().await, Ok(control::Message::Welcome(_))));
    let mut technician = Socket::join(relay, Join::Token(relay.token().await)).await;
    let Ok(control::Message::Welcome(welcome)) = technician.next().await else { panic!("not let in") };
    let rights = Rights::of(&[Right::View, Right::Control]).to_wire();
    let grants = Grants { participant: welcome.sender, rights, revision: 1, prompt_open: false };
    customer.say(control::Message::Grants(grants)).await;
    (customer, technician)
}

#[tokio::test]
async fn the_list_for_operators_is_what_a_relay_shows() {
    let relay = Relay::start(&[]).await;
    let scrape = Scrape::of(&relay).await;
    let document = read("docs/operations.md");
    let table =
        document.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let mut documented = BTreeMap::new();
    for name in table.flat_map(|cell| cell.split('`')) {
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        if names(name).contains(name) {
            let labels =
                labels.trim_end_matches('}').split(',').filter(|key| !key.is_empty()).map(str::to_owned);
            documented.insert(name.to_owned(), labels.collect::<BTreeSet<_>>());
        }
    }
    assert_eq!(documented, scrape.labels);
}

#[tokio::test]
async fn alerts_and_dashboard_are_about_what_there_is() {
    let relay = Relay::start(&[]).await;
    let scrape = Scrape::of(&relay).await;
    for file in [
        "config/prometheus/tandem-relay.rules.yml",
        "config/prometheus/tandem-relay.test.yml",
        "config/grafana/tandem-relay.json",
    ] {
        let used = names(&read(file));
        assert!(used.len() > 5, "{file} names only {used:?}");
        for name in used {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
            let known = |name: &str| scrape.labels.contains_key(name);
            assert!(known(&name) || series.is_some_and(known), "{file}: there is no {name}");
        }
    }
    // And every alert is in the operator's list of what to do.
    let document = read("docs/operations.md");
    for alert in
        read("config/prometheus/tandem-relay.rules.yml").lines().filter_map(|line| line.split_once("alert: "))
    {
        assert!(document.contains(&format!("`{}`", alert.1)), "{} is not documented", alert.1);
    }
}

#[tokio::test]
async fn what_was_opened_less_what_was_closed_is_there() {
    let relay = Relay::start(&[]).await;
    let (mut customer, mut technician) = pair(&relay).await;
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 2.0).await;
    relay.settles("tandem_relay_pairing_seconds_count", 1.0).await;
    let refused = Socket::join(&relay, Join::Code("000000".into())).await.next().await;
    assert!(refused.is_ok(), "it is told why");
    let during = Scrape::of(&relay).await;
    assert_eq!(during.sum("tandem_relay_sessions", ""), 1.0);
    assert_eq!(
        during.sum("tandem_relay_joins_total", "code") + during.sum("tandem_relay_joins_total", "token"),
        2.0
    );
    assert_eq!(during.sum("tandem_relay_refused_total", "code_unknown"), 1.0);
    assert!(during.sum("tandem_relay_received_records_total", "lane=\"control\"") >= 1.0);
    assert!(during.sum("tandem_relay_sent_bytes_total", "transport=\"websocket\"") > 0.0);

    technician
        .say(control::Message::End(message::End { reason: EndReason::ClosedByTechnician.into() }))
        .await;
    customer.closed().await;
    technician.closed().await;
    relay.settles("tandem_relay_connections{transport=\"websocket\"}", 0.0).await;
    relay.settles("tandem_relay_sessions", 0.0).await;
    let after = Scrape::of(&relay).await;
    after.assert_balanced();
    assert_eq!(after.sum("tandem_relay_connections_total", ""), 2.0);
    assert_eq!(after.sum("tandem_relay_sessions_ended_total", ""), 1.0);
    assert_eq!(
        (after.sum("tandem_relay_held_bytes", ""), after.sum("tandem_relay_queued_bytes", "")),
        (0.0, 0.0)
    );
    assert_eq!(after.sum("tandem_relay_closed_total", "internal"), 0.0);
}

#[tokio::test]
async fn input_is_timed_and_what_is_not_granted_is_dropped_by_reason() {
    let relay = Relay::start(&[]).await;
    let (mut customer, mut technician) = pair(&relay).await;
    let sender = technician_number(&mut customer).await;
    let input = technician.outgoing.open(LaneKey::plain(LaneKind::Input, sender), true);
    technician.send(input, record(types::KEY, sender, 0, b"keys")).await;
    relay.settles("tandem_relay_forward_seconds_count{lane=\"input\"}", 1.0).await;
    let clipboard = technician.outgoing.open(LaneKey::plain(LaneKind::Clipboard, sender), true);
    technician.send(clipboard, record(types::KEY, sender, 0, b"not granted")).await;
    relay.settles("tandem_relay_dropped_records_total{reason=\"no_right\"}", 1.0).await;
    let scrape = Scrape::of(&relay).await;
    assert_eq!(scrape.sum("tandem_relay_received_records_total", "lane=\"input\""), 1.0);
    assert_eq!(scrape.sum("tandem_relay_sent_records_total", "lane=\"input\""), 1.0);
    assert!(scrape.sum("tandem_relay_certificate_expiry_timestamp_seconds", "") > 1.7e9);
    assert!(scrape.sum("tandem_relay_workers", "") >= 1.0);
    for share in ["wanted", "granted"] {
        assert!(scrape.sum("tandem_relay_udp_buffer_bytes", share) > 0.0);
    }
}

#[tokio::test]
async fn who_comes_no_further_than_a_handshake_is_counted_by_how_far_it_came() {
    let relay = Relay::start(&[]).await;
    let say = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let failed = async |phase: &str, times: f64| {
        let name = format!("tandem_relay_handshake_failures_total{{phase=\"{phase}\",reason=\"broken\"}}");
        relay.settles(&name, times).await;
    };
    say(b"").await;
    failed("first_byte", 1.0).await;
    say(&[22, 3, 1, 0, 4, b'n', b'o', b'n', b'e']).await;
    failed("tls", 1.0).await;
    say(b"neither a request nor TLS\r\n\r\n").await;
    failed("http", 1.0).await;
    drop(Socket::connect(&relay).await);
    failed("hello", 1.0).await;
    quic(&relay).await.close(0u32.into(), b"");
    failed("hello", 2.0).await;
    // An honest request is none of them.
    http(&relay.address(), "GET", "/.well-known/tandem", "", "").await;
    relay.settles("tandem_relay_unadmitted_connections", 0.0).await;
    assert_eq!(Scrape::of(&relay).await.sum("tandem_relay_handshake_failures_total", ""), 5.0);
}

/// As the customer's roster has it.
async fn technician_number(customer: &mut Socket) -> Sender {
    loop {
        if let Ok(control::Message::Roster(roster)) = customer.next().await
            && let Some(other) =
                roster.participants.iter().find(|one| !one.publisher && !one.rights.is_empty())
        {
            return Sender(other.sender.try_into().unwrap());
        }
    }
}
