//! What the targets of single patch kinds share: a small picture with content, and updates of raw blocks, so that the compression
//! hides nothing from the fuzzer.

use tandem_codec::{Base, DecodeError, Decoder, DecoderLimits, PixelOrder};

/// Columns and rows of the picture.
pub const W: usize = 48;
pub const H: usize = 40;
/// A segment of that size, window 2^18, one stream.
const HEADER: [u8; 11] = [3, W as u8, 0, H as u8, 0, 0, 0, 0, 0, 18, 0];
/// A zstd frame with that window, whose blocks follow.
const FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x40];

/// Blue, green, red, row after row.
pub type Pixels = Vec<[u8; 3]>;

/// A decoder, and what it shows: a strip over the whole picture, from `seed`.
pub fn filled(seed: u8) -> (Decoder, Pixels) {
    let value = |i: usize| (i * i / 7) as u8 ^ seed.wrapping_mul(i as u8);
    let pixels: Pixels = (0..W * H).map(|i| [value(i), value(i + 1), value(3 * i)]).collect();
    let mut plain = vec![1];
    plain.extend([0, 0, W as u16, H as u16].iter().flat_map(|side| side.to_le_bytes()));
    plain.extend(pixels.iter().flatten());
    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
    decoder.start(Base::Black, &[&HEADER[..], &body(&FRAME, &plain)].concat()).expect("a strip");
    (decoder, pixels)
}

/// Applies an update of these plain bytes.
pub fn update(decoder: &mut Decoder, plain: &[u8]) -> Result<(), DecodeError> {
    decoder.update(&body(&[], plain)).map(drop)
}

/// What a decoder shows.
pub fn shown(decoder: &Decoder) -> Pixels {
    decoder.picture().chunks_exact(4).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

fn body(frame: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut stream = frame.to_vec();
    stream.extend_from_slice(&((plain.len() as u32) << 3).to_le_bytes()[..3]);
    stream.extend_from_slice(plain);
    [&(stream.len() as u32).to_le_bytes()[..], &stream].concat()
}

/// A rectangle of four bytes, within the picture: x, y, w, h.
pub fn rect(bytes: [u8; 4]) -> [usize; 4] {
    let [x, y, w, h] = bytes.map(usize::from);
    let (x, y) = (x % W, y % H);
    [x, y, w % (W - x) + 1, h % (H - y) + 1]
}

/// As it stands in a patch.
pub fn put_rect(rect: [usize; 4], out: &mut Vec<u8>) {
    out.extend(rect.iter().flat_map(|&side| (side as u16).to_le_bytes()));
}
