//! Requests, answers and rosters go in; what comes out is compared.

use std::time::Duration;

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

fn now() -> Instant {
    Instant::now()
}

fn met(people: &[Sender]) -> Consent {
    let mut consent = Consent::default();
    let people: Vec<(Sender, &[Right])> = people.iter().map(|&who| (who, &[][..])).collect();
    assert_eq!(consent.roster(&roster(&people), ME, now()), []);
    consent
}

#[test]
fn a_prompt_is_announced_before_it_is_shown_and_its_answer_is_granted() {
    let mut consent = met(&[ME, ANN]);
    let outputs = consent.ask(ANN, Rights::of(BOTH), now());
    assert_eq!(outputs, [grant(ANN, &[], 1, true), Output::Prompt(ANN, Rights::of(BOTH))]);
    assert_eq!(consent.ask(ANN, Rights::of(BOTH), now()), [], "one prompt is enough");
    assert_eq!(consent.answered(true, now()), [grant(ANN, BOTH, 2, false)]);
    assert!(consent.may(ANN).has(Right::Control));
    assert_eq!(consent.answered(true, now()), [], "an answer to nothing");
}

#[test]
fn a_refusal_grants_nothing_and_what_is_granted_is_not_asked_again() {
    let mut consent = met(&[ANN]);
    consent.ask(ANN, Rights::of(&[Right::View]), now());
    consent.answered(true, now());
    let outputs = consent.ask(ANN, Rights::of(BOTH), now());
    assert_eq!(outputs[1], Output::Prompt(ANN, Rights::of(&[Right::Control])));
    assert!(consent.may(ANN).is_empty(), "nothing passes while a prompt is open");
    assert_eq!(consent.answered(false, now()), [grant(ANN, &[Right::View], 4, false)]);
    assert_eq!(consent.ask(ANN, Rights::of(&[Right::View]), now()), [grant(ANN, &[Right::View], 5, false)]);
}

#[test]
fn rights_that_this_applet_lacks_are_never_granted() {
    let mut consent =
        Consent::new(Rights::of(&[Right::View, Right::SendFiles]), BTreeMap::new(), Rights::NONE);
    consent.roster(&roster(&[(ANN, &[])]), ME, now());
    let outputs = consent.ask(ANN, Rights::of(&[Right::View, Right::SendFiles]), now());
    assert_eq!(outputs, [grant(ANN, &[Right::View], 1, false)]);
}

#[test]
fn prompts_queue_and_go_with_who_asked() {
    let mut consent = met(&[ANN, BOB]);
    consent.ask(ANN, Rights::of(&[Right::View]), now());
    assert_eq!(consent.ask(BOB, Rights::of(&[Right::View]), now()), []);
    let outputs = consent.roster(&roster(&[(BOB, &[])]), ME, now());
    assert_eq!(
        outputs,
        [Output::Dismiss, grant(BOB, &[], 2, true), Output::Prompt(BOB, Rights::of(&[Right::View]))]
    );
}

#[test]
fn grants_are_restated_and_corrected_once() {
    let mut consent = met(&[ANN]);
    consent.ask(ANN, Rights::of(BOTH), now());
    consent.answered(true, now());
    assert_eq!(consent.connected(), [grant(ANN, BOTH, 3, false)]);
    // The relay did not know her yet.
    assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME, now()), [grant(ANN, BOTH, 4, false)]);
    assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME, now()), [], "or it would never end");
    assert_eq!(consent.roster(&roster(&[(ANN, BOTH)]), ME, now()), []);
}

#[test]
fn a_restarted_program_remembers_whom_it_allowed_what() {
    let mut consent = met(&[ANN]);
    consent.ask(ANN, Rights::of(BOTH), now());
    consent.answered(true, now());
    let mut restarted = Consent::new(Rights::NONE, consent.grants(), Rights::NONE);
    assert!(restarted.may(ANN).is_empty(), "she is not here");
    assert_eq!(restarted.roster(&roster(&[(ANN, &[])]), ME, now()), [grant(ANN, BOTH, 1, false)]);
    assert_eq!(restarted.grants(), consent.grants());
}

#[test]
fn who_vanishes_with_a_restarted_relay_returns_with_all_grants() {
    let mut consent = met(&[ANN]);
    consent.ask(ANN, Rights::of(BOTH), now());
    consent.answered(true, now());
    assert_eq!(consent.roster(&roster(&[(ME, &[])]), ME, now()), []);
    assert!(consent.may(ANN).is_empty());
    assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME, now()), [grant(ANN, BOTH, 3, false)]);
    consent.roster(&roster(&[]), ME, now());
    consent.revoke(Rights::of(&[Right::Control]));
    assert_eq!(consent.roster(&roster(&[(ANN, &[])]), ME, now()), [grant(ANN, &[Right::View], 4, false)]);
}

#[test]
fn who_asks_before_the_roster_shows_them_is_heard_then() {
    let mut consent = Consent::default();
    assert_eq!(consent.ask(ANN, Rights::of(&[Right::View]), now()), []);
    let outputs = consent.roster(&roster(&[(ANN, &[])]), ME, now());
    assert_eq!(outputs, [grant(ANN, &[], 1, true), Output::Prompt(ANN, Rights::of(&[Right::View]))]);
}

#[test]
fn what_is_taken_back_is_gone() {
    let mut consent = met(&[ANN, BOB]);
    consent.ask(ANN, Rights::of(BOTH), now());
    consent.answered(true, now());
    assert_eq!(consent.revoke(Rights::of(&[Right::Control])), [grant(ANN, &[Right::View], 3, false)]);
    assert!(!consent.may(ANN).has(Right::Control));
}

/// Neither an administrator's policy nor trying out outlasts what the customer says.
#[test]
fn what_is_taken_back_is_asked_even_if_it_was_automatic() {
    let mut consent = Consent::new(Rights::of(BOTH), BTreeMap::new(), Rights::NONE);
    consent.roster(&roster(&[(ANN, &[])]), ME, now());
    assert_eq!(consent.ask(ANN, Rights::of(BOTH), now()), [grant(ANN, BOTH, 1, false)]);
    consent.revoke(Rights::of(&[Right::Control, Right::Clipboard]));
    let outputs = consent.ask(ANN, Rights::of(BOTH), now());
    let prompt = Output::Prompt(ANN, Rights::of(&[Right::Control]));
    assert_eq!(outputs, [grant(ANN, &[Right::View], 3, true), prompt.clone()]);

    let mut restarted = Consent::new(Rights::of(BOTH), consent.grants(), consent.taken_back());
    restarted.roster(&roster(&[(ANN, &[Right::View])]), ME, now());
    let outputs = restarted.ask(ANN, Rights::of(BOTH), now());
    assert_eq!(outputs, [grant(ANN, &[Right::View], 1, true), prompt], "by the next run too");
    restarted.answered(true, now());
    assert!(restarted.taken_back().has(Right::Control), "that answer was for Ann");
}

#[test]
fn who_may_control_may_since_an_answer_or_since_a_prompt_was_closed() {
    let mut consent = met(&[ANN, BOB]);
    let at: Vec<Instant> = (0..5).map(|second| now() + Duration::from_secs(second)).collect();
    consent.ask(ANN, Rights::of(BOTH), at[0]);
    consent.answered(true, at[1]);
    assert_eq!(consent.controllers(), BTreeMap::from([(ANN, Some(at[1]))]));
    consent.ask(BOB, Rights::of(&[Right::View]), at[2]);
    assert_eq!(consent.controllers(), BTreeMap::new(), "nobody may while a prompt is open");
    consent.answered(false, at[3]);
    assert_eq!(consent.controllers(), BTreeMap::from([(ANN, Some(at[3]))]));
    // Who asked goes, and the prompt with them.
    consent.ask(BOB, Rights::of(&[Right::View]), at[3]);
    consent.roster(&roster(&[(ANN, BOTH)]), ME, at[4]);
    assert_eq!(consent.controllers(), BTreeMap::from([(ANN, Some(at[4]))]));
}

/// Nothing stood in the way but a lost connection: what was made meanwhile is done.
#[test]
fn who_comes_back_may_control_since_before() {
    let mut consent = Consent::new(Rights::of(BOTH), BTreeMap::from([(ANN, Rights::of(BOTH))]), Rights::NONE);
    consent.roster(&roster(&[(ANN, &[]), (BOB, &[])]), ME, now());
    assert_eq!(consent.controllers(), BTreeMap::from([(ANN, None)]), "the program was restarted");
    let begun = now();
    consent.ask(ANN, Rights::of(BOTH), begun);
    consent.ask(BOB, Rights::of(BOTH), begun);
    let since = BTreeMap::from([(ANN, None), (BOB, Some(begun))]);
    assert_eq!(consent.controllers(), since, "she had it, and he did not");
    consent.roster(&roster(&[]), ME, now());
    consent.roster(&roster(&[(ANN, &[]), (BOB, &[])]), ME, now());
    assert_eq!(consent.controllers(), since, "the relay was restarted");
}

#[test]
fn after_the_end_nobody_may_do_anything_whatever_comes() {
    let mut consent =
        Consent::new(Rights::of(&[Right::View]), BTreeMap::from([(BOB, Rights::of(BOTH))]), Rights::NONE);
    consent.roster(&roster(&[(ANN, &[])]), ME, now());
    consent.ask(ANN, Rights::of(&[Right::View]), now());
    consent.ask(ANN, Rights::of(BOTH), now());
    assert_eq!(consent.end(), [grant(ANN, &[], 3, true), grant(ANN, &[], 4, false), Output::Dismiss]);
    assert!(consent.may(ANN).is_empty() && consent.grants().is_empty());
    assert_eq!(consent.answered(true, now()), [], "a click that was on its way");
    assert_eq!(consent.ask(ANN, Rights::of(&[Right::View]), now()), []);
    assert_eq!(consent.roster(&roster(&[(ANN, &[]), (BOB, &[])]), ME, now()), []);
    assert!(consent.may(BOB).is_empty(), "who comes back neither");
}
