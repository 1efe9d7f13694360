//! Scrubbing: the store is read through, so that damage is found before somebody asks for what is damaged.
//!
//! In: where the step before has ended. Out: where this one did. Entries are read as questions read them, without a place in
//! RocksDB's cache; what is found is taken down like what a question meets ([`super::damage`]). What RocksDB has in memory it
//! does not read from the disk.

use rocksdb::ReadOptions;

use super::columns::Column;
use super::{Store, StoreError, family, gap};

/// What is read ahead of what is looked at: what lies behind one another is read in one go.
const AHEAD_BYTES: usize = 512 * 1024;

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The column.
    pub column: Column,
    /// The first key that was not read.
    pub at: Vec<u8>,
}

/// What a step has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Place {
    /// The beginning.
    #[must_use]
    pub fn first() -> Self {
        Self { column: Column::ALL[0], at: Vec::new() }
    }
}

impl Store {
    /// Reads so many bytes on from a place, on a thread that may wait. Gives what was read, and where to go on, if anything is
    /// left.
    ///
    /// # Errors
    /// If the store cannot be read for another reason than damage, which is passed.
    pub fn scrub(&self, from: Place, bytes: u64) -> Result<(Scrubbed, Option<Place>), StoreError> {
        let mut done = Scrubbed::default();
        let columns = Column::ALL.into_iter().skip_while(|column| *column != from.column);
        for (column, mut at) in columns.zip(std::iter::once(from.at).chain(std::iter::repeat(Vec::new()))) {
            while let Some(next) = self.scrub_on(column, at, bytes, &mut done)? {
                if done.bytes >= bytes {
                    return Ok((done, Some(Place { column, at: next })));
                }
                at = next;
            }
        }
        Ok((done, None))
    }

    /// Reads on in a column until so much is read or something cannot be read; says where to go on, if anything is left.
    fn scrub_on(
        &self,
        column: Column,
        mut at: Vec<u8>,
        bytes: u64,
        done: &mut Scrubbed,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        reading.set_verify_checksums(true);
        reading.set_readahead_size(AHEAD_BYTES);
        let mut iter = self.db().raw_iterator_cf_opt(family(self.db(), column), reading);
        iter.seek(&at);
        while let Some((key, value)) = iter.item() {
            done.entries += 1;
            done.bytes += (key.len() + value.len()) as u64;
            at.clear();
            at.extend(key);
            at.push(0);
            if done.bytes >= bytes {
                return Ok(Some(at));
            }
            iter.next();
        }
        match iter.status().map_err(|error| self.failed(error)) {
            Ok(()) => Ok(None),
            Err(StoreError::Damaged(_)) => Ok(gap::after_in(self.db(), column, &at)),
            Err(error) => Err(error),
        }
    }
}
