//! Carrying plans out: from the durable intent to the verdict on whether it helped.

use std::collections::BTreeSet;

use super::flow::{ANSWER_MAX, Flow, Overdue, Stage, is_message};
use super::journal::Waiting;
use super::{Agent, Effect, StepStatus, Token};
use crate::decision::Decision;
use crate::finding::{FindingKind, FindingState};
use crate::id::{ActionId, DecisionId};
use crate::plan::{Plan, Step};
use crate::record::{Body, Ended, Outcome, Record, Verification};
use crate::subject::Subject;
use crate::time::Now;

impl Agent {
    /// Offers a decision to act and the intent of its first step to the ledger. The step follows
    /// when both are durable.
    pub(super) fn begin(&mut self, decision: Decision, plan: Plan, now: Now) {
        let Some(first) = plan.steps.first().cloned() else { return };
        let waiting = Waiting::Intent(decision.id);
        let intent = Body::Intent { decision: decision.id, action: first.action, step: first.step };
        let decided = Record { at: now, body: Body::Decided(Box::new(decision.clone())) };
        let tokens: BTreeSet<Token> =
            [self.offer(decided, waiting), self.offer(Record { at: now, body: intent }, waiting)].into();
        let words = self.words(&decision);
        let invocation = self.run_in_trouble(decision.kind, &decision.subject);
        let flow = Flow { invocation, ..Flow::begun(&decision, plan, words, tokens) };
        self.flows.insert(decision.id, flow);
    }

    /// The ledger took a record.
    pub(super) fn persisted(&mut self, token: Token, now: Now) {
        let Some(answered) = self.journal.persisted(token) else { return };
        self.book.apply(&answered.record);
        match answered.waiting {
            Waiting::Intent(decision) => self.intent_answered(decision, token, None, now),
            Waiting::Order(id) => self.order_recorded(id, Ok(&answered.record)),
            Waiting::Nobody => {}
        }
        self.ledger_known(now);
    }

    /// The ledger refused a record.
    pub(super) fn persist_failed(&mut self, token: Token, text: String, now: Now) {
        let Some(answered) = self.journal.failed(token, text.clone(), now) else { return };
        match answered.waiting {
            Waiting::Intent(decision) => self.intent_answered(decision, token, Some(&text), now),
            Waiting::Order(id) => self.order_recorded(id, Err(text)),
            Waiting::Nobody => {}
        }
        self.ledger_known(now);
    }

    /// An agent that cannot write its ledger does not work as it should: this is a finding.
    fn ledger_known(&mut self, now: Now) {
        let text = self.journal.error().map(|error| format!("the ledger cannot be written: {error}"));
        let events = self.detectors.set_degraded("ledger", text, now);
        self.found(events, now);
    }

    /// Hands the step over if its intent, and the decision before it, are durable.
    fn intent_answered(&mut self, decision: DecisionId, token: Token, failure: Option<&str>, now: Now) {
        let Some(flow) = self.flows.get_mut(&decision) else { return };
        let Some(answer) = flow.recorded(token, failure) else { return };
        let subject = flow.subject.clone();
        let over = flow.is_over_unaided().then(|| "the finding has cleared meanwhile".to_owned());
        match answer.map_or_else(Some, |()| over.or_else(|| self.stopped(&subject, now))) {
            None => self.hand_over(decision, now),
            Some(why) => self.not_run(decision, &why, now),
        }
    }

    /// The run of a unit that trouble of this kind is about. A unit that starts again and again is in trouble as a
    /// whole, whichever run it is in.
    fn run_in_trouble(&self, kind: FindingKind, subject: &Subject) -> Option<[u8; 16]> {
        match subject {
            Subject::Unit(unit) if kind != FindingKind::ServiceCrashLoop => self.detectors.invocation(unit),
            _ => None,
        }
    }

    /// What has come up since the decision that keeps a step from being handed over.
    fn stopped(&self, subject: &Subject, now: Now) -> Option<String> {
        if self.hold_file {
            return Some(format!("{} appeared", super::HOLD_FILE));
        }
        let unit = match subject {
            Subject::Unit(unit) => unit.as_str(),
            _ => "host",
        };
        let held = self.book.holds(now).find(|(scope, ..)| matches!(*scope, "fleet" | "host") || *scope == unit);
        held.map(|(scope, _, by)| format!("{scope} was held by {}", by.name))
    }

    /// A step is not carried out. Where the ledger says that it was about to be, this is said too.
    fn not_run(&mut self, decision: DecisionId, why: &str, now: Now) {
        let Some(flow) = self.flows.remove(&decision) else { return };
        let Some(step) = flow.step() else { return };
        if flow.is_on_record {
            let outcome = Outcome { text: format!("not carried out: {why}"), ..unknown(Ended::Refused) };
            self.record(Body::Outcome { decision, action: step.action, outcome }, now);
        }
    }

    fn hand_over(&mut self, decision: DecisionId, now: Now) {
        let Some(flow) = self.flows.get_mut(&decision) else { return };
        let Some(planned) = flow.step().cloned() else { return };
        flow.handed_over(now);
        let (action, invocation) = (planned.action, flow.invocation.filter(|_| flow.at == 0));
        if let Some(subject) = changes(&planned.step) {
            self.detectors.mark_effect(&subject, action, ANSWER_MAX, now);
        }
        self.effects.push_back(match planned.step {
            Step::Notify { to } => Effect::Notify { action, to, decision, text: flow.message.clone() },
            step => Effect::Run { action, decision, step, invocation },
        });
    }

    /// A step ended. Answers about actions that nobody waits for change nothing.
    pub(super) fn step_done(&mut self, action: ActionId, outcome: Outcome, now: Now) {
        let Some(flow) = self.flows.values_mut().find(|flow| flow.running() == Some(action)) else { return };
        let decision = flow.decision;
        let ended = outcome.ended;
        let what = flow.step().map(|step| format!("{}: {}", step.step.kind(), outcome.text)).unwrap_or_default();
        self.detectors.effect_over(action);
        self.record(Body::Outcome { decision, action, outcome }, now);
        match ended {
            Ended::Done => self.next_step(decision, now),
            Ended::Failed => self.verified(decision, Verification::not_helped(what), now),
            // What root does not allow was not done: no harm that a policy on trial would be given up for.
            Ended::Refused => self.close(decision, Verification::not_helped(what), now),
            Ended::Unknown => drop(self.flows.remove(&decision)),
        }
    }

    /// Goes on after a step that was done: the next one, or the proof.
    fn next_step(&mut self, decision: DecisionId, now: Now) {
        let Some(flow) = self.flows.get_mut(&decision) else { return };
        flow.at += 1;
        if let Some(next) = flow.step().cloned() {
            let subject = flow.subject.clone();
            if let Some(why) = self.stopped(&subject, now) {
                return self.verified(decision, Verification::not_helped(format!("broken off: {why}")), now);
            }
            let intent = Body::Intent { decision, action: next.action, step: next.step };
            let token = self.offer(Record { at: now, body: intent }, Waiting::Intent(decision));
            if let Some(flow) = self.flows.get_mut(&decision) {
                flow.stage = Stage::Recording { tokens: [token].into(), refused: None };
                flow.is_on_record = false;
            }
        } else if is_message(&flow.plan) {
            self.flows.remove(&decision); // a message mends nothing that could be proved
        } else {
            flow.proving(now);
        }
    }

    /// The actuator or the outbox said what it knows of a step.
    pub(super) fn step_status(&mut self, action: ActionId, status: StepStatus, now: Now) {
        match status {
            StepStatus::Ended(outcome) => self.step_done(action, outcome, now),
            StepStatus::NeverSeen if self.is_message(action) => self.hand_over_again(action, now),
            StepStatus::NeverSeen => {
                let text = "nobody knows of it any more, or it never arrived".to_owned();
                self.step_done(action, Outcome { text, ..unknown(Ended::Unknown) }, now);
            }
            StepStatus::Running => {
                if let Some(flow) = self.flows.values_mut().find(|flow| flow.running() == Some(action)) {
                    flow.still_running(now);
                }
            }
        }
    }

    fn is_message(&self, action: ActionId) -> bool {
        let flow = self.flows.values().find(|flow| flow.running() == Some(action));
        flow.and_then(Flow::step).is_some_and(|planned| planned.step.is_message())
    }

    /// The outbox is this agent's own and forgets nothing: what it never heard of was not sent,
    /// and under the same id it takes it at most once.
    fn hand_over_again(&mut self, action: ActionId, now: Now) {
        let flow = self.flows.values().find(|flow| flow.running() == Some(action));
        if let Some(decision) = flow.map(|flow| flow.decision) {
            self.hand_over(decision, now);
        }
    }

    /// The actuator came or went: answers may have been lost.
    pub(super) fn actuator_available(&mut self, available: bool, now: Now) {
        if self.actuator != available {
            self.actuator = available;
            for flow in self.flows.values_mut() {
                flow.ask_soon(now);
            }
        }
    }

    /// Asks after steps whose answer does not come, and gives up those that nobody knows of.
    pub(super) fn ask_overdue(&mut self, now: Now) {
        let mut given_up = Vec::new();
        for flow in self.flows.values_mut() {
            let Some(action) = flow.running() else { continue };
            let Some(step) = flow.step().map(|planned| planned.step.clone()) else { continue };
            match flow.overdue(now) {
                Overdue::No => {}
                Overdue::Ask => self.effects.push_back(Effect::AskStatus { action, step }),
                Overdue::GiveUp => given_up.push(action),
            }
        }
        for action in given_up {
            let text = "no answer, and none to be had".to_owned();
            self.step_done(action, Outcome { text, ..unknown(Ended::Unknown) }, now);
        }
    }

    /// The host was sampled: what is still well is proved a little more.
    pub(super) fn flows_sampled(&mut self, now: Now) {
        let standing: BTreeSet<_> =
            self.detectors.open_findings().map(|finding| (finding.kind, finding.subject.clone())).collect();
        for flow in self.flows.values_mut() {
            if !standing.contains(&(flow.kind, flow.subject.clone())) {
                flow.cleared.get_or_insert(now); // nothing was restored of it, and nothing is to be seen
            }
            if let Stage::Proving(proof) = &mut flow.stage {
                proof.sampled(now);
            }
        }
    }

    /// Ends the proofs that are complete or out of time.
    pub(super) fn prove(&mut self, now: Now) {
        let unknown: BTreeSet<_> = self
            .detectors
            .open_findings()
            .filter(|finding| finding.state == FindingState::Unknown)
            .map(|finding| (finding.kind, finding.subject.clone()))
            .collect();
        let verdicts: Vec<_> = self
            .flows
            .values()
            .filter_map(|flow| {
                let Stage::Proving(proof) = &flow.stage else { return None };
                let is_known = !unknown.contains(&(flow.kind, flow.subject.clone()));
                let verdict = proof.verdict(flow.plan.verify, flow.opened, flow.cleared, is_known, now)?;
                Some((flow.decision, verdict))
            })
            .collect();
        for (decision, verdict) in verdicts {
            self.verified(decision, verdict, now);
        }
    }

    /// Records the verdict on a plan, which ends it, and counts it if it did not help.
    pub(super) fn verified(&mut self, decision: DecisionId, verification: Verification, now: Now) {
        if let (Some(flow), false) = (self.flows.get(&decision), verification.recovered) {
            self.policy.action_failed(&flow.subject, now);
        }
        self.close(decision, verification, now);
    }

    fn close(&mut self, decision: DecisionId, verification: Verification, now: Now) {
        self.flows.remove(&decision);
        self.record(Body::Verified { decision, verification }, now);
    }
}

/// The subject that a step changes on its way, so that what is found on it meanwhile is its effect.
fn changes(step: &Step) -> Option<Subject> {
    step.unit().cloned().map(Subject::Unit)
}

/// An outcome of which nothing is known but how it ended.
pub(super) fn unknown(ended: Ended) -> Outcome {
    Outcome { ended, text: String::new(), elapsed_ms: 0, freed_bytes: None }
}

impl Verification {
    pub(super) fn not_helped(text: String) -> Self {
        Self { recovered: false, text, down_ms: None }
    }
}
