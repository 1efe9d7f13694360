//! Deleting a host: it is shut out first, then all that is stored of it goes, then the host itself.
//!
//! What takes longer than somebody waits for goes on in the background, and is seen in `mainstay status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use tonic::Status;

use super::find;
use crate::clock;
use crate::hub::Hub;
use crate::ingest::incidents;
use crate::ingest::push::reject;
use crate::store::Batch;
use crate::store::keys::HostKey;

/// Longest that whoever asked waits.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Deletes a host, and answers when it is gone, or after some seconds with how far that is. One that breaks off leaves it
/// revoked, to be deleted again.
///
/// # Errors
/// If there is none by that name, or the store fails.
pub async fn delete(hub: &Arc<Hub>, asked: &str) -> Result<(v1::DeleteHostResponse, String), Status> {
    delete_within(hub, asked, ANSWER_MAX).await
}

/// The same, for whoever waits this long.
///
/// # Errors
/// If there is none by that name, or the store fails.
pub async fn delete_within(
    hub: &Arc<Hub>,
    asked: &str,
    longest: Duration,
) -> Result<(v1::DeleteHostResponse, String), Status> {
    let (host, hostname) = {
        let state = hub.state();
        let host = find::host(&state, asked)?;
        (host, state.hosts.get(&host).map(|known| known.hostname().to_owned()).unwrap_or_default())
    };
    let gone = Arc::new(AtomicU64::new(0));
    // Whoever asked may go away: what is begun is carried out.
    let mut work = tokio::spawn(remove(hub.clone(), host, gone.clone()));
    if let Ok(done) = tokio::time::timeout(longest, &mut work).await {
        return done.unwrap_or_else(|error| Err(Status::internal(format!("deleting broke off: {error}"))));
    }
    tokio::spawn(async move {
        if let Ok(Err(error)) = work.await {
            tracing::error!(%host, error = error.message(), "a host could not be deleted and stays revoked: delete it again");
        }
    });
    let removed = gone.load(Ordering::Relaxed);
    let text = format!("deleting {hostname} ({host}) goes on: {removed} entries so far");
    let response =
        v1::DeleteHostResponse { host_id: host.0.to_vec(), hostname, removed, going_on: true, ..Default::default() };
    Ok((response, text))
}

async fn remove(hub: Arc<Hub>, host: HostId, gone: Arc<AtomicU64>) -> Result<(v1::DeleteHostResponse, String), Status> {
    let hub = &hub;
    // No host is enrolled meanwhile: it might get the short number of this one.
    let _one_at_a_time = hub.enrolling.lock().await;
    let (lock, short, hostname) = shut_out(hub, host).await?;
    // What a session has under way is stored, or not yet taken, before this goes on.
    let guard = lock.lock().await;
    clear(hub, host).await?;
    let job = hub.jobs.begin(format!("deleting {hostname} ({host})"), clock::wall_ms());
    let of = hub.clone();
    let forgotten = tokio::task::spawn_blocking(move || {
        of.store.forget(host, short, &|keys| {
            job.done(keys);
            gone.store(keys, Ordering::Relaxed);
        })
    })
    .await;
    let forgotten = forgotten.map_err(|error| Status::internal(error.to_string()))??;
    hub.state().hosts.remove(&host);
    drop(guard);
    tracing::info!(%host, hostname, keys = forgotten.keys, bytes = forgotten.bytes, "host deleted");
    let text = format!("deleted {hostname} ({host}): {} entries, {} bytes", forgotten.keys, forgotten.bytes);
    let response = v1::DeleteHostResponse {
        host_id: host.0.to_vec(),
        hostname,
        removed: forgotten.keys,
        removed_bytes: forgotten.bytes,
        going_on: false,
    };
    let (of, job) =
        (hub.clone(), hub.jobs.begin(format!("giving back the room of {}", response.hostname), clock::wall_ms()));
    tokio::task::spawn_blocking(move || {
        of.store.give_back_of(&forgotten);
        drop(job);
    });
    Ok((response, text))
}

/// Ends the host's part in incidents, which would stay open for ever, before what is stored of it goes.
async fn clear(hub: &Arc<Hub>, host: HostId) -> Result<(), Status> {
    let changed = Some(v1::Now { boot_ns: 0, wall_ms: clock::wall_ms() });
    let findings =
        hub.state().hosts.get_mut(&host).map(|known| std::mem::take(&mut known.findings)).unwrap_or_default();
    let cleared = findings.into_values().map(|finding| v1::Finding { state: "cleared".to_owned(), changed, ..finding });
    incidents::observe(hub, host, &cleared.collect::<Vec<_>>());
    incidents::write_due(hub).await?;
    Ok(())
}

/// Refuses the host from now on and ends its session. Gives its lock, short number and name.
async fn shut_out(hub: &Arc<Hub>, host: HostId) -> Result<(Arc<tokio::sync::Mutex<()>>, u32, String), Status> {
    let gone = || Status::not_found("the host was deleted meanwhile");
    let now_ms = clock::wall_ms();
    let mut row = hub.state().hosts.get(&host).map(|known| known.row.clone()).ok_or_else(gone)?;
    row.revoked_ms = if row.revoked_ms == 0 { now_ms } else { row.revoked_ms };
    let mut batch = Batch::default();
    batch.put(&HostKey { host }, &row);
    hub.store.commit(batch).await?;
    let (live, lock, hostname) = {
        let mut state = hub.state();
        let known = state.hosts.get_mut(&host).ok_or_else(gone)?;
        known.row.revoked_ms = row.revoked_ms;
        (known.live.take(), known.lock.clone(), known.hostname().to_owned())
    };
    if let Some(live) = live {
        let text = "this host was deleted by an operator; enrol it again with a new token";
        live.end.send_replace(Some(reject("revoked", text, 3_600_000)));
    }
    Ok((lock, row.short, hostname))
}
