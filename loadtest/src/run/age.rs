//! How old the screen is that a technician sees: now minus the latest capture time of which every cell is at least as new.
//!
//! Sampled on a fixed grid of time. The samples up to a change are taken when the change comes, with the picture of before:
//! so a stall counts in full, however late this program itself was, and an idle screen costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tandem_codec::Rect;

use super::screen::{Schedule, Source};

/// Time between two samples.
const EVERY: Duration = Duration::from_millis(10);

/// The pictures of one technician, against what they should be.
#[derive(Debug)]
pub(crate) struct Age {
    source: Arc<Source>,
    schedule: Schedule,
    /// The picture that each cell shows.
    shown: Vec<u32>,
    /// Later pictures that changed a cell and are not shown in it yet.
    missing: Vec<VecDeque<u32>>,
    /// Pictures up to here are counted in `missing`.
    captured: u32,
    /// When the next sample is due and when sampling ends, once it has begun.
    samples: Option<(Instant, Instant)>,
}

impl Age {
    /// Nothing is shown yet.
    pub(crate) fn new(source: Arc<Source>, schedule: Schedule) -> Self {
        let cells = source.cells();
        Self {
            source,
            schedule,
            shown: vec![0; cells],
            missing: vec![VecDeque::new(); cells],
            captured: 0,
            samples: None,
        }
    }

    /// Samples are taken from `start` to `end`.
    pub(crate) fn sample(&mut self, start: Instant, end: Instant) {
        self.samples = Some((start, end));
    }

    /// Takes the samples that were due before `now`; the first call after something has changed on the screen comes too late.
    pub(crate) fn catch_up(&mut self, now: Instant, ages: &mut Histogram<u64>) {
        while let Some((due, end)) = self.samples.filter(|&(due, end)| due < end && due <= now) {
            self.samples = Some((due + EVERY, end));
            let whole = self.whole(self.schedule.newest(due));
            // Before the first whole picture the screen is as old as the schedule.
            let since = whole.map_or(self.schedule.first, |picture| self.schedule.time(picture));
            ages.saturating_record(due.saturating_duration_since(since).as_micros() as u64);
        }
    }

    /// The decoded picture has changed there.
    pub(crate) fn changed(&mut self, pixels: &[u8], rects: &[Rect]) {
        for cell in 0..self.shown.len() {
            let place = self.source.rect(cell);
            if !rects.iter().any(|&rect| meet(place, rect)) {
                continue;
            }
            let shown = self.source.shown(pixels, cell);
            self.shown[cell] = shown;
            while self.missing[cell].pop_front_if(|picture| *picture <= shown).is_some() {}
        }
    }

    /// Up to which picture everything is shown, when `newest` is the newest that was captured. It never goes back.
    pub(crate) fn whole(&mut self, newest: u32) -> Option<u32> {
        while self.captured < newest {
            self.captured += 1;
            for cell in self.source.changed(self.captured) {
                if self.shown[cell] < self.captured {
                    self.missing[cell].push_back(self.captured);
                }
            }
        }
        let first_missing = self.missing.iter().filter_map(VecDeque::front).min();
        Some(first_missing.map_or(self.captured, |missing| missing - 1)).filter(|&picture| picture > 0)
    }
}

fn meet(a: Rect, b: Rect) -> bool {
    let overlap = |a: u16, a_len: u16, b: u16, b_len: u16| {
        u32::from(a) < u32::from(b) + u32::from(b_len) && u32::from(b) < u32::from(a) + u32::from(a_len)
    };
    overlap(a.x, a.w, b.x, b.w) && overlap(a.y, a.h, b.y, b.h)
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

    fn ages() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
    }

    #[test]
    fn a_screen_that_follows_at_once_is_as_old_as_the_last_capture() {
        let Fixture { mut age, source, mut screen, schedule } = fixture();
        let mut histogram = ages();
        age.sample(schedule.time(1) + Duration::from_millis(5), schedule.time(21));
        for picture in 1..=20 {
            age.catch_up(schedule.time(picture), &mut histogram);
            let rects = screen.advance(&source, picture);
            age.changed(screen.picture().bytes(), &rects);
            assert_eq!(age.whole(picture), Some(picture));
        }
        age.catch_up(schedule.time(30), &mut histogram);
        assert_eq!(histogram.len(), 200, "one every 10 ms, none after the end");
        let max = histogram.max() as f64 / 1e3;
        assert!((94.0..97.0).contains(&max), "{max} ms");
    }

    #[test]
    fn a_stall_counts_in_full_and_the_oldest_cell_decides() {
        let Fixture { mut age, source, mut screen, schedule } = fixture();
        let mut histogram = ages();
        let rects = screen.advance(&source, 1);
        age.changed(screen.picture().bytes(), &rects);
        age.sample(schedule.time(2), schedule.time(12));
        // Picture 2 never comes, all others do: the rest of the screen is new, but it is as old as picture 1.
        let mut picture = screen.picture().clone();
        for number in 2..=5 {
            screen.advance(&source, number);
            if number > 2 {
                let rect = source.rect(source.changed(number)[0]);
                copy(&mut picture, screen.picture(), rect);
                age.changed(picture.bytes(), &[rect]);
            }
            assert_eq!(age.whole(number), Some(1));
        }
        // Nothing for a second: the samples are taken afterwards, as old as the picture then was.
        age.catch_up(schedule.time(12), &mut histogram);
        assert_eq!(histogram.len(), 100);
        assert!(histogram.max() > 1_080_000, "{}", histogram.max());
        let rects = screen.advance(&source, 12);
        age.changed(screen.picture().bytes(), &rects);
        age.changed(screen.picture().bytes(), &[source.size().rect()]);
        assert_eq!(age.whole(12), Some(12));
    }

    #[test]
    fn nothing_is_whole_before_every_cell_has_come() {
        let Fixture { mut age, source, mut screen, .. } = fixture();
        screen.advance(&source, 1);
        let mut picture = Picture::black(source.size());
        for cell in 0..source.cells() {
            assert_eq!(age.whole(1), None);
            copy(&mut picture, screen.picture(), source.rect(cell));
            age.changed(picture.bytes(), &[source.rect(cell)]);
        }
        assert_eq!(age.whole(1), Some(1));
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
