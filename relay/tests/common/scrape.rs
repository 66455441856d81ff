//! What a relay's metrics say at one moment.

use std::collections::{BTreeMap, BTreeSet};

use super::{Relay, http};

/// A scrape: values by name with labels, and the labels of each name.
pub struct Scrape {
    /// Values by name with labels.
    pub values: BTreeMap<String, f64>,
    /// The labels of each name.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

impl Scrape {
    /// Asks a relay. Every metric has a type, a value and says what it tells.
    pub async fn of(relay: &Relay) -> Self {
        let operations = relay.ready["operations"].as_str().unwrap().trim_start_matches("http://").to_owned();
        let text = http(&operations, "GET", "/metrics", "", "").await.1;
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
        let [begun, ended] =
            ["total", "ended_total"].map(|what| self.sum(&format!("tandem_relay_sessions_{what}"), ""));
        let now = self.sum("tandem_relay_sessions", "");
        assert_eq!(begun - ended, now, "{begun} sessions begun, {ended} ended, {now} there");
        for transport in ["quic", "webtransport", "websocket"] {
            let sum = |name: &str| self.sum(name, &format!("transport=\"{transport}\""));
            let (opened, closed) = (sum("tandem_relay_connections_total"), sum("tandem_relay_closed_total"));
            let open = sum("tandem_relay_connections");
            assert_eq!(opened - closed, open, "{transport}: {opened} opened, {closed} closed, {open} open");
        }
    }
}

/// The name of a metric by that of one of its series.
fn base(series: &str, kinds: &BTreeMap<String, String>) -> String {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| series.strip_suffix(ending));
    histogram
        .filter(|name| kinds.get(*name).is_some_and(|kind| kind == "histogram"))
        .unwrap_or(series)
        .to_owned()
}
