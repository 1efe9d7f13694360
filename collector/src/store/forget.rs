//! Deleting a host: all that is stored of it, in batches of a bounded size.
//!
//! Its row goes last, so that what breaks off is begun again: until then the host is known, revoked, and its short number
//! is given to nobody else. What other hosts share with it stays: schemas, marks of deployments, incidents.

use std::collections::BTreeMap;

use mainstay_core::id::HostId;
use mainstay_fleet::block::Head;
use mainstay_fleet::rollup::Tier;
use rocksdb::CompactOptions;

use super::columns::Column;
use super::keys::{
    ActionKey, BlockKey, ChangeByTimeKey, ChangeKey, DecisionByHostKey, DecisionByTimeKey, DecisionKey,
    FindingByTimeKey, FindingKey, HoldKey, HostKey, IncidentOfKey, Key, LeaseKey, LedgerKey, MarkKey, OpenRowKey,
    OrderKey, PieceKey, RecordByTimeKey, RecordingKey, RemoteKey, RollupKey, SceneKey, ThinnedKey,
};
use super::rollup::number;
use super::{Batch, Store, StoreError, family};

/// Keys that go with one batch.
const BATCH_KEYS: u64 = 10_000;
/// A column is written anew for what is at least this part of it: 1 byte in so many.
const GIVEN_BACK_SHARE: u64 = 20;
/// A block whose head cannot be read may have so many parts.
const PARTS_MAX: u8 = u8::MAX;

/// What was removed of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Keys.
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Of these, by column.
    pub by_column: BTreeMap<Column, u64>,
}

/// Removes keys, and makes their removal durable batch by batch.
struct Removal<'s> {
    store: &'s Store,
    batch: Batch,
    waiting: u64,
    done: Forgotten,
    told: &'s (dyn Fn(u64) + Sync),
}

impl Removal<'_> {
    fn key<K: Key>(&mut self, key: &K, bytes: usize) -> Result<(), StoreError> {
        self.batch.delete(key);
        self.waiting += 1;
        self.done.keys += 1;
        self.done.bytes += bytes as u64;
        *self.done.by_column.entry(K::COLUMN).or_default() += bytes as u64;
        if self.waiting < BATCH_KEYS { Ok(()) } else { self.commit() }
    }

    /// Everything of one kind that begins with a prefix.
    fn all<K: Key>(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        self.those::<K>(prefix, |_| true)
    }

    /// Those of one kind that are of the host.
    fn those<K: Key>(&mut self, prefix: &[u8], is_of: impl Fn(&K) -> bool) -> Result<(), StoreError> {
        let store = self.store;
        for item in store.scan::<K>(prefix, prefix) {
            let (key, value) = item?;
            if is_of(&key) {
                self.key(&key, value.len())?;
            }
        }
        Ok(())
    }

    /// A block: its head and its parts.
    fn block<K: Key>(&mut self, head: &K, bytes: &[u8], part: impl Fn(u8) -> K) -> Result<(), StoreError> {
        let parts = Head::open(bytes).map_or_else(|_| usize::from(PARTS_MAX), |head| head.split.parts());
        for no in (0..PARTS_MAX).take(parts) {
            let key = part(no);
            if let Some(value) = self.store.get_raw(&key)? {
                self.key(&key, value.len())?;
            }
        }
        self.key(head, bytes.len())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        (self.told)(self.done.keys);
        self.store.commit_waiting(std::mem::take(&mut self.batch))
    }
}

impl Store {
    /// Removes everything of a host, on a thread that may wait. Nothing may write of it meanwhile. `told` hears how many
    /// keys are gone.
    ///
    /// # Errors
    /// If the store cannot be read or written; the host's row is then still there.
    pub fn forget(&self, host: HostId, short: u32, told: &(dyn Fn(u64) + Sync)) -> Result<Forgotten, StoreError> {
        let mut removal =
            Removal { store: self, batch: Batch::default(), waiting: 0, done: Forgotten::default(), told };
        removal.all::<OpenRowKey>(&OpenRowKey::of(short))?;
        self.forget_series(&mut removal, short)?;
        // Else the next host of this number would take them for its own.
        for part in [RemoteKey::MARK, RemoteKey::LATE] {
            removal.those::<RemoteKey>(&RemoteKey::all(part), |key| key.number == short)?;
        }
        for tier in [None, Some(Tier::Minutes5), Some(Tier::Hour)] {
            removal.batch.delete(&ThinnedKey::of(tier, short));
        }
        removal.all::<LedgerKey>(&LedgerKey::of(host))?;
        removal.those::<RecordByTimeKey>(&RecordByTimeKey::all(), |key| key.host == host)?;
        removal.those::<FindingByTimeKey>(&FindingByTimeKey::all(), |key| key.host == host)?;
        removal.those::<ChangeByTimeKey>(&ChangeByTimeKey::all(), |key| key.host == host)?;
        removal.those::<DecisionByTimeKey>(&DecisionByTimeKey::all(), |key| key.host == host)?;
        removal.those::<ActionKey>(&ActionKey::all(), |key| key.host == host)?;
        for item in self.scan::<DecisionByHostKey>(&DecisionByHostKey::of(host), &DecisionByHostKey::of(host)) {
            let (key, _) = item?;
            removal.all::<SceneKey>(&SceneKey::of(key.decision, host))?;
            let decision = DecisionKey { decision: key.decision, host };
            let bytes = self.get_raw(&decision)?.map_or(0, |value| value.len());
            removal.key(&decision, bytes)?;
            removal.key(&key, 0)?;
        }
        removal.all::<RecordingKey>(&RecordingKey::of(host))?;
        removal.all::<ChangeKey>(&ChangeKey::of(host))?;
        removal.all::<IncidentOfKey>(&IncidentOfKey::of(host))?;
        removal.all::<FindingKey>(&FindingKey::of(host))?;
        removal.all::<LeaseKey>(&LeaseKey::of(host))?;
        removal.all::<OrderKey>(&OrderKey::of(host))?;
        let scope = format!("host/{host}");
        removal.those::<HoldKey>(&HoldKey::all(), |key| {
            key.scope.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })?;
        removal.commit()?;
        removal.key(&MarkKey { host }, 0)?;
        removal.key(&HostKey { host }, 0)?;
        removal.commit()?;
        // What a damaged table holds of it was not seen: the next host of this number must not be taken for it.
        self.warm.forget_host(short);
        self.presence.without(short);
        self.thinned.forget(short);
        Ok(removal.done)
    }

    fn forget_series(&self, removal: &mut Removal<'_>, short: u32) -> Result<(), StoreError> {
        let (hours, rolled) = {
            let view = self.view();
            (view.hours(0, i64::MAX), view.rolled)
        };
        for hour in hours {
            removal.all::<BlockKey>(&BlockKey::of(hour, short))?;
            let heads = PieceKey::of(hour, PieceKey::HEAD, short);
            for item in self.scan::<PieceKey>(&heads, &heads) {
                let (key, bytes) = item?;
                removal.block(&key, &bytes, |no| key.part(no))?;
            }
        }
        for (tier, stretches) in Tier::ALL.into_iter().zip(rolled) {
            let Some((first, last)) = stretches else { continue };
            for stretch in first..=last {
                let heads = RollupKey::of(number(tier), stretch, PieceKey::HEAD, short);
                for item in self.scan::<RollupKey>(&heads, &heads) {
                    let (key, bytes) = item?;
                    removal.block(&key, &bytes, |no| key.part(no))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the room of what was removed of a host back to the disk, where it is worth writing the column anew: elsewhere
    /// that comes with the compactions to come, or when the tables are too old to be kept.
    pub fn give_back_of(&self, forgotten: &Forgotten) {
        for (column, bytes) in &forgotten.by_column {
            if bytes.saturating_mul(GIVEN_BACK_SHARE) >= self.column_bytes(*column) {
                self.give_back_column(*column, None, None);
            }
        }
    }

    /// Gives the room of all that was removed back to the disk. Writes go on.
    pub fn give_back(&self) {
        Column::ALL.into_iter().for_each(|column| self.give_back_column(column, None, None));
    }

    /// Gives the room of what was removed from keys of a range back to the disk.
    pub(super) fn give_back_range(&self, column: Column, from: &[u8], to: &[u8]) {
        self.give_back_column(column, Some(from), Some(to));
    }

    fn give_back_column(&self, column: Column, from: Option<&[u8]>, to: Option<&[u8]>) {
        // A compaction that meets a damaged table stops all writes.
        if self.damages().columns().contains(&column) {
            return;
        }
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        self.db().compact_range_cf_opt(family(self.db(), column), from, to, &options);
    }
}
