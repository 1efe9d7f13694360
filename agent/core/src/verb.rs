//! What the agent may ask of the actuator, and what it hears back: a closed list of typed verbs.
//!
//! The agent runs without privileges and the actuator as root; this is all that passes between them, over a unix socket.
//! In and out: [`Request`] and [`Reply`], and their bytes through [`Request::to_frame`], [`Request::from_body`] and their
//! like. No verb carries code, a command line or a file name to open; what a path may be is decided by root's own file.
//! The decoder is total: any bytes give a value or a [`WireError`], never a panic, and never more memory than they hold.
//!
//! A frame is a big-endian `u32` length, then that many bytes: version, kind (request or reply), fields in order.

mod codec;
mod counts;
mod reply;
mod show;
#[cfg(test)]
mod tests;
mod wire;

pub use codec::{FRAME_BYTES_MAX, HEADER_BYTES, PROTOCOL_VERSION, WireError, frame_len};
pub use reply::{
    ActionStatus, Conflict, Detail, Failure, JobResult, PlaceDone, Pong, ProbeDone, PurgeDone, ReclaimDone, Refusal,
    RefusalReason, Reply, SkipCount, SkipReason, StopReason, UndoDone, UnitDone,
};

use std::fmt;

use crate::id::{ActionId, DecisionId};
use crate::plan::{DiskReclaim, ResetFailed, Step};
use crate::subject::UnitName;

/// One thing asked of the actuator.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Acting verbs are carried out at most once under this id. Undo and purge act under an id of their own too; the
    /// asking verbs (`status`, `ping`, `probe`, `scene`, `processes`) do not use it.
    pub action: ActionId,
    /// The decision behind it, for the actuator's journal; `None` when a person asked.
    pub decision: Option<DecisionId>,
    /// `InvocationID` of the run of the unit that the decision was about: where another one runs by now, somebody else
    /// has started it, and the verb is refused. `None` where the decision was about no one run.
    pub invocation: Option<[u8; 16]>,
    /// What to do.
    pub verb: Verb,
}

impl Request {
    /// A question, or an act under no decision and about no run of a unit.
    #[must_use]
    pub fn new(action: ActionId, verb: Verb) -> Self {
        Self { action, decision: None, invocation: None, verb }
    }
}

/// The closed list of verbs.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Starts a unit and waits for the job.
    UnitStart {
        /// The unit.
        unit: UnitName,
        /// Whether the failure counter is cleared first.
        reset_failed: ResetFailed,
    },
    /// Restarts a unit and waits for the job.
    UnitRestart {
        /// The unit.
        unit: UnitName,
        /// Whether the failure counter is cleared first.
        reset_failed: ResetFailed,
    },
    /// Stops a unit and waits for the job.
    UnitStop {
        /// The unit.
        unit: UnitName,
    },
    /// Has a unit reload its configuration and waits for the job.
    UnitReload {
        /// The unit.
        unit: UnitName,
    },
    /// Frees space on a filesystem.
    DiskReclaim(DiskReclaim),
    /// Brings back what an earlier `disk.reclaim` moved away.
    Undo {
        /// The action to undo.
        action: ActionId,
    },
    /// Deletes held files whose undo time is over.
    PurgeExpired,
    /// Asks what became of an action.
    Status {
        /// The action.
        action: ActionId,
    },
    /// Runs the command that root defined under this name in `/etc/mainstay/probes.d`.
    ProbeCommand {
        /// Name of the probe: letters, digits, `-` and `_`.
        name: String,
    },
    /// Asks whether the actuator is there, and whether it is held.
    Ping,
    /// Looks at a unit's processes before it is restarted or stopped: their state, where they wait, their sockets and
    /// limits. No contents of files or memory, no arguments, no environment.
    Scene {
        /// The unit.
        unit: UnitName,
    },
    /// Counts process by process what only root may read: I/O, open descriptors, and the space of deleted files that
    /// they hold open. Counts only: no names of files, no contents, no arguments.
    Processes,
}

impl Verb {
    /// The verb that carries out a step of a plan; `None` for steps that the agent carries out itself.
    #[must_use]
    pub fn from_step(step: &Step) -> Option<Self> {
        Some(match step {
            Step::UnitRestart { unit, reset_failed } => {
                Self::UnitRestart { unit: unit.clone(), reset_failed: *reset_failed }
            }
            Step::UnitStart { unit, reset_failed } => {
                Self::UnitStart { unit: unit.clone(), reset_failed: *reset_failed }
            }
            Step::UnitStop { unit } => Self::UnitStop { unit: unit.clone() },
            Step::UnitReload { unit } => Self::UnitReload { unit: unit.clone() },
            Step::DiskReclaim(reclaim) => Self::DiskReclaim(reclaim.clone()),
            Step::Notify { .. } => return None,
        })
    }

    /// The dotted name, as logs, limits and root's file write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnitStart { .. } => "unit.start",
            Self::UnitRestart { .. } => "unit.restart",
            Self::UnitStop { .. } => "unit.stop",
            Self::UnitReload { .. } => "unit.reload",
            Self::DiskReclaim(_) => "disk.reclaim",
            Self::Undo { .. } => "undo",
            Self::PurgeExpired => "purge",
            Self::Status { .. } => "status",
            Self::ProbeCommand { .. } => "probe",
            Self::Ping => "ping",
            Self::Scene { .. } => "scene",
            Self::Processes => "processes",
        }
    }

    /// Whether it changes the host. Such a verb is journalled under its action id, counted against root's limits and
    /// refused while the hold file is there.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        match self {
            Self::UnitStart { .. }
            | Self::UnitRestart { .. }
            | Self::UnitStop { .. }
            | Self::UnitReload { .. }
            | Self::DiskReclaim(_)
            | Self::Undo { .. } => true,
            Self::PurgeExpired
            | Self::Status { .. }
            | Self::ProbeCommand { .. }
            | Self::Ping
            | Self::Scene { .. }
            | Self::Processes => false,
        }
    }

    /// The unit that it is about, if it is about one.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::UnitStart { unit, .. }
            | Self::UnitRestart { unit, .. }
            | Self::UnitStop { unit }
            | Self::UnitReload { unit }
            | Self::Scene { unit } => Some(unit),
            _ => None,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::DiskReclaim(reclaim) => write!(f, " {}", reclaim.mount),
            Self::Undo { action } | Self::Status { action } => write!(f, " {action}"),
            Self::ProbeCommand { name } => write!(f, " {name}"),
            other => other.unit().map_or(Ok(()), |unit| write!(f, " {unit}")),
        }
    }
}
