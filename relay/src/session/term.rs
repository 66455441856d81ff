//! What the outside asks of a session: to send away whose time is over, or whom the operator withdraws; and what it costs.

use std::time::Instant;

use tandem_protocol::message::{EndReason, Role};
use tandem_protocol::{Close, Sender};

use super::Session;
use super::member::{Link, Member, Who};

impl Session {
    /// Charges the tenant with what waits for the session's clients. To be called a few times a second: what one queue can hold bounds
    /// what comes between.
    pub fn account(&mut self) {
        let online = self.members.values().filter_map(Member::online);
        let queued: usize = online.map(|online| online.outbox.waiting_bytes()).sum();
        let latest: usize = self.latest.values().map(|record| record.bytes.len()).sum();
        self.queued.set(queued + latest);
    }

    /// Ends what is over at this time, in seconds since 1970. To be called a few times a second.
    pub fn end_overdue(&mut self, seconds: i64, now: Instant) {
        let over = |who: &Who| who.ends.is_some_and(|end| end <= seconds);
        if !self.members.values().any(|member| over(&member.who)) {
            return;
        }
        let owners = [Role::Customer, Role::Lead];
        if self.members.values().any(|member| owners.contains(&member.who.role) && over(&member.who)) {
            self.finish(Close::TIME_OVER, EndReason::TimedOut);
        } else {
            self.expel(over, Close::TIME_OVER, "your time in the session is over", now);
        }
    }

    /// Closes the connections of those who are meant, for good. Without its customer a session is over for all.
    pub fn expel(&mut self, meant: impl Fn(&Who) -> bool, close: Close, reason: &str, now: Instant) {
        if self.members.values().any(|member| member.who.role == Role::Customer && meant(&member.who)) {
            self.finish(close, EndReason::Unspecified);
            return;
        }
        let gone: Vec<Sender> =
            self.members.iter().filter(|(_, member)| meant(&member.who)).map(|(&sender, _)| sender).collect();
        for sender in &gone {
            let Some(member) = self.members.remove(sender) else { continue };
            if let Link::Online(online) = &member.link {
                online.outbox.close(close, reason);
            }
            self.left.insert(*sender);
        }
        if gone.is_empty() {
            return;
        }
        if self.members.is_empty() {
            self.ended.get_or_insert(close);
        }
        self.refresh_wants(now);
        self.upkeep(now);
        self.announce();
    }
}
