//! The list itself. Gauges are meant over the time that is asked for, from the means of their windows; how full
//! filesystems are is meant now.

use super::{Form, Measure, Signal};

/// A form with nothing to tell apart.
const fn form(measure: Measure, floor: f64, template: &'static str) -> Option<Form> {
    Some(Form { template, part: "", measure, floor })
}

/// A form whose row is the one that has the most of several.
const fn most_of(part: &'static str, measure: Measure, floor: f64, template: &'static str) -> Option<Form> {
    Some(Form { template, part, measure, floor })
}

const fn signal(name: &'static str, what: &'static str, host: Option<Form>, unit: Option<Form>) -> Signal {
    Signal { name, what, host, unit, is_compared: true }
}

const MIB: f64 = 1_048_576.0;
const KIB: f64 = 1_024.0;

/// Every signal, in the order in which they are shown.
pub(crate) const SIGNALS: &[Signal] = &[
    signal(
        "cpu",
        "CPU time that was used; of units, in CPUs",
        form(
            Measure::Share,
            0.02,
            "sum without (cpu, mode) (rate({$cpu,mode!~\"idle|iowait\",$on}[$over])) \
             / sum without (cpu, mode) (rate({$cpu,$on}[$over]))",
        ),
        form(Measure::Cpus, 0.02, "rate(mainstay_unit_cpu_seconds_total{$on}[$over])"),
    ),
    signal(
        "cpu-iowait",
        "CPU time that was idle with I/O outstanding",
        form(
            Measure::Share,
            0.02,
            "sum without (cpu, mode) (rate({$cpu,mode=\"iowait\",$on}[$over])) \
             / sum without (cpu, mode) (rate({$cpu,$on}[$over]))",
        ),
        None,
    ),
    signal(
        "cpu-steal",
        "CPU time that the hypervisor gave to others",
        form(
            Measure::Share,
            0.02,
            "sum without (cpu, mode) (rate({$cpu,mode=\"steal\",$on}[$over])) \
             / sum without (cpu, mode) (rate({$cpu,$on}[$over]))",
        ),
        None,
    ),
    signal(
        "throttled",
        "CPUs that units were refused by their quota",
        form(Measure::Cpus, 0.02, "sum without (unit) (rate(mainstay_unit_cpu_throttled_seconds_total{$on}[$over]))"),
        form(Measure::Cpus, 0.02, "rate(mainstay_unit_cpu_throttled_seconds_total{$on}[$over])"),
    ),
    signal(
        "load",
        "load average of a minute, for each CPU",
        form(
            Measure::Number,
            0.1,
            "avg_over_time(node_load1:mean{$on}[$over]) \
             / (count without (cpu, mode) (node_cpu_seconds_total{mode=\"idle\",$on}) or mainstay_cpus{$on})",
        ),
        None,
    ),
    signal(
        "memory",
        "memory that is not available; of units, what they hold",
        form(
            Measure::Share,
            0.02,
            "1 - avg_over_time(node_memory_MemAvailable_bytes:mean{$on}[$over]) \
             / avg_over_time(node_memory_MemTotal_bytes:mean{$on}[$over])",
        ),
        form(Measure::Bytes, 16.0 * MIB, "avg_over_time(mainstay_unit_memory_bytes:mean{$on}[$over])"),
    ),
    signal(
        "swap",
        "swap that is used",
        form(
            Measure::Share,
            0.02,
            "1 - avg_over_time(node_memory_SwapFree_bytes:mean{$on}[$over]) \
             / (avg_over_time(node_memory_SwapTotal_bytes:mean{$on}[$over]) > 0)",
        ),
        None,
    ),
    signal(
        "faults",
        "pages read back from disk (major faults)",
        form(Measure::PerSecond, 5.0, "rate(node_vmstat_pgmajfault{$on}[$over])"),
        None,
    ),
    signal(
        "oom",
        "processes that the kernel killed for want of memory",
        form(Measure::Count, 1.0, "increase(node_vmstat_oom_kill{$on}[$over])"),
        form(Measure::Count, 1.0, "increase(mainstay_unit_oom_kills_total{$on}[$over])"),
    ),
    signal(
        "disk",
        "how full the fullest filesystem is now, as df says it",
        most_of(
            "mountpoint",
            Measure::Share,
            0.02,
            "topk without (device, fstype, mountpoint) (1, \
             (node_filesystem_size_bytes{$on} - node_filesystem_free_bytes{$on}) \
             / (node_filesystem_size_bytes{$on} - node_filesystem_free_bytes{$on} + node_filesystem_avail_bytes{$on}) \
             unless node_filesystem_readonly{$on} == 1)",
        ),
        None,
    ),
    signal(
        "inodes",
        "inodes that are used now, where most are",
        most_of(
            "mountpoint",
            Measure::Share,
            0.02,
            "topk without (device, fstype, mountpoint) (1, \
             1 - node_filesystem_files_free{$on} / (node_filesystem_files{$on} > 0) \
             unless node_filesystem_readonly{$on} == 1)",
        ),
        None,
    ),
    signal(
        "io",
        "time that the busiest disk was at work; of units, bytes read and written",
        most_of(
            "device",
            Measure::Share,
            0.02,
            "topk without (device) (1, rate(node_disk_io_time_seconds_total{$on}[$over]))",
        ),
        form(
            Measure::BytesPerSecond,
            64.0 * KIB,
            "rate(mainstay_unit_io_read_bytes_total{$on}[$over]) \
             + rate(mainstay_unit_io_written_bytes_total{$on}[$over])",
        ),
    ),
    signal(
        "disk-read",
        "bytes read from the disk that read most",
        most_of(
            "device",
            Measure::BytesPerSecond,
            64.0 * KIB,
            "topk without (device) (1, rate(node_disk_read_bytes_total{$on}[$over]))",
        ),
        form(Measure::BytesPerSecond, 64.0 * KIB, "rate(mainstay_unit_io_read_bytes_total{$on}[$over])"),
    ),
    signal(
        "disk-write",
        "bytes written to the disk that wrote most",
        most_of(
            "device",
            Measure::BytesPerSecond,
            64.0 * KIB,
            "topk without (device) (1, rate(node_disk_written_bytes_total{$on}[$over]))",
        ),
        form(Measure::BytesPerSecond, 64.0 * KIB, "rate(mainstay_unit_io_written_bytes_total{$on}[$over])"),
    ),
    signal(
        "disk-latency",
        "how long a read or write took on the slowest disk",
        most_of(
            "device",
            Measure::Seconds,
            0.001,
            "topk without (device) (1, \
             (rate(node_disk_read_time_seconds_total{$on}[$over]) \
             + rate(node_disk_write_time_seconds_total{$on}[$over])) \
             / (rate(node_disk_reads_completed_total{$on}[$over]) \
             + rate(node_disk_writes_completed_total{$on}[$over]) > 0))",
        ),
        None,
    ),
    signal(
        "network",
        "bytes received and sent by the busiest interface",
        most_of(
            "device",
            Measure::BytesPerSecond,
            16.0 * KIB,
            "topk without (device) (1, \
             rate(node_network_receive_bytes_total{$on}[$over]) + rate(node_network_transmit_bytes_total{$on}[$over]))",
        ),
        None,
    ),
    signal(
        "net-receive",
        "bytes received by the interface that received most",
        most_of(
            "device",
            Measure::BytesPerSecond,
            16.0 * KIB,
            "topk without (device) (1, rate(node_network_receive_bytes_total{$on}[$over]))",
        ),
        None,
    ),
    signal(
        "net-transmit",
        "bytes sent by the interface that sent most",
        most_of(
            "device",
            Measure::BytesPerSecond,
            16.0 * KIB,
            "topk without (device) (1, rate(node_network_transmit_bytes_total{$on}[$over]))",
        ),
        None,
    ),
    signal(
        "net-errors",
        "packets lost or damaged at the worst interface",
        most_of(
            "device",
            Measure::PerSecond,
            0.5,
            "topk without (device) (1, \
             rate(node_network_receive_errs_total{$on}[$over]) + rate(node_network_receive_drop_total{$on}[$over]) \
             + rate(node_network_transmit_errs_total{$on}[$over]) + rate(node_network_transmit_drop_total{$on}[$over]))",
        ),
        None,
    ),
    signal(
        "retransmits",
        "TCP segments that were sent again",
        form(
            Measure::Share,
            0.005,
            "rate(node_netstat_Tcp_RetransSegs{$on}[$over]) / (rate(node_netstat_Tcp_OutSegs{$on}[$over]) > 0)",
        ),
        None,
    ),
    signal(
        "connections",
        "TCP connections",
        form(Measure::Count, 10.0, "avg_over_time(node_netstat_Tcp_CurrEstab:mean{$on}[$over])"),
        None,
    ),
    signal(
        "conntrack",
        "room for tracked connections that is used",
        form(
            Measure::Share,
            0.02,
            "avg_over_time(node_nf_conntrack_entries:mean{$on}[$over]) \
             / (avg_over_time(node_nf_conntrack_entries_limit:mean{$on}[$over]) > 0)",
        ),
        None,
    ),
    Signal {
        name: "pressure",
        what: "time in which some task waited, for what was waited for most",
        host: most_of(
            "resource",
            Measure::Share,
            0.02,
            "topk without (resource) (1, \
             label_replace(rate(node_pressure_cpu_waiting_seconds_total{$on}[$over]), \
             \"resource\", \"cpu\", \"\", \"\") \
             or label_replace(rate(node_pressure_memory_waiting_seconds_total{$on}[$over]), \
             \"resource\", \"memory\", \"\", \"\") \
             or label_replace(rate(node_pressure_io_waiting_seconds_total{$on}[$over]), \
             \"resource\", \"io\", \"\", \"\"))",
        ),
        unit: None,
        is_compared: false,
    },
    signal(
        "pressure-cpu",
        "time in which some task waited for a CPU",
        form(Measure::Share, 0.02, "rate(node_pressure_cpu_waiting_seconds_total{$on}[$over])"),
        None,
    ),
    signal(
        "pressure-memory",
        "time in which some task waited for memory",
        form(Measure::Share, 0.02, "rate(node_pressure_memory_waiting_seconds_total{$on}[$over])"),
        None,
    ),
    signal(
        "pressure-io",
        "time in which some task waited for I/O",
        form(Measure::Share, 0.02, "rate(node_pressure_io_waiting_seconds_total{$on}[$over])"),
        None,
    ),
    signal(
        "restarts",
        "restarts of services by systemd itself (Restart=)",
        form(Measure::Count, 1.0, "sum without (unit) (increase(mainstay_unit_restarts_total{$on}[$over]))"),
        form(Measure::Count, 1.0, "increase(mainstay_unit_restarts_total{$on}[$over])"),
    ),
    signal(
        "probe",
        "how long the slowest probe took to be answered",
        most_of(
            "probe",
            Measure::Seconds,
            0.005,
            "topk without (probe, unit) (1, avg_over_time(mainstay_probe_duration_seconds:mean{$on}[$over]))",
        ),
        most_of(
            "probe",
            Measure::Seconds,
            0.005,
            "topk without (probe) (1, avg_over_time(mainstay_probe_duration_seconds:mean{$on}[$over]))",
        ),
    ),
    signal(
        "log-errors",
        "lines of the journal that say error",
        form(Measure::Count, 5.0, "sum without (unit) (increase(mainstay_log_errors_total{$on}[$over]))"),
        form(Measure::Count, 5.0, "increase(mainstay_log_errors_total{$on}[$over])"),
    ),
    signal(
        "tasks",
        "threads; of units, threads and processes",
        form(Measure::Count, 20.0, "avg_over_time(node_processes_threads:mean{$on}[$over])"),
        form(Measure::Count, 5.0, "avg_over_time(mainstay_unit_tasks:mean{$on}[$over])"),
    ),
    signal(
        "zombies",
        "processes that ended and that nobody asked about",
        form(Measure::Count, 2.0, "avg_over_time(node_processes_state:mean{state=\"Z\",$on}[$over])"),
        None,
    ),
    signal(
        "files",
        "open files",
        form(Measure::Count, 100.0, "avg_over_time(node_filefd_allocated:mean{$on}[$over])"),
        form(Measure::Count, 10.0, "avg_over_time(mainstay_unit_open_fds:mean{$on}[$over])"),
    ),
    signal("forks", "new processes", form(Measure::PerSecond, 5.0, "rate(node_forks_total{$on}[$over])"), None),
    signal(
        "switches",
        "context switches",
        form(Measure::PerSecond, 500.0, "rate(node_context_switches_total{$on}[$over])"),
        None,
    ),
    signal(
        "clock",
        "how far the clock is off",
        form(Measure::Seconds, 0.001, "abs(avg_over_time(node_timex_offset_seconds:mean{$on}[$over]))"),
        None,
    ),
];
