//! What programs and people see of the wire: names and units as in the documentation, ids as they
//! are typed, times in RFC 3339 for programs.

use jiff::Timestamp;
use mainstay_core::id::{ActionId, DecisionId, FindingId, HostId, IncidentId};
use mainstay_proto::v1;
use serde::Serialize;

/// A moment for programs: RFC 3339 with milliseconds, or nothing.
pub(crate) fn moment(wall_ms: i64) -> Option<String> {
    if wall_ms == 0 {
        return None;
    }
    Timestamp::from_millisecond(wall_ms).ok().map(|at| format!("{at:.3}"))
}

/// A moment on the wire for programs.
pub(crate) fn moment_of(now: Option<&v1::Now>) -> Option<String> {
    now.and_then(|now| moment(now.wall_ms))
}

/// A host id as it is typed.
pub(crate) fn host_id(bytes: &[u8]) -> String {
    <[u8; 16]>::try_from(bytes).map_or_else(|_| "?".to_owned(), |id| HostId(id).to_string())
}

/// A subject as it is shown.
pub(crate) fn subject(subject: Option<&v1::Subject>) -> String {
    use v1::subject::Of;
    match subject.and_then(|s| s.of.as_ref()) {
        None => "?".to_owned(),
        Some(Of::Host(_)) => "host".to_owned(),
        Some(Of::Unit(name) | Of::Series(name)) => name.clone(),
        Some(Of::Mount(path)) => String::from_utf8_lossy(path).into_owned(),
        Some(Of::Disk(name)) => format!("disk {name}"),
        Some(Of::Interface(name)) => format!("interface {name}"),
    }
}

/// A step as it is shown: its action and what it is done to.
pub(crate) fn step(step: Option<&v1::Step>) -> (&'static str, String) {
    use v1::step::Of;
    match step.and_then(|s| s.of.as_ref()) {
        None => ("?", "?".to_owned()),
        Some(Of::UnitRestart(unit)) => ("unit.restart", unit.unit.clone()),
        Some(Of::UnitStart(unit)) => ("unit.start", unit.unit.clone()),
        Some(Of::UnitStop(unit)) => ("unit.stop", unit.unit.clone()),
        Some(Of::UnitReload(unit)) => ("unit.reload", unit.unit.clone()),
        Some(Of::DiskReclaim(reclaim)) => ("disk.reclaim", String::from_utf8_lossy(&reclaim.mount).into_owned()),
        Some(Of::Notify(to)) => ("notify", to.clone()),
    }
}

/// The steps of a plan in one line.
pub(crate) fn plan(plan: Option<&v1::Plan>) -> String {
    let steps = plan.map_or(&[][..], |plan| &plan.steps);
    let words: Vec<_> = steps
        .iter()
        .map(|planned| {
            let (action, what) = step(planned.step.as_ref());
            format!("{action} {what}")
        })
        .collect();
    if words.is_empty() { "–".to_owned() } else { words.join(", then ") }
}

/// A finding for programs.
#[derive(Debug, Serialize)]
pub(crate) struct FindingDoc {
    id: String,
    kind: String,
    subject: String,
    severity: String,
    confidence: f64,
    state: String,
    opened: Option<String>,
    changed: Option<String>,
    evidence: Vec<EvidenceDoc>,
    effect_of: Option<String>,
}

/// One piece of evidence for programs.
#[derive(Debug, Serialize)]
pub(crate) struct EvidenceDoc {
    text: String,
    name: Option<String>,
    value: Option<f64>,
    limit: Option<f64>,
}

impl From<&v1::Evidence> for EvidenceDoc {
    fn from(evidence: &v1::Evidence) -> Self {
        let measure = evidence.measure.as_ref();
        Self {
            text: evidence.text.clone(),
            name: measure.map(|m| m.name.clone()),
            value: measure.map(|m| m.value),
            limit: measure.and_then(|m| m.limit),
        }
    }
}

impl From<&v1::Finding> for FindingDoc {
    fn from(finding: &v1::Finding) -> Self {
        Self {
            id: FindingId(finding.id).to_string(),
            kind: finding.kind.clone(),
            subject: subject(finding.subject.as_ref()),
            severity: finding.severity.clone(),
            confidence: finding.confidence,
            state: finding.state.clone(),
            opened: moment_of(finding.opened.as_ref()),
            changed: moment_of(finding.changed.as_ref()),
            evidence: finding.evidence.iter().map(Into::into).collect(),
            effect_of: finding.effect_of.map(|id| ActionId(id).to_string()),
        }
    }
}

/// A decision for programs.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionDoc {
    id: String,
    host: String,
    host_id: String,
    at: Option<String>,
    finding: String,
    kind: String,
    subject: String,
    confidence: f64,
    evidence: Vec<EvidenceDoc>,
    rule: Option<String>,
    policy_generation: u64,
    policy_sha256: String,
    mode: String,
    verdicts: Vec<VerdictDoc>,
    choice: &'static str,
    reason: Option<String>,
    plan: String,
    steps: Vec<StepDoc>,
    recovered: Option<bool>,
    verification: Option<String>,
    down_ms: Option<u64>,
    ledger_from: u64,
    ledger_to: u64,
    countersigned: Option<String>,
}

/// What one guard said, for programs.
#[derive(Debug, Serialize)]
struct VerdictDoc {
    guard: String,
    pass: bool,
    text: String,
}

/// One step for programs.
#[derive(Debug, Serialize)]
struct StepDoc {
    action: String,
    kind: &'static str,
    target: String,
    intent: Option<String>,
    ended: Option<String>,
    outcome: Option<String>,
    text: Option<String>,
    elapsed_ms: Option<u64>,
    freed_bytes: Option<u64>,
    undone: bool,
}

impl From<&v1::StepView> for StepDoc {
    fn from(view: &v1::StepView) -> Self {
        let (kind, target) = step(view.step.as_ref());
        let outcome = view.outcome.as_ref();
        Self {
            action: ActionId(view.action).to_string(),
            kind,
            target,
            intent: moment_of(view.intent_at.as_ref()),
            ended: moment_of(view.outcome_at.as_ref()),
            outcome: outcome.map(|o| o.ended.clone()),
            text: outcome.map(|o| o.text.clone()),
            elapsed_ms: outcome.map(|o| o.elapsed_ms),
            freed_bytes: outcome.and_then(|o| o.freed_bytes),
            undone: view.undone,
        }
    }
}

impl From<&v1::DecisionView> for DecisionDoc {
    fn from(view: &v1::DecisionView) -> Self {
        use v1::decision::Choice;
        let decision = view.decision.clone().unwrap_or_default();
        let policy = decision.policy.clone().unwrap_or_default();
        let (choice, reason, planned) = match &decision.choice {
            Some(Choice::Act(act)) => ("act", None, plan(Some(act))),
            Some(Choice::Hold(hold)) => ("hold", Some(hold.reason.clone()), plan(hold.would.as_ref())),
            None => ("unknown", None, plan(None)),
        };
        let verification = view.verification.as_ref();
        Self {
            id: DecisionId(decision.id).to_string(),
            host: view.hostname.clone(),
            host_id: host_id(&view.host_id),
            at: moment_of(decision.at.as_ref()),
            finding: FindingId(decision.finding).to_string(),
            kind: decision.kind,
            subject: subject(decision.subject.as_ref()),
            confidence: decision.confidence,
            evidence: decision.evidence.iter().map(Into::into).collect(),
            rule: decision.rule,
            policy_generation: policy.generation,
            policy_sha256: crate::words::hex(&policy.hash),
            mode: decision.mode,
            verdicts: decision
                .verdicts
                .into_iter()
                .map(|v| VerdictDoc { guard: v.guard, pass: v.pass, text: v.text })
                .collect(),
            choice,
            reason,
            plan: planned,
            steps: view.steps.iter().map(Into::into).collect(),
            recovered: verification.map(|v| v.recovered),
            verification: verification.map(|v| v.text.clone()),
            down_ms: verification.and_then(|v| v.down_ms),
            ledger_from: view.ledger_from,
            ledger_to: view.ledger_to,
            countersigned: moment(view.countersigned_ms),
        }
    }
}

/// An incident for programs.
#[derive(Debug, Serialize)]
pub(crate) struct IncidentDoc {
    id: String,
    state: String,
    opened: Option<String>,
    hosts: u32,
    cause: String,
    cause_confidence: f64,
    evidence: Vec<String>,
    members: Vec<MemberDoc>,
}

/// A finding of an incident, with its host.
#[derive(Debug, Serialize)]
pub(crate) struct MemberDoc {
    host: String,
    host_id: String,
    incident: Option<String>,
    #[serde(flatten)]
    finding: FindingDoc,
}

impl From<&v1::FindingView> for MemberDoc {
    fn from(view: &v1::FindingView) -> Self {
        Self {
            host: view.hostname.clone(),
            host_id: host_id(&view.host_id),
            incident: view.incident.map(|id| IncidentId(id).to_string()),
            finding: FindingDoc::from(&view.finding.clone().unwrap_or_default()),
        }
    }
}

impl From<&v1::IncidentView> for IncidentDoc {
    fn from(view: &v1::IncidentView) -> Self {
        Self {
            id: IncidentId(view.id).to_string(),
            state: view.state.clone(),
            opened: moment(view.opened_ms),
            hosts: view.hosts,
            cause: cause_line(view),
            cause_confidence: view.cause_confidence,
            evidence: view.evidence.clone(),
            members: view.members.iter().map(Into::into).collect(),
        }
    }
}

/// The member that is named as the likely cause, in words.
pub(crate) fn cause_line(view: &v1::IncidentView) -> String {
    let named = |member: &&v1::FindingView| member.finding.as_ref().is_some_and(|finding| finding.id == view.cause);
    view.members.iter().find(named).map_or_else(
        || "unknown".to_owned(),
        |member| {
            let finding = member.finding.clone().unwrap_or_default();
            format!("{} on {}: {}", subject(finding.subject.as_ref()), member.hostname, finding.kind)
        },
    )
}
