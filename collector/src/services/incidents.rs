//! Incidents, as operators see them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use mainstay_core::id::{FindingId, HostId, IncidentId};
use mainstay_proto::v1;
use prost::Message;
use tonic::Status;

use super::search::{Looking, Search, limit};
use super::{changes, decisions, find};
use crate::clock;
use crate::hub::Hub;
use crate::query::Stop;
use crate::store::StoreError;
use crate::store::keys::{self, FindingKey, IncidentByTimeKey, IncidentKey, Key, RecordingKey};
use crate::store::values::{IncidentRow, symptom_id};

/// Decisions that are shown with an incident.
const DECISIONS_SHOWN: usize = 100;
/// Members whose recorded seconds are looked for, and most that are shown with an incident: some 200 KiB.
const RECORDINGS_LOOKED_FOR: usize = 100;
const RECORDINGS_SHOWN: usize = 8;
/// Steps from an incident to the one it was joined with.
const MERGES_MAX: usize = 32;

/// Answers `ListIncidents`: open ones, or all of a time; newest first.
///
/// # Errors
/// If nothing can be looked for so, nobody waits any more, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListIncidentsRequest, stop: &Stop) -> Result<v1::ListIncidentsResponse, Status> {
    let now_ms = clock::wall_ms();
    let search = Search::read(request.search.as_ref())?;
    let mut looking = Looking::new(&hub.store, stop, limit(request.limit));
    let is_of_time = |opened_ms: i64, ended_ms: Option<i64>| {
        (ended_ms.is_none() || request.all) && search.spans(opened_ms, ended_ms)
    };
    let mut seen = BTreeSet::new();
    let entries = looking.store.scan_back_from(&IncidentByTimeKey::all(), &IncidentByTimeKey::at(search.to_ms));
    let at_ms = |key: &IncidentByTimeKey| key.opened_ms;
    let incidents = looking.take(entries, at_ms, |looking, key, ended| {
        // Its opening moved back when an earlier member joined.
        if !is_of_time(key.opened_ms, keys::ended_ms(ended)) || !seen.insert(key.incident) {
            return Ok(ControlFlow::Continue(None));
        }
        let row: Option<IncidentRow> = looking.get(&IncidentKey { incident: key.incident })?;
        let row = row.filter(|row| row.merged_into == 0 && is_of_time(row.opened_ms, row.ended_ms()));
        let Some(row) = row else { return Ok(ControlFlow::Continue(None)) };
        let evidence = row.evidence.clone();
        let incident = view(hub, key.incident, row)?;
        // What is only shown is bounded by the limit.
        let is_found = search.is_all() || {
            looking.count(incident.members.len());
            incident.members.iter().any(|member| is_meant(&search, member, &evidence))
        };
        Ok(ControlFlow::Continue(Some(incident).filter(|_| is_found)))
    })?;
    let (truncated, looked_back_to_ms) = (looking.is_cut, looking.looked_back_to_ms);
    Ok(v1::ListIncidentsResponse { incidents, now_ms, truncated, looked_back_to_ms })
}

/// Whether an incident is found by this member.
fn is_meant(search: &Search, member: &v1::FindingView, evidence: &[String]) -> bool {
    let elsewhere: Vec<&str> = evidence.iter().chain([&member.hostname]).map(String::as_str).collect();
    member.finding.as_ref().is_some_and(|finding| search.means(finding, &elsewhere))
}

/// Answers `GetIncident`. One that was joined with another leads to it.
///
/// # Errors
/// If there is none, or the store fails.
pub fn get(hub: &Hub, request: &v1::GetIncidentRequest) -> Result<v1::GetIncidentResponse, Status> {
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
    let incident = view(hub, id, row)?;
    let hosts: BTreeSet<HostId> = members.iter().map(|(host, _)| *host).collect();
    let changes = changes::before(hub, &hosts, incident.opened_ms)?;
    let mut shown = Vec::new();
    for host in hosts {
        let about = |v: &v1::DecisionView| v.decision.as_ref().is_some_and(|d| members.contains(&(host, d.finding)));
        shown.extend(decisions::of_host(hub, host, DECISIONS_SHOWN, about)?);
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

fn view(hub: &Hub, id: IncidentId, row: IncidentRow) -> Result<v1::IncidentView, StoreError> {
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
