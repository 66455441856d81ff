//! When to look at a display and encode a rendition of it. Plain state: what happened comes in, the next step comes out.

use std::time::{Duration, Instant};

use tandem_client::pacer::Pace;

/// Pictures are at least this far apart: 60 a second.
const BETWEEN: Duration = Duration::from_micros(16_667);
/// What did not fit is looked at again after this time, or a path that takes little at once would stand idle.
const AGAIN: Duration = Duration::from_millis(8);
/// The reduced rendition never waits longer for the time that live leaves.
const PATIENCE: Duration = Duration::from_millis(100);

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

impl Next {
    /// The one of two that is due first.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Encode(_), _) | (_, Self::Rest) => self,
            (_, Self::Encode(_)) | (Self::Rest, _) => other,
            (Self::Wait(a), Self::Wait(b)) => Self::Wait(a.min(b)),
        }
    }
}

/// Whether the reduced rendition may be encoded now, which takes about `cost`, when `live` is what live does next. It may not make
/// live late, but it may not starve either.
pub fn has_time(now: Instant, live: Next, cost: Duration, reduced: &Frames) -> bool {
    let waits_long = || reduced.last.is_none_or(|last| now >= last + PATIENCE);
    match live {
        Next::Rest => true,
        Next::Wait(at) => now + cost <= at || waits_long(),
        Next::Encode(_) => waits_long(),
    }
}

/// Whether a rendition is wanted, has changed, and when it was last sent.
#[derive(Debug, Default)]
pub struct Frames {
    wanted: bool,
    changed: bool,
    last: Option<Instant>,
    /// Not all of it was.
    cut: bool,
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
        self.cut = !all;
        self.last = Some(now);
    }

    /// When it was encoded last.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// What to do at `now`; `pace` says what the path takes and is asked only if it matters.
    pub fn next(&self, now: Instant, pace: impl FnOnce() -> Pace) -> Next {
        if !self.wanted || !self.changed {
            return Next::Rest;
        }
        let between = if self.cut { AGAIN } else { BETWEEN };
        if let Some(last) = self.last.filter(|&last| now < last + between) {
            return Next::Wait(last + between);
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
        frames.encoded(true, now);
        frames.changed();
        assert_eq!(frames.next(now, || unreachable!()), Next::Wait(now + BETWEEN));
        let later = now + BETWEEN;
        assert_eq!(frames.next(later, || Pace::Wait(None)), Next::Rest);
        let at = later + Duration::from_secs(1);
        assert_eq!(frames.next(later, || Pace::Wait(Some(at))), Next::Wait(at));
        assert_eq!(frames.next(later, || Pace::Send(7)), Next::Encode(7));
    }

    #[test]
    fn the_rest_of_a_picture_need_not_wait_for_the_next_one() {
        let now = Instant::now();
        let mut frames = Frames::default();
        frames.want(true);
        frames.encoded(false, now);
        assert_eq!(frames.next(now, || unreachable!()), Next::Wait(now + AGAIN));
        assert_eq!(frames.next(now + AGAIN, || Pace::Send(7)), Next::Encode(7));
    }

    #[test]
    fn reduced_takes_the_time_that_live_leaves_but_is_not_forgotten() {
        let now = Instant::now();
        let mut reduced = Frames::default();
        reduced.encoded(true, now);
        let (little, much) = (Duration::from_millis(2), Duration::from_millis(20));
        let live = Next::Wait(now + BETWEEN);
        assert!(has_time(now, live, little, &reduced) && !has_time(now, live, much, &reduced));
        assert!(
            has_time(now, Next::Rest, much, &reduced) && !has_time(now, Next::Encode(9), little, &reduced)
        );
        let later = now + PATIENCE;
        assert!(has_time(later, Next::Wait(later), much, &reduced));
        assert_eq!(live.earlier(Next::Rest), live);
        assert_eq!(Next::Rest.earlier(Next::Wait(now)), Next::Wait(now));
        assert_eq!(live.earlier(Next::Wait(now)), Next::Wait(now));
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
