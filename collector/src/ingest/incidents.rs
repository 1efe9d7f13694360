//! Incidents: findings handed to the correlation, and what it says made durable and told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_core::finding::Finding;
use mainstay_core::id::{HostId, IncidentId};
use mainstay_fleet::correlate::{Change, Correlator, Incident, Symptom, SymptomId};
use mainstay_proto::v1;

use crate::clock;
use crate::hub::{HostState, Hub, State};
use crate::store::keys::{FindingKey, IncidentByTimeKey, IncidentKey, IncidentOfKey, NoticeKey, ended};
use crate::store::values::{IncidentRow, MemberRow, NoticeRow, symptom_id};
use crate::store::{Batch, Store, StoreError};

/// How long what is due waits for the next write.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

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

/// What is told of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Opened,
    Cleared,
}

/// What of the incidents is to be written, and what is to be told when it is.
#[derive(Debug, Default)]
pub struct Due {
    incidents: BTreeSet<IncidentId>,
    /// Those of them that nobody knows of yet.
    opened: BTreeSet<IncidentId>,
    /// Those that are part of another.
    merged: BTreeMap<IncidentId, IncidentId>,
    events: Vec<(IncidentId, Event)>,
}

impl Due {
    fn note(&mut self, change: &Change) {
        let (id, event) = match change {
            Change::Opened(id) => (*id, Some(Event::Opened)),
            Change::Changed(id) => (*id, None),
            Change::Cleared(id) => (*id, Some(Event::Cleared)),
            Change::Merged { gone, into } => {
                self.incidents.remove(gone);
                self.merged.insert(*gone, *into);
                (*into, None)
            }
        };
        if event == Some(Event::Opened) {
            self.opened.insert(id);
        }
        self.incidents.insert(id);
        self.events.extend(event.map(|event| (id, event)));
    }

    /// Those that are to be known as part of another, of which one. What opened since the last write is known to nobody.
    fn known_merged(&self) -> impl Iterator<Item = (IncidentId, IncidentId)> {
        let last = |into: &IncidentId| {
            let mut into = *into;
            while let Some(next) = self.merged.get(&into) {
                into = *next;
            }
            into
        };
        let known = self.merged.iter().filter(|(gone, _)| !self.opened.contains(gone));
        known.map(move |(gone, into)| (*gone, last(into)))
    }

    /// Puts back what could not be written, before what came since.
    fn again(&mut self, old: Self) {
        self.incidents.extend(old.incidents.into_iter().filter(|id| !self.merged.contains_key(id)));
        self.opened.extend(old.opened);
        self.merged.extend(old.merged);
        self.events.splice(0..0, old.events);
    }
}

/// Correlates findings that are durable already. What that changes is written soon, with what others change meanwhile:
/// a fleet that breaks brings thousands of findings to one incident.
pub fn observe(hub: &Hub, host: HostId, findings: &[v1::Finding]) {
    if findings.is_empty() {
        return;
    }
    let now_ms = clock::wall_ms();
    {
        let mut state = hub.state();
        let State { hosts, correlator, due, .. } = &mut *state;
        let Some(host_state) = hosts.get(&host) else { return };
        for symptom in findings.iter().filter_map(|finding| symptom(host, host_state, finding)) {
            correlator.observe(symptom, now_ms).iter().for_each(|change| due.note(change));
        }
    }
    hub.incidents_due.notify_one();
}

/// Writes what is due of the incidents, for as long as the collector runs.
pub async fn keep(hub: Arc<Hub>) {
    loop {
        hub.incidents_due.notified().await;
        let started = Instant::now();
        let written = write_due(&hub).await;
        // A tenth of the time at most, so that thousands of changes of a large incident are few writes of it.
        let mut pause = (started.elapsed() * 9).clamp(PAUSE_MIN, PAUSE_MAX);
        if let Err(error) = written {
            tracing::warn!(%error, "incidents could not be stored; it is tried again");
            hub.incidents_due.notify_one();
            pause = PAUSE_MAX;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Makes what is due of the incidents durable, with what is to be told of it.
///
/// # Errors
/// If the store cannot be written; what is due stays so.
pub async fn write_due(hub: &Hub) -> Result<(), StoreError> {
    // What was put together later is written later.
    let _one_at_a_time = hub.writing_incidents.lock().await;
    let is_told = hub.settings().webhook.is_some();
    let mut batch = Batch::default();
    let (due, joined) = {
        let mut state = hub.state();
        let State { correlator, due, hosts, .. } = &mut *state;
        let due = std::mem::take(due);
        for (gone, into) in due.known_merged() {
            batch.put(&IncidentKey { incident: gone }, &IncidentRow { merged_into: into.0, ..IncidentRow::default() });
        }
        for id in &due.incidents {
            correlator.settle(*id);
            if let Some(incident) = correlator.incident(*id) {
                write_incident(&mut batch, incident);
            }
        }
        let mut joined = correlator.take_joined();
        // What is stored of a host that is being deleted goes, and does not come again.
        joined.retain(|(member, _)| hosts.get(&member.host).is_some_and(|host| !host.is_revoked()));
        for (member, incident) in &joined {
            let key = IncidentOfKey { host: member.host, finding: member.finding };
            batch.put_raw(&key, incident.0.to_be_bytes().to_vec());
        }
        for (id, event) in due.events.iter().filter(|_| is_told) {
            if let Some((key, row)) = notice(correlator, *id, *event) {
                batch.put(&key, &row);
            }
        }
        (due, joined)
    };
    if let Err(error) = hub.store.commit(batch).await {
        let mut state = hub.state();
        state.due.again(due);
        state.correlator.give_joined_back(joined);
        return Err(error);
    }
    hub.notices_due.notify_one();
    Ok(())
}

fn write_incident(batch: &mut Batch, incident: &Incident) {
    let key = IncidentKey { incident: incident.id };
    let row = row(incident);
    let by_time = IncidentByTimeKey { opened_ms: incident.opened_ms, incident: incident.id };
    batch.put_raw(&by_time, ended(row.ended_ms()));
    batch.put(&key, &row);
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
        more: incident.beyond.len() as u64,
        merged_into: 0,
    }
}

fn notice(correlator: &Correlator, id: IncidentId, event: Event) -> Option<(NoticeKey, NoticeRow)> {
    let incident = correlator.incident(id)?;
    let key = NoticeKey { at_ms: incident.changed_ms, incident: id, cleared: u8::from(event == Event::Cleared) };
    let row = NoticeRow {
        members: incident.members.len() as u64,
        cause: correlator.symptom(incident.cause).map(Symptom::said).unwrap_or_default(),
        evidence: incident.evidence.clone(),
    };
    Some((key, row))
}

/// Puts the open incidents back, and the open findings that belong to none. Gives what is due since: an end of the collector
/// may have come between a finding and what it changes.
///
/// # Errors
/// If the store cannot be read.
pub fn restore(
    store: &Store,
    correlator: &mut Correlator,
    hosts: &BTreeMap<HostId, HostState>,
) -> Result<Due, StoreError> {
    let now_ms = clock::wall_ms();
    let (mut due, mut to_clear) = (Due::default(), Vec::new());
    for item in store.scan_values::<IncidentKey, IncidentRow>(&IncidentKey::all()) {
        let (key, row) = item?;
        if row.cleared_ms != 0 || row.merged_into != 0 {
            continue;
        }
        let (mut members, mut is_open) = (Vec::new(), false);
        for id in row.members.iter().filter_map(symptom_id) {
            let Some(host) = hosts.get(&id.host) else { continue };
            let finding: Option<v1::Finding> = store.get(&FindingKey { host: id.host, finding: id.finding })?;
            // One of a kind that this build does not know is open all the same.
            is_open |= finding.as_ref().is_some_and(|finding| finding.state == "open");
            members.extend(finding.and_then(|finding| symptom(id.host, host, &finding)));
        }
        let Some(cause) = row.cause.as_ref().and_then(symptom_id) else { continue };
        correlator.restore(incident(key.incident, &row, cause, &members), members);
        to_clear.extend((!is_open).then_some(key.incident));
    }
    for (id, host) in hosts {
        for finding in host.findings.values() {
            if let Some(symptom) = symptom(*id, host, finding).filter(|s| correlator.symptom(s.id).is_none()) {
                correlator.observe(symptom, now_ms).iter().for_each(|change| due.note(change));
            }
        }
    }
    for id in to_clear {
        correlator.clear_if_over(id, now_ms).iter().for_each(|change| due.note(change));
    }
    Ok(due)
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
        // Those that are still open are counted again.
        beyond: BTreeSet::new(),
        cause,
        cause_confidence: row.cause_confidence,
        evidence: row.evidence.clone(),
        ties: row.ties.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::finding::FindingKind;
    use mainstay_core::id::FindingId;
    use mainstay_fleet::silence::silent_finding;

    use super::*;
    use crate::config::Settings;
    use crate::enrol::authority::Authority;
    use crate::store::keys::HostKey;
    use crate::store::values::HostRow;

    const HOSTS: u32 = 300;
    const WALL: i64 = 1_700_000_000_000;

    fn id(host: u32) -> HostId {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&host.to_be_bytes());
        HostId(id)
    }

    async fn hub(folder: &tempfile::TempDir) -> Arc<Hub> {
        let settings = Settings::for_tests(folder.path());
        std::fs::create_dir_all(&settings.data).unwrap();
        let store = Store::open(&settings.data.join("db"), settings.cache_bytes, 0).unwrap();
        let mut batch = Batch::default();
        for host in 0..HOSTS {
            let label = v1::Label { name: "role".to_owned(), value: "web".to_owned() };
            let hostname = format!("web-{host}");
            let facts = Some(v1::HostFacts { hostname, labels: vec![label], ..Default::default() });
            batch.put(&HostKey { host: id(host) }, &HostRow { short: host + 1, facts, ..HostRow::default() });
        }
        store.commit(batch).await.unwrap();
        let authority = Authority::open_or_make(&settings.data.join("ca"), WALL).unwrap();
        Hub::start(store, authority, Arc::new(settings), ([127, 0, 0, 1], 1).into()).await.unwrap()
    }

    /// A finding of a host, as the watch for silence stores it before it is observed.
    async fn silent(hub: &Hub, host: u32, state: &str) -> v1::Finding {
        let mut finding: v1::Finding = (&silent_finding(id(host), WALL, WALL)).into();
        state.clone_into(&mut finding.state);
        let mut batch = Batch::default();
        crate::ingest::findings::store(&mut batch, id(host), &finding, WALL);
        hub.store.commit(batch).await.unwrap();
        finding
    }

    fn rows(hub: &Hub) -> Vec<(IncidentId, IncidentRow)> {
        let rows = hub.store.scan_values::<IncidentKey, IncidentRow>(&IncidentKey::all());
        rows.map(|row| row.map(|(key, row)| (key.incident, row)).unwrap()).collect()
    }

    fn incident_of(hub: &Hub, finding: &v1::Finding, host: u32) -> Option<IncidentId> {
        let key = IncidentOfKey { host: id(host), finding: FindingId(finding.id) };
        let bytes = hub.store.get_raw(&key).unwrap()?;
        Some(IncidentId(u64::from_be_bytes(bytes.try_into().unwrap())))
    }

    #[tokio::test]
    async fn what_a_fleet_that_breaks_brings_is_few_writes_and_all_of_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        let mut findings = Vec::new();
        for host in 0..HOSTS {
            findings.push(silent(&hub, host, "open").await);
        }
        let written = |hub: &Hub| hub.store.writer_counts().bytes.load(std::sync::atomic::Ordering::Relaxed);
        for (host, finding) in (0..).zip(&findings) {
            observe(&hub, id(host), std::slice::from_ref(finding));
        }
        assert!(rows(&hub).is_empty(), "what is due is written together");
        write_due(&hub).await.unwrap();
        let all = rows(&hub);
        assert_eq!((all.len(), all[0].1.members.len()), (1, HOSTS as usize));
        assert!(all[0].1.evidence.iter().any(|text| text.contains("role=web")), "{:?}", all[0].1.evidence);
        assert!((0..).zip(&findings).all(|(host, finding)| incident_of(&hub, finding, host) == Some(all[0].0)));
        // One that changes writes the incident, and nothing of its other members.
        let of_all = written(&hub);
        write_due(&hub).await.unwrap();
        assert_eq!(written(&hub), of_all, "nothing is due");
        let cleared = silent(&hub, 7, "cleared").await;
        let before = written(&hub);
        observe(&hub, id(7), &[cleared]);
        write_due(&hub).await.unwrap();
        let row = prost::Message::encoded_len(&rows(&hub)[0].1) as u64;
        assert!(written(&hub) - before < row + 200, "{} bytes of a row of {row}", written(&hub) - before);
    }

    #[test]
    fn what_opened_and_was_merged_before_it_was_written_is_known_to_nobody() {
        let id = IncidentId;
        let mut due = Due::default();
        let merged = |gone, into| Change::Merged { gone: id(gone), into: id(into) };
        // 1 and 4 are stored.
        for change in [Change::Opened(id(2)), merged(4, 2), Change::Changed(id(1)), merged(2, 1), Change::Opened(id(3))]
        {
            due.note(&change);
        }
        assert_eq!(due.known_merged().collect::<Vec<_>>(), [(id(4), id(1))]);
        assert_eq!(due.incidents, BTreeSet::from([id(1), id(3)]));
        let mut later = Due::default();
        later.note(&merged(3, 1));
        later.again(due);
        assert_eq!(later.incidents, BTreeSet::from([id(1)]), "what is part of another now is not written");
        assert_eq!(later.events, [(id(2), Event::Opened), (id(3), Event::Opened)]);
        assert_eq!(later.known_merged().collect::<Vec<_>>(), [(id(4), id(1))]);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_with_what_came_since() {
        let folder = tempfile::tempdir().unwrap();
        let mut hub = hub(&folder).await;
        let webhook = Some("http://127.0.0.1:9/".to_owned());
        hub.set_settings(Arc::new(Settings { webhook, ..Settings::for_tests(folder.path()) }));
        let (first, second) = (silent(&hub, 1, "open").await, silent(&hub, 2, "open").await);
        observe(&hub, id(1), std::slice::from_ref(&first));
        let writer = Arc::get_mut(&mut hub).unwrap().store.replace_writer(None);
        for _ in 0..2 {
            assert!(matches!(write_due(&hub).await, Err(StoreError::Closed)));
            assert_eq!(hub.state().due.events.len(), 1, "it is still to be told");
        }
        observe(&hub, id(2), std::slice::from_ref(&second));
        let notices = |hub: &Hub| hub.store.scan::<NoticeKey>(&NoticeKey::all(), &NoticeKey::all()).count();
        assert_eq!((rows(&hub).len(), notices(&hub)), (0, 0));
        Arc::get_mut(&mut hub).unwrap().store.replace_writer(Some(writer));
        write_due(&hub).await.unwrap();
        let all = rows(&hub);
        assert_eq!((all.len(), all[0].1.members.len()), (1, 2), "{all:?}");
        assert_eq!((incident_of(&hub, &first, 1), incident_of(&hub, &second, 2)), (Some(all[0].0), Some(all[0].0)));
        assert_eq!((hub.state().due.events.len(), notices(&hub)), (0, 1));
    }

    #[tokio::test]
    async fn an_end_between_a_finding_and_its_incident_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, second);
        {
            let hub = hub(&folder).await;
            first = silent(&hub, 1, "open").await;
            observe(&hub, id(1), std::slice::from_ref(&first));
            write_due(&hub).await.unwrap();
            second = silent(&hub, 2, "open").await;
            observe(&hub, id(2), std::slice::from_ref(&second));
        }
        {
            let hub = hub(&folder).await;
            write_due(&hub).await.unwrap();
            let all = rows(&hub);
            assert_eq!((all.len(), all[0].1.members.len(), all[0].1.cleared_ms), (1, 2, 0), "{all:?}");
            assert_eq!(incident_of(&hub, &second, 2), Some(all[0].0));
            // Both clear and a third opens, and nothing of that comes to the incident.
            first = silent(&hub, 1, "cleared").await;
            silent(&hub, 2, "cleared").await;
            silent(&hub, 3, "open").await;
        }
        {
            let hub = hub(&folder).await;
            assert_eq!(hub.state().due.events, [], "it goes on");
            write_due(&hub).await.unwrap();
            let all = rows(&hub);
            assert_eq!((all.len(), all[0].1.members.len(), all[0].1.cleared_ms), (1, 3, 0), "{all:?}");
            silent(&hub, 3, "cleared").await;
        }
        let hub = hub(&folder).await;
        assert_eq!(hub.state().due.events, [(rows(&hub)[0].0, Event::Cleared)]);
        write_due(&hub).await.unwrap();
        let row = &rows(&hub)[0].1;
        assert!(row.cleared_ms != 0 && row.changed_ms == row.cleared_ms, "{row:?}");
        assert_eq!(first.kind, FindingKind::HostSilent.as_str());
    }
}
