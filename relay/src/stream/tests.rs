//! The stream on its own: numbers, ways in, crossings, bounds.

use super::*;
use tandem_protocol::limits;
use tandem_protocol::{DisplayId, LaneKind, Rendition, ScreenHeader, Sender};

/// A clock, records, and the stream they go to.
struct Scene {
    stream: Stream,
    now: Instant,
}

fn record(epoch: u64, point: Point, kind: ScreenKind, len: usize, more: bool) -> Record {
    let screen =
        ScreenHeader { display: DisplayId(0), rendition: point.rendition, segment: point.segment, kind };
    let header = Header {
        record_type: 0,
        flags: if more { Flags::MORE } else { Flags::default() },
        sender: Sender(1),
        key_id: 0,
        epoch,
        seq: point.seq,
        time_us: 0,
        screen: Some(screen),
    };
    Record::new(header, &vec![0; len])
}

fn live(segment: u32, seq: u64) -> Point {
    Point { rendition: Rendition::LIVE, segment, seq }
}

fn reduced(segment: u32, seq: u64) -> Point {
    Point { rendition: Rendition::REDUCED, segment, seq }
}

const BLACK: ScreenKind = ScreenKind::Start { from: None };

fn from(point: Point) -> ScreenKind {
    ScreenKind::Start { from: Some(point) }
}

impl Scene {
    fn new() -> Self {
        Self { stream: Stream::default(), now: Instant::now() }
    }

    fn push(&mut self, point: Point, kind: ScreenKind) -> Result<Pushed, StreamError> {
        self.stream.push(&record(1, point, kind, 10, false), self.now)
    }

    fn part(&mut self, point: Point, kind: ScreenKind, more: bool) -> Result<Pushed, StreamError> {
        self.stream.push(&record(1, point, kind, 10, more), self.now)
    }

    fn key(&mut self, point: Point) -> PushedKey {
        self.stream.push_key(&record(1, point, ScreenKind::Key, 10, false)).unwrap()
    }

    fn enter(&self) -> Position {
        self.stream.entry(0).expect("a way in").position
    }

    /// Reads what there is: the numbers, and whether the position was lost.
    fn drain(&self, position: &mut Position) -> (Vec<u64>, bool) {
        let mut seqs = Vec::new();
        loop {
            match self.stream.read(position) {
                Read::Record(bytes) => {
                    let (header, _) = Header::parse(LaneKind::Screen, &bytes).unwrap().unwrap();
                    seqs.push(header.seq);
                }
                Read::Nothing => return (seqs, false),
                Read::Lost => return (seqs, true),
            }
        }
    }
}

#[test]
fn a_joiner_gets_the_held_segment_and_those_in_step_cross_into_the_next() {
    let mut scene = Scene::new();
    assert_eq!(scene.push(live(0, 0), ScreenKind::Update), Err(StreamError::NoStart));
    assert_eq!(scene.push(live(0, 0), BLACK), Ok(Pushed::Black));
    scene.push(live(0, 1), ScreenKind::Update).unwrap();
    let mut first = scene.enter();
    assert_eq!(scene.drain(&mut first), (vec![0, 1], false));
    // The next segment goes on for who is in step; a joiner comes by the segment before it as well.
    assert_eq!(scene.push(live(1, 2), from(live(0, 1))), Ok(Pushed::Start));
    scene.push(live(1, 3), ScreenKind::Update).unwrap();
    assert_eq!(scene.drain(&mut scene.enter()), (vec![0, 1, 2, 3], false));
    assert_eq!(scene.drain(&mut first), (vec![2, 3], false));
    // With its key the newer one is the cheaper way.
    for seq in 4..9 {
        scene.push(live(1, seq), ScreenKind::Update).unwrap();
    }
    assert_eq!(scene.key(live(1, 1)), PushedKey::Whole);
    let entry = scene.stream.entry(0).unwrap();
    assert_eq!(entry.key.len(), 1);
    assert_eq!(scene.drain(&mut { entry.position }).0[0], 2);
    scene.stream.trim(first.ordinal(), u64::MAX, false, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.first(), 2, "the segment before it is let go");
    assert!(scene.stream.entry(3).is_none(), "there is no later way in");
}

#[test]
fn only_a_start_may_leave_numbers_out_and_a_duplicate_is_ignored() {
    let mut scene = Scene::new();
    scene.push(live(0, 5), BLACK).unwrap();
    assert_eq!(scene.push(live(0, 7), ScreenKind::Update), Err(StreamError::Gap { got: 7, expected: 6 }));
    assert_eq!(scene.push(live(9, 6), ScreenKind::Update), Err(StreamError::Segment(9)));
    assert_eq!(scene.push(live(0, 6), ScreenKind::Update), Ok(Pushed::Update));
    assert_eq!(scene.push(live(0, 6), ScreenKind::Update), Ok(Pushed::Duplicate));
    assert_eq!(scene.push(live(0, 5), BLACK), Ok(Pushed::Duplicate));
    assert_eq!(scene.stream.received(), Some((1, 7)));
    assert_eq!(scene.push(live(1, 9), from(reduced(0, 0))), Ok(Pushed::Start));
    assert_eq!(scene.stream.received(), Some((1, 10)));
}

#[test]
fn who_is_in_step_does_not_pass_a_start_that_does_not_go_on_from_the_record_before_it() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    let mut reader = scene.enter();
    scene.push(live(1, 2), from(reduced(0, 3))).unwrap();
    assert_eq!(scene.drain(&mut reader), (vec![0], true));
    assert!(scene.stream.entry(0).is_none(), "and a joiner comes past it no more");
    let mut crossing = scene.stream.bridge(reduced(0, 3)).unwrap();
    assert_eq!(scene.drain(&mut crossing), (vec![2], false));
    assert_eq!(scene.key(live(1, 9)), PushedKey::Whole);
    assert_eq!(scene.drain(&mut scene.enter()), (vec![2], false));
    // A start from black takes everybody on.
    scene.push(live(2, 3), BLACK).unwrap();
    assert_eq!(scene.stream.skip_to_black(&mut reader), Some(1));
    assert_eq!(scene.drain(&mut reader), (vec![3], false));
}

#[test]
fn a_crossing_is_found_from_the_update_that_it_names_and_from_those_before() {
    let mut scene = Scene::new();
    scene.push(reduced(0, 0), from(live(0, 7))).unwrap();
    scene.push(reduced(0, 1), ScreenKind::Update).unwrap();
    scene.push(reduced(1, 2), from(live(3, 9))).unwrap();
    let ordinal = |position: Option<Position>| position.map(Position::ordinal);
    assert_eq!(ordinal(scene.stream.bridge(live(0, 7))), Some(0));
    assert_eq!(ordinal(scene.stream.bridge(live(0, 8))), None);
    assert_eq!(ordinal(scene.stream.bridge_ahead(live(0, 8))), Some(2));
    assert_eq!(ordinal(scene.stream.bridge_ahead(live(4, 10))), None);
    assert!(scene.stream.entry(0).is_none());
}

#[test]
fn a_new_epoch_begins_anew_and_old_positions_go_on_at_its_start() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    let mut old = scene.enter();
    let again = record(2, live(0, 0), BLACK, 10, false);
    assert_eq!(scene.stream.push(&again, scene.now), Ok(Pushed::Black));
    assert_eq!(scene.stream.read(&mut { old }), Read::Lost);
    assert_eq!(scene.stream.skip_to_black(&mut old), Some(1));
    assert_eq!(scene.drain(&mut old), (vec![0], false));
    let own = record(3, live(0, 0), from(live(0, 0)), 10, false);
    assert_eq!(scene.stream.push(&own, scene.now), Err(StreamError::NoStart));
    // Who had all of the old epoch shows nothing of the new one, though the numbers are the same.
    let third = record(3, live(0, 0), BLACK, 10, false);
    scene.stream.push(&third, scene.now).unwrap();
    assert_eq!(old.shows(), Some(live(0, 0)));
    assert_eq!(scene.stream.skip_to_black(&mut old), Some(0));
    assert_eq!(old.shows(), None);
}

#[test]
fn who_is_in_the_middle_of_a_body_ends_it_before_it_skips_to_a_start_from_black() {
    let mut scene = Scene::new();
    scene.part(live(0, 0), BLACK, true).unwrap();
    assert_eq!(scene.part(live(0, 1), BLACK, false), Ok(Pushed::Update), "a start in parts is one start");
    let mut reader = scene.enter();
    assert!(matches!(scene.stream.read(&mut reader), Read::Record(..)));
    assert_eq!(reader.shows(), None);
    scene.push(live(1, 2), BLACK).unwrap();
    assert_eq!(scene.stream.skip_to_black(&mut reader), None);
    assert_eq!(scene.drain(&mut reader), (vec![1, 2], false));
    assert_eq!(reader.shows(), Some(live(1, 2)));
}

#[test]
fn beyond_the_bound_the_oldest_go_and_a_straggler_is_lost() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    let mut slow = scene.enter();
    for seq in 1..40 {
        let update = record(1, live(0, seq), ScreenKind::Update, 1 << 19, false);
        scene.stream.push(&update, scene.now).unwrap();
        scene.stream.trim(slow.ordinal(), u64::MAX, false, limits::HELD_SEGMENT_MAX);
    }
    assert!(scene.stream.held_bytes() <= limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.read(&mut slow), Read::Lost);
    assert!(scene.stream.entry(0).is_none(), "a cut segment cannot be entered");
    scene.stream.trim(u64::MAX, u64::MAX, false, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.held_bytes(), 0, "so nobody would use it");
}

#[test]
fn a_segment_that_costs_more_than_a_key_is_not_held_for_joiners() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    for seq in 1..10 {
        scene.push(live(0, seq), ScreenKind::Update).unwrap();
    }
    let bytes = scene.stream.held_bytes() as u64;
    scene.stream.trim(u64::MAX, bytes, false, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.first(), 0);
    scene.stream.trim(4, bytes - 1, false, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.first(), 4, "but for who reads it");
    scene.push(live(1, 10), from(live(0, 9))).unwrap();
    scene.stream.trim(u64::MAX, 0, true, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.stream.first(), 10, "its key may be on the way");
}

#[test]
fn a_returning_subscriber_goes_on_after_what_it_shows() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    scene.push(live(0, 1), ScreenKind::Update).unwrap();
    scene.push(live(1, 5), from(reduced(0, 0))).unwrap();
    assert_eq!(scene.drain(&mut scene.stream.after(1, live(0, 0)).unwrap()), (vec![1], true));
    assert!(scene.stream.after(2, live(0, 0)).is_none(), "of another epoch");
    assert!(scene.stream.after(1, live(0, 3)).is_none(), "a number that was left out");
    assert!(scene.stream.after(1, live(1, 6)).is_none(), "one that has not come");
    assert_eq!(scene.drain(&mut scene.stream.after(1, live(1, 5)).unwrap()), (vec![], false));
    scene.stream.trim(2, 0, false, limits::HELD_SEGMENT_MAX);
    assert!(scene.stream.after(1, live(0, 0)).is_none(), "what follows is gone");
}

#[test]
fn a_key_begun_on_a_lane_that_was_opened_again_does_not_go_on() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    scene.push(live(1, 1), from(live(0, 0))).unwrap();
    let part = record(1, live(1, 0), ScreenKind::Key, 10, true);
    assert_eq!(scene.stream.push_key(&part), Ok(PushedKey::Part));
    assert!(scene.stream.key_is_arriving());
    scene.stream.key_lane_opened();
    assert!(!scene.stream.key_is_arriving());
    assert_eq!(scene.key(live(1, 0)), PushedKey::Whole);
}

#[test]
fn a_key_that_comes_before_its_start_waits_for_it() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    let part = |more| record(1, live(1, 0), ScreenKind::Key, 10, more);
    for more in [true, false] {
        assert_eq!(scene.stream.push_key(&part(more)), Ok(PushedKey::Part), "there is no such segment yet");
    }
    scene.push(live(1, 1), from(live(0, 0))).unwrap();
    assert!(scene.stream.has_key());
    assert_eq!(scene.stream.entry(1).unwrap().key.len(), 2);
}

#[test]
fn a_key_whose_start_was_let_go_is_of_no_use() {
    let mut scene = Scene::new();
    scene.push(live(0, 0), BLACK).unwrap();
    scene.push(live(1, 1), from(live(0, 0))).unwrap();
    scene.push(live(1, 2), ScreenKind::Update).unwrap();
    scene.stream.trim(u64::MAX, 0, false, limits::HELD_SEGMENT_MAX);
    assert_eq!(scene.key(live(1, 0)), PushedKey::Useless);
}
