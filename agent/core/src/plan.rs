//! Plans: ordered steps that leave no choice to who carries them out.

use std::fmt;
use std::time::Duration;

use crate::id::ActionId;
use crate::subject::{PathBytes, UnitName};

/// How much can go wrong when a step is carried out needlessly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Risk {
    /// Nothing that a user would notice, or that cannot be undone.
    Low,
    /// A short interruption of one service.
    Medium,
    /// Lost data or a longer interruption.
    High,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// Whether systemd's failure counter of a unit is cleared before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResetFailed {
    /// Leave it: systemd's own start limit holds.
    Keep,
    /// Clear it first (`reset-failed`), so that a unit beyond its start limit can start.
    Clear,
}

/// A place whose contents may be reclaimed. Which files these are is decided by root's own file
/// on the host; a policy can only name a place and narrow it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReclaimPlace {
    /// Packages that apt downloaded.
    AptCache,
    /// Core dumps that systemd-coredump stored.
    CoreDumps,
    /// Archived journal files.
    Journal,
    /// Aged files below one folder.
    Aged(AgedFiles),
}

/// Files below one folder that have not been changed for a while.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgedFiles {
    /// The name of the selection, as the policy calls it (`logs`).
    pub name: String,
    /// The folder.
    pub under: PathBytes,
    /// Globs on the file name; never empty.
    pub files: Vec<String>,
    /// Least age, by modification time.
    pub older_than: Duration,
}

/// What happens to a file that is reclaimed and cannot be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Undo {
    /// It is kept for this long and can be brought back.
    For(Duration),
    /// It is gone at once. A rule has to say so.
    None,
}

/// A disk to bring under a level.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskReclaim {
    /// The filesystem, by mount point.
    pub mount: PathBytes,
    /// Places in the order in which they are emptied; never empty.
    pub from: Vec<ReclaimPlace>,
    /// Stops as soon as the used share of the filesystem is at or under this, 0 to 1.
    pub until_used_ratio: f64,
    /// What becomes of files that cannot be made again.
    pub undo: Undo,
}

/// One thing to do. The closed list of actions: adding a variant makes the compiler show every
/// place that has to know it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `unit.restart`
    UnitRestart {
        /// The unit.
        unit: UnitName,
        /// Whether the failure counter is cleared first.
        reset_failed: ResetFailed,
    },
    /// `unit.start`
    UnitStart {
        /// The unit.
        unit: UnitName,
        /// Whether the failure counter is cleared first.
        reset_failed: ResetFailed,
    },
    /// `unit.stop`
    UnitStop {
        /// The unit.
        unit: UnitName,
    },
    /// `unit.reload`
    UnitReload {
        /// The unit.
        unit: UnitName,
    },
    /// `disk.reclaim`
    DiskReclaim(DiskReclaim),
    /// `notify`
    Notify {
        /// Who is told, by the name that the agent's or the collector's configuration gives.
        to: String,
    },
}

impl Step {
    /// The dotted name of the action, as policies, ledger and metrics write it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnitRestart { .. } => "unit.restart",
            Self::UnitStart { .. } => "unit.start",
            Self::UnitStop { .. } => "unit.stop",
            Self::UnitReload { .. } => "unit.reload",
            Self::DiskReclaim(_) => "disk.reclaim",
            Self::Notify { .. } => "notify",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind())?;
        match self {
            Self::UnitRestart { unit, .. }
            | Self::UnitStart { unit, .. }
            | Self::UnitStop { unit }
            | Self::UnitReload { unit } => unit.fmt(f),
            Self::DiskReclaim(reclaim) => reclaim.mount.fmt(f),
            Self::Notify { to } => f.write_str(to),
        }
    }
}

/// How it is proved that a plan helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    /// The finding must have cleared, and stay so, for this long.
    pub stable_for: Duration,
    /// Not cleared and stable by then: the plan did not help.
    pub within: Duration,
}

/// A step under the name that makes it idempotent.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// Carried out at most once under this id.
    pub action: ActionId,
    /// What to do.
    pub step: Step,
}

/// What is to be done about one finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order; the next starts only when the one before is done.
    pub steps: Vec<PlannedStep>,
    /// The highest risk of the steps.
    pub risk: Risk,
    /// How it is proved that it helped.
    pub verify: Verify,
    /// Which rung of the rule's ladder this is, from 0.
    pub rung: u32,
}
