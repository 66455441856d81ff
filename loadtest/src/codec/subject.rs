//! The codec that is measured: an encoder, the decoder of somebody in step, and of somebody who joins.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use tandem_codec::{
    Decoder, DecoderLimits, Encoder, Hints, PIXEL, Picture, PixelOrder, Pixels, Rect, Update,
};
use tandem_protocol::limits;
use tandem_protocol::record::{SCREEN_HEADER_LEN, START_HEADER_LEN};

use super::Plan;

/// Bytes that sealing adds to a record.
const TAG: usize = 16;

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// What something answered, and the CPU time that it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = cpu();
    let answer = work();
    (answer, cpu().saturating_sub(before))
}

/// What became of one update.
#[derive(Debug)]
pub(super) struct Sent {
    /// With the headers and tags of its records.
    pub(super) bytes: usize,
    /// Of its body alone, which is what a budget is for.
    pub(super) body: usize,
    pub(super) complete: bool,
    pub(super) pixels: Pixels,
    pub(super) decode: Duration,
}

/// What a segment's start costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Started {
    /// With the headers and tags of its records.
    pub(super) key_bytes: usize,
    pub(super) key: Duration,
    pub(super) streams: Duration,
}

pub(super) struct Subject {
    pub(super) encoder: Encoder,
    decoder: Decoder,
    /// Of somebody who joined later.
    joiner: Option<Decoder>,
    /// Largest that the two were found to be.
    pub(super) encoder_bytes: usize,
    pub(super) decoder_bytes: usize,
}

fn decoder() -> Decoder {
    Decoder::new(DecoderLimits::default(), PixelOrder::Bgra)
}

impl Subject {
    pub(super) fn new(plan: &Plan, picture: &Picture) -> anyhow::Result<Self> {
        let encoder = Encoder::new(plan.mode.options(picture.size()))?;
        Ok(Self { encoder, decoder: decoder(), joiner: None, encoder_bytes: 0, decoder_bytes: 0 })
    }

    /// Codes a picture, and decodes what it becomes. `None` if nothing differs; with the time that it took to encode either way.
    pub(super) fn send(
        &mut self,
        picture: &Picture,
        damage: Option<&[Rect]>,
        budget: usize,
    ) -> anyhow::Result<(Option<Sent>, Duration)> {
        let hints = Hints { damage, pointer: None };
        let (update, encode) = timed(|| self.encoder.encode(picture.borrow(), &hints, budget));
        let Some(update) = update? else { return Ok((None, encode)) };
        let (decoded, decode) = timed(|| apply(&mut self.decoder, &update));
        decoded.context("an update cannot be decoded")?;
        if let Some(joiner) = &mut self.joiner {
            apply(joiner, &update).context("somebody who joined cannot decode an update")?;
        }
        self.encoder_bytes = self.encoder_bytes.max(self.encoder.memory_bytes());
        self.decoder_bytes = self.decoder_bytes.max(self.decoder.memory_bytes());
        let header = if update.start.is_some() { START_HEADER_LEN } else { SCREEN_HEADER_LEN };
        let sent = Sent {
            bytes: on_the_wire(update.body.len(), header),
            body: update.body.len(),
            complete: update.complete,
            pixels: update.pixels,
            decode,
        };
        Ok((Some(sent), encode))
    }

    /// Starts a segment, as for somebody who joins; that somebody decodes everything from now on.
    pub(super) fn start_segment(&mut self) -> anyhow::Result<Started> {
        let job = self.encoder.start_segment().context("a segment from black is due anyway")?;
        let streams = self.encoder.prepare().context("there is nothing to prepare")?;
        let (prepared, streams) = timed(|| streams.run());
        self.encoder.prepared(prepared);
        let (key, time) = timed(|| job.encode());
        let key = key?;
        let mut joiner = decoder();
        joiner.key(&key).context("a key cannot be decoded")?;
        ensure!(joiner.picture() == self.decoder.picture(), "a key shows something else");
        self.joiner = Some(joiner);
        let key_bytes = on_the_wire(key.len(), SCREEN_HEADER_LEN);
        Ok(Started { key_bytes, key: time, streams })
    }

    /// Whether everybody shows exactly this.
    pub(super) fn shows(&self, picture: &Picture) -> bool {
        let decoders = || std::iter::once(&self.decoder).chain(&self.joiner);
        decoders().all(|decoder| same_colours(decoder.picture(), picture.bytes()))
    }

    /// Whether everybody shows exactly what the encoder thinks.
    pub(super) fn shows_shadow(&self) -> bool {
        self.shows(self.encoder.shadow())
    }
}

fn apply(decoder: &mut Decoder, update: &Update) -> Result<Vec<Rect>, tandem_codec::DecodeError> {
    match update.start {
        Some(base) => decoder.start(base, &update.body),
        None => decoder.update(&update.body),
    }
}

fn on_the_wire(body: usize, first_header: usize) -> usize {
    let more = body.div_ceil(limits::BODY_MAX).saturating_sub(1);
    body + first_header + TAG + more * (SCREEN_HEADER_LEN + TAG)
}

/// Whether pixels have the same blue, green and red.
fn same_colours(a: &[u8], b: &[u8]) -> bool {
    const COLOURS: u32 = 0x00ff_ffff;
    let colours = |pixel: &[u8; PIXEL]| u32::from_le_bytes(*pixel) & COLOURS;
    let (a, b) = (a.as_chunks::<PIXEL>().0, b.as_chunks::<PIXEL>().0);
    // Rows without a branch in them, so that they are compared as vectors.
    a.len() == b.len()
        && a.chunks(4096)
            .zip(b.chunks(4096))
            .all(|(a, b)| a.iter().zip(b).fold(0, |all, (a, b)| all | (colours(a) ^ colours(b))) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_bring_their_headers_and_tags() {
        assert_eq!(on_the_wire(100, 46), 162);
        assert_eq!(on_the_wire(limits::BODY_MAX, 46), limits::BODY_MAX + 62);
        assert_eq!(on_the_wire(limits::BODY_MAX + 1, 59), limits::BODY_MAX + 1 + 75 + 62);
    }

    #[test]
    fn the_fourth_byte_is_no_colour() {
        assert!(same_colours(&[1, 2, 3, 4], &[1, 2, 3, 99]));
        assert!(!same_colours(&[1, 2, 3, 4], &[1, 2, 4, 4]));
        assert!(!same_colours(&[1, 2, 3, 4], &[]));
    }

    #[test]
    fn the_thread_s_time_goes_on_while_it_works() {
        let ((), took) = timed(|| {
            let before = cpu();
            while cpu() == before {}
        });
        assert!(took > Duration::ZERO);
    }
}
