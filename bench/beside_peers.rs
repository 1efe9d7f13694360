//! Mainstay, Debian's prometheus and victoria-metrics side by side: the same requests of remote write to each, then the
//! same questions to each over HTTP, and the bytes that the same samples take, as docs/performance.md shows.
//!
//! FLEET_HOSTS, FLEET_SERIES and FLEET_MINUTES set the fleet (default 1,000 hosts, 300 series, 120 minutes at 10 s),
//! FLEET_ROUNDS how often each question is asked (default 30), FLEET_ONLY which (those that hold this text). Questions are
//! asked of one after the other in turn, so that what else the machine does falls on all three.
//!
//! With a recording of a host (`bench/record.rs`) in RECORDING nothing is asked: the last values of its series that change,
//! a second apart and ten, are written to all three as FLEET_HOSTS hosts (default 20) that each begin elsewhere in it, and
//! their bytes are told.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mainstay_collector::clock;

#[path = "beside/mod.rs"]
mod beside;
#[path = "peers.rs"]
mod peers;
#[path = "recording.rs"]
mod recording;
#[path = "shapes.rs"]
mod shapes;
#[allow(dead_code)] // the load uses more
#[path = "values.rs"]
mod values;

use values::Series;

const HOUR_MS: i64 = 3_600_000;

fn number(name: &str, default: u32) -> Result<u32> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}: `{text}` is no number")))
}

fn main() -> Result<()> {
    let program = |package| peers::program(package).with_context(|| format!("Debian's {package} cannot be had"));
    let programs = [program("prometheus")?, program("victoria-metrics")?];
    let hour = clock::wall_ms() / HOUR_MS * HOUR_MS;
    if let Some(file) = std::env::var_os("RECORDING").map(PathBuf::from) {
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        return [1, 10].into_iter().try_for_each(|seconds| recorded(&text, seconds, hour, &programs));
    }
    let minutes = i64::from(number("FLEET_MINUTES", 120)?);
    let plan = beside::Plan {
        hosts: number("FLEET_HOSTS", 1_000)?,
        series: Arc::new(Series::made(number("FLEET_SERIES", 300)? as usize)),
        step_ms: 10_000,
        from_ms: hour - minutes * 60_000,
        to_ms: hour,
        is_past: false,
    };
    let only = std::env::var("FLEET_ONLY").unwrap_or_default();
    let report = beside::run(&plan, number("FLEET_ROUNDS", 30)?, &only, &programs)?;
    println!(
        "{} hosts, {} series each, {minutes} minutes at 10 s: {:.1} million samples\n\n{report}",
        plan.hosts,
        plan.series.len(),
        report.samples as f64 / 1e6
    );
    Ok(())
}

/// Bytes of what was recorded.
fn recorded(text: &str, seconds: u32, hour: i64, programs: &[PathBuf; 2]) -> Result<()> {
    let series = Arc::new(Series::recorded(text, seconds)?.moving());
    let step_ms = seconds * 1_000;
    let span_ms = i64::try_from(series.recorded_len())? * i64::from(step_ms);
    let hosts = number("FLEET_HOSTS", 20)?;
    let plan = beside::Plan { hosts, series, step_ms, from_ms: hour - span_ms, to_ms: hour, is_past: true };
    let report = beside::run(&plan, 0, "", programs)?;
    println!(
        "recorded: {hosts} hosts, the last values of {} series that change, {} minutes at {seconds} s: {:.1} million samples\n\n{report}",
        plan.series.len(),
        span_ms / 60_000,
        report.samples as f64 / 1e6
    );
    Ok(())
}
