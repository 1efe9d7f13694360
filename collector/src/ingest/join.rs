//! Joining: the slots of an hour that is over become one block for each host, some hosts at a time.
//!
//! The same batch rolls the hour up. A block of an hour takes less room than its six slots, and is read in one go. All hosts'
//! hours end at the same moment, so the work is spread over the quarter of an hour after it. Until then, and for what is never
//! joined, slots are read as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::ages;
use crate::clock;
use crate::hub::Hub;
use crate::ingest::summary::SEAL_MS_MAX;
use crate::store::series::hour_of;
use crate::store::{Batch, StoreError};

/// How often some are joined.
pub const EVERY: Duration = Duration::from_secs(1);
/// So long after its end the late rows of an hour have come, and its last slot is sealed.
const LATE_MS: i64 = SEAL_MS_MAX + 60_000;
/// Whose last row is older than this has left: an hour, and until what is late has come.
pub const LEFT_MS: i64 = 3_600_000 + LATE_MS;
/// What no slot is called.
const NO_SLOT: u32 = u32::MAX;
/// All hosts' hours are spread over so many turns: a quarter of an hour.
const TURNS: usize = 900;
/// Hours before a start that are looked through for what an earlier run has left.
const LOOKED_THROUGH: u32 = 48;
/// The oldest hours that are kept, which are looked through each time before others are removed.
const OLDEST: u32 = 6;

/// Notes what an earlier run of the collector has not joined.
///
/// # Errors
/// If the store cannot be read.
pub async fn look_through(hub: &Arc<Hub>) -> Result<(), StoreError> {
    let hour = hour_of(clock::wall_ms());
    look(hub, hour.saturating_sub(LOOKED_THROUGH)..hour).await
}

/// Notes what of the hours that are about to be removed is not rolled up, such as what an earlier version has stored.
///
/// # Errors
/// If the store cannot be read.
pub async fn look_at_oldest(hub: &Arc<Hub>) -> Result<(), StoreError> {
    let now_ms = clock::wall_ms();
    let first = ages::of(hub).shortest().first_hour(None, now_ms);
    look(hub, first..first.saturating_add(OLDEST).min(hour_of(now_ms))).await
}

/// Seals what hosts and sources have left open that did not come back within the hour, so that it is joined and rolled up as
/// all else is; says of how many.
///
/// # Errors
/// If the store cannot be read or written.
pub async fn seal_left(hub: &Arc<Hub>, now_ms: i64) -> Result<usize, StoreError> {
    if hub.store.room().check().is_err() {
        return Ok(0);
    }
    let before_ms = now_ms.saturating_sub(LEFT_MS);
    let mut sealed = 0;
    for (host, lock) in locks(hub) {
        // No push of the host may seal the same rows meanwhile.
        let guard = lock.lock().await;
        let of = hub.clone();
        let work = move || {
            let mut batch = Batch::default();
            let last_ms = of.store.last_open_ms(host)?;
            let is_left = last_ms.is_some_and(|last_ms| last_ms < before_ms);
            if is_left {
                of.store.seal_except(&mut batch, host, NO_SLOT)?;
            }
            Ok::<_, StoreError>(is_left.then_some(batch))
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Database(error.to_string()))?;
        if let Some(batch) = done? {
            hub.store.commit(batch).await?;
            sealed += 1;
        }
        drop(guard);
    }
    Ok(sealed)
}

/// What orders the writing of each host's and source's series, by its number.
fn locks(hub: &Hub) -> BTreeMap<u32, Arc<Mutex<()>>> {
    let state = hub.state();
    let hosts = state.hosts.values().map(|host| (host.row.short, host.lock.clone()));
    let sources = hub.sources.all().into_iter().map(|source| (source.short, source.lock.clone()));
    hosts.chain(sources).collect()
}

async fn look(hub: &Arc<Hub>, hours: std::ops::Range<u32>) -> Result<(), StoreError> {
    let hub = hub.clone();
    let looked = move || hub.store.find_unjoined(hours);
    tokio::task::spawn_blocking(looked).await.map_err(|error| StoreError::Database(error.to_string()))?
}

/// Joins the next hosts' hours; says how many.
///
/// # Errors
/// If the store cannot be read or written; what was to be joined is tried again.
pub async fn turn(hub: &Arc<Hub>) -> Result<usize, StoreError> {
    let unjoined = &hub.store.unjoined;
    let hour = hour_of(clock::wall_ms().saturating_sub(LATE_MS));
    let waiting = unjoined.before(hour);
    if waiting == 0 || hub.store.room().check().is_err() {
        return Ok(0);
    }
    let locks = locks(hub);
    let some = unjoined.take(hour, share(waiting, locks.len()));
    let mut joined = 0;
    for (hour, host) in some {
        let Some(lock) = locks.get(&host) else { continue };
        // No push of the host may seal the same rows meanwhile.
        let guard = lock.lock().await;
        let result = join(hub, hour, host).await;
        drop(guard);
        match result {
            Ok(is_joined) => joined += usize::from(is_joined),
            Err(error) => {
                unjoined.add(hour, host);
                return Err(error);
            }
        }
    }
    Ok(joined)
}

/// How many are joined in a turn. By what still waits alone there would be ever fewer of them.
fn share(waiting: usize, hosts: usize) -> usize {
    waiting.max(hosts).div_ceil(TURNS)
}

async fn join(hub: &Arc<Hub>, hour: u32, host: u32) -> Result<bool, StoreError> {
    let of = hub.clone();
    let work = move || {
        let mut batch = Batch::default();
        of.store.join_hour(&mut batch, host, hour).map(|is_joined| (batch, is_joined))
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Database(error.to_string()))?;
    let (batch, is_joined) = done?;
    hub.store.commit(batch).await?;
    Ok(is_joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hours_of_any_fleet_are_joined_within_a_quarter_of_an_hour() {
        for hosts in [1, 899, 900, 901, 10_000, 20_000] {
            let (mut waiting, mut turns) = (hosts, 0);
            while waiting > 0 {
                waiting -= share(waiting, hosts).min(waiting);
                turns += 1;
            }
            assert!(turns <= TURNS, "{hosts} hosts take {turns} turns");
        }
        // Hours that a collector finds undone at its start come beside.
        assert_eq!(share(48 * 10_000, 10_000), 534);
    }
}
