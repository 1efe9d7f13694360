//! What was changed on hosts, with the marks that operators and their tools leave.
//!
//! A mark says that something was done to some hosts at once, such as a deployment. It is kept once, with the hosts that
//! were meant at that moment; it shows among the changes of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use tonic::Status;

use super::find;
use super::search::{Looking, Search, limit};
use crate::hub::Hub;
use crate::query::Stop;
use crate::store::Batch;
use crate::store::keys::{ChangeByTimeKey, ChangeKey, EventKey, Key};
use crate::store::values::EventRow;
use crate::{clock, random};

/// Most changes that are shown with an incident.
const SHOWN_MAX: usize = 20;

/// How long before an incident opened a change is shown with it, and how long after: a host's clock may be behind.
const BEFORE_MS: i64 = 3_600_000;
const AFTER_MS: i64 = 60_000;

/// Longest name of a mark, and longest text.
const NAME_BYTES_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 512;

/// How far back a mark may be set: what was done and is told later.
const MARK_BACK_MS: i64 = 7 * 86_400_000;

/// Which changes are wanted.
struct Wanted {
    hosts: BTreeMap<HostId, String>,
    /// Whether marks of hosts that are no more, and of none, are wanted too.
    every: bool,
    search: Search,
}

/// Answers `ListChanges`: newest first.
///
/// # Errors
/// If no such host is there, nothing can be looked for so, nobody waits any more, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListChangesRequest, stop: &Stop) -> Result<v1::ListChangesResponse, Status> {
    let now_ms = clock::wall_ms();
    let search = Search::read(request.search.as_ref())?;
    let every = request.selector.as_ref().is_none_or(|s| s.host.is_empty() && s.labels.is_empty());
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let hosts = hosts.into_iter().map(|(id, host)| (id, host.hostname().to_owned())).collect();
    let mut looking = Looking::new(&hub.store, stop, limit(request.limit));
    let changes = collect(&mut looking, &Wanted { hosts, every, search })?;
    let (truncated, looked_back_to_ms) = (looking.is_cut, looking.looked_back_to_ms);
    Ok(v1::ListChangesResponse { changes, now_ms, truncated, looked_back_to_ms })
}

/// What was changed on the hosts of an incident before it opened, newest first.
///
/// # Errors
/// If the store fails.
pub(super) fn before(hub: &Hub, hosts: &BTreeSet<HostId>, opened_ms: i64) -> Result<Vec<v1::ChangeView>, Status> {
    let named = {
        let state = hub.state();
        let name = |id: &HostId| Some((*id, state.hosts.get(id)?.hostname().to_owned()));
        hosts.iter().filter_map(name).collect()
    };
    let search = Search::between(opened_ms.saturating_sub(BEFORE_MS), opened_ms.saturating_add(AFTER_MS));
    collect(&mut Looking::briefly(&hub.store, SHOWN_MAX), &Wanted { hosts: named, every: false, search })
}

/// Changes and marks, newest first.
fn collect(looking: &mut Looking<'_>, wanted: &Wanted) -> Result<Vec<v1::ChangeView>, Status> {
    let mut found = marks(looking, wanted)?;
    let mut hosts = wanted.hosts.keys();
    found.extend(match (hosts.next(), hosts.next()) {
        (Some(only), None) => of_host(looking, *only, wanted)?,
        _ => of_hosts(looking, wanted)?,
    });
    found.sort_by_key(|view| Reverse(view.change.as_ref().map_or(0, |change| change.at_ms)));
    looking.cut(&mut found);
    Ok(found)
}

fn of_host(looking: &mut Looking<'_>, host: HostId, wanted: &Wanted) -> Result<Vec<v1::ChangeView>, Status> {
    let search = &wanted.search;
    let entries = looking.store.scan_back_from(&ChangeKey::of(host), &ChangeKey::at(host, search.to_ms));
    let at_ms = |key: &ChangeKey| key.at_ms;
    looking.take(entries, at_ms, |looking, key, value| {
        if key.at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        looking.count(1);
        let change: v1::Change = crate::store::decode(&key.encode(), value)?;
        Ok(ControlFlow::Continue(view(host, change, wanted)))
    })
}

fn of_hosts(looking: &mut Looking<'_>, wanted: &Wanted) -> Result<Vec<v1::ChangeView>, Status> {
    let search = &wanted.search;
    let entries = looking.store.scan_back_from(&ChangeByTimeKey::all(), &ChangeByTimeKey::at(search.to_ms));
    let at_ms = |key: &ChangeByTimeKey| key.at_ms;
    looking.take(entries, at_ms, |looking, ChangeByTimeKey { at_ms, host, id }, _| {
        if at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        if !wanted.hosts.contains_key(&host) {
            return Ok(ControlFlow::Continue(None));
        }
        let change = looking.get(&ChangeKey { host, at_ms, id })?;
        Ok(ControlFlow::Continue(change.and_then(|change| view(host, change, wanted))))
    })
}

fn view(host: HostId, change: v1::Change, wanted: &Wanted) -> Option<v1::ChangeView> {
    let hostname = wanted.hosts.get(&host).cloned().unwrap_or_default();
    let is_meant = wanted.search.means(&change, &[&hostname]);
    is_meant.then(|| v1::ChangeView { host_id: host.0.to_vec(), hostname, change: Some(change), hosts: 1 })
}

/// Marks are few: a deployment is an event of a fleet, not of a second.
fn marks(looking: &mut Looking<'_>, wanted: &Wanted) -> Result<Vec<v1::ChangeView>, Status> {
    let search = &wanted.search;
    let entries = looking.store.scan_back_from(&EventKey::all(), &EventKey::at(search.to_ms));
    let at_ms = |key: &EventKey| key.at_ms;
    looking.take(entries, at_ms, |looking, key, value| {
        if key.at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        looking.count(1);
        let row: EventRow = crate::store::decode(&key.encode(), value)?;
        let means =
            |id: &Vec<u8>| <[u8; 16]>::try_from(id.as_slice()).is_ok_and(|id| wanted.hosts.contains_key(&HostId(id)));
        let is_meant = wanted.every || row.all || row.hosts.iter().any(means);
        let hosts = u32::try_from(row.hosts.len()).unwrap_or(u32::MAX);
        let change = row.change.filter(|change| is_meant && search.means(change, &[&row.scope]));
        let view = |change| v1::ChangeView { host_id: Vec::new(), hostname: row.scope, change: Some(change), hosts };
        Ok(ControlFlow::Continue(change.map(view)))
    })
}

/// Keeps a mark.
///
/// # Errors
/// If it says nothing, means nobody, or the store fails.
pub async fn mark(hub: &Arc<Hub>, request: v1::MarkEventRequest, by: &str) -> Result<v1::MarkEventResponse, Status> {
    let now_ms = clock::wall_ms();
    if request.kind != "deploy" {
        return Err(Status::invalid_argument(format!("`{}` is not a kind of mark (deploy)", request.kind)));
    }
    text("name", &request.name, 1..=NAME_BYTES_MAX)?;
    text("text", &request.text, 0..=TEXT_BYTES_MAX)?;
    let at_ms = if request.at_ms == 0 { now_ms } else { request.at_ms };
    if at_ms > now_ms || now_ms - at_ms > MARK_BACK_MS {
        return Err(Status::invalid_argument("a mark stands for what was done by now, and within a week"));
    }
    let selector = request.selector.unwrap_or_default();
    let all = selector.host.is_empty() && selector.labels.is_empty();
    let hosts = find::hosts(&hub.state(), Some(&selector))?;
    if hosts.is_empty() {
        return Err(Status::not_found("no host is meant by that; `mainstay hosts` lists them with their labels"));
    }
    let scope = scope(&selector, hosts.first().map(|(_, host)| host.hostname()));
    let subject = request.name;
    let change = v1::Change {
        at_ms,
        seen_ms: now_ms,
        kind: request.kind,
        subject,
        by: Some(by.to_owned()),
        text: request.text,
        ..v1::Change::default()
    };
    let ids: Vec<Vec<u8>> = hosts.iter().map(|(id, _)| id.0.to_vec()).collect();
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let row = EventRow { change: Some(change), scope, hosts: ids, all };
    let mut batch = Batch::default();
    batch.put(&EventKey { at_ms, id: random::number() }, &row);
    hub.store.commit(batch).await?;
    Ok(v1::MarkEventResponse { hosts: count, at_ms })
}

/// Whether a text can stand for whoever leaves a mark.
#[must_use]
pub fn is_author(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn text(what: &str, text: &str, bytes: std::ops::RangeInclusive<usize>) -> Result<(), Status> {
    if bytes.contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let (least, most) = (bytes.start(), bytes.end());
    Err(Status::invalid_argument(format!("the {what} of a mark has {least} to {most} bytes of one line")))
}

/// What was meant, in words.
fn scope(selector: &v1::Selector, hostname: Option<&str>) -> String {
    if !selector.host.is_empty() {
        return hostname.unwrap_or(&selector.host).to_owned();
    }
    let labels: Vec<String> = selector.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
    if labels.is_empty() { "all hosts".to_owned() } else { labels.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mark_means_is_said_as_it_was_asked_for() {
        let label = |name: &str, value: &str| v1::Label { name: name.to_owned(), value: value.to_owned() };
        let labels = v1::Selector { labels: vec![label("role", "web"), label("zone", "a")], host: String::new() };
        assert_eq!(scope(&labels, Some("web-1")), "role=web,zone=a");
        assert_eq!(scope(&v1::Selector { host: "01a2".to_owned(), labels: Vec::new() }, Some("web-1")), "web-1");
        assert_eq!(scope(&v1::Selector::default(), Some("web-1")), "all hosts");
    }
}
