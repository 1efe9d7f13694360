//! The scrape as a whole: hung jobs, and a tree of files as two kernels write them.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use mainstay_core::exposition::Format;
use mainstay_core::series::SeriesKey;

use super::*;
use crate::host::{Host, clock};

/// Long enough for a job that does nothing, on a machine that is busy.
const JOB_MAX_TEST: Duration = Duration::from_millis(300);

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
    let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:50 / /dead rw - nfs server:/x rw\n24 22 8:2 / /srv ro - xfs /dev/sdb rw\n";
    std::fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
    root
}

/// A `statfs` that blocks on `/dead` until the sender is used or dropped.
fn blocking_stat() -> (Arc<StatFs>, Sender<()>) {
    let (release, held) = channel::<()>();
    let held: Mutex<Receiver<()>> = Mutex::new(held);
    let stat = move |mount: &PathBytes| {
        if mount.0 == b"/dead" {
            let _ = held.lock().unwrap().recv();
        }
        Ok(FilesystemUsage { size_bytes: 100, ..FilesystemUsage::default() })
    };
    (Arc::new(stat), release)
}

fn one(_: &Tree, out: &mut Exposition) -> Collected {
    out.gauge("node_one", "", 1.0);
    Ok(Found::Data)
}

#[tokio::test(flavor = "current_thread")]
async fn a_dead_mount_is_shown_as_such_and_the_others_are_asked() {
    let root = root();
    let (stat, release) = blocking_stat();
    let shared = Shared { root: root.path().to_owned(), stat, collectors: vec![("one", one), (FILESYSTEM, one)] };
    let mut scraper = Scraper::new(shared, JOB_MAX_TEST);
    let settings = FilesystemSettings::default();
    let error = |mount: &str, fstype: &str, point: &str, value: u8| {
        format!(
            "node_filesystem_device_error{{device=\"{mount}\",fstype=\"{fstype}\",mountpoint=\"{point}\"}} {value}\n"
        )
    };
    let text = scraper.scrape(&settings).await.render(Format::Prometheus);
    assert!(text.contains(&error("server:/x", "nfs", "/dead", 1)), "{text}");
    assert!(text.contains(&error("/dev/sdb", "xfs", "/srv", 0)), "asked by another thread: {text}");
    assert!(text.contains("node_filesystem_readonly{device=\"/dev/sdb\",fstype=\"xfs\",mountpoint=\"/srv\"} 1\n"));
    assert_eq!(scraper.stuck(), 1);

    // It is not waited for again.
    let begun = Instant::now();
    let again = scraper.scrape(&settings).await.render(Format::Prometheus);
    assert!(again.contains(&error("server:/x", "nfs", "/dead", 1)) && begun.elapsed() < JOB_MAX_TEST);

    drop(release);
    let mut text = again;
    while text.contains(&error("server:/x", "nfs", "/dead", 1)) {
        text = scraper.scrape(&settings).await.render(Format::Prometheus);
    }
    assert_eq!(scraper.stuck(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_collector_that_hangs_has_no_success_and_the_others_are_shown() {
    static HELD: Mutex<Option<Receiver<()>>> = Mutex::new(None);
    fn hung(_: &Tree, _: &mut Exposition) -> Collected {
        let held = HELD.lock().unwrap().take();
        if let Some(held) = held {
            let _ = held.recv();
        }
        Ok(Found::Data)
    }
    fn nothing(_: &Tree, _: &mut Exposition) -> Collected {
        Ok(Found::Nothing)
    }
    let (release, held) = channel();
    *HELD.lock().unwrap() = Some(held);
    let root = root();
    let stat: Arc<StatFs> = Arc::new(|_: &PathBytes| Err(std::io::ErrorKind::NotFound.into()));
    let collectors: Vec<Collector> = vec![("hung", hung), ("one", one), ("nothing", nothing)];
    let mut scraper = Scraper::new(Shared { root: root.path().to_owned(), stat, collectors }, JOB_MAX_TEST);
    let text = scraper.scrape(&FilesystemSettings::default()).await.render(Format::OpenMetrics);
    for line in [
        "node_one 1\n",
        "node_scrape_collector_success{collector=\"hung\"} 0\n",
        "node_scrape_collector_success{collector=\"nothing\"} 0\n",
        "node_scrape_collector_success{collector=\"one\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    drop(release);
    while scraper.stuck() > 0 {
        scraper.scrape(&FilesystemSettings::default()).await;
    }
    let text = scraper.scrape(&FilesystemSettings::default()).await.render(Format::OpenMetrics);
    assert!(text.contains("node_scrape_collector_success{collector=\"hung\"} 1\n"));
}

#[tokio::test(flavor = "current_thread")]
async fn the_machine_that_the_test_runs_on_is_read_whole() {
    let text = Scraper::at("/".into()).scrape(&FilesystemSettings::default()).await.render(Format::OpenMetrics);
    for name in [
        "node_cpu_seconds_total",
        "node_memory_MemTotal_bytes",
        "node_netstat_Tcp_InSegs",
        "node_processes_max_processes",
        "node_processes_max_threads",
        "node_uname_info",
    ] {
        assert!(text.contains(name), "{name} is not there");
    }
    assert!(text.ends_with("# EOF\n"));
    // Every line of a family stands below its one heading, and no series stands there twice.
    let series: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let unique: std::collections::BTreeSet<&str> = series.iter().copied().collect();
    assert_eq!(series.len(), unique.len());
}

#[test]
fn what_operators_look_back_for_is_read_as_series_that_samples_lack() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        (
            "proc/net/snmp",
            "Ip: Forwarding InReceives\nIp: 1 5\nTcp: CurrEstab OutSegs RetransSegs OutRsts\nTcp: 4 900 5 7\n\
             Udp: InErrors RcvbufErrors\nUdp: 3 2\n",
        ),
        ("proc/net/netstat", "TcpExt: ListenOverflows ListenDrops TCPTimeouts\nTcpExt: 1 1 9\n"),
        ("proc/net/sockstat", "sockets: used 30\nTCP: inuse 5 orphan 0 tw 1 alloc 6 mem 2\n"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "5\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
        ("proc/net/stat/nf_conntrack", "entries found insert_failed drop\n00000005 00000001 00000002 00000003\n"),
        (
            "proc/mdstat",
            "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0]\n      248896 blocks [2/2] [UU]\n",
        ),
        ("proc/sys/kernel/random/entropy_avail", "256\n"),
        ("proc/sys/kernel/random/poolsize", "256\n"),
        ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "45000\n"),
        ("sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
        ("sys/class/hwmon/hwmon0/temp1_alarm", "1\n"),
        ("sys/class/hwmon/hwmon0/temp1_label", "Core 0\n"),
        ("sys/class/thermal/cooling_device0/type", "Processor\n"),
        ("sys/class/thermal/cooling_device0/cur_state", "1\n"),
        ("sys/class/thermal/cooling_device0/max_state", "9\n"),
        ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n"),
        ("sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "11\n"),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "12\n"),
        ("sys/devices/system/edac/mc/mc0/ce_count", "13\n"),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let readings = background(root.path());
    let lines: Vec<String> =
        readings.iter().map(|reading| format!("{} {} {:?}", reading.key, reading.value, reading.kind)).collect();
    for want in [
        "node_netstat_Tcp_OutRsts 7 Counter",
        "node_netstat_Udp_InErrors 3 Counter",
        "node_netstat_Udp_RcvbufErrors 2 Counter",
        "node_netstat_TcpExt_TCPTimeouts 9 Counter",
        "node_nf_conntrack_stat_insert_failed 2 Counter",
        "node_sockstat_sockets_used 30 Gauge",
        "node_sockstat_TCP_tw 1 Gauge",
        "node_entropy_available_bits 256 Gauge",
        r#"node_md_disks{device="md0",state="active"} 2 Gauge"#,
        r#"node_hwmon_temp_celsius{chip="coretemp",sensor="temp1"} 45 Gauge"#,
        r#"node_hwmon_temp_alarm{chip="coretemp",sensor="temp1"} 1 Gauge"#,
        r#"node_cpu_package_throttles_total{package="0"} 12 Counter"#,
        r#"node_edac_correctable_errors_total{controller="0"} 13 Counter"#,
    ] {
        assert!(lines.iter().any(|line| line == want), "{want} is not in {lines:#?}");
    }
    for left_out in ["Forwarding", "pool_size", "crit", "label", "core_throttles", "cooling", "md_blocks{"] {
        assert!(!lines.iter().any(|line| line.contains(left_out)), "{left_out} is in {lines:#?}");
    }
    let keys: BTreeSet<SeriesKey> = readings.iter().map(|reading| reading.key.clone()).collect();
    assert_eq!(keys.len(), readings.len(), "a series stands there twice");

    let mut of_sample = BTreeSet::new();
    let sample = Host::at(root.path(), FilesystemSettings::default()).sample(clock::now());
    mainstay_core::readings::readings(&sample, &mut |reading| {
        of_sample.insert(SeriesKey::new(reading.name, reading.labels));
    });
    for name in ["node_netstat_Tcp_CurrEstab", "node_netstat_TcpExt_ListenDrops", "node_nf_conntrack_entries"] {
        assert!(of_sample.iter().any(|key| key.name == name), "{name} is not in {of_sample:?}");
    }
    let twice: Vec<&SeriesKey> = of_sample.intersection(&keys).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
