//! What is held where the system refuses input at times, as Windows does while it asks about elevation or is locked. A release
//! that it refused is owed: it is tried again, so that no key stays down. Plain state, and the system's part is passed in.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::CaptureError;
use crate::held::{Action, HeldKeys, Holdable};

/// Keys and buttons that are down, or should not be any more.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    held: HeldKeys,
    owed: BTreeSet<Holdable>,
}

impl Holding {
    /// Nothing is held, and this is to be released.
    pub(crate) fn owing(owed: impl IntoIterator<Item = Holdable>) -> Self {
        Self { owed: owed.into_iter().collect(), ..Self::default() }
    }

    /// A key or button goes down or up, which `act` makes happen, after what is owed.
    ///
    /// # Errors
    /// As `act`'s. A press that failed was none; a release that failed is owed.
    pub(crate) fn change(
        &mut self,
        what: Holdable,
        down: bool,
        mut act: impl FnMut(Holdable, bool) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        // Where that fails again, it stays owed; what follows says why.
        let _ = self.settle(&mut act);
        // Time plays no part: silence is the caller's to judge.
        let now = Instant::now();
        match self.held.change(what, down, now) {
            Action::Ignore => Ok(()),
            // The system knows a repeat by the key's being down; a button's is none.
            Action::Repeat => act(what, true),
            Action::Act if down => {
                let done = act(what, true);
                if done.is_ok() {
                    // From now on it is down because somebody holds it.
                    self.owed.remove(&what);
                } else {
                    self.held.change(what, false, now);
                }
                done
            }
            Action::Act => self.release(what, &mut act),
        }
    }

    /// Releases all that is held, and tries again what is owed.
    ///
    /// # Errors
    /// The first of `act`'s. All are tried, whatever becomes of one.
    pub(crate) fn release_all(
        &mut self,
        mut act: impl FnMut(Holdable, bool) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let settled = self.settle(&mut act);
        let held = self.held.release_all().into_iter();
        held.map(|what| self.release(what, &mut act)).fold(settled, Result::and)
    }

    /// Tries again what is owed.
    ///
    /// # Errors
    /// As with [`release_all`](Self::release_all).
    pub(crate) fn settle(
        &mut self,
        mut act: impl FnMut(Holdable, bool) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let owed = std::mem::take(&mut self.owed).into_iter();
        owed.map(|what| self.release(what, &mut act)).fold(Ok(()), Result::and)
    }

    fn release(
        &mut self,
        what: Holdable,
        act: &mut impl FnMut(Holdable, bool) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let done = act(what, false);
        if done.is_err() {
            self.owed.insert(what);
        }
        done
    }

    /// What is held now.
    pub(crate) fn held(&self) -> impl Iterator<Item = Holdable> + '_ {
        self.held.held()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A keyboard whose system refuses input while it is locked.
    #[derive(Default)]
    struct Keyboard {
        down: BTreeSet<Holdable>,
        locked: bool,
    }

    impl Keyboard {
        fn act(&mut self, what: Holdable, down: bool) -> Result<(), CaptureError> {
            if self.locked {
                return Err(CaptureError::NotNow { reason: "locked".into() });
            }
            if down {
                self.down.insert(what)
            } else {
                self.down.remove(&what)
            };
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(Holdable, bool),
        Lock(bool),
        Settle,
        ReleaseAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        let what = prop_oneof![(4u32..7).prop_map(Holdable::Key), (1u32..3).prop_map(Holdable::Button)];
        prop_oneof![
            6 => (what, any::<bool>()).prop_map(|(what, down)| Step::Change(what, down)),
            2 => any::<bool>().prop_map(Step::Lock),
            1 => Just(Step::Settle),
            1 => Just(Step::ReleaseAll),
        ]
    }

    proptest! {
        /// Nothing is ever down that is neither held nor owed, and once the system takes input again, only what is held is down.
        #[test]
        fn no_key_stays_down_because_the_system_was_locked(steps in prop::collection::vec(step(), 0..60)) {
            let (mut holding, mut keyboard) = (Holding::default(), Keyboard::default());
            for step in steps {
                let locked = keyboard.locked;
                let done = match step {
                    Step::Change(what, down) => holding.change(what, down, |what, down| keyboard.act(what, down)),
                    Step::Lock(on) => {
                        keyboard.locked = on;
                        Ok(())
                    }
                    Step::Settle => holding.settle(|what, down| keyboard.act(what, down)),
                    Step::ReleaseAll => holding.release_all(|what, down| keyboard.act(what, down)),
                };
                prop_assert!(done.is_ok() || locked);
                let held: BTreeSet<Holdable> = holding.held().collect();
                prop_assert!(held.is_subset(&keyboard.down), "held and not down");
                prop_assert!(keyboard.down.is_subset(&(&held | &holding.owed)), "down for no reason");
                prop_assert!(held.is_disjoint(&holding.owed), "held and to be released");
            }
            keyboard.locked = false;
            prop_assert!(holding.settle(|what, down| keyboard.act(what, down)).is_ok());
            prop_assert_eq!(holding.held().collect::<BTreeSet<_>>(), keyboard.down.clone());
            prop_assert!(holding.release_all(|what, down| keyboard.act(what, down)).is_ok());
            prop_assert!(keyboard.down.is_empty());
        }
    }

    #[test]
    fn what_another_run_left_down_is_released_when_that_can_be() {
        let key = Holdable::Key(0xe0);
        let mut keyboard = Keyboard { down: BTreeSet::from([key]), locked: true };
        let mut holding = Holding::owing([key]);
        assert!(holding.settle(|what, down| keyboard.act(what, down)).is_err());
        keyboard.locked = false;
        holding.change(Holdable::Button(1), true, |what, down| keyboard.act(what, down)).expect("open");
        assert_eq!(keyboard.down, BTreeSet::from([Holdable::Button(1)]));
    }

    #[test]
    fn what_is_pressed_again_is_not_released_late() {
        let (mut holding, mut keyboard) = (Holding::default(), Keyboard::default());
        let key = Holdable::Key(0xe0);
        holding.change(key, true, |what, down| keyboard.act(what, down)).expect("open");
        keyboard.locked = true;
        let refused = holding.change(key, false, |what, down| keyboard.act(what, down));
        assert!(matches!(refused, Err(CaptureError::NotNow { .. })), "{refused:?}");
        assert!(keyboard.down.contains(&key), "the system has it down still");
        keyboard.locked = false;
        holding.change(key, true, |what, down| keyboard.act(what, down)).expect("open");
        holding.settle(|what, down| keyboard.act(what, down)).expect("open");
        assert!(keyboard.down.contains(&key), "somebody holds it");
    }
}
