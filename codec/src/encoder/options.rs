//! What an encoder is made for.

use super::Colours;
use crate::WINDOW_LOG_MAX;
use crate::error::EncodeError;
use crate::picture::Size;
use crate::stream::WINDOW_LOG_MIN;
use crate::wire::{SegmentHeader, VERSION, size_allowed};

/// Largest window where memory or time is short: 8 MB.
const LOW_WINDOW_LOG: u8 = 23;
/// No picture is so small that a window of 1 MB is too much.
const WINDOW_LOG_ENOUGH: u8 = 20;

/// What an encoder is made for.
#[derive(Clone, Copy, Debug)]
pub struct EncoderOptions {
    /// The pictures' size.
    pub size: Size,
    /// Generation of the display layout; only carried.
    pub layout_generation: u32,
    /// Largest window of the plain stream, as a power of two, 10 to [`crate::WINDOW_LOG_MAX`]: memory on both sides. Small
    /// pictures get a smaller one.
    pub plain_window_log: u8,
    /// Window of the median-edge stream; 0 sends those strips through the plain stream, which halves the memory.
    pub edge_window_log: u8,
    /// zstd's level: 7 is the best trade; 1 to 9 make sense.
    pub level: i32,
    /// Windows hold about one picture, rather than about five.
    pub low_memory: bool,
    /// Pictures of at most so many pixels are coded as with [`EncoderOptions::low_memory`], whatever the options say: on a small
    /// screen in an old computer, memory is worth more than some bytes.
    pub low_memory_up_to: usize,
    /// Which colours are sent: fewer make very slow lines usable.
    pub colours: Colours,
    /// What moves like video may go as H.264, where this build has an encoder of it.
    pub video: bool,
}

impl EncoderOptions {
    /// The defaults for pictures of `size`: one stream for everything with a window of up to 32 MB, level 7.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            layout_generation: 0,
            plain_window_log: WINDOW_LOG_MAX,
            edge_window_log: 0,
            level: 7,
            low_memory: false,
            low_memory_up_to: 0,
            colours: Colours::All,
            video: false,
        }
    }

    /// As these, for slow processors: less time for an eighth more bytes. Fewer pictures a second save more time, and bytes too.
    #[must_use]
    pub fn low_power(self) -> Self {
        Self { level: 5, plain_window_log: self.plain_window_log.min(LOW_WINDOW_LOG), ..self }
    }

    /// As these, for computers with little memory: one stream, whose window is about a picture and at most 8 MB.
    #[must_use]
    pub fn low_memory(self) -> Self {
        let plain_window_log = self.plain_window_log.min(LOW_WINDOW_LOG);
        Self { plain_window_log, edge_window_log: 0, low_memory: true, ..self }
    }

    pub(super) fn checked(self) -> Result<Self, EncodeError> {
        if !size_allowed(self.size, u16::MAX) {
            return Err(EncodeError::Size(self.size));
        }
        let pixels = self.size.pixels();
        if !self.low_memory && pixels <= self.low_memory_up_to {
            return self.low_memory().checked();
        }
        let enough = if self.low_memory { pixels * 5 / 2 } else { pixels * 16 };
        let enough = (enough.next_power_of_two().ilog2() as u8).max(WINDOW_LOG_ENOUGH);
        let window = |log: u8| log.min(enough).clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
        Ok(Self {
            plain_window_log: window(self.plain_window_log),
            edge_window_log: if self.edge_window_log == 0 { 0 } else { window(self.edge_window_log) },
            ..self
        })
    }

    pub(super) fn header(&self) -> SegmentHeader {
        SegmentHeader {
            version: VERSION,
            size: self.size,
            layout_generation: self.layout_generation,
            plain_window_log: self.plain_window_log,
            edge_window_log: self.edge_window_log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_get_small_windows_where_that_is_asked() {
        let options = |w, h, up_to| {
            let options = EncoderOptions { low_memory_up_to: up_to, ..EncoderOptions::new(Size { w, h }) };
            options.checked().expect("a size that is allowed")
        };
        let small = options(1024, 768, 1024 * 768);
        assert_eq!((small.low_memory, small.plain_window_log), (true, 21), "2 MB");
        assert_eq!(options(1024, 768, 0).plain_window_log, 24);
        assert_eq!(options(1025, 768, 1024 * 768).plain_window_log, 24);
    }
}
