//! Counts over all processes, with the resident memory and threads of each, for cgroups that do not keep them, and their
//! CPU times, for whoever asks who uses most.
//!
//! Looking at every process costs some 10 µs each, so it is done every ten seconds and the last result stands in between;
//! where there are thousands, a part of them in every sample. Processes that end meanwhile are skipped. Where they are not
//! counted, to keep the agent's budget, those of one unit are looked at when they are asked for.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_core::parse::pid_stat::{self, PidStat};
use mainstay_core::processes::ended::{Before, Times};
use mainstay_core::sample::ProcessCounts;
use mainstay_core::time::Now;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};

use super::file::read_below;

/// How often all processes are looked at.
pub const EVERY: Duration = Duration::from_secs(10);

/// Most processes looked at: beyond it the counts are unknown, not wrong.
const PROCESSES_MAX: u32 = 100_000;

/// Processes that are looked at in one sample: these, or a fifth of them all, so that tens of thousands hold up no tick.
const LOOKS_MIN: u32 = 2_000;
const LOOKS_SHARE: u32 = 5;

/// Most processes of one unit that are looked at by themselves; the sums of a unit with more are unknown.
const OF_UNIT_MAX: usize = 4_096;

/// Bytes of names that are taken from the kernel at once: some 150 processes.
const NAMES_BYTES: usize = 4_096;

/// Looks at `/proc/PID`.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    last: Option<(Now, Option<ProcessCounts>)>,
    each: ByPid,
    /// The room of those before them.
    spare: ByPid,
    is_counting: bool,
    walk: Option<Walk>,
}

/// What is kept of processes, by their ids.
#[derive(Debug, Default)]
struct ByPid(Vec<(u32, Each)>);

impl ByPid {
    fn get(&self, pid: u32) -> Option<&Each> {
        self.0.binary_search_by_key(&pid, |(pid, _)| *pid).ok().map(|at| &self.0[at].1)
    }

    /// Puts them in order, which is the kernel's already where it lists all.
    fn sort(&mut self) {
        if !self.0.is_sorted_by_key(|(pid, _)| *pid) {
            self.0.sort_unstable_by_key(|(pid, _)| *pid);
        }
    }
}

/// A look at all processes, which may take several samples.
#[derive(Debug)]
struct Walk {
    begun: Now,
    folder: OwnedFd,
    counts: ProcessCounts,
    each: ByPid,
}

/// What is kept of one process.
#[derive(Debug, Clone, Copy)]
struct Each {
    rss_pages: u64,
    threads: u32,
    times: Times,
}

impl Each {
    fn of(stat: &PidStat<'_>) -> Self {
        Self {
            rss_pages: stat.rss_pages,
            threads: stat.num_threads,
            times: Times {
                ppid: stat.ppid,
                started: stat.starttime,
                own: stat.utime.saturating_add(stat.stime),
                ended: stat.cutime.saturating_add(stat.cstime),
            },
        }
    }
}

impl Processes {
    /// Looks below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let (each, spare) = (ByPid::default(), ByPid::default());
        Self { proc: root.join("proc"), last: None, each, spare, is_counting: true, walk: None }
    }

    /// Whether all of them are to be looked at. While they are not, nothing is known of what is not asked for by itself.
    pub fn set_counting(&mut self, is_counting: bool) {
        self.is_counting = is_counting;
        if !is_counting {
            (self.last, self.walk) = (None, None);
            (self.each, self.spare) = (ByPid::default(), ByPid::default());
        }
    }

    /// The counts, at most [`EVERY`] old and as much as it takes to look at them. `None` if `/proc` cannot be listed, and
    /// until they were looked at for the first time.
    pub fn read(&mut self, buffer: &mut Vec<u8>, now: Now) -> Option<ProcessCounts> {
        if !self.is_counting {
            return None;
        }
        let is_due = self.last.is_none_or(|(at, _)| now.since(at) >= EVERY);
        if is_due && self.walk.is_none() {
            self.walk = Walk::begin(&self.proc, now, std::mem::take(&mut self.spare));
            if self.walk.is_none() {
                self.last = Some((now, None));
            }
        }
        if let Some(mut walk) = self.walk.take() {
            let before = self.last.and_then(|(_, counts)| counts).map_or(0, |counts| counts.total);
            match walk.go_on(LOOKS_MIN.max(before / LOOKS_SHARE), buffer) {
                Look::Unfinished => self.walk = Some(walk),
                Look::Whole => {
                    walk.each.sort();
                    self.last = Some((walk.begun, Some(walk.counts)));
                    self.spare = std::mem::replace(&mut self.each, walk.each);
                }
                Look::TooMany => self.last = Some((walk.begun, None)),
            }
        }
        self.last()
    }

    /// The counts as they were when they were last looked at.
    #[must_use]
    pub fn last(&self) -> Option<ProcessCounts> {
        self.last.and_then(|(_, counts)| counts)
    }

    /// The resident set of one process in bytes, as it was when they were last looked at.
    #[must_use]
    pub fn rss_bytes(&self, pid: u32) -> Option<u64> {
        self.each.get(pid).map(|each| each.rss_pages * rustix::param::page_size() as u64)
    }

    /// The threads of one process, as they were when they were last looked at.
    #[must_use]
    pub fn threads(&self, pid: u32) -> Option<u64> {
        self.each.get(pid).map(|each| u64::from(each.threads))
    }

    /// CPU times as they were when they were last looked at; none where they are not counted.
    #[must_use]
    pub fn before(&self) -> Before {
        let counted = self.each.0.iter().filter(|_| self.is_counting);
        let times = counted.map(|(pid, each)| (*pid, each.times));
        Before { at: self.last.map(|(at, _)| at).unwrap_or_default(), times: times.collect() }
    }

    /// Looks at these processes by themselves, where they are not all looked at: what is known of others is forgotten.
    pub fn look_at(&mut self, pids: &[u32], buffer: &mut Vec<u8>) {
        if self.is_counting {
            return;
        }
        self.each.0.clear();
        let mut path = PathBuf::new();
        for pid in pids.iter().take(OF_UNIT_MAX) {
            path.clear();
            path.push(&self.proc);
            path.push(pid.to_string());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(folder) = open(&path, flags, Mode::empty()) else { continue };
            let Ok(Some(bytes)) = read_below(&folder, "stat", buffer) else { continue };
            if let Ok(stat) = pid_stat::parse(bytes) {
                self.each.0.push((stat.pid, Each::of(&stat)));
            }
        }
        self.each.sort();
    }
}

/// What came of going on with a walk.
enum Look {
    /// There are more.
    Unfinished,
    /// All were looked at.
    Whole,
    /// There are more than are looked at.
    TooMany,
}

impl Walk {
    fn begin(proc: &Path, now: Now, mut room: ByPid) -> Option<Self> {
        let folder = open(proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        room.0.clear();
        Some(Self { begun: now, folder, counts: ProcessCounts::default(), each: room })
    }

    /// Looks at so many more.
    fn go_on(&mut self, looks: u32, buffer: &mut Vec<u8>) -> Look {
        let until = self.counts.total.saturating_add(looks);
        let mut names = [MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = RawDir::new(&self.folder, &mut names);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if !name.first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            let Ok(Some(bytes)) = read_stat(&self.folder, name, buffer) else { continue };
            let Ok(stat) = pid_stat::parse(bytes) else { continue };
            self.counts.total += 1;
            self.counts.threads += stat.num_threads;
            self.counts.zombies += u32::from(stat.state == b'Z');
            self.counts.uninterruptible += u32::from(stat.state == b'D');
            self.each.0.push((stat.pid, Each::of(&stat)));
            if self.counts.total >= PROCESSES_MAX {
                return Look::TooMany;
            }
            if self.counts.total >= until {
                // Names that were taken and not looked at come again.
                return match seek(&self.folder, SeekFrom::Start(entry.next_entry_cookie())) {
                    Ok(_) => Look::Unfinished,
                    Err(_) => Look::TooMany,
                };
            }
        }
        Look::Whole
    }
}

/// Reads the `stat` of the process with this id.
fn read_stat<'b>(folder: &OwnedFd, pid: &[u8], buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
    const FILE: &[u8] = b"/stat\0";
    let mut path = [0; 32];
    let whole = path.get_mut(..pid.len() + FILE.len()).and_then(|whole| {
        let (id, file) = whole.split_at_mut(pid.len());
        id.copy_from_slice(pid);
        file.copy_from_slice(FILE);
        CStr::from_bytes_with_nul(whole).ok()
    });
    whole.map_or(Ok(None), |path| read_below(folder, path, buffer))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn stat(pid: u32, state: char, threads: u32, rss_pages: u64) -> String {
        format!("{pid} (a b) c) {state} 1 1 1 0 -1 0 0 0 0 0 5 6 7 8 20 0 {threads} 0 77 4096 {rss_pages} 0\n")
    }

    #[test]
    fn counts_processes_threads_and_zombies_and_looks_again_after_ten_seconds() {
        let root = tempfile::tempdir().unwrap();
        for (pid, state, threads, rss) in [(1, 'S', 1, 10), (42, 'Z', 1, 0), (43, 'D', 5, 20)] {
            fs::create_dir_all(root.path().join(format!("proc/{pid}"))).unwrap();
            fs::write(root.path().join(format!("proc/{pid}/stat")), stat(pid, state, threads, rss)).unwrap();
        }
        fs::create_dir_all(root.path().join("proc/sys")).unwrap();
        let mut processes = Processes::at(root.path());
        let mut buffer = Vec::new();
        let counts = processes.read(&mut buffer, Now::default()).unwrap();
        assert_eq!(counts, ProcessCounts { total: 3, threads: 7, zombies: 1, uninterruptible: 1 });
        assert_eq!(processes.rss_bytes(43), Some(20 * rustix::param::page_size() as u64));
        assert_eq!(processes.threads(43), Some(5));
        assert_eq!((processes.rss_bytes(9), processes.threads(9)), (None, None));
        let before = processes.before();
        let times = Times { ppid: 1, started: 77, own: 11, ended: 15 };
        assert_eq!((before.at, before.times.len(), before.times[&43]), (Now::default(), 3, times));

        fs::remove_dir_all(root.path().join("proc/42")).unwrap();
        let soon = Now::default().plus(Duration::from_secs(9));
        assert_eq!(processes.read(&mut buffer, soon).unwrap().total, 3);
        let later = Now::default().plus(EVERY);
        assert_eq!(processes.read(&mut buffer, later).unwrap().total, 2);
    }

    #[test]
    fn thousands_are_looked_at_in_parts_and_the_last_counts_stand_until_all_were() {
        let root = tempfile::tempdir().unwrap();
        for pid in 1..=LOOKS_MIN * 2 + 1 {
            fs::create_dir_all(root.path().join(format!("proc/{pid}"))).unwrap();
            fs::write(root.path().join(format!("proc/{pid}/stat")), stat(pid, 'S', 2, 10)).unwrap();
        }
        let (mut processes, mut buffer) = (Processes::at(root.path()), Vec::new());
        let at = |second| Now::default().plus(Duration::from_secs(second));
        assert_eq!((processes.read(&mut buffer, at(0)), processes.read(&mut buffer, at(1))), (None, None));
        assert_eq!(processes.threads(1), None);
        let counts = processes.read(&mut buffer, at(2)).unwrap();
        assert_eq!((counts.total, counts.threads), (LOOKS_MIN * 2 + 1, LOOKS_MIN * 4 + 2));
        assert_eq!(processes.threads(1), Some(2));
        // The next look begins ten seconds after the last one began.
        fs::remove_dir_all(root.path().join("proc/1")).unwrap();
        let seen = [9, 10, 11, 12].map(|second| processes.read(&mut buffer, at(second)).unwrap().total);
        assert_eq!(seen, [counts.total, counts.total, counts.total, counts.total - 1]);
        assert_eq!(processes.threads(1), None);
    }

    #[test]
    fn where_they_are_not_counted_those_that_are_asked_for_are_known_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        for pid in [7, 8] {
            fs::create_dir_all(root.path().join(format!("proc/{pid}"))).unwrap();
            fs::write(root.path().join(format!("proc/{pid}/stat")), stat(pid, 'S', 3, 10)).unwrap();
        }
        let (mut processes, mut buffer) = (Processes::at(root.path()), Vec::new());
        assert!(processes.read(&mut buffer, Now::default()).is_some());
        processes.set_counting(false);
        assert_eq!((processes.read(&mut buffer, Now::default()), processes.last()), (None, None));
        assert_eq!(processes.threads(7), None, "what was counted before is old");
        processes.look_at(&[7, 99], &mut buffer);
        assert_eq!((processes.threads(7), processes.threads(8), processes.threads(99)), (Some(3), None, None));
        processes.set_counting(true);
        processes.look_at(&[7], &mut buffer);
        assert_eq!(processes.read(&mut buffer, Now::default()).unwrap().total, 2, "looked at at once");
        assert_eq!(processes.threads(8), Some(3));
    }
}
