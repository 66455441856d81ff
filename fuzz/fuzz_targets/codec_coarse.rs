//! A coarse strip against what docs/codec.md says, pixel by pixel. Six bytes: the picture's seed, flags, rectangle; then samples, over
//! and over.
#![no_main]

mod common;

use common::{W, filled, put_rect, rect, shown, update};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[seed, flags, x, y, w, h], samples)) = data.split_first_chunk() else { return };
    let (mut decoder, mut expected) = filled(seed);
    let place @ [x, y, w, h] = rect([x, y, w, h]);
    let (side, grey) = (1 << (flags & 3), flags & 4 != 0);
    let across = w.div_ceil(side);
    let bytes = if grey { 1 } else { 3 };
    let samples: Vec<u8> =
        samples.iter().chain(&[0]).copied().cycle().take(across * h.div_ceil(side) * bytes).collect();
    let mut plain = vec![4, flags];
    put_rect(place, &mut plain);
    plain.extend_from_slice(&samples);
    for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
        let sample = &samples[(row / side * across + column / side) * bytes..][..bytes];
        expected[(y + row) * W + x + column] = std::array::from_fn(|i| sample[i % bytes]);
    }
    let is_known = flags < 8 && flags & 3 < 3;
    assert_eq!(update(&mut decoder, &plain).is_ok(), is_known);
    if is_known {
        assert_eq!(shown(&decoder), expected);
    }
});
