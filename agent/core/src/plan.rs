//! Plans: ordered steps that leave no choice to who carries them out.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::canonical::Writer;
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
    /// Whether this only tells somebody, and does nothing to the host.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Notify { .. })
    }

    /// The unit that it does something to, if it is one.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::UnitRestart { unit, .. }
            | Self::UnitStart { unit, .. }
            | Self::UnitStop { unit, .. }
            | Self::UnitReload { unit, .. } => Some(unit),
            Self::DiskReclaim(_) | Self::Notify { .. } => None,
        }
    }

    /// What it is done to, as it is shown.
    #[must_use]
    pub fn target(&self) -> &dyn fmt::Display {
        match self {
            Self::UnitRestart { unit, .. }
            | Self::UnitStart { unit, .. }
            | Self::UnitStop { unit }
            | Self::UnitReload { unit } => unit,
            Self::DiskReclaim(reclaim) => &reclaim.mount,
            Self::Notify { to } => to,
        }
    }

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
        write!(f, "{} {}", self.kind(), self.target())
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

impl Plan {
    /// SHA-256 over everything that the plan would do, in a canonical encoding: what an operator approves. The names of
    /// the actions are left out, because a plan that is made anew after the approval draws new ones.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut writer = Writer::new("mainstay-plan-1");
        writer.count(self.steps.len());
        for planned in &self.steps {
            write_step(&mut writer, &planned.step);
        }
        writer.text(&self.risk.to_string()).u32(self.rung);
        write_duration(&mut writer, self.verify.stable_for);
        write_duration(&mut writer, self.verify.within);
        Sha256::digest(writer.finish()).into()
    }
}

fn write_step(writer: &mut Writer, step: &Step) {
    writer.text(step.kind());
    match step {
        Step::UnitRestart { unit, reset_failed } | Step::UnitStart { unit, reset_failed } => {
            writer.text(unit.as_str()).u8(u8::from(*reset_failed == ResetFailed::Clear));
        }
        Step::UnitStop { unit } | Step::UnitReload { unit } => {
            writer.text(unit.as_str());
        }
        Step::DiskReclaim(reclaim) => write_reclaim(writer, reclaim),
        Step::Notify { to } => {
            writer.text(to);
        }
    }
}

fn write_reclaim(writer: &mut Writer, reclaim: &DiskReclaim) {
    writer.bytes(&reclaim.mount.0).f64(reclaim.until_used_ratio).count(reclaim.from.len());
    for place in &reclaim.from {
        write_place(writer, place);
    }
    match reclaim.undo {
        Undo::For(time) => write_duration(writer, time),
        Undo::None => write_duration(writer, Duration::ZERO),
    }
}

fn write_place(writer: &mut Writer, place: &ReclaimPlace) {
    let (tag, aged) = match place {
        ReclaimPlace::AptCache => (1, None),
        ReclaimPlace::CoreDumps => (2, None),
        ReclaimPlace::Journal => (3, None),
        ReclaimPlace::Aged(aged) => (4, Some(aged)),
    };
    writer.u8(tag);
    let Some(aged) = aged else { return };
    writer.text(&aged.name).bytes(&aged.under.0).count(aged.files.len());
    for glob in &aged.files {
        writer.text(glob);
    }
    write_duration(writer, aged.older_than);
}

fn write_duration(writer: &mut Writer, duration: Duration) {
    writer.u64(duration.as_secs()).u32(duration.subsec_nanos());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(unit: &str, action: u64, reset_failed: ResetFailed) -> Plan {
        let step = Step::UnitRestart { unit: unit.parse().unwrap(), reset_failed };
        Plan {
            steps: vec![PlannedStep { action: ActionId(action), step }],
            risk: Risk::Low,
            verify: Verify { stable_for: Duration::from_secs(30), within: Duration::from_secs(300) },
            rung: 0,
        }
    }

    #[test]
    fn the_hash_is_over_what_is_done_and_not_over_names_of_actions() {
        let plan = restart("a.service", 1, ResetFailed::Keep);
        assert_eq!(plan.hash(), restart("a.service", 2, ResetFailed::Keep).hash());
        assert_ne!(plan.hash(), restart("b.service", 1, ResetFailed::Keep).hash());
        assert_ne!(plan.hash(), restart("a.service", 1, ResetFailed::Clear).hash());
        assert_ne!(plan.hash(), Plan { rung: 1, ..plan.clone() }.hash());
    }
}
