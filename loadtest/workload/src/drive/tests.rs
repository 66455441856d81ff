//! A run through a system that is nothing but channels, and loses what it is told to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::job::{Shape, Way};
use crate::message::Head;
use crate::system::Inlet;

/// Customers send each technician a stream of its own.
struct Wires {
    /// Frames of this number are lost.
    loses: u32,
    /// How many were.
    lost: Arc<AtomicU64>,
    /// The technician's ends, until it comes.
    technicians: Mutex<HashMap<(u32, u32), (Sender, Receiver)>>,
}

struct Sender {
    wire: UnboundedSender<Head>,
    loses: u32,
    lost: Arc<AtomicU64>,
}

struct Receiver(UnboundedReceiver<Head>);

impl Wires {
    fn wire(&self) -> (Sender, Receiver) {
        let (wire, receiver) = unbounded_channel();
        (Sender { wire, loses: self.loses, lost: self.lost.clone() }, Receiver(receiver))
    }
}

impl System for Wires {
    type Outlet = Sender;
    type Inlet = Receiver;

    fn uploads(&self, technicians: u32) -> u32 {
        technicians
    }

    async fn open(&self, _: Place) -> anyhow::Result<()> {
        Ok(())
    }

    async fn customer(&self, session: u32, upload: u32) -> anyhow::Result<(Sender, Receiver)> {
        let ((to_technician, from_customer), (to_customer, from_technician)) = (self.wire(), self.wire());
        self.technicians.lock().insert((session, upload), (to_customer, from_customer));
        Ok((to_technician, from_technician))
    }

    async fn technician(&self, session: u32, number: u32) -> anyhow::Result<(Sender, Receiver)> {
        self.technicians.lock().remove(&(session, number)).context("no customer")
    }
}

impl Outlet for Sender {
    async fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let head = Head::parse(message)?.context("no head")?;
        if head.kind == Kind::Frame && head.number == self.loses {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.wire.send(head).context("nobody listens")
    }
}

impl Inlet for Receiver {
    async fn receive(&mut self) -> anyhow::Result<Option<Head>> {
        Ok(self.0.recv().await)
    }
}

/// Three sessions of two technicians for half a second: 20 frames a second into each stream, 40 input events. What came of it, and how
/// many frames the wires have swallowed.
async fn driven(loses: u32) -> (Outcome, u64) {
    let shape = Shape {
        sessions: 3,
        technicians: 2,
        slow: false,
        frame_bytes: 1000,
        frames: Frames::PerSecond(20.0),
        inputs_per_second: 40.0,
        input_bytes: 32,
    };
    let job = Job {
        shape,
        seconds: 0.5,
        settle: 0.1,
        relay: None,
        near: Way::default(),
        far: None,
        begun: None,
        settings: serde_json::Value::Null,
    };
    let wires = Wires { loses, lost: Arc::default(), technicians: Mutex::default() };
    let lost = wires.lost.clone();
    let outcome = drive(wires, &job).await.unwrap();
    (outcome, lost.load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_is_due_in_the_window_is_all_there_is() {
    let (outcome, _) = driven(u32::MAX).await;
    assert_eq!((outcome.failed, outcome.failures.len()), (0, 0), "{outcome:?}");
    assert_eq!((outcome.frames_due, outcome.frames_lost), (3 * 2 * 10, 0));
    assert_eq!(outcome.frames + outcome.frames_skipped, outcome.frames_due);
    assert_eq!((outcome.inputs, outcome.inputs_arrived), (3 * 20, 3 * 20));
    // Of a stream for each technician, as long as the machine leaves none out.
    assert!(outcome.uploads.is_some_and(|uploads| (1.5..2.5).contains(&uploads)), "{outcome:?}");
    assert!(outcome.relay.is_none() && outcome.generator_late_ms.is_some(), "{outcome:?}");
}

#[tokio::test]
async fn frames_that_never_come_are_told() {
    // Of the window: the first two are due before it.
    let (outcome, lost) = driven(7).await;
    assert_eq!((outcome.failed, outcome.frames_due), (0, 60));
    // One of each stream, unless the machine was too slow to send it.
    assert_eq!(outcome.frames_lost, lost, "{outcome:?}");
    assert!(lost == 6 || lost < 6 && outcome.frames_skipped > 0, "{lost} of {outcome:?}");
}
