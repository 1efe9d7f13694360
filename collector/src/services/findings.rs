//! Findings, as operators see them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mainstay_core::id::{FindingId, HostId};
use mainstay_proto::v1;
use tonic::Status;

use super::find;
use super::search::{Looking, Search, limit};
use crate::clock;
use crate::hub::{HostState, Hub};
use crate::query::Stop;
use crate::store::StoreError;
use crate::store::keys::{self, FindingByTimeKey, FindingKey, IncidentOfKey, Key};
use crate::store::values::{ended_ms, opened_ms};

/// Up to so many hosts are read one by one; the findings of more are found by their time, among those of all.
const HOSTS_ONE_BY_ONE: usize = 16;

fn incident_of(hub: &Hub, host: HostId, finding: FindingId) -> Result<Option<u64>, StoreError> {
    let stored = hub.store.get_raw(&IncidentOfKey { host, finding })?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
}

fn view(hub: &Hub, host: HostId, hostname: &str, finding: v1::Finding) -> Result<v1::FindingView, StoreError> {
    let incident = incident_of(hub, host, FindingId(finding.id))?;
    Ok(v1::FindingView { host_id: host.0.to_vec(), hostname: hostname.to_owned(), finding: Some(finding), incident })
}

/// Answers `ListFindings`: open ones, all of a time, or those of an id; newest first.
///
/// # Errors
/// If the selector names a host that is not there, nothing can be looked for so, nobody waits any more, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListFindingsRequest, stop: &Stop) -> Result<v1::ListFindingsResponse, Status> {
    let now_ms = clock::wall_ms();
    let search = Search::read(request.search.as_ref())?;
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let mut looking = Looking::new(&hub.store, stop, limit(request.limit));
    let found = if !request.id.is_empty() {
        by_id(&mut looking, find::findings(&request.id)?, &search, &hosts)?
    } else if !request.all {
        open(&mut looking, &search, &hosts)
    } else if hosts.len() <= HOSTS_ONE_BY_ONE {
        of_hosts(&mut looking, &search, &hosts)?
    } else {
        by_time(&mut looking, &search, &hosts)?
    };
    let names: BTreeMap<HostId, &str> = hosts.iter().map(|(id, host)| (*id, host.hostname())).collect();
    let view = |(host, finding): (HostId, v1::Finding)| {
        view(hub, host, names.get(&host).copied().unwrap_or_default(), finding).map_err(Status::from)
    };
    let findings = found.into_iter().map(view).collect::<Result<_, _>>()?;
    let (truncated, looked_back_to_ms) = (looking.is_cut, looking.looked_back_to_ms);
    Ok(v1::ListFindingsResponse { findings, now_ms, truncated, looked_back_to_ms })
}

/// Whether a finding is meant.
fn is_meant(search: &Search, host: &HostState, finding: &v1::Finding) -> bool {
    search.spans(opened_ms(finding).unwrap_or(0), ended_ms(finding)) && search.means(finding, &[host.hostname()])
}

fn open(looking: &mut Looking<'_>, search: &Search, hosts: &[(HostId, HostState)]) -> Vec<(HostId, v1::Finding)> {
    let of = |(id, host): &(HostId, HostState)| {
        let meant = host.findings.values().filter(|finding| is_meant(search, host, finding));
        meant.map(|finding| (*id, finding.clone())).collect::<Vec<_>>()
    };
    let mut found = hosts.iter().flat_map(of).collect();
    newest(looking, &mut found);
    found
}

fn of_hosts(
    looking: &mut Looking<'_>,
    search: &Search,
    hosts: &[(HostId, HostState)],
) -> Result<Vec<(HostId, v1::Finding)>, Status> {
    let mut found = Vec::new();
    for (id, host) in hosts {
        for item in looking.store.scan_values::<FindingKey, v1::Finding>(&FindingKey::of(*id)) {
            let (_, finding) = item?;
            looking.pass()?;
            found.extend(Some((*id, finding)).filter(|(_, finding)| is_meant(search, host, finding)));
        }
        newest(looking, &mut found);
    }
    Ok(found)
}

/// Those whose ids lie between two, both included, whatever they are of.
fn by_id(
    looking: &mut Looking<'_>,
    (low, high): (FindingId, FindingId),
    search: &Search,
    hosts: &[(HostId, HostState)],
) -> Result<Vec<(HostId, v1::Finding)>, Status> {
    let mut found = Vec::new();
    for (id, host) in hosts {
        let from = FindingKey { host: *id, finding: low }.encode();
        looking.pass()?;
        for item in looking.store.scan::<FindingKey>(&FindingKey::of(*id), &from) {
            let (key, value) = item?;
            if key.finding > high {
                break;
            }
            looking.pass()?;
            let finding: v1::Finding = crate::store::decode(&key.encode(), &value)?;
            found.extend(Some((*id, finding)).filter(|(_, finding)| is_meant(search, host, finding)));
        }
        newest(looking, &mut found);
    }
    Ok(found)
}

fn by_time(
    looking: &mut Looking<'_>,
    search: &Search,
    hosts: &[(HostId, HostState)],
) -> Result<Vec<(HostId, v1::Finding)>, Status> {
    let selected: BTreeMap<HostId, &HostState> = hosts.iter().map(|(id, host)| (*id, host)).collect();
    let entries = looking.store.scan_back_from(&FindingByTimeKey::all(), &FindingByTimeKey::at(search.to_ms));
    let at_ms = |key: &FindingByTimeKey| key.opened_ms;
    looking.take(entries, at_ms, |looking, key, ended| {
        let host = selected.get(&key.host).filter(|_| search.spans(key.opened_ms, keys::ended_ms(ended)));
        let Some(host) = host else { return Ok(ControlFlow::Continue(None)) };
        let full = FindingKey { host: key.host, finding: key.finding };
        let finding = looking.get(&full)?.filter(|finding| is_meant(search, host, finding));
        Ok(ControlFlow::Continue(finding.map(|finding| (key.host, finding))))
    })
}

/// Keeps the newest ones, newest first.
fn newest(looking: &mut Looking<'_>, found: &mut Vec<(HostId, v1::Finding)>) {
    found.sort_by_key(|(_, finding)| Reverse(opened_ms(finding)));
    looking.cut(found);
}
