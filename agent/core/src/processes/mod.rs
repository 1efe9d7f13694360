//! Processes: who uses what, and who holds files that are deleted.
//!
//! The unprivileged agent sees most of a process ([`ProcessSeen`]); what only root may read, its I/O and where its
//! descriptors lead, are counts of the actuator ([`Inspected`], the verb `processes`). Both are joined by [`top::top`].
//! What cannot be seen is `None`, and why is said beside it.

pub mod ended;
pub mod top;

use crate::subject::PathBytes;

/// Most processes in one answer of the actuator, so that it fits a frame: 33 bytes each.
pub const INSPECTED_MAX: usize = 1_024;

/// Most pairs of process and filesystem that hold deleted files in one answer: 24 bytes each.
pub const DELETED_MAX: usize = 512;

/// Most holders of deleted files in a sample.
pub const HELD_MAX: usize = 64;

/// What only root may read of processes. Counts only: no names of files, no arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspected {
    /// Those with the most I/O first.
    pub processes: Vec<ProcessCounts>,
    /// How many more were counted.
    pub processes_more: u32,
    /// Processes that could not be looked at: they ended, or the time was over.
    pub unread: u32,
    /// Files that are deleted and still open, largest first. What several processes hold counts once.
    pub deleted: Vec<Deleted>,
    /// How many more holders there are.
    pub deleted_more: u32,
}

/// Counts of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessCounts {
    /// Its id.
    pub pid: u32,
    /// Bytes read from storage since it began.
    pub read_bytes: u64,
    /// Bytes written to storage since it began.
    pub written_bytes: u64,
    /// Open file descriptors.
    pub fds: u32,
    /// How many it may have; `None` where there is no limit.
    pub fds_max: Option<u64>,
}

/// Deleted files of one filesystem that one process holds open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// The process.
    pub pid: u32,
    /// Major and minor number of the filesystem, as in `mountinfo`.
    pub device: (u32, u32),
    /// How many files.
    pub files: u32,
    /// The space that they take.
    pub bytes: u64,
}

/// One process, as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessSeen {
    /// Its id.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// `R`, `S`, `D`, `Z`, `T` …
    pub state: char,
    /// CPU time since it began, in clock ticks.
    pub ticks: u64,
    /// CPU time of its children that ended and were waited for, and of theirs, in clock ticks.
    pub ended_ticks: u64,
    /// When it began, in clock ticks after boot.
    pub started_ticks: u64,
    /// Its threads.
    pub threads: u32,
    /// Memory that it has in use.
    pub rss_bytes: u64,
    /// Path of its cgroup; empty where that is unknown.
    pub cgroup: String,
    /// Open file descriptors, where the kernel counts them for everybody.
    pub fds: Option<u64>,
    /// How many it may have; `None` where that is unknown or there is no limit.
    pub fds_max: Option<u64>,
}

impl ProcessSeen {
    /// The unit that it belongs to; the path of its cgroup where it belongs to none. The kernel's own threads are
    /// `(kernel)`.
    #[must_use]
    pub fn unit(&self) -> &str {
        // kthreadd is 2, and the parent of all the others.
        if self.pid == 2 || self.ppid == 2 {
            return "(kernel)";
        }
        unit_of(&self.cgroup)
    }
}

/// The unit of a cgroup; the path itself where it is none's.
#[must_use]
pub fn unit_of(cgroup: &str) -> &str {
    crate::parse::cgroup_path::unit(cgroup).unwrap_or(cgroup)
}

/// Deleted files that one process of a unit holds open on one filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Where the filesystem is mounted; its device number in parentheses where no mount shows it.
    pub mount: PathBytes,
    /// The unit, or the path of a cgroup.
    pub unit: String,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How many files.
    pub files: u32,
    /// The space that they take.
    pub bytes: u64,
}

/// Names filesystems by where they are mounted.
#[must_use]
pub fn mount_of(device: (u32, u32), mounts: &[((u32, u32), PathBytes)]) -> PathBytes {
    let named = mounts.iter().find(|(number, _)| *number == device).map(|(_, mount)| mount.clone());
    named.unwrap_or_else(|| PathBytes::from(format!("({}:{})", device.0, device.1).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_its_unit_its_cgroup_or_the_kernel() {
        let process = |pid, ppid, cgroup: &str| ProcessSeen { pid, ppid, cgroup: cgroup.into(), ..Default::default() };
        assert_eq!(process(10, 1, "/system.slice/a.service/x").unit(), "a.service");
        assert_eq!(process(10, 1, "/docker/0f").unit(), "/docker/0f");
        assert_eq!(process(10, 2, "/").unit(), "(kernel)");
        assert_eq!(process(10, 1, "/").unit(), "/");
    }

    #[test]
    fn a_filesystem_without_a_mount_is_named_by_its_number() {
        let mounts = [((8, 1), PathBytes::from("/srv"))];
        assert_eq!(mount_of((8, 1), &mounts), PathBytes::from("/srv"));
        assert_eq!(mount_of((0, 45), &mounts), PathBytes::from("(0:45)"));
    }
}
