//! A decoder's side of the video plane: which regions a segment has, and which of their pictures are still to be shown.
//!
//! H.264 is decoded by whoever has the decoder, in its own time. What was painted over a region meanwhile is newer: a picture
//! that comes too late is not shown any more.

use std::collections::VecDeque;
use std::fmt;

use crate::error::DecodeError;
use crate::picture::{Rect, Size};
use crate::wire::{CodedSize, VIDEO_REGIONS, Video, VideoStep, kind};

/// Pictures that may wait to be shown; of more the oldest are not shown at all.
const WAITING_MAX: usize = 64;

/// A picture of a video region, still to be decoded. Every one of a region must be, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct VideoPicture {
    /// Counts the pictures of a decoder.
    pub serial: u64,
    /// Below 8. Each region needs an H.264 decoder of its own.
    pub region: u8,
    /// The region begins: an IDR, for a fresh H.264 decoder.
    pub begins: bool,
    /// Where it is shown.
    pub rect: Rect,
    /// How large it is, and which part of it is shown.
    pub coded: CodedSize,
    /// H.264 in Annex B, 4:2:0, BT.709 unless its parameter sets say otherwise.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for VideoPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoPicture")
            .field("serial", &self.serial)
            .field("region", &self.region)
            .field("begins", &self.begins)
            .field("rect", &self.rect)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// The regions that go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running([Option<(Rect, CodedSize)>; VIDEO_REGIONS]);

impl Running {
    pub(super) fn has(self, region: u8) -> bool {
        self.0.get(usize::from(region)).is_some_and(Option::is_some)
    }

    /// Takes a patch, unless it breaks a rule. Regions that go on cover no more than a picture, which bounds the memory of
    /// their decoders.
    pub(super) fn step(&mut self, video: &Video, size: Size) -> Result<(), DecodeError> {
        let geometry = (video.rect, video.coded);
        let region = self.0.get_mut(usize::from(video.region)).ok_or(DecodeError::Patch(kind::VIDEO))?;
        match video.step {
            VideoStep::GoOn if *region == Some(geometry) => Ok(()),
            VideoStep::GoOn => Err(DecodeError::Bounds),
            VideoStep::Begin => {
                *region = Some(geometry);
                let pixels = self.0.iter().flatten().map(|(rect, _)| rect.pixels()).sum::<usize>();
                if pixels <= size.pixels() { Ok(()) } else { Err(DecodeError::Bounds) }
            }
            VideoStep::End => {
                *region = None;
                Ok(())
            }
            VideoStep::Show => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    rect: Rect,
}

/// Regions and their pictures.
#[derive(Debug, Default)]
pub(super) struct Regions {
    pub(super) running: Running,
    /// Of the body applied last.
    pub(super) found: Vec<VideoPicture>,
    /// To be shown, the oldest first, but for those that something newer was painted over.
    waiting: VecDeque<Waiting>,
    serial: u64,
}

impl Regions {
    /// A segment starts, or a key shows another picture (`fresh`), over which nothing of before is to be shown.
    pub(super) fn restart(&mut self, fresh: bool) {
        self.running = Running::default();
        if fresh {
            self.waiting.clear();
        }
    }

    /// Something was painted.
    pub(super) fn cover(&mut self, rect: Rect) {
        self.waiting.retain(|waiting| !waiting.rect.intersects(rect));
    }

    /// Takes the picture of a patch.
    pub(super) fn push(&mut self, video: &Video, bytes: &[u8]) {
        if matches!(video.step, VideoStep::End | VideoStep::Show) {
            return;
        }
        self.serial += 1;
        let Video { region, step, rect, coded, .. } = *video;
        let begins = step == VideoStep::Begin;
        let bytes = bytes.to_vec();
        self.found.push(VideoPicture { serial: self.serial, region, begins, rect, coded, bytes });
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting { serial: self.serial, rect });
    }

    /// Where a picture is to be shown, if it still is.
    pub(super) fn waits(&self, serial: u64) -> Option<Rect> {
        let waiting = self.waiting.iter().find(|waiting| waiting.serial == serial)?;
        Some(waiting.rect)
    }

    /// The same, which is done with it.
    pub(super) fn take(&mut self, serial: u64) -> Option<Rect> {
        let rect = self.waits(serial)?;
        // What is older is not shown over it any more.
        self.waiting.retain(|waiting| waiting.serial > serial || !waiting.rect.intersects(rect));
        Some(rect)
    }
}
