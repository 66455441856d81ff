//! The video plane, end to end with a real H.264 codec: what moves is shown nearly, all else and what rests exactly.
#![cfg(feature = "video")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::time::Duration;

use tandem_codec::{
    Base, DecodeError, Decoder, DecoderLimits, Encoder, EncoderOptions, Hints, Job, Outcome, PIXEL, Picture,
    PixelOrder, Rect, Renditions, ScreenRecord, Size, Update, VideoPlayer, Viewer, ViewerLimits, Want,
};
use tandem_protocol::{Point, Rendition, ScreenKind};

const SIZE: Size = Size { w: 640, h: 480 };
/// At odd places, of odd size.
const CLIP: Rect = Rect { x: 101, y: 83, w: 333, h: 221 };
const INTERVAL: Duration = Duration::from_millis(40);

/// A page of writing with a clip in it.
fn page() -> Picture {
    let mut picture = Picture::black(SIZE);
    for (at, pixel) in picture.bytes_mut().chunks_exact_mut(PIXEL).enumerate() {
        let (x, y) = (at % usize::from(SIZE.w), at / usize::from(SIZE.w));
        let ink = y % 14 < 9 && (x / 2 * 7919 + y / 3 * 104_729) % 5 < 2;
        pixel.fill(if ink { 20 } else { 250 });
    }
    picture
}

/// Paints picture `number` of a film.
fn play(picture: &mut Picture, rect: Rect, number: u32) {
    let t = number as f32 * 0.35;
    for y in rect.y..rect.y + rect.h {
        for x in rect.x..rect.x + rect.w {
            let (fx, fy) = (f32::from(x), f32::from(y));
            let wave = (fx / 23.0 + t).sin() * 50.0 + (fy / 31.0 - t * 0.7).sin() * 45.0;
            let grain = (u32::from(x) * 2_654_435 + u32::from(y) * 40_503 + number * 977) >> 7 & 3;
            let value = (128.0 + wave) as u32 + grain;
            let at = (usize::from(y) * usize::from(SIZE.w) + usize::from(x)) * PIXEL;
            picture.bytes_mut()[at..at + 3].copy_from_slice(&[
                value as u8,
                (value * 3 / 4) as u8,
                (value / 2 + 60) as u8,
            ]);
        }
    }
}

struct Watcher {
    decoder: Decoder,
    player: VideoPlayer,
}

impl Watcher {
    fn new() -> Self {
        let decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
        Self { decoder, player: VideoPlayer::new(PixelOrder::Bgra) }
    }

    fn apply(&mut self, update: &Update) -> Result<(), DecodeError> {
        match update.start {
            Some(base) => self.decoder.start(base, &update.body)?,
            None => self.decoder.update(&update.body)?,
        };
        self.player.play(&mut self.decoder).map(drop)
    }
}

fn is_within(rect: Rect, x: usize, y: usize) -> bool {
    (usize::from(rect.x)..usize::from(rect.x + rect.w)).contains(&x)
        && (usize::from(rect.y)..usize::from(rect.y + rect.h)).contains(&y)
}

/// Pixels that differ outside of the clip, and the mean difference of green within.
fn compare(shown: &[u8], picture: &Picture) -> (usize, f64) {
    let (mut outside, mut sum) = (0, 0.0);
    let pairs = shown.chunks_exact(PIXEL).zip(picture.bytes().chunks_exact(PIXEL));
    for (at, (a, b)) in pairs.enumerate() {
        let (x, y) = (at % usize::from(SIZE.w), at / usize::from(SIZE.w));
        if is_within(CLIP, x, y) {
            sum += f64::from(a[1].abs_diff(b[1]));
        } else {
            outside += usize::from(a[..3] != b[..3]);
        }
    }
    (outside, sum / CLIP.pixels() as f64)
}

fn options() -> EncoderOptions {
    EncoderOptions { video: true, plain_window_log: 20, ..EncoderOptions::new(SIZE) }
}

struct Show {
    encoder: Encoder,
    picture: Picture,
    number: u32,
    now: Duration,
}

impl Show {
    fn new() -> Self {
        Self { encoder: Encoder::new(options()).unwrap(), picture: page(), number: 0, now: Duration::ZERO }
    }

    /// The next picture, with the clip moving or at rest.
    fn next(&mut self, moves: bool, budget: usize) -> Option<Update> {
        if moves {
            self.number += 1;
            play(&mut self.picture, CLIP, self.number);
        }
        self.now += INTERVAL;
        let hints = Hints { now: self.now, ..Hints::default() };
        self.encoder.encode(self.picture.borrow(), &hints, budget).unwrap()
    }
}

#[test]
fn a_clip_is_found_goes_as_video_and_is_exact_again_when_it_rests() {
    let (mut show, mut watcher) = (Show::new(), Watcher::new());
    for number in 0..30 {
        let update = show.next(true, usize::MAX).unwrap();
        watcher.apply(&update).unwrap();
        let (outside, within) = compare(watcher.decoder.picture(), &show.picture);
        assert_eq!(outside, 0, "writing is exact");
        assert!(within < 4.0, "{within} at picture {number}");
        if number >= 4 {
            let regions: Vec<Rect> = show.encoder.video_regions().collect();
            assert_eq!(regions, [CLIP], "picture {number}");
            assert!(update.pixels.video > 0 && !update.complete);
        }
    }
    let mut pictures = 0;
    while show.encoder.rests_at().is_some() {
        pictures += 1;
        show.next(false, usize::MAX).into_iter().for_each(|update| watcher.apply(&update).unwrap());
    }
    assert!(INTERVAL * pictures <= Duration::from_millis(320), "{pictures} pictures");
    assert_eq!(compare(watcher.decoder.picture(), &show.picture), (0, 0.0));
    assert_eq!(show.next(false, usize::MAX), None);
}

#[test]
fn pictures_keep_to_their_budget_over_two_seconds() {
    let mut show = Show::new();
    let budget = 350;
    // The page and the clip's first pictures.
    (0..50).for_each(|_| drop(show.next(true, usize::MAX)));
    (0..25).for_each(|_| drop(show.next(true, budget)));
    let bytes: usize = (0..50).map(|_| show.next(true, budget).map_or(0, |update| update.body.len())).sum();
    let part = bytes as f64 / (50 * budget) as f64;
    assert!((0.9..1.1).contains(&part), "{part} of the budget");
}

#[test]
fn who_joins_by_a_key_sees_the_video_from_the_segment_s_start() {
    let (mut show, mut watcher, mut joiner) = (Show::new(), Watcher::new(), Watcher::new());
    (0..10).for_each(|_| watcher.apply(&show.next(true, usize::MAX).unwrap()).unwrap());
    let key = show.encoder.start_segment().unwrap().encode().unwrap();
    joiner.decoder.key(&key).unwrap();
    let start = show.next(false, usize::MAX).unwrap();
    assert_eq!(start.start, Some(Base::Shadow));
    assert!(start.pixels.video > 0, "the clip begins again although it rests");
    for watcher in [&mut watcher, &mut joiner] {
        watcher.apply(&start).unwrap();
    }
    for _ in 0..5 {
        let update = show.next(true, usize::MAX).unwrap();
        for watcher in [&mut watcher, &mut joiner] {
            watcher.apply(&update).unwrap();
            let (outside, within) = compare(watcher.decoder.picture(), &show.picture);
            assert!(outside == 0 && within < 4.0, "{outside} {within}");
        }
    }
}

#[test]
fn video_that_is_not_allowed_any_more_becomes_exact_at_once() {
    let (mut show, mut watcher) = (Show::new(), Watcher::new());
    (0..10).for_each(|_| watcher.apply(&show.next(true, usize::MAX).unwrap()).unwrap());
    show.encoder.set_video(false);
    for _ in 0..5 {
        let update = show.next(true, usize::MAX).unwrap();
        assert_eq!(update.pixels.video, 0);
        watcher.apply(&update).unwrap();
        assert_eq!(compare(watcher.decoder.picture(), &show.picture), (0, 0.0));
    }
}

/// Two renditions, somebody who goes from one to the other and back, and a clip all the while.
#[test]
fn a_fork_and_a_merge_take_the_video_along() {
    let mut renditions = Renditions::new(options());
    let mut seqs = [0u64; 2];
    let mut viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
    let mut player = VideoPlayer::new(PixelOrder::Bgra);
    let (mut picture, mut now) = (page(), Duration::ZERO);
    let wanted = Want { on: true, ..Want::default() };
    renditions.want(Want { request: 1, ..wanted });
    let mut follows = Rendition::LIVE;
    for number in 0..60 {
        play(&mut picture, CLIP, number.min(40));
        now += INTERVAL;
        renditions.set_time(now);
        renditions.damage(None);
        match number {
            15 => {
                renditions.want(Want { request: 1, rendition: Rendition::REDUCED, start: true, ..wanted });
                follows = Rendition::REDUCED;
            }
            30 => {
                renditions.want(Want { request: 2, rendition: Rendition::REDUCED, merge: true, ..wanted });
                follows = Rendition::LIVE;
            }
            _ => {}
        }
        for rendition in [Rendition::LIVE, Rendition::REDUCED] {
            prepare(&mut renditions);
            let Some(record) = renditions.encode(rendition, picture.borrow(), None, usize::MAX).unwrap()
            else {
                continue;
            };
            let seq = &mut seqs[usize::from(rendition.0)];
            *seq += 1 + u64::from(record.skips);
            renditions.sent(rendition, *seq);
            prepare(&mut renditions);
            take(&mut viewer, &mut player, &record, *seq);
        }
        let (outside, within) = compare(viewer.decoder().picture(), &picture);
        assert!(outside == 0 && within < 4.0, "{outside} {within} at picture {number}");
    }
    assert_eq!(viewer.point().unwrap().rendition, follows);
    assert_eq!(compare(viewer.decoder().picture(), &picture), (0, 0.0), "it rests");
}

fn prepare(renditions: &mut Renditions) {
    while let Some(job) = renditions.next_job() {
        if let Job::Streams(job) = job {
            renditions.prepared(job.run());
        }
    }
}

/// Gives a record to a viewer, who must never be lost.
fn take(viewer: &mut Viewer, player: &mut VideoPlayer, record: &ScreenRecord, seq: u64) {
    let point = Point { rendition: record.rendition, segment: record.segment, seq };
    let outcome = viewer.apply(record.kind, point, seq, false, &record.body);
    assert!(!matches!(outcome, Outcome::Lost(_)), "{outcome:?} of {:?} {point:?}", record.kind);
    assert!(!matches!(record.kind, ScreenKind::Key));
    player.play_viewer(viewer).unwrap();
}

#[test]
fn damaged_video_is_an_error_and_nothing_worse() {
    let mut show = Show::new();
    let updates: Vec<Update> = (0..12).map(|_| show.next(true, usize::MAX).unwrap()).collect();
    for seed in 0..200usize {
        let mut watcher = Watcher::new();
        for (i, update) in updates.iter().enumerate() {
            let mut update = update.clone();
            if i == 4 + seed % 8 {
                // Video stands at the end.
                let at = update.body.len() - 1 - seed * 37 % update.body.len().min(3000);
                update.body[at] ^= 1 << (seed % 8);
            }
            if watcher.apply(&update).is_err() {
                break;
            }
        }
    }
}
