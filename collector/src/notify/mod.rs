//! Notices: incidents told to a webhook, and the heartbeat that proves the collector alive.
//!
//! In: notices as they are stored with what they tell of. Out: each posted, oldest first, and removed; it may come twice. A
//! webhook that is down is tried again with growing pauses, and what is [`AGE_MAX_MS`] old is given up, as what it refuses is. Bodies
//! are JSON, secrets stand in no log.

mod post;

use std::sync::Arc;
use std::time::Duration;

pub use post::{PostError, Target, connect, post};

use crate::clock;
use crate::hub::Hub;
use crate::metrics::count;
use crate::store::keys::{Key as _, NoticeKey};
use crate::store::values::NoticeRow;
use crate::store::{self, Batch};

/// Pauses between tries; the last again and again.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];
/// Three days: nobody needs to be told what is older.
const AGE_MAX_MS: i64 = 3 * 86_400_000;

fn body(key: &NoticeKey, row: &NoticeRow) -> String {
    let event = if key.cleared == 0 { "opened" } else { "cleared" };
    let (incident, cause, members) = (key.incident, &row.cause, row.members);
    serde_json::json!({
        "event": event,
        "incident": incident.to_string(),
        "at_ms": key.at_ms,
        "findings": members,
        "cause": cause,
        "evidence": row.evidence,
        "text": format!("incident {incident} {event}: {cause} ({members} findings)"),
    })
    .to_string()
}

/// Whether it refuses what the notice is, and would again; what else is wrong may be mended.
fn is_final(error: &PostError) -> bool {
    matches!(error, PostError::Answer(_, 400 | 413 | 415 | 422))
}

/// Sends notices until the collector ends: those that are left, and those that come.
pub async fn send_notices(hub: Arc<Hub>) {
    let mut tries = 0;
    loop {
        let oldest = hub.store.scan::<NoticeKey>(&NoticeKey::all(), &NoticeKey::all()).next();
        match oldest.transpose() {
            Ok(None) => {
                hub.notices_due.notified().await;
                continue;
            }
            Ok(Some((key, value))) => match tell(&hub, &key, &value).await {
                Ok(()) => {
                    tries = 0;
                    forget(&hub, &key).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, incident = %key.incident, "the webhook did not take a notice, trying again");
                }
            },
            Err(error) => tracing::error!(%error, "notices for the webhook cannot be read, trying again"),
        }
        tokio::time::sleep(PAUSES[tries.min(PAUSES.len() - 1)]).await;
        tries += 1;
    }
}

/// Tells one as it is stored, or gives it up.
async fn tell(hub: &Hub, key: &NoticeKey, value: &[u8]) -> Result<(), PostError> {
    // Without a webhook nobody wants to be told any more.
    let Some(url) = hub.settings().webhook.clone() else { return Ok(()) };
    let incident = key.incident;
    let row = match store::decode(&key.encode(), value) {
        Ok(row) => row,
        Err(error) => {
            count(&hub.metrics.notices_dropped);
            tracing::error!(%error, %incident, "a notice for the webhook is damaged, given up");
            return Ok(());
        }
    };
    let Err(error) = post(&url, "application/json", body(key, &row)).await else {
        count(&hub.metrics.notices_sent);
        return Ok(());
    };
    let age_ms = clock::wall_ms().saturating_sub(key.at_ms);
    if !is_final(&error) && age_ms < AGE_MAX_MS {
        return Err(error);
    }
    count(&hub.metrics.notices_dropped);
    tracing::error!(%error, %incident, "the webhook did not take a notice, given up");
    Ok(())
}

/// Removes one that was told; until then no other is.
async fn forget(hub: &Hub, key: &NoticeKey) {
    loop {
        let mut batch = Batch::default();
        batch.delete(key);
        let Err(error) = hub.store.commit(batch).await else { return };
        tracing::warn!(%error, incident = %key.incident, "a notice that was told is told again if the collector ends now");
        tokio::time::sleep(PAUSES[2]).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_what_it_is_is_not_sent_again() {
        let answered = |status| PostError::Answer("hook:443".to_owned(), status);
        for (status, expected) in [(400, true), (413, true), (401, false), (404, false), (429, false), (503, false)] {
            assert_eq!(is_final(&answered(status)), expected, "{status}");
        }
        assert!(!is_final(&PostError::Deadline("hook:443".to_owned(), 10)));
    }
}
