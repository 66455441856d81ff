//! A median-edge strip against the formula of docs/codec.md, pixel by pixel. Six bytes: the picture's seed, flag, rectangle; then
//! residuals, over and over.
#![no_main]

mod common;

use common::{W, filled, put_rect, rect, shown, update};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[seed, flag, x, y, w, h], residuals)) = data.split_first_chunk() else { return };
    let (mut decoder, mut expected) = filled(seed);
    let place @ [x, y, w, h] = rect([x, y, w, h]);
    let above = flag & 1 == 1;
    let residuals: Vec<u8> = residuals.iter().chain(&[0]).copied().cycle().take(3 * w * h).collect();
    let mut plain = vec![2, u8::from(above)];
    put_rect(place, &mut plain);
    plain.extend_from_slice(&residuals);
    for row in 0..h {
        for column in 0..w {
            // Green, blue less green, red less green.
            let mut planes = [0; 3];
            for (plane, value) in planes.iter_mut().enumerate() {
                let known = |across: usize, up: usize| {
                    let is_outside = column < across || y + row < up || (row < up && !above);
                    if is_outside {
                        return 0;
                    }
                    let [b, g, r] = expected[(y + row - up) * W + x + column - across];
                    [g, b.wrapping_sub(g), r.wrapping_sub(g)][plane]
                };
                let (a, b, c) = (known(1, 0), known(0, 1), known(1, 1));
                let predicted = match c {
                    _ if column == 0 => b,
                    _ if c >= a.max(b) => a.min(b),
                    _ if c <= a.min(b) => a.max(b),
                    _ => a.wrapping_add(b).wrapping_sub(c),
                };
                *value = residuals[plane * w * h + row * w + column].wrapping_add(predicted);
            }
            let [g, b, r] = planes;
            expected[(y + row) * W + x + column] = [b.wrapping_add(g), g, r.wrapping_add(g)];
        }
    }
    update(&mut decoder, &plain).expect("it lies within the picture");
    assert_eq!(shown(&decoder), expected);
});
