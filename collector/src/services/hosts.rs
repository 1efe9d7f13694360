//! Hosts, as operators see them.

use mainstay_core::id::HostId;
use mainstay_core::series::{Point, SeriesKey};
use mainstay_fleet::silence::{Presence, SilenceSettings};
use mainstay_proto::v1;
use tonic::Status;

use super::{decisions, find};
use crate::clock;
use crate::hub::{HostState, Hub};

/// Decisions that are shown with a host.
const DECISIONS_SHOWN: usize = 20;
/// Gaps that are shown with a host: the latest.
const GAPS_SHOWN: usize = 16;

/// A host's state in one word.
#[must_use]
pub fn word(host: &HostState, settings: SilenceSettings, now_ms: i64) -> &'static str {
    if host.is_revoked() {
        return "revoked";
    }
    match host.presence(settings, now_ms) {
        Presence::Silent { .. } => "silent",
        Presence::Away { .. } => "away",
        Presence::Unknown => "unknown",
        Presence::Online if host.is_healing(now_ms) => "healing",
        Presence::Online => "online",
    }
}

/// Share of what the agent numbered that is here. What is still on its way is not missing.
#[must_use]
pub fn completeness(host: &HostState) -> f64 {
    let all = host.mark.stored.saturating_add(host.mark.lost);
    if all == 0 { 1.0 } else { host.mark.stored as f64 / all as f64 }
}

fn view(id: HostId, host: &HostState, settings: SilenceSettings, now_ms: i64) -> v1::HostView {
    let mark = &host.mark;
    let mut notes = mark.doubts.clone();
    if host.contested_ms.is_some() {
        notes.push("two machines have used this identity at once; enrol one of them anew".to_owned());
    }
    if host.series.dropped > 0 {
        let (dropped, all) = (host.series.dropped, host.series.dropped + host.series.points);
        notes.push(format!("{dropped} of its {all} series are dropped: see `series_per_host` in collector.toml"));
    }
    let spool = mark.spools.iter().find(|s| s.epoch == mark.epoch);
    v1::HostView {
        host_id: id.0.to_vec(),
        facts: host.row.facts.clone(),
        state: word(host, settings, now_ms).to_owned(),
        findings: host.findings.values().cloned().collect(),
        policy: mark.policy.clone(),
        last_seen_ms: host.heard_ms.max(mark.last_seen_ms),
        enrolled_ms: host.row.enrolled_ms,
        completeness: completeness(host),
        gaps: mark.gaps.iter().rev().take(GAPS_SHOWN).cloned().collect(),
        clock_offset_ms: mark.clock_offset_ms,
        ledger: mark.ledger.clone(),
        durable_seq: spool.map_or(0, |s| s.upto),
        notes,
    }
}

/// Answers `ListHosts`: by name, then by id.
///
/// # Errors
/// If the selector names a host that is not there.
pub fn list(hub: &Hub, request: &v1::ListHostsRequest) -> Result<v1::ListHostsResponse, Status> {
    let now_ms = clock::wall_ms();
    let settings = hub.silence();
    let found = find::hosts(&hub.state(), request.selector.as_ref())?;
    let mut hosts: Vec<v1::HostView> = found.iter().map(|(id, host)| view(*id, host, settings, now_ms)).collect();
    let name = |view: &v1::HostView| view.facts.as_ref().map(|f| f.hostname.clone());
    hosts.sort_by(|a, b| name(a).cmp(&name(b)).then_with(|| a.host_id.cmp(&b.host_id)));
    Ok(v1::ListHostsResponse { hosts, now_ms })
}

/// Answers `GetHost`.
///
/// # Errors
/// If there is no such host, or the store fails.
pub fn get(hub: &Hub, request: &v1::GetHostRequest) -> Result<v1::GetHostResponse, Status> {
    let now_ms = clock::wall_ms();
    let settings = hub.silence();
    let (id, host) = {
        let state = hub.state();
        let id = find::host(&state, &request.host)?;
        let host = state.hosts.get(&id).cloned().unwrap_or_default();
        (id, host)
    };
    let last = hub.store.last_row(host.row.short)?;
    let values = last.map(|(schema, row)| {
        let cells = schema.keys.iter().zip(row.cells);
        let value = |(key, cell): (&std::sync::Arc<SeriesKey>, Option<Point>)| {
            let (Point::Counter(value) | Point::Gauge { last: value, .. }) = cell?;
            Some(v1::SeriesValue { key: Some((&**key).into()), value, at_ms: row.at_ms })
        };
        cells.filter_map(value).collect()
    });
    let decisions = decisions::of_host(hub, id, DECISIONS_SHOWN, |_| true)?;
    Ok(v1::GetHostResponse {
        host: Some(view(id, &host, settings, now_ms)),
        values: values.unwrap_or_default(),
        decisions,
        now_ms,
    })
}
