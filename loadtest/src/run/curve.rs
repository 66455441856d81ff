//! How much a relay takes: sessions, and then subscribers, more and more until it is full, over each binding.

use std::process::ExitCode;

use anyhow::Context as _;

use super::command::{Args, BOTTLENECK, TOLD_MAX, start_relay};
use super::execute::{Scenes, try_plan};
use crate::lines;
use crate::plan::{Cores, Plan, Transports};
use crate::report::curve::{Counted, Step, page, plot};
use crate::report::line::Line;
use crate::report::table::Progress;

/// Technicians of a session when subscribers are counted.
const FAN_OUT: usize = 16;
/// The relay is full when it keeps more than this of its cores busy.
const FULL: f64 = 0.95;

/// What is said beside the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most that 99 % of updates or input events may take, in ms.
    pub(super) added_ms: f64,
}

/// Where nothing was said: of these cores the relay has the first one, and this program the others.
pub(super) fn with_cores(plan: Plan, allowed: &[usize]) -> Plan {
    match allowed {
        [first, others @ ..]
            if !others.is_empty() && plan.relay_cores.is_none() && plan.own_cores.is_none() =>
        {
            let of = |cores: &[usize]| Some(Cores::from(cores.to_vec()));
            Plan { relay_cores: of(&[*first]), own_cores: of(others), ..plan }
        }
        _ => plan,
    }
}

/// Measures all of it. On the main thread, as relays are started there.
pub(super) async fn measure(args: &Args, plan: &Plan, limits: Limits) -> anyhow::Result<ExitCode> {
    let mut output = lines::open(args.json.as_deref())?;
    let scenes = Scenes::new(plan)?;
    let bindings = match plan.transports {
        Transports::Mixed => vec![Transports::Quic, Transports::WebSocket],
        one => vec![one],
    };
    let (mut steps, mut nothing_known, mut first_failed) = (Vec::new(), false, false);
    for transports in bindings {
        for counted in [Counted::Sessions, Counted::Subscribers] {
            let mut count = plan.sessions;
            loop {
                let step = step(args, plan, &scenes, (transports, counted, count), limits).await?;
                eprintln!("run: {step}");
                lines::write(&mut output, &step)?;
                let (ended, is_first) = (step.ended.is_some(), count == plan.sessions);
                nothing_known |= is_first && !step.bottlenecks.is_empty();
                first_failed |= is_first && step.failures > 0;
                // What is not the relay's is in the lines, marked, and in no plot.
                if step.bottlenecks.is_empty() || args.publish_anyway {
                    steps.push(step);
                }
                if ended {
                    break;
                }
                count = (count as f64 * args.curve_factor).ceil() as usize;
            }
        }
    }
    if let Some(path) = &args.html {
        std::fs::write(path, page(plan, &steps)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        std::fs::write(path, plot(plan, &steps))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if first_failed {
        return Ok(ExitCode::FAILURE);
    }
    // A curve ends where something ends it, but something must be known of the relay.
    Ok(if nothing_known && !args.publish_anyway { ExitCode::from(BOTTLENECK) } else { ExitCode::SUCCESS })
}

/// One point of a curve, at a relay of its own.
async fn step(
    args: &Args,
    plan: &Plan,
    scenes: &Scenes,
    (transports, counted, count): (Transports, Counted, usize),
    limits: Limits,
) -> anyhow::Result<Step> {
    let sized = match counted {
        Counted::Sessions => plan.sized(count, 1, transports),
        Counted::Subscribers => plan.sized(count.div_ceil(FAN_OUT), count.min(FAN_OUT), transports),
    };
    let mut relay = start_relay(args, &sized).await?;
    let mut progress = Progress::new();
    let tried = try_plan(&sized, scenes, &mut relay, &mut progress).await;
    progress.clear();
    let tried = tried?;
    tried.figures.failures.iter().take(TOLD_MAX).for_each(|failure| eprintln!("run: {failure}"));
    drop(relay);
    let line = Line::new(&sized, 1, &tried);
    let cores = sized.relay_cores.as_ref().map_or(tried.own_cores, |cores| cores.numbers().len() as f64);
    let ended = why_it_ends(&line, cores * sized.relay_share.unwrap_or(1.0), limits);
    Ok(Step::new(&sized, &line, counted, sized.sessions * sized.technicians, ended))
}

/// What makes a step the last one of its curve.
fn why_it_ends(line: &Line, cores: f64, limits: Limits) -> Option<String> {
    let full = line.relay.as_ref().is_some_and(|relay| relay.core_pct > FULL * 100.0 * cores);
    let slowest =
        [line.arrival_age_ms, line.input_ms].into_iter().flatten().map(|of| of.p99).fold(0.0, f64::max);
    if line.failures > 0 {
        Some(format!("{} failures", line.failures))
    } else if full {
        Some("the relay's cores are full".to_owned())
    } else if let Some(why) = line.generator.bottlenecks.first() {
        Some(format!("not the relay: {why}"))
    } else if slowest > limits.added_ms {
        Some(format!("99 % took up to {slowest:.1} ms"))
    } else {
        None
    }
}
