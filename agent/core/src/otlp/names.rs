//! What the semantic conventions call the series of `/metrics`.
//!
//! One table, sorted by the name in `/metrics`, which docs/metrics.md shows; a test holds the two together and another
//! one the names against the conventions themselves.

use super::{ATTRIBUTE_BYTES_MAX, Kind, Value};
use Kind::{Counter, UpDownCounter};
use Semantic::{Is, Part};

/// The version of the conventions whose names these are.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What a metric of the conventions is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape<'s> {
    pub(super) name: &'s str,
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
}

const fn shape(name: &'static str, unit: &'static str, kind: Kind) -> Shape<'static> {
    Shape { name, unit, kind }
}

/// What a series means to the conventions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Semantic {
    /// A metric of theirs, with attributes that the name of the series holds.
    Is(Shape<'static>, &'static [(&'static str, &'static str)]),
    /// A part of one that is made of several series.
    Part,
}

pub(super) struct Row {
    /// The series in `/metrics`.
    pub(super) of: &'static str,
    pub(super) means: Semantic,
}

const fn row(of: &'static str, means: Semantic) -> Row {
    Row { of, means }
}

pub(super) const UPTIME: Shape<'_> = shape("system.uptime", "s", Kind::Gauge);
pub(super) const CPUS: Shape<'_> = shape("system.cpu.logical.count", "{cpu}", UpDownCounter);
pub(super) const MEMORY: Shape<'_> = shape("system.memory.usage", "By", UpDownCounter);
pub(super) const PAGING: Shape<'_> = shape("system.paging.usage", "By", UpDownCounter);
pub(super) const FILESYSTEM: Shape<'_> = shape("system.filesystem.usage", "By", UpDownCounter);
pub(super) const FILESYSTEM_LIMIT: Shape<'_> = shape("system.filesystem.limit", "By", UpDownCounter);
pub(super) const PROCESSES: Shape<'_> = shape("system.process.count", "{process}", UpDownCounter);

const CONTAINER_CPU: Shape<'_> = shape("container.cpu.time", "s", Counter);
const CONTAINER_IO: Shape<'_> = shape("container.disk.io", "By", Counter);
/// The conventions have a counter here, which a use of memory is not.
const CONTAINER_MEMORY: Shape<'_> = shape("container.memory.usage", "By", UpDownCounter);
const CPU_TIME: Shape<'_> = shape("system.cpu.time", "s", Counter);
const DISK_IO: Shape<'_> = shape("system.disk.io", "By", Counter);
const DISK_BUSY: Shape<'_> = shape("system.disk.io_time", "s", Counter);
const DISK_TIME: Shape<'_> = shape("system.disk.operation_time", "s", Counter);
const DISK_OPERATIONS: Shape<'_> = shape("system.disk.operations", "{operation}", Counter);
const FORKS: Shape<'_> = shape("system.process.created", "{process}", Counter);
const MEMORY_LIMIT: Shape<'_> = shape("system.memory.limit", "By", UpDownCounter);
const MEMORY_AVAILABLE: Shape<'_> = shape("system.memory.linux.available", "By", UpDownCounter);
const MEMORY_SHARED: Shape<'_> = shape("system.memory.linux.shared", "By", UpDownCounter);
const SLAB: Shape<'_> = shape("system.memory.linux.slab.usage", "By", UpDownCounter);
const CONNECTIONS: Shape<'_> = shape("system.network.connection.count", "{connection}", UpDownCounter);
const NETWORK_IO: Shape<'_> = shape("system.network.io", "By", Counter);
const PACKETS: Shape<'_> = shape("system.network.packet.count", "{packet}", Counter);
const PACKETS_DROPPED: Shape<'_> = shape("system.network.packet.dropped", "{packet}", Counter);
const NETWORK_ERRORS: Shape<'_> = shape("system.network.errors", "{error}", Counter);
const FAULTS: Shape<'_> = shape("system.paging.faults", "{fault}", Counter);
const PAGED: Shape<'_> = shape("system.paging.operations", "{operation}", Counter);

const READ: &[(&str, &str)] = &[("disk.io.direction", "read")];
const WRITE: &[(&str, &str)] = &[("disk.io.direction", "write")];
const RECEIVE: &[(&str, &str)] = &[("network.io.direction", "receive")];
const TRANSMIT: &[(&str, &str)] = &[("network.io.direction", "transmit")];
const MAJOR: (&str, &str) = ("system.paging.fault.type", "major");
const RECLAIMABLE: &[(&str, &str)] = &[("system.memory.linux.slab.state", "reclaimable")];
const UNRECLAIMABLE: &[(&str, &str)] = &[("system.memory.linux.slab.state", "unreclaimable")];

/// Series that the conventions know, sorted.
pub(super) const SEMANTIC: &[Row] = &[
    row("mainstay_container_cpu_seconds_total", Is(CONTAINER_CPU, &[])),
    row("mainstay_container_io_read_bytes_total", Is(CONTAINER_IO, READ)),
    row("mainstay_container_io_written_bytes_total", Is(CONTAINER_IO, WRITE)),
    row("mainstay_container_memory_bytes", Is(CONTAINER_MEMORY, &[])),
    row("mainstay_cpu_seconds_total", Is(CPU_TIME, &[])),
    row("mainstay_cpus", Part),
    row("node_boot_time_seconds", Part),
    row("node_cpu_seconds_total", Is(CPU_TIME, &[])),
    row("node_disk_io_time_seconds_total", Is(DISK_BUSY, &[])),
    row("node_disk_read_bytes_total", Is(DISK_IO, READ)),
    row("node_disk_read_time_seconds_total", Is(DISK_TIME, READ)),
    row("node_disk_reads_completed_total", Is(DISK_OPERATIONS, READ)),
    row("node_disk_write_time_seconds_total", Is(DISK_TIME, WRITE)),
    row("node_disk_writes_completed_total", Is(DISK_OPERATIONS, WRITE)),
    row("node_disk_written_bytes_total", Is(DISK_IO, WRITE)),
    row("node_filesystem_avail_bytes", Part),
    row("node_filesystem_free_bytes", Part),
    row("node_filesystem_size_bytes", Part),
    row("node_forks_total", Is(FORKS, &[])),
    row("node_memory_Buffers_bytes", Part),
    row("node_memory_Cached_bytes", Part),
    row("node_memory_MemAvailable_bytes", Is(MEMORY_AVAILABLE, &[])),
    row("node_memory_MemFree_bytes", Part),
    row("node_memory_MemTotal_bytes", Is(MEMORY_LIMIT, &[])),
    row("node_memory_SReclaimable_bytes", Is(SLAB, RECLAIMABLE)),
    row("node_memory_SUnreclaim_bytes", Is(SLAB, UNRECLAIMABLE)),
    row("node_memory_Shmem_bytes", Is(MEMORY_SHARED, &[])),
    row("node_memory_SwapFree_bytes", Part),
    row("node_memory_SwapTotal_bytes", Part),
    row(
        "node_netstat_Tcp_CurrEstab",
        Is(CONNECTIONS, &[("network.connection.state", "established"), ("network.transport", "tcp")]),
    ),
    row("node_network_receive_bytes_total", Is(NETWORK_IO, RECEIVE)),
    row("node_network_receive_drop_total", Is(PACKETS_DROPPED, RECEIVE)),
    row("node_network_receive_errs_total", Is(NETWORK_ERRORS, RECEIVE)),
    row("node_network_receive_packets_total", Is(PACKETS, RECEIVE)),
    row("node_network_transmit_bytes_total", Is(NETWORK_IO, TRANSMIT)),
    row("node_network_transmit_drop_total", Is(PACKETS_DROPPED, TRANSMIT)),
    row("node_network_transmit_errs_total", Is(NETWORK_ERRORS, TRANSMIT)),
    row("node_network_transmit_packets_total", Is(PACKETS, TRANSMIT)),
    row("node_processes_pids", Part),
    row("node_processes_state", Part),
    row("node_vmstat_pgmajfault", Is(FAULTS, &[MAJOR])),
    row("node_vmstat_pswpin", Is(PAGED, &[("system.paging.direction", "in"), MAJOR])),
    row("node_vmstat_pswpout", Is(PAGED, &[("system.paging.direction", "out"), MAJOR])),
];

/// What the labels of a series are called. Those that are not named keep their names.
pub(super) fn keys(series: &str) -> &'static [(&'static str, &'static str)] {
    const CONTAINER: &[(&str, &str)] = &[
        ("container", "container.name"),
        ("id", "container.id"),
        ("image", "container.image.name"),
        ("runtime", "container.runtime.name"),
    ];
    const CPU: &[(&str, &str)] = &[("cpu", "cpu.logical_number"), ("mode", "cpu.mode")];
    const FILESYSTEM: &[(&str, &str)] = &[
        ("device", "system.device"),
        ("fstype", "system.filesystem.type"),
        ("mountpoint", "system.filesystem.mountpoint"),
    ];
    match series {
        _ if series.starts_with("mainstay_container_") => CONTAINER,
        "mainstay_cpu_seconds_total" | "node_cpu_seconds_total" => CPU,
        _ if series.starts_with("node_filesystem_") => FILESYSTEM,
        // Here the conventions go by the device, too.
        "node_network_receive_packets_total" | "node_network_transmit_packets_total" => &FILESYSTEM[..1],
        _ if series.starts_with("node_disk_") => &FILESYSTEM[..1],
        _ if series.starts_with("node_network_") => &[("device", "network.interface.name")],
        _ => &[],
    }
}

/// The value of an attribute under this key.
pub(super) fn value(key: &str, text: &str) -> Value {
    match (key, text) {
        ("cpu.logical_number", number) => number.parse().map_or_else(|_| bounded(number), Value::Int),
        ("cpu.mode", "irq") => Value::Text("interrupt".to_owned()),
        _ => bounded(text),
    }
}

/// Text, cut where it is too long.
pub(super) fn bounded(text: &str) -> Value {
    Value::Text(text[..text.floor_char_boundary(ATTRIBUTE_BYTES_MAX)].to_owned())
}
