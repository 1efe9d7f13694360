//! Readings: a sample as series with node_exporter's names and labels.
//!
//! What a sample does not hold is not named: there is no series for what is unknown. Where
//! node_exporter has a name it is used, so that dashboards and alert rules work as they are;
//! units and probes are Mainstay's own (`mainstay_unit_*`, `mainstay_probe_*`). Values are in base
//! units (seconds, bytes).

mod details;

pub use details::details;

use crate::host_query::logs::PRIORITIES;
use crate::log::{LogCounts, LogReading};
use crate::sample::{
    ActiveState, Cgroup, ClockSync, Container, CpuTimes, Disk, DiskHealth, Filesystem, HealthReport, Interface,
    KernelCounters, Memory, Pressures, Probe, Sample, TcpCounters, Unit, VmCounters,
};
use crate::subject::UnitName;

/// Clock ticks in a second of `/proc/stat` (`USER_HZ`, the same on every architecture we build for).
const TICKS_PER_SECOND: f64 = 100.0;

/// How a series behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeriesKind {
    /// It only rises, and starts anew at zero now and then.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One value of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading<'a> {
    /// Name of the series.
    pub name: &'static str,
    /// Its labels, sorted by name.
    pub labels: &'a [(&'static str, &'a str)],
    /// How it behaves.
    pub kind: SeriesKind,
    /// The value.
    pub value: f64,
    /// The number of what it is about, among what one sample is about: readings with the same number have the same labels.
    pub subject: u32,
}

/// Who takes the readings of samples.
pub trait Take {
    /// Takes one.
    fn reading(&mut self, reading: &Reading<'_>);

    /// Begins the unit that is the `at`th of the sample. Where nothing has changed of it since the sample before (`is_same`)
    /// all of its readings may be taken as they were: says whether they are. If not they are given one by one, and
    /// [`Self::unit_ends`] is called behind them.
    fn unit_begins(&mut self, _at: usize, _unit: &UnitName, _is_same: bool) -> bool {
        false
    }

    /// Says that all readings of the unit that was begun were given.
    fn unit_ends(&mut self, _at: usize, _unit: &UnitName) {}
}

/// Takes each reading by itself.
struct Each<'a>(&'a mut dyn FnMut(Reading<'_>));

impl Take for Each<'_> {
    fn reading(&mut self, reading: &Reading<'_>) {
        (self.0)(*reading);
    }
}

/// Calls `take` with every reading of `sample`, always in the same order.
pub fn readings(sample: &Sample, take: &mut dyn FnMut(Reading<'_>)) {
    readings_after(None, sample, &mut Each(take));
}

/// The same, where `before` is the sample whose readings were taken last: a unit of which nothing has changed since is not
/// told reading by reading, as it goes with most of them in most seconds.
pub fn readings_after(before: Option<&Sample>, sample: &Sample, take: &mut dyn Take) {
    let mut out = Out { labels: &[], subject: 0, subjects: &mut 0, take };
    cpu(sample, &mut out);
    if let Some(load) = &sample.load {
        out.gauge("node_load1", load.one);
        out.gauge("node_load5", load.five);
        out.gauge("node_load15", load.fifteen);
    }
    if let Some(kernel_counters) = &sample.kernel {
        kernel(kernel_counters, &mut out);
    }
    if let Some(m) = &sample.memory {
        memory(m, &mut out);
    }
    if let Some(v) = &sample.vm {
        vm(v, &mut out);
    }
    pressure(&sample.pressure, &mut out);
    for fs in &sample.filesystems {
        filesystem(fs, &mut out);
    }
    for d in &sample.disks {
        disk(d, &mut out);
    }
    for i in &sample.interfaces {
        interface(i, &mut out);
    }
    if let Some(files) = sample.file_handles {
        out.gauge("node_filefd_allocated", count(files.allocated));
        out.gauge("node_filefd_maximum", count(files.maximum));
    }
    if let Some(processes) = sample.processes {
        out.gauge("node_processes_pids", f64::from(processes.total));
        out.gauge("node_processes_threads", f64::from(processes.threads));
        out.with(&[("state", "D")]).gauge("node_processes_state", f64::from(processes.uninterruptible));
        out.with(&[("state", "Z")]).gauge("node_processes_state", f64::from(processes.zombies));
    }
    if let Some(counters) = &sample.tcp {
        tcp(counters, &mut out);
    }
    if let Some(conntrack) = sample.conntrack {
        out.gauge("node_nf_conntrack_entries", count(conntrack.entries));
        out.gauge("node_nf_conntrack_entries_limit", count(conntrack.limit));
    }
    if let Some(sync) = &sample.clock {
        clock(sync, &mut out);
    }
    if let Some(is_required) = sample.reboot_required {
        out.gauge("mainstay_host_reboot_required", flag(is_required));
    }
    for disk in sample.disk_health.iter().flat_map(|all| all.iter()) {
        disk_health(disk, &mut out);
    }
    let mut before = before.and_then(|before| before.units.as_ref()).into_iter().flatten().peekable();
    for (at, (name, u)) in sample.units.iter().flatten().enumerate() {
        // Both come in the order of their names.
        while before.next_if(|(earlier, _)| *earlier < name).is_some() {}
        let is_same = before.next_if(|(earlier, _)| *earlier == name).is_some_and(|(_, before)| before == u);
        if out.take.unit_begins(at, name, is_same) {
            *out.subjects += SUBJECTS_OF_UNIT;
        } else {
            unit(name.as_str(), u, &mut out);
            out.take.unit_ends(at, name);
        }
    }
    for c in &sample.containers {
        container(c, &mut out);
    }
    for (name, p) in &sample.probes {
        probe(name, p, &mut out);
    }
    if let Some(reading) = &sample.log {
        log(reading, &mut out);
    }
}

/// Arrays are node_exporter's `node_md_*`, read beside the samples.
fn disk_health(disk: &DiskHealth, out: &mut Out<'_>) {
    let device = disk.name.as_str();
    match &disk.report {
        HealthReport::Array(_) => {}
        HealthReport::Flash(wear) => {
            if let Some(tenths) = wear.life_tenths {
                out.with(&[("device", device)]).gauge("mainstay_disk_life_used_ratio", f64::from(tenths) / 10.0);
            }
        }
        HealthReport::Smart(state) => {
            let warnings = u64::try_from(state.warnings.len()).unwrap_or(u64::MAX);
            out.with(&[("device", device)]).gauge("mainstay_disk_smart_warnings", count(warnings));
            for (id, row) in &state.attributes {
                let id = id.to_string();
                let labels = [("attribute", id.as_str()), ("device", device)];
                let mut out = out.with(&labels);
                out.gauge("mainstay_disk_smart_raw", count(row.raw));
                out.gauge("mainstay_disk_smart_value", count(row.value));
            }
        }
    }
}

fn log(log: &LogReading, out: &mut Out<'_>) {
    for (name, counts) in &log.units {
        log_lines(name.as_str(), counts, out);
    }
    log_lines("kernel", &log.kernel, out);
    log_lines("other", &log.other, out);
    out.counter("mainstay_log_lines_skipped_total", count(log.skipped));
    out.counter("mainstay_log_lines_unread_total", count(log.unread));
    out.counter("mainstay_log_entries_damaged_total", count(log.damaged));
    out.counter("mainstay_log_evicted_total", count(log.evicted));
}

fn log_lines(unit: &str, counts: &LogCounts, out: &mut Out<'_>) {
    for (priority, lines) in PRIORITIES.iter().zip(counts.lines).filter(|(_, lines)| *lines > 0) {
        out.with(&[("priority", priority), ("unit", unit)]).counter("mainstay_log_lines_total", count(lines));
    }
    if counts.errors > 0 {
        out.with(&[("unit", unit)]).counter("mainstay_log_errors_total", count(counts.errors));
    }
}

/// Where readings go, under the labels that are common to them.
struct Out<'a> {
    labels: &'a [(&'static str, &'a str)],
    subject: u32,
    /// Subjects so far.
    subjects: &'a mut u32,
    take: &'a mut dyn Take,
}

impl Out<'_> {
    fn with<'b>(&'b mut self, labels: &'b [(&'static str, &'b str)]) -> Out<'b> {
        *self.subjects += 1;
        Out { labels, subject: *self.subjects, subjects: self.subjects, take: self.take }
    }

    fn counter(&mut self, name: &'static str, value: f64) {
        self.put(name, SeriesKind::Counter, value);
    }

    fn gauge(&mut self, name: &'static str, value: f64) {
        self.put(name, SeriesKind::Gauge, value);
    }

    fn put(&mut self, name: &'static str, kind: SeriesKind, value: f64) {
        self.take.reading(&Reading { name, labels: self.labels, kind, value, subject: self.subject });
    }
}

/// A count as a series has it: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn count(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// One series per CPU and mode, as node_exporter has it: its users count CPUs and average over
/// them, so a sum over all CPUs under the same name would be wrong for them. Where they are not told
/// one by one, all together have a name of their own.
fn cpu(sample: &Sample, out: &mut Out<'_>) {
    if sample.cpu_each.is_empty() {
        return cpus_together(sample, out);
    }
    let mut number = String::new();
    for (cpu, times) in &sample.cpu_each {
        use std::fmt::Write;
        number.clear();
        let _ = write!(number, "{cpu}");
        for (mode, ticks) in modes(times) {
            out.with(&[("cpu", &number), ("mode", mode)])
                .counter("node_cpu_seconds_total", count(ticks) / TICKS_PER_SECOND);
        }
    }
}

fn cpus_together(sample: &Sample, out: &mut Out<'_>) {
    let Some((times, cpus)) = sample.cpu.as_ref().zip(sample.cpus) else { return };
    cpu_seconds(times, &mut |mode, seconds| {
        out.with(&[("mode", mode)]).counter("mainstay_cpu_seconds_total", seconds);
    });
    out.gauge("mainstay_cpus", f64::from(cpus));
}

/// Gives the seconds of each mode, with its name.
pub(crate) fn cpu_seconds(times: &CpuTimes, take: &mut dyn FnMut(&'static str, f64)) {
    for (mode, ticks) in modes(times) {
        take(mode, count(ticks) / TICKS_PER_SECOND);
    }
}

fn modes(times: &CpuTimes) -> [(&'static str, u64); 8] {
    [
        ("idle", times.idle),
        ("iowait", times.iowait),
        ("irq", times.irq),
        ("nice", times.nice),
        ("softirq", times.softirq),
        ("steal", times.steal),
        ("system", times.system),
        ("user", times.user),
    ]
}

fn kernel(kernel: &KernelCounters, out: &mut Out<'_>) {
    out.counter("node_context_switches_total", count(kernel.context_switches));
    out.counter("node_forks_total", count(kernel.forks));
    out.counter("node_intr_total", count(kernel.interrupts));
    out.gauge("node_boot_time_seconds", count(kernel.boot_time_seconds));
    out.gauge("node_procs_running", count(kernel.procs_running));
    out.gauge("node_procs_blocked", count(kernel.procs_blocked));
}

fn memory(memory: &Memory, out: &mut Out<'_>) {
    for (name, bytes) in [
        ("node_memory_MemTotal_bytes", memory.total_bytes),
        ("node_memory_MemFree_bytes", memory.free_bytes),
        ("node_memory_MemAvailable_bytes", memory.available_bytes),
        ("node_memory_Buffers_bytes", memory.buffers_bytes),
        ("node_memory_Cached_bytes", memory.cached_bytes),
        ("node_memory_Shmem_bytes", memory.shmem_bytes),
        ("node_memory_SReclaimable_bytes", memory.slab_reclaimable_bytes),
        ("node_memory_SUnreclaim_bytes", memory.slab_unreclaimable_bytes),
        ("node_memory_Dirty_bytes", memory.dirty_bytes),
        ("node_memory_SwapTotal_bytes", memory.swap_total_bytes),
        ("node_memory_SwapFree_bytes", memory.swap_free_bytes),
    ] {
        out.gauge(name, count(bytes));
    }
}

fn vm(vm: &VmCounters, out: &mut Out<'_>) {
    out.counter("node_vmstat_pswpin", count(vm.pswpin));
    out.counter("node_vmstat_pswpout", count(vm.pswpout));
    out.counter("node_vmstat_pgmajfault", count(vm.pgmajfault));
    out.counter("node_vmstat_pgsteal_kswapd", count(vm.pgsteal_kswapd));
    out.counter("node_vmstat_pgsteal_direct", count(vm.pgsteal_direct));
    out.counter("node_vmstat_pgscan_kswapd", count(vm.pgscan_kswapd));
    out.counter("node_vmstat_pgscan_direct", count(vm.pgscan_direct));
    out.counter("node_vmstat_oom_kill", count(vm.oom_kill));
    if let Some(compaction) = vm.compaction {
        out.counter("node_vmstat_compact_stall", count(compaction.stall));
        out.counter("node_vmstat_compact_fail", count(compaction.fail));
    }
}

fn pressure(pressures: &Pressures, out: &mut Out<'_>) {
    let mut seconds = |name, total_us| out.counter(name, count(total_us) / 1e6);
    if let Some(cpu) = pressures.cpu {
        seconds("node_pressure_cpu_waiting_seconds_total", cpu.some.total_us);
    }
    if let Some(memory) = pressures.memory {
        seconds("node_pressure_memory_waiting_seconds_total", memory.some.total_us);
        if let Some(full) = memory.full {
            seconds("node_pressure_memory_stalled_seconds_total", full.total_us);
        }
    }
    if let Some(io) = pressures.io {
        seconds("node_pressure_io_waiting_seconds_total", io.some.total_us);
        if let Some(full) = io.full {
            seconds("node_pressure_io_stalled_seconds_total", full.total_us);
        }
    }
}

fn filesystem(fs: &Filesystem, out: &mut Out<'_>) {
    let (device, mount) = (String::from_utf8_lossy(&fs.device.0), String::from_utf8_lossy(&fs.mount.0));
    let labels = [("device", &*device), ("fstype", fs.fstype.as_str()), ("mountpoint", &*mount)];
    let mut out = out.with(&labels);
    out.gauge("node_filesystem_device_error", flag(fs.usage.is_none()));
    out.gauge("node_filesystem_readonly", flag(fs.read_only));
    if let Some(usage) = fs.usage {
        out.gauge("node_filesystem_size_bytes", count(usage.size_bytes));
        out.gauge("node_filesystem_free_bytes", count(usage.free_bytes));
        out.gauge("node_filesystem_avail_bytes", count(usage.avail_bytes));
        out.gauge("node_filesystem_files", count(usage.files));
        out.gauge("node_filesystem_files_free", count(usage.files_free));
    }
}

fn disk(disk: &Disk, out: &mut Out<'_>) {
    let labels = [("device", disk.name.as_str())];
    let mut out = out.with(&labels);
    out.counter("node_disk_reads_completed_total", count(disk.reads));
    out.counter("node_disk_read_bytes_total", count(disk.read_bytes));
    out.counter("node_disk_read_time_seconds_total", count(disk.read_ms) / 1e3);
    out.counter("node_disk_writes_completed_total", count(disk.writes));
    out.counter("node_disk_written_bytes_total", count(disk.written_bytes));
    out.counter("node_disk_write_time_seconds_total", count(disk.write_ms) / 1e3);
    out.gauge("node_disk_io_now", count(disk.in_flight));
    out.counter("node_disk_io_time_seconds_total", count(disk.io_ms) / 1e3);
    out.counter("node_disk_io_time_weighted_seconds_total", count(disk.weighted_io_ms) / 1e3);
}

fn interface(interface: &Interface, out: &mut Out<'_>) {
    let labels = [("device", interface.name.as_str())];
    let mut out = out.with(&labels);
    out.counter("node_network_receive_bytes_total", count(interface.receive_bytes));
    out.counter("node_network_receive_packets_total", count(interface.receive_packets));
    out.counter("node_network_receive_errs_total", count(interface.receive_errors));
    out.counter("node_network_receive_drop_total", count(interface.receive_dropped));
    out.counter("node_network_transmit_bytes_total", count(interface.transmit_bytes));
    out.counter("node_network_transmit_packets_total", count(interface.transmit_packets));
    out.counter("node_network_transmit_errs_total", count(interface.transmit_errors));
    out.counter("node_network_transmit_drop_total", count(interface.transmit_dropped));
}

fn tcp(tcp: &TcpCounters, out: &mut Out<'_>) {
    out.gauge("node_netstat_Tcp_CurrEstab", count(tcp.established));
    out.counter("node_netstat_Tcp_OutSegs", count(tcp.segments_sent));
    out.counter("node_netstat_Tcp_RetransSegs", count(tcp.segments_retransmitted));
    out.counter("node_netstat_TcpExt_ListenOverflows", count(tcp.listen_overflows));
    out.counter("node_netstat_TcpExt_ListenDrops", count(tcp.listen_drops));
}

#[allow(clippy::cast_precision_loss, reason = "errors of a clock stay below 2^53")]
fn clock(clock: &ClockSync, out: &mut Out<'_>) {
    out.gauge("node_timex_sync_status", flag(clock.synchronised));
    out.gauge("node_timex_maxerror_seconds", clock.max_error_us as f64 / 1e6);
    out.gauge("node_timex_offset_seconds", clock.offset_ns as f64 / 1e9);
}

/// The two states, and the rest.
const SUBJECTS_OF_UNIT: u32 = 3;

fn unit(name: &str, unit: &Unit, out: &mut Out<'_>) {
    for (state, is) in [
        ("active", matches!(unit.active, ActiveState::Active | ActiveState::Reloading)),
        ("failed", unit.active == ActiveState::Failed),
    ] {
        out.with(&[("state", state), ("unit", name)]).gauge("mainstay_unit_state", flag(is));
    }
    let labels = [("unit", name)];
    let mut out = out.with(&labels);
    if name.ends_with(".service") {
        out.counter("mainstay_unit_restarts_total", f64::from(unit.n_restarts));
    }
    if let Some(of_unit) = &unit.cgroup {
        cgroup(of_unit, &OF_UNIT, &mut out);
    }
}

fn container(container: &Container, out: &mut Out<'_>) {
    let labels = [
        ("container", container.name.as_str()),
        ("id", container.id.as_str()),
        ("image", container.image.as_str()),
        ("runtime", container.runtime),
    ];
    if let Some(of_container) = &container.cgroup {
        cgroup(of_container, &OF_CONTAINER, &mut out.with(&labels));
    }
}

/// The names of the series of a cgroup.
struct CgroupNames {
    memory_bytes: &'static str,
    memory_max_bytes: &'static str,
    tasks: &'static str,
    tasks_max: &'static str,
    open_fds: &'static str,
    max_fds: &'static str,
    oom_kills: &'static str,
    cpu_seconds: &'static str,
    cpu_throttled_seconds: &'static str,
    io_read_bytes: &'static str,
    io_written_bytes: &'static str,
}

const OF_UNIT: CgroupNames = CgroupNames {
    memory_bytes: "mainstay_unit_memory_bytes",
    memory_max_bytes: "mainstay_unit_memory_max_bytes",
    tasks: "mainstay_unit_tasks",
    tasks_max: "mainstay_unit_tasks_max",
    open_fds: "mainstay_unit_open_fds",
    max_fds: "mainstay_unit_max_fds",
    oom_kills: "mainstay_unit_oom_kills_total",
    cpu_seconds: "mainstay_unit_cpu_seconds_total",
    cpu_throttled_seconds: "mainstay_unit_cpu_throttled_seconds_total",
    io_read_bytes: "mainstay_unit_io_read_bytes_total",
    io_written_bytes: "mainstay_unit_io_written_bytes_total",
};

const OF_CONTAINER: CgroupNames = CgroupNames {
    memory_bytes: "mainstay_container_memory_bytes",
    memory_max_bytes: "mainstay_container_memory_max_bytes",
    tasks: "mainstay_container_tasks",
    tasks_max: "mainstay_container_tasks_max",
    open_fds: "mainstay_container_open_fds",
    max_fds: "mainstay_container_max_fds",
    oom_kills: "mainstay_container_oom_kills_total",
    cpu_seconds: "mainstay_container_cpu_seconds_total",
    cpu_throttled_seconds: "mainstay_container_cpu_throttled_seconds_total",
    io_read_bytes: "mainstay_container_io_read_bytes_total",
    io_written_bytes: "mainstay_container_io_written_bytes_total",
};

fn cgroup(cgroup: &Cgroup, names: &CgroupNames, out: &mut Out<'_>) {
    let mut gauge = |name, value: Option<u64>| {
        if let Some(value) = value {
            out.gauge(name, count(value));
        }
    };
    gauge(names.memory_bytes, cgroup.memory_current_bytes.or(cgroup.rss_bytes));
    gauge(names.memory_max_bytes, cgroup.memory_max_bytes);
    gauge(names.tasks, cgroup.tasks);
    gauge(names.tasks_max, cgroup.tasks_max);
    gauge(names.open_fds, cgroup.fds);
    gauge(names.max_fds, cgroup.fds_max);
    let mut counter = |name, value: Option<u64>, per_unit: f64| {
        if let Some(value) = value {
            out.counter(name, count(value) / per_unit);
        }
    };
    counter(names.oom_kills, cgroup.memory_events_oom_kill, 1.0);
    counter(names.cpu_seconds, cgroup.cpu_usage_us, 1e6);
    counter(names.cpu_throttled_seconds, cgroup.cpu_throttled_us, 1e6);
    counter(names.io_read_bytes, cgroup.io_read_bytes, 1.0);
    counter(names.io_written_bytes, cgroup.io_written_bytes, 1.0);
}

fn probe(name: &str, probe: &Probe, out: &mut Out<'_>) {
    let labels = [("probe", name), ("unit", probe.unit.as_str())];
    let mut out = out.with(&labels);
    out.gauge("mainstay_probe_duration_seconds", probe.latency.as_secs_f64());
    out.gauge("mainstay_probe_success", flag(probe.fails == 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::FilesystemUsage;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn lines(sample: &Sample) -> Vec<String> {
        let mut lines = Vec::new();
        let mut subjects = BTreeMap::new();
        readings(sample, &mut |r| {
            assert!(r.labels.is_sorted(), "{r:?}");
            let labels = format!("{:?}", r.labels);
            let known = subjects.entry(r.subject).or_insert_with(|| labels.clone());
            assert_eq!(*known, labels, "{} has another subject", r.name);
            lines.push(format!("{} {}", crate::series::SeriesKey::new(r.name, r.labels), r.value));
        });
        lines
    }

    #[test]
    fn an_empty_sample_names_no_series() {
        assert_eq!(lines(&Sample::default()), Vec::<String>::new());
    }

    #[test]
    fn values_are_in_base_units_under_the_names_of_node_exporter() {
        let times = CpuTimes { user: 150, idle: 1_000, ..CpuTimes::default() };
        let sample = Sample {
            cpu_each: vec![(3, times)],
            disks: vec![Disk { name: "vda".into(), io_ms: 2_500, ..Disk::default() }],
            filesystems: vec![Filesystem {
                mount: "/".into(),
                device: "/dev/vda".into(),
                fstype: "ext4".into(),
                read_only: false,
                usage: Some(FilesystemUsage { avail_bytes: 7, ..FilesystemUsage::default() }),
            }],
            ..Sample::default()
        };
        let lines = lines(&sample);
        for want in [
            r#"node_cpu_seconds_total{cpu="3",mode="user"} 1.5"#,
            r#"node_cpu_seconds_total{cpu="3",mode="idle"} 10"#,
            r#"node_disk_io_time_seconds_total{device="vda"} 2.5"#,
            r#"node_filesystem_avail_bytes{device="/dev/vda",fstype="ext4",mountpoint="/"} 7"#,
        ] {
            assert!(lines.iter().any(|line| line == want), "{want} is not in {lines:#?}");
        }
    }

    #[test]
    fn many_cpus_are_told_together_and_counted() {
        let times = CpuTimes { user: 150, idle: 1_000, ..CpuTimes::default() };
        let lines = lines(&Sample { cpu: Some(times), cpus: Some(256), ..Sample::default() });
        assert!(lines.contains(&r#"mainstay_cpu_seconds_total{mode="user"} 1.5"#.to_owned()), "{lines:#?}");
        assert!(lines.contains(&"mainstay_cpus 256".to_owned()) && lines.len() == 9, "{lines:#?}");
    }

    #[test]
    fn a_hung_filesystem_has_an_error_and_no_sizes() {
        let sample = Sample { filesystems: vec![Filesystem::default()], ..Sample::default() };
        let lines = lines(&sample);
        assert!(lines.iter().any(|line| line.starts_with("node_filesystem_device_error{") && line.ends_with(" 1")));
        assert!(!lines.iter().any(|line| line.contains("size_bytes")));
    }

    #[test]
    fn the_log_has_series_by_unit_and_priority() {
        let counts = LogCounts { lines: [0, 0, 0, 2, 0, 0, 5, 0], errors: 3, top: Vec::new() };
        let units = BTreeMap::from([("app.service".parse().unwrap(), counts)]);
        let log = LogReading { units, skipped: 7, ..LogReading::default() };
        let sample = Sample { log: Some(std::sync::Arc::new(log)), ..Sample::default() };
        assert_eq!(
            lines(&sample)[..4],
            [
                r#"mainstay_log_lines_total{priority="err",unit="app.service"} 2"#,
                r#"mainstay_log_lines_total{priority="info",unit="app.service"} 5"#,
                r#"mainstay_log_errors_total{unit="app.service"} 3"#,
                "mainstay_log_lines_skipped_total 7",
            ]
        );
    }

    #[test]
    fn a_reboot_that_is_waited_for_is_one_and_nothing_where_nobody_says() {
        let of = |reboot_required| lines(&Sample { reboot_required, ..Sample::default() });
        assert_eq!(of(Some(true)), ["mainstay_host_reboot_required 1"]);
        assert_eq!(of(Some(false)), ["mainstay_host_reboot_required 0"]);
        assert!(of(None).is_empty());
    }

    #[test]
    fn the_health_of_disks_is_named_by_device() {
        let smart = crate::parse::smartd::parse(include_bytes!("parse/fixtures/smartd_failing.ata.txt")).unwrap();
        let wear = crate::parse::emmc::Wear { life_tenths: Some(4), ..Default::default() };
        let of = |name: &str, report| DiskHealth { name: name.to_owned(), file: None, report };
        let all = vec![of("mmcblk0", HealthReport::Flash(wear)), of("sda", HealthReport::Smart(smart))];
        let sample = Sample { disk_health: Some(std::sync::Arc::new(all)), ..Sample::default() };
        let mut lines = Vec::new();
        readings(&sample, &mut |r| {
            lines.push(format!("{} {}", crate::series::SeriesKey::new(r.name, r.labels), r.value));
        });
        assert_eq!(lines.len(), 2 + 2 * 6, "{lines:?}");
        assert_eq!(
            lines[..2],
            [
                r#"mainstay_disk_life_used_ratio{device="mmcblk0"} 0.4"#,
                r#"mainstay_disk_smart_warnings{device="sda"} 3"#
            ]
        );
        assert!(lines.contains(&r#"mainstay_disk_smart_raw{attribute="197",device="sda"} 24"#.to_owned()), "{lines:?}");
        assert!(lines.contains(&r#"mainstay_disk_smart_value{attribute="5",device="sda"} 12"#.to_owned()), "{lines:?}");
    }

    #[test]
    fn containers_have_the_series_of_units_under_their_own_names() {
        let cgroup = Cgroup { memory_current_bytes: Some(9), cpu_usage_us: Some(1_500_000), ..Cgroup::default() };
        let container = Container {
            runtime: "docker",
            id: "0f1e2d3c4b5a".into(),
            name: "web".into(),
            image: "nginx:1.27".into(),
            cgroup: Some(cgroup),
        };
        let gone = Container { cgroup: None, ..container.clone() };
        let sample = Sample { containers: vec![container, gone], ..Sample::default() };
        let labels = r#"{container="web",id="0f1e2d3c4b5a",image="nginx:1.27",runtime="docker"}"#;
        assert_eq!(
            lines(&sample),
            [
                format!("mainstay_container_memory_bytes{labels} 9"),
                format!("mainstay_container_cpu_seconds_total{labels} 1.5"),
            ]
        );
    }

    #[test]
    fn units_and_probes_have_series_of_their_own() {
        let unit = Unit {
            active: ActiveState::Failed,
            n_restarts: 3,
            cgroup: Some(Cgroup { rss_bytes: Some(9), cpu_usage_us: Some(1_500_000), ..Cgroup::default() }),
            ..Unit::default()
        };
        let probe = Probe {
            unit: "app.service".parse().unwrap(),
            at: crate::time::Now::default(),
            fails: 0,
            fails_max: 3,
            latency: Duration::from_millis(30),
            text: String::new(),
        };
        let sample = Sample {
            units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
            probes: BTreeMap::from([("web".to_owned(), probe)]),
            ..Sample::default()
        };
        assert_eq!(
            lines(&sample),
            [
                r#"mainstay_unit_state{state="active",unit="app.service"} 0"#,
                r#"mainstay_unit_state{state="failed",unit="app.service"} 1"#,
                r#"mainstay_unit_restarts_total{unit="app.service"} 3"#,
                r#"mainstay_unit_memory_bytes{unit="app.service"} 9"#,
                r#"mainstay_unit_cpu_seconds_total{unit="app.service"} 1.5"#,
                r#"mainstay_probe_duration_seconds{probe="web",unit="app.service"} 0.03"#,
                r#"mainstay_probe_success{probe="web",unit="app.service"} 1"#,
            ]
        );
    }
}
