//! `inspect`: counts of what only root may read of processes, summed over each control group.
//!
//! Out of `/proc/PID/{cgroup,io,smaps_rollup,fd,limits}`. Counts only: neither names of files nor arguments, so that the
//! unprivileged side learns no more than it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mainstay_core::subject::PathBytes;
use mainstay_core::verb::{Inspection, UnitCounts};

/// Most processes read in one go.
const PROCESSES_MAX: usize = 32_768;

/// Most control groups in one answer, so that it fits a frame: a path of at most 150 bytes and 44 of counts each.
const UNITS_MAX: usize = 256;

/// Longest path of a control group in an answer; a longer one is cut.
const CGROUP_BYTES_MAX: usize = 150;

/// Counts what the processes under `proc` have.
#[must_use]
pub fn inspect(proc: &Path) -> Inspection {
    let mut units: BTreeMap<Vec<u8>, UnitCounts> = BTreeMap::new();
    let mut unread_processes = 0;
    for (at, dir) in processes(proc).enumerate() {
        // A kernel thread has no memory of its own and nothing to count.
        match (at < PROCESSES_MAX).then(|| Process::read(&dir)).flatten() {
            Some(process) => process.add_to(&mut units),
            None => unread_processes += 1,
        }
    }
    let total = units.len();
    let mut units: Vec<UnitCounts> = units.into_values().collect();
    units.sort_by(|a, b| b.pss_bytes.cmp(&a.pss_bytes).then_with(|| a.cgroup.cmp(&b.cgroup)));
    units.truncate(UNITS_MAX);
    let omitted_units = total.saturating_sub(units.len()) as u64;
    Inspection { units, unread_processes, omitted_units }
}

pub(crate) fn processes(proc: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let is_pid = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_pid).map(|entry| entry.path())
}

struct Process {
    cgroup: Vec<u8>,
    pss_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    fds: u64,
    fds_max: Option<u64>,
}

impl Process {
    fn read(dir: &Path) -> Option<Self> {
        let cgroup = cgroup_of(&fs::read(dir.join("cgroup")).ok()?)?;
        // Empty for kernel threads; not there on kernels built without it.
        let pss_bytes = fs::read(dir.join("smaps_rollup")).ok().and_then(|text| kib_field(&text, b"Pss:")).unwrap_or(0);
        let io = fs::read(dir.join("io")).ok()?;
        Some(Self {
            cgroup,
            pss_bytes,
            read_bytes: number_field(&io, b"read_bytes:")?,
            written_bytes: number_field(&io, b"write_bytes:")?,
            fds: fs::read_dir(dir.join("fd")).ok()?.count() as u64,
            fds_max: fs::read(dir.join("limits")).ok().and_then(|text| fd_limit(&text)),
        })
    }

    fn add_to(self, units: &mut BTreeMap<Vec<u8>, UnitCounts>) {
        let permille = self.fds_max.filter(|max| *max > 0).map_or(0, |max| self.fds.saturating_mul(1000) / max);
        let mut shown = self.cgroup.clone();
        shown.truncate(CGROUP_BYTES_MAX);
        let counts = units.entry(self.cgroup).or_default();
        counts.cgroup = PathBytes(shown);
        counts.processes = counts.processes.saturating_add(1);
        counts.pss_bytes = counts.pss_bytes.saturating_add(self.pss_bytes);
        counts.read_bytes = counts.read_bytes.saturating_add(self.read_bytes);
        counts.written_bytes = counts.written_bytes.saturating_add(self.written_bytes);
        counts.fds = counts.fds.saturating_add(self.fds);
        counts.fd_used_permille_max = counts.fd_used_permille_max.max(u32::try_from(permille).unwrap_or(u32::MAX));
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The path of cgroup v2: the line that begins with `0::`.
fn cgroup_of(text: &[u8]) -> Option<Vec<u8>> {
    lines(text).find_map(|line| line.strip_prefix(b"0::")).map(<[u8]>::to_vec)
}

pub(crate) fn number_field(text: &[u8], key: &[u8]) -> Option<u64> {
    let rest = lines(text).find_map(|line| line.strip_prefix(key))?;
    let digits: Vec<u8> = rest.iter().copied().skip_while(|b| *b == b' ').take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

fn kib_field(text: &[u8], key: &[u8]) -> Option<u64> {
    number_field(text, key).map(|kib| kib.saturating_mul(1024))
}

/// The soft limit of `Max open files`; `None` if it is unlimited.
pub(crate) fn fd_limit(text: &[u8]) -> Option<u64> {
    number_field(text, b"Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(proc: &Path, pid: u32, cgroup: &str, pss_kib: u64, fds: usize) {
        let dir = proc.join(pid.to_string());
        fs::create_dir_all(dir.join("fd")).unwrap();
        fs::write(dir.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::write(
            dir.join("smaps_rollup"),
            format!("5500-7ffc ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss:   {pss_kib} kB\nPss_Dirty: 1 kB\n"),
        )
        .unwrap();
        fs::write(
            dir.join("io"),
            "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 0\n",
        )
        .unwrap();
        fs::write(dir.join("limits"), "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            8                    4096                 files     \n").unwrap();
        for fd in 0..fds {
            fs::write(dir.join("fd").join(fd.to_string()), "").unwrap();
        }
    }

    #[test]
    fn sums_over_control_groups_largest_first() {
        let proc = tempfile::tempdir().unwrap();
        plant(proc.path(), 10, "/system.slice/a.service", 100, 2);
        plant(proc.path(), 11, "/system.slice/a.service", 50, 6);
        plant(proc.path(), 12, "/system.slice/b.service", 900, 1);
        fs::create_dir(proc.path().join("13")).unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let counts = inspect(proc.path());
        assert_eq!(counts.unread_processes, 1);
        let names: Vec<String> = counts.units.iter().map(|unit| unit.cgroup.to_string()).collect();
        assert_eq!(names, ["/system.slice/b.service", "/system.slice/a.service"]);
        let a = &counts.units[1];
        assert_eq!((a.processes, a.pss_bytes, a.read_bytes, a.written_bytes), (2, 150 * 1024, 8192, 1024));
        assert_eq!((a.fds, a.fd_used_permille_max), (8, 750));
    }

    #[test]
    fn an_answer_about_many_groups_fits_a_frame() {
        use mainstay_core::verb::{Detail, Reply};
        let proc = tempfile::tempdir().unwrap();
        for pid in 0..300 {
            plant(proc.path(), pid, &format!("/{}/{pid}.service", "x".repeat(300)), 1, 0);
        }
        let counts = inspect(proc.path());
        assert_eq!(counts.omitted_units, 44);
        assert!(Reply::Done(Detail::Inspection(counts)).to_frame().is_ok());
    }
}
