//! A curve's steps as lines of JSON, as a page, and as one plot.

use std::fmt;
use std::fmt::Write as _;

use serde::Serialize;

use super::html::{document, figure};
use super::line::Line;
use super::series::Quantiles;
use super::svg::{Axis, Scale, Series, chart, escaped, short, stacked};
use crate::plan::{Cores, Plan};
use crate::run::process::machine;

/// What there is more of from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Counted {
    /// Pairs of a customer and a technician.
    Sessions,
    /// Technicians, 16 of each session.
    Subscribers,
}

impl Counted {
    const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Subscribers => "subscribers",
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    pub(crate) schema: u32,
    pub(crate) kind: &'static str,
    pub(crate) transport: &'static str,
    /// Of the relay; `None`: all. And how much of their time it may have: 1 is all.
    pub(crate) relay_cores: Option<Cores>,
    pub(crate) relay_share: f64,
    pub(crate) counted: Counted,
    pub(crate) count: usize,
    pub(crate) core_pct: f64,
    pub(crate) arrival_age_ms: Option<Quantiles>,
    pub(crate) input_ms: Option<Quantiles>,
    pub(crate) gbit_per_s: f64,
    pub(crate) rss_bytes: f64,
    pub(crate) failures: usize,
    pub(crate) bottlenecks: Vec<String>,
    /// Why there is no further one.
    pub(crate) ended: Option<String>,
}

impl Step {
    /// Of a try of this plan with so many.
    pub(crate) fn new(
        plan: &Plan,
        line: &Line,
        counted: Counted,
        count: usize,
        ended: Option<String>,
    ) -> Self {
        let relay = line.relay.clone().unwrap_or_default();
        Self {
            schema: 2,
            kind: "curve",
            transport: line.transport,
            relay_cores: plan.relay_cores.clone(),
            relay_share: plan.relay_share.unwrap_or(1.0),
            counted,
            count,
            core_pct: relay.core_pct,
            arrival_age_ms: line.arrival_age_ms,
            input_ms: line.input_ms,
            gbit_per_s: line.gbit_per_s,
            rss_bytes: relay.rss_bytes,
            failures: line.failures,
            bottlenecks: line.generator.bottlenecks.clone(),
            ended,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} over {}: {} % of a core",
            self.count,
            self.counted.name(),
            self.transport,
            self.core_pct
        )?;
        for (name, of) in [("screen", self.arrival_age_ms), ("input", self.input_ms)] {
            if let Some(Quantiles { p50, p99, p999, .. }) = of {
                write!(f, ", {name} {p50:.2} / {p99:.2} / {p999:.2} ms")?;
            }
        }
        write!(f, ", {:.1} MiB, {} Gbit/s", self.rss_bytes / 1_048_576.0, self.gbit_per_s)?;
        self.ended.as_ref().map_or(Ok(()), |why| write!(f, "; ends: {why}"))
    }
}

/// What is drawn of a step.
type Value = fn(&Step) -> Option<f64>;

const BINDINGS: [(&str, &str); 2] = [("quic", "QUIC"), ("websocket", "WebSocket")];

/// A line of one binding's curve.
fn line(
    steps: &[Step],
    counted: Counted,
    transport: &str,
    (name, value): (&str, Value),
    colour: usize,
) -> Series {
    let own = steps.iter().filter(|step| step.transport == transport && step.counted == counted);
    let points = own.filter_map(|step| Some((step.count as f64, value(step)?))).collect();
    Series { name: name.to_owned(), points, colour, dashed: false, marked: true }
}

fn charts(steps: &[Step], counted: Counted) -> Vec<(String, String)> {
    let x = Axis { label: counted.name(), scale: Scale::Log };
    let of_both = |caption: &str, label: &str, scale, value: Value| {
        let lines = BINDINGS.iter().zip([0, 2]);
        let lines: Vec<_> = lines
            .map(|(&(transport, name), colour)| line(steps, counted, transport, (name, value), colour))
            .collect();
        (caption.to_owned(), chart(caption, x, Axis { label, scale }, &lines))
    };
    let latency: [(&str, Value); 3] = [
        ("50 %", |step| Some(step.arrival_age_ms?.p50)),
        ("99 %", |step| Some(step.arrival_age_ms?.p99)),
        ("99.9 %", |step| Some(step.arrival_age_ms?.p999)),
    ];
    let of_one = |&(transport, name): &(&str, &str)| {
        let caption = format!("Screen updates over {name}, capture to arrival");
        let lines = latency.into_iter().enumerate();
        let lines: Vec<_> =
            lines.map(|(colour, named)| line(steps, counted, transport, named, colour)).collect();
        let svg = chart(&caption, x, Axis { label: "ms", scale: Scale::Log }, &lines);
        (caption, svg)
    };
    let mut charts = vec![
        of_both("The relay's processor time", "% of a core", Scale::Linear, |step| Some(step.core_pct)),
        of_both("The relay's memory", "MiB", Scale::Linear, |step| Some(step.rss_bytes / 1_048_576.0)),
    ];
    charts.extend(BINDINGS.iter().map(of_one));
    charts
}

/// What the relay has of the machine, in words.
fn place(plan: &Plan) -> String {
    let (cores, whose) =
        match plan.relay_cores.as_ref().map(|cores| (cores.numbers(), String::from(cores.clone()))) {
            None => ("all cores".to_owned(), "their"),
            Some(([_], one)) => (format!("core {one}"), "its"),
            Some((_, several)) => (format!("cores {several}"), "their"),
        };
    let share = plan.relay_share.map(|share| format!(", {} % of {whose} time", short(share * 100.0)));
    format!("relay on {cores}{}", share.unwrap_or_default())
}

/// The page of a plan's curves.
pub(crate) fn page(plan: &Plan, steps: &[Step]) -> anyhow::Result<String> {
    let mut body = String::new();
    let _ = writeln!(body, "<h1>How much a relay takes: {}</h1>", escaped(&plan.name));
    let _ = writeln!(
        body,
        "<p class=\"soft\">each step {} s, seed {}, {}; tandem-loadtest {}, {}</p>",
        plan.window.as_secs_f64(),
        plan.seed,
        escaped(&place(plan)),
        env!("CARGO_PKG_VERSION"),
        escaped(&machine())
    );
    for counted in [Counted::Sessions, Counted::Subscribers] {
        let _ = writeln!(body, "<h2>More and more {}</h2><div class=\"charts\">", counted.name());
        charts(steps, counted).iter().for_each(|(caption, svg)| figure(&mut body, caption, svg));
        body.push_str("</div>\n");
    }
    table(&mut body, steps);
    let _ = writeln!(
        body,
        "<details><summary>The plan, every key</summary><pre>{}</pre></details>",
        escaped(&plan.written.to_toml()?)
    );
    Ok(document(&plan.name, &body))
}

fn table(body: &mut String, steps: &[Step]) {
    body.push_str("<h2>Every step</h2><div class=\"scroll\"><table><thead><tr><th>step</th><th>core</th><th>screen 50 %</th><th>99 %</th><th>99.9 %</th><th>input 99 %</th><th>memory</th><th>Gbit/s</th><th>why it ends</th></tr></thead><tbody>\n");
    for step in steps {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.2} ms"));
        let arrival = step.arrival_age_ms;
        let _ = writeln!(
            body,
            "<tr><td>{} {}, {}</td><td>{} %</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1} MiB</td><td>{}</td><td class=\"why\">{}</td></tr>",
            step.count,
            step.counted.name(),
            step.transport,
            step.core_pct,
            ms(arrival.map(|of| of.p50)),
            ms(arrival.map(|of| of.p99)),
            ms(arrival.map(|of| of.p999)),
            ms(step.input_ms.map(|of| of.p99)),
            step.rss_bytes / 1_048_576.0,
            step.gbit_per_s,
            escaped(step.ended.as_deref().unwrap_or_default())
        );
    }
    body.push_str("</tbody></table></div>\n");
}

/// Processor time and latency of both curves in one drawing that needs no page around it.
pub(crate) fn plot(plan: &Plan, steps: &[Step]) -> String {
    let named = |counted: Counted| {
        let of = move |(title, svg): (String, String)| (format!("{title}, by {}", counted.name()), svg);
        charts(steps, counted).into_iter().map(of).collect::<Vec<_>>()
    };
    let all = [Counted::Sessions, Counted::Subscribers].map(named);
    let rows: Vec<Vec<(String, String)>> =
        (0..4).map(|at| all.iter().filter_map(|row| row.get(at).cloned()).collect()).collect();
    stacked(&format!("How much a relay takes: {}; {}", plan.name, place(plan)), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Written;

    fn step(transport: &'static str, counted: Counted, count: usize) -> Step {
        let of = |p50: f64| Quantiles {
            p50,
            p90: p50,
            p99: p50 * 3.0,
            p999: p50 * 9.0,
            max: p50 * 10.0,
            count: 7,
        };
        Step {
            schema: 2,
            kind: "curve",
            transport,
            relay_cores: "0".parse().ok(),
            relay_share: 0.25,
            counted,
            count,
            core_pct: count as f64 / 10.0,
            arrival_age_ms: Some(of(count as f64 / 100.0)),
            input_ms: None,
            gbit_per_s: 0.5,
            rss_bytes: 1e6 * count as f64,
            failures: 0,
            bottlenecks: Vec::new(),
            ended: (count > 100).then(|| "the relay's cores are <full>".to_owned()),
        }
    }

    fn steps() -> Vec<Step> {
        let mut steps = Vec::new();
        for transport in ["quic", "websocket"] {
            for counted in [Counted::Sessions, Counted::Subscribers] {
                steps.extend([50, 100, 200].map(|count| step(transport, counted, count)));
            }
        }
        steps
    }

    #[test]
    fn a_plot_has_every_step_of_every_curve() {
        let plan = Written::parse("name = \"<small>\"\nrelay_cores = \"0\"\nrelay_share = 0.25")
            .unwrap()
            .resolve()
            .unwrap();
        let svg = plot(&plan, &steps());
        let document = roxmltree::Document::parse(&svg).unwrap();
        let count = |name| document.descendants().filter(|node| node.tag_name().name() == name).count();
        // Eight charts in one: of two bindings and three steps one, one and three values, for two kinds of count.
        assert_eq!((count("svg"), count("circle")), (9, 2 * (1 + 1 + 3) * 2 * 3));
        assert!(!svg.contains("NaN"), "{svg}");
        let title = "How much a relay takes: <small>; relay on core 0, 25 % of its time";
        let shown = document.descendants().filter(|node| node.text() == Some(title));
        let names: Vec<_> =
            shown.filter(|node| node.is_element()).map(|node| node.tag_name().name()).collect();
        assert_eq!(names, ["title", "text"]);
    }

    #[test]
    fn steps_are_told_to_machines_and_to_people() {
        let step = step("quic", Counted::Subscribers, 200);
        let value = serde_json::to_value(&step).unwrap();
        assert_eq!((&value["kind"], &value["counted"]), (&"curve".into(), &"subscribers".into()));
        assert_eq!(value["arrival_age_ms"]["p99"], 6.0);
        assert_eq!((&value["relay_cores"], &value["relay_share"]), (&"0".into(), &0.25.into()));
        assert!(
            step.to_string()
                .starts_with("200 subscribers over quic: 20 % of a core, screen 2.00 / 6.00 / 18.00 ms"),
            "{step}"
        );
    }
}
