//! The store as files: a consistent copy of it while it is written to, and whether such files can be read.

use std::collections::BTreeSet;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IteratorMode, ReadOptions};

use super::columns::{self, Column};
use super::{Store, StoreError, family};

/// What reading tables may keep in memory.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

impl Store {
    /// Copies the store as it is now into a new folder, by hard links where the filesystem is the same.
    ///
    /// # Errors
    /// If the folder exists or cannot be written.
    pub fn checkpoint(&self, to: &Path) -> Result<(), StoreError> {
        Ok(Checkpoint::new(self.db())?.create_checkpoint(to)?)
    }
}

/// Reads every table of a store that nobody writes to, so that every checksum in them is compared. Nothing is changed;
/// what RocksDB has to say goes to `log`. `read` is told the bytes as they are read.
///
/// # Errors
/// If it cannot be opened, or a checksum is wrong; RocksDB names the table.
pub fn read_all(folder: &Path, log: &Path, read: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
    let (mut options, cache) = columns::database_options(CACHE_BYTES);
    options.set_db_log_dir(log);
    let db =
        DB::open_cf_descriptors_read_only(&options, folder, columns::descriptors(&cache, &BTreeSet::new()), false)?;
    for column in Column::ALL {
        let mut reading = ReadOptions::default();
        reading.set_verify_checksums(true);
        reading.fill_cache(false);
        for item in db.iterator_cf_opt(family(&db, column), reading, IteratorMode::Start) {
            let (key, value) = item?;
            read((key.len() + value.len()) as u64);
        }
    }
    Ok(())
}
