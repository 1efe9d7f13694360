//! The store is read through once in a while, slowly, and where a start breaks it off it goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::Hub;
use crate::store::columns::Column;
use crate::store::keys::ScrubKey;
use crate::store::scrub::Place;
use crate::store::values::ScrubRow;
use crate::store::{Batch, Store, StoreError};

/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What is read in one step.
const STEP_BYTES: u64 = 4 * 1024 * 1024;
/// A step takes at least so long: 8 MiB a second.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// Where it is, is written down after so many bytes.
const NOTED_BYTES: u64 = 64 * STEP_BYTES;
/// After an error it rests.
const REST: Duration = Duration::from_secs(3_600);

/// What is known of it.
#[derive(Debug, Default)]
pub struct Scrubs {
    row: Mutex<ScrubRow>,
}

impl Scrubs {
    /// What is stored.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn restored(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { row: Mutex::new(store.get(&ScrubKey { number: 0 })?.unwrap_or_default()) })
    }

    /// All of it.
    #[must_use]
    pub fn known(&self) -> ScrubRow {
        self.row.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn set(&self, store: &Store, row: ScrubRow) {
        let mut batch = Batch::default();
        batch.put(&ScrubKey { number: 0 }, &row);
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = row;
        if let Err(error) = store.commit(batch).await {
            tracing::warn!(%error, "how far the store is read through is not stored, and forgotten with the next start");
        }
    }
}

/// Reads the store through whenever it is time, until the collector ends.
pub async fn watch(hub: Arc<Hub>) {
    // A start has other things to do.
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let every_ms = i64::try_from(hub.settings().scrub_every.as_millis()).unwrap_or(i64::MAX);
        let row = hub.scrubs.known();
        let is_due = row.began_ms > 0 || clock::wall_ms().saturating_sub(row.ended_ms) >= every_ms;
        if is_due && let Err(error) = through(&hub).await {
            tracing::error!(%error, "the store cannot be read through; that goes on in an hour");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Reads the store through, from where it was broken off.
///
/// # Errors
/// If it cannot be read for another reason than damage.
pub async fn through(hub: &Arc<Hub>) -> Result<(), StoreError> {
    let mut row = hub.scrubs.known();
    if row.began_ms == 0 {
        row.began_ms = clock::wall_ms();
        hub.scrubs.set(&hub.store, row.clone()).await;
    }
    let job = hub.jobs.begin("reading the store through for damage".to_owned(), row.began_ms);
    let (mut place, mut noted) = (Some(place_of(&row)), row.bytes);
    while let Some(from) = place.take() {
        let (began, of) = (Instant::now(), hub.clone());
        let step = tokio::task::spawn_blocking(move || of.store.scrub(from, STEP_BYTES)).await;
        let (read, next) = step.map_err(|error| StoreError::Database(format!("reading broke off: {error}")))??;
        (row.entries, row.bytes) = (row.entries + read.entries, row.bytes + read.bytes);
        job.done(row.entries);
        if let Some(next) = next {
            (row.column, row.at) = (next.column.name().to_owned(), next.at.clone());
            if row.bytes >= noted + NOTED_BYTES {
                noted = row.bytes;
                hub.scrubs.set(&hub.store, row.clone()).await;
            }
            // Where the disk is slow it has as long a rest.
            tokio::time::sleep(STEP_EVERY.saturating_sub(began.elapsed()).max(began.elapsed())).await;
            place = Some(next);
        }
    }
    let now_ms = clock::wall_ms();
    let row = ScrubRow {
        ended_ms: now_ms,
        took_ms: now_ms.saturating_sub(row.began_ms).max(0).unsigned_abs(),
        ended_bytes: row.bytes,
        damaged: u32::try_from(hub.store.damages().all().len()).unwrap_or(u32::MAX),
        ..ScrubRow::default()
    };
    tracing::info!(bytes = row.ended_bytes, damaged = row.damaged, "the store is read through");
    hub.scrubs.set(&hub.store, row).await;
    Ok(())
}

/// Where it was broken off.
fn place_of(row: &ScrubRow) -> Place {
    let column = Column::ALL.into_iter().find(|column| column.name() == row.column);
    column.map_or_else(Place::first, |column| Place { column, at: row.at.clone() })
}
