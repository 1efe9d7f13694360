//! Notices: incidents told to a webhook, and the heartbeat that proves the collector alive.
//!
//! A webhook that is down is tried again with growing pauses and then given up, counted and logged:
//! incidents are in the store anyway. Bodies are JSON, secrets stand in no log.

mod post;

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::IncidentId;
use tokio::sync::mpsc;

pub use post::{PostError, Target, connect, post};

use crate::clock;
use crate::hub::Hub;
use crate::metrics::count;

/// Most notices that wait; beyond it the newest is dropped and counted.
pub const QUEUE_MAX: usize = 1_000;
/// Pauses between tries.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// What is told about an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// `opened` or `cleared`.
    pub event: &'static str,
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
    fn body(&self) -> String {
        serde_json::json!({
            "event": self.event,
            "incident": self.incident.to_string(),
            "at_ms": self.at_ms,
            "findings": self.members,
            "cause": self.cause,
            "evidence": self.evidence,
            "text": format!("incident {} {}: {} ({} findings)", self.incident, self.event, self.cause, self.members),
        })
        .to_string()
    }
}

/// Hands a notice to the sender, if there is a webhook.
pub fn tell(hub: &Hub, notice: Notice) {
    if hub.settings().webhook.is_none() {
        return;
    }
    if let Err(error) = hub.notices.try_send(notice) {
        count(&hub.metrics.notices_dropped);
        tracing::error!(%error, "a notice is dropped: too many wait for the webhook");
    }
}

/// Sends notices until the collector ends.
pub async fn send_notices(hub: Arc<Hub>, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        let Some(url) = hub.settings().webhook.clone() else { continue };
        let body = notice.body();
        let mut pauses = PAUSES.iter();
        loop {
            match post(&url, "application/json", body.clone()).await {
                Ok(()) => {
                    count(&hub.metrics.notices_sent);
                    break;
                }
                Err(error) => match pauses.next() {
                    Some(pause) => {
                        tracing::warn!(%error, incident = %notice.incident, "the webhook did not take a notice, trying again");
                        tokio::time::sleep(*pause).await;
                    }
                    None => {
                        count(&hub.metrics.notices_dropped);
                        tracing::error!(%error, incident = %notice.incident, "the webhook did not take a notice, given up");
                        break;
                    }
                },
            }
        }
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
