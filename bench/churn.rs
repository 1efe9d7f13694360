//! Whether the agent stays as it is while the host does not: an hour in which processes, transient services and containers
//! come and go.
//!
//! One booted host, enrolled: thirty processes a second that live for half a second, one service a second under a name that
//! never comes back, and a scope every half second, named as Docker names the cgroup of a container, that lives for twenty
//! seconds. Every ten seconds the kernel is asked for the agent's memory, descriptors, threads and CPU. At the end: quarter by
//! quarter, the most of each; and the line through the most of resident memory between two saves, over the last three quarters.
//! With each save the agent gives back what it can, and has it again within minutes: a line through all looks would also be of
//! where in that saw it begins and ends. It has to be flat: steeper than [`KIB_PER_HOUR_MAX`] fails the run, and so do
//! descriptors or threads that grow. A run of less than half an hour says what it saw and judges nothing: the agent still
//! learns then.
//!
//! MINUTES sets how long it goes on (default 60).

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::usage::{Mapping, mappings};
use mainstay_tests::site::Site;
use mainstay_tests::site::churn::{self, AGENT, Look};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// Looks between two saves of what was learned, five minutes. After so many one is shown while it goes on.
const LOOKS_A_SAVE: usize = 30;

/// What counts as flat: so much more in an hour, four percent of what the agent may take. It still learns in its first.
const KIB_PER_HOUR_MAX: f64 = 512.0;

/// So many more descriptors or threads in the last quarter than in the first half at most are growth. Descriptors go up and
/// down by twenty, as of cgroups that come and go some are kept open; one quarter may have seen the highs and another not.
const MORE_MAX: f64 = 4.0;

/// A shorter run judges nothing.
const JUDGED_MIN: Duration = Duration::from_secs(30 * 60);

/// Mappings that are compared.
const MAPPINGS_SHOWN: usize = 6;

/// A figure of a look.
type Figure = fn(&Look) -> f64;

fn main() -> Result<()> {
    let minutes = std::env::var("MINUTES").ok().filter(|text| !text.is_empty());
    let minutes: u64 = minutes.map_or(Ok(60), |text| text.parse()).context("MINUTES is a number")?;
    let lasts = Duration::from_secs(minutes * 60);
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    churn::start(host)?;
    let pid = churn::pid(host)?;
    println!("churn on a booted host for {minutes} minutes");
    let (begun, before) = (Instant::now(), mappings(host, AGENT)?);
    let mut looks = vec![Look::at(host, pid, begun)?];
    while begun.elapsed() < lasts {
        sleep(EVERY);
        let look = Look::at(host, pid, begun)?;
        if looks.len().is_multiple_of(LOOKS_A_SAVE) {
            println!("{look:.3?}");
        }
        looks.push(look);
    }
    ensure!(churn::pid(host)? == pid, "the agent was restarted\n{}", host.agent_story());
    report(&looks);
    let [containers, units] = ["containers", "units"].map(|what| churn::figure(host, what));
    println!("at the end {:.0} containers and {:.0} units are followed", containers?, units?);
    compare(&before, &mappings(host, AGENT)?);
    judge(&looks, lasts)
}

/// The most of each by quarters of the time.
fn report(looks: &[Look]) {
    println!("| quarter | resident, KiB | of that anonymous | descriptors | threads | CPU, ms a second |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (number, quarter) in (1..).zip(quarters(looks)) {
        let most = |of: fn(&Look) -> f64| quarter.iter().map(of).fold(0.0, f64::max);
        let (Some(first), Some(last)) = (quarter.first(), quarter.last()) else { continue };
        let seconds = (last.hours - first.hours) * 3600.0;
        let cpu = (last.cpu_ms - first.cpu_ms) / seconds;
        let cpu = if seconds > 0.0 { format!("{cpu:.2}") } else { "one look".to_owned() };
        println!(
            "| {number} | {:.0} | {:.0} | {:.0} | {:.0} | {cpu} |",
            most(|look| look.rss_kib),
            most(|look| look.anonymous_kib),
            most(|look| look.fds),
            most(|look| look.threads)
        );
    }
}

fn quarters(looks: &[Look]) -> impl Iterator<Item = &[Look]> {
    looks.chunks(looks.len().div_ceil(4).max(1))
}

/// What became of the largest mappings.
fn compare(before: &[Mapping], after: &[Mapping]) {
    println!("resident by mapping, in KiB, at the beginning and at the end:");
    for mapping in after.iter().take(MAPPINGS_SHOWN) {
        let was = before.iter().find(|other| other.name == mapping.name).map_or(0.0, |other| other.rss_kib);
        println!("  {was:8.0} {:8.0}   {}", mapping.rss_kib, mapping.name);
    }
}

/// Whether the last three quarters are flat.
fn judge(looks: &[Look], lasts: Duration) -> Result<()> {
    if lasts < JUDGED_MIN {
        println!("shorter than half an hour: not judged");
        return Ok(());
    }
    let later = &looks[looks.len() / 4..];
    let (rss, anonymous) = (slope(&highs(later, |look| look.rss_kib)), slope(&highs(later, |look| look.anonymous_kib)));
    println!(
        "the most between two saves, over the last three quarters: {rss:+.0} KiB an hour resident, {anonymous:+.0} anonymous (flat: at most {KIB_PER_HOUR_MAX:+.0})"
    );
    ensure!(rss <= KIB_PER_HOUR_MAX, "the agent grows by {rss:.0} KiB an hour");
    let held: [(&str, Figure); 2] = [("descriptors", |look| look.fds), ("threads", |look| look.threads)];
    for (what, of) in held {
        let most = |looks: &[Look]| looks.iter().map(of).fold(0.0, f64::max);
        let (first, last) = (most(&looks[..looks.len() / 2]), quarters(looks).last().map_or(0.0, most));
        ensure!(last <= first + MORE_MAX, "{what} grow: {first:.0} in the first half, {last:.0} in the last quarter");
    }
    Ok(())
}

/// The most of a figure between each two saves, and when it was; what is left over at the beginning is left out.
fn highs(looks: &[Look], of: Figure) -> Vec<(f64, f64)> {
    let saves = looks.rchunks_exact(LOOKS_A_SAVE).rev();
    saves
        .filter_map(|looks| looks.iter().map(|look| (look.hours, of(look))).max_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

/// How steep the line of least squares through these is.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |(over, under), point| (over + (point.0 - x) * (point.1 - y), under + (point.0 - x).powi(2)));
    over / under
}
