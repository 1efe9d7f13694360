//! What a detector costs per metric and sample: bytes of state, time, instructions and allocations, against the budget.
//!
//! Runs the core's example `detect_cost` with two numbers of steps, both after learning, and takes the difference, so that
//! neither the start nor the learning counts. Time is what the kernel says that the process had a CPU, the least of several
//! runs; instructions and allocations are valgrind's, and do not depend on the machine's load.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Steps of ten seconds after which everything is learned; those of which instructions and allocations are counted: a day;
/// and those that are timed, more of them because a clock is less exact than a count.
const LEARNED: u32 = 3 * 8_640;
const COUNTED: u32 = 8_640;
const TIMED: u32 = 20 * 8_640;

/// Runs of which the quickest counts.
const RUNS: u32 = 5;

/// The budget: bytes of state per metric, and nanoseconds per metric and sample.
const BYTES_MAX: u64 = 4_096;
const NANOSECONDS_MAX: f64 = 1_000.0;

/// What is measured, and what it is.
const MODELS: &[(&str, &str)] = &[
    ("host", "a host's 300 metrics together"),
    ("single", "a series on its own"),
    ("disk", "a filesystem's forecast, asked every two minutes"),
    ("leak", "a unit's leak"),
];

fn main() -> Result<()> {
    let program = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let program = program.join("release/examples/detect_cost");
    ensure!(program.is_file(), "{} is not there: `make bench` builds it", program.display());
    println!("detectors, per metric and sample of ten seconds (budget: {BYTES_MAX} bytes, {NANOSECONDS_MAX:.0} ns)\n");
    println!("| model | state, bytes | time, ns | instructions | allocations |\n| --- | --- | --- | --- | --- |");
    let noise = per_sample(&program, "none")?;
    for (model, what) in MODELS {
        let cost = per_sample(&program, model)?;
        let nanoseconds = cost.nanoseconds - noise.nanoseconds;
        let over = if cost.bytes > BYTES_MAX || nanoseconds > NANOSECONDS_MAX { ", over the budget" } else { "" };
        println!(
            "| {model}: {what}{over} | {} | {nanoseconds:.0} | {:.0} | {:.4} |",
            cost.bytes,
            cost.instructions - noise.instructions,
            cost.allocations
        );
    }
    Ok(())
}

/// The cost of one metric and sample.
struct Cost {
    bytes: u64,
    nanoseconds: f64,
    instructions: f64,
    allocations: f64,
}

fn per_sample(program: &Path, model: &str) -> Result<Cost> {
    let (metrics, bytes, _) = run(program, model, LEARNED)?;
    // Of so many steps after learning, per metric.
    #[allow(clippy::cast_precision_loss)]
    let per_sample = |steps: u32, figure: &dyn Fn(u32) -> Result<u64>| -> Result<f64> {
        let of_both = figure(LEARNED + steps)?.saturating_sub(figure(LEARNED)?);
        Ok(of_both as f64 / (metrics as f64 * f64::from(steps)))
    };
    let callgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let memcheck = ["--tool=memcheck", "--undef-value-errors=no"];
    Ok(Cost {
        bytes: bytes / metrics,
        nanoseconds: per_sample(TIMED, &|steps| Ok(run(program, model, steps)?.2))?,
        instructions: per_sample(COUNTED, &|steps| valgrind(&callgrind, "Collected", program, model, steps))?,
        allocations: per_sample(COUNTED, &|steps| valgrind(&memcheck, "total heap usage", program, model, steps))?,
    })
}

/// Metrics, bytes of state, and the least nanoseconds of CPU time of several runs.
fn run(program: &Path, model: &str, steps: u32) -> Result<(u64, u64, u64)> {
    let mut quickest: Option<(u64, u64, u64)> = None;
    for _ in 0..RUNS {
        let output = Command::new(program).args([model, &steps.to_string()]).output().context("detect_cost")?;
        ensure!(output.status.success(), "detect_cost: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [metrics, bytes, nanoseconds] = numbers[..] else {
            bail!("detect_cost says {said:?}, not METRICS STATE_BYTES CPU_NANOSECONDS");
        };
        if quickest.is_none_or(|(_, _, least)| nanoseconds < least) {
            quickest = Some((metrics, bytes, nanoseconds));
        }
    }
    quickest.context("no run")
}

/// The first number of the line of valgrind's report that holds `line`.
fn valgrind(options: &[&str], line: &str, program: &Path, model: &str, steps: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(options)
        .arg(program)
        .args([model, &steps.to_string()])
        .output()
        .context("valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    let figures = report.lines().find_map(|said| said.split_once(line)).map(|(_, figures)| figures);
    let first = figures
        .and_then(|figures| figures.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())));
    first
        .and_then(|word| word.replace(',', "").parse().ok())
        .with_context(|| format!("valgrind says nothing of {line:?}:\n{report}"))
}
