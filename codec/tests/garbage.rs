//! Bytes from a peer: errors, never panics, and no memory beyond the limits.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

mod common;

use common::{Content, Publisher, draw, size};
use proptest::prelude::*;
use tandem_codec::{
    Base, DecodeError, Decoder, DecoderLimits, EncoderOptions, Hints, Picture, PixelOrder, SegmentHeader,
};

fn decoder() -> Decoder {
    Decoder::new(DecoderLimits { side_max: 400, ..DecoderLimits::default() }, PixelOrder::Rgba)
}

/// A start, an update and a key of a small screen.
fn bodies(edge_window_log: u8) -> [Vec<u8>; 3] {
    let mut picture = Picture::black(size(200, 90));
    let mut publisher =
        Publisher::new(EncoderOptions { edge_window_log, ..EncoderOptions::new(picture.size()) });
    draw(&mut picture, tandem_codec::Rect { x: 0, y: 0, w: 200, h: 50 }, Content::Smooth, 1);
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    draw(&mut picture, tandem_codec::Rect { x: 9, y: 9, w: 99, h: 70 }, Content::Noise, 2);
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    publisher.start_segment();
    publisher.send(picture.borrow(), &Hints::default(), usize::MAX);
    let key = publisher.keys[&1][0].body.clone();
    [publisher.lane[0].body.clone(), publisher.lane[1].body.clone(), key]
}

/// Plain bytes as an update's body of a segment that starts at black.
fn start_with(plain: &[u8]) -> Vec<u8> {
    start_of(3, plain)
}

/// The same of any codec version.
fn start_of(version: u8, plain: &[u8]) -> Vec<u8> {
    let mut compressed = vec![0; 1000 + plain.len()];
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::WindowLog(18)).unwrap();
    let len = {
        let mut output = zstd_safe::OutBuffer::around(&mut compressed[..]);
        let mut input = zstd_safe::InBuffer::around(plain);
        while input.pos() < plain.len() {
            context.compress_stream(&mut output, &mut input).unwrap();
        }
        while context.flush_stream(&mut output).unwrap() > 0 {}
        output.pos()
    };
    let mut body = vec![version, 16, 0, 16, 0, 0, 0, 0, 0, 18, 0];
    body.extend_from_slice(&(len as u32).to_le_bytes());
    body.extend_from_slice(&compressed[..len]);
    body
}

#[test]
fn patches_are_checked_against_the_picture() {
    let ok = [1, 0, 0, 0, 0, 1, 0, 1, 0, 7, 8, 9];
    let in_version =
        |version, plain: &[u8]| decoder().start(Base::Black, &start_of(version, plain)).map(drop);
    let result = |plain: &[u8]| in_version(3, plain);
    assert_eq!(result(&ok), Ok(()));
    assert_eq!(result(&ok[..11]), Err(DecodeError::Length), "a pixel is cut off");
    assert_eq!(
        result(&[1, 16, 0, 0, 0, 1, 0, 1, 0, 7, 8, 9]),
        Err(DecodeError::Bounds),
        "beyond the right edge"
    );
    assert_eq!(result(&[1, 0, 0, 0, 0, 0, 0, 1, 0]), Err(DecodeError::Bounds), "empty");
    assert_eq!(
        result(&[2, 2, 0, 0, 0, 0, 1, 0, 1, 0, 7, 8, 9]),
        Err(DecodeError::Patch(2)),
        "a reserved flag"
    );
    assert_eq!(result(&[255, 0, 0]), Err(DecodeError::Patch(255)), "a later kind");
    let above = [2, 1, 0, 0, 0, 0, 1, 0, 1, 0, 7, 8, 9];
    assert_eq!(result(&above), Ok(()));
    assert_eq!(in_version(2, &above), Err(DecodeError::Patch(2)), "a flag that version 2 does not have");
    // 3 × 1 pixels in squares of two: two samples.
    let coarse = [4, 1, 0, 0, 0, 0, 3, 0, 1, 0, 1, 2, 3, 4, 5, 6];
    assert_eq!(result(&coarse), Ok(()));
    assert_eq!(result(&coarse[..15]), Err(DecodeError::Length), "a sample is cut off");
    assert_eq!(in_version(2, &coarse), Err(DecodeError::Patch(4)), "coarse in a segment of version 2");
    assert_eq!(result(&[4, 4, 0, 0, 0, 0, 3, 0, 1, 0, 1, 2, 3]), Ok(()), "grey");
    assert_eq!(
        result(&[4, 3, 0, 0, 0, 0, 3, 0, 1, 0, 1, 2, 3]),
        Err(DecodeError::Patch(4)),
        "squares of eight"
    );
    assert_eq!(result(&[4, 4, 0, 0, 0, 0, 0, 0, 1, 0]), Err(DecodeError::Bounds), "no columns");
    let mut video = [0; 23];
    (video[0], video[7], video[9]) = (3, 1, 1);
    assert_eq!(result(&video), Err(DecodeError::Bounds), "a region goes on without bytes");
    video[2] = 2;
    assert_eq!(in_version(1, &video), Err(DecodeError::Patch(3)), "video in a segment of version 1");
    let copy = [0, 15, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16, 0];
    assert_eq!(result(&copy), Ok(()));
    assert_eq!(
        result(&[0, 15, 0, 1, 0, 0, 0, 0, 0, 1, 0, 16, 0]),
        Err(DecodeError::Bounds),
        "source beyond the end"
    );
    assert_eq!(result(&copy.repeat(16)), Ok(()), "as much as the picture has");
    assert_eq!(result(&copy.repeat(17)), Err(DecodeError::Bounds), "more than the picture has");
    assert_eq!(
        result(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0].repeat(65)),
        Err(DecodeError::Bounds),
        "too many"
    );
    assert_eq!(result(&[&ok[..], &copy].concat()), Err(DecodeError::Bounds), "copies come first");
    assert_eq!(result(&ok.repeat(7000)), Err(DecodeError::TooLarge));
}

#[test]
fn copies_read_the_picture_before_the_update() {
    let pixel = |x: u8, v: u8| [1, x, 0, 0, 0, 1, 0, 1, 0, v, v, v];
    let mut decoder = decoder();
    decoder.start(Base::Black, &start_with(&[pixel(0, 1), pixel(1, 2), pixel(2, 3)].concat())).unwrap();
    // A segment of copies alone, over that picture, moves two overlapping pairs.
    let copy = |from: u8, to: u8| [0, from, 0, 0, 0, to, 0, 0, 0, 2, 0, 1, 0];
    decoder.start(Base::Shadow, &start_with(&[copy(0, 1), copy(1, 3)].concat())).unwrap();
    let reds: Vec<u8> = decoder.picture().chunks(4).take(6).map(|pixel| pixel[0]).collect();
    assert_eq!(reds, [1, 1, 2, 2, 3, 0]);
}

#[test]
fn headers_are_checked_before_memory_is_taken() {
    let header = |version: u8, w: u16, plain: u8, edge: u8| {
        let [w0, w1] = w.to_le_bytes();
        vec![version, w0, w1, 16, 0, 0, 0, 0, 0, plain, edge, 0, 0, 0, 0]
    };
    let result = |body: &[u8]| decoder().start(Base::Black, body).map(drop);
    assert_eq!(result(&header(1, 16, 23, 0)), Ok(()));
    assert_eq!(result(&header(2, 16, 23, 0)), Ok(()));
    assert_eq!(result(&header(3, 16, 23, 0)), Ok(()));
    assert_eq!(result(&header(4, 16, 23, 0)), Err(DecodeError::Version(4)));
    assert_eq!(result(&header(1, 16, 26, 0)), Err(DecodeError::Window(26)));
    assert_eq!(result(&header(1, 16, 9, 0)), Err(DecodeError::Window(9)));
    assert_eq!(result(&header(1, 16, 23, 99)), Err(DecodeError::Window(99)));
    assert!(matches!(result(&header(1, 0, 23, 0)), Err(DecodeError::Size(_))));
    assert!(matches!(result(&header(1, 401, 23, 0)), Err(DecodeError::Size(_))));
    assert_eq!(result(&header(1, 16, 23, 0)[..10]), Err(DecodeError::Length));
    let (read, rest) = SegmentHeader::parse(&header(1, 16, 23, 0)).map(|(h, rest)| (h, rest.len())).unwrap();
    assert_eq!((read.size, read.plain_window_log, rest), (size(16, 16), 23, 4));
}

#[test]
fn an_error_is_final_until_a_key_or_black() {
    let [start, update, key] = bodies(0);
    let mut decoder = decoder();
    assert_eq!(decoder.update(&update), Err(DecodeError::NoPicture));
    decoder.start(Base::Black, &start).unwrap();
    assert_eq!(decoder.update(&[1]), Err(DecodeError::Length));
    assert_eq!(decoder.update(&update), Err(DecodeError::NoPicture));
    assert_eq!(decoder.start(Base::Shadow, &start), Err(DecodeError::NoPicture));
    assert!(decoder.key(&key).is_ok());
    assert!(
        decoder.start(Base::Shadow, &[1, 200, 0, 91, 0, 0, 0, 0, 0, 23, 0, 0, 0, 0, 0]).is_err(),
        "other size"
    );
}

#[test]
fn a_key_must_be_a_whole_frame_and_an_update_must_not() {
    let [start, update, key] = bodies(0);
    let mut decoder = decoder();
    assert_eq!(decoder.key(&start), Err(DecodeError::Length));
    assert!(decoder.start(Base::Black, &key).is_err());
    let mut cut = key.clone();
    cut.pop();
    assert!(decoder.key(&cut).is_err());
    decoder.start(Base::Black, &start).unwrap();
    decoder.update(&update).unwrap();
}

fn feed(decoder: &mut Decoder, how: usize, body: &[u8]) {
    let _ = match how % 4 {
        0 => decoder.start(Base::Black, body),
        1 => decoder.start(Base::Shadow, body),
        2 => decoder.update(body),
        _ => decoder.key(body),
    };
}

/// A video patch of any numbers, mostly small ones.
fn video_patch() -> impl Strategy<Value = (Vec<u8>, u32)> {
    let small = || prop_oneof![4 => 0u16..20, 1 => any::<u16>()];
    let sides = prop::collection::vec(small(), 8);
    let len = prop_oneof![8 => 0u32..40, 1 => any::<u32>()];
    (0u8..9, 0u8..5, sides, len).prop_map(|(region, step, sides, len)| {
        let mut patch = vec![3, region, step];
        sides.iter().for_each(|side| patch.extend_from_slice(&side.to_le_bytes()));
        patch.extend_from_slice(&len.to_le_bytes());
        (patch, len)
    })
}

/// A patch that goes through: a picture of the whole screen, coded a little larger, of so many bytes.
fn good_video(len: u8) -> Vec<u8> {
    vec![3, 0, 1, 0, 0, 0, 0, 16, 0, 16, 0, 18, 0, 18, 0, 2, 0, 0, 0, len, 0, 0, 0]
}

#[test]
fn video_is_handed_out_once_and_shown_unless_something_newer_is_there() {
    let strip = [1, 0, 0, 0, 0, 1, 0, 1, 0, 7, 8, 9];
    let mut decoder = decoder();
    let start = |patches: &[&[u8]], tail: &[u8]| [start_of(2, &patches.concat()), tail.to_vec()].concat();
    decoder.start(Base::Black, &start(&[&good_video(3), &strip], b"abc")).unwrap();
    let pictures = decoder.take_videos();
    assert_eq!((pictures.len(), &pictures[0].bytes[..], pictures[0].begins), (1, &b"abc"[..], true));
    assert_eq!(decoder.take_videos(), []);
    assert!(decoder.has_region(0));
    let white = [255; 16 * 16 * 4];
    assert_eq!(decoder.show_video(pictures[0].serial, &white[4..]), None, "of another size");
    decoder.start(Base::Black, &start(&[&good_video(3)], b"abc")).unwrap();
    let [picture] = &decoder.take_videos()[..] else { panic!("one picture") };
    assert_eq!(decoder.show_video(picture.serial, &white), Some(picture.rect));
    assert_eq!(decoder.picture(), white);
    assert_eq!(decoder.show_video(picture.serial, &white), None, "once");
    for (patches, tail) in [(vec![good_video(3)], 2), (vec![good_video(3)], 4), (vec![good_video(3); 2], 3)] {
        let patches: Vec<&[u8]> = patches.iter().map(Vec::as_slice).collect();
        assert!(decoder.start(Base::Black, &start(&patches, &vec![0; tail])).is_err(), "{tail} bytes");
    }
}

proptest! {
    #[test]
    fn any_video_is_survived(patches in prop::collection::vec(video_patch(), 0..6), tail in 0usize..120) {
        let plain: Vec<u8> = patches.iter().flat_map(|(patch, _)| patch.clone()).collect();
        let body = [start_of(2, &plain), vec![7; tail]].concat();
        let mut decoder = decoder();
        if decoder.start(Base::Black, &body).is_ok() {
            let pictures = decoder.take_videos();
            let bytes: usize = pictures.iter().map(|picture| picture.bytes.len()).sum();
            prop_assert_eq!(bytes, tail);
            for picture in pictures {
                prop_assert!(decoder.size().holds(picture.rect));
                let pixels = vec![1; picture.rect.pixels() * 4];
                let awaited = decoder.awaits(picture.serial);
                prop_assert_eq!(decoder.show_video(picture.serial, &pixels), awaited);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(inputs in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..300)), 1..6)) {
        let mut decoder = decoder();
        inputs.iter().for_each(|(how, body)| feed(&mut decoder, *how, body));
    }

    #[test]
    fn flipped_and_truncated_bodies_are_survived(
        edge in prop_oneof![Just(0u8), Just(20u8)],
        which in 0usize..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4),
        keep in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bodies = bodies(edge);
        let body = &mut bodies[which];
        for (at, bit) in flips {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
        }
        if !whole {
            body.truncate(keep.index(body.len()));
        }
        let mut decoder = decoder();
        feed(&mut decoder, 0, &bodies[0]);
        feed(&mut decoder, 2, &bodies[1]);
        feed(&mut decoder, 3, &bodies[2]);
        prop_assert!(decoder.picture().len() <= 400 * 400 * 4);
    }
}
