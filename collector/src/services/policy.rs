//! Policy: taken in its form, kept in every generation, offered to every host, shown as each has it.
//!
//! The collector has no key. It checks what anybody can check (form, fleet, generation), so that a
//! mistake is told to who pushes it; whether it is believed is decided on each host.

use std::sync::Arc;

use mainstay_core::policy::bundle::{Bundle, bundle_hash};
use mainstay_fleet::depends::Depends;
use mainstay_proto::v1;
use mainstay_proto::v1::collector_message::Of;
use tonic::Status;

use crate::clock;
use crate::hub::Hub;
use crate::store::Batch;
use crate::store::keys::PolicyKey;
use crate::store::values::PolicyRow;

/// Stores a signed policy and offers it to every host that is connected.
///
/// # Errors
/// If it is malformed, for another fleet, expired or not newer, or the store fails.
pub async fn push(hub: &Arc<Hub>, signed: Option<v1::Signed>, by: &str) -> Result<v1::PushPolicyResponse, Status> {
    let signed = signed.ok_or_else(|| Status::invalid_argument("a signed policy is missing"))?;
    if signed.signature.len() != 64 || signed.key_id.len() != 8 {
        return Err(Status::invalid_argument(
            "the policy is not signed; `mainstay policy push FILE --key KEY` signs it",
        ));
    }
    let bundle = Bundle::decode(&signed.bytes)
        .map_err(|error| Status::invalid_argument(format!("the policy cannot be read: {error}")))?;
    let _one_at_a_time = hub.pushing.lock().await;
    let now_ms = clock::wall_ms();
    if bundle.fleet_id != hub.fleet_id {
        return Err(Status::failed_precondition("the policy is for another fleet; sign it for this one"));
    }
    if now_ms > bundle.not_after_ms {
        return Err(Status::failed_precondition("the policy has expired before it was pushed; sign it again"));
    }
    let (have, floor) = (stored_generation(hub), floor(hub));
    let generation = bundle.generation;
    if generation <= floor {
        let next = floor.saturating_add(1);
        let why = if floor > have {
            format!("have {have}, and up to {floor} may be on hosts since this collector was set back to a backup")
        } else {
            format!("have {have}")
        };
        return Err(Status::failed_precondition(format!(
            "policy generation out of date (got {generation}, {why}); sign it again as generation {next}"
        )));
    }
    let row = PolicyRow {
        hash: bundle_hash(&signed.bytes).to_vec(),
        signed: Some(signed.clone()),
        pushed_ms: now_ms,
        pushed_by: by.to_owned(),
        not_after_ms: bundle.not_after_ms,
        generation,
    };
    let mut batch = Batch::default();
    batch.put(&PolicyKey { generation }, &row);
    hub.store.commit(batch).await?;
    let hosts = {
        let mut state = hub.state();
        state.policy = Some(row);
        state.hosts.values().filter(|h| !h.is_revoked()).count()
    };
    use_depends(hub);
    let connected = hub.connected();
    let taken = connected.iter().filter(|host| hub.send(**host, Of::PolicyOffer(signed.clone()))).count();
    tracing::info!(generation, by, hosts, offered = taken, "policy pushed");
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(v1::PushPolicyResponse { generation, hosts: number(hosts), connected: number(taken) })
}

fn stored_generation(hub: &Hub) -> u64 {
    hub.state().policy.as_ref().map_or(0, |policy| policy.generation)
}

/// The next policy has a higher generation than this: hosts refuse what is not newer than theirs.
fn floor(hub: &Hub) -> u64 {
    stored_generation(hub).max(hub.restored.as_ref().map_or(0, |row| row.generation))
}

/// Takes the dependencies that the newest policy declares. One that cannot be read declares none: the
/// hosts refuse it too, and say why.
fn use_depends(hub: &Hub) {
    let policy = hub.state().policy.clone();
    let depends = depends(policy.as_ref());
    hub.state().correlator.set_depends(depends);
}

/// The dependencies that a policy declares.
#[must_use]
pub fn depends(policy: Option<&PolicyRow>) -> Depends {
    let signed = policy.and_then(|policy| policy.signed.as_ref());
    let policy = signed.and_then(|signed| Bundle::decode(&signed.bytes).ok()).and_then(|bundle| bundle.policy().ok());
    Depends { list: policy.map(|policy| policy.depends().cloned().collect()).unwrap_or_default() }
}

/// Answers `PolicyStatus`.
#[must_use]
pub fn status(hub: &Hub) -> v1::PolicyStatusResponse {
    let state = hub.state();
    let policy = state.policy.clone().unwrap_or_default();
    let mut hosts: Vec<v1::PolicyHostStatus> = state
        .hosts
        .iter()
        .filter(|(_, h)| !h.is_revoked())
        .map(|(id, h)| v1::PolicyHostStatus {
            host_id: id.0.to_vec(),
            hostname: h.hostname().to_owned(),
            status: h.mark.policy.clone(),
            last_seen_ms: h.heard_ms.max(h.mark.last_seen_ms),
        })
        .collect();
    hosts.sort_by(|a, b| a.hostname.cmp(&b.hostname));
    v1::PolicyStatusResponse {
        generation: policy.generation,
        hash: policy.hash,
        pushed_ms: policy.pushed_ms,
        pushed_by: policy.pushed_by,
        key_id: policy.signed.map(|s| s.key_id).unwrap_or_default(),
        not_after_ms: policy.not_after_ms,
        hosts,
        now_ms: clock::wall_ms(),
    }
}

/// Answers `GetPolicy`.
///
/// # Errors
/// If the store fails, or that generation is not there.
pub fn get(hub: &Hub, request: &v1::GetPolicyRequest) -> Result<v1::GetPolicyResponse, Status> {
    let (fleet_id, floor) = (hub.fleet_id.to_vec(), floor(hub));
    if request.generation == 0 {
        let policy = hub.state().policy.as_ref().and_then(|policy| policy.signed.clone());
        return Ok(v1::GetPolicyResponse { policy, fleet_id, floor });
    }
    let row: Option<PolicyRow> = hub.store.get(&PolicyKey { generation: request.generation })?;
    let row =
        row.ok_or_else(|| Status::not_found(format!("there is no policy of generation {}", request.generation)))?;
    Ok(v1::GetPolicyResponse { policy: row.signed, fleet_id, floor })
}
