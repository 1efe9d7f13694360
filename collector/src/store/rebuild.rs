//! Building a store anew of what can be read of a damaged one.
//!
//! Nothing is changed in the damaged store. What is lost is told stretch by stretch; the rest is written to the new one.

use std::collections::BTreeSet;
use std::path::Path;

use rocksdb::{DB, WriteBatch, WriteOptions};

use super::columns::{self, Column};
use super::damage::{Lost, walk};
use super::{StoreError, family};

/// What either store keeps in memory.
const CACHE_BYTES: usize = 128 * 1024 * 1024;
/// Bytes that are written together.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What was built.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Entries that were read and written.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be read.
    pub lost: Vec<(Column, Lost)>,
}

/// Builds `to` of what can be read of `from`, which nobody has open. `read` is told the bytes as they are read.
///
/// # Errors
/// If the list of tables cannot be read, or the new store cannot be written.
pub fn rebuild(from: &Path, to: &Path, read: &mut dyn FnMut(u64)) -> Result<Rebuilt, StoreError> {
    let (options, cache) = columns::database_options(CACHE_BYTES);
    let held: BTreeSet<Column> = Column::ALL.into_iter().collect();
    // All is in order as it comes; it is compacted when it is opened for good.
    let new = DB::open_cf_descriptors(&options, to, columns::descriptors(&cache, &held))?;
    let (mut options, cache) = columns::database_options(CACHE_BYTES);
    // A table that cannot even be opened is lost, and no reason to read none.
    options.set_paranoid_checks(false);
    options.set_db_log_dir(to);
    let old = DB::open_cf_descriptors_read_only(&options, from, columns::descriptors(&cache, &held), false)?;
    let mut unlogged = WriteOptions::default();
    unlogged.disable_wal(true);
    let mut rebuilt = Rebuilt::default();
    for column in Column::ALL {
        let mut batch = WriteBatch::default();
        let Rebuilt { entries, bytes, lost } = &mut rebuilt;
        let mut take = |key: &[u8], value: &[u8]| {
            batch.put_cf(family(&new, column), key, value);
            let length = (key.len() + value.len()) as u64;
            (*entries, *bytes) = (*entries + 1, *bytes + length);
            read(length);
            if batch.size_in_bytes() >= BATCH_BYTES {
                new.write_opt(std::mem::take(&mut batch), &unlogged)?;
            }
            Ok(())
        };
        walk(&old, column, (&[0], None), &mut take, &mut |gap| lost.push((column, gap)))?;
        new.write_opt(batch, &unlogged)?;
        new.flush_cf(family(&new, column))?;
    }
    new.cancel_all_background_work(true);
    Ok(rebuilt)
}
