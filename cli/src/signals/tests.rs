//! Every signal is asked of two made hosts, whose samples go through the agent's own readings and the collector's own
//! PromQL: a name that hosts don't send, or a query that mixes two hosts, is found here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::log::{LogCounts, LogReading};
use mainstay_core::readings::{SeriesKind, readings};
use mainstay_core::sample::{
    Cgroup, ClockSync, Conntrack, Container, CpuTimes, Disk, FileHandles, Filesystem, FilesystemUsage, Interface,
    KernelCounters, LoadAverage, Memory, Pressure, Pressures, Probe, ProcessCounts, Sample, Stall, TcpCounters, Unit,
    VmCounters,
};
use mainstay_core::series::SeriesKey;
use mainstay_promql::{Labels, Limits, NAME, Span, Value, evaluate, parse};

use super::*;

/// Between two samples, and the moment at which questions are asked: between two of them.
const STEP_S: u64 = 10;
const NOW_S: u64 = 3_005;
const OVER: Duration = Duration::from_secs(60);

/// What a host is like after so many seconds; everything that grows does so `k` times as fast as on the first host.
fn sample(t: u64, k: u64) -> Sample {
    let stall = |us: u64| Some(Pressure { some: Stall { total_us: t * us * k, ..Stall::default() }, full: None });
    let cpu = |cpu| {
        let user = 20 * k;
        let rest = CpuTimes { iowait: 10 * t, steal: 5 * t, idle: (85 - user) * t, ..CpuTimes::default() };
        (cpu, CpuTimes { user: user * t, ..rest })
    };
    let disk = |name: &str, by: u64| Disk {
        name: name.to_owned(),
        reads: 5 * t,
        read_bytes: 1_000_000 * t * by,
        read_ms: 20 * t * by,
        writes: 5 * t,
        written_bytes: 3_000_000 * t * by,
        write_ms: 30 * t * by,
        io_ms: 40 * t * by,
        ..Disk::default()
    };
    let interface = |name: &str, by: u64| Interface {
        name: name.to_owned(),
        receive_bytes: 50_000 * t * by,
        transmit_bytes: 20_000 * t * by,
        receive_errors: t * by,
        receive_dropped: t * by,
        transmit_errors: t * by,
        transmit_dropped: t * by,
        ..Interface::default()
    };
    let filesystem = |mount: &str, read_only, free| Filesystem {
        mount: mount.into(),
        device: "/dev/vda1".into(),
        fstype: "ext4".to_owned(),
        read_only,
        usage: Some(FilesystemUsage {
            size_bytes: 1_000,
            free_bytes: free + 100,
            avail_bytes: free,
            files: 100,
            files_free: free / 10,
        }),
    };
    let cgroup = Cgroup {
        memory_current_bytes: Some(64_000_000 * k),
        memory_events_oom_kill: Some(t * k / 10),
        cpu_usage_us: Some(300_000 * t * k),
        cpu_throttled_us: Some(100_000 * t * k),
        io_read_bytes: Some(200_000 * t * k),
        io_written_bytes: Some(300_000 * t * k),
        tasks: Some(7 * k),
        fds: Some(30 * k),
        ..Cgroup::default()
    };
    let unit = Unit { n_restarts: u32::try_from(t * k / 10).unwrap(), cgroup: Some(cgroup), ..Unit::default() };
    let probe = |latency| Probe {
        unit: "app.service".parse().unwrap(),
        at: mainstay_core::time::Now::default(),
        fails: 0,
        fails_max: 3,
        latency: Duration::from_millis(latency * k),
        text: String::new(),
    };
    let counts = LogCounts { errors: t * k, ..LogCounts::default() };
    Sample {
        cpu_each: vec![cpu(0), cpu(1)],
        load: Some(LoadAverage { one: 3.0, ..LoadAverage::default() }),
        kernel: Some(KernelCounters { context_switches: 900 * t * k, forks: 6 * t * k, ..KernelCounters::default() }),
        memory: Some(Memory {
            total_bytes: 1_000,
            available_bytes: 400 / k,
            swap_total_bytes: 200,
            swap_free_bytes: 150,
            ..Memory::default()
        }),
        vm: Some(VmCounters { pgmajfault: 8 * t * k, oom_kill: t * k / 10, ..VmCounters::default() }),
        pressure: Pressures { cpu: stall(10_000), memory: stall(20_000), io: stall(30_000) },
        filesystems: vec![
            filesystem("/", false, 300),
            filesystem("/var", false, 100 / k),
            filesystem("/snap", true, 0),
        ],
        disks: vec![disk("vda", 1), disk("vdb", 2 * k)],
        interfaces: vec![interface("eth0", 3 * k), interface("eth1", 1)],
        processes: Some(ProcessCounts { threads: 120, zombies: 4, ..ProcessCounts::default() }),
        file_handles: Some(FileHandles { allocated: 900 * k, maximum: 10_000 }),
        tcp: Some(TcpCounters {
            established: 12 * k,
            segments_sent: 1_000 * t,
            segments_retransmitted: 20 * t * k,
            ..TcpCounters::default()
        }),
        conntrack: Some(Conntrack { entries: 30 * k, limit: 100 }),
        clock: Some(ClockSync { offset_ns: -2_000_000, ..ClockSync::default() }),
        units: Some(BTreeMap::from([
            ("app.service".parse().unwrap(), unit.clone()),
            ("db.service".parse().unwrap(), unit),
        ])),
        containers: vec![Container {
            runtime: "docker",
            id: "3a".into(),
            name: "web".into(),
            image: "nginx".into(),
            cgroup: Some(cgroup),
        }],
        probes: BTreeMap::from([("fast".to_owned(), probe(10)), ("slow".to_owned(), probe(40))]),
        log: Some(Arc::new(LogReading {
            units: BTreeMap::from([("app.service".parse().unwrap(), counts)]),
            ..LogReading::default()
        })),
        ..Sample::default()
    }
}

/// The same where CPUs are not told one by one.
fn together(sample: Sample) -> Sample {
    let sum = |of: fn(&CpuTimes) -> u64| sample.cpu_each.iter().map(|(_, times)| of(times)).sum();
    let all = CpuTimes {
        user: sum(|times| times.user),
        iowait: sum(|times| times.iowait),
        steal: sum(|times| times.steal),
        idle: sum(|times| times.idle),
        ..CpuTimes::default()
    };
    Sample { cpu: Some(all), cpus: Some(2), cpu_each: Vec::new(), ..sample }
}

/// Two hosts of one name, as after one was installed anew, and what they sent in 50 minutes, as the collector has it.
fn fleet() -> mainstay_promql::Memory {
    let mut memory = mainstay_promql::Memory::default();
    for (id, zone, k) in [("01", "a", 1), ("02", "b", 2)] {
        let mut series: BTreeMap<SeriesKey, Vec<(i64, f64)>> = BTreeMap::new();
        for t in (STEP_S..NOW_S).step_by(usize::try_from(STEP_S).unwrap()) {
            let sample = if k == 1 { sample(t, k) } else { together(sample(t, k)) };
            readings(&sample, &mut |reading| {
                let at = i64::try_from(t).unwrap() * 1_000;
                let names: &[&str] = if reading.kind == SeriesKind::Gauge { &["", ":mean"] } else { &[""] };
                for suffix in names {
                    let key = SeriesKey::new(&format!("{}{suffix}", reading.name), reading.labels);
                    series.entry(key).or_default().push((at, reading.value));
                }
            });
        }
        for (key, points) in series {
            let own = key.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let of_host =
                [("host", "web-1"), ("host_id", id), ("zone", zone), ("role", "web"), (NAME, key.name.as_str())];
            memory.add(Labels::from_text(&of_host.into_iter().chain(own).collect::<Vec<_>>()), points);
        }
    }
    memory
}

/// The rows of a query: labels and value.
fn ask(fleet: &mainstay_promql::Memory, promql: &str) -> Vec<(Labels, f64)> {
    let query = parse(promql).unwrap_or_else(|error| panic!("{promql}: {error}"));
    let at_ms = i64::try_from(NOW_S).unwrap() * 1_000;
    let answer = evaluate(&query, Span::Instant { at_ms }, fleet, Limits::default(), &|| None);
    match answer.unwrap_or_else(|error| panic!("{promql}: {error}")).value {
        Value::Vector(rows) => rows.iter().map(|(labels, value)| (labels.clone(), *value)).collect(),
        other => panic!("{promql}: {other:?}"),
    }
}

/// Of each signal what the first host has, and the second; and of which of its things that is.
const EXPECTED: &[(&str, By, f64, f64, &str)] = &[
    ("cpu", By::Host, 0.25, 0.45, ""),
    ("cpu", By::Unit, 0.3, 0.6, ""),
    ("cpu-iowait", By::Host, 0.1, 0.1, ""),
    ("cpu-steal", By::Host, 0.05, 0.05, ""),
    ("throttled", By::Host, 0.2, 0.4, ""),
    ("throttled", By::Unit, 0.1, 0.2, ""),
    ("load", By::Host, 1.5, 1.5, ""),
    ("memory", By::Host, 0.6, 0.8, ""),
    ("memory", By::Unit, 64e6, 128e6, ""),
    ("swap", By::Host, 0.25, 0.25, ""),
    ("faults", By::Host, 8.0, 16.0, ""),
    ("oom", By::Host, 6.0, 12.0, ""),
    ("oom", By::Unit, 6.0, 12.0, ""),
    ("disk", By::Host, 800.0 / 900.0, 850.0 / 900.0, "/var"),
    ("inodes", By::Host, 0.9, 0.95, "/var"),
    ("io", By::Host, 0.08, 0.16, "vdb"),
    ("io", By::Unit, 500e3, 1e6, ""),
    ("disk-read", By::Host, 2e6, 4e6, "vdb"),
    ("disk-read", By::Unit, 200e3, 400e3, ""),
    ("disk-write", By::Host, 6e6, 12e6, "vdb"),
    ("disk-write", By::Unit, 300e3, 600e3, ""),
    ("disk-latency", By::Host, 0.01, 0.02, "vdb"),
    ("network", By::Host, 210e3, 420e3, "eth0"),
    ("net-receive", By::Host, 150e3, 300e3, "eth0"),
    ("net-transmit", By::Host, 60e3, 120e3, "eth0"),
    ("net-errors", By::Host, 12.0, 24.0, "eth0"),
    ("retransmits", By::Host, 0.02, 0.04, ""),
    ("connections", By::Host, 12.0, 24.0, ""),
    ("conntrack", By::Host, 0.3, 0.6, ""),
    ("pressure", By::Host, 0.03, 0.06, "io"),
    ("pressure-cpu", By::Host, 0.01, 0.02, ""),
    ("pressure-memory", By::Host, 0.02, 0.04, ""),
    ("pressure-io", By::Host, 0.03, 0.06, ""),
    ("restarts", By::Host, 12.0, 24.0, ""),
    ("restarts", By::Unit, 6.0, 12.0, ""),
    ("probe", By::Host, 0.04, 0.08, "slow"),
    ("probe", By::Unit, 0.04, 0.08, "slow"),
    ("log-errors", By::Host, 60.0, 120.0, ""),
    ("log-errors", By::Unit, 60.0, 120.0, ""),
    ("tasks", By::Host, 120.0, 120.0, ""),
    ("tasks", By::Unit, 7.0, 14.0, ""),
    ("zombies", By::Host, 4.0, 4.0, ""),
    ("files", By::Host, 900.0, 1_800.0, ""),
    ("files", By::Unit, 30.0, 60.0, ""),
    ("forks", By::Host, 6.0, 12.0, ""),
    ("switches", By::Host, 900.0, 1_800.0, ""),
    ("clock", By::Host, 0.002, 0.002, ""),
];

#[test]
fn every_signal_is_what_hosts_send_and_has_a_row_for_each_host_or_unit() {
    let fleet = fleet();
    let mut asked = BTreeSet::new();
    for (name, by, first, second, part) in EXPECTED {
        let form =
            named(name).and_then(|signal| signal.form(*by)).unwrap_or_else(|| panic!("{name} has no form {by:?}"));
        let rows = ask(&fleet, &form.promql("", OVER));
        for (id, expected) in [("01", first), ("02", second)] {
            let of_host: Vec<_> = rows.iter().filter(|(labels, _)| labels.get("host_id") == id).collect();
            assert!(!of_host.is_empty(), "{name} {by:?}: {rows:?}");
            let units: BTreeSet<_> = of_host.iter().map(|(labels, _)| labels.get("unit")).collect();
            let is_one_each = match by {
                By::Host => of_host.len() == 1,
                By::Unit => units.len() == of_host.len() && !units.contains(""),
                By::Container => unreachable!("tried below"),
            };
            assert!(is_one_each, "{name} {by:?} of {id}: {rows:?}");
            for (labels, value) in of_host {
                assert!((value / expected - 1.0).abs() < 1e-9, "{name} {by:?} of {id}: {value}, not {expected}");
                assert_eq!((labels.get("host"), labels.get("role")), ("web-1", "web"));
                assert_eq!(if form.part.is_empty() { "" } else { labels.get(form.part) }, *part, "{name}: {labels:?}");
            }
        }
        asked.insert((*name, *by == By::Unit));
    }
    let all = SIGNALS.iter().flat_map(|signal| {
        let form = |by, is_unit| signal.form(by).map(|_| (signal.name, is_unit));
        [form(By::Host, false), form(By::Unit, true)].into_iter().flatten()
    });
    assert_eq!(all.collect::<BTreeSet<_>>(), asked, "a signal is not tried here, or stands twice in the list");
}

#[test]
fn containers_have_what_their_cgroups_say_as_units_have_it() {
    let fleet = fleet();
    let mut known = Vec::new();
    for signal in SIGNALS {
        let Some(form) = signal.form(By::Container) else { continue };
        known.push(signal.name);
        let (units, rows) = (ask(&fleet, &form.promql("", OVER)), ask(&fleet, &form.of_containers("", OVER)));
        assert!(rows.len() == 2 && rows.iter().all(|(labels, _)| labels.get("container") == "web"), "{rows:?}");
        for id in ["01", "02"] {
            let of =
                |rows: &[(Labels, f64)]| rows.iter().find(|(l, _)| l.get("host_id") == id).map(|(_, value)| *value);
            assert_eq!(of(&rows), of(&units), "{}", signal.name);
        }
    }
    assert_eq!(known, ["cpu", "throttled", "memory", "oom", "io", "disk-read", "disk-write", "tasks", "files"]);
}

#[test]
fn a_selector_narrows_every_signal_down_to_its_hosts() {
    let fleet = fleet();
    for signal in SIGNALS {
        for form in [&signal.host, &signal.unit].into_iter().flatten() {
            for on in
                [matcher("zone", "b"), format!("{},{}", hosts_matcher(["web-1"].into_iter()), matcher("zone", "b"))]
            {
                let promql = form.promql(&on, OVER);
                let rows = ask(&fleet, &promql);
                assert!(!rows.is_empty() && rows.iter().all(|(l, _)| l.get("host_id") == "02"), "{promql}: {rows:?}");
            }
            let nobody = form.promql(&hosts_matcher(["web", "web-11"].into_iter()), OVER);
            assert!(ask(&fleet, &nobody).is_empty(), "{nobody}");
            // As a table of the most asks for it.
            let most = ask(&fleet, &format!("topk(1, {})", form.promql("", OVER)));
            assert_eq!(most.len(), 1, "{}", signal.name);
        }
    }
}

#[test]
fn a_hundred_peers_with_the_longest_names_fit_into_every_question() {
    let names: Vec<_> = (0..101).map(|n| format!("{n:a>64}")).collect();
    let on = hosts_matcher(names.iter().map(String::as_str));
    for form in SIGNALS.iter().flat_map(|signal| [&signal.host, &signal.unit]).flatten() {
        let promql = form.promql(&on, OVER);
        assert!(parse(&promql).is_ok(), "{} bytes: {}", promql.len(), form.template);
    }
}

#[test]
fn names_and_values_mean_themselves_whatever_stands_in_them() {
    let mut memory = mainstay_promql::Memory::default();
    for name in [r#"a"b\c"#, "a.b", "axb", "a|b", "b", "ä"] {
        memory.add(Labels::from_text(&[(NAME, "node_forks"), ("host", name)]), [(3_000_000, 1.0)]);
    }
    let found = |on: String| {
        let rows = ask(&memory, &format!("node_forks{{{on}}}"));
        rows.iter().map(|(labels, _)| labels.get("host").to_owned()).collect::<Vec<_>>()
    };
    for name in [r#"a"b\c"#, "a.b", "a|b", "ä"] {
        assert_eq!(found(matcher("host", name)), [name]);
        assert_eq!(found(hosts_matcher([name].into_iter())), [name]);
    }
}

#[test]
fn values_are_said_in_the_unit_of_their_signal() {
    for (measure, value, said) in [
        (Measure::Share, 0.256, "25.6%"),
        (Measure::Cpus, 0.5, "0.50 CPUs"),
        (Measure::Bytes, 1_536.0, "1.5 KiB"),
        (Measure::BytesPerSecond, -2_097_152.0, "-2.0 MiB/s"),
        (Measure::Seconds, 0.000_25, "250 µs"),
        (Measure::Seconds, 0.0123, "12.3 ms"),
        (Measure::Seconds, 4.0, "4.00 s"),
        (Measure::PerSecond, 12_340.0, "12.3k/s"),
        (Measure::Count, 1.02, "1"),
        (Measure::Count, 6.5, "6.50"),
        (Measure::Number, 250.4, "250"),
    ] {
        assert_eq!(measure.say(value), said);
    }
}
