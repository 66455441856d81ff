//! Which input is acted upon. Plain state: records come in, acts come out, and every record that is dropped is counted by
//! reason.
//!
//! Input passes in order, while its sender may control and no prompt is open. Buttons and wheels that were aimed at another
//! arrangement of the displays are dropped, and so is what arrives more than a second late, or was made before its sender
//! might control: it would act where nobody expects it any more. Releases always pass, for nothing is worse than a key that
//! stays down.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;
use tandem_capture::held::Action;
use tandem_capture::{HeldKeys, Holdable};
use tandem_protocol::message::{self, InputReport, types};
use tandem_protocol::{DisplayId, Header, Record, Sender, limits};

/// Reports of what was done with input go out no more often than this.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Clocks drift apart by so much at most, in millionths.
const DRIFT: u32 = 200;

/// What to do to the computer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Press or release.
    Hold(Holdable, bool),
    /// Move the pointer.
    Motion(DisplayId, i32, i32),
    /// Type.
    Text(String),
    /// Turn the wheels, in 1/120 of a notch.
    Wheel(i32, i32),
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Gate {
    generation: u32,
    controllers: BTreeMap<Sender, Option<Instant>>,
    hands: BTreeMap<Sender, Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    held: HeldKeys,
    clock: Option<Clock>,
    report: InputReport,
    reported: Option<Instant>,
    unreported: bool,
}

/// The other's clock as seen here.
#[derive(Clone, Copy, Debug)]
struct Clock {
    epoch: u64,
    /// What it showed, µs, when it was seen last, as far as its most punctual record tells.
    theirs: u64,
    seen: Instant,
}

impl Gate {
    /// Nobody may control, no display is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The displays are arranged anew.
    pub fn layout(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// From now on these participants may control, and nobody else. What the others held is to be released. What one of these made
    /// before this time (`None`: ever) is not to be done: while they might not control it waits at their end, and is sent after all
    /// as soon as they may.
    pub fn controllers(&mut self, controllers: BTreeMap<Sender, Option<Instant>>) -> Vec<Act> {
        let mut acts = Vec::new();
        for (who, hands) in &mut self.hands {
            if !controllers.contains_key(who) {
                acts.extend(released(hands.held.release_all()));
            }
        }
        self.controllers = controllers;
        acts
    }

    /// A record of another lane of `who`'s: it tells their clock, so that the first input is not what has to.
    pub fn heard(&mut self, who: Sender, header: &Header, now: Instant) {
        self.hands(who).lateness(header, now);
    }

    fn hands(&mut self, who: Sender) -> &mut Hands {
        self.hands.entry(who).or_insert_with(|| Hands {
            report: InputReport { participant: who.0.into(), ..InputReport::default() },
            ..Hands::default()
        })
    }

    /// A record of `who`'s input lane.
    pub fn record(&mut self, who: Sender, record: &Record, now: Instant) -> Vec<Act> {
        let (generation, since) = (self.generation, self.controllers.get(&who).copied());
        let hands = self.hands(who);
        let timely = timely(hands.lateness(&record.header, now), since.flatten(), now);
        let body = record.body();
        let acts = match record.header.record_type {
            _ if since.is_none() => Err(Dropped::Right),
            types::KEY => hands.key(body, timely, now),
            types::TEXT => timely.and_then(|()| text(body)),
            types::BUTTON => hands.button(body, generation, timely, now),
            types::WHEEL => wheel(body, generation, timely),
            types::MOTION => timely.and_then(|()| motion(body)),
            types::HELD => hands.restated(body, now),
            // A message of a later version: not ours to judge.
            _ => Err(Dropped::Unknown),
        };
        hands.count(&acts);
        acts.unwrap_or_default()
    }

    /// When to call [`expire`](Self::expire) next.
    pub fn deadline(&self) -> Option<Instant> {
        let silent = self.hands.values().filter_map(|hands| hands.held.deadline());
        silent.chain(self.hands.values().filter_map(Hands::report_due)).min()
    }

    /// Releases what is held by those who fell silent.
    pub fn expire(&mut self, now: Instant) -> Vec<Act> {
        self.hands.values_mut().flat_map(|hands| released(hands.held.expire(now))).collect()
    }

    /// What became of input, for those who have not been told.
    pub fn reports(&mut self, now: Instant) -> Vec<InputReport> {
        let due = self.hands.values_mut().filter(|hands| hands.report_due().is_some_and(|due| due <= now));
        due.map(|hands| {
            (hands.unreported, hands.reported) = (false, Some(now));
            hands.report
        })
        .collect()
    }

    /// Releases everything that anybody holds.
    pub fn release_all(&mut self) -> Vec<Act> {
        self.hands.values_mut().flat_map(|hands| released(hands.held.release_all())).collect()
    }
}

/// Why a record is not acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    Generation,
    Late,
    Right,
    Unknown,
}

/// Whether what is to be done now, though it is so late, may be: by someone who may control since then.
fn timely(lateness: Duration, since: Option<Instant>, now: Instant) -> Result<(), Dropped> {
    if lateness > limits::INPUT_AGE_MAX {
        return Err(Dropped::Late);
    }
    let is_early = since.is_some_and(|since| lateness > now.saturating_duration_since(since));
    if is_early { Err(Dropped::Right) } else { Ok(()) }
}

impl Hands {
    /// How much longer this record took than the most punctual one of its epoch.
    fn lateness(&mut self, header: &Header, now: Instant) -> Duration {
        let (epoch, sent) = (header.epoch, header.time_us);
        let theirs = match self.clock.filter(|clock| clock.epoch == epoch) {
            Some(clock) => {
                let passed = now.saturating_duration_since(clock.seen);
                let least = (passed - passed * DRIFT / 1_000_000).as_micros() as u64;
                clock.theirs.saturating_add(least).max(sent)
            }
            None => sent,
        };
        self.clock = Some(Clock { epoch, theirs, seen: now });
        Duration::from_micros(theirs - sent)
    }

    fn key(&mut self, body: &[u8], timely: Result<(), Dropped>, now: Instant) -> Result<Vec<Act>, Dropped> {
        let key = message::Key::decode(body).map_err(|_| Dropped::Unknown)?;
        self.hold(Holdable::Key(key.usage), key.down, timely, now)
    }

    fn button(
        &mut self,
        body: &[u8],
        generation: u32,
        timely: Result<(), Dropped>,
        now: Instant,
    ) -> Result<Vec<Act>, Dropped> {
        let button = message::Button::decode(body).map_err(|_| Dropped::Unknown)?;
        let place = aimed(button.position, generation);
        if button.down && place.is_none() {
            return Err(Dropped::Generation);
        }
        let mut acts: Vec<Act> = place.filter(|_| timely.is_ok()).into_iter().collect();
        acts.extend(self.hold(Holdable::Button(button.button), button.down, timely, now)?);
        Ok(acts)
    }

    fn hold(
        &mut self,
        what: Holdable,
        down: bool,
        timely: Result<(), Dropped>,
        now: Instant,
    ) -> Result<Vec<Act>, Dropped> {
        if down {
            timely?;
        }
        Ok(match self.held.change(what, down, now) {
            Action::Act | Action::Repeat => vec![Act::Hold(what, down)],
            Action::Ignore => Vec::new(),
        })
    }

    fn restated(&mut self, body: &[u8], now: Instant) -> Result<Vec<Act>, Dropped> {
        let held = message::Held::decode(body).map_err(|_| Dropped::Unknown)?;
        Ok(released(self.held.restated(&held.usages, &held.buttons, now)).collect())
    }

    fn count(&mut self, acts: &Result<Vec<Act>, Dropped>) {
        match acts {
            Ok(_) => self.report.injected += 1,
            Err(Dropped::Late) => self.report.dropped_late += 1,
            Err(Dropped::Generation) => self.report.dropped_generation += 1,
            Err(Dropped::Right) => self.report.dropped_right += 1,
            Err(Dropped::Unknown) => return,
        }
        self.unreported = true;
    }

    fn report_due(&self) -> Option<Instant> {
        let clock = self.clock.filter(|_| self.unreported)?;
        Some(self.reported.map_or(clock.seen, |reported| reported + REPORT_EVERY))
    }
}

fn released(what: Vec<Holdable>) -> impl Iterator<Item = Act> {
    what.into_iter().map(|what| Act::Hold(what, false))
}

/// The pixel of a position in the present arrangement of displays.
fn aimed(position: Option<message::Position>, generation: u32) -> Option<Act> {
    let position = position.filter(|position| position.generation == generation)?;
    let display = u16::try_from(position.display).ok()?;
    Some(Act::Motion(DisplayId(display), position.x, position.y))
}

fn text(body: &[u8]) -> Result<Vec<Act>, Dropped> {
    message::Text::decode(body).map_err(|_| Dropped::Unknown).map(|text| vec![Act::Text(text.text)])
}

fn wheel(body: &[u8], generation: u32, timely: Result<(), Dropped>) -> Result<Vec<Act>, Dropped> {
    let wheel = message::Wheel::decode(body).map_err(|_| Dropped::Unknown)?;
    timely?;
    let place = aimed(wheel.position, generation).ok_or(Dropped::Generation)?;
    Ok(vec![place, Act::Wheel(wheel.x, wheel.y)])
}

fn motion(body: &[u8]) -> Result<Vec<Act>, Dropped> {
    let motion = message::Motion::decode(body).map_err(|_| Dropped::Unknown)?;
    let generation = motion.position.unwrap_or_default().generation;
    Ok(aimed(motion.position, generation).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::Flags;

    const ANN: Sender = Sender(2);

    struct Test {
        gate: Gate,
        began: Instant,
        now: Instant,
        seq: u64,
    }

    impl Test {
        fn new() -> Self {
            let now = Instant::now();
            let mut gate = Gate::new();
            gate.layout(7);
            gate.controllers(BTreeMap::from([(ANN, None)]));
            Self { gate, began: now, now, seq: 0 }
        }

        /// A record that was sent this long ago.
        fn sent(&mut self, ago_ms: u64, record_type: u8, message: &impl Message) -> Vec<Act> {
            self.record(ago_ms, record_type, &message.encode_to_vec())
        }

        fn record(&mut self, ago_ms: u64, record_type: u8, body: &[u8]) -> Vec<Act> {
            let header = self.header(ago_ms, record_type);
            self.gate.record(ANN, &Record::new(header, body), self.now)
        }

        /// Her page is open since ten days, longer than this computer may run.
        fn header(&mut self, ago_ms: u64, record_type: u8) -> Header {
            let sent = self.now - self.began + Duration::from_secs(864_000) - Duration::from_millis(ago_ms);
            self.seq += 1;
            Header {
                record_type,
                flags: Flags::default(),
                sender: ANN,
                key_id: 0,
                epoch: 1,
                seq: self.seq,
                time_us: sent.as_micros() as u64,
                screen: None,
            }
        }

        fn key(&mut self, ago_ms: u64, usage: u32, down: bool) -> Vec<Act> {
            self.sent(ago_ms, types::KEY, &message::Key { usage, down, ..Default::default() })
        }

        fn counts(&self) -> (u64, u64, u64, u64) {
            let report = self.gate.hands[&ANN].report;
            (report.injected, report.dropped_late, report.dropped_generation, report.dropped_right)
        }
    }

    fn at(generation: u32) -> Option<message::Position> {
        Some(message::Position { display: 0, generation, x: 3, y: 4 })
    }

    const PLACE: Act = Act::Motion(DisplayId(0), 3, 4);

    #[test]
    fn what_is_late_is_dropped_but_releases_never_are() {
        let mut test = Test::new();
        assert_eq!(test.key(30, 4, true), [Act::Hold(Holdable::Key(4), true)]);
        assert_eq!(test.key(900, 5, true), [Act::Hold(Holdable::Key(5), true)]);
        assert_eq!(test.key(1031, 6, true), []);
        assert_eq!(test.key(5000, 4, false), [Act::Hold(Holdable::Key(4), false)]);
        assert_eq!(test.sent(1031, types::TEXT, &message::Text { text: "x".into() }), []);
        assert_eq!(test.counts(), (3, 2, 0, 0));
    }

    #[test]
    fn buttons_and_wheels_of_an_older_layout_are_dropped_but_releases_never_are() {
        let mut test = Test::new();
        let button = |down, generation| message::Button { button: 1, down, position: at(generation) };
        let held = Act::Hold(Holdable::Button(1), true);
        assert_eq!(test.sent(0, types::BUTTON, &button(true, 6)), []);
        assert_eq!(test.sent(0, types::BUTTON, &button(true, 7)), [PLACE, held]);
        assert_eq!(test.sent(0, types::BUTTON, &button(false, 6)), [Act::Hold(Holdable::Button(1), false)]);
        let wheel = |generation| message::Wheel { x: 0, y: 120, position: at(generation) };
        assert_eq!(test.sent(0, types::WHEEL, &wheel(6)), []);
        assert_eq!(test.sent(0, types::WHEEL, &wheel(7)), [PLACE, Act::Wheel(0, 120)]);
        assert_eq!(test.sent(0, types::MOTION, &message::Motion { position: at(6) }), [PLACE]);
        assert_eq!(test.counts(), (4, 0, 2, 0));
    }

    #[test]
    fn without_the_right_nothing_passes_and_what_was_held_is_released() {
        let mut test = Test::new();
        test.key(0, 4, true);
        assert_eq!(test.gate.controllers(BTreeMap::new()), [Act::Hold(Holdable::Key(4), false)]);
        assert_eq!(test.key(0, 5, true), []);
        assert_eq!(test.counts(), (1, 0, 0, 1));
    }

    /// It was kept, and comes as soon as it is let through; so do releases.
    #[test]
    fn what_was_made_before_the_right_was_given_is_dropped_but_releases_never_are() {
        let mut test = Test::new();
        test.gate.controllers(BTreeMap::new());
        // A ping, or else the first input would pass for punctual.
        let ping = test.header(20, types::PEER_PING);
        test.gate.heard(ANN, &ping, test.now);
        test.now += Duration::from_secs(5);
        test.gate.controllers(BTreeMap::from([(ANN, Some(test.now))]));
        test.now += Duration::from_millis(300);
        assert_eq!(test.key(400, 4, true), []);
        assert_eq!(test.sent(350, types::TEXT, &message::Text { text: "x".into() }), []);
        assert_eq!(test.key(320, 5, true), [Act::Hold(Holdable::Key(5), true)], "as punctual as the ping");
        assert_eq!(test.key(400, 5, false), [Act::Hold(Holdable::Key(5), false)]);
        assert_eq!(test.counts(), (2, 0, 0, 2));
        // She has come back to a program that was restarted: what she did meanwhile counts.
        test.gate.controllers(BTreeMap::from([(ANN, None)]));
        assert_eq!(test.key(400, 4, true), [Act::Hold(Holdable::Key(4), true)]);
    }

    #[test]
    fn a_clock_may_run_slower_and_faster_than_ours_but_not_stand_still() {
        let mut test = Test::new();
        for behind in [0, 2000, 0] {
            assert_eq!(test.key(behind, 4, true), [Act::Hold(Holdable::Key(4), true)]);
            test.key(behind, 4, false);
            test.now += Duration::from_secs(6000);
        }
        assert_eq!(test.key(6000, 4, true), []);
        assert_eq!(test.counts(), (6, 1, 0, 0));
    }

    #[test]
    fn silence_releases_and_restatements_prevent_it() {
        let mut test = Test::new();
        test.key(0, 4, true);
        test.now += Duration::from_millis(500);
        let held = message::Held { usages: vec![4], ..Default::default() };
        assert_eq!(test.sent(0, types::HELD, &held), []);
        test.now += Duration::from_millis(749);
        assert_eq!(test.gate.expire(test.now), []);
        test.now += Duration::from_millis(1);
        assert_eq!(test.gate.expire(test.now), [Act::Hold(Holdable::Key(4), false)]);
    }

    #[test]
    fn reports_are_spaced_and_tell_only_news() {
        let mut test = Test::new();
        test.key(0, 4, true);
        assert_eq!(test.gate.reports(test.now).len(), 1);
        test.key(0, 4, false);
        assert_eq!(test.gate.reports(test.now + Duration::from_millis(249)), []);
        let later = test.gate.reports(test.now + REPORT_EVERY);
        assert_eq!(later.first().map(|report| report.injected), Some(2));
        assert_eq!(test.gate.reports(test.now + Duration::from_secs(9)), []);
    }

    #[test]
    fn what_is_no_message_and_what_nobody_knows_does_nothing() {
        let mut test = Test::new();
        for record_type in 0..=u8::MAX {
            assert_eq!(test.record(0, record_type, &[0xff; 5]), []);
        }
        assert_eq!(test.counts(), (0, 0, 0, 0));
    }
}
