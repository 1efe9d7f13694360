//! What one tick of the agent costs on a host of 200 and of 2,000 processes, whole and on every step down: instructions and
//! CPU time.
//!
//! Runs the agent's example `tick_cost`, built as the agent is shipped. Instructions are valgrind's: the difference between two
//! numbers of ticks, both after the first minute, so that neither the start nor the making of the host counts, with two
//! minutes between them for what is read once a minute. They do not depend on the machine's load, so that a regression shows.
//! CPU is what the kernel says of the ticks after the first minute, its own work included, the least of several runs.
//!
//! On x86-64 instructions stand beside those that were written down last ([`KNOWN`]), and it fails in the end where they are
//! others by over a tenth: more is a tick that has become dearer, less something that is read no more. Who means it to be so writes
//! the new ones down there and in docs/performance.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Ticks after which everything was opened and read once; those of which instructions are counted, two minutes; and those that are
/// timed, more of them because the kernel adds up what a thread has used some hundred times a second.
const WARM: u32 = 60;
const COUNTED: u32 = 120;
const TIMED: u32 = 1_200;

/// Runs of which the quickest counts.
const RUNS: u32 = 3;

/// Processes and units of a host.
const HOSTS: [(u32, u32); 2] = [(200, 40), (2_000, 40)];

/// What the agent reads, by how many steps down it is.
const STEPS: [&str; 4] = ["everything", "step 1: no processes", "step 2: and slower", "step 3: core only"];

/// Instructions of each host and step, of 1 December 2026.
const KNOWN: [[u64; STEPS.len()]; HOSTS.len()] =
    [[514_409, 471_288, 123_948, 46_070], [886_795, 471_300, 123_222, 44_800]];

/// How many of those that are known may be counted, and how many have to be.
const OF_KNOWN: std::ops::RangeInclusive<f64> = 0.9..=1.1;

fn main() -> Result<()> {
    let program = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let program = program.join("lean/examples/tick_cost");
    ensure!(program.is_file(), "{} is not there: `make bench` builds it", program.display());
    println!("one tick of the agent, over a host made of files with 40 units\n");
    println!("| processes | read | instructions | of those known | CPU, µs |\n| --- | --- | --- | --- | --- |");
    let mut others = Vec::new();
    for ((processes, units), known) in HOSTS.into_iter().zip(KNOWN) {
        for ((step, what), known) in (0u32..).zip(STEPS).zip(known) {
            let host = [processes, units];
            let more = instructions(&program, host, WARM + COUNTED, step)?;
            let counted = more.saturating_sub(instructions(&program, host, WARM, step)?) / u64::from(COUNTED);
            let microseconds = nanoseconds(&program, host, WARM + TIMED, step)? / u64::from(TIMED) / 1_000;
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let share = counted as f64 / known as f64;
            println!("| {processes} | {what} | {counted} | {share:.2} | {microseconds} |");
            if cfg!(target_arch = "x86_64") && !OF_KNOWN.contains(&share) {
                others.push(format!("{what} of {processes} processes: {counted}, not {known}"));
            }
        }
    }
    ensure!(others.is_empty(), "a tick takes other instructions than are known of it: {}", others.join("; "));
    Ok(())
}

fn arguments([processes, units]: [u32; 2], ticks: u32, step: u32) -> [String; 4] {
    [processes, units, ticks, step].map(|number| number.to_string())
}

/// The least nanoseconds on a CPU of several runs, in the ticks after the first minute.
fn nanoseconds(program: &Path, host: [u32; 2], ticks: u32, step: u32) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..RUNS {
        let output = Command::new(program).args(arguments(host, ticks, step)).output().context("tick_cost")?;
        ensure!(output.status.success(), "tick_cost: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        least = least.min(said.trim().parse().with_context(|| format!("tick_cost says {said:?}, not nanoseconds"))?);
    }
    Ok(least)
}

/// Instructions of one run, as valgrind counts them.
fn instructions(program: &Path, host: [u32; 2], ticks: u32, step: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(arguments(host, ticks, step))
        .output()
        .context("valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    let counted = report.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    counted.and_then(|count| count.parse().ok()).with_context(|| format!("valgrind counts no instructions:\n{report}"))
}
