//! Findings: evidence that something is wrong, with a beginning and an end.

use std::fmt;
use std::str::FromStr;

use crate::id::{ActionId, BadId, FindingId};
use crate::subject::Subject;
use crate::time::Now;

macro_rules! finding_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The closed list of what can be found. The dotted names stand in policies, on the wire,
        /// in metrics and on the screen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingKind { $($(#[$doc])* $name,)+ }

        impl FindingKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The dotted name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

finding_kinds! {
    /// A unit is in the state `failed`, or a service that should run was killed.
    ServiceFailed = "service.failed",
    /// A unit restarts again and again.
    ServiceCrashLoop = "service.crash_loop",
    /// A unit runs but its probe does not answer.
    ServiceHung = "service.hung",
    /// A unit answers its probe far more slowly than it used to.
    ServiceSlow = "service.slow",
    /// A service goes down and comes up again and again without crashing.
    ServiceFlapping = "service.flapping",
    /// A filesystem is nearly full.
    DiskFull = "disk.full",
    /// A filesystem has nearly no inodes left.
    DiskInodes = "disk.inodes",
    /// A filesystem will be full before long.
    DiskFilling = "disk.filling",
    /// A filesystem that could be written to no longer can.
    DiskReadonly = "disk.readonly",
    /// A disk says that it will not last, or an array runs without one.
    DiskFailing = "disk.failing",
    /// Work stalls for lack of memory.
    MemoryPressure = "memory.pressure",
    /// The memory of a unit grows steadily towards its limit.
    MemoryLeak = "memory.leak",
    /// A process of a unit opens files or connections and never closes them.
    FdLeak = "fd.leak",
    /// A unit starts threads or processes and never ends them.
    TaskLeak = "task.leak",
    /// Files are made on a filesystem and never removed.
    InodeLeak = "inode.leak",
    /// The kernel killed processes for lack of memory.
    MemoryOomKill = "memory.oom_kill",
    /// Work waits for a CPU most of the time.
    CpuSaturated = "cpu.saturated",
    /// Nothing goes on because everything waits for a disk.
    IoStalled = "io.stalled",
    /// A unit burns CPU far beyond its usual.
    ProcessRunaway = "process.runaway",
    /// A unit makes processes or threads without end.
    ProcessForkStorm = "process.fork_storm",
    /// Ended processes pile up because nobody asks how they ended.
    ProcessZombies = "process.zombies",
    /// The machine is running out of file handles, or a process of a unit out of file descriptors.
    FdExhausted = "fd.exhausted",
    /// The machine or a unit has nearly as many threads and processes as it can have.
    TaskExhausted = "task.exhausted",
    /// Netfilter tracks nearly as many connections as it can.
    ConntrackExhausted = "conntrack.exhausted",
    /// Much of what is sent over TCP has to be sent again.
    NetRetransmits = "net.retransmits",
    /// Nothing keeps the clock right.
    ClockUnsynced = "clock.unsynced",
    /// The kernel reports an error of hardware, of a filesystem or of its own.
    KernelError = "kernel.error",
    /// A unit writes far more errors than it usually does.
    LogBurst = "log.burst",
    /// A unit writes errors of a kind that it has not written before.
    LogPattern = "log.pattern",
    /// A metric is far from what was learned to be usual.
    MetricAnomalous = "metric.anomalous",
    /// The same finding opens and clears again and again.
    FindingFlapping = "finding.flapping",
    /// A host has not been heard from (found by the collector).
    HostSilent = "host.silent",
    /// The agent itself does not work as it should.
    AgentDegraded = "agent.degraded",
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FindingKind {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| BadId { text: text.to_owned(), what: "a finding kind such as service.failed" })
    }
}

/// How bad it is if nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will become trouble.
    Warning,
    /// Is trouble now.
    Critical,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingState {
    /// It holds.
    Open,
    /// It held, and no longer does.
    Cleared,
    /// What would show it can no longer be read. Never a reason to act.
    Unknown,
}

/// One thing that was seen, in words and as a number where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// One line for a person: `used 96.1 % of 40 GiB, limit 95 %`.
    pub text: String,
    /// What was measured, by its series or property name (`used_ratio`, `n_restarts`), if it has one.
    pub measure: Option<Measure>,
}

/// A measured value and the limit that it was held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Name with its unit: `used_ratio`, `time_to_full_seconds`.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// What it was held against.
    pub limit: Option<f64>,
    /// What was expected, where that was learned: as far from it as the limit is usual on both sides.
    pub expected: Option<f64>,
}

/// Evidence that something is wrong with one subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Known by this from opening to clearing.
    pub id: FindingId,
    /// What is wrong.
    pub kind: FindingKind,
    /// With what.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// How sure the detector is, 0 to 1, calibrated: of findings at 0.9, nine in ten are real.
    pub confidence: f64,
    /// Where it stands.
    pub state: FindingState,
    /// When it opened.
    pub opened: Now,
    /// When anything in it last changed.
    pub changed: Now,
    /// What was seen, most important first.
    pub evidence: Vec<Evidence>,
    /// The action of ours that this is an effect of, if it is one.
    pub effect_of: Option<ActionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in FindingKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert!("service".parse::<FindingKind>().is_err());
    }
}
