//! Records: what the ledger keeps. Durable before the next step is taken, and never lost.
//!
//! The order for one action is [`Body::Decided`], [`Body::Intent`] (fsync), the step itself,
//! [`Body::Outcome`], [`Body::Verified`]. An intent without an outcome after a crash gets an
//! outcome of [`Ended::Unknown`], and the finding is decided afresh.

use crate::decision::{Decision, PolicyRef};
use crate::id::{ActionId, BootId, DecisionId};
use crate::plan::Step;
use crate::policy::Glob;
use crate::time::Now;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// It was carried out.
    Done,
    /// It was tried and did not succeed.
    Failed,
    /// Root's file on the host, or the actuator's own limit, does not allow it.
    Refused,
    /// Nobody knows: the agent or the actuator died on the way.
    Unknown,
}

/// What a step brought about.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// In words: `job done in 0.18 s, new main PID 4127`, or the error.
    pub text: String,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Bytes that the filesystem has more of than before, by `statvfs`; for `disk.reclaim`.
    pub freed_bytes: Option<u64>,
}

/// Whether a plan helped.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// Whether the finding cleared and stayed so.
    pub recovered: bool,
    /// In words: `active for 30 s, probe 200 in 3 ms`.
    pub text: String,
    /// From the opening of the finding to its clearing, if it cleared.
    pub down_ms: Option<u64>,
}

/// Who asked for a change of the agent's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// `root@host`, or the name in an operator's certificate or key.
    pub name: String,
    /// What was given as the reason.
    pub reason: String,
}

/// A change of what was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LearningChange {
    /// It is forgotten, and learned anew.
    Reset {
        /// Only of the subjects (metrics with their labels, mount points, units) that this matches.
        metric: Option<Glob>,
    },
    /// The host goes back to a snapshot of it.
    Rollback {
        /// Which, by the moment at which it was taken (wall clock); `None` in an order: the newest.
        to_ms: Option<i64>,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The agent started; the boot is named so that a reader can tell reboots.
    Started {
        /// The boot.
        boot: BootId,
        /// The version of the agent.
        version: String,
    },
    /// A decision, acted on or held.
    Decided(Box<Decision>),
    /// A step is about to be handed over. Nothing runs before this is durable.
    Intent {
        /// For which decision.
        decision: DecisionId,
        /// Under which id.
        action: ActionId,
        /// What.
        step: Step,
    },
    /// A step ended.
    Outcome {
        /// For which decision.
        decision: DecisionId,
        /// Under which id.
        action: ActionId,
        /// How.
        outcome: Outcome,
    },
    /// It is known whether a plan helped.
    Verified {
        /// For which decision.
        decision: DecisionId,
        /// How.
        verification: Verification,
    },
    /// A policy came into force, or was refused.
    Policy {
        /// Which.
        policy: PolicyRef,
        /// Why it was refused, if it was.
        refused: Option<String>,
    },
    /// An operator's answer to a decision that asked.
    Answered {
        /// The decision.
        decision: DecisionId,
        /// Whether it may be carried out.
        approved: bool,
        /// Until when the answer counts (wall clock).
        until_ms: i64,
        /// Who answered.
        by: Author,
    },
    /// Acting was stopped, or allowed again.
    Hold {
        /// `fleet`, `host`, a unit name, or the path of the hold file.
        scope: String,
        /// Until when (wall clock); `None` when it was lifted or has no end.
        until_ms: Option<i64>,
        /// Whether acting is stopped from now on.
        held: bool,
        /// Who did it.
        by: Author,
    },
    /// An action was undone.
    Undone {
        /// Which.
        action: ActionId,
        /// How it went.
        outcome: Outcome,
        /// Who asked.
        by: Author,
    },
    /// What was learned is changed by an operator's order.
    Learning {
        /// How.
        change: LearningChange,
        /// SHA-256 over the exact bytes of the order, so that it is not taken twice.
        order: [u8; 32],
        /// Until when it might have been taken (wall clock).
        not_after_ms: i64,
        /// Who ordered it.
        by: Author,
    },
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When.
    pub at: Now,
    /// What.
    pub body: Body,
}
