//! `processes`: process by process what only root may read: I/O, open descriptors, and deleted files that are held open.
//!
//! Out of `/proc/PID/{io,limits,fd,fdinfo,mountinfo}`. Counts only: no names of files leave here. A file that several
//! processes hold counts once, for the first of them. What lies on no mount of its holder (a memfd, shared memory) takes
//! no disk; what lies on a filesystem that another machine answers for is not asked, for it may never answer. Bounded in
//! processes, descriptors and time: what is not seen by then is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_core::parse::{fdinfo, limits, mountinfo, pid_io};
use mainstay_core::processes::{DELETED_MAX, Deleted, INSPECTED_MAX, Inspected, ProcessCounts};

/// Longest look. Twenty thousand processes take less.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Most descriptors of one process that are looked at; the rest is counted.
const FDS_MAX: u32 = 65_536;

/// Most mount namespaces whose tables are remembered during a look.
const TABLES_MAX: usize = 256;

/// What the kernel writes behind the name of a file that has none any more.
const MARK: &[u8] = b" (deleted)";

/// `st_blocks` counts these.
const BLOCK_BYTES: u64 = 512;

/// Where files of a mount lie; `None` for a mount that is not asked.
type Table = BTreeMap<u64, Option<(u32, u32)>>;

/// Counts what the processes under `proc` have.
#[must_use]
pub fn look(proc: &Path) -> Inspected {
    let mut looker = Looker { until: Instant::now() + TIME_MAX, ..Looker::new() };
    let mut seen = Inspected::default();
    for dir in processes(proc) {
        let pid = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        match pid.and_then(|pid| looker.process(&dir, pid)) {
            Some(counts) => seen.processes.push(counts),
            None => seen.unread = seen.unread.saturating_add(1),
        }
    }
    let io = |counts: &ProcessCounts| counts.read_bytes.saturating_add(counts.written_bytes);
    seen.processes.sort_by(|a, b| (io(b), b.fds).cmp(&(io(a), a.fds)).then_with(|| a.pid.cmp(&b.pid)));
    seen.processes_more = cut(&mut seen.processes, INSPECTED_MAX);
    seen.deleted = looker.deleted.into_values().collect();
    seen.deleted.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.pid.cmp(&b.pid)));
    seen.deleted_more = cut(&mut seen.deleted, DELETED_MAX);
    seen
}

fn processes(proc: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let is_pid = |entry: &DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_pid).map(|entry| entry.path())
}

fn cut<T>(list: &mut Vec<T>, most: usize) -> u32 {
    let more = list.len().saturating_sub(most);
    list.truncate(most);
    u32::try_from(more).unwrap_or(u32::MAX)
}

struct Looker {
    until: Instant,
    /// By process and filesystem.
    deleted: BTreeMap<(u32, (u32, u32)), Deleted>,
    /// Files that were counted, by the numbers that `stat` gives.
    counted: BTreeSet<(u64, u64)>,
    /// By the name of the mount namespace.
    tables: BTreeMap<Vec<u8>, Table>,
}

impl Looker {
    fn new() -> Self {
        let (deleted, counted, tables) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { until: Instant::now(), deleted, counted, tables }
    }

    /// `None` for one that has ended meanwhile or for which there is no time any more.
    fn process(&mut self, dir: &Path, pid: u32) -> Option<ProcessCounts> {
        if Instant::now() >= self.until {
            return None;
        }
        let (read_bytes, written_bytes) = pid_io::parse(&fs::read(dir.join("io")).ok()?).ok()?;
        let fds_max = fs::read(dir.join("limits")).ok().and_then(|text| limits::open_files(&text).ok()?);
        let mut counts = ProcessCounts { pid, read_bytes, written_bytes, fds: 0, fds_max };
        for fd in fs::read_dir(dir.join("fd")).ok()?.flatten() {
            counts.fds = counts.fds.saturating_add(1);
            let is_marked =
                || fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str().as_bytes().ends_with(MARK));
            if counts.fds <= FDS_MAX && is_marked() {
                self.deleted(dir, pid, &fd);
            }
        }
        Some(counts)
    }

    /// Counts a file whose name is gone, if that is so and it takes space.
    fn deleted(&mut self, dir: &Path, pid: u32, fd: &DirEntry) -> Option<()> {
        let info = fs::read(dir.join("fdinfo").join(fd.file_name())).ok()?;
        let device = self.device(dir, fdinfo::mount_id(&info).ok()?)?;
        // Only a mount of this machine's is asked, so this does not wait.
        let file = fs::metadata(fd.path()).ok().filter(takes_space)?;
        if !self.counted.insert((file.dev(), file.ino())) {
            return None;
        }
        let held = self.deleted.entry((pid, device)).or_insert_with(|| Deleted { pid, device, ..Deleted::default() });
        held.files = held.files.saturating_add(1);
        held.bytes = held.bytes.saturating_add(file.blocks().saturating_mul(BLOCK_BYTES));
        Some(())
    }

    /// The filesystem of a mount, as the process has it mounted.
    fn device(&mut self, dir: &Path, mount: u64) -> Option<(u32, u32)> {
        let namespace = fs::read_link(dir.join("ns/mnt")).ok()?.into_os_string().into_encoded_bytes();
        if !self.tables.contains_key(&namespace) {
            if self.tables.len() >= TABLES_MAX {
                self.tables.clear();
            }
            let mounts = mountinfo::parse(&fs::read(dir.join("mountinfo")).ok()?).ok()?;
            let table = mounts.iter().map(|mount| (mount.id, (!mount.is_remote()).then_some(mount.device_number)));
            self.tables.insert(namespace.clone(), table.collect());
        }
        self.tables.get(&namespace)?.get(&mount).copied().flatten()
    }
}

/// A file without a name, in no folder any more.
fn takes_space(file: &Metadata) -> bool {
    file.is_file() && file.nlink() == 0 && file.blocks() > 0
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(folder: &Path, name: &str, mib: usize) -> File {
        let mut file = File::create(folder.join(name)).unwrap();
        file.write_all(&vec![7; mib << 20]).unwrap();
        file.sync_all().unwrap();
        file
    }

    /// What this process holds, in all: files and bytes.
    fn own() -> (u32, u64) {
        let seen = look(Path::new("/proc"));
        let own = seen.deleted.iter().filter(|deleted| deleted.pid == std::process::id());
        own.fold((0, 0), |(files, bytes), deleted| (files + deleted.files, bytes + deleted.bytes))
    }

    #[test]
    fn space_of_a_deleted_file_is_counted_once_and_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let before = own();
        let held = file(folder.path(), "a.log", 4);
        let twice = held.try_clone().unwrap();
        let named = file(folder.path(), "b (deleted)", 4);
        assert_eq!(own(), before, "both still have a name");
        fs::remove_file(folder.path().join("a.log")).unwrap();
        let now = own();
        assert_eq!(now.0, before.0 + 1);
        assert!((4 * MIB..6 * MIB).contains(&(now.1 - before.1)), "{before:?} {now:?}");
        drop((held, named));
        assert_eq!(own().0, before.0 + 1, "the copy of the descriptor still holds it");
        drop(twice);
        assert_eq!(own(), before);
    }

    #[test]
    fn a_deleted_file_lies_on_the_filesystem_that_the_mount_table_names() {
        let folder = tempfile::tempdir().unwrap();
        let held = file(folder.path(), "a.log", 1);
        let mut at = fs::canonicalize(folder.path()).unwrap();
        fs::remove_file(folder.path().join("a.log")).unwrap();
        let mounts = mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        let mount = loop {
            let here = at.as_os_str().as_bytes();
            // The last one hides those before it.
            match mounts.iter().rfind(|mount| mount.mount_point.0 == here) {
                Some(mount) => break mount,
                None => assert!(at.pop()),
            }
        };
        let seen = look(Path::new("/proc"));
        let own = seen.deleted.iter().find(|d| d.pid == std::process::id() && d.device == mount.device_number);
        assert!(own.is_some_and(|own| own.bytes >= MIB), "{seen:?} {mount:?}");
        drop(held);
    }

    #[test]
    fn memory_without_a_name_takes_no_disk() {
        let before = own();
        let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut memory = File::from(memory);
        memory.write_all(&vec![7; 4 << 20]).unwrap();
        assert_eq!(own(), before);
        drop(memory);
    }

    fn plant(proc: &Path, pid: usize, read: usize) {
        let dir = proc.join(pid.to_string());
        fs::create_dir_all(dir.join("fd")).unwrap();
        fs::write(dir.join("io"), format!("rchar: 9\nread_bytes: {read}\nwrite_bytes: 512\n")).unwrap();
        fs::write(dir.join("limits"), "Max open files            8                    4096                 files\n")
            .unwrap();
        fs::write(dir.join("fd/0"), "").unwrap();
    }

    #[test]
    fn those_with_the_most_io_are_kept_and_the_answer_fits_a_frame() {
        use mainstay_core::verb::{Detail, Reply};
        let proc = tempfile::tempdir().unwrap();
        for pid in 1..=INSPECTED_MAX + 5 {
            plant(proc.path(), pid, pid);
        }
        fs::create_dir(proc.path().join("9999")).unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let mut seen = look(proc.path());
        assert_eq!((seen.processes.len(), seen.processes_more, seen.unread), (INSPECTED_MAX, 5, 1));
        let most = ProcessCounts { pid: 1_029, read_bytes: 1_029, written_bytes: 512, fds: 1, fds_max: Some(8) };
        assert_eq!(seen.processes[0], most);
        assert!(seen.processes.iter().all(|counts| counts.pid > 5));
        seen.deleted = vec![Deleted::default(); DELETED_MAX];
        assert!(Reply::Done(Detail::Processes(seen)).to_frame().is_ok());
    }

    #[test]
    fn processes_beyond_the_time_are_counted_as_not_seen() {
        let proc = tempfile::tempdir().unwrap();
        plant(proc.path(), 7, 1);
        assert!(Looker::new().process(&proc.path().join("7"), 7).is_none());
        let mut later = Looker { until: Instant::now() + TIME_MAX, ..Looker::new() };
        assert!(later.process(&proc.path().join("7"), 7).is_some());
    }
}
