//! Writes what a viewer elsewhere is to show: the records of a recording, when they were sent, and the last picture.
//!
//! Entries, one after the other, of `time in ms u32, length u32, bytes`, little-endian: a record of a live screen lane each, and
//! at the end, at time 2^32 - 1, the picture as `width u32, height u32`, RGBA rows.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use tandem_codec::{Base, PIXEL, Picture, Update};
use tandem_protocol::{
    DisplayId, Flags, Header, Point, Record, Rendition, ScreenHeader, ScreenKind, Sender, limits,
};

/// A file of records.
#[derive(Debug)]
pub(super) struct Records {
    file: BufWriter<File>,
    segment: u32,
    seq: u64,
}

impl Records {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), segment: 0, seq: 0 })
    }

    /// An update, in as many records as it needs.
    pub(super) fn update(&mut self, now: Duration, update: &Update) -> io::Result<()> {
        let before =
            Point { rendition: Rendition::LIVE, segment: self.segment, seq: self.seq.wrapping_sub(1) };
        let kind = match update.start {
            None => ScreenKind::Update,
            Some(Base::Black) => ScreenKind::Start { from: None },
            Some(Base::Shadow) => ScreenKind::Start { from: Some(before) },
        };
        self.segment += u32::from(update.start.is_some());
        let mut parts = update.body.chunks(limits::BODY_MAX).peekable();
        while let Some(part) = parts.next() {
            let header = Header {
                record_type: 0,
                flags: if parts.peek().is_some() { Flags::MORE } else { Flags::default() },
                sender: Sender(1),
                key_id: 0,
                epoch: 1,
                seq: self.seq,
                time_us: now.as_micros() as u64,
                screen: Some(ScreenHeader {
                    display: DisplayId(0),
                    rendition: Rendition::LIVE,
                    segment: self.segment,
                    kind,
                }),
            };
            self.put(now.as_millis() as u32, &Record::new(header, part).bytes)?;
            self.seq += 1;
        }
        Ok(())
    }

    /// The last picture.
    pub(super) fn end(&mut self, picture: &Picture) -> io::Result<()> {
        let size = picture.size();
        let mut bytes: Vec<u8> = [u32::from(size.w), u32::from(size.h)].map(u32::to_le_bytes).concat();
        let (pixels, _) = picture.bytes().as_chunks::<PIXEL>();
        bytes.extend(pixels.iter().flat_map(|&[b, g, r, _]| [r, g, b, u8::MAX]));
        self.put(u32::MAX, &bytes)?;
        self.file.flush()
    }

    fn put(&mut self, time_ms: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(&time_ms.to_le_bytes())?;
        self.file.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.file.write_all(bytes)
    }
}
