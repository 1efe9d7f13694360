//! The cgroup (v2) of every unit, or of every container.
//!
//! What changes fast and is cheap (`memory.current`, `cpu.stat`) is read at every sample, the rest
//! (pressure, events, I/O, limits) every fifth one, spread evenly over the units, and the last
//! reading stands in between. `memory.stat`, for which the kernel adds up every counter of every
//! CPU, is read once a minute: the growth that it shows takes hours. A controller that is not there leaves its values unknown and is not
//! asked for again until the cgroup is a new one.
//! So are open file descriptors and the limits on tasks and files: they leak slowly.
//!
//! A unit that systemd gives a cgroup may have none, as sockets do: it is looked for again when systemd says that the unit
//! has changed ([`Cgroups::may_be_there`]), and every [`ABSENT_FOR`] samples.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mainstay_core::budget::OfUnit;
use mainstay_core::ordered::Ordered;
use mainstay_core::parse::{ParseError, cgroup, pressure};
use mainstay_core::sample::Cgroup;
use rustix::fs::{Mode, OFlags, open};

use super::file::read_below;
use super::handles::Handles;
use super::processes::Processes;

/// Every so many samples the slow files of a unit are read.
const SLOW_EVERY: u64 = 5;

/// Every so many samples `memory.stat` of a unit is read, its file descriptors are counted and its
/// limits looked up. Units take turns, so that a sample reads one in sixty of them.
const SELDOM_EVERY: u64 = 60;

/// So many samples long a cgroup that was not there is not looked for.
const ABSENT_FOR: u64 = 10;

/// Most units whose cgroups are read.
pub const CGROUPS_MAX: usize = 1_000;

/// The files of a cgroup, each with a bit in what is known to be absent.
const FILES: [&CStr; 13] = [
    c"memory.current",
    c"cpu.stat",
    c"memory.peak",
    c"memory.max",
    c"memory.events",
    c"io.stat",
    c"pids.current",
    c"cgroup.procs",
    c"cpu.pressure",
    c"memory.pressure",
    c"io.pressure",
    c"memory.stat",
    c"pids.max",
];

/// Reads the cgroups of units.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    known: Ordered<String, Known>,
    absent: Ordered<String, Absent>,
    round: u64,
    handles: Handles,
    /// Processes of the unit in hand.
    pids: Vec<u32>,
}

/// A cgroup that is not there.
#[derive(Debug)]
struct Absent {
    path: String,
    /// From this round on it is looked for again.
    until: u64,
}

#[derive(Debug)]
struct Known {
    path: String,
    folder: OwnedFd,
    /// Bits of [`FILES`] that are not there.
    absent: u16,
    last: Cgroup,
    seen: u64,
    /// Whether its processes were looked at when it was last read.
    with_processes: bool,
}

impl Cgroups {
    /// Reads below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let handles = Handles::at(root);
        let (known, absent) = (Ordered::default(), Ordered::default());
        Self { root: root.join("sys/fs/cgroup"), known, absent, round: 0, handles, pids: Vec::new() }
    }

    /// Begins a new sample. Cgroups that were not asked for in the last one are let go.
    pub fn next_round(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.seen == round);
        self.absent.retain(|_, absent| absent.until > round);
        self.round += 1;
    }

    /// Looks for the cgroup of this unit at the next sample, though it was not there.
    pub fn may_be_there(&mut self, unit: &str) {
        self.absent.remove(unit);
    }

    /// What the cgroup of one unit said when it was last read.
    #[must_use]
    pub fn last(&self, unit: &str) -> Option<Cgroup> {
        self.known.get(unit).map(|known| known.last)
    }

    /// Reads as much of the cgroup of one unit as is wanted; `None` where it has none (any more). What is not wanted is
    /// unknown.
    pub fn read(
        &mut self,
        unit: &str,
        path: &str,
        wanted: OfUnit,
        processes: &mut Processes,
        buffer: &mut Vec<u8>,
    ) -> Option<Cgroup> {
        if path.is_empty() || path == "/" {
            return None;
        }
        if wanted == OfUnit::Nothing {
            return Some(Cgroup::default());
        }
        let is_new = self.known.get(unit).is_none_or(|known| known.path != path);
        if is_new {
            self.open(unit, path)?;
        }
        let spread = unit.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let turn = self.round.wrapping_add(spread);
        let slow = is_new || turn.is_multiple_of(SLOW_EVERY);
        let seldom = is_new || turn.is_multiple_of(SELDOM_EVERY);
        let known = self.known.get_mut(unit)?;
        known.seen = self.round;
        if !known.read_fast(buffer) {
            // The folder is gone: the unit stopped, and may be back under the same path.
            self.known.remove(unit);
            return None;
        }
        let with_processes = wanted == OfUnit::Whole;
        if slow || known.with_processes != with_processes {
            known.read_slow(with_processes.then_some(&mut *processes), &mut self.pids, buffer);
        }
        if seldom || known.with_processes != with_processes {
            known.read_seldom(with_processes.then_some(&mut self.handles), &mut self.pids, buffer);
        }
        known.with_processes = with_processes;
        Some(known.last)
    }

    /// Begins to read the cgroup of a unit, if it is there.
    fn open(&mut self, unit: &str, path: &str) -> Option<()> {
        if self.known.len() >= CGROUPS_MAX && !self.known.contains_key(unit) {
            return None;
        }
        if self.absent.get(unit).is_some_and(|absent| absent.path == path && absent.until > self.round) {
            return None;
        }
        let folder = self.root.join(path.trim_start_matches('/'));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = open(folder, flags, Mode::empty()) else {
            if self.absent.len() < CGROUPS_MAX {
                let absent = Absent { path: path.to_owned(), until: self.round + ABSENT_FOR };
                self.absent.insert(unit.to_owned(), absent);
            }
            return None;
        };
        let known =
            Known { path: path.to_owned(), folder, absent: 0, last: Cgroup::default(), seen: 0, with_processes: true };
        self.known.insert(unit.to_owned(), known);
        Some(())
    }
}

impl Known {
    /// Reads what is read at every sample. `false` if the cgroup is gone.
    fn read_fast(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.last.memory_current_bytes = self.take(0, buffer, cgroup::value).flatten();
        let cpu = self.take(1, buffer, cgroup::cpu_stat);
        self.last.cpu_usage_us = cpu.map(|cpu| cpu.usage_us);
        self.last.cpu_throttled_us = cpu.and_then(|cpu| cpu.throttled_us);
        // `cpu.stat` is there in every cgroup, with or without controllers.
        cpu.is_some()
    }

    fn read_slow(&mut self, processes: Option<&mut Processes>, pids: &mut Vec<u32>, buffer: &mut Vec<u8>) {
        self.last.memory_peak_bytes = self.take(2, buffer, cgroup::value).flatten();
        self.last.memory_max_bytes = self.take(3, buffer, cgroup::value).flatten();
        let events = self.take(4, buffer, cgroup::memory_events);
        self.last.memory_events_high = events.map(|events| events.high);
        self.last.memory_events_max = events.map(|events| events.max);
        self.last.memory_events_oom_kill = events.map(|events| events.oom_kill);
        let io = self.take(5, buffer, cgroup::io_stat);
        self.last.io_read_bytes = io.map(|io| io.read_bytes);
        self.last.io_written_bytes = io.map(|io| io.written_bytes);
        self.last.tasks = self.take(6, buffer, cgroup::value).flatten();
        self.last.rss_bytes = None;
        if let Some(processes) = processes
            && (self.last.tasks.is_none() || self.last.memory_current_bytes.is_none())
        {
            self.read_procs(processes, pids, buffer);
        }
        self.last.pressure.cpu = self.take(8, buffer, pressure::parse);
        self.last.pressure.memory = self.take(9, buffer, pressure::parse);
        self.last.pressure.io = self.take(10, buffer, pressure::parse);
    }

    /// Reads what shows slow growth and its limits.
    fn read_seldom(&mut self, handles: Option<&mut Handles>, pids: &mut Vec<u32>, buffer: &mut Vec<u8>) {
        self.last.memory_anon_bytes = self.take(11, buffer, cgroup::memory_stat_anon);
        self.last.tasks_max = self.take(12, buffer, cgroup::value).flatten();
        let held = handles.and_then(|handles| {
            self.list(pids, buffer)?;
            handles.read(pids, buffer)
        });
        self.last.fds = held.map(|held| held.fds);
        self.last.fds_max = held.and_then(|held| held.fds_max);
    }

    /// Sums threads and resident sets over processes, for want of a controller that does.
    fn read_procs(&mut self, processes: &mut Processes, pids: &mut Vec<u32>, buffer: &mut Vec<u8>) {
        if self.list(pids, buffer).is_none() {
            return;
        }
        processes.look_at(pids, buffer);
        // A process that has not been looked at yet is one task at least...
        let tasks: u64 = pids.iter().map(|pid| processes.threads(*pid).unwrap_or(1)).sum();
        self.last.tasks = self.last.tasks.or(Some(tasks));
        if self.last.memory_current_bytes.is_none() {
            // ... and makes the sum of memory unknown, not smaller.
            self.last.rss_bytes = pids.iter().map(|pid| processes.rss_bytes(*pid)).sum();
        }
    }

    /// Lists the processes of the cgroup.
    fn list(&mut self, pids: &mut Vec<u32>, buffer: &mut Vec<u8>) -> Option<()> {
        pids.clear();
        self.take(7, buffer, |bytes| {
            pids.extend(cgroup::pids(bytes));
            Ok(())
        })
    }

    /// Reads one file unless it is known to be absent. A file that cannot be understood is unknown.
    fn take<T>(
        &mut self,
        file: usize,
        buffer: &mut Vec<u8>,
        parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
    ) -> Option<T> {
        let bit = 1 << file;
        if self.absent & bit != 0 {
            return None;
        }
        match read_below(&self.folder, FILES[file], buffer) {
            Ok(Some(bytes)) => parse(bytes).ok(),
            Ok(None) => {
                self.absent |= bit;
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mainstay_core::time::Now;

    use super::*;

    struct Tree {
        root: tempfile::TempDir,
        cgroups: Cgroups,
        processes: Processes,
    }

    impl Tree {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("sys/fs/cgroup/system.slice/app.service")).unwrap();
            fs::create_dir_all(root.path().join("proc")).unwrap();
            let (cgroups, processes) = (Cgroups::at(root.path()), Processes::at(root.path()));
            Self { root, cgroups, processes }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.root.path().join("sys/fs/cgroup/system.slice/app.service").join(file), text).unwrap();
        }

        fn read(&mut self) -> Option<Cgroup> {
            self.read_only(OfUnit::Whole)
        }

        fn read_only(&mut self, wanted: OfUnit) -> Option<Cgroup> {
            self.cgroups.next_round();
            self.processes.read(&mut Vec::new(), Now::default());
            let (processes, buffer) = (&mut self.processes, &mut Vec::new());
            self.cgroups.read("app.service", "/system.slice/app.service", wanted, processes, buffer)
        }

        /// Gives the unit a process with three threads and four open files at most.
        fn process(&self, pid: u32) {
            let folder = self.root.path().join("proc").join(pid.to_string());
            fs::create_dir_all(folder.join("fd")).unwrap();
            let stat = format!("{pid} (app) S 1 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 3 0 77 4096 3 0\n");
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("limits"), "Max open files  4  4096 files\n").unwrap();
            fs::create_dir_all(self.root.path().join("proc/self/fd")).unwrap();
        }
    }

    #[test]
    fn a_missing_controller_leaves_its_values_unknown_and_memory_is_summed_over_processes() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 500\nuser_usec 300\nsystem_usec 200\n");
        tree.write("cgroup.procs", "7\n8\n");
        for pid in ["7", "8"] {
            fs::create_dir_all(tree.root.path().join("proc").join(pid)).unwrap();
            let stat = format!("{pid} (app) S 1 1 1 0 -1 0 0 0 0 0 5 6 0 0 20 0 1 0 77 4096 3 0\n");
            fs::write(tree.root.path().join("proc").join(pid).join("stat"), stat).unwrap();
        }
        let cgroup = tree.read().unwrap();
        assert_eq!(cgroup.cpu_usage_us, Some(500));
        assert_eq!(
            (cgroup.memory_current_bytes, cgroup.memory_events_oom_kill, cgroup.io_read_bytes),
            (None, None, None)
        );
        assert_eq!(cgroup.tasks, Some(2));
        assert_eq!(cgroup.rss_bytes, Some(6 * rustix::param::page_size() as u64));
        tree.write("cgroup.procs", "7\n9\n");
        let later = *(0..SLOW_EVERY).map(|_| tree.read().unwrap()).collect::<Vec<_>>().last().unwrap();
        assert_eq!(later.rss_bytes, None, "9 has not been looked at");
    }

    #[test]
    fn fast_values_are_read_at_every_sample_and_slow_ones_within_five() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 1\n");
        tree.write("memory.current", "4096\n");
        tree.write("memory.max", "max\n");
        tree.write("pids.current", "3\n");
        let first = tree.read().unwrap();
        assert_eq!((first.memory_current_bytes, first.memory_max_bytes, first.tasks), (Some(4096), None, Some(3)));
        tree.write("memory.current", "8192\n");
        tree.write("pids.current", "4\n");
        let readings: Vec<Cgroup> = (0..SLOW_EVERY).map(|_| tree.read().unwrap()).collect();
        assert!(readings.iter().all(|cgroup| cgroup.memory_current_bytes == Some(8192)));
        assert_eq!(readings.last().unwrap().tasks, Some(4));
    }

    #[test]
    fn memory_that_is_no_cache_is_read_at_first_and_once_a_minute() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 1\n");
        tree.write("memory.stat", "anon 4096\nfile 9\n");
        assert_eq!(tree.read().unwrap().memory_anon_bytes, Some(4096));
        tree.write("memory.stat", "anon 8192\nfile 9\n");
        let readings: Vec<_> = (0..SELDOM_EVERY).map(|_| tree.read().unwrap().memory_anon_bytes).collect();
        assert_eq!(readings.last(), Some(&Some(8192)));
        assert!(readings.iter().all(|anon| anon.is_some()), "the last reading stands in between");
    }

    #[test]
    fn a_cgroup_that_is_gone_is_none_and_is_found_again_when_it_is_back() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 1\n");
        assert!(tree.read().is_some());
        let folder = tree.root.path().join("sys/fs/cgroup/system.slice/app.service");
        fs::remove_dir_all(&folder).unwrap();
        assert!(tree.read().is_none());
        fs::create_dir_all(&folder).unwrap();
        tree.write("cpu.stat", "usage_usec 2\n");
        assert_eq!(tree.read().unwrap().cpu_usage_us, Some(2));
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_looked_for_when_its_unit_has_changed_and_now_and_then() {
        let mut tree = Tree::new();
        let folder = tree.root.path().join("sys/fs/cgroup/system.slice/app.service");
        fs::remove_dir_all(&folder).unwrap();
        assert!(tree.read().is_none());
        fs::create_dir_all(&folder).unwrap();
        tree.write("cpu.stat", "usage_usec 1\n");
        // Nothing says that it is there now, until it is looked for again.
        let found: Vec<bool> = (1..=ABSENT_FOR).map(|_| tree.read().is_some()).collect();
        assert_eq!(found.iter().position(|found| *found), Some(found.len() - 1));
        fs::remove_dir_all(&folder).unwrap();
        assert!(tree.read().is_none() && tree.read().is_none());
        fs::create_dir_all(&folder).unwrap();
        tree.write("cpu.stat", "usage_usec 1\n");
        assert!(tree.read().is_none());
        tree.cgroups.may_be_there("app.service");
        assert!(tree.read().is_some());
    }

    #[test]
    fn what_is_not_wanted_is_unknown_at_once_and_known_at_once_when_it_is_wanted_again() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 500\n");
        tree.write("memory.current", "4096\n");
        tree.write("cgroup.procs", "7\n");
        tree.process(7);
        let whole = tree.read().unwrap();
        assert_eq!((whole.tasks, whole.fds_max), (Some(3), Some(4)));
        assert!(whole.fds.is_some());
        let without = tree.read_only(OfUnit::WithoutProcesses).unwrap();
        assert_eq!((without.cpu_usage_us, without.memory_current_bytes), (Some(500), Some(4096)));
        assert_eq!((without.tasks, without.fds, without.fds_max), (None, None, None));
        assert_eq!(tree.read_only(OfUnit::Nothing), Some(Cgroup::default()), "a cgroup of which nothing is known");
        assert_eq!(tree.read().unwrap(), whole);
    }

    #[test]
    fn a_unit_that_is_healed_by_its_processes_has_them_where_no_others_are_counted() {
        let mut tree = Tree::new();
        tree.write("cpu.stat", "usage_usec 500\n");
        tree.write("cgroup.procs", "7\n8\n");
        [7, 8].iter().for_each(|pid| tree.process(*pid));
        let counted = tree.read().unwrap();
        tree.processes.set_counting(false);
        for _ in 0..SLOW_EVERY {
            assert_eq!(tree.read().unwrap(), counted);
        }
        assert_eq!((counted.tasks, counted.rss_bytes), (Some(6), Some(6 * rustix::param::page_size() as u64)));
    }
}
