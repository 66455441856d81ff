//! How old the screen is that a technician sees: now minus the latest capture time of which every cell is at least as new.
//!
//! Sampled on a fixed grid of time. The samples up to a change are taken when the change comes, with the picture of before:
//! so a stall counts in full, however late this program itself was, and an idle screen costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_codec::Rect;

use super::screen::{Schedule, Source};

/// In each of these times there is one sample, not always at the same point: pictures that come every 50 ms would otherwise be
/// seen at five ages only.
const EVERY: Duration = Duration::from_millis(10);
/// Multiples of it, without their whole parts, are spread evenly.
const GOLDEN: f64 = 0.618_033_988_75;
/// A cell lacks no picture.
const NONE: u32 = u32::MAX;

/// The pictures of one technician, against what they should be.
#[derive(Debug)]
pub(crate) struct Age {
    source: Arc<Source>,
    schedule: Schedule,
    /// What each cell shows, as [`Source::content`] has it.
    shown: Vec<u64>,
    /// The first picture that changed a cell and is not shown in it yet, or [`NONE`].
    lacking: Vec<u32>,
    /// Pictures up to here are counted in `lacking`.
    captured: u32,
    /// Once sampling has begun.
    samples: Option<Samples>,
}

/// When samples are due.
#[derive(Clone, Copy, Debug)]
struct Samples {
    start: Instant,
    end: Instant,
    taken: u32,
}

impl Samples {
    /// When the next one is due; `None` after the last.
    fn next(&self) -> Option<Instant> {
        let part = (f64::from(self.taken) * GOLDEN).fract();
        let due = self.start + EVERY * self.taken + EVERY.mul_f64(part);
        (due < self.end).then_some(due)
    }
}

impl Age {
    /// Nothing is shown yet.
    pub(crate) fn new(source: Arc<Source>, schedule: Schedule) -> Self {
        let cells = 0..source.cells();
        let lacking = vec![NONE; cells.len()];
        let shown = cells.map(|cell| source.nothing(cell)).collect();
        Self { source, schedule, shown, lacking, captured: 0, samples: None }
    }

    /// Samples are taken from `start` to `end`.
    pub(crate) fn sample(&mut self, start: Instant, end: Instant) {
        self.samples = Some(Samples { start, end, taken: 0 });
    }

    /// Takes the samples that were due before `now`, each with its age; the first call after something has changed on the screen
    /// comes too late.
    pub(crate) fn catch_up(&mut self, now: Instant, mut sample: impl FnMut(Instant, Duration)) {
        while let Some(due) = self.samples.and_then(|samples| samples.next()).filter(|&due| due <= now) {
            self.samples.iter_mut().for_each(|samples| samples.taken += 1);
            let whole = self.whole(self.schedule.newest(due));
            // Before the first whole picture the screen is as old as the schedule.
            let since = whole.map_or(self.schedule.first, |picture| self.schedule.time(picture));
            sample(due, due.saturating_duration_since(since));
        }
    }

    /// The decoded picture has changed there, at a time when `newest` was the newest picture, by an update that was coded of the
    /// picture `coded`. No cell gets older by that than it was or than that picture is: what is copied before it is made right
    /// may look like something that was there long ago.
    pub(crate) fn changed(&mut self, pixels: &[u8], rects: &[Rect], newest: u32, coded: u32) {
        self.capture(newest);
        for cell in rects.iter().flat_map(|&rect| self.source.touched(rect)) {
            let content = self.source.content(pixels, cell);
            if std::mem::replace(&mut self.shown[cell], content) == content {
                continue;
            }
            let least = self.lacking[cell].min(coded).min(self.captured);
            self.lacking[cell] = match self.source.lacks(pixels, cell, content, self.captured) {
                Some(lacks) => lacks.unwrap_or(NONE).max(least),
                // It is half of something that was not on the screen for long.
                None => least,
            };
        }
    }

    /// Video shows there what the picture `coded` is, nearly: it counts as that.
    pub(crate) fn played(&mut self, rects: &[Rect], newest: u32, coded: u32) {
        self.capture(newest);
        for cell in rects.iter().flat_map(|&rect| self.source.touched(rect)) {
            self.shown[cell] = self.source.content_at(cell, coded);
            self.lacking[cell] = self.source.changed_after(cell, coded, self.captured).unwrap_or(NONE);
        }
    }

    /// Up to which picture everything is shown, when `newest` is the newest that was captured.
    pub(crate) fn whole(&mut self, newest: u32) -> Option<u32> {
        self.capture(newest);
        let first_lacking = self.lacking.iter().copied().min().filter(|&picture| picture != NONE);
        Some(first_lacking.map_or(self.captured, |picture| picture - 1)).filter(|&picture| picture > 0)
    }

    fn capture(&mut self, newest: u32) {
        while self.captured < newest {
            self.captured += 1;
            for (cell, content) in self.source.changed(self.captured) {
                let lacking = &mut self.lacking[cell];
                if self.source.is_as_new(self.shown[cell], content) {
                    *lacking = NONE;
                } else {
                    *lacking = (*lacking).min(self.captured);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::{Content, Screen};
    use super::*;
    use tandem_codec::{Picture, Size};

    const INTERVAL: Duration = Duration::from_millis(100);

    struct Fixture {
        age: Age,
        source: Arc<Source>,
        screen: Screen,
        schedule: Schedule,
    }

    fn fixture() -> Fixture {
        let source = Arc::new(Source::new(Size { w: 256, h: 128 }, Content::Noise, 12_288, 3));
        let schedule = Schedule { first: Instant::now(), interval: INTERVAL };
        Fixture { age: Age::new(source.clone(), schedule), screen: Screen::new(&source), source, schedule }
    }

    /// Takes the samples up to a time, in ms.
    fn catch_up(age: &mut Age, now: Instant, ages: &mut Vec<f64>) {
        age.catch_up(now, |_, age| ages.push(age.as_secs_f64() * 1e3));
    }

    #[test]
    fn a_screen_that_follows_at_once_is_as_old_as_the_last_capture() {
        let Fixture { mut age, source, mut screen, schedule } = fixture();
        let mut ages = Vec::new();
        age.sample(schedule.time(1) + Duration::from_millis(5), schedule.time(21));
        for picture in 1..=20 {
            catch_up(&mut age, schedule.time(picture), &mut ages);
            let rects = screen.advance(&source, picture);
            age.changed(screen.picture().bytes(), &rects, picture, picture);
            assert_eq!(age.whole(picture), Some(picture));
        }
        catch_up(&mut age, schedule.time(30), &mut ages);
        assert!((199..=200).contains(&ages.len()), "one every 10 ms, none after the end: {}", ages.len());
        let max = ages.iter().copied().fold(0.0, f64::max);
        assert!((99.0..100.0).contains(&max), "{max} ms");
        let mut sorted = ages.clone();
        sorted.sort_by(f64::total_cmp);
        let gap = sorted.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(gap < 2.0, "every age is seen: {gap} ms between two");
    }

    #[test]
    fn a_stall_counts_in_full_and_the_oldest_cell_decides() {
        let Fixture { mut age, source, mut screen, schedule } = fixture();
        let mut ages = Vec::new();
        let rects = screen.advance(&source, 1);
        age.changed(screen.picture().bytes(), &rects, 1, 1);
        age.sample(schedule.time(2), schedule.time(12));
        // Picture 2 never comes, all others do: the rest of the screen is new, but it is as old as picture 1.
        let mut picture = screen.picture().clone();
        for number in 2..=5 {
            screen.advance(&source, number);
            if number > 2 {
                let rect = rect(&source, source.changed(number)[0].0);
                copy(&mut picture, screen.picture(), rect);
                age.changed(picture.bytes(), &[rect], number, number);
            }
            assert_eq!(age.whole(number), Some(1));
        }
        // Nothing for a second: the samples are taken afterwards, as old as the picture then was.
        catch_up(&mut age, schedule.time(12), &mut ages);
        assert!((99..=100).contains(&ages.len()), "{}", ages.len());
        assert!(ages.iter().any(|&age| age > 1080.0), "{ages:?}");
        let rects = screen.advance(&source, 12);
        age.changed(screen.picture().bytes(), &rects, 12, 12);
        age.changed(screen.picture().bytes(), &[source.size().rect()], 12, 12);
        assert_eq!(age.whole(12), Some(12));
    }

    #[test]
    fn nothing_is_whole_before_every_cell_has_come() {
        let Fixture { mut age, source, mut screen, .. } = fixture();
        screen.advance(&source, 1);
        let mut picture = Picture::black(source.size());
        for cell in 0..source.cells() {
            assert_eq!(age.whole(1), None);
            let place = rect(&source, cell);
            copy(&mut picture, screen.picture(), place);
            age.changed(picture.bytes(), &[place], 1, 1);
        }
        assert_eq!(age.whole(1), Some(1));
    }

    #[test]
    fn what_is_shown_again_is_not_old() {
        let source = Arc::new(Source::Recorded(super::super::trace::tests::trace()));
        let schedule = Schedule { first: Instant::now(), interval: INTERVAL };
        let (mut age, mut screen) = (Age::new(source.clone(), schedule), Screen::new(&source));
        let rects = screen.advance(&source, 1);
        age.changed(screen.picture().bytes(), &rects, 1, 1);
        assert_eq!(age.whole(1), Some(1));
        // Its white box never comes, but what replaces it is what was there before. The red box is still missing.
        assert_eq!(age.whole(2), Some(1));
        assert_eq!(age.whole(3), Some(2));
        let rects = screen.advance(&source, 3);
        age.changed(screen.picture().bytes(), &rects, 3, 3);
        assert_eq!(age.whole(4), Some(4));
    }

    #[test]
    fn what_looks_like_long_ago_while_it_is_made_right_is_no_older_than_before() {
        let source = Arc::new(Source::Recorded(super::super::trace::tests::trace()));
        let schedule = Schedule { first: Instant::now(), interval: INTERVAL };
        let (mut age, mut screen) = (Age::new(source.clone(), schedule), Screen::new(&source));
        screen.advance(&source, 3);
        let whole = [source.size().rect()];
        age.changed(screen.picture().bytes(), &whole, 3, 3);
        assert_eq!(age.whole(3), Some(3));
        // The red box is grey for a moment, as only the first two pictures have it.
        screen.advance(&source, 4);
        let mut first = Screen::new(&source);
        first.advance(&source, 1);
        age.changed(first.picture().bytes(), &whole, 4, 4);
        assert_eq!(age.whole(4), Some(3));
        age.changed(screen.picture().bytes(), &whole, 4, 4);
        assert_eq!(age.whole(4), Some(4));
    }

    fn rect(source: &Source, cell: usize) -> Rect {
        let columns = usize::from(source.size().w / 64);
        let rect = Rect { x: (cell % columns) as u16 * 64, y: (cell / columns) as u16 * 64, w: 64, h: 64 };
        assert_eq!(source.touched(rect), [cell]);
        rect
    }

    fn copy(to: &mut Picture, from: &Picture, rect: Rect) {
        let stride = usize::from(from.size().w) * tandem_codec::PIXEL;
        for y in usize::from(rect.y)..usize::from(rect.y + rect.h) {
            let at = y * stride + usize::from(rect.x) * tandem_codec::PIXEL;
            let len = usize::from(rect.w) * tandem_codec::PIXEL;
            to.bytes_mut()[at..at + len].copy_from_slice(&from.bytes()[at..at + len]);
        }
    }
}
