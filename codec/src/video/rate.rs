//! Which QP makes a picture as long as it should be.
//!
//! The bytes of H.264 halve with every six steps of QP, about; how many there are at a given QP is learnt from the pictures
//! before. What a picture missed its target by is made up for by the next ones, so that the sum over a second or two is right.

/// The best quality: about 38 dB of luma on films. Finer looks the same, and costs bytes that what is at rest needs.
pub(crate) const QP_BEST: u8 = 27;
const QP_WORST: u8 = 48;
/// Steps of QP that halve the bytes.
const HALVES: f32 = 6.0;
/// Bytes a pixel at QP 0, before anything is known: of a first picture, and of the others.
const FIRST_GUESS: [f32; 2] = [2.2, 0.9];
/// A first picture may be larger than its share: all others build on it.
const FIRST_SHARE: f32 = 2.0;
/// What is missed is made up for over so many pictures.
const MAKE_UP: f32 = 8.0;
/// How much a picture counts in the mean, if it has more than the mean, or less. Films alternate between pictures that cost
/// much and next to nothing, and whatever follows a coarse picture costs more.
const WEIGHTS: [f32; 2] = [0.3, 0.12];
/// Most steps of QP from picture to picture, towards better and worse.
const BETTER: u8 = 1;
const WORSE: u8 = 4;

/// What is known of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Bytes at QP 0: of first pictures, and of others.
    scale: [f32; 2],
    /// Bytes beyond the targets so far.
    excess: f32,
    /// The last picture's.
    qp: Option<u8>,
}

impl Rate {
    pub(crate) fn new(pixels: usize) -> Self {
        Self { scale: FIRST_GUESS.map(|guess| guess * pixels as f32), excess: 0.0, qp: None }
    }

    /// The QP for a picture of about `target` bytes.
    pub(crate) fn qp(&self, first: bool, target: usize) -> u8 {
        let target = (target as f32).max(64.0);
        let aim = if first {
            target * FIRST_SHARE
        } else {
            (target - self.excess / MAKE_UP).clamp(target / 3.0, target * 2.0)
        };
        let steps = HALVES * (self.scale[usize::from(!first)] / aim).log2();
        let wanted = (steps.round().max(0.0) as u8).clamp(QP_BEST, QP_WORST);
        match self.qp.filter(|_| !first) {
            Some(last) => wanted.clamp(last.saturating_sub(BETTER), last + WORSE).clamp(QP_BEST, QP_WORST),
            None => wanted,
        }
    }

    /// A picture of that QP became `bytes`.
    pub(crate) fn learn(&mut self, first: bool, qp: u8, target: usize, bytes: usize) {
        let found = bytes as f32 * (f32::from(qp) / HALVES).exp2();
        let scale = &mut self.scale[usize::from(!first)];
        let weight = match first {
            true => 1.0,
            false => WEIGHTS[usize::from(found < *scale)],
        };
        *scale += weight * (found - *scale);
        self.qp = Some(qp);
        let target = target as f32;
        self.excess += bytes as f32 - target;
        // At the best quality there is nothing to be made up for, and no target is missed for ever.
        let least = if qp == QP_BEST { 0.0 } else { -4.0 * target };
        self.excess = self.excess.max(least).min(12.0 * target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures whose bytes at QP 0 are `scale(i)`: the sum of two seconds of them, after the first one, against the budget.
    fn run(target: usize, scale: impl Fn(usize) -> f32) -> f32 {
        let mut rate = Rate::new(640 * 360);
        let mut sum = 0;
        for i in 0..72 {
            let first = i == 0;
            let qp = rate.qp(first, target);
            // A little steeper than is assumed.
            let bytes = (scale(i) * (-f32::from(qp) / 5.2).exp2()) as usize * if first { 2 } else { 1 };
            rate.learn(first, qp, target, bytes);
            sum += if i < 24 { 0 } else { bytes };
        }
        sum as f32 / (target * 48) as f32
    }

    #[test]
    fn two_seconds_take_their_budget_whatever_moves() {
        for target in [2_000, 4_000, 8_000] {
            let steady = run(target, |_| 8e5);
            assert!((0.9..1.1).contains(&steady), "{target}: {steady}");
            let uneven = run(target, |i| 8e5 * (1.0 + (i as f32 / 7.0).sin() * 0.5));
            assert!((0.9..1.1).contains(&uneven), "{target}: {uneven}");
            let alternating = run(target, |i| [14e5, 2e5, 8e5, 2e5][i % 4]);
            assert!((0.9..1.1).contains(&alternating), "{target}: {alternating}");
            let cut = run(target, |i| if i < 30 { 5e5 } else { 12e5 });
            assert!((0.9..1.1).contains(&cut), "{target}: {cut}");
        }
    }

    #[test]
    fn more_than_the_best_quality_is_not_bought() {
        let rate = Rate::new(640 * 360);
        assert_eq!(rate.qp(false, usize::MAX), QP_BEST);
        assert_eq!(rate.qp(true, usize::MAX), QP_BEST);
    }

    #[test]
    fn a_path_that_takes_nothing_gets_the_coarsest() {
        assert_eq!(Rate::new(1920 * 1080).qp(true, 0), QP_WORST);
    }
}
