//! Series in the store: schemas, rows of open blocks, sealing, and reading a range.
//!
//! A summary becomes a row of the host's open block, durable with the marks. When a row of another
//! slot comes, the rows before it are sealed into a block, in the same batch. Late rows of a slot
//! that is sealed already are merged into its block.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::series::{Point, SeriesKey};
use mainstay_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::block::{self, BadBlock, Block, Row};
use super::keys::{BlockKey, OpenRowKey, SchemaKey};
use super::values::SchemaRow;
use super::{Batch, Store, StoreError};

/// Length of a slot: one block of one host.
pub const SLOT_MS: i64 = 600_000;
const HOUR_MS: i64 = 3_600_000;
const SLOTS_PER_HOUR: u32 = 6;
/// Most schemas that are remembered; beyond it all are forgotten and read again.
const SCHEMAS_MAX: usize = 4096;
/// Most rows of one block: a summary a second for ten minutes. What is more stays open.
const ROWS_MAX: usize = 600;

/// The names of the series of a block, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The hash of the rest.
    pub id: [u8; 16],
    /// The series.
    pub keys: Vec<Arc<SeriesKey>>,
    /// Of each, whether it is a gauge.
    pub gauge: Vec<bool>,
}

impl Schema {
    /// The schema of these series, which are sorted, so that hosts with the same series share it.
    #[must_use]
    pub fn of(series: &BTreeMap<Arc<SeriesKey>, bool>) -> Self {
        let keys: Vec<_> = series.keys().cloned().collect();
        let gauge: Vec<bool> = series.values().copied().collect();
        let mut schema = Self { id: [0; 16], keys, gauge };
        let hash = Sha256::digest(schema.row().encode_to_vec());
        schema.id.copy_from_slice(&hash[..16]);
        schema
    }

    /// Whether every one of these points, which are sorted, has its place here. Quick where the keys are the very ones.
    #[must_use]
    pub fn covers(&self, points: &[(Arc<SeriesKey>, Point)]) -> bool {
        let mut places = self.keys.iter().zip(&self.gauge);
        points.iter().all(|(key, point)| {
            let place = places.find(|(known, _)| *known == key);
            place.is_some_and(|(_, gauge)| *gauge == matches!(point, Point::Gauge { .. }))
        })
    }

    fn row(&self) -> SchemaRow {
        let label = |(name, value): &(String, String)| v1::Label { name: name.clone(), value: value.clone() };
        let series = self
            .keys
            .iter()
            .map(|key| v1::SeriesKey { name: key.name.clone(), labels: key.labels.iter().map(label).collect() });
        SchemaRow { series: series.collect(), gauge: self.gauge.clone() }
    }

    fn from_row(id: [u8; 16], row: SchemaRow) -> Self {
        let key = |key: v1::SeriesKey| {
            Arc::new(SeriesKey { name: key.name, labels: key.labels.into_iter().map(|l| (l.name, l.value)).collect() })
        };
        Self { id, keys: row.series.into_iter().map(key).collect(), gauge: row.gauge }
    }
}

/// Schemas that are stored, with their names.
#[derive(Debug, Default)]
pub struct SchemaCache {
    known: Mutex<HashMap<[u8; 16], Arc<Schema>>>,
}

impl SchemaCache {
    fn get(&self, id: [u8; 16]) -> Option<Arc<Schema>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn insert(&self, schema: Arc<Schema>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SCHEMAS_MAX {
            known.clear();
        }
        known.insert(schema.id, schema);
    }
}

/// Which slot a time is in, counted since 1970.
#[must_use]
pub fn slot_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / SLOT_MS).unwrap_or(u32::MAX)
}

fn hour_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / HOUR_MS).unwrap_or(u32::MAX)
}

/// The hour and the slot in it.
fn place(slot: u32) -> (u32, u8) {
    (slot / SLOTS_PER_HOUR, u8::try_from(slot % SLOTS_PER_HOUR).unwrap_or(0))
}

/// What was read of a range: blocks with their names, and blocks that could not be read.
#[derive(Debug, Default)]
pub struct Slice {
    /// In no particular order.
    pub blocks: Vec<(Arc<Schema>, Block)>,
    /// Damaged ones, in words.
    pub damaged: Vec<String>,
}

impl Store {
    /// The names of a stored schema.
    ///
    /// # Errors
    /// If it cannot be read; `None` if it is not there.
    pub fn schema(&self, id: [u8; 16]) -> Result<Option<Arc<Schema>>, StoreError> {
        if let Some(schema) = self.schemas.get(id) {
            return Ok(Some(schema));
        }
        let Some(row) = self.get::<_, SchemaRow>(&SchemaKey { id })? else { return Ok(None) };
        let schema = Arc::new(Schema::from_row(id, row));
        self.schemas.insert(schema.clone());
        Ok(Some(schema))
    }

    /// The names of every stored schema.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn schemas(&self) -> Result<Vec<Arc<Schema>>, StoreError> {
        let prefix = SchemaKey::all();
        let mut schemas = Vec::new();
        for item in self.scan::<SchemaKey>(&prefix, &prefix) {
            schemas.extend(self.schema(item?.0.id)?);
        }
        Ok(schemas)
    }

    /// Writes a schema with the batch that first uses it. It is remembered as known only when it is
    /// read back, so that a batch that fails does not lose it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn put_schema(&self, batch: &mut Batch, schema: &Schema) -> Result<(), StoreError> {
        if self.schema(schema.id)?.is_none() {
            batch.put(&SchemaKey { id: schema.id }, &schema.row());
        }
        Ok(())
    }

    /// Adds a summary of a host to its open block.
    pub fn put_row(&self, batch: &mut Batch, host: u32, schema: &Schema, row: &Row) {
        let key = OpenRowKey { host, slot: slot_of(row.at_ms), at_ms: row.at_ms };
        let value = block::encode(schema.id, &schema.gauge, std::slice::from_ref(row), block::LEVEL_OPEN);
        batch.put_raw(&key, value);
    }

    /// Seals the rows of all slots of a host but the open one.
    ///
    /// # Errors
    /// If the store cannot be read. Rows that cannot be read are left where they are.
    pub fn seal_except(&self, batch: &mut Batch, host: u32, open: u32) -> Result<(), StoreError> {
        let prefix = OpenRowKey::of(host);
        let mut slots: BTreeMap<u32, Vec<(OpenRowKey, Block)>> = BTreeMap::new();
        for item in self.scan::<OpenRowKey>(&prefix, &prefix) {
            let (key, bytes) = item?;
            if key.slot == open {
                continue;
            }
            match Block::open(&bytes) {
                Ok(block) => slots.entry(key.slot).or_default().push((key, block)),
                Err(error) => tracing::warn!(host, at_ms = key.at_ms, %error, "a row of an open block cannot be read"),
            }
        }
        for (slot, rows) in slots {
            self.seal(batch, host, slot, rows)?;
        }
        Ok(())
    }

    fn seal(&self, batch: &mut Batch, host: u32, slot: u32, open: Vec<(OpenRowKey, Block)>) -> Result<(), StoreError> {
        let (hour, in_hour) = place(slot);
        let prefix = BlockKey::in_slot(hour, host, in_hour);
        let mut parts: BTreeMap<[u8; 16], (u8, Block)> = BTreeMap::new();
        let mut next_part = 0u8;
        for item in self.scan::<BlockKey>(&prefix, &prefix) {
            let (key, bytes) = item?;
            next_part = next_part.max(key.part.saturating_add(1));
            if let Ok(block) = Block::open(&bytes) {
                parts.insert(block.schema, (key.part, block));
            }
        }
        let schemas: BTreeSet<[u8; 16]> = open.iter().map(|(_, block)| block.schema).collect();
        for id in schemas {
            let Some(schema) = self.schema(id)? else { continue };
            let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
            let sealed = parts.get(&id);
            let blocks =
                sealed.map(|(_, b)| b).into_iter().chain(open.iter().map(|(_, b)| b).filter(|b| b.schema == id));
            let read: Result<Vec<_>, BadBlock> = blocks.map(|block| block.rows(&schema.gauge)).collect();
            let Ok(read) = read else { continue };
            rows.extend(read.into_iter().flatten().map(|row| (row.at_ms, row)));
            if rows.len() > ROWS_MAX {
                continue;
            }
            let part = sealed.map_or(next_part, |(part, _)| *part);
            if sealed.is_none() {
                next_part = next_part.saturating_add(1);
            }
            let rows: Vec<Row> = rows.into_values().collect();
            let value = block::encode(id, &schema.gauge, &rows, block::LEVEL_SEALED);
            batch.put_raw(&BlockKey { hour, host, slot: in_hour, part }, value);
            for (key, _) in open.iter().filter(|(_, block)| block.schema == id) {
                batch.delete(key);
            }
        }
        Ok(())
    }

    /// The blocks and open rows of a host that may hold points from `from_ms` to `to_ms`.
    ///
    /// # Errors
    /// If the store cannot be read. Damaged blocks are named in the answer and the rest is served.
    pub fn read_series(&self, host: u32, from_ms: i64, to_ms: i64) -> Result<Slice, StoreError> {
        let mut slice = Slice::default();
        for hour in hour_of(from_ms)..=hour_of(to_ms) {
            let prefix = BlockKey::of(hour, host);
            for item in self.scan::<BlockKey>(&prefix, &prefix) {
                let (key, bytes) = item?;
                let slot_ms = (i64::from(key.hour) * i64::from(SLOTS_PER_HOUR) + i64::from(key.slot)) * SLOT_MS;
                if slot_ms <= to_ms && slot_ms + SLOT_MS > from_ms {
                    self.take(&mut slice, &bytes, || format!("block of hour {hour}, slot {}", key.slot))?;
                }
            }
        }
        let prefix = OpenRowKey::of(host);
        for item in self.scan::<OpenRowKey>(&prefix, &prefix) {
            let (key, bytes) = item?;
            if (from_ms..=to_ms).contains(&key.at_ms) {
                self.take(&mut slice, &bytes, || format!("open row at {}", key.at_ms))?;
            }
        }
        Ok(slice)
    }

    fn take(&self, slice: &mut Slice, bytes: &[u8], name: impl Fn() -> String) -> Result<(), StoreError> {
        match Block::open(bytes) {
            Ok(block) => match self.schema(block.schema)? {
                Some(schema) => slice.blocks.push((schema, block)),
                None => slice.damaged.push(format!("{}: its series names are missing", name())),
            },
            Err(error) => slice.damaged.push(format!("{}: {error}", name())),
        }
        Ok(())
    }

    /// The newest row of a host, with the names of its cells.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn last_row(&self, host: u32) -> Result<Option<(Arc<Schema>, Row)>, StoreError> {
        let newest = self.scan_back::<OpenRowKey>(&OpenRowKey::of(host)).next().transpose()?;
        let Some((_, bytes)) = newest else { return Ok(None) };
        let Ok(block) = Block::open(&bytes) else { return Ok(None) };
        let Some(schema) = self.schema(block.schema)? else { return Ok(None) };
        let row = block.rows(&schema.gauge).ok().and_then(|mut rows| rows.pop());
        Ok(row.map(|row| (schema, row)))
    }
}

/// One value out of a point: the last, or what the suffix of the asked name says (`:min`, `:max`, `:mean`).
#[must_use]
pub fn pick(point: Point, suffix: &str) -> Option<f64> {
    match (point, suffix) {
        (Point::Counter(value), "") => Some(value),
        (Point::Gauge { last, .. }, "") => Some(last),
        (Point::Gauge { min, .. }, "min") => Some(min),
        (Point::Gauge { max, .. }, "max") => Some(max),
        (Point::Gauge { mean, .. }, "mean") => Some(mean),
        _ => None,
    }
}
