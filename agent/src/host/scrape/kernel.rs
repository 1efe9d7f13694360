//! Collectors of what the kernel says of itself: `stat`, `loadavg`, `pressure`, `processes`, `filefd`,
//! `entropy`, `selinux`.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse;

use super::tree::{Tree, float};
use super::{Collected, Found};

pub(super) fn stat(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(stat) = tree.parsed("proc/stat", parse::stat::parse)? else { return Ok(Found::Nothing) };
    let kernel = stat.kernel;
    out.gauge(
        "node_boot_time_seconds",
        "When the machine was started, in seconds since 1970.",
        float(kernel.boot_time_seconds),
    );
    out.counter("node_context_switches_total", "Context switches.", float(kernel.context_switches));
    out.counter("node_forks_total", "Processes and threads that were made.", float(kernel.forks));
    out.counter("node_intr_total", "Interrupts that were served.", float(kernel.interrupts));
    out.gauge("node_procs_blocked", "Processes that wait for I/O.", float(kernel.procs_blocked));
    out.gauge("node_procs_running", "Processes that run or could.", float(kernel.procs_running));
    Ok(Found::Data)
}

pub(super) fn loadavg(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(load) = tree.parsed("proc/loadavg", parse::loadavg::parse)? else { return Ok(Found::Nothing) };
    out.gauge("node_load1", "Load average over one minute.", load.one);
    out.gauge("node_load5", "Load average over five minutes.", load.five);
    out.gauge("node_load15", "Load average over fifteen minutes.", load.fifteen);
    Ok(Found::Data)
}

pub(super) fn pressure(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut found = Found::Nothing;
    for (resource, full) in [("cpu", false), ("io", true), ("memory", true)] {
        let path = format!("proc/pressure/{resource}");
        let Some(pressure) = tree.parsed(&path, parse::pressure::parse)? else { continue };
        found = Found::Data;
        let name = format!("node_pressure_{resource}_waiting_seconds_total");
        out.counter(&name, "Time in which some task waited for it.", float(pressure.some.total_us) / 1e6);
        if let Some(stall) = pressure.full.filter(|_| full) {
            let name = format!("node_pressure_{resource}_stalled_seconds_total");
            out.counter(&name, "Time in which every task waited for it.", float(stall.total_us) / 1e6);
        }
    }
    Ok(found)
}

/// How many processes and threads there may be. How many there are the last sample says.
pub(super) fn processes(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut found = Found::Nothing;
    for (path, name, help) in [
        ("proc/sys/kernel/pid_max", "node_processes_max_processes", "Most processes that there may be."),
        ("proc/sys/kernel/threads-max", "node_processes_max_threads", "Most threads that there may be."),
    ] {
        let Some(most) = tree.number(path) else { continue };
        out.gauge(name, help, most);
        found = Found::Data;
    }
    Ok(found)
}

pub(super) fn filefd(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(files) = tree.parsed("proc/sys/fs/file-nr", parse::file_nr::parse)? else { return Ok(Found::Nothing) };
    out.gauge("node_filefd_allocated", "File handles in use.", float(files.allocated));
    out.gauge("node_filefd_maximum", "Most file handles that there may be.", float(files.maximum));
    Ok(Found::Data)
}

pub(super) fn entropy(tree: &Tree, out: &mut Exposition) -> Collected {
    let (available, size) =
        (tree.number("proc/sys/kernel/random/entropy_avail"), tree.number("proc/sys/kernel/random/poolsize"));
    let (Some(available), Some(size)) = (available, size) else { return Ok(Found::Nothing) };
    out.gauge("node_entropy_available_bits", "Randomness that the kernel has at hand.", available);
    out.gauge("node_entropy_pool_size_bits", "Randomness that the kernel can hold.", size);
    Ok(Found::Data)
}

pub(super) fn selinux(tree: &Tree, out: &mut Exposition) -> Collected {
    let current = tree.number("sys/fs/selinux/enforce");
    out.gauge("node_selinux_enabled", "1 if SELinux is on.", f64::from(u8::from(current.is_some())));
    let Some(current) = current else { return Ok(Found::Data) };
    out.gauge("node_selinux_current_mode", "Mode now: 1 enforcing, 0 permissive.", current);
    let config = tree.text("etc/selinux/config").unwrap_or_default();
    let mode = config.lines().find_map(|line| line.trim().strip_prefix("SELINUX="));
    let mode = match mode.map(str::trim) {
        Some("enforcing") => 1.0,
        Some("permissive") => 0.0,
        _ => -1.0,
    };
    out.family(
        "node_selinux_config_mode",
        FamilyKind::Gauge,
        "Mode at the next boot: 1 enforcing, 0 permissive, -1 off.",
    )
    .add(&[], mode);
    Ok(Found::Data)
}
