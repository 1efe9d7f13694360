//! What the shell tells the state machine: one closed list.
//!
//! Every input is a fact that already happened. None of them is trusted beyond what it is: a
//! signed thing is verified inside, and an answer about an unknown action is ignored.

use std::time::Duration;

use crate::budget::{Limits, Usage};
use crate::id::{ActionId, DecisionId};
use crate::policy::signed::Signed;
use crate::record::{Author, Outcome};
use crate::sample::{Sample, Unit};
use crate::subject::UnitName;

/// Names one [`super::Effect::Persist`] until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A policy file of root's, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceFile {
    /// Its path, as it is to stand in messages.
    pub name: String,
    /// Its content; whether it is UTF-8 is found out here.
    pub bytes: Vec<u8>,
}

/// Names an operator's order until it is answered by [`super::Effect::OrderDone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// What the actuator (or, for `notify`, the shell's outbox) knows of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum StepStatus {
    /// It is being carried out; a [`Input::StepDone`] will follow if the shell waits for it.
    Running,
    /// It ended so.
    Ended(Outcome),
    /// It never heard of it, or has forgotten.
    NeverSeen,
}

/// One thing that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// A reading of the host; once a second, or as [`super::Effect::Read`] has it.
    Sample(Box<Sample>),
    /// What the agent itself has used until now; once a second.
    Used(Usage),
    /// What the agent may use was changed.
    BudgetChanged(Limits),
    /// systemd signalled a change of a unit, between two samples.
    UnitChanged {
        /// Which.
        name: UnitName,
        /// What it is like now; `None` when systemd has unloaded it.
        unit: Option<Box<Unit>>,
    },
    /// A record is durable (fsync returned).
    Persisted {
        /// Which.
        token: Token,
    },
    /// A record could not be made durable, and is not in the ledger.
    PersistFailed {
        /// Which.
        token: Token,
        /// The error, for people.
        text: String,
    },
    /// A step that was handed over has ended. For `notify`: the message is durably in the outbox.
    StepDone {
        /// Which.
        action: ActionId,
        /// How.
        outcome: Outcome,
    },
    /// The answer to [`super::Effect::AskStatus`].
    StepStatus {
        /// Of which action.
        action: ActionId,
        /// What is known.
        status: StepStatus,
    },
    /// The answer to [`super::Effect::Undo`].
    UndoDone {
        /// The id under which it was undone, or was to be.
        action: ActionId,
        /// How it went.
        outcome: Outcome,
    },
    /// The collector offers a policy.
    PolicyOffered(Box<Signed>),
    /// The files below `/etc/mainstay/policy.d` changed: all of them, as they are now.
    LocalPolicyChanged(Vec<SourceFile>),
    /// An operator's order came through the collector: an approval, a hold, an undo, or a change of
    /// what was learned.
    Order {
        /// Names it in the answer.
        id: OrderId,
        /// The order.
        signed: Box<Signed>,
    },
    /// The answer to [`super::Effect::ReadSnapshot`].
    SnapshotRead {
        /// For which order.
        id: OrderId,
        /// When the snapshot was taken, and its bytes; or why there is none.
        read: Result<(i64, Vec<u8>), String>,
    },
    /// Whether root's hold file exists.
    HoldFile(bool),
    /// Whether the actuator's socket can be reached.
    ActuatorAvailable(bool),
    /// The collector grants the lease that was asked for.
    LeaseGranted {
        /// For which request.
        decision: DecisionId,
        /// How long from now it may be used.
        expires_in: Duration,
    },
    /// The collector denies the lease that was asked for.
    LeaseDenied {
        /// For which request.
        decision: DecisionId,
        /// Why: `3 of at most 3 hosts (30 in all) act on service.failed within 600 s`.
        text: String,
    },
    /// A session with the collector stands.
    UplinkUp,
    /// There is none.
    UplinkDown,
    /// Root on this host wants an action undone.
    UndoRequested {
        /// Which.
        action: ActionId,
        /// Who.
        by: Author,
    },
    /// Time passed. Spurious ones change nothing.
    Tick,
}
