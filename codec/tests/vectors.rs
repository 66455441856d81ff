//! Exact bytes: what is on the wire must not drift. docs/codec.md shows the same.

use tandem_codec::{Base, Decoder, DecoderLimits, Encoder, EncoderOptions, Hints, Picture, PixelOrder, Size};

const SIZE: Size = Size { w: 4, h: 2 };

fn options() -> EncoderOptions {
    EncoderOptions { layout_generation: 7, plain_window_log: 20, ..EncoderOptions::new(SIZE) }
}

fn picture() -> Picture {
    let mut picture = Picture::black(SIZE);
    // Blue, green, red of the pixels (1, 0) and (2, 0).
    picture.bytes_mut()[4..12].copy_from_slice(&[10, 20, 30, 255, 11, 21, 31, 255]);
    picture
}

#[test]
fn a_start_from_black() {
    let mut encoder = Encoder::new(options()).unwrap();
    let update = encoder.encode(picture().borrow(), &Hints::default(), usize::MAX).unwrap().unwrap();
    let mut expected = vec![
        3, // codec version
        4, 0, 2, 0, // width, height
        7, 0, 0, 0, // layout generation
        20, 0, // windows
    ];
    // zstd's frame: magic, descriptor, window of 2^20; a raw block of 15 bytes that isn't the last.
    let stream = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50, 15 << 3, 0, 0];
    let strip = [1, 1, 0, 0, 0, 2, 0, 1, 0, 10, 20, 30, 11, 21, 31];
    expected.extend_from_slice(&24u32.to_le_bytes());
    expected.extend_from_slice(&stream);
    expected.extend_from_slice(&strip);
    assert_eq!(update.body, expected);
    assert_eq!(update.start, Some(Base::Black));

    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Rgba);
    decoder.start(Base::Black, &update.body).unwrap();
    assert_eq!(decoder.picture()[..12], [0, 0, 0, 255, 30, 20, 10, 255, 31, 21, 11, 255]);
    assert_eq!((decoder.size(), decoder.layout_generation()), (SIZE, 7));
}

#[test]
fn a_start_without_changes() {
    let mut encoder = Encoder::new(options()).unwrap();
    encoder.encode(picture().borrow(), &Hints::default(), usize::MAX).unwrap();
    encoder.start_segment();
    let update = encoder.encode(picture().borrow(), &Hints::default(), usize::MAX).unwrap().unwrap();
    assert_eq!(update.body, [3, 4, 0, 2, 0, 7, 0, 0, 0, 20, 0, 0, 0, 0, 0]);
    assert_eq!(update.start, Some(Base::Shadow));
}

#[test]
fn median_edge_residuals() {
    // A box of 2 × 2 written by hand: green, blue - green, red - green, each against its neighbours.
    let plain = [
        2, 0, // median-edge, no flags
        1, 0, 0, 0, 2, 0, 2, 0, // at (1, 0), 2 × 2
        100, 1, 2, 3, // green 100 101; 102, and 102 is predicted beside it, so 105
        0, 0, 0, 0, // blue as green
        10, 0, 0, 0, // red 10 above green
    ];
    let mut body = vec![1, 4, 0, 2, 0, 7, 0, 0, 0, 20, 0];
    body.extend_from_slice(&(9 + plain.len() as u32).to_le_bytes());
    body.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50, (plain.len() as u8) << 3, 0, 0]);
    body.extend_from_slice(&plain);
    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
    decoder.start(Base::Black, &body).unwrap();
    let pixel = |x: usize, y: usize| decoder.picture()[(y * 4 + x) * 4..][..4].to_vec();
    assert_eq!(pixel(1, 0), [100, 100, 110, 255]);
    assert_eq!(pixel(2, 0), [101, 101, 111, 255]);
    assert_eq!(pixel(1, 1), [102, 102, 112, 255]);
    assert_eq!(pixel(2, 1), [105, 105, 115, 255]);
    assert_eq!(pixel(3, 1), [0, 0, 0, 255]);
}
