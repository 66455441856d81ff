//! Whatever happens on the screen, whatever the budgets, whenever somebody joins: every viewer shows shadows only, in
//! order, and in the end exactly the picture.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

mod common;

use common::{Content, Publisher, Sent, Subscriber, colours, draw, scroll, size};
use proptest::prelude::*;
use tandem_codec::{
    Base, Colours, Decoder, DecoderLimits, Encoder, EncoderOptions, Hints, Picture, PixelOrder, Rect,
};
use tandem_protocol::ScreenKind;

#[derive(Clone, Debug)]
enum Step {
    Draw(Rect, Content, u64),
    Scroll(u16),
    /// Encode with this budget; with damage named or not.
    Send(usize, bool),
    StartSegment,
    /// A viewer joins at one of the segments so far.
    Join(prop::sample::Index),
    /// A viewer reads so many records, keys preferred or not.
    Read(prop::sample::Index, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let rect = (0u16..300, 0u16..120, 1u16..300, 1u16..120).prop_map(|(x, y, w, h)| Rect { x, y, w, h });
    let content =
        prop_oneof![Just(Content::Flat), Just(Content::Noise), Just(Content::Blocks), Just(Content::Smooth)];
    prop_oneof![
        4 => (rect, content, any::<u64>()).prop_map(|(rect, content, seed)| Step::Draw(rect, content, seed)),
        1 => (1u16..60).prop_map(Step::Scroll),
        5 => (prop_oneof![Just(usize::MAX), 0usize..20_000], any::<bool>()).prop_map(|(b, d)| Step::Send(b, d)),
        1 => Just(Step::StartSegment),
        1 => any::<prop::sample::Index>().prop_map(Step::Join),
        3 => (any::<prop::sample::Index>(), 1usize..6, any::<bool>()).prop_map(|(v, n, k)| Step::Read(v, n, k)),
    ]
}

/// A viewer with its two lanes.
struct Reader {
    subscriber: Subscriber,
    at: usize,
    keys: Vec<Sent>,
}

impl Reader {
    /// Joins at the start that is the `nth` record of the lane. Its key, if it needs one, travels on a lane of its own.
    fn join(publisher: &Publisher, at: usize) -> Self {
        let segment = publisher.lane[at].point.segment;
        let keys = publisher.keys.get(&segment).cloned().unwrap_or_default();
        Self { subscriber: Subscriber::new(), at, keys }
    }

    fn read(&mut self, publisher: &Publisher, keys_first: bool) -> bool {
        let lane = publisher.lane.get(self.at);
        let sent = if (keys_first || lane.is_none()) && !self.keys.is_empty() {
            self.keys.remove(0)
        } else if let Some(sent) = lane {
            self.at += 1;
            sent.clone()
        } else {
            return false;
        };
        self.subscriber.take(publisher, &sent);
        assert_eq!(self.subscriber.lost, 0, "nothing was lost on the way");
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_viewer_shows_shadows_in_order_and_the_last_picture(
        (w, h) in (1u16..300, 1u16..120),
        edge_window_log in prop_oneof![Just(0u8), Just(18u8)],
        plain_window_log in 10u8..=20,
        part_max in prop_oneof![Just(1usize << 20), 200usize..3000],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut picture = Picture::black(size(w, h));
        let options = EncoderOptions { plain_window_log, edge_window_log, ..EncoderOptions::new(size(w, h)) };
        let mut publisher = Publisher::new(options);
        publisher.part_max = part_max;
        let mut damage = Vec::new();
        publisher.start_segment();
        publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
        let mut readers = vec![Reader::join(&publisher, 0)];
        for step in steps {
            match step {
                Step::Draw(rect, content, seed) => {
                    draw(&mut picture, rect, content, seed);
                    damage.push(rect);
                }
                Step::Scroll(rows) => {
                    scroll(&mut picture, rows);
                    damage.push(size(w, h).rect());
                }
                Step::Send(budget, named) => {
                    let hints = Hints { damage: named.then_some(&damage[..]), pointer: Some((20, 20)), ..Hints::default() };
                    let complete = publisher.send(picture.borrow(), &hints, budget);
                    let shown = colours(publisher.encoder.shadow().bytes());
                    // What is left may turn out equal.
                    prop_assert!(!complete || shown == colours(picture.bytes()));
                    damage.clear();
                }
                Step::StartSegment => publisher.start_segment(),
                Step::Join(at) => {
                    let first_parts: Vec<usize> = (0..publisher.lane.len())
                        .filter(|&i| matches!(publisher.lane[i].kind, ScreenKind::Start { .. }))
                        .filter(|&i| i == 0 || !publisher.lane[i - 1].more)
                        .collect();
                    readers.push(Reader::join(&publisher, first_parts[at.index(first_parts.len())]));
                }
                Step::Read(who, records, keys_first) => {
                    let who = who.index(readers.len());
                    let reader = &mut readers[who];
                    for _ in 0..records {
                        reader.read(&publisher, keys_first);
                    }
                }
            }
        }
        let complete = publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
        prop_assert!(complete);
        for mut reader in readers {
            while reader.read(&publisher, false) {}
            let shown = colours(reader.subscriber.viewer.decoder().picture());
            prop_assert!(shown == colours(picture.bytes()));
        }
    }
}

#[test]
fn a_budget_cuts_updates_and_the_rest_follows_without_being_named_again() {
    let mut picture = Picture::black(size(1280, 720));
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    draw(&mut picture, size(1280, 720).rect(), Content::Noise, 1);
    let mut hints = Hints::default();
    let mut updates = 0;
    while !publisher.send(picture.borrow(), &hints, 64 << 10) {
        hints = Hints { damage: Some(&[]), ..hints };
        updates += 1;
    }
    let bytes: Vec<usize> = publisher.lane.iter().map(|sent| sent.body.len()).collect();
    let plain = 1280 * 720 * 3;
    assert!(updates >= plain / (64 << 10), "noise doesn't shrink: {updates}");
    assert!(bytes.iter().all(|&len| len < 66 << 10), "{bytes:?}");
    assert!(!publisher.encoder.is_behind());
}

#[test]
fn what_an_update_left_of_a_picture_is_not_searched_for_motion_again() {
    let size = size(640, 480);
    let (upper, lower) = (Rect { x: 0, y: 0, w: 640, h: 160 }, Rect { x: 0, y: 320, w: 640, h: 160 });
    let mut picture = Picture::black(size);
    draw(&mut picture, upper, Content::Noise, 1);
    draw(&mut picture, lower, Content::Noise, 1);
    let mut encoder = Encoder::new(EncoderOptions::new(size)).unwrap();
    let mut send = |damage| {
        let hints = Hints { damage, ..Hints::default() };
        encoder.encode(picture.borrow(), &hints, 64 << 10).unwrap().unwrap().pixels
    };
    // Most of the upper part, which the lower one repeats, is shown by then.
    let first: u64 = std::iter::once(None).chain([Some(&[][..]); 3]).map(|damage| send(damage).copied).sum();
    assert_eq!(first, 0);
    assert!(send(None).copied > 0, "it would have been found");
}

#[test]
fn fewer_colours_are_exact_in_themselves_and_cost_less() {
    let size = size(640, 480);
    let mut bytes = Vec::new();
    for colours in [Colours::All, Colours::Eight, Colours::Grey] {
        let mut picture = Picture::black(size);
        let mut publisher = Publisher::new(EncoderOptions { colours, ..EncoderOptions::new(size) });
        let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Rgba);
        draw(&mut picture, size.rect(), Content::Smooth, 3);
        draw(&mut picture, Rect { x: 9, y: 100, w: 500, h: 300 }, Content::Blocks, 4);
        for (budget, content) in [(3000, Content::Noise), (usize::MAX, Content::Blocks)] {
            draw(&mut picture, Rect { x: 50, y: 60, w: 99, h: 77 }, content, 5);
            while !publisher.send(picture.borrow(), &Hints::default(), budget) {}
        }
        for sent in &publisher.lane {
            match sent.kind {
                ScreenKind::Start { .. } => decoder.start(Base::Black, &sent.body).unwrap(),
                _ => decoder.update(&sent.body).unwrap(),
            };
        }
        let expected = common::colours(picture.bytes()).into_iter().map(|pixel| colours.reduced(pixel));
        let shown = decoder.picture().chunks(4).map(|pixel| [pixel[2], pixel[1], pixel[0]]);
        assert!(shown.eq(expected), "{colours:?}");
        bytes.push(publisher.lane.iter().map(|sent| sent.body.len()).sum::<usize>());
    }
    assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
}

/// Bytes that an update may have above its budget: one small piece of noise, and what begins a segment.
const MORE: usize = 64 * 8 * 3 + 100;

#[test]
fn content_of_any_kind_after_any_other_keeps_to_the_budget() {
    let size = size(640, 480);
    let contents = [Content::Flat, Content::Noise, Content::Blocks, Content::Smooth];
    for budget in [4000, 10_000, 30_000] {
        for before in contents {
            for after in contents {
                let mut picture = Picture::black(size);
                let mut publisher = Publisher::new(EncoderOptions::new(size));
                for content in [before, after] {
                    draw(&mut picture, size.rect(), content, 3);
                    while !publisher.send(picture.borrow(), &Hints::default(), budget) {}
                }
                let most = publisher.lane.iter().map(|sent| sent.body.len()).max().unwrap();
                assert!(most <= budget + MORE, "{most} of {budget}, {after:?} after {before:?}");
            }
        }
    }
}

#[test]
fn what_changes_all_the_time_is_sent_in_turns() {
    // Two bands of noise, each larger than the budget, new with every update.
    let size = size(213, 64);
    let mut publisher = Publisher::new(EncoderOptions::new(size));
    let mut picture = Picture::black(size);
    let budget = 8000;
    let mut shown_since = vec![0; 213 * 64];
    for turn in 1..60u64 {
        draw(&mut picture, size.rect(), Content::Noise, turn);
        let before = colours(publisher.encoder.shadow().bytes());
        publisher.send(picture.borrow(), &Hints { damage: Some(&[size.rect()]), ..Hints::default() }, budget);
        assert!(publisher.lane.last().unwrap().body.len() <= budget + MORE);
        let after = colours(publisher.encoder.shadow().bytes());
        let pixels = shown_since.iter_mut().zip(before.iter().zip(&after));
        pixels.filter(|(_, (before, after))| before != after).for_each(|(since, _)| *since = turn);
        // A picture takes five updates and a little.
        let oldest = turn - shown_since.iter().min().unwrap();
        assert!(oldest <= 7, "something waits since {oldest} updates at {turn}");
    }
}

#[test]
fn a_restless_part_near_the_pointer_leaves_half_to_what_waits() {
    let size = size(640, 480);
    let mut publisher = Publisher::new(EncoderOptions::new(size));
    let mut picture = Picture::black(size);
    let far = Rect { x: 0, y: 384, w: 640, h: 32 };
    let near = Rect { x: 0, y: 0, w: 320, h: 128 };
    draw(&mut picture, far, Content::Noise, 1);
    let mut damage = vec![far, near];
    for turn in 2..40 {
        draw(&mut picture, near, Content::Noise, turn);
        publisher.send(
            picture.borrow(),
            &Hints { damage: Some(&damage), pointer: Some((50, 50)), ..Hints::default() },
            10_000,
        );
        damage = vec![near];
    }
    let rest = 384 * 640..416 * 640;
    let (shown, is) = (colours(publisher.encoder.shadow().bytes()), colours(picture.bytes()));
    assert!(shown[rest.clone()] == is[rest], "what is far from the pointer was never sent");
}

#[test]
fn a_part_that_never_rests_does_not_hold_up_the_others() {
    let mut picture = Picture::black(size(64, 320));
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    draw(&mut picture, size(64, 320).rect(), Content::Noise, 1);
    publisher.send(picture.borrow(), &Hints::default(), 8 << 10);
    let restless = Rect { x: 0, y: 0, w: 64, h: 64 };
    for seed in 2..20 {
        // Twelve thousand bytes of it, each time anew, and room for eight thousand.
        draw(&mut picture, restless, Content::Noise, seed);
        publisher.send(picture.borrow(), &Hints { damage: Some(&[restless]), ..Hints::default() }, 8 << 10);
    }
    let (shown, is) = (colours(publisher.encoder.shadow().bytes()), colours(picture.bytes()));
    let rest = 64 * 64..;
    assert!(shown[rest.clone()] == is[rest], "what came first and rests was never sent");
}

#[test]
fn what_is_near_the_pointer_goes_first() {
    let mut picture = Picture::black(size(1280, 720));
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    draw(&mut picture, size(1280, 720).rect(), Content::Noise, 1);
    publisher.send(picture.borrow(), &Hints { pointer: Some((640, 700)), ..Hints::default() }, 16 << 10);
    let shadow = colours(publisher.encoder.shadow().bytes());
    let sent_rows: Vec<usize> = (0..720).filter(|y| shadow[y * 1280] != [0; 3]).collect();
    assert!(!sent_rows.is_empty() && sent_rows.iter().all(|&y| y >= 640), "{sent_rows:?}");
}

#[test]
fn an_unchanged_screen_costs_nothing() {
    let mut picture = Picture::black(size(300, 200));
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    draw(&mut picture, size(300, 200).rect(), Content::Smooth, 1);
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    let encoder = &mut publisher.encoder;
    assert_eq!(encoder.encode(picture.borrow(), &Hints::default(), usize::MAX), Ok(None));
    let claimed = Hints { damage: Some(&[size(300, 200).rect()]), ..Hints::default() };
    assert_eq!(encoder.encode(picture.borrow(), &claimed, usize::MAX), Ok(None), "damage is only a hint");
}

#[test]
fn a_segment_starts_even_if_nothing_changes_and_costs_those_in_step_next_to_nothing() {
    let mut picture = Picture::black(size(640, 360));
    draw(&mut picture, size(640, 360).rect(), Content::Blocks, 1);
    let mut publisher = Publisher::new(EncoderOptions::new(picture.size()));
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    publisher.start_segment();
    assert!(publisher.encoder.is_behind());
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    assert_eq!(publisher.lane[1].body.len(), 15, "a header and no patches");
    // Content of the shadow comes back from its history, wherever it is.
    picture.bytes_mut().copy_within(..640 * 4 * 30, 640 * 4 * 300);
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    assert!(publisher.lane[2].body.len() < 1000, "{}", publisher.lane[2].body.len());
    let mut joiner = Subscriber::new();
    publisher.keys[&1]
        .iter()
        .chain(&publisher.lane[1..])
        .for_each(|sent| drop(joiner.take(&publisher, sent)));
    assert!(colours(joiner.viewer.decoder().picture()) == colours(picture.bytes()));
}
