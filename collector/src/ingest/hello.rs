//! The beginning of a session: Hello checked, the host's place taken, Welcome and what waits sent.
//!
//! A session that has taken over from an earlier one of the same boot is a reconnect; if both go on
//! talking from different boots, two machines use one identity, and both are held.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::id::{Epoch, HostId};
use mainstay_proto::v1::collector_message::Of as ToAgent;
use mainstay_proto::{SESSION_VERSION_MAX, SESSION_VERSION_MIN, v1};
use tokio::sync::{mpsc, watch};

use super::chain;
use super::credit::credit;
use super::push::{broken, malformed, note, reject};
use super::session::{CAPABILITIES, Letter, OUTBOX_MAX, PING_EVERY, Session, stopping};
use crate::clock;
use crate::hub::{Hub, Live};
use crate::metrics::count;
use crate::store::Batch;
use crate::store::keys::{HostKey, MarkKey, OrderKey};
use crate::store::values::HostRow;

/// Words of a replaced session within this after the takeover were on their way already.
pub const HANDOVER_MS: i64 = 2_000;
/// How long both are held when two machines use one identity.
const CONTESTED_MS: u64 = 60_000;
/// Orders that one session is given at its start.
const ORDERS_MAX: usize = 32;
/// Most capabilities of an agent that are remembered, and the longest of them; this build knows a handful.
const CAPABILITIES_MAX: usize = 64;
const CAPABILITY_BYTES_MAX: usize = 64;
/// Most bytes of what a host says of itself.
const FACTS_BYTES_MAX: usize = 16 * 1024;

/// Notes that a host is heard in its session; says whether it is that one still.
pub(super) fn hear(hub: &Hub, host: HostId, session: u64) -> bool {
    let now_ms = clock::wall_ms();
    let mut state = hub.state();
    let of_session =
        state.hosts.get_mut(&host).filter(|host| host.live.as_ref().is_some_and(|live| live.id == session));
    of_session.map(|host| host.heard_ms = now_ms).is_some()
}

impl Session {
    /// Checks Hello, takes the host's place, and answers Welcome with all that waits for it.
    pub(super) async fn open(
        &mut self,
        hello: v1::Hello,
    ) -> Result<(mpsc::Receiver<Letter>, watch::Receiver<Option<v1::Reject>>), v1::Reject> {
        // Its clock is held against ours when it speaks, not when it is let in.
        let clock_offset_ms = hello.wall_ms.saturating_sub(clock::wall_ms());
        let version = SESSION_VERSION_MAX.min(hello.version_max);
        if version < SESSION_VERSION_MIN.max(hello.version_min) {
            let text = format!(
                "this collector speaks versions {SESSION_VERSION_MIN} to {SESSION_VERSION_MAX}, the agent {} to {}; upgrade the older of the two",
                hello.version_min, hello.version_max
            );
            return Err(reject("unsupported_version", text, 3_600_000));
        }
        let facts = hello.facts.unwrap_or_default();
        if prost::Message::encoded_len(&facts) > FACTS_BYTES_MAX {
            return Err(malformed(format!("facts of a host have at most {FACTS_BYTES_MAX} bytes")));
        }
        self.admit().await?;
        let lock = self.place()?;
        // A push of the session before is durable and known, or not yet taken, before this goes on.
        let guard = lock.lock().await;
        let now_ms = clock::wall_ms();
        let (sender, orders) = mpsc::channel(OUTBOX_MAX);
        let end = Arc::new(watch::Sender::new(None));
        let ended = end.subscribe();
        let mut batch = Batch::default();
        let welcome = {
            let mut state = self.hub.state();
            self.id = state.next_session;
            state.next_session += 1;
            self.boot.clone_from(&facts.boot);
            let capabilities = capabilities(hello.capabilities);
            let live = Live { id: self.id, sender, boot: facts.boot.clone(), capabilities, opened_ms: now_ms, end };
            let host = state.hosts.get_mut(&self.host).ok_or_else(not_enrolled)?;
            host.live = Some(live);
            host.heard_ms = now_ms;
            let row = HostRow { facts: Some(merged(facts, host.row.facts.take())), ..host.row.clone() };
            host.set_row(row);
            host.mark.last_seen_ms = now_ms;
            host.mark.back_by_ms = 0;
            host.mark.clock_offset_ms = clock_offset_ms;
            host.mark.policy = hello.policy.or_else(|| host.mark.policy.take());
            let head = chain::head_of(self.host, host.mark.ledger.as_ref());
            if let Some(doubt) = chain::doubt_at_hello(head, hello.ledger.as_ref()) {
                tracing::error!(host = %self.host, doubt, "the host's ledger is doubtful");
                count(&self.hub.metrics.doubts);
                note(&mut host.mark.doubts, &doubt, now_ms);
            }
            batch.put(&HostKey { host: self.host }, &host.row);
            batch.put(&MarkKey { host: self.host }, &host.mark);
            v1::Welcome {
                version,
                capabilities: CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
                durable_seq: host.mark.marks().acknowledged(Epoch(hello.epoch)).0,
                ledger: host.mark.ledger.clone(),
                credit_bytes: credit(Duration::ZERO, self.hub.sessions_open.load(Ordering::Relaxed)),
                wall_ms: now_ms,
                ping_every_ms: u32::try_from(PING_EVERY.as_millis()).unwrap_or(10_000),
            }
        };
        self.hub.store.commit(batch).await.map_err(|error| broken(&error))?;
        drop(guard);
        count(&self.hub.metrics.sessions);
        tracing::info!(host = %self.host, session = self.id, durable_seq = welcome.durable_seq, "session opened");
        self.out.send(ToAgent::Welcome(welcome)).await;
        self.send_waiting().await?;
        Ok((orders, ended))
    }

    /// Waits until it is this session's turn.
    async fn admit(&mut self) -> Result<(), v1::Reject> {
        self.place()?;
        let sessions_max = self.hub.settings().sessions_max;
        let open = self.hub.sessions_open.fetch_add(1, Ordering::Relaxed);
        self.is_counted = true;
        if open >= sessions_max {
            return Err(reject(
                "overloaded",
                format!("{sessions_max} sessions are open, which is all this collector takes"),
                30_000,
            ));
        }
        let wait_ms = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(60_000);
        let wait = self.hub.state().admission.admit(clock::now()).map_err(|wait| {
            reject("rate_limited", "many hosts are connecting at once; come back in a moment", wait_ms(wait))
        })?;
        let mut ending = self.hub.ending.subscribe();
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = stopping(&mut ending) => Err(reject("shutting_down", "the collector is stopping", 2_000)),
        }
    }

    /// Whether the host may have a session at all; what orders its stream.
    fn place(&self) -> Result<Arc<tokio::sync::Mutex<()>>, v1::Reject> {
        let now = clock::now();
        let state = self.hub.state();
        let host = state.hosts.get(&self.host).ok_or_else(not_enrolled)?;
        if host.is_revoked() {
            return Err(reject(
                "revoked",
                "this host was revoked by an operator; enrol it again with a new token",
                3_600_000,
            ));
        }
        let held_for = host.contested_ms.map(|at| CONTESTED_MS.saturating_sub(now.wall_ms.abs_diff(at)));
        if let Some(wait) = held_for.filter(|wait| *wait > 0) {
            return Err(reject("duplicate_identity", CONTESTED, wait));
        }
        Ok(host.lock.clone())
    }

    /// The policy if the host has another, and the orders that it has not answered.
    async fn send_waiting(&self) -> Result<(), v1::Reject> {
        let offer = {
            let state = self.hub.state();
            let said = state.hosts.get(&self.host).and_then(|h| h.mark.policy.as_ref());
            // Hosts may be further on than a collector that was set back to a backup, and knows that it was. One that does not
            // know it offers what it has, so that the host's refusal is seen.
            let is_set_back = self.hub.restored.is_some();
            let knows = |generation| {
                said.is_some_and(|s| {
                    let is_further = s.effective.as_ref().is_some_and(|policy| policy.generation > generation);
                    let mut both = [&s.effective, &s.offered].into_iter().flatten();
                    both.any(|policy| policy.generation == generation) || (is_set_back && is_further)
                })
            };
            state.policy.as_ref().filter(|policy| !knows(policy.generation)).and_then(|policy| policy.signed.clone())
        };
        if let Some(signed) = offer {
            self.out.send(ToAgent::PolicyOffer(signed)).await;
        }
        let orders: Result<Vec<_>, _> = self
            .hub
            .store
            .scan_values::<OrderKey, v1::OperatorOrder>(&OrderKey::of(self.host))
            .take(ORDERS_MAX)
            .collect();
        for (_, order) in orders.map_err(|error| broken(&error))? {
            self.out.send(ToAgent::Order(order)).await;
        }
        Ok(())
    }

    /// Whether this is the host's session still; then the host is heard.
    pub(super) fn still_mine(&self) -> bool {
        hear(&self.hub, self.host, self.id)
    }

    /// This session speaks although another has taken over: two machines, unless the words were on
    /// their way already or it is the same boot.
    pub(super) fn contested(&self) -> v1::Reject {
        let now_ms = clock::wall_ms();
        let mut state = self.hub.state();
        let Some(host) = state.hosts.get_mut(&self.host) else { return not_enrolled() };
        let Some(live) = host.live.clone() else { return reject("duplicate_identity", CONTESTED, CONTESTED_MS) };
        if live.boot == self.boot || now_ms.saturating_sub(live.opened_ms) < HANDOVER_MS {
            return reject("duplicate_identity", "a newer session of this host has taken over", 10_000);
        }
        tracing::error!(host = %self.host, "two machines use one identity; both are held");
        host.contested_ms = Some(now_ms);
        host.live = None;
        live.end.send_replace(Some(reject("duplicate_identity", CONTESTED, CONTESTED_MS)));
        reject("duplicate_identity", CONTESTED, CONTESTED_MS)
    }
}

/// What an agent says that it can do, as far as it may say so.
fn capabilities(said: Vec<String>) -> BTreeSet<String> {
    said.into_iter().filter(|word| word.len() <= CAPABILITY_BYTES_MAX).take(CAPABILITIES_MAX).collect()
}

const CONTESTED: &str = "another machine uses the identity of this host; enrol one of the two anew";

pub(super) fn not_enrolled() -> v1::Reject {
    reject("not_enrolled", "this host is not enrolled at this collector; enrol it with a token", 3_600_000)
}

/// What a host says of itself; labels that it was enrolled with stay if it names none.
fn merged(said: v1::HostFacts, known: Option<v1::HostFacts>) -> v1::HostFacts {
    let labels = if said.labels.is_empty() { known.map(|k| k.labels).unwrap_or_default() } else { said.labels };
    v1::HostFacts { labels, ..said }
}
