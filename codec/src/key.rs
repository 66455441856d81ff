//! Keys: self-contained pictures for subscribers that are not in step.

use std::fmt;

use crate::WINDOW_LOG_KEY;
use crate::error::EncodeError;
use crate::lossless::{Streams, write_whole};
use crate::owed::BAND;
use crate::picture::{HISTORY_LEAD, PACKED, PIXEL, Picture, Rect};
use crate::stream::History;
use crate::wire::SegmentHeader;

/// Whoever joins waits for it, and it is sent once.
const LEVEL_MAX: i32 = 5;

/// A key still to be made, of the shadow at a segment's start. It shares that shadow, so the encoder goes on at once,
/// and the key is made on any thread.
pub struct KeyJob {
    header: SegmentHeader,
    level: i32,
    shadow: History,
}

impl fmt::Debug for KeyJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyJob").field("header", &self.header).finish_non_exhaustive()
    }
}

impl KeyJob {
    pub(crate) fn new(segment: SegmentHeader, level: i32, shadow: History) -> Self {
        // Its own bytes reach back over one picture at most, and its decoder lives only as long as it.
        let plain_window_log = segment.plain_window_log.min(WINDOW_LOG_KEY);
        let header = SegmentHeader { plain_window_log, edge_window_log: 0, ..segment };
        Self { header, level: level.min(LEVEL_MAX), shadow }
    }

    /// The key's body, as it goes on the wire. Takes some ten milliseconds for a full-HD picture.
    ///
    /// # Errors
    /// [`EncodeError::Stream`].
    pub fn encode(self) -> Result<Vec<u8>, EncodeError> {
        let picture = self.unpacked();
        let size = self.header.size;
        let bands: Vec<Rect> = (0..size.h)
            .step_by(usize::from(BAND))
            .map(|y| Rect { x: 0, y, w: size.w, h: BAND.min(size.h - y) })
            .filter(|band| band.rows().any(|y| picture.row(y).iter().any(|&byte| byte != 0)))
            .collect();
        let mut body = Vec::new();
        self.header.put(&mut body);
        let streams = Streams::new(&self.header, self.level, History::default())?;
        write_whole(streams, picture.borrow(), &bands, &mut body)?;
        Ok(body)
    }

    fn unpacked(&self) -> Picture {
        let mut picture = Picture::black(self.header.size);
        let (to, _) = picture.bytes_mut().as_chunks_mut::<PIXEL>();
        let (from, _) = self.shadow[HISTORY_LEAD..].as_chunks::<PACKED>();
        to.iter_mut().zip(from).for_each(|(to, from)| to[..PACKED].copy_from_slice(from));
        picture
    }
}
