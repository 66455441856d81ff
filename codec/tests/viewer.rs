//! The subscriber's rule, case by case.

mod common;

use common::{Content, Publisher, Sent, Subscriber, colours, draw, size};
use tandem_codec::{
    DecodeError, EncoderOptions, Hints, Lost, Outcome, Picture, PixelOrder, Viewer, ViewerLimits,
};
use tandem_protocol::{DisplayId, Flags, Header, Point, Rendition, ScreenHeader, ScreenKind, Sender};

/// Two segments of four updates each, the second with a key.
fn published() -> (Publisher, Picture) {
    let mut picture = Picture::black(size(100, 50));
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    for i in 0..8 {
        draw(
            &mut picture,
            tandem_codec::Rect { x: i * 10, y: i, w: 30, h: 20 },
            Content::Noise,
            u64::from(i),
        );
        if i == 4 {
            publisher.start_segment();
        }
        publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    }
    (publisher, picture)
}

fn is_applied(outcome: &Outcome, seq: u64) -> bool {
    matches!(outcome, Outcome::Applied { point, .. } if point.seq == seq)
}

#[test]
fn in_step_a_key_is_skipped_and_the_next_segment_goes_on() {
    let (publisher, _) = published();
    let mut subscriber = Subscriber::new();
    for sent in &publisher.lane[..4] {
        assert!(is_applied(&subscriber.take(&publisher, sent), sent.point.seq));
    }
    assert_eq!(subscriber.take(&publisher, &publisher.keys[&1][0]), Outcome::Held, "perhaps it is needed");
    for sent in &publisher.lane[4..] {
        assert!(is_applied(&subscriber.take(&publisher, sent), sent.point.seq));
    }
    assert_eq!(subscriber.take(&publisher, &publisher.keys[&1][0]), Outcome::Skipped);
}

#[test]
fn a_joiner_needs_key_and_start_in_either_order() {
    let (publisher, picture) = published();
    let key = &publisher.keys[&1][0];
    let mut first = Subscriber::new();
    assert!(is_applied(&first.take(&publisher, key), 3), "shown as soon as it comes");
    assert!(is_applied(&first.take(&publisher, &publisher.lane[4]), 4));

    let mut last = Subscriber::new();
    for sent in &publisher.lane[4..] {
        assert_eq!(last.take(&publisher, sent), Outcome::Held);
    }
    assert!(is_applied(&last.take(&publisher, key), 7), "all that was held goes on");
    assert!(colours(last.viewer.decoder().picture()) == colours(picture.bytes()));
}

#[test]
fn repeated_updates_are_skipped() {
    let (publisher, _) = published();
    let mut subscriber = Subscriber::new();
    publisher.lane.iter().for_each(|sent| drop(subscriber.take(&publisher, sent)));
    for sent in &publisher.lane[4..] {
        assert_eq!(subscriber.take(&publisher, sent), Outcome::Skipped, "{:?}", sent.point);
    }
}

#[test]
fn a_gap_is_lost_until_a_start_and_a_key_have_come() {
    let (publisher, picture) = published();
    let mut subscriber = Subscriber::new();
    subscriber.take(&publisher, &publisher.lane[0]);
    assert_eq!(subscriber.take(&publisher, &publisher.lane[2]), Outcome::Lost(Lost::Gap));
    assert_eq!(subscriber.viewer.point(), None);
    assert_eq!(subscriber.take(&publisher, &publisher.lane[3]), Outcome::Skipped, "of no use now");
    publisher.lane[4..]
        .iter()
        .chain(&publisher.keys[&1])
        .for_each(|sent| drop(subscriber.take(&publisher, sent)));
    assert!(colours(subscriber.viewer.decoder().picture()) == colours(picture.bytes()));
}

#[test]
fn who_is_far_behind_is_brought_forward_by_a_key_in_either_order() {
    let (publisher, picture) = published();
    let key = &publisher.keys[&1][0];
    for key_first in [true, false] {
        let mut subscriber = Subscriber::new();
        subscriber.take(&publisher, &publisher.lane[0]);
        // Updates 1 to 3 are not sent to it any more.
        let (first, second) = if key_first { (key, &publisher.lane[4]) } else { (&publisher.lane[4], key) };
        assert_eq!(subscriber.take(&publisher, first), Outcome::Held);
        assert_eq!(subscriber.viewer.point(), Some(publisher.lane[0].point), "still the last that it had");
        assert!(is_applied(&subscriber.take(&publisher, second), 4), "key and start");
        publisher.lane[5..].iter().for_each(|sent| drop(subscriber.take(&publisher, sent)));
        assert!(colours(subscriber.viewer.decoder().picture()) == colours(picture.bytes()));
    }
}

#[test]
fn a_start_goes_on_by_its_number_whatever_its_from_says() {
    let (publisher, _) = published();
    let mut subscriber = Subscriber::new();
    publisher.lane[..4].iter().for_each(|sent| drop(subscriber.take(&publisher, sent)));
    let elsewhere = Point { rendition: Rendition::REDUCED, segment: 9, seq: 3 };
    let start = Sent { kind: ScreenKind::Start { from: Some(elsewhere) }, ..publisher.lane[4].clone() };
    assert!(is_applied(&subscriber.take(&publisher, &start), 4));
}

#[test]
fn a_start_ahead_waits_until_its_base_is_reached() {
    // The reduced lane may overtake the live one: its start comes before live's last updates.
    let (publisher, _) = published();
    let reduced: Vec<Sent> = publisher.lane[4..]
        .iter()
        .map(|sent| Sent { point: Point { rendition: Rendition::REDUCED, ..sent.point }, ..sent.clone() })
        .collect();
    let mut subscriber = Subscriber::new();
    subscriber.take(&publisher, &publisher.lane[0]);
    assert_eq!(subscriber.take(&publisher, &reduced[0]), Outcome::Held);
    assert_eq!(subscriber.take(&publisher, &reduced[1]), Outcome::Held);
    assert_eq!(subscriber.take(&publisher, &reduced[1]), Outcome::Skipped, "again, after a resume");
    assert!(is_applied(&subscriber.take(&publisher, &publisher.lane[1]), 1));
    assert!(is_applied(&subscriber.take(&publisher, &publisher.lane[2]), 2));
    assert!(is_applied(&subscriber.take(&publisher, &publisher.lane[3]), 5), "drained, then across");
    assert!(is_applied(&subscriber.take(&publisher, &reduced[2]), 6));
}

#[test]
fn a_start_from_black_that_was_overtaken_is_skipped() {
    let (publisher, _) = published();
    let mut viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
    let black = &publisher.lane[0];
    let reduced = Point { rendition: Rendition::REDUCED, ..black.point };
    assert!(is_applied(&viewer.apply(black.kind, black.point, 20, false, &black.body), 0));
    assert_eq!(viewer.apply(black.kind, reduced, 10, false, &black.body), Outcome::Skipped);
    assert!(is_applied(&viewer.apply(black.kind, reduced, 30, false, &black.body), 0));
    assert_eq!(viewer.point(), Some(reduced));
}

#[test]
fn a_start_from_black_begins_anew_at_any_time() {
    let (publisher, _) = published();
    let mut subscriber = Subscriber::new();
    publisher.lane.iter().for_each(|sent| drop(subscriber.take(&publisher, sent)));
    let black = &publisher.lane[0];
    assert_eq!(subscriber.take(&publisher, black), Outcome::Skipped, "this one is passed");
    let point = Point { segment: 2, seq: 99, ..black.point };
    assert!(is_applied(&subscriber.viewer.apply(black.kind, point, 0, false, &black.body), 99));
    let next = Point { seq: 100, ..point };
    assert!(is_applied(
        &subscriber.viewer.apply(ScreenKind::Update, next, 0, false, &publisher.lane[1].body),
        100
    ));
}

#[test]
fn a_damaged_body_is_lost_and_a_damaged_part_too() {
    let (publisher, _) = published();
    let mut subscriber = Subscriber::new();
    subscriber.take(&publisher, &publisher.lane[0]);
    let mut cut = publisher.lane[1].clone();
    cut.body.truncate(3);
    assert_eq!(subscriber.take(&publisher, &cut), Outcome::Lost(Lost::Decode(DecodeError::Length)));

    let mut subscriber = Subscriber::new();
    subscriber.take(&publisher, &publisher.lane[0]);
    let begun = Sent { more: true, ..publisher.lane[1].clone() };
    assert_eq!(subscriber.take(&publisher, &begun), Outcome::Held);
    assert_eq!(subscriber.take(&publisher, &publisher.lane[3]), Outcome::Lost(Lost::Parts));
}

#[test]
fn parts_that_come_again_are_skipped_and_a_key_begun_twice_is_one_key() {
    let (mut publisher, _) = published();
    publisher.part_max = 400;
    let mut picture = Picture::black(size(100, 50));
    publisher.start_segment();
    draw(&mut picture, size(100, 50).rect(), Content::Noise, 3);
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    let start = &publisher.lane[8..];
    let key = &publisher.keys[&2];
    assert!(start.len() > 3 && key.len() > 3);
    let mut subscriber = Subscriber::new();
    assert_eq!(subscriber.take(&publisher, &key[0]), Outcome::Held);
    subscriber.viewer.key_lane_opened(Rendition::LIVE);
    key.iter().for_each(|part| drop(subscriber.take(&publisher, part)));
    assert_eq!(subscriber.viewer.point(), Some(key[0].point));
    for again in [0, 1, 0, 1, 2] {
        let outcome = subscriber.take(&publisher, &start[again]);
        assert!(matches!(outcome, Outcome::Held | Outcome::Skipped));
    }
    start[3..].iter().for_each(|part| drop(subscriber.take(&publisher, part)));
    assert!(colours(subscriber.viewer.decoder().picture()) == colours(picture.bytes()));
}

#[test]
fn what_is_held_and_what_is_assembled_is_bounded() {
    let (publisher, _) = published();
    let start = &publisher.lane[4];
    let viewer = |body_max, held_max| {
        Viewer::new(ViewerLimits { body_max, held_max, ..ViewerLimits::default() }, PixelOrder::Bgra)
    };
    let mut small = viewer(10, 1 << 20);
    assert_eq!(small.apply(start.kind, start.point, 0, false, &start.body), Outcome::Lost(Lost::Overflow));

    let mut holding = viewer(1 << 20, start.body.len() + 10_000);
    assert_eq!(holding.apply(start.kind, start.point, 0, false, &start.body), Outcome::Held);
    let overflow = (1..10_000).find(|seq| {
        let point = Point { seq: start.point.seq + seq, ..start.point };
        holding.apply(ScreenKind::Update, point, 0, false, &[]) == Outcome::Lost(Lost::Overflow)
    });
    assert!(overflow.is_some(), "even empty bodies are counted");
}

#[test]
fn another_epoch_begins_anew_and_what_is_left_of_the_old_one_is_skipped() {
    let (publisher, _) = published();
    let mut viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Bgra);
    let mut take = |epoch, sent: &Sent| {
        let screen = ScreenHeader {
            display: DisplayId(0),
            rendition: sent.point.rendition,
            segment: sent.point.segment,
            kind: sent.kind,
        };
        let header = Header {
            record_type: 0,
            flags: Flags::default(),
            sender: Sender(1),
            key_id: 0,
            epoch,
            seq: sent.point.seq,
            time_us: 0,
            screen: Some(screen),
        };
        viewer.record(&header, &sent.body)
    };
    assert!(is_applied(&take(7, &publisher.lane[0]), 0));
    assert!(is_applied(&take(7, &publisher.lane[1]), 1));
    assert_eq!(take(8, &publisher.lane[2]), Outcome::Skipped, "nothing to build on in this epoch");
    assert!(is_applied(&take(8, &publisher.lane[0]), 0));
    assert_eq!(take(7, &publisher.lane[2]), Outcome::Skipped, "late from before");
    assert_eq!(take(7, &publisher.keys[&1][0]), Outcome::Skipped, "late from before");
    assert!(is_applied(&take(8, &publisher.lane[1]), 1));
}
