//! A run: pairs all sessions, lets their ends send what is due while it is measured, and waits for what is still on its way.

mod ends;
mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use self::ends::{Due, Ears, send_frames, send_inputs};
use self::places::Places;
use crate::job::{Frames, Job, Outcome, RelayCost, seconds};
use crate::message::{Clock, Kind, Message};
use crate::process::{Tree, machine_cpu, own_cpu};
use crate::schedule::{Beat, Slot, tick};
use crate::system::{Outlet, Place, System};
use crate::tally::{Tally, Window};

/// Sessions that are paired at a time.
const AT_ONCE: usize = 16;
/// How long a session's pairing may take, and between two tries to be heard.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);
/// What was due is waited for after the end until nothing more has come for so long, and no longer than that in all.
const QUIET: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(60);
/// Between two looks whether it has come.
const LOOK: Duration = Duration::from_millis(10);
/// From the last pairing to the first beat.
const BEGIN: Duration = Duration::from_millis(20);

/// Does a job.
///
/// # Errors
/// If sessions cannot be paired or the relay goes away. What goes wrong after that is counted instead.
pub async fn drive<S: System>(system: S, job: &Job) -> anyhow::Result<Outcome> {
    let run = Arc::new(Run::new(system, job)?);
    let relay = job.relay.map(Tree::of);
    let mut outcome = Outcome::default();
    run.open().await?;
    let rss = || relay.as_ref().map(Tree::resident).transpose().context("the relay is gone");
    let rss_before = rss()?;
    let before = Reading::take(relay.as_ref(), &run.tally)?;
    let mut paired = run.clone().pair_all().await?;
    let after = Reading::take(relay.as_ref(), &run.tally)?;
    outcome.pairing_s = seconds(after.at - before.at);
    let pairing_cpu = after.relay.saturating_sub(before.relay);

    let clock = run.tally.clock;
    let first = clock.now() + BEGIN;
    let start = first + Duration::from_secs_f64(job.settle);
    let window = Window { start, end: start + Duration::from_secs_f64(job.seconds) };
    run.tally.begin(window);
    run.clone().begin(first, window, &mut paired);
    tokio::time::sleep_until(clock.instant(window.start).into()).await;
    let before = Reading::take(relay.as_ref(), &run.tally)?;
    job.begun.as_ref().map(std::fs::File::create).transpose().context("cannot say that it begins")?;
    tokio::time::sleep_until(clock.instant(window.end).into()).await;
    let after = Reading::take(relay.as_ref(), &run.tally)?;
    after.since(&before, &mut outcome);
    outcome.relay = rss_before.zip(rss()?).map(|(rss_before, rss_after)| RelayCost {
        cpu_s: seconds(after.relay.saturating_sub(before.relay)),
        user_s: seconds(after.relay_user.saturating_sub(before.relay_user)),
        pairing_cpu_s: seconds(pairing_cpu),
        rss_before,
        rss_after,
    });
    outcome.inputs = run.due_in(run.input_beat(first), window);
    run.drain(&Draining { inputs: outcome.inputs, frames: run.frames_due(first, window) }).await;
    run.tally.tell(&mut outcome);
    outcome.frames_due = run.frames_due(first, window).unwrap_or_else(|| run.tally.frames_known());
    outcome.frames_lost = run.arrivals(outcome.frames_due).saturating_sub(outcome.frames);
    Ok(outcome)
}

/// What was used so far.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Duration,
    relay: Duration,
    relay_user: Duration,
    own: Duration,
    machine: Duration,
}

impl Reading {
    fn take(relay: Option<&Tree>, tally: &Tally) -> anyhow::Result<Self> {
        Ok(Self {
            at: tally.clock.now(),
            relay: relay.map_or(Ok(Duration::ZERO), Tree::cpu).context("the relay is gone")?,
            relay_user: relay.map_or(Ok(Duration::ZERO), Tree::user).context("the relay is gone")?,
            own: own_cpu()?,
            machine: machine_cpu()?,
        })
    }

    fn since(&self, before: &Self, outcome: &mut Outcome) {
        let relay = self.relay.saturating_sub(before.relay);
        let own = self.own.saturating_sub(before.own);
        outcome.seconds = seconds(self.at - before.at);
        outcome.generator_cpu_s = seconds(own);
        let machine = self.machine.saturating_sub(before.machine);
        outcome.others_cpu_s = seconds(machine.saturating_sub(relay + own));
    }
}

/// What is still to come when what is measured is over.
struct Draining {
    inputs: u64,
    /// Of all streams; `None`: those that were sent.
    frames: Option<u64>,
}

/// Where the ends of all sessions send, by session.
type Paired<S> = Vec<Pair<S>>;

struct Pair<S: System> {
    session: u32,
    customers: Vec<S::Outlet>,
    /// The first one's. The others send nothing more, but stay.
    technicians: Vec<S::Outlet>,
}

/// What all tasks of a run share.
struct Run<S: System> {
    system: Arc<S>,
    job: Job,
    uploads: u32,
    tally: Arc<Tally>,
    places: Places,
    /// Ends that run on; they end with the run.
    ends: Mutex<JoinSet<()>>,
    /// Of each session: one for each of its customer's streams.
    frames: Vec<Vec<Arc<Slot>>>,
    inputs: Vec<Vec<Arc<Slot>>>,
}

impl<S: System> Run<S> {
    fn new(system: S, job: &Job) -> anyhow::Result<Self> {
        let uploads = system.uploads(job.shape.technicians);
        let slots = |each: u32| -> Vec<Vec<Arc<Slot>>> {
            (0..job.shape.sessions).map(|_| (0..each).map(|_| Arc::default()).collect()).collect()
        };
        Ok(Self {
            system: Arc::new(system),
            uploads,
            tally: Arc::new(Tally::new(Clock::start())),
            places: Places::new(job)?,
            ends: Mutex::default(),
            frames: slots(uploads),
            inputs: slots(1),
            job: job.clone(),
        })
    }

    async fn open(&self) -> anyhow::Result<()> {
        for place in self.places.all() {
            let system = self.system.clone();
            self.places.there(place).spawn(async move { system.open(place).await }).await??;
        }
        Ok(())
    }

    async fn pair_all(self: Arc<Self>) -> anyhow::Result<Paired<S>> {
        let mut pairing: JoinSet<anyhow::Result<Pair<S>>> = JoinSet::new();
        let mut paired = Vec::new();
        for session in 0..self.job.shape.sessions {
            if pairing.len() >= AT_ONCE {
                paired.extend(pairing.join_next().await.transpose()?.transpose()?);
            }
            let run = self.clone();
            pairing.spawn(async move {
                let pair = tokio::time::timeout(PATIENCE, run.pair(session)).await;
                pair.context("it takes too long").flatten().with_context(|| format!("session {session}"))
            });
        }
        while let Some(pair) = pairing.join_next().await {
            paired.push(pair??);
        }
        Ok(paired)
    }

    /// Connects all of a session, and waits until everybody has heard of the others.
    async fn pair(&self, session: u32) -> anyhow::Result<Pair<S>> {
        let mut pair: Pair<S> = Pair { session, customers: Vec::new(), technicians: Vec::new() };
        let mut heard = Vec::new();
        for upload in 0..self.uploads {
            let (outlet, inlet) = self.system.customer(session, upload).await.context("customer")?;
            let (ears, hello) = Ears::new(self.tally.clone(), Place::Near);
            self.ends.lock().spawn_on(ears.listen(inlet), self.places.there(Place::Near));
            pair.customers.push(outlet);
            // Only the first technician sends anything.
            heard.extend((upload == 0).then_some(hello));
        }
        for number in 0..self.job.shape.technicians {
            let (place, system) = (self.job.place(number), self.system.clone());
            let there = self.places.there(place);
            let joined = there.spawn(async move { system.technician(session, number).await }).await?;
            let (outlet, inlet) = joined.with_context(|| format!("technician {number}"))?;
            let (ears, hello) = Ears::new(self.tally.clone(), place);
            self.ends.lock().spawn_on(ears.listen(inlet), there);
            pair.technicians.push(outlet);
            heard.push(hello);
        }
        let mut hello = Message::new(Kind::Hello, 64);
        // What is sent to somebody who has only just come may be lost; it costs nothing to say it again.
        for mut hearing in heard {
            loop {
                for customer in &mut pair.customers {
                    customer.ready().await?;
                    customer.send(hello.numbered(0, Duration::ZERO)).await?;
                }
                if let Some(technician) = pair.technicians.first_mut() {
                    technician.ready().await?;
                    technician.send(hello.numbered(0, Duration::ZERO)).await?;
                }
                if let Ok(heard) = tokio::time::timeout(AGAIN, &mut hearing).await {
                    heard.context("an end was lost at once")?;
                    break;
                }
            }
        }
        Ok(pair)
    }

    /// Lets everybody send from then on.
    fn begin(self: Arc<Self>, first: Duration, window: Window, paired: &mut Paired<S>) {
        for pair in paired.drain(..) {
            self.begin_session(first, window, pair);
        }
        for (beat, of) in [(self.frame_beat(first), Kind::Frame), (self.input_beat(first), Kind::Input)] {
            let Some(beat) = beat else { continue };
            let run = self.clone();
            self.spawn(async move {
                let slots = if of == Kind::Frame { &run.frames } else { &run.inputs };
                tick(beat, slots, window.end, run.tally.clock).await
            });
        }
    }

    fn begin_session(&self, first: Duration, window: Window, pair: Pair<S>) {
        let Pair { session, customers, mut technicians } = pair;
        let slots = self.frames.get(session as usize).into_iter().flatten().cloned();
        for (upload, (outlet, slot)) in customers.into_iter().zip(slots).enumerate() {
            let frame = Message::new(Kind::Frame, self.job.shape.frame_bytes);
            let due = self.frame_beat(first).map(|beat| Due { slot, beat, session, told: 0 });
            let saturates = self.job.shape.frames == Frames::Saturate;
            let until = if saturates { window.end } else { Duration::ZERO };
            self.spawn(send_frames(outlet, upload, frame, due, until, self.tally.clone()));
        }
        let others = technicians.split_off(technicians.len().min(1));
        let slot = self.inputs.get(session as usize).and_then(|slots| slots.first());
        if let (Some(outlet), Some(slot)) = (technicians.pop(), slot) {
            let input = Message::new(Kind::Input, self.job.shape.input_bytes);
            let due = self.input_beat(first).map(|beat| Due { slot: slot.clone(), beat, session, told: 0 });
            let sends = send_inputs(outlet, others, input, due, self.tally.clone());
            let sending = self.places.there(self.job.place(0)).spawn(sends);
            self.spawn(async move { sending.await? });
        }
    }

    fn frame_beat(&self, start: Duration) -> Option<Beat> {
        let Frames::PerSecond(rate) = self.job.shape.frames else { return None };
        Some(Beat { start, every: Duration::from_secs_f64(1.0 / rate), sessions: self.job.shape.sessions })
    }

    fn input_beat(&self, start: Duration) -> Option<Beat> {
        let rate = self.job.shape.inputs_per_second;
        let every = (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate))?;
        Some(Beat { start, every, sessions: self.job.shape.sessions })
    }

    /// Events of all sessions' beats that are due in the window.
    fn due_in(&self, beat: Option<Beat>, window: Window) -> u64 {
        let Some(beat) = beat else { return 0 };
        let of = |session| beat.before(window.end, session) - beat.before(window.start, session);
        (0..self.job.shape.sessions).map(|session| u64::from(of(session))).sum()
    }

    /// Frames that are due in the window, of all streams; `None`: as many as go.
    fn frames_due(&self, first: Duration, window: Window) -> Option<u64> {
        match self.job.shape.frames {
            Frames::Saturate => None,
            _ => Some(self.due_in(self.frame_beat(first), window) * u64::from(self.uploads)),
        }
    }

    /// How many arrivals there should be of so many frames, of which some were left out.
    fn arrivals(&self, frames: u64) -> u64 {
        let technicians = u64::from(self.job.shape.technicians / self.uploads.max(1));
        frames.saturating_sub(self.tally.frames_skipped()) * technicians
    }

    /// Waits for what was due.
    async fn drain(&self, due: &Draining) {
        let tally = &self.tally;
        let has_all = || {
            // Whoever saturates may still be sending the last one.
            let known = tally.frames_known();
            let frames = due.frames.unwrap_or(known);
            tally.inputs() >= due.inputs && known >= frames && tally.frames() >= self.arrivals(frames)
        };
        let latest = tally.clock.now() + DRAIN;
        let (mut come, mut until) = (0, Duration::ZERO);
        while !has_all() {
            let (now, all) = (tally.clock.now(), tally.frames() + tally.inputs());
            if all > come || until.is_zero() {
                (come, until) = (all, latest.min(now + QUIET));
            }
            if now >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        // Frames that have not come by then are a figure; input is a failure.
        let (inputs, missing) = (due.inputs, due.inputs.saturating_sub(tally.inputs()));
        if missing > 0 {
            tally.fail(format_args!("{missing} of {inputs} input events have not come"));
        }
    }

    fn spawn(&self, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let tally = self.tally.clone();
        self.ends.lock().spawn(async move {
            if let Err(why) = work.await {
                tally.fail(format_args!("{why:#}"));
            }
        });
    }
}
