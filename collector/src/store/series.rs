//! Series as they come: slots of time, and rows of the open one.
//!
//! A summary becomes a row of the host's open slot, durable with the marks. When a row of another
//! slot comes, the rows before it are sealed into a block, in the same batch (`seal.rs`).

use std::sync::Arc;

use mainstay_fleet::block::{BadBlock, Loose, Row, Which, write_loose};

use super::block1::{self, Block};
use super::keys::OpenRowKey;
use super::schema::Schema;
use super::{Batch, Store, StoreError};

/// Length of a slot: what is sealed at once.
pub const SLOT_MS: i64 = 600_000;
pub(super) const HOUR_MS: i64 = 3_600_000;
const SLOTS_PER_HOUR: u32 = 6;

/// Which slot a time is in, counted since 1970.
#[must_use]
pub fn slot_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / SLOT_MS).unwrap_or(u32::MAX)
}

/// Which hour a time is in, counted since 1970.
#[must_use]
pub fn hour_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / HOUR_MS).unwrap_or(u32::MAX)
}

/// The hour and the slot in it.
pub(super) fn place(slot: u32) -> (u32, u8) {
    (slot / SLOTS_PER_HOUR, u8::try_from(slot % SLOTS_PER_HOUR).unwrap_or(0))
}

/// An open row with its schema, or `None` where that is not known; or what is wrong with its bytes.
pub(super) type OpenRow = Result<Option<(Arc<Schema>, Row)>, BadBlock>;

/// The schema of an open row, whichever version wrote it, and its bytes as a row.
pub(super) fn open_row(store: &Store, bytes: &[u8]) -> Result<OpenRow, StoreError> {
    if bytes.first() == Some(&block1::VERSION) {
        let block = match Block::open(bytes) {
            Ok(block) => block,
            Err(bad) => return Ok(Err(bad)),
        };
        let Some(schema) = store.schema(block.schema)? else { return Ok(Ok(None)) };
        return Ok(block.rows(&schema.gauge).map(|mut rows| Some((schema, rows.pop()?))));
    }
    let loose = match Loose::open(bytes) {
        Ok(loose) => loose,
        Err(bad) => return Ok(Err(bad)),
    };
    let Some(schema) = store.schema(loose.schema)? else { return Ok(Ok(None)) };
    Ok(loose.row(&schema.gauge).map(|row| Some((schema, row))))
}

impl Store {
    /// Adds a summary of a host to its open slot.
    pub fn put_row(&self, batch: &mut Batch, host: u32, schema: &Schema, row: &Row) {
        let key = OpenRowKey { host, slot: slot_of(row.at_ms), at_ms: row.at_ms };
        batch.put_raw(&key, write_loose(schema.id, row));
        self.arrived.note(batch, host, row.at_ms, || {
            let newest = self.scan_back::<OpenRowKey>(&OpenRowKey::of(host)).next();
            newest.and_then(Result::ok).map(|(key, _)| key.at_ms)
        });
    }

    /// The open row of a moment, if there is one that can be read, with the names of its cells.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn row_at(&self, host: u32, at_ms: i64) -> Result<Option<(Arc<Schema>, Row)>, StoreError> {
        let Some(bytes) = self.get_raw(&OpenRowKey { host, slot: slot_of(at_ms), at_ms })? else { return Ok(None) };
        Ok(open_row(self, &bytes)?.unwrap_or_default())
    }

    /// When the newest open row of a host is of.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn last_open_ms(&self, host: u32) -> Result<Option<i64>, StoreError> {
        let newest = self.scan_back::<OpenRowKey>(&OpenRowKey::of(host)).next().transpose()?;
        Ok(newest.map(|(key, _)| key.at_ms))
    }

    /// The newest row of a host, with the names of its cells.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn last_row(&self, host: u32) -> Result<Option<(Arc<Schema>, Row)>, StoreError> {
        let newest = self.scan_back::<OpenRowKey>(&OpenRowKey::of(host)).next().transpose()?;
        let Some((_, bytes)) = newest else { return Ok(None) };
        Ok(open_row(self, &bytes)?.unwrap_or_default())
    }
}

/// What the suffix of an asked name means (`:min`, `:max`, `:mean`; none is the last); `None` if the series has no such value.
#[must_use]
pub fn which(suffix: &str, gauge: bool) -> Option<Which> {
    match suffix {
        "" => Some(Which::Last),
        "min" if gauge => Some(Which::Min),
        "max" if gauge => Some(Which::Max),
        "mean" if gauge => Some(Which::Mean),
        _ => None,
    }
}
