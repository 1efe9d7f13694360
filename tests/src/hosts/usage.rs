//! What units of a host use, as the kernel counts it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Host;

/// CPU time of a unit's cgroup in microseconds since it started, ended processes included; a unit that is off has used
/// none. The scheduler counts it in nanoseconds of run time and not in ticks.
///
/// # Errors
/// When the host is off, or the kernel says something else.
pub fn cpu_micros(host: &Host, unit: &str) -> Result<f64> {
    let text = host.run(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cpu.stat"))?;
    if !text.is_success() {
        return Ok(0.0);
    }
    let used = text.stdout.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("cpu.stat has usage")?;
    Ok(used.parse()?)
}

/// Processes of units.
///
/// # Errors
/// When the host is off.
pub fn processes(host: &Host, units: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for unit in units {
        let text = host.run(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs"))?.stdout;
        found.extend(text.lines().map(str::to_owned));
    }
    Ok(found)
}

/// Sum of one field of `smaps_rollup` over all processes of units, in MiB.
///
/// # Errors
/// When the host is off.
pub fn memory_mib(host: &Host, units: &[String], field: &str) -> Result<f64> {
    let files: Vec<_> = processes(host, units)?.iter().map(|pid| format!("/proc/{pid}/smaps_rollup")).collect();
    if files.is_empty() {
        return Ok(0.0);
    }
    let text = host.run(&format!("cat {} 2>/dev/null", files.join(" ")))?.stdout;
    let kib = text
        .lines()
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .sum::<f64>();
    Ok(kib / 1024.0)
}

/// Memory that is resident by mappings of one name and one kind of rights, in KiB.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    /// The file, or what stands for one; code and data of a file apart.
    pub name: String,
    /// All that is resident.
    pub rss_kib: f64,
    /// Of that, what is as in the file and nobody else has mapped.
    pub clean_kib: f64,
    /// Of that, what was written to.
    pub dirty_kib: f64,
}

/// Where the memory of a unit's main process is, the largest first.
///
/// # Errors
/// When the unit has no process.
pub fn mappings(host: &Host, unit: &str) -> Result<Vec<Mapping>> {
    let pid = host.unit_property(unit, "MainPID")?;
    let text = host.must(&format!("cat /proc/{pid}/smaps"))?;
    let mut by_name: BTreeMap<String, Mapping> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((key, number)) = words.first().zip(words.get(1)) else { continue };
        let kib = number.parse::<f64>().unwrap_or(0.0);
        let mapping = by_name.entry(name.clone()).or_default();
        match key.strip_suffix(':') {
            Some("Rss") => mapping.rss_kib += kib,
            Some("Private_Clean") => mapping.clean_kib += kib,
            Some("Private_Dirty") => mapping.dirty_kib += kib,
            Some(_) => {}
            // `7f00-7f10 r-xp 00000000 00:1f 1234 /usr/bin/x`: code and data of a file apart, by its rights.
            None => name = format!("{} {}", words.get(5).unwrap_or(&"anonymous"), number),
        }
    }
    let mut mappings: Vec<_> = by_name.into_iter().map(|(name, mapping)| Mapping { name, ..mapping }).collect();
    mappings.sort_by(|a, b| b.rss_kib.total_cmp(&a.rss_kib));
    Ok(mappings)
}
