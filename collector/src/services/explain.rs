//! Explain: one decision with its evidence, what came of it, and how sure all that is.

use mainstay_core::id::{DecisionId, FindingId, HostId};
use mainstay_core::ledger::Head;
use mainstay_proto::v1;
use mainstay_proto::v1::decision::Choice;
use tonic::Status;

use super::{decisions, find};
use crate::clock;
use crate::hub::Hub;
use crate::ingest::chain;
use crate::store::StoreError;
use crate::store::keys::{
    DecisionByTimeKey, DecisionKey, FindingKey, IncidentOfKey, Key, LedgerKey, RecordingKey, SceneKey,
};

/// Earlier decisions that are looked through for what helped.
const EARLIER_MAX: usize = 1_000;

/// Most scenes of one decision that are looked at: one for each step of a plan.
const SCENES_MAX: usize = 16;

/// Answers `Explain`. Without an id: the newest decision that acted, else the newest.
///
/// # Errors
/// If there is no such decision, or the store fails.
pub fn explain(hub: &Hub, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Status> {
    let key = if request.id.is_empty() { newest(hub)? } else { find::decision(&hub.store, &request.id)? };
    let view: v1::DecisionView = hub
        .store
        .get(&key)?
        .ok_or_else(|| Status::not_found(format!("decision {} is past its retention", key.decision)))?;
    let mut answer = assemble(hub, &key, view)?;
    let scenes = scenes(hub, &key)?;
    answer.scenes_kept = u32::try_from(scenes.len()).unwrap_or(u32::MAX);
    if request.evidence {
        answer.scenes = scenes;
    }
    Ok(answer)
}

/// What was seen before the actions of a decision, the first one first.
fn scenes(hub: &Hub, key: &DecisionKey) -> Result<Vec<v1::Scene>, StoreError> {
    let of = hub.store.scan_values::<SceneKey, v1::Scene>(&SceneKey::of(key.decision, key.host));
    let mut scenes = of.take(SCENES_MAX).map(|item| Ok(item?.1)).collect::<Result<Vec<_>, StoreError>>()?;
    scenes.sort_by_key(|scene| scene.at.as_ref().map_or(0, |at| at.wall_ms));
    Ok(scenes)
}

fn newest(hub: &Hub) -> Result<DecisionKey, Status> {
    let mut any = None;
    for item in hub.store.scan_back::<DecisionByTimeKey>(&DecisionByTimeKey::all()).take(EARLIER_MAX) {
        let (key, _) = item?;
        let full = DecisionKey { decision: key.decision, host: key.host };
        let view: Option<v1::DecisionView> = hub.store.get(&full)?;
        if view.is_some_and(|view| decisions::acted(&view)) {
            return Ok(full);
        }
        any.get_or_insert(full);
    }
    any.ok_or_else(|| Status::not_found("nothing has been decided yet"))
}

fn assemble(hub: &Hub, key: &DecisionKey, view: v1::DecisionView) -> Result<v1::ExplainResponse, Status> {
    let finding_id = view.decision.as_ref().map_or(0, |d| d.finding);
    let finding = hub.store.get(&FindingKey { host: key.host, finding: FindingId(finding_id) })?;
    let of = hub.store.get_raw(&IncidentOfKey { host: key.host, finding: FindingId(finding_id) })?;
    let incident = of.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let recording = hub.store.get(&RecordingKey { host: key.host, finding: FindingId(finding_id) })?;
    let (helped, tried) = record_of_success(hub, key, &view)?;
    let chain_intact = chain_is_intact(hub, key.host, &view)?;
    Ok(v1::ExplainResponse {
        decision: Some(view),
        finding,
        incident,
        helped,
        tried,
        chain_intact,
        recording,
        now_ms: clock::wall_ms(),
        ..v1::ExplainResponse::default()
    })
}

/// The kind of the first step that is not a message.
fn action(decision: &v1::Decision) -> Option<String> {
    let plan = match decision.choice.as_ref()? {
        Choice::Act(plan) => Some(plan),
        Choice::Hold(hold) => hold.would.as_ref(),
    }?;
    let step: mainstay_core::plan::Step = plan.steps.first()?.step.clone()?.try_into().ok()?;
    Some(step.kind().to_owned())
}

/// Of the plans with the same first action for the same kind and subject on this host: how many
/// helped, and how many there were that are known.
fn record_of_success(hub: &Hub, key: &DecisionKey, view: &v1::DecisionView) -> Result<(u32, u32), Status> {
    let Some(decision) = &view.decision else { return Ok((0, 0)) };
    let mine = action(decision);
    let like = |v: &v1::DecisionView| {
        v.verification.is_some()
            && v.decision.as_ref().is_some_and(|d| {
                d.kind == decision.kind && d.subject == decision.subject && mine.is_some() && action(d) == mine
            })
    };
    let found = decisions::of_host(hub, key.host, EARLIER_MAX, like)?;
    let helped = found.iter().filter(|v| v.verification.as_ref().is_some_and(|v| v.recovered)).count();
    Ok((u32::try_from(helped).unwrap_or(u32::MAX), u32::try_from(found.len()).unwrap_or(u32::MAX)))
}

/// Whether the records of this decision follow from one another as they are stored, and nothing
/// about this host's ledger is in doubt.
fn chain_is_intact(hub: &Hub, host: HostId, view: &v1::DecisionView) -> Result<bool, StoreError> {
    let doubted = hub.state().hosts.get(&host).is_some_and(|h| !h.mark.doubts.is_empty());
    if doubted || view.ledger_from == 0 {
        return Ok(false);
    }
    let mut head: Option<Head> = None;
    let mut last = 0;
    // From one record before, whose hash the first one continues.
    let from = LedgerKey { host, index: view.ledger_from.saturating_sub(1) }.encode();
    for item in hub.store.scan::<LedgerKey>(&LedgerKey::of(host), &from) {
        let (key, value) = item?;
        if key.index > view.ledger_to {
            break;
        }
        let entry: v1::LedgerEntry = crate::store::decode(&key.encode(), &value)?;
        let before = if key.index == 1 { Some(Head::genesis(host)) } else { head };
        let hash = entry.hash.as_slice().try_into().ok();
        let follows = before.is_none_or(|before| matches!(chain::link(before, &entry, None), chain::Link::Follows(_)));
        let Some(hash) = hash.filter(|_| follows) else { return Ok(false) };
        head = Some(Head { index: entry.index, hash });
        last = key.index;
    }
    Ok(last == view.ledger_to)
}

/// The id of a decision, for messages.
#[must_use]
pub fn name(id: u64) -> String {
    DecisionId(id).to_string()
}
