//! Findings and incidents, as operators see them.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::id::{FindingId, HostId, IncidentId};
use mainstay_proto::v1;
use prost::Message;
use tonic::Status;

use super::{changes, decisions, find};
use crate::clock;
use crate::hub::Hub;
use crate::store::StoreError;
use crate::store::keys::{
    FindingByTimeKey, FindingKey, IncidentByTimeKey, IncidentKey, IncidentOfKey, Key, RecordingKey,
};
use crate::store::values::{IncidentRow, symptom_id};

/// Most that one answer holds, whatever was asked for.
const LIMIT_MAX: usize = 10_000;
/// What is answered when no limit is asked for.
const LIMIT_DEFAULT: usize = 1_000;
/// Up to so many hosts are read one by one; the findings of more are found by their time, among those of all.
const HOSTS_ONE_BY_ONE: usize = 16;
/// Decisions that are shown with an incident.
const DECISIONS_SHOWN: usize = 100;
/// Members whose recorded seconds are looked for, and most that are shown with an incident: some 200 KiB.
const RECORDINGS_LOOKED_FOR: usize = 100;
const RECORDINGS_SHOWN: usize = 8;
/// Steps from an incident to the one it was joined with.
const MERGES_MAX: usize = 32;

/// A limit within bounds.
#[must_use]
pub fn limit(asked: u32) -> usize {
    if asked == 0 { LIMIT_DEFAULT } else { usize::try_from(asked).unwrap_or(LIMIT_MAX).min(LIMIT_MAX) }
}

fn incident_of(hub: &Hub, host: HostId, finding: FindingId) -> Result<Option<u64>, StoreError> {
    let stored = hub.store.get_raw(&IncidentOfKey { host, finding })?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
}

fn view(hub: &Hub, host: HostId, hostname: &str, finding: v1::Finding) -> Result<v1::FindingView, StoreError> {
    let incident = incident_of(hub, host, FindingId(finding.id))?;
    Ok(v1::FindingView { host_id: host.0.to_vec(), hostname: hostname.to_owned(), finding: Some(finding), incident })
}

/// Answers `ListFindings`: open ones, or all since a time; newest first.
///
/// # Errors
/// If the selector names a host that is not there, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListFindingsRequest) -> Result<v1::ListFindingsResponse, Status> {
    let now_ms = clock::wall_ms();
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let limit = limit(request.limit);
    let wanted = |finding: &v1::Finding| request.kind.is_empty() || finding.kind == request.kind;
    let lately =
        |f: &v1::Finding| f.state == "open" || f.changed.as_ref().is_some_and(|c| c.wall_ms >= request.since_ms);
    let mut found = Vec::new();
    if request.all && hosts.len() <= HOSTS_ONE_BY_ONE {
        for (id, _) in &hosts {
            for item in hub.store.scan_values::<FindingKey, v1::Finding>(&FindingKey::of(*id)) {
                let (_, finding) = item?;
                found.extend(Some((*id, finding)).filter(|(_, f)| wanted(f) && lately(f)));
            }
            newest(&mut found, limit);
        }
    } else if request.all {
        let selected: BTreeSet<HostId> = hosts.iter().map(|(id, _)| *id).collect();
        for item in hub.store.scan_back::<FindingByTimeKey>(&FindingByTimeKey::all()) {
            let (key, _) = item?;
            if found.len() >= limit {
                break;
            }
            if !selected.contains(&key.host) {
                continue;
            }
            let full = FindingKey { host: key.host, finding: key.finding };
            let finding: Option<v1::Finding> = hub.store.get(&full)?;
            found.extend(finding.filter(|f| wanted(f) && lately(f)).map(|finding| (key.host, finding)));
        }
    } else {
        for (id, host) in &hosts {
            found.extend(host.findings.values().filter(|f| wanted(f)).map(|finding| (*id, finding.clone())));
        }
        newest(&mut found, limit);
    }
    let names: BTreeMap<HostId, &str> = hosts.iter().map(|(id, host)| (*id, host.hostname())).collect();
    let view = |(host, finding): (HostId, v1::Finding)| {
        view(hub, host, names.get(&host).copied().unwrap_or_default(), finding).map_err(Status::from)
    };
    let findings = found.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(v1::ListFindingsResponse { findings, now_ms })
}

/// Keeps the newest ones, newest first.
fn newest(found: &mut Vec<(HostId, v1::Finding)>, limit: usize) {
    found.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.opened.as_ref().map_or(0, |at| at.wall_ms)));
    found.truncate(limit);
}

/// Answers `ListIncidents`: open ones, or all since a time; newest first.
///
/// # Errors
/// If the store fails.
pub fn list_incidents(hub: &Hub, request: &v1::ListIncidentsRequest) -> Result<v1::ListIncidentsResponse, Status> {
    let now_ms = clock::wall_ms();
    let limit = limit(request.limit);
    let mut incidents = Vec::new();
    let mut seen = BTreeSet::new();
    for item in hub.store.scan_back::<IncidentByTimeKey>(&IncidentByTimeKey::all()) {
        let (key, _) = item?;
        if incidents.len() >= limit {
            break;
        }
        if !seen.insert(key.incident) {
            continue; // its opening moved back when an earlier member joined
        }
        let row: Option<IncidentRow> = hub.store.get(&IncidentKey { incident: key.incident })?;
        let wanted = |row: &IncidentRow| {
            row.merged_into == 0 && (row.cleared_ms == 0 || (request.all && row.cleared_ms >= request.since_ms))
        };
        if let Some(row) = row.filter(wanted) {
            incidents.push(incident_view(hub, key.incident, row)?);
        }
    }
    Ok(v1::ListIncidentsResponse { incidents, now_ms })
}

/// Answers `GetIncident`. One that was joined with another leads to it.
///
/// # Errors
/// If there is none, or the store fails.
pub fn get_incident(hub: &Hub, request: &v1::GetIncidentRequest) -> Result<v1::GetIncidentResponse, Status> {
    let mut id = find::incident(&hub.store, &request.id)?;
    let gone = || Status::not_found(format!("incident {} is past its retention", request.id));
    let mut row: IncidentRow = hub.store.get(&IncidentKey { incident: id })?.ok_or_else(gone)?;
    for _ in 0..MERGES_MAX {
        if row.merged_into == 0 {
            break;
        }
        id = IncidentId(row.merged_into);
        row = hub.store.get(&IncidentKey { incident: id })?.ok_or_else(gone)?;
    }
    let members: BTreeSet<(HostId, u64)> =
        row.members.iter().filter_map(symptom_id).map(|m| (m.host, m.finding.0)).collect();
    let incident = incident_view(hub, id, row)?;
    let hosts: BTreeSet<HostId> = members.iter().map(|(host, _)| *host).collect();
    let changes = changes::before(hub, &hosts, incident.opened_ms)?;
    let mut shown = Vec::new();
    for host in hosts {
        let about = |v: &v1::DecisionView| v.decision.as_ref().is_some_and(|d| members.contains(&(host, d.finding)));
        shown.extend(decisions::of_host(hub, host, 0, DECISIONS_SHOWN, about)?);
        if shown.len() >= DECISIONS_SHOWN {
            break;
        }
    }
    shown.truncate(DECISIONS_SHOWN);
    let recordings = recordings(hub, &incident)?;
    Ok(v1::GetIncidentResponse {
        incident: Some(incident),
        decisions: shown,
        now_ms: clock::wall_ms(),
        recordings,
        changes,
    })
}

/// The seconds around the findings of an incident: the cause's first, then in their order.
fn recordings(hub: &Hub, incident: &v1::IncidentView) -> Result<Vec<v1::FindingRecording>, StoreError> {
    let finding = |member: &v1::FindingView| member.finding.as_ref().map_or(0, |finding| finding.id);
    let is_cause = |member: &&v1::FindingView| finding(member) == incident.cause;
    let members = &incident.members;
    let ordered = members.iter().filter(is_cause).chain(members.iter().filter(|member| !is_cause(member)));
    let mut recordings = Vec::new();
    for member in ordered.take(RECORDINGS_LOOKED_FOR) {
        let Ok(host) = member.host_id.as_slice().try_into().map(HostId) else { continue };
        let key = RecordingKey { host, finding: FindingId(finding(member)) };
        recordings.extend(hub.store.get::<_, v1::FindingRecording>(&key)?);
        if recordings.len() >= RECORDINGS_SHOWN {
            break;
        }
    }
    Ok(recordings)
}

fn incident_view(hub: &Hub, id: IncidentId, row: IncidentRow) -> Result<v1::IncidentView, StoreError> {
    let mut members = Vec::new();
    let mut hosts = BTreeSet::new();
    for member in row.members.iter().filter_map(symptom_id) {
        hosts.insert(member.host);
        let key = FindingKey { host: member.host, finding: member.finding };
        let Some(bytes) = hub.store.get_raw(&key)? else { continue };
        let Ok(finding) = v1::Finding::decode(&bytes[..]) else {
            tracing::warn!(key = ?key.encode(), "a finding cannot be read");
            continue;
        };
        let hostname = hub.state().hosts.get(&member.host).map(|h| h.hostname().to_owned()).unwrap_or_default();
        members.push(v1::FindingView {
            host_id: member.host.0.to_vec(),
            hostname,
            finding: Some(finding),
            incident: Some(id.0),
        });
    }
    let opened = |v: &v1::FindingView| v.finding.as_ref().and_then(|f| f.opened.as_ref()).map_or(0, |at| at.wall_ms);
    members.sort_by_key(opened);
    let mut evidence = row.evidence;
    if row.more > 0 {
        evidence.push(format!("and {} more findings that are not listed", row.more));
    }
    Ok(v1::IncidentView {
        id: id.0,
        state: if row.cleared_ms == 0 { "open" } else { "cleared" }.to_owned(),
        opened_ms: row.opened_ms,
        changed_ms: row.changed_ms,
        members,
        cause: row.cause.map_or(0, |cause| cause.finding),
        cause_confidence: row.cause_confidence,
        evidence,
        hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
    })
}
