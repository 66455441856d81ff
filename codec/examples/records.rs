//! Writes records, and what a viewer must show after each, for the test of the WebAssembly viewer.
//!
//! `cargo run -p tandem-codec --example records -- FILE`. For each record: lane u8, length u32, the record, outcome u8
//! (0 applied, 1 held, 2 skipped, 3 lost), and if applied: width u32, height u32, RGBA rows. All little-endian.

use std::io::Write;

use tandem_codec::{
    Base, Encoder, EncoderOptions, Hints, Outcome, Picture, PixelOrder, Rect, Size, Viewer, ViewerLimits,
};
use tandem_protocol::{
    DisplayId, Flags, Header, LaneKind, Point, Record, Rendition, ScreenHeader, ScreenKind, Sender,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("where to?")?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut viewer = Viewer::new(ViewerLimits::default(), PixelOrder::Rgba);
    for (lane, record) in records()? {
        let outcome = viewer.record(&record.header, record.body());
        file.write_all(&[lane as u8])?;
        file.write_all(&(record.bytes.len() as u32).to_le_bytes())?;
        file.write_all(&record.bytes)?;
        let Outcome::Applied { .. } = outcome else {
            let number = match outcome {
                Outcome::Held => 1,
                Outcome::Skipped => 2,
                _ => 3,
            };
            file.write_all(&[number])?;
            continue;
        };
        let size = viewer.decoder().size();
        file.write_all(&[0])?;
        file.write_all(&u32::from(size.w).to_le_bytes())?;
        file.write_all(&u32::from(size.h).to_le_bytes())?;
        file.write_all(viewer.decoder().picture())?;
    }
    Ok(file.flush()?)
}

/// A desktop with a photograph and a page that scrolls; a small window after it; a joiner's key; then damage.
fn records() -> Result<Vec<(LaneKind, Record)>, Failure> {
    let mut sender = Sending { epoch: 1, segment: 0, seq: 0, records: Vec::new() };
    let size = Size { w: 643, h: 361 };
    let mut picture = Picture::black(size);
    draw(&mut picture, Rect { x: 0, y: 0, w: 300, h: 361 }, photo);
    draw(&mut picture, Rect { x: 300, y: 0, w: 343, h: 361 }, text);
    let mut encoder = Encoder::new(EncoderOptions { edge_window_log: 20, ..EncoderOptions::new(size) })?;
    sender.send(&mut encoder, &picture, 30_000)?;
    for line in 1..6 {
        draw(&mut picture, Rect { x: 300, y: 20, w: 343, h: 300 }, |x, y| text(x, y + line * 13));
        sender.send(&mut encoder, &picture, usize::MAX)?;
    }
    // Those in step keep this key until they know that they need none, and skip it then.
    let key = encoder.start_segment().ok_or("nothing to start from")?.encode()?;
    let (segment, seq) = (sender.segment + 1, sender.seq - 1);
    sender.push(LaneKind::Key, ScreenKind::Key, segment, seq, &key);
    sender.send(&mut encoder, &picture, usize::MAX)?;
    sender.push(LaneKind::Key, ScreenKind::Key, segment, seq, &key);

    // Another epoch, another size, joined in mid-session: start and update are held for the key.
    let size = Size { w: 97, h: 33 };
    let mut picture = Picture::black(size);
    draw(&mut picture, size.rect(), text);
    encoder.resize(EncoderOptions { layout_generation: 9, ..EncoderOptions::new(size) })?;
    let mut missed = Sending { epoch: 2, segment: 0, seq: 0, records: Vec::new() };
    missed.send(&mut encoder, &picture, usize::MAX)?;
    let key = encoder.start_segment().ok_or("nothing to start from")?.encode()?;
    missed.records.clear();
    draw(&mut picture, Rect { x: 5, y: 5, w: 20, h: 20 }, photo);
    missed.send(&mut encoder, &picture, usize::MAX)?;
    draw(&mut picture, Rect { x: 45, y: 9, w: 20, h: 20 }, photo);
    missed.send(&mut encoder, &picture, usize::MAX)?;
    missed.push(LaneKind::Key, ScreenKind::Key, 1, 0, &key);
    missed.push(LaneKind::Screen, ScreenKind::Update, 1, missed.seq, b"damaged");
    sender.records.append(&mut missed.records);
    Ok(sender.records)
}

struct Sending {
    epoch: u64,
    segment: u32,
    seq: u64,
    records: Vec<(LaneKind, Record)>,
}

impl Sending {
    fn send(&mut self, encoder: &mut Encoder, picture: &Picture, budget: usize) -> Result<(), Failure> {
        let mut complete = false;
        while !complete {
            let Some(update) = encoder.encode(picture.borrow(), &Hints::default(), budget)? else {
                return Ok(());
            };
            complete = update.complete;
            let from =
                Point { rendition: Rendition::LIVE, segment: self.segment, seq: self.seq.wrapping_sub(1) };
            let kind = match update.start {
                None => ScreenKind::Update,
                Some(Base::Black) => ScreenKind::Start { from: None },
                Some(Base::Shadow) => ScreenKind::Start { from: Some(from) },
            };
            self.segment += u32::from(update.start == Some(Base::Shadow));
            self.push(LaneKind::Screen, kind, self.segment, self.seq, &update.body);
        }
        Ok(())
    }

    /// In parts of a few thousand bytes, as if a record could hold no more.
    fn push(&mut self, lane: LaneKind, kind: ScreenKind, segment: u32, mut seq: u64, body: &[u8]) {
        let parts: Vec<&[u8]> = body.chunks(5000).collect();
        for (i, part) in parts.iter().enumerate() {
            let more = if i + 1 < parts.len() { Flags::MORE } else { Flags::default() };
            let screen = ScreenHeader { display: DisplayId(0), rendition: Rendition::LIVE, segment, kind };
            let header = Header {
                record_type: 0,
                flags: more,
                sender: Sender(1),
                key_id: 0,
                epoch: self.epoch,
                seq,
                time_us: 1 << 33,
                screen: Some(screen),
            };
            self.records.push((lane, Record::new(header, part)));
            seq += u64::from(lane == LaneKind::Screen);
        }
        if lane == LaneKind::Screen {
            self.seq = seq;
        }
    }
}

fn draw(picture: &mut Picture, rect: Rect, colour: impl Fn(u32, u32) -> [u8; 3]) {
    let width = usize::from(picture.size().w);
    for y in rect.y..rect.y + rect.h {
        for x in rect.x..rect.x + rect.w {
            let at = (usize::from(y) * width + usize::from(x)) * 4;
            picture.bytes_mut()[at..at + 3].copy_from_slice(&colour(x.into(), y.into()));
        }
    }
}

fn photo(x: u32, y: u32) -> [u8; 3] {
    let grain = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)) >> 29;
    [x / 2 + grain, y + grain, (x + y) / 3 + grain].map(|value| value as u8)
}

fn text(x: u32, y: u32) -> [u8; 3] {
    let stroke = (x / 3).wrapping_mul(2_246_822_519) ^ (y / 2).wrapping_mul(3_266_489_917);
    if (stroke ^ stroke >> 15) & 3 == 0 { [20; 3] } else { [250, 250, 245] }
}
