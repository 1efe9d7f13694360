//! Decisions, newest first.

use std::collections::BTreeMap;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use tonic::Status;

use super::find;
use super::findings::limit;
use crate::clock;
use crate::hub::Hub;
use crate::store::StoreError;
use crate::store::keys::{DecisionByHostKey, DecisionByTimeKey, DecisionKey};

/// Whether it acted.
#[must_use]
pub fn acted(view: &v1::DecisionView) -> bool {
    view.decision.as_ref().is_some_and(|d| matches!(d.choice, Some(v1::decision::Choice::Act(_))))
}

/// The latest decisions of one host since a moment that are wanted, newest first.
///
/// # Errors
/// If the store fails.
pub fn of_host(
    hub: &Hub,
    host: HostId,
    since_ms: i64,
    limit: usize,
    wanted: impl Fn(&v1::DecisionView) -> bool,
) -> Result<Vec<v1::DecisionView>, StoreError> {
    let mut found = Vec::new();
    for item in hub.store.scan_back::<DecisionByHostKey>(&DecisionByHostKey::of(host)) {
        let (key, _) = item?;
        if found.len() >= limit || key.at_ms < since_ms {
            break;
        }
        let view: Option<v1::DecisionView> = hub.store.get(&DecisionKey { decision: key.decision, host })?;
        found.extend(view.filter(&wanted));
    }
    Ok(found)
}

/// Answers `ListDecisions`.
///
/// # Errors
/// If the selector names a host that is not there, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListDecisionsRequest) -> Result<v1::ListDecisionsResponse, Status> {
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let limit = limit(request.limit);
    let decisions = match &hosts[..] {
        [(only, _)] => {
            let wanted = |view: &v1::DecisionView| !request.acted || acted(view);
            of_host(hub, *only, request.since_ms, limit, wanted)?
        }
        _ => {
            let names: BTreeMap<HostId, ()> = hosts.iter().map(|(id, _)| (*id, ())).collect();
            by_time(hub, &names, limit, request)?
        }
    };
    Ok(v1::ListDecisionsResponse { decisions, now_ms: clock::wall_ms() })
}

fn by_time(
    hub: &Hub,
    hosts: &BTreeMap<HostId, ()>,
    limit: usize,
    request: &v1::ListDecisionsRequest,
) -> Result<Vec<v1::DecisionView>, StoreError> {
    let mut found = Vec::new();
    for item in hub.store.scan_back::<DecisionByTimeKey>(&DecisionByTimeKey::all()) {
        let (key, _) = item?;
        if found.len() >= limit || key.at_ms < request.since_ms {
            break;
        }
        if !hosts.contains_key(&key.host) {
            continue;
        }
        let view: Option<v1::DecisionView> = hub.store.get(&DecisionKey { decision: key.decision, host: key.host })?;
        found.extend(view.filter(|view| !request.acted || acted(view)));
    }
    Ok(found)
}
