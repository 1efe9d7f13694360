//! Notices: incidents told to a webhook, and the heartbeat that proves the collector alive.
//!
//! In: notices as they are stored with what they tell of. Out: each posted, oldest first, and removed; it may come twice. A
//! notice that the webhook does not take is put off for growing pauses, and holds up what else is told of its incident, but nothing of others,
//! unless [`PUT_OFF_MAX`] are: then nobody takes any. What is [`AGE_MAX_MS`] old is given up, as what it refuses is. Bodies are JSON, secrets
//! stand in no log.

mod post;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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
/// So many incidents are put off; others wait for them: it is the webhook that is ill, and not the notice.
const PUT_OFF_MAX: usize = 8;

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

/// What is to be done now about the notices that wait.
enum Next {
    Tell(NoticeKey, Box<[u8]>),
    Wait(Instant),
    Nothing,
}

/// Notices that the webhook did not take: how often, and when each is tried again.
#[derive(Default)]
struct PutOff(BTreeMap<NoticeKey, (usize, Instant)>);

impl PutOff {
    fn add(&mut self, key: NoticeKey, now: Instant) {
        let (tries, again) = self.0.entry(key).or_insert((0, now));
        *again = now + PAUSES[(*tries).min(PAUSES.len() - 1)];
        *tries += 1;
    }

    /// The oldest that is due. Two of one incident are told in their order.
    fn next<E>(
        &self,
        waiting: impl Iterator<Item = Result<(NoticeKey, Box<[u8]>), E>>,
        now: Instant,
    ) -> Result<Next, E> {
        let mut incidents = BTreeSet::new();
        let mut soonest = None;
        for item in waiting {
            let (key, value) = item?;
            if incidents.contains(&key.incident) {
                continue;
            }
            let Some(&(_, again)) = self.0.get(&key).filter(|(_, again)| *again > now) else {
                return Ok(Next::Tell(key, value));
            };
            soonest = Some(soonest.map_or(again, |soonest: Instant| soonest.min(again)));
            incidents.insert(key.incident);
            if incidents.len() >= PUT_OFF_MAX {
                break;
            }
        }
        Ok(soonest.map_or(Next::Nothing, Next::Wait))
    }
}

/// Sends notices until the collector ends: those that are left, and those that come.
pub async fn send_notices(hub: Arc<Hub>) {
    let mut put_off = PutOff::default();
    loop {
        let waiting = hub.store.scan::<NoticeKey>(&NoticeKey::all(), &NoticeKey::all());
        match put_off.next(waiting, Instant::now()) {
            Ok(Next::Nothing) => hub.notices_due.notified().await,
            Ok(Next::Wait(until)) => tokio::select! {
                () = hub.notices_due.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            },
            Ok(Next::Tell(key, value)) => {
                if let Err(error) = tell(&hub, &key, &value).await {
                    tracing::warn!(%error, incident = %key.incident, "the webhook did not take a notice, trying again");
                    put_off.add(key, Instant::now());
                } else {
                    put_off.0.remove(&key);
                    forget(&hub, &key).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, "notices for the webhook cannot be read, trying again");
                tokio::time::sleep(PAUSES[2]).await;
            }
        }
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
    use mainstay_core::id::IncidentId;

    use super::*;

    #[test]
    fn what_is_refused_for_what_it_is_is_not_sent_again() {
        let answered = |status| PostError::Answer("hook:443".to_owned(), status);
        for (status, expected) in [(400, true), (413, true), (401, false), (404, false), (429, false), (503, false)] {
            assert_eq!(is_final(&answered(status)), expected, "{status}");
        }
        assert!(!is_final(&PostError::Deadline("hook:443".to_owned(), 10)));
    }

    #[test]
    fn what_is_put_off_holds_up_its_own_incident_and_no_other_until_too_much_is() {
        let key = |at_ms: i64, incident: u64, cleared| NoticeKey { at_ms, incident: IncidentId(incident), cleared };
        let now = Instant::now();
        let next = |put_off: &PutOff, waiting: &[NoticeKey], at: Instant| {
            let waiting = waiting.iter().map(|key| Ok::<_, ()>((key.clone(), Box::default())));
            match put_off.next(waiting, at).unwrap() {
                Next::Tell(key, _) => Ok(key),
                Next::Wait(until) => Err(Some(until)),
                Next::Nothing => Err(None),
            }
        };
        let waiting = [key(1, 1, 0), key(2, 1, 1), key(3, 2, 0)];
        let mut put_off = PutOff::default();
        assert_eq!(next(&put_off, &[], now), Err(None));
        assert_eq!(next(&put_off, &waiting, now), Ok(key(1, 1, 0)));
        put_off.add(key(1, 1, 0), now);
        assert_eq!(next(&put_off, &waiting, now), Ok(key(3, 2, 0)), "not that it cleared before that it opened");
        assert_eq!(next(&put_off, &waiting, now + PAUSES[0]), Ok(key(1, 1, 0)));
        put_off.add(key(3, 2, 0), now + PAUSES[0]);
        assert_eq!(next(&put_off, &waiting[1..], now), Ok(key(2, 1, 1)));
        assert_eq!(next(&put_off, &[key(1, 1, 0), key(3, 2, 0)], now), Err(Some(now + PAUSES[0])), "the soonest");
        put_off.add(key(1, 1, 0), now + PAUSES[0]);
        assert_eq!(next(&put_off, &waiting[..1], now), Err(Some(now + PAUSES[0] + PAUSES[1])), "later each time");

        let many: Vec<_> = (0..=PUT_OFF_MAX as u64).map(|n| key(9, n + 10, 0)).collect();
        for key in &many[..PUT_OFF_MAX] {
            put_off.add(key.clone(), now);
        }
        assert_eq!(next(&put_off, &many, now), Err(Some(now + PAUSES[0])), "it is the webhook that is ill");
    }
}
