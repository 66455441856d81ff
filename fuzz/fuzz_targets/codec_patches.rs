//! Any bytes as patches. They travel in raw blocks of zstd, so that the compression hides nothing from the fuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_codec::{Base, Decoder, DecoderLimits, PixelOrder};

/// A segment of 48 × 40 pixels, window 2^18, one stream.
const HEADER: [u8; 11] = [3, 48, 0, 40, 0, 0, 0, 0, 0, 18, 0];
/// A zstd frame with that window, whose blocks follow.
const FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x40];
/// Plain bytes of a block, within zstd's 128 KiB.
const BLOCK: usize = 100 << 10;

fuzz_target!(|data: &[u8]| {
    let (first, second) = data.split_at(data.len() / 2);
    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
    if decoder.start(Base::Black, &[&HEADER[..], &update(&FRAME, first)].concat()).is_ok() {
        let before = decoder.picture().to_vec();
        let changed = decoder.update(&update(&[], second)).unwrap_or_default();
        if changed.is_empty() {
            assert_eq!(decoder.picture(), before, "an update that fails or has no patches paints nothing");
        }
    }
});

fn update(frame: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut stream = frame.to_vec();
    for block in plain.chunks(BLOCK) {
        stream.extend_from_slice(&((block.len() as u32) << 3).to_le_bytes()[..3]);
        stream.extend_from_slice(block);
    }
    [&(stream.len() as u32).to_le_bytes()[..], &stream].concat()
}
