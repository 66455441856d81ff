//! What a delivery teaches the pacer: how fast the path is, how long, and whether it loses packets.

use std::time::{Duration, Instant};

use super::ledger::Sample;
use super::{FLOOR, Pacer, Phase, QUEUE_SIGN, STANDING};

/// A round trip that is longer than the shortest by more than this is no accident.
const TRICKLE: Duration = Duration::from_millis(100);
/// For so long after a stall the path counts as lossy.
const LOSSY_FOR: Duration = Duration::from_secs(3);
/// When nothing comes for so long, there is no path; that does not say that it was slow.
const BLACK_OUT: Duration = Duration::from_millis(500);
/// Something that always waits in a lossy path is let out so often, and for no longer than this.
const EMPTY_EVERY: Duration = Duration::from_secs(8);
const EMPTY_MAX: Duration = Duration::from_millis(400);
/// At least so long between two times that the path is found longer: a queue that grows looks the same.
const LENGTHEN_EVERY: Duration = Duration::from_secs(10);
/// So much is taken to wait in a lossy path, where it cannot be seen: a little less than the rate is sent.
const LOSSY_WAIT: Duration = Duration::from_millis(26);

impl Pacer {
    /// Learns from a delivery.
    ///
    /// On a lossy path what waits for lost packets looks like a queue. It is none while the transports are `hungry`: a queue
    /// would be at the relay or at our own end, since neither puts more under way than the path holds.
    pub(super) fn sample(&mut self, sample: &Sample, hungry: bool) {
        let (at, share) = (sample.progress.at, sample.sending.share.min(self.share));
        if self.resumed_at.is_some_and(|from| sample.progress.bytes > from) {
            self.resumed_at = None;
        }
        self.rtts.add(sample.rtt, at);
        let rtt_min = self.rtts.min().unwrap_or(sample.rtt);
        let window = rate_window(rtt_min);
        if sample.silent >= BLACK_OUT {
            self.dark = Some(at);
            self.queued.clear();
        }
        if sample.silent > Duration::ZERO {
            self.stalled_at = Some(at);
            self.slower.clear();
        }
        let known = self.rates.get();
        let shows_limit =
            !sample.sending.limited && share == 1.0 && self.dark.is_none_or(|end| sample.sending.at >= end);
        if shows_limit || sample.rate > known {
            self.rates.add(sample.rate, at, window);
        }
        let lossy = self.stalled_at.is_some_and(|stalled| at < stalled + LOSSY_FOR);
        let waits = sample.rtt.saturating_sub(rtt_min);
        self.waits = match sample.busy {
            _ if lossy => LOSSY_WAIT,
            Some(_) => waits,
            None => Duration::ZERO,
        };
        if lossy {
            self.slower.clear();
            if hungry && known > 0.0 {
                self.bunches.need(known * waits.as_secs_f64(), at, window);
            }
        } else if let Some((busy, from)) = sample.busy {
            self.learn_busy(sample, busy, from, share * known);
        } else if sample.rtt < rtt_min + QUEUE_SIGN {
            self.slower.clear();
            self.busy.clear();
        }
        self.notice_lasting_queue(sample, lossy, hungry, share * known);
        if self.phase == Phase::Startup {
            return;
        }
        self.bunches.add(sample.bytes, self.rates.get(), at, window.max(Duration::from_secs(1)));
        self.notice_longer_path(sample);
    }

    /// The bottleneck's own rate was `busy` since `from`.
    fn learn_busy(&mut self, sample: &Sample, busy: f64, from: Instant, expected: f64) {
        let (at, rtt_min) = (sample.progress.at, self.rtts.min().unwrap_or_default());
        if let Some(rate) = self.busy.add(busy)
            && rate > self.rates.get()
            && self.phase != Phase::Startup
        {
            self.rates.add(rate, at, rate_window(rtt_min));
        }
        // A trickle that arrives unevenly looks the same; but it leaves the path half empty.
        let full = (sample.bytes + self.in_flight()) as f64 >= 0.5 * expected * rtt_min.as_secs_f64();
        if !full && sample.rtt < rtt_min + TRICKLE {
            self.slower.clear();
        } else if let Some(rate) = self.slower.weigh(busy, expected, from, at) {
            self.slow_down(rate * self.rates.get() / expected.max(1.0), at);
        }
    }

    /// Something has waited for long, whatever came between.
    fn notice_lasting_queue(&mut self, sample: &Sample, lossy: bool, hungry: bool, expected: f64) {
        let (at, rtt_min) = (sample.progress.at, self.rtts.min().unwrap_or_default());
        let standing = Duration::from_secs_f64((self.standing() / expected.max(1.0)).min(1.0));
        let waits = sample.rtt.saturating_sub(rtt_min);
        let queued = expected > 0.0 && waits > STANDING + if lossy { STANDING } else { standing };
        let long = Duration::from_secs(1).max(4 * rtt_min);
        let Some(rate) = self.queued.note(queued, sample.progress, long) else { return };
        if rate < 0.7 * expected && !(lossy && hungry) {
            self.slow_down(rate * self.rates.get() / expected, at);
        } else if lossy && hungry && self.emptied_at.is_none_or(|before| at > before + EMPTY_EVERY) {
            // Behind losses, or a queue of our own that overflows? If it goes away in the time that it takes to leave, the latter.
            self.emptied_at = Some(at);
            self.bunches.clear();
            self.phase = Phase::Drain { until: at + waits.min(EMPTY_MAX) };
        }
    }

    /// The path is slower than it was.
    fn slow_down(&mut self, rate: f64, at: Instant) {
        // It was found slower a moment ago, and now even what was sent into a path that had been drained since takes too
        // long: then it is the path that has become longer, and was no slower.
        if let (Some((_, Some(least))), Some((before, _))) = (self.longer.take(), self.given_up) {
            self.rtts.reset(least, at);
            self.lengthened_at = Some(at);
            self.rates.reset(before, at);
            self.given_up = None;
            self.slower.clear();
            self.queued.clear();
            return;
        }
        self.given_up = Some((self.given_up.map_or(0.0, |(before, _)| before).max(self.rates.get()), at));
        self.rates.reset(rate.max(FLOOR), at);
        self.slower.clear();
        self.queued.clear();
        self.bunches.clear();
        self.busy.clear();
        self.vain = 0;
        self.phase = Phase::Cruise { since: at };
    }

    /// When even little under way takes long, and goes on doing so, it is the path that has become longer.
    fn notice_longer_path(&mut self, sample: &Sample) {
        let (at, rtt_min) = (sample.progress.at, self.rtts.min().unwrap_or_default());
        let drained = self.in_flight() as f64 <= 1.2 * self.target().max(self.drained()) + FLOOR;
        let lately = self.lengthened_at.is_some_and(|before| at < before + LENGTHEN_EVERY);
        if !drained || lately || sample.rtt < rtt_min + STANDING + QUEUE_SIGN {
            self.longer = None;
            return;
        }
        let (since, least) = *self.longer.get_or_insert((at, None));
        if sample.sending.at < since {
            return;
        }
        let least = least.map_or(sample.rtt, |least| least.min(sample.rtt));
        self.longer = Some((since, Some(least)));
        if at > since + Duration::from_millis(500).max(3 * least) {
            self.rtts.reset(least, at);
            self.lengthened_at = Some(at);
            self.longer = None;
        }
    }
}

/// How long a rate is believed, while newer ones come.
fn rate_window(rtt_min: Duration) -> Duration {
    (10 * rtt_min).clamp(Duration::from_millis(500), Duration::from_secs(10))
}
