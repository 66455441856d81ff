//! Any order of good and damaged records to a viewer: it never panics, and in step it shows what its point stands for.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tandem_codec::{
    Base, Encoder, EncoderOptions, Hints, Outcome, Picture, PixelOrder, Size, Viewer, ViewerLimits,
};
use tandem_protocol::{Point, Rendition, ScreenKind};

const SIZE: Size = Size { w: 40, h: 20 };

struct Good {
    kind: ScreenKind,
    point: Point,
    body: Vec<u8>,
    /// The shadow after it, in RGBA.
    shown: Vec<u8>,
}

/// Three segments of three updates, the later two with keys. The seqs go on from segment to segment.
static GOOD: LazyLock<Vec<Good>> = LazyLock::new(|| {
    let mut picture = Picture::black(SIZE);
    let mut encoder =
        Encoder::new(EncoderOptions { plain_window_log: 14, ..EncoderOptions::new(SIZE) }).expect("size");
    let mut good: Vec<Good> = Vec::new();
    let mut last: Option<Point> = None;
    for seq in 0..9u64 {
        let segment = (seq / 3) as u32;
        let point = Point { rendition: Rendition::LIVE, segment, seq };
        let key = if seq % 3 == 0 { encoder.start_segment() } else { None };
        if let (Some(job), Some(last)) = (key, last) {
            let shown = good[good.len() - 1].shown.clone();
            let body = job.encode().expect("memory");
            good.push(Good { kind: ScreenKind::Key, point: Point { segment, ..last }, body, shown });
        }
        let at = seq as usize * 300;
        picture.bytes_mut()[at..at + 240].fill(seq as u8 + 1);
        let update = encoder
            .encode(picture.borrow(), &Hints::default(), usize::MAX)
            .expect("memory")
            .expect("changed");
        let kind = match update.start {
            None => ScreenKind::Update,
            Some(Base::Black) => ScreenKind::Start { from: None },
            Some(Base::Shadow) => ScreenKind::Start { from: last },
        };
        let shown = picture.bytes().chunks(4).flat_map(|p| [p[2], p[1], p[0], 255]).collect();
        good.push(Good { kind, point, body: update.body, shown });
        last = Some(point);
    }
    good
});

fuzz_target!(|data: &[u8]| {
    let limits = ViewerLimits { body_max: 1 << 16, held_max: 1 << 12, ..ViewerLimits::default() };
    let mut viewer = Viewer::new(limits, PixelOrder::Rgba);
    let mut pure = true;
    for bytes in data.chunks_exact(3) {
        let good = &GOOD[usize::from(bytes[0]) % GOOD.len()];
        let cut = usize::from(bytes[1]) % (good.body.len() + 1);
        let (point, first, second) = match bytes[2] % 8 {
            // Damage: a byte of the body, or its number.
            0 => {
                let mut body = good.body.clone();
                let at = cut.min(body.len() - 1);
                body[at] ^= bytes[2] >> 3;
                pure &= bytes[2] >> 3 == 0;
                (good.point, body, None)
            }
            1 => {
                pure = false;
                let seq = u64::from(bytes[1]).wrapping_sub(u64::from(bytes[2] >> 7));
                (Point { seq, ..good.point }, good.body.clone(), None)
            }
            // In two parts; the second may have its own number or not, rightly on the lane of keys alone.
            2 => {
                pure = false;
                (good.point, good.body[..cut].to_vec(), Some((bytes[2] >> 7, good.body[cut..].to_vec())))
            }
            _ => (good.point, good.body.clone(), None),
        };
        let mut outcome = viewer.apply(good.kind, point, 0, second.is_some(), &first);
        if let Some((step, rest)) = second {
            let next = Point { seq: point.seq.wrapping_add(step.into()), ..point };
            outcome = viewer.apply(good.kind, next, 0, false, &rest);
        }
        if let (true, Outcome::Applied { point, .. }) = (pure, outcome) {
            let shows = |good: &&Good| good.point == point;
            let expected = GOOD.iter().find(shows).expect("a point that was sent");
            assert!(viewer.decoder().picture() == expected.shown, "at {point:?}");
        }
    }
});
