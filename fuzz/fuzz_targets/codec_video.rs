//! Any bytes as the patches of a segment that may have video, and any bytes behind them as its pictures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_codec::{Base, Decoder, DecoderLimits, PIXEL, PixelOrder};

/// A segment of version 2, 48 × 40 pixels, window 2^18, one stream.
const HEADER: [u8; 11] = [3, 48, 0, 40, 0, 0, 0, 0, 0, 18, 0];
/// A zstd frame with that window, whose blocks follow.
const FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x40];
/// Plain bytes of a block, within zstd's 128 KiB.
const BLOCK: usize = 100 << 10;

fuzz_target!(|data: &[u8]| {
    let (first, second) = data.split_at(data.len() / 2);
    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
    if decoder.start(Base::Black, &[&HEADER[..], &body(&FRAME, first)].concat()).is_err() {
        return;
    }
    show(&mut decoder);
    if decoder.update(&body(&[], second)).is_ok() {
        show(&mut decoder);
    }
});

/// Shows every picture that is handed out, white: it lies within the screen, and is shown unless something was painted over it.
fn show(decoder: &mut Decoder) {
    for picture in decoder.take_videos() {
        let white = vec![255; picture.rect.pixels() * PIXEL];
        let awaited = decoder.awaits(picture.serial);
        assert!(decoder.size().holds(picture.rect));
        assert_eq!(decoder.show_video(picture.serial, &white), awaited);
        assert_eq!(decoder.show_video(picture.serial, &white), None, "once");
    }
}

/// The first byte says how much of the rest are patches; video follows.
fn body(frame: &[u8], data: &[u8]) -> Vec<u8> {
    let (part, data) = data.split_first().unwrap_or((&0, &[]));
    let (plain, video) = data.split_at(data.len() * usize::from(*part) / 255);
    let mut stream = frame.to_vec();
    for block in plain.chunks(BLOCK) {
        stream.extend_from_slice(&((block.len() as u32) << 3).to_le_bytes()[..3]);
        stream.extend_from_slice(block);
    }
    [&(stream.len() as u32).to_le_bytes()[..], &stream, video].concat()
}
