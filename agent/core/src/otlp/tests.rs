//! Whole samples as metrics, and the table of names against the conventions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_semantic_conventions::{SCHEMA_URL as CONVENTIONS, attribute, metric};
use proptest::prelude::*;

use super::*;
use crate::sample::{
    Cgroup, Container, CpuTimes, Disk, FileHandles, Interface, KernelCounters, LoadAverage, TcpCounters, Unit,
    VmCounters,
};
use crate::time::Now;

/// Metrics of the conventions that are exported.
const METRICS: [&str; 27] = [
    metric::CONTAINER_CPU_TIME,
    metric::CONTAINER_DISK_IO,
    metric::CONTAINER_MEMORY_USAGE,
    metric::SYSTEM_CPU_LOGICAL_COUNT,
    metric::SYSTEM_CPU_TIME,
    metric::SYSTEM_DISK_IO,
    metric::SYSTEM_DISK_IO_TIME,
    metric::SYSTEM_DISK_OPERATIONS,
    metric::SYSTEM_DISK_OPERATION_TIME,
    metric::SYSTEM_FILESYSTEM_LIMIT,
    metric::SYSTEM_FILESYSTEM_USAGE,
    metric::SYSTEM_MEMORY_LIMIT,
    metric::SYSTEM_MEMORY_LINUX_AVAILABLE,
    metric::SYSTEM_MEMORY_LINUX_SHARED,
    metric::SYSTEM_MEMORY_LINUX_SLAB_USAGE,
    metric::SYSTEM_MEMORY_USAGE,
    metric::SYSTEM_NETWORK_CONNECTION_COUNT,
    metric::SYSTEM_NETWORK_ERRORS,
    metric::SYSTEM_NETWORK_IO,
    metric::SYSTEM_NETWORK_PACKET_COUNT,
    metric::SYSTEM_NETWORK_PACKET_DROPPED,
    metric::SYSTEM_PAGING_FAULTS,
    metric::SYSTEM_PAGING_OPERATIONS,
    metric::SYSTEM_PAGING_USAGE,
    metric::SYSTEM_PROCESS_COUNT,
    metric::SYSTEM_PROCESS_CREATED,
    metric::SYSTEM_UPTIME,
];

/// And the attributes that they have.
const ATTRIBUTES: [&str; 22] = [
    attribute::CONTAINER_ID,
    attribute::CONTAINER_IMAGE_NAME,
    attribute::CONTAINER_NAME,
    attribute::CONTAINER_RUNTIME_NAME,
    attribute::CPU_LOGICAL_NUMBER,
    attribute::CPU_MODE,
    attribute::DISK_IO_DIRECTION,
    attribute::NETWORK_CONNECTION_STATE,
    attribute::NETWORK_INTERFACE_NAME,
    attribute::NETWORK_IO_DIRECTION,
    attribute::NETWORK_TRANSPORT,
    attribute::PROCESS_STATE,
    attribute::SYSTEM_DEVICE,
    attribute::SYSTEM_FILESYSTEM_MODE,
    attribute::SYSTEM_FILESYSTEM_MOUNTPOINT,
    attribute::SYSTEM_FILESYSTEM_STATE,
    attribute::SYSTEM_FILESYSTEM_TYPE,
    attribute::SYSTEM_MEMORY_LINUX_SLAB_STATE,
    attribute::SYSTEM_MEMORY_STATE,
    attribute::SYSTEM_PAGING_DIRECTION,
    attribute::SYSTEM_PAGING_FAULT_TYPE,
    attribute::SYSTEM_PAGING_STATE,
];

/// Everything that a sample can hold and the conventions know, and some that they do not.
fn whole_sample() -> Sample {
    let cgroup = Cgroup {
        memory_current_bytes: Some(9),
        cpu_usage_us: Some(1_500_000),
        io_read_bytes: Some(1),
        io_written_bytes: Some(2),
        tasks: Some(3),
        ..Cgroup::default()
    };
    let usage = FilesystemUsage { size_bytes: 100, free_bytes: 40, avail_bytes: 35, files: 10, files_free: 4 };
    Sample {
        at: Now { boot_ns: 12_500_000_000, wall_ms: 1_000_000 },
        cpus: Some(1),
        cpu_each: vec![(3, CpuTimes { user: 150, idle: 1_000, irq: 7, ..CpuTimes::default() })],
        load: Some(LoadAverage { one: 0.5, five: 0.25, fifteen: 0.125 }),
        kernel: Some(KernelCounters { forks: 11, boot_time_seconds: 987, ..KernelCounters::default() }),
        memory: Some(Memory {
            total_bytes: 1_000,
            free_bytes: 100,
            available_bytes: 500,
            buffers_bytes: 50,
            cached_bytes: 300,
            slab_reclaimable_bytes: 20,
            swap_total_bytes: 64,
            swap_free_bytes: 60,
            ..Memory::default()
        }),
        vm: Some(VmCounters { pswpin: 1, pswpout: 2, pgmajfault: 3, oom_kill: 4, ..VmCounters::default() }),
        filesystems: vec![Filesystem {
            mount: "/srv".into(),
            device: "/dev/vdb".into(),
            fstype: "ext4".into(),
            read_only: true,
            usage: Some(usage),
        }],
        disks: vec![Disk { name: "vda".into(), reads: 4, written_bytes: 512, io_ms: 2_500, ..Disk::default() }],
        interfaces: vec![Interface {
            name: "eth0".into(),
            receive_bytes: 77,
            transmit_packets: 5,
            transmit_dropped: 1,
            ..Interface::default()
        }],
        processes: Some(ProcessCounts { total: 20, threads: 50, zombies: 2, uninterruptible: 1 }),
        file_handles: Some(FileHandles { allocated: 9, maximum: 99 }),
        tcp: Some(TcpCounters { established: 6, ..TcpCounters::default() }),
        units: Some(BTreeMap::from([(
            "app.service".parse().unwrap(),
            Unit { cgroup: Some(cgroup), ..Unit::default() },
        )])),
        containers: vec![Container {
            runtime: "podman",
            id: "5c5c5c5c5c5c".into(),
            name: "cache".into(),
            image: "redis:7".into(),
            cgroup: Some(cgroup),
        }],
        background: Some(background()),
        ..Sample::default()
    }
}

/// One that is told, one that is no number.
fn background() -> std::sync::Arc<crate::sample::Background> {
    let reading = |label: &str, value| BackgroundReading {
        key: crate::series::SeriesKey::new("node_hwmon_temp_celsius", &[("sensor", label)]),
        kind: SeriesKind::Gauge,
        value,
    };
    let readings = vec![reading("temp1", 45.0), reading("temp2", f64::NAN)];
    std::sync::Arc::new(crate::sample::Background { at: Now::default(), readings })
}

/// `name{attribute=value,…} value`, sorted.
fn lines(export: &Export<'_>) -> Vec<String> {
    let attribute = |(key, value): &(&str, Value)| match value {
        Value::Text(text) => format!("{key}={text}"),
        Value::Int(number) => format!("{key}={number}i"),
    };
    let mut lines = Vec::new();
    for metric in &export.metrics {
        for point in &metric.points {
            let value = match point.value {
                Number::Int(value) => format!("{value}i"),
                Number::Double(value) => value.to_string(),
            };
            let attributes: Vec<String> = point.attributes.iter().map(attribute).collect();
            lines.push(format!("{}{{{}}} {value}", metric.name, attributes.join(",")));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_sample_has_the_names_units_and_attributes_of_the_conventions() {
    let sample = whole_sample();
    let export = export(&sample);
    let lines = lines(&export);
    let of_container =
        "container.id=5c5c5c5c5c5c,container.image.name=redis:7,container.name=cache,container.runtime.name=podman";
    for want in [
        "system.cpu.time{cpu.logical_number=3i,cpu.mode=user} 1.5",
        "system.cpu.time{cpu.logical_number=3i,cpu.mode=interrupt} 0.07",
        "system.cpu.logical.count{} 1i",
        "system.uptime{} 12.5",
        "system.memory.usage{system.memory.state=used} 530i",
        "system.memory.usage{system.memory.state=cached} 320i",
        "system.memory.limit{} 1000i",
        "system.memory.linux.available{} 500i",
        "system.memory.linux.slab.usage{system.memory.linux.slab.state=reclaimable} 20i",
        "system.paging.usage{system.paging.state=used} 4i",
        "system.paging.operations{system.paging.direction=out,system.paging.fault.type=major} 2i",
        "system.paging.faults{system.paging.fault.type=major} 3i",
        "system.filesystem.usage{system.device=/dev/vdb,system.filesystem.mode=ro,system.filesystem.mountpoint=/srv,\
         system.filesystem.state=reserved,system.filesystem.type=ext4} 5i",
        "system.disk.io{disk.io.direction=write,system.device=vda} 512i",
        "system.disk.io_time{system.device=vda} 2.5",
        "system.disk.operations{disk.io.direction=read,system.device=vda} 4i",
        "system.network.io{network.interface.name=eth0,network.io.direction=receive} 77i",
        "system.network.packet.count{network.io.direction=transmit,system.device=eth0} 5i",
        "system.network.packet.dropped{network.interface.name=eth0,network.io.direction=transmit} 1i",
        "system.network.connection.count{network.connection.state=established,network.transport=tcp} 6i",
        "system.process.count{process.state=other} 17i",
        "system.process.created{} 11i",
        // What they do not know goes by the name that it has in /metrics.
        "node_load1{} 0.5",
        "node_disk_io_now{system.device=vda} 0",
        "node_filesystem_files_free{system.device=/dev/vdb,system.filesystem.mountpoint=/srv,system.filesystem.type=ext4} 4",
        "mainstay_unit_cpu_seconds_total{unit=app.service} 1.5",
        "node_hwmon_temp_celsius{sensor=temp1} 45",
    ] {
        assert!(lines.iter().any(|line| line == want), "{want} is not in {lines:#?}");
    }
    for (name, value) in [("container.cpu.time", "1.5"), ("mainstay_container_tasks", "3")] {
        let want = format!("{name}{{{of_container}}} {value}");
        assert!(lines.contains(&want), "{want} is not in {lines:#?}");
    }
    let metric = |name: &str| export.metrics.iter().find(|metric| metric.name == name).unwrap();
    let is = |name| (metric(name).unit, metric(name).kind, metric(name).since);
    assert_eq!(is("system.cpu.time"), ("s", Kind::Counter, Since::Boot));
    assert_eq!(is("system.memory.usage"), ("By", Kind::UpDownCounter, Since::Boot));
    assert_eq!(is("container.cpu.time"), ("s", Kind::Counter, Since::Unknown));
    assert_eq!(is("mainstay_unit_cpu_seconds_total"), ("s", Kind::Counter, Since::Unknown));
    assert_eq!(is("mainstay_unit_memory_bytes"), ("By", Kind::Gauge, Since::Unknown));
    assert_eq!(is("node_load1"), ("", Kind::Gauge, Since::Boot));
}

#[test]
fn many_cpus_are_the_same_metric_without_a_number() {
    let times = CpuTimes { user: 150, ..CpuTimes::default() };
    let sample = Sample { cpu: Some(times), cpus: Some(200), cpu_each: Vec::new(), ..whole_sample() };
    let export = export(&sample);
    let lines = lines(&export);
    for want in ["system.cpu.time{cpu.mode=user} 1.5", "system.cpu.logical.count{} 200i"] {
        assert!(lines.iter().any(|line| line == want), "{want} is not in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("cpus{") || line.contains("logical_number")), "{lines:#?}");
    let time = export.metrics.iter().find(|metric| metric.name == "system.cpu.time").unwrap();
    assert_eq!(time.since, Since::Boot);
}

#[test]
fn every_series_of_a_sample_is_exported_once_under_one_name_or_the_other() {
    let sample = whole_sample();
    let export = export(&sample);
    let mut as_they_are = 0;
    readings(&sample, &mut |reading| {
        let is_theirs = SEMANTIC.iter().any(|row| row.of == reading.name);
        let has_own = export.metrics.iter().any(|metric| metric.name == reading.name);
        assert!(is_theirs != has_own, "{}", reading.name);
        as_they_are += u32::from(has_own);
    });
    assert!(as_they_are > 20, "{as_they_are}");
    let lines = lines(&export);
    let series: BTreeSet<&str> = lines.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert_eq!(series.len(), lines.len(), "a series stands there twice: {lines:#?}");
    for metric in &export.metrics {
        assert!(metric.points.iter().all(|point| point.attributes.is_sorted()), "{metric:?}");
    }
    assert_eq!(export.left_out, 0);
}

#[test]
fn the_names_are_those_of_the_conventions() {
    assert_eq!(SCHEMA_URL, CONVENTIONS);
    assert!(SEMANTIC.is_sorted_by(|a, b| a.of < b.of), "it is searched by halves");
    let sample = whole_sample();
    let export = export(&sample);
    let theirs = |name: &str| name.starts_with("system.") || name.starts_with("container.");
    let ours: BTreeSet<&str> = export.metrics.iter().map(|metric| metric.name).filter(|name| theirs(name)).collect();
    assert_eq!(ours, METRICS.into_iter().collect());
    let keys = export.metrics.iter().filter(|metric| theirs(metric.name)).flat_map(|metric| &metric.points);
    let keys: BTreeSet<&str> = keys.flat_map(|point| &point.attributes).map(|(key, _)| *key).collect();
    assert_eq!(keys, ATTRIBUTES.into_iter().collect());
}

#[test]
fn the_documentation_has_the_table() {
    let page = include_str!("../../../../docs/metrics.md");
    let code = |text: &str| format!("`{text}`");
    for row in SEMANTIC {
        let mut wanted = vec![code(row.of)];
        match row.means {
            Semantic::Is(shape, fixed) => {
                wanted.push(code(shape.name));
                wanted.extend(fixed.iter().map(|(key, value)| code(&format!("{key}={value}"))));
            }
            Semantic::Part => wanted.push("| `system.".to_owned()),
        }
        let says = |line: &str| wanted.iter().all(|word| line.contains(word.as_str()));
        assert!(page.lines().any(says), "{wanted:?} is in no line");
    }
}

#[test]
fn a_host_with_too_many_units_keeps_what_is_of_the_host() {
    let cgroup = Cgroup { tasks: Some(1), cpu_usage_us: Some(1), ..Cgroup::default() };
    let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
    let name = |n: usize| format!("app-{n}.service").parse().unwrap();
    let units: BTreeMap<_, _> = (0..POINTS_MAX / 4).map(|n| (name(n), unit.clone())).collect();
    let sample = Sample { units: Some(units), ..whole_sample() };
    let export = export(&sample);
    let points: usize = export.metrics.iter().map(|metric| metric.points.len()).sum();
    assert_eq!(points, POINTS_MAX);
    assert!(export.left_out > 1_000, "{}", export.left_out);
    assert!(export.metrics.iter().any(|metric| metric.name == "system.cpu.time"));
}

#[test]
fn what_is_unknown_has_no_metric() {
    let sample = Sample { at: Now::default().plus(Duration::from_secs(1)), ..Sample::default() };
    assert_eq!(lines(&export(&sample)), ["system.uptime{} 1"]);
    let hung = Sample { filesystems: vec![Filesystem::default()], ..sample };
    assert!(!lines(&export(&hung)).iter().any(|line| line.starts_with("system.filesystem")));
}

proptest! {
    #[test]
    fn the_states_of_a_whole_add_up_to_it(
        total in 0u64..1 << 62, shares in prop::array::uniform3(0u64..1000), reserved in 0u64..1000,
    ) {
        let part = |share: u64| total / 4000 * share;
        let memory = Memory {
            total_bytes: total,
            free_bytes: part(shares[0]),
            buffers_bytes: part(shares[1]),
            cached_bytes: part(shares[2]),
            ..Memory::default()
        };
        let free_bytes = part(shares[0]);
        let usage = FilesystemUsage {
            size_bytes: total, free_bytes, avail_bytes: free_bytes - free_bytes / 1000 * reserved, ..FilesystemUsage::default()
        };
        let fs = Filesystem { usage: Some(usage), ..Filesystem::default() };
        let sample = Sample { memory: Some(memory), filesystems: vec![fs], ..Sample::default() };
        let export = export(&sample);
        for name in ["system.memory.usage", "system.filesystem.usage"] {
            let metric = export.metrics.iter().find(|metric| metric.name == name).unwrap();
            let sum: i64 = metric.points.iter().map(|point| match point.value {
                Number::Int(value) => value,
                Number::Double(_) => unreachable!("bytes are whole"),
            }).sum();
            prop_assert_eq!(sum, i64::try_from(total).unwrap(), "{}", name);
        }
    }

    #[test]
    fn no_text_makes_it_panic(mount in any::<Vec<u8>>(), device in "\\PC{0,700}", times in 1usize..4) {
        let fs = Filesystem {
            mount: crate::subject::PathBytes(mount.repeat(times)),
            device: device.repeat(times).as_str().into(),
            usage: Some(FilesystemUsage::default()),
            ..Filesystem::default()
        };
        let sample = Sample { filesystems: vec![fs], ..Sample::default() };
        let export = export(&sample);
        for (_, value) in export.metrics.iter().flat_map(|m| &m.points).flat_map(|p| &p.attributes) {
            prop_assert!(matches!(value, Value::Text(text) if text.len() <= ATTRIBUTE_BYTES_MAX));
        }
    }
}
