//! One display: its renditions, when each is encoded, and where their records go.

use std::time::{Duration, Instant};

use tandem_capture::{CaptureError, ScreenSource};
use tandem_client::{Handle, Outgoing, SendError};
use tandem_codec::{EncoderOptions, PictureRef, Prepared, Rect, Renditions, ScreenRecord, Size};
use tandem_protocol::message::Want;
use tandem_protocol::{DisplayId, LaneKey, LaneKind, Rendition, Sender};

use super::jobs::Jobs;
use crate::pace::{Frames, Next, has_time};

/// In the order in which they are served.
const RENDITIONS: [Rendition; 2] = [Rendition::LIVE, Rendition::REDUCED];

/// What a display is published with.
pub(super) struct View<'a> {
    pub(super) source: &'a mut dyn ScreenSource,
    pub(super) handle: &'a Handle,
    pub(super) jobs: &'a Jobs,
    /// Where the pointer is, if on this display.
    pub(super) pointer: Option<(u16, u16)>,
}

/// A display that somebody wants, or wanted.
pub(super) struct Display {
    id: DisplayId,
    renditions: Renditions,
    frames: [Frames; 2],
    /// How long the reduced rendition took lately to be encoded.
    cost: Duration,
    /// The renditions' clock counts from here.
    began: Instant,
}

impl Display {
    pub(super) fn new(id: DisplayId, layout_generation: u32, video: bool, look: EncoderOptions) -> Self {
        // Pictures say their size.
        let options = EncoderOptions { layout_generation, ..look };
        let mut renditions = Renditions::new(options);
        renditions.set_video(video);
        let frames = Default::default();
        Self { id, renditions, frames, cost: Duration::ZERO, began: Instant::now() }
    }

    /// Whether what moves may go as video. Where it does and may not any more it becomes exact with the next picture.
    pub(super) fn set_video(&mut self, on: bool) {
        self.renditions.set_video(on);
        for (rendition, frames) in RENDITIONS.into_iter().zip(&mut self.frames) {
            if self.renditions.rests_at(rendition).is_some() {
                frames.changed();
            }
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.frames.iter().any(Frames::is_wanted)
    }

    pub(super) fn want(&mut self, want: &Want, jobs: &Jobs) {
        self.renditions.want(want.into());
        self.settle(jobs);
    }

    /// There is a connection; of these lanes it has lost what was on its way.
    pub(super) fn connected<'a>(&mut self, restart: impl Iterator<Item = &'a LaneKey>, jobs: &Jobs) {
        self.renditions.connected(restart.map(|key| key.rendition));
        self.settle(jobs);
    }

    pub(super) fn set_layout(&mut self, generation: u32, jobs: &Jobs) {
        self.renditions.set_layout(generation);
        self.settle(jobs);
    }

    pub(super) fn prepared(&mut self, prepared: Prepared, jobs: &Jobs) {
        self.renditions.prepared(prepared);
        self.settle(jobs);
    }

    /// It shows something new.
    pub(super) fn changed(&mut self) {
        self.frames.iter_mut().for_each(Frames::changed);
    }

    /// Begins what is to be done elsewhere, and notes what there is to encode.
    fn settle(&mut self, jobs: &Jobs) {
        while let Some(job) = self.renditions.next_job() {
            jobs.begin(self.id, job);
        }
        for (rendition, frames) in RENDITIONS.into_iter().zip(&mut self.frames) {
            frames.want(self.renditions.is_wanted(rendition));
            if self.renditions.is_behind(rendition) {
                frames.changed();
            }
        }
    }

    /// Encodes what can be: live first, reduced in the time that live leaves. Answers when there is more to do.
    pub(super) fn publish(&mut self, view: &mut View<'_>) -> Result<Next, CaptureError> {
        let live = self.publish_one(Rendition::LIVE, view)?;
        let before = Instant::now();
        let [_, reduced] = &self.frames;
        if !has_time(before, live, self.cost, reduced) {
            return Ok(live);
        }
        let encoded_before = reduced.last();
        let reduced = self.publish_one(Rendition::REDUCED, view)?;
        if self.frames[1].last() != encoded_before {
            self.cost = before.elapsed();
        }
        Ok(live.earlier(reduced))
    }

    fn publish_one(&mut self, rendition: Rendition, view: &mut View<'_>) -> Result<Next, CaptureError> {
        let (handle, path) = (view.handle, lane(LaneKind::Screen, self.id, rendition));
        let next = self.next(rendition, handle, path);
        let Next::Encode(budget) = next else { return Ok(next) };
        match self.encode(rendition, budget, view) {
            Ok(()) => Ok(self.next(rendition, handle, path)),
            // The layout's event comes next.
            Err(CaptureError::LayoutChanged | CaptureError::UnknownDisplay(_)) => Ok(Next::Rest),
            Err(error) => Err(error),
        }
    }

    fn next(&mut self, rendition: Rendition, handle: &Handle, path: LaneKey) -> Next {
        let now = Instant::now();
        let rests = self.renditions.rests_at(rendition).map(|at| self.began + at);
        let frames = &mut self.frames[usize::from(rendition.0)];
        if rests.is_some_and(|at| at <= now) {
            frames.changed();
        }
        match (frames.next(now, || handle.pace(path)), rests) {
            // Video that rests becomes exact, although nothing changes.
            (Next::Rest, Some(at)) if at > now => Next::Wait(at),
            (next, _) => next,
        }
    }

    /// Encodes what the display shows now, and sends it.
    fn encode(
        &mut self,
        rendition: Rendition,
        budget: usize,
        view: &mut View<'_>,
    ) -> Result<(), CaptureError> {
        let frame = view.source.grab(self.id)?;
        let size = Size { w: frame.width, h: frame.height };
        let Some(picture) = PictureRef::new(size, frame.stride, frame.pixels) else {
            return Err(CaptureError::LayoutChanged);
        };
        let damage: Vec<Rect> =
            frame.damage.iter().map(|r| Rect { x: r.x, y: r.y, w: r.width, h: r.height }).collect();
        self.renditions.damage(Some(&damage));
        self.renditions.set_time(self.began.elapsed());
        match self.renditions.encode(rendition, picture, view.pointer, budget) {
            Ok(Some(record)) => self.send(&record, view.handle),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, display = self.id.0, "a picture cannot be encoded"),
        }
        self.frames[usize::from(rendition.0)].encoded(!self.renditions.is_behind(rendition), Instant::now());
        // What one rendition has seen the other still owes.
        self.settle(view.jobs);
        Ok(())
    }

    fn send(&mut self, record: &ScreenRecord, handle: &Handle) {
        let out = Outgoing::screen(record.segment, record.kind, &record.body).skipping(record.skips);
        match handle.send(lane(LaneKind::Screen, self.id, record.rendition), out) {
            Ok(sent) => self.renditions.sent(record.rendition, sent.seq),
            Err(error) => {
                let offline = error == SendError::Offline;
                tracing::debug!(%error, offline, "an update could not be sent");
                self.renditions.unsent(record.rendition);
            }
        }
    }
}

/// A lane of a display; its sender is filled in by the client.
pub(super) fn lane(kind: LaneKind, display: DisplayId, rendition: Rendition) -> LaneKey {
    LaneKey::screen(kind, display, rendition, Sender::RELAY)
}

/// All lanes of a display.
pub(super) fn lanes(display: DisplayId) -> impl Iterator<Item = LaneKey> {
    let kinds = [LaneKind::Screen, LaneKind::Key];
    kinds
        .into_iter()
        .flat_map(move |kind| RENDITIONS.into_iter().map(move |rendition| lane(kind, display, rendition)))
}
