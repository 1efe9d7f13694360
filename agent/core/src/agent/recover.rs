//! Picking up after a crash: plans that the ledger shows begun and not ended.
//!
//! Nothing is ever run again from here. A step whose intent has no outcome is asked after; what
//! nobody can answer becomes [`Ended::Unknown`], and the finding is decided afresh.

use std::collections::BTreeMap;

use super::act::unknown;
use super::flow::{Flow, Stage, is_message};
use super::proof::Proof;
use super::{Agent, Effect};
use crate::decision::{Choice, Decision};
use crate::id::{ActionId, DecisionId};
use crate::plan::Plan;
use crate::record::{Body, Ended, Outcome, Record, Verification};
use crate::time::Now;

/// What the ledger says of one decision to act that has not been proved or given up.
#[derive(Debug)]
struct Begun<'r> {
    /// The decision, if it stands in what was read of the ledger.
    decision: Option<(&'r Decision, &'r Plan)>,
    /// How each step that was to be taken ended, in their order; `None` where nothing says.
    steps: Vec<(ActionId, Option<&'r Outcome>)>,
}

impl Agent {
    /// Finds what the ledger shows begun and goes on with it, or ends it.
    pub(super) fn recover(&mut self, records: &[Record], now: Now) {
        for (decision, begun) in begun(records) {
            match begun.decision {
                Some((decided, plan)) => self.resume(decided, plan, &begun.steps, now),
                None => self.close_orphans(decision, &begun.steps, now),
            }
        }
    }

    fn resume(&mut self, decided: &Decision, plan: &Plan, steps: &[(ActionId, Option<&Outcome>)], now: Now) {
        let Some((action, outcome)) = steps.last() else { return self.never_begun(decided, plan, now) };
        let Some(at) = plan.steps.iter().position(|step| step.action == *action) else { return };
        let mut flow = Flow::begun(decided, plan.clone(), self.words(decided), [].into());
        flow.at = at;
        flow.is_on_record = true;
        let is_last = at + 1 == plan.steps.len();
        match outcome {
            None => {
                self.effects.push_back(Effect::AskStatus { action: *action, step: plan.steps[at].step.clone() });
                flow.stage = Stage::asked(now);
                self.flows.insert(decided.id, flow);
            }
            Some(Outcome { ended: Ended::Done, .. }) if is_last && is_message(plan) => {}
            Some(Outcome { ended: Ended::Done, .. }) if is_last => {
                flow.stage = Stage::Proving(Proof::new(plan.verify, now));
                self.flows.insert(decided.id, flow);
            }
            // It ended with its outcome.
            Some(Outcome { ended: Ended::Failed | Ended::Refused | Ended::Unknown, .. }) => {}
            Some(Outcome { ended: Ended::Done, .. }) => {
                let text = format!("broken off after step {} of {}: the agent was restarted", at + 1, plan.steps.len());
                self.verified(decided.id, Verification::not_helped(text), now);
            }
        }
    }

    /// The decision is durable, its first intent is not: nothing was handed over.
    fn never_begun(&mut self, decided: &Decision, plan: &Plan, now: Now) {
        let Some(first) = plan.steps.first() else { return };
        let text = "not carried out: the agent was restarted before its intent was durable".to_owned();
        let outcome = Outcome { text, ..unknown(Ended::Refused) };
        self.record(Body::Outcome { decision: decided.id, action: first.action, outcome }, now);
    }

    /// Ends steps whose decision is older than what was read: nothing can be proved of them.
    fn close_orphans(&mut self, decision: DecisionId, steps: &[(ActionId, Option<&Outcome>)], now: Now) {
        for (action, outcome) in steps {
            if outcome.is_none() {
                let text = "its decision is older than what was read of the ledger".to_owned();
                let outcome = Outcome { text, ..unknown(Ended::Unknown) };
                self.record(Body::Outcome { decision, action: *action, outcome }, now);
            }
        }
    }
}

/// The decisions to act that have neither been proved nor given up, with the steps begun.
fn begun(records: &[Record]) -> BTreeMap<DecisionId, Begun<'_>> {
    let mut all: BTreeMap<DecisionId, Begun<'_>> = BTreeMap::new();
    let new = || Begun { decision: None, steps: Vec::new() };
    for record in records {
        match &record.body {
            Body::Decided(decided) => {
                if let Choice::Act(plan) = &decided.choice {
                    all.entry(decided.id).or_insert_with(new).decision = Some((decided, plan));
                }
            }
            Body::Intent { decision, action, .. } => {
                all.entry(*decision).or_insert_with(new).steps.push((*action, None));
            }
            Body::Outcome { decision, action, outcome } => {
                let steps = all.entry(*decision).or_insert_with(new);
                match steps.steps.iter_mut().find(|(id, _)| id == action) {
                    Some(step) => step.1 = Some(outcome),
                    None => steps.steps.push((*action, Some(outcome))),
                }
            }
            Body::Verified { decision, .. } => drop(all.remove(decision)),
            Body::Started { .. }
            | Body::Policy { .. }
            | Body::Answered { .. }
            | Body::Hold { .. }
            | Body::Undone { .. }
            | Body::Learning { .. } => {}
        }
    }
    all
}
