//! Whatever is wanted of a publisher's renditions, in whatever order lanes and jobs go: subscribers who cross between them show
//! shadows only, and in the end exactly the picture; nobody in step needs a key.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

mod common;

use std::collections::{HashMap, VecDeque};

use common::{Content, Sent, colours, draw, scroll, size};
use proptest::prelude::*;
use tandem_codec::{
    EncoderOptions, Job, Outcome, Picture, PixelOrder, Rect, Renditions, Size, Viewer, ViewerLimits, Want,
};
use tandem_protocol::{Point, Rendition, ScreenKind};

const LIVE: Rendition = Rendition::LIVE;
const REDUCED: Rendition = Rendition::REDUCED;
const BOTH: [Rendition; 2] = [LIVE, REDUCED];

fn lane(rendition: Rendition) -> usize {
    usize::from(rendition.0)
}

/// The publisher and all that it has ever sent.
struct Publisher {
    renditions: Renditions,
    picture: Picture,
    /// Damage that the renditions have not been told.
    damage: Vec<Rect>,
    lanes: [Vec<Sent>; 2],
    /// When they were sent.
    times: [Vec<u64>; 2],
    clock: u64,
    next_seq: [u64; 2],
    /// Keys by segment of live.
    keys: HashMap<u32, Sent>,
    shadows: HashMap<(Rendition, u64), Vec<[u8; 3]>>,
    jobs: VecDeque<Job>,
    request: u32,
    part_max: usize,
}

impl Publisher {
    fn new(size: Size, part_max: usize) -> Self {
        Self {
            renditions: Renditions::new(EncoderOptions::new(size)),
            picture: Picture::black(size),
            damage: Vec::new(),
            lanes: Default::default(),
            times: Default::default(),
            clock: 0,
            next_seq: [0; 2],
            keys: HashMap::new(),
            shadows: HashMap::new(),
            jobs: VecDeque::new(),
            request: 0,
            part_max,
        }
    }

    fn want(&mut self, want: Want) {
        self.request += 1;
        let want = Want { request: self.request, ..want };
        self.renditions.want(want);
        self.renditions.want(want);
        self.take_jobs();
    }

    fn take_jobs(&mut self) {
        self.jobs.extend(std::iter::from_fn(|| self.renditions.next_job()));
    }

    fn run_job(&mut self) {
        match self.jobs.pop_front() {
            Some(Job::Streams(job)) => self.renditions.prepared(job.run()),
            Some(Job::Key(task)) => {
                assert_eq!(task.rendition, LIVE);
                let point = Point { rendition: LIVE, segment: task.segment, seq: task.seq };
                let body = task.job.encode().unwrap();
                self.keys.insert(task.segment, Sent { kind: ScreenKind::Key, point, more: false, body });
            }
            None => {}
        }
    }

    /// Encodes and sends; says whether there was anything.
    fn encode(&mut self, rendition: Rendition, budget: usize) -> bool {
        self.renditions.damage(Some(&std::mem::take(&mut self.damage)));
        let record = self.renditions.encode(rendition, self.picture.borrow(), Some((9, 9)), budget).unwrap();
        let Some(record) = record else {
            self.take_jobs();
            return false;
        };
        let (next, sent) = (&mut self.next_seq[lane(rendition)], &mut self.lanes[lane(rendition)]);
        *next += u64::from(record.skips && *next > 0);
        let parts = record.body.chunks(self.part_max).count();
        for (i, part) in record.body.chunks(self.part_max).enumerate() {
            let point = Point { rendition, segment: record.segment, seq: *next };
            sent.push(Sent { kind: record.kind, point, more: i + 1 < parts, body: part.to_vec() });
            *next += 1;
            self.clock += 1;
            self.times[lane(rendition)].push(self.clock);
        }
        let seq = *next - 1;
        let shadow = colours(self.renditions.shadow(rendition).unwrap().bytes());
        self.shadows.insert((rendition, seq), shadow);
        self.renditions.sent(rendition, seq);
        self.take_jobs();
        true
    }

    /// Encodes what never goes.
    fn encode_in_vain(&mut self, rendition: Rendition) {
        self.renditions.damage(Some(&std::mem::take(&mut self.damage)));
        if self.renditions.encode(rendition, self.picture.borrow(), None, 4000).unwrap().is_some() {
            self.renditions.unsent(rendition);
        }
        self.take_jobs();
    }

    fn rest(&mut self) {
        for _ in 0..100 {
            let sent = BOTH.map(|rendition| self.encode(rendition, usize::MAX));
            let had_jobs = !self.jobs.is_empty();
            while !self.jobs.is_empty() {
                self.run_job();
            }
            if sent == [false; 2] && !had_jobs {
                assert!(BOTH.iter().all(|&rendition| !self.renditions.is_behind(rendition)));
                return;
            }
        }
        panic!("it never rests");
    }

    /// Where the record stands whose last part has this point.
    fn find(&self, point: Point) -> usize {
        let at = self.lanes[lane(point.rendition)].iter().position(|sent| sent.point.seq == point.seq);
        at.expect("a from names a record that was sent")
    }

    /// Begins a start that anybody can enter by: from black, or with its key. The newest.
    fn entry(&self) -> Option<(usize, Option<&Sent>)> {
        let live = &self.lanes[lane(LIVE)];
        let at = (0..live.len()).rev().find(|&at| self.begins_start(LIVE, at))?;
        match live[at].kind {
            ScreenKind::Start { from: None } => Some((at, None)),
            _ => self.keys.get(&live[at].point.segment).map(|key| (at, Some(key))),
        }
    }

    fn begins_start(&self, rendition: Rendition, at: usize) -> bool {
        let sent = &self.lanes[lane(rendition)];
        matches!(sent[at].kind, ScreenKind::Start { .. }) && (at == 0 || !sent[at - 1].more)
    }
}

/// A subscriber as the relay sees it, and its viewer.
struct Member {
    viewer: Viewer,
    rendition: Rendition,
    /// The record that it is sent next.
    next: usize,
    /// Up to this record (exclusive), and then that one of the other rendition.
    crossing: Option<(usize, usize)>,
    /// On its way, by lane: live, reduced, live's keys.
    way: [VecDeque<(u64, Sent)>; 3],
    /// Starts up to here were looked at for a way across.
    seen: [usize; 2],
    wants: Rendition,
    /// The first record of this rendition whose shadow it has, or will have.
    first: usize,
    /// When the newest record that it was sent was made.
    had: u64,
}

impl Member {
    fn enter(publisher: &Publisher) -> Option<Self> {
        let mut member = Self {
            viewer: Viewer::new(ViewerLimits::default(), PixelOrder::Bgra),
            rendition: LIVE,
            next: 0,
            crossing: None,
            way: Default::default(),
            seen: [0; 2],
            wants: LIVE,
            first: 0,
            had: 0,
        };
        member.enter_anew(publisher).then_some(member)
    }

    /// Its place was lost: the newest segment is entered.
    fn enter_anew(&mut self, publisher: &Publisher) -> bool {
        let Some((at, key)) = publisher.entry() else { return false };
        // Nobody is led back.
        if self.had >= publisher.times[lane(LIVE)][at] {
            return false;
        }
        (self.rendition, self.next, self.crossing, self.wants) = (LIVE, at, None, LIVE);
        self.first = at;
        self.way[2].extend(key.map(|key| (0, key.clone())));
        self.look(publisher);
        true
    }

    /// Looks at new starts: a live one from black takes everybody, others those who can use them.
    fn look(&mut self, publisher: &Publisher) {
        for rendition in BOTH {
            for at in self.seen[lane(rendition)]..publisher.lanes[lane(rendition)].len() {
                if publisher.begins_start(rendition, at) {
                    self.see(publisher, rendition, at);
                }
            }
            self.seen[lane(rendition)] = publisher.lanes[lane(rendition)].len();
        }
    }

    fn see(&mut self, publisher: &Publisher, rendition: Rendition, at: usize) {
        let ScreenKind::Start { from } = publisher.lanes[lane(rendition)][at].kind else { return };
        match from {
            None if rendition == LIVE && self.rendition == REDUCED => {
                (self.rendition, self.next, self.crossing, self.wants) = (LIVE, at, None, LIVE);
                self.first = at;
            }
            None if rendition == LIVE => (self.crossing, self.wants) = (None, LIVE),
            Some(from)
                if from.rendition == self.rendition
                    && rendition == self.wants
                    && rendition != self.rendition =>
            {
                let until = publisher.find(from) + 1;
                if self.first < until && self.next <= until && self.crossing.is_none() {
                    self.crossing = Some((until, at));
                }
            }
            _ => {}
        }
    }

    /// The relay sends it the next record.
    fn pump(&mut self, publisher: &Publisher) -> bool {
        if let Some((until, then)) = self.crossing
            && until == self.next
        {
            self.rendition = if self.rendition == LIVE { REDUCED } else { LIVE };
            (self.next, self.first, self.crossing) = (then, then, None);
        }
        let Some(sent) = publisher.lanes[lane(self.rendition)].get(self.next) else { return false };
        let time = publisher.times[lane(self.rendition)][self.next];
        self.way[lane(self.rendition)].push_back((time, sent.clone()));
        self.next += 1;
        self.had = self.had.max(time);
        true
    }

    /// The next record of a lane arrives.
    fn arrive(&mut self, publisher: &Publisher, lane: usize) -> bool {
        let Some((time, sent)) = self.way[lane].pop_front() else { return false };
        match self.viewer.apply(sent.kind, sent.point, time, sent.more, &sent.body) {
            Outcome::Applied { point, .. } => {
                let expected = &publisher.shadows[&(point.rendition, point.seq)];
                assert!(
                    colours(self.viewer.decoder().picture()) == *expected,
                    "another picture at {point:?}"
                );
            }
            Outcome::Lost(why) => panic!("{why} at {:?} {:?}", sent.kind, sent.point),
            Outcome::Held | Outcome::Skipped => {}
        }
        true
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Draw(Rect, Content, u64),
    Scroll(u16),
    Resize(u16, u16),
    Layout(u32),
    Encode(bool, usize),
    EncodeInVain(bool),
    /// The connection was lost, and with it what one lane had on its way; nobody had seen it.
    Restart(bool),
    RunJob,
    Join,
    Key,
    Fork(usize),
    Merge,
    Off,
    Lose(usize),
    Pump(usize, usize),
    Arrive(usize, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let rect = (0u16..200, 0u16..100, 1u16..150, 1u16..80).prop_map(|(x, y, w, h)| Rect { x, y, w, h });
    let content =
        prop_oneof![Just(Content::Flat), Just(Content::Noise), Just(Content::Blocks), Just(Content::Smooth)];
    let who = || 0usize..8;
    let budget = prop_oneof![1 => Just(usize::MAX), 3 => 0usize..9000];
    prop_oneof![
        4 => (rect, content, any::<u64>()).prop_map(|(rect, content, seed)| Step::Draw(rect, content, seed)),
        1 => (1u16..60).prop_map(Step::Scroll),
        1 => prop_oneof![8 => Just(None), 1 => (20u16..200, 20u16..100).prop_map(Some)]
            .prop_map(|size| size.map_or(Step::RunJob, |(w, h)| Step::Resize(w, h))),
        1 => prop_oneof![8 => Just(None), 1 => (1u32..9).prop_map(Some)]
            .prop_map(|generation| generation.map_or(Step::RunJob, Step::Layout)),
        12 => (any::<bool>(), budget).prop_map(|(reduced, budget)| Step::Encode(reduced, budget)),
        1 => prop_oneof![
            8 => Just(Step::RunJob),
            1 => any::<bool>().prop_map(Step::EncodeInVain),
            1 => any::<bool>().prop_map(Step::Restart),
        ],
        4 => Just(Step::RunJob),
        1 => Just(Step::Join),
        1 => Just(Step::Key),
        2 => who().prop_map(Step::Fork),
        2 => Just(Step::Merge),
        1 => Just(Step::Off),
        1 => who().prop_map(Step::Lose),
        12 => (who(), 1usize..6).prop_map(|(who, records)| Step::Pump(who, records)),
        16 => (who(), 0usize..3, 1usize..6).prop_map(|(who, lane, records)| Step::Arrive(who, lane, records)),
    ]
}

struct Scene {
    publisher: Publisher,
    members: Vec<Member>,
}

impl Scene {
    fn new(size: Size, part_max: usize) -> Self {
        let mut publisher = Publisher::new(size, part_max);
        publisher.want(Want { on: true, ..Want::default() });
        assert!(publisher.encode(LIVE, usize::MAX), "the first picture, even if it is black");
        let members = vec![Member::enter(&publisher).unwrap()];
        Self { publisher, members }
    }

    fn is_reduced_needed(&self) -> bool {
        let needs = |member: &Member| {
            member.rendition == REDUCED || member.wants == REDUCED || member.crossing.is_some()
        };
        self.members.iter().any(needs)
    }

    fn step(&mut self, step: Step) {
        let which = |reduced: bool| if reduced { REDUCED } else { LIVE };
        let is_reduced_needed = self.is_reduced_needed();
        let publisher = &mut self.publisher;
        match step {
            Step::Draw(rect, content, seed) => {
                draw(&mut publisher.picture, rect, content, seed);
                publisher.damage.push(rect);
            }
            Step::Scroll(rows) => {
                scroll(&mut publisher.picture, rows);
                publisher.damage.push(publisher.picture.size().rect());
            }
            Step::Resize(w, h) => {
                publisher.picture = Picture::black(size(w, h));
                publisher.damage.push(size(w, h).rect());
            }
            Step::Layout(generation) => publisher.renditions.set_layout(generation),
            Step::Encode(reduced, budget) => drop(publisher.encode(which(reduced), budget)),
            Step::EncodeInVain(reduced) => publisher.encode_in_vain(which(reduced)),
            Step::Restart(reduced) => publisher.renditions.connected([which(reduced)]),
            Step::RunJob => publisher.run_job(),
            Step::Join => self.members.extend(Member::enter(publisher)),
            Step::Key => publisher.want(Want { on: true, start: true, key: true, ..Want::default() }),
            Step::Fork(who) => {
                let at = who % self.members.len();
                self.members[at].wants = REDUCED;
                publisher.want(Want { rendition: REDUCED, on: true, start: true, ..Want::default() });
            }
            Step::Merge => {
                self.members.iter_mut().for_each(|member| member.wants = LIVE);
                publisher.want(Want { rendition: REDUCED, on: true, merge: true, ..Want::default() });
            }
            Step::Off if is_reduced_needed => {}
            Step::Off => publisher.want(Want { rendition: REDUCED, ..Want::default() }),
            Step::Lose(who) => {
                let at = who % self.members.len();
                self.members[at].enter_anew(publisher);
            }
            Step::Pump(who, records) => {
                let at = who % self.members.len();
                for _ in 0..records {
                    self.members[at].pump(publisher);
                }
            }
            Step::Arrive(who, lane, records) => {
                let at = who % self.members.len();
                for _ in 0..records {
                    self.members[at].arrive(publisher, lane);
                }
            }
        }
        self.look();
    }

    fn look(&mut self) {
        for member in &mut self.members {
            member.look(&self.publisher);
        }
    }

    /// Nothing new on the screen, and time for all that is on its way.
    fn rest(&mut self) {
        self.publisher.rest();
        self.look();
        for member in &mut self.members {
            while member.pump(&self.publisher) {}
            for lane in [2, 1, 0] {
                while member.arrive(&self.publisher, lane) {}
            }
            let point = member.viewer.point().unwrap();
            assert_eq!(point.rendition, member.rendition, "where the relay believes it to be");
            let shown = colours(member.viewer.decoder().picture());
            assert!(shown == colours(self.publisher.picture.bytes()), "not the last picture at {point:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn every_viewer_shows_shadows_only_and_in_the_end_the_picture(
        (w, h) in (1u16..200, 1u16..100),
        part_max in prop_oneof![Just(1usize << 20), 200usize..3000],
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let mut scene = Scene::new(size(w, h), part_max);
        for (i, step) in steps.into_iter().enumerate() {
            scene.step(step);
            if i % 64 == 63 {
                scene.rest();
            }
        }
        scene.rest();
    }
}

/// A scene of one subscriber who sees the first picture, and a picture that has gone on.
fn scene() -> Scene {
    let mut scene = Scene::new(size(200, 100), 1 << 20);
    scene.rest();
    change(&mut scene, 1);
    scene
}

fn change(scene: &mut Scene, seed: u64) {
    let rect = Rect { x: seed as u16 * 7 % 100, y: 10, w: 60, h: 30 };
    scene.step(Step::Draw(rect, Content::Noise, seed));
}

fn kinds(scene: &Scene, rendition: Rendition) -> Vec<(ScreenKind, u64)> {
    scene.publisher.lanes[lane(rendition)].iter().map(|sent| (sent.kind, sent.point.seq)).collect()
}

#[test]
fn a_fork_begins_where_live_is_and_disturbs_it_not() {
    let mut scene = scene();
    scene.step(Step::Encode(false, usize::MAX));
    scene.publisher.want(Want { rendition: REDUCED, on: true, start: true, ..Want::default() });
    assert!(!scene.publisher.renditions.is_behind(REDUCED), "its streams are being made");
    scene.step(Step::RunJob);
    scene.step(Step::Encode(true, usize::MAX));
    let from = Point { rendition: LIVE, segment: 1, seq: 1 };
    assert_eq!(kinds(&scene, REDUCED), [(ScreenKind::Start { from: Some(from) }, 0)]);
    assert!(scene.publisher.lanes[1][0].body.len() < 20, "nothing is sent again");
    change(&mut scene, 2);
    scene.step(Step::Encode(false, usize::MAX));
    assert_eq!(kinds(&scene, LIVE)[1..], [(ScreenKind::Update, 1), (ScreenKind::Update, 2)]);
}

#[test]
fn a_second_fork_brings_reduced_to_live_and_goes_on_by_number() {
    let mut scene = scene();
    let fork = Want { rendition: REDUCED, on: true, start: true, ..Want::default() };
    scene.publisher.want(fork);
    scene.publisher.rest();
    change(&mut scene, 2);
    scene.step(Step::Encode(false, usize::MAX));
    scene.publisher.want(fork);
    change(&mut scene, 3);
    scene.publisher.rest();
    let from = scene.publisher.lanes[0].last().unwrap().point;
    let reduced = kinds(&scene, REDUCED);
    assert_eq!(reduced[1..], [(ScreenKind::Update, 1), (ScreenKind::Start { from: Some(from) }, 2)]);
    // Turned off and on again: a number is left out.
    scene.publisher.want(Want { rendition: REDUCED, ..Want::default() });
    assert!(scene.publisher.renditions.shadow(REDUCED).is_none(), "its memory is given back");
    scene.publisher.want(fork);
    scene.publisher.rest();
    assert!(matches!(kinds(&scene, REDUCED)[reduced.len()..], [(ScreenKind::Start { from: Some(_) }, 4)]));
}

#[test]
fn a_merge_holds_reduced_until_live_has_started_from_it() {
    let mut scene = scene();
    scene.step(Step::Fork(0));
    scene.rest();
    assert_eq!(scene.members[0].rendition, REDUCED);
    change(&mut scene, 2);
    scene.step(Step::Encode(false, usize::MAX));
    scene.step(Step::Merge);
    scene.step(Step::Encode(true, 0));
    change(&mut scene, 3);
    scene.step(Step::RunJob);
    assert!(!scene.publisher.renditions.is_behind(REDUCED));
    assert!(!scene.publisher.encode(REDUCED, usize::MAX), "or nobody could cross");
    scene.step(Step::Encode(false, usize::MAX));
    let from = scene.publisher.lanes[1].last().unwrap().point;
    let live = kinds(&scene, LIVE);
    let (before, start) = (live[live.len() - 2], live[live.len() - 1]);
    assert_eq!(start, (ScreenKind::Start { from: Some(from) }, before.1 + 1));
    assert!(scene.publisher.encode(REDUCED, usize::MAX), "it goes on until it is turned off");
    scene.rest();
    assert_eq!(scene.members[0].rendition, LIVE);
}

#[test]
fn one_start_answers_a_merge_and_a_key() {
    let mut scene = scene();
    scene.step(Step::Fork(0));
    scene.rest();
    scene.step(Step::Merge);
    scene.step(Step::Encode(true, 0));
    scene.step(Step::Key);
    let before = scene.publisher.lanes[0].len();
    scene.rest();
    scene.step(Step::Join);
    scene.rest();
    let starts =
        (before..scene.publisher.lanes[0].len()).filter(|&at| scene.publisher.begins_start(LIVE, at));
    assert_eq!(starts.count(), 1);
    assert_eq!(scene.members.len(), 2, "the second entered by the key");
}

#[test]
fn what_was_asked_for_before_another_layout_comes_after_it() {
    let mut scene = scene();
    scene.publisher.want(Want { rendition: REDUCED, on: true, start: true, ..Want::default() });
    scene.step(Step::Key);
    scene.step(Step::Layout(2));
    scene.publisher.rest();
    let live = scene.publisher.lanes[0].last().unwrap();
    assert_eq!((live.kind, live.point.segment), (ScreenKind::Start { from: None }, 3), "2 was the key's");
    let [.., (kind, _)] = kinds(&scene, REDUCED)[..] else { panic!("there is no fork") };
    assert_eq!(kind, ScreenKind::Start { from: Some(live.point) });
}
