//! The ends of sessions: what each of them does until the run is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::message::{Head, Kind, Message};
use crate::schedule::{Beat, Slot};
use crate::system::{Inlet, Outlet, Place};
use crate::tally::Tally;

/// When somebody's messages are due: its slot, the beat, and which session it is.
pub(super) struct Due {
    pub(super) slot: Arc<Slot>,
    pub(super) beat: Beat,
    pub(super) session: u32,
    /// Of those before this one it is told how late we were.
    pub(super) told: u32,
}

impl Due {
    fn at(&self, number: u32) -> Duration {
        self.beat.due(number, self.session)
    }

    /// Ends when more than so many are due. Who waited for that is late by as much as it comes after them. Of what became due while an
    /// end was sending, only by how much the tick was late is ours.
    async fn more_than(&mut self, known: u32, tally: &Tally) {
        let waited = self.slot.more_than(known).await;
        let (now, newest) = (tally.clock.now(), self.slot.due());
        let tick = self.slot.take_late();
        for due in (self.told..newest).map(|number| self.at(number)) {
            tally.late(due, if waited { now.saturating_sub(due) } else { tick });
        }
        self.told = newest;
    }
}

/// An end that receives.
pub(super) struct Ears {
    tally: Arc<Tally>,
    place: Place,
    hello: Option<oneshot::Sender<()>>,
    /// The number of the next input, at least.
    next_input: u32,
}

impl Ears {
    /// And what is told when the first message has come.
    pub(super) fn new(tally: Arc<Tally>, place: Place) -> (Self, oneshot::Receiver<()>) {
        let (hello, heard) = oneshot::channel();
        (Self { tally, place, hello: Some(hello), next_input: 0 }, heard)
    }

    /// Counts all that comes.
    pub(super) async fn listen(mut self, mut inlet: impl Inlet) {
        loop {
            match inlet.receive().await {
                Ok(Some(head)) => {
                    if let Some(hello) = self.hello.take() {
                        // Nobody waits for who sends nothing.
                        let _ = hello.send(());
                    }
                    match head.kind {
                        Kind::Hello => {}
                        Kind::Frame => self.tally.frame(&head, self.place),
                        Kind::Input => self.input(&head),
                        Kind::GivenUp => self.tally.given_up(head.number),
                    }
                }
                Ok(None) => return self.tally.fail("a connection was closed"),
                Err(why) => return self.tally.fail(format_args!("{why:#}")),
            }
        }
    }

    fn input(&mut self, head: &Head) {
        if head.number < self.next_input {
            let (number, next) = (head.number, self.next_input);
            return self.tally.fail(format_args!("input {number} has come after {}", next - 1));
        }
        self.next_input = head.number + 1;
        self.tally.input(head);
    }
}

/// Sends frames into a customer's stream of this number: always the newest that is due, or one after the other until then.
pub(super) async fn send_frames(
    mut outlet: impl Outlet,
    upload: usize,
    mut frame: Message,
    due: Option<Due>,
    until: Duration,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let mut sent = 0;
    if let Some(mut due) = due {
        loop {
            due.more_than(sent, &tally).await;
            outlet.ready().await?;
            let newest = due.slot.due();
            (sent..newest - 1).for_each(|number| tally.skipped(due.at(number)));
            let (at, bytes) = (due.at(newest - 1), frame.len());
            outlet.send(frame.numbered(newest - 1, at)).await?;
            tally.sent(upload, at, bytes);
            sent = newest;
        }
    }
    while tally.clock.now() < until {
        outlet.ready().await?;
        let (now, bytes) = (tally.clock.now(), frame.len());
        outlet.send(frame.numbered(sent, now)).await?;
        tally.sent(upload, now, bytes);
        sent = sent.wrapping_add(1);
    }
    // A connection lasts as long as its end.
    std::future::pending().await
}

/// Sends all input in its order. `others` only stay.
pub(super) async fn send_inputs<O: Outlet>(
    mut outlet: O,
    others: Vec<O>,
    mut input: Message,
    due: Option<Due>,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let _others = others;
    if let Some(mut due) = due {
        for sent in 0.. {
            due.more_than(sent, &tally).await;
            outlet.ready().await?;
            outlet.send(input.numbered(sent, due.at(sent))).await?;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Outcome;
    use crate::message::Clock;
    use crate::tally::Window;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn who_waits_is_late_with_all_that_became_due_and_who_sends_by_as_much_as_the_tick() {
        let clock = Clock::start();
        let tally = Tally::new(clock);
        let start = clock.now();
        tally.begin(Window { start, end: start + Duration::from_secs(60) });
        let beat = Beat { start, every: MS / 1000, sessions: 1 };
        let slot: Arc<Slot> = Arc::default();
        let mut due = Due { slot: slot.clone(), beat, session: 0, told: 0 };
        let lateness = || {
            let mut outcome = Outcome::default();
            tally.tell(&mut outcome);
            outcome.generator_late_ms
        };
        assert_eq!(lateness(), None);
        // Two were due before it asked, since it was sending until then; the tick was late by a thousandth of a second.
        slot.raise(1, Duration::ZERO);
        slot.raise(2, MS);
        while clock.now() < start + 20 * MS {}
        due.more_than(0, &tally).await;
        // Again, with the second of them: of that it is told already.
        due.more_than(1, &tally).await;
        let late = lateness().unwrap();
        assert!((late.p50 - 1.0).abs() < 0.01 && (late.p999 - 1.0).abs() < 0.01, "{late:?}");
        // It waits, and is woken when three more are due, long after the first of them was.
        let raise = async { slot.raise(5, Duration::ZERO) };
        tokio::join!(biased; due.more_than(2, &tally), raise);
        let late = lateness().unwrap();
        assert!(late.p50 >= 19.0, "{late:?}");
    }
}
