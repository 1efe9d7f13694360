//! Samples: what was read from the kernel, from systemd and by probes at one moment, as it was.
//!
//! Nothing is derived here; rates and levels are made by the next stage. What could not be read
//! is `None`: unknown, never zero. Counters are as the kernel counts them, in its units.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::BootId;
use crate::log::LogReading;
use crate::parse::{emmc, mdstat, smartd};
use crate::processes::Held;
use crate::readings::SeriesKind;
use crate::series::SeriesKey;
use crate::subject::{PathBytes, UnitName};
use crate::time::Now;

/// Everything that was read at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// When.
    pub at: Now,
    /// `/proc/stat`, all CPUs together.
    pub cpu: Option<CpuTimes>,
    /// Number of CPUs that are online.
    pub cpus: Option<u32>,
    /// `/proc/stat`, every CPU that is online with its number; empty where they are more than are told one by one.
    pub cpu_each: Vec<(u32, CpuTimes)>,
    /// `/proc/loadavg`.
    pub load: Option<LoadAverage>,
    /// `/proc/stat`, what is not CPU time.
    pub kernel: Option<KernelCounters>,
    /// `/proc/meminfo`.
    pub memory: Option<Memory>,
    /// `/proc/vmstat`, the few that matter.
    pub vm: Option<VmCounters>,
    /// `/proc/pressure/*`.
    pub pressure: Pressures,
    /// Mounted filesystems, network ones left out unless configured.
    pub filesystems: Vec<Filesystem>,
    /// `/proc/diskstats`, whole devices.
    pub disks: Vec<Disk>,
    /// `/proc/net/dev`, without loopback.
    pub interfaces: Vec<Interface>,
    /// Counts over all processes.
    pub processes: Option<ProcessCounts>,
    /// Threads and processes of the machine, as `/proc/loadavg` counts them. See [`Sample::tasks`].
    pub tasks: Option<u64>,
    /// Most tasks that the machine can have: the less of `threads-max` and `pid_max` below
    /// `/proc/sys/kernel`. Read once a minute.
    pub tasks_max: Option<u64>,
    /// `/proc/sys/fs/file-nr`.
    pub file_handles: Option<FileHandles>,
    /// `/proc/net/snmp` and `/proc/net/netstat`, the few that matter of TCP.
    pub tcp: Option<TcpCounters>,
    /// `/proc/sys/net/netfilter/nf_conntrack_*`; `None` where connections are not tracked.
    pub conntrack: Option<Conntrack>,
    /// How well the clock is kept.
    pub clock: Option<ClockSync>,
    /// Whether the host waits for a reboot, as its packages say; `None` where they never say.
    pub reboot_required: Option<bool>,
    /// systemd's units, with their cgroups. `None` while D-Bus cannot be asked.
    pub units: Option<BTreeMap<UnitName, Unit>>,
    /// Containers that run, with their cgroups.
    pub containers: Vec<Container>,
    /// The latest result of every probe, by the name of the probe.
    pub probes: BTreeMap<String, Probe>,
    /// What the journal came to; `None` while it cannot be read.
    pub log: Option<Arc<LogReading>>,
    /// Who holds deleted files open, largest first. Looked at while a filesystem is short of room; `None` otherwise, and
    /// where it cannot be seen.
    pub held: Option<Arc<Vec<Held>>>,
    /// What is known of the health of disks and arrays, read once a minute; `None` where nobody says anything of any.
    pub disk_health: Option<Arc<Vec<DiskHealth>>>,
    /// What no detector needs and operators look back for, read once a minute; `None` before that, and while it is not read.
    pub background: Option<Arc<Background>>,
}

/// Readings that were made beside the samples, for summaries and OTLP.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Background {
    /// When.
    pub at: Now,
    /// Each series once.
    pub readings: Vec<BackgroundReading>,
}

impl Background {
    /// It is read once a minute, and told for so long: of who hangs at it nothing is known.
    const AGE_MAX: Duration = Duration::from_secs(180);

    /// What is told of it at a moment: every reading that is a number, or none once it is too old.
    pub fn told(&self, now: Now) -> impl Iterator<Item = &BackgroundReading> {
        let is_fresh = now.since(self.at) <= Self::AGE_MAX;
        self.readings.iter().filter(move |reading| is_fresh && reading.value.is_finite())
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct BackgroundReading {
    /// Of which series.
    pub key: SeriesKey,
    /// How that behaves.
    pub kind: SeriesKind,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// Threads and processes of the machine: counted one by one where they were looked at, else as the kernel counts
    /// them, which within a container are those of the whole machine.
    #[must_use]
    pub fn tasks(&self) -> Option<u64> {
        self.processes.map(|processes| processes.threads.into()).or(self.tasks)
    }
}

/// CPU time since boot, in clock ticks (`USER_HZ`, 100 a second), of all CPUs together or of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    /// In user mode, guests included.
    pub user: u64,
    /// In user mode at low priority.
    pub nice: u64,
    /// In the kernel.
    pub system: u64,
    /// Doing nothing.
    pub idle: u64,
    /// Doing nothing while I/O was outstanding.
    pub iowait: u64,
    /// Serving interrupts.
    pub irq: u64,
    /// Serving soft interrupts.
    pub softirq: u64,
    /// Taken by the hypervisor.
    pub steal: u64,
}

/// Load averages and the run queue.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LoadAverage {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

/// What `/proc/stat` counts besides CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCounters {
    /// Context switches since boot.
    pub context_switches: u64,
    /// Processes and threads made since boot.
    pub forks: u64,
    /// Interrupts since boot.
    pub interrupts: u64,
    /// Boot time in seconds since 1970.
    pub boot_time_seconds: u64,
    /// Processes that can run now.
    pub procs_running: u64,
    /// Processes that wait for I/O now.
    pub procs_blocked: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// Unused.
    pub free_bytes: u64,
    /// What can be had without swapping.
    pub available_bytes: u64,
    /// Buffers.
    pub buffers_bytes: u64,
    /// Page cache.
    pub cached_bytes: u64,
    /// Shared memory and tmpfs.
    pub shmem_bytes: u64,
    /// Slab that can be reclaimed.
    pub slab_reclaimable_bytes: u64,
    /// Slab that cannot.
    pub slab_unreclaimable_bytes: u64,
    /// Not yet written.
    pub dirty_bytes: u64,
    /// Swap, all of it.
    pub swap_total_bytes: u64,
    /// Swap, unused.
    pub swap_free_bytes: u64,
}

/// Counters of memory management since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmCounters {
    /// Pages swapped in.
    pub pswpin: u64,
    /// Pages swapped out.
    pub pswpout: u64,
    /// Major page faults.
    pub pgmajfault: u64,
    /// Pages that the kernel's own thread took back.
    pub pgsteal_kswapd: u64,
    /// Pages that were taken back by who needed memory, and waited for it.
    pub pgsteal_direct: u64,
    /// Pages that the kernel's own thread looked at to take some back.
    pub pgscan_kswapd: u64,
    /// Pages that were looked at by who needed memory.
    pub pgscan_direct: u64,
    /// Processes killed for lack of memory.
    pub oom_kill: u64,
    /// Where the kernel moves pages together.
    pub compaction: Option<Compaction>,
}

/// Counters of moving pages together, since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compaction {
    /// How often somebody waited for it.
    pub stall: u64,
    /// How often that was for nothing.
    pub fail: u64,
}

/// Pressure stall information of the host or of one cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressures {
    /// Waiting for a CPU.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for I/O.
    pub io: Option<Pressure>,
}

/// One pressure file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks waited at once. Absent for CPU on older kernels.
    pub full: Option<Stall>,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stall {
    /// Share of the last 10 s, 0 to 1.
    pub avg10_ratio: f64,
    /// Share of the last 60 s, 0 to 1.
    pub avg60_ratio: f64,
    /// Share of the last 300 s, 0 to 1.
    pub avg300_ratio: f64,
    /// Stalled microseconds since boot.
    pub total_us: u64,
}

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: PathBytes,
    /// What is mounted (`/dev/sda1`).
    pub device: PathBytes,
    /// Its type (`ext4`).
    pub fstype: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// What `statvfs` said; `None` if it did not answer in time.
    pub usage: Option<FilesystemUsage>,
}

/// Sizes of a filesystem, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilesystemUsage {
    /// All of it.
    pub size_bytes: u64,
    /// Free, what is reserved for root included.
    pub free_bytes: u64,
    /// Free for everybody.
    pub avail_bytes: u64,
    /// Inodes; 0 where the filesystem makes them as it needs them.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// Counters of one block device since boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// Kernel name (`vda`).
    pub name: String,
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Milliseconds spent reading, summed over requests.
    pub read_ms: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Milliseconds spent writing, summed over requests.
    pub write_ms: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Milliseconds in which at least one request was in flight.
    pub io_ms: u64,
    /// Milliseconds weighted by requests in flight.
    pub weighted_io_ms: u64,
}

/// The health of one disk or array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskHealth {
    /// Kernel name (`sda`, `md0`); model and serial number of a disk that has none at present.
    pub name: String,
    /// Where smartd tells of a disk that the kernel does not know by this serial number: it is behind a controller, or gone.
    pub file: Option<String>,
    /// What is known.
    pub report: HealthReport,
}

/// Who says how well a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthReport {
    /// The kernel, of a software RAID.
    Array(mdstat::Array),
    /// An eMMC of itself.
    Flash(emmc::Wear),
    /// smartd, of a disk that it reads.
    Smart(smartd::State),
}

/// Counters of one network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Kernel name (`eth0`).
    pub name: String,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received.
    pub receive_packets: u64,
    /// Receive errors.
    pub receive_errors: u64,
    /// Packets dropped on receipt.
    pub receive_dropped: u64,
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Packets sent.
    pub transmit_packets: u64,
    /// Send errors.
    pub transmit_errors: u64,
    /// Packets dropped on sending.
    pub transmit_dropped: u64,
}

/// Counts over all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessCounts {
    /// All processes.
    pub total: u32,
    /// Threads of all processes.
    pub threads: u32,
    /// Zombies.
    pub zombies: u32,
    /// In uninterruptible sleep.
    pub uninterruptible: u32,
}

/// Open files of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileHandles {
    /// Handles in use.
    pub allocated: u64,
    /// Most that there may be.
    pub maximum: u64,
}

/// TCP since boot, and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpCounters {
    /// Connections that are established now.
    pub established: u64,
    /// Segments sent.
    pub segments_sent: u64,
    /// Segments sent again.
    pub segments_retransmitted: u64,
    /// Connections lost because the queue of a listener was full.
    pub listen_overflows: u64,
    /// Connections that a listener lost, for whatever reason.
    pub listen_drops: u64,
}

/// Connections that netfilter tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// How many there are.
    pub entries: u64,
    /// Most that there may be.
    pub limit: u64,
}

/// What the kernel says of how well the clock is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockSync {
    /// Whether something keeps it right.
    pub synchronised: bool,
    /// How wrong it may be at most, in microseconds.
    pub max_error_us: i64,
    /// How far it still is from its reference, in nanoseconds.
    pub offset_ns: i64,
}

/// A systemd unit, with what its cgroup says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unit {
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState` (`running`, `dead`, `auto-restart` …).
    pub sub: String,
    /// `Result` (`success`, `exit-code`, `signal`, `start-limit-hit` …).
    pub result: String,
    /// `NRestarts`: restarts by systemd itself since the unit was loaded.
    pub n_restarts: u32,
    /// `InvocationID`: changes with every start.
    pub invocation: Option<[u8; 16]>,
    /// `MainPID`; 0 is none.
    pub main_pid: u32,
    /// `ExecMainCode`: 1 exited, 2 killed, 3 dumped (`CLD_*`); 0 is none.
    pub exec_main_code: i32,
    /// `ExecMainStatus`: exit code or signal.
    pub exec_main_status: i32,
    /// `Restart=` (`no`, `on-failure`, `always` …).
    pub restart: String,
    /// `Type=` (`simple`, `notify`, `oneshot` …).
    pub service_type: String,
    /// Whether the unit would be started at boot (`enabled`, or pulled in by an enabled unit).
    pub enabled: bool,
    /// Whether the last stop was asked for by a job (somebody stopped it), not an end of its own.
    pub stopped_on_request: bool,
    /// What its cgroup says; `None` where it has none.
    pub cgroup: Option<Cgroup>,
}

impl Unit {
    /// Becomes as systemd describes `other`, in the room that it has; what its cgroup says stays.
    pub fn describe_as(&mut self, other: &Self) {
        let Self {
            active,
            sub,
            result,
            n_restarts,
            invocation,
            main_pid,
            exec_main_code,
            exec_main_status,
            restart,
            service_type,
            enabled,
            stopped_on_request,
            cgroup: _,
        } = other;
        self.sub.clone_from(sub);
        self.result.clone_from(result);
        self.restart.clone_from(restart);
        self.service_type.clone_from(service_type);
        (self.active, self.n_restarts, self.invocation) = (*active, *n_restarts, *invocation);
        (self.main_pid, self.exec_main_code, self.exec_main_status) = (*main_pid, *exec_main_code, *exec_main_status);
        (self.enabled, self.stopped_on_request) = (*enabled, *stopped_on_request);
    }
}

/// A container, with what its cgroup says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// Who runs it (`docker`, `podman` …).
    pub runtime: &'static str,
    /// Its id, as far as people use it.
    pub id: String,
    /// Its name; the id where it is not known.
    pub name: String,
    /// Its image; empty where it is not known.
    pub image: String,
    /// What its cgroup says.
    pub cgroup: Option<Cgroup>,
}

impl Container {
    /// What people call it: `web (docker)`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.runtime)
    }
}

/// `ActiveState` of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ActiveState {
    /// Running, or done and remaining.
    Active,
    /// Active, loading its configuration again.
    Reloading,
    /// Not running.
    #[default]
    Inactive,
    /// Not running, because something went wrong.
    Failed,
    /// On its way to active.
    Activating,
    /// On its way to inactive.
    Deactivating,
}

/// Files of one cgroup (v2). A controller that is not there leaves its values `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cgroup {
    /// `memory.current`.
    pub memory_current_bytes: Option<u64>,
    /// `memory.peak`.
    pub memory_peak_bytes: Option<u64>,
    /// `memory.max`; `None` also for `max`.
    pub memory_max_bytes: Option<u64>,
    /// `memory.events`: `high`.
    pub memory_events_high: Option<u64>,
    /// `memory.events`: `max`.
    pub memory_events_max: Option<u64>,
    /// `memory.events`: `oom_kill`.
    pub memory_events_oom_kill: Option<u64>,
    /// `cpu.stat`: `usage_usec`.
    pub cpu_usage_us: Option<u64>,
    /// `cpu.stat`: `throttled_usec`.
    pub cpu_throttled_us: Option<u64>,
    /// `io.stat`: bytes read, all devices.
    pub io_read_bytes: Option<u64>,
    /// `io.stat`: bytes written, all devices.
    pub io_written_bytes: Option<u64>,
    /// Tasks, which are processes and threads: `pids.current`, or what its processes say of their
    /// threads where there is no pids controller.
    pub tasks: Option<u64>,
    /// `pids.max`; `None` also for `max`. Read once a minute.
    pub tasks_max: Option<u64>,
    /// Open file descriptors of the one of its processes that has the most. The limit is for each
    /// process. Read once a minute.
    pub fds: Option<u64>,
    /// The soft limit of that process (`RLIMIT_NOFILE`); `None` also where there is none.
    pub fds_max: Option<u64>,
    /// `memory.stat`: `anon`, memory that is no page cache. Read it now and then; it is what a
    /// leak shows in, while `memory.current` grows with every file that is read.
    pub memory_anon_bytes: Option<u64>,
    /// Sum of the resident sets of its processes, where `memory.current` is not to be had.
    pub rss_bytes: Option<u64>,
    /// Its pressure files.
    pub pressure: Pressures,
}

/// The latest result of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The unit that it speaks for.
    pub unit: UnitName,
    /// When it ended.
    pub at: Now,
    /// How often it has failed in a row; 0 when the last one succeeded.
    pub fails: u32,
    /// How many failures in a row the policy takes for a hang.
    pub fails_max: u32,
    /// How long it took.
    pub latency: Duration,
    /// In words: `200 in 3 ms`, `no answer within 2 s`.
    pub text: String,
}

/// Where a sample was read: it stands in what is recorded once per start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// This boot.
    pub boot: BootId,
    /// Kernel release.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Labels of the host (role, zone, …).
    pub labels: BTreeMap<String, String>,
}
