//! Sealing: open rows become the block of their slot, and the slots of an hour that is over one block.
//!
//! A slot is sealed some minutes after the host's next one began, in a push, quickly; each host at a moment of its own. An hour is joined some minutes
//! after it is over, for one host after the other (`ingest/join.rs`), better packed. Both take what is stored of that
//! stretch already with them, so late rows find their place and each time has one row, whose cells may have come one after
//! the other. What cannot be read stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_fleet::block::{self, Head, Packed, Part, ROWS_MAX, Row, Unpacker};

use super::block1::Block;
use super::columns::Column;
use super::keys::{BlockKey, OpenRowKey, PieceKey};
use super::schema::Schema;
use super::series::{open_row, place};
use super::unite::Source;
use super::{Batch, Key, Store, StoreError};

/// Most hours of hosts that are remembered to be joined; those beyond stay in slots, which are read as well.
const UNJOINED_MAX: usize = 1_000_000;

/// Where tables are damaged siblings begin with this number, so that none takes the place of one that is not seen.
const DAMAGED_FROM: u8 = 128;

/// Numbers for siblings: where there may be more in tables that are damaged, of those that only such blocks have. What cannot
/// be read now is not written over: it may be read from a backup of the table.
pub(super) fn siblings(is_in_part: bool) -> std::ops::RangeInclusive<u8> {
    (if is_in_part { DAMAGED_FROM } else { 0 })..=u8::MAX
}

/// Hours of hosts that have slots to join.
#[derive(Debug, Default)]
pub struct Unjoined {
    hours: Mutex<BTreeSet<(u32, u32)>>,
}

impl Unjoined {
    /// Remembers an hour of a host.
    pub fn add(&self, hour: u32, host: u32) {
        let mut hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        if hours.len() < UNJOINED_MAX {
            hours.insert((hour, host));
        }
    }

    /// How many there are from before an hour.
    #[must_use]
    pub fn before(&self, hour: u32) -> usize {
        self.hours.lock().unwrap_or_else(PoisonError::into_inner).range(..(hour, 0)).count()
    }

    /// Takes some from before an hour, the oldest first.
    #[must_use]
    pub fn take(&self, hour: u32, most: usize) -> Vec<(u32, u32)> {
        let mut hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        let some: Vec<_> = hours.range(..(hour, 0)).take(most).copied().collect();
        some.iter().for_each(|one| {
            hours.remove(one);
        });
        some
    }
}

/// A block that was written: its rows in the order of their times.
pub(super) struct Written {
    pub(super) schema: Arc<Schema>,
    pub(super) rows: Vec<Row>,
}

/// What is stored of a stretch: what can be read, and the places of what cannot.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    /// How many of them are not of a whole hour.
    unjoined: usize,
    kept: BTreeSet<(u8, u8)>,
    /// Whether there may be more, in tables that are damaged.
    is_in_part: bool,
}

impl Store {
    /// Seals the rows of all slots of a host but the open one.
    ///
    /// # Errors
    /// If the store cannot be read. Rows that cannot be read are left where they are.
    pub fn seal_except(&self, batch: &mut Batch, host: u32, open: u32) -> Result<(), StoreError> {
        let prefix = OpenRowKey::of(host);
        let mut slots: BTreeMap<u32, Vec<Source>> = BTreeMap::new();
        for item in self.scan::<OpenRowKey>(&prefix, &prefix) {
            let (key, bytes) = item?;
            if key.slot == open {
                continue;
            }
            match open_row(self, &bytes)? {
                Ok(Some((schema, row))) => {
                    let mut gone = Batch::default();
                    gone.delete(&key);
                    slots.entry(key.slot).or_default().push(Source { schema, rows: vec![row], gone });
                }
                Ok(None) => tracing::warn!(host, at_ms = key.at_ms, "the names of an open row are missing"),
                Err(error) => tracing::warn!(host, at_ms = key.at_ms, %error, "an open row cannot be read"),
            }
        }
        for (slot, rows) in slots {
            let (hour, slot) = place(slot);
            let mut found = self.stored(host, hour, Some(slot))?;
            found.sources.extend(rows);
            self.seal(batch, host, (hour, slot), found, block::LEVEL_SLOT)?;
            self.unjoined.add(hour, host);
        }
        Ok(())
    }

    /// Makes one block of the slots that a host has in an hour, and rolls it up. Says whether anything was to be done.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn join_hour(&self, batch: &mut Batch, host: u32, hour: u32) -> Result<bool, StoreError> {
        let found = self.stored(host, hour, None)?;
        if found.unjoined == 0 && (found.sources.is_empty() || self.is_rolled(host, hour)?) {
            return Ok(false);
        }
        let written = self.seal(batch, host, (hour, PieceKey::WHOLE), found, block::LEVEL_SEALED)?;
        self.roll_up(batch, host, hour, &written)?;
        Ok(true)
    }

    /// Notes those of some hours that have slots to join, or are not rolled up: what an earlier run or version has left.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn find_unjoined(&self, hours: std::ops::Range<u32>) -> Result<(), StoreError> {
        for hour in hours {
            let rolled = self.rolled_hosts(hour)?;
            let heads = PieceKey::heads(hour);
            for item in self.scan::<PieceKey>(&heads, &heads) {
                let (key, _) = item?;
                if key.slot != PieceKey::WHOLE || !rolled.contains(&key.host) {
                    self.unjoined.add(hour, key.host);
                }
            }
            let old = BlockKey::from_hour(hour);
            for item in self.scan::<BlockKey>(&old, &old) {
                self.unjoined.add(hour, item?.0.host);
            }
        }
        Ok(())
    }

    /// What is stored of an hour of a host, or of one slot of it.
    fn stored(&self, host: u32, hour: u32, slot: Option<u8>) -> Result<Found, StoreError> {
        let is_in_part = self.damages().columns().contains(&Column::Series);
        let mut found = Found { is_in_part, ..Found::default() };
        let old = BlockKey::of(hour, host);
        for item in self.scan::<BlockKey>(&old, &old) {
            let (key, bytes) = item?;
            if slot.is_none_or(|slot| slot == key.slot) {
                self.add_old(&mut found, &key, &bytes)?;
            }
        }
        let heads = PieceKey::of(hour, PieceKey::HEAD, host);
        for item in self.scan::<PieceKey>(&heads, &heads) {
            let (key, bytes) = item?;
            if slot.is_none_or(|slot| slot == key.slot) {
                self.add_block(&mut found, &key, &bytes)?;
            } else {
                found.kept.insert((key.slot, key.sibling));
            }
        }
        Ok(found)
    }

    fn add_old(&self, found: &mut Found, key: &BlockKey, bytes: &[u8]) -> Result<(), StoreError> {
        let block = match Block::open(bytes) {
            Ok(block) => block,
            Err(error) => {
                tracing::warn!(?key, %error, "a block cannot be read and is left as it is");
                return Ok(());
            }
        };
        let Some(schema) = self.schema(block.schema)? else { return Ok(()) };
        if let Ok(rows) = block.rows(&schema.gauge) {
            let mut gone = Batch::default();
            gone.delete(key);
            found.sources.push(Source { schema, rows, gone });
            found.unjoined += 1;
        }
        Ok(())
    }

    fn add_block(&self, found: &mut Found, key: &PieceKey, bytes: &[u8]) -> Result<(), StoreError> {
        match self.read_pieces(key, bytes, |no| key.part(no), |schema| schema.gauge.clone())? {
            Ok(source) => {
                found.sources.push(source);
                found.unjoined += usize::from(key.slot != PieceKey::WHOLE);
            }
            Err(why) => {
                tracing::warn!(?key, why, "a block cannot be read and is left as it is");
                found.kept.insert((key.slot, key.sibling));
            }
        }
        Ok(())
    }

    /// The rows of a block whose head was read, from its parts; or why it cannot be.
    pub(super) fn read_pieces<K: Key>(
        &self,
        key: &K,
        bytes: &[u8],
        part: impl Fn(u8) -> K,
        gauge: impl Fn(&Schema) -> Vec<bool>,
    ) -> Result<Result<Source, String>, StoreError> {
        let head = match Head::open(bytes) {
            Ok(head) => head,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(schema) = self.schema(head.schema)? else { return Ok(Err("its series names are missing".to_owned())) };
        let mut gone = Batch::default();
        gone.delete(key);
        let mut parts = Vec::with_capacity(head.split.parts());
        let mut unpacker = Unpacker::default();
        for no in (0..=u8::MAX).take(head.split.parts()) {
            let Some(bytes) = self.get_raw(&part(no))? else { return Ok(Err(format!("its part {no} is missing"))) };
            match Part::open(&bytes, &head, no, &mut unpacker) {
                Ok(part) => parts.push(part),
                Err(error) => return Ok(Err(error.to_string())),
            }
            gone.delete(&part(no));
        }
        Ok(match block::rows(&head, &gauge(&schema), &parts) {
            Ok(rows) => Ok(Source { schema, rows, gone }),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Writes what was found as one block, or as several where there are more rows than a block may have or a series is of two
    /// kinds, and removes it from where it was.
    fn seal(
        &self,
        batch: &mut Batch,
        host: u32,
        (hour, slot): (u32, u8),
        found: Found,
        level: i32,
    ) -> Result<Vec<Written>, StoreError> {
        let mut siblings = siblings(found.is_in_part).filter(|sibling| !found.kept.contains(&(slot, *sibling)));
        let (mut written, mut pieces) = (Vec::new(), Batch::default());
        for Source { schema, rows, gone } in self.unite(batch, found.sources, 1)? {
            let rows = one_of_each_time(rows);
            let packed = rows.chunks(ROWS_MAX).map(|rows| block::pack(schema.id, &schema.gauge, rows, level));
            let packed = packed.collect::<Result<Vec<Packed>, _>>();
            let places: Vec<u8> = siblings.by_ref().take(rows.len().div_ceil(ROWS_MAX)).collect();
            let Some(packed) = packed.ok().filter(|packed| packed.len() == places.len()) else {
                tracing::warn!(host, hour, slot, rows = rows.len(), "rows cannot be sealed and stay open");
                continue;
            };
            batch.append(gone);
            for (packed, sibling) in packed.into_iter().zip(places) {
                let key = PieceKey { hour, piece: PieceKey::HEAD, host, slot, sibling };
                (0..).zip(packed.parts).for_each(|(no, part)| pieces.put_raw(&key.part(no), part));
                pieces.put_raw(&key, packed.head);
            }
            written.push(Written { schema, rows });
        }
        // After all removals: a block may stand where another stood.
        batch.append(pieces);
        Ok(written)
    }
}

/// Rows in the order of time. Of those of one time the one that came last counts, cell by cell: what a scrape brought may have
/// come in several requests.
pub(super) fn one_of_each_time(all: Vec<Row>) -> Vec<Row> {
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    for row in all {
        match rows.get_mut(&row.at_ms) {
            Some(known) => {
                known.cells.iter_mut().zip(row.cells).for_each(|(cell, later)| *cell = later.or(*cell));
                (known.window_ms, known.samples) = (row.window_ms, row.samples);
            }
            None => {
                rows.insert(row.at_ms, row);
            }
        }
    }
    rows.into_values().collect()
}
