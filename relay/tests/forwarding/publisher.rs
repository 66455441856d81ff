//! A publisher that follows docs/protocol.md, section 6. A picture is a number, black is 0; an update's body says from which
//! picture to which it leads.

use std::collections::{HashMap, VecDeque};

use tandem_protocol::message::{Want, types};
use tandem_protocol::{
    DisplayId, Flags, Header, LaneKey, LaneKind, Point, Record, Rendition, ScreenHeader, ScreenKind, Sender,
};

/// The publisher's number.
pub const PUBLISHER: Sender = Sender(1);
/// Its display.
pub const DISPLAY: DisplayId = DisplayId(0);

/// An encoder's end of a rendition.
#[derive(Debug, Default)]
struct Coder {
    /// The picture that those in step hold; `None`: there is no encoder.
    shadow: Option<u64>,
    segment: u32,
    next_seq: u64,
    last: Option<Point>,
}

/// What was shown by whom: of every point of an epoch its picture, and when in the order of all.
pub type Published = HashMap<(u64, Point), (u64, u64)>;

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    pub epoch: u64,
    knows_renditions: bool,
    screen: u64,
    pictures: u64,
    on: [bool; 2],
    coders: [Coder; 2],
    requests: Vec<u32>,
    /// Records on their way to the relay, by lane.
    pub pipes: [VecDeque<Record>; 3],
    /// All records of this epoch, by rendition: for a resume.
    log: [Vec<Record>; 2],
    pub published: Published,
    order: u64,
}

/// Indexes of the pipes.
pub const KEYS: usize = 2;

/// The lane of a pipe.
pub fn lane(pipe: usize) -> LaneKey {
    let kind = if pipe == KEYS { LaneKind::Key } else { LaneKind::Screen };
    let rendition = if pipe == 1 { Rendition::REDUCED } else { Rendition::LIVE };
    LaneKey::screen(kind, DISPLAY, rendition, PUBLISHER)
}

impl Publisher {
    pub fn new(knows_renditions: bool) -> Self {
        Self {
            epoch: 1,
            knows_renditions,
            screen: 1,
            pictures: 1,
            on: [false; 2],
            coders: Default::default(),
            requests: Vec::new(),
            pipes: Default::default(),
            log: Default::default(),
            published: HashMap::new(),
            order: 0,
        }
    }

    /// What the screen shows.
    pub fn screen(&self) -> u64 {
        self.screen
    }

    /// Whether there is a reduced encoder.
    pub fn has_reduced(&self) -> bool {
        self.coders[1].shadow.is_some()
    }

    fn new_picture(&mut self) -> u64 {
        self.pictures += 1;
        self.pictures
    }

    /// The screen changes.
    pub fn paint(&mut self) {
        self.screen = self.new_picture();
    }

    /// Encodes the screen, or only a part of what changed; in so many records of so many bytes.
    pub fn encode(&mut self, which: usize, partly: bool, parts: usize, len: usize) {
        let coder = &self.coders[which];
        if !self.on[which] || (which == 1 && coder.shadow.is_none()) || coder.shadow == Some(self.screen) {
            return;
        }
        let to = if partly { self.new_picture() } else { self.screen };
        match self.coders[which].shadow {
            Some(_) => self.update(which, to, parts, len),
            None => self.start(which, None, to, false, parts),
        }
    }

    fn update(&mut self, which: usize, to: u64, parts: usize, len: usize) {
        self.send(which, ScreenKind::Update, to, parts, len);
    }

    fn start(&mut self, which: usize, from: Option<Point>, to: u64, skips: bool, parts: usize) {
        let coder = &mut self.coders[which];
        coder.segment += 1;
        if skips {
            coder.next_seq += 1;
        }
        if from.is_none() {
            coder.shadow = Some(0);
        }
        self.send(which, ScreenKind::Start { from }, to, parts, 24);
    }

    fn send(&mut self, which: usize, kind: ScreenKind, to: u64, parts: usize, len: usize) {
        let base = self.coders[which].shadow.unwrap_or(0);
        let mut body = vec![0; len.max(24)];
        body[..8].copy_from_slice(&base.to_le_bytes());
        body[8..16].copy_from_slice(&to.to_le_bytes());
        let size = body.len().div_ceil(parts.max(1));
        let chunks = body.chunks(size).count();
        for (at, part) in body.chunks(size).enumerate() {
            let coder = &mut self.coders[which];
            let point =
                Point { rendition: Rendition(which as u8), segment: coder.segment, seq: coder.next_seq };
            coder.next_seq += 1;
            coder.last = Some(point);
            let record = self.record(point, kind, at + 1 < chunks, part);
            self.log[which].push(record.clone());
            self.pipes[which].push_back(record);
        }
        self.coders[which].shadow = Some(to);
        if let Some(point) = self.coders[which].last {
            self.order += 1;
            self.published.insert((self.epoch, point), (to, self.order));
        }
    }

    fn record(&self, point: Point, kind: ScreenKind, more: bool, body: &[u8]) -> Record {
        let screen =
            ScreenHeader { display: DISPLAY, rendition: point.rendition, segment: point.segment, kind };
        let header = Header {
            record_type: types::SCREEN,
            flags: if more { Flags::MORE } else { Flags::default() },
            sender: PUBLISHER,
            key_id: 0,
            epoch: self.epoch,
            seq: point.seq,
            time_us: 0,
            screen: Some(screen),
        };
        Record::new(header, body)
    }

    /// The relay asks.
    pub fn want(&mut self, want: &Want) {
        if want.rendition == 1 && !self.knows_renditions {
            return;
        }
        let which = want.rendition as usize;
        self.on[which] = want.on;
        if !want.on {
            if which == 1 {
                self.coders[1].shadow = None;
            }
            return;
        }
        if self.requests.contains(&want.request_id) {
            return;
        }
        self.requests.push(want.request_id);
        let Some((shadow, last)) = self.coders[0].shadow.zip(self.coders[0].last) else { return };
        match (which, want.start, want.merge_into) {
            (0, true, _) => {
                self.start(0, Some(last), shadow, false, 1);
                if want.key {
                    self.key(shadow, last);
                }
            }
            (1, true, _) => self.fork(shadow, last),
            (1, false, Some(0)) => self.merge(shadow),
            _ => {}
        }
    }

    /// A key in two parts.
    fn key(&mut self, shadow: u64, shows: Point) {
        let point = Point { segment: self.coders[0].segment, ..shows };
        let body = [shadow.to_le_bytes(), [0; 8]].concat();
        for (at, part) in body.chunks(8).enumerate() {
            let record = self.record(point, ScreenKind::Key, at == 0, part);
            self.pipes[KEYS].push_back(record);
        }
    }

    fn fork(&mut self, shadow: u64, last: Point) {
        match self.coders[1].shadow {
            None => {
                self.coders[1].shadow = Some(shadow);
                let skips = self.coders[1].next_seq > 0;
                self.start(1, Some(last), shadow, skips, 1);
            }
            Some(own) => {
                if own != shadow {
                    self.update(1, shadow, 1, 24);
                }
                self.start(1, Some(last), shadow, false, 1);
            }
        }
    }

    fn merge(&mut self, shadow: u64) {
        let Some(own) = self.coders[1].shadow else { return };
        if own != shadow {
            self.update(1, shadow, 1, 24);
        }
        let from = self.coders[1].last;
        self.start(0, from, shadow, false, 1);
    }

    /// The screen has another size: everything begins from black.
    pub fn resize(&mut self) {
        self.paint();
        if self.coders[0].shadow.is_none() {
            return;
        }
        self.start(0, None, self.screen, false, 2);
        if self.coders[1].shadow.take().is_some() {
            let Some(last) = self.coders[0].last else { return };
            self.coders[1].shadow = Some(self.screen);
            self.start(1, Some(last), self.screen, true, 1);
        }
    }

    /// The program starts anew.
    pub fn restart(&mut self) {
        self.epoch += 1;
        self.coders = Default::default();
        self.on = [false; 2];
        self.requests.clear();
        self.pipes = Default::default();
        self.log = Default::default();
        self.paint();
    }

    /// It comes back: what the relay lacks is sent again; keys are not kept.
    pub fn resume(&mut self, next_seq: [u64; 2]) {
        self.requests.clear();
        self.pipes[KEYS].clear();
        for (which, next_seq) in next_seq.into_iter().enumerate() {
            let missing = self.log[which].iter().filter(|record| record.header.seq >= next_seq);
            self.pipes[which] = missing.cloned().collect();
        }
    }
}
