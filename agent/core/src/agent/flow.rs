//! One plan on its way: its intent is recorded, its step is handed over, its effect is proved.
//!
//! The stages follow each other as `Recording → Running → (Recording → Running …) → Proving`, and
//! a flow that has ended is gone. A step is handed over only when [`Flow::recorded`] says so,
//! which it does once for each intent.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::agent::input::Token;
use crate::agent::proof::Proof;
use crate::decision::Decision;
use crate::finding::FindingKind;
use crate::id::{ActionId, DecisionId};
use crate::plan::{Plan, PlannedStep};
use crate::subject::Subject;
use crate::time::Now;

/// A step that has not answered for this long is asked after. Longer than any step may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(15 * 60);

/// Between two questions about the same step.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Questions without an answer after which the outcome is unknown, while the actuator can be
/// reached or cannot: it may have been lost with the machine.
const ASKS_MAX: u32 = 24;

/// Where a plan stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// The intent of the step is on its way into the ledger, the first with the decision itself.
    Recording {
        /// What has not been answered.
        tokens: BTreeSet<Token>,
        /// What was refused, and why.
        refused: Option<String>,
    },
    /// The step was handed over, by this agent or by the one before the last crash.
    Running {
        /// When to ask after it.
        ask_at: Now,
        /// How often it was asked after without an answer.
        asked: u32,
    },
    /// Every step is done.
    Proving(Proof),
}

impl Stage {
    /// A step of which the agent before knew; it has just been asked after.
    pub(super) fn asked(now: Now) -> Self {
        Self::Running { ask_at: now.plus(ASK_EVERY), asked: 1 }
    }
}

/// What is to be done about a step that has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing yet.
    No,
    /// Ask after it.
    Ask,
    /// Its outcome is unknown.
    GiveUp,
}

/// A plan on its way.
#[derive(Debug)]
pub(super) struct Flow {
    /// The decision that it carries out.
    pub(super) decision: DecisionId,
    /// What is wrong …
    pub(super) kind: FindingKind,
    /// … with what.
    pub(super) subject: Subject,
    /// Since when.
    pub(super) opened: Now,
    /// When the finding cleared, while it is clear.
    pub(super) cleared: Option<Now>,
    /// Whether it opened anew while the step at hand was carried out, and has not cleared since.
    pub(super) failed_again: bool,
    /// The run of the unit that is in trouble, where the trouble is that of one run.
    pub(super) invocation: Option<[u8; 16]>,
    /// What is to be done.
    pub(super) plan: Plan,
    /// Which step is at hand.
    pub(super) at: usize,
    /// Where it stands.
    pub(super) stage: Stage,
    /// Whether anything is durable that says that the step at hand is about to be taken.
    pub(super) is_on_record: bool,
    /// The words of the message, if a step is one.
    pub(super) message: String,
}

impl Flow {
    /// Begins with the decision and the first intent on their way into the ledger.
    pub(super) fn begun(decision: &Decision, plan: Plan, message: String, tokens: BTreeSet<Token>) -> Self {
        Self {
            decision: decision.id,
            kind: decision.kind,
            subject: decision.subject.clone(),
            opened: decision.opened,
            cleared: None,
            failed_again: false,
            invocation: None,
            plan,
            at: 0,
            stage: Stage::Recording { tokens, refused: None },
            is_on_record: false,
            message,
        }
    }

    /// Whether the trouble ended by itself, or by somebody's hand, before anything was done about it.
    pub(super) fn is_over_unaided(&self) -> bool {
        self.at == 0 && self.cleared.is_some()
    }

    /// The step at hand.
    pub(super) fn step(&self) -> Option<&PlannedStep> {
        self.plan.steps.get(self.at)
    }

    /// The action of the step at hand, if it was handed over.
    pub(super) fn running(&self) -> Option<ActionId> {
        match self.stage {
            Stage::Running { .. } => self.step().map(|step| step.action),
            Stage::Recording { .. } | Stage::Proving(_) => None,
        }
    }

    /// The ledger answered one record. `Some` when it has answered all: whether the step may be
    /// handed over, or why not.
    pub(super) fn recorded(&mut self, token: Token, failure: Option<&str>) -> Option<Result<(), String>> {
        let Stage::Recording { tokens, refused } = &mut self.stage else { return None };
        self.is_on_record |= failure.is_none();
        tokens.remove(&token);
        if let Some(text) = failure {
            refused.get_or_insert_with(|| text.to_owned());
        }
        tokens.is_empty().then(|| refused.clone().map_or(Ok(()), Err))
    }

    /// Every step is done: what is left is the proof.
    pub(super) fn proving(&mut self, now: Now) {
        let mut proof = Proof::new(self.plan.verify, now);
        if self.failed_again {
            proof.reopened(now);
        }
        self.stage = Stage::Proving(proof);
    }

    /// The trouble that this mends has changed: it is `cleared` since then, or it opened anew.
    pub(super) fn found(&mut self, cleared: Option<Now>, has_opened: bool, now: Now) {
        self.cleared = cleared;
        match &mut self.stage {
            Stage::Proving(proof) if has_opened => proof.reopened(now),
            Stage::Running { .. } => self.failed_again = has_opened || (self.failed_again && cleared.is_none()),
            Stage::Recording { .. } | Stage::Proving(_) => {}
        }
    }

    /// The step is handed over now.
    pub(super) fn handed_over(&mut self, now: Now) {
        self.failed_again = false;
        self.stage = Stage::Running { ask_at: now.plus(ANSWER_MAX), asked: 0 };
    }

    /// The answer may have been lost: ask soon. Not at once, since a step that was just handed
    /// over may not have arrived yet, and would be taken for one that nobody knows of.
    pub(super) fn ask_soon(&mut self, now: Now) {
        if let Stage::Running { ask_at, asked } = &mut self.stage {
            *ask_at = now.plus(ASK_EVERY);
            *asked = 0;
        }
    }

    /// It is still being carried out: ask again later, for as long as it takes.
    pub(super) fn still_running(&mut self, now: Now) {
        if let Stage::Running { ask_at, asked } = &mut self.stage {
            *ask_at = now.plus(ASK_EVERY);
            *asked = 0;
        }
    }

    /// What to do about an answer that does not come. Counts the question that it tells to ask.
    pub(super) fn overdue(&mut self, now: Now) -> Overdue {
        let Stage::Running { ask_at, asked } = &mut self.stage else { return Overdue::No };
        if now.boot_ns < ask_at.boot_ns {
            return Overdue::No;
        }
        *asked += 1;
        if *asked > ASKS_MAX {
            return Overdue::GiveUp;
        }
        *ask_at = now.plus(ASK_EVERY);
        Overdue::Ask
    }

    /// When this flow has something to do by itself.
    pub(super) fn wakeup(&self) -> Option<u64> {
        match &self.stage {
            Stage::Recording { .. } => None,
            Stage::Running { ask_at, .. } => Some(ask_at.boot_ns),
            Stage::Proving(proof) => Some(proof.deadline.boot_ns),
        }
    }
}

/// Whether a plan only tells somebody: there is nothing to be proved afterwards.
pub(super) fn is_message(plan: &Plan) -> bool {
    plan.steps.iter().all(|planned| planned.step.is_message())
}
