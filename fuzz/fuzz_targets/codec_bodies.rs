//! Any bytes as bodies, one after another, to one decoder. Each body: a byte that says how, a length, the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_codec::{Base, Decoder, DecoderLimits, PixelOrder};

const PIXELS_MAX: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let limits = DecoderLimits { side_max: 1024, pixels_max: PIXELS_MAX, window_log_max: 20 };
    let mut decoder = Decoder::new(limits, PixelOrder::Rgba);
    let mut rest = data;
    while let [how, low, high, bytes @ ..] = rest {
        let (body, next) = bytes.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len()));
        let outcome = match how % 4 {
            0 => decoder.start(Base::Black, body),
            1 => decoder.start(Base::Shadow, body),
            2 => decoder.update(body),
            _ => decoder.key(body),
        };
        if let Ok(rects) = outcome {
            assert!(rects.iter().all(|&rect| decoder.size().holds(rect)));
        }
        assert!(decoder.picture().len() <= PIXELS_MAX * 4);
        rest = next;
    }
});
