//! A look at processes and containers when somebody asks: all of them, or some by their ids.
//!
//! Reads `/proc/PID/{stat,cgroup,limits}` and the size of `/proc/PID/fd`, which everybody may. Never arguments or
//! environment: they hold secrets. Blocks for some 30 µs a process, so it is called on a thread of its own, and ends after
//! [`TIME_MAX`]. A process that ends meanwhile is left out.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::budget::OfUnit;
use mainstay_core::parse::{cgroup_path, pid_stat, stat};
use mainstay_core::processes::ProcessSeen;
use mainstay_core::sample::Container;
use mainstay_core::scene::word;
use rustix::fs::{Dir, Mode, OFlags, open};

use super::cgroups::Cgroups;
use super::containers::Running;
use super::file::read_below;
use super::handles::Handles;
use super::processes::Processes;

/// Longest look: 100,000 processes take less on an idle machine.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Most processes of one look.
const PROCESSES_MAX: usize = 100_000;

/// Longest path of a cgroup that is kept; a longer one is cut.
const CGROUP_BYTES_MAX: usize = 512;

/// Looks at processes below one root.
#[derive(Debug)]
pub struct Looker {
    proc: OwnedFd,
    handles: Handles,
    buffer: Vec<u8>,
}

impl Looker {
    /// Looks below `root`: `/` on a real host. `None` if there is no `/proc`.
    #[must_use]
    pub fn at(root: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = open(root.join("proc"), flags, Mode::empty()).ok()?;
        Some(Self { proc, handles: Handles::at(root), buffer: Vec::new() })
    }

    /// Every process, and how many were not looked at because a bound was met.
    pub fn all(&mut self) -> (Vec<ProcessSeen>, u32) {
        let pids: Vec<u32> = Dir::read_from(&self.proc)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
            .collect();
        self.some(&pids)
    }

    /// The processes with these ids, as far as they are there.
    pub fn some(&mut self, pids: &[u32]) -> (Vec<ProcessSeen>, u32) {
        let begun = Instant::now();
        let mut seen = Vec::new();
        for (at, pid) in pids.iter().enumerate() {
            if at >= PROCESSES_MAX || begun.elapsed() >= TIME_MAX {
                return (seen, u32::try_from(pids.len() - at).unwrap_or(u32::MAX));
            }
            seen.extend(self.one(*pid));
        }
        (seen, 0)
    }

    fn one(&mut self, pid: u32) -> Option<ProcessSeen> {
        let bytes = read_below(&self.proc, format!("{pid}/stat"), &mut self.buffer).ok()??;
        let stat = pid_stat::parse(bytes).ok()?;
        let mut process = ProcessSeen {
            pid,
            ppid: stat.ppid,
            name: word(stat.comm),
            state: char::from(stat.state),
            ticks: stat.utime.saturating_add(stat.stime),
            ended_ticks: stat.cutime.saturating_add(stat.cstime),
            started_ticks: stat.starttime,
            threads: stat.num_threads,
            rss_bytes: stat.rss_pages.saturating_mul(rustix::param::page_size() as u64),
            ..ProcessSeen::default()
        };
        let cgroup = read_below(&self.proc, format!("{pid}/cgroup"), &mut self.buffer).ok().flatten();
        if let Some(path) = cgroup.and_then(cgroup_path::v2) {
            process.cgroup = String::from_utf8_lossy(&path[..path.len().min(CGROUP_BYTES_MAX)]).into_owned();
        }
        if let Some(held) = self.handles.read(&[pid], &mut self.buffer) {
            (process.fds, process.fds_max) = (Some(held.fds), held.fds_max);
        }
        Some(process)
    }
}

/// The containers that run, with what their cgroups say now.
#[must_use]
pub fn containers(root: &Path, running: &Running) -> Vec<Container> {
    let (mut cgroups, mut processes, mut buffer) = (Cgroups::at(root), Processes::at(root), Vec::new());
    let mut read = |path: &str| cgroups.read(path, path, OfUnit::WithoutProcesses, &mut processes, &mut buffer);
    running.containers.iter().map(|found| found.sampled(read(&found.cgroup))).collect()
}

/// How many processes were begun on this host since it booted.
#[must_use]
pub fn forks(root: &Path) -> Option<u64> {
    let bytes = std::fs::read(root.join("proc/stat")).ok()?;
    stat::parse(&bytes).ok().map(|stat| stat.kernel.forks)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mainstay_core::parse::container::Runtime;

    use crate::host::containers::Found;

    use super::*;

    #[test]
    fn a_process_is_seen_with_its_cgroup_and_one_that_is_gone_is_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("proc/42");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.path().join("proc/43")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys")).unwrap();
        fs::write(dir.join("stat"), "42 (a\x1b) b) D 7 1 1 0 -1 0 0 0 0 0 5 6 7 8 20 0 3 0 77 4096 9 0\n").unwrap();
        fs::write(dir.join("cgroup"), "1:name=systemd:/x\n0::/system.slice/app.service/sub\n").unwrap();
        let mut looker = Looker::at(root.path()).unwrap();
        let (seen, more) = looker.all();
        assert_eq!((seen.len(), more), (1, 0));
        let process = &seen[0];
        assert_eq!((process.pid, process.ppid, process.state), (42, 7, 'D'));
        assert_eq!((process.ticks, process.ended_ticks), (11, 15));
        assert_eq!((process.name.as_str(), process.unit(), process.threads), ("a ) b", "app.service", 3));
        assert_eq!(process.rss_bytes, 9 * rustix::param::page_size() as u64);
        assert!(looker.some(&[43, 44]).0.is_empty());
        assert!(Looker::at(&root.path().join("nowhere")).is_none());
    }

    #[test]
    fn a_container_is_seen_by_its_cgroup_and_one_that_is_gone_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = root.path().join("sys/fs/cgroup/docker/3a");
        fs::create_dir_all(&cgroup).unwrap();
        for (file, text) in [("cpu.stat", "usage_usec 500\n"), ("pids.current", "3\n"), ("memory.max", "4096\n")] {
            fs::write(cgroup.join(file), text).unwrap();
        }
        let found = |cgroup: &str| Found {
            runtime: Runtime::Docker,
            id: "3a".repeat(32),
            cgroup: cgroup.to_owned(),
            named: None,
        };
        let running = Running { containers: vec![found("/docker/3a"), found("/docker/99")], left_out: 0 };
        let seen = containers(root.path(), &running);
        let here = seen[0].cgroup.unwrap();
        assert_eq!((here.cpu_usage_us, here.tasks, here.memory_max_bytes), (Some(500), Some(3), Some(4_096)));
        assert_eq!((seen[1].cgroup, seen[1].label().as_str()), (None, "3a3a3a3a3a3a (docker)"));
    }

    #[test]
    fn processes_that_are_begun_are_counted() {
        let before = forks(Path::new("/")).unwrap();
        assert!(std::process::Command::new("true").status().unwrap().success());
        assert!(forks(Path::new("/")).unwrap() > before);
        assert_eq!(forks(Path::new("/nonexistent")), None);
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let mut looker = Looker::at(Path::new("/")).unwrap();
        let (seen, _) = looker.all();
        let own = seen.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.started_ticks > 0 && own.threads > 0, "{own:?}");
        assert_eq!(own.ppid, std::os::unix::process::parent_id());
    }
}
