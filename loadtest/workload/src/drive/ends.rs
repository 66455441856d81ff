//! The ends of sessions: what each of them does until the run is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::message::{Head, Kind, Message};
use crate::schedule::{Beat, Slot};
use crate::system::{Inlet, Outlet, Place};
use crate::tally::Tally;

/// Somebody's slot, and when what is in it is due.
pub(super) type Due = Option<(Arc<Slot>, Beat, u32)>;

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

/// Sends frames: always the newest that is due, or one after the other until then.
pub(super) async fn send_frames(
    mut outlet: impl Outlet,
    mut frame: Message,
    due: Due,
    until: Duration,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let mut sent = 0;
    if let Some((slot, beat, session)) = due {
        loop {
            slot.more_than(sent).await;
            outlet.ready().await?;
            let newest = slot.due();
            tally.skipped(newest - sent - 1);
            outlet.send(frame.numbered(newest - 1, beat.due(newest - 1, session))).await?;
            sent = newest;
        }
    }
    while tally.clock.now() < until {
        outlet.ready().await?;
        outlet.send(frame.numbered(sent, tally.clock.now())).await?;
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
    due: Due,
) -> anyhow::Result<()> {
    let _others = others;
    if let Some((slot, beat, session)) = due {
        for sent in 0.. {
            slot.more_than(sent).await;
            outlet.ready().await?;
            outlet.send(input.numbered(sent, beat.due(sent, session))).await?;
        }
    }
    std::future::pending().await
}
