//! When something is due: a beat that sessions share in turn, a timer that is more exact than the runtime's milliseconds, and
//! slots in which ends find what has become due.

#![allow(unsafe_code, reason = "the runtime takes a descriptor only with a promise that it stays open")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::message::Clock;

/// Looks at the time without a pause in which others are served, when everything is late.
const RUSH: u32 = 32;

/// Moments that sessions share evenly: nobody's are those of somebody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) start: Duration,
    /// Between two of a session.
    pub(crate) every: Duration,
    pub(crate) sessions: u32,
}

impl Beat {
    /// How many of a session's events are due before this.
    pub(crate) fn before(&self, at: Duration, session: u32) -> u32 {
        let beats = at.saturating_sub(self.start).as_secs_f64() / self.every.as_secs_f64();
        // So near to it that rounding decides nothing.
        let mut number = beats as u32;
        while number > 0 && self.due(number - 1, session) >= at {
            number -= 1;
        }
        while self.due(number, session) < at {
            number += 1;
        }
        number
    }

    /// When the session's event of this number is due.
    pub(crate) fn due(&self, number: u32, session: u32) -> Duration {
        let beats = f64::from(number) + f64::from(session) / f64::from(self.sessions);
        self.start + self.every.mul_f64(beats)
    }
}

/// How many of a session's events are due by now.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    due: AtomicU32,
    /// How late it was raised, at most, since that was last asked, in µs.
    late: AtomicU64,
    raised: Notify,
}

impl Slot {
    /// So many are due by now, the last of them since so long.
    pub(crate) fn raise(&self, due: u32, late: Duration) {
        self.late.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.due.store(due, Ordering::Release);
        self.raised.notify_one();
    }

    pub(crate) fn due(&self) -> u32 {
        self.due.load(Ordering::Acquire)
    }

    /// By how much it was raised too late, at most, since this was asked before.
    pub(crate) fn take_late(&self) -> Duration {
        Duration::from_micros(self.late.swap(0, Ordering::Relaxed))
    }

    /// Ends when more than so many are due, and answers whether that had to be waited for. For one at a time.
    pub(crate) async fn more_than(&self, known: u32) -> bool {
        let mut waited = false;
        while self.due() <= known {
            waited = true;
            self.raised.notified().await;
        }
        waited
    }
}

/// Raises each session's slot whenever it is due, until then.
pub(crate) async fn tick(
    beat: Beat,
    slots: &[Vec<Arc<Slot>>],
    until: Duration,
    clock: Clock,
) -> anyhow::Result<()> {
    let timer = Timer::new()?;
    let mut rushed = 0;
    for number in 0.. {
        for (session, slots) in (0..).zip(slots) {
            let due = beat.due(number, session);
            if due >= until {
                return Ok(());
            }
            if clock.now() < due {
                timer.until(due, clock).await?;
                rushed = 0;
            } else {
                rushed += 1;
            }
            if rushed >= RUSH {
                tokio::task::yield_now().await;
                rushed = 0;
            }
            let late = clock.now().saturating_sub(due);
            slots.iter().for_each(|slot| slot.raise(number + 1, late));
        }
    }
    Ok(())
}

/// The kernel's own timer.
#[derive(Debug)]
struct Timer(AsyncFd<std::os::fd::OwnedFd>);

impl Timer {
    fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is open, and the AsyncFd owns it: nobody else closes it or puts another in its place.
        Ok(Self(unsafe { AsyncFd::register(timer)? }))
    }

    async fn until(&self, at: Duration, clock: Clock) -> anyhow::Result<()> {
        let wait = at.saturating_sub(clock.now()).max(Duration::from_nanos(1));
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::time::timerfd_settime(
            self.0.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        )?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(read) = read {
                read?;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_take_turns() {
        let beat = Beat { start: Duration::from_secs(1), every: Duration::from_millis(100), sessions: 4 };
        assert_eq!(beat.due(0, 0), Duration::from_secs(1));
        assert_eq!(beat.due(2, 3), Duration::from_millis(1275));
        let before = |ms, session| beat.before(Duration::from_millis(ms), session);
        assert_eq!([before(900, 0), before(1000, 0), before(1001, 0), before(1200, 0)], [0, 0, 1, 2]);
        assert_eq!([before(1075, 3), before(1076, 3), before(1300, 3)], [0, 1, 3]);
    }

    #[tokio::test]
    async fn everything_that_is_due_is_raised_and_nothing_after_the_end() {
        let clock = Clock::start();
        let beat = Beat { start: clock.now(), every: Duration::from_millis(2), sessions: 3 };
        let slots: Vec<Vec<Arc<Slot>>> = (0..3).map(|_| vec![Arc::default()]).collect();
        let until = beat.start + Duration::from_millis(9);
        tick(beat, &slots, until, clock).await.unwrap();
        assert!(clock.now() >= until - Duration::from_millis(2));
        let due: Vec<u32> = slots.iter().map(|slots| slots[0].due()).collect();
        assert_eq!(due, [5, 5, 4]);
        assert!(!slots[0][0].more_than(4).await, "it is due already");
        assert!(slots[0][0].take_late() > Duration::ZERO, "nothing is raised at the very moment");
        assert_eq!(slots[0][0].take_late(), Duration::ZERO);
    }
}
