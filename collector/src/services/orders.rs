//! Orders: an operator's signed approval, hold, undo or change of what was learned, kept until each host it is for has answered.
//!
//! The collector only carries them. What it reads in an order is for whom it is, so that a mistake
//! is told at once; whether it is believed is decided on the host.

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_core::policy::order::{HoldScope, Order};
use mainstay_proto::v1;
use mainstay_proto::v1::collector_message::Of;
use tokio::sync::mpsc;
use tonic::Status;

use super::find;
use crate::clock;
use crate::hub::Hub;
use crate::random;
use crate::store::Batch;
use crate::store::keys::{DecisionKey, HoldKey, OrderKey};
use crate::words;

/// Longest wait for a single host's answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Most bytes of an order.
const ORDER_BYTES_MAX: usize = 16 * 1024;

/// Stores an order for the hosts it is for, sends it, and waits for the answer if it is one host.
///
/// # Errors
/// If it is malformed, for nobody, or the store fails.
pub async fn submit(hub: &Arc<Hub>, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Status> {
    let signed = request.signed.ok_or_else(|| Status::invalid_argument("a signed order is missing"))?;
    if signed.bytes.len() > ORDER_BYTES_MAX || signed.signature.len() != 64 {
        return Err(Status::invalid_argument("the order is not signed, or longer than any order"));
    }
    let order = Order::decode(&signed.bytes)
        .map_err(|error| Status::invalid_argument(format!("the order cannot be read: {error}")))?;
    if order.kind() != request.kind {
        return Err(Status::invalid_argument(format!("a signed {} was submitted as {}", order.kind(), request.kind)));
    }
    let hosts = hosts_of(hub, &order, &request.host)?;
    let id = random::number();
    let wire = v1::OperatorOrder { kind: request.kind, signed: Some(signed.clone()), id };
    let at_ms = clock::wall_ms();
    let mut batch = Batch::default();
    for host in &hosts {
        batch.put(&OrderKey { host: *host, at_ms, id }, &wire);
    }
    remember_hold(&mut batch, &order, &signed);
    hub.store.commit(batch).await?;
    let (waiter, mut answers) = mpsc::channel(1);
    if hosts.len() == 1 {
        hub.state().waiting.insert(id, waiter);
    }
    let connected = hosts.iter().filter(|host| hub.send(**host, Of::Order(wire.clone()))).count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut response =
        v1::SubmitResponse { hosts: number(hosts.len()), connected: number(connected), ..Default::default() };
    if hosts.len() == 1 && connected == 1 {
        if let Ok(Some(answer)) = tokio::time::timeout(ANSWER_MAX, answers.recv()).await {
            response.done = answer.done;
            response.text = answer.text;
        } else {
            response.text =
                format!("no answer within {} s; it stays in force until the host answers", ANSWER_MAX.as_secs());
        }
    } else if connected < hosts.len() {
        let away = hosts.len() - connected;
        response.text =
            format!("{away} of {} not connected; they get it when they come back", words::hosts(number(hosts.len())));
        response.done = hosts.len() > 1;
    } else {
        response.done = true;
    }
    hub.state().waiting.remove(&id);
    Ok(response)
}

/// Whom an order is for. What is signed decides; a host that is named besides has to be that one.
fn hosts_of(hub: &Hub, order: &Order, named: &str) -> Result<Vec<HostId>, Status> {
    let state = hub.state();
    let named = if named.is_empty() { None } else { Some(find::host(&state, named)?) };
    if let (Some(signed_for), Some(named)) = (order.host(), named)
        && signed_for != named
    {
        return Err(Status::invalid_argument("the order is signed for another host than the one that is named"));
    }
    if let Some(host) = order.host().or(named) {
        let known = state.hosts.get(&host).filter(|h| !h.is_revoked());
        return known
            .map(|_| vec![host])
            .ok_or_else(|| Status::not_found("the order is for a host that is not enrolled here"));
    }
    drop(state);
    match order {
        Order::Hold { scope: HoldScope::Fleet, .. } => {
            let state = hub.state();
            Ok(state.hosts.iter().filter(|(_, h)| !h.is_revoked()).map(|(id, _)| *id).collect())
        }
        Order::Approval { decision, .. } => {
            let prefix = DecisionKey::with_id(*decision);
            let key = hub.store.scan::<DecisionKey>(&prefix, &prefix).next().transpose()?;
            key.map(|(key, _)| vec![key.host]).ok_or_else(|| {
                Status::not_found(format!("no decision {decision}; `mainstay approvals list` shows what waits"))
            })
        }
        Order::Hold { .. } | Order::Undo { .. } | Order::Learning { .. } => {
            Err(Status::invalid_argument("the order names no host"))
        }
    }
}

/// A hold of the fleet is shown from the moment it is ordered; those of hosts when the host records them.
fn remember_hold(batch: &mut Batch, order: &Order, signed: &v1::Signed) {
    let Order::Hold { scope: scope @ HoldScope::Fleet, until_ms, held, by, .. } = order else { return };
    let key = HoldKey { scope: scope.on_host() };
    if !held {
        batch.delete(&key);
        return;
    }
    let view = v1::HoldView {
        scope: scope.on_host(),
        host_id: Vec::new(),
        unit: String::new(),
        until_ms: until_ms.unwrap_or(0),
        by: Some(v1::Author { name: by.name.clone(), reason: by.reason.clone() }),
        signed: signed.bytes.clone(),
    };
    batch.put(&key, &view);
}

/// Answers `ListHolds`: those that have not ended.
///
/// # Errors
/// If the store fails.
pub fn holds(hub: &Hub) -> Result<v1::ListHoldsResponse, Status> {
    let now_ms = clock::wall_ms();
    let mut holds = Vec::new();
    for item in hub.store.scan_values::<HoldKey, v1::HoldView>(&HoldKey::all()) {
        let (_, view) = item?;
        if view.until_ms == 0 || view.until_ms > now_ms {
            holds.push(view);
        }
    }
    Ok(v1::ListHoldsResponse { holds, now_ms })
}
