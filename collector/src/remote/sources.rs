//! Who brings series over remote write: one source for each `job` and `instance`.
//!
//! A source has a short number beside the hosts', so that its rows and blocks lie and are read as theirs do. The labels
//! that it is known by stand here and not in its schema: targets of one exporter share their schema.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_promql::Label;

use super::gather::SourceKey;
use super::take::Progress;
use crate::store::keys::RemoteKey;
use crate::store::retention::Retention;
use crate::store::series::SLOT_MS;
use crate::store::values::SourceRow;
use crate::store::{Batch, Store, StoreError};

/// Most sources that are kept. Those that brought nothing for as long as any series are kept are forgotten.
pub const SOURCES_MAX: usize = 20_000;

/// One of them.
#[derive(Debug)]
pub struct Source {
    /// Its number in keys of series.
    pub short: u32,
    /// What it is known by.
    pub key: SourceKey,
    /// The same for queries: its series have these labels and their own.
    pub labels: Arc<[Label]>,
    /// The time of its first row.
    pub first_ms: i64,
    /// No row is later than this.
    until_ms: AtomicI64,
    /// Orders what its series change.
    pub lock: Arc<tokio::sync::Mutex<()>>,
    /// What is known of its open slot.
    pub(super) progress: Mutex<Progress>,
}

impl Source {
    fn new(short: u32, key: SourceKey, first_ms: i64, until_ms: i64) -> Self {
        let labels = key.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())));
        Self {
            short,
            labels: labels.collect(),
            key,
            first_ms,
            until_ms: AtomicI64::new(until_ms),
            lock: Arc::default(),
            progress: Mutex::default(),
        }
    }

    /// No row is later than this.
    #[must_use]
    pub fn until_ms(&self) -> i64 {
        self.until_ms.load(Ordering::Relaxed)
    }

    /// Notes that there is a row of that time; says whether the stored bound has to move.
    pub(super) fn reach(&self, at_ms: i64) -> bool {
        let until_ms = at_ms.div_euclid(SLOT_MS).saturating_add(1).saturating_mul(SLOT_MS);
        self.until_ms.fetch_max(until_ms, Ordering::Relaxed) < until_ms
    }

    /// Where it is stored.
    pub(super) fn stored_under(&self) -> RemoteKey {
        RemoteKey { part: RemoteKey::SOURCE, number: self.short, at_ms: 0, target: String::new() }
    }

    /// As it is stored.
    #[must_use]
    pub fn row(&self) -> SourceRow {
        let labels = self.key.labels.iter();
        SourceRow {
            labels: labels
                .map(|(name, value)| mainstay_proto::v1::Label { name: name.clone(), value: value.clone() })
                .collect(),
            first_ms: self.first_ms,
            until_ms: self.until_ms(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sources {
    known: Mutex<BTreeMap<SourceKey, Arc<Source>>>,
}

impl Sources {
    /// Those that are stored.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn restored(store: &Store) -> Result<Self, StoreError> {
        let mut known = BTreeMap::new();
        for item in store.scan_values::<RemoteKey, SourceRow>(&RemoteKey::all(RemoteKey::SOURCE)) {
            let (key, row) = item?;
            let labels = row.labels.into_iter().map(|label| (label.name, label.value)).collect();
            let source = Source::new(key.number, SourceKey { labels }, row.first_ms, row.until_ms);
            source.progress.lock().unwrap_or_else(PoisonError::into_inner).is_stored = true;
            known.insert(source.key.clone(), Arc::new(source));
        }
        Ok(Self { known: Mutex::new(known) })
    }

    /// The source of a key, made if there is room for one more.
    pub(super) fn of(&self, key: SourceKey, first_ms: i64) -> Option<Arc<Source>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get(&key) {
            return Some(source.clone());
        }
        if known.len() >= SOURCES_MAX {
            return None;
        }
        let short = known.values().map(|source| source.short + 1).max().unwrap_or(RemoteKey::SOURCES_FROM);
        let source = Arc::new(Source::new(short, key.clone(), first_ms, i64::MIN));
        known.insert(key, source.clone());
        Some(source)
    }

    /// All of them, in the order of their keys.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Source>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets those of which nothing is kept any more.
    ///
    /// # Errors
    /// If the store cannot be written: they are known again after the next start.
    pub async fn forget_old(&self, store: &Store, retention: Retention, now_ms: i64) -> Result<(), StoreError> {
        let longest = retention.series.max(retention.series_5m).max(retention.series_1h);
        let before_ms = now_ms.saturating_sub(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
        let mut batch = Batch::default();
        for source in self.ended_before(before_ms) {
            batch.delete(&source.stored_under());
        }
        store.commit(batch).await
    }

    fn ended_before(&self, before_ms: i64) -> Vec<Arc<Source>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Whom a request has at hand stays.
        let is_over = |source: &Arc<Source>| source.until_ms() < before_ms && Arc::strong_count(source) == 1;
        known.extract_if(.., |_, source| is_over(source)).map(|(_, source)| source).collect()
    }
}
