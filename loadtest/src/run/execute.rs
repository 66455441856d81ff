//! A try of a plan: sessions arrive, a window is measured, what is to break breaks, and everybody sees the last picture.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tandem_client::Target;
use tandem_codec::Size;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::customer::{self, Habits};
use super::figures::{Figures, Journal};
use super::padding::Padding;
use super::relay::Relay;
use super::sampler::{Mark, Sample, Sampler, Subject};
use super::screen::{Content, Schedule, Source};
use super::slow_line::SlowLine;
use super::technician::{self, Duty};
use super::trace::Trace;
use super::usher::{Seated, Usher};
use super::{Beat, Course, Inputs, Part, Window, settled, sleep_until, start_beating};
use crate::cores;
use crate::plan::{ByteRange, Manner, Plan, Scenery, Session, Technician};
use crate::report::series::Recorder;
use crate::report::table::Progress;

/// What an opaque update is made of: a picture so small that the codec costs next to nothing.
const TINY: Size = Size { w: 16, h: 16 };
/// A screen on which nothing happens, and how long nothing does.
const STILL: Size = Size { w: 640, h: 360 };
const NEVER: Duration = Duration::from_secs(30 * 86_400);

/// What the screens of a plan show: made, or read from files, once.
#[derive(Debug)]
pub(super) struct Scenes {
    sources: Vec<Arc<Source>>,
    /// Between pictures, where the source says so and not the customer.
    interval: Option<Duration>,
    padding: Option<ByteRange>,
}

impl Scenes {
    pub(super) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let made = |size, content, picture| Arc::new(Source::new(size, content, picture, plan.seed));
        let (sources, interval, padding) = match &plan.scenery {
            &Scenery::Made { content, size, picture } => (vec![made(size, content, picture)], None, None),
            Scenery::Opaque(range) => (vec![made(TINY, Content::Cells, 1)], None, Some(*range)),
            Scenery::Still => (vec![made(STILL, Content::Cells, 1)], Some(NEVER), None),
            Scenery::Traces(paths) => {
                let read = |path| Ok(Arc::new(Source::Recorded(Trace::open(path)?)));
                (paths.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?, None, None)
            }
        };
        Ok(Self { sources, interval, padding })
    }

    /// What goes on in a session.
    fn course(&self, plan: &Plan, session: &Session) -> Course {
        let source = self.sources[session.number % self.sources.len()].clone();
        let fps = match &*source {
            Source::Recorded(trace) => trace.fps(),
            Source::Made(_) => session.fps,
        };
        // Sessions take turns, so that not all type at once.
        let share = session.number as f64 / plan.sessions as f64;
        let phase = Duration::from_secs_f64(share / session.inputs.max(1e-3)).min(plan.window);
        Course {
            interval: self.interval.unwrap_or_else(|| Duration::from_secs_f64(1.0 / fps)),
            window: plan.window,
            inputs: Inputs { per_second: session.inputs, phase },
            window_log: window_log(source.size()),
            source,
            transfer: None,
            padding: self.padding.map(|range| Padding::new(range, session.seed)),
            answers: plan.answers,
            breaks: plan.breaks(),
        }
    }
}

/// Of a codec window that holds a picture or two; more only costs memory, in every pair twice.
fn window_log(size: Size) -> u8 {
    (size.pixels() * 4).next_power_of_two().ilog2().clamp(10, 23) as u8
}

/// What a try has shown.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) figures: Figures,
    pub(crate) recorder: Arc<Recorder>,
    /// At the window's beginning and end.
    pub(crate) start: Mark,
    pub(crate) end: Mark,
    /// Of the window.
    pub(crate) samples: Vec<Sample>,
    /// How many technicians there were at all, absent ones not counted.
    pub(crate) technicians: usize,
    /// Bytes of memory that the relay took before anybody had connected.
    pub(crate) resident_at_first: Option<f64>,
    /// Cores that this program may use.
    pub(crate) own_cores: f64,
}

/// What the sessions of a try have in common.
struct Stage<'a> {
    plan: &'a Plan,
    scenes: &'a Scenes,
    relay: &'a Relay,
    window: &'a watch::Sender<Option<Window>>,
    recorder: &'a Arc<Recorder>,
    ready: mpsc::Sender<()>,
    ends: &'a mut JoinSet<Figures>,
    beats: Vec<Beat>,
    technicians: usize,
}

impl Stage<'_> {
    /// Lets a session's ends join, since it is time.
    async fn open(&mut self, Seated { session, seats, arrives }: Seated) -> anyhow::Result<()> {
        let course = Arc::new(self.scenes.course(self.plan, &session));
        // Pictures come at each session's own moments, so that not all encode at once.
        let phase = session.number as f64 / self.plan.sessions as f64;
        let schedule = Schedule {
            first: arrives + course.interval.min(Duration::from_secs(1)).mul_f64(phase),
            interval: course.interval,
        };
        let journal = Arc::new(Mutex::new(Journal::brief()));
        let part = |transport, join| Part {
            course: course.clone(),
            number: session.number,
            transport,
            target: self.relay.target.clone(),
            join,
            arrives,
            schedule,
            window: self.window.subscribe(),
            beat: Arc::default(),
            journal: journal.clone(),
            recorder: Some(self.recorder.clone()),
        };
        let lead = session.technicians.first().context("a session without a technician")?;
        let alone = session.technicians.iter().all(|one| one.manner == Manner::Absent);
        let habits = Habits {
            ready: alone.then(|| self.ready.clone()),
            drops: session.drops,
            loses_input: session.drops.is_some() || lead.drops.is_some(),
            seed: session.seed,
        };
        let (done, is_done) = oneshot::channel();
        self.ends.spawn(customer::run(part(session.transport, seats.customer), habits, is_done));
        let mut dones = Vec::new();
        for (at, (one, join)) in session.technicians.iter().zip(seats.technicians).enumerate() {
            if one.manner == Manner::Absent {
                continue;
            }
            let mut part = part(one.transport, join);
            let duty = self.duty(at, one);
            if duty.controls {
                let wakes: Arc<Notify> = Arc::default();
                part.beat = wakes.clone();
                self.beats.push(Beat { inputs: course.inputs, wakes });
            }
            let (sent, was_sent) = oneshot::channel();
            dones.push(was_sent);
            self.technicians += 1;
            let line = self.line(one).await?;
            if let Some(line) = &line {
                part.target = Target::new(&line.url(), part.target.fingerprints().to_vec())?;
            }
            self.ends.spawn(async move {
                let figures = technician::run(part, duty, sent).await;
                drop(line);
                figures
            });
        }
        let window = self.window.subscribe();
        tokio::spawn(tell_when_done(dones, done, window));
        Ok(())
    }

    /// What is in front of a technician.
    async fn line(&self, technician: &Technician) -> anyhow::Result<Option<SlowLine>> {
        let Manner::Slow { kbit } = technician.manner else { return Ok(None) };
        let relay = tokio::net::lookup_host(self.relay.target.authority()).await?.next();
        let relay = relay.context("the relay has no address")?;
        Ok(Some(SlowLine::start(relay, kbit).await.context("cannot put a slow line before a technician")?))
    }

    fn duty(&self, at: usize, technician: &Technician) -> Duty {
        let waits = matches!(technician.manner, Manner::Slow { .. });
        Duty {
            controls: at == 0 && technician.manner != Manner::Hidden,
            // Whoever is behind a slow line keeps nobody waiting.
            ready: (!waits).then(|| self.ready.clone()),
            recovered: None,
            manner: technician.manner,
            drops: technician.drops,
            seed: technician.seed,
        }
    }
}

/// When all technicians of a session are done, and the window is over, tells its customer how much input should have come.
async fn tell_when_done(
    technicians: Vec<oneshot::Receiver<u32>>,
    customer: oneshot::Sender<u32>,
    mut window: watch::Receiver<Option<Window>>,
) {
    let mut sent = 0;
    for technician in technicians {
        // Whoever failed has sent nothing that is known of.
        sent += technician.await.unwrap_or(0);
    }
    // Whose technicians never come waits for them until the end.
    let known = window.wait_for(Option::is_some).await.map_or(None, |window| *window);
    if let Some(known) = known {
        sleep_until(known.last).await;
    }
    // An error means that the customer has gone, and has said so.
    let _ = customer.send(sent);
}

fn subject(relay: &Relay) -> Subject {
    Subject { pid: relay.pid(), operations: relay.operations() }
}

/// One try. To be called on the main thread, on which relays are started again.
pub(super) async fn try_plan(
    plan: &Plan,
    scenes: &Scenes,
    relay: &mut Relay,
    progress: &mut Progress,
) -> anyhow::Result<Tried> {
    let sampler = Sampler::start(subject(relay));
    let recorder = Arc::<Recorder>::default();
    let told = watch::Sender::new(None);
    let mut ends = JoinSet::new();
    let (ready, mut readies) = mpsc::channel(1);
    let mut stage = Stage {
        plan,
        scenes,
        relay,
        window: &told,
        recorder: &recorder,
        ready,
        ends: &mut ends,
        beats: Vec::new(),
        technicians: 0,
    };
    let mut usher = Usher::start(relay.opener.clone(), plan).await?;
    for number in 0..plan.sessions {
        let seated = usher.next().await?;
        sleep_until(seated.arrives).await;
        progress.joining(number, plan.sessions);
        stage.open(seated).await?;
    }
    let Stage { beats, technicians, ready, .. } = stage;
    drop(ready);
    let start = settled(&mut readies).await;
    let end = start + plan.window;
    let window = Window { start, end, last: end, light: None };
    recorder.open(start, plan.window);
    start_beating(beats, window)?;
    told.send_replace(Some(window));

    sleep_until(start).await;
    let first = sampler.mark();
    let mut kills: Vec<Duration> = plan.kills.clone();
    kills.sort_unstable();
    for at in kills {
        watch_until(start + at, window, progress, &recorder, &sampler).await;
        // What it has counted until now goes with it.
        sampler.mark();
        relay.restart()?;
        sampler.follow(subject(relay));
    }
    watch_until(end, window, progress, &recorder, &sampler).await;
    let last = sampler.mark();
    progress.ending();
    let mut figures = Figures::default();
    while let Some(end) = ends.join_next().await {
        figures.add(end.context("an end of a session failed")?);
    }
    let samples = sampler.samples().into_iter().filter(|sample| window.has(sample.at)).collect();
    let own_cores = cores::allowed().context("cannot ask for our cores")?.len() as f64;
    let resident_at_first = relay.resident_at_first();
    let (start, end) = (first, last);
    Ok(Tried { figures, recorder, start, end, samples, technicians, resident_at_first, own_cores })
}

/// Waits, and shows how it goes.
async fn watch_until(
    at: Instant,
    window: Window,
    progress: &mut Progress,
    recorder: &Recorder,
    sampler: &Sampler,
) {
    while Instant::now() < at {
        sleep_until(at.min(Instant::now() + Duration::from_secs(1))).await;
        let newest = sampler.newest();
        progress.measuring(window.start.elapsed(), window.end - window.start, recorder, newest);
    }
}
