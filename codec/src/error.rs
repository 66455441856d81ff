//! What can go wrong: little when encoding, anything when decoding.

use crate::picture::Size;

/// zstd refused. While encoding that means memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zstd: {0}")]
pub struct StreamError(pub(crate) &'static str);

/// An update or key was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// No side may be 0 or above [`tandem_protocol::limits::PICTURE_SIDE_MAX`].
    #[error("a picture of {}×{} can't be sent", .0.w, .0.h)]
    Size(Size),
    /// The picture is not of the size that the encoder was made for.
    #[error("the picture is {}×{}, the encoder's {}×{}", .found.w, .found.h, .expected.w, .expected.h)]
    OtherSize {
        /// The encoder's.
        expected: Size,
        /// The picture's.
        found: Size,
    },
    /// The compressor failed. The segment is broken: begin another with [`crate::Encoder::resize`].
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Bytes that were no update, start or key. The picture is no longer a shadow: a key or a start from black is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body ends too early, or goes on after its end.
    #[error("the body's length doesn't fit its content")]
    Length,
    /// A codec version that this decoder doesn't know.
    #[error("codec version {0} is not known")]
    Version(u8),
    /// A picture larger than the limits allow, or with an empty side.
    #[error("a picture of {}×{} is not allowed", .0.w, .0.h)]
    Size(Size),
    /// A window outside 2^10 bytes to the limit.
    #[error("a window of 2^{0} bytes is not allowed")]
    Window(u8),
    /// A segment that continues a picture of another size.
    #[error("the segment continues a picture of another size")]
    OtherSize,
    /// A patch that this codec version doesn't have.
    #[error("unsupported patch {0}")]
    Patch(u8),
    /// A patch outside the picture, or copies beyond their limits.
    #[error("a patch breaks its bounds")]
    Bounds,
    /// More plain bytes than any update of such a picture needs.
    #[error("the update is larger than its picture")]
    TooLarge,
    /// A video picture that H.264's decoder refuses.
    #[error("a video picture is damaged")]
    Video,
    /// There is no picture to build on: nothing was decoded yet, or an error came before.
    #[error("no picture to build on")]
    NoPicture,
    /// The compressed bytes are damaged.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
