//! What a remote hand holds down, and when it must be let go. Plain state: time comes in, releases come out.
//!
//! A key that stays down because its release was lost is the worst thing remote input can do. So whoever holds something
//! restates all of it every 250 ms, and two things are inferred: what a restatement does not name is released, and after
//! 750 ms without a word everything is. Presses are never inferred: a key that a restatement names but that is not down
//! here was released for a reason (silence, a prompt, a right taken back) or its press was dropped as too old, and
//! pressing it now would act where nobody pressed.

use std::collections::BTreeSet;
use std::time::Instant;

use tandem_protocol::limits::HELD_SILENCE;

/// Something that can be held down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holdable {
    /// A pointer's button, counted from 1.
    Button(u32),
    /// A key, by its USB HID usage.
    Key(u32),
}

/// What to do with a press or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass it on.
    Act,
    /// Pass it on: it was down, and this repeats it.
    Repeat,
    /// Leave it: there is nothing to release, or too much is held.
    Ignore,
}

/// The keys and buttons that one participant holds down.
#[derive(Clone, Debug, Default)]
pub struct HeldKeys {
    held: BTreeSet<Holdable>,
    heard: Option<Instant>,
}

impl HeldKeys {
    /// More than two hands can hold, few enough to bound what a peer can make us keep.
    pub const MOST: usize = 32;

    /// A key or button goes down or up, as the peer says at `now`.
    pub fn change(&mut self, what: Holdable, down: bool, now: Instant) -> Action {
        self.heard = Some(now);
        match (down, self.held.contains(&what)) {
            // A second press of a button is a lost release, not a repeat: nothing to pass on.
            (true, true) if matches!(what, Holdable::Button(_)) => Action::Ignore,
            (true, true) => Action::Repeat,
            (true, false) if self.held.len() >= Self::MOST => Action::Ignore,
            (true, false) => {
                self.held.insert(what);
                Action::Act
            }
            (false, true) => {
                self.held.remove(&what);
                Action::Act
            }
            (false, false) => Action::Ignore,
        }
    }

    /// The peer says what it holds. Answers what must be released: what is down here and not there.
    pub fn restated(&mut self, usages: &[u32], buttons: &[u32], now: Instant) -> Vec<Holdable> {
        self.heard = Some(now);
        let kept = |what: &Holdable| match what {
            Holdable::Button(button) => buttons.contains(button),
            Holdable::Key(usage) => usages.contains(usage),
        };
        let released = self.held.iter().filter(|what| !kept(what)).copied().collect();
        self.held.retain(kept);
        released
    }

    /// When to call [`expire`](Self::expire) next, unless something is heard before; `None` while nothing is held.
    pub fn deadline(&self) -> Option<Instant> {
        let heard = self.heard.filter(|_| !self.held.is_empty())?;
        Some(heard + HELD_SILENCE)
    }

    /// Answers what must be released because nothing was heard for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<Holdable> {
        match self.deadline() {
            Some(deadline) if now >= deadline => self.release_all(),
            _ => Vec::new(),
        }
    }

    /// Forgets everything and answers it, to be released.
    pub fn release_all(&mut self) -> Vec<Holdable> {
        std::mem::take(&mut self.held).into_iter().collect()
    }

    /// What is down now.
    pub fn held(&self) -> impl Iterator<Item = Holdable> + '_ {
        self.held.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Change(Holdable, bool),
        Restate(Vec<u32>, Vec<u32>),
        Pass(u64),
        ReleaseAll,
    }

    fn holdable() -> impl Strategy<Value = Holdable> {
        prop_oneof![(4u32..8).prop_map(Holdable::Key), (1u32..4).prop_map(Holdable::Button)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (holdable(), any::<bool>()).prop_map(|(what, down)| Step::Change(what, down)),
            2 => (prop::collection::vec(4u32..8, 0..4), prop::collection::vec(1u32..4, 0..3))
                .prop_map(|(usages, buttons)| Step::Restate(usages, buttons)),
            2 => (0u64..1000).prop_map(Step::Pass),
            1 => Just(Step::ReleaseAll),
        ]
    }

    /// A keyboard that is told what [`HeldKeys`] decides.
    #[derive(Default)]
    struct Keyboard(BTreeSet<Holdable>);

    impl Keyboard {
        fn release(&mut self, released: Vec<Holdable>) {
            for what in released {
                assert!(self.0.remove(&what), "{what:?} was released and not down");
            }
        }
    }

    proptest! {
        /// The keyboard always has down exactly what is believed; nothing stays down past the silence; only a press presses.
        #[test]
        fn what_is_down_was_pressed_and_is_refreshed(steps in prop::collection::vec(step(), 0..80)) {
            let start = Instant::now();
            let (mut now, mut heard) = (start, start);
            let (mut held, mut keyboard) = (HeldKeys::default(), Keyboard::default());
            for step in steps {
                match step {
                    Step::Change(what, down) => {
                        heard = now;
                        match held.change(what, down, now) {
                            Action::Act if down => prop_assert!(keyboard.0.insert(what)),
                            Action::Act => prop_assert!(keyboard.0.remove(&what)),
                            Action::Repeat => prop_assert!(down && keyboard.0.contains(&what)),
                            Action::Ignore => prop_assert_eq!(down, keyboard.0.contains(&what)),
                        }
                    }
                    Step::Restate(usages, buttons) => {
                        heard = now;
                        keyboard.release(held.restated(&usages, &buttons, now));
                        for what in &keyboard.0 {
                            let named = match what {
                                Holdable::Key(usage) => usages.contains(usage),
                                Holdable::Button(button) => buttons.contains(button),
                            };
                            prop_assert!(named);
                        }
                    }
                    Step::Pass(ms) => {
                        now += Duration::from_millis(ms);
                        keyboard.release(held.expire(now));
                        prop_assert!(now < heard + HELD_SILENCE || keyboard.0.is_empty());
                    }
                    Step::ReleaseAll => {
                        keyboard.release(held.release_all());
                        prop_assert!(keyboard.0.is_empty());
                    }
                }
                prop_assert_eq!(held.held().collect::<BTreeSet<_>>(), keyboard.0.clone());
                prop_assert_eq!(held.deadline().is_some(), !keyboard.0.is_empty());
            }
        }
    }

    #[test]
    fn a_restatement_presses_nothing() {
        let now = Instant::now();
        let mut held = HeldKeys::default();
        assert!(held.restated(&[4, 5], &[1], now).is_empty());
        assert_eq!(held.held().count(), 0);
    }

    #[test]
    fn a_peer_cannot_hold_without_bound() {
        let (mut held, now) = (HeldKeys::default(), Instant::now());
        let acted = (0..1000).filter(|n| held.change(Holdable::Key(*n), true, now) == Action::Act).count();
        assert_eq!(acted, HeldKeys::MOST);
    }
}
