//! Spreads bytes over time: pieces of a few milliseconds, one after the other at a rate.
//!
//! quinn sends bursts of at least ten packets when its window allows, and acknowledgements come in pairs. On a slow path each
//! such packet is ten milliseconds that a keystroke waits; handing over small pieces at the path's own rate avoids that.

use std::time::{Duration, Instant};

/// Time of the rate that one piece takes.
const PIECE: Duration = Duration::from_millis(6);
/// Time of the rate that may be caught up on after a pause of whoever calls.
const BURST: Duration = Duration::from_millis(4);
/// Bounds of a piece.
const PIECE_MIN: f64 = 512.0;
const PIECE_MAX: f64 = 16384.0;
/// On a path so fast that more than that takes no longer than this, so much goes at once at most: less than a WebSocket message may be.
const SHORT: Duration = Duration::from_millis(1);
const PIECE_FAST: f64 = 49152.0;
/// Most bytes that a piece waits for beside the one before it.
const OWED_MAX: f64 = 4096.0;

/// What may be handed over now. A rate of 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Bytes; negative after a piece, until its time has passed.
    tokens: f64,
    filled: Option<Instant>,
}

/// Bytes of a piece at this rate.
pub fn piece(rate: f64) -> usize {
    if rate <= 0.0 {
        PIECE_MAX as usize
    } else {
        let most = (rate * SHORT.as_secs_f64()).clamp(PIECE_MAX, PIECE_FAST);
        (rate * PIECE.as_secs_f64()).clamp(PIECE_MIN, most) as usize
    }
}

impl Bucket {
    /// Time has passed at this rate.
    pub fn fill(&mut self, rate: f64, now: Instant) {
        let passed = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.filled = Some(now);
        self.tokens = (self.tokens + rate * passed.as_secs_f64()).min(rate * BURST.as_secs_f64());
    }

    /// Whether a piece may go.
    pub fn is_open(&self, rate: f64) -> bool {
        rate <= 0.0 || self.tokens >= 0.0
    }

    /// Bytes were handed over.
    pub fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }

    /// Bytes went past the bucket over the same path: the next piece waits for them too, but not for many.
    pub fn owe(&mut self, bytes: usize) {
        self.tokens = (self.tokens - bytes as f64).max(self.tokens.min(-OWED_MAX));
    }

    /// When the next piece may go.
    pub fn opens_at(&self, rate: f64, now: Instant) -> Instant {
        if self.is_open(rate) { now } else { now + Duration::from_secs_f64((-self.tokens / rate).min(1.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_at_the_rate_and_a_pause_is_caught_up_on_only_a_little() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        let rate = 125_000.0;
        let (mut now, mut sent) = (start, 0);
        bucket.fill(rate, now);
        while now < start + Duration::from_secs(1) {
            while bucket.is_open(rate) {
                bucket.take(piece(rate));
                sent += piece(rate);
            }
            now = bucket.opens_at(rate, now).max(now + Duration::from_micros(10));
            bucket.fill(rate, now);
        }
        assert!((124_000..127_000).contains(&sent), "{sent}");
        bucket.fill(rate, now + Duration::from_secs(9));
        let mut burst = 0;
        while bucket.is_open(rate) {
            bucket.take(piece(rate));
            burst += piece(rate);
        }
        assert!(burst <= 2 * piece(rate), "{burst}");
    }
}
