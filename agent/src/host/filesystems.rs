//! Mounted filesystems and how full they are.
//!
//! `statfs` on a dead network or FUSE mount never returns and cannot be interrupted. So it is
//! called in a worker thread that may be lost: a mount that does not answer within the deadline is
//! stuck, its thread is left behind, and another one goes on with the rest. A stuck mount is shown
//! without usage (unknown, not zero) and asked again only when its thread has come back, so that
//! there is never more than one lost thread for one mount. The caller never waits. Those that are far from full and hardly
//! move are asked every five seconds ([`pace`]).

mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use mainstay_core::parse::mountinfo::{self, Mount, REMOTE_TYPES};
use mainstay_core::sample::{Filesystem, FilesystemUsage};
use mainstay_core::subject::PathBytes;
use mainstay_core::time::Now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::file::KeptFile;

/// Most threads that may be lost to stuck mounts. Beyond it the remaining mounts are unknown.
pub const STUCK_MAX: usize = 16;

/// Most filesystems in a sample: a host with thousands of container mounts must not swell it.
pub const FILESYSTEMS_MAX: usize = 256;

/// A worker needs next to no stack.
const WORKER_STACK_BYTES: usize = 64 << 10;

/// Made by the kernel for the kernel, or always full by design: never shown.
const PSEUDO_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "udf",
];

/// Of a program, and mostly answered by another machine: off by default, as [`REMOTE_TYPES`] are.
const NETWORK_FUSE_TYPES: &[&str] =
    &["fuse", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"];

/// Below these lie mounts of containers and of the system's own making.
const IGNORED_BELOW: &[&str] = &[
    "/dev",
    "/proc",
    "/sys",
    "/run/credentials",
    "/run/host",
    "/run/user",
    "/var/lib/docker",
    "/var/lib/containers/storage",
];

/// Which filesystems are watched, and how long one may take to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemSettings {
    /// Whether network filesystems are watched too (default no).
    pub network: bool,
    /// Types that are not watched, besides the kernel's own.
    pub ignore_types: Vec<String>,
    /// Mount points that are not watched, with everything below them.
    pub ignore_mounts: Vec<String>,
    /// A mount that has not answered after this long is stuck (default 2 s).
    pub deadline: Duration,
}

impl Default for FilesystemSettings {
    fn default() -> Self {
        Self { network: false, ignore_types: Vec::new(), ignore_mounts: Vec::new(), deadline: Duration::from_secs(2) }
    }
}

/// Asks one mount how full it is; blocks for as long as the mount does.
pub type StatFs = dyn Fn(&PathBytes) -> io::Result<FilesystemUsage> + Send + Sync;

/// Follows the mount table and asks every filesystem on it.
pub struct Filesystems {
    settings: FilesystemSettings,
    table: KeptFile,
    fallback: KeptFile,
    mounts: Vec<Filesystem>,
    numbers: Vec<((u32, u32), PathBytes)>,
    dropped: u64,
    workers: Workers,
}

impl std::fmt::Debug for Filesystems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filesystems").field("mounts", &self.mounts).finish_non_exhaustive()
    }
}

impl Filesystems {
    /// Reads the mount table below `proc` and asks with `stat`.
    #[must_use]
    pub fn new(proc: &std::path::Path, settings: FilesystemSettings, stat: Arc<StatFs>) -> Self {
        Self {
            workers: Workers::new(stat),
            settings,
            // The agent's own table shows the view that its sandbox has; PID 1 sees the host's.
            table: KeptFile::of_long_lines(proc.join("1/mountinfo")),
            fallback: KeptFile::of_long_lines(proc.join("self/mountinfo")),
            mounts: Vec::new(),
            numbers: Vec::new(),
            dropped: 0,
        }
    }

    /// Uses other settings from the next reading on.
    pub fn set(&mut self, settings: FilesystemSettings) {
        self.settings = settings;
        self.mounts.clear();
    }

    /// Starts asking every watched filesystem; answers are taken by [`Self::collect`].
    ///
    /// # Errors
    /// Where the mount table cannot be read.
    pub fn ask(&mut self, buffer: &mut Vec<u8>, now: Now) -> io::Result<()> {
        if self.mounts.is_empty() || has_changed(&self.table) {
            self.read_table(buffer)?;
        }
        self.workers.ask(self.mounts.iter().map(|m| &m.mount), self.settings.deadline, now);
        Ok(())
    }

    /// The filesystems with what they answered so far. Never waits.
    pub fn collect(&mut self, now: Now) -> Vec<Filesystem> {
        self.workers.take_answers(self.settings.deadline, now);
        let mut shown = self.mounts.clone();
        for filesystem in &mut shown {
            filesystem.usage = self.workers.usage(&filesystem.mount);
        }
        shown
    }

    /// The filesystems that are watched, by device number.
    #[must_use]
    pub fn numbers(&self) -> &[((u32, u32), PathBytes)] {
        &self.numbers
    }

    /// How many mounts do not answer.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.workers.stuck.len()
    }

    /// How many filesystems were left out because of [`FILESYSTEMS_MAX`] at the last reading.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn read_table(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let bytes = match self.table.read(buffer) {
            Ok(Some(_)) => self.table.read(buffer)?,
            _ => self.fallback.read(buffer)?,
        };
        let mounts = mountinfo::parse(bytes.unwrap_or_default()).map_err(io::Error::other)?;
        let by_device = by_device(&mounts, &self.settings);
        self.numbers = by_device.iter().map(|(number, mount)| (*number, mount.mount_point.clone())).collect();
        self.numbers.truncate(FILESYSTEMS_MAX);
        let mut watched = watched(by_device);
        self.dropped = watched.len().saturating_sub(FILESYSTEMS_MAX) as u64;
        watched.truncate(FILESYSTEMS_MAX);
        self.mounts = watched;
        self.workers.forget_all_but(self.mounts.iter().map(|m| &m.mount));
        Ok(())
    }
}

/// The kernel marks the table's handle when a mount comes, goes or changes.
fn has_changed(table: &KeptFile) -> bool {
    let Some(handle) = table.handle() else { return true };
    let mut fds = [PollFd::new(handle, PollFlags::PRI)];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&no_wait)).map_or(true, |_| fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR))
}

/// One mount for each filesystem that is to be watched: of several mounts of one device, the one
/// that shows its root, and of those the one with the shortest path.
fn by_device<'m>(mounts: &'m [Mount], settings: &FilesystemSettings) -> BTreeMap<(u32, u32), &'m Mount> {
    let mut by_device: BTreeMap<(u32, u32), &Mount> = BTreeMap::new();
    // A later mount on the same path hides an earlier one.
    let visible: BTreeMap<&PathBytes, &Mount> = mounts.iter().map(|mount| (&mount.mount_point, mount)).collect();
    for mount in visible.into_values().filter(|mount| is_watched(mount, settings)) {
        let rank = |m: &Mount| (m.root.0 != b"/", m.mount_point.0.len());
        by_device
            .entry(mount.device_number)
            .and_modify(|have| {
                if rank(mount) < rank(have) {
                    *have = mount
                }
            })
            .or_insert(mount);
    }
    by_device
}

fn watched(by_device: BTreeMap<(u32, u32), &Mount>) -> Vec<Filesystem> {
    let mut shown: Vec<Filesystem> = by_device
        .into_values()
        .map(|mount| Filesystem {
            mount: mount.mount_point.clone(),
            device: mount.source.clone(),
            fstype: mount.fstype.clone(),
            read_only: mount.read_only,
            usage: None,
        })
        .collect();
    shown.sort_by(|a, b| a.mount.cmp(&b.mount));
    shown
}

fn is_watched(mount: &Mount, settings: &FilesystemSettings) -> bool {
    let fstype = mount.fstype.as_str();
    let is_below = |folder: &str| {
        let rest = mount.mount_point.0.strip_prefix(folder.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    let is_container_layer = fstype == "overlay" && mount.mount_point.0 != b"/";
    !(PSEUDO_TYPES.contains(&fstype)
        || is_container_layer
        || (!settings.network && (REMOTE_TYPES.contains(&fstype) || NETWORK_FUSE_TYPES.contains(&fstype)))
        || settings.ignore_types.iter().any(|ignored| ignored == fstype)
        || IGNORED_BELOW.iter().any(|folder| is_below(folder))
        || settings.ignore_mounts.iter().any(|folder| is_below(folder.trim_end_matches('/'))))
}

/// `statvfs` on the real host.
///
/// # Errors
/// What the kernel says.
pub fn statfs(mount: &PathBytes) -> io::Result<FilesystemUsage> {
    use std::os::unix::ffi::OsStrExt;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&mount.0));
    let stat = rustix::fs::statvfs(path)?;
    Ok(FilesystemUsage {
        size_bytes: stat.f_blocks * stat.f_frsize,
        free_bytes: stat.f_bfree * stat.f_frsize,
        avail_bytes: stat.f_bavail * stat.f_frsize,
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

/// One answer of a worker.
struct Answer {
    worker: u64,
    mount: PathBytes,
    usage: Option<FilesystemUsage>,
}

/// The worker that is asked, the ones that are lost, and what was answered.
struct Workers {
    stat: Arc<StatFs>,
    answers: (Sender<Answer>, Receiver<Answer>),
    /// The worker that is asked now. Dropping its channel ends it.
    current: Option<(u64, Sender<Vec<PathBytes>>)>,
    next_worker: u64,
    /// What the current worker has still to answer, in its order, and since when it is at it.
    waiting: Vec<PathBytes>,
    since: Now,
    /// Mounts that hold a lost worker.
    stuck: BTreeMap<PathBytes, u64>,
    known: BTreeMap<PathBytes, Known>,
    /// When those that are calm were asked last.
    calm_asked: Option<Now>,
}

/// What was answered last.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    usage: Option<FilesystemUsage>,
    is_calm: bool,
}

impl Known {
    fn answered(&mut self, usage: Option<FilesystemUsage>) {
        let is_calm = self.usage.as_ref().zip(usage.as_ref()).is_some_and(|(before, now)| pace::is_calm(before, now));
        *self = Self { usage, is_calm };
    }
}

impl Workers {
    fn new(stat: Arc<StatFs>) -> Self {
        Self {
            stat,
            answers: mpsc::channel(),
            current: None,
            next_worker: 0,
            waiting: Vec::new(),
            since: Now::default(),
            stuck: BTreeMap::new(),
            known: BTreeMap::new(),
            calm_asked: None,
        }
    }

    /// Asks for every mount that is not stuck, and is not calm or due, unless the last round is still under way.
    fn ask<'m>(&mut self, mounts: impl Iterator<Item = &'m PathBytes>, deadline: Duration, now: Now) {
        self.take_answers(deadline, now);
        if !self.waiting.is_empty() {
            return;
        }
        let all = pace::is_due(self.calm_asked, now);
        if all {
            self.calm_asked = Some(now);
        }
        let is_asked = |mount: &PathBytes| {
            (all || self.known.get(mount).is_none_or(|known| !known.is_calm)) && !self.stuck.contains_key(mount)
        };
        self.waiting = mounts.filter(|mount| is_asked(mount)).cloned().collect();
        self.waiting.reverse();
        self.since = now;
        self.send_all();
    }

    /// Hands what is waiting to the current worker, or to a new one: all of it at once, so that it is woken once.
    fn send_all(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.current.is_none() && self.stuck.len() < STUCK_MAX {
            self.current = self.start_worker();
        }
        let Some((_, requests)) = &self.current else {
            self.waiting.clear();
            return;
        };
        if requests.send(self.waiting.iter().rev().cloned().collect()).is_err() {
            self.current = None;
            self.waiting.clear();
        }
    }

    fn start_worker(&mut self) -> Option<(u64, Sender<Vec<PathBytes>>)> {
        let (requests, to_do) = mpsc::channel::<Vec<PathBytes>>();
        let (worker, answers, stat) = (self.next_worker, self.answers.0.clone(), self.stat.clone());
        self.next_worker += 1;
        let work = move || {
            for mount in to_do.iter().flatten() {
                let usage = stat(&mount).ok();
                if answers.send(Answer { worker, mount, usage }).is_err() {
                    break;
                }
            }
        };
        let builder = std::thread::Builder::new().name("statfs".to_owned()).stack_size(WORKER_STACK_BYTES);
        builder.spawn(work).ok().map(|_| (worker, requests))
    }

    /// Takes every answer that is there; gives the current worker up if it is past the deadline.
    fn take_answers(&mut self, deadline: Duration, now: Now) {
        while let Ok(answer) = self.answers.1.try_recv() {
            let is_current = self.current.as_ref().is_some_and(|(worker, _)| *worker == answer.worker);
            if is_current {
                self.waiting.pop();
                self.since = now;
                self.known.entry(answer.mount).or_default().answered(answer.usage);
            } else if self.stuck.get(&answer.mount) == Some(&answer.worker) {
                // It came back: from the next round on the mount is asked again.
                self.stuck.remove(&answer.mount);
            }
        }
        if !self.waiting.is_empty() && now.since(self.since) >= deadline {
            self.give_up(now);
        }
    }

    /// Leaves the current worker to the mount that holds it and goes on with the others.
    fn give_up(&mut self, now: Now) {
        if let (Some((worker, _)), Some(mount)) = (self.current.take(), self.waiting.pop()) {
            self.known.insert(mount.clone(), Known::default());
            self.stuck.insert(mount, worker);
        }
        self.since = now;
        self.send_all();
    }

    fn usage(&self, mount: &PathBytes) -> Option<FilesystemUsage> {
        if self.stuck.contains_key(mount) { None } else { self.known.get(mount).and_then(|known| known.usage) }
    }

    /// Drops what is known of mounts that are gone. A lost worker is remembered all the same.
    fn forget_all_but<'m>(&mut self, mounts: impl Iterator<Item = &'m PathBytes>) {
        let there: BTreeSet<&PathBytes> = mounts.collect();
        self.known.retain(|mount, _| there.contains(mount));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Now {
        Now { boot_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    fn usage(avail_bytes: u64) -> FilesystemUsage {
        FilesystemUsage { size_bytes: 100, free_bytes: avail_bytes, avail_bytes, files: 0, files_free: 0 }
    }

    /// Workers over a `statfs` that blocks on `/dead` until the sender is used or dropped, and
    /// says on a channel whenever it has been called.
    fn workers() -> (Workers, Sender<()>, Receiver<PathBytes>) {
        let (release, held) = mpsc::channel::<()>();
        let (called, calls) = mpsc::channel();
        let (held, called) = (Mutex::new(held), Mutex::new(called));
        let stat = move |mount: &PathBytes| {
            called.lock().unwrap().send(mount.clone()).unwrap();
            if mount.0 == b"/dead" {
                let _ = held.lock().unwrap().recv();
            }
            Ok(usage(7))
        };
        (Workers::new(Arc::new(stat)), release, calls)
    }

    /// Takes answers until `done` holds; the time given to the workers stands still.
    fn settle(workers: &mut Workers, now: Now, done: impl Fn(&Workers) -> bool) {
        while !done(workers) {
            workers.take_answers(DEADLINE, now);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_stuck_mount_is_unknown_and_does_not_stop_the_others() {
        let (mut workers, release, calls) = workers();
        let mounts: Vec<PathBytes> = ["/", "/dead", "/srv"].map(PathBytes::from).into();
        workers.ask(mounts.iter(), DEADLINE, at(1));
        settle(&mut workers, at(1), |w| w.waiting.len() == 2);
        assert_eq!(calls.recv().unwrap(), mounts[0]);
        assert_eq!(calls.recv().unwrap(), mounts[1]);
        assert!(workers.stuck.is_empty(), "not past the deadline yet");

        workers.take_answers(DEADLINE, at(3));
        assert_eq!(workers.stuck.len(), 1);
        settle(&mut workers, at(3), |w| w.waiting.is_empty());
        assert_eq!(workers.usage(&mounts[0]), Some(usage(7)));
        assert_eq!(workers.usage(&mounts[1]), None);
        assert_eq!(workers.usage(&mounts[2]), Some(usage(7)));
        assert_eq!(calls.recv().unwrap(), mounts[2]);

        // A stuck mount is not asked again, so it can never hold a second thread …
        workers.ask(mounts.iter(), DEADLINE, at(4));
        settle(&mut workers, at(4), |w| w.waiting.is_empty());
        let asked: Vec<PathBytes> = calls.try_iter().collect();
        assert_eq!(asked, [mounts[0].clone(), mounts[2].clone()]);

        // … until its thread has come back.
        drop(release);
        settle(&mut workers, at(5), |w| w.stuck.is_empty());
        workers.ask(mounts.iter(), DEADLINE, at(6));
        settle(&mut workers, at(6), |w| w.waiting.is_empty());
        assert_eq!(workers.usage(&mounts[1]), Some(usage(7)));
    }

    #[test]
    fn what_is_calm_is_asked_every_five_seconds_and_what_moves_at_every_sample() {
        let half_full = Arc::new(Mutex::new(50_000));
        let of_stat = Arc::clone(&half_full);
        let (called, calls) = mpsc::channel();
        let called = Mutex::new(called);
        let stat = move |mount: &PathBytes| {
            called.lock().unwrap().send(mount.clone()).unwrap();
            let avail_bytes = if mount.0 == b"/full" { 1_000 } else { *of_stat.lock().unwrap() };
            Ok(FilesystemUsage { size_bytes: 100_000, ..usage(avail_bytes) })
        };
        let mut workers = Workers::new(Arc::new(stat));
        let mounts: Vec<PathBytes> = ["/", "/full"].map(PathBytes::from).into();
        let mut asked = |second: u64| {
            workers.ask(mounts.iter(), DEADLINE, at(second));
            settle(&mut workers, at(second), |w| w.waiting.is_empty());
            calls.try_iter().map(|mount| mount.to_string()).collect::<Vec<_>>()
        };
        let both = ["/", "/full"];
        assert_eq!((asked(0), asked(1)), (both.map(str::to_owned).into(), both.map(str::to_owned).into()));
        for second in 2..5 {
            assert_eq!(asked(second), ["/full"], "{second}");
        }
        assert_eq!(asked(5), both);
        assert_eq!(asked(6), ["/full"]);
        *half_full.lock().unwrap() = 40_000;
        assert_eq!((asked(9), asked(10)), (vec!["/full".to_owned()], both.map(str::to_owned).into()));
        assert_eq!((asked(11), asked(12)), (both.map(str::to_owned).into(), vec!["/full".to_owned()]), "it has moved");
    }

    #[test]
    fn no_more_threads_are_lost_than_the_bound() {
        let stat = |_: &PathBytes| -> io::Result<FilesystemUsage> {
            loop {
                std::thread::park();
            }
        };
        let mut workers = Workers::new(Arc::new(stat));
        let mounts: Vec<PathBytes> =
            (0..STUCK_MAX + 9).map(|n| PathBytes::from(format!("/m{n:03}").as_str())).collect();
        for second in 0..200 {
            workers.ask(mounts.iter(), DEADLINE, at(second));
        }
        assert_eq!(workers.stuck.len(), STUCK_MAX);
        assert_eq!(workers.next_worker, STUCK_MAX as u64);
    }

    #[test]
    fn one_device_is_shown_once_and_pseudo_and_network_filesystems_are_left_out() {
        let table = b"22 28 0:21 / /proc rw,nosuid - proc proc rw\n\
            28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            29 28 8:1 /var/lib /mnt/bind rw - ext4 /dev/sda1 rw\n\
            30 28 8:2 / /srv/data ro - ext4 /dev/sda2 ro\n\
            31 28 0:50 / /mnt/nfs rw - nfs4 server:/x rw\n\
            32 28 7:0 / /snap/x/1 ro - squashfs /dev/loop0 ro\n\
            33 28 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n";
        let mounts = mountinfo::parse(table).unwrap();
        let names = |settings: &FilesystemSettings| -> Vec<String> {
            watched(by_device(&mounts, settings)).iter().map(|f| f.mount.to_string()).collect()
        };
        let settings = FilesystemSettings::default();
        assert_eq!(names(&settings), ["/", "/srv/data"]);
        assert!(watched(by_device(&mounts, &settings))[1].read_only);
        let network = FilesystemSettings { network: true, ..settings.clone() };
        assert_eq!(names(&network), ["/", "/mnt/nfs", "/srv/data"]);
        let ignoring = FilesystemSettings { ignore_mounts: vec!["/srv/".to_owned()], ..settings };
        assert_eq!(names(&ignoring), ["/"]);
    }
}
