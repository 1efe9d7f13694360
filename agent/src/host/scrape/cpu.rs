//! Collectors `cpu`, `cpufreq` and `schedstat`.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse;

use super::tree::{Tree, float};
use super::{Collected, Found};

/// Clock ticks in a second of `/proc/stat` (`USER_HZ`, the same on every architecture we build for).
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn cpu(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/stat")? else { return Ok(Found::Nothing) };
    let understood = |source| super::tree::ScrapeError::Parse { path: "proc/stat".to_owned(), source };
    let stat = parse::stat::parse(&bytes).map_err(understood)?;
    let mut seconds =
        out.family("node_cpu_seconds_total", FamilyKind::Counter, "CPU time by mode; the modes add up to all time.");
    for (cpu, times) in &stat.cpu_each {
        let cpu = cpu.to_string();
        for (mode, ticks) in [
            ("idle", times.idle),
            ("iowait", times.iowait),
            ("irq", times.irq),
            ("nice", times.nice),
            ("softirq", times.softirq),
            ("steal", times.steal),
            ("system", times.system),
            ("user", times.user),
        ] {
            seconds.add(&[("cpu", &cpu), ("mode", mode)], float(ticks) / TICKS_PER_SECOND);
        }
    }
    let mut guests = out.family(
        "node_cpu_guest_seconds_total",
        FamilyKind::Counter,
        "CPU time spent in virtual machines, which is part of user and nice time too.",
    );
    for (cpu, user, nice) in parse::stat::guests(&bytes).map_err(understood)? {
        let cpu = cpu.to_string();
        guests.add(&[("cpu", &cpu), ("mode", "nice")], float(nice) / TICKS_PER_SECOND);
        guests.add(&[("cpu", &cpu), ("mode", "user")], float(user) / TICKS_PER_SECOND);
    }
    if let Some(isolated) = tree.parsed("sys/devices/system/cpu/isolated", parse::cpu_list::parse)? {
        let mut family = out.family("node_cpu_isolated", FamilyKind::Gauge, "1 for a CPU kept free of ordinary tasks.");
        isolated.iter().for_each(|cpu| family.add(&[("cpu", &cpu.to_string())], 1.0));
    }
    throttles(tree, out)
}

/// Counted by core and by package: CPUs that share one show the same number.
pub(super) fn throttles(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut cores = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for (cpu, _) in tree.numbered("sys/devices/system/cpu", "cpu") {
        let number = |file: &str| tree.number(&format!("sys/devices/system/cpu/{cpu}/{file}"));
        let Some(package) = number("topology/physical_package_id").filter(|id| *id >= 0.0) else { continue };
        let Some(core) = number("topology/core_id") else { continue };
        let (package, core) = (package.to_string(), core.to_string());
        if let Some(count) = number("thermal_throttle/core_throttle_count") {
            cores.entry((package.clone(), core)).or_insert(count);
        }
        if let Some(count) = number("thermal_throttle/package_throttle_count") {
            packages.entry(package).or_insert(count);
        }
    }
    let help = "How often the core was slowed down because it was too hot.";
    let mut family = out.family("node_cpu_core_throttles_total", FamilyKind::Counter, help);
    cores.iter().for_each(|((package, core), count)| family.add(&[("core", core), ("package", package)], *count));
    let help = "How often the package was slowed down because it was too hot.";
    let mut family = out.family("node_cpu_package_throttles_total", FamilyKind::Counter, help);
    packages.iter().for_each(|(package, count)| family.add(&[("package", package)], *count));
    Ok(Found::Data)
}

/// File below `cpufreq/`, family, help. The kernel counts in kHz.
const FREQUENCIES: [(&str, &str, &str); 6] = [
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Frequency as the hardware says."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Lowest frequency of the hardware."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Highest frequency of the hardware."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Frequency as the governor last set it."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Lowest frequency that the governor may set."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Highest frequency that the governor may set."),
];

pub(super) fn cpufreq(tree: &Tree, out: &mut Exposition) -> Collected {
    let cpus = tree.numbered("sys/devices/system/cpu", "cpu");
    for (file, name, help) in FREQUENCIES {
        let mut family = out.family(name, FamilyKind::Gauge, help);
        for (cpu, number) in &cpus {
            if let Some(khz) = tree.number(&format!("sys/devices/system/cpu/{cpu}/cpufreq/{file}")) {
                family.add(&[("cpu", &number.to_string())], khz * 1e3);
            }
        }
    }
    Ok(Found::Data)
}

pub(super) fn schedstat(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/schedstat")? else { return Ok(Found::Nothing) };
    let cpus = parse::schedstat::parse(&bytes)
        .map_err(|source| super::tree::ScrapeError::Parse { path: "proc/schedstat".to_owned(), source })?;
    let seen: BTreeSet<&str> = cpus.iter().map(|cpu| cpu.cpu).collect();
    debug_assert_eq!(seen.len(), cpus.len(), "a CPU has one line");
    let help = "Time in which a task ran on the CPU.";
    let mut family = out.family("node_schedstat_running_seconds_total", FamilyKind::Counter, help);
    cpus.iter().for_each(|cpu| family.add(&[("cpu", cpu.cpu)], float(cpu.running_ns) / 1e9));
    let help = "Time that tasks waited for the CPU, summed over the tasks.";
    let mut family = out.family("node_schedstat_waiting_seconds_total", FamilyKind::Counter, help);
    cpus.iter().for_each(|cpu| family.add(&[("cpu", cpu.cpu)], float(cpu.waiting_ns) / 1e9));
    let mut family =
        out.family("node_schedstat_timeslices_total", FamilyKind::Counter, "Time slices that the CPU ran.");
    cpus.iter().for_each(|cpu| family.add(&[("cpu", cpu.cpu)], float(cpu.timeslices)));
    Ok(Found::Data)
}
