//! Copies against the plainest way to do them: all read the picture as it was. Six bytes each; a byte before them seeds the picture.
#![no_main]

mod common;

use common::{H, W, filled, put_rect, rect, shown, update};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&seed, rest)) = data.split_first() else { return };
    let (mut decoder, before) = filled(seed);
    let (mut plain, mut expected, mut pixels) = (Vec::new(), before.clone(), 0);
    for &[x, y, w, h, from_x, from_y] in rest.as_chunks::<6>().0.iter().take(64) {
        let to @ [x, y, w, h] = rect([x, y, w, h]);
        let from = [usize::from(from_x) % (W - w + 1), usize::from(from_y) % (H - h + 1)];
        pixels += w * h;
        plain.push(0);
        plain.extend(from.iter().flat_map(|&side| (side as u16).to_le_bytes()));
        put_rect(to, &mut plain);
        for row in 0..h {
            let source = (from[1] + row) * W + from[0];
            expected[(y + row) * W + x..][..w].copy_from_slice(&before[source..][..w]);
        }
    }
    match update(&mut decoder, &plain) {
        Ok(()) => assert_eq!(shown(&decoder), expected),
        Err(error) => assert!(pixels > W * H, "{error}"),
    }
});
