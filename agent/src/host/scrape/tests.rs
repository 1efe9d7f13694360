//! The scrape as a whole: hung jobs, and a tree of files as two kernels write them.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use mainstay_core::exposition::Format;

use super::*;

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
