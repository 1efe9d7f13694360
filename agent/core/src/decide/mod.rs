//! Deciding: a finding, a policy, what was done before and what is true of the host now, in; a [`Decision`] out.
//!
//! [`decide`] is a pure function. It finds the rule, takes the rung of its ladder that is due, and asks every guard; the
//! first that refuses gives the reason for holding. It never changes the [`Book`]: that follows from records alone
//! ([`Book::apply`]), so what is remembered is what is durable, and a crash between deciding and recording forgets both.

mod book;
mod budget;
mod corroboration;
mod facts;
mod guards;
mod ladder;
mod snapshot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::decision::{Choice, Decision, HoldReason, Mode, Verdict};
use crate::finding::Finding;
use crate::id::{ActionId, DecisionId, IdSource};
use crate::plan::{DiskReclaim, Plan, PlannedStep, Step};
use crate::policy::{Policy, RungAction};
use crate::subject::Subject;
use crate::time::Now;

pub use book::{Answer, Asked, Book, Running};
pub use corroboration::Standing;
pub(crate) use corroboration::bears_out;
pub use facts::{Facts, Fleet};
pub(crate) use guards::may_justify_action;

/// How long a plan may take before it is proved or given up, besides the time that its rule gives for proving it. After
/// that nothing waits for it any more: whoever carried it out is gone.
pub const STEPS_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// Decides about one finding. The answer is to be recorded, and the record applied to the book, before anything else is
/// decided; unless it [`says_the_same`] as the last one about this finding.
#[must_use]
pub fn decide(
    finding: &Finding,
    policy: &Policy,
    book: &Book,
    facts: &Facts,
    now: Now,
    ids: &mut IdSource,
) -> Decision {
    let mut decision = Decision {
        id: DecisionId(ids.next_u64()),
        at: now,
        finding: finding.id,
        kind: finding.kind,
        subject: finding.subject.clone(),
        opened: finding.opened,
        confidence: finding.confidence,
        evidence: finding.evidence.clone(),
        rule: None,
        policy: policy.reference,
        mode: Mode::Observe,
        verdicts: Vec::new(),
        choice: Choice::Hold { reason: HoldReason::NoRule, would: None },
    };
    let Some(rule) = policy.rule_for(finding, &facts.labels) else { return decision };
    decision.rule = Some(rule.name.clone());
    decision.mode = rule.mode;
    let question = guards::Question { finding, policy, rule: &rule, book, facts, now };
    (decision.verdicts, decision.choice) = choose(&question, ids);
    decision
}

/// Whether two decisions about a finding differ in nothing that anybody needs to know: the same rule, policy, rung and
/// choice. Then the second one need not be recorded.
#[must_use]
pub fn says_the_same(a: &Decision, b: &Decision) -> bool {
    let told = |decision: &Decision| match &decision.choice {
        Choice::Act(plan) => (None, Some(plan.hash())),
        Choice::Hold { reason, would } => (Some(*reason), would.as_ref().map(Plan::hash)),
    };
    (a.finding, &a.rule, a.mode, a.policy) == (b.finding, &b.rule, b.mode, b.policy) && told(a) == told(b)
}

/// Whether an operator should be asked to approve: nothing but the missing approval holds the plan back.
#[must_use]
pub fn asks_approval(decision: &Decision) -> bool {
    matches!(decision.choice, Choice::Hold { reason: HoldReason::NeedsApproval, would: Some(_) })
        && decision.verdicts.iter().filter(|verdict| !verdict.pass).count() == 1
}

/// Takes the rung that is due and asks the guards. A message that stands before it goes first; where the guards refuse, one
/// that stands after it goes ahead: a message is not held up by an action that cannot be carried out.
fn choose(question: &guards::Question<'_>, ids: &mut IdSource) -> (Vec<Verdict>, Choice) {
    let Some(next) = ladder::next(question) else {
        // No rung at all, or none that makes sense for the subject: only an observing rule is read that way.
        return (Vec::new(), Choice::Hold { reason: HoldReason::ObserveOnly, would: None });
    };
    let (before, after): (Vec<_>, Vec<_>) =
        ladder::messages(question).into_iter().partition(|message| message.index < next.index);
    for first in &before {
        if let (verdicts, None) = guards::ask_all(question, first) {
            return (verdicts, Choice::Act(plan(question, first, action(ids))));
        }
    }
    let (verdicts, refused) = guards::ask_all(question, &next);
    let Some(reason) = refused else {
        return (verdicts, Choice::Act(plan(question, &next, action(ids))));
    };
    for instead in &after {
        if let (verdicts, None) = guards::ask_all(question, instead) {
            return (verdicts, Choice::Act(plan(question, instead, action(ids))));
        }
    }
    let would = (next.state != ladder::State::Exhausted).then(|| plan(question, &next, action(ids)));
    (verdicts, Choice::Hold { reason, would })
}

fn action(ids: &mut IdSource) -> ActionId {
    ActionId(ids.next_u64())
}

fn plan(question: &guards::Question<'_>, candidate: &ladder::Candidate<'_>, action: ActionId) -> Plan {
    let step = step(&candidate.rung.action, &question.finding.subject);
    Plan {
        steps: step.map(|step| PlannedStep { action, step }).into_iter().collect(),
        risk: candidate.rung.action.risk(question.finding.kind),
        verify: question.rule.verify,
        rung: candidate.index,
    }
}

/// The step that a rung is, for a subject; `None` if the action makes no sense for it.
fn step(action: &RungAction, subject: &Subject) -> Option<Step> {
    let unit = || match subject {
        Subject::Unit(unit) => Some(unit.clone()),
        _ => None,
    };
    Some(match action {
        RungAction::UnitRestart(reset_failed) => Step::UnitRestart { unit: unit()?, reset_failed: *reset_failed },
        RungAction::UnitStart(reset_failed) => Step::UnitStart { unit: unit()?, reset_failed: *reset_failed },
        RungAction::UnitStop => Step::UnitStop { unit: unit()? },
        RungAction::UnitReload => Step::UnitReload { unit: unit()? },
        RungAction::DiskReclaim { from, until_used_ratio, undo } => match subject {
            Subject::Mount(mount) => Step::DiskReclaim(DiskReclaim {
                mount: mount.clone(),
                from: from.clone(),
                until_used_ratio: *until_used_ratio,
                undo: *undo,
            }),
            _ => return None,
        },
        RungAction::Notify { to } => Step::Notify { to: to.clone() },
    })
}
