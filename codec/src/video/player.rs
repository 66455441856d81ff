//! Video decoded by this program itself, for viewers that are no browsers.

use std::fmt;

use super::h264::Player;
use crate::decoder::{Decoder, PixelOrder, VideoPicture};
use crate::error::DecodeError;
use crate::picture::Rect;
use crate::viewer::Viewer;
use crate::wire::VIDEO_REGIONS;

/// The H.264 decoders of one viewer's regions.
pub struct VideoPlayer {
    order: PixelOrder,
    regions: [Option<Player>; VIDEO_REGIONS],
    pixels: Vec<u8>,
}

impl fmt::Debug for VideoPlayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoPlayer").field("order", &self.order).finish_non_exhaustive()
    }
}

impl VideoPlayer {
    /// For a decoder or viewer of this pixel order.
    pub fn new(order: PixelOrder) -> Self {
        Self { order, regions: Default::default(), pixels: Vec::new() }
    }

    /// Decodes and shows the video that came with the body that a decoder applied last. Answers where.
    ///
    /// # Errors
    /// [`DecodeError::Video`]: only a start or a key goes on.
    pub fn play(&mut self, decoder: &mut Decoder) -> Result<Vec<Rect>, DecodeError> {
        let pictures = decoder.take_videos();
        self.show(&pictures, decoder)
    }

    /// The same of a viewer, after each record.
    ///
    /// # Errors
    /// [`DecodeError::Video`]: ask for a start and a key.
    pub fn play_viewer(&mut self, viewer: &mut Viewer) -> Result<Vec<Rect>, DecodeError> {
        let pictures = viewer.take_videos();
        self.show(&pictures, viewer.decoder_mut())
    }

    fn show(&mut self, pictures: &[VideoPicture], decoder: &mut Decoder) -> Result<Vec<Rect>, DecodeError> {
        let mut changed = Vec::new();
        for picture in pictures {
            let region = self.regions.get_mut(usize::from(picture.region)).ok_or(DecodeError::Video)?;
            if picture.begins {
                *region = Player::new();
            }
            let player = region.as_mut().ok_or(DecodeError::Video)?;
            let rect = decoder.awaits(picture.serial);
            let pixels = rect.map(|_| &mut self.pixels);
            let size = crate::picture::Size { w: picture.rect.w, h: picture.rect.h };
            player
                .decode(&picture.bytes, picture.coded, size, self.order, pixels)
                .map_err(|_| DecodeError::Video)?;
            changed.extend(rect.and_then(|_| decoder.show_video(picture.serial, &self.pixels)));
        }
        for (number, region) in self.regions.iter_mut().enumerate() {
            region.take_if(|_| !decoder.has_region(number as u8));
        }
        Ok(changed)
    }
}
