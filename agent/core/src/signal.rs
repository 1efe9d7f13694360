//! Signals: rates and levels, derived from two samples.
//!
//! In: the sample before and the one now. Out: what detectors look at, in ratios and per second.
//! What cannot be derived is `None`: the reading is missing, there is no sample before, a counter
//! went back (a reset, another boot), or no time has passed. A rate is never guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sample::{CpuTimes, Disk, Filesystem, Interface, Pressure, Probe, Sample, Unit};
use crate::subject::{PathBytes, UnitName};

/// A result of a probe that is older than this says nothing: the prober itself has stopped.
pub(crate) const PROBE_AGE_MAX: Duration = Duration::from_secs(300);

/// What two samples say, borrowing the names from the later one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signals<'a> {
    /// Time between the samples; `None` where there is no earlier one of the same boot.
    pub elapsed: Option<Duration>,
    /// Share of CPU time spent working, waiting for I/O, and taken by the hypervisor.
    pub cpu: Option<CpuSignals>,
    /// One-minute load average per CPU.
    pub load_per_cpu: Option<f64>,
    /// Processes that wait for I/O now.
    pub procs_blocked: Option<f64>,
    /// Context switches per second.
    pub context_switches: Option<f64>,
    /// Processes and threads made per second.
    pub forks: Option<f64>,
    /// Major page faults per second.
    pub major_faults: Option<f64>,
    /// Pages swapped in and out per second.
    pub swapped_pages: Option<f64>,
    /// Processes killed for lack of memory since the sample before.
    pub oom_kills: Option<u64>,
    /// Memory that can be had without swapping, as a share of all.
    pub memory_available_ratio: Option<f64>,
    /// Swap in use, as a share of all; `None` without swap.
    pub swap_used_ratio: Option<f64>,
    /// File handles in use, as a share of the maximum.
    pub file_handles_ratio: Option<f64>,
    /// Share of the time in which some task waited for a CPU.
    pub cpu_waiting_ratio: Option<f64>,
    /// Share of the time in which some task waited for memory.
    pub memory_waiting_ratio: Option<f64>,
    /// Share of the time in which all tasks waited for memory.
    pub memory_stalled_ratio: Option<f64>,
    /// Share of the time in which some task waited for I/O.
    pub io_waiting_ratio: Option<f64>,
    /// Share of the time in which all tasks waited for I/O.
    pub io_stalled_ratio: Option<f64>,
    /// Filesystems that can be written to and have answered.
    pub filesystems: Vec<FilesystemSignals<'a>>,
    /// Block devices.
    pub disks: Vec<DiskSignals<'a>>,
    /// Network interfaces.
    pub interfaces: Vec<InterfaceSignals<'a>>,
    /// Units with a cgroup.
    pub units: Vec<UnitSignals<'a>>,
    /// Probes with a result that is not old.
    pub probes: Vec<ProbeSignals<'a>>,
}

/// Shares of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CpuSignals {
    /// Doing anything but idling and waiting for I/O. What the hypervisor took counts as busy: it
    /// was wanted.
    pub busy_ratio: f64,
    /// Idle while I/O was outstanding.
    pub iowait_ratio: f64,
    /// Taken by the hypervisor.
    pub steal_ratio: f64,
}

/// Levels of one filesystem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FilesystemSignals<'a> {
    /// Where it is mounted.
    pub mount: &'a PathBytes,
    /// Used bytes.
    pub used_bytes: u64,
    /// What can be used by everybody: used and available, without what is reserved for root.
    pub usable_bytes: u64,
    /// Used share, as df shows it: used / (used + available).
    pub used_ratio: f64,
    /// Used share of the inodes; `None` where they are made as needed.
    pub inodes_used_ratio: Option<f64>,
}

/// Rates of one block device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskSignals<'a> {
    /// Kernel name.
    pub name: &'a str,
    /// Share of the time in which a request was in flight.
    pub busy_ratio: f64,
    /// Mean time of a request, in seconds; `None` where none was completed.
    pub await_seconds: Option<f64>,
    /// Bytes read per second.
    pub read_bytes: f64,
    /// Bytes written per second.
    pub written_bytes: f64,
    /// Requests completed per second.
    pub requests: f64,
}

/// Rates of one network interface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterfaceSignals<'a> {
    /// Kernel name.
    pub name: &'a str,
    /// Bytes received per second.
    pub receive_bytes: f64,
    /// Bytes sent per second.
    pub transmit_bytes: f64,
    /// Packets received and sent per second.
    pub packets: f64,
    /// Errors and drops per second, both ways.
    pub errors: f64,
}

/// What the cgroup of a unit says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitSignals<'a> {
    /// The unit.
    pub unit: &'a UnitName,
    /// Which start of it.
    pub invocation: Option<[u8; 16]>,
    /// Memory that cannot be reclaimed, or the nearest thing to it that is known.
    pub memory_bytes: Option<u64>,
    /// Whether `memory_bytes` may hold page cache, which grows without harm.
    pub memory_with_cache: bool,
    /// `memory.max`.
    pub memory_max_bytes: Option<u64>,
    /// CPUs in use: 1.5 is one and a half.
    pub cpus: Option<f64>,
    /// Bytes read and written per second.
    pub io_bytes: Option<f64>,
    /// Processes killed for lack of memory since the sample before.
    pub oom_kills: Option<u64>,
}

/// What a probe last said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeSignals<'a> {
    /// Its name.
    pub name: &'a str,
    /// The unit that it speaks for.
    pub unit: &'a UnitName,
    /// How long the last answer took. One that did not come took as long as was waited for it.
    pub latency_seconds: f64,
}

impl<'a> Signals<'a> {
    /// Derives what `current` says since `previous`. Levels need no sample before.
    #[must_use]
    pub fn between(previous: Option<&Sample>, current: &'a Sample) -> Self {
        // Another boot, or the same moment twice: nothing can be said about change.
        let previous = previous.filter(|previous| current.at.boot_ns > previous.at.boot_ns);
        let elapsed = previous.map(|previous| current.at.since(previous.at));
        let mut signals = Self { elapsed, ..Self::default() };
        levels(current, &mut signals);
        if let (Some(previous), Some(elapsed)) = (previous, elapsed) {
            rates(previous, current, elapsed.as_secs_f64(), &mut signals);
        }
        signals.units = units(previous, current, elapsed);
        signals.probes = probes(current);
        signals
    }
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

/// `part / whole`; `None` of nothing.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

/// How much a counter rose per second; `None` where it went back.
fn rate(before: u64, now: u64, seconds: f64) -> Option<f64> {
    now.checked_sub(before).map(|rise| float(rise) / seconds)
}

fn levels<'a>(current: &'a Sample, signals: &mut Signals<'a>) {
    if let (Some(load), Some(cpus @ 1..)) = (current.load, current.cpus) {
        signals.load_per_cpu = Some(load.one / f64::from(cpus));
    }
    signals.procs_blocked = current.kernel.map(|kernel| float(kernel.procs_blocked));
    if let Some(memory) = current.memory {
        signals.memory_available_ratio = ratio(memory.available_bytes, memory.total_bytes);
        let swap_used = memory.swap_total_bytes.saturating_sub(memory.swap_free_bytes);
        signals.swap_used_ratio = ratio(swap_used, memory.swap_total_bytes);
    }
    signals.file_handles_ratio = current.file_handles.and_then(|files| ratio(files.allocated, files.maximum));
    signals.filesystems = current.filesystems.iter().filter(|fs| !fs.read_only).filter_map(filesystem).collect();
}

fn filesystem(fs: &Filesystem) -> Option<FilesystemSignals<'_>> {
    let usage = fs.usage?;
    let used_bytes = usage.size_bytes.saturating_sub(usage.free_bytes);
    let usable_bytes = used_bytes.saturating_add(usage.avail_bytes);
    let inodes_used = usage.files.saturating_sub(usage.files_free);
    Some(FilesystemSignals {
        mount: &fs.mount,
        used_bytes,
        usable_bytes,
        used_ratio: ratio(used_bytes, usable_bytes)?,
        inodes_used_ratio: ratio(inodes_used, usage.files),
    })
}

fn rates<'a>(previous: &Sample, current: &'a Sample, seconds: f64, signals: &mut Signals<'a>) {
    signals.cpu = both(previous.cpu, current.cpu).and_then(|(before, now)| cpu(&before, &now));
    if let Some((before, now)) = both(previous.kernel, current.kernel) {
        signals.context_switches = rate(before.context_switches, now.context_switches, seconds);
        signals.forks = rate(before.forks, now.forks, seconds);
    }
    if let Some((before, now)) = both(previous.vm, current.vm) {
        signals.major_faults = rate(before.pgmajfault, now.pgmajfault, seconds);
        let swapped_in = rate(before.pswpin, now.pswpin, seconds);
        signals.swapped_pages =
            both(swapped_in, rate(before.pswpout, now.pswpout, seconds)).map(|(swapped_in, out)| swapped_in + out);
        signals.oom_kills = now.oom_kill.checked_sub(before.oom_kill);
    }
    let (before, now) = (&previous.pressure, &current.pressure);
    signals.cpu_waiting_ratio = waiting(before.cpu, now.cpu, seconds);
    signals.memory_waiting_ratio = waiting(before.memory, now.memory, seconds);
    signals.memory_stalled_ratio = stalled(before.memory, now.memory, seconds);
    signals.io_waiting_ratio = waiting(before.io, now.io, seconds);
    signals.io_stalled_ratio = stalled(before.io, now.io, seconds);
    signals.disks = current
        .disks
        .iter()
        .filter_map(|now| disk(previous.disks.iter().find(|before| before.name == now.name)?, now, seconds))
        .collect();
    signals.interfaces = current
        .interfaces
        .iter()
        .filter_map(|now| interface(previous.interfaces.iter().find(|before| before.name == now.name)?, now, seconds))
        .collect();
}

/// Adds counters. Nothing real comes near the bound, and nothing wrong makes this panic.
fn sum<const N: usize>(counters: [u64; N]) -> u64 {
    counters.into_iter().fold(0, u64::saturating_add)
}

fn both<T, U>(a: Option<T>, b: Option<U>) -> Option<(T, U)> {
    a.zip(b)
}

fn cpu(before: &CpuTimes, now: &CpuTimes) -> Option<CpuSignals> {
    // Time that was worked never goes back; idle and iowait do by a tick or two, as proc(5) warns.
    let working = |c: &CpuTimes| sum([c.user, c.nice, c.system, c.irq, c.softirq, c.steal]);
    let busy = working(now).checked_sub(working(before))?;
    let iowait = now.iowait.saturating_sub(before.iowait);
    let total = sum([busy, iowait, now.idle.saturating_sub(before.idle)]);
    Some(CpuSignals {
        busy_ratio: ratio(busy, total)?,
        iowait_ratio: ratio(iowait, total)?,
        steal_ratio: ratio(now.steal.saturating_sub(before.steal), total)?,
    })
}

/// Share of the time between two readings of a pressure file in which some task waited.
fn waiting(before: Option<Pressure>, now: Option<Pressure>, seconds: f64) -> Option<f64> {
    share(before?.some.total_us, now?.some.total_us, seconds)
}

/// The same for all tasks at once.
fn stalled(before: Option<Pressure>, now: Option<Pressure>, seconds: f64) -> Option<f64> {
    share(before?.full?.total_us, now?.full?.total_us, seconds)
}

fn share(before_us: u64, now_us: u64, seconds: f64) -> Option<f64> {
    // The kernel adds up what it knows when it is asked, which can be a little more than passed.
    rate(before_us, now_us, seconds * 1e6).map(|share| share.min(1.0))
}

fn disk<'a>(before: &Disk, now: &'a Disk, seconds: f64) -> Option<DiskSignals<'a>> {
    let requests = sum([now.reads, now.writes]).checked_sub(sum([before.reads, before.writes]))?;
    let waited_ms = sum([now.read_ms, now.write_ms]).checked_sub(sum([before.read_ms, before.write_ms]))?;
    Some(DiskSignals {
        name: &now.name,
        busy_ratio: (rate(before.io_ms, now.io_ms, seconds)? / 1e3).min(1.0),
        await_seconds: ratio(waited_ms, requests).map(|ms| ms / 1e3),
        read_bytes: rate(before.read_bytes, now.read_bytes, seconds)?,
        written_bytes: rate(before.written_bytes, now.written_bytes, seconds)?,
        requests: float(requests) / seconds,
    })
}

fn interface<'a>(before: &Interface, now: &'a Interface, seconds: f64) -> Option<InterfaceSignals<'a>> {
    let errors = |i: &Interface| sum([i.receive_errors, i.receive_dropped, i.transmit_errors, i.transmit_dropped]);
    let packets = |i: &Interface| sum([i.receive_packets, i.transmit_packets]);
    Some(InterfaceSignals {
        name: &now.name,
        receive_bytes: rate(before.receive_bytes, now.receive_bytes, seconds)?,
        transmit_bytes: rate(before.transmit_bytes, now.transmit_bytes, seconds)?,
        packets: rate(packets(before), packets(now), seconds)?,
        errors: rate(errors(before), errors(now), seconds)?,
    })
}

fn units<'a>(previous: Option<&Sample>, current: &'a Sample, elapsed: Option<Duration>) -> Vec<UnitSignals<'a>> {
    let mut before = previous.and_then(|previous| previous.units.as_ref()).into_iter().flatten().peekable();
    let seconds = elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64());
    let mut units = Vec::with_capacity(current.units.as_ref().map_or(0, BTreeMap::len));
    for (name, unit) in current.units.iter().flatten() {
        // Both come in the order of their names.
        while before.next_if(|(earlier, _)| *earlier < name).is_some() {}
        let same = before.next_if(|(earlier, _)| *earlier == name).map(|(_, unit)| unit);
        units.extend(of_unit(same, name, unit, seconds));
    }
    units
}

fn probes(current: &Sample) -> Vec<ProbeSignals<'_>> {
    let is_fresh = |probe: &Probe| current.at.since(probe.at) <= PROBE_AGE_MAX;
    let fresh = current.probes.iter().filter(|(_, probe)| is_fresh(probe));
    fresh
        .map(|(name, probe)| ProbeSignals { name, unit: &probe.unit, latency_seconds: probe.latency.as_secs_f64() })
        .collect()
}

fn of_unit<'a>(before: Option<&Unit>, name: &'a UnitName, unit: &Unit, seconds: f64) -> Option<UnitSignals<'a>> {
    let now = unit.cgroup?;
    // A unit that was started anew has a new cgroup, whose counters begin at zero.
    let before = before.filter(|before| before.invocation == unit.invocation).and_then(|before| before.cgroup);
    let rise = |of: fn(&crate::sample::Cgroup) -> Option<u64>| {
        let before = of(before.as_ref()?)?;
        rate(before, of(&now)?, seconds)
    };
    let io = both(rise(|c| c.io_read_bytes), rise(|c| c.io_written_bytes));
    Some(UnitSignals {
        unit: name,
        invocation: unit.invocation,
        memory_bytes: now.memory_anon_bytes.or(now.rss_bytes).or(now.memory_current_bytes),
        memory_with_cache: now.memory_anon_bytes.or(now.rss_bytes).is_none(),
        memory_max_bytes: now.memory_max_bytes,
        cpus: rise(|c| c.cpu_usage_us).map(|us| us / 1e6),
        io_bytes: io.map(|(read, written)| read + written),
        oom_kills: before.and_then(|before| now.memory_events_oom_kill?.checked_sub(before.memory_events_oom_kill?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Cgroup, FilesystemUsage, KernelCounters, Memory, Stall};
    use crate::time::Now;

    fn at(second: u64) -> Sample {
        Sample { at: Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }, ..Sample::default() }
    }

    fn times(user: u64, idle: u64, iowait: u64) -> Option<CpuTimes> {
        Some(CpuTimes { user, idle, iowait, ..CpuTimes::default() })
    }

    #[test]
    fn cpu_time_becomes_shares() {
        let before = Sample { cpu: times(100, 100, 0), ..at(1) };
        let now = Sample { cpu: times(150, 140, 10), ..at(2) };
        let cpu = Signals::between(Some(&before), &now).cpu.unwrap();
        assert_eq!((cpu.busy_ratio, cpu.iowait_ratio), (0.5, 0.1));
    }

    #[test]
    fn idle_time_may_go_back_and_working_time_may_not() {
        let before = Sample { cpu: times(100, 100, 5), ..at(1) };
        let wart = Sample { cpu: times(150, 99, 4), ..at(2) };
        assert_eq!(Signals::between(Some(&before), &wart).cpu.unwrap().busy_ratio, 1.0);
        let reset = Sample { cpu: times(50, 200, 5), ..at(2) };
        assert_eq!(Signals::between(Some(&before), &reset).cpu, None);
    }

    #[test]
    fn nothing_is_derived_over_a_reboot_or_without_a_sample_before() {
        let counters = |forks| Some(KernelCounters { forks, ..KernelCounters::default() });
        let before = Sample { kernel: counters(5), ..at(100) };
        let now = Sample { kernel: counters(500), ..at(3) };
        assert_eq!(Signals::between(Some(&before), &now).forks, None);
        assert_eq!(Signals::between(None, &now).forks, None);
        assert_eq!(Signals::between(Some(&now), &Sample { kernel: counters(700), ..at(5) }).forks, Some(100.0));
    }

    #[test]
    fn a_counter_that_went_back_has_no_rate() {
        let counters = |forks| Some(KernelCounters { forks, ..KernelCounters::default() });
        let before = Sample { kernel: counters(500), ..at(1) };
        let now = Sample { kernel: counters(5), ..at(2) };
        assert_eq!(Signals::between(Some(&before), &now).forks, None);
    }

    #[test]
    fn a_filesystem_is_as_full_as_df_says() {
        let usage =
            FilesystemUsage { size_bytes: 1_000, free_bytes: 150, avail_bytes: 100, files: 200, files_free: 50 };
        let fs = Filesystem { usage: Some(usage), ..Filesystem::default() };
        let sample = Sample {
            filesystems: vec![
                fs.clone(),
                Filesystem { read_only: true, ..fs.clone() },
                Filesystem { usage: None, ..fs },
            ],
            ..at(1)
        };
        let signals = Signals::between(None, &sample);
        assert_eq!(signals.filesystems.len(), 1, "neither a read-only nor a hung one");
        let fs = signals.filesystems[0];
        assert_eq!((fs.used_bytes, fs.usable_bytes), (850, 950));
        assert_eq!(fs.used_ratio, 850.0 / 950.0, "what root reserves is not counted");
        assert_eq!(fs.inodes_used_ratio, Some(0.75));
    }

    #[test]
    fn pressure_is_the_share_of_the_interval() {
        let pressure = |total_us| Some(Pressure { some: Stall { total_us, ..Stall::default() }, full: None });
        let mut before = at(1);
        let mut now = at(3);
        (before.pressure.memory, now.pressure.memory) = (pressure(1_000_000), pressure(1_500_000));
        let signals = Signals::between(Some(&before), &now);
        assert_eq!((signals.memory_waiting_ratio, signals.memory_stalled_ratio), (Some(0.25), None));
    }

    #[test]
    fn a_disk_without_requests_has_no_waiting_time() {
        let disk = |writes, write_ms| Disk { name: "vda".into(), writes, write_ms, ..Disk::default() };
        let before = Sample { disks: vec![disk(10, 100)], ..at(1) };
        let idle = Sample { disks: vec![disk(10, 100)], ..at(2) };
        let busy = Sample { disks: vec![disk(15, 150)], ..at(2) };
        assert_eq!(Signals::between(Some(&before), &idle).disks[0].await_seconds, None);
        assert_eq!(Signals::between(Some(&before), &busy).disks[0].await_seconds, Some(0.01));
    }

    #[test]
    fn memory_is_a_share_and_no_swap_is_unknown() {
        let memory = Memory { total_bytes: 100, available_bytes: 30, ..Memory::default() };
        let sample = Sample { memory: Some(memory), ..at(1) };
        let signals = Signals::between(None, &sample);
        assert_eq!((signals.memory_available_ratio, signals.swap_used_ratio), (Some(0.3), None));
    }

    #[test]
    fn a_probe_says_how_long_it_took_until_that_is_old() {
        let latency = Duration::from_millis(30);
        let unit: UnitName = "web.service".parse().unwrap();
        let probe =
            Probe { unit: unit.clone(), at: at(100).at, fails: 0, fails_max: 3, latency, text: "200 in 30 ms".into() };
        let seen = |second| Sample { probes: BTreeMap::from([("web".to_owned(), probe.clone())]), ..at(second) };
        let signal = ProbeSignals { name: "web", unit: &unit, latency_seconds: 0.03 };
        assert_eq!(Signals::between(None, &seen(101)).probes, [signal]);
        assert_eq!(Signals::between(None, &seen(401)).probes, [], "the prober has stopped");
    }

    #[test]
    fn a_restarted_unit_has_no_rates_at_first() {
        let unit = |invocation: u8, cpu_usage_us| {
            let cgroup = Cgroup { cpu_usage_us: Some(cpu_usage_us), ..Cgroup::default() };
            let unit = Unit { invocation: Some([invocation; 16]), cgroup: Some(cgroup), ..Unit::default() };
            Some(BTreeMap::from([("a.service".parse().unwrap(), unit)]))
        };
        let before = Sample { units: unit(1, 1_000_000), ..at(1) };
        let same = Sample { units: unit(1, 2_500_000), ..at(2) };
        let restarted = Sample { units: unit(2, 2_500_000), ..at(2) };
        assert_eq!(Signals::between(Some(&before), &same).units[0].cpus, Some(1.5));
        assert_eq!(Signals::between(Some(&before), &restarted).units[0].cpus, None);
    }
}
