//! A subscriber that follows docs/protocol.md, section 6: it takes the records of each screen lane in order, and knows of the
//! relay nothing but what arrives.

use std::collections::VecDeque;

use tandem_protocol::{Flags, Point, Record, Rendition, ScreenKind};

use super::publisher::Published;

/// A body put together from its records.
#[derive(Clone, Debug)]
struct Body {
    kind: ScreenKind,
    epoch: u64,
    /// Of its first record.
    first: u64,
    /// Of its last.
    point: Point,
    bytes: Vec<u8>,
}

/// What a subscriber shows, and what it holds until it can be shown.
#[derive(Debug, Default)]
pub struct Viewer {
    shown: Option<(u64, Point)>,
    picture: u64,
    order: u64,
    /// The rendition of the last update that it showed.
    read_last: Option<Rendition>,
    lanes: [VecDeque<Body>; 2],
    parts: [Option<Body>; 3],
    key: Option<Body>,
    epoch: Option<u64>,
    /// Epochs that are over.
    left: Vec<u64>,
}

enum Verdict {
    Apply,
    ApplyKeyFirst,
    Skip,
    Wait,
}

impl Body {
    fn picture(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }
}

impl Viewer {
    /// What it shows.
    pub fn picture(&self) -> u64 {
        self.picture
    }

    /// Which update it shows, if any, and of which epoch.
    pub fn shown(&self) -> Option<(u64, Point)> {
        self.shown
    }

    /// Bodies that wait for something of this epoch.
    pub fn held(&self) -> usize {
        self.lanes.iter().flatten().filter(|body| Some(body.epoch) == self.epoch).count()
    }

    /// Forgets what it shows: a body was damaged.
    pub fn lose_step(&mut self) {
        self.shown = None;
        self.key = None;
    }

    /// The connection is gone, with all that was on its way. Who cannot go on where it was may be shown the past again.
    pub fn disconnected(&mut self) {
        let (epoch, left) = (self.epoch, std::mem::take(&mut self.left));
        *self = Self { shown: self.shown, picture: self.picture, epoch, left, ..Self::default() };
    }

    /// A record arrived on a lane.
    pub fn record(&mut self, pipe: usize, record: &Record, published: &Published) {
        let header = &record.header;
        let screen = header.screen.unwrap();
        let point = Point { rendition: screen.rendition, segment: screen.segment, seq: header.seq };
        let more = header.flags.contains(Flags::MORE);
        if self.left.contains(&header.epoch) {
            return;
        }
        if self.epoch != Some(header.epoch) && pipe == 0 {
            // The publisher began anew: nothing of before counts. On other lanes what is new may come sooner.
            self.left.extend(self.epoch.replace(header.epoch));
            for lane in &mut self.lanes {
                lane.retain(|body| !self.left.contains(&body.epoch));
            }
            for part in &mut self.parts {
                part.take_if(|part| self.left.contains(&part.epoch));
            }
            self.key.take_if(|key| self.left.contains(&key.epoch));
        }
        // A start that does not go on with an unfinished body makes it void.
        let goes_on = |begun: &Body| {
            begun.epoch == header.epoch && (begun.kind, begun.point.segment) == (screen.kind, point.segment)
        };
        let begins = matches!(screen.kind, ScreenKind::Start { .. });
        let begun = self.parts[pipe].take().filter(|begun| goes_on(begun) || !begins);
        let whole = match begun {
            None => Body {
                kind: screen.kind,
                epoch: header.epoch,
                first: point.seq,
                point,
                bytes: record.body().to_vec(),
            },
            Some(mut begun) => {
                let step = u64::from(screen.kind != ScreenKind::Key);
                assert_eq!((begun.kind, begun.point.seq + step), (screen.kind, point.seq), "torn bodies");
                begun.point = point;
                begun.bytes.extend_from_slice(record.body());
                begun
            }
        };
        if more {
            self.parts[pipe] = Some(whole);
        } else if screen.kind == ScreenKind::Key {
            self.key = Some(whole);
        } else {
            if whole.kind == (ScreenKind::Start { from: None }) {
                // Whatever waits before it leads nowhere.
                self.lanes[pipe].clear();
            }
            self.lanes[pipe].push_back(whole);
        }
        self.go_on(published);
    }

    fn go_on(&mut self, published: &Published) {
        loop {
            let mut moved = false;
            for lane in 0..2 {
                let Some(next) = self.lanes[lane].front() else { continue };
                if Some(next.epoch) != self.epoch {
                    // Of an epoch to come, or of one that is over without ever having been seen: then others follow.
                    if self.lanes[lane].iter().any(|body| Some(body.epoch) == self.epoch) {
                        self.lanes[lane].pop_front();
                        moved = true;
                    }
                    continue;
                }
                let verdict = self.judge(next);
                if matches!(verdict, Verdict::Wait) {
                    continue;
                }
                moved = true;
                let body = self.lanes[lane].pop_front().unwrap();
                match verdict {
                    Verdict::Apply => self.apply(&body, published),
                    Verdict::ApplyKeyFirst => {
                        let key = self.key.take().unwrap();
                        if self.read_last != Some(key.point.rendition) {
                            // Renditions are not in step with one another: a key of the other may be a little behind.
                            self.order = 0;
                        }
                        self.picture = key.picture(0);
                        self.apply(&body, published);
                    }
                    Verdict::Skip | Verdict::Wait => {}
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn judge(&self, body: &Body) -> Verdict {
        let shown = self.shown.filter(|&(epoch, _)| epoch == body.epoch).map(|(_, point)| point);
        let key = self.key.as_ref().filter(|key| key.epoch == body.epoch);
        let ScreenKind::Start { from } = body.kind else {
            return match shown {
                Some(shown) if shown.rendition == body.point.rendition => {
                    assert!(
                        body.first <= shown.seq + 1,
                        "updates are missing before {body:?}, shown {shown:?}"
                    );
                    if body.first == shown.seq + 1 { Verdict::Apply } else { Verdict::Skip }
                }
                _ => Verdict::Skip,
            };
        };
        let Some(from) = from else { return Verdict::Apply };
        let goes_on = shown.is_some_and(|shown| {
            shown == from || (shown.rendition == body.point.rendition && shown.seq + 1 == body.first)
        });
        if goes_on {
            return Verdict::Apply;
        }
        if let Some(key) = key.filter(|key| key.point.rendition == body.point.rendition) {
            if key.point.segment == body.point.segment {
                return Verdict::ApplyKeyFirst;
            }
            // One that the key leads past is not waited for any more.
            if body.first <= key.point.seq {
                return Verdict::Skip;
            }
        }
        match shown {
            Some(shown) if shown.rendition == body.point.rendition && body.point.seq <= shown.seq => {
                Verdict::Skip
            }
            Some(shown) if shown.rendition == from.rendition && from.seq < shown.seq => Verdict::Skip,
            _ => Verdict::Wait,
        }
    }

    fn apply(&mut self, body: &Body, published: &Published) {
        if body.kind == (ScreenKind::Start { from: None }) {
            self.picture = 0;
        }
        assert_eq!(self.picture, body.picture(0), "{:?} was applied to another picture", body.point);
        self.picture = body.picture(8);
        let (picture, order) = published[&(body.epoch, body.point)];
        assert_eq!(self.picture, picture);
        assert!(order > self.order, "it shows something that is older than what it showed");
        self.order = order;
        self.read_last = Some(body.point.rendition);
        self.shown = Some((body.epoch, body.point));
    }
}

/// The pipe of a lane towards a subscriber: live, reduced, keys.
pub fn pipe(kind: tandem_protocol::LaneKind, rendition: Rendition) -> usize {
    match kind {
        tandem_protocol::LaneKind::Key => 2,
        _ => usize::from(rendition == Rendition::REDUCED),
    }
}
