//! What was changed on hosts, with the marks that operators and their tools leave.
//!
//! A mark says that something was done to some hosts at once, such as a deployment. It is kept once, with the hosts that
//! were meant at that moment; it shows among the changes of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use tonic::Status;

use super::{find, findings};
use crate::hub::Hub;
use crate::store::keys::{ChangeByTimeKey, ChangeKey, EventKey, Key};
use crate::store::values::EventRow;
use crate::store::{Batch, StoreError};
use crate::{clock, random};

/// Most changes that are shown with an incident.
const SHOWN_MAX: usize = 20;

/// How long before an incident opened a change is shown with it, and how long after: a host's clock may be behind.
const BEFORE_MS: i64 = 3_600_000;
const AFTER_MS: i64 = 60_000;

/// Changes that are looked at for one answer, whatever is asked for.
const LOOKED_AT_MAX: usize = 200_000;

/// Longest name of a mark, and longest text.
const NAME_BYTES_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 512;

/// How far back a mark may be set: what was done and is told later.
const MARK_BACK_MS: i64 = 7 * 86_400_000;

/// Which changes are wanted.
struct Wanted<'a> {
    hosts: BTreeMap<HostId, String>,
    /// Whether marks of hosts that are no more, and of none, are wanted too.
    every: bool,
    kind: &'a str,
    from_ms: i64,
    to_ms: i64,
    limit: usize,
}

impl Wanted<'_> {
    fn is_of_kind(&self, change: &v1::Change) -> bool {
        let rest = change.kind.strip_prefix(self.kind);
        rest.is_some_and(|rest| self.kind.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }
}

/// Answers `ListChanges`: newest first.
///
/// # Errors
/// If no such host is there, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListChangesRequest) -> Result<v1::ListChangesResponse, Status> {
    let now_ms = clock::wall_ms();
    let every = request.selector.as_ref().is_none_or(|s| s.host.is_empty() && s.labels.is_empty());
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let wanted = Wanted {
        hosts: hosts.into_iter().map(|(id, host)| (id, host.hostname().to_owned())).collect(),
        every,
        kind: &request.kind,
        from_ms: request.since_ms,
        to_ms: if request.until_ms == 0 { i64::MAX } else { request.until_ms },
        limit: findings::limit(request.limit),
    };
    let (changes, truncated) = collect(hub, &wanted)?;
    Ok(v1::ListChangesResponse { changes, now_ms, truncated })
}

/// What was changed on the hosts of an incident before it opened, newest first.
///
/// # Errors
/// If the store fails.
pub(super) fn before(hub: &Hub, hosts: &BTreeSet<HostId>, opened_ms: i64) -> Result<Vec<v1::ChangeView>, StoreError> {
    let named = {
        let state = hub.state();
        let name = |id: &HostId| Some((*id, state.hosts.get(id)?.hostname().to_owned()));
        hosts.iter().filter_map(name).collect()
    };
    let wanted = Wanted {
        hosts: named,
        every: false,
        kind: "",
        from_ms: opened_ms.saturating_sub(BEFORE_MS),
        to_ms: opened_ms.saturating_add(AFTER_MS),
        limit: SHOWN_MAX,
    };
    collect(hub, &wanted).map(|(changes, _)| changes)
}

/// Changes and marks, newest first, and whether there are more.
fn collect(hub: &Hub, wanted: &Wanted<'_>) -> Result<(Vec<v1::ChangeView>, bool), StoreError> {
    let mut found = marks(hub, wanted)?;
    let one = wanted.hosts.keys().next().filter(|_| wanted.hosts.len() == 1);
    let mut truncated = match one {
        Some(host) => of_host(hub, *host, wanted, &mut found)?,
        None => of_hosts(hub, wanted, &mut found)?,
    };
    found.sort_by_key(|view| std::cmp::Reverse(view.change.as_ref().map_or(0, |change| change.at_ms)));
    truncated |= found.len() > wanted.limit;
    found.truncate(wanted.limit);
    Ok((found, truncated))
}

fn of_host(hub: &Hub, host: HostId, wanted: &Wanted<'_>, to: &mut Vec<v1::ChangeView>) -> Result<bool, StoreError> {
    let before = to.len();
    for (looked_at, item) in hub.store.scan_back::<ChangeKey>(&ChangeKey::of(host)).enumerate() {
        let (key, value) = item?;
        if key.at_ms < wanted.from_ms {
            break;
        }
        if looked_at >= LOOKED_AT_MAX || to.len() - before > wanted.limit {
            return Ok(true);
        }
        if key.at_ms <= wanted.to_ms {
            push(&key.encode(), &value, host, wanted, to)?;
        }
    }
    Ok(false)
}

fn of_hosts(hub: &Hub, wanted: &Wanted<'_>, to: &mut Vec<v1::ChangeView>) -> Result<bool, StoreError> {
    let before = to.len();
    for (looked_at, item) in hub.store.scan_back::<ChangeByTimeKey>(&ChangeByTimeKey::all()).enumerate() {
        let (key, _) = item?;
        if key.at_ms < wanted.from_ms {
            break;
        }
        if looked_at >= LOOKED_AT_MAX || to.len() - before > wanted.limit {
            return Ok(true);
        }
        let full = ChangeKey { host: key.host, at_ms: key.at_ms, id: key.id };
        if key.at_ms <= wanted.to_ms
            && wanted.hosts.contains_key(&key.host)
            && let Some(value) = hub.store.get_raw(&full)?
        {
            push(&full.encode(), &value, key.host, wanted, to)?;
        }
    }
    Ok(false)
}

fn push(
    key: &[u8],
    value: &[u8],
    host: HostId,
    wanted: &Wanted<'_>,
    to: &mut Vec<v1::ChangeView>,
) -> Result<(), StoreError> {
    let change: v1::Change = crate::store::decode(key, value)?;
    if wanted.is_of_kind(&change) {
        let hostname = wanted.hosts.get(&host).cloned().unwrap_or_default();
        to.push(v1::ChangeView { host_id: host.0.to_vec(), hostname, change: Some(change), hosts: 1 });
    }
    Ok(())
}

/// Marks are few: a deployment is an event of a fleet, not of a second.
fn marks(hub: &Hub, wanted: &Wanted<'_>) -> Result<Vec<v1::ChangeView>, StoreError> {
    let mut found = Vec::new();
    for item in hub.store.scan_back::<EventKey>(&EventKey::all()) {
        let (key, value) = item?;
        if key.at_ms < wanted.from_ms || found.len() > wanted.limit {
            break;
        }
        let row: EventRow = crate::store::decode(&key.encode(), &value)?;
        let means =
            |id: &Vec<u8>| <[u8; 16]>::try_from(id.as_slice()).is_ok_and(|id| wanted.hosts.contains_key(&HostId(id)));
        let is_meant = wanted.every || row.all || row.hosts.iter().any(means);
        let Some(change) = row.change.filter(|change| wanted.is_of_kind(change)) else { continue };
        if is_meant && key.at_ms <= wanted.to_ms {
            let hosts = u32::try_from(row.hosts.len()).unwrap_or(u32::MAX);
            found.push(v1::ChangeView { host_id: Vec::new(), hostname: row.scope, change: Some(change), hosts });
        }
    }
    Ok(found)
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
    fn a_kind_is_meant_by_its_name_or_the_beginning_of_it() {
        let wanted = |kind| Wanted { hosts: BTreeMap::new(), every: true, kind, from_ms: 0, to_ms: 0, limit: 1 };
        let is = |asked, kind: &str| {
            wanted(asked).is_of_kind(&v1::Change { kind: kind.to_owned(), ..v1::Change::default() })
        };
        assert!(is("", "file.changed") && is("file", "file.changed") && is("file.changed", "file.changed"));
        assert!(!is("fil", "file.changed") && !is("package", "packages.changed"));
    }

    #[test]
    fn what_a_mark_means_is_said_as_it_was_asked_for() {
        let label = |name: &str, value: &str| v1::Label { name: name.to_owned(), value: value.to_owned() };
        let labels = v1::Selector { labels: vec![label("role", "web"), label("zone", "a")], host: String::new() };
        assert_eq!(scope(&labels, Some("web-1")), "role=web,zone=a");
        assert_eq!(scope(&v1::Selector { host: "01a2".to_owned(), labels: Vec::new() }, Some("web-1")), "web-1");
        assert_eq!(scope(&v1::Selector::default(), Some("web-1")), "all hosts");
    }
}
