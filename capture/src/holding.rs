//! What is held where the system does not always take input, as Windows does not while it asks about elevation or is locked, or
//! where a window of a program with more rights is in front. A release that was not taken is owed: it is tried again, so that no
//! key stays down. Plain state, and the system's part is passed in.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::CaptureError;
use crate::held::{Action, HeldKeys, Holdable};

/// So often a release is tried again that the system took without a word and without effect: a minute at four tries a second.
const SWALLOWED_MAX: u32 = 240;

/// The system's part.
pub(crate) trait Keyboard {
    /// Presses or releases.
    ///
    /// # Errors
    /// When the system takes no input now. A press that failed was none.
    fn act(&mut self, what: Holdable, down: bool) -> Result<(), CaptureError>;

    /// Whether the system has it down, as far as it says.
    fn is_down(&self, what: Holdable) -> bool;
}

/// Keys and buttons that are down, or should not be any more.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    held: HeldKeys,
    owed: BTreeMap<Holdable, Owed>,
}

/// Why a release is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// The system refused it, and will take it at some time.
    Refused,
    /// The system took it, and has the key or button down still: it gave it to nobody, or somebody else holds it. That many tries are
    /// left.
    Swallowed(u32),
}

impl Holding {
    /// Nothing is held, and this is to be released.
    pub(crate) fn owing(owed: impl IntoIterator<Item = Holdable>) -> Self {
        let owed = owed.into_iter().map(|what| (what, Owed::Refused)).collect();
        Self { owed, ..Self::default() }
    }

    /// A key or button goes down or up, after what was refused.
    ///
    /// # Errors
    /// As the keyboard's. A press that failed was none; a release that failed is owed.
    pub(crate) fn change(
        &mut self,
        what: Holdable,
        down: bool,
        keyboard: &mut impl Keyboard,
    ) -> Result<(), CaptureError> {
        // Where that fails again, it stays owed; what follows says why.
        let _ = self.catch_up(keyboard);
        // Time plays no part: silence is the caller's to judge.
        let now = Instant::now();
        match self.held.change(what, down, now) {
            Action::Ignore => Ok(()),
            // The system knows a repeat by the key's being down; a button's is none.
            Action::Repeat => keyboard.act(what, true),
            Action::Act if down => {
                let done = keyboard.act(what, true);
                if done.is_ok() {
                    // From now on it is down because somebody holds it.
                    self.owed.remove(&what);
                } else {
                    self.held.change(what, false, now);
                }
                done
            }
            Action::Act => self.release(what, SWALLOWED_MAX, keyboard),
        }
    }

    /// Releases all that is held, and tries again what is owed.
    ///
    /// # Errors
    /// The first of the keyboard's. All are tried, whatever becomes of one.
    pub(crate) fn release_all(&mut self, keyboard: &mut impl Keyboard) -> Result<(), CaptureError> {
        let settled = self.settle(keyboard);
        let held = self.held.release_all().into_iter();
        held.map(|what| self.release(what, SWALLOWED_MAX, keyboard)).fold(settled, Result::and)
    }

    /// Tries again what is owed.
    ///
    /// # Errors
    /// As with [`release_all`](Self::release_all).
    pub(crate) fn settle(&mut self, keyboard: &mut impl Keyboard) -> Result<(), CaptureError> {
        self.retry(keyboard, |_| true)
    }

    /// Tries again what was refused. What was swallowed has so many tries: not one with every input.
    ///
    /// # Errors
    /// As with [`release_all`](Self::release_all).
    pub(crate) fn catch_up(&mut self, keyboard: &mut impl Keyboard) -> Result<(), CaptureError> {
        self.retry(keyboard, |owed| owed == Owed::Refused)
    }

    fn retry(
        &mut self,
        keyboard: &mut impl Keyboard,
        which: impl Fn(Owed) -> bool,
    ) -> Result<(), CaptureError> {
        let due: Vec<(Holdable, Owed)> = self.owed.extract_if(.., |_, owed| which(*owed)).collect();
        let tried = due.into_iter().map(|(what, owed)| match owed {
            Owed::Refused => self.release(what, SWALLOWED_MAX, keyboard),
            Owed::Swallowed(left) => self.release(what, left, keyboard),
        });
        tried.fold(Ok(()), Result::and)
    }

    fn release(
        &mut self,
        what: Holdable,
        tries: u32,
        keyboard: &mut impl Keyboard,
    ) -> Result<(), CaptureError> {
        let done = keyboard.act(what, false);
        if done.is_err() {
            self.owed.insert(what, Owed::Refused);
        } else if keyboard.is_down(what) {
            match tries.checked_sub(1) {
                Some(left) => drop(self.owed.insert(what, Owed::Swallowed(left))),
                None => tracing::warn!(?what, "the system keeps it down, and it is not tried again"),
            }
        }
        done
    }

    /// Whether something is to be released that was not taken.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// What is held now.
    pub(crate) fn held(&self) -> impl Iterator<Item = Holdable> + '_ {
        self.held.held()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A keyboard whose system refuses input while it is locked, and swallows releases while another window is in front.
    #[derive(Default)]
    struct Desk {
        down: BTreeSet<Holdable>,
        locked: bool,
        swallows: bool,
        releases: u32,
    }

    impl Keyboard for Desk {
        fn act(&mut self, what: Holdable, down: bool) -> Result<(), CaptureError> {
            if self.locked {
                return Err(CaptureError::NotNow { reason: "locked".into() });
            }
            self.releases += u32::from(!down);
            match down {
                true => self.down.insert(what),
                false if self.swallows => false,
                false => self.down.remove(&what),
            };
            Ok(())
        }

        fn is_down(&self, what: Holdable) -> bool {
            // As Windows: of a desktop that is not shown nothing is told.
            !self.locked && self.down.contains(&what)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(Holdable, bool),
        Lock(bool),
        Swallow(bool),
        Settle,
        ReleaseAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        let what = prop_oneof![(4u32..7).prop_map(Holdable::Key), (1u32..3).prop_map(Holdable::Button)];
        prop_oneof![
            6 => (what, any::<bool>()).prop_map(|(what, down)| Step::Change(what, down)),
            2 => any::<bool>().prop_map(Step::Lock),
            2 => any::<bool>().prop_map(Step::Swallow),
            1 => Just(Step::Settle),
            1 => Just(Step::ReleaseAll),
        ]
    }

    proptest! {
        /// Nothing is ever down that is neither held nor owed, and once the system takes input again, only what is held is down.
        #[test]
        fn no_key_stays_down_because_the_system_did_not_take_its_release(steps in prop::collection::vec(step(), 0..60)) {
            let (mut holding, mut desk) = (Holding::default(), Desk::default());
            for step in steps {
                let locked = desk.locked;
                let done = match step {
                    Step::Change(what, down) => holding.change(what, down, &mut desk),
                    Step::Lock(on) => {
                        desk.locked = on;
                        Ok(())
                    }
                    Step::Swallow(on) => {
                        desk.swallows = on;
                        Ok(())
                    }
                    Step::Settle => holding.settle(&mut desk),
                    Step::ReleaseAll => holding.release_all(&mut desk),
                };
                prop_assert!(done.is_ok() || locked);
                let held: BTreeSet<Holdable> = holding.held().collect();
                let owed: BTreeSet<Holdable> = holding.owed.keys().copied().collect();
                prop_assert!(held.is_subset(&desk.down), "held and not down");
                prop_assert!(desk.down.is_subset(&(&held | &owed)), "down for no reason");
                prop_assert!(held.is_disjoint(&owed), "held and to be released");
                prop_assert_eq!(holding.owes(), !owed.is_empty());
            }
            (desk.locked, desk.swallows) = (false, false);
            prop_assert!(holding.settle(&mut desk).is_ok() && !holding.owes());
            prop_assert_eq!(holding.held().collect::<BTreeSet<_>>(), desk.down.clone());
            prop_assert!(holding.release_all(&mut desk).is_ok());
            prop_assert!(desk.down.is_empty());
        }
    }

    #[test]
    fn what_another_run_left_down_is_released_when_that_can_be() {
        let key = Holdable::Key(0xe0);
        let mut desk = Desk { down: BTreeSet::from([key]), locked: true, ..Desk::default() };
        let mut holding = Holding::owing([key]);
        assert!(holding.settle(&mut desk).is_err());
        desk.locked = false;
        holding.change(Holdable::Button(1), true, &mut desk).expect("open");
        assert_eq!(desk.down, BTreeSet::from([Holdable::Button(1)]));
    }

    #[test]
    fn what_is_pressed_again_is_not_released_late() {
        let (mut holding, mut desk) = (Holding::default(), Desk::default());
        let key = Holdable::Key(0xe0);
        holding.change(key, true, &mut desk).expect("open");
        desk.locked = true;
        let refused = holding.change(key, false, &mut desk);
        assert!(matches!(refused, Err(CaptureError::NotNow { .. })), "{refused:?}");
        assert!(desk.down.contains(&key), "the system has it down still");
        desk.locked = false;
        holding.change(key, true, &mut desk).expect("open");
        holding.settle(&mut desk).expect("open");
        assert!(desk.down.contains(&key), "somebody holds it");
    }

    /// A key that the person holds looks the same, and must not be let go of for ever.
    #[test]
    fn what_stays_down_without_a_refusal_is_tried_so_often_and_not_with_every_input() {
        let key = Holdable::Key(0xe0);
        let mut desk = Desk { swallows: true, ..Desk::default() };
        let mut holding = Holding::default();
        holding.change(key, true, &mut desk).expect("taken");
        holding.change(key, false, &mut desk).expect("taken");
        for _ in 0..100 {
            holding.catch_up(&mut desk).expect("nothing was refused");
        }
        assert_eq!(desk.releases, 1);
        for _ in 0..2 * SWALLOWED_MAX {
            holding.settle(&mut desk).expect("taken");
        }
        assert!(!holding.owes());
        assert_eq!(desk.releases, 1 + SWALLOWED_MAX);
    }
}
