//! Consent: who asks for what, what the publisher grants, and what follows from either.

use std::time::Instant;

use tandem_protocol::message::{self, Right, Rights, control};
use tandem_protocol::{Close, LaneKey, LaneKind, Record, Sender};

use super::member::Link;
use super::{Breach, Session};

impl Session {
    /// A subscriber asks the customer for rights: of those that its token permits, the publisher is told.
    pub(super) fn ask(&mut self, from: Sender, rights: Rights) {
        let Some(member) = self.members.get_mut(&from).filter(|member| !member.is_publisher()) else {
            return;
        };
        let rights = rights.and(member.who.permitted);
        if rights.is_empty() {
            return;
        }
        member.asking = Some(rights);
        if let Some(publisher) = self.publisher() {
            let ask = message::Ask { participant: from.0.into(), rights: rights.to_wire() };
            self.tell(publisher, control::Message::Ask(ask));
        }
        self.announce();
    }

    /// The publisher says what a participant may do from now on.
    pub(super) fn grants(
        &mut self,
        from: Sender,
        grants: &message::Grants,
        now: Instant,
    ) -> Result<(), Breach> {
        if !self.is_publisher(from) {
            return Err(Breach { close: Close::FORBIDDEN, reason: "only the publisher grants".into() });
        }
        let participant = u16::try_from(grants.participant).map(Sender);
        let Some(member) = participant.ok().and_then(|sender| self.members.get_mut(&sender)) else {
            return Ok(());
        };
        if member.grant_revision.is_some_and(|known| known >= grants.revision) {
            return Ok(());
        }
        let before = member.granted;
        if member.grant_revision.is_none() && self.returning_until.is_none_or(|until| now > until) {
            // Whoever came back and was granted nothing for so long sees what comes from now on.
            member.views_since = None;
        }
        member.grant_revision = Some(grants.revision);
        member.prompt_open = grants.prompt_open;
        member.granted = Rights::from_wire(&grants.rights).and(member.who.permitted);
        if !grants.prompt_open {
            member.asking = None;
        }
        member.views_since = if member.granted.has(Right::View) {
            let heads = || self.displays.iter().map(|(&id, display)| (id, display.heads())).collect();
            Some(member.views_since.take().unwrap_or_else(heads))
        } else {
            None
        };
        let sender = Sender(grants.participant as u16);
        self.sync(sender, now);
        self.upkeep(now);
        let gained = self.members.get(&sender).map_or(Rights::NONE, |member| member.granted).without(before);
        if !gained.is_empty() {
            self.send_latest(sender);
        }
        if gained.has(Right::Control) {
            self.reopen_input(sender);
        }
        self.announce();
        Ok(())
    }

    /// A subscriber may control from now on, for the first time or again since the publisher came back. What it has sent
    /// before was dropped here or died with the publisher's connection: it begins with what is not acknowledged.
    fn reopen_input(&mut self, sender: Sender) {
        let Some(member) = self.members.get_mut(&sender) else { return };
        member.input_taken = None;
        let Some(online) = member.online_mut() else { return };
        for lane in online.lanes.values_mut().filter(|lane| lane.key.kind == LaneKind::Input) {
            lane.stale = true;
        }
        let lane = LaneKey::plain(LaneKind::Input, sender);
        online.outbox.control(control::Message::Reopen(message::Reopen { lane: Some(lane.into()) }));
    }

    /// The publisher is here again: asks it for all that it may not know of.
    pub(super) fn ask_publisher(&mut self, publisher: Sender, now: Instant) {
        self.forget_wants();
        let mut asks = Vec::new();
        for (&sender, member) in self.members.iter().filter(|(sender, _)| **sender != publisher) {
            if let Some(rights) = member.asking {
                asks.push(message::Ask { participant: sender.0.into(), rights: rights.to_wire() });
            }
        }
        for ask in asks {
            self.tell(publisher, control::Message::Ask(ask));
        }
        self.refresh_wants(now);
    }

    /// Without the publisher no grant holds; it restates them when it is back.
    pub(super) fn publisher_went(&mut self) {
        let subscribers: Vec<Sender> = self.members.keys().copied().collect();
        for sender in subscribers {
            if let Some(member) = self.members.get_mut(&sender) {
                member.granted = Rights::NONE;
                member.grant_revision = None;
                member.prompt_open = false;
                member.input_taken = None;
            }
        }
    }

    /// Opens and closes a subscriber's lanes as its rights say.
    pub(super) fn sync(&mut self, sender: Sender, now: Instant) {
        let Some(member) = self.members.get_mut(&sender) else { return };
        if member.is_publisher() {
            return;
        }
        let granted = member.granted;
        if let Link::Online(online) = &mut member.link {
            for (slot, key) in online.outbox.open_lanes() {
                if key.kind.right(true).is_some_and(|right| !granted.has(right)) {
                    online.outbox.reset(slot);
                } else {
                    online.outbox.wake(slot);
                }
            }
        }
        if !granted.has(Right::View) {
            self.drop_readers(sender);
        }
        self.sync_screens(sender, now);
    }

    /// Gives a subscriber the newest record of every slot that it may have.
    pub(super) fn send_latest(&mut self, sender: Sender) {
        let records: Vec<(LaneKind, Record)> =
            self.latest.iter().map(|(&(kind, _), record)| (kind, record.clone())).collect();
        for (kind, record) in records {
            self.forward(sender, LaneKey::plain(kind, record.header.sender), &record, None);
        }
    }
}
