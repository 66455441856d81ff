//! zstd streams that live as long as a segment, with the picture at its start as history.
//!
//! zstd keeps that history by reference: each stream owns a share of it beside the context, so that neither can outlive
//! the other.

use std::sync::Arc;

use self_cell::self_cell;
use zstd_safe::zstd_sys::ZSTD_EndDirective as End;
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::error::{DecodeError, StreamError};

/// Bytes that may stand before a segment's first: shared between its streams, its key and its owner. Not a slice: making one
/// would copy a picture once more.
pub(crate) type History = Arc<Vec<u8>>;

/// Smallest window that zstd knows.
pub(crate) const WINDOW_LOG_MIN: u8 = 10;
/// From this window on long-distance matching pays (and indexes the whole history, whatever its length).
const LONG_DISTANCE_FROM: u8 = 24;

self_cell!(
    struct Compressing {
        owner: History,
        #[not_covariant]
        dependent: CCtx,
    }
);

self_cell!(
    struct Decompressing {
        owner: History,
        #[not_covariant]
        dependent: DCtx,
    }
);

fn failed(code: usize) -> StreamError {
    StreamError(get_error_name(code))
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) level: i32,
    pub(crate) window_log: u8,
    /// Bytes of a picture, packed: how much history the match finder should reach.
    pub(crate) history_len: usize,
}

impl Settings {
    fn apply(self, context: &mut CCtx<'_>) -> Result<(), usize> {
        let long_distance = self.window_log >= LONG_DISTANCE_FROM;
        // zstd indexes only the last 2^(hash log + 3) bytes of a prefix, silently. So the table must fit the picture;
        // a small window is chosen to save memory and then bounds the table too.
        // Long-distance matching indexes all of it by itself, and reading history then takes less time with a smaller table.
        let needed = self.history_len.max(1).ilog2() + 1 - u32::from(long_distance);
        let hash_log = needed.min(u32::from(self.window_log)).saturating_sub(3).max(10);
        let parameters = [
            CParameter::CompressionLevel(self.level),
            CParameter::WindowLog(u32::from(self.window_log)),
            CParameter::HashLog(hash_log),
            // Both measured on recorded screens: pixels are three bytes, so shorter matches are noise.
            CParameter::MinMatch(6),
            CParameter::SearchLog(4),
            CParameter::EnableLongDistanceMatching(long_distance),
        ];
        // Half as many places as zstd would remember take less time; matches this long are found all the same.
        let long = [CParameter::LdmMinMatch(128), CParameter::LdmHashRateLog(7)];
        let long = long.into_iter().filter(|_| long_distance);
        parameters
            .into_iter()
            .chain(long)
            .try_for_each(|parameter| context.set_parameter(parameter).map(drop))
    }
}

/// The compressing end of a stream.
pub(crate) struct Compressor(Compressing);

impl Compressor {
    pub(crate) fn new(settings: Settings, history: History) -> Result<Self, StreamError> {
        Compressing::try_new(history, |history| {
            let mut context = CCtx::try_create().ok_or(StreamError("out of memory"))?;
            settings.apply(&mut context).map_err(failed)?;
            if !history.is_empty() {
                context.ref_prefix(history).map_err(failed)?;
            }
            Ok(context)
        })
        .map(Self)
    }

    /// Reads the history now rather than with the first byte. To be called before anything is written.
    pub(crate) fn read_history(&mut self) -> Result<(), StreamError> {
        // zstd begins its frame, history and all, when it is first called; without input there is nothing to flush.
        let mut nothing = Vec::new();
        self.flush(&mut nothing)?;
        if nothing.is_empty() { Ok(()) } else { Err(StreamError("a frame begins before its first byte")) }
    }

    /// Memory of the context and its history.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.borrow_owner().len() + self.0.with_dependent(|_, context| context.sizeof())
    }

    /// Takes in `bytes`; some of what they become may be appended to `out`.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.run(bytes, out, End::ZSTD_e_continue)
    }

    /// Appends the rest of all that was written, so that the other end can decode it.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.run(&[], out, End::ZSTD_e_flush)
    }

    /// As [`Compressor::flush`], and ends the frame.
    pub(crate) fn end(mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.run(&[], out, End::ZSTD_e_end)
    }

    fn run(&mut self, bytes: &[u8], out: &mut Vec<u8>, end: End) -> Result<(), StreamError> {
        let mut input = InBuffer::around(bytes);
        loop {
            // A little room for typing, where an update is some dozen bytes; zstd asks again for more.
            out.reserve(4096);
            let at = out.len();
            let mut output = OutBuffer::around_pos(out, at);
            let left = self
                .0
                .with_dependent_mut(|_, context| context.compress_stream2(&mut output, &mut input, end))
                .map_err(failed)?;
            let done = if end == End::ZSTD_e_continue { input.pos() == bytes.len() } else { left == 0 };
            if done {
                return Ok(());
            }
        }
    }
}

/// The decompressing end of a stream.
pub(crate) struct Decompressor(Decompressing);

impl Decompressor {
    pub(crate) fn new(window_log: u8, history: History) -> Result<Self, StreamError> {
        Decompressing::try_new(history, |history| {
            let mut context = DCtx::try_create().ok_or(StreamError("out of memory"))?;
            context.set_parameter(DParameter::WindowLogMax(u32::from(window_log))).map_err(failed)?;
            if !history.is_empty() {
                context.ref_prefix(history).map_err(failed)?;
            }
            Ok(context)
        })
        .map(Self)
    }

    /// Memory of the context and its history.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.borrow_owner().len() + self.0.with_dependent(|_, context| context.sizeof())
    }

    /// All that `bytes` decode to, at most `max` bytes, into `out`, which is emptied first. With `whole` the frame must
    /// end exactly with them, otherwise it must not end.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        whole: bool,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        const STEP: usize = 64 << 10;
        out.clear();
        if bytes.is_empty() {
            return if whole { Err(DecodeError::Length) } else { Ok(()) };
        }
        let mut input = InBuffer::around(bytes);
        loop {
            out.reserve(STEP);
            let at = out.len();
            let mut output = OutBuffer::around_pos(out, at);
            let left = self
                .0
                .with_dependent_mut(|_, context| context.decompress_stream(&mut output, &mut input))
                .map_err(failed)?;
            let full = output.pos() == output.capacity();
            let read_all = input.pos() == bytes.len();
            if out.len() > max {
                return Err(DecodeError::TooLarge);
            }
            if left == 0 {
                return if whole && read_all { Ok(()) } else { Err(DecodeError::Length) };
            }
            if read_all && !full {
                return if whole { Err(DecodeError::Length) } else { Ok(()) };
            }
        }
    }
}
