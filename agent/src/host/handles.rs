//! Open file descriptors of processes, and how many they may have.
//!
//! Since Linux 6.2 the size of `/proc/PID/fd` is the number of open descriptors, and `stat` tells it
//! to everybody; `/proc/PID/limits` too can be read by everybody. An older kernel says 0, which our
//! own process gives away: then nothing is known.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mainstay_core::parse::limits;
use rustix::fs::{AtFlags, Mode, OFlags, open, statat};

use super::file::read_below;

/// Most processes of one unit that are looked at; of what has more, nothing is known.
const PROCESSES_MAX: usize = 4_096;

/// What the process of a unit that has the most descriptors open has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors.
    pub fds: u64,
    /// Its soft limit; `None` where it has none or it cannot be read.
    pub fds_max: Option<u64>,
}

/// Counts file descriptors.
#[derive(Debug)]
pub struct Handles {
    path: PathBuf,
    /// `/proc`, once it was opened.
    proc: Option<OwnedFd>,
    /// Whether this kernel counts.
    is_counted: Option<bool>,
    name: String,
}

impl Handles {
    /// Looks below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { path: root.join("proc"), proc: None, is_counted: None, name: String::new() }
    }

    /// Looks at the processes of one unit. Those that ended meanwhile do not count; `None` where
    /// none can be counted.
    pub fn read(&mut self, pids: &[u32], buffer: &mut Vec<u8>) -> Option<Held> {
        if pids.len() > PROCESSES_MAX {
            return None;
        }
        if self.proc.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.proc = open(&self.path, flags, Mode::empty()).ok();
        }
        let Self { proc, is_counted, name, .. } = self;
        let proc = proc.as_ref()?;
        if !*is_counted.get_or_insert_with(|| size(proc, "self/fd").is_some_and(|fds| fds > 0)) {
            return None;
        }
        let counted = pids.iter().filter_map(|pid| Some((size(proc, path(name, *pid, "fd"))?, *pid)));
        let (fds, pid) = counted.max()?;
        let limits = read_below(proc, path(name, pid, "limits"), buffer).ok().flatten();
        let fds_max = limits.and_then(|bytes| limits::open_files(bytes).ok()).flatten();
        Some(Held { fds, fds_max })
    }
}

fn path<'n>(name: &'n mut String, pid: u32, file: &str) -> &'n str {
    use std::fmt::Write as _;
    name.clear();
    // Writing into a string does not fail.
    let _ = write!(name, "{pid}/{file}");
    name
}

fn size(proc: &OwnedFd, path: &str) -> Option<u64> {
    let stat = statat(proc, path, AtFlags::empty()).ok()?;
    u64::try_from(stat.st_size).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn own(handles: &mut Handles) -> Option<Held> {
        handles.read(&[std::process::id()], &mut Vec::new())
    }

    #[test]
    fn counts_the_descriptors_of_a_process_where_the_kernel_does() {
        let mut handles = Handles::at(Path::new("/"));
        let Some(before) = own(&mut handles) else {
            assert_eq!(fs::metadata("/proc/self/fd").unwrap().len(), 0, "a kernel that does not count");
            return;
        };
        let open: Vec<File> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = own(&mut handles).unwrap();
        // Other tests of this process open and close some too.
        assert!(after.fds >= before.fds + 400, "{before:?} {after:?}");
        assert_eq!(after.fds_max, Some(rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap()));
        drop(open);
    }

    #[test]
    fn the_process_with_the_most_counts_and_one_that_is_gone_does_not() {
        let root = tempfile::tempdir().unwrap();
        // The size of a folder stands in for the count: larger the more names it holds.
        for (pid, names) in [("self", 2), ("7", 3), ("8", 2_000)] {
            let fd = root.path().join("proc").join(pid).join("fd");
            fs::create_dir_all(&fd).unwrap();
            (0..names).for_each(|n| fs::write(fd.join(format!("{n:0200}")), "").unwrap());
        }
        fs::write(root.path().join("proc/7/limits"), "Max open files  1024  4096 files\n").unwrap();
        fs::write(root.path().join("proc/8/limits"), "Max open files  unlimited  unlimited files\n").unwrap();
        let mut handles = Handles::at(root.path());
        let mut read = |pids: &[u32]| handles.read(pids, &mut Vec::new());
        assert_eq!(read(&[7, 99]).unwrap().fds_max, Some(1_024));
        let most = read(&[7, 8]).unwrap();
        assert!(most.fds > read(&[7]).unwrap().fds && most.fds_max.is_none(), "{most:?}");
        assert_eq!(read(&[99]), None);
    }

    #[test]
    fn a_kernel_that_does_not_count_leaves_it_unknown() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::create_dir_all(root.path().join("proc/7/fd")).unwrap();
        assert_eq!(Handles::at(root.path()).read(&[7], &mut Vec::new()), None);
    }
}
