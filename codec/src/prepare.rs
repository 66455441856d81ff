//! A segment's streams, made ahead: zstd reads through the whole history before the first byte, some twenty milliseconds for a
//! full-HD picture, which need not be those of the thread that encodes.

use std::fmt;

use crate::lossless::Streams;
use crate::stream::History;
use crate::wire::SegmentHeader;

/// Streams still to be made, on any thread.
pub struct StreamsJob {
    header: SegmentHeader,
    level: i32,
    history: History,
}

/// What a [`StreamsJob`] has made.
pub struct Prepared {
    /// Says which segment they are for.
    pub(crate) history: History,
    /// `None`: memory ran out.
    pub(crate) streams: Option<Streams>,
}

impl StreamsJob {
    pub(crate) fn new(header: SegmentHeader, level: i32, history: History) -> Self {
        Self { header, level, history }
    }

    /// Makes them. Takes some ten milliseconds for a full-HD picture.
    pub fn run(self) -> Prepared {
        let made = Streams::new(&self.header, self.level, self.history.clone());
        let streams = made.and_then(|mut streams| streams.read_history().map(|()| streams)).ok();
        Prepared { history: self.history, streams }
    }
}

impl fmt::Debug for StreamsJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsJob").field("header", &self.header).finish_non_exhaustive()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("made", &self.streams.is_some()).finish_non_exhaustive()
    }
}
