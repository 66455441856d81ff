//! The screen codec: pixels in, updates out, and back, exactly. No I/O, no clock, no threads, no async; builds for
//! WebAssembly. docs/codec.md has the bytes.
//!
//! # In one page
//! The [`Encoder`] keeps a **shadow**: the picture that subscribers in step hold. It compares each new picture with
//! it (where damage was reported, or where an earlier update was cut short) and codes what differs as an **update**,
//! for about as many bytes as the caller allows. What didn't fit simply still differs next time, when the picture may
//! have gone on: pixels that were replaced before they could be sent are never coded.
//!
//! An update is a list of **patches**: copies within the shadow (what moved), **strips** (boxes of at most 32 rows as
//! plain blue, green, red), and median-edge strips (the same for what looks like a photograph, as residuals). These go
//! through one or two zstd streams whose history is what makes updates small, so an update builds on all before it in
//! its **segment**.
//!
//! A segment's **start** begins fresh streams, with the shadow itself as their history: cheap for those in step. A
//! **key** is that same shadow on its own, for those who are not; it is made by a [`KeyJob`], on any thread. A segment
//! [`Base::Black`] begins at a black picture with no history: anybody may start there.
//!
//! [`Renditions`] are a display's encoders at its publisher, one for each rendition, with the numbers of their segments and
//! records. The [`Decoder`] applies bodies; the [`Viewer`] around it is the rule by which a subscriber decides which body to
//! apply, hold or skip.
//!
//! ```
//! use tandem_codec::{Decoder, DecoderLimits, Base, Encoder, EncoderOptions, Hints, Picture, PixelOrder, Size};
//!
//! let size = Size { w: 640, h: 480 };
//! let mut screen = Picture::black(size);
//! screen.bytes_mut().fill(255);
//! let mut encoder = Encoder::new(EncoderOptions::new(size))?;
//! let update = encoder.encode(screen.borrow(), &Hints::default(), 16 << 10)?.expect("white is not black");
//! assert_eq!((update.start, update.complete), (Some(Base::Black), true));
//!
//! let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
//! decoder.start(Base::Black, &update.body)?;
//! assert_eq!(decoder.picture(), screen.bytes());
//! assert_eq!(encoder.encode(screen.borrow(), &Hints::default(), 16 << 10)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod decoder;
mod edge;
mod encoder;
mod error;
mod key;
mod lossless;
mod motion;
mod owed;
mod picture;
mod prepare;
mod renditions;
mod slice;
mod stream;
mod video;
mod viewer;
mod wide;
mod wire;

pub use decoder::{Decoder, DecoderLimits, PixelOrder, VideoPicture};
pub use encoder::{Colours, Encoder, EncoderOptions, Hints, Update};
pub use error::{DecodeError, EncodeError, StreamError};
pub use key::KeyJob;
pub use lossless::Pixels;
pub use picture::{PIXEL, Picture, PictureRef, Rect, Size};
pub use prepare::{Prepared, StreamsJob};
pub use renditions::{Job, KeyTask, Renditions, ScreenRecord, Want};
#[cfg(feature = "video")]
pub use video::VideoPlayer;
pub use viewer::{Lost, Outcome, Viewer, ViewerLimits};
pub use wire::{CodedSize, SegmentHeader};

/// The codec versions that starts and keys may carry, to be named in `Hello`, best first. Version 1 has copies, strips and
/// median-edge strips, version 2 video besides, version 3 coarse strips and median-edge strips that go on from the row above.
pub const VERSIONS: [u8; 3] = [3, 2, 1];
/// Largest window of a stream, as a power of two: 32 MB.
pub const WINDOW_LOG_MAX: u8 = 25;
/// Largest window of a key.
const WINDOW_LOG_KEY: u8 = 23;

/// What a segment builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A black picture and no history: a start without `from`.
    Black,
    /// The shadow of the update before it, which is its history too: a start with `from`.
    Shadow,
}
