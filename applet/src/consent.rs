//! What the customer has allowed whom. Plain state: requests and answers come in, grants and prompts come out.
//!
//! The applet is the authority for grants. They are numbered by revisions, restated on every new connection, and corrected
//! when the relay shows others than ours (it came back without them, or did not know the participant yet).
//!
//! One prompt is open at a time; others wait behind it. It is announced (`prompt_open`) before it is shown: from then on
//! no input passes, so that nobody can answer it from afar.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tandem_protocol::message::{Grants, Right, Rights, Role, Roster};
use tandem_protocol::{Sender, limits};

/// What this applet can let a technician do.
pub const SUPPORTED: &[Right] = &[Right::View, Right::Control, Right::Clipboard];

/// Participants that are gone and remembered: far more than come and go in a session.
const REMEMBERED_MAX: usize = 256;

/// Someone in the session who is not us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// As the token says it.
    pub name: String,
    /// The organisation's name.
    pub organisation: String,
    /// Owns the session.
    pub lead: bool,
    /// Has a connection now.
    pub online: bool,
    /// What the customer has granted.
    pub granted: Rights,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell the relay.
    Grant(Grants),
    /// Ask the customer whether this participant may have these rights.
    Prompt(Sender, Rights),
    /// Take the open prompt back.
    Dismiss,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Consent {
    revision: u64,
    people: BTreeMap<Sender, Person>,
    /// Granted to participants that the roster does not show (yet, or any more): in an earlier run of this program, or
    /// before the relay was restarted. Numbers are never used again, so nobody else can come by these.
    remembered: BTreeMap<Sender, Rights>,
    open: Option<(Sender, Rights)>,
    waiting: VecDeque<(Sender, Rights)>,
    /// Asked by participants whom no roster has shown yet.
    early: BTreeMap<Sender, Rights>,
    /// The rights that the relay showed when they were last corrected.
    corrected: BTreeMap<Sender, Rights>,
    /// Rights that are granted without a prompt, unless the customer has taken them back.
    automatic: Rights,
    /// What the customer has taken back in this session: nobody gets it without a prompt any more.
    taken_back: Rights,
    /// When each was last given the right to control, in this run of the program.
    given: BTreeMap<Sender, Instant>,
    /// When a prompt was closed last.
    closed: Option<Instant>,
    /// The customer has ended the session.
    is_over: bool,
}

impl Consent {
    /// With what is granted without a prompt, and what was granted and taken back before this program was restarted.
    pub fn new(automatic: Rights, remembered: BTreeMap<Sender, Rights>, taken_back: Rights) -> Self {
        Self { automatic, remembered, taken_back, ..Self::default() }
    }

    /// Who is there, by number.
    pub fn people(&self) -> &BTreeMap<Sender, Person> {
        &self.people
    }

    /// What each has been granted, for the next run of the program.
    pub fn grants(&self) -> BTreeMap<Sender, Rights> {
        let known = self.people.iter().map(|(&sender, person)| (sender, person.granted));
        let all = self.remembered.iter().map(|(&sender, &rights)| (sender, rights)).chain(known);
        all.filter(|(_, rights)| !rights.is_empty()).collect()
    }

    /// What the customer has taken back, for the next run of the program.
    pub fn taken_back(&self) -> Rights {
        self.taken_back
    }

    /// Who may control now, and since when: what was made before that time is not to be done. `None`: since an earlier run of this
    /// program, or since before the relay was restarted, when nothing was in the way of it.
    pub fn controllers(&self) -> BTreeMap<Sender, Option<Instant>> {
        let may = self.people.keys().filter(|&&who| self.may(who).has(Right::Control));
        may.map(|&who| (who, self.given.get(&who).copied().max(self.closed))).collect()
    }

    /// What a participant may do now; nothing while a prompt is open.
    pub fn may(&self, who: Sender) -> Rights {
        match self.people.get(&who) {
            Some(person) if self.open.is_none() => person.granted,
            _ => Rights::NONE,
        }
    }

    /// There is a connection: whatever the relay knew is void until it is said again.
    pub fn connected(&mut self) -> Vec<Output> {
        self.corrected.clear();
        let known: Vec<Sender> = self.people.keys().copied().collect();
        known.into_iter().map(|who| self.state(who)).collect()
    }

    /// Who is in the session now, besides `me`.
    pub fn roster(&mut self, roster: &Roster, me: Sender, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut people = BTreeMap::new();
        for participant in &roster.participants {
            let Some(who) = u16::try_from(participant.sender).ok().map(Sender).filter(|&who| who != me)
            else {
                continue;
            };
            let before = self.people.get(&who).map(|person| person.granted);
            let person = Person {
                name: participant.name.clone(),
                organisation: participant.organisation.clone(),
                lead: participant.role == Role::Lead as i32,
                online: participant.online,
                granted: before.or_else(|| self.remembered.remove(&who)).unwrap_or_default(),
            };
            people.insert(who, person);
        }
        for (who, person) in std::mem::replace(&mut self.people, people) {
            if !self.people.contains_key(&who) && !person.granted.is_empty() {
                self.remembered.insert(who, person.granted);
            }
        }
        while self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_first();
        }
        self.corrected.retain(|who, _| self.people.contains_key(who));
        self.given.retain(|who, _| self.people.contains_key(who) || self.remembered.contains_key(who));
        self.waiting.retain(|(who, _)| self.people.contains_key(who));
        if self.open.is_some_and(|(who, _)| !self.people.contains_key(&who)) {
            (self.open, self.closed) = (None, Some(now));
            outputs.push(Output::Dismiss);
            outputs.extend(self.next_prompt());
        }
        for participant in &roster.participants {
            let Some(who) = u16::try_from(participant.sender).ok().map(Sender) else { continue };
            let shown = Rights::from_wire(&participant.rights);
            let differs = self.people.get(&who).is_some_and(|person| person.granted != shown);
            if differs && self.corrected.insert(who, shown) != Some(shown) {
                outputs.push(self.state(who));
            }
        }
        for (who, asked) in std::mem::take(&mut self.early) {
            if self.people.contains_key(&who) {
                outputs.extend(self.ask(who, asked, now));
            }
        }
        outputs
    }

    /// A participant asks for rights.
    pub fn ask(&mut self, who: Sender, asked: Rights, now: Instant) -> Vec<Output> {
        if self.is_over {
            return Vec::new();
        }
        let Some(person) = self.people.get(&who) else {
            if self.early.len() < limits::PARTICIPANTS_MAX {
                self.early.insert(who, asked);
            }
            return Vec::new();
        };
        let new = asked.and(Rights::of(SUPPORTED)).without(person.granted);
        if new.without(self.automatic.without(self.taken_back)).is_empty() {
            self.give(who, new, now);
            return vec![self.state(who)];
        }
        if self.open.is_some_and(|(open, _)| open == who) {
            return Vec::new();
        }
        self.waiting.retain(|(waiting, _)| *waiting != who);
        self.waiting.push_back((who, new));
        if self.open.is_some() { Vec::new() } else { self.next_prompt() }
    }

    /// The customer has answered the open prompt.
    pub fn answered(&mut self, allowed: bool, now: Instant) -> Vec<Output> {
        let Some((who, rights)) = self.open.take() else { return Vec::new() };
        self.closed = Some(now);
        if allowed {
            self.give(who, rights, now);
        }
        let mut outputs = vec![self.state(who)];
        outputs.extend(self.next_prompt());
        outputs
    }

    fn give(&mut self, who: Sender, rights: Rights, now: Instant) {
        let Some(person) = self.people.get_mut(&who) else { return };
        if rights.without(person.granted).has(Right::Control) {
            self.given.insert(who, now);
        }
        person.granted = union(person.granted, rights);
    }

    /// The customer takes these rights back from everybody. From now on nobody gets them without a prompt.
    pub fn revoke(&mut self, rights: Rights) -> Vec<Output> {
        self.taken_back = union(self.taken_back, rights);
        self.remembered.values_mut().for_each(|granted| *granted = granted.without(rights));
        let mut changed = Vec::new();
        for (&who, person) in &mut self.people {
            if !person.granted.and(rights).is_empty() {
                person.granted = person.granted.without(rights);
                changed.push(who);
            }
        }
        changed.into_iter().map(|who| self.state(who)).collect()
    }

    /// The customer ends the session: nobody may do anything any more, whatever is asked from now on.
    pub fn end(&mut self) -> Vec<Output> {
        self.is_over = true;
        self.waiting.clear();
        self.early.clear();
        let mut outputs = self.revoke(Rights::of(SUPPORTED));
        if let Some((who, _)) = self.open.take() {
            outputs.extend([self.state(who), Output::Dismiss]);
        }
        outputs
    }

    fn next_prompt(&mut self) -> Vec<Output> {
        let Some((who, rights)) = self.waiting.pop_front() else { return Vec::new() };
        self.open = Some((who, rights));
        vec![self.state(who), Output::Prompt(who, rights)]
    }

    /// What holds for a participant, under the next revision.
    fn state(&mut self, who: Sender) -> Output {
        self.revision += 1;
        Output::Grant(Grants {
            participant: who.0.into(),
            rights: self.people.get(&who).map(|person| person.granted.to_wire()).unwrap_or_default(),
            revision: self.revision,
            prompt_open: self.open.is_some_and(|(open, _)| open == who),
        })
    }
}

fn union(one: Rights, other: Rights) -> Rights {
    other.iter().fold(one, Rights::with)
}

#[cfg(test)]
mod tests;
