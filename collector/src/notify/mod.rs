//! Notices: incidents told to a webhook, and the heartbeat that proves the collector alive.
//!
//! A notice is stored with what it tells of until it is told, so that it outlives the collector; it may come twice. A webhook
//! that is down is tried again with growing pauses and then given up, counted and logged. Bodies are JSON, secrets stand in no log.

mod post;

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::IncidentId;
use tokio::sync::mpsc;

pub use post::{PostError, Target, connect, post};

use crate::clock;
use crate::hub::Hub;
use crate::metrics::count;
use crate::store::keys::NoticeKey;
use crate::store::values::NoticeRow;
use crate::store::{Batch, Store};

/// Most notices that wait.
pub const QUEUE_MAX: usize = 1_000;
/// Pauses between tries.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// What is told about an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Whether it cleared; else it opened.
    pub is_cleared: bool,
    /// Which.
    pub incident: IncidentId,
    /// When.
    pub at_ms: i64,
    /// How many findings it has.
    pub members: usize,
    /// The likely cause, in words.
    pub cause: String,
    /// Why.
    pub evidence: Vec<String>,
}

impl Notice {
    fn key(&self) -> NoticeKey {
        NoticeKey { at_ms: self.at_ms, incident: self.incident, cleared: u8::from(self.is_cleared) }
    }

    /// Stores it, to be told after the next start if it is not before.
    pub fn put(&self, batch: &mut Batch) {
        let row =
            NoticeRow { members: self.members as u64, cause: self.cause.clone(), evidence: self.evidence.clone() };
        batch.put(&self.key(), &row);
    }

    fn body(&self) -> String {
        let event = if self.is_cleared { "cleared" } else { "opened" };
        serde_json::json!({
            "event": event,
            "incident": self.incident.to_string(),
            "at_ms": self.at_ms,
            "findings": self.members,
            "cause": self.cause,
            "evidence": self.evidence,
            "text": format!("incident {} {event}: {} ({} findings)", self.incident, self.cause, self.members),
        })
        .to_string()
    }
}

/// Those that were not told before the collector ended, oldest first. One that cannot be read is logged.
#[must_use]
pub fn untold(store: &Store) -> Vec<Notice> {
    let told = |(key, row): (NoticeKey, NoticeRow)| Notice {
        is_cleared: key.cleared != 0,
        incident: key.incident,
        at_ms: key.at_ms,
        members: usize::try_from(row.members).unwrap_or(usize::MAX),
        cause: row.cause,
        evidence: row.evidence,
    };
    let log = |error: &_| tracing::error!(%error, "a notice that waits for the webhook cannot be read");
    let rows = store.scan_values::<NoticeKey, NoticeRow>(&NoticeKey::all());
    rows.filter_map(|row| row.inspect_err(log).ok().map(told)).collect()
}

/// Hands a stored notice to the sender.
pub fn tell(hub: &Hub, notice: Notice) {
    if let Err(error) = hub.notices.try_send(notice) {
        tracing::error!(%error, "a notice is told after the next start: too many wait for the webhook");
    }
}

/// Sends notices until the collector ends: those that were left, and those that come.
pub async fn send_notices(hub: Arc<Hub>, untold: Vec<Notice>, mut notices: mpsc::Receiver<Notice>) {
    for notice in untold {
        send(&hub, &notice).await;
    }
    while let Some(notice) = notices.recv().await {
        send(&hub, &notice).await;
    }
}

/// Sends a notice, or gives it up, and forgets it.
async fn send(hub: &Hub, notice: &Notice) {
    let incident = notice.incident;
    let mut pauses = PAUSES.iter();
    // Without a webhook nobody wants to be told any more.
    while let Some(url) = hub.settings().webhook.clone() {
        let Err(error) = post(&url, "application/json", notice.body()).await else {
            count(&hub.metrics.notices_sent);
            break;
        };
        let Some(pause) = pauses.next() else {
            count(&hub.metrics.notices_dropped);
            tracing::error!(%error, %incident, "the webhook did not take a notice, given up");
            break;
        };
        tracing::warn!(%error, %incident, "the webhook did not take a notice, trying again");
        tokio::time::sleep(*pause).await;
    }
    let mut batch = Batch::default();
    batch.delete(&notice.key());
    if let Err(error) = hub.store.commit(batch).await {
        tracing::warn!(%error, %incident, "a notice that was told may be told again after the next start");
    }
}

/// Posts the heartbeat until the collector ends. Settings are read each time, so a reload changes it.
pub async fn beat(hub: Arc<Hub>) {
    let mut ending = hub.ending.subscribe();
    loop {
        let heartbeat = hub.settings().heartbeat.clone();
        let pause = heartbeat.as_ref().map_or(Duration::from_secs(10), |h| h.every);
        if let Some(heartbeat) = heartbeat {
            let body = serde_json::json!({ "alive": true, "at_ms": clock::wall_ms() }).to_string();
            if let Err(error) = post(&heartbeat.url, "application/json", body).await {
                count(&hub.metrics.heartbeats_failed);
                tracing::warn!(%error, "the heartbeat was not taken");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = ending.changed() => return,
        }
    }
}
