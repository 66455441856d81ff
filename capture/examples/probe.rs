//! What seeing this computer's screen costs: time of a whole grab, of a small change's grab, and resident memory.
//!
//! `cargo run --release -p tandem-capture --example probe` on the display that DISPLAY names.

use std::fs;
use std::time::{Duration, Instant};

use tandem_capture::{CaptureError, Event, ScreenSource, x11};

fn main() -> Result<(), CaptureError> {
    let (mut screen, injector) = x11::open(None)?;
    println!("opened: {}", resident());
    screen.watch(true)?;
    let Some(display) = screen.layout().displays.first().cloned() else { return Ok(()) };
    screen.grab(display.id)?;
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            screen.invalidate(display.id);
            let start = Instant::now();
            screen.grab(display.id).map(|_| start.elapsed())
        })
        .collect::<Result<_, _>>()?;
    times.sort();
    println!("whole grab of {:?}: median {:?}, p99 {:?}", display.size, times[100], times[198]);
    let start = Instant::now();
    for _ in 0..200 {
        screen.grab(display.id)?;
    }
    println!("grab without damage: {:?}", start.elapsed() / 200);
    let sum: u64 = screen.grab(display.id)?.pixels.iter().map(|byte| u64::from(*byte)).sum();
    println!("watching, all pixels read (sum {sum}): {}", resident());
    drop(injector);
    let (mut events, end) = (0, Instant::now() + Duration::from_secs(3));
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        for event in screen.wait(Some(left))? {
            events += 1;
            println!("  {event:?}");
            if let Event::Damage { display } = event {
                println!("  {:?}", screen.grab(display)?);
            }
        }
    }
    println!("{events} events in 3 s");
    Ok(())
}

/// Resident memory as Linux tells it.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("Rss"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}
