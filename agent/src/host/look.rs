//! A look at processes when somebody asks: all of them, or some by their ids.
//!
//! Reads `/proc/PID/{stat,cgroup,limits}` and the size of `/proc/PID/fd`, which everybody may. Never arguments or
//! environment: they hold secrets. Blocks for some 30 µs a process, so it is called on a thread of its own, and ends after
//! [`TIME_MAX`]. A process that ends meanwhile is left out.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::parse::{cgroup_path, pid_stat};
use mainstay_core::processes::ProcessSeen;
use mainstay_core::scene::word;
use rustix::fs::{Dir, Mode, OFlags, open};

use super::file::read_below;
use super::handles::Handles;

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
        let bytes = read_below(&self.proc, &format!("{pid}/stat"), &mut self.buffer).ok()??;
        let stat = pid_stat::parse(bytes).ok()?;
        let mut process = ProcessSeen {
            pid,
            ppid: stat.ppid,
            name: word(stat.comm),
            state: char::from(stat.state),
            ticks: stat.utime.saturating_add(stat.stime),
            started_ticks: stat.starttime,
            threads: stat.num_threads,
            rss_bytes: stat.rss_pages.saturating_mul(rustix::param::page_size() as u64),
            ..ProcessSeen::default()
        };
        let cgroup = read_below(&self.proc, &format!("{pid}/cgroup"), &mut self.buffer).ok().flatten();
        if let Some(path) = cgroup.and_then(cgroup_path::v2) {
            process.cgroup = String::from_utf8_lossy(&path[..path.len().min(CGROUP_BYTES_MAX)]).into_owned();
        }
        if let Some(held) = self.handles.read(&[pid], &mut self.buffer) {
            (process.fds, process.fds_max) = (Some(held.fds), held.fds_max);
        }
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_process_is_seen_with_its_cgroup_and_one_that_is_gone_is_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("proc/42");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.path().join("proc/43")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys")).unwrap();
        fs::write(dir.join("stat"), "42 (a\x1b) b) D 7 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 3 0 77 4096 9 0\n").unwrap();
        fs::write(dir.join("cgroup"), "1:name=systemd:/x\n0::/system.slice/app.service/sub\n").unwrap();
        let mut looker = Looker::at(root.path()).unwrap();
        let (seen, more) = looker.all();
        assert_eq!((seen.len(), more), (1, 0));
        let process = &seen[0];
        assert_eq!((process.pid, process.ppid, process.state, process.ticks), (42, 7, 'D', 11));
        assert_eq!((process.name.as_str(), process.unit(), process.threads), ("a ) b", "app.service", 3));
        assert_eq!(process.rss_bytes, 9 * rustix::param::page_size() as u64);
        assert!(looker.some(&[43, 44]).0.is_empty());
        assert!(Looker::at(&root.path().join("nowhere")).is_none());
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
