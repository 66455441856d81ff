//! A publisher that follows docs/protocol.md, section 6. A picture is a number, black is 0; an update's body says from which
//! picture to which it leads.

use std::collections::{HashMap, VecDeque};

use tandem_protocol::message::{Want, control, types};
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
    /// The next record is a start that goes on from a shadow.
    due: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    from: Point,
    /// It does not go on from the record before it.
    skips: bool,
}

impl Coder {
    /// Forgets all but numbers.
    fn end(&mut self) {
        // The key of the start that will not come may be out.
        self.segment += u32::from(self.due.is_some());
        (self.shadow, self.last, self.due) = (None, None, None);
    }

    /// Makes the next record a start from the last one, or from one of the other rendition with the same shadow.
    fn start(&mut self, other: Option<Point>) {
        let due = self.due.or_else(|| self.last.map(|from| Due { from, skips: false }));
        self.due = due.map(|due| Due { from: other.unwrap_or(due.from), ..due });
    }
}

/// Why reduced's shadow is to be brought to live's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    Fork,
    Merge,
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
    /// Somebody sees a rendition, as far as the relay has said: else nothing is sent of it.
    seen: [bool; 2],
    meeting: Option<Meeting>,
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
            seen: [true; 2],
            meeting: None,
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
        if !self.on[which] || !self.seen[which] || (which == 1 && (self.is_merging() || self.meets(parts))) {
            return;
        }
        let Coder { shadow, due, .. } = &self.coders[which];
        if due.is_none() && *shadow == Some(self.screen) || (which == 1 && shadow.is_none()) {
            return;
        }
        let (due, shadow) = (*due, *shadow);
        let to = if partly { self.new_picture() } else { self.screen };
        match (due, shadow) {
            (Some(due), Some(_)) => self.start(which, Some(due.from), to, due.skips, parts),
            (None, Some(_)) => self.send(which, ScreenKind::Update, to, parts, len),
            (_, None) => self.start(which, None, to, false, parts),
        }
    }

    /// Live's start from reduced is still to come: until then reduced does not go on.
    fn is_merging(&self) -> bool {
        self.on[0] && self.coders[0].due.is_some_and(|due| due.from.rendition == Rendition::REDUCED)
    }

    /// Does what reduced was brought together with live for, or does that first. Whether a record was sent for it.
    fn meets(&mut self, parts: usize) -> bool {
        self.fork();
        let (Some(meeting), Some(own)) = (self.meeting, self.coders[1].shadow) else { return false };
        let (Some(shadow), Some(shown)) = (self.coders[0].shadow, self.coders[0].last) else { return false };
        let differs = own != shadow || self.coders[1].last.is_none();
        if differs {
            match self.coders[1].due {
                Some(due) => self.start(1, Some(due.from), shadow, due.skips, parts),
                None => self.send(1, ScreenKind::Update, shadow, parts, 24),
            }
        }
        self.meeting = None;
        match meeting {
            Meeting::Fork => self.coders[1].start(Some(shown)),
            Meeting::Merge => {
                let last = self.coders[1].last;
                self.coders[0].start(last);
            }
        }
        differs
    }

    /// If there is no reduced rendition: makes it out of live, as soon as there is a shadow of live that somebody may hold.
    fn fork(&mut self) {
        let [live, reduced] = &mut self.coders;
        if let (Some(Meeting::Fork), None, Some(shadow), Some(from)) =
            (self.meeting, reduced.shadow, live.shadow, live.last)
        {
            (reduced.shadow, reduced.last) = (Some(shadow), None);
            reduced.due = Some(Due { from, skips: reduced.next_seq > 0 });
            self.meeting = None;
        }
    }

    fn start(&mut self, which: usize, from: Option<Point>, to: u64, skips: bool, parts: usize) {
        let coder = &mut self.coders[which];
        coder.segment += 1;
        coder.due = None;
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

    /// The relay asks for something, or says who sees it.
    pub fn hear(&mut self, message: &control::Message) {
        match message {
            control::Message::Want(want) => self.want(want),
            control::Message::Feedback(feedback) => {
                self.seen[feedback.rendition as usize] = feedback.subscriber != 0;
            }
            _ => {}
        }
    }

    fn want(&mut self, want: &Want) {
        if want.rendition == 1 && !self.knows_renditions {
            return;
        }
        let which = want.rendition as usize;
        self.on[which] = want.on;
        if which == 1 && !want.on {
            self.coders[1].end();
            self.meeting = None;
        }
        if !want.on || self.requests.contains(&want.request_id) {
            return;
        }
        self.requests.push(want.request_id);
        match (which, want.start, want.merge_into) {
            (0, true, _) => self.start_live(want.key),
            (1, true, _) if self.coders[1].due.is_none() => {
                self.meeting = Some(Meeting::Fork);
                self.fork();
            }
            (1, false, Some(0)) => {
                self.meeting = Some(Meeting::Merge).filter(|_| self.coders[1].shadow.is_some());
            }
            _ => {}
        }
    }

    /// Live's next record begins a segment, whose key goes ahead of it.
    fn start_live(&mut self, key: bool) {
        let (Some(shadow), Some(last)) = (self.coders[0].shadow, self.coders[0].last) else { return };
        self.coders[0].start(None);
        if key {
            self.key(shadow, last);
        }
    }

    /// A key in two parts.
    fn key(&mut self, shadow: u64, shows: Point) {
        let point = Point { segment: self.coders[0].segment + 1, ..shows };
        let body = [shadow.to_le_bytes(), [0; 8]].concat();
        for (at, part) in body.chunks(8).enumerate() {
            let record = self.record(point, ScreenKind::Key, at == 0, part);
            self.pipes[KEYS].push_back(record);
        }
    }

    /// The screen has another size: everything begins from black, and who cannot follow leaves live anew.
    pub fn resize(&mut self) {
        self.paint();
        if self.coders[0].shadow.is_none() {
            return;
        }
        let forked = self.coders[1].shadow.is_some() || self.meeting == Some(Meeting::Fork);
        self.coders.iter_mut().for_each(Coder::end);
        self.meeting = forked.then_some(Meeting::Fork);
    }

    /// The program starts anew.
    pub fn restart(&mut self) {
        self.epoch += 1;
        self.coders = Default::default();
        (self.on, self.seen, self.meeting) = ([false; 2], [true; 2], None);
        self.requests.clear();
        self.pipes = Default::default();
        self.log = Default::default();
        self.paint();
    }

    /// The number of live's next record.
    pub fn next_seq(&self) -> u64 {
        self.coders[0].next_seq
    }

    /// A point from which all of live can be sent again: the end of a body that a relay had, of which `seq` was the last record.
    pub fn keeps(&self, how_much: u8, seq: u64) -> Option<Point> {
        let is_end =
            |record: &&Record| record.header.seq <= seq && !record.header.flags.contains(Flags::MORE);
        let ends: Vec<&Record> = self.log[0].iter().filter(is_end).collect();
        let last = ends.get(ends.len() * usize::from(how_much) / 256)?;
        let segment = last.header.screen?.segment;
        Some(Point { rendition: Rendition::LIVE, segment, seq: last.header.seq })
    }

    /// It comes back: what the relay lacks is sent again, but for keys, which are not kept. A rendition of which it knows nothing
    /// begins anew.
    pub fn resume(&mut self, next_seq: [Option<u64>; 2]) {
        self.requests.clear();
        self.seen = [true; 2];
        self.pipes[KEYS].clear();
        for (which, next_seq) in next_seq.into_iter().enumerate() {
            let Some(next_seq) = next_seq else {
                self.coders[which].end();
                self.log[which].clear();
                self.pipes[which].clear();
                continue;
            };
            let missing = self.log[which].iter().filter(|record| record.header.seq >= next_seq);
            self.pipes[which] = missing.cloned().collect();
        }
        if next_seq[1].is_none() {
            self.meeting = None;
        }
    }
}
