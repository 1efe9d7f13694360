//! Mainstay, Debian's prometheus and victoria-metrics side by side: the same requests of remote write to each, then the
//! same questions to each over HTTP, and the bytes that the same samples take, as docs/performance.md shows.
//!
//! FLEET_HOSTS, FLEET_SERIES and FLEET_MINUTES set the fleet (default 1,000 hosts, 300 series, 120 minutes at 10 s),
//! FLEET_ROUNDS how often each question is asked (default 30), FLEET_ONLY which (those that hold this text). Questions are
//! asked of one after the other in turn, so that what else the machine does falls on all three.

use anyhow::{Context as _, Result};
use mainstay_collector::clock;

#[path = "beside/mod.rs"]
mod beside;
#[path = "peers.rs"]
mod peers;
#[path = "shapes.rs"]
mod shapes;

const HOUR_MS: i64 = 3_600_000;

fn number(name: &str, default: u32) -> Result<u32> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}: `{text}` is no number")))
}

fn main() -> Result<()> {
    let hour = clock::wall_ms() / HOUR_MS * HOUR_MS;
    let minutes = i64::from(number("FLEET_MINUTES", 120)?);
    let plan = beside::Plan {
        hosts: number("FLEET_HOSTS", 1_000)?,
        series: number("FLEET_SERIES", 300)? as usize,
        from_ms: hour - minutes * 60_000,
        to_ms: hour,
    };
    let program = |package| peers::program(package).with_context(|| format!("Debian's {package} cannot be had"));
    let programs = [program("prometheus")?, program("victoria-metrics")?];
    let only = std::env::var("FLEET_ONLY").unwrap_or_default();
    let report = beside::run(plan, number("FLEET_ROUNDS", 30)?, &only, &programs)?;
    println!(
        "{} hosts, {} series each, {minutes} minutes at 10 s: {:.1} million samples\n\n{report}",
        plan.hosts,
        plan.series,
        report.samples as f64 / 1e6
    );
    Ok(())
}
