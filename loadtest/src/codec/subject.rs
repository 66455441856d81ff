//! The codec that is measured: an encoder, the decoder of somebody in step, and of somebody who joins.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use tandem_codec::{
    Decoder, DecoderLimits, Encoder, Hints, PIXEL, Picture, PixelOrder, Pixels, Rect, Update, VideoPlayer,
};
use tandem_protocol::limits;
use tandem_protocol::record::{SCREEN_HEADER_LEN, START_HEADER_LEN};

use super::Plan;
use super::records::Records;

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
    /// Luma of what is shown as video, against the picture.
    pub(super) video_psnr_db: Option<f64>,
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
    viewer: Viewer,
    /// Somebody who joined later.
    joiner: Option<Viewer>,
    /// Where everything is written, too.
    pub(super) records: Option<Records>,
    /// Largest that the two were found to be.
    pub(super) encoder_bytes: usize,
    pub(super) decoder_bytes: usize,
}

/// Somebody who watches.
struct Viewer {
    decoder: Decoder,
    player: VideoPlayer,
}

impl Viewer {
    fn new() -> Self {
        let order = PixelOrder::Bgra;
        Self { decoder: Decoder::new(DecoderLimits::default(), order), player: VideoPlayer::new(order) }
    }

    fn apply(&mut self, update: &Update) -> Result<(), tandem_codec::DecodeError> {
        match update.start {
            Some(base) => self.decoder.start(base, &update.body)?,
            None => self.decoder.update(&update.body)?,
        };
        self.player.play(&mut self.decoder).map(drop)
    }
}

impl Subject {
    pub(super) fn new(plan: &Plan, picture: &Picture) -> anyhow::Result<Self> {
        let encoder = Encoder::new(plan.mode.options(picture.size()))?;
        Ok(Self {
            encoder,
            viewer: Viewer::new(),
            joiner: None,
            records: None,
            encoder_bytes: 0,
            decoder_bytes: 0,
        })
    }

    /// Codes a picture, and decodes what it becomes. `None` if nothing differs; with the time that it took to encode either way.
    pub(super) fn send(
        &mut self,
        picture: &Picture,
        damage: Option<&[Rect]>,
        now: Duration,
        budget: usize,
    ) -> anyhow::Result<(Option<Sent>, Duration)> {
        let hints = Hints { damage, now, ..Hints::default() };
        let (update, encode) = timed(|| self.encoder.encode(picture.borrow(), &hints, budget));
        let Some(update) = update? else { return Ok((None, encode)) };
        let (decoded, decode) = timed(|| self.viewer.apply(&update));
        decoded.context("an update cannot be decoded")?;
        if let Some(joiner) = &mut self.joiner {
            joiner.apply(&update).context("somebody who joined cannot decode an update")?;
        }
        if let Some(records) = &mut self.records {
            records.update(now, &update).context("the records cannot be written")?;
        }
        self.encoder_bytes = self.encoder_bytes.max(self.encoder.memory_bytes());
        self.decoder_bytes = self.decoder_bytes.max(self.viewer.decoder.memory_bytes());
        let header = if update.start.is_some() { START_HEADER_LEN } else { SCREEN_HEADER_LEN };
        let sent = Sent {
            bytes: on_the_wire(update.body.len(), header),
            body: update.body.len(),
            complete: update.complete,
            pixels: update.pixels,
            decode,
            video_psnr_db: self.video_psnr_db(picture),
        };
        Ok((Some(sent), encode))
    }

    /// There is no more: this was the last picture.
    pub(super) fn end(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let records = self.records.as_mut();
        records.map_or(Ok(()), |records| records.end(picture)).context("the records cannot be written")
    }

    /// Starts a segment, as for somebody who joins; that somebody decodes everything from now on.
    pub(super) fn start_segment(&mut self) -> anyhow::Result<Started> {
        let job = self.encoder.start_segment().context("a segment from black is due anyway")?;
        let streams = self.encoder.prepare().context("there is nothing to prepare")?;
        let (prepared, streams) = timed(|| streams.run());
        self.encoder.prepared(prepared);
        let (key, time) = timed(|| job.encode());
        let key = key?;
        let mut joiner = Viewer::new();
        joiner.decoder.key(&key).context("a key cannot be decoded")?;
        let shown = self.viewer.decoder.picture();
        ensure!(self.is_same(joiner.decoder.picture(), shown), "a key shows something else");
        self.joiner = Some(joiner);
        let key_bytes = on_the_wire(key.len(), SCREEN_HEADER_LEN);
        Ok(Started { key_bytes, key: time, streams })
    }

    /// Whether everybody shows exactly this, but for what is shown as video.
    pub(super) fn shows(&self, picture: &Picture) -> bool {
        let mut viewers = std::iter::once(&self.viewer).chain(&self.joiner);
        viewers.all(|viewer| self.is_same(viewer.decoder.picture(), picture.bytes()))
    }

    /// Whether everybody shows exactly what the encoder thinks, but for what is shown as video.
    pub(super) fn shows_shadow(&self) -> bool {
        self.shows(self.encoder.shadow())
    }

    /// Whether an update has left something.
    pub(super) fn is_behind(&self) -> bool {
        self.encoder.is_behind()
    }

    /// When video comes to rest, if nothing moves any more.
    pub(super) fn rests_at(&self) -> Option<Duration> {
        self.encoder.rests_at()
    }

    /// Whether something is shown as video.
    pub(super) fn has_video(&self) -> bool {
        self.encoder.video_regions().next().is_some()
    }

    /// Whether two pictures are the same outside of video.
    fn is_same(&self, a: &[u8], b: &[u8]) -> bool {
        if !self.has_video() {
            return same_colours(a, b);
        }
        let mut without = [a.to_vec(), b.to_vec()];
        for rect in self.encoder.video_regions() {
            let stride = usize::from(self.encoder.options().size.w) * PIXEL;
            for picture in &mut without {
                rows(rect, stride).for_each(|row| picture[row].fill(0));
            }
        }
        same_colours(&without[0], &without[1])
    }

    fn video_psnr_db(&self, picture: &Picture) -> Option<f64> {
        let stride = usize::from(picture.size().w) * PIXEL;
        let shown = self.viewer.decoder.picture();
        let (mut squares, mut pixels) = (0.0, 0usize);
        for rect in self.encoder.video_regions() {
            for row in rows(rect, stride) {
                let (is, should) = (&shown[row.clone()], &picture.bytes()[row]);
                let pairs = is.as_chunks::<PIXEL>().0.iter().zip(should.as_chunks::<PIXEL>().0);
                squares += pairs.map(|(is, should)| (luma(is) - luma(should)).powi(2)).sum::<f64>();
            }
            pixels += rect.pixels();
        }
        // Half a step of one level everywhere is as good as none.
        (pixels > 0)
            .then(|| 10.0 * (255.0 * 255.0 * pixels as f64 / squares.max(pixels as f64 / 4.0)).log10())
    }
}

/// BT.709, limited range.
fn luma(pixel: &[u8; PIXEL]) -> f64 {
    let [b, g, r, _] = pixel.map(f64::from);
    16.0 + 219.0 / 255.0 * (0.0722 * b + 0.7152 * g + 0.2126 * r)
}

/// The bytes of a rectangle, row by row.
fn rows(rect: Rect, stride: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (first, rows) = (usize::from(rect.y), usize::from(rect.h));
    let at = usize::from(rect.x) * PIXEL;
    (first..first + rows).map(move |y| y * stride + at..y * stride + at + usize::from(rect.w) * PIXEL)
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
