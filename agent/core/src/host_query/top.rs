//! `top`: which processes and units use most, which are stuck, and who holds deleted files.

mod page;

use std::str::FromStr;
use std::time::Duration;

use crate::policy::Glob;
use crate::processes::Held;

/// Most processes, and most units, of one answer.
pub const ROWS_MAX: usize = 512;

/// Most processes that are listed as ended and not waited for, or as in uninterruptible sleep.
pub const STUCK_MAX: usize = 64;

/// What processes and units are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopBy {
    /// CPU time.
    #[default]
    Cpu,
    /// Memory in use.
    Memory,
    /// Bytes read from and written to storage.
    Io,
    /// Open file descriptors.
    Fds,
}

impl TopBy {
    /// Every order.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Io, Self::Fds];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Fds => "fds",
        }
    }
}

impl FromStr for TopBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|by| by.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is none of cpu, memory, io, fds"))
    }
}

/// Asks who uses most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopQuery {
    /// In which order.
    pub by: TopBy,
    /// Only units (or cgroups) that this matches.
    pub unit: Option<Glob>,
    /// How many processes and how many units are wanted at most; 0, or more than [`ROWS_MAX`], is that many.
    pub limit: u32,
}

/// Who uses most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopReply {
    /// Over which time CPU time is counted.
    pub cpu_window: Duration,
    /// Over which time I/O is counted; `None` where it is not known.
    pub io_window: Option<Duration>,
    /// CPUs that are online.
    pub cpus: u32,
    /// All processes of the host.
    pub total: u32,
    /// Their threads.
    pub threads: u32,
    /// Those that ended and are not waited for.
    pub zombies: u32,
    /// Those in uninterruptible sleep.
    pub uninterruptible: u32,
    /// Processes that are begun in a second; `None` where that is not known.
    pub forks_per_second: Option<f64>,
    /// Processes in the order that was asked for.
    pub processes: Vec<ProcessRow>,
    /// How many more match.
    pub processes_more: u32,
    /// Units, the same.
    pub units: Vec<UnitRow>,
    /// How many more match.
    pub units_more: u32,
    /// Containers, the same.
    pub containers: Vec<ContainerRow>,
    /// How many more there are.
    pub containers_more: u32,
    /// Processes that ended and are not waited for, or are in uninterruptible sleep; at most [`STUCK_MAX`].
    pub stuck: Vec<ProcessRow>,
    /// Who holds deleted files; `None` where that is not known.
    pub held: Option<Vec<Held>>,
    /// What is not known, and why.
    pub notes: Vec<String>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProcessRow {
    /// Its id.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Its name.
    pub name: String,
    /// Its unit, or the path of its cgroup.
    pub unit: String,
    /// `R`, `S`, `D`, `Z`, `T` …
    pub state: char,
    /// CPUs that it keeps busy.
    pub cpu: f64,
    /// CPUs that children of it kept busy that have ended since.
    pub ended_cpu: f64,
    /// Whether it has begun since.
    pub is_new: bool,
    /// Memory that it has in use, what it shares with others included.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Bytes read from and written to storage a second.
    pub io: Option<(u64, u64)>,
    /// Open file descriptors.
    pub fds: Option<u64>,
    /// How many it may have.
    pub fds_max: Option<u64>,
    /// How long it runs.
    pub age: Duration,
}

/// The processes of one unit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitRow {
    /// The unit, or the path of a cgroup.
    pub unit: String,
    /// Processes.
    pub processes: u32,
    /// How many of them have begun since.
    pub new: u32,
    /// Their threads.
    pub threads: u32,
    /// Its tasks as its cgroup counts them.
    pub tasks: Option<u64>,
    /// How many it may have.
    pub tasks_max: Option<u64>,
    /// CPUs that they keep busy.
    pub cpu: f64,
    /// CPUs that children of theirs kept busy that have ended since.
    pub ended_cpu: f64,
    /// Sum of the memory that they have in use; what they share counts for each.
    pub rss_bytes: u64,
    /// Bytes read from and written to storage a second.
    pub io: Option<(u64, u64)>,
    /// Open file descriptors.
    pub fds: Option<u64>,
    /// Largest share of its own limit that one of them uses.
    pub fds_used_ratio: Option<f64>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerRow {
    /// Its name; the id where it is not known.
    pub name: String,
    /// Who runs it.
    pub runtime: String,
    /// Its id, as far as people use it.
    pub id: String,
    /// Its image; empty where it is not known.
    pub image: String,
    /// CPUs that it keeps busy, what has ended in it included.
    pub cpu: Option<f64>,
    /// Memory that it holds, caches included; of its processes where no controller counts it.
    pub memory_bytes: Option<u64>,
    /// How much it may hold.
    pub memory_max_bytes: Option<u64>,
    /// Bytes read from and written to storage a second.
    pub io: Option<(u64, u64)>,
    /// Processes.
    pub processes: u32,
    /// Tasks, threads included.
    pub tasks: Option<u64>,
    /// How many it may have.
    pub tasks_max: Option<u64>,
    /// Open file descriptors.
    pub fds: Option<u64>,
}
