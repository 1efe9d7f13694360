//! Asking [`decide`] about every finding that stands, and recording what it says when it says
//! something new.
//!
//! While the decision and the intent of one plan are on their way into the ledger nothing else is
//! decided: the book learns from durable records only, and two plans decided in the same moment
//! could together exceed a budget that each of them keeps.

use std::time::Duration;

use super::{Agent, Effect, message};
use crate::decide::{Facts, Fleet, Standing, bears_out, decide, says_the_same};
use crate::decision::{Choice, Decision, HoldReason};
use crate::finding::{Finding, FindingKind, FindingState};
use crate::id::{ActionId, DecisionId};
use crate::record::Body;
use crate::subject::Subject;
use crate::time::Now;

/// A collector that has not answered for a lease by then counts as being away.
const LEASE_ANSWER_MAX: Duration = Duration::from_secs(5);

/// After a refusal the collector is not asked again before this has passed; nor, when it did not
/// answer, does it count as being there.
const LEASE_RETRY: Duration = Duration::from_secs(30);

/// What is known about a lease that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// It was asked for under this name and may still come.
    Until { request: DecisionId, at: Now },
    /// No answer came: the collector counts as away for this kind.
    Silent { until: Now },
}

impl Agent {
    /// Decides about every finding that stands.
    pub(super) fn evaluate(&mut self, now: Now) {
        self.asking.retain(|_, asking| match asking {
            Asking::Until { .. } => true,
            Asking::Silent { until } => now.boot_ns < until.boot_ns,
        });
        let findings: Vec<Finding> = self.detectors.open_findings().cloned().collect();
        let stands = |kind: FindingKind, subject: &Subject| {
            findings.iter().any(|finding| finding.kind == kind && finding.subject == *subject)
        };
        self.said.retain(|(kind, subject), _| stands(*kind, subject));
        for mut finding in findings {
            if !self.journal.is_clear() {
                return; // what comes back from the ledger brings us here again
            }
            // Trouble that outlives the step which it came with is trouble of its own.
            finding.effect_of = finding.effect_of.filter(|action| self.is_running(*action));
            self.evaluate_one(&finding, now);
        }
    }

    fn evaluate_one(&mut self, finding: &Finding, now: Now) {
        let facts = self.facts(finding.kind, now);
        // Identifiers are used up only by decisions that are recorded: asking again is free.
        let mut ids = self.ids.clone();
        let decision = decide(finding, &self.policy.effective, &self.book, &facts, now, &mut ids);
        match &decision.choice {
            Choice::Act(plan) if !plan.steps.is_empty() => {
                self.ids = ids;
                let plan = plan.clone();
                self.said.insert((finding.kind, finding.subject.clone()), decision.clone());
                self.begin(decision, plan, now);
            }
            Choice::Hold { reason: HoldReason::LeasePending, .. } => {
                if !self.asking.contains_key(&finding.kind) {
                    self.ids = ids;
                    self.ask_for_lease(&decision, now);
                }
            }
            // What is held while it is being mended goes without saying.
            Choice::Hold { .. } if self.is_mending(finding) => {}
            Choice::Act(_) | Choice::Hold { .. } => {
                let key = (finding.kind, finding.subject.clone());
                if self.said.get(&key).is_none_or(|said| !says_the_same(said, &decision)) {
                    self.ids = ids;
                    self.said.insert(key, decision.clone());
                    if let (Choice::Hold { reason: HoldReason::BudgetSpent, .. }, Some(rule)) =
                        (&decision.choice, &decision.rule)
                    {
                        self.policy.budget_exhausted(rule, &finding.subject);
                    }
                    self.record(Body::Decided(Box::new(decision)), now);
                }
            }
        }
    }

    /// Whether a step is being carried out, as far as is known.
    fn is_running(&self, action: ActionId) -> bool {
        self.flows.values().any(|flow| flow.running() == Some(action))
    }

    /// Whether a plan about this very trouble is on its way.
    fn is_mending(&self, finding: &Finding) -> bool {
        self.flows.values().any(|flow| flow.kind == finding.kind && flow.subject == finding.subject)
    }

    /// What is true of the host now, for a decision about a finding of this kind.
    fn facts(&self, kind: FindingKind, now: Now) -> Facts {
        let fleet = match (self.settings.host, self.uplink, self.asking.get(&kind)) {
            (None, ..) => Fleet::Alone,
            (Some(_), false, _) => Fleet::Away,
            (Some(_), true, Some(Asking::Silent { until })) if now.boot_ns < until.boot_ns => Fleet::Away,
            (Some(_), true, _) => Fleet::Connected,
        };
        Facts {
            labels: self.settings.facts.labels.clone(),
            observe_only: self.settings.observe_only.clone().or_else(|| self.policy.local_error.clone()),
            hold_file: self.hold_file.then(|| super::HOLD_FILE.to_owned()),
            actuator_down: (!self.actuator).then(|| "its socket does not answer".to_owned()),
            ledger_down: self.journal.error().map(str::to_owned),
            fleet,
            standing: self.standing(),
        }
    }

    /// Open findings that can bear out a learned one. What has become unknown bears nothing out.
    fn standing(&self) -> Vec<Standing> {
        let open = self.detectors.open_findings();
        let sound = open.filter(|finding| finding.state == FindingState::Open && bears_out(finding.kind));
        sound.map(|finding| Standing { kind: finding.kind, subject: finding.subject.clone() }).collect()
    }

    fn ask_for_lease(&mut self, decision: &Decision, now: Now) {
        let at = now.plus(LEASE_ANSWER_MAX);
        self.asking.insert(decision.kind, Asking::Until { request: decision.id, at });
        self.effects.push_back(Effect::RequestLease {
            decision: decision.id,
            kind: decision.kind,
            subject: decision.subject.clone(),
            share: self.policy.effective.hosts_ratio(),
        });
    }

    /// The collector answered: `Ok` with the time that the lease may be used, or why not.
    pub(super) fn lease_answered(&mut self, request: DecisionId, answer: Result<Duration, String>, now: Now) {
        let is_asked = |asking: &Asking| matches!(asking, Asking::Until { request: id, .. } if *id == request);
        let Some(kind) = self.asking.iter().find(|(_, asking)| is_asked(asking)).map(|(kind, _)| *kind) else {
            return; // too late: what was decided without it stands
        };
        self.asking.remove(&kind);
        match answer {
            Ok(expires_in) => self.book.lease_granted(kind, expires_in, now),
            Err(text) => self.book.lease_denied(kind, LEASE_RETRY, &text, now),
        }
    }

    /// Stops waiting for a lease that does not come.
    pub(super) fn give_up_leases(&mut self, now: Now) {
        let silent = Asking::Silent { until: now.plus(LEASE_RETRY) };
        for asking in self.asking.values_mut() {
            if matches!(asking, Asking::Until { at, .. } if at.boot_ns <= now.boot_ns) {
                *asking = silent;
            }
        }
    }

    /// A session began or ended: what was asked on another one is not answered any more.
    pub(super) fn uplink_changed(&mut self, up: bool) {
        self.uplink = up;
        self.asking.clear();
    }

    /// When a lease that was asked for is late.
    pub(super) fn leases_wakeup(&self) -> Option<u64> {
        let late = |asking: &Asking| match asking {
            Asking::Until { at, .. } => at.boot_ns,
            Asking::Silent { until } => until.boot_ns,
        };
        self.asking.values().map(late).min()
    }

    /// The words of a message about a decision.
    pub(super) fn words(&self, decision: &Decision) -> String {
        message::about(decision, &self.settings.facts.hostname)
    }
}
