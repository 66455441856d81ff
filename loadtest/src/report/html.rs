//! One page of HTML with all that a run has found out: no script, nothing from elsewhere, readable in dark and light.

use std::fmt::Write as _;

use super::line::Line;
use super::series::{Kind, Quantiles};
use super::svg::{Axis, Scale, Series, chart, escaped, number, short};
use crate::plan::Plan;
use crate::run::Tried;
use crate::run::process::machine;

/// A try and its figures.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) line: Line,
    pub(crate) tried: Tried,
}

pub(super) const STYLE: &str = include_str!("style.css");

/// The page of a plan's tries.
pub(crate) fn page(plan: &Plan, tries: &[Told]) -> anyhow::Result<String> {
    let mut body = String::new();
    let _ = writeln!(body, "<h1>{}</h1>", escaped(&plan.name));
    let _ = writeln!(
        body,
        "<p class=\"soft\">{} sessions over {}, {} s, seed {}; tandem-loadtest {}, {}</p>",
        plan.sessions,
        plan.transports.name(),
        plan.window.as_secs_f64(),
        plan.seed,
        env!("CARGO_PKG_VERSION"),
        escaped(&machine())
    );
    for told in tries {
        section(&mut body, told, tries.len() > 1);
    }
    let _ = writeln!(
        body,
        "<details><summary>The plan, every key</summary><pre>{}</pre></details>",
        escaped(&plan.written.to_toml()?)
    );
    Ok(document(&plan.name, &body))
}

/// A whole page, well-formed as XML too.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{} – Tandem load test</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body><main>\n{body}</main></body>\n</html>\n",
        escaped(title)
    )
}

fn section(body: &mut String, told: &Told, many: bool) {
    let line = &told.line;
    if let Some(number) = line.try_number.filter(|_| many) {
        let _ = writeln!(body, "<h2>Try {number}</h2>");
    }
    verdict(body, told);
    cards(body, line);
    quantiles(body, line);
    let _ = writeln!(body, "<h2>Over the window</h2><div class=\"charts\">");
    figure(body, "How many were no later", &distributions(told));
    figure(body, "Screen and input as time goes on", &latencies(told));
    figure(body, "The relay's processor time", &processor(told));
    figure(body, "The relay's memory", &memory(told));
    body.push_str("</div>\n");
    events(body, line);
}

pub(super) fn figure(body: &mut String, caption: &str, svg: &str) {
    let _ = writeln!(body, "<figure><figcaption>{}</figcaption>\n{svg}</figure>", escaped(caption));
}

fn verdict(body: &mut String, told: &Told) {
    let failures = &told.tried.figures.failures;
    if failures.is_empty() {
        body.push_str("<p class=\"good\">Nothing failed.</p>\n");
    } else {
        let _ = writeln!(body, "<p class=\"bad\">{} failures:</p><ul>", failures.len());
        for failure in failures.iter().take(20) {
            let _ = writeln!(body, "<li>{}</li>", escaped(failure));
        }
        body.push_str("</ul>\n");
    }
    for bottleneck in &told.line.generator.bottlenecks {
        let _ = writeln!(
            body,
            "<p class=\"bad\">These are not the relay's figures: {}.</p>",
            escaped(bottleneck)
        );
    }
    for growth in &told.line.growth {
        let (class, verdict) = (if growth.grows { "bad" } else { "good" }, growth.verdict());
        let _ = writeln!(
            body,
            "<p><span class=\"{class}\">{} {verdict}</span>: {:+} ± {} an hour, {} on average; {} would be allowed.</p>",
            escaped(growth.what),
            growth.per_hour,
            growth.error,
            growth.mean,
            growth.allowed
        );
    }
    if let Some(why) = told.line.growth_unjudged() {
        let _ = writeln!(body, "<p>Growth is not judged: {why}.</p>");
    }
}

fn cards(body: &mut String, line: &Line) {
    let p99 = |of: Option<Quantiles>| of.map_or_else(|| "–".to_owned(), |of| format!("{} ms", short(of.p99)));
    let mut cards = vec![
        ("age of the screen, 99 %", p99(line.screen_age_ms)),
        ("input, 99 %", p99(line.input_ms)),
        ("join to picture, 99 %", p99(line.join_to_picture_ms)),
        ("delivered", format!("{} Gbit/s", short(line.gbit_per_s))),
    ];
    if let Some(relay) = &line.relay {
        cards.push(("of a core, the relay", format!("{} %", short(relay.core_pct))));
        cards.push(("CPU a second and session", format!("{} ms", short(relay.cpu_ms_per_session))));
        let memory = relay.rss_bytes_per_session.map(|bytes| format!("{:.0} KiB", bytes / 1024.0));
        cards.extend(memory.map(|memory| ("memory of a session", memory)));
        let per_gib = relay.cpu_s_per_gib.map(|per_gib| format!("{} s", short(per_gib)));
        cards.extend(per_gib.map(|per_gib| ("CPU of a delivered GiB", per_gib)));
    }
    body.push_str("<div class=\"cards\">\n");
    for (name, value) in cards {
        let _ = writeln!(body, "<div class=\"card\"><b>{value}</b>{name}</div>");
    }
    body.push_str("</div>\n");
}

fn quantiles(body: &mut String, line: &Line) {
    body.push_str("<div class=\"scroll\"><table><thead><tr><th>ms</th><th>50 %</th><th>90 %</th><th>99 %</th><th>99.9 %</th><th>longest</th><th>values</th></tr></thead><tbody>\n");
    for (kind, of) in line.rows() {
        if let Some(Quantiles { p50, p90, p99, p999, max, count }) = of {
            let _ = writeln!(
                body,
                "<tr><td>{}</td><td>{p50:.2}</td><td>{p90:.2}</td><td>{p99:.2}</td><td>{p999:.2}</td><td>{max:.1}</td><td>{count}</td></tr>",
                kind.title()
            );
        }
    }
    body.push_str("</tbody></table></div>\n");
}

fn events(body: &mut String, line: &Line) {
    let mut rows = vec![
        (
            "pictures shown whole, of those offered".to_owned(),
            format!("{} of {}", line.pictures_applied, line.pictures_offered),
        ),
        ("stalls".to_owned(), line.stalls.to_string()),
        (
            "input events that came, of those sent".to_owned(),
            format!("{} of {}", line.input.came, line.input.sent),
        ),
    ];
    let mut count = |name: &str, count: u64| {
        if count > 0 {
            rows.push((name.to_owned(), count.to_string()));
        }
    };
    count("input too old to be sent again", line.input.dropped);
    count("input refused without a connection", line.input.refused);
    count("input that nobody typed, without the right to or about to leave", line.input.withheld);
    count("input without an answer when its sender went", line.input.unanswered.unwrap_or_default());
    count("input lost with programs that were killed", line.input.lost);
    count("input that came again to programs that were killed", line.input.twice);
    count("programs that came back", line.restarts);
    count("connections lost", line.reconnects);
    count("forks to the reduced rendition", line.forks);
    count("merges back", line.merges);
    count("keys", line.keys);
    for (reason, &skipped) in &line.skipped {
        count(&format!("records skipped: {reason}"), skipped);
    }
    for (reason, &dropped) in &line.dropped {
        count(&format!("records dropped: {reason}"), dropped);
    }
    if let Some(relay) = &line.relay {
        rows.push(("the relay's context switches a second".to_owned(), number(relay.context_switches_per_s)));
        rows.push((
            "CPU, user and system".to_owned(),
            format!("{} % and {} %", relay.user_core_pct, relay.system_core_pct),
        ));
        rows.push(("descriptors".to_owned(), number(relay.descriptors)));
    }
    rows.push((
        "this program's own work".to_owned(),
        format!("{} % of one core, of {} that it may use", line.generator.core_pct, line.generator.cores),
    ));
    body.push_str("<h2>What happened</h2><div class=\"scroll\"><table class=\"facts\"><tbody>\n");
    for (name, value) in rows {
        let _ = writeln!(body, "<tr><td>{}</td><td>{}</td></tr>", escaped(&name), escaped(&value));
    }
    body.push_str("</tbody></table></div>\n");
}

const fn plain(name: String, points: Vec<(f64, f64)>, colour: usize, dashed: bool) -> Series {
    Series { name, points, colour, dashed, marked: false }
}

fn distributions(told: &Told) -> String {
    let kinds = [Kind::ScreenAge, Kind::Screen, Kind::Input, Kind::Answer];
    let names = ["screen age", "screen", "input", "answer"];
    let series = kinds.into_iter().zip(names).enumerate().map(|(colour, (kind, name))| {
        let points = told.tried.recorder.distribution(kind);
        plain(name.to_owned(), points.into_iter().map(|(share, ms)| (ms, share)).collect(), colour, false)
    });
    let series: Vec<_> = series.collect();
    let x = Axis { label: "ms", scale: Scale::Log };
    chart("distribution of latencies", x, Axis { label: "share", scale: Scale::Nines }, &series)
}

fn latencies(told: &Told) -> String {
    let mut series = Vec::new();
    for (colour, kind, name) in [(0, Kind::ScreenAge, "screen age"), (2, Kind::Input, "input")] {
        let parts = told.tried.recorder.parts(kind);
        let p50 = parts.iter().map(|part| (part.at, part.p50)).collect();
        let p99 = parts.iter().map(|part| (part.at, part.p99)).collect();
        series.push(plain(format!("{name}, 99 %"), p99, colour, false));
        series.push(plain(format!("{name}, 50 %"), p50, colour, true));
    }
    let x = Axis { label: "seconds", scale: Scale::Linear };
    chart("latencies over time", x, Axis { label: "ms", scale: Scale::Log }, &series)
}

fn processor(told: &Told) -> String {
    let start = told.tried.start.sample.at;
    let pairs = told
        .tried
        .samples
        .windows(2)
        .filter_map(|pair| Some((&pair[1], pair[0].relay?, pair[1].relay?, pair[0].at)));
    let (mut all, mut system) = (Vec::new(), Vec::new());
    for (sample, before, after, since) in pairs {
        let seconds = (sample.at - since).as_secs_f64().max(1e-3);
        let at = sample.at.saturating_duration_since(start).as_secs_f64();
        let share = |time: f64| (at, time / seconds * 100.0);
        all.push(share(after.user + after.system - before.user - before.system));
        system.push(share(after.system - before.system));
    }
    let series = [plain("all".into(), all, 0, false), plain("the kernel's".into(), system, 1, true)];
    let x = Axis { label: "seconds", scale: Scale::Linear };
    chart("processor time", x, Axis { label: "% of a core", scale: Scale::Linear }, &series)
}

fn memory(told: &Told) -> String {
    let start = told.tried.start.sample.at;
    let samples = told.tried.samples.iter().filter_map(|sample| {
        let at = sample.at.saturating_duration_since(start).as_secs_f64();
        Some((at, sample.relay?.resident / 1_048_576.0))
    });
    let series = [plain("resident".into(), samples.collect(), 4, false)];
    let x = Axis { label: "seconds", scale: Scale::Linear };
    chart("memory", x, Axis { label: "MiB", scale: Scale::Linear }, &series)
}
