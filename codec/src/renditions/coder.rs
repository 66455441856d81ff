//! One rendition: its encoder, and the numbers of its segments and records.

use std::time::Duration;

use tandem_protocol::{Point, Rendition, ScreenKind};

use super::{KeyTask, ScreenRecord};
use crate::Base;
use crate::encoder::{Encoder, EncoderOptions, Hints, Update};
use crate::error::EncodeError;
use crate::picture::{PictureRef, Size};
use crate::prepare::StreamsJob;

/// A rendition's encoder and where it stands.
#[derive(Debug)]
pub(super) struct Coder {
    rendition: Rendition,
    pub(super) on: bool,
    /// The last request that was met.
    pub(super) request: Option<u32>,
    pub(super) encoder: Option<Encoder>,
    /// Without an encoder the next picture makes one, which begins from black. Otherwise there is nothing to publish.
    from_black: bool,
    /// The last record that was sent, if the encoder's shadow is what it led to.
    pub(super) last: Option<Point>,
    /// Of the last start.
    segment: u32,
    /// The next record is a start that goes on from a shadow.
    due: Option<Due>,
    /// Its lane has had records.
    begun: bool,
}

/// What is known when a picture is coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) pointer: Option<(u16, u16)>,
    pub(super) now: Duration,
    /// Video may be sent.
    pub(super) video: bool,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    from: Point,
    /// It does not go on from the record before it.
    skips: bool,
}

impl Coder {
    pub(super) fn new(rendition: Rendition) -> Self {
        Self {
            rendition,
            on: false,
            request: None,
            encoder: None,
            from_black: rendition == Rendition::LIVE,
            last: None,
            segment: 0,
            due: None,
            begun: false,
        }
    }

    /// The size of its pictures.
    pub(super) fn size(&self) -> Option<Size> {
        self.encoder.as_ref().map(|encoder| encoder.options().size)
    }

    /// Begins from black with the next picture.
    pub(super) fn restart(&mut self) {
        self.end();
        self.from_black |= self.on;
    }

    /// Forgets all but numbers: a reduced rendition then waits for a fork, live begins from black.
    pub(super) fn end(&mut self) {
        // A key of the start that will not come may be out: its segment's number is not used again.
        self.segment += u32::from(self.due.is_some());
        (self.encoder, self.last, self.due) = (None, None, None);
        self.from_black = self.rendition == Rendition::LIVE;
    }

    /// Whether there is a history, or will be one from black.
    pub(super) fn exists(&self) -> bool {
        self.encoder.is_some() || self.from_black
    }

    /// Its first record starts a segment from the shadow after `from`, a record of the other rendition.
    pub(super) fn begin_at(&mut self, encoder: Encoder, from: Point) {
        (self.encoder, self.last, self.due) = (Some(encoder), None, Some(Due { from, skips: true }));
    }

    /// Makes the next record a start that goes on from the last one; `other` is a record of the other rendition that led to the
    /// same shadow. A start that is due already stays the next one. Answers what its key needs, unless it begins from black.
    pub(super) fn start(&mut self, other: Option<Point>) -> Option<KeyTask> {
        let job = self.encoder.as_mut()?.start_segment()?;
        let due = self.due.or_else(|| self.last.map(|from| Due { from, skips: false }))?;
        self.due = Some(Due { from: other.unwrap_or(due.from), ..due });
        let seq = self.last.unwrap_or(due.from).seq;
        Some(KeyTask { rendition: self.rendition, segment: self.segment + 1, seq, job })
    }

    /// What prepares the start that is due.
    pub(super) fn prepare(&mut self) -> Option<StreamsJob> {
        self.encoder.as_mut()?.prepare()
    }

    pub(super) fn is_preparing(&self) -> bool {
        self.encoder.as_ref().is_some_and(Encoder::is_preparing)
    }

    /// The `from` of the start that is due.
    pub(super) fn due(&self) -> Option<Point> {
        self.due.map(|due| due.from)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.encoder.as_ref().map_or(self.from_black, Encoder::is_behind)
    }

    /// When a video region will rest.
    pub(super) fn rests_at(&self) -> Option<Duration> {
        self.encoder.as_ref().filter(|_| self.on && !self.is_preparing())?.rests_at()
    }

    /// Codes the picture; `None` if nothing differs or the streams are not there yet.
    pub(super) fn encode(
        &mut self,
        options: EncoderOptions,
        picture: PictureRef<'_>,
        moment: Moment,
        budget: usize,
    ) -> Result<Option<ScreenRecord>, EncodeError> {
        if self.is_preparing() || !self.exists() {
            return Ok(None);
        }
        let Moment { pointer, now, video } = moment;
        let encoder = self.encoder(options)?;
        encoder.set_video(video);
        let update = encoder.encode(picture, &Hints { damage: Some(&[]), pointer, now }, budget)?;
        Ok(update.map(|update| self.record(update)))
    }

    /// Brings the shadow to that of `other`.
    pub(super) fn catch_up(
        &mut self,
        options: EncoderOptions,
        other: &Encoder,
    ) -> Result<Option<ScreenRecord>, EncodeError> {
        let update = self.encoder(options)?.catch_up(other)?;
        Ok(update.map(|update| self.record(update)))
    }

    /// The encoder, made if there is none.
    fn encoder(&mut self, options: EncoderOptions) -> Result<&mut Encoder, EncodeError> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            slot => {
                let mut encoder = Encoder::new(options)?;
                encoder.mark(None);
                Ok(slot.insert(encoder))
            }
        }
    }

    fn record(&mut self, update: Update) -> ScreenRecord {
        let due = update.start.and_then(|_| self.due.take());
        let (kind, skips) = match update.start {
            None => (ScreenKind::Update, false),
            Some(Base::Black) => (ScreenKind::Start { from: None }, self.begun),
            Some(Base::Shadow) => (
                ScreenKind::Start { from: due.map(|due| due.from) },
                self.begun && due.is_some_and(|due| due.skips),
            ),
        };
        self.segment += u32::from(update.start.is_some());
        ScreenRecord { rendition: self.rendition, segment: self.segment, kind, skips, body: update.body }
    }

    /// The record given last has this number.
    pub(super) fn sent(&mut self, seq: u64) {
        self.begun = true;
        self.last = Some(Point { rendition: self.rendition, segment: self.segment, seq });
    }
}
