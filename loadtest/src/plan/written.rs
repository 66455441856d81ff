//! A plan as it is written: one struct for the file's keys and the flags of the same names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tandem_codec::Size;

use super::{ByteRange, Plan, PlanError, Range, Scenery, Shares, Transports};
use crate::quota::LEAST;
use crate::run::screen::Content;

/// Most sessions, and most technicians of each.
const SESSIONS_MAX: u32 = 50_000;
const TECHNICIANS_MAX: u32 = 31;
/// Longest opaque update: one record.
const OPAQUE_MAX: u64 = 1 << 20;
const DAY: f64 = 86_400.0;

/// What customers' screens show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// Writing in two colours, three cells a picture, through the codec
    Cells,
    /// Pictures that no codec can shorten, through the codec
    Noise,
    /// The recordings named by traces, in turn, through the codec
    Trace,
    /// Updates of the sizes that picture says, whatever is on the screen
    Opaque,
    /// One picture that never changes
    Still,
}

/// Every key; `None`: nothing was said.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "The plan, each also a key of its file")]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    /// What the plan is called in reports
    #[arg(long)]
    name: Option<String>,
    /// Sessions: pairs of a customer and a technician [default: 50]
    #[arg(long)]
    pairs: Option<u32>,
    /// Technicians of each session; the first leads and controls [default: 1]
    #[arg(long)]
    technicians: Option<u32>,
    /// Length of what is measured [default: 10]
    #[arg(long)]
    seconds: Option<f64>,
    /// Times to measure; several also give their medians [default: 1]
    #[arg(long)]
    tries: Option<u32>,
    /// Fixes what screens show and what clients draw [default: 1]
    // As far as TOML's integers go.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// How clients connect [default: quic]
    #[arg(long, value_enum)]
    transport: Option<Transports>,
    /// Of mixed transports: which share of the clients uses QUIC [default: 0.5]
    #[arg(long)]
    quic_share: Option<f64>,
    /// Sessions arrive evenly over this time, on schedule; 0: all at once [default: 0]
    #[arg(long)]
    ramp_seconds: Option<f64>,
    /// Size of each screen [default: 640x360]
    #[arg(long)]
    size: Option<ScreenSize>,
    /// Pictures a second; with a range each customer draws its own [default: 10]
    #[arg(long)]
    fps: Option<Range>,
    /// What the screens show [default: cells]
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Recordings, for the source trace
    #[arg(long, value_delimiter = ',', value_name = "FILE")]
    traces: Option<Vec<PathBuf>>,
    /// Size of a picture of noise, or of each opaque update; of a range each doubling is as likely [default: 40KiB]
    #[arg(long)]
    picture: Option<ByteRange>,
    /// Input events a second of each technician that controls [default: 20]
    #[arg(long)]
    inputs: Option<Range>,
    /// Whether customers answer each input event with the pointer's position [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    answers: Option<bool>,
    /// Share of the technicians that never come [default: 0]
    #[arg(long)]
    absent: Option<f64>,
    /// Share that look elsewhere once they have seen a picture [default: 0]
    #[arg(long)]
    hidden: Option<f64>,
    /// Share that leave and come back, over and over [default: 0]
    #[arg(long)]
    churn: Option<f64>,
    /// How long these stay [default: 2..10]
    #[arg(long)]
    stay_seconds: Option<Range>,
    /// How long they are away [default: 0.5..3]
    #[arg(long)]
    away_seconds: Option<Range>,
    /// Share behind a slow line [default: 0]
    #[arg(long)]
    slow: Option<f64>,
    /// What these lines take towards the technician, in kbit/s [default: 300..2000]
    #[arg(long)]
    slow_kbit: Option<Range>,
    /// Share of all clients that are killed and started again, over and over [default: 0]
    #[arg(long)]
    drops: Option<f64>,
    /// After how many seconds they are [default: 5..20]
    #[arg(long)]
    drop_every_seconds: Option<Range>,
    /// When the relay is killed and started again, from the beginning of what is measured [default: never]
    #[arg(long, value_delimiter = ',')]
    kill_relay_at_seconds: Option<Vec<f64>>,
    /// Cores of the relay, like 0 or 0,2-3 [default: all]
    #[arg(long)]
    relay_cores: Option<Cores>,
    /// How much of its cores' time the relay may have, like 0.25, and no less than 0.2 of a core: so it is filled before this program is.
    /// When it has used up its part it waits for up to 4 ms (takes root) [default: 1]
    #[arg(long)]
    relay_share: Option<f64>,
    /// Cores of this program [default: all]
    #[arg(long)]
    own_cores: Option<Cores>,
}

impl Written {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or names a key or a value that there is not: with the file's name and the line.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the plan {}", path.display()))?;
        let mut plan = Self::parse(&text).with_context(|| format!("in the plan {}", path.display()))?;
        if plan.name.is_none() {
            plan.name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        }
        // Beside the plan, wherever it is run from.
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for trace in plan.traces.iter_mut().flatten() {
            *trace = folder.join(&*trace);
        }
        Ok(plan)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What this says, and where it says nothing what `other` does.
    pub(crate) fn over(self, other: Self) -> anyhow::Result<Self> {
        let mut keys = toml::Table::try_from(other)?;
        keys.extend(toml::Table::try_from(self)?);
        Ok(keys.try_into()?)
    }

    /// Whether one transport was asked for.
    pub(crate) fn names_transport(&self) -> bool {
        self.transport.is_some()
    }

    /// As a file that does the same.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Every key with what holds.
    fn filled(self) -> Self {
        let Self { name, size, traces, kill_relay_at_seconds, relay_cores, own_cores, .. } = self;
        let default = ScreenSize(Size { w: 640, h: 360 });
        Self {
            name: name.or_else(|| Some("flags".into())),
            pairs: self.pairs.or(Some(50)),
            technicians: self.technicians.or(Some(1)),
            seconds: self.seconds.or(Some(10.0)),
            tries: self.tries.or(Some(1)),
            seed: self.seed.or(Some(1)),
            transport: self.transport.or(Some(Transports::Quic)),
            quic_share: self.quic_share.or(Some(0.5)),
            ramp_seconds: self.ramp_seconds.or(Some(0.0)),
            size: size.or(Some(default)),
            fps: self.fps.or(Some(Range::only(10.0))),
            source: self.source.or(Some(Source::Cells)),
            traces: traces.or_else(|| Some(Vec::new())),
            picture: self.picture.or(Some(ByteRange::only(40 << 10))),
            inputs: self.inputs.or(Some(Range::only(20.0))),
            answers: self.answers.or(Some(false)),
            absent: self.absent.or(Some(0.0)),
            hidden: self.hidden.or(Some(0.0)),
            churn: self.churn.or(Some(0.0)),
            stay_seconds: self.stay_seconds.or_else(|| "2..10".parse().ok()),
            away_seconds: self.away_seconds.or_else(|| "0.5..3".parse().ok()),
            slow: self.slow.or(Some(0.0)),
            slow_kbit: self.slow_kbit.or_else(|| "300..2000".parse().ok()),
            drops: self.drops.or(Some(0.0)),
            drop_every_seconds: self.drop_every_seconds.or_else(|| "5..20".parse().ok()),
            kill_relay_at_seconds: kill_relay_at_seconds.or_else(|| Some(Vec::new())),
            relay_cores,
            relay_share: self.relay_share.or(Some(1.0)),
            own_cores,
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`PlanError`] names the first key that cannot be.
    pub(crate) fn resolve(self) -> Result<Plan, PlanError> {
        let written = self.filled();
        let all = written.clone();
        let missing = "every key was filled in";
        let seconds = within("seconds", all.seconds.expect(missing), 0.1, DAY)?;
        let kills = all.kill_relay_at_seconds.expect(missing);
        let kills = kills.into_iter().map(|at| within("kill_relay_at_seconds", at, 0.0, seconds));
        let kills = kills.map(|at| at.map(Duration::from_secs_f64)).collect::<Result<Vec<_>, _>>()?;
        let shares = Shares {
            absent: within("absent", all.absent.expect(missing), 0.0, 1.0)?,
            hidden: within("hidden", all.hidden.expect(missing), 0.0, 1.0)?,
            churn: within("churn", all.churn.expect(missing), 0.0, 1.0)?,
            slow: within("slow", all.slow.expect(missing), 0.0, 1.0)?,
        };
        let Shares { absent, hidden, churn, slow } = shares;
        if absent + hidden + churn + slow > 1.0 + 1e-9 {
            return Err(refused("slow", "with absent, hidden and churn it is more than all technicians"));
        }
        let ramp = within("ramp_seconds", all.ramp_seconds.expect(missing), 0.0, DAY)?;
        Ok(Plan {
            name: all.name.expect(missing),
            sessions: within("pairs", all.pairs.expect(missing), 1, SESSIONS_MAX)? as usize,
            technicians: within("technicians", all.technicians.expect(missing), 1, TECHNICIANS_MAX)? as usize,
            window: Duration::from_secs_f64(seconds),
            tries: within("tries", all.tries.expect(missing), 1, 1000)?,
            seed: all.seed.expect(missing),
            transports: all.transport.expect(missing),
            quic_share: within("quic_share", all.quic_share.expect(missing), 0.0, 1.0)?,
            ramp: Duration::from_secs_f64(ramp),
            scenery: scenery(&written)?,
            fps: range("fps", all.fps.expect(missing), 0.1, 1000.0)?,
            inputs: range("inputs", all.inputs.expect(missing), 0.0, 1000.0)?,
            answers: all.answers.expect(missing),
            shares,
            slow_kbit: range("slow_kbit", all.slow_kbit.expect(missing), 1.0, 1e6)?,
            stay: range("stay_seconds", all.stay_seconds.expect(missing), 0.1, DAY)?,
            away: range("away_seconds", all.away_seconds.expect(missing), 0.0, 240.0)?,
            drops: within("drops", all.drops.expect(missing), 0.0, 1.0)?,
            drop_every: range("drop_every_seconds", all.drop_every_seconds.expect(missing), 0.5, DAY)?,
            kills,
            relay_share: relay_share(all.relay_share.expect(missing), all.relay_cores.as_ref())?,
            relay_cores: all.relay_cores,
            own_cores: all.own_cores,
            written,
        })
    }
}

/// How much of which cores' time, if not all of it.
fn relay_share(share: f64, cores: Option<&Cores>) -> Result<Option<f64>, PlanError> {
    let key = "relay_share";
    // Of how many cores it is may be known only on the computer, where less is refused too.
    within(key, share, 0.01, 1.0)?;
    let held = cores.map_or(LEAST, |cores| share * cores.numbers().len() as f64);
    if held < LEAST - 1e-9 {
        return Err(refused(key, format!("comes to {held} of a core, and the least is {LEAST}")));
    }
    Ok(Some(share).filter(|share| *share < 1.0))
}

fn scenery(written: &Written) -> Result<Scenery, PlanError> {
    let traces = written.traces.clone().unwrap_or_default();
    let picture = written.picture.unwrap_or(ByteRange::only(0));
    let made = |content| {
        let Some(ScreenSize(size)) = written.size else { return Err(refused("size", "is missing")) };
        if picture.low() != picture.high() {
            return Err(refused("picture", "a range is for the source opaque"));
        }
        Ok(Scenery::Made { content, size, picture: picture.low().max(1) })
    };
    match written.source {
        _ if !traces.is_empty() && written.source != Some(Source::Trace) => {
            Err(refused("traces", "is for the source trace"))
        }
        Some(Source::Noise) => made(Content::Noise),
        Some(Source::Trace) if traces.is_empty() => Err(refused("traces", "the source trace needs some")),
        Some(Source::Trace) => Ok(Scenery::Traces(traces)),
        Some(Source::Opaque) if picture.high() > OPAQUE_MAX => {
            Err(refused("picture", "an opaque update has at most 1 MiB"))
        }
        Some(Source::Opaque) => Ok(Scenery::Opaque(picture)),
        Some(Source::Still) => Ok(Scenery::Still),
        Some(Source::Cells) | None => made(Content::Cells),
    }
}

fn refused(key: &'static str, reason: impl Into<String>) -> PlanError {
    PlanError { key, reason: reason.into() }
}

fn within<T: Copy + PartialOrd + fmt::Display>(
    key: &'static str,
    value: T,
    low: T,
    high: T,
) -> Result<T, PlanError> {
    if low <= value && value <= high {
        return Ok(value);
    }
    Err(refused(key, format!("{value} is not from {low} to {high}")))
}

fn range(key: &'static str, range: Range, low: f64, high: f64) -> Result<Range, PlanError> {
    within(key, range.low(), low, high)?;
    within(key, range.high(), low, high)?;
    Ok(range)
}

/// A screen's size, as `640x360`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ScreenSize(pub(super) Size);

impl FromStr for ScreenSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|side| (64..=8192).contains(side));
        let sides = text.split_once('x').and_then(|(w, h)| Some(Size { w: side(w)?, h: side(h)? }));
        let none = || format!("{text:?} is no size: write 640x360; a side has 64 to 8192 pixels");
        sides.map(Self).ok_or_else(none)
    }
}

impl TryFrom<String> for ScreenSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ScreenSize> for String {
    fn from(ScreenSize(Size { w, h }): ScreenSize) -> Self {
        format!("{w}x{h}")
    }
}

/// Some of a computer's cores, as `0` or `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cores(Vec<usize>);

/// Highest core that the kernel's set holds, and one more.
const CORES_MAX: usize = 1024;

impl Cores {
    /// Their numbers, ascending.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Cores {
    /// Of ascending numbers.
    fn from(numbers: Vec<usize>) -> Self {
        Self(numbers)
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse().ok().filter(|&core: &usize| core < CORES_MAX);
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        };
        let parts: Option<Vec<_>> = text.split(',').map(part).collect();
        let none = || format!("{text:?} are no cores: write 0 or 0,2-3");
        let mut cores: Vec<usize> = parts.ok_or_else(none)?.into_iter().flatten().collect();
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

impl TryFrom<String> for Cores {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cores> for String {
    fn from(Cores(cores): Cores) -> Self {
        cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use proptest::prelude::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        plan: Written,
    }

    fn flags(arguments: &[&str]) -> Written {
        Program::try_parse_from(["run"].iter().chain(arguments)).unwrap().plan
    }

    #[test]
    fn every_key_of_a_file_is_also_a_flag() {
        let keys = toml::Table::try_from(
            Written { relay_cores: "0".parse().ok(), own_cores: "1-2".parse().ok(), ..Written::default() }
                .filled(),
        )
        .unwrap();
        let command = <Program as clap::CommandFactory>::command();
        let names: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        let expected: Vec<_> = keys.keys().map(|key| key.replace('_', "-")).collect();
        assert!(expected.iter().all(|name| names.contains(&name.as_str())), "{expected:?} of {names:?}");
        assert_eq!(names.iter().filter(|name| **name != "help").count(), expected.len());
    }

    #[test]
    fn a_flag_is_stronger_than_the_file_and_the_file_than_the_default() {
        let file = Written::parse("pairs = 20\nfps = \"5..15\"\nslow = 0.25").unwrap();
        let plan =
            flags(&["--pairs", "3", "--kill-relay-at-seconds", "2,4"]).over(file).unwrap().resolve().unwrap();
        assert_eq!((plan.sessions, plan.shares.slow, plan.tries), (3, 0.25, 1));
        assert_eq!((plan.fps.low(), plan.fps.high()), (5.0, 15.0));
        assert_eq!(plan.kills, [Duration::from_secs(2), Duration::from_secs(4)]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name_and_line() {
        let why = Written::parse("pairs = 1\npears = 2\n").unwrap_err().to_string();
        assert!(why.contains("pears") && why.contains("line 2"), "{why}");
        let why = Written::parse("fps = \"fast\"").unwrap_err().to_string();
        assert!(why.contains("20..1000") && why.contains("line 1"), "{why}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (text, key) in [
            ("pairs = 0", "pairs"),
            ("seconds = 0", "seconds"),
            ("fps = 0", "fps"),
            ("seconds = 5\nkill_relay_at_seconds = [6]", "kill_relay_at_seconds"),
            ("absent = 0.6\nslow = 0.6", "slow"),
            ("source = \"trace\"", "traces"),
            ("traces = [\"a\"]", "traces"),
            ("picture = \"1KiB..2KiB\"", "picture"),
            ("source = \"opaque\"\npicture = \"2MiB\"", "picture"),
            ("drops = 1.5", "drops"),
            ("relay_share = 0.19\nrelay_cores = \"0\"", "relay_share"),
            ("relay_share = 0.09\nrelay_cores = \"0-1\"", "relay_share"),
            ("relay_share = 1.1", "relay_share"),
        ] {
            assert_eq!(Written::parse(text).unwrap().resolve().unwrap_err().key, key, "{text}");
        }
    }

    #[test]
    fn a_relay_may_be_held_to_a_fifth_of_a_core_and_no_less() {
        for text in [
            "relay_share = 0.2\nrelay_cores = \"0\"",
            "relay_share = 0.05\nrelay_cores = \"0-3\"",
            "relay_share = 0.05",
        ] {
            assert!(Written::parse(text).unwrap().resolve().unwrap().relay_share.is_some(), "{text}");
        }
        assert_eq!(Written::parse("relay_share = 1").unwrap().resolve().unwrap().relay_share, None);
    }

    #[test]
    fn every_plan_that_comes_with_the_program_is_good() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "toml") {
                let plan = Written::read(&path).unwrap().resolve().unwrap();
                names.push(plan.name);
            }
        }
        names.sort();
        let expected = [
            "call-centre",
            "churn",
            "fan-out",
            "idle",
            "office",
            "slow-subscribers",
            "soak",
            "storm",
            "video",
        ];
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn a_plan_that_is_printed_is_the_same_when_it_is_read(
            pairs in 1u32..1000, seed: u64, slow in 0.0f64..0.5, rate in 1.0f64..500.0, kills in proptest::collection::vec(0.0f64..10.0, 0..3),
        ) {
            // TOML's integers have a sign.
            let seed = seed >> 1;
            let written = Written {
                pairs: Some(pairs),
                seed: Some(seed),
                slow: Some(slow),
                inputs: Some(format!("1..{}", rate + 1.0).parse().unwrap()),
                kill_relay_at_seconds: Some(kills),
                own_cores: "0-1".parse().ok(),
                ..Written::default()
            };
            let plan = written.resolve().unwrap();
            let again = Written::parse(&plan.written.to_toml().unwrap()).unwrap().resolve().unwrap();
            prop_assert_eq!(again, plan);
        }

        #[test]
        fn no_file_panics(text in "[a-z_]{1,12} = [0-9a-z\"\\[\\]., ]{0,12}") {
            let _ = Written::parse(&text).map(Written::resolve);
        }
    }
}
