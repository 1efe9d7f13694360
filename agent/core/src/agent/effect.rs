//! What the state machine wants done: one closed list, carried out by the shell in order.
//!
//! The order is part of the contract: [`Effect::Persist`] effects are appended to the ledger in
//! the order in which they come, so that a durable record implies that those before it are
//! durable or were answered by a failure.

use std::fmt;

use crate::agent::input::{OrderId, Token};
use crate::budget::{Depth, Reading};
use crate::change::Change;
use crate::decision::PolicyRef;
use crate::detect::learned::SnapshotWhy;
use crate::finding::{Finding, FindingKind};
use crate::id::{ActionId, DecisionId};
use crate::plan::Step;
use crate::policy::ProbeSpec;
use crate::record::Record;
use crate::recording::Window;
use crate::series::Summary;
use crate::subject::Subject;

/// Something for the spool besides records. The shell numbers it and sends it when it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A finding opened, changed or closed: as it is now.
    Finding(Finding),
    /// What ten seconds of samples come to.
    Summary(Summary),
    /// Somebody changed something on the host.
    Change(Change),
}

/// Which policy was offered, which is in force, and why the offer was refused, if it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyState {
    /// The last offer, whether taken or not.
    pub offered: PolicyRef,
    /// What is in force.
    pub effective: PolicyRef,
    /// Whether what is in force has been confirmed: it has run its trial without harm.
    pub confirmed: bool,
    /// Why the last offer was refused or given up, with file, line and column where there is one.
    pub refused: Option<String>,
}

/// One thing to do outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the ledger and fsync; answer [`super::Input::Persisted`] or
    /// [`super::Input::PersistFailed`]. When durable the shell also puts it in the spool.
    Persist {
        /// Names it in the answer.
        token: Token,
        /// What.
        record: Record,
    },
    /// Hand a step to the actuator; answer [`super::Input::StepDone`]. Its intent is durable.
    Run {
        /// Carried out at most once under this id.
        action: ActionId,
        /// For which decision; for the actuator's journal.
        decision: DecisionId,
        /// What; never `notify`.
        step: Step,
        /// The run of the unit that is to be mended (`InvocationID`), where the trouble is that of one run. In another
        /// run, which somebody else must have started, the step is to be refused.
        invocation: Option<[u8; 16]>,
    },
    /// Put a message in the durable outbox, under this id at most once, and answer
    /// [`super::Input::StepDone`] once it is there; delivering it has retries of its own.
    Notify {
        /// The id of the `notify` step.
        action: ActionId,
        /// Who, by the name in the configuration.
        to: String,
        /// About which decision.
        decision: DecisionId,
        /// The message: its first line is the subject.
        text: String,
    },
    /// Ask what became of an action whose answer was lost; answer [`super::Input::StepStatus`].
    /// If it is still running, wait for it and answer `StepDone` as well.
    AskStatus {
        /// Which.
        action: ActionId,
        /// What it was: `notify` is asked of the outbox, all else of the actuator.
        step: Step,
    },
    /// Undo an action; answer [`super::Input::UndoDone`].
    Undo {
        /// Carried out at most once under this id.
        action: ActionId,
        /// Which action is to be undone.
        of: ActionId,
    },
    /// Ask the collector for a lease; answer `LeaseGranted` or `LeaseDenied`, or nothing.
    RequestLease {
        /// Names the request, and the decision that will use it.
        decision: DecisionId,
        /// What is wrong …
        kind: FindingKind,
        /// … with what.
        subject: Subject,
        /// Share of the hosts, 0 to 1, that the policy lets act on this kind at once.
        share: f64,
    },
    /// An operator's order was carried out or refused; tell the collector.
    OrderDone {
        /// Which.
        id: OrderId,
        /// Whether it was carried out.
        done: bool,
        /// What became of it, or why not.
        text: String,
    },
    /// Tell the collector now, if a session stands, and again whenever one begins.
    PolicyState(PolicyState),
    /// Put something in the spool.
    Emit(Item),
    /// Read this much of the host from now on; everything, until it is first said.
    Read(Reading),
    /// These are the probes from now on, and no others.
    SetProbes(Vec<ProbeSpec>),
    /// Keep these bytes durably, instead of those before: [`super::Restored`] wants them back.
    StorePolicy(Vec<u8>),
    /// Read a snapshot of what was learned; answer [`super::Input::SnapshotRead`].
    ReadSnapshot {
        /// For which order.
        id: OrderId,
        /// Which, by the moment at which it was taken; `None`: the newest that can be read.
        at_ms: Option<i64>,
    },
    /// Keep what was learned until now among the snapshots, before it is changed.
    KeepSnapshot {
        /// Before what.
        why: SnapshotWhy,
        /// [`super::Agent::snapshot`] from before.
        bytes: Vec<u8>,
    },
    /// Keep these bytes durably, instead of those before: [`super::Restored`] wants them back as
    /// what was learned.
    StoreLearned(Vec<u8>),
    /// Keep a minute of the flight recorder in the ring on disk, instead of the oldest there.
    StoreChunk(Vec<u8>),
    /// Cut the seconds around a finding out of the ring, and put them in the spool.
    CutRecording {
        /// Which seconds, for which finding.
        window: Box<Window>,
        /// What was recorded since the last [`Effect::StoreChunk`], as a chunk.
        tail: Option<Vec<u8>>,
    },
    /// The line for `STATUS=`; only when it changed.
    Status(Status),
}

/// Whose policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InForce {
    /// The built-in one, which only observes.
    #[default]
    BuiltIn,
    /// Root's own rules, on a host that is not enrolled.
    Roots,
    /// An operator's, of this generation.
    Signed(u64),
}

impl InForce {
    /// Its generation; 0 if no operator signed it.
    #[must_use]
    pub fn generation(self) -> u64 {
        if let Self::Signed(generation) = self { generation } else { 0 }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("observing only (built-in policy)"),
            Self::Roots => f.write_str("root's own rules (not enrolled)"),
            Self::Signed(generation) => write!(f, "policy generation {generation}"),
        }
    }
}

/// Where the agent stands, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Whose policy is in force.
    pub in_force: InForce,
    /// Findings that are open.
    pub findings_open: usize,
    /// Actions that are being carried out or proved.
    pub acting: usize,
    /// Why nothing would be done now, if so: `hold file`, `ledger cannot be written`.
    pub held: Option<String>,
    /// Whether a session with the collector stands.
    pub uplink: bool,
    /// For how many more hours the host is learned before anything unusual is told; `None`: it is known.
    pub learning_hours: Option<u64>,
    /// How many steps down the agent reads less of the host, to keep its budget; 0: it reads everything.
    pub steps_down: u8,
}

impl fmt::Display for Status {
    /// `policy generation 7, 2 findings open, 1 acting, connected`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.findings_open == 1 { "" } else { "s" };
        write!(f, "{}, {} finding{s} open", self.in_force, self.findings_open)?;
        if self.acting > 0 {
            write!(f, ", {} acting", self.acting)?;
        }
        if let Some(held) = &self.held {
            write!(f, ", held: {held}")?;
        }
        if self.steps_down > 0 {
            write!(f, ", over its budget: reads less (step {} of {})", self.steps_down, Depth::CoreOnly.steps())?;
        }
        f.write_str(if self.uplink { ", connected" } else { ", collector away" })?;
        match self.learning_hours {
            Some(hours) => write!(f, ", learning for {hours} h more"),
            None => Ok(()),
        }
    }
}
