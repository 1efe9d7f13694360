//! What is known of backups: when the last one was made, and what came of reading one back.
//!
//! Kept in the store, so that it is known after a start as well. Of a backup that was put elsewhere by other means nothing
//! is known here.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Trouble, shelf};
use crate::store::keys::BackupsKey;
use crate::store::values::BackupRow;
use crate::store::{Batch, Store, StoreError};

/// Most troubles that are kept.
const PROBLEMS_MAX: usize = 10;

/// What is known of backups.
#[derive(Debug, Default)]
pub struct Book {
    row: Mutex<BackupRow>,
}

impl Book {
    /// What is stored, and what lies in the folder of backups.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn restored(store: &Store, root: &Path) -> Result<Self, StoreError> {
        let mut row: BackupRow = store.get(&BackupsKey { folder: 0 })?.unwrap_or_default();
        if let Some((path, whole)) = shelf::newest(root).filter(|(_, whole)| whole.manifest.made_ms > row.made_ms) {
            (row.made_ms, row.path) = (whole.manifest.made_ms, path.display().to_string());
        }
        Ok(Self { row: Mutex::new(row) })
    }

    /// All of it.
    #[must_use]
    pub fn known(&self) -> BackupRow {
        self.row.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A backup was made.
    pub async fn made(&self, store: &Store, path: &Path, now_ms: i64) {
        self.change(store, |row| (row.made_ms, row.path) = (now_ms, path.display().to_string())).await;
    }

    /// A backup was read back.
    pub async fn verified(&self, store: &Store, path: &Path, troubles: &[Trouble], now_ms: i64) {
        self.change(store, |row| {
            (row.verified_ms, row.verified) = (now_ms, path.display().to_string());
            row.problems = troubles.iter().take(PROBLEMS_MAX).map(ToString::to_string).collect();
        })
        .await;
    }

    async fn change(&self, store: &Store, change: impl FnOnce(&mut BackupRow)) {
        let mut batch = Batch::default();
        {
            let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut row);
            batch.put(&BackupsKey { folder: 0 }, &*row);
        }
        if let Err(error) = store.commit(batch).await {
            tracing::warn!(%error, "what is known of backups is not stored, and forgotten with the next start");
        }
    }
}
