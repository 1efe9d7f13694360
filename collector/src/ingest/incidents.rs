//! Incidents: findings handed to the correlation, and what it says made durable and told.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::finding::Finding;
use mainstay_core::id::{HostId, IncidentId};
use mainstay_fleet::correlate::{Change, Correlator, Incident, Symptom, SymptomId};
use mainstay_proto::v1;

use crate::clock;
use crate::hub::{HostState, Hub, State};
use crate::notify::Notice;
use crate::store::keys::{FindingKey, IncidentByTimeKey, IncidentKey, IncidentOfKey, ended};
use crate::store::values::{IncidentRow, MemberRow, symptom_id};
use crate::store::{Batch, Store, StoreError};

/// A finding as the correlation sees it. One of a kind that this build does not know is stored and
/// shown, but not correlated.
#[must_use]
pub fn symptom(host: HostId, state: &HostState, finding: &v1::Finding) -> Option<Symptom> {
    let finding: Finding = finding.clone().try_into().ok()?;
    Some(Symptom {
        id: SymptomId { host, finding: finding.id },
        hostname: state.hostname().to_owned(),
        labels: state.labels(),
        kind: finding.kind,
        subject: finding.subject,
        severity: finding.severity,
        confidence: finding.confidence,
        state: finding.state,
        // On our own clock, as far as the host's is known.
        opened_ms: finding.opened.wall_ms.saturating_sub(state.mark.clock_offset_ms),
    })
}

/// Correlates findings that are durable already.
///
/// # Errors
/// If the incidents cannot be made durable. The next change of each writes it again.
pub async fn observe(hub: &Arc<Hub>, host: HostId, findings: &[v1::Finding]) -> Result<(), StoreError> {
    if findings.is_empty() {
        return Ok(());
    }
    let now_ms = clock::wall_ms();
    let mut batch = Batch::default();
    let mut notices = Vec::new();
    {
        let mut state = hub.state();
        let State { hosts, correlator, .. } = &mut *state;
        let Some(host_state) = hosts.get(&host) else { return Ok(()) };
        for finding in findings {
            let Some(symptom) = symptom(host, host_state, finding) else { continue };
            for change in correlator.observe(symptom, now_ms) {
                write(&mut batch, correlator, &change);
                notices.extend(notice(correlator, &change));
            }
        }
    }
    hub.store.commit(batch).await?;
    for notice in notices {
        crate::notify::tell(hub, notice);
    }
    Ok(())
}

fn write(batch: &mut Batch, correlator: &Correlator, change: &Change) {
    match change {
        Change::Opened(id) | Change::Changed(id) | Change::Cleared(id) => {
            if let Some(incident) = correlator.incident(*id) {
                write_incident(batch, incident);
            }
        }
        Change::Merged { gone, into } => {
            batch.put(&IncidentKey { incident: *gone }, &IncidentRow { merged_into: into.0, ..IncidentRow::default() });
            if let Some(incident) = correlator.incident(*into) {
                write_incident(batch, incident);
            }
        }
    }
}

fn write_incident(batch: &mut Batch, incident: &Incident) {
    let key = IncidentKey { incident: incident.id };
    let row = row(incident);
    let by_time = IncidentByTimeKey { opened_ms: incident.opened_ms, incident: incident.id };
    batch.put_raw(&by_time, ended(row.ended_ms()));
    batch.put(&key, &row);
    for member in &incident.members {
        let key = IncidentOfKey { host: member.host, finding: member.finding };
        batch.put_raw(&key, incident.id.0.to_be_bytes().to_vec());
    }
}

fn member(id: SymptomId) -> MemberRow {
    MemberRow { host: id.host.0.to_vec(), finding: id.finding.0 }
}

fn row(incident: &Incident) -> IncidentRow {
    IncidentRow {
        opened_ms: incident.opened_ms,
        changed_ms: incident.changed_ms,
        cleared_ms: incident.cleared_ms.unwrap_or(0),
        members: incident.members.iter().copied().map(member).collect(),
        cause: Some(member(incident.cause)),
        cause_confidence: incident.cause_confidence,
        evidence: incident.evidence.clone(),
        ties: incident.ties.iter().cloned().collect(),
        more: incident.more,
        merged_into: 0,
    }
}

fn notice(correlator: &Correlator, change: &Change) -> Option<Notice> {
    let (id, event) = match change {
        Change::Opened(id) => (*id, "opened"),
        Change::Cleared(id) => (*id, "cleared"),
        Change::Changed(_) | Change::Merged { .. } => return None,
    };
    let incident = correlator.incident(id)?;
    let cause = correlator.symptom(incident.cause).map(Symptom::said).unwrap_or_default();
    Some(Notice {
        event,
        incident: id,
        at_ms: incident.changed_ms,
        members: incident.members.len(),
        cause,
        evidence: incident.evidence.clone(),
    })
}

/// Puts the open incidents back, and the open findings that belong to none.
///
/// # Errors
/// If the store cannot be read.
pub fn restore(
    store: &Store,
    correlator: &mut Correlator,
    hosts: &BTreeMap<HostId, HostState>,
) -> Result<(), StoreError> {
    for item in store.scan_values::<IncidentKey, IncidentRow>(&IncidentKey::all()) {
        let (key, row) = item?;
        if row.cleared_ms != 0 || row.merged_into != 0 {
            continue;
        }
        let mut members = Vec::new();
        for id in row.members.iter().filter_map(symptom_id) {
            let Some(host) = hosts.get(&id.host) else { continue };
            let finding: Option<v1::Finding> = store.get(&FindingKey { host: id.host, finding: id.finding })?;
            members.extend(finding.and_then(|finding| symptom(id.host, host, &finding)));
        }
        let Some(cause) = row.cause.as_ref().and_then(symptom_id) else { continue };
        correlator.restore(incident(key.incident, &row, cause, &members), members);
    }
    let now_ms = clock::wall_ms();
    for (id, host) in hosts {
        for finding in host.findings.values() {
            if let Some(symptom) = symptom(*id, host, finding).filter(|s| correlator.symptom(s.id).is_none()) {
                correlator.observe(symptom, now_ms);
            }
        }
    }
    Ok(())
}

fn incident(id: IncidentId, row: &IncidentRow, cause: SymptomId, members: &[Symptom]) -> Incident {
    use mainstay_core::finding::FindingState::Open;
    Incident {
        id,
        opened_ms: row.opened_ms,
        changed_ms: row.changed_ms,
        cleared_ms: None,
        members: members.iter().map(|m| m.id).collect(),
        open: members.iter().filter(|m| m.state == Open).map(|m| m.id).collect(),
        more: row.more,
        cause,
        cause_confidence: row.cause_confidence,
        evidence: row.evidence.clone(),
        ties: row.ties.iter().cloned().collect(),
    }
}
