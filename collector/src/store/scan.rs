//! Scans: the entries under a prefix, one after the other.
//!
//! Of a column that is served in part, what cannot be read is passed over, and the store knows of it ([`super::damage`]).
//! Of the others a scan ends with the error.

use rocksdb::{DB, DBRawIteratorWithThreadMode};

use super::columns::Column;
use super::{Store, StoreError, damage, family, gap};

/// An entry as it is stored.
pub(super) type Entry = (Box<[u8]>, Box<[u8]>);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forwards,
    Backwards,
}

/// Goes through the entries under a prefix.
pub(super) struct Scan<'s> {
    store: &'s Store,
    column: Column,
    iter: DBRawIteratorWithThreadMode<'s, DB>,
    prefix: Vec<u8>,
    way: Way,
    /// Where it stands, or begins.
    at: Vec<u8>,
    is_begun: bool,
    is_over: bool,
}

impl<'s> Scan<'s> {
    pub(super) fn new(store: &'s Store, column: Column, prefix: &[u8], from: &[u8], way: Way) -> Self {
        let iter = store.db.raw_iterator_cf(family(&store.db, column));
        let (prefix, at) = (prefix.to_vec(), from.to_vec());
        Self { store, column, iter, prefix, way, at, is_begun: false, is_over: false }
    }

    fn step(&mut self) {
        match (self.is_begun, self.way) {
            (false, Way::Forwards) => self.iter.seek(&self.at),
            (false, Way::Backwards) => self.iter.seek_for_prev(&self.at),
            (true, Way::Forwards) => self.iter.next(),
            (true, Way::Backwards) => self.iter.prev(),
        }
        self.is_begun = true;
    }

    /// Stands where it can be read again; says whether there is such a place.
    fn pass_gap(&mut self) -> Result<bool, StoreError> {
        let db = &self.store.db;
        let found = match self.way {
            Way::Forwards => gap::after_in(db, self.column, &self.at),
            Way::Backwards => damage::last_before(db, self.column, &self.at)?,
        };
        let Some(found) = found else { return Ok(false) };
        // One that has failed is no longer to be trusted.
        self.iter = db.raw_iterator_cf(family(db, self.column));
        // Backwards it is an entry's key, which is reached forwards in any case.
        self.iter.seek(&found);
        self.at = found;
        Ok(true)
    }

    fn entry(&mut self) -> Option<Entry> {
        let (key, value) = self.iter.item().filter(|(key, _)| key.starts_with(&self.prefix))?;
        self.at.clear();
        self.at.extend(key);
        if self.way == Way::Forwards {
            self.at.push(0);
        }
        Some((key.into(), value.into()))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.step();
        loop {
            if let Some(entry) = self.entry() {
                return Some(Ok(entry));
            }
            let failed = self.iter.status().err().map(|error| self.store.failed(error));
            let ended = match failed {
                // What lies behind a gap that nothing can be read behind is passed, too.
                Some(StoreError::Damaged(_)) if self.column.is_served_in_part() => match self.pass_gap() {
                    Ok(true) => continue,
                    Ok(false) => None,
                    Err(error) => Some(error),
                },
                failed => failed,
            };
            self.is_over = true;
            return ended.map(Err);
        }
    }
}
