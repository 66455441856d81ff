//! What an operator is told about a machine before or while a relay runs on it: each thing that a relay needs, how it is, and
//! what to do if it is not well.

mod certificate;
mod network;
mod system;

use std::fmt;

use serde::Serialize;

use crate::config::Config;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// A relay runs, but not as well as it could.
    Warn,
    /// A relay does not run, or not for its clients.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do, if it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, seen: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, seen: seen.into(), advice: None }
    }

    fn warn(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Warn, seen: seen.into(), advice: Some(advice.into()) }
    }

    fn fail(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fail, seen: seen.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict:<5} {:<17} {}", self.what, self.seen)?;
        self.advice.iter().try_for_each(|advice| write!(f, "\n{:24}-> {advice}", ""))
    }
}

/// Looks at everything that a relay with this configuration needs.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = certificate::examine(&config.tls);
    findings.extend(network::examine(config));
    findings.extend(system::examine(&config.state));
    findings
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}
