//! Acting on a screen: what every platform's input injection offers.

use tandem_protocol::DisplayId;

use crate::CaptureError;
use crate::held::Holdable;

/// Hands on the computer's keyboard and mouse. It blocks shortly at most; give it a thread.
///
/// Whatever it holds down is released by [`release_all`](Self::release_all) and when it is dropped. It believes its caller:
/// rights, layout generations and silence ([`crate::HeldKeys`]) are the caller's to check.
pub trait Injector: Send {
    /// Presses or releases a key by its physical position: a USB HID usage of the keyboard page (7), or with the page in
    /// the upper 16 bits (`0x000c_00cd`) of the consumer page. Pressing what is down already is a repeat; releasing what
    /// is not down does nothing.
    ///
    /// # Errors
    /// [`CaptureError::NoSuchKey`] when the keyboard has none such; nothing happened then.
    fn key(&mut self, usage: u32, down: bool) -> Result<(), CaptureError>;

    /// Types text, whatever the keyboard's layout. Line ends are Return, tabs Tab; other control characters are left out. Modifiers
    /// that are held are let go meanwhile and held again afterwards.
    ///
    /// # Errors
    /// When the keyboard cannot be made to type a character; those before it were typed.
    fn text(&mut self, text: &str) -> Result<(), CaptureError>;

    /// Presses or releases a button: 1 left, 2 middle, 3 right, 4 back, 5 forward, up to 24.
    ///
    /// # Errors
    /// [`CaptureError::NoSuchKey`] for a button beyond.
    fn button(&mut self, button: u32, down: bool) -> Result<(), CaptureError>;

    /// Turns the wheels, in 1/120 of a notch; positive is right and down. What a platform cannot express is kept for the next
    /// turn.
    ///
    /// # Errors
    /// When the display is gone.
    fn wheel(&mut self, dx: i32, dy: i32) -> Result<(), CaptureError>;

    /// Moves the pointer to a pixel of a display; a place outside is moved to its edge.
    ///
    /// # Errors
    /// [`CaptureError::UnknownDisplay`] when there is no such display (any more).
    fn motion(&mut self, display: DisplayId, x: i32, y: i32) -> Result<(), CaptureError>;

    /// Releases all that is held, undoes what typing text had to change, and returns when that is done.
    ///
    /// # Errors
    /// When the display is gone.
    fn release_all(&mut self) -> Result<(), CaptureError>;

    /// Tries again to release what the system kept down when it was time to release it. To be called a few times a second while
    /// there [is such](Self::owes): what the system refused is tried until it is done, what it only did not do for a minute or so.
    ///
    /// # Errors
    /// When it refuses still.
    fn settle(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }

    /// Whether the system keeps something down that was to be released.
    fn owes(&self) -> bool {
        false
    }

    /// What is held now.
    fn held(&self) -> Vec<Holdable>;
}

/// Most notches that one turn of the wheel makes, either way: bounds what one message can cause.
pub(crate) const NOTCHES_MAX: i32 = 64;

/// Turns 1/120 notches into whole ones, keeping the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notches(i32);

impl Notches {
    pub(crate) fn turn(&mut self, amount: i32) -> i32 {
        // Another direction starts afresh: half a notch down must not eat half a notch up.
        if amount.signum() * self.0.signum() < 0 {
            self.0 = 0;
        }
        let sum = self.0 + amount.clamp(-NOTCHES_MAX * 120, NOTCHES_MAX * 120);
        self.0 = sum % 120;
        sum / 120
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_turns_add_up_to_notches() {
        let mut wheel = Notches::default();
        let turned: Vec<i32> =
            [60, 60, 30, 240, -100, -20].into_iter().map(|amount| wheel.turn(amount)).collect();
        assert_eq!(turned, [0, 1, 0, 2, 0, -1]);
        assert_eq!(wheel.turn(i32::MAX), NOTCHES_MAX);
        assert_eq!(wheel.turn(i32::MIN), -NOTCHES_MAX);
    }
}
