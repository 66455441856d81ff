//! What a relay's metrics say at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::time::Instant;

use super::{PATIENCE, Relay, http};

/// A scrape: values by name with labels, and the labels of each name.
pub struct Scrape {
    /// Values by name with labels.
    pub values: BTreeMap<String, f64>,
    /// The labels of each name.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

impl Scrape {
    /// Asks a relay.
    pub async fn of(relay: &Relay) -> Self {
        let operations = relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self::read(&http(&operations, "GET", "/metrics", "", "").await.1)
    }

    /// From the text of an answer. Every metric has a type, a value and says what it tells.
    pub fn read(text: &str) -> Self {
        let typed = |line: &str| {
            let mut words = line.strip_prefix("# TYPE ")?.split(' ');
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        };
        let kinds: BTreeMap<String, String> = text.lines().filter_map(typed).collect();
        let mut scrape = Self { values: BTreeMap::new(), labels: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            scrape.values.insert(series.to_owned(), value.parse().unwrap());
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let keys = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
            let keys = keys.map(|(key, _)| key.to_owned()).filter(|key| key != "le");
            let family = base(name, &kinds);
            scrape.labels.entry(family).or_default().extend(keys);
        }
        for name in kinds.keys() {
            assert!(scrape.labels.contains_key(name), "{name} has a type and no value");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} does not say what it tells");
        }
        scrape
    }

    /// The sum of what has this name and these labels.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
        self.values.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// What is there is what was opened less what was closed.
    pub fn assert_balanced(&self) {
        assert_eq!(self.imbalance(), None);
    }

    /// What is not what was opened less what was closed.
    pub fn imbalance(&self) -> Option<String> {
        let balance = |what: &str, [opened, closed, open]: [f64; 3]| {
            (opened - closed != open)
                .then(|| format!("{what}: {opened} opened, {closed} closed, {open} open"))
        };
        let sessions = ["sessions_total", "sessions_ended_total", "sessions"];
        let of_sessions =
            balance("sessions", sessions.map(|name| self.sum(&format!("tandem_relay_{name}"), "")));
        let of_transport = |transport: &str| {
            let connections = ["connections_total", "closed_total", "connections"];
            let label = format!("transport=\"{transport}\"");
            balance(transport, connections.map(|name| self.sum(&format!("tandem_relay_{name}"), &label)))
        };
        of_sessions.or_else(|| ["quic", "webtransport", "websocket"].into_iter().find_map(of_transport))
    }

    /// Asks a relay whose test is over, as long as there is one, until what is there is what was opened less what was closed.
    ///
    /// # Panics
    /// If that never comes.
    pub fn balances(operations: &str) {
        let began = Instant::now();
        while let Some(text) = ask(operations) {
            let Some(imbalance) = Self::read(&text).imbalance() else { return };
            // What is opened and closed meanwhile is not seen at one moment.
            assert!(began.elapsed() < PATIENCE, "{imbalance}");
        }
    }
}

/// The metrics of the relay whose private listener is here, if there is one. Blocks, for where nothing can be awaited.
fn ask(operations: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(operations).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {operations}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// The name of a metric by that of one of its series.
fn base(series: &str, kinds: &BTreeMap<String, String>) -> String {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| series.strip_suffix(ending));
    histogram
        .filter(|name| kinds.get(*name).is_some_and(|kind| kind == "histogram"))
        .unwrap_or(series)
        .to_owned()
}
