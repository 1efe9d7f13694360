//! The words of a message about a decision: its first line is the subject.

use std::fmt::Write as _;

use crate::decision::{Choice, Decision};
use crate::plan::Plan;

/// Most verdicts that are told; the rest is in `mainstay explain`.
const VERDICTS_MAX: usize = 3;

/// What is told about a decision on `hostname`.
pub(super) fn about(decision: &Decision, hostname: &str) -> String {
    let mut text = format!("{hostname}: {} {}\n", decision.kind, decision.subject);
    for evidence in &decision.evidence {
        let _ = writeln!(text, "{}", evidence.text);
    }
    if let Some(rule) = &decision.rule {
        let _ = writeln!(text, "Rule {rule}, mode {}.", decision.mode);
    }
    let refused = decision.verdicts.iter().filter(|verdict| !verdict.pass);
    for verdict in refused.take(VERDICTS_MAX) {
        let _ = writeln!(text, "Held by {}: {}", verdict.guard, verdict.text);
    }
    if let Choice::Hold { would: Some(plan), .. } = &decision.choice {
        let _ = writeln!(text, "Would be done: {}", steps(plan));
    }
    let _ = write!(text, "mainstay explain {}", decision.id);
    text
}

fn steps(plan: &Plan) -> String {
    plan.steps.iter().map(|planned| planned.step.to_string()).collect::<Vec<_>>().join(", then ")
}
