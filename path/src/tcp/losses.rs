//! Whether a socket loses packets for no good reason, so that a congestion control that looks at losses would stand in the way.

use std::time::{Duration, Instant};

use super::Sample;

/// Share of packets sent again that means random loss, and the least of them.
const LOSSY: f64 = 0.002;
const LOSSY_PACKETS: u32 = 3;
/// How long nothing is lost on a path that has become a good one.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Whether packets are lost for no good reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// They are: when the last one was.
    random: Option<Instant>,
    /// Segments sent again, and all that were sent, before those that are judged.
    before: (u32, u32),
}

impl Losses {
    /// Whether random loss, which a congestion control that looks at losses would take for congestion, has begun (`true`) or ended.
    /// So many segments were sent again since the last time. `queue`: something waits on the path.
    pub(super) fn judge(&mut self, sample: Sample, lost: u32, queue: bool, now: Instant) -> Option<bool> {
        if let Some(last) = &mut self.random {
            if lost > 0 {
                *last = now;
            } else if now >= *last + GOOD_FOR {
                *self = Self { random: None, before: (sample.retransmitted, sample.segments) };
                return Some(false);
            }
            return None;
        }
        let again = sample.retransmitted.saturating_sub(self.before.0);
        let sent = sample.segments.saturating_sub(self.before.1);
        let often = again >= LOSSY_PACKETS && f64::from(again) > LOSSY * f64::from(sent);
        // Later ones have arrived, so it was no black-out, and sooner than behind a full buffer.
        let alone = lost > 0 && lost < LOSSY_PACKETS && sample.beyond > 0 && !queue;
        self.random = (often || alone).then_some(now);
        self.random.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_loss_is_told_from_congestion_and_ends() {
        let now = Instant::now();
        let mut losses = Losses::default();
        let one = Sample { retransmitted: 1, segments: 100, beyond: 4, ..Sample::default() };
        assert_eq!(losses.judge(one, 1, true, now), None, "a queue says that it was congestion");
        assert_eq!(losses.judge(Sample { beyond: 0, ..one }, 1, false, now), None, "a black-out");
        assert_eq!(losses.judge(one, 1, false, now), Some(true));
        assert_eq!(losses.judge(one, 1, false, now + GOOD_FOR / 2), None);
        assert_eq!(losses.judge(one, 0, false, now + GOOD_FOR), None);
        assert_eq!(losses.judge(one, 0, false, now + GOOD_FOR * 2), Some(false));
        assert_eq!(losses.judge(one, 0, true, now + GOOD_FOR * 2), None);
        let often = Sample { retransmitted: 5, segments: 500, ..one };
        assert_eq!(losses.judge(often, 1, true, now + GOOD_FOR * 2), Some(true));
    }
}
