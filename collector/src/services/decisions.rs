//! Decisions, newest first.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use tonic::Status;

use super::find;
use super::search::{Looking, Search, limit};
use crate::clock;
use crate::hub::Hub;
use crate::query::Stop;
use crate::store::keys::{DecisionByHostKey, DecisionByTimeKey, DecisionKey};

/// Whether it acted.
#[must_use]
pub fn acted(view: &v1::DecisionView) -> bool {
    view.decision.as_ref().is_some_and(|d| matches!(d.choice, Some(v1::decision::Choice::Act(_))))
}

/// The latest decisions of one host that are wanted, newest first.
///
/// # Errors
/// If the store fails.
pub fn of_host(
    hub: &Hub,
    host: HostId,
    limit: usize,
    wanted: impl Fn(&v1::DecisionView) -> bool,
) -> Result<Vec<v1::DecisionView>, Status> {
    let mut looking = Looking::briefly(&hub.store, limit);
    by_host(&mut looking, host, &Search::between(0, i64::MAX), wanted)
}

/// Answers `ListDecisions`.
///
/// # Errors
/// If the selector names a host that is not there, nothing can be looked for so, nobody waits any more, or the store fails.
pub fn list(hub: &Hub, request: &v1::ListDecisionsRequest, stop: &Stop) -> Result<v1::ListDecisionsResponse, Status> {
    let search = Search::read(request.search.as_ref())?;
    let hosts = find::hosts(&hub.state(), request.selector.as_ref())?;
    let mut looking = Looking::new(&hub.store, stop, limit(request.limit));
    let wanted = |view: &v1::DecisionView| (!request.acted || acted(view)) && search.means(view, &[&view.hostname]);
    let decisions = match &hosts[..] {
        [(only, _)] => by_host(&mut looking, *only, &search, wanted)?,
        _ => by_time(&mut looking, &hosts.iter().map(|(id, _)| *id).collect(), &search, wanted)?,
    };
    let (truncated, looked_back_to_ms) = (looking.is_cut, looking.looked_back_to_ms);
    Ok(v1::ListDecisionsResponse { decisions, now_ms: clock::wall_ms(), truncated, looked_back_to_ms })
}

fn by_host(
    looking: &mut Looking<'_>,
    host: HostId,
    search: &Search,
    wanted: impl Fn(&v1::DecisionView) -> bool,
) -> Result<Vec<v1::DecisionView>, Status> {
    let prefix = DecisionByHostKey::of(host);
    let entries = looking.store.scan_back_from(&prefix, &DecisionByHostKey::at(host, search.to_ms));
    let at_ms = |key: &DecisionByHostKey| key.at_ms;
    looking.take(entries, at_ms, |looking, DecisionByHostKey { host, at_ms, decision }, _| {
        if at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        let view: Option<v1::DecisionView> = looking.get(&DecisionKey { decision, host })?;
        Ok(ControlFlow::Continue(view.filter(&wanted)))
    })
}

fn by_time(
    looking: &mut Looking<'_>,
    hosts: &BTreeSet<HostId>,
    search: &Search,
    wanted: impl Fn(&v1::DecisionView) -> bool,
) -> Result<Vec<v1::DecisionView>, Status> {
    let entries = looking.store.scan_back_from(&DecisionByTimeKey::all(), &DecisionByTimeKey::at(search.to_ms));
    let at_ms = |key: &DecisionByTimeKey| key.at_ms;
    looking.take(entries, at_ms, |looking, DecisionByTimeKey { at_ms, decision, host }, _| {
        if at_ms < search.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        if !hosts.contains(&host) {
            return Ok(ControlFlow::Continue(None));
        }
        let view: Option<v1::DecisionView> = looking.get(&DecisionKey { decision, host })?;
        Ok(ControlFlow::Continue(view.filter(&wanted)))
    })
}
