//! What `/metrics` shows of the host: node_exporter's families, read when somebody asks.
//!
//! The tick of the agent reads only what detectors need; the rest is read here, once for each
//! scrape, by a thread that is not the loop's. In: the kernel's files below a root. Out: an
//! [`Exposition`].
//!
//! A driver or a dead mount may keep a reader for ever. So every collector and every mount is a job
//! with a deadline: a job that misses it is stuck, its thread is left behind, another thread goes on
//! with the rest, and a stuck job is not begun again before its thread has come back. A scrape takes
//! at most [`SCRAPE_MAX`], and there are never more than [`STUCK_MAX`] lost threads.

mod clocks;
mod cpu;
mod disk;
mod fabric;
mod filesystem;
mod fs_stats;
mod identity;
mod kernel;
mod memory;
mod net;
mod nfs;
mod sensors;
mod sockets;
mod textfile;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::mountinfo::Mount;
use mainstay_core::readings::SeriesKind;
use mainstay_core::sample::{BackgroundReading, FilesystemUsage};
use mainstay_core::subject::PathBytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::filesystems::{FilesystemSettings, StatFs, statfs};
use tree::{ScrapeError, Tree};

/// A job that takes longer is stuck. Reading all files of a large machine takes some 30 ms.
const JOB_MAX: Duration = Duration::from_secs(1);

/// A scrape takes no longer, whatever hangs: Prometheus waits ten seconds by default.
pub const SCRAPE_MAX: Duration = Duration::from_secs(6);

/// Most threads that may be lost. Beyond it, what comes after a stuck job is left out.
pub const STUCK_MAX: usize = 16;

/// Whether a collector found what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It did, or its absence says nothing (a host without batteries).
    Data,
    /// The kernel does not have it: shown as node_exporter does, without success.
    Nothing,
}

/// What a collector returns.
type Collected = Result<Found, ScrapeError>;

/// A collector: its name, and what it does.
type Collector = (&'static str, fn(&Tree, &mut Exposition) -> Collected);

/// All collectors under node_exporter's names, in the order of a scrape.
const COLLECTORS: [Collector; 45] = [
    ("arp", net::arp),
    ("bonding", net::bonding),
    ("btrfs", fs_stats::btrfs),
    ("conntrack", sockets::conntrack),
    ("cpu", cpu::cpu),
    ("cpufreq", cpu::cpufreq),
    ("diskstats", disk::diskstats),
    ("dmi", identity::dmi),
    ("edac", memory::edac),
    ("entropy", kernel::entropy),
    ("fibrechannel", fabric::fibrechannel),
    ("filefd", kernel::filefd),
    ("hwmon", sensors::hwmon),
    ("infiniband", fabric::infiniband),
    ("ipvs", sockets::ipvs),
    ("loadavg", kernel::loadavg),
    ("mdadm", disk::mdadm),
    ("meminfo", memory::memory),
    ("netclass", net::netclass),
    ("netdev", net::netdev),
    ("netstat", sockets::netstat),
    ("nfs", nfs::client),
    ("nfsd", nfs::server),
    ("nvme", disk::nvme),
    ("os", identity::os),
    ("powersupplyclass", sensors::power_supply),
    ("pressure", kernel::pressure),
    ("processes", kernel::processes),
    ("rapl", sensors::rapl),
    ("schedstat", cpu::schedstat),
    ("selinux", kernel::selinux),
    ("sockstat", sockets::sockstat),
    ("softnet", sockets::softnet),
    ("stat", kernel::stat),
    ("tapestats", disk::tapestats),
    ("thermal_zone", sensors::thermal_zone),
    ("time", clocks::time),
    ("timex", clocks::timex),
    ("udp_queues", sockets::udp_queues),
    ("uname", identity::uname),
    ("vmstat", memory::vm),
    ("xfs", fs_stats::xfs),
    ("zfs", fs_stats::zfs),
    (FILESYSTEM, |_, _| Ok(Found::Data)),
    (TEXTFILE, textfile::textfile),
];

/// Those of them that operators look back for though no detector needs them, what there is most of last.
const BACKGROUND: [Collector; 10] = [
    ("conntrack", sockets::conntrack),
    ("edac", memory::edac),
    ("entropy", kernel::entropy),
    ("mdadm", disk::mdadm),
    ("netstat", sockets::netstat),
    ("sockstat", sockets::sockstat),
    ("udp_queues", sockets::udp_queues),
    ("throttles", cpu::throttles),
    ("thermal_zone", sensors::thermal_zone),
    ("hwmon", sensors::hwmon),
];

/// Reads what summaries have besides the samples: each series once, none that samples have.
pub(super) fn background(root: &Path) -> Vec<BackgroundReading> {
    let Ok(tree) = Tree::at(root) else { return Vec::new() };
    let mut out = Exposition::taken_down();
    for (name, collect) in BACKGROUND {
        if let Err(error) = collect(&tree, &mut out) {
            debug!(collector = name, %error, "collector failed");
        }
    }
    let mut readings = out.into_readings();
    readings.retain(|reading| is_looked_back_for(&reading.key.name));
    let mut seen = BTreeSet::new();
    readings.retain(|reading| seen.insert(reading.key.clone()));
    // To node_exporter they are gauges.
    let counted = readings.iter_mut().filter(|reading| reading.key.name.starts_with("node_nf_conntrack_stat_"));
    counted.for_each(|reading| reading.kind = SeriesKind::Counter);
    readings
}

/// What moves and is not in samples: no sizes, no bounds, no names of sensors, nothing of each core.
fn is_looked_back_for(name: &str) -> bool {
    const OF_SAMPLES: [&str; 7] = [
        "node_netstat_TcpExt_ListenDrops",
        "node_netstat_TcpExt_ListenOverflows",
        "node_netstat_Tcp_CurrEstab",
        "node_netstat_Tcp_OutSegs",
        "node_netstat_Tcp_RetransSegs",
        "node_nf_conntrack_entries",
        "node_nf_conntrack_entries_limit",
    ];
    const OTHERS: [&str; 8] = [
        // A processor is one of its own.
        "node_cooling_device_cur_state",
        "node_cooling_device_max_state",
        "node_cpu_core_throttles_total",
        "node_entropy_pool_size_bits",
        "node_hwmon_chip_names",
        "node_md_blocks",
        "node_md_disks_required",
        "node_netstat_Ip_Forwarding",
    ];
    let is_value = |of_sensor: &str| {
        let (_, what) = of_sensor.split_once('_').unwrap_or((of_sensor, of_sensor));
        matches!(what, "celsius" | "rpm" | "volts" | "amps" | "watt" | "average_watt" | "humidity" | "fault")
            || what.ends_with("joule_total")
            || what.contains("alarm")
    };
    let is_pages = name.starts_with("node_sockstat_") && name.ends_with("_mem");
    !OF_SAMPLES.contains(&name)
        && !OTHERS.contains(&name)
        && !is_pages
        && name.strip_prefix("node_hwmon_").is_none_or(is_value)
}

/// Its mounts are jobs of their own.
const FILESYSTEM: &str = "filesystem";

/// It must not take names that others have.
const TEXTFILE: &str = "textfile";

/// Reads the host for `/metrics`.
pub struct Scraper {
    shared: Arc<Shared>,
    answers: (UnboundedSender<Answer>, UnboundedReceiver<Answer>),
    next_worker: u64,
    /// Jobs that hold a lost worker.
    stuck: BTreeMap<Job, u64>,
    job_max: Duration,
}

/// What every worker needs.
struct Shared {
    root: PathBuf,
    stat: Arc<StatFs>,
    collectors: Vec<Collector>,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").field("root", &self.shared.root).field("stuck", &self.stuck).finish_non_exhaustive()
    }
}

/// One piece of work that may hang.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    /// A collector, by its place in the list.
    Collect(usize),
    /// Which mounts there are.
    Mounts,
    /// How full one of them is.
    Usage(PathBytes),
}

/// What came of a job.
struct Answer {
    worker: u64,
    job: Job,
    took: Duration,
    done: Done,
}

enum Done {
    Collected(Exposition, Collected),
    Mounts(Result<Vec<Mount>, ScrapeError>),
    Usage(Option<FilesystemUsage>),
}

/// A thread that works, and how it is told that nobody waits for it any more.
struct Worker {
    id: u64,
    given_up: Arc<AtomicBool>,
}

/// How a collector did: seconds, and whether it found what it is for. By its place in the list.
type Reports = BTreeMap<usize, (f64, bool)>;

impl Scraper {
    /// Reads below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self::new(Shared { root, stat: Arc::new(statfs), collectors: COLLECTORS.to_vec() }, JOB_MAX)
    }

    fn new(shared: Shared, job_max: Duration) -> Self {
        Self { shared: Arc::new(shared), answers: unbounded_channel(), next_worker: 0, stuck: BTreeMap::new(), job_max }
    }

    /// Reads everything once. Answers within [`SCRAPE_MAX`], with what could be read.
    pub async fn scrape(&mut self, settings: &FilesystemSettings) -> Exposition {
        let until = Instant::now() + SCRAPE_MAX;
        let mut text = Exposition::default();
        let mut reports = Reports::new();
        let mut mounts = Vec::new();
        let mut from_files = Exposition::default();
        let jobs = (0..self.shared.collectors.len()).map(Job::Collect).chain([Job::Mounts]);
        for (job, answer) in self.run(jobs.collect(), until, settings).await {
            match (job, answer) {
                (Job::Collect(which), Some(Answer { took, done: Done::Collected(part, outcome), .. })) => {
                    let name = self.shared.collectors[which].0;
                    if let Err(error) = &outcome {
                        debug!(collector = name, %error, "collector failed");
                    }
                    let into = if name == TEXTFILE { &mut from_files } else { &mut text };
                    into.absorb(part);
                    reports.insert(which, (took.as_secs_f64(), matches!(outcome, Ok(Found::Data))));
                }
                (Job::Collect(which), _) => {
                    reports.insert(which, (self.job_max.as_secs_f64(), false));
                }
                (_, Some(Answer { done: Done::Mounts(Ok(found)), .. })) => mounts = found,
                _ => {}
            }
        }
        self.filesystems(&mounts, until, settings, &mut text, &mut reports).await;
        self.report(&reports, &mut text);
        // What others wrote into files never joins a family of our own.
        text.absorb_new(from_files);
        text
    }

    /// How many jobs do not come back.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.stuck.len()
    }

    async fn filesystems(
        &mut self,
        mounts: &[Mount],
        until: Instant,
        settings: &FilesystemSettings,
        text: &mut Exposition,
        reports: &mut Reports,
    ) {
        let begun = Instant::now();
        let points: BTreeSet<&PathBytes> = mounts.iter().map(|mount| &mount.mount_point).collect();
        let jobs = points.into_iter().cloned().map(Job::Usage).collect();
        let mut usages: BTreeMap<PathBytes, FilesystemUsage> = BTreeMap::new();
        for (job, answer) in self.run(jobs, until, settings).await {
            if let (Job::Usage(point), Some(Answer { done: Done::Usage(Some(usage)), .. })) = (job, answer) {
                usages.insert(point, usage);
            }
        }
        for mount in mounts {
            filesystem::show(mount, usages.get(&mount.mount_point).copied(), text);
        }
        if let Some(which) = self.shared.collectors.iter().position(|(name, _)| *name == FILESYSTEM) {
            reports.insert(which, (begun.elapsed().as_secs_f64(), true));
        }
    }

    fn report(&self, reports: &Reports, text: &mut Exposition) {
        for (which, (seconds, success)) in reports {
            let labels = [("collector", self.shared.collectors[*which].0)];
            let help = "How long a collector took.";
            text.family("node_scrape_collector_duration_seconds", FamilyKind::Gauge, help).add(&labels, *seconds);
            let help = "1 if a collector found what it is for.";
            text.family("node_scrape_collector_success", FamilyKind::Gauge, help)
                .add(&labels, f64::from(u8::from(*success)));
        }
    }

    /// Has every job done that is not stuck, each within its deadline; `None` for what did not come.
    async fn run(
        &mut self,
        jobs: Vec<Job>,
        until: Instant,
        settings: &FilesystemSettings,
    ) -> Vec<(Job, Option<Answer>)> {
        self.take_late();
        let (stuck, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| self.stuck.contains_key(job));
        let mut results: Vec<(Job, Option<Answer>)> = stuck.into_iter().map(|job| (job, None)).collect();
        let mut waiting = VecDeque::from(jobs);
        let mut worker = self.start(&waiting, settings);
        while let (Some(current), false) = (&worker, waiting.is_empty()) {
            let left = until.saturating_duration_since(Instant::now()).min(self.job_max);
            match timeout(left, self.answers.1.recv()).await {
                Ok(Some(answer)) if answer.worker == current.id => {
                    waiting.pop_front();
                    results.push((answer.job.clone(), Some(answer)));
                }
                Ok(Some(answer)) => self.came_back(&answer),
                Ok(None) => break,
                Err(_) => {
                    current.given_up.store(true, Ordering::Relaxed);
                    let lost = current.id;
                    if let Some(job) = waiting.pop_front() {
                        warn!(?job, "what is read for /metrics does not come back: left out until it does");
                        self.stuck.insert(job.clone(), lost);
                        results.push((job, None));
                    }
                    let may_go_on = self.stuck.len() < STUCK_MAX && Instant::now() < until;
                    worker = if may_go_on { self.start(&waiting, settings) } else { None };
                }
            }
        }
        results.extend(waiting.into_iter().map(|job| (job, None)));
        results
    }

    /// Takes what lost workers said since.
    fn take_late(&mut self) {
        while let Ok(answer) = self.answers.1.try_recv() {
            self.came_back(&answer);
        }
    }

    fn came_back(&mut self, answer: &Answer) {
        if self.stuck.get(&answer.job) == Some(&answer.worker) {
            self.stuck.remove(&answer.job);
        }
    }

    /// Starts a thread that does these jobs one after the other; `None` if there is nothing to do,
    /// or no thread to be had.
    fn start(&mut self, jobs: &VecDeque<Job>, settings: &FilesystemSettings) -> Option<Worker> {
        if jobs.is_empty() {
            return None;
        }
        let tree = Tree::at(&self.shared.root).ok()?;
        let worker = Worker { id: self.next_worker, given_up: Arc::default() };
        self.next_worker += 1;
        let (id, given_up) = (worker.id, Arc::clone(&worker.given_up));
        let (shared, answers) = (Arc::clone(&self.shared), self.answers.0.clone());
        let (jobs, settings) = (jobs.clone(), settings.clone());
        let work = move || {
            for job in jobs {
                let begun = std::time::Instant::now();
                let done = shared.work(&tree, &settings, &job);
                let answer = Answer { worker: id, job, took: begun.elapsed(), done };
                // Another one does the rest if this one was given up meanwhile.
                if answers.send(answer).is_err() || given_up.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        let builder = std::thread::Builder::new().name("scrape".to_owned());
        builder.spawn(work).ok().map(|_| worker)
    }
}

impl Shared {
    fn work(&self, tree: &Tree, settings: &FilesystemSettings, job: &Job) -> Done {
        match job {
            Job::Collect(which) => {
                let mut part = Exposition::default();
                let outcome = (self.collectors[*which].1)(tree, &mut part);
                Done::Collected(part, outcome)
            }
            Job::Mounts => Done::Mounts(filesystem::mounts(tree, settings)),
            Job::Usage(mount) => Done::Usage((self.stat)(mount).ok()),
        }
    }
}

#[cfg(test)]
mod tests;
