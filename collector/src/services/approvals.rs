//! Approvals: what waits for an operator's yes or no.

use std::collections::BTreeSet;

use mainstay_core::plan::Plan;
use mainstay_proto::v1;
use mainstay_proto::v1::decision::Choice;
use tonic::Status;

use super::decisions;
use crate::clock;
use crate::hub::Hub;

/// How long a plan that asks is shown: after that its finding has been decided anew.
const SHOWN_MS: i64 = 86_400_000;
/// Latest decisions of a host that are looked through.
const LOOKED_MAX: usize = 200;

/// Answers `ListApprovals`: of each open finding the newest decision, if it asks and nobody answered.
///
/// # Errors
/// If the store fails.
pub fn list(hub: &Hub) -> Result<v1::ListApprovalsResponse, Status> {
    let now_ms = clock::wall_ms();
    let open: Vec<_> = {
        let state = hub.state();
        let hosts = state.hosts.iter().filter(|(_, h)| !h.findings.is_empty());
        hosts.map(|(id, h)| (*id, h.findings.keys().copied().collect::<BTreeSet<u64>>())).collect()
    };
    let mut approvals = Vec::new();
    for (host, findings) in open {
        let latest = decisions::of_host(hub, host, LOOKED_MAX, |_| true)?;
        let mut seen = BTreeSet::new();
        for view in latest {
            let Some(decision) = &view.decision else { continue };
            if findings.contains(&decision.finding) && seen.insert(decision.finding) {
                approvals.extend(asks(&view, now_ms));
            }
        }
    }
    approvals.sort_by_key(|a| std::cmp::Reverse(a.expires_ms));
    Ok(v1::ListApprovalsResponse { approvals, now_ms })
}

/// What a decision asks for, if it does.
fn asks(view: &v1::DecisionView, now_ms: i64) -> Option<v1::ApprovalView> {
    let decision = view.decision.as_ref()?;
    let Some(Choice::Hold(hold)) = &decision.choice else { return None };
    if hold.reason != "needs_approval" || view.answered.is_some() {
        return None;
    }
    let plan: Plan = hold.would.clone()?.try_into().ok()?;
    let expires_ms = decision.at.as_ref()?.wall_ms.saturating_add(SHOWN_MS);
    (expires_ms > now_ms).then(|| v1::ApprovalView {
        decision: Some(view.clone()),
        expires_ms,
        plan_hash: plan.hash().to_vec(),
    })
}
