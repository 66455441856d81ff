//! How the session wakes a connection's tasks.
//!
//! The session changes its data under its lock and signals; a task looks at the data and, if there is nothing to do, waits for
//! the signal. No signal may fall between the two: [`Signals::any`] and [`Signals::deadline`] keep one for who comes later,
//! [`Signals::until_room`] has to be called before looking.
//!
//! Each signal but `room` has one task that waits for it, and says as exactly as it can what there is to do: at thousands of records a second
//! most of a relay's work is to wake up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_path::{Gauge, State};
use tandem_protocol::Close;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use crate::outbox::{Slot, Wake};

/// How the session reaches a connection's tasks.
#[derive(Debug, Default)]
pub struct Signals {
    /// There is something for the connection's writer to do.
    pub any: Notify,
    /// Lanes were opened or given up.
    lanes: AtomicBool,
    /// The client looks at other displays.
    focus: AtomicBool,
    /// The deadline has moved.
    pub deadline: Notify,
    /// There may be room again for records that found none.
    room: Notify,
    closing: OnceLock<(Close, String)>,
    /// The connection must end. What was queued before is to be written first.
    pub stop: CancellationToken,
    /// What the connection's writer knows of its path.
    pub path: Gauge,
}

impl Signals {
    /// Whether lanes were opened or given up since this was last asked. To be asked before looking.
    pub fn take_lanes(&self) -> bool {
        take(&self.lanes)
    }

    /// Whether lanes' priorities may have changed since this was last asked. To be asked before looking.
    pub fn take_focus(&self) -> bool {
        take(&self.focus)
    }

    /// Ends when there may be room again for records that found none.
    pub fn until_room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Ends the connection; the first reason counts.
    pub fn end(&self, close: Close, reason: &str) {
        let _ = self.closing.set((close, reason.to_owned()));
        self.stop.cancel();
    }

    /// Why the connection ends.
    pub fn reason(&self) -> (Close, String) {
        self.closing
            .get()
            .cloned()
            .unwrap_or_else(|| (Close::GOING_AWAY, "the relay is leaving service".into()))
    }
}

impl Wake for Signals {
    fn lane(&self, _: Slot) {
        self.any.notify_one();
    }

    fn lanes(&self) {
        self.lanes.store(true, Ordering::Release);
        self.any.notify_one();
    }

    fn focus(&self) {
        self.focus.store(true, Ordering::Release);
        self.any.notify_one();
    }

    fn deadline(&self) {
        self.deadline.notify_one();
    }

    fn room(&self) {
        self.room.notify_waiters();
    }

    fn close(&self, close: Close, reason: &str) {
        self.end(close, reason);
    }

    fn path(&self) -> State {
        self.path.read()
    }
}

/// Takes a flag down. Most of the time it is not up, and then nothing is written.
fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Acquire)
}

/// Under shuttle, which runs the tasks in every order that it can think of: a task that is never woken is a deadlock, and fails.
#[cfg(test)]
mod tests {
    use super::*;
    use shuttle::sync::{Arc, Mutex};
    use shuttle::{future, thread};
    use std::collections::VecDeque;

    /// Orders that are tried.
    const ORDERS: usize = 2000;
    const LANE: Slot = Slot(1);

    /// What a session holds for a connection: records that wait.
    type Waiting = Arc<Mutex<VecDeque<u32>>>;

    fn shared() -> (Arc<Signals>, Waiting) {
        (Arc::default(), Arc::new(Mutex::new(VecDeque::new())))
    }

    /// Takes until nothing waits.
    fn drain(waiting: &Waiting, taken: &mut Vec<u32>) {
        loop {
            // As for a record: the lock is held for one.
            let next = waiting.lock().unwrap().pop_front();
            match next {
                Some(record) => taken.push(record),
                None => return,
            }
        }
    }

    #[test]
    fn every_record_is_written_and_the_last_word_comes_before_the_end() {
        shuttle::check_random(
            || {
                let (signals, waiting) = shared();
                let session = thread::spawn({
                    let (signals, waiting) = (signals.clone(), waiting.clone());
                    move || {
                        for record in 0..4 {
                            let mut waiting = waiting.lock().unwrap();
                            waiting.push_back(record);
                            signals.lane(LANE);
                        }
                        signals.close(Close::ENDED, "over");
                    }
                });
                let written = future::block_on(async {
                    let mut written = Vec::new();
                    loop {
                        drain(&waiting, &mut written);
                        future::yield_now().await;
                        tokio::select! {
                            biased;
                            () = signals.stop.cancelled() => break,
                            () = signals.any.notified() => {}
                        }
                    }
                    drain(&waiting, &mut written);
                    written
                });
                session.join().unwrap();
                assert_eq!(written, [0, 1, 2, 3]);
                assert_eq!(signals.reason().0, Close::ENDED);
            },
            ORDERS,
        );
    }

    #[test]
    fn without_an_end_the_writer_sleeps_only_when_all_is_written() {
        shuttle::check_random(
            || {
                let (signals, waiting) = shared();
                let sessions = [0, 1].map(|first| {
                    let (signals, waiting) = (signals.clone(), waiting.clone());
                    thread::spawn(move || {
                        for record in [first, first + 2] {
                            waiting.lock().unwrap().push_back(record);
                            // After the lock here, to leave room for more orders.
                            if first == 0 { signals.lane(LANE) } else { signals.lanes() }
                        }
                    })
                });
                let mut written = future::block_on(async {
                    let mut written = Vec::new();
                    while written.len() < 4 {
                        future::yield_now().await;
                        signals.any.notified().await;
                        drain(&waiting, &mut written);
                    }
                    written
                });
                sessions.into_iter().for_each(|session| session.join().unwrap());
                written.sort_unstable();
                assert_eq!(written, [0, 1, 2, 3]);
            },
            ORDERS,
        );
    }

    #[test]
    fn a_record_without_room_is_handed_in_as_soon_as_there_is_some() {
        shuttle::check_random(
            || {
                // Of the sender's connection, and of its receiver's.
                let from = Arc::new(Signals::default());
                let (to, waiting) = shared();
                let sender = thread::spawn({
                    let (from, to, waiting) = (from.clone(), to.clone(), waiting.clone());
                    move || {
                        future::block_on(async {
                            for record in 0..4 {
                                loop {
                                    let room = from.until_room();
                                    tokio::pin!(room);
                                    room.as_mut().enable();
                                    let taken = {
                                        let mut waiting = waiting.lock().unwrap();
                                        let fits = waiting.is_empty();
                                        if fits {
                                            waiting.push_back(record);
                                        }
                                        fits
                                    };
                                    if taken {
                                        break to.lane(LANE);
                                    }
                                    // The signal may come just now.
                                    future::yield_now().await;
                                    room.await;
                                }
                            }
                        });
                    }
                });
                let mut written = Vec::new();
                future::block_on(async {
                    while written.len() < 4 {
                        to.any.notified().await;
                        drain(&waiting, &mut written);
                        // As the session wakes senders when their receiver has taken something.
                        from.room();
                    }
                });
                sender.join().unwrap();
                assert_eq!(written, [0, 1, 2, 3]);
            },
            ORDERS,
        );
    }
}
