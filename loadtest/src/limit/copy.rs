//! Memory that is copied.

use std::hint::black_box;
use std::time::Duration;

use super::timed;

/// Copies about so many bytes in blocks of this size.
pub(super) fn run(block: usize, bytes: u64) -> (u64, Duration) {
    let from = vec![1_u8; block];
    let mut to = vec![0_u8; block];
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < bytes {
        // Several at a time, so that looking at the clock does not count.
        let times = (1_usize << 20).div_ceil(block);
        timed(&mut spent, || {
            for _ in 0..times {
                black_box(&mut to).copy_from_slice(black_box(&from));
            }
        });
        done += (times * block) as u64;
    }
    (done, spent)
}
