//! A store that was set back: what it no longer knows must not come to pass a second time.
//!
//! Between the backup and now policies were pushed, tokens used and revoked, orders answered. Hosts refuse a policy that
//! is not newer than theirs, so the next one is given a generation that nobody can have seen: one a second has been pushed
//! at most since the backup was made, however often it was restored. Tokens and waiting orders go: a token that was used up
//! would let another host in, and an order that was answered would be carried out again.

use super::keys::{Key, OrderKey, PolicyKey, RestoredKey, TokenKey};
use super::values::RestoredRow;
use super::{Batch, Store, StoreError, decode};

/// Generations that are left out besides one for every second since the backup.
const GENERATIONS_MARGIN: u64 = 1_000;

impl Store {
    /// Writes down that this is the store of a backup, on a thread that may wait.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn set_back(&self, name: &str, made_ms: i64, now_ms: i64) -> Result<(), StoreError> {
        let newest = self.scan_back::<PolicyKey>(&PolicyKey::all()).next().transpose()?;
        let newest = newest.map_or(0, |(key, _)| key.generation);
        let before = self.restored()?.map_or(0, |row| row.generation);
        let seconds = u64::try_from(now_ms.saturating_sub(made_ms) / 1_000).unwrap_or(0);
        let generation = newest.max(before).saturating_add(GENERATIONS_MARGIN).saturating_add(seconds);
        let mut batch = Batch::default();
        for ordinal in [TokenKey::ORDINAL, OrderKey::ORDINAL] {
            batch.delete_range(TokenKey::COLUMN, vec![ordinal], vec![ordinal + 1]);
        }
        let row = RestoredRow { restored_ms: now_ms, made_ms, name: name.to_owned(), generation };
        batch.put(&RestoredKey { at_ms: now_ms }, &row);
        self.commit_waiting(batch)
    }

    /// When this store was last set back, if it was.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn restored(&self) -> Result<Option<RestoredRow>, StoreError> {
        let newest = self.scan_back::<RestoredKey>(&RestoredKey::all()).next().transpose()?;
        newest.map(|(key, value)| decode(&key.encode(), &value)).transpose()
    }
}
