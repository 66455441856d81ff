//! When to look at a display and encode it. Plain state: what happened comes in, the next step comes out.

use std::time::{Duration, Instant};

use tandem_client::pacer::Pace;

/// Pictures are at least this far apart: 60 a second.
const BETWEEN: Duration = Duration::from_micros(16_667);

/// What to do about a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Encode what it shows now, in about so many bytes.
    Encode(usize),
    /// Nothing before something happens.
    Rest,
    /// Look again at this time.
    Wait(Instant),
}

/// Whether a display is wanted, has changed, and when it was last sent.
#[derive(Debug, Default)]
pub struct Frames {
    wanted: bool,
    changed: bool,
    last: Option<Instant>,
}

impl Frames {
    /// Somebody watches it, or nobody does any more.
    pub fn want(&mut self, on: bool) {
        self.changed |= on && !self.wanted;
        self.wanted = on;
    }

    /// Whether somebody watches it.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// It shows something new, or owes something.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// It was encoded; `all` of what it showed, or a part.
    pub fn encoded(&mut self, all: bool, now: Instant) {
        self.changed = !all;
        self.last = Some(now);
    }

    /// What to do at `now`; `pace` says what the path takes and is asked only if it matters.
    pub fn next(&self, now: Instant, pace: impl FnOnce() -> Pace) -> Next {
        if !self.wanted || !self.changed {
            return Next::Rest;
        }
        if let Some(last) = self.last.filter(|&last| now < last + BETWEEN) {
            return Next::Wait(last + BETWEEN);
        }
        match pace() {
            Pace::Send(bytes) => Next::Encode(bytes),
            Pace::Wait(Some(at)) => Next::Wait(at.max(now + Duration::from_millis(1))),
            Pace::Wait(None) => Next::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_at_rest_or_unwatched_asks_for_nothing() {
        let now = Instant::now();
        let mut frames = Frames::default();
        frames.changed();
        assert_eq!(frames.next(now, || unreachable!()), Next::Rest);
        frames.want(true);
        assert_eq!(frames.next(now, || Pace::Send(9)), Next::Encode(9));
        frames.encoded(true, now);
        assert_eq!(frames.next(now + Duration::from_secs(9), || unreachable!()), Next::Rest);
    }

    #[test]
    fn pictures_keep_their_distance_and_wait_for_the_path() {
        let now = Instant::now();
        let mut frames = Frames::default();
        frames.want(true);
        frames.encoded(false, now);
        assert_eq!(frames.next(now, || unreachable!()), Next::Wait(now + BETWEEN));
        let later = now + BETWEEN;
        assert_eq!(frames.next(later, || Pace::Wait(None)), Next::Rest);
        let at = later + Duration::from_secs(1);
        assert_eq!(frames.next(later, || Pace::Wait(Some(at))), Next::Wait(at));
        assert_eq!(frames.next(later, || Pace::Send(7)), Next::Encode(7), "the rest of it");
    }

    #[test]
    fn who_comes_gets_what_is_there() {
        let now = Instant::now();
        let mut frames = Frames::default();
        frames.want(true);
        frames.encoded(true, now);
        frames.want(false);
        frames.want(true);
        assert_eq!(frames.next(now + BETWEEN, || Pace::Send(1)), Next::Encode(1));
    }
}
