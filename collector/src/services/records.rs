//! Records of hosts' ledgers, newest first: what was decided, done, proved and ordered, and when agents started.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mainstay_core::id::{ActionId, DecisionId, HostId};
use mainstay_core::plan::Step;
use mainstay_proto::v1;
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::record::Body;
use mainstay_proto::v1::record::learning::Change;
use prost::Message;
use tonic::Status;

use super::find;
use super::search::{self, Event, Looking, Search, limit};
use crate::clock;
use crate::hub::Hub;
use crate::query::Stop;
use crate::store::StoreError;
use crate::store::keys::{ActionKey, DecisionKey, Key, LedgerKey, RecordByTimeKey};

/// The kind of what this collector cannot read.
const UNREADABLE: &str = "unreadable";

/// Answers `ListRecords`.
///
/// # Errors
/// If the selector names a host that is not there, nothing can be looked for so, nobody waits any more, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListRecordsRequest, stop: &Stop) -> Result<v1::ListRecordsResponse, Status> {
    let search = Search::read(request.search.as_ref())?;
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let hosts: BTreeMap<HostId, String> =
        hosts.into_iter().map(|(id, host)| (id, host.hostname().to_owned())).collect();
    let mut looking = Looking::new(&hub.store, stop, limit(request.limit));
    let mut ids = hosts.iter();
    let of_one = match (ids.next(), ids.next()) {
        (Some((only, name)), None) => by_host(&mut looking, *only, name, &search)?,
        _ => None,
    };
    let records = match of_one {
        Some(records) => records,
        None => by_time(&mut looking, &hosts, &search)?,
    };
    let (truncated, looked_back_to_ms) = (looking.is_cut, looking.looked_back_to_ms);
    Ok(v1::ListRecordsResponse { records, now_ms: clock::wall_ms(), truncated, looked_back_to_ms })
}

/// In the order of the ledger, which a clock that was set does not change. `None`: part of it is damaged.
fn by_host(
    looking: &mut Looking<'_>,
    host: HostId,
    hostname: &str,
    search: &Search,
) -> Result<Option<Vec<v1::RecordView>>, Status> {
    let (last_ms, is_damaged) = (Cell::new(search.to_ms), Cell::new(false));
    let entries = looking.store.scan_back::<LedgerKey>(&LedgerKey::of(host)).take_while(|item| {
        is_damaged.set(matches!(item, Err(StoreError::Damaged(_))));
        !is_damaged.get()
    });
    let at_ms = |_: &LedgerKey| last_ms.get();
    let found = looking.take(entries, at_ms, |looking, key, value| {
        let entry: v1::LedgerEntry = crate::store::decode(&key.encode(), value)?;
        let record = read(&entry);
        if let Some(at_ms) = made_ms(record.as_ref()) {
            if !search.spans(at_ms, Some(at_ms)) {
                return Ok(ControlFlow::Continue(None));
            }
            last_ms.set(at_ms);
        }
        looking.count(1);
        Ok(ControlFlow::Continue(meant(looking, (host, hostname), (key.index, record), search)?))
    })?;
    Ok((!is_damaged.get()).then_some(found))
}

/// In the order of time. What cannot be read at all has none, and is not listed.
fn by_time(
    looking: &mut Looking<'_>,
    hosts: &BTreeMap<HostId, String>,
    search: &Search,
) -> Result<Vec<v1::RecordView>, Status> {
    let entries = looking.store.scan_back_from(&RecordByTimeKey::all(), &RecordByTimeKey::at(search.to_ms));
    let at_ms = |key: &RecordByTimeKey| key.at_ms;
    looking.take(entries, at_ms, |looking, RecordByTimeKey { at_ms, host, index }, _| {
        if at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        let Some(hostname) = hosts.get(&host) else { return Ok(ControlFlow::Continue(None)) };
        let record = match looking.get::<_, v1::LedgerEntry>(&LedgerKey { host, index }) {
            // One that is damaged is told, and keeps nobody from the others.
            Err(StoreError::Damaged(_)) => {
                Some(v1::Record { at: Some(v1::Now { wall_ms: at_ms, ..v1::Now::default() }), body: None })
            }
            Ok(None) => return Ok(ControlFlow::Continue(None)),
            entry => entry?.as_ref().and_then(read),
        };
        Ok(ControlFlow::Continue(meant(looking, (host, hostname), (index, record), search)?))
    })
}

fn read(entry: &v1::LedgerEntry) -> Option<v1::Record> {
    v1::Record::decode(&entry.record[..]).ok()
}

fn made_ms(record: Option<&v1::Record>) -> Option<i64> {
    Some(record?.at.as_ref()?.wall_ms)
}

/// The record, if it is looked for.
fn meant(
    looking: &mut Looking<'_>,
    (host, hostname): (HostId, &str),
    (index, record): (u64, Option<v1::Record>),
    search: &Search,
) -> Result<Option<v1::RecordView>, StoreError> {
    let decision = decision_of(looking, host, record.as_ref().and_then(|record| record.body.as_ref()))?;
    let told = Told { record, decision };
    let is_meant = search.means(&told, &[hostname]);
    let view = |told: Told| {
        let (before, name) = told.subject();
        v1::RecordView {
            host_id: host.0.to_vec(),
            hostname: hostname.to_owned(),
            index,
            kind: told.kind().to_owned(),
            subject: format!("{before}{name}"),
            record: told.record,
        }
    };
    Ok(is_meant.then(|| view(told)))
}

/// The decision that a record belongs to and says nothing of but its id, if it is still kept.
fn decision_of(
    looking: &mut Looking<'_>,
    host: HostId,
    body: Option<&Body>,
) -> Result<Option<v1::DecisionView>, StoreError> {
    let id = match body {
        Some(Body::Outcome(outcome)) => outcome.decision,
        Some(Body::Verified(verified)) => verified.decision,
        Some(Body::Answered(answered)) => answered.decision,
        Some(Body::Undone(undone)) => {
            let of = looking.store.get_raw(&ActionKey { action: ActionId(undone.action), host })?;
            let Some(id) = of.and_then(|id| id.try_into().ok()) else { return Ok(None) };
            u64::from_be_bytes(id)
        }
        _ => return Ok(None),
    };
    looking.get(&DecisionKey { decision: DecisionId(id), host })
}

/// A record with what it belongs to.
struct Told {
    /// Nothing where it cannot be read.
    record: Option<v1::Record>,
    decision: Option<v1::DecisionView>,
}

impl Told {
    fn body(&self) -> Option<&Body> {
        self.record.as_ref()?.body.as_ref()
    }
}

impl Event for Told {
    fn kind(&self) -> &str {
        match self.body() {
            None => UNREADABLE,
            Some(Body::Started(_)) => "agent.started",
            Some(Body::Decided(decision)) => match &decision.choice {
                Some(Choice::Act(_)) => "decision.acted",
                Some(Choice::Hold(_)) => "decision.held",
                None => UNREADABLE,
            },
            Some(Body::Intent(_)) => "step.began",
            Some(Body::Outcome(_)) => "step.ended",
            Some(Body::Verified(_)) => "plan.verified",
            Some(Body::Policy(policy)) if policy.refused.is_some() => "policy.refused",
            Some(Body::Policy(_)) => "policy.taken",
            Some(Body::Answered(answered)) if answered.approved => "decision.approved",
            Some(Body::Answered(_)) => "decision.denied",
            Some(Body::Hold(hold)) if hold.held => "hold.set",
            Some(Body::Hold(_)) => "hold.lifted",
            Some(Body::Undone(_)) => "action.undone",
            Some(Body::Learning(learning)) => match &learning.change {
                Some(Change::Reset(_)) => "learning.reset",
                Some(Change::RollbackToMs(_)) => "learning.rollback",
                None => UNREADABLE,
            },
        }
    }

    fn subject(&self) -> (&'static str, String) {
        let decided = self.decision.as_ref();
        let of_decision = || search::named(decided.and_then(|view| view.decision.as_ref()?.subject.as_ref()));
        let of_action = |action: u64| {
            let step = decided.and_then(|view| view.steps.iter().find(|step| step.action == action));
            step.and_then(|step| target(step.step.as_ref())).map_or_else(of_decision, |target| ("", target))
        };
        match self.body() {
            Some(Body::Decided(decision)) => search::named(decision.subject.as_ref()),
            Some(Body::Intent(intent)) => ("", target(intent.step.as_ref()).unwrap_or_default()),
            Some(Body::Outcome(outcome)) => of_action(outcome.action),
            Some(Body::Undone(undone)) => of_action(undone.action),
            Some(Body::Verified(_) | Body::Answered(_)) => of_decision(),
            Some(Body::Hold(hold)) => ("", hold.scope.clone()),
            Some(Body::Learning(learning)) => match &learning.change {
                Some(Change::Reset(glob)) => ("", glob.clone()),
                _ => ("", String::new()),
            },
            Some(Body::Started(_) | Body::Policy(_)) | None => ("", String::new()),
        }
    }

    fn texts(&self, tell: &mut dyn FnMut(&str)) {
        match self.body() {
            Some(Body::Started(started)) => tell(&started.version),
            Some(Body::Decided(decision)) => {
                let view = v1::DecisionView { decision: Some(decision.clone()), ..v1::DecisionView::default() };
                tell(&decision.kind);
                view.texts(tell);
            }
            Some(Body::Intent(intent)) => step(intent.step.as_ref()).iter().for_each(|step| tell(step.kind())),
            Some(Body::Outcome(done)) => search::tell_outcome(done.outcome.as_ref(), tell),
            Some(Body::Verified(verified)) => search::tell_verification(verified.verification.as_ref(), tell),
            Some(Body::Policy(policy)) => {
                policy.policy.iter().for_each(|policy| tell(&format!("g{}", policy.generation)));
                policy.refused.iter().for_each(|why| tell(why));
            }
            Some(Body::Answered(answered)) => search::tell_author(answered.by.as_ref(), tell),
            Some(Body::Hold(hold)) => search::tell_author(hold.by.as_ref(), tell),
            Some(Body::Undone(undone)) => {
                search::tell_outcome(undone.outcome.as_ref(), tell);
                search::tell_author(undone.by.as_ref(), tell);
            }
            Some(Body::Learning(learning)) => search::tell_author(learning.by.as_ref(), tell),
            None => {}
        }
        // What belongs to a decision is found by the kind of its finding, too.
        self.decision.iter().filter_map(|view| view.decision.as_ref()).for_each(|decision| tell(&decision.kind));
    }
}

fn step(step: Option<&v1::Step>) -> Option<Step> {
    Step::try_from(step?.clone()).ok()
}

fn target(of: Option<&v1::Step>) -> Option<String> {
    Some(step(of)?.target().to_string())
}
