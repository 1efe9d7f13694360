//! Thresholds of the detectors, with the defaults that a fresh host runs.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Whether what is usual goes on being learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Learning {
    /// What is shown is judged, then learned.
    #[default]
    On,
    /// What is shown is judged by what was learned before, and changes nothing of it.
    Frozen,
}

/// Every threshold. One set of defaults for all hosts; who knows better changes a single one.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A reading that is missing for this long makes an open finding `unknown` (default 30 s).
    pub unknown_after: Duration,

    /// Restarts or failures of a unit within [`Settings::crash_loop_short`] that are a crash loop
    /// (default 4). systemd's own start limit is 5 starts in 10 s, so a unit that runs into it is
    /// one.
    pub crash_loop_short_count: u32,
    /// The short window (default 5 min).
    pub crash_loop_short: Duration,
    /// Restarts or failures within [`Settings::crash_loop_long`] that are a crash loop (default 8):
    /// the slow ones, which fail after minutes each time.
    pub crash_loop_long_count: u32,
    /// The long window (default 1 h).
    pub crash_loop_long: Duration,

    /// Starts of a service without a crash, or openings of the same finding, within
    /// [`Settings::flapping_short`] that are flapping (default 6): a deployment takes three or four.
    pub flapping_short_count: u32,
    /// The short window (default 15 min).
    pub flapping_short: Duration,
    /// The same within [`Settings::flapping_long`] (default 12).
    pub flapping_long_count: u32,
    /// The long window (default 4 h).
    pub flapping_long: Duration,

    /// Used share of a filesystem, as df shows it, from which it is nearly full (default 0.92).
    /// Reclaiming has to bring it under [`Settings::disk_full_clear_ratio`] to help.
    pub disk_full_ratio: f64,
    /// Used share under which it is no longer (default 0.90).
    pub disk_full_clear_ratio: f64,
    /// Used share from which that is critical (default 0.97).
    pub disk_full_critical_ratio: f64,
    /// The same share of inodes from which they are nearly used up (default 0.92, with the same
    /// distance for clearing as for bytes).
    pub disk_inodes_ratio: f64,
    /// A filesystem that will be full within this time is filling (default 4 h).
    pub disk_filling_within: Duration,

    /// Available share of memory below which pressure counts (default 0.15). Above it, stalls come
    /// from a cgroup's own limit, which is that unit's trouble and not the host's.
    pub memory_available_ratio: f64,
    /// Share of ten seconds in which some task waited for memory that is pressure (default 0.4).
    pub memory_waiting_ratio: f64,
    /// The same for all tasks at once (default 0.1).
    pub memory_stalled_ratio: f64,
    /// How long memory pressure must hold (default 10 s).
    pub memory_pressure_for: Duration,
    /// A unit that will reach its memory limit within this time leaks (default 48 h).
    pub memory_leak_within: Duration,

    /// A unit that will run out of file descriptors or tasks within this time leaks, and so does a
    /// filesystem that will run out of inodes (default 48 h).
    pub leak_within: Duration,

    /// Share of CPU time spent working from which the CPUs are saturated (default 0.95)...
    pub cpu_busy_ratio: f64,
    /// ... while some task waits for a CPU for this share of a minute (default 0.6).
    pub cpu_waiting_ratio: f64,
    /// How long that must hold (default 2 min).
    pub cpu_saturated_for: Duration,

    /// CPUs that a service has to use to run away (default 0.5) ...
    pub runaway_cpus: f64,
    /// ... for this time at least (default 5 min), far beyond its usual.
    pub runaway_for: Duration,
    /// Threads and processes that a unit makes within half a minute in a fork storm (default 200).
    pub fork_storm_tasks: f64,

    /// How many false alarms of the learned model an operator accepts from one host in a week
    /// (default 0.5). The only knob of the model.
    pub anomaly_false_alarms_per_week: f64,
    /// Whether the learned model goes on learning (default on).
    pub learning: Learning,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unknown_after: Duration::from_secs(30),
            crash_loop_short_count: 4,
            crash_loop_short: Duration::from_secs(5 * MINUTE),
            crash_loop_long_count: 8,
            crash_loop_long: Duration::from_secs(HOUR),
            flapping_short_count: 6,
            flapping_short: Duration::from_secs(15 * MINUTE),
            flapping_long_count: 12,
            flapping_long: Duration::from_secs(4 * HOUR),
            disk_full_ratio: 0.92,
            disk_full_clear_ratio: 0.90,
            disk_full_critical_ratio: 0.97,
            disk_inodes_ratio: 0.92,
            disk_filling_within: Duration::from_secs(4 * HOUR),
            memory_available_ratio: 0.15,
            memory_waiting_ratio: 0.4,
            memory_stalled_ratio: 0.1,
            memory_pressure_for: Duration::from_secs(10),
            memory_leak_within: Duration::from_secs(48 * HOUR),
            leak_within: Duration::from_secs(48 * HOUR),
            cpu_busy_ratio: 0.95,
            cpu_waiting_ratio: 0.6,
            cpu_saturated_for: Duration::from_secs(2 * MINUTE),
            runaway_cpus: 0.5,
            runaway_for: Duration::from_secs(5 * MINUTE),
            fork_storm_tasks: 200.0,
            anomaly_false_alarms_per_week: 0.5,
            learning: Learning::On,
        }
    }
}
