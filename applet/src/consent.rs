//! What the customer has allowed whom. Plain state: requests and answers come in, grants and prompts come out.
//!
//! The applet is the authority for grants. They are numbered by revisions, restated on every new connection, and corrected
//! when the relay shows others than ours (it came back without them, or did not know the participant yet).
//!
//! One prompt is open at a time; others wait behind it. It is announced (`prompt_open`) before it is shown: from then on
//! no input passes, so that nobody can answer it from afar.

use std::collections::{BTreeMap, VecDeque};

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
    /// Rights that are granted without a prompt, until the customer takes them back.
    automatic: Rights,
    /// The customer has ended the session.
    is_over: bool,
}

impl Consent {
    /// With what is granted without a prompt, and what was granted before this program was restarted.
    pub fn new(automatic: Rights, remembered: BTreeMap<Sender, Rights>) -> Self {
        Self { automatic, remembered, ..Self::default() }
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
    pub fn roster(&mut self, roster: &Roster, me: Sender) -> Vec<Output> {
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
        self.waiting.retain(|(who, _)| self.people.contains_key(who));
        if self.open.is_some_and(|(who, _)| !self.people.contains_key(&who)) {
            self.open = None;
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
                outputs.extend(self.ask(who, asked));
            }
        }
        outputs
    }

    /// A participant asks for rights.
    pub fn ask(&mut self, who: Sender, asked: Rights) -> Vec<Output> {
        if self.is_over {
            return Vec::new();
        }
        let Some(person) = self.people.get_mut(&who) else {
            if self.early.len() < limits::PARTICIPANTS_MAX {
                self.early.insert(who, asked);
            }
            return Vec::new();
        };
        let new = asked.and(Rights::of(SUPPORTED)).without(person.granted);
        if new.without(self.automatic).is_empty() {
            person.granted = Rights::of(&person.granted.iter().chain(new.iter()).collect::<Vec<_>>());
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
    pub fn answered(&mut self, allowed: bool) -> Vec<Output> {
        let Some((who, rights)) = self.open.take() else { return Vec::new() };
        if let Some(person) = self.people.get_mut(&who).filter(|_| allowed) {
            person.granted = Rights::of(&person.granted.iter().chain(rights.iter()).collect::<Vec<_>>());
        }
        let mut outputs = vec![self.state(who)];
        outputs.extend(self.next_prompt());
        outputs
    }

    /// The customer takes these rights back from everybody. From now on nobody gets them without a prompt.
    pub fn revoke(&mut self, rights: Rights) -> Vec<Output> {
        self.automatic = self.automatic.without(rights);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::message::Participant;

    const ME: Sender = Sender(1);
    const ANN: Sender = Sender(2);
    const BOB: Sender = Sender(3);
    const BOTH: &[Right] = &[Right::View, Right::Control];

    fn roster(people: &[(Sender, &[Right])]) -> Roster {
        let of = |&(sender, rights): &(Sender, &[Right])| Participant {
            sender: sender.0.into(),
            rights: Rights::of(rights).to_wire(),
            online: true,
            ..Participant::default()
        };
        Roster { participants: people.iter().map(of).collect(), ..Roster::default() }
    }

    fn grant(participant: Sender, rights: &[Right], revision: u64, prompt_open: bool) -> Output {
        let rights = Rights::of(rights).to_wire();
        Output::Grant(Grants { participant: participant.0.into(), rights, revision, prompt_open })
    }

    fn met(people: &[Sender]) -> Consent {
        let mut consent = Consent::default();
        let people: Vec<(Sender, &[Right])> = people.iter().map(|&who| (who, &[][..])).collect();
        assert_eq!(consent.roster(&roster(&people), ME), []);
        consent
    }

    #[test]
    fn a_prompt_is_announced_before_it_is_shown_and_its_answer_is_granted() {
        let mut consent = met(&[ME, ANN]);
        let outputs = consent.ask(ANN, Rights::of(BOTH));
        assert_eq!(outputs, [grant(ANN, &[], 1, true), Output::Prompt(ANN, Rights::of(BOTH))]);
        assert_eq!(consent.ask(ANN, Rights::of(BOTH)), [], "one prompt is enough");
        assert_eq!(consent.answered(true), [grant(ANN, BOTH, 2, false)]);
        assert!(consent.may(ANN).has(Right::Control));
        assert_eq!(consent.answered(true), [], "an answer to nothing");
    }

    #[test]
    fn a_refusal_grants_nothing_and_what_is_granted_is_not_asked_again() {
        let mut consent = met(&[ANN]);
        consent.ask(ANN, Rights::of(&[Right::View]));
        consent.answered(true);
        let outputs = consent.ask(ANN, Rights::of(BOTH));
        assert_eq!(outputs[1], Output::Prompt(ANN, Rights::of(&[Right::Control])));
        assert!(consent.may(ANN).is_empty(), "nothing passes while a prompt is open");
        assert_eq!(consent.answered(false), [grant(ANN, &[Right::View], 4, false)]);
        assert_eq!(consent.ask(ANN, Rights::of(&[Right::View])), [grant(ANN, &[Right::View], 5, false)]);
    }

    #[test]
    fn rights_that_this_applet_lacks_are_never_granted() {
        let mut consent = Consent::new(Rights::of(&[Right::View, Right::SendFiles]), BTreeMap::new());
        consent.roster(&roster(&[(ANN, &[])]), ME);
        let outputs = consent.ask(ANN, Rights::of(&[Right::View, Right::SendFiles]));
        assert_eq!(outputs, [grant(ANN, &[Right::View], 1, false)]);
    }

    #[test]
    fn prompts_queue_and_go_with_who_asked() {
        let mut consent = met(&[ANN, BOB]);
        consent.ask(ANN, Rights::of(&[Right::View]));
        assert_eq!(consent.ask(BOB, Rights::of(&[Right::View])), []);
        let outputs = consent.roster(&roster(&[(BOB, &[])]), ME);
        assert_eq!(
            outputs,
            [Output::Dismiss, grant(BOB, &[], 2, true), Output::Prompt(BOB, Rights::of(&[Right::View]))]
        );
    }

    #[test]
    fn grants_are_restated_and_corrected_once() {
        let mut consent = met(&[ANN]);
        consent.ask(ANN, Rights::of(BOTH));
        consent.answered(true);
        assert_eq!(consent.connected(), [grant(ANN, BOTH, 3, false)]);
        // The relay did not know her yet.
        assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME), [grant(ANN, BOTH, 4, false)]);
        assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME), [], "or it would never end");
        assert_eq!(consent.roster(&roster(&[(ANN, BOTH)]), ME), []);
    }

    #[test]
    fn a_restarted_program_remembers_whom_it_allowed_what() {
        let mut consent = met(&[ANN]);
        consent.ask(ANN, Rights::of(BOTH));
        consent.answered(true);
        let mut restarted = Consent::new(Rights::NONE, consent.grants());
        assert!(restarted.may(ANN).is_empty(), "she is not here");
        assert_eq!(restarted.roster(&roster(&[(ANN, &[])]), ME), [grant(ANN, BOTH, 1, false)]);
        assert_eq!(restarted.grants(), consent.grants());
    }

    #[test]
    fn who_vanishes_with_a_restarted_relay_returns_with_all_grants() {
        let mut consent = met(&[ANN]);
        consent.ask(ANN, Rights::of(BOTH));
        consent.answered(true);
        assert_eq!(consent.roster(&roster(&[(ME, &[])]), ME), []);
        assert!(consent.may(ANN).is_empty());
        assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME), [grant(ANN, BOTH, 3, false)]);
        consent.roster(&roster(&[]), ME);
        consent.revoke(Rights::of(&[Right::Control]));
        assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME), [grant(ANN, &[Right::View], 4, false)]);
    }

    #[test]
    fn who_asks_before_the_roster_shows_them_is_heard_then() {
        let mut consent = Consent::default();
        assert_eq!(consent.ask(ANN, Rights::of(&[Right::View])), []);
        let outputs = consent.roster(&roster(&[(ANN, &[])]), ME);
        assert_eq!(outputs, [grant(ANN, &[], 1, true), Output::Prompt(ANN, Rights::of(&[Right::View]))]);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let mut consent = met(&[ANN, BOB]);
        consent.ask(ANN, Rights::of(BOTH));
        consent.answered(true);
        assert_eq!(consent.revoke(Rights::of(&[Right::Control])), [grant(ANN, &[Right::View], 3, false)]);
        assert!(!consent.may(ANN).has(Right::Control));
    }

    /// Neither an administrator's policy nor trying out outlasts what the customer says.
    #[test]
    fn what_is_taken_back_is_asked_even_if_it_was_automatic() {
        let mut consent = Consent::new(Rights::of(BOTH), BTreeMap::new());
        consent.roster(&roster(&[(ANN, &[])]), ME);
        assert_eq!(consent.ask(ANN, Rights::of(BOTH)), [grant(ANN, BOTH, 1, false)]);
        consent.revoke(Rights::of(&[Right::Control, Right::Clipboard]));
        let outputs = consent.ask(ANN, Rights::of(BOTH));
        let prompt = Output::Prompt(ANN, Rights::of(&[Right::Control]));
        assert_eq!(outputs, [grant(ANN, &[Right::View], 3, true), prompt]);
    }

    #[test]
    fn after_the_end_nobody_may_do_anything_whatever_comes() {
        let mut consent = Consent::new(Rights::of(&[Right::View]), BTreeMap::from([(BOB, Rights::of(BOTH))]));
        consent.roster(&roster(&[(ANN, &[])]), ME);
        consent.ask(ANN, Rights::of(&[Right::View]));
        consent.ask(ANN, Rights::of(BOTH));
        assert_eq!(consent.end(), [grant(ANN, &[], 3, true), grant(ANN, &[], 4, false), Output::Dismiss]);
        assert!(consent.may(ANN).is_empty() && consent.grants().is_empty());
        assert_eq!(consent.answered(true), [], "a click that was on its way");
        assert_eq!(consent.ask(ANN, Rights::of(&[Right::View])), []);
        assert_eq!(consent.roster(&roster(&[(ANN, &[]), (BOB, &[])]), ME), []);
        assert!(consent.may(BOB).is_empty(), "who comes back neither");
    }
}
