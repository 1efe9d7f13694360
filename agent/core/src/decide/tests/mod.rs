//! What deciding promises.

mod guards;
mod properties;
mod stories;

use std::time::Duration;

use super::{Book, Facts, decide};
use crate::decision::{Choice, Decision, Guard, HoldReason, Verdict};
use crate::finding::{Finding, FindingKind, FindingState, Severity};
use crate::id::{BootId, DecisionId, FindingId, IdSource};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::record::{Author, Body, Ended, Outcome, Record, Verification};
use crate::subject::Subject;
use crate::time::Now;

pub(super) const BOOT: BootId = BootId([1; 16]);

/// 2026-11-23 12:00:00 UTC, a Monday.
const NOON_MS: i64 = 1_795_435_200_000;

/// So many seconds after boot; the wall clock runs along from noon.
pub(super) fn at(seconds: u64) -> Now {
    Now { boot_ns: seconds * 1_000_000_000, wall_ms: NOON_MS + i64::try_from(seconds).unwrap() * 1000 }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A policy of one rule about failed services and one about full disks, with more lines for the first.
pub(super) fn policy(lines: &str) -> Policy {
    let text = format!(
        "version = 1\n[[rule]]\nname = \"web\"\non = [\"service.failed\", \"service.hung\", \"service.crash_loop\"]\nunits = [\"*.service\", \"dbus.*\"]\n{lines}\n"
    );
    Policy::parse(&[("web.toml", &text)]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(super) fn auto(lines: &str) -> Policy {
    policy(&format!("mode = \"auto\"\nladder = [{{ do = \"unit.restart\" }}]\n{lines}"))
}

pub(super) fn finding(unit: &str) -> Finding {
    Finding {
        id: FindingId(1),
        kind: FindingKind::ServiceFailed,
        subject: Subject::Unit(unit.parse().unwrap()),
        severity: Severity::Critical,
        confidence: 1.0,
        state: FindingState::Open,
        opened: at(100),
        changed: at(100),
        evidence: Vec::new(),
        effect_of: None,
    }
}

pub(super) fn by(name: &str) -> Author {
    Author { name: name.to_owned(), reason: "because".to_owned() }
}

/// A host that decides and remembers, as the state machine does.
pub(super) struct Host {
    pub(super) policy: Policy,
    pub(super) book: Book,
    pub(super) facts: Facts,
    pub(super) records: Vec<Record>,
    ids: IdSource,
}

impl Host {
    pub(super) fn new(policy: Policy) -> Self {
        let mut host =
            Self { policy, book: Book::default(), facts: Facts::default(), records: Vec::new(), ids: IdSource::new(1) };
        host.record(at(0), Body::Started { boot: BOOT, version: "1".into() });
        host
    }

    pub(super) fn record(&mut self, at: Now, body: Body) {
        let record = Record { at, body };
        self.book.apply(&record);
        self.records.push(record);
    }

    /// Asks without recording.
    pub(super) fn ask(&mut self, finding: &Finding, now: Now) -> Decision {
        decide(finding, &self.policy, &self.book, &self.facts, now, &mut self.ids)
    }

    /// Decides and records.
    pub(super) fn decide(&mut self, finding: &Finding, now: Now) -> Decision {
        let decision = self.ask(finding, now);
        self.record(now, Body::Decided(Box::new(decision.clone())));
        decision
    }

    pub(super) fn verified(&mut self, decision: &Decision, recovered: bool, now: Now) {
        let verification = Verification { recovered, text: String::new(), down_ms: None };
        self.record(now, Body::Verified { decision: decision.id, verification });
    }

    pub(super) fn ended(&mut self, decision: &Decision, ended: Ended, now: Now) {
        let outcome = Outcome { ended, text: String::new(), elapsed_ms: 1, freed_bytes: None };
        let action = plan(decision).unwrap().steps[0].action;
        self.record(now, Body::Outcome { decision: decision.id, action, outcome });
    }

    pub(super) fn answered(&mut self, decision: DecisionId, approved: bool, until: Now, now: Now) {
        self.record(now, Body::Answered { decision, approved, until_ms: until.wall_ms, by: by("ana") });
    }
}

/// The plan that is carried out, if one is.
pub(super) fn plan(decision: &Decision) -> Option<&Plan> {
    match &decision.choice {
        Choice::Act(plan) => Some(plan),
        Choice::Hold { .. } => None,
    }
}

/// What is done, in short: `unit.restart nginx.service`, or the reason for doing nothing.
pub(super) fn told(decision: &Decision) -> String {
    match &decision.choice {
        Choice::Act(plan) => plan.steps.iter().map(|planned| planned.step.to_string()).collect::<Vec<_>>().join(", "),
        Choice::Hold { reason, .. } => reason.to_string(),
    }
}

pub(super) fn reason(decision: &Decision) -> Option<HoldReason> {
    match &decision.choice {
        Choice::Act(_) => None,
        Choice::Hold { reason, .. } => Some(*reason),
    }
}

pub(super) fn verdict(decision: &Decision, guard: Guard) -> &Verdict {
    decision.verdicts.iter().find(|verdict| verdict.guard == guard).unwrap()
}
