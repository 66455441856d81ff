//! A fixed, simple codec to compare times with: boxes of 64 × 64 pixels that differ from the picture before go through one zstd
//! stream of level 1. It must never change, or ratios to it could not be compared any more.

use anyhow::Context as _;
use tandem_codec::{PIXEL, Picture, Size};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation as _, OutBuffer};

const SIDE: usize = 64;
const LEVEL: i32 = 1;
const WINDOW_LOG: u32 = 23;

pub(super) struct Reference {
    before: Picture,
    stream: Encoder<'static>,
    packed: Vec<u8>,
    out: Vec<u8>,
}

impl Reference {
    pub(super) fn new(size: Size) -> anyhow::Result<Self> {
        let mut stream = Encoder::new(LEVEL)?;
        stream.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self { before: Picture::black(size), stream, packed: Vec::new(), out: vec![0; 1 << 17] })
    }

    /// Codes a picture and returns how many bytes it became.
    pub(super) fn encode(&mut self, picture: &Picture) -> anyhow::Result<usize> {
        let size = picture.size();
        let (width, height) = (usize::from(size.w), usize::from(size.h));
        self.packed.clear();
        for top in (0..height).step_by(SIDE) {
            for left in (0..width).step_by(SIDE) {
                let rows = top..height.min(top + SIDE);
                let span =
                    |y: usize| (y * width + left) * PIXEL..(y * width + width.min(left + SIDE)) * PIXEL;
                if rows.clone().all(|y| picture.bytes()[span(y)] == self.before.bytes()[span(y)]) {
                    continue;
                }
                for y in rows {
                    let row = &picture.bytes()[span(y)];
                    self.before.bytes_mut()[span(y)].copy_from_slice(row);
                    self.packed.extend(row.as_chunks::<PIXEL>().0.iter().flat_map(|&[b, g, r, _]| [b, g, r]));
                }
            }
        }
        self.compress().context("the reference codec failed")
    }

    fn compress(&mut self) -> anyhow::Result<usize> {
        if self.packed.is_empty() {
            return Ok(0);
        }
        let (mut input, mut bytes) = (InBuffer::around(&self.packed), 0);
        while input.pos() < self.packed.len() {
            let mut output = OutBuffer::around(&mut self.out[..]);
            self.stream.run(&mut input, &mut output)?;
            bytes += output.pos();
        }
        loop {
            let mut output = OutBuffer::around(&mut self.out[..]);
            let left = self.stream.flush(&mut output)?;
            bytes += output.pos();
            if left == 0 {
                return Ok(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_coded() {
        let mut picture = Picture::black(Size { w: 200, h: 100 });
        let mut reference = Reference::new(picture.size()).expect("a stream");
        assert_eq!(reference.encode(&picture).expect("encodes"), 0);
        picture.bytes_mut()[0] = 7;
        assert!(reference.encode(&picture).expect("encodes") > 0);
        assert_eq!(reference.encode(&picture).expect("encodes"), 0);
    }
}
