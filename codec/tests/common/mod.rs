//! A publisher for tests: an encoder that numbers what it makes as a sender does, and remembers every shadow.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;

use tandem_codec::{Base, Encoder, EncoderOptions, Hints, Outcome, Picture, PixelOrder, Rect, Size, Viewer};
use tandem_codec::{KeyJob, PIXEL, PictureRef, ViewerLimits};
use tandem_protocol::{Point, Rendition, ScreenKind};

/// A record as it travels, without the parts of its header that the codec doesn't read.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: ScreenKind,
    pub(crate) point: Point,
    pub(crate) more: bool,
    pub(crate) body: Vec<u8>,
}

/// Pixels without their meaningless byte.
pub(crate) fn colours(picture: &[u8]) -> Vec<[u8; 3]> {
    picture.chunks(PIXEL).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

pub(crate) struct Publisher {
    pub(crate) encoder: Encoder,
    /// The screen lane, from its beginning.
    pub(crate) lane: Vec<Sent>,
    /// The keys, by segment.
    pub(crate) keys: HashMap<u32, Vec<Sent>>,
    /// What a viewer must show at each point, by segment and seq.
    pub(crate) shadows: HashMap<(u32, u64), Vec<[u8; 3]>>,
    /// Bytes of a record's body at most.
    pub(crate) part_max: usize,
    rendition: Rendition,
    segment: Option<u32>,
    next_seq: u64,
    last: Option<Point>,
    job: Option<KeyJob>,
}

impl Publisher {
    pub(crate) fn new(options: EncoderOptions) -> Self {
        Self {
            encoder: Encoder::new(options).unwrap(),
            lane: Vec::new(),
            keys: HashMap::new(),
            shadows: HashMap::new(),
            part_max: 1 << 20,
            rendition: Rendition::LIVE,
            segment: None,
            next_seq: 0,
            last: None,
            job: None,
        }
    }

    pub(crate) fn start_segment(&mut self) {
        self.job = self.encoder.start_segment();
    }

    /// Encodes and sends; whether the shadow now equals the picture.
    pub(crate) fn send(&mut self, picture: PictureRef<'_>, hints: &Hints<'_>, budget: usize) -> bool {
        let Some(update) = self.encoder.encode(picture, hints, budget).unwrap() else { return true };
        let kind = match update.start {
            None => ScreenKind::Update,
            Some(base) => {
                self.segment = Some(self.segment.map_or(0, |segment| segment + 1));
                ScreenKind::Start { from: self.last.filter(|_| base == Base::Shadow) }
            }
        };
        let segment = self.segment.unwrap();
        if let (Some(job), Some(from)) = (self.job.take(), self.last) {
            // The key shows the shadow before this update, under the new segment's number.
            let point = Point { segment, ..from };
            let shadow = self.shadows[&(from.segment, from.seq)].clone();
            self.shadows.entry((segment, from.seq)).or_insert(shadow);
            let body = job.encode().unwrap();
            let parts = body.chunks(self.part_max).enumerate();
            let last = body.len().div_ceil(self.part_max) - 1;
            let key = parts.map(|(i, part)| Sent {
                kind: ScreenKind::Key,
                point,
                more: i < last,
                body: part.to_vec(),
            });
            self.keys.insert(segment, key.collect());
        }
        let parts: Vec<&[u8]> = update.body.chunks(self.part_max).collect();
        for (i, part) in parts.iter().enumerate() {
            let point = Point { rendition: self.rendition, segment, seq: self.next_seq };
            self.lane.push(Sent { kind, point, more: i + 1 < parts.len(), body: part.to_vec() });
            self.last = Some(point);
            self.next_seq += 1;
        }
        self.shadows.insert((segment, self.next_seq - 1), colours(self.encoder.shadow().bytes()));
        update.complete
    }
}

/// A subscriber for tests: applies records and checks each picture that it shows.
pub(crate) struct Subscriber {
    pub(crate) viewer: Viewer,
    pub(crate) lost: usize,
}

impl Subscriber {
    pub(crate) fn new() -> Self {
        Self { viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra), lost: 0 }
    }

    pub(crate) fn take(&mut self, publisher: &Publisher, sent: &Sent) -> Outcome {
        let outcome = self.viewer.apply(sent.kind, sent.point, 0, sent.more, &sent.body);
        match &outcome {
            Outcome::Applied { point, .. } => {
                let expected = &publisher.shadows[&(point.segment, point.seq)];
                assert!(
                    colours(self.viewer.decoder().picture()) == *expected,
                    "another picture at {point:?}"
                );
            }
            Outcome::Lost(_) => self.lost += 1,
            Outcome::Held | Outcome::Skipped => (),
        }
        outcome
    }
}

/// A small generator: reproducible content is enough here.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }
}

/// What a screen shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Flat,
    Noise,
    /// Little blocks of few colours, as text and tables.
    Blocks,
    /// Smooth, as a photograph.
    Smooth,
}

pub(crate) fn draw(picture: &mut Picture, rect: Rect, content: Content, seed: u64) {
    let size = picture.size();
    let rect = rect.clipped(size);
    let mut noise = Noise(seed);
    let flat = [noise.next(), noise.next(), noise.next(), noise.next()];
    for y in rect.y..rect.y + rect.h {
        for x in rect.x..rect.x + rect.w {
            let at = (usize::from(y) * usize::from(size.w) + usize::from(x)) * PIXEL;
            let pixel = match content {
                Content::Flat => flat,
                Content::Noise => [noise.next(), noise.next(), noise.next(), noise.next()],
                Content::Blocks => {
                    let block = (u64::from(x) / 5 * 977 + u64::from(y) / 3 * 7919 + seed)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    [block, block >> 1, block >> 2, 0].map(|bits| if bits >> 60 & 1 == 0 { 0 } else { 200 })
                }
                Content::Smooth => {
                    let grain = noise.next() & 3;
                    [(x as u8).wrapping_mul(2), (y as u8).wrapping_mul(3), (x + y) as u8, 0]
                        .map(|c| c.wrapping_add(grain))
                }
            };
            picture.bytes_mut()[at..at + PIXEL].copy_from_slice(&pixel);
        }
    }
}

/// Moves all rows up, as a scrolled page does.
pub(crate) fn scroll(picture: &mut Picture, rows: u16) {
    let by = usize::from(rows.min(picture.size().h)) * usize::from(picture.size().w) * PIXEL;
    picture.bytes_mut().copy_within(by.., 0);
}

pub(crate) fn size(w: u16, h: u16) -> Size {
    Size { w, h }
}
