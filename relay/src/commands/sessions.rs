//! `sessions`: who is connected to a running relay.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;
use axum::http::Method;
use clap::Args;
use tandem_relay::session::{ParticipantView, SessionView};

use super::ask::{self, Relay};
use super::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct Sessions {
    #[command(flatten)]
    settings: Settings,
    /// As the relay tells it: a JSON array.
    #[arg(long)]
    json: bool,
}

impl Sessions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let relay = Relay::of(&self.settings.of_installed())?;
        let answer = ask::block_on(relay.ask(Method::GET, "/v1/sessions"))?;
        if self.json {
            println!("{}", String::from_utf8_lossy(&answer).trim());
        } else {
            let sessions: Vec<SessionView> =
                serde_json::from_slice(&answer).context("this is not how a relay of this version answers")?;
            print!("{}", table(&sessions));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line for each session, and under it one for each participant.
fn table(sessions: &[SessionView]) -> String {
    let mut text = format!(
        "{:<32}  {:<12}  {:>8}  {:>9}  {:>9}  {:>9}  TENANT\n",
        "SESSION", "STATE", "AGE", "IN", "OUT", "HELD"
    );
    for session in sessions {
        let SessionView { session: id, state, tenant, .. } = session;
        let age = age(session.age_seconds);
        let [received, sent, held] =
            [session.received_bytes, session.sent_bytes, session.held_bytes].map(bytes);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{id:<32}  {state:<12}  {age:>8}  {received:>9}  {sent:>9}  {held:>9}  {}",
            plain(tenant)
        );
        for participant in &session.participants {
            let _ = writeln!(text, "  {}", line(participant));
        }
    }
    let _ = writeln!(text, "{} sessions", sessions.len());
    text
}

fn line(participant: &ParticipantView) -> String {
    let ParticipantView { participant: id, role, transport, unsent_ms, .. } = participant;
    let Some(transport) = transport else { return format!("{role:<12}  {id:<5}  away") };
    let rtt = participant.rtt_ms.map_or_else(|| "-".into(), |rtt| format!("{rtt} ms"));
    let queued = bytes(participant.queued_bytes);
    format!(
        "{role:<12}  {id:<5}  {transport:<12}  round trip {rtt}, oldest waiting {unsent_ms} ms, {queued} queued"
    )
}

fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// What a token said, without what a terminal would take for commands.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_bytes_are_for_people() {
        assert_eq!([age(59), age(3_700), age(200_000)], ["0m59s", "1h01m", "2d07h"]);
        assert_eq!([bytes(999), bytes(1500), bytes(2_340_000)], ["999 B", "1.5 kB", "2.3 MB"]);
        assert_eq!(plain("acme\u{1b}[2J"), "acme[2J");
    }
}
