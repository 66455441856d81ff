//! The screen of a pretend customer: two renditions of it, live and reduced, coded as their paths take them; what takes long is made
//! elsewhere.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tandem_client::pacer::Pace;
use tandem_client::{Handle, Outgoing, SendError};
use tandem_codec::{EncodeError, EncoderOptions, Job, KeyTask, PIXEL, PictureRef, Renditions, ScreenRecord};
use tandem_protocol::{LaneKey, LaneKind, Rendition, Sender};

use super::{Customer, DISPLAY};
use crate::run::Part;
use crate::run::figures::Journal;
use crate::run::padding::Padding;

const RENDITIONS: [Rendition; 2] = [Rendition::LIVE, Rendition::REDUCED];

/// Reduced that has waited for so long is coded, whether live leaves time for it or not.
const REDUCED_WAITS: Duration = Duration::from_millis(200);

/// A lane of the screen, whose sender the client fills in.
fn lane(kind: LaneKind, rendition: Rendition) -> LaneKey {
    LaneKey::screen(kind, DISPLAY, rendition, Sender::RELAY)
}

pub(super) fn renditions(part: &Part) -> Renditions {
    let options = EncoderOptions {
        plain_window_log: part.course.window_log,
        video: true,
        ..EncoderOptions::new(part.course.source.size())
    };
    Renditions::new(options)
}

impl Customer {
    /// Begins what is to be done beside pictures: it takes long, and must not hold them up.
    pub(super) fn work(&mut self) {
        while let Some(job) = self.renditions.next_job() {
            match job {
                Job::Streams(job) => {
                    let prepares = self.prepares.clone();
                    // Without its receiver there is no screen any more.
                    tokio::task::spawn_blocking(move || prepares.send(job.run()).ok());
                }
                Job::Key(task) => {
                    let (handle, journal) = (self.handle.clone(), self.part.journal.clone());
                    let padding = self.part.course.padding.clone();
                    let rng = StdRng::seed_from_u64(self.rng.next_u64());
                    tokio::task::spawn_blocking(move || send_key(&handle, task, padding, rng, &journal));
                }
            }
        }
    }

    /// Encodes the newest pixels while the paths take them.
    pub(super) fn publish(&mut self, now: Instant) -> Result<(), EncodeError> {
        self.ask_again = None;
        let newest = self.part.newest(now);
        self.wanted_since = self.is_wanted().then(|| self.wanted_since.unwrap_or(now));
        if let Some(since) = self.wanted_since {
            // Those that were left out, since newer ones came before we did, were due too.
            let due = self.screen.newest() + 1..=newest;
            let due = due.map(|picture| self.part.schedule.time(picture));
            due.filter(|&due| due >= since).for_each(|due| self.part.was_due(due, now));
        }
        self.damage.append(&mut self.screen.advance(&self.part.course.source, newest));
        self.renditions.set_time(now.saturating_duration_since(self.began));
        if self.is_wanted() {
            self.renditions.damage(Some(&self.damage));
            self.damage.clear();
        }
        self.publish_live(now)?;
        self.publish_reduced(newest, now)
    }

    /// When video will have come to rest that is then to be exact.
    pub(super) fn rest(&self) -> impl Iterator<Item = Instant> {
        let rests = RENDITIONS.into_iter().filter_map(|rendition| self.renditions.rests_at(rendition));
        rests.map(|at| self.began + at)
    }

    /// Whether video has come to rest that is to be exact now.
    fn rests(&self, rendition: Rendition, now: Instant) -> bool {
        self.renditions.rests_at(rendition).is_some_and(|at| self.began + at <= now)
    }

    fn publish_live(&mut self, now: Instant) -> Result<(), EncodeError> {
        while let Some(budget) = self.budget(Rendition::LIVE, now) {
            if !self.code(Rendition::LIVE, budget)? {
                break;
            }
        }
        Ok(())
    }

    /// One update in the time that live leaves, which may go on with the next picture or when the pacer lets it.
    fn publish_reduced(&mut self, newest: u32, now: Instant) -> Result<(), EncodeError> {
        let live = self.part.schedule.time(newest.saturating_add(1));
        let live = self.ask_again.map_or(live, |again| again.min(live));
        let Some(budget) = self.budget(Rendition::REDUCED, now) else { return Ok(()) };
        let began = Instant::now();
        // It may not make live late, but it may not starve either.
        let waits_long = self.reduced_at.is_none_or(|at| began >= at + REDUCED_WAITS);
        if began + self.reduced_cost > live && !waits_long {
            self.ask_again = Some(live);
            return Ok(());
        }
        if self.code(Rendition::REDUCED, budget)? {
            self.ask_again = Some(began);
        }
        let done = Instant::now();
        (self.reduced_at, self.reduced_cost) = (Some(done), done - began);
        Ok(())
    }

    /// How much of a rendition may be coded now, if there is something to code.
    fn budget(&mut self, rendition: Rendition, now: Instant) -> Option<usize> {
        if !self.renditions.is_behind(rendition) && !self.rests(rendition, now) {
            return None;
        }
        match self.handle.pace(lane(LaneKind::Screen, rendition)) {
            Pace::Send(budget) => Some(budget),
            Pace::Wait(until) => {
                self.ask_again = [self.ask_again, until].into_iter().flatten().min();
                None
            }
        }
    }

    /// Codes the newest pixels for a rendition and sends them. Whether that went well.
    fn code(&mut self, rendition: Rendition, budget: usize) -> Result<bool, EncodeError> {
        let size = self.part.course.source.size();
        let picture = PictureRef::new(size, usize::from(size.w) * PIXEL, self.screen.picture().bytes())
            .expect("a picture of this size");
        let record = self.renditions.encode(rendition, picture, None, budget)?;
        let went_on = record.is_none_or(|record| self.send(record));
        self.work();
        Ok(went_on)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.renditions.is_wanted(Rendition::LIVE)
    }

    /// Sends a record, or says that it could not be sent.
    fn send(&mut self, mut record: ScreenRecord) -> bool {
        if let Some(padding) = &self.part.course.padding {
            record.body = padding.wrap(&record.body, &mut self.rng);
        }
        let out = Outgoing::screen(record.segment, record.kind, &record.body).skipping(record.skips);
        let captured = self.part.schedule.time(self.screen.newest());
        // Held while it is sent, so that nobody has the update before its entry is there.
        let mut journal = self.part.journal.lock();
        let sent = self.handle.send(lane(LaneKind::Screen, record.rendition), out);
        if let Ok(sent) = sent {
            journal.update(record.rendition, sent.seq, captured, record.body.len());
        }
        drop(journal);
        match sent {
            Ok(sent) => {
                self.renditions.sent(record.rendition, sent.seq);
                return true;
            }
            // Why the connection is gone is told by itself.
            Err(SendError::Offline) => {}
            Err(why) => self.fail(why),
        }
        self.renditions.unsent(record.rendition);
        false
    }
}

/// Makes a key and sends it. Whoever needs it asks again if it does not come.
fn send_key(
    handle: &Handle,
    task: KeyTask,
    padding: Option<Padding>,
    mut rng: StdRng,
    journal: &Mutex<Journal>,
) {
    let KeyTask { rendition, segment, seq, job } = task;
    let Ok(body) = job.encode() else { return };
    let body = padding.map_or_else(|| body.clone(), |padding| padding.wrap(&body, &mut rng));
    if handle.send(lane(LaneKind::Key, rendition), Outgoing::key(segment, seq, &body)).is_ok() {
        journal.lock().key(rendition, body.len());
    }
}
