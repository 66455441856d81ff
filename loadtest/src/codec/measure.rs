//! Plays one recording through the codec and notes everything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tandem_codec::{Picture, Pixels, Rect};

use super::Plan;
use super::line::Line;
use super::records::Records;
use super::reference::Reference;
use super::subject::{Started, Subject, timed};
use crate::run::trace::Player;

/// What a recording has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) trace: String,
    /// Pictures of the recording.
    pub(super) frames: usize,
    /// With headers and tags.
    pub(super) bytes: usize,
    pub(super) first_update_bytes: usize,
    /// Of each picture that was given to the encoder.
    pub(super) encode: Vec<Duration>,
    /// Of each update.
    pub(super) decode: Vec<Duration>,
    /// Of each picture that was given to the encoder.
    pub(super) reference: Vec<Duration>,
    /// Every picture was shown exactly, and everything else as the encoder thinks.
    pub(super) exact: bool,
    /// Longest time from the screen's last change until it was shown exactly.
    pub(super) to_exact: Duration,
    pub(super) pixels: Pixels,
    /// Of each update while something was shown as video.
    pub(super) video_psnr_db: Vec<f64>,
    pub(super) encoder_bytes: usize,
    pub(super) decoder_bytes: usize,
    /// By how much update bodies exceeded their budgets; none if there were none.
    pub(super) overshoot: Vec<usize>,
    pub(super) started: Option<Started>,
    /// Bytes that the start of a segment costs those in step.
    pub(super) start_bytes: Option<i64>,
}

/// Measures a file.
pub(super) fn measure(path: &Path, plan: &Plan, records: Option<&Path>) -> anyhow::Result<Figures> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("trace");
    let name = name.trim_end_matches(".zst").trim_end_matches(".sct");
    let bytes: Arc<[u8]> =
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
    let records = records.map(Records::create).transpose().context("cannot write the records")?;
    measure_bytes(name, &bytes, plan, records).with_context(|| format!("cannot measure {}", path.display()))
}

pub(super) fn measure_bytes(
    name: &str,
    bytes: &Arc<[u8]>,
    plan: &Plan,
    records: Option<Records>,
) -> anyhow::Result<Figures> {
    let mut measuring = Measuring::new(name, Arc::clone(bytes), plan)?;
    measuring.subject.records = records;
    let mut figures = measuring.run()?;
    if plan.segment_at.is_some() {
        let without = Plan { segment_at: None, ..*plan };
        let without = Measuring::new(name, Arc::clone(bytes), &without)?.run()?;
        figures.start_bytes = Some(figures.bytes as i64 - without.bytes as i64);
    }
    Ok(figures)
}

struct Measuring<'a> {
    plan: &'a Plan,
    player: Player,
    picture: Picture,
    /// Where it changed since the encoder was last told.
    damage: Vec<Rect>,
    subject: Subject,
    reference: Reference,
    line: Line,
    interval: Duration,
    changed_at: Duration,
    /// Whether what is shown is the newest picture, or will be when all has arrived.
    is_exact: bool,
    figures: Figures,
}

impl<'a> Measuring<'a> {
    fn new(name: &str, bytes: Arc<[u8]>, plan: &'a Plan) -> anyhow::Result<Self> {
        let player = Player::new(bytes)?;
        let picture = Picture::black(player.size);
        let interval = Duration::from_secs_f64(1.0 / player.fps);
        let frames = player.pictures as usize;
        Ok(Self {
            plan,
            player,
            damage: Vec::new(),
            subject: Subject::new(plan, &picture)?,
            reference: Reference::new(picture.size())?,
            line: Line::new(plan.rate, plan.every.unwrap_or(interval).max(interval)),
            interval,
            changed_at: Duration::ZERO,
            is_exact: true,
            figures: Figures { trace: name.to_owned(), frames, exact: true, ..Figures::default() },
            picture,
        })
    }

    fn run(mut self) -> anyhow::Result<Figures> {
        let mut next_at = Duration::ZERO;
        for number in 0..self.player.pictures {
            let now = self.interval * number;
            let rects = self.player.next(&mut self.picture)?;
            if !rects.is_empty() || number == 0 {
                (self.changed_at, self.is_exact) = (now, false);
            }
            self.damage.extend(rects);
            if self.plan.segment_at.is_some_and(|at| at <= now) && self.figures.started.is_none() {
                self.figures.started = Some(self.subject.start_segment()?);
            }
            // The last picture is always seen, so that what was sent can be compared with it.
            if now >= next_at || number + 1 == self.player.pictures {
                next_at += self.plan.every.unwrap_or_default();
                self.encode(now)?;
            }
        }
        self.rest()?;
        self.subject.end(&self.picture)?;
        let (encoder, decoder) = (self.subject.encoder_bytes, self.subject.decoder_bytes);
        Ok(Figures { encoder_bytes: encoder, decoder_bytes: decoder, ..self.figures })
    }

    /// Sends what a slow line has not taken while the recording went on, each update when the line is free, as publishers do; and
    /// what was video, once it rests.
    fn rest(&mut self) -> anyhow::Result<()> {
        let mut now = self.interval * self.player.pictures;
        while !self.is_exact {
            self.encode(now)?;
            let events = [Some(self.line.free_at()), self.subject.rests_at()];
            now = match (self.plan.every, events.into_iter().flatten().find(|&at| at > now)) {
                (None, Some(at)) => at,
                (every, _) => now + every.unwrap_or_default().max(self.interval),
            };
        }
        Ok(())
    }

    fn encode(&mut self, now: Duration) -> anyhow::Result<()> {
        let Some(budget) = self.line.budget(now) else { return Ok(()) };
        let budget = self.plan.update_bytes.unwrap_or(budget).min(budget);
        let (coded, reference) = timed(|| self.reference.encode(&self.picture));
        coded?;
        self.figures.reference.push(reference);
        let rects = std::mem::take(&mut self.damage);
        let mut damage = Some(&rects[..]).filter(|_| self.plan.damage);
        let (was_exact, mut encode) = (self.is_exact, Duration::ZERO);
        let mut arrived = now;
        loop {
            let (sent, took) = self.subject.send(&self.picture, damage, now, budget)?;
            encode += took;
            let Some(sent) = sent else {
                // With nothing to send only video may still be other than it should.
                self.is_exact = !self.subject.has_video();
                break;
            };
            // What an update left is remembered.
            damage = Some(&[]);
            arrived = self.line.send(now, sent.bytes);
            let figures = &mut self.figures;
            if figures.bytes == 0 {
                figures.first_update_bytes = sent.bytes;
            }
            figures.bytes += sent.bytes;
            figures.decode.push(sent.decode);
            figures.pixels += sent.pixels;
            figures.video_psnr_db.extend(sent.video_psnr_db);
            if budget != usize::MAX {
                figures.overshoot.push(sent.body.saturating_sub(budget));
            }
            self.is_exact = sent.complete;
            let is_all = self.plan.rate.is_some() || (self.subject.has_video() && !self.subject.is_behind());
            if sent.complete || is_all {
                break;
            }
        }
        self.figures.encode.push(encode);
        self.figures.exact &=
            if self.is_exact { self.subject.shows(&self.picture) } else { self.subject.shows_shadow() };
        if self.is_exact && !was_exact {
            self.figures.to_exact = self.figures.to_exact.max(arrived.saturating_sub(self.changed_at));
        }
        Ok(())
    }
}

impl Figures {
    /// Bytes of a picture after the first, on average.
    pub(super) fn bytes_per_frame(&self) -> f64 {
        let later = self.frames.saturating_sub(1).max(1);
        self.bytes.saturating_sub(self.first_update_bytes) as f64 / later as f64
    }

    /// All of several recordings together; memory is the largest.
    pub(super) fn total(all: &[Self]) -> Self {
        let mut total = Self { trace: "total".to_owned(), exact: true, ..Self::default() };
        for figures in all {
            total.frames += figures.frames;
            total.bytes += figures.bytes;
            total.first_update_bytes += figures.first_update_bytes;
            total.encode.extend(&figures.encode);
            total.decode.extend(&figures.decode);
            total.reference.extend(&figures.reference);
            total.exact &= figures.exact;
            total.to_exact = total.to_exact.max(figures.to_exact);
            total.pixels += figures.pixels;
            total.video_psnr_db.extend(&figures.video_psnr_db);
            total.encoder_bytes = total.encoder_bytes.max(figures.encoder_bytes);
            total.decoder_bytes = total.decoder_bytes.max(figures.decoder_bytes);
            total.overshoot.extend(&figures.overshoot);
            total.start_bytes = match (total.start_bytes, figures.start_bytes) {
                (None, other) | (other, None) => other,
                (Some(a), Some(b)) => Some(a + b),
            };
            total.started = match (total.started, figures.started) {
                (None, other) | (other, None) => other,
                (Some(a), Some(b)) => Some(Started {
                    key_bytes: a.key_bytes + b.key_bytes,
                    key: a.key.max(b.key),
                    streams: a.streams.max(b.streams),
                }),
            };
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Mode;
    use crate::link::way::Rate;
    use crate::run::trace::tests::{SIZE, file, plain};

    const PLAN: Plan = Plan {
        mode: Mode::Lossless,
        rate: None,
        update_bytes: None,
        every: None,
        segment_at: None,
        damage: true,
    };

    /// Five pictures, 50 ms apart: grey, then a box that moves, and one where nothing happens.
    fn recording() -> Arc<[u8]> {
        let band = |x| Rect { x, y: 3, w: 30, h: 9 };
        let moved = |from, to| vec![plain(band(from), [9; 3]), plain(band(to), [250, 9, 99])];
        let pictures = [vec![plain(SIZE.rect(), [9; 3])], moved(0, 0), moved(0, 40), vec![], moved(40, 5)];
        file(0, &pictures).into()
    }

    fn measured(plan: &Plan) -> Figures {
        measure_bytes("boxes", &recording(), plan, None).expect("a good recording")
    }

    #[test]
    fn every_picture_is_coded_shown_and_compared() {
        let figures = measured(&PLAN);
        assert!(figures.exact);
        assert_eq!((figures.trace.as_str(), figures.frames, figures.encode.len()), ("boxes", 5, 5));
        assert_eq!(figures.decode.len(), 4, "nothing is sent where nothing happens");
        assert!(figures.first_update_bytes > 75 && figures.bytes > figures.first_update_bytes);
        assert_eq!(figures.to_exact, Duration::ZERO);
        assert!(figures.pixels.plain >= 30 * 9);
        assert!(figures.encoder_bytes > 0 && figures.decoder_bytes > 0);
        assert_eq!(measured(&Plan { damage: false, ..PLAN }).bytes, figures.bytes);
    }

    #[test]
    fn pictures_that_are_left_out_cost_nothing_and_the_last_is_always_shown() {
        let figures = measured(&Plan { every: Some(Duration::from_millis(150)), ..PLAN });
        assert_eq!((figures.encode.len(), figures.decode.len()), (3, 3));
        assert!(figures.exact);
        assert!(figures.bytes < measured(&PLAN).bytes);
    }

    #[test]
    fn a_slow_line_shows_everything_in_the_end_and_says_when() {
        let rate = Rate::from_bits_per_second(8_000);
        let figures = measured(&Plan { rate, ..PLAN });
        assert!(figures.exact);
        assert!(figures.encode.len() < 5, "it is busy most of the time");
        let all = Duration::from_secs_f64(figures.bytes as f64 / 1000.0);
        assert!(figures.to_exact <= all, "{:?} of {all:?}", figures.to_exact);
        assert!(figures.to_exact > Duration::from_millis(50));
        assert_eq!(figures.overshoot.len(), figures.decode.len());
    }

    #[test]
    fn somebody_who_joins_shows_the_same_and_costs_the_others_little() {
        let figures = measured(&Plan { segment_at: Some(Duration::from_millis(100)), ..PLAN });
        assert!(figures.exact);
        assert!(figures.started.expect("it started").key_bytes > 75);
        let start = figures.start_bytes.expect("it was compared");
        assert!((0..500).contains(&start), "{start} bytes");
        assert_eq!(figures.bytes, measured(&PLAN).bytes + figures.start_bytes.unwrap_or(0) as usize);
    }

    #[test]
    fn a_total_adds_up() {
        let one = measured(&PLAN);
        let total = Figures::total(&[one.clone(), one.clone()]);
        assert_eq!((total.bytes, total.frames), (2 * one.bytes, 10));
        assert_eq!(total.pixels.plain, 2 * one.pixels.plain);
        assert_eq!(total.encoder_bytes, one.encoder_bytes);
    }
}
