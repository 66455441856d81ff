//! How long to wait before another try: full jitter, so that clients that were lost together do not return together.

use std::time::Duration;

use rand::Rng;

/// Doubles from try to try.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Longest wait before the second try.
    const FIRST: Duration = Duration::from_millis(100);
    /// Longest wait at all.
    const MOST: Duration = Duration::from_secs(10);

    /// The next wait: anything from nothing to a bound that doubles each time.
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = Self::MOST.min(Self::FIRST * (1 << self.tries.min(16)));
        self.tries += 1;
        bound.mul_f64(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn waits_are_spread_below_a_bound_that_doubles_to_ten_seconds() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut longest, mut sum) = (vec![Duration::ZERO; 40], Duration::ZERO);
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            for longest in &mut longest {
                let wait = backoff.next(&mut rng);
                *longest = wait.max(*longest);
                sum += wait;
            }
        }
        for (tries, longest) in longest.iter().enumerate() {
            let bound = Backoff::MOST.min(Backoff::FIRST * (1 << tries.min(16)));
            assert!(*longest <= bound && *longest > bound.mul_f64(0.9), "try {tries}: {longest:?}");
        }
        assert!(sum > Duration::from_secs(200 * 120), "they do not cluster at nothing");
    }
}
