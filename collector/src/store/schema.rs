//! Schemas: the names of a block's series, stored once for all hosts that share them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::series::{Point, SeriesKey};
use mainstay_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::keys::SchemaKey;
use super::values::SchemaRow;
use super::{Batch, Store, StoreError};

/// Most schemas that are remembered; beyond it all are forgotten and read again.
const SCHEMAS_MAX: usize = 4096;

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
}
