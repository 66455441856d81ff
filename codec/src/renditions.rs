//! The renditions of one display at its publisher: which encoders there are, and what each of their records is.
//!
//! *Live* is always there once somebody wants it; *reduced* is forked off it for subscribers who cannot keep up, and goes when
//! nobody needs it any more. Both code the same pictures. docs/protocol.md, section 6, says what the relay may want and how the
//! records answer it; this is its publisher's half, as plain state: nothing is sent, timed or run here.
//!
//! Whoever owns the screen and the connection
//! - says what the relay wants ([`Renditions::want`]), and when there is a new connection ([`Renditions::connected`]);
//! - tells the damage of each picture that it takes ([`Renditions::damage`]) before it has it encoded;
//! - calls [`Renditions::encode`] for a rendition when its path takes more, sends the record, and says which number it got
//!   ([`Renditions::sent`]) or that it got none ([`Renditions::unsent`]), before anything else is encoded;
//! - runs the jobs ([`Renditions::next_job`]) after each of these, on any thread: keys, and streams that hold up their rendition
//!   until they are [back](Renditions::prepared).

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tandem_protocol::{Point, Rendition, ScreenKind};

use self::coder::{Coder, Moment};
use crate::encoder::{Encoder, EncoderOptions};
use crate::error::EncodeError;
use crate::key::KeyJob;
use crate::picture::{Picture, PictureRef, Rect};
use crate::prepare::{Prepared, StreamsJob};

mod coder;

/// What the relay wants of a rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The same number asks once.
    pub request: u32,
    /// Which rendition; others than live and reduced do not exist.
    pub rendition: Rendition,
    /// Publish it at all.
    pub on: bool,
    /// Begin a segment. Of reduced: from live's newest update.
    pub start: bool,
    /// And send its key.
    pub key: bool,
    /// Of reduced: bring its shadow to live's, which then begins a segment from it.
    pub merge: bool,
}

#[cfg(feature = "messages")]
impl From<&tandem_protocol::message::Want> for Want {
    /// What no rendition can be asked for becomes a wish that nothing answers.
    fn from(want: &tandem_protocol::message::Want) -> Self {
        Self {
            request: want.request_id,
            rendition: Rendition(u8::try_from(want.rendition).unwrap_or(u8::MAX)),
            on: want.on,
            start: want.start,
            key: want.key,
            merge: want.merge_into == Some(Rendition::LIVE.0.into()),
        }
    }
}

/// A record to be sent on the screen lane of its rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScreenRecord {
    /// Which rendition.
    pub rendition: Rendition,
    /// Which segment.
    pub segment: u32,
    /// An update, or a start with its `from`.
    pub kind: ScreenKind,
    /// It does not go on from the record before it on its lane: its number must not be the next one.
    pub skips: bool,
    /// Its body. May be longer than one record may carry.
    pub body: Vec<u8>,
}

/// Something to be done off the path of pictures.
#[derive(Debug)]
pub enum Job {
    /// A key to be made and sent, in its own time.
    Key(KeyTask),
    /// Streams that the rendition waits for: give [`Renditions::prepared`] what it makes.
    Streams(StreamsJob),
}

/// A key to be made, with what its header says.
#[derive(Debug)]
pub struct KeyTask {
    /// Whose lane it goes on.
    pub rendition: Rendition,
    /// The segment that it enables.
    pub segment: u32,
    /// The update whose shadow it shows: the record before the segment's start.
    pub seq: u64,
    /// Makes its body.
    pub job: KeyJob,
}

/// One display's encoders, and what is wanted of them.
pub struct Renditions {
    options: EncoderOptions,
    live: Coder,
    reduced: Coder,
    /// What is to become of reduced once its shadow is live's.
    meeting: Option<Meeting>,
    jobs: VecDeque<Job>,
    /// What time it is, and whether subscribers can all decode H.264.
    now: Duration,
    video: bool,
}

/// Why reduced's shadow is brought to live's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// Then it starts a segment from live's newest update: somebody leaves live for it.
    Fork,
    /// Then live starts a segment from reduced's newest update: all of reduced may go on in live.
    Merge,
    /// The update that did it is under way to its number; live then showed this.
    Forking(Point),
    /// The same.
    Merging,
}

impl Renditions {
    /// Nothing is wanted yet. The options' size does not matter: pictures have theirs.
    pub fn new(options: EncoderOptions) -> Self {
        Self {
            options,
            live: Coder::new(Rendition::LIVE),
            reduced: Coder::new(Rendition::REDUCED),
            meeting: None,
            jobs: VecDeque::new(),
            now: Duration::ZERO,
            video: true,
        }
    }

    /// The relay wants something. A request that came before changes nothing.
    pub fn want(&mut self, want: Want) {
        let Some(coder) = self.coder_mut(want.rendition) else { return };
        if coder.request.replace(want.request) == Some(want.request) {
            return;
        }
        coder.on = want.on;
        match want.rendition {
            Rendition::LIVE if want.on && want.start => self.start_live(None, want.key),
            Rendition::REDUCED if !want.on => {
                self.reduced.end();
                self.meeting = None;
            }
            Rendition::REDUCED if want.merge => {
                self.meeting = Some(Meeting::Merge).filter(|_| self.reduced.exists());
            }
            // A start that is due already is as good.
            Rendition::REDUCED if want.start && self.reduced.due().is_none() => {
                self.meeting = Some(Meeting::Fork);
                self.fork();
            }
            _ => {}
        }
    }

    /// There is a connection, the first or another. Requests are numbered anew, and the renditions in `restart` have lost what
    /// was on its way: they begin from black.
    pub fn connected(&mut self, restart: impl IntoIterator<Item = Rendition>) {
        [&mut self.live, &mut self.reduced].into_iter().for_each(|coder| coder.request = None);
        restart.into_iter().for_each(|rendition| self.restart(rendition));
    }

    /// From now on pictures belong to this generation of the display layout. Live begins from black, and so it does when pictures
    /// have another size.
    pub fn set_layout(&mut self, generation: u32) {
        self.options.layout_generation = generation;
        self.restart_all();
    }

    /// Says what time it is for all that follows, by any clock that never goes back.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Whether video may be sent, if the options allow it: all who watch can decode H.264. At first they can.
    pub fn set_video(&mut self, on: bool) {
        self.video = on;
    }

    /// When there is something to encode although nothing changes and the rendition is not behind: its video then rests. On
    /// the clock of [`Renditions::set_time`].
    pub fn rests_at(&self, rendition: Rendition) -> Option<Duration> {
        let waits = rendition != Rendition::LIVE && self.is_merging();
        self.coder(rendition).filter(|_| !waits)?.rests_at()
    }

    /// Whether this rendition is to be published.
    pub fn is_wanted(&self, rendition: Rendition) -> bool {
        self.coder(rendition).is_some_and(|coder| coder.on)
    }

    /// What those in step with a rendition show; nothing before its first picture, or if there is no such rendition.
    pub fn shadow(&self, rendition: Rendition) -> Option<&Picture> {
        self.coder(rendition)?.encoder.as_ref().map(Encoder::shadow)
    }

    /// Whether there is something to encode without anything new on the screen: what an earlier budget left, a start, a merge.
    pub fn is_behind(&self, rendition: Rendition) -> bool {
        let Some(coder) = self.coder(rendition).filter(|coder| coder.on) else { return false };
        if rendition == Rendition::LIVE {
            return !coder.is_preparing() && coder.is_behind();
        }
        // Whatever is to be met needs a shadow of live that somebody may hold.
        let meets = self.meeting.is_some() && self.live.last.is_some();
        !coder.is_preparing() && !self.is_merging() && (coder.is_behind() || meets)
    }

    /// Where the newest picture may differ from the one before it, as it will be given to [`Renditions::encode`]; `None`:
    /// anywhere. Both renditions remember it until they have coded it.
    pub fn damage(&mut self, damage: Option<&[Rect]>) {
        let encoders = [&mut self.live.encoder, &mut self.reduced.encoder];
        encoders.into_iter().flatten().for_each(|encoder| encoder.mark(damage));
    }

    /// Codes the newest picture for a rendition, in about `budget` bytes (a fork or merge may take more). `None` if nothing differs,
    /// or if the rendition waits for a job or for the other one.
    ///
    /// # Errors
    /// [`EncodeError`]: the rendition is not published until it is wanted again.
    pub fn encode(
        &mut self,
        rendition: Rendition,
        picture: PictureRef<'_>,
        pointer: Option<(u16, u16)>,
        budget: usize,
    ) -> Result<Option<ScreenRecord>, EncodeError> {
        let size = picture.size();
        if [&self.live, &self.reduced].into_iter().any(|coder| coder.size().is_some_and(|was| was != size)) {
            self.restart_all();
        }
        self.options.size = size;
        if !self.is_wanted(rendition) {
            return Ok(None);
        }
        let moment = Moment { pointer, now: self.now, video: self.video };
        let coded = match rendition {
            Rendition::LIVE => self.live.encode(self.options, picture, moment, budget),
            _ => self.encode_reduced(picture, moment, budget),
        };
        if coded.is_err() {
            if let Some(coder) = self.coder_mut(rendition) {
                coder.on = false;
            }
            self.restart(rendition);
        }
        coded
    }

    /// The record that [`Renditions::encode`] gave last of this rendition was sent; `seq` is the number of its last part.
    pub fn sent(&mut self, rendition: Rendition, seq: u64) {
        let Some(coder) = self.coder_mut(rendition) else { return };
        coder.sent(seq);
        if rendition == Rendition::REDUCED {
            self.met();
        }
    }

    /// It could not be sent. Its shadow is nobody's, so the rendition begins from black.
    pub fn unsent(&mut self, rendition: Rendition) {
        self.restart(rendition);
    }

    /// Something to be done elsewhere, the most urgent first.
    pub fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// A [`Job::Streams`] is done.
    pub fn prepared(&mut self, prepared: Prepared) {
        // It belongs to the encoder that shares its history.
        let encoders = [&mut self.live.encoder, &mut self.reduced.encoder];
        if let Some(encoder) = encoders.into_iter().flatten().find(|encoder| encoder.awaits(&prepared)) {
            encoder.prepared(prepared);
        }
    }

    fn coder(&self, rendition: Rendition) -> Option<&Coder> {
        match rendition {
            Rendition::LIVE => Some(&self.live),
            Rendition::REDUCED => Some(&self.reduced),
            _ => None,
        }
    }

    fn coder_mut(&mut self, rendition: Rendition) -> Option<&mut Coder> {
        match rendition {
            Rendition::LIVE => Some(&mut self.live),
            Rendition::REDUCED => Some(&mut self.reduced),
            _ => None,
        }
    }

    fn restart(&mut self, rendition: Rendition) {
        if let Some(coder) = self.coder_mut(rendition) {
            coder.restart();
        }
        // What had been brought together is apart again.
        self.meeting = self.meeting.map(|meeting| match meeting {
            Meeting::Fork | Meeting::Forking(_) => Meeting::Fork,
            Meeting::Merge | Meeting::Merging => Meeting::Merge,
        });
    }

    /// Live begins from black, which takes everybody there. Whoever cannot follow leaves it anew.
    fn restart_all(&mut self) {
        let forks = matches!(self.meeting, Some(Meeting::Fork | Meeting::Forking(_)));
        let is_asked = forks || self.reduced.due().is_some();
        self.restart(Rendition::LIVE);
        self.reduced.end();
        self.meeting = is_asked.then_some(Meeting::Fork);
    }

    /// Live's next record starts a segment, perhaps with a key. One start answers all who want one.
    fn start_live(&mut self, from: Option<Point>, key: bool) {
        let task = self.live.start(from);
        // The streams first: pictures wait for them.
        self.jobs.extend(self.live.prepare().map(Job::Streams));
        self.jobs.extend(task.filter(|_| key).map(Job::Key));
    }

    /// If there is no reduced rendition: makes it out of live, as soon as there is a shadow of live that somebody may hold.
    fn fork(&mut self) {
        if self.reduced.exists() {
            return;
        }
        if let (Some(encoder), Some(from)) = (&self.live.encoder, self.live.last) {
            self.reduced.begin_at(encoder.fork(), from);
            self.jobs.extend(self.reduced.prepare().map(Job::Streams));
            self.meeting = None;
        }
    }

    /// Live's start from reduced's newest update is still to come: until then reduced must not go on, or nobody could cross.
    fn is_merging(&self) -> bool {
        self.live.on && self.live.due().is_some_and(|from| from.rendition == Rendition::REDUCED)
    }

    fn encode_reduced(
        &mut self,
        picture: PictureRef<'_>,
        moment: Moment,
        budget: usize,
    ) -> Result<Option<ScreenRecord>, EncodeError> {
        if self.is_merging() || self.reduced.is_preparing() {
            return Ok(None);
        }
        if !self.reduced.exists() {
            if self.meeting == Some(Meeting::Fork) {
                self.fork();
            }
            return Ok(None);
        }
        let (Some(meeting), Some(live), Some(shown)) = (self.meeting, &self.live.encoder, self.live.last)
        else {
            return self.reduced.encode(self.options, picture, moment, budget);
        };
        let record = self.reduced.catch_up(self.options, live)?;
        self.meeting = Some(match meeting {
            Meeting::Fork | Meeting::Forking(_) => Meeting::Forking(shown),
            Meeting::Merge | Meeting::Merging => Meeting::Merging,
        });
        if record.is_none() {
            self.met();
        }
        Ok(record)
    }

    /// If reduced's shadow has been brought to live's: the start that this was for.
    fn met(&mut self) {
        match self.meeting {
            Some(Meeting::Forking(from)) => {
                self.reduced.start(Some(from));
                self.jobs.extend(self.reduced.prepare().map(Job::Streams));
            }
            Some(Meeting::Merging) => self.start_live(self.reduced.last, false),
            _ => return,
        }
        self.meeting = None;
    }
}

impl fmt::Debug for Renditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renditions")
            .field("live", &self.live)
            .field("reduced", &self.reduced)
            .field("meeting", &self.meeting)
            .finish_non_exhaustive()
    }
}
