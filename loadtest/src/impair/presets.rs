//! Sessions with several technicians, and the slow pair that others are compared with.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::cell::Settings;
use super::report::{Conditions, Line, Quantiles, change, quantiles};
use super::scene::{Network, Place, Played, Scene, Seat};
use super::{Behind, PICTURE_BYTES, PICTURES, Show, slow_link};
use crate::link::way::{Rate, Shape};
use crate::report::medians::object;
use crate::report::rounded;
use crate::run::command::Binding;
use crate::run::figures::{Figures, Samples};

/// From the first picture to the window: time for everybody to show one.
const LEAD: Duration = Duration::from_secs(4);
const LEAD_EIGHT: Duration = Duration::from_secs(8);
/// When somebody joins: this part of the window has passed.
const JOINS_AFTER: f64 = 0.4;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Preset {
    /// A technician behind 2 Mbit/s, 40 ms and 256 KiB of buffer; 15 pictures/s of 40 KiB
    W4,
    /// Four technicians, one of them as in w4; then without that one
    W5,
    /// A customer with 1 Mbit/s up, and a second technician that joins on the way
    Join,
    /// Eight technicians, one of them behind 300 kbit/s; then without that one
    Eight,
}

impl Preset {
    const fn name(self) -> &'static str {
        match self {
            Self::W4 => "w4",
            Self::W5 => "w5",
            Self::Join => "join",
            Self::Eight => "eight",
        }
    }

    /// The screen unless a recording is given.
    pub(super) fn noise(self, seed: u64) -> Show {
        Show::noise(PICTURE_BYTES, PICTURES, seed)
    }

    fn shape(self) -> Shape {
        let bits = match self {
            Self::W4 | Self::W5 => return slow_link(),
            Self::Join => 1_000_000,
            Self::Eight => 300_000,
        };
        Shape { rate: Rate::from_bits_per_second(bits).expect("not zero"), ..slow_link() }
    }

    /// Plays it over this transport.
    pub(super) async fn measure(
        self,
        binding: Binding,
        show: &Show,
        settings: &Settings,
    ) -> anyhow::Result<Line> {
        let this = Stage { preset: self, binding, show, settings };
        match self {
            Self::W4 => this.pair().await,
            Self::W5 => this.one_slow_of(4).await,
            Self::Eight => this.one_slow_of(8).await,
            Self::Join => this.joiner().await,
        }
    }
}

/// What a preset is played with.
struct Stage<'a> {
    preset: Preset,
    binding: Binding,
    show: &'a Show,
    settings: &'a Settings,
}

impl Stage<'_> {
    fn scene(&self, customer: Place, technicians: Vec<Seat>) -> Scene {
        let course = self.settings.course(self.show, None);
        let lead = if self.preset == Preset::Eight { LEAD_EIGHT } else { LEAD };
        let transport = self.binding.transport();
        Scene { course, transport, customer, technicians, shows_past: false, blackout: false, lead }
    }

    async fn play(&self, scene: &Scene) -> anyhow::Result<(Network, Played)> {
        let network = self.settings.network(&[self.preset.shape()])?;
        let played = network.play(scene).await?;
        Ok((network, played))
    }

    /// A line about this technician.
    fn line(&self, side: Behind, technician: &Figures, customer: &Figures) -> Line {
        let conditions = Conditions::new(self.binding, side, &self.preset.shape(), &self.show.name);
        let line = Line::new(conditions, self.settings.window, technician, customer, None);
        Line { preset: Some(self.preset.name().to_owned()), ..line }
    }

    async fn pair(&self) -> anyhow::Result<Line> {
        let scene = self.scene(Place::Near, vec![Seat::at(Place::Behind(0))]);
        let (network, played) = self.play(&Scene { blackout: true, ..scene }).await?;
        let technician = played.technicians.first().context("no technician")?;
        let mut line = self.line(Behind::Technician, technician, &played.customer);
        line.blame(&network, &played)?;
        Ok(line)
    }

    /// So many technicians, all beside the relay but the last; and the same without the last.
    async fn one_slow_of(&self, count: usize) -> anyhow::Result<Line> {
        let fast = vec![Seat::at(Place::Near); count - 1];
        let (network, without) = self.play(&self.scene(Place::Near, fast.clone())).await?;
        let slow = [fast, vec![Seat::at(Place::Behind(0))]].concat();
        let mut blamed = self.line(Behind::Technician, &Figures::default(), &Figures::default());
        blamed.blame(&network, &without)?;
        drop(network);
        let (network, with) = self.play(&self.scene(Place::Near, slow)).await?;
        let (slow, fast) = with.technicians.split_last().context("no technician")?;
        let mut line = self.line(Behind::Technician, slow, &with.customer);
        line.blame(&network, &with)?;
        line.failures.extend(blamed.failures);
        line.bottlenecks.extend(blamed.bottlenecks);
        let (alone, beside) = (Fast::of(&without.technicians), Fast::of(fast));
        let uploaded = with.journal.lock().uploaded(&(with.window.start..with.window.end));
        line.more = object(json!({
            "fast": beside,
            "fast_alone": alone,
            "screen_p99_change_percent": change(p99(alone.screen_age_ms), p99(beside.screen_age_ms)),
            "arrival_p99_change_percent": change(p99(alone.arrival_age_ms), p99(beside.arrival_age_ms)),
            // What the customer sends, in screens of one technician that keeps up.
            "uploads": rounded(uploaded.all() as f64 / uploaded.live.max(1) as f64, 1e3),
            "uploaded_bytes": { "live": uploaded.live, "reduced": uploaded.reduced, "keys": uploaded.keys },
        }));
        Ok(line)
    }

    /// A controller beside the relay, a customer that is not, and somebody who joins them: who may see what was there before, and who
    /// may not. And the same without.
    async fn joiner(&self) -> anyhow::Result<Line> {
        let joins = self.settings.window.mul_f64(JOINS_AFTER);
        let controller = Seat::at(Place::Near);
        let both = vec![controller, Seat { place: Place::Near, joins: Some(joins) }];
        let mut blamed = self.line(Behind::Customer, &Figures::default(), &Figures::default());
        let mut others = Vec::new();
        for technicians in [vec![controller], both.clone()] {
            let (network, played) = self.play(&self.scene(Place::Behind(0), technicians)).await?;
            blamed.blame(&network, &played)?;
            others.push(played);
        }
        let scene = Scene { shows_past: true, ..self.scene(Place::Behind(0), both) };
        let (network, with) = self.play(&scene).await?;
        let controller = with.technicians.first().context("no technician")?;
        let mut line = self.line(Behind::Customer, controller, &with.customer);
        line.blame(&network, &with)?;
        line.failures.extend(blamed.failures);
        line.bottlenecks.extend(blamed.bottlenecks);
        let [alone, without_past] = &others[..] else { anyhow::bail!("not two sessions") };
        line.more = object(joined(&with, alone, joins)?);
        line.more.insert("without_past".into(), joined(without_past, alone, joins)?);
        Ok(line)
    }
}

/// What became of a session that somebody joined so long after the window began, beside one of the controller `alone`.
fn joined(with: &Played, alone: &Played, joins: Duration) -> anyhow::Result<Value> {
    let [controller, joiner] = &with.technicians[..] else { anyhow::bail!("not two technicians") };
    let since = |played: &Played| played.window.start + joins..played.window.end;
    let ages_alone = alone.technicians.first().and_then(|of| quantiles(&of.ages, &since(alone)));
    let ages = quantiles(&controller.ages, &since(with));
    let [uploaded_alone, uploaded] =
        [alone, with].map(|played| played.journal.lock().uploaded(&since(played)));
    let first = joiner.first_picture.map(|time| rounded(time.as_secs_f64() * 1e3, 1e1));
    Ok(json!({
        "joiner_first_picture_ms": first,
        "joiner_screen_age_ms": Quantiles::of(&joiner.ages),
        // Beside what the controller gets anyway.
        "customer_bytes_for_it": uploaded.keys + uploaded.reduced,
        "customer_bytes": { "with": uploaded.all(), "alone": uploaded_alone.all() },
        // Of the controller, in the time in which the joiner is there.
        "screen_age_alone_ms": ages_alone,
        "screen_age_with_ms": ages,
        "screen_p99_change_percent": change(p99(ages_alone), p99(ages)),
    }))
}

/// What technicians see that keep up.
#[derive(Clone, Copy, Debug, Serialize)]
struct Fast {
    screen_age_ms: Option<Quantiles>,
    arrival_age_ms: Option<Quantiles>,
}

impl Fast {
    fn of(technicians: &[Figures]) -> Self {
        let all = |samples: fn(&Figures) -> &Samples| {
            let mut all = Samples::default();
            technicians.iter().for_each(|technician| all.add(samples(technician).clone()));
            Quantiles::of(&all)
        };
        Self { screen_age_ms: all(|of| &of.ages), arrival_age_ms: all(|of| &of.arrivals) }
    }
}

fn p99(quantiles: Option<Quantiles>) -> Option<f64> {
    quantiles.map(|quantiles| quantiles.p99)
}
